//! Teams, their keys, and the routes that these may use.

use super::{Builder, ByName, Lookup};
use crate::auth::jwt::settings::Auth;
use crate::auth::jwt::token::{self, MAX_ID};
use crate::auth::tenants::{AuthMode, Key, Team, Tenants};
use crate::config::file::{self, ClientKey, User};
use crate::egress::Egress;
use crate::limit::rule::{RouteNames, RouteSet, is_match};
use crate::route::settings::Route;
use crate::yaml::value::{At, Named, Some1};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The team and the key under which a request without a key is accounted where `auth` is `none`; always the last.
pub const ANONYMOUS: &str = "anonymous";

/// Teams and keys while they are added, without those of requests that have no key.
pub(in crate::config) struct Draft {
    tenants: Tenants,
    /// The index of each key and user by [`Key::name`].
    names: HashMap<Arc<str>, usize>,
    /// The file of each team that the main file does not have, by index; shorter than the list of teams where all are in the
    /// main file.
    origins: HashMap<usize, PathBuf>,
}

impl Draft {
    fn new(mode: AuthMode) -> Self {
        let tenants = Tenants { mode, teams: Vec::new(), keys: Vec::new(), digests: HashMap::new() };
        Self { tenants, names: HashMap::new(), origins: HashMap::new() }
    }

    /// To add more to what [`Draft::finish`] made.
    pub(in crate::config) fn of(tenants: &Tenants) -> Self {
        let mut tenants = tenants.clone();
        tenants.teams.pop();
        tenants.keys.pop();
        let names = tenants.keys.iter().enumerate().map(|(index, key)| (Arc::clone(&key.name), index)).collect();
        Self { tenants, names, origins: HashMap::new() }
    }

    /// What there is so far, for [`Draft::roll_back`]: how many teams and keys.
    pub(in crate::config) fn mark(&self) -> (usize, usize) {
        (self.tenants.teams.len(), self.tenants.keys.len())
    }

    /// Takes away what was added after a mark.
    pub(in crate::config) fn roll_back(&mut self, (teams, keys): (usize, usize)) {
        self.tenants.teams.truncate(teams);
        self.tenants.keys.truncate(keys);
        self.tenants.digests.retain(|_, key| *key < keys);
        self.names.retain(|_, key| *key < keys);
        self.origins.retain(|team, _| *team < teams);
    }

    /// The keys in the order in which they were added.
    pub(in crate::config) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.tenants.keys.iter()
    }

    /// Adds those of requests without a key, as the last ones.
    pub(in crate::config) fn finish(self) -> Tenants {
        let mut tenants = self.tenants;
        let team = tenants.teams.len();
        tenants.teams.push(Team { name: ANONYMOUS.into(), routes: None, limits: Vec::new() });
        let name: Arc<str> = ANONYMOUS.into();
        let key = Key { id: Arc::clone(&name), name, team, digest: None, expires: None, disabled: false, routes: None, limits: Vec::new() };
        tenants.keys.push(key);
        tenants
    }

    fn team_of(&self, key: usize) -> &str {
        self.tenants.keys.get(key).and_then(|key| self.tenants.teams.get(key.team)).map_or("", |team| &team.name)
    }
}

impl Builder<'_> {
    /// What requests must show. The keys of issuers are fetched through `egress`.
    pub(super) fn auth(&mut self, auth: Auth, egress: &Egress) -> AuthMode {
        match auth {
            Auth::None => AuthMode::None,
            Auth::Keys => AuthMode::Credential { keys: true, issuers: Arc::default() },
            Auth::Either(section) => AuthMode::Credential { keys: section.keys, issuers: section.issuers(egress, &mut self.reader) },
        }
    }

    /// The teams that issuers name exist. Those of key files come and go: where there are any, each name may be one of them.
    pub(super) fn issuers_teams(&mut self, auth: &Auth, teams: &Named<file::Team>, has_files: bool) {
        let Auth::Either(section) = auth else { return };
        for named in section.jwt.iter().filter_map(|jwt| jwt.teams.as_ref()).flat_map(|Some1(teams)| teams) {
            let names = || teams.entries.iter().map(|(name, _)| name.value.as_str());
            if teams.known && !has_files && !names().any(|name| name == named.value) {
                let hint = self.did_you_mean(&named.value, names());
                self.add(named.at, format!("there is no team `{}`{hint}", named.value));
            }
        }
    }

    pub(super) fn tenants(&mut self, mode: AuthMode, teams: Named<file::Team>, routes: &ByName<Arc<Route>>) -> Tenants {
        let mut draft = Draft::new(mode);
        for (name, team) in teams.entries {
            let arc = self.name("team", &name);
            self.not_reserved(&name, "team");
            if let Some(team) = team {
                self.team(arc, team, routes, &mut draft);
            }
        }
        draft.finish()
    }

    fn team(&mut self, name: Arc<str>, team: file::Team, routes: &ByName<Arc<Route>>, draft: &mut Draft) {
        let index = draft.tenants.teams.len();
        let (usable, limits) = (self.route_set(team.routes, routes), self.client_limits(team.limits, routes));
        // The team comes before its keys: their errors name it.
        draft.tenants.teams.push(Team { name, routes: usable, limits });
        self.members(team.keys, team.users, index, routes, draft);
    }

    fn members(&mut self, keys: Vec<ClientKey>, users: Vec<User>, team: usize, routes: &ByName<Arc<Route>>, draft: &mut Draft) {
        for key in keys {
            self.client_key(key, team, routes, draft);
        }
        for user in users {
            self.user(user, team, routes, draft);
        }
    }

    /// Adds what is in a key file: a team, or keys and users of a team of the main file.
    pub(in crate::config) fn key_file(
        &mut self,
        name: &At<String>,
        team: file::Team,
        (path, routes): (&Path, &ByName<Arc<Route>>),
        draft: &mut Draft,
    ) {
        let arc = self.name("team", name);
        self.not_reserved(name, "team");
        let Some(index) = draft.tenants.teams.iter().position(|team| team.name == arc) else {
            draft.origins.insert(draft.tenants.teams.len(), path.to_owned());
            return self.team(arc, team, routes, draft);
        };
        if let Some(other) = draft.origins.get(&index) {
            self.add(name.at, format!("the team `{arc}` has a file already: {}", other.display()));
        }
        for key in ["routes", "limits"] {
            if let Some(at) = super::written(&team.written, key) {
                let message = format!(
                    "`{key}`: the team `{arc}` is in the main configuration, which has its {key}; only `keys` and `users` are for this file"
                );
                self.add(at, message);
            }
        }
        self.members(team.keys, team.users, index, routes, draft);
    }

    /// Notes the name under which the limits of the next key or user are known, which no other has.
    fn owner(&mut self, (what, id): (&str, &At<String>), name: &Arc<str>, draft: &mut Draft) {
        let Some(other) = draft.names.get(name) else {
            draft.names.insert(Arc::clone(name), draft.tenants.keys.len());
            return;
        };
        let (team, id_of_other) = (draft.team_of(*other), draft.tenants.keys.get(*other).map_or("", |key| &key.id));
        let message = if id_of_other == id.value {
            format!("there are two {what}s with the id `{id_of_other}`; the other one is in the team `{team}`")
        } else {
            format!("the limits of the {what} `{}` are known as `{name}`, as are those of `{id_of_other}` in the team `{team}`", id.value)
        };
        self.add(id.at, message);
    }

    /// The same person may be in several teams, under an id that is not ours to choose.
    fn user(&mut self, user: User, team: usize, routes: &ByName<Arc<Route>>, draft: &mut Draft) {
        let id = &user.id.value;
        if !token::is_id(id) {
            self.add(user.id.at, format!("the id of a user has 1 to {MAX_ID} bytes, without control characters"));
        }
        let owner = draft.tenants.teams.get(team).map_or("", |team| &team.name);
        let name: Arc<str> = format!("{owner}/{id}").into();
        self.owner(("user", &user.id), &name, draft);
        let (usable, limits) = (self.route_set(user.routes, routes), self.client_limits(user.limits, routes));
        let id = user.id.value.into();
        draft.tenants.keys.push(Key { id, name, team, digest: None, expires: None, disabled: user.disabled, routes: usable, limits });
    }

    fn client_key(&mut self, key: ClientKey, team: usize, routes: &ByName<Arc<Route>>, draft: &mut Draft) {
        let index = draft.tenants.keys.len();
        let id = self.name("key", &key.id);
        self.not_reserved(&key.id, "key");
        self.owner(("key", &key.id), &id, draft);
        match draft.tenants.digests.get(&key.sha256.value.0) {
            Some(other) => {
                let team = draft.team_of(*other);
                let message = format!("`sha256`: the key `{id}` has the same digest as another key; the other one is in the team `{team}`");
                self.add(key.sha256.at, message);
            }
            None => drop(draft.tenants.digests.insert(key.sha256.value.0, index)),
        }
        draft.tenants.keys.push(Key {
            name: Arc::clone(&id),
            id,
            team,
            digest: Some(key.sha256.value.0),
            expires: key.expires.map(|time| time.0),
            disabled: key.disabled,
            routes: self.route_set(key.routes, routes),
            limits: self.client_limits(key.limits, routes),
        });
    }

    fn not_reserved(&mut self, name: &At<String>, what: &str) {
        if name.value == ANONYMOUS {
            self.add(name.at, format!("the name `{ANONYMOUS}` is taken: requests without a key are accounted under it; rename the {what}"));
        }
    }

    fn route_set(&mut self, names: Option<Vec<At<String>>>, routes: &ByName<Arc<Route>>) -> Option<RouteSet> {
        Some(self.route_names(names?, routes).0)
    }

    /// The routes that names stand for, and the names. A name or an alias stands for its route, any other pattern for all
    /// routes that it matches by a name or an alias.
    pub(super) fn route_names(&mut self, names: Vec<At<String>>, routes: &ByName<Arc<Route>>) -> (RouteSet, RouteNames) {
        let (mut set, mut all) = (vec![false; routes.items.len()], Vec::with_capacity(names.len()));
        for name in names {
            let meant = match routes.find(&name.value) {
                Lookup::Item(route) => vec![route],
                Lookup::Wrong => continue,
                Lookup::Nobody => routes.values().filter(|route| is_one_of(&name.value, route)).collect(),
            };
            let is_pattern = name.value.contains('*');
            // A pattern may match a route whose own section is wrong.
            if meant.is_empty() && !(is_pattern && routes.names().any(|text| is_match(&name.value, text))) {
                self.no_route(&name, routes);
            }
            for route in &meant {
                set.get_mut(route.index).into_iter().for_each(|slot| *slot = true);
            }
            all.push(meant.first().filter(|_| !is_pattern).map_or_else(|| name.value.as_str().into(), |route| Arc::clone(&route.name)));
        }
        (RouteSet(set), RouteNames::new(all))
    }

    fn no_route(&mut self, name: &At<String>, routes: &ByName<Arc<Route>>) {
        if name.value.contains('*') {
            self.add(name.at, format!("the pattern `{}` matches no route; a pattern has exactly one `*`", name.value));
            return;
        }
        let hint = self.did_you_mean(&name.value, routes.names());
        self.add(name.at, format!("there is no route `{}`{hint}", name.value));
    }
}

/// Whether a pattern matches a route by its name or an alias.
fn is_one_of(pattern: &str, route: &Route) -> bool {
    pattern.contains('*') && std::iter::once(&route.name).chain(&route.aliases).any(|text| is_match(pattern, text))
}
