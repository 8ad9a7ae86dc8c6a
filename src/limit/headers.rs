//! The `x-ratelimit-*` response headers, named as OpenAI's.

use super::budget::{DAY, MONTH};
use crate::limit::rule::Dimension;
use crate::units;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::time::Duration;

/// State of one limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitStatus {
    /// "The maximum that is permitted before exhausting the rate limit" (OpenAI's rate-limit guide): the burst.
    pub limit: u64,
    /// Used and not refilled, without reservations.
    pub used: u64,
    /// Reserved for requests in flight.
    pub reserved: u64,
    /// Still available.
    pub remaining: u64,
    /// Time until the limit is fully refilled.
    pub reset: Duration,
}

impl LimitStatus {
    /// Returns the one with less remaining, then the one with the longer reset.
    pub fn tighter(self, other: Self) -> Self {
        if (other.remaining, self.reset) < (self.remaining, other.reset) { other } else { self }
    }
}

/// The tightest limits that apply to a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitHeaders {
    /// Tightest limit on requests.
    pub requests: Option<LimitStatus>,
    /// Tightest limit on tokens.
    pub tokens: Option<LimitStatus>,
}

impl LimitHeaders {
    /// Adds a limit. Only those on requests and tokens have headers.
    pub fn add(&mut self, dimension: Dimension, status: impl FnOnce() -> LimitStatus) {
        let slot = match dimension {
            Dimension::Requests => &mut self.requests,
            Dimension::Tokens => &mut self.tokens,
            Dimension::Concurrent | Dimension::Usd => return,
        };
        let status = status();
        *slot = Some(slot.map_or(status, |other| other.tighter(status)));
    }

    /// Adds the limits of `others`.
    pub fn merge(&mut self, others: &Self) {
        others.requests.into_iter().for_each(|status| self.add(Dimension::Requests, || status));
        others.tokens.into_iter().for_each(|status| self.add(Dimension::Tokens, || status));
    }

    /// Writes up to six headers.
    pub fn add_to(&self, headers: &mut HeaderMap) {
        for (names, status) in [(&REQUESTS, self.requests), (&TOKENS, self.tokens)] {
            let Some(status) = status else { continue };
            let [limit, remaining, reset] = names.clone();
            headers.insert(limit, status.limit.into());
            headers.insert(remaining, status.remaining.into());
            headers.insert(reset, HeaderValue::try_from(duration(status.reset)).unwrap_or_else(|_| HeaderValue::from_static("0s")));
        }
    }
}

/// Burst, remaining amount and reset time of the tightest limit on requests.
pub const REQUESTS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
];
/// The same for tokens.
pub const TOKENS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-tokens"),
    HeaderName::from_static("x-ratelimit-remaining-tokens"),
    HeaderName::from_static("x-ratelimit-reset-tokens"),
];

/// A period as written in the configuration: `month`, `day`, `7d`, `1h30m`.
pub fn period(per: Duration) -> String {
    match per {
        MONTH => "month".to_owned(),
        DAY => "day".to_owned(),
        _ => units::text(per),
    }
}

/// A duration in OpenAI's format (`850ms`, `1s`, `11.9s`, `6m0s`, `1h0m0s`), rounded up to milliseconds.
pub fn duration(time: Duration) -> String {
    let mut out = String::with_capacity(16);
    let mut number = |n: u64, unit: &str| {
        out.push_str(itoa::Buffer::new().format(n));
        out.push_str(unit);
    };
    let total = time.as_secs().saturating_mul(1000).saturating_add(u64::from(time.subsec_nanos().div_ceil(1_000_000)));
    if total > 0 && total < 1000 {
        number(total, "ms");
        return out;
    }
    let (seconds, fraction) = (total / 1000, total % 1000);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        number(hours, "h");
    }
    if hours > 0 || minutes > 0 {
        number(minutes, "m");
    }
    number(seconds, "");
    if fraction > 0 {
        out.push('.');
        // Three digits without trailing zeros.
        let digits = [fraction / 100, fraction / 10 % 10, fraction % 10].map(|d| char::from(b'0' + d as u8));
        let kept = if fraction.is_multiple_of(100) {
            1
        } else if fraction.is_multiple_of(10) {
            2
        } else {
            3
        };
        out.extend(digits.iter().take(kept));
    }
    out.push('s');
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_openais() {
        for (nanoseconds, text) in [
            (0, "0s"),
            (1, "1ms"),
            (850_000_000, "850ms"),
            (999_000_001, "1s"),
            (1_000_000_000, "1s"),
            (11_900_000_000, "11.9s"),
            (59_999_999_999, "1m0s"),
            (360_000_000_000, "6m0s"),
            (3_600_000_000_000, "1h0m0s"),
            (90_061_005_000_000, "25h1m1.005s"),
        ] {
            assert_eq!(duration(Duration::from_nanos(nanoseconds)), text, "{nanoseconds}");
        }
    }

    #[test]
    fn the_tightest_has_the_least_remaining_then_the_longest_reset() {
        let status =
            |remaining, seconds| LimitStatus { limit: 9, remaining, reset: Duration::from_secs(seconds), ..LimitStatus::default() };
        assert_eq!(status(5, 1).tighter(status(3, 2)), status(3, 2));
        assert_eq!(status(3, 1).tighter(status(5, 2)), status(3, 1));
        assert_eq!(status(3, 1).tighter(status(3, 2)), status(3, 2));
        assert_eq!(status(3, 2).tighter(status(3, 1)), status(3, 2));
    }

    #[test]
    fn of_all_that_apply_the_tightest_are_told() {
        let status = |remaining| Some(LimitStatus { limit: 9, remaining, ..LimitStatus::default() });
        let mut headers = LimitHeaders { requests: status(3), tokens: None };
        headers.merge(&LimitHeaders { requests: status(5), tokens: status(7) });
        headers.add(Dimension::Tokens, || LimitStatus { limit: 9, remaining: 2, ..LimitStatus::default() });
        headers.add(Dimension::Usd, || unreachable!("money is not told"));
        assert_eq!(headers, LimitHeaders { requests: status(3), tokens: status(2) });
    }

    #[test]
    fn only_what_is_limited_is_told() {
        let headers = LimitHeaders {
            requests: None,
            tokens: Some(LimitStatus { limit: 60, remaining: 12, reset: Duration::from_millis(48_000), ..LimitStatus::default() }),
        };
        let mut map = HeaderMap::new();
        headers.add_to(&mut map);
        let told: Vec<_> = map.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        assert_eq!(told, ["x-ratelimit-limit-tokens: 60", "x-ratelimit-remaining-tokens: 12", "x-ratelimit-reset-tokens: 48s"]);
    }
}
