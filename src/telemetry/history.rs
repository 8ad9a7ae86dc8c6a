//! The last hour of each route, in buckets of a minute. The buckets are differences of the counters that metrics have anyway,
//! read by a background task, so requests pay nothing for it. At most [`BUCKETS`] buckets per configured route; routes that a
//! reload removes are forgotten.

use super::labels::NONE;
use super::metrics::{Metrics, Totals};
use crate::json::write::Writer;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Length of a bucket.
pub const BUCKET: Duration = Duration::from_secs(60);
/// Number of complete buckets; an hour.
pub const BUCKETS: usize = 60;

/// See the module. Survives reloads.
#[derive(Default)]
pub struct History(Mutex<BTreeMap<Box<str>, Series>>);

/// A route.
#[derive(Default)]
struct Series {
    /// Its counters when the open bucket began.
    began: Totals,
    /// Complete buckets, the oldest first.
    buckets: VecDeque<Bucket>,
}

/// A minute of a route.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Bucket {
    requests: u64,
    errors_4xx: u64,
    errors_5xx: u64,
    /// 95th percentile of the time to the first token; `None` without streams.
    first_token: Option<Duration>,
}

impl Bucket {
    fn of(counted: &Totals) -> Self {
        let first_token = counted.first_token_quantile(0.95).map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default());
        Self { requests: counted.requests, errors_4xx: counted.errors_4xx, errors_5xx: counted.errors_5xx, first_token }
    }
}

impl History {
    /// Ends the open bucket of every route. To be called once per [`BUCKET`].
    pub fn sample(&self, metrics: &Metrics) {
        // Locked before the counters are read: a reload in between would remove series that were counted.
        let mut series = self.0.lock();
        let all = metrics.totals();
        series.retain(|route, _| all.contains_key(&**route));
        for (route, totals) in all {
            let known = series.entry(route.into()).or_default();
            if known.buckets.len() >= BUCKETS {
                known.buckets.pop_front();
            }
            known.buckets.push_back(Bucket::of(&totals.since(&known.began)));
            known.began = totals;
        }
    }

    /// Replaces metrics by those that `next` makes, which removes series: counters of a route that shrink thereby do not hide
    /// what is counted afterwards.
    ///
    /// # Errors
    /// Those of `next`.
    pub fn reload<M: AsRef<Metrics>, E>(&self, previous: &Metrics, next: impl FnOnce() -> Result<M, E>) -> Result<M, E> {
        let mut series = self.0.lock();
        let before = previous.totals();
        let metrics = next()?;
        let after = metrics.as_ref().totals();
        series.retain(|route, known| {
            let (before, after) = (before.get(&**route), after.get(&**route));
            if let (Some(before), Some(after)) = (before, after) {
                known.began = known.began.since(&before.since(after));
            }
            after.is_some()
        });
        Ok(metrics)
    }

    /// Writes an array of the routes of `metrics`, requests without a route last. Each has one array per quantity, the oldest
    /// bucket first and the open one last; only routes with requests in that time have them.
    pub fn write(&self, w: &mut Writer, metrics: &Metrics) {
        let series = self.0.lock();
        let totals = metrics.totals();
        let configured = metrics.names().routes.iter().map(|(name, _)| name.as_ref());
        let none = (!configured.clone().any(|name| name == NONE)).then_some(NONE);
        w.array();
        for route in configured.chain(none) {
            let (Some(totals), known) = (totals.get(route), series.get(route)) else { continue };
            let open = Bucket::of(&known.map_or_else(|| totals.clone(), |known| totals.since(&known.began)));
            let buckets = || known.iter().flat_map(|known| &known.buckets).chain([&open]);
            w.object().key("route");
            if none == Some(route) {
                w.raw("null")
            } else {
                w.string(route)
            };
            if buckets().any(|bucket| bucket.requests > 0) {
                counts(w, "requests", buckets().map(|bucket| bucket.requests));
                counts(w, "errors_4xx", buckets().map(|bucket| bucket.errors_4xx));
                counts(w, "errors_5xx", buckets().map(|bucket| bucket.errors_5xx));
                w.key("ttft_p95_ms").array();
                for bucket in buckets() {
                    match bucket.first_token {
                        Some(time) => w.integer(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
                        None => w.raw("null"),
                    };
                }
                w.end_array();
            }
            w.end_object();
        }
        w.end_array();
    }
}

fn counts(w: &mut Writer, name: &str, counts: impl Iterator<Item = u64>) {
    w.key(name).array();
    for count in counts {
        w.integer(count);
    }
    w.end_array();
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
