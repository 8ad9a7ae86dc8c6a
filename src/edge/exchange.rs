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

use super::call::{Attempt, Call, Coded, Reading, Unasked, framing, internal};
use super::cors;
use super::drain::Presence;
use super::live::Live;
use super::outage;
use super::rescue::{self, Failure};
use super::respond::{self, Opening};
use super::response_headers::{CONTENT_LENGTH, CONTENT_TYPE, DATE, X_ADJUSTED, X_ATTEMPTS, X_DROPPED, X_MODEL, X_PROVIDER};
use crate::account::{EndedBy, Ledger, cost, settled};
use crate::config::snapshot::{ResponseModel, StreamUsage};
use crate::dialect::shared::blame::Sent;
use crate::error::ApiError;
use crate::front::chat::chunk::UsagePlace;
use crate::id;
use crate::limit::estimate::INITIAL_BYTES_PER_TOKEN;
use crate::limit::rule::Dimension;
use crate::limit::{Denied, LimitHeaders, Scope, Used};
use crate::llm::failure::{FailureClass, Fault};
use crate::operation::Operation;
use crate::provider::Target;
use crate::relay::{Form, Relay};
use crate::route::failures::{self, TargetNotes};
use crate::route::retry;
use crate::telemetry::labels::Outcome;
use crate::telemetry::metrics::InFlight;
use crate::telemetry::trace::Trace;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use pingora_http::ResponseHeader;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;
use uuid::Uuid;

/// Largest body of a provider's refusal that is read, in bytes; what is beyond is not needed to tell what it says.
pub const MAX_REFUSAL: usize = 64 << 10;

/// See the module.
pub struct Exchange {
    /// The configuration and its state; the same for the whole request.
    pub live: Arc<Live>,
    /// `x-request-id`.
    pub id: Uuid,
    /// When the request's headers had been read, since the Unix epoch …
    pub arrived: Duration,
    /// … and on the clock that durations are taken from.
    pub began: Instant,
    /// The trace it belongs to.
    pub trace: Trace,
    /// What the log and the metrics are written from.
    pub ledger: Ledger,
    /// The client's own `x-request-id`, where it is one that can be logged and echoed.
    pub client_id: Option<HeaderValue>,
    /// What its answers need to be read by web pages; `None` where `server.cors` has no origins.
    pub cors: Option<cors::Answer>,
    /// Why it was refused or failed, as a word of a closed set; for the log.
    pub reason: &'static str,
    /// Whether the shared limit store failed to decide on it.
    pub store_failed: bool,
    /// Where the limits stand that have refused it; told in place of its permit's.
    pub refused: Option<Box<LimitHeaders>>,
    /// The endpoint, as a word of a closed set; empty until it is known.
    pub endpoint: &'static str,
    /// The client's name for a model that it may not use or that nobody has; for the log.
    pub asked: Option<Box<str>>,
    /// The limit that refused last.
    pub limit: Option<(Scope, Dimension)>,
    /// Targets that were not asked, and why.
    pub passed_over: TargetNotes,
    /// Targets that were asked, and how that ended, once one has failed.
    pub tried: TargetNotes,
    /// Time spent in the gateway itself so far.
    pub busy: Duration,
    /// From `Routed` on.
    pub call: Option<Box<Call>>,
    /// Counts the request for its route, once that is known.
    pub in_flight: Option<InFlight>,
    /// Counts the request for a drain.
    pub presence: Presence,
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// As its protocol ends.
    Whole,
    /// In its middle.
    Broken,
    /// Its client left.
    Left,
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
        let arrived = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            live,
            id: id::fresh(arrived),
            arrived,
            began: Instant::now(),
            trace,
            ledger: Ledger::new(),
            client_id: None,
            cors: None,
            reason: "",
            store_failed: false,
            refused: None,
            endpoint: "",
            asked: None,
            limit: None,
            passed_over: TargetNotes::default(),
            tried: TargetNotes::default(),
            busy: Duration::ZERO,
            call: None,
            in_flight: None,
            presence,
        }
    }

    /// What the client is told of a limit's refusal, which is counted.
    pub fn refuse(&mut self, denied: Denied) -> ApiError {
        let error = ApiError::from(&denied);
        match denied {
            Denied::Limit(refusal) => {
                self.reason = Outcome::Limited.name();
                self.live.metrics.limit_refused(&refusal);
                self.limit = Some((refusal.scope, refusal.dimension));
                self.refused = Some(refusal.headers);
            }
            Denied::Store => self.store_failed = true,
        }
        error
    }

    /// Makes the next attempt ready, after its wait. Targets that cannot be asked are passed over.
    ///
    /// # Errors
    /// What the client gets when there is no target left; [`Call::failures`] has it too.
    pub async fn prepare(&mut self) -> Result<(), ApiError> {
        loop {
            let call = self.call.as_deref_mut().ok_or_else(internal)?;
            let Some(turn) = call.next.take() else {
                call.permit.settle(Used::default(), self.live.now()); // before the client, once told, asks again
                return Err(self.told().unwrap_or_else(internal));
            };
            if !turn.wait.is_zero() {
                tokio::time::sleep(turn.wait).await;
            }
            let target = turn.target.clone();
            match call.begin(turn, &self.live).await {
                Ok(attempt) => {
                    self.ledger.attempts = call.attempts.made();
                    self.ledger.provider = Some(target.provider.index);
                    self.refused = None;
                    call.attempt = Some(attempt);
                    return Ok(());
                }
                Err(unasked) => self.pass_over(&target, unasked),
            }
        }
    }

    /// A target cannot be asked: another one's turn.
    fn pass_over(&mut self, target: &Target, unasked: Unasked) {
        let provider = &target.provider;
        let limited = match &unasked {
            Unasked::Unfit(_) => false,
            Unasked::Full(_) | Unasked::Limited(_) => {
                self.live.metrics.attempt(provider.index, Outcome::Limited);
                true
            }
        };
        let (error, why) = match unasked {
            Unasked::Unfit(error) => (error, None),
            Unasked::Full(error) => (error, Some("connections")),
            Unasked::Limited(denied) => (self.refuse(denied), Some("limit")),
        };
        let Some(call) = self.call.as_deref_mut() else { return };
        self.passed_over.add(&provider.name, &call.model(target), why.unwrap_or_else(|| failures::member(&error)));
        if limited {
            call.failures.add(error, if self.store_failed { "" } else { Outcome::Limited.name() });
        } else {
            call.failures.unfit(error);
        }
        call.next = call.attempts.skip(&call.route, &self.live.health, self.live.now());
    }

    /// What the client gets when nobody has answered, which is the reason in the log.
    pub fn told(&mut self) -> Option<ApiError> {
        let (error, reason) = self.call.as_deref()?.failures.told()?;
        self.reason = reason;
        Some(error.clone())
    }

    /// An attempt has failed. `true`: another one will be made. `false`: [`Self::told`] is what the client gets.
    pub fn failed(&mut self, mut failure: Failure) -> bool {
        if failure.client_is_gone() {
            self.account(Ended::Left);
        }
        let Some(call) = self.call.as_deref_mut() else { return false };
        let Some(attempt) = call.attempt.as_mut() else { return false };
        attempt.reading = Reading::Over;
        attempt.slot = None;
        call.stage.end_attempt();
        call.permit.leave_provider();
        let target = attempt.target.clone();
        self.live.metrics.attempt(target.provider.index, failure.outcome);
        self.reason = failure.outcome.name();
        self.tried.add(&target.provider.endpoint_name, &attempt.model, failure.outcome.name());
        let now = self.live.now();
        let asking = attempt.asking.take();
        if let Some((asking, wait)) = asking.as_ref().zip(failure.error.retry_after) {
            asking.rest(wait, now);
        }
        if let Some(outage) = asking.zip(failure.retry).and_then(|(asking, why)| asking.failed(why, now))
            && outage.is_new
            && self.live.health.is_logged(target.index, false, now)
        {
            outage::log_out(&call.route.name, &target.provider.endpoint_name, &attempt.model, &outage, &failure);
        }
        self.ledger.ended_by = match failure.outcome {
            Outcome::Cancelled => EndedBy::Client,
            Outcome::Drained => EndedBy::Gateway,
            _ => EndedBy::Upstream,
        };
        if failure.error.status == 400 {
            let names = crate::dialect::of(&target).names(&attempt.model);
            let sent = |parsed| Sent { parsed, body: &attempt.outgoing.body, quirks: &target.provider.quirks, names };
            failure.blame(call.parsed.as_deref().map(sent));
        }
        call.failures.add(failure.error, failure.outcome.name());
        if let Some(why) = failure.retry.filter(|_| !call.stage.committed() && call.next.is_none()) {
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
        // A buffered answer may come long after its headers, and its first byte is what `first_byte` waits for.
        if call.stream || !(200..300).contains(&status) {
            call.stage.heard(Instant::now());
        }
        let form = match (call.operation, call.stream, call.include_usage, self.live.snapshot.server.stream_usage) {
            (Operation::Embeddings, ..) => Form::Embeddings { estimate: self.live.limiter.usage(call.route.index, &call.prospect).prompt },
            (Operation::Chat, false, ..) => Form::Completion,
            (Operation::Chat, true, false, _) => Form::Chunks(UsagePlace::Withheld),
            (Operation::Chat, true, true, StreamUsage::Merged) => Form::Chunks(UsagePlace::Merged),
            (Operation::Chat, true, true, StreamUsage::Separate) => Form::Chunks(UsagePlace::Separate),
        };
        let mut head = call.head.clone();
        let Some(attempt) = call.attempt.as_mut() else { return };
        if self.live.snapshot.server.response_model == ResponseModel::Upstream {
            head.model = attempt.model.clone();
        }
        attempt.coding = Coded::of(headers);
        attempt.reading = if (200..300).contains(&status) {
            let mut decoder = std::mem::replace(&mut attempt.outgoing.decoder, Box::new(crate::dialect::Spent));
            decoder.headers(headers);
            let framing = framing(call.stream, headers, attempt.outgoing.framing);
            Reading::Answer(Box::new(Relay::new(framing, decoder, head, form, Some(self.live.seal(&call.team)))))
        } else {
            let mut headers = headers.clone();
            headers.entry(DATE).or_insert_with(today); // what a `retry-after` that is a date is compared with
            Reading::Refusal(status, headers, Vec::new())
        };
    }

    /// A piece of the upstream's body, or its end, that is there `now`.
    pub fn upstream_body(&mut self, bytes: &[u8], end: bool, now: Instant) -> Step {
        let Some(call) = self.call.as_deref_mut() else { return Step::Write(Vec::new()) };
        call.stage.heard(now);
        let Some(attempt) = call.attempt.as_mut() else { return Step::Write(Vec::new()) };
        let decoded = match &mut attempt.coding {
            None => None,
            Some(coding) => match coding.push(bytes) {
                Ok(text) => Some(text),
                Err(fault) if matches!(attempt.reading, Reading::Answer(_)) => return self.broke(Vec::new(), &fault, end),
                Err(_) => Some(Vec::new()), // the status of a refusal says enough
            },
        };
        let bytes = decoded.as_deref().unwrap_or(bytes);
        match &mut attempt.reading {
            Reading::Nothing | Reading::Over => Step::Write(Vec::new()),
            Reading::Refusal(_, _, body) => {
                let room = MAX_REFUSAL.saturating_sub(body.len());
                body.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
                if !end && body.len() < MAX_REFUSAL {
                    return Step::Write(Vec::new());
                }
                if call.refit(&self.live) {
                    return Step::Retry("a member was refused");
                }
                match call.attempt.as_ref().and_then(Attempt::refusal) {
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
                let (whole, started) = (end || relay.is_over(), relay.started());
                let withheld = call.route.retry.content_filter && started && relay.is_withheld() && !call.stage.committed();
                if withheld && result.is_ok() && self.leave_withheld() {
                    return Step::Retry("the answer was withheld");
                }
                let committed = || self.call.as_deref().is_some_and(|call| call.stage.committed());
                match result {
                    Ok(()) => {
                        if started && !out.is_empty() && !committed() {
                            self.commit(out.len());
                        }
                        if whole {
                            self.complete(end);
                        }
                        Step::Write(out)
                    }
                    Err(fault) => {
                        // What was said before the fault stands, and then it is too late for another target.
                        if !out.is_empty() && !committed() {
                            self.commit(out.len());
                        }
                        self.broke(out, &fault, end)
                    }
                }
            }
        }
    }

    /// The provider's policy forbids its answer, of which the client has seen nothing. `true`: another target will be asked.
    fn leave_withheld(&mut self) -> bool {
        let why = retry::Failure::Provider(FailureClass::ContentFilter);
        let Some(call) = self.call.as_deref_mut() else { return false };
        call.turn(why, &self.live);
        if call.next.is_none() {
            return false;
        }
        let error = ApiError::invalid("The provider's policy forbids the answer.");
        self.failed(Failure::new(Some(why), Outcome::ContentFilter, error))
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
        self.account(Ended::Broken);
        let error = failure.error.clone();
        self.failed(failure);
        error_event(&error)
    }

    /// The attempt is over before anything was told: the next one, or the client's error in place of the answer, so
    /// that both connections stay as they are.
    fn give_up(&mut self, failure: Failure, end: bool) -> Step {
        if self.failed(failure) {
            return Step::Retry("the attempt failed");
        }
        let error = self.told().unwrap_or_else(internal);
        let opened = self.call.as_deref().is_some_and(|call| call.stage.opened());
        let (body, head) = if opened {
            self.ledger.status = 200;
            (error_event(&error), None)
        } else {
            self.ledger.status = error.status;
            let body = error.to_json();
            let head = self.error_head(&error, body.len()).ok();
            (body, head)
        };
        if let Some(call) = self.call.as_deref_mut() {
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
        let opened = self.call.as_deref().is_some_and(|call| call.stage.opened());
        let head = if opened { None } else { self.answer_head(length).ok() };
        let Some(call) = self.call.as_deref_mut() else { return };
        call.stage.commit(head);
        // Nothing can be asked again from here on, so the bodies are not needed.
        call.parsed = None;
        if let Some(attempt) = call.attempt.as_mut() {
            let now = self.live.now();
            let target = &attempt.target;
            if let Some(cause) = attempt.asking.as_mut().and_then(|asking| asking.answered(now))
                && self.live.health.is_logged(target.index, true, now)
            {
                outage::log_back(&call.route.name, &target.provider.endpoint_name, &attempt.model, cause);
            }
            attempt.outgoing.body = Bytes::new();
        }
    }

    /// What an answer's head can have before it is known who answers.
    pub fn opening(&self) -> Opening {
        let limits = self.call.as_deref().map(|call| *call.permit.headers());
        Opening { id: self.id, client_id: self.client_id.clone(), cors: self.cors.clone(), limits: limits.unwrap_or_default() }
    }

    /// The answer is complete, and with `end` its body as well.
    fn complete(&mut self, end: bool) {
        self.account(Ended::Whole);
        self.ledger.ended_by = EndedBy::Complete;
        self.reason = ""; // what failed before was made good
        let Some(call) = self.call.as_deref_mut() else { return };
        if !end {
            call.stage.complete();
        }
        let Some(attempt) = call.attempt.as_mut() else { return };
        attempt.reading = Reading::Over;
        if end {
            attempt.slot = None; // before the client, once answered, asks again
        }
        self.live.metrics.attempt(attempt.target.provider.index, Outcome::Success);
        if !self.tried.is_empty() {
            self.tried.add(&attempt.target.provider.endpoint_name, &attempt.model, Outcome::Success.name());
        }
    }

    /// Settles what has been used, as [`settled`] has it. A client that left has had the provider read its prompt, whether or
    /// not anything was said.
    fn account(&mut self, ended: Ended) {
        let Some(call) = self.call.as_deref_mut() else { return };
        let Some(attempt) = call.attempt.as_ref() else { return };
        let left = ended == Ended::Left;
        let (told, whole, said) = match &attempt.reading {
            Reading::Answer(relay) if left || relay.started() => {
                (relay.usage(), ended == Ended::Whole || relay.is_finished(), relay.content_bytes())
            }
            Reading::Nothing if left && attempt.asked => (None, false, 0),
            _ => return,
        };
        let expected = || self.live.limiter.usage(call.route.index, &call.prospect);
        let (usage, estimated) = settled(told, whole, expected, said.div_ceil(INITIAL_BYTES_PER_TOKEN));
        if !estimated {
            self.live.limiter.learn(call.route.index, &call.prospect, &usage);
        }
        (self.ledger.usage, self.ledger.estimated) = (usage, estimated);
        self.ledger.micro_usd = attempt.target.price.as_ref().map_or(0, |p| cost(p, &self.ledger.usage));
        call.permit.settle(Used { tokens: self.ledger.usage.total(), micro_usd: self.ledger.micro_usd }, self.live.now());
    }

    fn answer_head(&self, length: usize) -> pingora_core::Result<Box<ResponseHeader>> {
        let mut headers = HeaderMap::with_capacity(respond::ROOM);
        if self.ledger.stream {
            respond::stream_headers(&mut headers);
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
        respond::request_headers(headers, &self.id, self.client_id.as_ref(), self.cors.as_ref());
        let call = self.call.as_deref();
        if let Some(limits) = self.refused.as_deref().or(call.map(|c| c.permit.headers())) {
            limits.add_to(headers);
        }
        let Some(call) = call else { return };
        let attempts = self.ledger.attempts;
        headers.insert(X_ATTEMPTS, if attempts == 1 { HeaderValue::from_static("1") } else { HeaderValue::from(attempts) });
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
            names(X_ADJUSTED, attempt.outgoing.adjusted.join(","));
        }
    }
}

/// The event that ends a stream which cannot be completed.
pub fn error_event(error: &ApiError) -> Vec<u8> {
    [b"data: ".as_slice(), &error.to_json(), b"\n\n"].concat()
}

/// The time, as the header `date` has it.
fn today() -> HeaderValue {
    let text = DateTimePrinter::new().timestamp_to_rfc9110_string(&Timestamp::now());
    text.ok().and_then(|text| HeaderValue::try_from(text).ok()).unwrap_or(HeaderValue::from_static(""))
}
