//! Everything that can go wrong behind the gateway, in the words of its clients. Total: every error has an answer.

use super::connector::via::{PROXY_REFUSED, PROXY_UNREACHABLE};
use super::replay::{DRAINED, EMPTY, LATE};
use crate::dialect::shared::blame::{self, Path, Sent};
use crate::egress::is_proxys_refusal;
use crate::egress::proxy::Proxy;
use crate::egress::tunnel::TunnelError;
use crate::error::{ApiError, ErrorKind};
use crate::llm::failure::{FailureClass, Fault, ProviderError};
use crate::provider::Provider;
use crate::redact::redact_to;
use crate::route::retry;
use crate::telemetry::labels::Outcome;
use crate::telemetry::throttle::Throttle;
use http::HeaderMap;
use pingora_core::{Error, ErrorSource, ErrorType};
use std::time::Instant;

/// Longest part of a provider's message that is passed on, in bytes.
const MAX_MESSAGE: usize = 2048;
/// Longest part of the name of a field that a provider blames, in bytes.
const MAX_PARAM: usize = 256;

/// What the gateway says before a provider's refusal of a request.
const REFUSED: &str = "refused the request";

/// How an attempt failed.
#[derive(Debug)]
pub struct Failure {
    /// Decides whether another attempt is made; `None` where none would help.
    pub retry: Option<retry::Failure>,
    /// What the metrics call it.
    pub outcome: Outcome,
    /// What the client is told when this was the last attempt.
    pub error: ApiError,
    /// What the provider said that only the operator may know; empty where there is nothing.
    pub detail: Box<str>,
}

impl Failure {
    /// A failure without a secret part.
    pub fn new(retry: Option<retry::Failure>, outcome: Outcome, error: ApiError) -> Self {
        Self { retry, outcome, error, detail: Box::default() }
    }

    /// Whether there is nobody left to tell.
    pub fn client_is_gone(&self) -> bool {
        self.outcome == Outcome::Cancelled
    }

    /// Puts the client's name of the field that a refusal is about into the error: the one that the provider blames, else
    /// the first that its message names.
    pub fn blame(&mut self, sent: Option<Sent<'_>>) {
        let said = self.error.message.split_once(REFUSED).map_or("", |(_, said)| said.trim_start_matches([':', ' ']));
        let blamed = self.error.param.as_deref().map(|text| Path { text, sure: true });
        let found = blamed.into_iter().chain(blame::paths(said)).find_map(|path| sent?.in_clients_words(path));
        self.error.param = found.map(|found| redact_to(&found, MAX_PARAM).into_owned().into());
    }
}

/// A provider said no, with a status or inside its answer.
pub fn of_provider(provider: &str, refusal: &ProviderError) -> Failure {
    let said = redact_to(refusal.message.trim(), MAX_MESSAGE);
    let tell = |what: &str| {
        if said.is_empty() { format!("Provider `{provider}` {what}.") } else { format!("Provider `{provider}` {what}: {said}") }
    };
    let class = refusal.judged();
    let error = match class {
        FailureClass::BadRequest | FailureClass::ContextLength | FailureClass::ContentFilter => ApiError::invalid(tell(REFUSED)),
        // What is wrong with the operator's account is not the client's to know.
        FailureClass::Credential => {
            let what = "did not accept the gateway's credentials or account";
            ApiError::upstream(format!("Provider `{provider}` {what}; the gateway's operator has to fix this."))
        }
        // A provider that answers 400 to an unknown model is passed on with its own status.
        FailureClass::NotFound if refusal.class == FailureClass::BadRequest => ApiError::invalid(tell(REFUSED)),
        FailureClass::NotFound => ApiError::new(404, ErrorKind::NotFound, tell("does not know what was asked for")),
        FailureClass::RateLimited => ApiError::new(429, ErrorKind::RateLimit, tell("limits its requests")),
        FailureClass::Overloaded => ApiError::new(503, ErrorKind::Overloaded, tell("is overloaded")),
        FailureClass::Timeout => ApiError::new(504, ErrorKind::Timeout, tell("was too slow")),
        FailureClass::Server => ApiError::upstream(tell("failed")),
    };
    let param = refusal.param.as_deref().filter(|_| error.status == 400);
    let param = param.map(|param| redact_to(param, MAX_PARAM).into_owned().into());
    let detail = if class == FailureClass::Credential { said.as_ref().into() } else { Box::default() };
    Failure {
        retry: Some(retry::Failure::Provider(class)),
        outcome: class.into(),
        // Waiting does not pay a bill.
        error: ApiError { retry_after: refusal.retry_after.filter(|_| class != FailureClass::Credential), param, ..error },
        detail,
    }
}

/// An answer cannot be trusted any further.
pub fn of_fault(provider: &str, fault: &Fault) -> Failure {
    match fault {
        Fault::Provider(refusal) => of_provider(provider, refusal),
        Fault::Broken(what) => Failure::new(
            Some(retry::Failure::Broken),
            fault.into(),
            ApiError::upstream(format!("Provider `{provider}` sent an answer that cannot be read: {}", redact_to(what, MAX_MESSAGE))),
        ),
        Fault::Truncated => Failure::new(
            Some(retry::Failure::Broken),
            fault.into(),
            ApiError::upstream(format!("Provider `{provider}` broke off its answer.")),
        ),
    }
}

/// Whether a connection was not made in time.
pub fn is_late(e: &Error) -> bool {
    matches!(e.etype(), ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout)
}

/// Pingora could not connect to the provider.
pub fn of_connect(provider: &str, e: &Error) -> Failure {
    let what = match e.etype() {
        etype if *etype == PROXY_REFUSED => match e.root_cause().downcast_ref::<TunnelError>() {
            Some(TunnelError::Refused(status)) => {
                return of_egress(&format!("refused the connection to provider `{provider}` with status {status}"));
            }
            _ => return of_egress(&format!("opened no connection to provider `{provider}`")),
        },
        etype if *etype == PROXY_UNREACHABLE => return of_egress(&format!("on the way to provider `{provider}` cannot be connected to")),
        _ if is_late(e) => "did not accept a connection in time",
        ErrorType::TLSHandshakeFailure | ErrorType::InvalidCert | ErrorType::HandshakeError => "has no TLS connection that can be trusted",
        _ => "cannot be connected to",
    };
    Failure::new(Some(retry::Failure::Connect), Outcome::Connect, ApiError::upstream(format!("Provider `{provider}` {what}.")))
}

/// The egress proxy is to blame: a failed connect to the provider.
fn of_egress(what: &str) -> Failure {
    let error = ApiError::upstream(format!("The egress proxy {what}; the gateway's operator has to fix this."));
    Failure::new(Some(retry::Failure::Connect), Outcome::Connect, error)
}

/// What a proxy that is given requests in absolute form says itself of one of them, in place of the provider's answer. `None`
/// where the answer is the provider's.
pub fn of_forward(provider: &str, proxy: &Proxy, status: u16, headers: &HeaderMap) -> Option<Failure> {
    if !is_proxys_refusal(status, headers) {
        return None;
    }
    let more = if status == 407 { "" } else { ", or a server behind it did" };
    static REFUSED_FORWARD: Throttle = Throttle::new();
    if let Some(suppressed) = REFUSED_FORWARD.admit(Instant::now()) {
        log::warn!("provider `{provider}`: the egress proxy {proxy} refused a request with status {status}{more}{suppressed}");
    }
    Some(of_egress(&format!("refused the request to provider `{provider}` with status {status}{more}")))
}

/// The provider's host, or that of the proxy on the way, has no address.
pub fn of_unknown_host(provider: &Provider) -> Failure {
    let name = &provider.name;
    if provider.proxy().is_some() {
        return of_egress(&format!("on the way to provider `{name}` cannot be found"));
    }
    let error = ApiError::upstream(format!("Provider `{name}` cannot be found."));
    Failure::new(Some(retry::Failure::Connect), Outcome::Connect, error)
}

/// The provider is configured for HTTP/2 and has chosen HTTP/1.1.
pub fn of_http1(provider: &str) -> Failure {
    let error = ApiError::upstream(format!("Provider `{provider}` does not speak HTTP/2."));
    Failure::new(Some(retry::Failure::Connect), Outcome::Connect, error)
}

/// Pingora gave up on a request that was under way.
pub fn of_proxy(provider: &str, e: &Error) -> Failure {
    if *e.etype() == LATE {
        let what = e.context.as_ref().map_or("the provider was too slow", |c| c.as_str());
        return Failure::new(
            Some(retry::Failure::Timeout),
            Outcome::Timeout,
            ApiError::new(504, ErrorKind::Timeout, format!("Provider `{provider}`: {what}.")),
        );
    }
    if *e.etype() == DRAINED {
        return Failure::new(
            None,
            Outcome::Drained,
            ApiError::new(503, ErrorKind::Overloaded, "The gateway is going away; send the request again to reach another."),
        );
    }
    if *e.etype() == EMPTY {
        return Failure::new(
            Some(retry::Failure::Broken),
            Outcome::Broken,
            ApiError::upstream(format!("Provider `{provider}` sent an empty answer.")),
        );
    }
    match e.esource() {
        ErrorSource::Upstream => match e.etype() {
            ErrorType::ReadTimedout | ErrorType::WriteTimedout => Failure::new(
                Some(retry::Failure::Timeout),
                Outcome::Timeout,
                ApiError::new(504, ErrorKind::Timeout, format!("Provider `{provider}` took too long.")),
            ),
            _ => Failure::new(
                Some(retry::Failure::Broken),
                Outcome::Truncated,
                ApiError::upstream(format!("Provider `{provider}` broke the connection off.")),
            ),
        },
        ErrorSource::Downstream => {
            Failure::new(None, Outcome::Cancelled, ApiError::new(499, ErrorKind::InvalidRequest, "The client closed the request."))
        }
        ErrorSource::Internal | ErrorSource::Unset => Failure::new(
            None,
            Outcome::ServerError,
            ApiError::new(500, ErrorKind::Internal, "The gateway failed; its log has more under the request id."),
        ),
    }
}

/// Whether the provider cannot have had the whole request: Pingora says so of a head only, and a connection can
/// close between the head and the body.
pub fn is_unsent(e: &Error) -> bool {
    *e.esource() == ErrorSource::Upstream && *e.etype() == ErrorType::WriteError
}

/// Whether the connection to the provider broke, where nothing of that is a deadline's doing.
pub fn is_broken(e: &Error) -> bool {
    *e.esource() == ErrorSource::Upstream && !matches!(e.etype(), ErrorType::ReadTimedout | ErrorType::WriteTimedout)
}

/// Whether an HTTP/2 server has certainly not processed the request.
///
/// RFC 9113, section 8.7: "The GOAWAY mechanism indicates the highest stream number that can be processed. Requests on streams
/// with higher numbers are therefore guaranteed to be safe to retry. […] The REFUSED_STREAM error code can be included in a
/// RST_STREAM frame to indicate that the stream is being closed prior to any processing having occurred."
pub fn is_unprocessed(e: &Error) -> bool {
    let Some(h2) = e.root_cause().downcast_ref::<h2::Error>() else { return false };
    // `h2` reports a GOAWAY to the streams above its last one only; the others end with the connection.
    let unseen = h2.is_go_away() && h2.is_remote();
    // Pingora reports an answer that cannot be read as another error: here the connection closed before the request.
    let unsent = h2.is_io() && *e.etype() == ErrorType::H2Error;
    unseen || unsent || is_refused(e)
}

/// Whether an HTTP/2 server has refused the request's stream, on a connection that may be open still.
pub fn is_refused(e: &Error) -> bool {
    let h2 = e.root_cause().downcast_ref::<h2::Error>();
    h2.is_some_and(|h2| h2.is_reset() && h2.is_remote() && h2.reason() == Some(h2::Reason::REFUSED_STREAM))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(class: FailureClass) -> (u16, &'static str) {
        let f = of_provider("p", &ProviderError { class, message: "the widget is too wide".into(), param: None, retry_after: None });
        (f.error.status, f.error.kind.name())
    }

    #[test]
    fn the_operators_problems_are_not_the_clients() {
        let f = of_provider(
            "p",
            &ProviderError {
                class: FailureClass::Credential,
                message: "Incorrect API key sk-abcdefghijklmnop".into(),
                param: None,
                retry_after: None,
            },
        );
        assert_eq!((f.error.status, f.outcome), (502, Outcome::Credential));
        assert!(!f.error.message.contains("sk-"));
    }

    #[test]
    fn an_unpaid_account_is_no_rate_limit_and_a_request_to_blame_no_failure() {
        let failure = |class, message: &str| {
            let wait = Some(std::time::Duration::from_secs(7));
            of_provider("p", &ProviderError { class, message: message.into(), param: None, retry_after: wait })
        };
        let unpaid = failure(FailureClass::RateLimited, "Your credit balance is too low to access the API");
        assert_eq!((unpaid.error.status, unpaid.error.retry_after), (502, None));
        let limited = failure(FailureClass::RateLimited, "slow down");
        assert_eq!((limited.error.status, limited.error.retry_after.is_some()), (429, true));
        let blamed = failure(FailureClass::Server, "This model does not support tools");
        assert_eq!((blamed.error.status, blamed.retry), (400, Some(retry::Failure::Provider(FailureClass::BadRequest))));
        let unknown = failure(FailureClass::BadRequest, "The provided model identifier is invalid.");
        assert_eq!((unknown.error.status, unknown.retry), (400, Some(retry::Failure::Provider(FailureClass::NotFound))));
    }

    #[test]
    fn each_class_has_its_status() {
        assert_eq!(said(FailureClass::BadRequest), (400, "invalid_request_error"));
        assert_eq!(said(FailureClass::NotFound), (404, "not_found_error"));
        assert_eq!(said(FailureClass::RateLimited), (429, "rate_limit_error"));
        assert_eq!(said(FailureClass::Overloaded), (503, "overloaded_error"));
        assert_eq!(said(FailureClass::Timeout), (504, "timeout_error"));
        assert_eq!(said(FailureClass::Server), (502, "upstream_error"));
    }

    #[test]
    fn a_client_that_left_is_told_from_a_provider_that_broke_off() {
        let gone = Error::new_down(ErrorType::ConnectionClosed);
        assert!(of_proxy("p", &gone).client_is_gone());
        assert!(!of_proxy("p", &Error::new_up(ErrorType::ConnectionClosed)).client_is_gone());
        // A deadline is noticed on the downstream side and is the upstream's all the same.
        assert_eq!(of_proxy("p", &Error::explain(LATE, "x").into_down()).error.status, 504);
        let drained = of_proxy("p", &Error::explain(DRAINED, "x").into_down());
        assert!(drained.error.status == 503 && drained.retry.is_none() && !drained.client_is_gone());
    }

    #[test]
    fn every_member_of_an_error_is_without_secrets() {
        let _known = crate::redact::KnownSecrets::new(["correct-horse-battery"]);
        let refusal = |class| ProviderError {
            class,
            message: "no correct-horse-battery here".into(),
            param: Some("correct-horse-battery".into()),
            retry_after: None,
        };
        let refused = of_provider("p", &refusal(FailureClass::BadRequest)).error;
        assert_eq!(refused.message, "Provider `p` refused the request: no [redacted] here");
        assert_eq!(refused.param.as_deref(), Some("[redacted]"));
        let broken = of_fault("p", &Fault::Broken("finish_reason `correct-horse-battery`".into())).error;
        assert!(broken.message.ends_with("finish_reason `[redacted]`"), "{}", broken.message);
        let failed = of_fault("p", &Fault::Provider(refusal(FailureClass::Server))).error;
        assert!(failed.message.ends_with("no [redacted] here") && failed.param.is_none());
    }

    #[test]
    fn a_long_message_is_cut_once_its_secrets_are_gone() {
        let _known = crate::redact::KnownSecrets::new(["correct-horse-battery"]);
        let refused = |message: String| {
            let refusal = ProviderError { class: FailureClass::BadRequest, message, param: None, retry_after: None };
            of_provider("p", &refusal).error.message
        };
        let prefix = "Provider `p` refused the request: ".len();
        assert_eq!(refused("é".repeat(2000)).len(), prefix + MAX_MESSAGE);
        let text = refused(format!("{} correct-horse-battery", "word ".repeat(407)));
        assert!(!text.contains("correct"), "{text}");
    }
}
