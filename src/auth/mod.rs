//! Authenticates a request: from its headers to a [`Principal`], by a key of a team or a token of an issuer ([`jwt`]).
//!
//! A key is 256 random bits, so an unsalted SHA-256 is enough: the configuration stores digests only, and the lookup
//! leaks no timing information about other keys. The client gets the same error for every failure of a key; the reason is logged
//! and counted. That of a token says what is wrong with it.

use crate::closed_set::closed_set;
use crate::error::{ApiError, ErrorKind};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName};
use jwt::source::{KeySource, UNKNOWN_KEY_INTERVAL};
use jwt::token::MAX_TOKEN;
use jwt::{Identity, Tokens};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;
use tenants::{AuthMode, Tenants};

pub mod jwt;
pub mod key;
pub mod tenants;

/// Maximum length of a key, in bytes.
const MAX_KEY: usize = 512;

/// Who asks: a team, and a key or the identity of a token. Only [`authenticate`] creates one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    team: usize,
    key: Option<usize>,
    identity: Option<Arc<Identity>>,
}

impl Principal {
    /// Index into [`Tenants::teams`].
    pub fn team(&self) -> usize {
        self.team
    }

    /// Index into [`Tenants::keys`]; of a token that of the team's user, if the team names it.
    pub fn key(&self) -> Option<usize> {
        self.key
    }

    /// The id of the key, or that of the token.
    pub fn id<'a>(&'a self, tenants: &'a Tenants) -> &'a str {
        match &self.identity {
            Some(identity) => &identity.id,
            None => self.key.and_then(|key| tenants.keys.get(key)).map_or("", |key| &key.id),
        }
    }

    /// What a message to the client calls it: `key`; of a token `user` where its team names it, which has limits then, else `token`.
    pub fn noun(&self) -> &'static str {
        match (&self.identity, self.key) {
            (None, _) => "key",
            (Some(_), Some(_)) => "user",
            (Some(_), None) => "token",
        }
    }

    /// What it has shown; `None` where nothing is asked for.
    pub fn credential(&self, tenants: &Tenants) -> Option<Credential> {
        if self.identity.is_some() {
            return Some(Credential::Token);
        }
        let key = self.key.and_then(|key| tenants.keys.get(key))?;
        key.digest.is_some().then_some(Credential::Key)
    }
}

closed_set! {
    /// What a client shows.
    Credential {
        /// A key of a team.
        Key = "key",
        /// A token of an issuer.
        Token = "token",
    }
}

closed_set! {
    /// Why a client was rejected; logged and counted. Of a key it is never sent to the client.
    AuthFailure {
        /// No key.
        Missing = "missing",
        /// Not a key.
        Malformed = "malformed",
        /// An unknown key.
        Unknown = "unknown",
        /// An expired key.
        Expired = "expired",
        /// A disabled key, or a token of a disabled user.
        Disabled = "disabled",
        /// A valid key or token that may not use the route.
        Forbidden = "forbidden",
        /// A token that is too long, cannot be read, needs an unknown extension or is for something else.
        TokenMalformed = "token_malformed",
        /// A token of an issuer that is not configured.
        TokenIssuer = "token_issuer",
        /// A token whose algorithm is not allowed or does not fit the key.
        TokenAlgorithm = "token_algorithm",
        /// A token that is signed with a key that the issuer does not publish.
        TokenKey = "token_key",
        /// A token that names no key, while its issuer has several for its algorithm.
        TokenKeyUnnamed = "token_key_unnamed",
        /// A token with a wrong signature.
        TokenSignature = "token_signature",
        /// An expired token.
        TokenExpired = "token_expired",
        /// A token that is not valid yet.
        TokenEarly = "token_not_yet_valid",
        /// A token for another audience.
        TokenAudience = "token_audience",
        /// A token that lacks a claim, or has one of another type.
        TokenClaim = "token_claim",
        /// A token that names no team, or several.
        TokenTeam = "token_team",
        /// A token whose issuer's keys could not be fetched yet.
        JwksUnavailable = "jwks_unavailable",
    }
}

impl AuthFailure {
    /// Whether what was shown is no key of the gateway's, and no token of an issuer of its.
    const fn is_foreign(self) -> bool {
        matches!(self, Self::Malformed | Self::Unknown | Self::TokenMalformed | Self::TokenIssuer)
    }
}

/// Why a request is refused.
#[derive(Debug)]
pub struct Refusal {
    /// For the log and metrics.
    pub failure: AuthFailure,
    /// The claim to blame.
    claim: Option<Box<str>>,
    /// Keys that a fetch may bring: wait for it ([`KeySource::wait`]), then authenticate again.
    pub awaits: Option<Arc<KeySource>>,
}

impl From<AuthFailure> for Refusal {
    fn from(failure: AuthFailure) -> Self {
        Self { failure, claim: None, awaits: None }
    }
}

impl Refusal {
    fn claim(name: &str) -> Self {
        Self { claim: Some(name.into()), ..AuthFailure::TokenClaim.into() }
    }

    fn team(name: &str) -> Self {
        Self { claim: Some(name.into()), ..AuthFailure::TokenTeam.into() }
    }

    fn awaits(failure: AuthFailure, awaits: Option<Arc<KeySource>>) -> Self {
        Self { awaits, ..failure.into() }
    }

    /// The client's error: a 401 to which the edge adds `www-authenticate: Bearer`, the same for every failure of a key; or a 503
    /// while the keys of the token's issuer are not there. `mode` is what could have been shown.
    pub fn error(&self, mode: &AuthMode) -> ApiError {
        use AuthFailure as F;
        let claim = self.claim.as_deref().unwrap_or_default();
        let message = match self.failure {
            F::Missing | F::Malformed | F::Unknown | F::Expired | F::Disabled | F::Forbidden => needed(mode).into(),
            F::TokenMalformed => format!(
                "The token cannot be used: it must be a signed JWT for access, without extensions (`crit`), of at most {MAX_TOKEN} bytes."
            ),
            F::TokenIssuer => "The token's issuer (`iss`) is not one that this gateway accepts.".into(),
            F::TokenAlgorithm => "The token's algorithm (`alg`) is not one that this gateway accepts of its issuer for its key.".into(),
            F::TokenKey => format!(
                "The token is signed with a key (`kid`) that its issuer does not publish. After a change of keys try again in {} seconds.",
                UNKNOWN_KEY_INTERVAL.as_secs()
            ),
            F::TokenKeyUnnamed => {
                "The token does not name the key that it is signed with (`kid`); its issuer has several for its algorithm (`alg`).".into()
            }
            F::TokenSignature => "The token's signature is wrong.".into(),
            F::TokenExpired => "The token has expired (`exp`); get a new one from its issuer.".into(),
            F::TokenEarly => "The token is not valid yet (`nbf`, `iat`); compare the clocks.".into(),
            F::TokenAudience => "The token is for another audience (`aud`).".into(),
            F::TokenClaim => format!("The token's claim `{claim}` is missing or not of its type."),
            F::TokenTeam => format!("The token's claim `{claim}` must name exactly one team of this gateway."),
            F::JwksUnavailable => {
                let wait = self.awaits.as_ref().map_or(Duration::ZERO, |keys| keys.next_fetch()).max(Duration::from_secs(1));
                let message = "The keys of the token's issuer cannot be fetched at the moment. Try again in a moment.";
                return ApiError::new(503, ErrorKind::Overloaded, message).with_retry_after(wait);
            }
        };
        ApiError::new(401, ErrorKind::Authentication, message)
    }
}

/// What a client needs that has shown nothing, or a bad key.
fn needed(mode: &AuthMode) -> &'static str {
    match mode {
        AuthMode::Credential { keys: false, .. } => "A valid token is needed: send yours as `Authorization: Bearer TOKEN`.",
        AuthMode::Credential { issuers, .. } if !issuers.is_empty() => {
            "A valid API key or token is needed: send yours as `Authorization: Bearer KEY_OR_TOKEN`."
        }
        AuthMode::Credential { .. } | AuthMode::None => "A valid API key is needed: send yours as `Authorization: Bearer KEY`.",
    }
}

/// Authenticates a request by its first key or token that is the gateway's to judge: clients send others' beside it, as Claude
/// Code does with its login at Anthropic. `tokens` are those of the configuration of `tenants`; `now_unix` is in seconds since the epoch.
///
/// # Errors
/// Why it failed.
pub fn authenticate(tenants: &Tenants, tokens: Option<&Tokens>, headers: &HeaderMap, now_unix: i64) -> Result<Principal, Refusal> {
    let AuthMode::Credential { keys, .. } = &tenants.mode else {
        // The configuration appends the team and key `anonymous`.
        let last = |len: usize| len.saturating_sub(1);
        return Ok(Principal { team: last(tenants.teams.len()), key: Some(last(tenants.keys.len())), identity: None });
    };
    let mut refusal = None;
    for text in credentials(headers) {
        match text.map_err(Refusal::from).and_then(|text| identify(tenants, tokens, text, *keys, now_unix)) {
            Err(refused) if refused.failure.is_foreign() => _ = refusal.get_or_insert(refused),
            found => return found,
        }
    }
    Err(refusal.unwrap_or_else(|| AuthFailure::Missing.into()))
}

/// Whose key or token it is.
fn identify(tenants: &Tenants, tokens: Option<&Tokens>, text: &[u8], keys: bool, now_unix: i64) -> Result<Principal, Refusal> {
    if text.len() > MAX_KEY && tokens.is_none() {
        return Err(AuthFailure::Malformed.into());
    }
    if text.len() > MAX_TOKEN {
        return Err(AuthFailure::TokenMalformed.into());
    }
    let digest: [u8; 32] = Sha256::digest(text).into();
    if let Some(found) = tokens.and_then(|tokens| tokens.principal(text, &digest, now_unix)) {
        return found;
    }
    let index = *tenants.digests.get(&digest).filter(|_| keys).ok_or(AuthFailure::Unknown)?;
    let key = tenants.keys.get(index).ok_or(AuthFailure::Unknown)?;
    if key.disabled {
        return Err(AuthFailure::Disabled.into());
    }
    if key.expires.is_some_and(|expires| now_unix >= expires) {
        return Err(AuthFailure::Expired.into());
    }
    Ok(Principal { team: key.team, key: Some(index), identity: None })
}

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const API_KEY: HeaderName = HeaderName::from_static("api-key");

/// The keys or tokens in `authorization`, and in the headers that some client libraries use.
fn credentials(headers: &HeaderMap) -> impl Iterator<Item = Result<&[u8], AuthFailure>> {
    [(AUTHORIZATION, true), (X_API_KEY, false), (API_KEY, false)].into_iter().filter_map(|(name, is_bearer)| {
        let mut values = headers.get_all(name).iter();
        let value = values.next()?.as_bytes().trim_ascii();
        let text = if is_bearer { after_bearer(value) } else { Some(value) };
        let is_fit = |text: &&[u8]| values.next().is_none() && !text.is_empty() && text.iter().all(u8::is_ascii_graphic);
        Some(text.filter(is_fit).ok_or(AuthFailure::Malformed))
    })
}

/// RFC 9110, section 11.1: the scheme is case-insensitive and followed by one or more spaces.
fn after_bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(6)?;
    (scheme.eq_ignore_ascii_case(b"bearer") && rest.first() == Some(&b' ')).then(|| rest.trim_ascii_start())
}

/// Whether a principal may use a route, by the routes of its team, its key and its token.
pub fn may_use(principal: &Principal, tenants: &Tenants, route: usize) -> bool {
    let Some(team) = tenants.teams.get(principal.team) else { return false };
    let key = match principal.key {
        Some(key) => match tenants.keys.get(key) {
            Some(key) => key.routes.as_ref(),
            None => return false,
        },
        None => None,
    };
    let token = principal.identity.as_ref().and_then(|identity| identity.routes.as_ref());
    [team.routes.as_ref(), key, token].into_iter().flatten().all(|set| set.has(route))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::hex;
    use http::{HeaderName, HeaderValue};

    const NOW: i64 = 1_800_000_000;

    fn tenants(auth: &str) -> Tenants {
        let sha = |text: &str| hex::encode(&Sha256::digest(text));
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
        let principal = authenticate(tenants, None, &map, now).map_err(|refusal| {
            let error = |refusal: &Refusal| refusal.error(&tenants.mode);
            assert_eq!(error(&refusal), error(&AuthFailure::Missing.into()), "the answer is the same for every reason");
            refusal.failure
        })?;
        assert_eq!(tenants.keys[principal.key().unwrap()].team, principal.team());
        assert_eq!(principal.credential(tenants).is_some(), !matches!(tenants.mode, AuthMode::None));
        Ok(principal.id(tenants).to_owned().leak())
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
    fn a_key_beside_a_credential_of_another_service_is_known() {
        let tenants = tenants("keys");
        for foreign in ["Bearer sk-ant-oat01-xxxx", "Basic dGc6Z29vZA==", "Bearer ", "Bearer a.b.c"] {
            assert_eq!(ask(&tenants, &[("authorization", foreign), ("x-api-key", "tg-good")], NOW), Ok("good"), "{foreign}");
            assert_eq!(ask(&tenants, &[("authorization", foreign), ("api-key", "tg-good")], NOW), Ok("good"), "{foreign}");
            let off = [("authorization", foreign), ("x-api-key", "tg-off"), ("api-key", "tg-good")];
            assert_eq!(ask(&tenants, &off, NOW), Err(AuthFailure::Disabled), "a known key decides");
        }
        assert_eq!(ask(&tenants, &[("authorization", "Bearer tg-old"), ("x-api-key", "tg-good")], NOW), Err(AuthFailure::Expired));
        assert_eq!(ask(&tenants, &[("authorization", "Bearer x"), ("x-api-key", "")], NOW), Err(AuthFailure::Unknown));
    }

    #[test]
    fn a_client_is_asked_for_what_is_accepted() {
        let jwt = "jwt: [ { issuer: \"https://idp.example.com\", audience: a } ]";
        for (auth, asked) in [
            ("keys".to_owned(), "A valid API key is needed: send yours as `Authorization: Bearer KEY`."),
            ("{ keys: true }".to_owned(), "A valid API key is needed: send yours as `Authorization: Bearer KEY`."),
            (format!("{{ {jwt} }}"), "A valid API key or token is needed: send yours as `Authorization: Bearer KEY_OR_TOKEN`."),
            (format!("{{ keys: false, {jwt} }}"), "A valid token is needed: send yours as `Authorization: Bearer TOKEN`."),
        ] {
            let tenants = tenants(&auth);
            for failure in [AuthFailure::Missing, AuthFailure::Unknown, AuthFailure::Disabled] {
                assert_eq!(Refusal::from(failure).error(&tenants.mode).message, asked, "{auth}");
            }
        }
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
        }
        assert_eq!(ask(&tenants, &[("authorization", "Bearer tg-old")], NOW - 1), Ok("old"));
    }

    #[test]
    fn without_authentication_everybody_is_anonymous_and_may_use_all() {
        let tenants = tenants("none");
        assert_eq!(ask(&tenants, &[("authorization", "Bearer whatever")], NOW), Ok("anonymous"));
        let principal = authenticate(&tenants, None, &HeaderMap::new(), NOW).unwrap();
        assert_eq!(tenants.teams[principal.team()].name.as_ref(), "anonymous");
        assert!((0..3).all(|route| may_use(&principal, &tenants, route)));
        assert_eq!(principal.credential(&tenants), None);
    }

    #[test]
    fn a_key_can_only_narrow_what_its_team_may() {
        let tenants = tenants("keys");
        let may = |key: usize| {
            (0..3).map(|route| may_use(&Principal { team: 0, key: Some(key), identity: None }, &tenants, route)).collect::<Vec<_>>()
        };
        assert_eq!(may(0), [true, true, false]);
        assert_eq!(may(1), [false, true, false]);
    }
}
