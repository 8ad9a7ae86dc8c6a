//! Keys: that there are any, how long they are good for, and routes that none of them may use.

use super::{Review, expiry, place};
use crate::auth::tenants::{AuthMode, Key};
use crate::config::snapshot::Snapshot;
use crate::limit::rule::RouteSet;
use crate::yaml::problem::Problems;
use crate::yaml::tree::Node;

pub(super) fn review(review: &Review<'_>, problems: &mut Problems) {
    let snapshot = review.snapshot;
    let nodes = review.entries("teams").iter().flat_map(|(_, team)| team.get("keys").map_or(&[][..], Node::items));
    for (key, node) in snapshot.tenants.keys.iter().zip(nodes) {
        let end = key.expires.filter(|_| !key.disabled).and_then(|end| expiry(end, review.now));
        if let Some(end) = end {
            problems.warn(place(node, &["expires"]), format!("the key `{}` {end}", key.id));
        }
    }
    if snapshot.tenants.mode != AuthMode::Keys {
        return;
    }
    // The last key is that of requests without one.
    let keys = snapshot.tenants.keys.split_last().map_or(&[][..], |(_, keys)| keys);
    let usable: Vec<&Key> = keys.iter().filter(|key| !key.disabled && key.expires.is_none_or(|end| end > review.now)).collect();
    if usable.is_empty() {
        let message = match (keys.is_empty(), snapshot.keys_dir.is_some()) {
            (true, false) => {
                "every request is refused: `auth` is `keys`, and there is no key; `tidegate key new --id ID` prints one with its entry for a team"
            }
            (true, true) => {
                "every request is refused: `auth` is `keys`, and there is no key; `tidegate key new --team TEAM` makes one in `keys_dir`"
            }
            (false, _) => "every request is refused: `auth` is `keys`, and all keys are disabled or have expired",
        };
        let section = if review.file.get("teams").is_some() { "teams" } else { "auth" };
        problems.warn(place(review.file, &[section]), message);
        return;
    }
    let open = open_routes(snapshot, &usable);
    for (route, name, _) in review.routes() {
        if !open.has(route.index) {
            problems.warn(name.at, format!("no key may use the route `{}`; add it to the `routes` of a team or a key", route.name));
        }
    }
}

/// The routes that at least one of these keys may use.
fn open_routes(snapshot: &Snapshot, keys: &[&Key]) -> RouteSet {
    let mut open = vec![false; snapshot.routes.len()];
    for key in keys {
        let team = snapshot.tenants.teams.get(key.team).and_then(|team| team.routes.as_ref());
        if team.is_none() && key.routes.is_none() {
            open.fill(true);
            break;
        }
        for (route, open) in open.iter_mut().enumerate() {
            *open |= [team, key.routes.as_ref()].into_iter().flatten().all(|set| set.has(route));
        }
    }
    RouteSet(open)
}
