//! A request on its way through the targets of its route: what they are asked for, and one try at one of them.

use super::connector::upstream::{AttemptConnection, Slot};
use super::live::Live;
use super::rescue::{self, Failure};
use super::stage::{Deadlines, Stage};
use crate::dialect::Outgoing;
use crate::dialect::shared::refusal;
use crate::error::ApiError;
use crate::frame::Framing;
use crate::frame::coding::Coding;
use crate::front::chat::head::Head;
use crate::limit::{Denied, Permit, Prospect};
use crate::llm::envelope::{ChatRequest, Parsed};
use crate::llm::failure::Fault;
use crate::llm::field::Field;
use crate::llm::settings::Params;
use crate::operation::Operation;
use crate::provider::Target;
use crate::provider::timeouts::Timeouts;
use crate::relay::Relay;
use crate::route::failures::Failures;
use crate::route::health::Asking;
use crate::route::r#match::Found;
use crate::route::retry::{self, Attempts, Turn};
use crate::route::settings::Route;
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use std::borrow::Cow;
use std::sync::Arc;
use tokio::time::Instant;

/// A request that may be served, and everything needed to ask targets for it.
pub struct Call {
    /// What the client asks for.
    pub operation: Operation,
    /// The client's request; given up when the answer is committed.
    pub parsed: Option<Box<Parsed>>,
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
    /// What the client gets if nobody answers.
    pub failures: Failures,
}

/// Closed connections that one attempt may come upon at no cost. A server that has gone away takes all of its connections
/// with it, and the pool does not always know yet.
const MAX_STALE: u8 = 3;
/// How often one attempt may be refused unprocessed at no cost. A server that ends each connection after a number of requests
/// refuses all that are under way beyond it, and with many at a time that is more than one connection.
const MAX_UNPROCESSED: u8 = 8;

/// Why an attempt may have to be made again although its provider has not failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FreeRetry {
    /// The connection broke.
    Broken,
    /// The request was certainly not processed.
    Unprocessed,
}

/// Refused members that one attempt leaves out at no cost, one after another.
const MAX_REFITS: u8 = 3;

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
    /// Its connection to the provider.
    pub connection: AttemptConnection,
    /// One of the provider's `max_connections`.
    pub slot: Option<Slot>,
    /// Whether its connection speaks HTTP/2.
    pub http2: bool,
    /// How its last connect failed.
    pub unconnected: Option<Failure>,
    /// Whether its request has been given to the provider.
    pub asked: bool,
    /// The coding of its answer, where the provider has encoded it.
    pub coding: Option<Box<Coded>>,
    /// Whether an interim answer (1xx) has come.
    pub interim: bool,
    /// When its request was first given away; what is left of its time does not begin again on another connection.
    pub began: Option<Instant>,
    /// Free retries that it has taken after a connection broke.
    pub stale: u8,
    /// Free retries that it has taken because it was not processed.
    pub unprocessed: u8,
    /// How often its request was written again without a member that the target had refused.
    pub refits: u8,
}

/// An answer that the provider has encoded, although it was asked not to.
pub struct Coded {
    /// The value of `content-encoding`, in lower case.
    pub name: String,
    /// `None`: there is no decoder for it, or the body has not been what it says it is.
    pub decoder: Option<Coding>,
}

impl Coded {
    /// `None` where the headers say that the body is as it is.
    pub fn of(headers: &HeaderMap) -> Option<Box<Self>> {
        let value = headers.get(CONTENT_ENCODING)?;
        let name: String = String::from_utf8_lossy(value.as_bytes()).trim().to_ascii_lowercase().chars().take(64).collect();
        if matches!(name.as_str(), "" | "identity") {
            return None;
        }
        Some(Box::new(Self { decoder: Coding::new(&name).ok(), name }))
    }

    /// The text that a piece of the body adds.
    ///
    /// # Errors
    /// A fault that names the coding.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<u8>, Fault> {
        let text = self.decoder.as_mut().and_then(|decoder| decoder.push(bytes).ok());
        text.ok_or_else(|| {
            self.decoder = None;
            Fault::Broken(format!("its content-encoding `{}`, which was not asked for, cannot be decoded", self.name).into())
        })
    }
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

/// Why a target cannot be asked.
pub enum Unasked {
    /// It cannot keep what the client asks for.
    Unfit(ApiError),
    /// All connections to its provider are in use.
    Full(ApiError),
    /// A limit on its provider.
    Limited(Denied),
}

impl Call {
    /// The model that is asked for at a target.
    pub(super) fn model<'a>(&'a self, target: &'a Target) -> Cow<'a, str> {
        Found { route: self.route.index, star: self.star.as_deref() }.model(&target.model)
    }

    /// Decides who is asked next, if anybody, after a failed attempt.
    pub(super) fn turn(&mut self, why: retry::Failure, live: &Live) {
        self.next = self.attempts.next(&self.route, why, &live.health, live.now());
    }

    /// Begins an attempt: writes the request in the target's dialect, and only then takes a place among the connections
    /// and limits of its provider, which counts what it has let in.
    pub(super) async fn begin(&mut self, turn: Turn, live: &Live) -> Result<Attempt, Unasked> {
        let mut attempt = self.encode(turn, live).map_err(Unasked::Unfit)?;
        let provider = attempt.target.provider.index;
        attempt.slot = Some(live.upstream(&attempt.target).enter().map_err(Unasked::Full)?);
        let kinds = live.store.enter(&mut self.permit, provider, live.now()).await.map_err(Unasked::Limited)?;
        live.metrics.limits_admitted(kinds);
        attempt.outgoing.dropped.iter().for_each(|param| live.metrics.dropped_param(provider, param));
        Ok(attempt)
    }

    fn encode(&self, Turn { target, asking, .. }: Turn, live: &Live) -> Result<Attempt, ApiError> {
        let model: Box<str> = self.model(&target).into();
        let outgoing = self.outgoing(&target, &model, live)?;
        let timeouts = self.route.timeouts.over(&target.provider.timeouts);
        Ok(Attempt {
            target,
            model,
            timeouts,
            outgoing,
            reading: Reading::Nothing,
            asking: Some(asking),
            connection: AttemptConnection::default(),
            slot: None,
            http2: false,
            unconnected: None,
            asked: false,
            interim: false,
            coding: None,
            began: None,
            stale: 0,
            unprocessed: 0,
            refits: 0,
        })
    }

    /// The request to a target, without the members that it has refused.
    fn outgoing(&self, target: &Target, model: &str, live: &Live) -> Result<Outgoing, ApiError> {
        let parsed = self.parsed.as_ref().ok_or_else(internal)?;
        let seal = live.seal(&self.team);
        let refused = live.refused.of(&target.provider.name, model, live.now());
        let without;
        let params = if refused.is_empty() {
            &self.route.params
        } else {
            without = Params { refused, ..self.route.params.clone() };
            &without
        };
        let request = ChatRequest { parsed, params, system: self.route.system.as_deref(), model, seal: Some(&seal) };
        self.operation.encode(&request, target)
    }

    /// Writes the attempt's request again without the member that its refusal is about, and remembers it for the target.
    /// `false` where there is no such member, or too many were left out already.
    pub(super) fn refit(&mut self, live: &Live) -> bool {
        let Some((target, model, field)) = self.refused_member() else { return false };
        let provider = &target.provider.name;
        live.refused.insert(provider, &model, field, live.now());
        log::warn!("provider `{provider}`: `{model}` refuses `{}`, which is left out for an hour", field.name());
        let outgoing = self.outgoing(&target, &model, live);
        let (Ok(outgoing), Some(attempt)) = (outgoing, self.attempt.as_mut()) else { return false };
        outgoing
            .dropped
            .iter()
            .filter(|name| **name == *field.name())
            .for_each(|name| live.metrics.dropped_param(target.provider.index, name));
        attempt.outgoing = outgoing;
        attempt.reading = Reading::Nothing;
        attempt.connection = AttemptConnection::default();
        (attempt.asked, attempt.interim) = (false, false);
        attempt.refits += 1;
        true
    }

    /// The member that the attempt's refusal is about, and who refuses it.
    fn refused_member(&self) -> Option<(Arc<Target>, Box<str>, Field)> {
        let attempt = self.attempt.as_ref().filter(|attempt| attempt.refits < MAX_REFITS && !self.stage.committed())?;
        let Reading::Refusal(status, headers, body) = &attempt.reading else { return None };
        let parsed = self.parsed.as_ref().filter(|_| self.operation == Operation::Chat)?;
        let refusal = crate::dialect::of(&attempt.target).read_error(*status, headers, body);
        let system = self.route.system.as_deref();
        let request = ChatRequest { parsed, params: &self.route.params, system, model: &attempt.model, seal: None };
        Some((attempt.target.clone(), attempt.model.clone(), refusal::member(&refusal, &request)?))
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
        let provider = &self.target.provider;
        if let Some(proxy) = provider.forward_proxy()
            && let Some(failure) = rescue::of_forward(&provider.name, proxy, *status, headers)
        {
            return Some(failure);
        }
        let refusal = crate::dialect::of(&self.target).read_error(*status, headers, body);
        Some(rescue::of_provider(&self.target.provider.name, &refusal))
    }

    /// Whether its connection has served another request before, where Pingora says that it is `reused` or the gateway knows.
    pub fn has_reused(&self, reused: bool) -> bool {
        reused || self.connection.is_reused()
    }

    /// Takes one of the times that it may be made again at no cost; `false` where it may not. Nothing of an answer may have
    /// come. After its connection has broken, that is [`MAX_STALE`] times, and the connection has to be one that had served
    /// others, so that the server had most likely closed it before the request arrived. Where the request has certainly not
    /// been processed, it is [`MAX_UNPROCESSED`] times.
    pub fn take_free_retry(&mut self, why: FreeRetry, reused: bool) -> bool {
        let heard = self.interim || self.connection.has_heard() || !matches!(self.reading, Reading::Nothing);
        let (allowed, taken, most) = match why {
            FreeRetry::Broken => (self.has_reused(reused), &mut self.stale, MAX_STALE),
            FreeRetry::Unprocessed => (true, &mut self.unprocessed, MAX_UNPROCESSED),
        };
        let free = allowed && !heard && *taken < most;
        *taken += u8::from(free);
        free
    }

    /// Its deadlines, where its request for a `stream` or a buffered answer is sent `now`.
    pub fn deadlines(&mut self, stream: bool, now: Instant) -> Deadlines {
        let began = *self.began.get_or_insert(now);
        let t = &self.timeouts;
        Deadlines {
            began,
            first_byte: t.first_byte(stream),
            first_token: stream.then_some(t.first_token),
            between_bytes: t.between_bytes,
            total: t.total,
        }
    }
}

/// How the body is cut: as the provider labels it, for some servers answer a stream request in one piece.
pub(super) fn framing(stream: bool, headers: &HeaderMap, expected: Framing) -> Option<Framing> {
    let label = headers.get(http::header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if label.starts_with("text/event-stream") {
        return Some(Framing::Sse);
    }
    if label.starts_with("application/vnd.amazon.eventstream") {
        return Some(if expected == Framing::AwsSse { Framing::AwsSse } else { Framing::AwsEventStream });
    }
    if label.starts_with("application/json") || !stream { None } else { Some(expected) }
}

pub(super) fn internal() -> ApiError {
    ApiError::new(500, crate::error::ErrorKind::Internal, "The gateway failed; its log has more under the request id.")
}
