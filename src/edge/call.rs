//! An admitted request on its way through the targets of its route, and the attempt at one of them.

use super::connector::upstream::{AttemptConnection, Slot};
use super::large;
use super::live::Live;
use super::passed_head::PassedHead;
use super::shared::Shared;
use crate::account::Units;
use crate::dialect::Outgoing;
use crate::dialect::shared::adjust::{self, Refused};
use crate::error::ApiError;
use crate::front::chat::head::Head;
use crate::lifecycle::AttemptFailure;
use crate::limit::{Permit, RequestSize};
use crate::llm::adjustments::{Adjustment, Adjustments};
use crate::llm::envelope::{ChatRequest, Parsed};
use crate::llm::failure::{FailureClass, ProviderError};
use crate::llm::field::Field;
use crate::llm::settings::Params;
use crate::llm::state::{self, Seal};
use crate::operation::{Beside, Operation};
use crate::provider::Target;
use crate::provider::timeouts::Timeouts;
use crate::route::failures::Failures;
use crate::route::health::AttemptTracker;
use crate::route::r#match::RouteMatch;
use crate::route::retry::{Attempts, NextAttempt};
use crate::route::settings::Route;
use std::borrow::Cow;
use std::sync::Arc;

/// A request that may be served, and what is needed to ask targets for it.
pub struct Call {
    /// What the client asks for.
    pub operation: Operation,
    /// The client's request; dropped with the commit.
    pub parsed: Option<Arc<Parsed>>,
    /// What came with it beside its body.
    pub beside: Beside,
    /// Whether the target has refused what it made for itself in an earlier turn.
    pub without_states: bool,
    /// The route.
    pub route: Arc<Route>,
    /// What the route's `*` stands for, where it has one.
    pub star: Option<Box<str>>,
    /// Identity of the answer.
    pub head: Head,
    /// What it was expected to use.
    pub size: RequestSize,
    /// What it asks for that is paid beside tokens.
    pub units: Units,
    /// The limits it was admitted under; settles when dropped.
    pub permit: Permit,
    /// The context that sealed ids are bound to: the team.
    pub team: Arc<str>,
    /// Which targets are asked, and how often.
    pub attempts: Attempts,
    /// The target that is asked next.
    pub next: Option<NextAttempt>,
    /// The target that was asked last.
    pub attempt: Option<Attempt>,
    /// What the client gets if no target answers.
    pub failures: Failures,
    /// The target that this is from, and the model there; `None` where it was not asked.
    pub failed: Option<(Arc<Target>, Box<str>)>,
}

/// One attempt at one target. How far it is, the lifecycle knows.
pub struct Attempt {
    /// The target.
    pub target: Arc<Target>,
    /// The model there.
    pub model: Box<str>,
    /// Its deadlines.
    pub timeouts: Timeouts,
    /// What the target had taught when the request was written.
    pub adjustments: Adjustments,
    /// What the target has just taught, where the request has to be written again.
    pub again: Option<Vec<Adjustment>>,
    /// The request that goes there; the decoder in it moves into the answer.
    pub outgoing: Outgoing,
    /// The head of its answer, where that passes as it is.
    pub passed: Option<Box<PassedHead>>,
    /// What the target's health learns of it, until it has failed.
    pub tracker: Option<AttemptTracker>,
    /// Its connection to the provider.
    pub connection: AttemptConnection,
    /// One of the provider's `max_connections`.
    pub slot: Option<Slot>,
    /// Whether its connection speaks HTTP/2.
    pub http2: bool,
    /// Whether the request's deadline leaves less time to connect than the configuration.
    pub is_hurried: bool,
}

/// All that the body of an attempt is written from, so that it can be written beside the workers.
struct Encode {
    operation: Operation,
    parsed: Arc<Parsed>,
    beside: Beside,
    route: Arc<Route>,
    target: Arc<Target>,
    model: Box<str>,
    /// What the target has taught.
    adjustments: Adjustments,
    seal: Seal,
}

impl Encode {
    /// Of the body that is read, in bytes.
    fn size(&self) -> usize {
        if let Beside::Form(form) = &self.beside { form.size() } else { self.parsed.body().len() }
    }

    /// Writes the request as the target takes it.
    fn run(self) -> Result<Outgoing, ApiError> {
        let system = self.route.system.as_deref();
        let base = ChatRequest { parsed: &self.parsed, params: &self.route.params, system, model: &self.model, seal: Some(&self.seal) };
        if self.adjustments.is_empty() {
            return self.operation.encode(&base, &self.beside, &self.target);
        }
        let mut params = Params { adjustments: self.adjustments, ..self.route.params.clone() };
        let limit = self.operation.max_tokens(&base).zip(self.adjustments.max_tokens).filter(|((_, asked), limit)| asked > limit);
        if let Some((_, limit)) = limit {
            let spelling = base.max_tokens().map_or(Field::MaxTokens, |(field, _)| field);
            params.overrides.retain(|(name, _)| ![Field::MaxTokens, Field::MaxCompletionTokens].iter().any(|field| field.name() == name));
            params.overrides.push((spelling.name().to_owned(), limit.to_string()));
        }
        let mut outgoing = self.operation.encode(&ChatRequest { params: &params, ..base }, &self.beside, &self.target)?;
        outgoing.adjusted.extend(limit.map(|((name, _), _)| Cow::Borrowed(name)));
        Ok(outgoing)
    }
}

impl Call {
    /// The name of the model at a target.
    pub fn model<'a>(&'a self, target: &'a Target) -> Cow<'a, str> {
        RouteMatch { route: self.route.index, star: self.star.as_deref() }.model(&target.model)
    }

    /// Chooses who is asked after this failure, unless that is chosen. Returns whether anybody is.
    pub fn choose_next(&mut self, failure: &AttemptFailure, live: &Live) -> bool {
        if self.next.is_none()
            && let Some(next) = failure.retry(&self.route.retry)
        {
            self.next = self.attempts.next(&self.route, next, &live.health, live.now());
        }
        self.next.is_some()
    }

    /// Begins an attempt: writes the request in the target's dialect, and only then takes one of the connections and limits
    /// of its provider, which counts what it has let in.
    ///
    /// # Errors
    /// Why the target cannot be asked.
    pub async fn begin(&mut self, turn: NextAttempt, live: &Live) -> Result<Attempt, AttemptFailure> {
        let NextAttempt { target, mut tracker, .. } = turn;
        if !self.operation.generates() {
            tracker.does_not_generate();
        } else if !self.parsed.as_ref().is_some_and(|parsed| parsed.stream()) {
            tracker.skip_latency();
        }
        let provider = target.provider.index;
        let model: Box<str> = self.model(&target).into();
        self.without_states = false; // another target may be able to read them
        let encode = self.encode(&target, &model, live)?;
        let adjustments = encode.adjustments;
        let outgoing = large::run(encode.size(), move || encode.run()).await??;
        let slot = live.upstream(&target).enter().ok_or(AttemptFailure::Saturated)?;
        let kinds = live.store.enter(&mut self.permit, provider, live.now()).await.map_err(AttemptFailure::Limited)?;
        live.metrics.limits_admitted(kinds);
        outgoing.dropped.iter().for_each(|param| live.metrics.dropped_param(provider, param));
        Ok(Attempt {
            timeouts: self.route.timeouts.over(&target.provider.timeouts),
            target,
            model,
            adjustments,
            again: None,
            outgoing,
            passed: None,
            tracker: Some(tracker),
            connection: AttemptConnection::default(),
            slot: Some(slot),
            http2: false,
            is_hurried: false,
        })
    }

    /// What the request to a target is written from.
    fn encode(&self, target: &Arc<Target>, model: &str, live: &Live) -> Result<Encode, ApiError> {
        let seal = live.seal(&self.team, &target.provider.name);
        Ok(Encode {
            operation: self.operation,
            parsed: self.parsed.clone().ok_or_else(ApiError::internal)?,
            beside: self.beside.clone(),
            route: self.route.clone(),
            target: target.clone(),
            model: model.into(),
            adjustments: live.adjusted.of(&target.provider.name, model, live.now()),
            seal: if self.without_states { seal.forgetting() } else { seal },
        })
    }

    /// Has the attempt's request written again as its refusal asks for: otherwise, which is remembered for the target, or without
    /// reasoning of earlier turns that the target cannot read. `false` where the refusal asks for nothing of the kind, or nothing
    /// new, or where it was written again too often.
    pub fn retry_adjusted(&mut self, refusal: &ProviderError, shared: &Shared, live: &Live) -> bool {
        let (Some(parsed), Some(attempt), true) = (&self.parsed, &mut self.attempt, self.operation.generates()) else { return false };
        if attempt.outgoing.decoder.is_native() && self.operation == Operation::Messages {
            return false; // no byte of the client's may change
        }
        // A client of the Responses API may have reasoning that the gateway did not seal.
        let has_states = self.operation == Operation::Responses || state::may_be_in(parsed.body());
        if refusal.judged() == FailureClass::StaleReasoning && has_states && !self.without_states {
            self.without_states = true;
            attempt.again = Some(Vec::new());
            return shared.lock().life.retry_adjusted();
        }
        let params = Params { adjustments: attempt.adjustments, ..self.route.params.clone() };
        let request = ChatRequest { parsed, params: &params, system: None, model: &attempt.model, seal: None };
        let refused = Refused {
            stream: parsed.stream(),
            max_tokens: self.operation.max_tokens(&request).map(|(_, limit)| limit),
            strict: params.reject_unsupported,
            given: self.operation.asks(&request),
        };
        let mut news = adjust::adjustments(refusal, &refused);
        news.retain(|one| attempt.adjustments.insert(*one));
        if news.is_empty() || !shared.lock().life.retry_adjusted() {
            return false;
        }
        let (provider, model) = (&attempt.target.provider, &attempt.model);
        for one in &news {
            live.adjusted.insert(&provider.name, model, *one, live.now());
            log::warn!("provider `{}`: `{model}` refuses `{}`; for an hour: {one}", provider.name, one.field().name());
        }
        attempt.again = Some(news);
        true
    }

    /// Writes the attempt's request again where that is due, for another connection.
    ///
    /// # Errors
    /// Why it cannot be written.
    pub async fn write_again(&mut self, live: &Live) -> Result<(), AttemptFailure> {
        let Some(attempt) = &mut self.attempt else { return Ok(()) };
        let Some(news) = attempt.again.take() else { return Ok(()) };
        let (target, model) = (attempt.target.clone(), attempt.model.clone());
        let encode = self.encode(&target, &model, live)?;
        let outgoing = large::run(encode.size(), move || encode.run()).await??;
        let is_new = |name: &&Cow<'static, str>| news.iter().any(|one| matches!(one, Adjustment::Without(field) if **name == field.name()));
        let provider = target.provider.index;
        outgoing.dropped.iter().filter(is_new).for_each(|name| live.metrics.dropped_param(provider, name));
        if let Some(attempt) = &mut self.attempt {
            (attempt.outgoing, attempt.connection) = (outgoing, AttemptConnection::default());
        }
        Ok(())
    }
}
