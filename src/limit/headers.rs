//! What clients are told about their limits: `x-ratelimit-*`, in OpenAI's words.

use super::budget::{DAY, MONTH};
use crate::limit::rule::Dimension;
use crate::units;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::time::Duration;

/// Where a limit stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// "The maximum that is permitted before exhausting the rate limit" (OpenAI's rate-limit guide): the burst.
    pub limit: u64,
    /// Used and not refilled, reservations left out.
    pub used: u64,
    /// Set aside for requests in flight.
    pub reserved: u64,
    /// What is still permitted.
    pub remaining: u64,
    /// Time until the limit is whole again.
    pub reset: Duration,
}

impl Standing {
    /// The tighter of two: the one with less remaining, then the one that takes longer to be whole.
    pub fn tighter(self, other: Self) -> Self {
        if (other.remaining, self.reset) < (self.remaining, other.reset) { other } else { self }
    }
}

/// The tightest limits of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitHeaders {
    /// On requests.
    pub requests: Option<Standing>,
    /// On tokens.
    pub tokens: Option<Standing>,
}

impl LimitHeaders {
    /// One more limit that applies; only those on requests and tokens are told.
    pub fn add(&mut self, dimension: Dimension, standing: impl FnOnce() -> Standing) {
        let slot = match dimension {
            Dimension::Requests => &mut self.requests,
            Dimension::Tokens => &mut self.tokens,
            Dimension::Concurrent | Dimension::Usd => return,
        };
        let standing = standing();
        *slot = Some(slot.map_or(standing, |other| other.tighter(standing)));
    }

    /// The tightest of these and of others that apply as well.
    pub fn merge(&mut self, others: &Self) {
        others.requests.into_iter().for_each(|standing| self.add(Dimension::Requests, || standing));
        others.tokens.into_iter().for_each(|standing| self.add(Dimension::Tokens, || standing));
    }

    /// Adds the headers to send, at most six.
    pub fn add_to(&self, headers: &mut HeaderMap) {
        for (names, standing) in [(&REQUESTS, self.requests), (&TOKENS, self.tokens)] {
            let Some(standing) = standing else { continue };
            let [limit, remaining, reset] = names.clone();
            headers.insert(limit, standing.limit.into());
            headers.insert(remaining, standing.remaining.into());
            headers.insert(reset, HeaderValue::try_from(duration(standing.reset)).unwrap_or_else(|_| HeaderValue::from_static("0s")));
        }
    }
}

/// Of the tightest limit on requests: what is permitted at once, what is left, and when it is whole again.
pub const REQUESTS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
];
/// The same of the tightest limit on tokens.
pub const TOKENS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-tokens"),
    HeaderName::from_static("x-ratelimit-remaining-tokens"),
    HeaderName::from_static("x-ratelimit-reset-tokens"),
];

/// A limit's period as a user writes it: `month`, `day`, `7d`, `1h30m`.
pub fn period(per: Duration) -> String {
    match per {
        MONTH => "month".to_owned(),
        DAY => "day".to_owned(),
        _ => units::text(per),
    }
}

/// A duration as OpenAI writes it (`850ms`, `1s`, `11.9s`, `6m0s`, `1h0m0s`), in milliseconds, rounded up.
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
        // Three digits, less the zeros at the end.
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
        let standing = |remaining, seconds| Standing { limit: 9, remaining, reset: Duration::from_secs(seconds), ..Standing::default() };
        assert_eq!(standing(5, 1).tighter(standing(3, 2)), standing(3, 2));
        assert_eq!(standing(3, 1).tighter(standing(5, 2)), standing(3, 1));
        assert_eq!(standing(3, 1).tighter(standing(3, 2)), standing(3, 2));
        assert_eq!(standing(3, 2).tighter(standing(3, 1)), standing(3, 2));
    }

    #[test]
    fn of_all_that_apply_the_tightest_are_told() {
        let standing = |remaining| Some(Standing { limit: 9, remaining, ..Standing::default() });
        let mut headers = LimitHeaders { requests: standing(3), tokens: None };
        headers.merge(&LimitHeaders { requests: standing(5), tokens: standing(7) });
        headers.add(Dimension::Tokens, || Standing { limit: 9, remaining: 2, ..Standing::default() });
        headers.add(Dimension::Usd, || unreachable!("money is not told"));
        assert_eq!(headers, LimitHeaders { requests: standing(3), tokens: standing(2) });
    }

    #[test]
    fn only_what_is_limited_is_told() {
        let headers = LimitHeaders {
            requests: None,
            tokens: Some(Standing { limit: 60, remaining: 12, reset: Duration::from_millis(48_000), ..Standing::default() }),
        };
        let mut map = HeaderMap::new();
        headers.add_to(&mut map);
        let told: Vec<_> = map.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        assert_eq!(told, ["x-ratelimit-limit-tokens: 60", "x-ratelimit-remaining-tokens: 12", "x-ratelimit-reset-tokens: 48s"]);
    }
}
