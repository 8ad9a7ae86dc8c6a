//! What the server needs of a wire protocol.

use super::ask::Ask;
use super::reply::Reply;
use bytes::Bytes;
use http::HeaderMap;

/// A provider's wire protocol as the provider's side speaks it.
pub(super) trait Dialect: Sync {
    /// Reads a request, as strictly as the real service does.
    ///
    /// # Errors
    /// What the real service would refuse.
    fn read(&self, path: &str, headers: &HeaderMap, body: &[u8]) -> Result<Ask, Refusal>;

    /// The answer in one piece.
    fn whole(&self, ask: &Ask, reply: &Reply) -> Vec<u8>;

    /// The answer as the stream's events, each ready for the wire.
    fn events(&self, ask: &Ask, reply: &Reply) -> Vec<Bytes>;

    /// The body of an error answer, JSON.
    fn refusal(&self, refusal: &Refusal) -> Vec<u8>;

    /// An error in the middle of a stream.
    fn error_event(&self, refusal: &Refusal) -> Bytes;

    /// Something in a stream that carries no content.
    fn idle(&self) -> Bytes;

    /// `content-type` of a stream.
    fn stream_type(&self) -> &'static str;
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
}

impl Refusal {
    /// A 400 about a field.
    pub(super) fn field(code: &'static str, param: &str, message: impl Into<String>) -> Self {
        Self { status: 400, code, param: Some(param.to_owned()), message: message.into() }
    }

    /// An error without a field.
    pub(super) fn status(status: u16, message: impl Into<String>) -> Self {
        let code = match status {
            401 => "invalid_api_key",
            404 => "model_not_found",
            429 => "rate_limit_exceeded",
            _ => "",
        };
        Self { status, code, param: None, message: message.into() }
    }
}

/// Who answers at a path.
pub(super) fn find(path: &str) -> Option<&'static dyn Dialect> {
    super::openai::find(path)
}
