//! Teams, their keys, and the routes that these may use.

use super::{Builder, ByName, Lookup};
use crate::auth::jwt::settings::Auth;
use crate::auth::tenants::{AuthMode, Key, Team, Tenants};
use crate::config::file::{self, ClientKey, User};
use crate::egress::Egress;
use crate::limit::rule::{RouteNames, RouteSet, is_match};
use crate::route::settings::Route;
use crate::yaml::value::{At, Named};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The team and the key under which a request without a key is accounted where `auth` is `none`; always the last.
pub const ANONYMOUS: &str = "anonymous";

/// Teams and keys while they are added, without those of requests that have no key.
pub(in crate::config) struct Draft {
    tenants: Tenants,
    /// The index of each key by its id.
    ids: HashMap<Arc<str>, usize>,
    /// The file of each team that the main file does not have, by index; shorter than the list of teams where all are in the
    /// main file.
    origins: HashMap<usize, PathBuf>,
}

impl Draft {
    fn new(mode: AuthMode) -> Self {
        let tenants = Tenants { mode, teams: Vec::new(), keys: Vec::new(), digests: HashMap::new() };
        Self { tenants, ids: HashMap::new(), origins: HashMap::new() }
    }

    /// To add more to what [`Draft::finish`] made.
    pub(in crate::config) fn of(tenants: &Tenants) -> Self {
        let mut tenants = tenants.clone();
        tenants.teams.pop();
        tenants.keys.pop();
        let ids = tenants.keys.iter().enumerate().map(|(index, key)| (Arc::clone(&key.id), index)).collect();
        Self { tenants, ids, origins: HashMap::new() }
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
        self.ids.retain(|_, key| *key < keys);
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
        let key = Key { id: ANONYMOUS.into(), team, digest: None, expires: None, disabled: false, routes: None, limits: Vec::new() };
        tenants.keys.push(key);
        tenants
    }

    /// The end of a message about a key that is there already.
    fn whose(&self, key: usize) -> String {
        let team = self.tenants.keys.get(key).and_then(|key| self.tenants.teams.get(key.team));
        team.map_or_else(String::new, |team| format!("; the other one is in the team `{}`", team.name))
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
        for key in team.keys {
            self.client_key(key, index, routes, draft);
        }
        for user in team.users {
            self.user(user, index, routes, draft);
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
        for key in team.keys {
            self.client_key(key, index, routes, draft);
        }
        for user in team.users {
            self.user(user, index, routes, draft);
        }
    }

    /// The id of a key or a user, which no other has: limits are known by it.
    fn id(&mut self, what: &str, id: &At<String>, draft: &mut Draft) -> Arc<str> {
        let name = self.name(what, id);
        self.not_reserved(id, what);
        match draft.ids.get(&name) {
            Some(other) => self.add(id.at, format!("there are two keys with the id `{name}`{}", draft.whose(*other))),
            None => drop(draft.ids.insert(name.clone(), draft.tenants.keys.len())),
        }
        name
    }

    fn user(&mut self, user: User, team: usize, routes: &ByName<Arc<Route>>, draft: &mut Draft) {
        let id = self.id("user", &user.id, draft);
        let (usable, limits) = (self.route_set(user.routes, routes), self.client_limits(user.limits, routes));
        draft.tenants.keys.push(Key { id, team, digest: None, expires: None, disabled: user.disabled, routes: usable, limits });
    }

    fn client_key(&mut self, key: ClientKey, team: usize, routes: &ByName<Arc<Route>>, draft: &mut Draft) {
        let index = draft.tenants.keys.len();
        let id = self.id("key", &key.id, draft);
        match draft.tenants.digests.get(&key.sha256.value.0) {
            Some(other) => {
                let message = format!("`sha256`: the key `{id}` has the same digest as another key{}", draft.whose(*other));
                self.add(key.sha256.at, message);
            }
            None => drop(draft.tenants.digests.insert(key.sha256.value.0, index)),
        }
        draft.tenants.keys.push(Key {
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
