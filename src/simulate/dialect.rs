//! What the server needs of a wire protocol.

use super::ask::Ask;
use super::reply::Reply;
use super::shape::text_of;
use crate::percent;
use bytes::Bytes;
use http::HeaderMap;
use serde_json::Value;

/// A request as it arrived.
#[derive(Clone, Copy)]
pub(super) struct Incoming<'a> {
    /// Path and query, percent-encoded as they came.
    pub(super) path_and_query: &'a str,
    /// Headers.
    pub(super) headers: &'a HeaderMap,
    /// The whole body.
    pub(super) body: &'a [u8],
}

impl Incoming<'_> {
    /// The path alone, percent-encoded.
    pub(super) fn path(&self) -> &str {
        self.path_and_query.split_once('?').map_or(self.path_and_query, |(path, _)| path)
    }

    /// Whether the query has this pair.
    pub(super) fn asks(&self, pair: &str) -> bool {
        self.path_and_query.split_once('?').is_some_and(|(_, query)| query.split('&').any(|one| one == pair))
    }

    /// A header's text; empty where there is none.
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// A provider's wire protocol as the provider's side speaks it.
pub(super) trait Dialect: Sync {
    /// Reads a request, as strictly as the real service does.
    ///
    /// # Errors
    /// What the real service would refuse.
    fn read(&self, request: Incoming<'_>) -> Result<Ask, Refusal>;

    /// The answer in one piece.
    fn whole(&self, ask: &Ask, reply: &Reply) -> Vec<u8>;

    /// `content-type` of the answer in one piece.
    fn whole_type(&self, _ask: &Ask) -> &'static str {
        "application/json"
    }

    /// The answer as the stream's events, each ready for the wire.
    fn events(&self, ask: &Ask, reply: &Reply) -> Vec<Bytes>;

    /// The body of an error answer.
    fn refusal(&self, refusal: &Refusal) -> Value;

    /// The answer in one piece to `ask`, whose generation failed.
    fn failed(&self, _ask: &Ask, refusal: &Refusal) -> Vec<u8> {
        self.refusal(refusal).to_string().into_bytes()
    }

    /// Its status, where a service puts its own around a model's.
    fn refusal_status(&self, refusal: &Refusal) -> u16 {
        refusal.status
    }

    /// Headers of an error answer beside its content type.
    fn refusal_headers(&self, refusal: &Refusal) -> Vec<(&'static str, String)> {
        refusal.retry_after.iter().map(|after| ("retry-after", after.clone())).collect()
    }

    /// Bytes that are no message of this protocol in the framing of one: for a stream that turns bad.
    fn junk(&self, text: &str) -> Bytes {
        Bytes::from(format!("data: {text}\n\n"))
    }

    /// An error in the middle of a stream, after `sent` events of the answer to `ask`.
    fn error_event(&self, _ask: &Ask, _sent: usize, refusal: &Refusal) -> Bytes {
        Bytes::from(format!("data: {}\n\n", self.refusal(refusal)))
    }

    /// Something in a stream that carries no content.
    fn idle(&self) -> Bytes {
        Bytes::from_static(b": keep-alive\n\n")
    }

    /// `content-type` of a stream.
    fn stream_type(&self) -> &'static str {
        "text/event-stream; charset=utf-8"
    }
}

/// An answer that is an error.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// HTTP status.
    pub(super) status: u16,
    /// OpenAI's `code`, from which each dialect makes its own word; empty where there is none.
    pub(super) code: &'static str,
    /// The field to blame.
    pub(super) param: Option<String>,
    /// What is wrong.
    pub(super) message: String,
    /// When to come again, as the script says it.
    pub(super) retry_after: Option<String>,
}

impl Refusal {
    /// A 400 about a field.
    pub(super) fn field(code: &'static str, param: &str, message: impl Into<String>) -> Self {
        Self { status: 400, code, param: Some(param.to_owned()), message: message.into(), retry_after: None }
    }

    /// A 400 about a field, of a service whose errors have no code.
    pub(super) fn at(param: &str, message: impl Into<String>) -> Self {
        Self::field("", param, message)
    }

    /// An error without a field.
    pub(super) fn status(status: u16, message: impl Into<String>) -> Self {
        let code = match status {
            401 => "invalid_api_key",
            404 => "model_not_found",
            429 => "rate_limit_exceeded",
            _ => "",
        };
        Self { status, code, param: None, message: message.into(), retry_after: None }
    }
}

/// [`Refusal::at`], as the result of a check.
///
/// # Errors
/// Always.
pub(super) fn refuse<T>(param: &str, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::at(param, message))
}

/// An event of a stream that is named as its data's `type`.
pub(super) fn typed_event(data: &Value) -> Bytes {
    Bytes::from(format!("event: {}\ndata: {data}\n\n", text_of(data, "type")))
}

/// A path's segment without its percent-encoding; `+` stands for itself there. What is no UTF-8 is replaced.
pub(super) fn unescape(segment: &str) -> String {
    String::from_utf8_lossy(&percent::decode_lossy(segment)).into_owned()
}

/// Who answers at a path.
pub(super) fn find(path: &str) -> Option<&'static dyn Dialect> {
    super::openai::find(path)
        .or_else(|| super::anthropic::find(path))
        .or_else(|| super::gemini::find(path))
        .or_else(|| super::vertex::find(path))
        .or_else(|| super::bedrock::find(path))
        .or_else(|| super::sagemaker::find(path))
        .or_else(|| super::mistral::find(path))
}
