//! What is valid and probably not meant: warnings about a configuration without errors.
//!
//! The snapshot says what holds, the tree of the file says what was written and where. Each part adds warnings to
//! [`Problems`]; `tidegate check` prints them, a start and a reload log them.

mod keys;
mod limits;
mod params;
mod providers;
mod routes;
mod variables;

use super::snapshot::Snapshot;
use crate::provider::Target;
use crate::yaml::problem::{Position, Problems};
use crate::yaml::tree::{Key, Node};

/// How long before its end a key or a certificate is warned of, in seconds: 14 days.
const SOON: i64 = 14 * DAY;
const DAY: i64 = 86_400;

/// A configuration under review.
struct Review<'a> {
    file: &'a Node,
    snapshot: &'a Snapshot,
    /// Seconds since the epoch.
    now: i64,
}

/// Adds what `snapshot`, made of `file`, is to be warned of. `now` is in seconds since the epoch.
pub fn review(file: &Node, snapshot: &Snapshot, now: i64, problems: &mut Problems) {
    let review = Review { file, snapshot, now };
    variables::review(file, problems);
    providers::review(&review, problems);
    routes::review(&review, problems);
    params::review(&review, problems);
    limits::review(&review, problems);
    keys::review(&review, problems);
}

/// What a warning says of an end that is past or near, both in seconds since the epoch; `None` where it is far.
pub(super) fn expiry(end: i64, now: i64) -> Option<String> {
    let date = jiff::Timestamp::from_second(end).map_or_else(|_| end.to_string(), |time| time.to_string());
    match end - now {
        left if left <= 0 => Some(format!("expired on {date}")),
        left if left < DAY => Some(format!("expires on {date}, in less than a day")),
        left if left < 2 * DAY => Some(format!("expires on {date}, in 1 day")),
        left if left <= SOON => Some(format!("expires on {date}, in {} days", left / DAY)),
        _ => None,
    }
}

impl<'a> Review<'a> {
    /// The entries of a mapping at the top of the file, in the order of the snapshot.
    fn entries(&self, section: &str) -> &'a [(Key, Node)] {
        self.file.get(section).map_or(&[], Node::entries)
    }

    /// Every route with its name and its section.
    fn routes(&self) -> impl Iterator<Item = (&'a crate::route::settings::Route, &'a Key, &'a Node)> {
        let routes = self.snapshot.routes.iter().zip(self.entries("routes"));
        routes.map(|(route, (name, node))| (route.as_ref(), name, node))
    }
}

/// The targets of a route, those for which there is a fallback first.
fn targets(route: &crate::route::settings::Route) -> impl Iterator<Item = &Target> {
    route.targets.iter().chain(&route.fallback).map(AsRef::as_ref)
}

/// The place of the last of these keys that was written, one inside of the other.
fn place(node: &Node, keys: &[&str]) -> Position {
    let mut node = node;
    for key in keys {
        match node.get(key) {
            Some(inner) => node = inner,
            None => break,
        }
    }
    node.at
}

/// Names for a message: the first three, and how many more there are.
fn listed(names: &[String]) -> String {
    let more = names.len().saturating_sub(3);
    let first = names.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
    if more == 0 { first } else { format!("{first} and {more} more") }
}
