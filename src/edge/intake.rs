//! Reads a request: checks its framing, and reads the whole body under one size limit and one deadline.

use crate::config::snapshot::Server;
use crate::error::{ApiError, ErrorKind};
use crate::lifecycle::{AttemptFailure, Deadline};
use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use http::header::{CONTENT_LENGTH, EXPECT};
use http::{HeaderMap, HeaderValue, Version};
use pingora_core::ErrorType;
use pingora_core::protocols::http::ServerSession;
use pingora_http::RequestHeader;
use std::time::Duration;
use tokio::time::Instant;

/// Maximum length of a client's `x-request-id`, in bytes.
const MAX_CLIENT_ID: usize = 128;
/// Maximum length of `x-request-timeout`, in bytes.
const MAX_TIMEOUT: usize = 16;
/// Maximum size of a request's headers, in bytes.
pub const MAX_HEADERS: usize = 64 << 10;
/// Maximum size of a rejected body after which the connection is kept.
const SMALL_LEFTOVER: usize = 64 << 10;
/// Maximum size of a rejected body that is discarded after the response, so that the client can read it.
const LARGE_LEFTOVER: usize = 64 << 20;
/// Timeout for discarding it.
const LINGER: Duration = Duration::from_secs(5);
/// Pingora's error for invalid chunks.
const INVALID_CHUNK: ErrorType = ErrorType::new("InvalidChunk");
/// From this size on, a body of unknown length reserves `max_body` at once: unwritten memory is not committed, and growing in
/// steps would hold the body twice.
const LARGE_BODY: usize = 1 << 20;
/// Initial buffer size of a body of unknown length.
const FIRST_BUFFER: usize = 16 << 10;

/// The request headers that the gateway uses, found in one pass.
#[derive(Clone, Copy, Debug, Default)]
pub struct Headers<'a> {
    host: Found<'a>,
    length: Found<'a>,
    coding: Found<'a>,
    content_encoding: Found<'a>,
    expect: Found<'a>,
    request_id: Found<'a>,
    timeout: Found<'a>,
    /// Of W3C Trace Context.
    pub traceparent: Found<'a>,
    /// Of W3C Trace Context.
    pub tracestate: Found<'a>,
    /// The client's episode id.
    pub episode_id: Found<'a>,
    /// The session of a coding agent: Claude Code's, Codex's.
    pub session: Found<'a>,
}

/// The values of a header.
#[derive(Clone, Copy, Debug, Default)]
pub struct Found<'a> {
    /// The first one.
    pub first: Option<&'a HeaderValue>,
    is_repeated: bool,
}

impl<'a> Headers<'a> {
    /// Finds them.
    pub fn of(headers: &'a HeaderMap) -> Self {
        let mut found = Self::default();
        for (name, value) in headers {
            let header = match name.as_str() {
                "content-length" => &mut found.length,
                "transfer-encoding" => &mut found.coding,
                "x-request-timeout" => &mut found.timeout,
                "host" => &mut found.host,
                "content-encoding" => &mut found.content_encoding,
                "expect" => &mut found.expect,
                "x-request-id" => &mut found.request_id,
                "traceparent" => &mut found.traceparent,
                "tracestate" => &mut found.tracestate,
                "episode-id" => &mut found.episode_id,
                "x-claude-code-session-id" | "session-id" | "thread-id" => &mut found.session,
                _ => continue,
            };
            header.is_repeated |= header.first.is_some();
            header.first.get_or_insert(value);
        }
        found
    }

    /// The declared length of the body, in bytes.
    pub fn length(&self) -> Option<u64> {
        length(self.length.first?)
    }

    /// The time that `x-request-timeout` allows: seconds, with a fraction if it has a point.
    ///
    /// # Errors
    /// 400 for anything else, for 0 and for several values.
    pub fn timeout(&self) -> Result<Option<Duration>, ApiError> {
        let Some(value) = self.timeout.first else { return Ok(None) };
        let is_decimal = |text: &&str| text.len() <= MAX_TIMEOUT && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let text = value.to_str().ok().map(str::trim).filter(is_decimal).filter(|_| !self.timeout.is_repeated);
        let time = text.and_then(|text| Duration::try_from_secs_f64(text.parse().ok()?).ok());
        time.filter(|time| !time.is_zero())
            .map(Some)
            .ok_or_else(|| ApiError::invalid("The header `x-request-timeout` must be one number of seconds above 0, like 30 or 2.5."))
    }

    /// The client's `x-request-id` if it has 1 to [`MAX_CLIENT_ID`] letters, digits and `-_.:/+=@`, which need no escaping in
    /// headers, JSON or text.
    pub fn client_id(&self) -> Option<HeaderValue> {
        let id = self.request_id.first?;
        let safe = |b: &u8| b.is_ascii_alphanumeric() || b"-_.:/+=@".contains(b);
        ((1..=MAX_CLIENT_ID).contains(&id.len()) && id.as_bytes().iter().all(safe)).then(|| id.clone())
    }
}

fn length(value: &HeaderValue) -> Option<u64> {
    value.to_str().ok()?.trim().parse().ok()
}

/// Framing of an accepted body.
#[derive(Clone, Copy, Debug)]
pub struct Framing {
    /// Its declared length in bytes, at most `max_body`.
    length: Option<usize>,
    /// Whether the client sends the body after a `100 Continue`.
    expects_continue: bool,
}

/// Rejects HTTP/1 headers larger than [`MAX_HEADERS`] (for HTTP/2 the h2 crate does), and an HTTP/1.1 request without a non-empty
/// `Host` (RFC 9112, section 3.2).
///
/// # Errors
/// 431, 400.
pub fn check_headers(session: &ServerSession, headers: &Headers<'_>) -> Result<(), ApiError> {
    let ServerSession::H1(h1) = session else { return Ok(()) };
    if h1.get_headers_raw_bytes().len() > MAX_HEADERS {
        let message = format!("The headers exceed {MAX_HEADERS} bytes.");
        return Err(ApiError::new(431, ErrorKind::InvalidRequest, message));
    }
    if h1.req_header().version == Version::HTTP_11 && headers.host.first.is_none_or(HeaderValue::is_empty) {
        return Err(ApiError::invalid("The Host header is missing or empty."));
    }
    Ok(())
}

/// Rejects ambiguous, missing and unsupported framing.
///
/// # Errors
/// 400 for `Content-Length` together with `Transfer-Encoding` (RFC 9112, section 6.1, lets a server reject that), several lengths,
/// or a transfer coding other than chunked; 411 without framing (section 6.3); 415 for an encoded body; 413 for a length beyond
/// `max_body`.
pub fn check_framing(session: &ServerSession, headers: &Headers<'_>, max_body: usize) -> Result<Framing, ApiError> {
    let (coding, length) = (headers.coding, headers.length);
    if coding.first.is_some() && came_with_length(session, headers) {
        return Err(ApiError::invalid("Content-Length and Transfer-Encoding must not be combined."));
    }
    if coding.is_repeated || coding.first.is_some_and(|v| !v.as_bytes().eq_ignore_ascii_case(b"chunked")) {
        return Err(ApiError::invalid("Transfer-Encoding must be chunked."));
    }
    // Pingora accepts a list of one length several times (RFC 9110, section 8.6).
    if length.is_repeated || length.first.is_some_and(|v| v.as_bytes().contains(&b',')) {
        return Err(ApiError::invalid("Content-Length must have one value."));
    }
    if headers.content_encoding.first.is_some_and(|v| !v.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(ApiError::new(415, ErrorKind::InvalidRequest, "A body with Content-Encoding is not supported."));
    }
    let length = match headers.length() {
        Some(length) => Some(usize::try_from(length).ok().filter(|length| *length <= max_body).ok_or_else(|| too_large(max_body))?),
        // HTTP/2 frames every body.
        None if matches!(session, ServerSession::H1(_)) && coding.first.is_none() => {
            let message = "Content-Length or Transfer-Encoding: chunked is required.";
            return Err(ApiError::new(411, ErrorKind::InvalidRequest, message));
        }
        None => None,
    };
    Ok(Framing { length, expects_continue: headers.expect.first.is_some_and(is_continue) })
}

/// Whether the request had a `Content-Length`. Pingora removes it from a chunked request, but keeps the raw bytes.
fn came_with_length(session: &ServerSession, headers: &Headers<'_>) -> bool {
    let ServerSession::H1(h1) = session else { return headers.length.first.is_some() };
    let name = |line: &[u8]| line.split(|b| *b == b':').next().is_some_and(|n| n.trim_ascii().eq_ignore_ascii_case(b"content-length"));
    h1.get_headers_raw_bytes().split(|b| *b == b'\n').any(name)
}

fn too_large(max_body: usize) -> ApiError {
    ApiError::new(413, ErrorKind::InvalidRequest, format!("The body exceeds {max_body} bytes."))
}

/// Whether the client waits for a 100. One of HTTP/1.0 does not (RFC 9110 section 10.1.1).
fn expects_continue(request: &RequestHeader) -> bool {
    request.version > Version::HTTP_10 && request.headers.get(EXPECT).is_some_and(is_continue)
}

fn is_continue(expect: &HeaderValue) -> bool {
    expect.as_bytes().eq_ignore_ascii_case(b"100-continue")
}

/// Reads the whole body.
///
/// # Errors
/// 413 beyond `max_body`, 408 after `body_timeout`, [`Deadline::Request`] at the request's `deadline`,
/// [`AttemptFailure::Cancelled`] if the client disconnects.
pub async fn read_body(
    session: &mut ServerSession,
    framing: Framing,
    limits: &Server,
    deadline: Option<Instant>,
) -> Result<Bytes, AttemptFailure> {
    let timeout = Instant::now() + limits.body_timeout;
    let until = deadline.map_or(timeout, |at| at.min(timeout));
    if framing.expects_continue
        && let ServerSession::H1(h1) = session
        && h1.req_header().version > Version::HTTP_10
    {
        // Pingora closes the connection if a response starts before the body is read; an interim response must not count.
        h1.set_close_on_response_before_downstream_finish(false);
        let written = h1.write_continue_response().await;
        h1.set_close_on_response_before_downstream_finish(true);
        written.map_err(|_| AttemptFailure::Cancelled)?;
    }
    let expected = framing.length.unwrap_or(FIRST_BUFFER);
    let mut first: Option<Bytes> = None;
    let mut body = BytesMut::new();
    loop {
        let piece = match tokio::time::timeout_at(until, session.read_request_body()).await {
            Err(_) if until < timeout => return Err(AttemptFailure::Late(Deadline::Request)),
            Err(_) => return Err(ApiError::new(408, ErrorKind::InvalidRequest, "Timeout while reading the body.").into()),
            Ok(Err(e)) if *e.etype() == INVALID_CHUNK => {
                session.set_keepalive(None); // the start of the next request is unknown
                return Err(ApiError::invalid("The body has an invalid chunk.").into());
            }
            Ok(Err(_)) => return Err(AttemptFailure::Cancelled),
            Ok(Ok(piece)) => piece,
        };
        let Some(piece) = piece else { break };
        if piece.is_empty() {
            continue; // an empty frame ends an HTTP/2 stream
        }
        let so_far = first.as_ref().map_or(0, Bytes::len) + body.len();
        if so_far + piece.len() > limits.max_body {
            return Err(too_large(limits.max_body).into());
        }
        match first.take() {
            // Most bodies arrive in one piece, which is not copied.
            None if body.is_empty() => {
                first = Some(piece);
                if session.is_body_done() {
                    break;
                }
            }
            earlier => {
                if body.is_empty() {
                    body.reserve(expected.max(FIRST_BUFFER));
                } else if body.len() >= LARGE_BODY && body.capacity() < so_far + piece.len() {
                    body.reserve(limits.max_body - so_far);
                }
                body.extend_from_slice(&earlier.unwrap_or_default());
                body.extend_from_slice(&piece);
            }
        }
    }
    Ok(first.unwrap_or_else(|| body.freeze()))
}

/// Call before an error response: discards what has arrived of the body without waiting. The connection can be kept if that is
/// all of it.
pub fn discard_arrived(session: &mut ServerSession) {
    if !matches!(session, ServerSession::H1(_)) || expects_continue(session.req_header()) {
        return;
    }
    let mut seen = 0;
    while seen <= SMALL_LEFTOVER {
        match session.read_request_body().now_or_never() {
            Some(Ok(Some(piece))) => seen += piece.len(),
            // The start of the next request is unknown.
            Some(Err(_)) => return session.set_keepalive(None),
            Some(Ok(None)) | None => return,
        }
    }
}

/// Call before an error response: keeps the connection if the declared length is small.
pub fn keep_for_small_leftover(session: &mut ServerSession) {
    let declared = session.req_header().headers.get(CONTENT_LENGTH).and_then(length);
    let small = declared.is_some_and(|n| n as usize <= SMALL_LEFTOVER);
    if small
        && !expects_continue(session.req_header())
        && let ServerSession::H1(h1) = session
        && h1.req_header().version > Version::HTTP_10
    {
        // Otherwise Pingora sends `connection: close` when a response starts before the body is read.
        h1.set_close_on_response_before_downstream_finish(false);
    }
}

/// Call after an error response: discards the rest of the body, so that the client reads the response instead of a reset.
/// Returns whether all of it was read.
pub async fn discard_leftover(session: &mut ServerSession) -> bool {
    if !matches!(session, ServerSession::H1(_)) {
        return false;
    }
    let until = Instant::now() + LINGER;
    let mut seen = 0;
    while seen <= LARGE_LEFTOVER {
        match tokio::time::timeout_at(until, session.read_request_body()).await {
            Ok(Ok(Some(piece))) => seen += piece.len(),
            Ok(Ok(None)) => return true,
            Ok(Err(_)) | Err(_) => return false,
        }
    }
    false
}
