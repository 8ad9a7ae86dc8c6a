//! Client connections under the deadlines that Pingora does not have: for the first bytes, for a request's headers, for
//! a client that does not take what it asked for.

use super::drain::Drain;
use super::patience::Patience;
use super::proxy::Gateway;
use super::serve::Process;
use async_trait::async_trait;
use pingora_core::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v2::server::H2Options;
use pingora_core::server::ShutdownWatch;
use pingora_proxy::HttpProxy;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long an HTTP/1 connection may wait for its next request.
const KEEPALIVE: Duration = Duration::from_secs(60);

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
        let patience = Patience::with_client(Instant::now() + self.0.header_timeout(), self.0.drain());
        patience.over(ServerApp::process_new(&self.0, stream, shutdown)).await
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

    fn drain(&self) -> Arc<Drain> {
        self.process.live.load().drain.clone()
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
            return Patience::endless(self.drain()).over(self.proxy.process_new_http(session, shutdown)).await; // a task of its own
        }
        // Otherwise Pingora takes the next request's bytes for a client that has left.
        session.set_pipelining_enabled(true);
        // A connection that has served a request may be idle first; a fresh one has nothing to wait for.
        let headers = self.header_timeout();
        let wait = if session.take_connection_user_context().is_some() { KEEPALIVE + headers } else { headers };
        Patience::with_current(|patience| patience.await_client(Instant::now() + wait));
        session.set_keepalive(Some(0)); // kept, without another timer
        self.proxy.process_new_http(session, shutdown).await
    }

    fn h2_options(&self) -> Option<H2Options> {
        Patience::with_current(Patience::handshake_begins);
        self.proxy.h2_options.clone()
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        // Pingora asks again when an HTTP/2 handshake is over, for what holds from then on.
        Patience::with_current(Patience::handshake_is_over);
        self.proxy.server_options.as_ref()
    }

    async fn http_cleanup(&self) {
        self.proxy.http_cleanup().await;
    }
}
