//! Authenticates a request: from its headers to a [`Principal`].
//!
//! A key is 256 random bits, so an unsalted SHA-256 is enough: the configuration stores digests only, and the lookup
//! leaks no timing information about other keys. The client gets the same error for every failure; the reason is logged
//! and counted.

use crate::closed_set::closed_set;
use crate::error::{ApiError, ErrorKind};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName};
use sha2::{Digest, Sha256};
use tenants::{AuthMode, Tenants};

pub mod key;
pub mod tenants;

/// Maximum length of a key, in bytes.
const MAX_KEY: usize = 512;

/// An authenticated team and key, by index. Only [`authenticate`] creates one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Principal {
    team: usize,
    key: usize,
}

impl Principal {
    /// Index into [`Tenants::teams`].
    pub fn team(self) -> usize {
        self.team
    }

    /// Index into [`Tenants::keys`].
    pub fn key(self) -> usize {
        self.key
    }
}

closed_set! {
    /// Why a client was rejected; logged and counted, never sent to it.
    AuthFailure {
        /// No key.
        Missing = "missing",
        /// Not a key.
        Malformed = "malformed",
        /// An unknown key.
        Unknown = "unknown",
        /// An expired key.
        Expired = "expired",
        /// A disabled key.
        Disabled = "disabled",
        /// A valid key that may not use the route.
        Forbidden = "forbidden",
    }
}

impl AuthFailure {
    /// The client's error, the same for every reason. The edge adds `www-authenticate: Bearer`.
    pub fn error(self) -> ApiError {
        ApiError::new(401, ErrorKind::Authentication, "A valid API key is needed: send yours as `Authorization: Bearer KEY`.")
    }
}

/// Authenticates a request. `now_unix` is in seconds since the epoch.
///
/// # Errors
/// Why it failed.
pub fn authenticate(tenants: &Tenants, headers: &HeaderMap, now_unix: i64) -> Result<Principal, AuthFailure> {
    if tenants.mode == AuthMode::None {
        // The configuration appends the team and key `anonymous`.
        let last = |len: usize| len.saturating_sub(1);
        return Ok(Principal { team: last(tenants.teams.len()), key: last(tenants.keys.len()) });
    }
    let digest: [u8; 32] = Sha256::digest(key_text(headers)?).into();
    let index = *tenants.digests.get(&digest).ok_or(AuthFailure::Unknown)?;
    let key = tenants.keys.get(index).ok_or(AuthFailure::Unknown)?;
    if key.disabled {
        return Err(AuthFailure::Disabled);
    }
    if key.expires.is_some_and(|expires| now_unix >= expires) {
        return Err(AuthFailure::Expired);
    }
    Ok(Principal { team: key.team, key: index })
}

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const API_KEY: HeaderName = HeaderName::from_static("api-key");

/// The key in `authorization`, else in a header that some client libraries use.
fn key_text(headers: &HeaderMap) -> Result<&[u8], AuthFailure> {
    for (name, is_bearer) in [(AUTHORIZATION, true), (X_API_KEY, false), (API_KEY, false)] {
        let mut values = headers.get_all(name).iter();
        let Some(value) = values.next() else { continue };
        if values.next().is_some() {
            return Err(AuthFailure::Malformed);
        }
        let value = value.as_bytes().trim_ascii();
        let key = if is_bearer { after_bearer(value).ok_or(AuthFailure::Malformed)? } else { value };
        if key.is_empty() || key.len() > MAX_KEY || !key.iter().all(u8::is_ascii_graphic) {
            return Err(AuthFailure::Malformed);
        }
        return Ok(key);
    }
    Err(AuthFailure::Missing)
}

/// RFC 9110, section 11.1: the scheme is case-insensitive and followed by one or more spaces.
fn after_bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(6)?;
    (scheme.eq_ignore_ascii_case(b"bearer") && rest.first() == Some(&b' ')).then(|| rest.trim_ascii_start())
}

/// Whether a principal may use a route, by the routes of its team and its key.
pub fn may_use(principal: Principal, tenants: &Tenants, route: usize) -> bool {
    let (Some(team), Some(key)) = (tenants.teams.get(principal.team), tenants.keys.get(principal.key)) else { return false };
    [&team.routes, &key.routes].iter().all(|set| set.as_ref().is_none_or(|set| set.has(route)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::config;
    use http::{HeaderName, HeaderValue};

    const NOW: i64 = 1_800_000_000;

    fn tenants(auth: &str) -> Tenants {
        let sha = |text: &str| key::hex(&Sha256::digest(text).into());
        let text = format!(
            "providers: {{ p: {{ kind: openai, api_key: k }} }}\n\
             routes:\n  a: {{ targets: [ {{ provider: p, model: m }} ] }}\n  b: {{ targets: [ {{ provider: p, model: m }} ] }}\n  c: {{ targets: [ {{ provider: p, model: m }} ] }}\n\
             auth: {auth}\n\
             teams:\n  t: {{ routes: [a, b], keys: [ {{ id: good, sha256: \"{}\" }}, {{ id: narrow, sha256: \"{}\", routes: [b, c] }}, \
             {{ id: off, sha256: \"{}\", disabled: true }}, {{ id: old, sha256: \"{}\", expires: 2027-01-15T08:00:00Z }} ] }}\n",
            sha("tg-good"),
            sha("tg-narrow"),
            sha("tg-off"),
            sha("tg-old"),
        );
        config::parse(&text, "t", &|_| None).unwrap_or_else(|problems| panic!("{problems:?}")).snapshot.tenants
    }

    fn ask(tenants: &Tenants, headers: &[(&'static str, &'static str)], now: i64) -> Result<&'static str, AuthFailure> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let principal = authenticate(tenants, &map, now)?;
        assert_eq!(tenants.keys[principal.key()].team, principal.team());
        Ok(tenants.keys[principal.key()].id.to_string().leak())
    }

    #[test]
    fn a_key_in_any_of_the_three_headers_is_known() {
        let tenants = tenants("keys");
        for headers in [
            [("authorization", "Bearer tg-good")],
            [("authorization", "bEaReR   tg-good ")],
            [("x-api-key", "tg-good")],
            [("api-key", "tg-good")],
        ] {
            assert_eq!(ask(&tenants, &headers, NOW), Ok("good"), "{headers:?}");
        }
        assert_eq!(ask(&tenants, &[("x-api-key", "nobody"), ("authorization", "Bearer tg-good")], NOW), Ok("good"));
    }

    #[test]
    fn every_reason_is_told_apart_and_answered_alike() {
        use AuthFailure::{Disabled, Expired, Malformed, Missing, Unknown};
        let tenants = tenants("keys");
        for (headers, reason) in [
            (&[][..], Missing),
            (&[("authorization", "")], Malformed),
            (&[("authorization", "Bearer")], Malformed),
            (&[("authorization", "Bearer ")], Malformed),
            (&[("authorization", "tg-good")], Malformed),
            (&[("authorization", "Basic dGc6Z29vZA==")], Malformed),
            (&[("authorization", "Bearer tg-good tg-good")], Malformed),
            (&[("authorization", "Bearer tg-good"), ("authorization", "Bearer tg-good")], Malformed),
            (&[("authorization", "Bearer tg-Good")], Unknown),
            (&[("authorization", "Bearer anonymous")], Unknown),
            (&[("authorization", "Bearer tg-off")], Disabled),
            (&[("authorization", "Bearer tg-old")], Expired),
        ] {
            let failure = ask(&tenants, headers, NOW).unwrap_err();
            assert_eq!(failure, reason, "{headers:?}");
            assert_eq!(failure.error(), Missing.error());
        }
        assert_eq!(ask(&tenants, &[("authorization", "Bearer tg-old")], NOW - 1), Ok("old"));
    }

    #[test]
    fn without_authentication_everybody_is_anonymous_and_may_use_all() {
        let tenants = tenants("none");
        assert_eq!(ask(&tenants, &[("authorization", "Bearer whatever")], NOW), Ok("anonymous"));
        let principal = authenticate(&tenants, &HeaderMap::new(), NOW).unwrap();
        assert_eq!(tenants.teams[principal.team()].name.as_ref(), "anonymous");
        assert!((0..3).all(|route| may_use(principal, &tenants, route)));
    }

    #[test]
    fn a_key_can_only_narrow_what_its_team_may() {
        let tenants = tenants("keys");
        let may = |key: usize| (0..3).map(|route| may_use(Principal { team: 0, key }, &tenants, route)).collect::<Vec<_>>();
        assert_eq!(may(0), [true, true, false]);
        assert_eq!(may(1), [false, true, false]);
    }
}
