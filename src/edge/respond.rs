//! Answers of the gateway's own: errors and the list of models.

use super::intake;
use crate::error::ApiError;
use bytes::Bytes;
use http::HeaderName;
use pingora_core::Result;
use pingora_core::protocols::http::ServerSession;
use pingora_http::ResponseHeader;
use std::time::Duration;

/// Further headers of an answer.
pub type Headers = Vec<(HeaderName, String)>;

/// Writes a whole answer, at once. What is left of the request's body is thrown away after it, so that the client reads
/// the answer and, where that was little, keeps its connection.
///
/// # Errors
/// When the client is gone.
pub async fn respond(session: &mut ServerSession, status: u16, headers: Headers, body: Bytes) -> Result<()> {
    intake::discard_arrived(session);
    intake::keep_for_small_leftover(session);
    let mut head = Box::new(ResponseHeader::build(status, Some(headers.len() + 6))?);
    head.insert_header(http::header::CONTENT_TYPE, "application/json")?;
    head.insert_header(http::header::CONTENT_LENGTH, body.len())?;
    for (name, value) in headers {
        head.append_header(name, value)?;
    }
    session.write_response_header(head).await?;
    session.write_response_body(body, true).await?;
    if !session.is_body_done() {
        session.finish_body().await?;
        if !intake::discard_leftover(session).await {
            session.set_keepalive(None);
        }
    }
    Ok(())
}

/// The headers that belong to an error, whatever path it takes to the client.
pub fn error_headers(error: &ApiError) -> Headers {
    use http::header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE};
    let mut headers = Headers::new();
    match error.status {
        401 => headers.push((WWW_AUTHENTICATE, "Bearer".to_owned())),
        402 => headers.push((HeaderName::from_static("x-should-retry"), "false".to_owned())),
        _ => {}
    }
    if let Some(allow) = error.allow {
        headers.push((ALLOW, allow.to_owned()));
    }
    if error.status == 429 || error.retry_after.is_some() {
        let wait = error.retry_after.unwrap_or(Duration::from_secs(1));
        // Rounded up at both scales: a client that waits as told must be admitted.
        let ms = wait.as_nanos().div_ceil(1_000_000).max(1);
        headers.push((RETRY_AFTER, ms.div_ceil(1000).to_string()));
        headers.push((HeaderName::from_static("retry-after-ms"), ms.to_string()));
    }
    headers
}
