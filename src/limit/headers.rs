//! The `x-ratelimit-*` response headers, named as OpenAI's.

use super::Scope;
use super::memory::LimitId;
use super::rule::{Dimension, RouteNames};
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
    /// Whether `other` has less remaining, or as much and a longer reset.
    pub fn is_looser(&self, other: &Self) -> bool {
        (other.remaining, self.reset) < (self.remaining, other.reset)
    }
}

/// The tightest limits that apply to a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitHeaders {
    /// Tightest limit on requests.
    pub requests: Option<Tightest>,
    /// Tightest limit on tokens.
    pub tokens: Option<Tightest>,
    /// The limit that refused the request.
    pub exceeded: Option<(Scope, Dimension, Option<RouteNames>)>,
}

/// The tightest limit of a dimension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tightest {
    /// Its state.
    pub status: LimitStatus,
    /// Its scope.
    pub scope: Scope,
    /// The routes that it is confined to.
    pub routes: Option<RouteNames>,
}

impl LimitHeaders {
    /// Adds a limit. Only those on requests and tokens have headers.
    pub fn add(&mut self, id: &LimitId, status: impl FnOnce() -> LimitStatus) {
        let slot = match id.dimension {
            Dimension::Requests => &mut self.requests,
            Dimension::Tokens => &mut self.tokens,
            Dimension::Concurrent | Dimension::Usd => return,
        };
        let status = status();
        if slot.as_ref().is_none_or(|other| other.status.is_looser(&status)) {
            *slot = Some(Tightest { status, scope: id.scope, routes: id.routes.clone() });
        }
    }

    /// Adds the limits of `others`.
    pub fn merge(&mut self, others: &Self) {
        for (slot, other) in [(&mut self.requests, &others.requests), (&mut self.tokens, &others.tokens)] {
            if let Some(other) = other
                && slot.as_ref().is_none_or(|own| own.status.is_looser(&other.status))
            {
                *slot = Some(other.clone());
            }
        }
    }

    /// Writes up to nine headers.
    pub fn add_to(&self, headers: &mut HeaderMap) {
        for (names, scope, tightest) in [(&REQUESTS, &REQUESTS_SCOPE, &self.requests), (&TOKENS, &TOKENS_SCOPE, &self.tokens)] {
            let Some(Tightest { status, scope: of, routes }) = tightest else { continue };
            let [limit, remaining, reset] = names.clone();
            headers.insert(limit, status.limit.into());
            headers.insert(remaining, status.remaining.into());
            headers.insert(reset, HeaderValue::try_from(duration(status.reset)).unwrap_or_else(|_| HeaderValue::from_static("0s")));
            if let Some(routes) = routes {
                headers.insert(scope.clone(), described(*of, None, Some(routes)));
            }
        }
        if let Some((scope, dimension, routes)) = &self.exceeded {
            headers.insert(EXCEEDED, described(*scope, Some(*dimension), routes.as_ref()));
        }
    }
}

/// Which limit it is, as an item with parameters (RFC 9651): `team;dimension=tokens;routes="gpt-5, o3"`. Only visible ASCII
/// and spaces may stand in its strings: other characters are left out.
fn described(scope: Scope, dimension: Option<Dimension>, routes: Option<&RouteNames>) -> HeaderValue {
    let mut text = scope.name().to_owned();
    if let Some(dimension) = dimension {
        text.push_str(";dimension=");
        text.push_str(dimension.name());
    }
    if let Some(routes) = routes {
        text.push_str(";routes=\"");
        let listed = routes.to_string();
        for c in listed.chars().filter(|c| *c != '`' && (*c == ' ' || c.is_ascii_graphic())) {
            if matches!(c, '"' | '\\') {
                text.push('\\');
            }
            text.push(c);
        }
        text.push('"');
    }
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
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

/// The scope and the routes of the tightest limit on requests, if it is confined to routes.
pub const REQUESTS_SCOPE: HeaderName = HeaderName::from_static("x-ratelimit-scope-requests");
/// The same for tokens.
pub const TOKENS_SCOPE: HeaderName = HeaderName::from_static("x-ratelimit-scope-tokens");
/// Scope, dimension and routes of the limit that refused the request.
pub const EXCEEDED: HeaderName = HeaderName::from_static("x-ratelimit-exceeded");

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
        let mut buffer = itoa::Buffer::new();
        let digits = buffer.format(1000 + fraction).get(1..).unwrap_or_default();
        out.push('.');
        out.push_str(digits.trim_end_matches('0'));
    }
    out.push('s');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::rule::LimitPeriod;

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

    fn id(dimension: Dimension, routes: Option<&[&str]>) -> LimitId {
        let names = |routes: &[&str]| RouteNames::new(routes.iter().map(|name| (*name).into()).collect());
        LimitId { scope: Scope::Team, name: "t".into(), routes: routes.map(names), dimension, per: LimitPeriod::None, ordinal: 0 }
    }

    fn status(remaining: u64, seconds: u64) -> LimitStatus {
        LimitStatus { limit: 9, remaining, reset: Duration::from_secs(seconds), ..LimitStatus::default() }
    }

    #[test]
    fn the_tightest_has_the_least_remaining_then_the_longest_reset() {
        let tightest = |all: &[LimitStatus]| {
            let mut headers = LimitHeaders::default();
            all.iter().for_each(|status| headers.add(&id(Dimension::Requests, None), || *status));
            headers.requests.unwrap().status
        };
        assert_eq!(tightest(&[status(5, 1), status(3, 2)]), status(3, 2));
        assert_eq!(tightest(&[status(3, 1), status(5, 2)]), status(3, 1));
        assert_eq!(tightest(&[status(3, 1), status(3, 2)]), status(3, 2));
        assert_eq!(tightest(&[status(3, 2), status(3, 1)]), status(3, 2));
    }

    #[test]
    fn of_all_that_apply_the_tightest_are_told() {
        let mut headers = LimitHeaders::default();
        headers.add(&id(Dimension::Requests, None), || status(3, 0));
        let mut others = LimitHeaders::default();
        others.add(&id(Dimension::Requests, Some(&["r"])), || status(5, 0));
        others.add(&id(Dimension::Tokens, None), || status(7, 0));
        headers.merge(&others);
        headers.add(&id(Dimension::Tokens, Some(&["r"])), || status(2, 0));
        headers.add(&id(Dimension::Usd, None), || unreachable!("money is not told"));
        let told = |tightest: Option<Tightest>| tightest.map(|told| (told.status.remaining, told.routes.is_some()));
        assert_eq!((told(headers.requests), told(headers.tokens)), (Some((3, false)), Some((2, true))));
    }

    fn written(headers: &LimitHeaders) -> Vec<String> {
        let mut map = HeaderMap::new();
        headers.add_to(&mut map);
        map.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect()
    }

    #[test]
    fn only_what_is_limited_is_told() {
        let mut headers = LimitHeaders::default();
        headers.add(&id(Dimension::Tokens, None), || LimitStatus { limit: 60, ..status(12, 48) });
        assert_eq!(
            written(&headers),
            ["x-ratelimit-limit-tokens: 60", "x-ratelimit-remaining-tokens: 12", "x-ratelimit-reset-tokens: 48s"]
        );
    }

    #[test]
    fn a_limit_of_routes_and_one_that_refuses_say_which_they_are() {
        let mut headers = LimitHeaders::default();
        headers.add(&id(Dimension::Tokens, Some(&["o3", "gpt-5"])), || status(12, 48));
        assert_eq!(written(&headers)[3..], ["x-ratelimit-scope-tokens: team;routes=\"gpt-5, o3\""]);
        let exceeded = |routes| LimitHeaders { exceeded: Some((Scope::Key, Dimension::Usd, routes)), ..LimitHeaders::default() };
        assert_eq!(written(&exceeded(None)), ["x-ratelimit-exceeded: key;dimension=usd"]);
        let odd = id(Dimension::Usd, Some(&["a\"b", "ü", "c\\", "d", "e"])).routes;
        assert_eq!(written(&exceeded(odd)), ["x-ratelimit-exceeded: key;dimension=usd;routes=\"a\\\"b, c\\\\, d and 2 more\""]);
    }
}
