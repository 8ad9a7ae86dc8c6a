//! Client connections under the deadlines that Pingora does not have: for the TLS handshake, for the first bytes, for a
//! request's headers, for a client that does not take what it asked for.

use super::dial::Dialler;
use super::drain::{Connection, Drain};
use super::patience::Patience;
use super::proxy::Gateway;
use super::screen::{Screen, TLS_HANDSHAKE};
use super::serve::Process;
use crate::telemetry::labels::Rejected;
use async_trait::async_trait;
use futures::FutureExt;
use futures::future::ready;
use pingora_core::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora_core::connectors::ConnectorOptions;
use pingora_core::listeners::tls::Acceptor;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v2::server::H2Options;
use pingora_core::protocols::l4::{socket::SocketAddr as SocketAddress, stream::Stream as RawStream};
use pingora_core::protocols::{Peek, Stream};
use pingora_core::server::ShutdownWatch;
use pingora_core::server::configuration::ServerConf;
use pingora_core::services::listening::Service;
use pingora_proxy::{HttpProxy, ProcessCustomSession, ProxyServiceBuilder};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tokio::time::Instant;

/// Pingora's proxy under deadlines of our own.
pub struct Front {
    proxy: Arc<HttpProxy<Gateway, Dialler>>,
    process: Arc<Process>,
    options: Arc<Options>,
    server: HttpServerOptions,
}

/// How client connections are served.
pub struct Options {
    /// HTTP/1 and what both protocols have; the idle timeout is the one in force when a connection is accepted.
    pub server: HttpServerOptions,
    /// HTTP/2.
    pub h2: H2Options,
    /// Where they come in.
    pub doors: Vec<Door>,
}

/// An address that is listened on.
pub struct Door {
    /// As it is configured.
    pub address: SocketAddr,
    /// How it speaks TLS; `None` in the clear.
    pub tls: Option<Acceptor>,
}

impl Options {
    /// The door that a connection to `local` has come through.
    fn door(&self, local: SocketAddr) -> Option<&Door> {
        // An IPv6 address has a scope too, which the configured one need not name.
        let mut doors = self.doors.iter().filter(|door| door.address.port() == local.port());
        doors.clone().find(|door| door.address.ip() == local.ip()).or_else(|| doors.find(|door| door.address.ip().is_unspecified()))
    }

    /// The connection as its listener has it speak.
    ///
    /// # Errors
    /// Why there is none.
    async fn enter(&self, stream: Stream, shaking_hands: &AtomicBool) -> Result<Stream, Closed> {
        let local = stream
            .get_socket_digest()
            .and_then(|digest| digest.local_addr().and_then(SocketAddress::as_inet).copied())
            .ok_or(Closed::Silently)?;
        let Some(door) = self.door(local) else {
            log::error!("a connection to {local} came through no configured listener; it is closed");
            return Err(Closed::Silently);
        };
        let Some(acceptor) = &door.tls else { return Ok(stream) };
        let mut raw = stream.into_any().downcast::<RawStream>().map_err(|_| Closed::Silently)?;
        let mut first = [0];
        raw.try_peek(&mut first).await.map_err(|_| Closed::Silently)?; // a health check, for example
        if first != [TLS_HANDSHAKE] {
            return Err(Closed::Plain(raw));
        }
        shaking_hands.store(true, Relaxed);
        let secure = acceptor.tls_handshake(*raw).await.map_err(|e| Closed::Handshake(e.to_string()))?;
        shaking_hands.store(false, Relaxed);
        Ok(Box::new(secure))
    }
}

/// Why a connection is not served.
enum Closed {
    /// The client has sent nothing.
    Silently,
    /// It does not speak TLS where it should.
    Plain(Stream),
    /// The TLS handshake failed.
    Handshake(String),
}

/// Pingora's proxy for `gateway`, whose connections are served by [`Front`].
pub fn service(conf: &Arc<ServerConf>, gateway: Gateway, process: Arc<Process>, options: Options) -> Service<HttpProxy<Gateway, Dialler>> {
    // Pingora gives connections away unread where they are said to be of a protocol of our own, in the clear.
    let mut server = options.server.clone();
    server.force_custom = true;
    server.h2c = false;
    let options = Arc::new(options);
    let dialler = Dialler::new(ConnectorOptions::from_server_conf(conf), process.idle.clone());
    let serve: ProcessCustomSession<Gateway, Dialler> = Arc::new(move |proxy, stream, shutdown| {
        let live = process.live.load();
        let Some(open) = live.drain.connection(process.max_connections(&live.snapshot.server)) else {
            process.rejections.note(&live, Rejected::MaxConnections, stream.get_socket_digest().as_deref(), "");
            return ready(None).boxed();
        };
        let mut server = options.server.clone();
        server.h2_idle_timeout = Some(live.snapshot.server.client_idle_timeout);
        let front = Front { proxy, process: process.clone(), options: options.clone(), server };
        // A task of its own, because Pingora's holds room for all that it does with connections which it keeps.
        tokio::spawn(front.serve(stream, open, shutdown.clone()));
        ready(None).boxed()
    });
    ProxyServiceBuilder::new(conf, gateway).name("tidegate").custom(dialler, serve).server_options(server).build()
}

impl Front {
    /// Serves a connection. Before it is known what it speaks there is a deadline too: Pingora waits for the HTTP/2
    /// preface without one, and for the TLS handshake for a minute.
    async fn serve(self, stream: Stream, _open: Connection, shutdown: ShutdownWatch) {
        let drain = self.drain();
        let process = self.process.clone();
        let (client, timeout) = (stream.get_socket_digest(), self.header_timeout());
        let patience = Patience::with_client(Instant::now() + timeout, drain);
        let screen = Screen::new(patience.clone(), timeout);
        let shaking_hands = AtomicBool::new(false);
        let serve = async {
            // Boxed for its room, which is given back after a handshake.
            match Box::pin(self.options.enter(stream, &shaking_hands)).await {
                Ok(stream) => {
                    ServerApp::process_new(&Arc::new(self), screen.over(stream), &shutdown).await; // what is returned is closed
                }
                Err(Closed::Silently) => {}
                Err(Closed::Plain(stream)) => screen.refuse(stream, Rejected::PlainOnTlsPort),
                Err(Closed::Handshake(why)) => {
                    process.rejections.note(&process.live.load(), Rejected::TlsHandshake, client.as_deref(), &why)
                }
            }
            Some(())
        };
        let is_late = patience.over(serve).await.is_none();
        let live = process.live.load_full();
        if let Some(left) = screen.left()
            && let Some(reason) = left.refused.or(is_late.then_some(Rejected::HeaderTimeout))
        {
            process.rejections.turn_away(&live, left, reason).await;
        } else if is_late && shaking_hands.load(Relaxed) {
            process.rejections.note(&live, Rejected::TlsHandshake, client.as_deref(), "not complete in time");
        }
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
        let (headers, body, idle) = {
            let live = self.process.live.load();
            let server = &live.snapshot.server;
            (server.header_timeout, server.body_timeout, server.client_idle_timeout)
        };
        session.set_write_timeout(Some(body));
        if session.is_http2() {
            return Patience::endless(self.drain()).over(self.proxy.process_new_http(session, shutdown)).await; // a task of its own
        }
        // Otherwise Pingora takes the next request's bytes for a client that has left.
        session.set_pipelining_enabled(true);
        // A connection that has served a request may be idle first; a fresh one has nothing to wait for.
        let reused = session.take_connection_user_context().is_some();
        Patience::with_current(|patience| {
            patience.await_head();
            match reused {
                true => patience.await_request(Instant::now() + idle, headers),
                false => patience.await_client(Instant::now() + headers),
            }
        });
        session.set_keepalive(Some(0)); // kept, without another timer
        self.proxy.process_new_http(session, shutdown).await
    }

    fn h2_options(&self) -> Option<H2Options> {
        Patience::with_current(Patience::handshake_begins);
        Some(self.options.h2.clone())
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        // Pingora asks again when an HTTP/2 handshake is over, for what holds from then on.
        Patience::with_current(Patience::handshake_is_over);
        Some(&self.server)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_has_come_through_the_door_of_its_own_address_before_one_for_all() {
        let doors =
            ["0.0.0.0:1", "127.0.0.1:1", "[::]:2", "[fe80::1]:3"].map(|address| Door { address: address.parse().unwrap(), tls: None });
        let options = Options { server: HttpServerOptions::default(), h2: H2Options::new(), doors: doors.into() };
        let door = |local: &str| options.door(local.parse().unwrap()).map(|door| door.address.to_string());
        assert_eq!(door("127.0.0.1:1").as_deref(), Some("127.0.0.1:1"));
        assert_eq!(door("192.0.2.1:1").as_deref(), Some("0.0.0.0:1"));
        assert_eq!(door("[::ffff:192.0.2.1]:2").as_deref(), Some("[::]:2"));
        assert_eq!(door("[fe80::1%7]:3").as_deref(), Some("[fe80::1]:3"));
        assert_eq!(door("127.0.0.1:4"), None);
    }
}
