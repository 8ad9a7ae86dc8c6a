//! What follows from each failure.

use super::*;
use crate::llm::failure::FailureClass::{
    BadRequest, ContentFilter, ContextLength, Credential, NotFound, Overloaded, RateLimited, Server, StaleReasoning, Timeout, TooLarge,
    UnknownReference,
};
use std::time::Duration;

fn refusal(class: FailureClass, message: &str) -> AttemptFailure {
    ProviderError { retry_after: Some(Duration::from_secs(7)), ..ProviderError::new(class, message) }.into()
}

/// A refusal whose words say nothing else than its class.
fn plain(class: FailureClass) -> AttemptFailure {
    refusal(class, "the widget is too wide")
}

fn error(failure: &AttemptFailure) -> ApiError {
    failure.error("p", None)
}

#[test]
fn the_operators_problems_are_not_the_clients() {
    let failure = refusal(Credential, "Incorrect API key sk-abcdefghijklmnop");
    assert_eq!((error(&failure).status, failure.outcome()), (502, Outcome::Credential));
    assert!(!error(&failure).message.contains("sk-"));
}

#[test]
fn an_unpaid_account_is_no_rate_limit_and_a_request_to_blame_no_failure() {
    let unpaid = error(&refusal(RateLimited, "Your credit balance is too low to access the API"));
    assert_eq!((unpaid.status, unpaid.retry_after), (502, None));
    let limited = error(&refusal(RateLimited, "slow down"));
    assert_eq!((limited.status, limited.retry_after.is_some()), (429, true));
    let blamed = refusal(Server, "This model does not support tools");
    assert_eq!((error(&blamed).status, blamed.outcome()), (400, Outcome::BadRequest));
    let unknown = refusal(BadRequest, "The provided model identifier is invalid.");
    assert_eq!((error(&unknown).status, unknown.outcome()), (400, Outcome::NotFound));
}

#[test]
fn a_wait_in_a_providers_words_counts_where_no_header_has_one() {
    let words = "Rate limit reached. Please try again in 11.05s.";
    let waits = |class| error(&ProviderError::new(class, words).into()).retry_after;
    assert_eq!((waits(RateLimited), waits(Overloaded)), (Some(Duration::from_millis(11_050)), Some(Duration::from_millis(11_050))));
    assert_eq!((waits(BadRequest), error(&refusal(RateLimited, words)).retry_after), (None, Some(Duration::from_secs(7))));
}

#[test]
fn the_providers_code_stays_with_a_refusal_only() {
    let code = |class| error(&ProviderError { code: Some("cyber_policy".into()), ..ProviderError::new(class, "x") }.into()).code;
    assert_eq!(code(ContentFilter).as_deref(), Some("cyber_policy"));
    assert_eq!((code(Server), code(Credential), code(RateLimited)), (None, None, None));
}

#[test]
fn a_target_that_writes_answers_is_judged_by_them_and_by_its_connections() {
    let failed = Some(Cause::Failures);
    let unreachable = AttemptFailure::Connect(Connect::Unreachable);
    let (bare, unknown) = (refusal(NotFound, "Not Found"), refusal(NotFound, "The model `x` does not exist."));
    for (failure, generates, counts, want) in [
        (&unreachable, false, false, failed),
        (&plain(Server), true, true, failed),
        (&plain(Server), false, true, failed),
        (&plain(Server), false, false, None),
        (&AttemptFailure::Truncated, false, false, None),
        (&bare, true, true, Some(Cause::NotFound)),
        (&bare, false, true, None),
        (&unknown, false, true, Some(Cause::NotFound)),
        (&unknown, false, false, None),
    ] {
        assert_eq!(failure.cause(generates, counts), want, "{failure:?} {generates} {counts}");
    }
}

#[test]
fn each_class_has_its_status() {
    for (class, status, kind) in [
        (BadRequest, 400, "invalid_request_error"),
        (StaleReasoning, 400, "invalid_request_error"),
        (UnknownReference, 404, "not_found_error"),
        (NotFound, 404, "not_found_error"),
        (RateLimited, 429, "rate_limit_error"),
        (TooLarge, 413, "invalid_request_error"),
        (Overloaded, 503, "overloaded_error"),
        (Timeout, 504, "timeout_error"),
        (Server, 502, "upstream_error"),
    ] {
        let error = error(&plain(class));
        assert_eq!((error.status, error.kind.name()), (status, kind));
    }
    assert_eq!(error(&AttemptFailure::Late(Deadline::Total)).status, 504);
    let late = AttemptFailure::Late(Deadline::Request);
    assert_eq!((error(&late).status, late.ended_by(), late.cause(true, true)), (504, EndedBy::Gateway, None));
    let drained = AttemptFailure::Drained;
    assert_eq!((error(&drained).status, drained.ended_by()), (503, EndedBy::Gateway));
    assert_eq!((error(&AttemptFailure::Cancelled).status, AttemptFailure::Cancelled.ended_by()), (499, EndedBy::Client));
}

#[test]
fn a_request_that_no_minute_has_room_for_goes_elsewhere_and_is_not_to_be_repeated() {
    let failure = refusal(RateLimited, "Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 45000.");
    let error = error(&failure);
    assert_eq!((error.status, error.retry_after, failure.meaning().2.map(|retry| retry.1)), (413, None, Some(Next::Another)));
}

#[test]
fn every_member_of_an_error_is_without_secrets() {
    let _known = crate::redact::KnownSecrets::new(["correct-horse-battery"]);
    let refusal = |class| ProviderError {
        param: Some("correct-horse-battery".into()),
        code: Some("correct-horse-battery".into()),
        ..ProviderError::new(class, "no correct-horse-battery here")
    };
    let refused = error(&refusal(BadRequest).into());
    assert_eq!(refused.message, "Provider `p` refused the request: no [redacted] here");
    assert_eq!((refused.param.as_deref(), refused.code.as_deref()), (Some("[redacted]"), Some("[redacted]")));
    let broken = error(&Fault::Broken("finish_reason `correct-horse-battery`".into()).into());
    assert!(broken.message.ends_with("finish_reason `[redacted]`"), "{}", broken.message);
    let failed = error(&Fault::Provider(refusal(Server)).into());
    assert!(failed.message.ends_with("no [redacted] here") && failed.param.is_none());
}

#[test]
fn a_long_message_is_cut_once_its_secrets_are_gone() {
    let _known = crate::redact::KnownSecrets::new(["correct-horse-battery"]);
    let refused = |message: &str| error(&refusal(BadRequest, message)).message;
    let prefix = "Provider `p` refused the request: ".len();
    assert_eq!(refused(&"é".repeat(2000)).len(), prefix + MAX_MESSAGE);
    let text = refused(&format!("{} correct-horse-battery", "word ".repeat(407)));
    assert!(!text.contains("correct"), "{text}");
}

/// Each failure with what it is of in `retry.on`, who may be asked after it, and what it says about the target.
fn table() -> Vec<(AttemptFailure, &'static str, Option<Next>, Option<Cause>)> {
    use AttemptFailure as F;
    const FAILS: Option<Cause> = Some(Cause::Failures);
    let (any, another) = (Some(Next::Any), Some(Next::Another));
    let no = ApiError::invalid("no");
    vec![
        (F::Connect(Connect::Unreachable), "connect", any, FAILS),
        (F::Connect(Connect::ForwardRefused(502)), "connect", any, FAILS),
        (F::Late(Deadline::FirstByte), "timeout", any, FAILS),
        (plain(RateLimited), "rate_limited", any, None),
        (F::Malformed("x".into()), "server_error", any, FAILS),
        (F::Truncated, "server_error", any, FAILS),
        (F::Empty, "server_error", any, FAILS),
        (F::Disconnected(Delivery::Processed), "server_error", any, FAILS),
        (plain(Timeout), "server_error", any, FAILS),
        (plain(Overloaded), "server_error", any, FAILS),
        (plain(Server), "server_error", any, FAILS),
        (plain(Credential), "credential", another, Some(Cause::Credential)),
        (F::Unsigned(no.clone()), "credential", another, Some(Cause::Credential)),
        (plain(NotFound), "not_found", another, Some(Cause::NotFound)),
        (plain(ContextLength), "context_length", Some(Next::Larger), None),
        (plain(ContentFilter), "content_filter", another, None),
        (F::Withheld, "content_filter", another, None),
        (plain(BadRequest), "none", None, None),
        (plain(StaleReasoning), "none", None, None),
        (plain(UnknownReference), "none", None, None),
        (F::Rejected(no), "none", None, None),
        (F::Saturated, "none", None, None),
        (F::Limited(LimitError::Store), "none", None, None),
        (F::Cancelled, "none", None, None),
        (F::Drained, "none", None, None),
        (F::Internal, "none", None, None),
    ]
}

#[test]
fn each_failure_is_retried_for_its_own_reason() {
    let reasons = ["connect", "timeout", "rate_limited", "server_error", "credential", "not_found", "context_length", "content_filter"];
    let on = |reason: &str| {
        let text = format!(
            "providers: {{ p: {{ kind: openai, api_key: k }} }}\nroutes: {{ r: {{ targets: [ {{ provider: p, model: m }} ]{reason} }} }}\n"
        );
        crate::config::parse(&text, "t", &|_| None).unwrap_or_else(|problems| panic!("{problems:?}")).snapshot.routes[0].retry
    };
    let by_default = on("");
    for (failure, its_own, next, cause) in table() {
        for reason in reasons {
            let retried = failure.retry(&on(&format!(", retry: {{ on: [{reason}] }}")));
            assert_eq!(retried, next.filter(|_| reason == its_own), "{failure:?} {reason}");
        }
        assert_eq!(failure.retry(&by_default), next.filter(|_| its_own != "content_filter"), "{failure:?}");
        assert_eq!(failure.cause(true, true), cause, "{failure:?}");
    }
}

#[test]
fn a_failure_of_the_limit_store_has_a_reason_of_its_own_and_a_refused_request_has_that_of_its_status() {
    let reasons = [AttemptFailure::Limited(LimitError::Store), AttemptFailure::Saturated, ApiError::invalid("no").into()];
    assert_eq!(reasons.each_ref().map(AttemptFailure::reason), ["limit_store_failed", "limited", ""]);
}
