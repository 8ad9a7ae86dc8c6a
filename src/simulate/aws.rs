//! What AWS's services have in common: who may ask, what an error looks like, and messages of an event stream.

use super::dialect::{Incoming, Refusal};
use crate::frame::aws_event_stream::write_message;
use crate::secret::Secret;
use crate::sign::aws::{AwsCredentials, ToSign, hash, sign};
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use std::time::{Duration, SystemTime};

/// The access key id whose signatures are verified: the demo's. Other ids are taken at their word.
pub const DEMO_KEY_ID: &str = "AKIATIDEGATEDEMO";
/// Its secret.
pub const DEMO_SECRET: &str = "demo-secret-access-key";
/// How old a signature may be.
const MAX_AGE: Duration = Duration::from_secs(300);
/// Headers that the signer adds by itself.
const SIGNERS_OWN: [&str; 4] = ["host", "x-amz-date", "x-amz-content-sha256", "x-amz-security-token"];

/// `content-type` of an event stream.
pub(super) const EVENT_STREAM: &str = "application/vnd.amazon.eventstream";

/// What an `authorization` header of AWS says.
struct Claim<'a> {
    id: &'a str,
    day: &'a str,
    region: &'a str,
    service: &'a str,
    signed: Vec<&'a str>,
}

impl<'a> Claim<'a> {
    fn of(authorization: &'a str) -> Option<Self> {
        let mut parts = authorization.strip_prefix("AWS4-HMAC-SHA256 ")?.split(',').map(str::trim);
        let credential: Vec<&str> = parts.next()?.strip_prefix("Credential=")?.split('/').collect();
        let signed: Vec<&str> = parts.next()?.strip_prefix("SignedHeaders=")?.split(';').collect();
        let signature = parts.next()?.strip_prefix("Signature=")?;
        let [id, day, region, service, "aws4_request"] = credential.as_slice() else { return None };
        let good = signature.len() == 64 && signature.bytes().all(|b| b.is_ascii_hexdigit()) && parts.next().is_none();
        let good = good && day.len() == 8 && !id.is_empty() && !region.is_empty() && signed.is_sorted();
        good.then_some(Self { id, day, region, service, signed })
    }
}

fn refuse<T>(code: &'static str, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { code, ..Refusal::status(403, message) })
}

/// Whether the request is signed for `service`, or has a key of Bedrock's own where `bearer` says that there are such.
///
/// # Errors
/// A 403.
pub(super) fn check(request: &Incoming<'_>, service: &str, bearer: bool) -> Result<(), Refusal> {
    let authorization = request.header("authorization");
    if authorization.is_empty() {
        return refuse("MissingAuthenticationTokenException", "Missing Authentication Token");
    }
    if let Some(key) = authorization.strip_prefix("Bearer ").filter(|_| bearer) {
        let good = ["ABSK", "bedrock-api-key-"].iter().any(|prefix| key.starts_with(prefix)) && request.header("x-amz-date").is_empty();
        return if good { Ok(()) } else { refuse("AccessDeniedException", "Invalid API Key format: Must start with pre-defined prefix") };
    }
    let Some(claim) = Claim::of(authorization) else {
        return refuse("IncompleteSignatureException", "Authorization header is not an AWS4-HMAC-SHA256 signature with its scope.");
    };
    if claim.service != service {
        return refuse("InvalidSignatureException", format!("Credential should be scoped to correct service: '{service}'."));
    }
    let date = request.header("x-amz-date");
    let token = request.header("x-amz-security-token");
    let unsigned = |name: &&str| !claim.signed.contains(name);
    if ["host", "x-amz-date"].iter().any(unsigned) || (!token.is_empty() && unsigned(&"x-amz-security-token")) {
        return refuse("InvalidSignatureException", "'host', 'x-amz-date' and 'x-amz-security-token' must be signed.");
    }
    let Some(time) = instant(date).filter(|_| date.starts_with(claim.day)) else {
        return refuse("IncompleteSignatureException", "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date.");
    };
    let now = SystemTime::now();
    if now.duration_since(time).or_else(|_| time.duration_since(now)).is_ok_and(|age| age > MAX_AGE) {
        return refuse("InvalidSignatureException", format!("Signature expired: {date} is more than five minutes away."));
    }
    if claim.id != DEMO_KEY_ID || resigned(request, &claim, time).as_deref() == Some(authorization) {
        return Ok(());
    }
    refuse(
        "InvalidSignatureException",
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method.",
    )
}

/// `20260203T040506Z`.
fn instant(date: &str) -> Option<SystemTime> {
    let date = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", date).ok()?;
    let seconds = date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second();
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(seconds).ok()?))
}

/// What the header would be if the demo's keys had signed this request, its body's hash included.
fn resigned(request: &Incoming<'_>, claim: &Claim<'_>, time: SystemTime) -> Option<String> {
    let others = claim.signed.iter().filter(|name| !SIGNERS_OWN.contains(name));
    let headers: Option<Vec<(HeaderName, HeaderValue)>> =
        others.map(|name| Some((HeaderName::from_bytes(name.as_bytes()).ok()?, request.headers.get(*name)?.clone()))).collect();
    let to_sign = ToSign {
        method: "POST",
        authority: request.headers.get("host")?,
        path_and_query: request.path_and_query,
        headers: &headers?,
        body_hash: hash([request.body]),
        region: claim.region,
        service: claim.service,
        time,
    };
    let token = Some(request.header("x-amz-security-token")).filter(|token| !token.is_empty()).map(|token| Secret::new(token.to_owned()));
    let credentials = AwsCredentials::new(DEMO_KEY_ID, Secret::new(DEMO_SECRET.to_owned()), token.as_ref(), None).ok()?;
    let added = sign(&to_sign, &credentials).ok()?;
    let (_, value) = added.iter().find(|(name, _)| name == http::header::AUTHORIZATION)?;
    value.to_str().ok().map(str::to_owned)
}

/// The exception of a refusal: its own where it has one, else that of its status.
pub(super) fn exception(refusal: &Refusal) -> &'static str {
    match refusal.status {
        _ if refusal.code.ends_with("Exception") => refusal.code,
        400 | 413 | 422 => "ValidationException",
        401 | 403 => "AccessDeniedException",
        404 => "ResourceNotFoundException",
        408 => "ModelTimeoutException",
        424 => "ModelErrorException",
        429 => "ThrottlingException",
        503 => "ServiceUnavailableException",
        _ => "InternalServerException",
    }
}

/// Headers of an error: its type, with the address that AWS puts behind it, and the request's name.
pub(super) fn refusal_headers(refusal: &Refusal, exception: &str) -> Vec<(&'static str, String)> {
    let after = refusal.retry_after.iter().map(|after| ("retry-after", after.clone()));
    let kind = format!("{exception}:http://internal.amazon.com/coral/com.amazon.runtime/");
    after.chain([("x-amzn-errortype", kind), ("x-amzn-requestid", "00000000-0000-4000-8000-000000000000".to_owned())]).collect()
}

/// One message of an event stream: an event, or an exception.
pub(super) fn message(is_event: bool, kind: &str, payload: &[u8]) -> Bytes {
    let (key, class) = if is_event { (":event-type", "event") } else { (":exception-type", "exception") };
    let mut out = Vec::new();
    write_message(&mut out, &[(key, kind), (":content-type", "application/json"), (":message-type", class)], payload);
    Bytes::from(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;

    const PATH: &str = "/bedrock/model/a%3A0/converse";

    fn signed(service: &str, secret: &str, time: SystemTime) -> HeaderMap {
        let host = HeaderValue::from_static("127.0.0.1:1");
        let headers = [(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        let to_sign = ToSign {
            method: "POST",
            authority: &host,
            path_and_query: PATH,
            headers: &headers,
            body_hash: hash([&b"{}"[..]]),
            region: "us-east-1",
            service,
            time,
        };
        let credentials = AwsCredentials::new(DEMO_KEY_ID, Secret::new(secret.to_owned()), None, None).unwrap();
        let added = sign(&to_sign, &credentials).unwrap();
        headers.into_iter().chain(added).chain([(http::header::HOST, host)]).collect()
    }

    fn verdict(headers: &HeaderMap, body: &[u8]) -> &'static str {
        check(&Incoming { path_and_query: PATH, headers, body }, "bedrock", true).map_or_else(|refusal| refusal.code, |()| "good")
    }

    #[test]
    fn signatures_are_verified() {
        let now = SystemTime::now();
        let good = signed("bedrock", DEMO_SECRET, now);
        assert_eq!(verdict(&good, b"{}"), "good");
        assert_eq!(verdict(&good, b"{ }"), "InvalidSignatureException");
        assert_eq!(verdict(&signed("bedrock", "another", now), b"{}"), "InvalidSignatureException");
        assert_eq!(verdict(&signed("sagemaker", DEMO_SECRET, now), b"{}"), "InvalidSignatureException");
        assert_eq!(verdict(&signed("bedrock", DEMO_SECRET, now - MAX_AGE * 2), b"{}"), "InvalidSignatureException");
        let stranger = good["authorization"].to_str().unwrap().replace(DEMO_KEY_ID, "AKIAOTHER");
        let mut headers = good;
        headers.insert("authorization", stranger.parse().unwrap());
        assert_eq!(verdict(&headers, b"{ }"), "good", "nobody knows the secret of another id");
        headers.remove("x-amz-date");
        assert_eq!(verdict(&headers, b"{}"), "IncompleteSignatureException");
        for (authorization, expected) in
            [("Bearer ABSKkey", "good"), ("Bearer sk-1", "AccessDeniedException"), ("AWS4-HMAC-SHA256 x", "IncompleteSignatureException")]
        {
            headers.insert("authorization", authorization.parse().unwrap());
            assert_eq!(verdict(&headers, b"{}"), expected);
        }
        assert_eq!(verdict(&HeaderMap::new(), b"{}"), "MissingAuthenticationTokenException");
    }
}
