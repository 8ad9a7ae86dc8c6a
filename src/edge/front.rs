//! Client connections under the deadlines that Pingora does not have: for the TLS handshake, for the first bytes, for a
//! request's headers, for a client that does not take what it asked for.

use super::connector::http1::Http1Connector;
use super::drain::{Connection, Drain};
use super::patience::Patience;
use super::proxy::Gateway;
use super::proxy_header::{self, Failed};
use super::screen::{Screen, TLS_HANDSHAKE};
use super::serve::Process;
use crate::config::snapshot::{Listen, ListenAddress};
use crate::telemetry::labels::Rejected;
use async_trait::async_trait;
use futures::FutureExt;
use futures::future::ready;
use parking_lot::Mutex;
use pingora_core::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora_core::connectors::ConnectorOptions;
use pingora_core::listeners::tls::Acceptor;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v2::server::H2Options;
use pingora_core::protocols::l4::{socket::SocketAddr as SocketAddress, stream::Stream as RawStream};
use pingora_core::protocols::{GetSocketDigest, Peek, SocketDigest, Stream};
use pingora_core::server::ShutdownWatch;
use pingora_core::server::configuration::ServerConf;
use pingora_core::services::listening::Service;
use pingora_proxy::{HttpProxy, ProcessCustomSession, ProxyServiceBuilder};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_rustls::rustls::ServerConfig;

/// Pingora's proxy under deadlines of our own.
pub struct Front {
    proxy: Arc<HttpProxy<Gateway, Http1Connector>>,
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
    pub doors: Vec<Listen>,
}

impl Options {
    /// The listener that a connection to `local` has come through.
    fn door(&self, local: &SocketAddress) -> Option<&Listen> {
        let path = match local {
            SocketAddress::Inet(local) => return self.inet_door(*local),
            SocketAddress::Unix(local) => local.as_pathname()?,
        };
        self.doors.iter().find(|door| matches!(&door.address, ListenAddress::Unix { path: own, .. } if own == path))
    }

    fn inet_door(&self, local: SocketAddr) -> Option<&Listen> {
        // An IPv6 address has a scope too, which the configured one need not name.
        let mut doors = self.doors.iter().filter_map(|door| match &door.address {
            ListenAddress::Tcp(address) if address.port() == local.port() => Some((address.ip(), door)),
            _ => None,
        });
        let own = doors.clone().find(|(ip, _)| *ip == local.ip());
        own.or_else(|| doors.find(|(ip, _)| ip.is_unspecified())).map(|(_, door)| door)
    }

    /// The connection as its listener has it speak, once the PROXY header and the TLS handshake are over.
    async fn enter(&self, stream: Stream, process: &Process, entrance: &Entrance) -> Entered {
        let Some(client) = stream.get_socket_digest() else { return Entered::Closed };
        let Some(door) = client.local_addr().and_then(|local| self.door(local)) else {
            log::error!("a connection to {:?} came through no configured listener; it is closed", client.local_addr());
            return Entered::Closed;
        };
        if door.tls.is_none() && !door.proxy_protocol {
            return Entered::Ready(stream);
        }
        let Ok(mut raw) = stream.into_any().downcast::<RawStream>() else { return Entered::Closed };
        if door.proxy_protocol {
            let peer = client.peer_addr().and_then(SocketAddress::as_inet).map(SocketAddr::ip);
            if !process.live.load().snapshot.server.trust_forwarded_for.trusts(peer) {
                return Entered::Rejected(Rejected::UntrustedProxy, client, String::new());
            }
            match proxy_header::read(&mut raw, || entrance.begins(Rejected::ProxyHeader, &client)).await {
                Ok(()) => entrance.is_passed(),
                Err(Failed::Closed) if !entrance.has_begun() => return Entered::Closed, // a health check, for example
                Err(why) => return Entered::Rejected(Rejected::ProxyHeader, client, why.to_string()),
            }
        }
        let Some(tls) = door.tls.as_ref().map(|first| in_force(process, door).unwrap_or_else(|| first.clone())) else {
            return Entered::Ready(raw);
        };
        let client = raw.get_socket_digest().unwrap_or(client);
        let mut first = [0];
        if raw.try_peek(&mut first).await.is_err() {
            return Entered::Closed; // a health check, for example
        }
        if first != [TLS_HANDSHAKE] {
            return Entered::Plain(raw);
        }
        entrance.begins(Rejected::TlsHandshake, &client);
        match Acceptor::from_server_config(tls).tls_handshake(*raw).await {
            Ok(secure) => {
                entrance.is_passed();
                Entered::Ready(Box::new(secure))
            }
            Err(e) => Entered::Rejected(Rejected::TlsHandshake, client, e.to_string()),
        }
    }
}

/// How the listener speaks TLS in the current configuration: a reload rotates its certificates. `None` where that does not
/// have the listener, because only an upgrade can remove it.
fn in_force(process: &Process, door: &Listen) -> Option<Arc<ServerConfig>> {
    process.live.load().snapshot.listen.iter().find(|listen| listen.address == door.address)?.tls.clone()
}

/// What became of a fresh connection.
enum Entered {
    /// It is served.
    Ready(Stream),
    /// The client has sent nothing.
    Closed,
    /// It does not speak TLS where it should.
    Plain(Stream),
    /// It is closed: why, whose it is, and details for the log.
    Rejected(Rejected, Arc<SocketDigest>, String),
}

/// What a client has begun and not completed before its connection is served.
#[derive(Default)]
struct Entrance(Mutex<Option<(Rejected, Arc<SocketDigest>)>>);

impl Entrance {
    fn begins(&self, what: Rejected, client: &Arc<SocketDigest>) {
        *self.0.lock() = Some((what, client.clone()));
    }

    fn has_begun(&self) -> bool {
        self.0.lock().is_some()
    }

    fn is_passed(&self) {
        self.0.lock().take();
    }
}

/// Pingora's proxy for `gateway`, whose connections are served by [`Front`].
#[expect(clippy::disallowed_methods, reason = "a connection ends by itself, and a drain waits for it")]
pub fn service(
    conf: &Arc<ServerConf>,
    gateway: Gateway,
    process: Arc<Process>,
    options: Options,
) -> Service<HttpProxy<Gateway, Http1Connector>> {
    // Pingora gives connections away unread where they are said to be of a protocol of our own, in the clear.
    let mut server = options.server.clone();
    server.force_custom = true;
    server.h2c = false;
    let options = Arc::new(options);
    let connector = Http1Connector::new(ConnectorOptions::from_server_conf(conf), process.idle.clone());
    let serve: ProcessCustomSession<Gateway, Http1Connector> = Arc::new(move |proxy, stream, shutdown| {
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
    ProxyServiceBuilder::new(conf, gateway).name("tidegate").custom(connector, serve).server_options(server).build()
}

impl Front {
    /// Serves a connection. Before it is known what it speaks there is a deadline too: Pingora waits for the HTTP/2
    /// preface without one, and for the TLS handshake for a minute.
    async fn serve(self, stream: Stream, _open: Connection, shutdown: ShutdownWatch) {
        let drain = self.drain();
        let (process, timeout) = (self.process.clone(), self.header_timeout());
        let patience = Patience::with_client(Instant::now() + timeout, drain);
        let screen = Screen::new(patience.clone(), timeout);
        let entrance = Entrance::default();
        let serve = async {
            // Boxed for its room, which is given back after a handshake.
            match Box::pin(self.options.enter(stream, &process, &entrance)).await {
                Entered::Ready(stream) => {
                    ServerApp::process_new(&Arc::new(self), screen.over(stream), &shutdown).await; // what is returned is closed
                }
                Entered::Closed => {}
                Entered::Plain(stream) => screen.refuse(stream, Rejected::PlainOnTlsPort),
                Entered::Rejected(reason, client, why) => process.rejections.note(&process.live.load(), reason, Some(&client), &why),
            }
            Some(())
        };
        let is_late = patience.over(serve).await.is_none();
        let live = process.live.load_full();
        if let Some(left) = screen.left()
            && let Some(reason) = left.refused.or(is_late.then_some(Rejected::HeaderTimeout))
        {
            process.rejections.turn_away(&live, left, reason).await;
        } else if is_late && let Some((reason, client)) = entrance.0.into_inner() {
            process.rejections.note(&live, reason, Some(&client), "not complete in time");
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
        let unix = |path: &str| ListenAddress::Unix { path: path.into(), mode: 0o660 };
        let tcp = ["0.0.0.0:1", "127.0.0.1:1", "[::]:2", "[fe80::1]:3"].map(|address| ListenAddress::Tcp(address.parse().unwrap()));
        let doors = tcp.into_iter().chain([unix("/run/a"), unix("/run/b")]);
        let doors = doors.map(|address| Listen { address, tls: None, proxy_protocol: false }).collect();
        let options = Options { server: HttpServerOptions::default(), h2: H2Options::new(), doors };
        let door = |local: &str| options.door(&local.parse().unwrap()).map(|door| door.address.to_string());
        assert_eq!(door("unix:/run/b").as_deref(), Some("unix:/run/b"));
        assert_eq!(door("unix:/run/c"), None);
        assert_eq!(door("127.0.0.1:1").as_deref(), Some("127.0.0.1:1"));
        assert_eq!(door("192.0.2.1:1").as_deref(), Some("0.0.0.0:1"));
        assert_eq!(door("[::ffff:192.0.2.1]:2").as_deref(), Some("[::]:2"));
        assert_eq!(door("[fe80::1%7]:3").as_deref(), Some("[fe80::1]:3"));
        assert_eq!(door("127.0.0.1:4"), None);
    }
}
