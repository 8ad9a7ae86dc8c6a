//! The most recent refused and failed requests, without content. Requests that have everything in common but time and id are
//! one entry with a count, so that a client that retries forever leaves room for others. Only failed requests take its lock.

use crate::json::write::Writer;
use crate::limit::Scope;
use crate::limit::rule::Dimension;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use uuid::Uuid;

/// Maximum number of entries; the one that happened last longest ago is dropped.
pub const MAX_ENTRIES: usize = 64;

/// See the module. Survives reloads.
#[derive(Default)]
pub struct Failures(Mutex<VecDeque<Entry>>);

/// What failed requests have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The team; `None` without authentication.
    pub team: Option<Arc<str>>,
    /// The route; `None` if none matched.
    pub route: Option<Arc<str>>,
    /// The provider that failed last; `None` without an attempt.
    pub provider: Option<Arc<str>>,
    /// Status of the response; below 400 where it broke off later.
    pub status: u16,
    /// `reason` of the access log.
    pub reason: &'static str,
    /// The limit that refused it.
    pub limit: Option<(Scope, Dimension)>,
}

/// Requests that failed alike.
struct Entry {
    failure: Failure,
    count: u64,
    /// Time of the last one, in nanoseconds since the Unix epoch.
    last: u64,
    /// `x-request-id` of its response.
    request_id: Uuid,
}

impl Failures {
    /// Records a failed request that ended at `time`, in nanoseconds since the Unix epoch.
    pub fn record(&self, failure: Failure, time: u64, request_id: Uuid) {
        let mut entries = self.0.lock();
        let same = entries.iter().position(|entry| entry.failure == failure).and_then(|at| entries.remove(at));
        let count = same.map_or(1, |entry| entry.count + 1);
        if entries.len() >= MAX_ENTRIES {
            entries.pop_front();
        }
        entries.push_back(Entry { failure, count, last: time, request_id });
    }

    /// Writes an array of the entries, the most recent first; `write_time` writes a time.
    pub fn write(&self, w: &mut Writer, write_time: impl Fn(&mut Writer, Option<u64>)) {
        let entries = self.0.lock();
        w.array();
        for Entry { failure, count, last, request_id } in entries.iter().rev() {
            w.object().key("time");
            write_time(w, Some(*last));
            w.key("count").integer(*count);
            for (name, value) in [("team", &failure.team), ("route", &failure.route), ("provider", &failure.provider)] {
                match value {
                    Some(value) => w.key(name).string(value),
                    None => w.key(name).raw("null"),
                };
            }
            w.key("status").integer(failure.status.into()).key("reason").string(failure.reason);
            if let Some((scope, dimension)) = failure.limit {
                w.key("limit_scope").string(scope.name()).key("limit_dimension").string(dimension.name());
            }
            w.key("request_id").string(request_id.hyphenated().encode_lower(&mut Uuid::encode_buffer())).end_object();
        }
        w.end_array();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn failure(status: u16) -> Failure {
        Failure {
            team: None,
            route: Some("chat".into()),
            provider: None,
            status,
            reason: "limited",
            limit: Some((Scope::Team, Dimension::Tokens)),
        }
    }

    fn list(failures: &Failures) -> Vec<Value> {
        let mut w = Writer::with_capacity(64);
        failures.write(&mut w, |w, time| {
            w.integer(time.unwrap());
        });
        serde_json::from_slice(&w.finish()).unwrap()
    }

    #[test]
    fn equal_failures_are_one_entry_with_the_last_time_and_id() {
        let failures = Failures::default();
        failures.record(failure(429), 1, Uuid::from_u128(1));
        failures.record(failure(500), 2, Uuid::from_u128(2));
        failures.record(failure(429), 3, Uuid::from_u128(3));
        let list = list(&failures);
        assert_eq!(
            list[0].to_string(),
            serde_json::json!({
                "time": 3, "count": 2, "team": null, "route": "chat", "provider": null, "status": 429, "reason": "limited",
                "limit_scope": "team", "limit_dimension": "tokens", "request_id": "00000000-0000-0000-0000-000000000003"
            })
            .to_string()
        );
        assert_eq!((list.len(), &list[1]["status"], &list[1]["count"]), (2, &500.into(), &1.into()));
    }

    #[test]
    fn it_is_bounded_and_drops_what_happened_longest_ago() {
        let failures = Failures::default();
        for status in 0..MAX_ENTRIES as u16 {
            failures.record(failure(status), 1, Uuid::nil());
        }
        failures.record(failure(0), 2, Uuid::nil());
        failures.record(failure(999), 3, Uuid::nil());
        let left: Vec<u64> = list(&failures).iter().map(|entry| entry["status"].as_u64().unwrap()).collect();
        assert_eq!((left.len(), &left[..2], left.contains(&1)), (MAX_ENTRIES, &[999, 0][..], false));
    }
}
