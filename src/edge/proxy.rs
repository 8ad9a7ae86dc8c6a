//! Pingora's hooks, one short call per phase.

use super::call::{Attempt, FreeRetry};
use super::exchange::{Exchange, Step, error_event};
use super::live::Live;
use super::patience::Patience;
use super::replay::{EMPTY, LATE, Replay, TOLD};
use super::rescue;
use super::respond;
use super::upstream_request;
use super::{admission, cors, intake};
use crate::account::EndedBy;
use crate::error::ApiError;
use crate::operation::Operation;
use crate::provider::HttpVersion;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::{Either, select};
use http::{HeaderMap, Method, Version};
use pingora_core::modules::http::HttpModules;
use pingora_core::protocols::Digest;
use pingora_core::protocols::http::ServerSession;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType, Result, RetryType};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use std::os::fd::RawFd;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The gateway as Pingora sees it.
pub struct Gateway {
    /// The current generation.
    pub live: Arc<ArcSwap<Live>>,
}

/// What a request may be for.
enum Endpoint<'a> {
    Ask(Operation),
    Models,
    Model(&'a str),
}

impl Endpoint<'_> {
    /// The word in the access log.
    const fn name(&self) -> &'static str {
        match self {
            Self::Ask(operation) => operation.name(),
            Self::Models | Self::Model(_) => "models",
        }
    }
}

fn endpoint<'a>(method: &Method, path: &'a str) -> std::result::Result<Endpoint<'a>, ApiError> {
    let (endpoint, allow) = match path {
        "/v1/chat/completions" => (Endpoint::Ask(Operation::Chat), "POST"),
        "/v1/embeddings" => (Endpoint::Ask(Operation::Embeddings), "POST"),
        "/v1/models" => (Endpoint::Models, "GET, HEAD"),
        _ => match path.strip_prefix("/v1/models/") {
            Some(id) if !id.is_empty() => (Endpoint::Model(id), "GET, HEAD"),
            _ => {
                return Err(ApiError::new(
                    404,
                    crate::error::ErrorKind::NotFound,
                    "There is no such endpoint; try /v1/chat/completions, /v1/embeddings or /v1/models.",
                ));
            }
        },
    };
    let allowed = if allow == "POST" { *method == Method::POST } else { matches!(*method, Method::GET | Method::HEAD) };
    if allowed { Ok(endpoint) } else { Err(ApiError::method(allow)) }
}

impl Gateway {
    /// Everything up to the first attempt. `Ok(None)`: go on with the upstream.
    async fn receive(&self, session: &mut Session, ctx: &mut Exchange) -> std::result::Result<Option<Own>, Stop> {
        let real = &mut session.downstream_session;
        let live = ctx.live.clone();
        let request = real.req_header();
        let headers = intake::Headers::of(&request.headers);
        ctx.client_id = headers.client_id();
        let parent = headers.traceparent.and_then(|v| v.to_str().ok());
        ctx.trace = crate::telemetry::trace::Trace::continue_or_begin(parent, || fastrand::u64(..));
        if let Some(cors) = &live.snapshot.server.cors {
            let answer = cors::Answer::new(cors, &request.headers);
            let preflight = answer.is_allowed() && cors::is_preflight(&request.method, &request.headers);
            ctx.cors = Some(answer);
            if preflight {
                return Ok(Some(Own::Preflight(cors::preflight_headers(cors, &request.headers))));
            }
        }
        intake::check_headers(real, &headers)?;
        let endpoint = endpoint(&request.method, request.uri.path())?;
        ctx.endpoint = endpoint.name();
        let who = admission::authenticate(&live, ctx, &request.headers)?;
        let operation = match endpoint {
            Endpoint::Ask(operation) => operation,
            Endpoint::Models => return Ok(Some(Own::List(admission::models(&live, &who)))),
            Endpoint::Model(id) => return Ok(Some(Own::List(admission::model(&live, ctx, &who, id)?))),
        };
        admission::peek(&live, ctx, &who, headers.length()).await?;
        let framing = intake::check_framing(real, &headers, live.snapshot.server.max_body)?;
        let episode = headers.episode_id.cloned();
        let body = match intake::read_body(real, framing, &live.snapshot.server).await {
            Ok(body) => body,
            Err(intake::Unread::Refused(error)) => return Err(Stop::Refused(error)),
            Err(intake::Unread::Gone(e)) => return Err(Stop::Gone(e)),
        };
        let read = Instant::now();
        ctx.call = Some(admission::admit(&live, ctx, &who, operation, body, episode).await?);
        ctx.prepare().await?;
        ctx.busy += read.elapsed();
        Ok(None)
    }

    fn wrap(&self, session: &mut Session, ctx: &Exchange) -> Result<()> {
        let Some(call) = ctx.call.as_deref() else { return Ok(()) };
        let empty = Box::new(ServerSession::new_custom(Box::new(())));
        let real = std::mem::replace(&mut session.downstream_session, empty);
        *session.downstream_session = ServerSession::new_custom(Box::new(Replay::new(real, call.stage.clone(), ctx.opening())));
        Ok(())
    }

    /// Lets go of the replay session and puts the real one back, so that its connection can be kept.
    fn unwrap(&self, session: &mut Session, ctx: &Exchange) {
        let Some(call) = ctx.call.as_deref() else { return };
        if session.downstream_session.is_custom() {
            *session.downstream_session = ServerSession::new_custom(Box::new(()));
            if let Some(real) = call.stage.take_home() {
                session.downstream_session = real;
            }
        }
    }

    async fn tell(&self, session: &mut Session, ctx: &mut Exchange, error: &ApiError) -> Result<()> {
        ctx.ledger.status = error.status;
        let mut headers = respond::error_headers(error);
        ctx.common_headers(&mut headers);
        respond::respond(&mut session.downstream_session, error.status, headers, error.to_json().into()).await
    }
}

/// Awaits `work` and attends to the client meanwhile: heartbeats are sent, and a client that leaves ends it.
///
/// # Errors
/// When the client has left, or the process ends.
async fn attend<T: Send>(session: &mut Session, mut work: Pin<&mut (impl Future<Output = T> + Send)>) -> Result<T> {
    // Nearly always ready at once: the future that reads from the client is large, and is only allocated for a real wait.
    if let Some(done) = work.as_mut().now_or_never() {
        return Ok(done);
    }
    let listen = Box::pin(session.downstream_session.read_body_or_idle(true));
    match select(work, listen).await {
        Either::Left((done, _)) => Ok(done),
        Either::Right((Err(gone), _)) => Err(gone.into_down()),
        Either::Right((Ok(_), work)) => Ok(work.await),
    }
}

/// Ends an attempt whose failure has been told to [`Exchange::failed`].
const DECIDED: ErrorType = ErrorType::Custom("attempt failed");

fn decided(why: &'static str, retry: bool) -> Box<Error> {
    let mut e = Error::explain(DECIDED, why).into_up();
    e.set_retry(retry);
    e
}

/// An answer of the gateway's own.
enum Own {
    /// Models.
    List(Bytes),
    /// What a web page may send.
    Preflight(HeaderMap),
}

/// Why a request goes no further.
enum Stop {
    /// The client is told.
    Refused(ApiError),
    /// There is nobody to tell.
    Gone(Box<Error>),
}

impl From<ApiError> for Stop {
    fn from(error: ApiError) -> Self {
        Self::Refused(error)
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Box<Exchange>;

    fn new_ctx(&self) -> Box<Exchange> {
        Patience::with_current(Patience::head_is_read);
        Box::new(Exchange::new(self.live.load_full()))
    }

    /// None: answers are never compressed, and Pingora's own module costs every request.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn request_filter(&self, session: &mut Session, ctx: &mut Box<Exchange>) -> Result<bool> {
        match self.receive(session, ctx).await {
            Ok(None) => {
                self.wrap(session, ctx)?;
                Ok(false)
            }
            Ok(Some(own)) => {
                let (status, mut headers, body) = match own {
                    Own::List(body) => (200, HeaderMap::with_capacity(4), body),
                    Own::Preflight(headers) => (204, headers, Bytes::new()),
                };
                ctx.ledger.status = status;
                ctx.ledger.ended_by = EndedBy::Complete;
                ctx.common_headers(&mut headers);
                respond::respond(&mut session.downstream_session, status, headers, body).await?;
                Ok(true)
            }
            Err(Stop::Refused(error)) => {
                self.tell(session, ctx, &error).await.map_err(|e| e.into_down())?;
                Ok(true)
            }
            Err(Stop::Gone(e)) => {
                ctx.ledger.status = 499;
                ctx.ledger.ended_by = EndedBy::Client;
                Err(e)
            }
        }
    }

    async fn upstream_peer(&self, session: &mut Session, ctx: &mut Box<Exchange>) -> Result<Box<HttpPeer>> {
        let live = ctx.live.clone();
        let over = ctx.call.as_deref().is_some_and(|c| c.attempt.as_ref().is_none_or(Attempt::is_over));
        if over && attend(session, pin!(ctx.prepare())).await?.is_err() {
            return Err(Error::explain(ErrorType::Custom("no target left"), "nobody can be asked"));
        }
        let Some(attempt) = ctx.call.as_deref_mut().and_then(|c| c.attempt.as_mut()) else {
            return Err(Error::explain(ErrorType::InternalError, "no attempt"));
        };
        let peer = live.upstream(&attempt.target).peer(&attempt.timeouts, &mut attempt.connection);
        if let Some(peer) = attend(session, pin!(peer)).await? {
            return Ok(peer);
        }
        let failure = attempt.unconnected.take().unwrap_or_else(|| rescue::of_unknown_host(&attempt.target.provider));
        let retry = ctx.failed(failure);
        Err(decided("the provider has no other address", retry))
    }

    async fn connected_to_upstream(
        &self,
        _session: &mut Session,
        _reused: bool,
        _peer: &HttpPeer,
        _fd: RawFd,
        description: Option<&Digest>,
        ctx: &mut Box<Exchange>,
    ) -> Result<()> {
        if let Some(attempt) = ctx.call.as_deref_mut().and_then(|call| call.attempt.as_mut()) {
            ctx.live.upstream(&attempt.target).connected(&mut attempt.connection, description);
        }
        Ok(())
    }

    async fn upstream_request_filter(&self, session: &mut Session, request: &mut RequestHeader, ctx: &mut Box<Exchange>) -> Result<()> {
        let began = Instant::now();
        let live = ctx.live.clone();
        let trace = ctx.trace;
        let Some(call) = ctx.call.as_deref_mut() else { return Ok(()) };
        let Some(attempt) = call.attempt.as_mut() else { return Ok(()) };
        let stream = call.stream;
        attempt.http2 = request.version == Version::HTTP_2;
        if attempt.target.provider.http == HttpVersion::Http2 && !attempt.http2 {
            let failure = rescue::of_http1(&attempt.target.provider.name);
            let retry = ctx.failed(failure);
            return Err(decided("the provider does not speak HTTP/2", retry));
        }
        let built = attend(session, pin!(upstream_request::build(request, attempt, &live, &trace))).await?;
        if let Err(failure) = built {
            let retry = ctx.failed(failure);
            return Err(decided("the request cannot be signed", retry));
        }
        call.stage.begin_attempt(attempt.outgoing.body.clone(), attempt.deadlines(stream, began));
        ctx.busy += began.elapsed();
        // The client was not attended to while the connection was made.
        if let Some(Err(gone)) = session.downstream_session.read_body_or_idle(true).now_or_never() {
            return Err(gone.into_down());
        }
        attempt.asked = true;
        Ok(())
    }

    async fn upstream_response_filter(&self, _session: &mut Session, response: &mut ResponseHeader, ctx: &mut Box<Exchange>) -> Result<()> {
        if !response.status.is_informational() {
            ctx.upstream_head(response.status.as_u16(), &response.headers);
        } else if let Some(attempt) = ctx.call.as_deref_mut().and_then(|call| call.attempt.as_mut()) {
            attempt.interim = true;
        }
        Ok(())
    }

    fn upstream_response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Box<Exchange>,
    ) -> Result<Option<Duration>> {
        let began = Instant::now();
        if end && let Some(attempt) = ctx.call.as_deref().and_then(|call| call.attempt.as_ref()) {
            attempt.connection.set_answered();
        }
        let step = ctx.upstream_body(body.as_deref().unwrap_or_default(), end, began);
        ctx.busy += began.elapsed();
        match step {
            Step::Write(bytes) => {
                *body = (!bytes.is_empty()).then(|| bytes.into());
                Ok(None)
            }
            Step::Retry(why) => Err(decided(why, true)),
        }
    }

    fn upstream_response_trailer_filter(&self, _session: &mut Session, _trailers: &mut HeaderMap, _ctx: &mut Box<Exchange>) -> Result<()> {
        Ok(())
    }

    /// With trailers no body piece says that it is the last one.
    async fn response_trailer_filter(
        &self,
        _session: &mut Session,
        _trailers: &mut HeaderMap,
        ctx: &mut Box<Exchange>,
    ) -> Result<Option<Bytes>> {
        match ctx.upstream_body(&[], true, Instant::now()) {
            Step::Write(bytes) => Ok(Some(bytes.into())),
            Step::Retry(why) => Err(decided(why, true)),
        }
    }

    fn fail_to_connect(&self, _session: &mut Session, _peer: &HttpPeer, ctx: &mut Box<Exchange>, mut e: Box<Error>) -> Box<Error> {
        let Some(attempt) = ctx.call.as_deref_mut().and_then(|c| c.attempt.as_mut()) else { return e };
        // A pooled connection that takes no further stream says nothing about the address.
        if rescue::is_unprocessed(&e) && attempt.take_free_retry(FreeRetry::Unprocessed, true) {
            e.set_retry(true);
            return e;
        }
        let another = ctx.live.upstream(&attempt.target).connect_failed(&mut attempt.connection, &e);
        let failure = rescue::of_connect(&attempt.target.provider.name, &e);
        // Another address of the provider: the same attempt, at no cost, unless its time to connect is over.
        if another && !rescue::is_late(&e) {
            attempt.unconnected = Some(failure);
            e.set_retry(true);
            return e;
        }
        let retry = ctx.failed(failure);
        e.set_retry(retry);
        e
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        _session: &mut Session,
        mut e: Box<Error>,
        ctx: &mut Box<Exchange>,
        reused: bool,
    ) -> Box<Error> {
        let Some(call) = ctx.call.as_deref_mut() else {
            e.set_retry(false);
            return e;
        };
        let Some(attempt) = call.attempt.as_mut() else {
            e.set_retry(false);
            return e;
        };
        attempt.connection.release();
        let unprocessed = rescue::is_unprocessed(&e);
        // A connection that is silent may be dead: neither a retry nor another request is to come upon it or its like.
        if rescue::is_refused(&e) || *e.etype() == LATE && (attempt.http2 || attempt.has_reused(reused)) {
            ctx.live.upstream(&attempt.target).retire(&attempt.connection);
        }
        if attempt.is_over() || *e.etype() == TOLD || *e.etype() == DECIDED {
            // The hooks have decided already; only a retry that they asked for is one.
            let retry = *e.etype() == DECIDED && e.retry();
            e.set_retry(retry);
            return e;
        }
        let broken = matches!(e.retry, RetryType::ReusedOnly) || rescue::is_unsent(&e);
        let free = if unprocessed { Some(FreeRetry::Unprocessed) } else { broken.then_some(FreeRetry::Broken) };
        if free.is_some_and(|why| attempt.take_free_retry(why, reused)) {
            e.set_retry(true);
            return e;
        }
        if call.stage.committed() {
            e.set_retry(false); // told in `fail_to_proxy`
            return e;
        }
        // A refusal need not have a whole body: its status says enough. (A server that refuses before it has read the request
        // resets the connection behind its answer.)
        let refusal = if *e.etype() == EMPTY || rescue::is_broken(&e) { attempt.refusal() } else { None };
        let failure = refusal.unwrap_or_else(|| rescue::of_proxy(&attempt.target.provider.name, &e));
        let retry = ctx.failed(failure);
        e.set_retry(retry);
        e
    }

    async fn fail_to_proxy(&self, session: &mut Session, e: &Error, ctx: &mut Box<Exchange>) -> FailToProxy {
        let done = |ctx: &Exchange| FailToProxy { error_code: ctx.ledger.status, can_reuse_downstream: false };
        if *e.etype() == TOLD {
            let _ = session.downstream_session.finish_body().await; // the client may be gone
            return done(ctx);
        }
        let committed = ctx.call.as_deref().is_some_and(|c| c.stage.committed());
        let provider = ctx.call.as_deref().and_then(|c| c.attempt.as_ref()).map(|a| a.target.provider.name.clone()).unwrap_or_default();
        let failure = rescue::of_proxy(&provider, e);
        if failure.client_is_gone() {
            if !committed {
                ctx.ledger.status = 499;
            }
            if ctx.call.as_deref().and_then(|c| c.attempt.as_ref()).is_some_and(|a| !a.is_over()) {
                ctx.failed(failure);
            }
            ctx.ledger.ended_by = EndedBy::Client;
            return done(ctx);
        }
        if committed {
            if ctx.ledger.stream && session.downstream_session.response_written().is_some() {
                let event = ctx.break_off(failure);
                let _ = session.downstream_session.write_response_body(event.into(), true).await; // the client may be gone as well
                let _ = session.downstream_session.finish_body().await;
            }
            return done(ctx);
        }
        let error = ctx.told().unwrap_or(failure.error);
        if ctx.call.as_deref().is_some_and(|c| c.stage.opened()) {
            ctx.ledger.status = 200; // of the head that a heartbeat has sent
            let _ = session.downstream_session.write_response_body(error_event(&error).into(), true).await; // the client may be gone
            let _ = session.downstream_session.finish_body().await;
            return done(ctx);
        }
        self.unwrap(session, ctx);
        session.downstream_session.set_keepalive(None);
        if let Err(e) = self.tell(session, ctx, &error).await {
            log::debug!("request {}: the client left before its error: {e}", ctx.id);
        }
        done(ctx)
    }

    async fn logging(&self, session: &mut Session, e: Option<&Error>, ctx: &mut Box<Exchange>) {
        self.unwrap(session, ctx);
        if ctx.ledger.ended_by == EndedBy::Client && ctx.ledger.status == 0 {
            ctx.ledger.status = 499;
        }
        ctx.ledger.duration = ctx.began.elapsed();
        ctx.ledger.overhead = ctx.busy;
        super::settle::settle(session, e, ctx);
        ctx.call = None; // the permit settles here
        ctx.in_flight = None;
    }

    /// Marks a connection that has served a request.
    fn persist_connection_context(&self, _session: &Session, _ctx: &Box<Exchange>) -> Option<Box<dyn std::any::Any + Send + Sync>> {
        Some(Box::new(()))
    }

    /// Failures are told by the access log and the metrics; Pingora's own line would repeat them for every client.
    fn suppress_error_log(&self, _session: &Session, _ctx: &Box<Exchange>, e: &Error) -> bool {
        !matches!(e.etype(), ErrorType::InternalError)
    }

    fn suppress_proxy_warn_log(&self, _session: &Session, _ctx: &Box<Exchange>, _e: &Error, _context: ProxyWarnLogContext) -> bool {
        true
    }
}
