//! Keys and tokens: that there are any, how long keys are good for, and routes that none of them may use.

use super::{Review, expiry, place};
use crate::auth::tenants::{AuthMode, Key};
use crate::config::snapshot::Snapshot;
use crate::limit::rule::RouteSet;
use crate::yaml::problem::Problems;
use crate::yaml::tree::Node;

pub(super) fn review(review: &Review<'_>, problems: &mut Problems) {
    let snapshot = review.snapshot;
    let nodes = review.entries("teams").iter().flat_map(|(_, team)| team.get("keys").map_or(&[][..], Node::items));
    // Users, and the last key, which is that of requests without one, have no digest.
    let keys: Vec<&Key> = snapshot.tenants.keys.iter().filter(|key| key.digest.is_some()).collect();
    for (key, node) in keys.iter().zip(nodes) {
        let end = key.expires.filter(|_| !key.disabled).and_then(|end| expiry(end, review.now));
        if let Some(end) = end {
            problems.warn(place(node, &["expires"]), format!("the key `{}` {end}", key.id));
        }
    }
    let AuthMode::Credential { keys: accepted, issuers } = &snapshot.tenants.mode else { return };
    let users = review.entries("teams").iter().filter_map(|(_, team)| team.get("users"));
    if let Some(node) = users.into_iter().next().filter(|_| issuers.is_empty()) {
        problems.warn(node.at, "`users` has no effect: `auth` has no `jwt`, so that nobody shows a token");
    }
    if !issuers.is_empty() {
        return tokens(review, *accepted || keys.is_empty(), problems);
    }
    let usable: Vec<&Key> = keys.iter().filter(|key| !key.disabled && key.expires.is_none_or(|end| end > review.now)).copied().collect();
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
    let open = open_routes(snapshot, usable.iter().map(|key| (key.team, key.routes.as_ref())));
    closed(review, &open, "key", problems);
}

/// Where tokens are accepted: a team is all that they need. `keys_fit`: whether keys are accepted, or there are none.
fn tokens(review: &Review<'_>, keys_fit: bool, problems: &mut Problems) {
    let at = place(review.file, &["auth"]);
    let teams = review.snapshot.tenants.named_teams().count();
    if teams == 0 {
        problems.warn(at, "every token is refused: there is no team that one could name; add it to `teams`");
        return;
    }
    if !keys_fit {
        problems.warn(at, "the keys of teams are refused: `keys` of `auth` is false");
    }
    closed(review, &open_routes(review.snapshot, (0..teams).map(|team| (team, None))), "team", problems);
}

/// Warns of routes that nobody may use: no key, or no team where a token of it would do.
fn closed(review: &Review<'_>, open: &RouteSet, who: &str, problems: &mut Problems) {
    for (route, name, _) in review.routes() {
        if !open.has(route.index) {
            let or_key = if who == "key" { " or a key" } else { "" };
            problems.warn(name.at, format!("no {who} may use the route `{}`; add it to the `routes` of a team{or_key}", route.name));
        }
    }
}

/// The routes that at least one of these may use, each a team and routes of its own.
fn open_routes<'a>(snapshot: &Snapshot, all: impl Iterator<Item = (usize, Option<&'a RouteSet>)>) -> RouteSet {
    let mut open = vec![false; snapshot.routes.len()];
    for (team, own) in all {
        let team = snapshot.tenants.teams.get(team).and_then(|team| team.routes.as_ref());
        if team.is_none() && own.is_none() {
            open.fill(true);
            break;
        }
        for (route, open) in open.iter_mut().enumerate() {
            *open |= [team, own].into_iter().flatten().all(|set| set.has(route));
        }
    }
    RouteSet(open)
}
