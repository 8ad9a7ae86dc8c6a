//! May this request be served? Framing, key, limits, body, route, in this order; the cheap checks before the dear ones.

use super::call::Call;
use super::connector::upstream::TRACESTATE;
use super::conversation::Conversation;
use super::exchange::Exchange;
use super::{cors, intake, large};
use crate::account::cost_with;
use crate::auth::tenants::AuthMode;
use crate::auth::{self, AuthFailure, Principal, Refusal};
use crate::error::{ApiError, ErrorKind};
use crate::front::chat::head::Head;
use crate::front::messages::models::Listed;
use crate::front::responses::response::Response;
use crate::front::{Front, messages, models, passed, responses};
use crate::id;
use crate::lifecycle::{AttemptFailure, Deadline};
use crate::limit::{LimitError, Subject};
use crate::llm::endpoint::Endpoint;
use crate::llm::envelope::{ChatRequest, Parsed};
use crate::llm::field::Field;
use crate::llm::messages::Headers;
use crate::llm::usage::Usage;
use crate::operation::{Beside, Operation, no_endpoint};
use crate::redact::redact_to;
use crate::route::failures::Failures;
use crate::route::r#match as names;
use crate::route::pick::Plan;
use crate::route::retry::Attempts;
use crate::route::settings::{Balance, Route};
use crate::system;
use crate::telemetry::attribute::Values;
use crate::telemetry::spans::record::AttemptSpans;
use crate::telemetry::trace::{self, Trace};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, UPGRADE};
use http::{HeaderMap, HeaderValue, Method};
use pingora_core::protocols::http::ServerSession;
use std::borrow::Cow;
use std::sync::Arc;
use tokio::time::Instant;
use uuid::Uuid;

/// What becomes of a request that is not refused.
pub enum Admission {
    /// It is proxied; its first attempt is ready.
    Proxy,
    /// The gateway answers itself.
    Answered(u16, HeaderMap, Bytes),
}

/// What a request may be for.
enum Resource<'a> {
    Ask(Operation),
    Models,
    Model(&'a str),
}

/// `upgrades`: whether the client asks for another protocol on its connection.
fn resource<'a>(method: &Method, path: &'a str, upgrades: bool) -> Result<Resource<'a>, ApiError> {
    let resource = match path {
        "/v1/chat/completions" => Resource::Ask(Operation::Chat),
        "/v1/embeddings" => Resource::Ask(Operation::Embeddings),
        "/v1/messages" => Resource::Ask(Operation::Messages),
        "/v1/messages/count_tokens" => Resource::Ask(Operation::CountTokens),
        // Codex tries a WebSocket first, and posts at once where it gets this answer.
        "/v1/responses" if *method == Method::GET && upgrades => {
            return Err(ApiError::new(426, ErrorKind::InvalidRequest, "There is no WebSocket here; use POST /v1/responses."));
        }
        "/v1/responses" => Resource::Ask(Operation::Responses),
        "/v1/models" => Resource::Models,
        _ => match path.strip_prefix("/v1/models/") {
            Some(id) if !id.is_empty() => Resource::Model(id),
            _ => match Endpoint::of(path) {
                Some(endpoint) => Resource::Ask(Operation::Passed(endpoint)),
                None => {
                    let message = "There is no such endpoint; try /v1/chat/completions, /v1/messages, /v1/responses, /v1/embeddings, /v1/models, or one \
                         of completions, moderations, images, audio and rerank.";
                    return Err(ApiError::new(404, ErrorKind::NotFound, message));
                }
            },
        },
    };
    match resource {
        Resource::Ask(_) if *method != Method::POST => Err(ApiError::method("POST")),
        Resource::Models | Resource::Model(_) if !matches!(*method, Method::GET | Method::HEAD) => Err(ApiError::method("GET, HEAD")),
        resource => Ok(resource),
    }
}

impl Exchange {
    /// Everything up to the first attempt.
    ///
    /// # Errors
    /// Why the request is refused, or that its client has left.
    pub async fn receive(&mut self, session: &mut ServerSession) -> Result<Admission, AttemptFailure> {
        let live = self.live.clone();
        let server = &live.snapshot.server;
        let request = session.req_header();
        self.common.front = Front::of(request.uri.path(), request.headers.contains_key(messages::VERSION));
        let headers = intake::Headers::of(&request.headers);
        self.common.client_id = headers.client_id();
        let parent = headers.traceparent.first.and_then(|v| v.to_str().ok());
        let sampling = live.tracer.as_ref().map(|tracer| tracer.sampling());
        let trace = Trace::continue_or_begin(parent, sampling, system::random);
        let is_open = matches!(live.snapshot.tenants.mode, AuthMode::None);
        self.follow(if is_open { trace } else { trace.of_a_stranger(sampling) });
        if headers.tracestate.first.is_some() {
            self.trace_state = trace::state(&self.trace, request.headers.get_all(TRACESTATE).iter());
        }
        if let Some(cors) = &server.cors {
            let answer = cors::CorsHeaders::new(cors, &request.headers);
            let preflight = answer.is_allowed() && cors::is_preflight(&request.method, &request.headers);
            self.common.cors = Some(answer);
            if preflight {
                return Ok(Admission::Answered(204, cors::preflight_headers(cors, &request.headers), Bytes::new()));
            }
        }
        intake::check_headers(session, &headers)?;
        let page = |body: Vec<u8>| Ok(Admission::Answered(200, HeaderMap::with_capacity(4), body.into()));
        // Claude Code asks before anything else whether somebody is there.
        if request.method == Method::HEAD && matches!(request.uri.path(), "/" | "/api/hello") {
            self.is_greeting = true;
            return page(Vec::new());
        }
        let resource = resource(&request.method, request.uri.path(), request.headers.contains_key(UPGRADE))?;
        self.endpoint = match &resource {
            Resource::Ask(operation) => {
                self.operation = Some(*operation);
                operation.name()
            }
            Resource::Models | Resource::Model(_) => "models",
        };
        let who = self.authenticate(&request.headers).await?;
        self.follow(trace);
        let operation = match resource {
            Resource::Ask(operation) => operation,
            Resource::Models => {
                let usable = || names::usable(&live.snapshot.routes, &live.snapshot.tenants, &who);
                if self.common.front == Front::Messages {
                    let all = usable().flat_map(|route| route.names().map(move |name| listed(route, name)));
                    return page(messages::models::list(all, live.loaded_at));
                }
                let all = usable().flat_map(|route| route.names()).map(|name| &**name);
                return page(models::list(all, usable().filter(|route| route.is_pattern()).map(|route| &*route.name), live.loaded_at));
            }
            Resource::Model(id) => return page(self.model(&who, id)?),
        };
        self.attributes = Values::of_headers(&live.snapshot.attributes, &request.headers);
        // A time beyond the clock's range is no bound.
        self.deadline = headers.timeout()?.and_then(|time| self.began.checked_add(time)).map(|at| (at, Deadline::Request));
        self.peek(&who, headers.length()).await?;
        let framing = intake::check_framing(session, &headers, server.max_body)?;
        let hints = (headers.episode_id.first.cloned(), headers.session.first.cloned());
        let beside = match operation {
            Operation::Messages | Operation::CountTokens => Beside::Messages(messages_headers(&request.headers)),
            Operation::Passed(endpoint) => {
                let types = request.headers.get_all(CONTENT_TYPE).iter().map(HeaderValue::as_bytes);
                passed::boundary(endpoint, types)?.map_or(Beside::Nothing, Beside::Boundary)
            }
            _ => Beside::Nothing,
        };
        let read = intake::read_body(session, framing, server, self.deadline.map(|(at, _)| at)).await;
        let body = read.map_err(|failure| match failure {
            AttemptFailure::Late(_) => {
                self.reason = failure.reason();
                failure.error("", None).into()
            }
            failure => failure,
        })?;
        let read = Instant::now();
        self.call = Some(self.admit(&who, operation, body, hints, beside).await?);
        if !self.prepare().await {
            return Err(self.error(None).into());
        }
        self.busy += read.elapsed();
        Ok(Admission::Proxy)
    }

    /// The request belongs to this trace, whose flag says whether its spans are recorded.
    fn follow(&mut self, trace: Trace) {
        let is_traced = self.live.tracer.is_some() && trace.is_sampled();
        self.spans = if is_traced { AttemptSpans::traced() } else { AttemptSpans::default() };
        self.trace = trace;
    }

    /// Who asks. Every failure of a key is the same 401; the log and the metric have the reason. A token whose key is not there yet
    /// waits for a fetch that brings it, for a bounded time.
    async fn authenticate(&mut self, headers: &HeaderMap) -> Result<Principal, ApiError> {
        let live = &self.live;
        let now = i64::try_from(self.arrived.as_secs()).unwrap_or(i64::MAX);
        let mut found = auth::authenticate(&live.snapshot.tenants, live.tokens.as_ref(), headers, now);
        if let Err(Refusal { awaits: Some(keys), .. }) = &found {
            Box::pin(keys.wait()).await; // on the heap: few requests do
            found = auth::authenticate(&live.snapshot.tenants, live.tokens.as_ref(), headers, now);
        }
        let who = found.map_err(|refusal| {
            live.metrics.auth_failure(refusal.failure);
            self.reason = refusal.failure.name();
            refusal.error(&live.snapshot.tenants.mode)
        })?;
        self.ledger.team = Some(who.team());
        Ok(self.who.insert(who).clone())
    }

    /// The limits of key and team, before the body is read; charges nothing. A shared store is asked only where the body is
    /// large or of unknown length; for others, what this node knows of earlier refusals counts, and the admission asks.
    async fn peek(&mut self, who: &Principal, length: Option<u64>) -> Result<(), ApiError> {
        let ask = length.is_none_or(|length| length > SMALL_BODY);
        let peeked = self.live.store.peek(&subject(who), ask, self.live.now()).await;
        peeked.map_err(|refusal| self.refuse(&LimitError::Exceeded(refusal)))
    }

    /// `GET /v1/models/{id}`, where the id is still as the path has it. A key does not learn whether another one may use it.
    fn model(&mut self, who: &Principal, id: &str) -> Result<Vec<u8>, ApiError> {
        let snapshot = &self.live.snapshot;
        let found = crate::percent::decode(id).and_then(|name| {
            let route = names::resolve(&snapshot.routes, &snapshot.tenants, who, &name).ok()?.route;
            Some((name, snapshot.routes.get(route)?))
        });
        let one = |(name, route): (Cow<'_, str>, &Arc<Route>)| match self.common.front {
            Front::Messages => messages::models::one(&listed(route, &name), self.live.loaded_at),
            _ => models::one(&name, self.live.loaded_at),
        };
        found.map(one).ok_or_else(|| {
            self.unknown_model = Some(redact_to(id, MAX_MODEL).into());
            names::unknown(&snapshot.routes, &snapshot.tenants, who, &crate::percent::decode(id).unwrap_or_else(|| id.into()))
        })
    }

    /// Everything that needs the body: its form, the route, all limits at once.
    async fn admit(
        &mut self,
        who: &Principal,
        operation: Operation,
        body: Bytes,
        (episode, session): (Option<HeaderValue>, Option<HeaderValue>),
        beside: Beside,
    ) -> Result<Box<Call>, ApiError> {
        let live = self.live.clone();
        let (parsed, beside) = large::run(body.len(), move || beside.read(operation, body)).await??;
        self.attributes.add_fields(&live.snapshot.attributes, &parsed);
        let model = parsed.text(Field::Model).unwrap_or_default();
        let found = names::resolve(&live.snapshot.routes, &live.snapshot.tenants, who, &model).inspect_err(|error| {
            self.unknown_model = Some(redact_to(&model, MAX_MODEL).into());
            if error.status == 403 {
                live.metrics.auth_failure(AuthFailure::Forbidden);
                self.reason = AuthFailure::Forbidden.name();
            }
        })?;
        let route = live.snapshot.routes.get(found.route).cloned().ok_or_else(ApiError::internal)?;
        let reference = if operation == Operation::Responses { responses::stored(&parsed)? } else { None };
        let stored = reference.zip(route.provider_with_responses());
        if let (Some(name), None) = (reference, stored) {
            return Err(responses::not_stored(name));
        }
        self.ledger.route = Some(route.index);
        let stream = operation.streams(&parsed);
        self.ledger.stream = stream;
        let episode_id = episode_id(&parsed, episode.as_ref())?;
        let conversation = (route.balance == Balance::Sticky)
            .then(|| Conversation::of(&parsed, operation, episode_id.as_ref(), session.as_ref(), who.id(&live.snapshot.tenants)));
        let belongs_to = conversation.as_ref().map_or(&[][..], |conversation| &conversation.key);
        self.sticky_by = conversation.as_ref().map_or("", |conversation| conversation.by);
        let now = live.now();
        let under_its_route =
            ChatRequest { parsed: &parsed, params: &route.params, system: route.system.as_deref(), model: "", seal: None };
        let size = operation.prospect(&under_its_route);
        let units = operation.units(&under_its_route);
        // Which target will answer is not known yet: the first one's price stands for all.
        let first = route.targets.iter().chain(&route.fallback).find(|target| operation.is_at(target));
        let price = first.and_then(|target| target.pricing.of(|| found.model(&target.model)));
        let mut estimate = live.limiter.estimate(route.index, &size, price);
        estimate.micro_usd = estimate.micro_usd.saturating_add(price.map_or(0, |price| cost_with(price, &Usage::default(), &units)));
        let plan = Plan::new(&route, found.star, system::random(), belongs_to, &live.health, now);
        let mut attempts = Attempts::new(plan, system::random());
        if let Some(smallest) = route.smallest_context {
            let prompt = live.limiter.usage(route.index, &size).prompt;
            if prompt > u64::from(smallest) {
                for target in attempts.pass_over_small(&route, prompt) {
                    self.passed_over.add(&target.provider.name, &found.model(&target.model), "context");
                }
            }
        }
        if let Operation::Passed(endpoint) = operation {
            for target in attempts.pass_over(&route, |target| !operation.is_at(target)) {
                self.passed_over.add(&target.provider.name, &found.model(&target.model), "endpoint");
            }
            if !route.targets.iter().chain(&route.fallback).any(|target| operation.is_at(target)) {
                let others = live.snapshot.providers.iter().filter(|provider| provider.protocol.dialect().endpoint(endpoint).is_some());
                return Err(no_endpoint(endpoint, others.map(|provider| &*provider.name)));
            }
        }
        let next = attempts.first(&route, &live.health, now);
        let provider = next.as_ref().map(|turn| turn.target.provider.index);
        let admitted = live.store.admit(&subject(who), route.index, provider, estimate, now).await;
        let permit = admitted.map_err(|error| self.refuse(&error))?;
        live.metrics.limits_admitted(permit.kinds());
        live.health.admitted(&route, now);
        self.in_flight = Some(live.metrics.enter(Some(route.index), stream));
        let fresh = || id::fresh(self.arrived);
        if let (Some((at, deadline)), Some(total)) = (&mut self.deadline, route.timeouts.total)
            && *at > self.began + total
        {
            (*at, *deadline) = (self.began + total, Deadline::Total);
        }
        let heartbeat = route.keep_alive.filter(|_| stream && operation.always_streams());
        self.shared.lock().life.admit(heartbeat, self.deadline.map(|(at, deadline)| (at.into_std(), deadline)), Instant::now().into_std());
        let head = Head::new(fresh(), episode_id.unwrap_or_else(fresh), self.arrived.as_secs(), &model);
        let responses = || {
            let (functions, clock) = (responses::tools::functions(&parsed, &route.params), || system::unix_time().as_secs());
            Beside::Responses { response: Response::new(&head, &parsed, functions, clock), stored }
        };
        let beside = if operation == Operation::Responses { responses() } else { beside };
        Ok(Box::new(Call {
            operation,
            head,
            parsed: Some(Arc::new(parsed)),
            beside,
            without_states: false,
            star: found.star.map(Into::into),
            team: live.snapshot.tenants.teams.get(who.team()).map_or_else(|| "".into(), |t| t.name.clone()),
            size,
            units,
            permit,
            attempts,
            next,
            attempt: None,
            failures: Failures::default(),
            failed: None,
            route,
        }))
    }
}

/// A route under one of its names, for Anthropic's list of models.
fn listed<'a>(route: &'a Route, name: &'a str) -> Listed<'a> {
    let display_name = route.targets.iter().find_map(|target| target.display_name.as_deref()).unwrap_or(name);
    Listed { name, display_name, max_input_tokens: route.smallest_context }
}

/// The headers of the Messages API; one that is no text is left out.
fn messages_headers(headers: &HeaderMap) -> Headers {
    let version = headers.get(messages::VERSION).and_then(|value| value.to_str().ok()).map(Box::from);
    let betas: Vec<&str> = headers.get_all("anthropic-beta").iter().filter_map(|value| value.to_str().ok()).collect();
    Headers { version, beta: betas.join(",").into() }
}

fn subject(who: &Principal) -> Subject {
    Subject { key: who.key(), team: Some(who.team()) }
}

/// The client's episode.
fn episode_id(parsed: &Parsed, header: Option<&HeaderValue>) -> Result<Option<Uuid>, ApiError> {
    let text = parsed
        .text(Field::EpisodeId)
        .or_else(|| parsed.text(Field::TensorzeroEpisodeId))
        .or_else(|| header.map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned()));
    let bad = |_| ApiError::field("episode_id", "`episode_id` must be a UUID; leave it out to get a new one");
    text.map(|text| Uuid::try_parse(&text).map_err(bad)).transpose()
}

/// Longest body that is read before a shared limit store is asked, in bytes: one that comes with its headers.
const SMALL_BODY: u64 = 64 << 10;
/// Longest name of an unknown model in the access log, in bytes.
const MAX_MODEL: usize = 128;
