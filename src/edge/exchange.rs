//! Pingora's per-request context: carries out what the request's [lifecycle](crate::lifecycle) decides.

use super::call::{Attempt, Call};
use super::drain::RequestGuard;
use super::failure;
use super::live::Live;
use super::outage;
use super::respond::{self, Common};
use super::shared::Shared;
use crate::account::{EndedBy, Ledger, cache_savings, cost_with, settled};
use crate::auth::Principal;
use crate::dialect::shared::blame::Sent;
use crate::error::{ApiError, ErrorKind};
use crate::front::Front;
use crate::front::responses::response::Response;
use crate::id;
use crate::json::slices::Slices;
use crate::lifecycle::{Action, AttemptFailure, Client, Connect, Connection, Deadline, Delivery, Metered};
use crate::limit::estimate::INITIAL_BYTES_PER_TOKEN;
use crate::limit::rule::Dimension;
use crate::limit::{LimitError, LimitHeaders, Scope, Used};
use crate::operation::{Beside, Operation};
use crate::provider::Target;
use crate::relay::passed::Content;
use crate::route::failures::{TargetNotes, member};
use crate::system;
use crate::telemetry::attribute::Values;
use crate::telemetry::labels::{LIMIT_STORE_FAILED, Outcome};
use crate::telemetry::metrics::InFlight;
use crate::telemetry::spans::record::AttemptSpans;
use crate::telemetry::trace::Trace;
use http::{HeaderMap, HeaderValue};
use pingora_core::Error;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// See the module.
pub struct Exchange {
    /// The configuration and its state; the same for the whole request.
    pub live: Arc<Live>,
    /// Where the request is.
    pub shared: Arc<Shared>,
    /// What every response to it carries.
    pub common: Common,
    /// When its head had been read, since the Unix epoch …
    pub arrived: Duration,
    /// … and on the clock that durations are taken from.
    pub began: Instant,
    /// When all its attempts together end, where it has an `x-request-timeout`; `Total` where the route's `total` caps that.
    pub deadline: Option<(Instant, Deadline)>,
    /// The trace it belongs to.
    pub trace: Trace,
    /// The client's `tracestate`, for providers.
    pub trace_state: Option<HeaderValue>,
    /// Its attempts so far, where it is traced.
    pub spans: AttemptSpans,
    /// Who asks, once that is known.
    pub who: Option<Principal>,
    /// What the log and the metrics are written from.
    pub ledger: Ledger,
    /// Why it was refused or failed, as a word of a closed set; for the log.
    pub reason: &'static str,
    /// Where the limits stand that have refused it; sent in place of its permit's.
    pub refused: Option<Box<LimitHeaders>>,
    /// The limit that refused last.
    pub limit: Option<(Scope, Dimension)>,
    /// The endpoint, as a word of a closed set; empty until it is known.
    pub endpoint: &'static str,
    /// What it asks a model for, once that is known.
    pub operation: Option<Operation>,
    /// Whether it only asks if somebody is there, which is neither counted nor logged.
    pub is_greeting: bool,
    /// What `sticky` balancing went by, as a word of a closed set; empty for other routes.
    pub sticky_by: &'static str,
    /// The values of the configured attributes.
    pub attributes: Values,
    /// The client's name for a model that it may not use or that does not exist; for the log.
    pub unknown_model: Option<Box<str>>,
    /// Targets that were not asked, and why.
    pub passed_over: TargetNotes,
    /// Targets that were asked, and how that ended, once one has failed.
    pub tried: TargetNotes,
    /// Time spent in the gateway itself so far.
    pub busy: Duration,
    /// What it asks for, once limits have admitted it.
    pub call: Option<Box<Call>>,
    /// Counts the request for its route, once that is known.
    pub in_flight: Option<InFlight>,
    /// Counts the request for a drain.
    pub guard: RequestGuard,
    /// Whether an answer has broken off that no event can end: its connection is closed without an end.
    pub broken_off: bool,
}

/// What a client still gets when nothing more is tried.
pub enum Reply {
    /// Nothing: it is gone.
    Nothing,
    /// The end of its response.
    End,
    /// An event, and the end of its stream.
    Event(Vec<u8>),
    /// A whole response, under the ledger's status.
    Response(HeaderMap, Vec<u8>),
}

impl Exchange {
    /// A request whose head has just been read.
    pub fn new(live: Arc<Live>) -> Self {
        let guard = live.drain.request();
        let arrived = system::unix_time();
        Self {
            live,
            shared: Arc::default(),
            common: Common { id: id::fresh(arrived), client_id: None, cors: None, front: Front::OpenAi },
            arrived,
            began: Instant::now(),
            deadline: None,
            trace: Trace::default(),
            trace_state: None,
            spans: AttemptSpans::default(),
            who: None,
            ledger: Ledger::new(),
            reason: "",
            refused: None,
            limit: None,
            endpoint: "",
            operation: None,
            is_greeting: false,
            sticky_by: "",
            attributes: Values::default(),
            unknown_model: None,
            passed_over: TargetNotes::default(),
            tried: TargetNotes::default(),
            busy: Duration::ZERO,
            call: None,
            in_flight: None,
            guard,
            broken_off: false,
        }
    }

    /// The attempt that was made last.
    pub fn attempt(&self) -> Option<&Attempt> {
        self.call.as_deref()?.attempt.as_ref()
    }

    /// Records that limits refuse the request; returns the client's error.
    pub fn refuse(&mut self, error: &LimitError) -> ApiError {
        match error {
            LimitError::Exceeded(refusal) => {
                self.reason = Outcome::Limited.name();
                self.live.metrics.limit_refused(refusal);
                self.limit = Some((refusal.scope, refusal.dimension));
                self.refused = Some(refusal.headers.clone());
                return refusal.error(self.who.as_ref().map_or(Scope::Key.name(), Principal::noun));
            }
            LimitError::Store => self.reason = LIMIT_STORE_FAILED,
        }
        error.into()
    }

    /// Makes the next attempt ready, after its wait. Targets that cannot be asked are passed over. `false` where no target is
    /// left.
    pub async fn prepare(&mut self) -> bool {
        while let Some(call) = self.call.as_deref_mut() {
            let Some(turn) = call.next.take() else {
                call.permit.settle(Used::default(), self.live.now()); // before the client, once told, asks again
                return false;
            };
            if let Some((_, deadline)) = self.deadline.filter(|(at, _)| Instant::now() + turn.wait >= *at) {
                let late = AttemptFailure::Late(deadline);
                call.failures.add(late.error(&turn.target.provider.name, None), late.reason());
                call.attempts.cancel(&call.route, &self.live.health, self.live.now());
                continue;
            }
            if !turn.wait.is_zero() {
                tokio::time::sleep(turn.wait).await;
            }
            let target = turn.target.clone();
            match call.begin(turn, &self.live).await {
                Ok(attempt) => {
                    self.ledger.attempts = call.attempts.made();
                    self.ledger.provider = Some(target.provider.index);
                    self.refused = None;
                    self.spans.begin(&attempt.target, &attempt.model, || (system::random(), self.began.elapsed()));
                    call.attempt = Some(attempt);
                    let response = self.heartbeat_response();
                    let mut shared = self.shared.lock();
                    shared.response = response;
                    if self.ledger.attempts > 1 {
                        self.deadline = self.deadline.map(|(at, _)| (at, Deadline::Request));
                        shared.life.share_deadline();
                    }
                    shared.life.connect();
                    return true;
                }
                Err(failure) => self.pass_over(&target, failure),
            }
        }
        false
    }

    /// Writes the heartbeats of a response's stream; `None` where the provider's own events shall pass.
    fn heartbeat_response(&self) -> Option<Response> {
        let call = self.call.as_deref().filter(|_| self.ledger.stream)?;
        let Beside::Responses { response, .. } = &call.beside else { return None };
        let passes = self.attempt().is_some_and(|attempt| attempt.outgoing.decoder.is_native()) && !response.has_begun();
        (!passes).then(|| response.clone())
    }

    /// A target cannot be asked: another one's turn.
    fn pass_over(&mut self, target: &Target, failure: AttemptFailure) {
        let provider = &target.provider;
        let error = match &failure {
            AttemptFailure::Limited(error) => self.refuse(error),
            failure => failure.error(&provider.name, None),
        };
        let Some(call) = self.call.as_deref_mut() else { return };
        call.permit.release_prefetched(); // the next one may have to be waited for
        let why = match &failure {
            AttemptFailure::Rejected(error) => member(error),
            AttemptFailure::Saturated => "connections",
            _ => "limit",
        };
        self.passed_over.add(&provider.name, &call.model(target), why);
        if let AttemptFailure::Rejected(_) = failure {
            call.failures.add_unfit(error);
        } else {
            self.live.metrics.attempt(provider.index, call.operation, failure.outcome());
            if call.failures.add(error, failure.reason()) {
                call.failed = None; // it was not asked
            }
        }
        call.next = call.attempts.skip(&call.route, &self.live.health, self.live.now());
        self.report_budget();
    }

    /// The client's error when no target has answered: the most useful one of the attempts, else that of `failure`.
    pub fn error(&mut self, failure: Option<AttemptFailure>) -> ApiError {
        if let Some((error, reason)) = self.call.as_deref().and_then(|call| call.failures.best()) {
            let mut error = error.clone();
            // Codex repeats a failed request 30 times. With a 503, whose `retry-after` it obeys, the tries are a second apart.
            if self.common.front == Front::Responses && reason == Outcome::Connect.name() {
                (error.status, error.kind) = (503, ErrorKind::Overloaded);
            }
            self.reason = reason;
            return error;
        }
        let provider = self.attempt().map_or("", |attempt| &attempt.target.provider.name);
        failure.unwrap_or(AttemptFailure::Internal).error(provider, None)
    }

    /// The attempt has failed. Returns whether another one will be made.
    pub fn fail(&mut self, failure: AttemptFailure) -> bool {
        let (metered, committed) = {
            let life = &mut self.shared.lock().life;
            (life.fail(&failure), life.is_committed())
        };
        if let Some(metered) = metered {
            self.account(metered);
        }
        let Some(call) = self.call.as_deref_mut() else { return false };
        let Some(attempt) = call.attempt.as_mut() else { return false };
        attempt.slot = None;
        call.permit.leave_provider();
        let (target, now) = (&attempt.target, self.live.now());
        self.live.metrics.attempt(target.provider.index, call.operation, failure.outcome());
        self.spans.end(failure.outcome(), || self.began.elapsed());
        self.reason = failure.reason();
        self.tried.add(&target.provider.endpoint_name, &attempt.model, self.reason);
        self.ledger.ended_by = failure.ended_by();
        let (names, quirks) = (target.dialect().names(&attempt.model), target.dialect().quirks());
        // The names that providers blame are translated into OpenAI's. A native answer to the Responses API has the client's.
        let is_responses = call.operation == Operation::Responses && !target.dialect().has_responses();
        let is_known = is_responses || matches!(call.operation, Operation::Chat | Operation::Embeddings);
        let parsed = call.parsed.as_deref().filter(|_| is_known);
        let sent = |parsed| Sent { parsed, body: &attempt.outgoing.body, quirks, names, is_responses };
        let error = failure.error(&target.provider.name, parsed.map(sent));
        if committed && self.ledger.ended_by != EndedBy::Client {
            self.ledger.failed = Some(self.common.front.status(&error));
        }
        if let Some(tracker) = attempt.tracker.take() {
            if let Some(wait) = error.retry_after {
                tracker.pause(wait, now);
            }
            let cause = failure.cause(call.operation.generates(), tracker.counts());
            if let Some(outage) = cause.and_then(|cause| tracker.failed(cause, now))
                && outage.is_new
                && self.live.health.is_logged(target.index, false, now)
            {
                outage::log_ejection(&call.route.name, target, &attempt.model, &outage, &failure);
            }
        }
        let is_best = match failure {
            AttemptFailure::Late(Deadline::Request) => call.failures.add_last(error, self.reason),
            _ => call.failures.add(error, self.reason),
        };
        if is_best {
            call.failed = Some((attempt.target.clone(), attempt.model.clone()));
        }
        let is_next = !committed && call.choose_next(&failure, &self.live);
        if !committed && !is_next {
            call.permit.settle(Used::default(), now); // before the client, once told, asks again
        }
        self.report_budget();
        is_next
    }

    /// Records that the retry budget has kept a target from being asked again.
    fn report_budget(&mut self) {
        let Some(call) = self.call.as_deref_mut() else { return };
        if let Some(target) = call.attempts.take_over_budget() {
            self.live.metrics.retry_over_budget(call.route.index);
            self.passed_over.add(&target.provider.name, &call.model(&target), "retry_budget");
        }
    }

    /// No connection could be made. Returns whether anything else is tried.
    pub fn on_connect_error(&mut self, e: &Error) -> bool {
        let Some(attempt) = self.call.as_deref_mut().and_then(|call| call.attempt.as_mut()) else { return false };
        let failure = match (failure::of_connect(e), self.deadline) {
            (AttemptFailure::Connect(Connect::TimedOut), Some((_, deadline))) if attempt.is_hurried => AttemptFailure::Late(deadline),
            (failure, _) => failure,
        };
        // A pooled connection that takes no further stream says nothing about its address.
        let other_address =
            matches!(failure, AttemptFailure::Connect(_)) && self.live.upstream(&attempt.target).connect_failed(&mut attempt.connection, e);
        self.on_error(Some(failure), Connection { other_address, ..Connection::default() })
    }

    /// An error under way, `reused` where Pingora says so of the connection. Returns whether anything else is tried.
    pub fn on_proxy_error(&mut self, e: &Error, reused: bool) -> bool {
        let failure = failure::of(e, || self.shared.lock().life.late(Instant::now().into_std()));
        let mut connection = Connection::default();
        if let Some(attempt) = self.call.as_deref_mut().and_then(|call| call.attempt.as_mut()) {
            attempt.connection.release();
            connection.reused = reused || attempt.connection.is_reused();
            connection.received = attempt.connection.has_received();
            // A connection that is silent may be dead: neither a retry nor another request is to come upon it or its like.
            let retire = match &failure {
                Some(AttemptFailure::Disconnected(Delivery::Refused)) => true,
                Some(AttemptFailure::Late(Deadline::Request)) => false,
                Some(AttemptFailure::Late(_)) => attempt.http2 || connection.reused,
                _ => false,
            };
            if retire {
                self.live.upstream(&attempt.target).retire(&attempt.connection);
            }
        }
        self.on_error(failure, connection)
    }

    /// The provider has no address that the attempt has not dialled.
    pub fn on_no_address(&mut self) -> bool {
        let proxied = self.attempt().is_some_and(|attempt| attempt.target.provider.proxy().is_some());
        let failure = AttemptFailure::Connect(if proxied { Connect::ProxyUnknownHost } else { Connect::UnknownHost });
        self.on_error(Some(failure), Connection::default())
    }

    fn on_error(&mut self, failure: Option<AttemptFailure>, connection: Connection) -> bool {
        let action = self.shared.lock().life.on_error(failure, connection, Instant::now().into_std());
        match action {
            Action::Reconnect => true,
            Action::Fail(failure) => self.fail(failure),
            Action::Next(_) => self.call.as_deref().is_some_and(|call| call.next.is_some()),
            Action::Truncate(_) | Action::Abandon | Action::Finish => false, // see `on_final_error`
        }
    }

    /// Nothing more is tried after this error.
    pub fn on_final_error(&mut self, e: &Error) -> Reply {
        let action = {
            let life = &mut self.shared.lock().life;
            let now = Instant::now().into_std();
            life.on_error(failure::of(e, || life.late(now)), Connection::default(), now)
        };
        match action {
            _ if self.broken_off => Reply::Nothing,
            Action::Truncate(failure) if self.shared.lock().life.is_opaque() => {
                self.fail(failure);
                Reply::Nothing
            }
            Action::Finish => Reply::End,
            Action::Truncate(failure) => Reply::Event(self.truncate(failure)),
            Action::Next(failure) => self.reply(failure),
            Action::Fail(failure) => {
                self.fail(failure);
                self.reply(None)
            }
            Action::Reconnect => self.reply(None),
            Action::Abandon => {
                if !self.shared.lock().life.is_committed() {
                    self.ledger.status = 499;
                }
                if self.shared.lock().life.is_attempting() {
                    self.fail(AttemptFailure::Cancelled);
                }
                self.ledger.ended_by = EndedBy::Client;
                Reply::Nothing
            }
        }
    }

    /// The client's error, as its response can still carry it.
    fn reply(&mut self, failure: Option<AttemptFailure>) -> Reply {
        let error = self.error(failure);
        let client = self.shared.lock().life.respond();
        if client == Client::Opened {
            // The status is that of the head that a heartbeat has sent.
            (self.ledger.status, self.ledger.failed) = (200, Some(self.common.front.status(&error)));
            return Reply::Event(self.error_event(&error));
        }
        let (headers, body) = self.error_response(&error);
        Reply::Response(headers, body)
    }

    /// An answer that has begun cannot go on: the event that ends it.
    fn truncate(&mut self, failure: AttemptFailure) -> Vec<u8> {
        let error = failure.error(self.attempt().map_or("", |attempt| &attempt.target.provider.name), None);
        let ending = self.shared.lock().life.ending(&error);
        self.fail(failure);
        ending.unwrap_or_else(|| self.error_event(&error))
    }

    /// The events that end a stream of which nothing has come.
    fn error_event(&self, error: &ApiError) -> Vec<u8> {
        match self.call.as_deref().map(|call| &call.beside) {
            Some(Beside::Responses { response, .. }) => response.failure(error, &[]),
            _ => self.common.front.error_event(error, self.common.id),
        }
    }

    /// The attempt's request is sent.
    pub fn send(&mut self, now: Instant) {
        let Some(attempt) = self.attempt() else { return };
        let mut shared = self.shared.lock();
        shared.body = attempt.outgoing.body.clone();
        shared.head = None;
        shared.life.send(&attempt.timeouts, self.ledger.stream, now.into_std());
    }

    /// A piece of the provider's body, or its end. Returns bytes for the client; `None` where another attempt will be made.
    pub fn on_body(&mut self, bytes: &[u8], end: bool, now: Instant) -> Option<Vec<u8>> {
        let Self { shared, call, live, .. } = self;
        let leave = || call.as_deref_mut().is_some_and(|call| call.choose_next(&AttemptFailure::Withheld, live));
        let step = shared.lock().life.on_bytes(bytes, end, now.into_std(), leave);
        let mut out = step.out;
        if let Some(client) = step.begins {
            let whole = matches!(step.end, Some(Ok(_))).then_some(out.len());
            self.commit(client, out.len(), whole);
        }
        match step.end {
            None => {}
            Some(Ok(metered)) => self.complete(metered, end),
            Some(Err(failure)) => {
                if self.shared.lock().life.is_opaque() {
                    self.fail(failure);
                    self.broken_off = true;
                    return None;
                }
                if self.shared.lock().life.is_committed() {
                    out.extend_from_slice(&self.truncate(failure));
                } else if self.retry_adjusted(&failure) || self.fail(failure) {
                    return None;
                } else {
                    // The error takes the place of the answer, so that both connections stay as they are.
                    out = match self.reply(None) {
                        Reply::Event(event) => event,
                        Reply::Response(mut headers, body) => {
                            respond::json_headers(&mut headers, body.len());
                            self.shared.lock().head = respond::head(self.ledger.status, headers).ok();
                            body
                        }
                        Reply::Nothing | Reply::End => Vec::new(),
                    };
                }
            }
        }
        Some(out)
    }

    fn retry_adjusted(&mut self, failure: &AttemptFailure) -> bool {
        let (Some(call), AttemptFailure::Refused(_, refusal)) = (self.call.as_deref_mut(), failure) else { return false };
        call.retry_adjusted(refusal, &self.shared, &self.live)
    }

    /// The answer begins, with the first `length` bytes of it; `whole`: the same, where that is all of one that passes.
    fn commit(&mut self, client: Client, length: usize, whole: Option<usize>) {
        let passed = self.call.as_deref().and_then(|call| call.attempt.as_ref()).and_then(|attempt| attempt.passed.as_ref());
        let is_stream = passed.is_some_and(|head| head.content == Content::Events);
        if is_stream || self.call.as_ref().is_some_and(|c| c.operation.generates()) {
            self.ledger.ttft.get_or_insert(self.began.elapsed()); // a vector has no first token
        }
        self.ledger.status = passed.map_or(200, |head| head.status);
        if client == Client::Nothing {
            let mut headers = HeaderMap::with_capacity(respond::ROOM);
            if let Some(head) = passed {
                head.add_to(&mut headers, whole);
            } else if self.ledger.stream {
                respond::stream_headers(&mut headers);
            } else {
                respond::json_headers(&mut headers, length);
            }
            self.add_headers(&mut headers);
            self.shared.lock().head = respond::head(self.ledger.status, headers).ok();
        }
        let Some(call) = self.call.as_deref_mut() else { return };
        call.parsed = None; // no other target can be asked
        if let Beside::Form(_) = call.beside {
            call.beside = Beside::Nothing;
        }
        let Some(attempt) = call.attempt.as_mut() else { return };
        attempt.outgoing.body = Slices::default();
        let now = self.live.now();
        if let Some(cause) = attempt.tracker.as_mut().and_then(|tracker| tracker.succeeded(now))
            && self.live.health.is_logged(attempt.target.index, true, now)
        {
            outage::log_recovery(&call.route.name, &attempt.target, &attempt.model, cause);
        }
    }

    /// The answer is complete, and with `end` its body as well.
    fn complete(&mut self, metered: Metered, end: bool) {
        self.account(metered);
        self.ledger.ended_by = EndedBy::Complete;
        self.reason = ""; // what failed before was made good
        let Some(call) = self.call.as_deref_mut() else { return };
        let Some(attempt) = &mut call.attempt else { return };
        if end {
            attempt.slot = None; // before the client, once answered, asks again
        }
        self.live.metrics.attempt(attempt.target.provider.index, call.operation, Outcome::Success);
        self.spans.end(Outcome::Success, || self.began.elapsed());
        if !self.tried.is_empty() {
            self.tried.add(&attempt.target.provider.endpoint_name, &attempt.model, Outcome::Success.name());
        }
    }

    /// Charges what has been used.
    fn account(&mut self, metered: Metered) {
        let Some(call) = self.call.as_deref_mut() else { return };
        let expected = || self.live.limiter.usage(call.route.index, &call.size);
        let (usage, estimated) = match call.operation {
            // Nothing is known of what an answer says that passes: what it does not count is what was expected.
            Operation::Passed(_) => match metered.reported {
                Some(usage) => (usage, !metered.whole),
                None => (expected(), expected().total() > 0),
            },
            _ => settled(metered.reported, metered.whole, expected, metered.bytes.div_ceil(INITIAL_BYTES_PER_TOKEN)),
        };
        if !estimated && call.operation.is_typical() {
            self.live.limiter.learn(call.route.index, &call.size, &usage);
        }
        let price = call.attempt.as_ref().and_then(|attempt| {
            let price = attempt.target.pricing.of(|| Cow::Borrowed(&attempt.model));
            if price.is_none() && !attempt.target.pricing.is_none() {
                outage::log_unpriced(&call.route.name, &attempt.target, &attempt.model);
            }
            price
        });
        let micro_usd = price.map_or(0, |price| cost_with(price, &usage, &call.units.corrected_by(metered.units)));
        if usage.cached > 0 {
            self.ledger.saved_micro_usd = price.map_or(0, |price| cache_savings(price, &usage));
        }
        (self.ledger.usage, self.ledger.estimated, self.ledger.micro_usd) = (usage, estimated, micro_usd);
        (self.ledger.upstream_id, self.ledger.finish) = (metered.id, metered.finish);
        self.spans.set_used(&self.ledger);
        call.permit.settle(Used { tokens: usage.total(), micro_usd }, self.live.now());
    }
}
