//! How a provider fails, in one vocabulary for all dialects.

use crate::json::envelope::ScanError;
use std::borrow::Cow;
use std::time::Duration;

/// Why an answer cannot be trusted any further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The provider says, inside its answer, that it failed.
    Provider(ProviderError),
    /// Something that is not the protocol: bad JSON, a corrupt or oversized frame. Says what.
    Broken(Cow<'static, str>),
    /// The end came before the protocol's own end.
    Truncated,
}

impl From<ScanError> for Fault {
    fn from(e: ScanError) -> Self {
        Self::Broken(format!("the provider's answer is no JSON: {} (byte {})", e.what, e.offset).into())
    }
}

/// A provider's refusal or failure in one form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderError {
    /// What kind of failure it is, whatever status or word the provider used for it.
    pub class: FailureClass,
    /// The provider's own message, whole: it is cut where it is redacted, for a piece of a secret is not found.
    pub message: String,
    /// The field that it blames, in its own words.
    pub param: Option<String>,
    /// Its own word for the failure, OpenAI's `code`.
    pub code: Option<String>,
    /// The provider's wish, from a header or from the body.
    pub retry_after: Option<Duration>,
}

impl ProviderError {
    /// One that blames no field, has no word of its own and no wish.
    pub fn new(class: FailureClass, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), param: None, code: None, retry_after: None }
    }
}

/// What a provider's failure means; decides the client's status, retries and ejection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureClass {
    /// The request is wrong (400, 413, 422): the client's 400, never retried.
    BadRequest,
    /// The prompt does not fit into the model's context: the client's 400, retried once at another model.
    ContextLength,
    /// The provider's policy forbids the prompt or the answer: the client's 400, retried on request.
    ContentFilter,
    /// The provider cannot read the encrypted reasoning that came back: the client's 400, asked once more without it.
    StaleReasoning,
    /// The operator's credential or account is wrong (401, 402, 403): the client's 502.
    Credential,
    /// The provider does not know the model (404).
    NotFound,
    /// The provider does not know something else that the request refers to, such as a file: the client's 404, never retried.
    UnknownReference,
    /// Too many requests (429).
    RateLimited,
    /// The request alone has more tokens than the account may use in a minute, so that waiting does not help: the client's 413,
    /// retried at another target.
    TooLarge,
    /// No capacity (503, 529).
    Overloaded,
    /// Too slow (408, 504).
    Timeout,
    /// Everything else that is not the client's fault: 502.
    Server,
}

impl FailureClass {
    /// The class that an HTTP status has where the body does not know better.
    pub const fn of_status(status: u16) -> Self {
        match status {
            400 | 413 | 422 => Self::BadRequest,
            401..=403 => Self::Credential,
            404 => Self::NotFound,
            408 | 504 => Self::Timeout,
            429 => Self::RateLimited,
            503 | 529 => Self::Overloaded,
            _ => Self::Server,
        }
    }
}
