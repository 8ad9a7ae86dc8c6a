//! What clients are told about their limits: `x-ratelimit-*`, in OpenAI's words.

use http::{HeaderName, HeaderValue};
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
    /// The headers to send, at most six.
    pub fn iter(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let requests = self
            .requests
            .map(|s| triple(["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"], s));
        let tokens =
            self.tokens.map(|s| triple(["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"], s));
        requests.into_iter().chain(tokens).flatten()
    }
}

fn triple(names: [&'static str; 3], standing: Standing) -> [(HeaderName, HeaderValue); 3] {
    let [limit, remaining, reset] = names.map(HeaderName::from_static);
    let time = HeaderValue::try_from(duration(standing.reset)).unwrap_or_else(|_| HeaderValue::from_static("0s"));
    [(limit, standing.limit.into()), (remaining, standing.remaining.into()), (reset, time)]
}

/// A duration as OpenAI writes it (`850ms`, `1s`, `11.9s`, `6m0s`, `1h0m0s`), in milliseconds, rounded up.
pub fn duration(time: Duration) -> String {
    let total = time.as_nanos().div_ceil(1_000_000);
    if total > 0 && total < 1000 {
        return format!("{total}ms");
    }
    let (seconds, fraction) = (total / 1000, total % 1000);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let fraction = if fraction == 0 { String::new() } else { format!(".{fraction:03}") };
    let fraction = fraction.trim_end_matches('0');
    match (hours, minutes) {
        (0, 0) => format!("{seconds}{fraction}s"),
        (0, _) => format!("{minutes}m{seconds}{fraction}s"),
        _ => format!("{hours}h{minutes}m{seconds}{fraction}s"),
    }
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
    fn only_what_is_limited_is_told() {
        let headers = LimitHeaders {
            requests: None,
            tokens: Some(Standing { limit: 60, remaining: 12, reset: Duration::from_millis(48_000), ..Standing::default() }),
        };
        let told: Vec<_> = headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        assert_eq!(told, ["x-ratelimit-limit-tokens: 60", "x-ratelimit-remaining-tokens: 12", "x-ratelimit-reset-tokens: 48s"]);
    }
}
