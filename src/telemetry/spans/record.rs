//! What is known of a traced request: its attempts while it runs, and all of it at its end.

use crate::account::Ledger;
use crate::limit::Scope;
use crate::limit::rule::Dimension;
use crate::llm::finish::FinishReasons;
use crate::llm::usage::Usage;
use crate::operation::Operation;
use crate::provider::Target;
use crate::redact::truncated;
use crate::telemetry::access::AccessLine;
use crate::telemetry::labels::Outcome;
use crate::telemetry::trace::Trace;
use http::HeaderValue;
use std::sync::Arc;
use std::time::Duration;

/// Longest text of an attribute that a client may have chosen, in bytes.
const MAX_TEXT: usize = 256;

/// The attempts of a traced request, as many as its route allows; of any other request nothing is kept. Times are counted from
/// the request's arrival.
#[derive(Default)]
pub struct AttemptSpans(Option<Vec<AttemptSpan>>);

/// An attempt at a target.
pub struct AttemptSpan {
    /// Never 0.
    pub id: u64,
    /// The target.
    pub target: Arc<Target>,
    /// The model there.
    pub model: Box<str>,
    /// When it began.
    pub began: Duration,
    /// When and how it ended; `None` if the request ended first.
    pub ended: Option<(Duration, Outcome)>,
    /// Status of the provider's response.
    pub status: Option<u16>,
    /// What was used, where that is charged.
    pub used: Option<Used>,
}

/// What an attempt used.
pub struct Used {
    /// Tokens.
    pub usage: Usage,
    /// Whether they are partly estimated.
    pub estimated: bool,
    /// Why the choices of its answer ended.
    pub finish: FinishReasons,
    /// The provider's id of an answer that passes.
    pub id: Option<Box<str>>,
}

impl AttemptSpans {
    /// Of a traced request that has not made any.
    pub const fn traced() -> Self {
        Self(Some(Vec::new()))
    }

    /// An attempt begins, with any number as its id, at a time.
    pub fn begin(&mut self, target: &Arc<Target>, model: &str, id_and_time: impl FnOnce() -> (u64, Duration)) {
        let Some(attempts) = &mut self.0 else { return };
        let (id, began) = id_and_time();
        let (id, target, model) = (id.max(1), target.clone(), clipped(model));
        attempts.push(AttemptSpan { id, target, model, began, ended: None, status: None, used: None });
    }

    /// The span id of the attempt under way.
    pub fn current_id(&self) -> Option<u64> {
        let last = self.0.as_ref()?.last()?;
        last.ended.is_none().then_some(last.id)
    }

    /// The provider has responded with this status.
    pub fn set_status(&mut self, status: u16) {
        if let Some(attempt) = self.current() {
            attempt.status = Some(status);
        }
    }

    /// What the ledger has is what the attempt has used.
    pub fn set_used(&mut self, ledger: &Ledger) {
        if let Some(attempt) = self.current() {
            let Ledger { usage, estimated, finish, .. } = *ledger;
            attempt.used = Some(Used { usage, estimated, finish, id: ledger.upstream_id.clone() });
        }
    }

    /// The attempt has ended, at a time.
    pub fn end(&mut self, outcome: Outcome, time: impl FnOnce() -> Duration) {
        if let Some(attempt) = self.current() {
            attempt.ended = Some((time(), outcome));
        }
    }

    /// All attempts, at the end of a traced request.
    pub fn take(&mut self) -> Option<Vec<AttemptSpan>> {
        self.0.take()
    }

    fn current(&mut self) -> Option<&mut AttemptSpan> {
        self.0.as_mut()?.last_mut().filter(|attempt| attempt.ended.is_none())
    }
}

/// The client's request as HTTP has it.
#[derive(Clone, Copy, Debug)]
pub struct Http {
    /// The method, or `_OTHER` for one that HTTP does not define.
    pub method: &'static str,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// Version of HTTP, like `1.1`.
    pub version: &'static str,
}

/// What a span has beside the line of the access log.
pub struct Origin<'a> {
    /// Ids of the span.
    pub trace: Trace,
    /// The client's `tracestate`.
    pub trace_state: Option<HeaderValue>,
    /// When the request's headers had been read, since the Unix epoch.
    pub arrived: Duration,
    /// As HTTP has it.
    pub http: Http,
    /// What it asked a model for.
    pub operation: Option<Operation>,
    /// The model that it asked for, once its limits have admitted it.
    pub model: Option<&'a str>,
}

/// A traced request that has ended. Empty strings are absent values.
pub struct FinishedRequest {
    /// See [`Origin`], from here …
    pub trace: Trace,
    /// The client's `tracestate`.
    pub trace_state: Option<HeaderValue>,
    /// When its headers had been read.
    pub arrived: Duration,
    /// As HTTP has it.
    pub http: Http,
    /// What it asked a model for.
    pub operation: Option<Operation>,
    /// The model that it asked for; one that no route has, redacted.
    pub model: Box<str>,
    /// … and [`AccessLine`], from here on.
    pub request_id: Box<str>,
    /// Id that groups requests.
    pub episode_id: Box<str>,
    /// The endpoint.
    pub endpoint: &'static str,
    /// What sticky balancing went by.
    pub sticky_by: &'static str,
    /// The team.
    pub team: Box<str>,
    /// Id of the key or of who shows a token.
    pub key: Box<str>,
    /// Which of both it is.
    pub auth: &'static str,
    /// The route.
    pub route: Box<str>,
    /// The provider's model.
    pub upstream_model: Box<str>,
    /// Skipped targets.
    pub passed_over: Box<str>,
    /// Why it was rejected or failed.
    pub reason: &'static str,
    /// The limit that rejected it.
    pub limit: Option<(Scope, Dimension)>,
    /// Counts, times and outcome.
    pub ledger: Ledger,
    /// Names and values of the operator's attributes.
    pub attributes: Box<[(Box<str>, Box<str>)]>,
    /// Its attempts.
    pub attempts: Vec<AttemptSpan>,
}

impl FinishedRequest {
    /// A request with its line of the access log: whatever that has can be an attribute of its span.
    pub fn new(line: &AccessLine<'_>, origin: Origin<'_>, attempts: Vec<AttemptSpan>) -> Self {
        let Origin { trace, trace_state, arrived, http, operation, model } = origin;
        Self {
            trace,
            trace_state,
            arrived,
            http,
            operation,
            model: clipped(model.unwrap_or(line.model)),
            request_id: line.request_id.into(),
            episode_id: line.episode_id.into(),
            endpoint: line.endpoint,
            sticky_by: line.sticky_by,
            team: line.team.into(),
            key: line.key.into(),
            auth: line.auth,
            route: line.route.into(),
            upstream_model: clipped(line.upstream_model),
            passed_over: line.passed_over.into(),
            reason: line.reason,
            limit: line.limit,
            ledger: line.ledger.clone(),
            attributes: line
                .attributes
                .iter()
                .filter(|(_, value)| !value.is_empty())
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
            attempts,
        }
    }

    /// Number of its spans.
    pub fn spans(&self) -> usize {
        1 + self.attempts.len()
    }
}

fn clipped(text: &str) -> Box<str> {
    truncated(text, MAX_TEXT).into()
}
