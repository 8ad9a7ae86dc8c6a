//! The downstream session that Pingora proxies with, once the request has been read.
//!
//! Pingora forwards a body while it arrives and can repeat at most 64 KiB of it; a gateway that routes by the body has
//! read it before there is an upstream, and needs another body for every attempt. So the real session is wrapped: to
//! Pingora the request looks like a small synthetic one whose body, this attempt's, has yet to be read. Everything that
//! is written passes through here too, and nothing reaches the client before the answer is committed.
//!
//! The contract with `pingora-proxy` 0.9.1, which its own sources are the only documentation of:
//! - `enable_retry_buffering` is called once per attempt, right after the upstream request header has been written.
//! - `read_body_or_idle` is polled in a `select!` beside the upstream's tasks, cancelled and called again.
//! - All tasks that are ready are written with one `response_duplex_vec`; its `true` ends the response.
//! - An error of a hook throws away the tasks of its batch, so a hook only fails before the commit.

use super::failure::{handled, raise};
use super::respond::Opening;
use super::shared::Shared;
use super::timer::ConnectionTimer;
use crate::front::responses::response::Response;
use crate::lifecycle::{AttemptFailure, Due};
use async_trait::async_trait;
use bytes::Bytes;
use http::header::TRANSFER_ENCODING;
use http::{HeaderMap, Method, Version};
use pingora_core::protocols::http::custom::{CustomMessageWrite, server::Session};
use pingora_core::protocols::http::{HttpTask, ServerSession};
use pingora_core::protocols::{Digest, l4::socket::SocketAddr};
use pingora_core::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, LazyLock};
use std::task::Poll;
use std::time::Duration;
use tokio::time::Instant;

/// The request that Pingora sees and copies for every attempt; nothing of the client's.
static ANY: LazyLock<RequestHeader> = LazyLock::new(|| {
    let (mut parts, ()) = http::Request::new(()).into_parts();
    parts.method = Method::POST;
    parts.into()
});

/// See the module. Gives the real session back to [`Shared`] when it is dropped.
pub struct Replay {
    real: Option<Box<ServerSession>>,
    shared: Arc<Shared>,
    /// Where Pingora has changed it, the request that it is shown; otherwise [`ANY`].
    request: Option<Box<RequestHeader>>,
    timer: Arc<ConnectionTimer>,
    opening: Opening,
    /// A heartbeat whose write to an HTTP/2 client was cancelled.
    heartbeat: Option<Bytes>,
}

impl Replay {
    /// Wraps a session whose body has been read.
    pub fn new(real: Box<ServerSession>, shared: Arc<Shared>, opening: Opening) -> Self {
        Self { real: Some(real), shared, request: None, timer: ConnectionTimer::current(), opening, heartbeat: None }
    }

    /// Writes a heartbeat between two events, and the head of the stream before the first one. Where this is cancelled,
    /// [`Self::complete_heartbeat`] writes the rest before anything else.
    async fn write_heartbeat(&mut self) -> Result<()> {
        self.complete_heartbeat().await?;
        let (first, event) = {
            let mut shared = self.shared.lock();
            (shared.life.on_heartbeat(Instant::now().into_std()), shared.response.as_ref().map(Response::heartbeat))
        };
        let head = first.then(|| self.opening.head()).transpose()?;
        let heartbeat = event.map_or(Bytes::from_static(self.opening.common.front.heartbeat()), Bytes::from);
        let draining = self.timer.is_draining();
        let real = self.real()?;
        let head = head.map(|head| adapt_head(head, real, draining));
        if let ServerSession::H2(h2) = real {
            head.map_or(Ok(()), |head| h2.write_response_header(head, false)).map_err(|e| e.into_down())?;
            self.heartbeat = Some(heartbeat);
        } else {
            let head = head.map(|head| HttpTask::Header(head, false));
            head.into_iter().chain([HttpTask::Body(Some(heartbeat), false)]).for_each(|task| real.send_downstream_proxy_task(task));
        }
        self.complete_heartbeat().await
    }

    /// Writes what is left of a heartbeat. Over HTTP/1 Pingora continues where it was cancelled. Over HTTP/2 it waits for room in
    /// the client's window and then sends all of a heartbeat that fits, so that a cancelled one is sent again.
    async fn complete_heartbeat(&mut self) -> Result<()> {
        let heartbeat = self.heartbeat.clone();
        match self.real()? {
            ServerSession::H2(h2) => {
                if let Some(heartbeat) = heartbeat {
                    h2.write_body(heartbeat, false).await.map_err(|e| e.into_down())?;
                    self.heartbeat = None;
                }
            }
            real if real.has_pending_downstream_proxy_tasks() => _ = real.write_downstream_proxy_tasks().await?,
            _ => {}
        }
        Ok(())
    }

    fn real(&mut self) -> Result<&mut ServerSession> {
        self.real.as_deref_mut().ok_or_else(no_session)
    }
}

fn no_session() -> Box<Error> {
    Error::explain(ErrorType::InternalError, "the session has been given back")
}

/// Adapts a head to the client's version of HTTP; in a drain it closes the connection.
fn adapt_head(mut head: Box<ResponseHeader>, real: &mut ServerSession, draining: bool) -> Box<ResponseHeader> {
    if draining {
        real.set_keepalive(None);
    }
    if real.req_header().version < Version::HTTP_11 {
        head.remove_header(&TRANSFER_ENCODING); // HTTP/1.0 knows no chunks: the end of the connection ends the answer
    }
    head
}

/// What is due now, if the timer has expired; otherwise sets the timer for the next instant. An error ends the
/// attempt, or after the whole answer the wait for the end of the provider's body.
fn due(shared: &Shared, timer: &ConnectionTimer) -> Option<Result<()>> {
    let expired = timer.take_expired();
    let life = &mut shared.lock().life;
    if !expired && !life.take_rearm() {
        return None;
    }
    let (at, due) = life.due()?;
    let drained = expired && timer.is_drain_closed();
    if !drained && (!expired || at > Instant::now().into_std()) {
        timer.await_upstream(at.into());
        return None;
    }
    Some(match due {
        Due::UpstreamEnd => Err(handled()),
        _ if drained => Err(raise(AttemptFailure::Drained)),
        Due::Late(deadline) => Err(raise(AttemptFailure::Late(deadline))),
        Due::Heartbeat => Ok(()),
    })
}

impl Drop for Replay {
    fn drop(&mut self) {
        if let Some(real) = self.real.take() {
            self.shared.lock().client_session = Some(real);
        }
    }
}

#[async_trait]
impl Session for Replay {
    fn req_header(&self) -> &RequestHeader {
        self.request.as_deref().unwrap_or_else(|| &ANY)
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        self.request.get_or_insert_with(|| Box::new(ANY.clone()))
    }

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        Ok(self.shared.lock().body.take_slice())
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        Ok(())
    }

    async fn write_response_header(&mut self, resp: Box<ResponseHeader>, _end: bool) -> Result<()> {
        self.real()?.write_response_header(resp).await
    }

    async fn write_response_header_ref(&mut self, resp: &ResponseHeader, end: bool) -> Result<()> {
        self.write_response_header(Box::new(resp.clone()), end).await
    }

    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        self.complete_heartbeat().await?;
        self.real()?.write_response_body(data, end).await
    }

    async fn write_trailers(&mut self, _trailers: HeaderMap) -> Result<()> {
        Ok(())
    }

    async fn response_duplex_vec(&mut self, mut tasks: Vec<HttpTask>) -> Result<bool> {
        let mut failed = None;
        let mut end = false;
        tasks.retain_mut(|task| {
            match task {
                // The client's head is ours; what the upstream said in its own has been read by the hooks.
                HttpTask::Header(_, false) => {}
                HttpTask::Header(_, true) => failed = Some(raise(AttemptFailure::Empty)),
                HttpTask::Body(data, is_end) => {
                    end |= std::mem::take(is_end); // told apart from the last bytes, below
                    return data.as_ref().is_some_and(|data| !data.is_empty());
                }
                HttpTask::Trailer(_) | HttpTask::Done => end = true,
                HttpTask::Failed(_) => {
                    if let HttpTask::Failed(e) = std::mem::replace(task, HttpTask::Done) {
                        failed = Some(e);
                    }
                }
                HttpTask::UpgradedBody(..) => failed = Some(raise(AttemptFailure::Internal)),
            }
            false
        });
        let (committed, whole, cut, head) = {
            let shared = &mut *self.shared.lock();
            (shared.life.is_committed(), shared.life.is_complete(), shared.life.is_aborted(), shared.head.take())
        };
        if !committed {
            return match failed {
                Some(e) => Err(e),
                // The hooks commit or fail at the end; an answer without an end of theirs has been lost.
                None if end => Err(raise(AttemptFailure::Empty)),
                None => Ok(false),
            };
        }
        if let Some(head) = head {
            let draining = self.timer.is_draining();
            tasks.insert(0, HttpTask::Header(adapt_head(head, self.real()?, draining), false));
        }
        if whole {
            end |= failed.take().is_some(); // what happens to the provider's connection now is no failure
        }
        if failed.is_none() && (end || cut) {
            tasks.push(HttpTask::Body(None, true));
        }
        if !tasks.is_empty() {
            self.complete_heartbeat().await?;
            self.real()?.response_duplex_vec(tasks).await?;
            self.shared.lock().life.on_written(Instant::now().into_std());
        }
        match failed {
            Some(e) => Err(e),
            None if cut && !end => Err(handled()),
            None => Ok(end),
        }
    }

    fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        if let Ok(real) = self.real() {
            real.set_read_timeout(timeout);
        }
    }

    fn get_read_timeout(&self) -> Option<Duration> {
        self.real.as_ref().and_then(|s| s.get_read_timeout())
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        if let Ok(real) = self.real() {
            real.set_write_timeout(timeout);
        }
    }

    fn get_write_timeout(&self) -> Option<Duration> {
        self.real.as_ref().and_then(|s| s.get_write_timeout())
    }

    fn set_total_drain_timeout(&mut self, timeout: Option<Duration>) {
        if let Ok(real) = self.real() {
            real.set_total_drain_timeout(timeout);
        }
    }

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        self.real.as_ref().and_then(|s| s.get_total_drain_timeout())
    }

    fn request_summary(&self) -> String {
        self.req_header().uri.path().to_owned()
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        // Under a head that a heartbeat has sent, Pingora may still ask another target.
        let real = self.real.as_deref().filter(|_| self.shared.lock().life.is_committed());
        real.and_then(|real| real.response_written()).filter(|head| !head.status.is_informational())
    }

    async fn shutdown(&mut self, _code: u32, _ctx: &str) {
        if let Ok(real) = self.real() {
            real.shutdown().await;
        }
    }

    fn is_body_done(&mut self) -> bool {
        self.shared.lock().body.is_empty()
    }

    async fn finish(&mut self) -> Result<()> {
        self.complete_heartbeat().await?;
        self.real()?.finish_body().await
    }

    fn is_body_empty(&mut self) -> bool {
        false // every upstream request of the gateway has a body
    }

    async fn read_body_or_idle(&mut self, no_body_expected: bool) -> Result<Option<Bytes>> {
        if !no_body_expected && let Some(slice) = self.shared.lock().body.take_slice() {
            // At most three: Pingora's body pipe holds four tasks and stops polling here, deadlines included, when it is full.
            return Ok(Some(slice));
        }
        loop {
            let Self { real, shared, timer, .. } = self;
            let real = real.as_deref_mut().ok_or_else(no_session)?;
            let whole = shared.lock().life.is_complete();
            let heartbeat = {
                let mut idle = pin!(real.read_body_or_idle(true));
                poll_fn(|cx| {
                    // A client that has its answer may leave, and its provider's connection is kept all the same.
                    if !whole && let Poll::Ready(read) = idle.as_mut().poll(cx) {
                        return Poll::Ready(Err(read));
                    }
                    due(shared, timer).map_or(Poll::Pending, |due| Poll::Ready(due.map_err(Err)))
                })
                .await
            };
            match heartbeat {
                Ok(()) => Box::pin(self.write_heartbeat()).await?, // boxed, so that every wait need not have room for it
                Err(read) => return read,
            }
        }
    }

    fn body_bytes_sent(&self) -> usize {
        self.real.as_ref().map_or(0, |s| s.body_bytes_sent())
    }

    fn body_bytes_read(&self) -> usize {
        self.real.as_ref().map_or(0, |s| s.body_bytes_read())
    }

    fn digest(&self) -> Option<&Digest> {
        self.real.as_ref().and_then(|s| s.digest())
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        self.real.as_mut().and_then(|s| s.digest_mut())
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        self.real.as_ref().and_then(|s| s.client_addr())
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        self.real.as_ref().and_then(|s| s.server_addr())
    }

    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        Bytes::new()
    }

    fn enable_retry_buffering(&mut self) {}

    fn retry_buffer_truncated(&self) -> bool {
        false
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        None
    }

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(&mut self) -> Option<Box<dyn futures::Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>> {
        None
    }

    fn restore_custom_message_reader(
        &mut self,
        _reader: Box<dyn futures::Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>,
    ) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }

    fn restore_custom_message_writer(&mut self, _writer: Box<dyn CustomMessageWrite>) -> Result<()> {
        Ok(())
    }
}
