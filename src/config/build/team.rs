//! Teams, their keys, and the routes that these may use.

use super::{Builder, ByName, Lookup};
use crate::auth::tenants::{AuthMode, Key, Team, Tenants};
use crate::config::file::{self, ClientKey};
use crate::limit::rule::{RouteNames, RouteSet};
use crate::route::settings::Route;
use crate::yaml::value::{At, Named};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The team and the key under which a request without a key is accounted where `auth` is `none`; always the last.
pub const ANONYMOUS: &str = "anonymous";

impl Builder<'_> {
    pub(super) fn tenants(&mut self, mode: AuthMode, teams: Named<file::Team>, routes: &ByName<Arc<Route>>) -> Tenants {
        let mut tenants = Tenants { mode, teams: Vec::new(), keys: Vec::new(), digests: HashMap::new() };
        let mut ids = HashSet::new();
        for (name, team) in teams.entries {
            let arc = self.name("team", &name);
            self.not_reserved(&name, "team");
            let Some(team) = team else { continue };
            let index = tenants.teams.len();
            let routes_of_team = self.route_set(team.routes, routes);
            for key in team.keys {
                self.client_key(key, index, routes, &mut ids, &mut tenants);
            }
            tenants.teams.push(Team { name: arc, routes: routes_of_team, limits: self.client_limits(team.limits, routes) });
        }
        let team = tenants.teams.len();
        tenants.teams.push(Team { name: ANONYMOUS.into(), routes: None, limits: Vec::new() });
        // Its digest is in no table, so that no text is its key.
        let key = Key { id: ANONYMOUS.into(), team, digest: [0; 32], expires: None, disabled: false, routes: None, limits: Vec::new() };
        tenants.keys.push(key);
        tenants
    }

    fn client_key(&mut self, key: ClientKey, team: usize, routes: &ByName<Arc<Route>>, ids: &mut HashSet<Arc<str>>, tenants: &mut Tenants) {
        let id = self.name("key", &key.id);
        self.not_reserved(&key.id, "key");
        let index = tenants.keys.len();
        if !ids.insert(id.clone()) {
            self.add(key.id.at, format!("there are two keys with the id `{id}`"));
        }
        if tenants.digests.insert(key.sha256.value.0, index).is_some() {
            self.add(key.sha256.at, format!("`sha256`: the key `{id}` has the same digest as another key"));
        }
        tenants.keys.push(Key {
            id,
            team,
            digest: key.sha256.value.0,
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
            let named = match routes.find(&name.value) {
                Lookup::Item(route) => Some(route),
                Lookup::Wrong => continue,
                Lookup::Nobody => routes.values().find(|route| route.aliases.iter().any(|alias| **alias == *name.value)),
            };
            let of_pattern = |route: &Route| [&route.name].into_iter().chain(&route.aliases).any(|text| is_match(&name.value, text));
            let meant: Vec<usize> = match named {
                Some(route) => vec![route.index],
                None => routes.values().filter(|route| of_pattern(route)).map(|route| route.index).collect(),
            };
            // A route whose section is wrong is there, too.
            if meant.is_empty() && !routes.names().any(|text| is_match(&name.value, text)) {
                self.no_route(&name, routes);
            }
            for index in meant {
                set.get_mut(index).into_iter().for_each(|slot| *slot = true);
            }
            all.push(named.map_or_else(|| name.value.as_str().into(), |route| Arc::clone(&route.name)));
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

/// Whether a pattern with one `*` matches; the `*` stands for at least one character.
fn is_match(pattern: &str, text: &str) -> bool {
    let Some((prefix, suffix)) = pattern.split_once('*').filter(|(_, suffix)| !suffix.contains('*')) else { return false };
    text.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(suffix)).is_some_and(|star| !star.is_empty())
}
