//! The request that leaves: built from an allow-list, signed, with nothing of the client's headers but its trace.

use super::exchange::Attempt;
use super::live::Live;
use crate::error::ApiError;
use crate::telemetry::trace::Trace;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderValue, Method, Uri};
use pingora_http::RequestHeader;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const AGENT: HeaderValue = HeaderValue::from_static(concat!("tidegate/", env!("CARGO_PKG_VERSION")));
/// Pingora would hand compressed bytes to the decoder if they were asked for.
const IDENTITY: HeaderValue = HeaderValue::from_static("identity");

/// Fills in the request of an attempt.
///
/// # Errors
/// What the client is told where there are no credentials to sign with.
pub async fn build(request: &mut RequestHeader, attempt: &Attempt, live: &Live, trace: &Trace) -> Result<(), ApiError> {
    let provider = &attempt.target.provider;
    let outgoing = &attempt.outgoing;
    let internal = |e: String| {
        log::error!("provider `{}`: its request cannot be built: {e}", provider.name);
        ApiError::new(500, crate::error::ErrorKind::Internal, "The gateway failed; its log has more under the request id.")
    };
    let path = [&*provider.base.prefix, &outgoing.path].concat();
    request.set_method(Method::POST);
    request.set_uri(path.parse::<Uri>().map_err(|e| internal(e.to_string()))?);
    let mut put = |name: http::HeaderName, value: HeaderValue| request.insert_header(name, value).map_err(|e| internal(e.to_string()));
    put(HOST, provider.base.authority.clone())?;
    put(CONTENT_LENGTH, HeaderValue::from(outgoing.body.len()))?;
    put(ACCEPT, HeaderValue::from_static("*/*"))?;
    put(ACCEPT_ENCODING, IDENTITY)?;
    put(USER_AGENT, AGENT)?;
    put(http::HeaderName::from_static("traceparent"), HeaderValue::from_str(&trace.header()).map_err(|e| internal(e.to_string()))?)?;
    // What describes the request is part of a signature; what a proxy on the way may add to is not.
    let mut signed = Vec::with_capacity(1 + outgoing.headers.len() + provider.headers.len());
    signed.push((CONTENT_TYPE, JSON));
    signed.extend(outgoing.headers.iter().cloned());
    signed.extend(provider.headers.iter().cloned());
    let proof = live.sign(&attempt.target, &path, &signed, &outgoing.body).await?;
    for (name, value) in signed.into_iter().chain(proof) {
        put(name, value)?;
    }
    Ok(())
}
