//! Builds and signs the upstream request. Of the client's headers only the trace context is forwarded.

use super::call::Attempt;
use super::connector::upstream::{TRACEPARENT, TRACESTATE};
use super::exchange::Exchange;
use super::live::Live;
use crate::lifecycle::AttemptFailure;
use crate::telemetry::trace::Trace;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method};
use pingora_http::RequestHeader;

impl Exchange {
    /// The trace context of the attempt's request: its own span is the parent of the provider's, where it has one. With the
    /// client's `tracestate`.
    pub fn upstream_trace(&self) -> (Trace, Option<HeaderValue>) {
        let span_id = self.spans.current_id().unwrap_or(self.trace.span_id);
        (Trace { span_id, ..self.trace }, self.trace_state.clone())
    }
}

/// Fills in the request of an attempt. `state`: the client's `tracestate`.
///
/// # Errors
/// If there are no credentials to sign with.
pub async fn build(
    request: &mut RequestHeader,
    attempt: &Attempt,
    live: &Live,
    (trace, state): (Trace, Option<HeaderValue>),
) -> Result<(), AttemptFailure> {
    let provider = &attempt.target.provider;
    let outgoing = &attempt.outgoing;
    let internal = |e: String| {
        log::error!("provider `{}`: cannot build the request: {e}", provider.name);
        AttemptFailure::Internal
    };
    let upstream = live.upstream(&attempt.target);
    let uri = upstream.uri(&outgoing.path).map_err(|e| internal(e.to_string()))?;
    let signed_path = live.signs(&attempt.target).then(|| uri.path_and_query().map_or_else(String::new, PathAndQuery::to_string));
    let mut headers = upstream.template.clone();
    headers.insert(CONTENT_LENGTH, HeaderValue::from(outgoing.body.len()));
    headers.insert(TRACEPARENT, HeaderValue::from_bytes(&trace.header()).map_err(|e| internal(e.to_string()))?);
    if let Some(state) = state {
        headers.insert(TRACESTATE, state);
    }
    for (name, value) in &outgoing.headers {
        headers.insert(name.clone(), value.clone());
    }
    if let Some(path) = signed_path {
        // Headers that a proxy may change are not signed.
        let mut signed = vec![(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        signed.extend(outgoing.headers.iter().chain(&provider.headers).cloned());
        let proof = live.sign(&attempt.target, &path, &signed, &outgoing.body).await;
        for (name, value) in proof.map_err(AttemptFailure::Unsigned)? {
            headers.insert(name, value);
        }
    }
    let absolute = upstream.origin.as_deref().map(|origin| [origin, uri.path_and_query().map_or("/", PathAndQuery::as_str)].concat());
    // Pingora's setters would parse every name again.
    let (mut parts, ()) = http::Request::new(()).into_parts();
    (parts.method, parts.uri, parts.version, parts.headers) = (Method::POST, uri, request.version, headers);
    *request = parts.into();
    match absolute {
        Some(target) => request.set_raw_path(target.as_bytes()).map_err(|e| internal(e.to_string())),
        None => Ok(()),
    }
}
