//! Google access tokens: one that is always good, and `POST /vertex/token`, which exchanges a service account's JWT or
//! a user's refresh token for one that is good for an hour.
//!
//! Tokens carry their own end and a check value, so that none has to be remembered. The signature of a JWT is not
//! verified: the simulator knows nobody's public key. Everything else of it is.

use crate::simulate::dialect::{Incoming, Refusal, unescape};
use crate::simulate::seen::sha256_hex;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// Where tokens are given out.
pub(in crate::simulate) const PATH: &str = "/vertex/token";
/// The token that is always good: the demo's.
pub const DEMO_TOKEN: &str = "ya29.demo";
/// Seconds for which a token is good.
const LIFETIME: u64 = 3_600;
/// Seconds by which clocks may differ.
const SKEW: u64 = 60;
/// The scope that a JWT must ask for.
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// The audience that Google's own libraries sign, whatever the token's address.
const AUDIENCE: &str = "https://oauth2.googleapis.com/token";

/// Whether the request has a live access token.
///
/// # Errors
/// A 401.
pub(in crate::simulate) fn check(request: &Incoming<'_>) -> Result<(), Refusal> {
    let token = request.header("authorization").strip_prefix("Bearer ").unwrap_or_default();
    if is_live(token, now()) { Ok(()) } else { Err(Refusal::status(401, "Request had invalid authentication credentials.")) }
}

fn is_live(token: &str, now: u64) -> bool {
    let expires = token.strip_prefix("ya29.sim-").and_then(|rest| rest.split_once('-')?.0.parse().ok());
    token == DEMO_TOKEN || expires.is_some_and(|expires| expires > now && token == issue(expires))
}

fn issue(expires: u64) -> String {
    let check: String = sha256_hex(format!("the simulator's token until {expires}").as_bytes()).chars().take(24).collect();
    format!("ya29.sim-{expires}-{check}")
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// Answers a token request, a form: its status and its body.
pub(in crate::simulate) fn exchange(body: &[u8]) -> (u16, Value) {
    let now = now();
    match granted(&String::from_utf8_lossy(body), now) {
        Ok(()) => (200, json!({ "access_token": issue(now + LIFETIME), "expires_in": LIFETIME, "token_type": "Bearer" })),
        Err((error, why)) => (400, json!({ "error": error, "error_description": why })),
    }
}

fn granted(form: &str, now: u64) -> Result<(), (&'static str, &'static str)> {
    let field = |name: &str| {
        let pair = form.split('&').find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name));
        pair.map_or_else(String::new, |(_, value)| unescape(&value.replace('+', " ")))
    };
    match field("grant_type").as_str() {
        "urn:ietf:params:oauth:grant-type:jwt-bearer" => assertion(&field("assertion"), now).map_err(|why| ("invalid_grant", why)),
        "refresh_token" => match ["refresh_token", "client_id", "client_secret"].iter().any(|name| field(name).is_empty()) {
            true => Err(("invalid_request", "refresh_token, client_id and client_secret are required")),
            false => Ok(()),
        },
        _ => Err(("unsupported_grant_type", "only JWT assertions and refresh tokens are exchanged")),
    }
}

fn assertion(jwt: &str, now: u64) -> Result<(), &'static str> {
    let parts: Vec<Vec<u8>> = jwt.split('.').filter_map(|part| URL_SAFE_NO_PAD.decode(part).ok()).collect();
    let [head, claims, signature] = parts.as_slice() else { return Err("the assertion is no JWT") };
    let json = |part: &[u8]| serde_json::from_slice::<Value>(part).unwrap_or_default();
    let (head, claims) = (json(head), json(claims));
    let text = |key: &str| claims.get(key).and_then(Value::as_str).unwrap_or_default();
    let time = |key: &str| claims.get(key).and_then(Value::as_u64).unwrap_or(0);
    let (issued, expires) = (time("iat"), time("exp"));
    let audience = text("aud");
    if head.get("alg").is_none_or(|alg| alg != "RS256") || signature.is_empty() {
        Err("the assertion is not signed by RS256")
    } else if !text("iss").contains('@') {
        Err("`iss` is not a service account")
    } else if audience != AUDIENCE && !audience.ends_with(PATH) {
        Err("`aud` is not the token's address")
    } else if !text("scope").split(' ').any(|scope| scope == SCOPE) {
        Err("`scope` is not cloud-platform")
    } else if issued > now + SKEW || expires <= now || expires.saturating_sub(issued) > LIFETIME {
        Err("`iat` and `exp` are not an hour at most, or not now")
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_end_and_cannot_be_made_up() {
        let token = issue(1_000);
        assert!(is_live(&token, 999) && is_live(DEMO_TOKEN, 999));
        for bad in ["", "ya29.other", "ya29.sim-2000-0", &token.replace("1000", "2000")] {
            assert!(!is_live(bad, 999), "{bad}");
        }
        assert!(!is_live(&token, 1_000));
    }

    #[test]
    fn what_is_exchanged() {
        let jwt = |change: Value| {
            let mut claims = json!({ "iss": "a@b", "scope": SCOPE, "aud": AUDIENCE, "iat": 1_000, "exp": 4_600 });
            claims.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
            let assertion = format!("{}.{}.c2ln", part(&json!({ "alg": "RS256" })), part(&claims));
            granted(&format!("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={assertion}"), 1_001)
        };
        assert_eq!(jwt(json!({})), Ok(()));
        for bad in [json!({ "iss": "" }), json!({ "aud": "x" }), json!({ "scope": "" }), json!({ "exp": 1_001 }), json!({ "iat": 2_000 })] {
            assert_eq!(jwt(bad.clone()).unwrap_err().0, "invalid_grant", "{bad}");
        }
        assert_eq!(granted("grant_type=refresh_token&refresh_token=r&client_id=i&client_secret=s", 0), Ok(()));
        assert!(granted("grant_type=refresh_token&client_id=i&client_secret=s", 0).is_err());
        assert_eq!(granted("grant_type=password", 0).unwrap_err().0, "unsupported_grant_type");
    }
}
