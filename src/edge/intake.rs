//! Reading a request: framing checks, and the whole body under one bound and one deadline.

use crate::config::snapshot::Server;
use crate::error::{ApiError, ErrorKind};
use crate::lifecycle::AttemptFailure;
use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use http::header::{CONTENT_LENGTH, EXPECT};
use http::{HeaderMap, HeaderValue, Version};
use pingora_core::ErrorType;
use pingora_core::protocols::http::ServerSession;
use pingora_http::RequestHeader;
use std::time::Duration;
use tokio::time::Instant;

/// Longest `x-request-id` of a client's that is kept, in bytes.
const MAX_CLIENT_ID: usize = 128;
/// Most header bytes of a request.
pub const MAX_HEADERS: usize = 64 << 10;
/// After a refused body up to this size the connection is kept.
const SMALL_LEFTOVER: usize = 64 << 10;
/// What is left of a refused body is thrown away, so that the client gets to read the answer; up to this much …
const LARGE_LEFTOVER: usize = 64 << 20;
/// … and for this long.
const LINGER: Duration = Duration::from_secs(5);
/// Pingora's name for a chunked body that is none.
const INVALID_CHUNK: ErrorType = ErrorType::new("InvalidChunk");
/// From this size on a body whose length is not told gets room for the largest one at once: memory that is never written
/// is never taken, and every step of growing holds the body twice.
const LARGE_BODY: usize = 1 << 20;
/// First guess at the size of a body whose length is not told.
const FIRST_BUFFER: usize = 16 << 10;

/// The headers that decide how a request is read and served, found in one pass over all of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Headers<'a> {
    host: Option<&'a HeaderValue>,
    length: Single<'a>,
    coding: Single<'a>,
    content_encoding: Option<&'a HeaderValue>,
    expect: Option<&'a HeaderValue>,
    request_id: Option<&'a HeaderValue>,
    /// Of W3C Trace Context.
    pub traceparent: Option<&'a HeaderValue>,
    /// The episode that the client says its request belongs to.
    pub episode_id: Option<&'a HeaderValue>,
    /// The session of a coding agent: Claude Code's, Codex's.
    pub session: Option<&'a HeaderValue>,
}

/// A header that a request may have once.
#[derive(Clone, Copy, Debug, Default)]
struct Single<'a> {
    first: Option<&'a HeaderValue>,
    is_repeated: bool,
}

impl<'a> Single<'a> {
    fn add(&mut self, value: &'a HeaderValue) {
        self.is_repeated |= self.first.is_some();
        self.first.get_or_insert(value);
    }
}

impl<'a> Headers<'a> {
    /// Finds them. Of a header that stands more than once the first value counts.
    pub fn of(headers: &'a HeaderMap) -> Self {
        let mut found = Self::default();
        for (name, value) in headers {
            let place = match name.as_str() {
                "content-length" => {
                    found.length.add(value);
                    continue;
                }
                "transfer-encoding" => {
                    found.coding.add(value);
                    continue;
                }
                "host" => &mut found.host,
                "content-encoding" => &mut found.content_encoding,
                "expect" => &mut found.expect,
                "x-request-id" => &mut found.request_id,
                "traceparent" => &mut found.traceparent,
                "episode-id" => &mut found.episode_id,
                "x-claude-code-session-id" | "session-id" | "thread-id" => &mut found.session,
                _ => continue,
            };
            place.get_or_insert(value);
        }
        found
    }

    /// The length of the body in bytes, where the request declares it.
    pub fn length(&self) -> Option<u64> {
        length(self.length.first?)
    }

    /// The client's own `x-request-id`, where it has 1 to [`MAX_CLIENT_ID`] bytes of letters, digits and `-_.:/+=@`: such a
    /// value needs no escape in a header, in JSON or in text. Anything else is ignored.
    pub fn client_id(&self) -> Option<HeaderValue> {
        let id = self.request_id?;
        let safe = |b: &u8| b.is_ascii_alphanumeric() || b"-_.:/+=@".contains(b);
        ((1..=MAX_CLIENT_ID).contains(&id.len()) && id.as_bytes().iter().all(safe)).then(|| id.clone())
    }
}

fn length(value: &HeaderValue) -> Option<u64> {
    value.to_str().ok()?.trim().parse().ok()
}

/// How a body that may be read is framed.
#[derive(Clone, Copy, Debug)]
pub struct Framing {
    /// Its declared length in bytes, at most `max_body`.
    length: Option<usize>,
    /// Whether the client waits for `100 Continue` before it sends the body.
    expects_continue: bool,
}

/// Refuses a head that is larger than [`MAX_HEADERS`], which HTTP/2 has refused already, and an HTTP/1.1 request without a
/// `Host` or with an empty one (RFC 9112, section 3.2).
///
/// # Errors
/// 431, 400.
pub fn check_headers(session: &ServerSession, headers: &Headers<'_>) -> Result<(), ApiError> {
    let ServerSession::H1(h1) = session else { return Ok(()) };
    if h1.get_headers_raw_bytes().len() > MAX_HEADERS {
        let message = format!("The headers are larger than the {MAX_HEADERS} bytes that are accepted.");
        return Err(ApiError::new(431, ErrorKind::InvalidRequest, message));
    }
    if h1.req_header().version == Version::HTTP_11 && headers.host.is_none_or(HeaderValue::is_empty) {
        return Err(ApiError::invalid("Send a Host header that is not empty."));
    }
    Ok(())
}

/// Refuses what could be read in two ways, and what cannot be read at all.
///
/// # Errors
/// 400 for both framings at once (RFC 9112 section 6.1 lets a server refuse them), a list of lengths and a transfer coding other
/// than chunked, 411 for no framing (section 6.3: without one
/// there is no body), 415 for an encoded body, 413 for a length beyond `max_body`.
pub fn check_framing(session: &ServerSession, headers: &Headers<'_>, max_body: usize) -> Result<Framing, ApiError> {
    let (coding, length) = (headers.coding, headers.length);
    if coding.first.is_some() && came_with_length(session, headers) {
        return Err(ApiError::invalid("Send either Content-Length or Transfer-Encoding, not both."));
    }
    if coding.is_repeated || coding.first.is_some_and(|v| !v.as_bytes().eq_ignore_ascii_case(b"chunked")) {
        return Err(ApiError::invalid("The only Transfer-Encoding that is accepted is chunked."));
    }
    // Pingora accepts a list of one length several times (RFC 9110, section 8.6).
    if length.is_repeated || length.first.is_some_and(|v| v.as_bytes().contains(&b',')) {
        return Err(ApiError::invalid("Send one Content-Length."));
    }
    if headers.content_encoding.is_some_and(|v| !v.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(ApiError::new(415, ErrorKind::InvalidRequest, "Send the body without Content-Encoding."));
    }
    let length = match headers.length() {
        Some(length) => Some(usize::try_from(length).ok().filter(|length| *length <= max_body).ok_or_else(|| too_large(max_body))?),
        // HTTP/2 frames every body.
        None if matches!(session, ServerSession::H1(_)) && coding.first.is_none() => {
            let message = "Send the body with its Content-Length, or with Transfer-Encoding: chunked.";
            return Err(ApiError::new(411, ErrorKind::InvalidRequest, message));
        }
        None => None,
    };
    Ok(Framing { length, expects_continue: headers.expect.is_some_and(is_continue) })
}

/// Whether there was a `Content-Length`; Pingora takes it away from a chunked request, but keeps the bytes that came.
fn came_with_length(session: &ServerSession, headers: &Headers<'_>) -> bool {
    let ServerSession::H1(h1) = session else { return headers.length.first.is_some() };
    let name = |line: &[u8]| line.split(|b| *b == b':').next().is_some_and(|n| n.trim_ascii().eq_ignore_ascii_case(b"content-length"));
    h1.get_headers_raw_bytes().split(|b| *b == b'\n').any(name)
}

fn too_large(max_body: usize) -> ApiError {
    ApiError::new(413, ErrorKind::InvalidRequest, format!("The body is larger than the {max_body} bytes that are accepted."))
}

fn declared_length(request: &RequestHeader) -> Option<u64> {
    length(request.headers.get(CONTENT_LENGTH)?)
}

fn expects_continue(request: &RequestHeader) -> bool {
    request.headers.get(EXPECT).is_some_and(is_continue)
}

fn is_continue(expect: &HeaderValue) -> bool {
    expect.as_bytes().eq_ignore_ascii_case(b"100-continue")
}

/// Reads the whole body.
///
/// # Errors
/// 413 beyond `max_body`, whatever length was declared; 408 when it takes longer than `body_timeout` in all; that the client
/// has left.
pub async fn read_body(session: &mut ServerSession, framing: Framing, limits: &Server) -> Result<Bytes, AttemptFailure> {
    let until = Instant::now() + limits.body_timeout;
    if framing.expects_continue
        && let ServerSession::H1(h1) = session
    {
        // Pingora closes connections whose answer begins before the body is read; an interim answer is none.
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
            Err(_) => return Err(ApiError::new(408, ErrorKind::InvalidRequest, "The body took too long to arrive.").into()),
            Ok(Err(e)) if *e.etype() == INVALID_CHUNK => {
                session.set_keepalive(None); // where the next request begins is anybody's guess
                return Err(ApiError::invalid("The chunks of the body cannot be read.").into());
            }
            Ok(Err(_)) => return Err(AttemptFailure::Cancelled),
            Ok(Ok(piece)) => piece,
        };
        let Some(piece) = piece else { break };
        if piece.is_empty() {
            continue; // the end of an HTTP/2 stream in a frame of its own
        }
        let so_far = first.as_ref().map_or(0, Bytes::len) + body.len();
        if so_far + piece.len() > limits.max_body {
            return Err(too_large(limits.max_body).into());
        }
        match first.take() {
            // Most bodies come in one piece, which is then the body.
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

/// Before a refusal is written: throws away what of the body has arrived, without waiting for more. A body that was all
/// there, whether or not its length was told, is no reason to close the connection.
pub fn discard_arrived(session: &mut ServerSession) {
    if !matches!(session, ServerSession::H1(_)) || expects_continue(session.req_header()) {
        return;
    }
    let mut seen = 0;
    while seen <= SMALL_LEFTOVER {
        match session.read_request_body().now_or_never() {
            Some(Ok(Some(piece))) => seen += piece.len(),
            // Where the next request begins is anybody's guess.
            Some(Err(_)) => return session.set_keepalive(None),
            Some(Ok(None)) | None => return,
        }
    }
}

/// Before a refusal is written: a connection whose client has little left to send is kept.
pub fn keep_for_small_leftover(session: &mut ServerSession) {
    let small = declared_length(session.req_header()).is_some_and(|n| n as usize <= SMALL_LEFTOVER);
    if small
        && !expects_continue(session.req_header())
        && let ServerSession::H1(h1) = session
    {
        // Otherwise Pingora announces the end of a connection whose request has not been read.
        h1.set_close_on_response_before_downstream_finish(false);
    }
}

/// After a refusal has been written: lets the client finish sending, so that it reads the answer instead of a reset.
/// Returns whether nothing is left.
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
