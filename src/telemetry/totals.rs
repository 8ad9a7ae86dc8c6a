//! Sums of the series of each route, for the history.

use super::Metrics;
use crate::telemetry::labels::NONE;
use prometheus::core::Metric;
use std::collections::BTreeMap;

/// Counters of a route since its first request. They only grow, unless a reload removes series.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    /// Finished requests.
    pub requests: u64,
    /// Those with a status of 400 to 498, or whose stream ended with such an error: refusals of the gateway and of providers.
    pub errors_4xx: u64,
    /// Those with a status of 500 or above, or whose stream ended with such an error.
    pub errors_5xx: u64,
    /// Times to the first token of streams: upper bounds of the buckets in seconds, ascending to infinity, with the number of
    /// observations up to each. Empty without observations.
    pub first_token: Vec<(f64, u64)>,
}

impl Totals {
    /// What was counted since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let count = |i: usize| earlier.first_token.get(i).map_or(0, |(_, count)| *count);
        Self {
            requests: self.requests.saturating_sub(earlier.requests),
            errors_4xx: self.errors_4xx.saturating_sub(earlier.errors_4xx),
            errors_5xx: self.errors_5xx.saturating_sub(earlier.errors_5xx),
            first_token: self.first_token.iter().enumerate().map(|(i, (to, n))| (*to, n.saturating_sub(count(i)))).collect(),
        }
    }

    /// A quantile of the times to the first token in seconds, interpolated within a bucket as Prometheus does; `None` without
    /// observations. Times above the last finite bound count as that bound.
    pub fn first_token_quantile(&self, quantile: f64) -> Option<f64> {
        let count = self.first_token.last().map(|(_, count)| *count).filter(|count| *count > 0)?;
        let rank = quantile * count as f64;
        let mut lower = (0.0, 0);
        for (upper, up_to) in &self.first_token {
            if *up_to as f64 >= rank && *up_to > lower.1 {
                let part = (rank - lower.1 as f64) / (*up_to - lower.1) as f64;
                return Some(if upper.is_finite() { lower.0 + (upper - lower.0) * part } else { lower.0 });
            }
            lower = (*upper, *up_to);
        }
        None
    }

    fn add_errors(&mut self, status: &str, count: u64) {
        match status.as_bytes() {
            b"499" | [b'1'..=b'3', ..] => {} // 499: the client disconnected
            [b'4', ..] => self.errors_4xx += count,
            _ => self.errors_5xx += count,
        }
    }

    fn add_first_tokens(&mut self, histogram: &prometheus::proto::Histogram) {
        let finite = histogram.get_bucket().iter().map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()));
        for (i, (to, count)) in finite.chain([(f64::INFINITY, histogram.get_sample_count())]).enumerate() {
            match self.first_token.get_mut(i) {
                Some(sum) => sum.1 += count,
                None => self.first_token.push((to, count)),
            }
        }
    }
}

impl Metrics {
    /// The totals of each configured route by its name, and of requests without a route as [`NONE`].
    pub fn totals(&self) -> BTreeMap<&str, Totals> {
        let names = self.names.routes.iter().map(|(name, _)| name.as_ref()).chain([NONE]);
        let mut all: BTreeMap<&str, Totals> = names.map(|name| (name, Totals::default())).collect();
        let families = [(&self.families.requests, true), (&self.families.failed_streams, false)];
        for (family, is_request) in families {
            family.each(|labels, counter| {
                if let [route, .., status] = labels
                    && let Some(totals) = all.get_mut(&**route)
                {
                    totals.requests += if is_request { counter.get() } else { 0 };
                    totals.add_errors(status, counter.get());
                }
            });
        }
        self.families.first_token.each(|labels, histogram| {
            if let Some(totals) = labels.first().and_then(|route| all.get_mut(&**route))
                && histogram.get_sample_count() > 0
            {
                totals.add_first_tokens(histogram.metric().get_histogram());
            }
        });
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_interpolated_within_its_bucket() {
        let of = |counts: [u64; 4]| Totals {
            first_token: [0.1, 0.5, 1.0, f64::INFINITY].into_iter().zip(counts).collect(),
            ..Totals::default()
        };
        assert_eq!(Totals::default().first_token_quantile(0.5), None);
        assert_eq!(of([0; 4]).first_token_quantile(0.5), None);
        assert_eq!(of([0, 10, 10, 10]).first_token_quantile(0.5), Some(0.1 + 0.4 * 0.5));
        assert_eq!(of([5, 5, 10, 10]).first_token_quantile(0.5), Some(0.1));
        assert_eq!(of([0, 0, 0, 3]).first_token_quantile(0.95), Some(1.0), "above the last bound");
    }

    #[test]
    fn a_status_is_an_error_by_its_first_digit() {
        let mut totals = Totals::default();
        for status in ["200", "204", "401", "429", "499", "502", "529", "other"] {
            totals.add_errors(status, 1);
        }
        assert_eq!((totals.errors_4xx, totals.errors_5xx), (2, 3));
    }
}
