//! Client connections under the deadlines that Pingora does not have: for the first bytes, for a request's headers, for
//! a client that does not take what it asked for.

use super::proxy::Gateway;
use super::serve::Process;
use async_trait::async_trait;
use pingora_core::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v2::server::H2Options;
use pingora_core::server::ShutdownWatch;
use pingora_proxy::HttpProxy;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

/// How long an HTTP/1 connection may wait for its next request.
const KEEPALIVE: Duration = Duration::from_secs(60);

tokio::task_local! {
    /// Set once the request's headers have been read; see [`Front`].
    static HEADERS_READ: Arc<AtomicBool>;
    /// How far a connection has come; see [`Door`].
    static GREETING: Arc<AtomicU8>;
}

const SILENT: u8 = 0;
const IN_HANDSHAKE: u8 = 1;
const SPEAKING: u8 = 2;

/// Called by the hooks when there is a request.
pub(super) fn headers_are_read() {
    let _ = HEADERS_READ.try_with(|flag| flag.store(true, Ordering::Relaxed)); // none in tests that call the hooks directly
}

/// Awaits `serve`; gives it up where `in_time` does not hold after `wait`.
async fn unless_late<T>(wait: Duration, serve: impl Future<Output = Option<T>>, in_time: impl Fn() -> bool) -> Option<T> {
    let mut serve = std::pin::pin!(serve);
    tokio::select! {
        biased;
        next = &mut serve => next,
        () = tokio::time::sleep(wait) => if in_time() { serve.await } else { None },
    }
}

/// A connection before it is known what it speaks: Pingora waits for the HTTP/2 preface without a deadline.
pub struct Door(Arc<Front>);

impl Door {
    /// Connections for `front`.
    pub fn new(front: Front) -> Self {
        Self(Arc::new(front))
    }
}

#[async_trait]
impl ServerApp for Door {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let greeting = Arc::new(AtomicU8::new(SILENT));
        let serve = GREETING.scope(greeting.clone(), ServerApp::process_new(&self.0, stream, shutdown));
        unless_late(self.0.header_timeout(), serve, || greeting.load(Ordering::Relaxed) == SPEAKING).await
    }

    async fn cleanup(&self) {
        ServerApp::cleanup(&*self.0).await;
    }
}

/// Pingora's proxy under a deadline for the request's headers, which Pingora has only per read.
pub struct Front {
    proxy: Arc<HttpProxy<Gateway>>,
    process: Arc<Process>,
}

impl Front {
    /// Deadlines around `proxy`.
    pub fn new(proxy: HttpProxy<Gateway>, process: Arc<Process>) -> Self {
        Self { proxy: Arc::new(proxy), process }
    }

    fn header_timeout(&self) -> Duration {
        self.process.live.load().snapshot.server.header_timeout
    }
}

#[async_trait]
impl HttpServerApp for Front {
    async fn process_new_http(self: &Arc<Self>, mut session: ServerSession, shutdown: &ShutdownWatch) -> Option<ReusedHttpStream> {
        let body = self.process.live.load().snapshot.server.body_timeout;
        session.set_write_timeout(Some(body));
        if session.is_http2() {
            return self.proxy.process_new_http(session, shutdown).await;
        }
        let _ = GREETING.try_with(|g| g.store(SPEAKING, Ordering::Relaxed)); // set for every connection that came in by the door
        // Otherwise Pingora takes the next request's bytes for a client that has left.
        session.set_pipelining_enabled(true);
        // A connection that has served a request may be idle first; a fresh one has nothing to wait for.
        let headers = self.header_timeout();
        let wait = if session.take_connection_user_context().is_some() { KEEPALIVE + headers } else { headers };
        session.set_keepalive(Some(wait.as_secs().max(1)));
        let read = Arc::new(AtomicBool::new(false));
        let serve = HEADERS_READ.scope(read.clone(), self.proxy.process_new_http(session, shutdown));
        unless_late(wait, serve, || read.load(Ordering::Relaxed)).await
    }

    fn h2_options(&self) -> Option<H2Options> {
        let _ = GREETING.try_with(|g| g.store(IN_HANDSHAKE, Ordering::Relaxed));
        self.proxy.h2_options.clone()
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        // Pingora asks again when an HTTP/2 handshake is over, for what holds from then on.
        let _ = GREETING.try_with(|g| g.compare_exchange(IN_HANDSHAKE, SPEAKING, Ordering::Relaxed, Ordering::Relaxed));
        self.proxy.server_options.as_ref()
    }

    async fn http_cleanup(&self) {
        self.proxy.http_cleanup().await;
    }
}
