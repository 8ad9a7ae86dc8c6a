//! Answers of the gateway's own: errors and the list of models.

use super::patience::Patience;
use super::response_headers::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, RETRY_AFTER_MS, TRANSFER_ENCODING, WWW_AUTHENTICATE,
    X_ACCEL_BUFFERING, X_CLIENT_REQUEST_ID, X_REQUEST_ID, X_SHOULD_RETRY,
};
use super::{cors, intake};
use crate::error::ApiError;
use crate::limit::LimitHeaders;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use pingora_core::protocols::http::ServerSession;
use pingora_core::{ErrorType, OrErr, Result};
use pingora_http::ResponseHeader;
use std::time::Duration;
use uuid::Uuid;

/// Writes a whole answer, at once. What is left of the request's body is thrown away after it, so that the client reads
/// the answer and, where that was little, keeps its connection.
///
/// # Errors
/// When the client is gone.
pub async fn respond(session: &mut ServerSession, status: u16, mut headers: HeaderMap, body: Bytes) -> Result<()> {
    intake::discard_arrived(session);
    intake::keep_for_small_leftover(session);
    // RFC 9110 section 8.6: an answer of status 204 has no length.
    let empty = status == 204;
    if !empty {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    }
    let head = head(status, headers)?;
    Patience::with_current(|patience| patience.is_draining().then(|| session.set_keepalive(None)));
    match session {
        // The answer to a HEAD ends with its headers. Over HTTP/1 Pingora sees to that, over HTTP/2 a body would be sent.
        ServerSession::H2(h2) if empty || h2.req_header().method == Method::HEAD => h2.write_response_header(head, true)?,
        _ => {
            session.write_response_header(head).await?;
            session.write_response_body(body, true).await?;
        }
    }
    if !session.is_body_done() {
        session.finish_body().await?;
        if !intake::discard_leftover(session).await {
            session.set_keepalive(None);
        }
    }
    Ok(())
}

/// What every answer to one request has in its head, whichever target it comes from.
#[derive(Clone, Debug)]
pub struct Opening {
    /// `x-request-id`.
    pub id: Uuid,
    /// `x-client-request-id`.
    pub client_id: Option<HeaderValue>,
    /// For browsers.
    pub cors: Option<cors::Answer>,
    /// `x-ratelimit-*`.
    pub limits: LimitHeaders,
}

impl Opening {
    /// The head of a stream before it is known who answers.
    pub fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(ROOM);
        stream_headers(&mut headers);
        request_headers(&mut headers, &self.id, self.client_id.as_ref(), self.cors.as_ref());
        self.limits.add_to(&mut headers);
        headers
    }
}

/// Room for the headers of an answer without limits; Pingora keeps them until the connection's next request.
pub const ROOM: usize = 8;

/// The headers of a stream of events, which nothing on the way may hold back: `x-accel-buffering` is nginx's word for it.
pub fn stream_headers(headers: &mut HeaderMap) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
}

/// What every answer has: `x-request-id`, the client's own id beside it, and what lets a browser read it.
pub fn request_headers(headers: &mut HeaderMap, id: &Uuid, client_id: Option<&HeaderValue>, cors: Option<&cors::Answer>) {
    let mut text = Uuid::encode_buffer();
    if let Ok(id) = HeaderValue::from_str(id.hyphenated().encode_lower(&mut text)) {
        headers.insert(X_REQUEST_ID, id);
    }
    if let Some(id) = client_id {
        headers.insert(X_CLIENT_REQUEST_ID, id.clone());
    }
    if let Some(cors) = cors {
        cors.add_to(headers);
    }
}

/// A response's head. Built from its parts, because Pingora's own builder parses every name again.
///
/// # Errors
/// For a status that HTTP does not have.
pub fn head(status: u16, headers: HeaderMap) -> Result<Box<ResponseHeader>> {
    let (mut parts, ()) = http::Response::new(()).into_parts();
    parts.status = StatusCode::from_u16(status).or_err(ErrorType::InvalidHTTPHeader, "no status")?;
    parts.headers = headers;
    Ok(Box::new(parts.into()))
}

/// The headers that belong to an error, whatever path it takes to the client.
pub fn error_headers(error: &ApiError) -> HeaderMap {
    let mut headers = HeaderMap::new();
    match error.status {
        401 => drop(headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
        402 => drop(headers.insert(X_SHOULD_RETRY, HeaderValue::from_static("false"))),
        _ => {}
    }
    if let Some(allow) = error.allow {
        headers.insert(ALLOW, HeaderValue::from_static(allow));
    }
    if error.status == 429 || error.retry_after.is_some() {
        let wait = error.retry_after.unwrap_or(Duration::from_secs(1));
        // Rounded up at both scales: a client that waits as told must be admitted.
        let ms = u64::try_from(wait.as_nanos().div_ceil(1_000_000).max(1)).unwrap_or(u64::MAX);
        headers.insert(RETRY_AFTER, HeaderValue::from(ms.div_ceil(1000)));
        headers.insert(RETRY_AFTER_MS, HeaderValue::from(ms));
    }
    headers
}
