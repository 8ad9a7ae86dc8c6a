//! Pingora's hooks: each one is an event of the request's [`Exchange`].

use super::admission::Admission;
use super::exchange::{Exchange, Reply};
use super::failure::handled;
use super::live::Live;
use super::replay::Replay;
use super::respond::Opening;
use super::timer::ConnectionTimer;
use super::{respond, summary, upstream_request};
use crate::account::EndedBy;
use crate::lifecycle::{AttemptFailure, Connect};
use crate::provider::HttpVersion;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::{Either, select};
use http::{HeaderMap, Version};
use pingora_core::modules::http::HttpModules;
use pingora_core::protocols::Digest;
use pingora_core::protocols::http::ServerSession;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType, Result};
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

/// Has Pingora proxy with a replay session in place of the client's own.
fn wrap(session: &mut Session, ctx: &Exchange) {
    let Some(call) = ctx.call.as_deref() else { return };
    let empty = Box::new(ServerSession::new_custom(Box::new(())));
    let real = std::mem::replace(&mut session.downstream_session, empty);
    let opening = Opening { common: ctx.common.clone(), limits: call.permit.headers().clone(), only: ctx.only_target() };
    let replay = Replay::new(real, ctx.shared.clone(), opening);
    *session.downstream_session = ServerSession::new_custom(Box::new(replay));
}

/// Puts the client's own session back, so that its connection can be kept.
fn unwrap(session: &mut Session, ctx: &Exchange) {
    if session.downstream_session.is_custom() {
        *session.downstream_session = ServerSession::new_custom(Box::new(()));
        if let Some(real) = ctx.shared.lock().client_session.take() {
            session.downstream_session = real;
        }
    }
}

/// Attends to the client once, who was not attended to while a connection was made.
///
/// # Errors
/// When the client has left.
fn attend(session: &mut Session) -> Result<()> {
    match session.downstream_session.read_body_or_idle(true).now_or_never() {
        Some(Err(disconnected)) => Err(disconnected.into_down()),
        Some(Ok(_)) | None => Ok(()),
    }
}

/// Awaits `work` and attends to the client meanwhile: heartbeats are sent, and a client that leaves ends it.
///
/// # Errors
/// When the client has left, or the process ends.
async fn await_with_client<T: Send>(session: &mut Session, mut work: Pin<&mut (impl Future<Output = T> + Send)>) -> Result<T> {
    // Nearly always ready at once: the future that reads from the client is large, and is only allocated for a real wait.
    if let Some(done) = work.as_mut().now_or_never() {
        return Ok(done);
    }
    let listen = Box::pin(session.downstream_session.read_body_or_idle(true));
    match select(work, listen).await {
        Either::Left((done, _)) => Ok(done),
        Either::Right((Err(disconnected), _)) => Err(disconnected.into_down()),
        Either::Right((Ok(_), work)) => Ok(work.await),
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Box<Exchange>;

    fn new_ctx(&self) -> Box<Exchange> {
        ConnectionTimer::with_current(ConnectionTimer::on_head_read);
        Box::new(Exchange::new(self.live.load_full()))
    }

    /// None: answers are never compressed, and Pingora's own module costs every request.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn request_filter(&self, session: &mut Session, ctx: &mut Box<Exchange>) -> Result<bool> {
        let (status, headers, body) = match ctx.receive(&mut session.downstream_session).await {
            Ok(Admission::Proxy) => {
                wrap(session, ctx);
                return Ok(false);
            }
            Ok(Admission::Answered(status, mut headers, body)) => {
                ctx.add_headers(&mut headers);
                (ctx.ledger.status, ctx.ledger.ended_by) = (status, EndedBy::Complete);
                (status, headers, body)
            }
            Err(AttemptFailure::Rejected(error)) => {
                let (headers, body) = ctx.error_response(&error);
                (ctx.ledger.status, headers, body.into())
            }
            Err(_) => return Err(Error::new_down(ErrorType::ConnectionClosed)),
        };
        respond::respond(&mut session.downstream_session, status, headers, body).await.map_err(|e| e.into_down())?;
        ctx.ledger.duration = ctx.began.elapsed();
        respond::discard_rest(&mut session.downstream_session).await;
        Ok(true)
    }

    async fn upstream_peer(&self, session: &mut Session, ctx: &mut Box<Exchange>) -> Result<Box<HttpPeer>> {
        let live = ctx.live.clone();
        if ctx.ledger.attempts > 0 {
            attend(session)?;
        }
        let attempting = ctx.shared.lock().life.is_attempting();
        if attempting {
            let call = ctx.call.as_deref_mut().ok_or_else(handled)?;
            let written = await_with_client(session, pin!(call.write_again(&live))).await?;
            if let Err(failure) = written {
                ctx.fail(failure);
                return Err(handled());
            }
        } else if !await_with_client(session, pin!(ctx.prepare())).await? {
            return Err(handled());
        }
        let attempt = ctx.call.as_deref_mut().and_then(|call| call.attempt.as_mut()).ok_or_else(handled)?;
        let left = ctx.deadline.map(|(at, _)| at.saturating_duration_since(Instant::now()));
        let connect = left.map_or(attempt.timeouts.connect, |left| left.min(attempt.timeouts.connect));
        attempt.is_hurried = connect < attempt.timeouts.connect;
        let silence = attempt.timeouts.longest_silence(ctx.ledger.stream);
        let silence = left.map_or(silence, |left| left.min(silence));
        let peer = live.upstream(&attempt.target).peer(connect, silence, &mut attempt.connection);
        let peer = await_with_client(session, pin!(peer)).await?;
        peer.ok_or_else(|| {
            let mut e = handled();
            e.set_retry(ctx.on_no_address());
            e
        })
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
        let trace = ctx.upstream_trace();
        let Some(attempt) = ctx.call.as_deref_mut().and_then(|call| call.attempt.as_mut()) else { return Ok(()) };
        attempt.http2 = request.version == Version::HTTP_2;
        let built = if attempt.target.provider.http == HttpVersion::Http2 && !attempt.http2 {
            Err(AttemptFailure::Connect(Connect::Http1Only))
        } else {
            await_with_client(session, pin!(upstream_request::build(request, attempt, &live, trace))).await?
        };
        if let Err(failure) = built {
            ctx.fail(failure);
            return Err(handled());
        }
        ctx.busy += began.elapsed();
        attend(session)?;
        ctx.send(began);
        Ok(())
    }

    async fn upstream_response_filter(&self, _session: &mut Session, response: &mut ResponseHeader, ctx: &mut Box<Exchange>) -> Result<()> {
        if response.status.is_informational() {
            ctx.shared.lock().life.on_interim();
        } else {
            ctx.on_head(response.status.as_u16(), &response.headers);
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
        if end && let Some(attempt) = ctx.attempt() {
            attempt.connection.set_answered();
        }
        let out = ctx.on_body(body.as_deref().unwrap_or_default(), end, began);
        ctx.busy += began.elapsed();
        *body = out.map(Bytes::from).ok_or_else(handled).map(|out| (!out.is_empty()).then_some(out))?;
        Ok(None)
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
        let out = ctx.on_body(&[], true, Instant::now()).ok_or_else(handled)?;
        Ok(Some(out.into()))
    }

    fn fail_to_connect(&self, _session: &mut Session, _peer: &HttpPeer, ctx: &mut Box<Exchange>, mut e: Box<Error>) -> Box<Error> {
        let retry = ctx.on_connect_error(&e);
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
        let retry = ctx.on_proxy_error(&e, reused);
        e.set_retry(retry);
        e
    }

    async fn fail_to_proxy(&self, session: &mut Session, e: &Error, ctx: &mut Box<Exchange>) -> FailToProxy {
        let reply = ctx.on_final_error(e);
        // An error of what is written here means that the client is gone.
        match reply {
            Reply::Nothing => {}
            Reply::End => drop(session.downstream_session.finish_body().await),
            Reply::Event(event) => {
                let _ = session.downstream_session.write_response_body(event.into(), true).await;
                let _ = session.downstream_session.finish_body().await;
            }
            Reply::Response(headers, body) => {
                unwrap(session, ctx);
                session.downstream_session.set_keepalive(None);
                if respond::respond(&mut session.downstream_session, ctx.ledger.status, headers, body.into()).await.is_ok() {
                    ctx.ledger.duration = ctx.began.elapsed();
                    respond::discard_rest(&mut session.downstream_session).await;
                }
            }
        }
        FailToProxy { error_code: ctx.ledger.status, can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, e: Option<&Error>, ctx: &mut Box<Exchange>) {
        unwrap(session, ctx);
        if ctx.ledger.duration.is_zero() {
            ctx.ledger.duration = ctx.began.elapsed(); // else it ended when its response was written
        }
        ctx.ledger.overhead = ctx.busy;
        summary::write(session, e, ctx);
        ctx.call = None; // the permit settles here
        ctx.in_flight = None;
    }

    /// Marks a connection that has served a request.
    fn persist_connection_context(&self, _session: &Session, _ctx: &Box<Exchange>) -> Option<Box<dyn std::any::Any + Send + Sync>> {
        Some(Box::new(()))
    }

    /// The access log and the metrics have every failure; Pingora's own line would repeat it for every client.
    fn suppress_error_log(&self, _session: &Session, _ctx: &Box<Exchange>, e: &Error) -> bool {
        !matches!(e.etype(), ErrorType::InternalError)
    }

    fn suppress_proxy_warn_log(&self, _session: &Session, _ctx: &Box<Exchange>, _e: &Error, _context: ProxyWarnLogContext) -> bool {
        true
    }
}
