//! One request, from its first byte to its line in the log.
//!
//! ```text
//! Received --intake--> Admitted --route--> Routed --first content--> Relaying --end--> Settled
//!    |                    |                  | ^                        |
//!    +----- refused ------+--- refused ------+ +- next target on failure +- error event
//! ```
//!
//! `Exchange` is Pingora's per-request context. What exists only from a stage on is reached through the `Option` that
//! the stage fills: a [`Call`] from `Routed` on, its [`Attempt`] while one target is being asked.

use super::drain::Presence;
use super::live::Live;
use super::rescue::{self, Failure};
use super::respond;
use super::stage::{Deadlines, Stage};
use super::upstream::Place;
use crate::account::{EndedBy, Ledger, cost};
use crate::chat::chunk::UsagePlace;
use crate::chat::head::Head;
use crate::chat::request::{ChatRequest, Parsed};
use crate::chat::usage::Usage;
use crate::config::snapshot::{Route, StreamUsage, Timeouts};
use crate::dialect::{FailureClass, Fault, Framing, Outgoing};
use crate::error::ApiError;
use crate::limit::estimate::INITIAL_BYTES_PER_TOKEN;
use crate::limit::{Permit, Prospect, Used};
use crate::operation::Operation;
use crate::provider::Target;
use crate::relay::{Form, Relay};
use crate::route::health::Asking;
use crate::route::r#match::Found;
use crate::route::retry::{self, Attempts, Turn};
use crate::telemetry::labels::Outcome;
use crate::telemetry::metrics::InFlight;
use crate::telemetry::trace::Trace;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue};
use pingora_http::ResponseHeader;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// Largest body of a provider's refusal that is read, in bytes; what is beyond is not needed to tell what it says.
pub const MAX_REFUSAL: usize = 64 << 10;

/// Room for the headers of an answer without limits; Pingora keeps them until the connection's next request.
const HEADERS: usize = 8;
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_ATTEMPTS: HeaderName = HeaderName::from_static("x-tidegate-attempts");
const X_PROVIDER: HeaderName = HeaderName::from_static("x-tidegate-provider");
const X_MODEL: HeaderName = HeaderName::from_static("x-tidegate-upstream-model");
const X_DROPPED: HeaderName = HeaderName::from_static("x-tidegate-dropped-params");
const X_ADJUSTED: HeaderName = HeaderName::from_static("x-tidegate-adjusted-params");

/// See the module.
pub struct Exchange {
    /// The configuration and its state; the same for the whole request.
    pub live: Arc<Live>,
    /// `x-request-id`.
    pub id: Uuid,
    /// When the request's headers had been read.
    pub began: Instant,
    /// The trace it belongs to.
    pub trace: Trace,
    /// What the log and the metrics are written from.
    pub ledger: Ledger,
    /// Why it was refused or failed, as a word of a closed set; for the log.
    pub reason: &'static str,
    /// Time spent in the gateway itself so far.
    pub busy: Duration,
    /// From `Routed` on.
    pub call: Option<Box<Call>>,
    /// Counts the request for its route, once that is known.
    pub in_flight: Option<InFlight>,
    /// Counts the request for a drain.
    pub presence: Presence,
}

/// A request that may be served, and everything needed to ask targets for it.
pub struct Call {
    /// What the client asks for.
    pub operation: Operation,
    /// The client's request; given up when the answer is committed.
    pub parsed: Option<Parsed>,
    /// The route.
    pub route: Arc<Route>,
    /// What the route's `*` stands for, where it has one.
    pub star: Option<Box<str>>,
    /// Identity of the answer.
    pub head: Head,
    /// Whether the client asked for a stream.
    pub stream: bool,
    /// Whether it asked for usage in the stream.
    pub include_usage: bool,
    /// What it was expected to use.
    pub prospect: Prospect,
    /// The limits it was admitted under; settles when dropped.
    pub permit: Permit,
    /// The context that sealed ids are bound to: the team.
    pub team: Arc<str>,
    /// Which targets are asked, and how often.
    pub attempts: Attempts,
    /// The target that is asked next.
    pub next: Option<Turn>,
    /// The target that is being asked.
    pub attempt: Option<Attempt>,
    /// Shared with the replay session.
    pub stage: Arc<Stage>,
    /// What the client is told if nobody else answers.
    pub failure: Option<ApiError>,
}

/// One try at one target.
pub struct Attempt {
    /// Who is asked.
    pub target: Arc<Target>,
    /// The model there.
    pub model: Box<str>,
    /// Its deadlines.
    pub timeouts: Timeouts,
    /// The request that goes there; its decoder has moved into `reading`.
    pub outgoing: Outgoing,
    /// What is being read.
    pub reading: Reading,
    /// What the target's health learns of it, until it has failed.
    pub asking: Option<Asking>,
    /// A place among the provider's connections.
    pub place: Option<Place>,
    /// Whether its request has been given to the provider.
    pub asked: bool,
}

/// What the upstream's body is.
pub enum Reading {
    /// No response headers yet.
    Nothing,
    /// A refusal: status, headers, body so far.
    Refusal(u16, HeaderMap, Vec<u8>),
    /// The answer.
    Answer(Box<Relay>),
    /// The answer has been told as far as it goes.
    Over,
}

/// What a piece of the upstream's body leads to.
pub enum Step {
    /// These bytes go to the client.
    Write(Vec<u8>),
    /// The attempt has failed and another one will be made.
    Retry(&'static str),
}

impl Exchange {
    /// A request whose headers have just been read.
    pub fn new(live: Arc<Live>) -> Self {
        let presence = live.drain.presence();
        let trace = Trace { trace_id: 0, span_id: 0, flags: 0 };
        Self {
            live,
            id: Uuid::now_v7(),
            began: Instant::now(),
            trace,
            ledger: Ledger::new(),
            reason: "",
            busy: Duration::ZERO,
            call: None,
            in_flight: None,
            presence,
        }
    }

    /// Makes the next attempt ready: writes the request to the target whose turn it is.
    ///
    /// A later target that cannot keep what the client asked for is passed over; the first one's refusal is the
    /// client's 400.
    ///
    /// # Errors
    /// What the client is told when there is no target left.
    pub async fn prepare(&mut self) -> Result<(), ApiError> {
        let now = self.live.now();
        let call = self.call.as_deref_mut().ok_or_else(internal)?;
        while let Some(Turn { target, asking, .. }) = call.next.take() {
            self.ledger.attempts = call.attempts.made();
            self.ledger.provider = Some(target.provider.index);
            let entered = self.live.store.enter(&mut call.permit, target.provider.index, now).await;
            let entered = entered.map_err(|denied| super::admission::refuse(&self.live, &denied));
            match entered.and_then(|()| call.encode(target, asking, &self.live)) {
                Ok(attempt) => {
                    call.attempt = Some(attempt);
                    return Ok(());
                }
                Err(error) if error.status < 429 && call.failure.is_none() => return Err(error),
                Err(error) => {
                    let class = if error.status == 429 { FailureClass::RateLimited } else { FailureClass::Overloaded };
                    call.failure.get_or_insert(error);
                    call.turn(retry::Failure::Provider(class), &self.live);
                }
            }
        }
        Err(call.failure.clone().unwrap_or_else(internal))
    }

    /// An attempt has failed. `true`: another one will be made. `false`: [`Call::failure`] is what the client is told.
    pub fn failed(&mut self, failure: Failure) -> bool {
        if failure.client_is_gone() {
            self.account(true);
        }
        let Some(call) = self.call.as_deref_mut() else { return false };
        let Some(attempt) = call.attempt.as_mut() else { return false };
        attempt.reading = Reading::Over;
        attempt.place = None;
        call.permit.leave_provider();
        let target = attempt.target.clone();
        self.live.metrics.attempt(target.provider.index, failure.outcome);
        self.reason = failure.outcome.name();
        if failure.outcome == Outcome::Credential {
            log::error!("provider `{}` does not accept its credentials (request {})", target.provider.name, self.id);
        }
        let now = self.live.now();
        if let Some(wait) = failure.error.retry_after {
            self.live.health.rest(target.index, wait, now);
        }
        if let Some(rest) = attempt.asking.take().zip(failure.retry).and_then(|(asking, why)| asking.failed(why, now)) {
            log::warn!("route `{}`: `{}` at provider `{}` is ejected for {rest:.1?}", call.route.name, attempt.model, target.provider.name);
        }
        self.ledger.ended_by = match failure.outcome {
            Outcome::Cancelled => EndedBy::Client,
            Outcome::Drained => EndedBy::Gateway,
            _ => EndedBy::Upstream,
        };
        call.failure = Some(failure.error);
        if let Some(why) = failure.retry.filter(|_| !call.stage.committed()) {
            call.turn(why, &self.live);
        }
        if call.next.is_none() && !call.stage.committed() {
            call.permit.settle(Used::default(), self.live.now()); // before the client, once told, asks again
        }
        call.next.is_some()
    }

    /// The upstream's response headers are there.
    pub fn upstream_head(&mut self, status: u16, headers: &HeaderMap) {
        let Some(call) = self.call.as_deref_mut() else { return };
        call.stage.heard(Instant::now());
        let form = match (call.operation, call.stream, call.include_usage, self.live.snapshot.server.stream_usage) {
            (Operation::Embeddings, ..) => Form::Embeddings { estimate: self.live.limiter.usage(call.route.index, &call.prospect).prompt },
            (Operation::Chat, false, ..) => Form::Completion,
            (Operation::Chat, true, false, _) => Form::Chunks(UsagePlace::Withheld),
            (Operation::Chat, true, true, StreamUsage::Merged) => Form::Chunks(UsagePlace::Merged),
            (Operation::Chat, true, true, StreamUsage::Separate) => Form::Chunks(UsagePlace::Separate),
        };
        let head = call.head.clone();
        let Some(attempt) = call.attempt.as_mut() else { return };
        attempt.reading = if (200..300).contains(&status) {
            let mut decoder = std::mem::replace(&mut attempt.outgoing.decoder, Box::new(crate::dialect::Spent));
            decoder.headers(headers);
            Reading::Answer(Box::new(Relay::new(framing(call.stream, headers, attempt.outgoing.framing), decoder, head, form)))
        } else {
            Reading::Refusal(status, headers.clone(), Vec::new())
        };
    }

    /// A piece of the upstream's body, or its end.
    pub fn upstream_body(&mut self, bytes: &[u8], end: bool) -> Step {
        let Some(call) = self.call.as_deref_mut() else { return Step::Write(Vec::new()) };
        call.stage.heard(Instant::now());
        let Some(attempt) = call.attempt.as_mut() else { return Step::Write(Vec::new()) };
        match &mut attempt.reading {
            Reading::Nothing | Reading::Over => Step::Write(Vec::new()),
            Reading::Refusal(_, _, body) => {
                let room = MAX_REFUSAL.saturating_sub(body.len());
                body.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
                if !end && body.len() < MAX_REFUSAL {
                    return Step::Write(Vec::new());
                }
                match attempt.refusal() {
                    Some(failure) => self.give_up(failure, end),
                    None => Step::Write(Vec::new()),
                }
            }
            Reading::Answer(relay) => {
                let (mut out, mut result) = relay.push(bytes);
                if end && result.is_ok() {
                    let (more, ended) = relay.end();
                    out = if out.is_empty() { more } else { [out, more].concat() };
                    result = ended;
                }
                let whole = end || relay.is_over();
                match result {
                    Ok(()) => {
                        if relay.started() && !out.is_empty() && !call.stage.committed() {
                            self.commit(out.len());
                        }
                        if whole {
                            self.complete(end);
                        }
                        Step::Write(out)
                    }
                    Err(fault) => {
                        // What was said before the fault stands, and then it is too late for another target.
                        if !out.is_empty() && !call.stage.committed() {
                            self.commit(out.len());
                        }
                        self.broke(out, &fault, end)
                    }
                }
            }
        }
    }

    fn broke(&mut self, mut out: Vec<u8>, fault: &Fault, end: bool) -> Step {
        let Some(call) = self.call.as_deref() else { return Step::Write(out) };
        let name = call.attempt.as_ref().map(|a| a.target.provider.name.clone()).unwrap_or_default();
        let failure = rescue::of_fault(&name, fault);
        if !call.stage.committed() {
            return self.give_up(failure, end);
        }
        out.extend_from_slice(&self.break_off(failure));
        if let Some(call) = self.call.as_deref() {
            call.stage.end();
        }
        Step::Write(out)
    }

    /// An answer that has begun cannot go on: the error event that ends it.
    pub fn break_off(&mut self, failure: Failure) -> Vec<u8> {
        self.account(false);
        let error = failure.error.clone();
        self.failed(failure);
        let mut event = b"data: ".to_vec();
        event.extend_from_slice(&error.to_json());
        event.extend_from_slice(b"\n\n");
        event
    }

    /// The attempt is over before anything was told: the next one, or the client's error in place of the answer, so
    /// that both connections stay as they are.
    fn give_up(&mut self, failure: Failure, end: bool) -> Step {
        if self.failed(failure) {
            return Step::Retry("the attempt failed");
        }
        let error = self.call.as_ref().and_then(|c| c.failure.clone()).unwrap_or_else(internal);
        let body = error.to_json();
        self.ledger.status = error.status;
        let head = self.error_head(&error, body.len());
        if let (Some(call), Ok(head)) = (self.call.as_deref_mut(), head) {
            call.stage.commit(head);
            if !end {
                call.stage.end();
            }
        }
        Step::Write(body)
    }

    fn commit(&mut self, length: usize) {
        if self.call.as_ref().is_some_and(|c| c.operation == Operation::Chat) {
            self.ledger.ttft.get_or_insert(self.began.elapsed()); // a vector has no first token
        }
        self.ledger.status = 200;
        let head = self.answer_head(length);
        let Some(call) = self.call.as_deref_mut() else { return };
        if let Ok(head) = head {
            call.stage.commit(head);
        }
        // Nothing can be asked again from here on, so the bodies are not needed.
        call.parsed = None;
        if let Some(attempt) = call.attempt.as_mut() {
            attempt.asking.iter_mut().for_each(|asking| asking.answered(self.live.now()));
            attempt.outgoing.body = Bytes::new();
        }
    }

    /// The answer is complete, and with `end` its body as well.
    fn complete(&mut self, end: bool) {
        self.account(false);
        self.ledger.ended_by = EndedBy::Complete;
        let Some(call) = self.call.as_deref_mut() else { return };
        if !end {
            call.stage.told();
        }
        let Some(attempt) = call.attempt.as_mut() else { return };
        attempt.reading = Reading::Over;
        self.live.metrics.attempt(attempt.target.provider.index, Outcome::Success);
    }

    /// Settles what has been used: the provider's own figures, else an estimate from what was said. A client that
    /// `left` has had the provider read its prompt, whether or not anything was said.
    fn account(&mut self, left: bool) {
        let Some(call) = self.call.as_deref_mut() else { return };
        let Some(attempt) = call.attempt.as_ref() else { return };
        let (told, said) = match &attempt.reading {
            Reading::Answer(relay) if left || relay.started() => (relay.usage(), relay.said_bytes()),
            Reading::Nothing if left && attempt.asked => (None, 0),
            _ => return,
        };
        self.ledger.estimated = told.is_none();
        self.ledger.usage = match told {
            Some(usage) => {
                self.live.limiter.learn(call.route.index, &call.prospect, &usage);
                usage
            }
            None => Usage {
                prompt: self.live.limiter.usage(call.route.index, &call.prospect).prompt,
                completion: said.div_ceil(INITIAL_BYTES_PER_TOKEN),
                ..Usage::default()
            },
        };
        self.ledger.micro_usd = attempt.target.price.as_ref().map_or(0, |p| cost(p, &self.ledger.usage));
        call.permit.settle(Used { tokens: self.ledger.usage.total(), micro_usd: self.ledger.micro_usd }, self.live.now());
    }

    fn answer_head(&self, length: usize) -> pingora_core::Result<Box<ResponseHeader>> {
        let mut headers = HeaderMap::with_capacity(HEADERS);
        if self.ledger.stream {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        } else {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        self.common_headers(&mut headers);
        respond::head(200, headers)
    }

    fn error_head(&self, error: &ApiError, length: usize) -> pingora_core::Result<Box<ResponseHeader>> {
        let mut headers = respond::error_headers(error);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        self.common_headers(&mut headers);
        respond::head(error.status, headers)
    }

    /// Headers that every answer of a routed request has.
    pub fn common_headers(&self, headers: &mut HeaderMap) {
        let mut id = Uuid::encode_buffer();
        if let Ok(id) = HeaderValue::from_str(self.id.hyphenated().encode_lower(&mut id)) {
            headers.insert(X_REQUEST_ID, id);
        }
        let Some(call) = self.call.as_deref() else { return };
        headers.insert(X_ATTEMPTS, HeaderValue::from(self.ledger.attempts));
        if let Some(attempt) = &call.attempt {
            headers.insert(X_PROVIDER, self.live.upstream(&attempt.target).label().clone());
            if let Some(model) = self.live.model_label(&attempt.target, &attempt.model) {
                headers.insert(X_MODEL, model);
            }
            let mut names = |header, names: String| {
                if !names.is_empty()
                    && let Ok(names) = HeaderValue::try_from(names)
                {
                    headers.insert(header, names);
                }
            };
            names(X_DROPPED, attempt.outgoing.dropped.join(","));
            names(X_ADJUSTED, attempt.outgoing.adjusted.iter().map(|f| f.name()).collect::<Vec<_>>().join(","));
        }
        headers.extend(call.permit.headers().iter());
    }
}

impl Call {
    /// Decides who is asked next, if anybody.
    fn turn(&mut self, why: retry::Failure, live: &Live) {
        self.next = self.attempts.next(&self.route, why, &live.health, live.now());
    }

    fn encode(&self, target: Arc<Target>, asking: Asking, live: &Live) -> Result<Attempt, ApiError> {
        let parsed = self.parsed.as_ref().ok_or_else(internal)?;
        let model: Box<str> = Found { route: self.route.index, star: self.star.as_deref() }.model(&target.model).into();
        let seal = live.seal(&self.team);
        let request =
            ChatRequest { parsed, params: &self.route.params, system: self.route.system.as_deref(), model: &model, seal: Some(&seal) };
        let outgoing = self.operation.encode(&request, &target)?;
        outgoing.dropped.iter().for_each(|param| live.metrics.dropped_param(target.provider.index, param));
        let timeouts = self.route.timeouts.over(&target.provider.timeouts);
        let place = live.upstream(&target).enter()?;
        Ok(Attempt { target, model, timeouts, outgoing, reading: Reading::Nothing, asking: Some(asking), place: Some(place), asked: false })
    }
}

impl Attempt {
    /// Whether it has ended, well or not.
    pub fn is_over(&self) -> bool {
        matches!(self.reading, Reading::Over)
    }

    /// What the provider's refusal says, where it refused.
    pub fn refusal(&self) -> Option<Failure> {
        let Reading::Refusal(status, headers, body) = &self.reading else { return None };
        let refusal = crate::dialect::of(&self.target).read_error(*status, headers, body);
        Some(rescue::of_provider(&self.target.provider.name, &refusal))
    }

    /// Whether nothing of an answer has come.
    pub fn unanswered(&self) -> bool {
        matches!(self.reading, Reading::Nothing)
    }

    /// Its deadlines, from now on.
    pub fn deadlines(&self) -> Deadlines {
        let t = &self.timeouts;
        Deadlines {
            began: Instant::now(),
            first_byte: t.first_byte,
            first_token: t.first_token,
            between_bytes: t.between_bytes,
            total: t.total,
        }
    }
}

/// How the body is cut: as the provider labels it, for some servers answer a stream request in one piece.
fn framing(stream: bool, headers: &HeaderMap, expected: Framing) -> Option<Framing> {
    let label = headers.get(http::header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if label.starts_with("text/event-stream") {
        return Some(Framing::Sse);
    }
    if label.starts_with("application/vnd.amazon.eventstream") {
        return Some(if expected == Framing::AwsSse { Framing::AwsSse } else { Framing::AwsEventStream });
    }
    if label.starts_with("application/json") || !stream { None } else { Some(expected) }
}

fn internal() -> ApiError {
    ApiError::new(500, crate::error::ErrorKind::Internal, "The gateway failed; its log has more under the request id.")
}
