//! How an attempt fails: one type. Whether another target is asked, the metric's label, what the failure says about the
//! target and the client's error all follow from it.

use crate::account::EndedBy;
use crate::dialect::shared::blame::{self, Path, Sent};
use crate::dialect::shared::refusal;
use crate::error::{ApiError, ErrorKind, Overflow, Said};
use crate::limit::LimitError;
use crate::llm::failure::{FailureClass, Fault, ProviderError};
use crate::redact::redact_to;
use crate::route::availability::Cause;
use crate::route::retry::Next;
use crate::route::settings::Retry;
use crate::telemetry::labels::{LIMIT_STORE_FAILED, Outcome};
use std::borrow::Cow;

/// Why an attempt has no answer, or an answer no end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptFailure {
    /// The gateway itself refuses the request: as a whole, or for this target.
    Rejected(ApiError),
    /// All connections to the provider are in use.
    Saturated,
    /// A limit on the provider has no room, or the limit store failed.
    Limited(LimitError),
    /// There are no credentials to sign the request with.
    Unsigned(ApiError),
    /// No connection to the provider.
    Connect(Connect),
    /// The connection broke.
    Disconnected(Delivery),
    /// A deadline passed.
    Late(Deadline),
    /// The response has no body.
    Empty,
    /// The provider refused the request, or says inside its answer that it failed. Has the class under the provider's words.
    Refused(FailureClass, ProviderError),
    /// The answer is not the protocol. Says what is wrong.
    Malformed(Cow<'static, str>),
    /// The answer ended before the protocol's own end.
    Truncated,
    /// The provider's policy forbids the whole answer.
    Withheld,
    /// The client disconnected.
    Cancelled,
    /// The process ends before the answer does.
    Drained,
    /// A fault of the gateway's own.
    Internal,
}

/// Why there is no connection to a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connect {
    /// No address accepts connections.
    Unreachable,
    /// Not made in time.
    TimedOut,
    /// The TLS handshake failed.
    Untrusted,
    /// The name has no address.
    UnknownHost,
    /// HTTP/2 is configured and the server has chosen HTTP/1.1.
    Http1Only,
    /// The egress proxy does not accept connections.
    ProxyUnreachable,
    /// The egress proxy's name has no address.
    ProxyUnknownHost,
    /// The egress proxy has opened no tunnel; its status, where it answered.
    TunnelRefused(Option<u16>),
    /// The egress proxy has refused a request in absolute form with this status.
    ForwardRefused(u16),
}

/// What is known of a request whose connection broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// An HTTP/2 server has refused the stream.
    Refused,
    /// Certainly not processed, and the connection is gone.
    Unprocessed,
    /// Not processed if the server had closed the connection before the request.
    Doubtful,
    /// The same over HTTP/2, where pings find out that a connection was dead.
    Unanswered,
    /// Perhaps processed.
    Processed,
}

/// Which deadline passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// No response headers.
    FirstByte,
    /// No content.
    FirstToken,
    /// Silence.
    BetweenBytes,
    /// The whole attempt took too long.
    Total,
    /// The client's `x-request-timeout`.
    Request,
}

/// What follows from a failure: the metric's label, what it says about the target's health, and for which switch of the
/// route's `retry.on` which targets may be asked next.
type Meaning = (Outcome, Option<Cause>, Option<(fn(&Retry) -> bool, Next)>);

impl AttemptFailure {
    const fn meaning(&self) -> Meaning {
        const FAILS: Option<Cause> = Some(Cause::Failures);
        match self {
            Self::Connect(_) => (Outcome::Connect, FAILS, Some((|on| on.connect, Next::Any))),
            Self::Late(Deadline::Request) => (Outcome::Deadline, None, None),
            Self::Late(_) => (Outcome::Timeout, FAILS, Some((|on| on.timeout, Next::Any))),
            Self::Disconnected(_) | Self::Truncated => (Outcome::Truncated, FAILS, Some((|on| on.server_error, Next::Any))),
            Self::Empty | Self::Malformed(_) => (Outcome::Broken, FAILS, Some((|on| on.server_error, Next::Any))),
            Self::Unsigned(_) => (Outcome::Credential, Some(Cause::Credential), Some((|on| on.credential, Next::Another))),
            Self::Withheld => (Outcome::ContentFilter, None, Some((|on| on.content_filter, Next::Another))),
            Self::Refused(class, _) => class_meaning(*class),
            Self::Rejected(_) => (Outcome::BadRequest, None, None),
            Self::Saturated | Self::Limited(_) => (Outcome::Limited, None, None),
            Self::Cancelled => (Outcome::Cancelled, None, None),
            Self::Drained => (Outcome::Drained, None, None),
            Self::Internal => (Outcome::ServerError, None, None),
        }
    }

    /// After this failure of an attempt of which the client has seen nothing: who may be asked next. `None` where the route does
    /// not retry it, and for what no target would take.
    pub fn retry(&self, retry: &Retry) -> Option<Next> {
        let (is_on, next) = self.meaning().2?;
        is_on(retry).then_some(next)
    }

    /// What it says about the target's health; `None`: nothing. `generates`: whether the failed request's operation is one that a
    /// model writes an answer to; `counts`: whether the target is judged by such requests.
    pub fn cause(&self, generates: bool, counts: bool) -> Option<Cause> {
        let cause = self.meaning().1?;
        let is_about_target = match self {
            Self::Connect(_) | Self::Unsigned(_) => true,
            Self::Refused(_, refusal) => counts && (generates || !refusal.is_about_endpoint()),
            _ => counts,
        };
        is_about_target.then_some(cause)
    }

    /// The metric's label.
    pub const fn outcome(&self) -> Outcome {
        self.meaning().0
    }

    /// The access log's `reason`; empty where the client's status says it.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Rejected(_) => "",
            Self::Limited(LimitError::Store) => LIMIT_STORE_FAILED,
            _ => self.outcome().name(),
        }
    }

    /// Who ended the request, where nothing follows.
    pub const fn ended_by(&self) -> EndedBy {
        match self {
            Self::Cancelled => EndedBy::Client,
            Self::Late(Deadline::Request) | Self::Drained | Self::Rejected(_) | Self::Saturated | Self::Limited(_) => EndedBy::Gateway,
            _ => EndedBy::Upstream,
        }
    }

    /// The client's error. `sent` translates the field that a provider blames into the client's own name of it.
    pub fn error(&self, provider: &str, sent: Option<Sent<'_>>) -> ApiError {
        let upstream = |what: &str| ApiError::upstream(format!("Provider `{provider}` {what}."));
        match self {
            Self::Rejected(error) | Self::Unsigned(error) => error.clone(),
            Self::Saturated => {
                let message = format!("All connections to provider `{provider}` are in use; try again later.");
                ApiError::new(503, ErrorKind::Overloaded, message)
            }
            Self::Limited(error) => error.into(),
            Self::Connect(connect) => connect.error(provider),
            Self::Disconnected(_) => upstream("closed the connection early"),
            Self::Late(deadline) => {
                let what = match deadline {
                    Deadline::FirstByte => "did not answer in time",
                    Deadline::FirstToken => "did not begin its answer in time",
                    Deadline::BetweenBytes => "fell silent in the middle of its answer",
                    Deadline::Total => "did not complete its answer in time",
                    Deadline::Request => {
                        let message = "The `x-request-timeout` of the request has passed before its answer was complete.";
                        return ApiError::new(504, ErrorKind::Timeout, message);
                    }
                };
                ApiError::new(504, ErrorKind::Timeout, format!("Provider `{provider}` {what}."))
            }
            Self::Empty => upstream("sent an empty answer"),
            Self::Refused(class, refusal) => refused(provider, *class, refusal, sent),
            Self::Malformed(what) => {
                let what = redact_to(what, MAX_MESSAGE);
                ApiError::upstream(format!("Provider `{provider}` sent an answer that cannot be read: {what}"))
            }
            Self::Truncated => upstream("broke off its answer"),
            Self::Withheld => ApiError::invalid("The provider's policy forbids the answer."),
            Self::Cancelled => ApiError::new(499, ErrorKind::InvalidRequest, "The client closed the request."),
            Self::Drained => {
                ApiError::new(503, ErrorKind::Overloaded, "The gateway is going away; send the request again to reach another.")
            }
            Self::Internal => ApiError::internal(),
        }
    }

    /// What the operator's log has of it: of a refused credential the provider's message, which is not the client's to know.
    pub fn detail(&self, provider: &str) -> String {
        match self {
            Self::Refused(FailureClass::Credential, refusal) if !refusal.message.trim().is_empty() => {
                redact_to(refusal.message.trim(), MAX_MESSAGE).into_owned()
            }
            _ => self.error(provider, None).message.into_owned(),
        }
    }
}

const fn class_meaning(class: FailureClass) -> Meaning {
    const FAILS: Option<Cause> = Some(Cause::Failures);
    match class {
        // The client's mistake, or a limit that says itself when it is over.
        FailureClass::BadRequest | FailureClass::StaleReasoning | FailureClass::UnknownReference => (Outcome::BadRequest, None, None),
        FailureClass::ContextLength => (Outcome::ContextLength, None, Some((|on| on.context_length, Next::Larger))),
        FailureClass::ContentFilter => (Outcome::ContentFilter, None, Some((|on| on.content_filter, Next::Another))),
        FailureClass::RateLimited => (Outcome::RateLimited, None, Some((|on| on.rate_limited, Next::Any))),
        FailureClass::TooLarge => (Outcome::RateLimited, None, Some((|on| on.rate_limited, Next::Another))),
        FailureClass::Credential => (Outcome::Credential, Some(Cause::Credential), Some((|on| on.credential, Next::Another))),
        FailureClass::NotFound => (Outcome::NotFound, Some(Cause::NotFound), Some((|on| on.not_found, Next::Another))),
        FailureClass::Overloaded => (Outcome::Overloaded, FAILS, Some((|on| on.server_error, Next::Any))),
        // The provider's own 408 and 504: no deadline of the gateway's has passed.
        FailureClass::Timeout => (Outcome::Timeout, FAILS, Some((|on| on.server_error, Next::Any))),
        FailureClass::Server => (Outcome::ServerError, FAILS, Some((|on| on.server_error, Next::Any))),
    }
}

/// A provider said no, with a status or inside its answer.
fn refused(provider: &str, class: FailureClass, refusal: &ProviderError, sent: Option<Sent<'_>>) -> ApiError {
    let said = redact_to(refusal.message.trim(), MAX_MESSAGE);
    let tell = |what: &str| {
        if said.is_empty() { format!("Provider `{provider}` {what}.") } else { format!("Provider `{provider}` {what}: {said}") }
    };
    let mut error = match class {
        // A provider that answers 400 to an unknown model is passed on with its own status.
        FailureClass::NotFound if refusal.class == FailureClass::BadRequest => ApiError::invalid(tell("refused the request")),
        FailureClass::NotFound | FailureClass::UnknownReference => {
            ApiError::new(404, ErrorKind::NotFound, tell("does not know what was asked for"))
        }
        FailureClass::BadRequest | FailureClass::ContextLength | FailureClass::ContentFilter | FailureClass::StaleReasoning => {
            ApiError::invalid(tell("refused the request"))
        }
        // What is wrong with the operator's account is not the client's to know, and waiting does not help.
        FailureClass::Credential => {
            let what = "did not accept the gateway's credentials or account";
            return ApiError::upstream(format!("Provider `{provider}` {what}; the gateway's operator has to fix this."));
        }
        FailureClass::RateLimited => ApiError::new(429, ErrorKind::RateLimit, tell("limits its requests")),
        FailureClass::TooLarge => ApiError::new(413, ErrorKind::InvalidRequest, tell("limits the size of requests")),
        FailureClass::Overloaded => ApiError::new(503, ErrorKind::Overloaded, tell("is overloaded")),
        FailureClass::Timeout => ApiError::new(504, ErrorKind::Timeout, tell("was too slow")),
        FailureClass::Server => ApiError::upstream(tell("failed")),
    };
    let waits = matches!(class, FailureClass::RateLimited | FailureClass::Overloaded);
    let wait = refusal.retry_after.or_else(|| refusal::from_words(&refusal.message).filter(|_| waits));
    error.retry_after = wait.filter(|_| class != FailureClass::TooLarge);
    if matches!(error.kind, ErrorKind::InvalidRequest | ErrorKind::NotFound) && class != FailureClass::TooLarge {
        error.code = refusal.code.as_deref().map(|code| redact_to(code, MAX_PARAM).into_owned().into());
    }
    let overflow = || (class == FailureClass::ContextLength).then(|| Overflow::read(&said));
    error.said = (!said.is_empty()).then(|| Box::new(Said { words: (*said).to_owned(), overflow: overflow() }));
    if error.status == 400 {
        let named = refusal.param.as_deref().map(|param| redact_to(param, MAX_PARAM));
        error.param = match sent {
            None => named.map(|param| param.into_owned().into()),
            // The field that the provider names, else the first one that its message names.
            Some(sent) => {
                let named = named.as_deref().map(|text| Path { text, sure: true });
                let found = named.into_iter().chain(blame::paths(&said)).find_map(|path| sent.in_clients_words(path));
                found.map(|found| redact_to(&found, MAX_PARAM).into_owned().into())
            }
        };
    }
    error
}

impl Connect {
    fn error(self, provider: &str) -> ApiError {
        let direct = |what: &str| ApiError::upstream(format!("Provider `{provider}` {what}."));
        let proxy = |what: String| ApiError::upstream(format!("The egress proxy {what}; the gateway's operator has to fix this."));
        match self {
            Self::Unreachable => direct("cannot be connected to"),
            Self::TimedOut => direct("did not accept a connection in time"),
            Self::Untrusted => direct("has no TLS connection that can be trusted"),
            Self::UnknownHost => direct("cannot be found"),
            Self::Http1Only => direct("does not speak HTTP/2"),
            Self::ProxyUnreachable => proxy(format!("on the way to provider `{provider}` cannot be connected to")),
            Self::ProxyUnknownHost => proxy(format!("on the way to provider `{provider}` cannot be found")),
            Self::TunnelRefused(Some(status)) => proxy(format!("refused the connection to provider `{provider}` with status {status}")),
            Self::TunnelRefused(None) => proxy(format!("opened no connection to provider `{provider}`")),
            Self::ForwardRefused(407) => proxy(format!("refused the request to provider `{provider}` with status 407")),
            Self::ForwardRefused(status) => {
                proxy(format!("refused the request to provider `{provider}` with status {status}, or a server behind it did"))
            }
        }
    }
}

impl From<ApiError> for AttemptFailure {
    fn from(error: ApiError) -> Self {
        Self::Rejected(error)
    }
}

impl From<ProviderError> for AttemptFailure {
    fn from(refusal: ProviderError) -> Self {
        Self::Refused(refusal.judged(), refusal)
    }
}

impl From<Fault> for AttemptFailure {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Provider(refusal) => refusal.into(),
            Fault::Broken(what) => Self::Malformed(what),
            Fault::Truncated => Self::Truncated,
        }
    }
}

impl std::fmt::Display for AttemptFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.outcome().name())
    }
}

impl std::error::Error for AttemptFailure {}

/// Longest part of a provider's message that is passed on, in bytes.
const MAX_MESSAGE: usize = 2048;
/// Longest name of a field that a provider blames, in bytes.
const MAX_PARAM: usize = 256;

#[cfg(test)]
#[path = "failure_tests.rs"]
mod tests;
