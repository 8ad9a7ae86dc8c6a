//! AWS Signature Version 4.
//!
//! The canonical request is hashed with time and scope and signed with a key derived for day, region and service.
//! Implemented on `ring`, which TLS needs anyway; tested against AWS's published example and signatures by botocore.

use crate::hex;
use crate::percent;
use crate::redact::KnownSecrets;
use crate::secret::Secret;
use http::header::{AUTHORIZATION, HOST, InvalidHeaderValue};
use http::{HeaderName, HeaderValue};
use ring::digest::{self, Digest};
use ring::hmac;
use std::fmt::Write;
use std::time::{Duration, SystemTime};

pub mod chain;
pub mod credentials;
mod profile;

/// Time of the signature.
const X_AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");
/// Hash of the body, for verification by proxies.
const X_AMZ_CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");
/// Session token of temporary credentials.
const X_AMZ_SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

/// AWS credentials.
pub struct AwsCredentials {
    access_key_id: String,
    secret_access_key: Secret,
    /// Session token of temporary credentials, marked as sensitive.
    session_token: Option<HeaderValue>,
    /// Expiry of temporary credentials.
    pub expires: Option<SystemTime>,
    /// Redacts fetched credentials from errors and logs.
    known: Option<KnownSecrets>,
}

impl AwsCredentials {
    /// Validates credentials.
    ///
    /// # Errors
    /// Which of them cannot be sent in a header, without its text.
    pub fn new(
        access_key_id: &str,
        secret_access_key: Secret,
        session_token: Option<&Secret>,
        expires: Option<SystemTime>,
    ) -> Result<Self, &'static str> {
        if access_key_id.is_empty() || !access_key_id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err("the access key id is empty or contains invalid characters");
        }
        if secret_access_key.expose().is_empty() {
            return Err("the secret access key is empty");
        }
        let session_token = session_token
            .map(|token| {
                let mut value = HeaderValue::from_str(token.expose())?;
                value.set_sensitive(true);
                Ok::<_, InvalidHeaderValue>(value)
            })
            .transpose()
            .map_err(|_| "the session token contains characters that a header cannot contain")?;
        Ok(Self { access_key_id: access_key_id.to_owned(), secret_access_key, session_token, expires, known: None })
    }

    /// Registers the credentials for redaction. Those in the configuration are registered already.
    pub fn known(mut self) -> Self {
        let token = self.session_token.as_ref().and_then(|token| token.to_str().ok());
        self.known = Some(KnownSecrets::new([&*self.access_key_id, self.secret_access_key.expose()].into_iter().chain(token)));
        self
    }
}

/// A request to sign.
#[derive(Clone, Copy)]
pub struct ToSign<'a> {
    /// Method, in upper case.
    pub method: &'a str,
    /// Value of `host`, with the port unless it is the scheme's default.
    pub authority: &'a HeaderValue,
    /// Path and query of the request line, percent-encoded.
    pub path_and_query: &'a str,
    /// Further headers to sign; they must be sent unchanged.
    pub headers: &'a [(HeaderName, HeaderValue)],
    /// The [`hash`] of the body.
    pub body_hash: Digest,
    /// AWS region of the host.
    pub region: &'a str,
    /// `bedrock` or `sagemaker`.
    pub service: &'a str,
    /// Current time; AWS tolerates a difference of five minutes.
    pub time: SystemTime,
}

/// Hash of a body in parts.
pub fn hash<'a>(body: impl IntoIterator<Item = &'a [u8]>) -> Digest {
    let mut context = digest::Context::new(&digest::SHA256);
    body.into_iter().for_each(|part| context.update(part));
    context.finish()
}

/// Returns the headers to add: `authorization` and those it covers.
///
/// # Errors
/// When region, service or time cannot be encoded.
pub fn sign(request: &ToSign<'_>, credentials: &AwsCredentials) -> Result<Vec<(HeaderName, HeaderValue)>, InvalidHeaderValue> {
    let stamp = timestamp(request.time);
    let hash = hex::encode(request.body_hash.as_ref());
    let mut added = vec![(X_AMZ_DATE, HeaderValue::from_str(&stamp)?), (X_AMZ_CONTENT_SHA256, HeaderValue::from_str(&hash)?)];
    if let Some(token) = &credentials.session_token {
        added.push((X_AMZ_SECURITY_TOKEN, token.clone()));
    }
    let host = (HOST, request.authority.clone());
    let signed: Vec<&(HeaderName, HeaderValue)> = request.headers.iter().chain(&added).chain([&host]).collect();
    let value = authorization(request, &stamp, signed, &hash, credentials);
    let mut value = HeaderValue::from_str(&value)?;
    value.set_sensitive(true);
    added.push((AUTHORIZATION, value));
    Ok(added)
}

fn authorization(
    request: &ToSign<'_>,
    stamp: &str,
    mut headers: Vec<&(HeaderName, HeaderValue)>,
    hash: &str,
    credentials: &AwsCredentials,
) -> String {
    headers.sort_by_key(|(name, _)| name.as_str());
    let (path, query) = request.path_and_query.split_once('?').unwrap_or((request.path_and_query, ""));
    let mut canonical = format!("{}\n", request.method);
    // All services but S3 sign the path encoded once more: `%3A` as `%253A`.
    percent::encode(&mut canonical, path, b"/");
    let _ = write!(canonical, "\n{}\n", canonical_query(query));
    let mut names = String::new();
    for (name, value) in headers {
        // "Trim excess white space before and after values, and convert sequential spaces to a single space."
        let text = String::from_utf8_lossy(value.as_bytes());
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let _ = writeln!(canonical, "{name}:{}", words.join(" "));
        let _ = write!(names, "{}{name}", if names.is_empty() { "" } else { ";" });
    }
    let _ = write!(canonical, "\n{names}\n{hash}");

    let day = stamp.get(..8).unwrap_or_default();
    let scope = format!("{day}/{}/{}/aws4_request", request.region, request.service);
    let digest = hex::encode(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
    let to_sign = format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}");
    let first = Secret::new(format!("AWS4{}", credentials.secret_access_key.expose()));
    let key = [day, request.region, request.service, "aws4_request"]
        .iter()
        .fold(hmac::Key::new(hmac::HMAC_SHA256, first.expose().as_bytes()), |key, part| {
            hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref())
        });
    let signature = hex::encode(hmac::sign(&key, to_sign.as_bytes()).as_ref());
    format!("AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}", credentials.access_key_id)
}

/// `20260203T040506Z`.
fn timestamp(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    let at = jiff::Timestamp::from_second(seconds as i64).unwrap_or_default();
    at.strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// Sorts the parameters by name and value; they are already percent-encoded.
fn canonical_query(query: &str) -> String {
    let mut pairs: Vec<(&str, &str)> = query.split('&').filter(|p| !p.is_empty()).map(|p| p.split_once('=').unwrap_or((p, ""))).collect();
    pairs.sort_unstable();
    let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(token: Option<&str>) -> AwsCredentials {
        let token = token.map(|t| Secret::new(t.to_owned()));
        AwsCredentials::new("AKIDEXAMPLE", Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into()), token.as_ref(), None).unwrap()
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// 2026-02-03T04:05:06Z
    const NOW: u64 = 1_770_091_506;

    fn get(headers: &[(HeaderName, HeaderValue)], name: &str) -> String {
        headers.iter().find(|(n, _)| n.as_str() == name).map(|(_, v)| v.to_str().unwrap().to_owned()).unwrap_or_default()
    }

    #[test]
    fn the_published_example_get_vanilla() {
        let host = HeaderValue::from_static("example.amazonaws.com");
        let request = ToSign {
            method: "GET",
            authority: &host,
            path_and_query: "/",
            headers: &[],
            body_hash: hash([]),
            region: "us-east-1",
            service: "service",
            time: at(1_440_938_160),
        };
        let stamp = timestamp(request.time);
        assert_eq!(stamp, "20150830T123600Z");
        let date = (X_AMZ_DATE, HeaderValue::from_str(&stamp).unwrap());
        let host = (HOST, host.clone());
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(
            authorization(&request, &stamp, vec![&date, &host], empty, &keys(None)),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date, \
             Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
        );
    }

    /// One signature that botocore 1.44 made of the same request.
    fn botocore(
        host: &str,
        path: &str,
        headers: &[(HeaderName, HeaderValue)],
        body: &[u8],
        scope: (&str, &str),
        token: Option<&str>,
    ) -> String {
        let authority = HeaderValue::from_str(host).unwrap();
        let request = ToSign {
            method: "POST",
            authority: &authority,
            path_and_query: path,
            headers,
            body_hash: hash(body.chunks(7)),
            region: scope.0,
            service: scope.1,
            time: at(NOW),
        };
        let added = sign(&request, &keys(token)).unwrap();
        assert_eq!(get(&added, "x-amz-date"), "20260203T040506Z");
        assert_eq!(get(&added, "x-amz-security-token"), token.unwrap_or_default());
        get(&added, "authorization").split_once("Signature=").unwrap().1.to_owned()
    }

    #[test]
    fn signatures_are_botocores() {
        let json = [(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        let path = "/model/us.anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse";
        assert_eq!(
            botocore("bedrock-runtime.us-east-1.amazonaws.com", path, &json, br#"{"messages":[]}"#, ("us-east-1", "bedrock"), None),
            "b2b935d8dd149de9029e4ffc1724dfc96cd33709e65f75a069bdb9324ff5638f"
        );
        let path = "/model/arn%3Aaws%3Abedrock%3Aeu-west-1%3A123456789012%3Ainference-profile%2Fx/converse-stream";
        let (scope, token) = (("eu-west-1", "bedrock"), Some("FQoGZXIvYXdzE/+="));
        assert_eq!(
            botocore("bedrock-runtime.eu-west-1.amazonaws.com", path, &json, "{\"ü\":1}".as_bytes(), scope, token),
            "fde2fb4b8e7a339f7bfa51ec5bd9f563337a5fc8513298a594aa405384bad6ac"
        );
        let headers = [
            json[0].clone(),
            (HeaderName::from_static("x-amzn-sagemaker-inference-component"), HeaderValue::from_static("  my   component ")),
        ];
        let path = "/sagemaker/endpoints/ep-1/invocations-response-stream?b=2&a=1&a=%20x";
        assert_eq!(
            botocore("127.0.0.1:8080", path, &headers, b"", ("us-west-2", "sagemaker"), None),
            "d478c2f9d7870be91d75ef6cdce026ba107a55c92032e49aed52b1f00317c87b"
        );
    }

    #[test]
    fn keys_that_cannot_be_sent_are_refused_without_being_shown() {
        let secret = || Secret::new("s".into());
        let bad = Secret::new("to\nken".into());
        for error in [
            AwsCredentials::new("", secret(), None, None).err(),
            AwsCredentials::new("AK/ID", secret(), None, None).err(),
            AwsCredentials::new("AKID", Secret::new(String::new()), None, None).err(),
            AwsCredentials::new("AKID", secret(), Some(&bad), None).err(),
        ] {
            assert!(!error.unwrap().contains("ken\n"));
        }
    }
}
