//! One endpoint of a provider, as used by the hooks: peer, connections, `max_connections`, and the common parts of requests.

use super::addresses::{Addresses, Dial};
use super::connections::{Connections, KEEPALIVE, Lease};
use super::http1;
use super::via::{PROXY_REFUSED, Via};
use crate::pem::Certificates;
use crate::provider::{BaseUrl, HttpVersion, Provider};
use crate::sign::signer::Signer;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, InvalidHeaderValue, PROXY_AUTHORIZATION, USER_AGENT};
use http::uri::InvalidUri;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use pingora_core::Error;
use pingora_core::protocols::{ALPN, Digest};
use pingora_core::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};
use pingora_core::utils::tls::{CertKey, WrappedX509, parse_x509};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// See the module.
pub struct Upstream {
    /// The provider.
    pub provider: Arc<Provider>,
    pub(in crate::edge) connections: Arc<Connections>,
    /// Number of attempts in flight at all replicas of the provider.
    pub in_flight: Arc<AtomicUsize>,
    ca: Option<Arc<[WrappedX509]>>,
    client: Option<Arc<CertKey>>,
    /// Headers of every request: host, content negotiation, configured headers, and a fixed key.
    pub template: HeaderMap,
    /// The first requested path and its URI, cached because most providers see only one path.
    cached_uri: OnceLock<(String, Uri)>,
    /// The provider's name, as the value of `x-tidegate-provider`.
    pub label: HeaderValue,
    /// Scheme and authority of requests in absolute form, for a proxy; `None` for origin form.
    pub origin: Option<Box<str>>,
}

/// The upstream connection of one attempt.
#[derive(Debug, Default)]
pub struct AttemptConnection {
    dial: Dial,
    lease: Option<Lease>,
}

impl AttemptConnection {
    /// Whether the connection has served an earlier request. Pingora does not report that for connections of [`http1`].
    pub fn is_reused(&self) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.reused)
    }

    /// Whether bytes were received since the request. Only known for connections of [`http1`].
    pub fn has_received(&self) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.connection.has_received())
    }

    /// Records that the response is complete, so that the connection can be kept.
    pub fn set_answered(&self) {
        if let Some(lease) = &self.lease {
            lease.connection.set_answered();
        }
    }

    /// Releases the connection.
    pub fn release(&mut self) {
        if let Some(lease) = &mut self.lease {
            lease.end();
        }
    }
}

/// One of a provider's `max_connections`; returned when dropped.
pub struct Slot(Arc<AtomicUsize>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Upstream {
    /// `before` is the same endpoint in the previous configuration. Its addresses are kept if host and port are unchanged, its
    /// connections if all their settings are. `in_flight` counts attempts at all replicas of the provider.
    ///
    /// # Errors
    /// If the name is not a valid header value.
    pub fn new(provider: Arc<Provider>, signer: &Signer, before: Option<&Self>, in_flight: Arc<AtomicUsize>) -> Result<Self, String> {
        let template = template(&provider, signer);
        let label = shared(provider.name.as_bytes()).map_err(|e| e.to_string())?;
        let (base, http) = (&provider.base, provider.http);
        let via = Via::of(&provider);
        let origin = matches!(via, Via::Forward(_)).then(|| format!("http://{}", base.authority.to_str().unwrap_or_default()).into());
        let endpoint = via.endpoint(&provider);
        let same_endpoint = |before: &&Self| before.connections.via.endpoint(&before.provider) == endpoint;
        let same_settings = |before: &&Self| {
            let (old, new) = (&before.provider, &provider);
            (old.base.tls, old.http) == (new.base.tls, new.http) && old.tls == new.tls && before.connections.via == via
        };
        let (connections, ca, client) = match before.filter(same_endpoint).filter(same_settings) {
            Some(before) => (before.connections.clone(), before.ca.clone(), before.client.clone()),
            None => {
                let addresses = match before.filter(same_endpoint) {
                    Some(before) => before.addresses().clone(),
                    None => Arc::new(Addresses::new(provider.name.clone(), endpoint.0.clone(), endpoint.1)),
                };
                let pooled_by_pingora = http != HttpVersion::Http1 && (base.tls || http == HttpVersion::Http2);
                let connections = Connections::new(addresses, via, pooled_by_pingora);
                let owned = |all: &Certificates| all.der().map(<[u8]>::to_vec).collect::<Vec<_>>();
                let ca = provider.tls.ca.as_ref().map(|all| owned(all).into_iter().map(|der| WrappedX509::new(der, parse_x509)).collect());
                let client = provider.tls.client.as_ref();
                let client = client.map(|own| Arc::new(CertKey::new(owned(&own.chain), own.key.secret_der().to_vec())));
                (Arc::new(connections), ca, client)
            }
        };
        Ok(Self { template, cached_uri: OnceLock::new(), label, origin, connections, provider, in_flight, ca, client })
    }

    /// Whether the endpoint is that of another provider, apart from the path.
    pub fn is_at(&self, other: &Provider) -> bool {
        let location = |base: &BaseUrl| (base.host.clone(), base.port, base.socket.clone());
        location(&self.provider.base) == location(&other.base)
    }

    /// The URI for a path below the provider's base URL.
    ///
    /// # Errors
    /// If that is not a valid URI.
    pub fn uri(&self, path: &str) -> Result<Uri, InvalidUri> {
        match self.cached_uri.get() {
            Some((cached, uri)) if cached == path => Ok(uri.clone()),
            cached => {
                let uri = Uri::from_maybe_shared(self.provider.base.path_and_query(path))?;
                if cached.is_none() {
                    let _ = self.cached_uri.set((path.to_owned(), uri.clone())); // fails if another request was faster
                }
                Ok(uri)
            }
        }
    }

    /// Its addresses.
    pub fn addresses(&self) -> &Arc<Addresses> {
        &self.connections.addresses
    }

    /// Takes a slot for one attempt; `None` if `max_connections` attempts are in flight.
    pub fn enter(&self) -> Option<Slot> {
        let slot = Slot(self.in_flight.clone());
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.provider.max_connections.is_none_or(|most| before < most as usize).then_some(slot)
    }

    /// The attempt's peer at the next address, with the timeout of connecting and the longest time that the provider may be
    /// silent; `None` if all were tried.
    pub async fn peer(&self, connect: Duration, silence: Duration, connection: &mut AttemptConnection) -> Option<Box<HttpPeer>> {
        let picked = self.addresses().dial(&mut connection.dial).await?;
        let Provider { base, tls, http, .. } = &*self.provider;
        let name = tls.server_name.as_ref().unwrap_or(&base.host);
        let mut peer = HttpPeer::new(picked.address, base.tls, if base.tls { name.to_string() } else { String::new() });
        peer.group_key = self.connections.key(picked);
        peer.client_cert_key.clone_from(&self.client);
        let o = &mut peer.options;
        o.connection_timeout = Some(connect);
        o.total_connection_timeout = Some(connect);
        // Timeouts are enforced by the replay session. Pingora does not poll it while an HTTP/2 upload waits for the provider's
        // window, but reads the response meanwhile.
        o.read_timeout = self.connections.pooled_by_pingora.then_some(silence);
        o.idle_timeout = Some(IDLE_TIMEOUT);
        o.verify_cert = tls.verify;
        o.verify_hostname = tls.verify;
        o.ca.clone_from(&self.ca);
        o.alpn = match (http, base.tls) {
            (HttpVersion::Http2, _) => ALPN::H2,
            (HttpVersion::Auto, true) => ALPN::H2H1,
            (HttpVersion::Auto, false) | (HttpVersion::Http1, _) => http1::alpn(),
        };
        o.custom_l4 = Some(self.connections.clone());
        o.tcp_keepalive = Some(KEEPALIVE);
        o.h2_ping_interval = Some(PING_INTERVAL);
        o.max_h2_streams = MAX_H2_STREAMS;
        o.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
        Some(Box::new(peer))
    }

    /// Records the connection of an attempt.
    pub fn connected(&self, connection: &mut AttemptConnection, description: Option<&Digest>) {
        connection.lease = description.and_then(Lease::of);
        self.addresses().connected(&connection.dial);
    }

    /// Records a failed connect. Returns whether there may be another address.
    pub fn connect_failed(&self, connection: &mut AttemptConnection, e: &Error) -> bool {
        if *e.etype() == PROXY_REFUSED {
            self.addresses().connected(&connection.dial); // the egress proxy's other addresses would refuse as well
            return false;
        }
        self.addresses().failed(&mut connection.dial)
    }

    /// Retires the attempt's connection and all others to the same address.
    pub fn retire(&self, connection: &AttemptConnection) {
        if let Some(picked) = connection.dial.current {
            self.connections.retire(picked);
        }
    }
}

/// A header value whose clones share its bytes.
pub fn shared(text: &[u8]) -> Result<HeaderValue, InvalidHeaderValue> {
    let value = HeaderValue::from_bytes(text)?;
    drop(value.clone()); // the first clone makes the bytes shareable
    Ok(value)
}

fn template(provider: &Provider, signer: &Signer) -> HeaderMap {
    const AGENT: HeaderValue = HeaderValue::from_static(concat!("tidegate/", env!("CARGO_PKG_VERSION")));
    let mut template = HeaderMap::with_capacity(16);
    template.insert(HOST, provider.base.authority.clone());
    template.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    template.insert(ACCEPT, HeaderValue::from_static("*/*"));
    // If compression were requested, Pingora would pass on compressed bytes.
    template.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    template.insert(USER_AGENT, AGENT);
    for (name, value) in provider.headers.iter().chain(signer.fixed()) {
        template.insert(name.clone(), value.clone());
    }
    if let Some(credentials) = provider.forward_proxy().and_then(|proxy| proxy.authorization()) {
        template.insert(PROXY_AUTHORIZATION, credentials.clone());
    }
    // Placeholders for values of each request, so that its copy does not reallocate.
    template.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    template.insert(TRACEPARENT, HeaderValue::from_static(""));
    template.clone() // as in `shared`
}

/// Headers of W3C Trace Context.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// See [`TRACEPARENT`].
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// Maximum streams of an upstream HTTP/2 connection. Pingora's default of 1 opens a connection per request.
const MAX_H2_STREAMS: usize = 100;
/// Idle timeout of upstream connections.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);
/// Ping interval of HTTP/2 connections. Pingora closes a connection after 5 seconds without an answer.
const PING_INTERVAL: Duration = Duration::from_secs(10);
