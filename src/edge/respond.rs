//! The heads of responses, and the responses that the gateway writes itself.

use super::call::Attempt;
use super::exchange::Exchange;
use super::response_headers::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, REQUEST_ID, RETRY_AFTER, RETRY_AFTER_MS, TRANSFER_ENCODING, WWW_AUTHENTICATE,
    X_ACCEL_BUFFERING, X_ADJUSTED, X_ATTEMPTS, X_CLIENT_REQUEST_ID, X_DROPPED, X_MODEL, X_PROVIDER, X_REQUEST_ID, X_SHOULD_RETRY,
};
use super::timer::ConnectionTimer;
use super::{cors, intake};
use crate::error::ApiError;
use crate::front::Front;
use crate::limit::LimitHeaders;
use crate::provider::Target;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use pingora_core::protocols::http::ServerSession;
use pingora_core::{ErrorType, OrErr, Result};
use pingora_http::ResponseHeader;
use std::time::Duration;
use uuid::Uuid;

/// Writes a whole response, at once. [`discard_rest`] is to follow.
///
/// # Errors
/// When the client is gone.
pub async fn respond(session: &mut ServerSession, status: u16, mut headers: HeaderMap, body: Bytes) -> Result<()> {
    intake::discard_arrived(session);
    intake::keep_for_small_leftover(session);
    // RFC 9110 section 8.6: an answer of status 204 has no length.
    let empty = status == 204;
    if !empty {
        json_headers(&mut headers, body.len());
    }
    let head = head(status, headers)?;
    ConnectionTimer::with_current(|timer| timer.is_draining().then(|| session.set_keepalive(None)));
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
    }
    Ok(())
}

/// Discards what is left of the request's body, so that the client reads the response and, where that was little, keeps its
/// connection.
pub async fn discard_rest(session: &mut ServerSession) {
    if !session.is_body_done() && !intake::discard_leftover(session).await {
        session.set_keepalive(None);
    }
}

/// What every response to a request has in its head.
#[derive(Clone, Debug)]
pub struct Common {
    /// `x-request-id`.
    pub id: Uuid,
    /// The client's own `x-request-id`, where it is one that can be logged and echoed.
    pub client_id: Option<HeaderValue>,
    /// For web pages; `None` where `server.cors` has no origins.
    pub cors: Option<cors::CorsHeaders>,
    /// Whose protocol the client speaks.
    pub front: Front,
}

impl Common {
    /// Adds the headers.
    pub fn add_to(&self, headers: &mut HeaderMap) {
        let mut text = Uuid::encode_buffer();
        if let Ok(id) = HeaderValue::from_str(self.id.hyphenated().encode_lower(&mut text)) {
            if self.front == Front::Messages {
                headers.insert(REQUEST_ID, id.clone());
            }
            headers.insert(X_REQUEST_ID, id);
        }
        if let Some(id) = &self.client_id {
            headers.insert(X_CLIENT_REQUEST_ID, id.clone());
        }
        if let Some(cors) = &self.cors {
            cors.add_to(headers);
        }
    }
}

/// What the head of a stream has in it before anybody answers.
pub struct Opening {
    /// What every response has.
    pub common: Common,
    /// The limits.
    pub limits: LimitHeaders,
    /// Who answers, and what that target takes otherwise, where there is no choice.
    pub only: Option<HeaderMap>,
}

impl Opening {
    /// The head.
    ///
    /// # Errors
    /// Never: its status is 200.
    pub fn head(&self) -> Result<Box<ResponseHeader>> {
        let mut headers = HeaderMap::with_capacity(ROOM);
        stream_headers(&mut headers);
        self.common.add_to(&mut headers);
        self.limits.add_to(&mut headers);
        if let Some(only) = &self.only {
            headers.insert(X_ATTEMPTS, HeaderValue::from_static("1"));
            headers.extend(only.clone());
        }
        head(200, headers)
    }
}

/// The headers of a stream of events, which nothing on the way may hold back: `x-accel-buffering` is nginx's word for it.
pub fn stream_headers(headers: &mut HeaderMap) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
}

/// The headers of a whole body of `length` bytes.
pub fn json_headers(headers: &mut HeaderMap, length: usize) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
}

/// The headers of an error. Codex tries a 503 again, and waits in between only where it is told to.
pub fn error_headers(error: &ApiError, front: Front) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(ROOM);
    match error.status {
        401 => drop(headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
        402 => drop(headers.insert(X_SHOULD_RETRY, HeaderValue::from_static("false"))),
        _ => {}
    }
    if let Some(allow) = error.allow {
        headers.insert(ALLOW, HeaderValue::from_static(allow));
    }
    if error.status == 429 || error.retry_after.is_some() || (error.status == 503 && front == Front::Responses) {
        let wait = error.retry_after.unwrap_or(Duration::from_secs(1));
        // Rounded up at both scales: a client that waits as told must be admitted.
        let ms = u64::try_from(wait.as_nanos().div_ceil(1_000_000).max(1)).unwrap_or(u64::MAX);
        headers.insert(RETRY_AFTER, HeaderValue::from(ms.div_ceil(1000)));
        headers.insert(RETRY_AFTER_MS, HeaderValue::from(ms));
    }
    headers
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

/// Room for the headers of an answer without limits; Pingora keeps them until the connection's next request.
pub const ROOM: usize = 8;

impl Exchange {
    /// The response that is an error, under the ledger's status.
    pub fn error_response(&mut self, error: &ApiError) -> (HeaderMap, Vec<u8>) {
        let front = self.common.front;
        self.ledger.status = front.status(error);
        let mut headers = error_headers(error, front);
        self.add_headers(&mut headers);
        if let Some((target, model)) = self.call.as_deref().and_then(|call| call.failed.as_ref()) {
            self.add_target(&mut headers, target, model); // the one whose error this is, not the last one
        }
        (headers, front.error(error, self.common.id))
    }

    /// Adds the headers that every response to this request has by now.
    pub fn add_headers(&self, headers: &mut HeaderMap) {
        self.common.add_to(headers);
        let call = self.call.as_deref();
        if let Some(limits) = self.refused.as_deref().or(call.map(|c| c.permit.headers())) {
            limits.add_to(headers);
        }
        let Some(call) = call else { return };
        let attempts = self.ledger.attempts;
        headers.insert(X_ATTEMPTS, if attempts == 1 { HeaderValue::from_static("1") } else { HeaderValue::from(attempts) });
        if let Some(attempt) = &call.attempt {
            self.add_attempt(headers, attempt);
        }
    }

    /// Adds who an attempt asks, and what it leaves out or changes.
    fn add_attempt(&self, headers: &mut HeaderMap, attempt: &Attempt) {
        self.add_target(headers, &attempt.target, &attempt.model);
        for (header, names) in [(X_DROPPED, &attempt.outgoing.dropped), (X_ADJUSTED, &attempt.outgoing.adjusted)] {
            if !names.is_empty()
                && let Ok(names) = HeaderValue::try_from(names.join(","))
            {
                headers.insert(header, names);
            }
        }
    }

    fn add_target(&self, headers: &mut HeaderMap, target: &Target, model: &str) {
        headers.insert(X_PROVIDER, self.live.upstream(target).label.clone());
        if let Some(model) = self.live.model_label(target, model) {
            headers.insert(X_MODEL, model);
        }
    }

    /// The headers of the attempt of a request that is sent to one target, and that only once.
    pub fn only_target(&self) -> Option<HeaderMap> {
        let call = self.call.as_deref().filter(|call| call.route.retry.attempts == 1)?;
        let mut headers = HeaderMap::new();
        self.add_attempt(&mut headers, call.attempt.as_ref()?);
        Some(headers)
    }
}
