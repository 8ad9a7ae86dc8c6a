//! Serves client connections with timeouts that Pingora lacks: for the PROXY header and TLS handshake, the first bytes, request
//! headers, and writes.

use super::connector::http1::Http1Connector;
use super::drain::ConnectionGuard;
use super::inspect::{Inspector, TLS_HANDSHAKE};
use super::proxy::Gateway;
use super::proxy_header::{self, ReadError};
use super::serve::Process;
use super::timer::ConnectionTimer;
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
use tokio::time::Instant;
use tokio_rustls::rustls::ServerConfig;

/// Serves one client connection with Pingora's proxy.
pub struct Downstream {
    proxy: Arc<HttpProxy<Gateway, Http1Connector>>,
    process: Arc<Process>,
    options: Arc<Options>,
    server: HttpServerOptions,
}

/// Settings of client connections.
pub struct Options {
    /// HTTP/1, and settings of both protocols; the idle timeout is that of the configuration when a connection is accepted.
    pub server: HttpServerOptions,
    /// HTTP/2.
    pub h2: H2Options,
    /// The listeners.
    pub listeners: Vec<Listen>,
}

impl Options {
    /// The listener of a connection to `local`.
    fn listener(&self, local: &SocketAddress) -> Option<&Listen> {
        let path = match local {
            SocketAddress::Inet(local) => return self.inet_listener(*local),
            SocketAddress::Unix(local) => local.as_pathname()?,
        };
        self.listeners.iter().find(|listener| matches!(&listener.address, ListenAddress::Unix { path: own, .. } if own == path))
    }

    fn inet_listener(&self, local: SocketAddr) -> Option<&Listen> {
        // The scope of an IPv6 address is ignored, as it need not be configured.
        let mut listeners = self.listeners.iter().filter_map(|listener| match &listener.address {
            ListenAddress::Tcp(address) if address.port() == local.port() => Some((address.ip(), listener)),
            _ => None,
        });
        let own = listeners.clone().find(|(ip, _)| *ip == local.ip());
        own.or_else(|| listeners.find(|(ip, _)| ip.is_unspecified())).map(|(_, listener)| listener)
    }

    /// Reads the PROXY header and completes the TLS handshake, as the listener requires.
    async fn handshake(&self, stream: Stream, process: &Process, progress: &Progress) -> Handshake {
        let Some(client) = stream.get_socket_digest() else { return Handshake::Closed };
        let Some(listener) = client.local_addr().and_then(|local| self.listener(local)) else {
            log::error!("closed a connection to {:?}, which is no configured listener", client.local_addr());
            return Handshake::Closed;
        };
        if listener.tls.is_none() && !listener.proxy_protocol {
            return Handshake::Ready(stream);
        }
        let Ok(mut raw) = stream.into_any().downcast::<RawStream>() else { return Handshake::Closed };
        if listener.proxy_protocol {
            let peer = client.peer_addr().and_then(SocketAddress::as_inet).map(SocketAddr::ip);
            if !process.live.load().snapshot.server.trust_forwarded_for.trusts(peer) {
                return Handshake::Rejected(Rejected::UntrustedProxy, client, String::new());
            }
            match proxy_header::read(&mut raw, || progress.start(Rejected::ProxyHeader, &client)).await {
                Ok(()) => progress.complete(),
                Err(ReadError::Closed) if !progress.is_started() => return Handshake::Closed, // a health check, for example
                Err(why) => return Handshake::Rejected(Rejected::ProxyHeader, client, why.to_string()),
            }
        }
        let Some(tls) = listener.tls.as_ref().map(|first| current_tls(process, listener).unwrap_or_else(|| first.clone())) else {
            return Handshake::Ready(raw);
        };
        let client = raw.get_socket_digest().unwrap_or(client);
        let mut first = [0];
        if raw.try_peek(&mut first).await.is_err() {
            return Handshake::Closed; // a health check, for example
        }
        if first != [TLS_HANDSHAKE] {
            return Handshake::Plain(raw);
        }
        progress.start(Rejected::TlsHandshake, &client);
        match Acceptor::from_server_config(tls).tls_handshake(*raw).await {
            Ok(secure) => {
                progress.complete();
                Handshake::Ready(Box::new(secure))
            }
            Err(e) => Handshake::Rejected(Rejected::TlsHandshake, client, handshake_failure(&e.to_string()).to_owned()),
        }
    }
}

/// The cause of a failed TLS handshake in the text of Pingora's error, which wraps it twice.
fn handshake_failure(text: &str) -> &str {
    ["tls connect error: ", "tls stream error: "].iter().find_map(|before| text.split_once(before)).map_or(text, |(_, cause)| cause)
}

/// The listener's TLS settings in the current configuration: a reload can change certificates. `None` if that lacks the
/// listener, which stays open until an upgrade.
fn current_tls(process: &Process, listener: &Listen) -> Option<Arc<ServerConfig>> {
    process.live.load().snapshot.listen.iter().find(|listen| listen.address == listener.address)?.tls.clone()
}

/// Result of a handshake.
enum Handshake {
    /// Complete.
    Ready(Stream),
    /// The client sent nothing.
    Closed,
    /// No TLS on a listener that requires it.
    Plain(Stream),
    /// Failed: the reason, the client and details for the log.
    Rejected(Rejected, Arc<SocketDigest>, String),
}

/// The part of the handshake that the client has started and not completed.
#[derive(Default)]
struct Progress(Mutex<Option<(Rejected, Arc<SocketDigest>)>>);

impl Progress {
    fn start(&self, what: Rejected, client: &Arc<SocketDigest>) {
        *self.0.lock() = Some((what, client.clone()));
    }

    fn is_started(&self) -> bool {
        self.0.lock().is_some()
    }

    fn complete(&self) {
        self.0.lock().take();
    }
}

/// Pingora's proxy for `gateway`, whose connections are served by [`Downstream`].
#[expect(clippy::disallowed_methods, reason = "the drain waits for connections")]
pub fn service(
    conf: &Arc<ServerConf>,
    gateway: Gateway,
    process: Arc<Process>,
    options: Options,
) -> Service<HttpProxy<Gateway, Http1Connector>> {
    // With these settings Pingora passes accepted connections on unread.
    let mut server = options.server.clone();
    server.force_custom = true;
    server.h2c = false;
    let options = Arc::new(options);
    let connector = Http1Connector::new(ConnectorOptions::from_server_conf(conf), process.idle.clone());
    let serve: ProcessCustomSession<Gateway, Http1Connector> = Arc::new(move |proxy, stream, shutdown| {
        let live = process.live.load();
        let Some(guard) = live.drain.connection(process.max_connections(&live.snapshot.server)) else {
            process.rejections.record(&live, Rejected::MaxConnections, stream.get_socket_digest().as_deref(), "");
            return ready(None).boxed();
        };
        let mut server = options.server.clone();
        server.h2_idle_timeout = Some(live.snapshot.server.client_idle_timeout);
        let downstream = Downstream { proxy, process: process.clone(), options: options.clone(), server };
        // In a new task: Pingora's accept task is much larger.
        tokio::spawn(downstream.serve(stream, guard, shutdown.clone()));
        ready(None).boxed()
    });
    ProxyServiceBuilder::new(conf, gateway).name("tidegate").custom(connector, serve).server_options(server).build()
}

impl Downstream {
    /// Serves a connection, under a deadline from the start: Pingora waits for the HTTP/2 preface without one, and for the TLS
    /// handshake for a minute.
    async fn serve(self, stream: Stream, _guard: ConnectionGuard, shutdown: ShutdownWatch) {
        let process = self.process.clone();
        let (drain, timeout) = {
            let live = process.live.load();
            (live.drain.clone(), live.snapshot.server.header_timeout)
        };
        let timer = ConnectionTimer::for_client(Instant::now() + timeout, drain);
        let inspector = Inspector::new(timer.clone(), timeout);
        let progress = Progress::default();
        let serve = async {
            // Boxed, so that its memory is freed after the handshake.
            match Box::pin(self.options.handshake(stream, &process, &progress)).await {
                Handshake::Ready(stream) => {
                    ServerApp::process_new(&Arc::new(self), inspector.wrap(stream), &shutdown).await; // returns a connection that is closed
                }
                Handshake::Closed => {}
                Handshake::Plain(stream) => inspector.reject(stream, Rejected::PlainOnTlsPort),
                Handshake::Rejected(reason, client, why) => process.rejections.record(&process.live.load(), reason, Some(&client), &why),
            }
            Some(())
        };
        let is_late = timer.run(serve).await.is_none();
        let live = process.live.load_full();
        if let Some(rejected) = inspector.take_rejected()
            && let Some(reason) = rejected.reason.or(is_late.then_some(Rejected::HeaderTimeout))
        {
            Box::pin(process.rejections.reject(&live, rejected, reason)).await; // boxed, as most connections never come here
        } else if is_late && let Some((reason, client)) = progress.0.into_inner() {
            process.rejections.record(&live, reason, Some(&client), "timed out");
        }
    }
}

#[async_trait]
impl HttpServerApp for Downstream {
    async fn process_new_http(self: &Arc<Self>, mut session: ServerSession, shutdown: &ShutdownWatch) -> Option<ReusedHttpStream> {
        let (headers, body, idle) = {
            let live = self.process.live.load();
            let server = &live.snapshot.server;
            (server.header_timeout, server.body_timeout, server.client_idle_timeout)
        };
        session.set_write_timeout(Some(body));
        if session.is_http2() {
            let drain = self.process.live.load().drain.clone();
            return ConnectionTimer::idle(drain).run(self.proxy.process_new_http(session, shutdown)).await; // each stream has its own task
        }
        // Otherwise Pingora treats the next request's bytes as a disconnect.
        session.set_pipelining_enabled(true);
        // Only a connection that has served a request may be idle.
        let reused = session.take_connection_user_context().is_some();
        ConnectionTimer::with_current(|timer| {
            timer.await_head();
            match reused {
                true => timer.await_request(Instant::now() + idle, headers),
                false => timer.await_client(Instant::now() + headers),
            }
        });
        session.set_keepalive(Some(0)); // keep-alive without another timer
        self.proxy.process_new_http(session, shutdown).await
    }

    fn h2_options(&self) -> Option<H2Options> {
        ConnectionTimer::with_current(ConnectionTimer::begin_handshake);
        Some(self.options.h2.clone())
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        // Pingora calls this again after an HTTP/2 handshake.
        ConnectionTimer::with_current(ConnectionTimer::end_handshake);
        Some(&self.server)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_handshake_is_its_cause() {
        let text = " TLSHandshakeFailure context: TLS accept() failed:  TLSHandshakeFailure context: tls connect error: received fatal alert: BadCertificate";
        assert_eq!(handshake_failure(text), "received fatal alert: BadCertificate");
        assert_eq!(handshake_failure("something else"), "something else");
    }

    #[test]
    fn a_connection_belongs_to_the_listener_of_its_address_before_one_for_all() {
        let unix = |path: &str| ListenAddress::Unix { path: path.into(), mode: 0o660 };
        let tcp = ["0.0.0.0:1", "127.0.0.1:1", "[::]:2", "[fe80::1]:3"].map(|address| ListenAddress::Tcp(address.parse().unwrap()));
        let listeners = tcp.into_iter().chain([unix("/run/a"), unix("/run/b")]);
        let listeners = listeners.map(|address| Listen { address, tls: None, proxy_protocol: false }).collect();
        let options = Options { server: HttpServerOptions::default(), h2: H2Options::new(), listeners };
        let listener = |local: &str| options.listener(&local.parse().unwrap()).map(|listener| listener.address.to_string());
        assert_eq!(listener("unix:/run/b").as_deref(), Some("unix:/run/b"));
        assert_eq!(listener("unix:/run/c"), None);
        assert_eq!(listener("127.0.0.1:1").as_deref(), Some("127.0.0.1:1"));
        assert_eq!(listener("192.0.2.1:1").as_deref(), Some("0.0.0.0:1"));
        assert_eq!(listener("[::ffff:192.0.2.1]:2").as_deref(), Some("[::]:2"));
        assert_eq!(listener("[fe80::1%7]:3").as_deref(), Some("[fe80::1]:3"));
        assert_eq!(listener("127.0.0.1:4"), None);
    }
}
