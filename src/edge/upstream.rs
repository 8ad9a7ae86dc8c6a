//! A provider as requests meet it: places among its connections, the peer that Pingora connects to, what every request has.

use super::addresses::{Addresses, Dialled};
use super::connections::{Connections, KEEPALIVE};
use super::dial;
use super::upstream_request::TRACEPARENT;
use super::via::Via;
use crate::config::pem::Certificates;
use crate::config::snapshot::Timeouts;
use crate::error::{ApiError, ErrorKind};
use crate::provider::{BaseUrl, HttpVersion, Provider};
use crate::sign::signer::Signer;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, InvalidHeaderValue, PROXY_AUTHORIZATION, USER_AGENT};
use http::uri::InvalidUri;
use http::{HeaderMap, HeaderValue, Uri};
use pingora_core::protocols::ALPN;
use pingora_core::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};
use pingora_core::utils::tls::{CertKey, WrappedX509, parse_x509};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Streams on one upstream HTTP/2 connection; Pingora's default of 1 would open a connection per request.
const MAX_H2_STREAMS: usize = 100;
/// How long an unused upstream connection is kept.
const IDLE: Duration = Duration::from_secs(90);
/// How often an HTTP/2 connection is pinged. Pingora closes it when a ping has not been answered for 5 seconds.
const PING_EVERY: Duration = Duration::from_secs(10);

/// A provider's connections.
pub struct Upstream {
    provider: Arc<Provider>,
    connections: Arc<Connections>,
    in_flight: Arc<AtomicUsize>,
    ca: Option<Arc<[WrappedX509]>>,
    client: Option<Arc<CertKey>>,
    /// What every request to it begins with.
    template: HeaderMap,
    /// The first path that was asked for and what it becomes: nearly all requests to most providers ask for the same.
    usual: OnceLock<(String, Uri)>,
    /// Its name, for `x-tidegate-provider`.
    label: HeaderValue,
    /// What requests in absolute form begin with: scheme and authority. `None` where they have the form that servers take.
    origin: Option<Box<str>>,
}

/// A place among a provider's `max_connections`; given back when dropped.
pub struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Upstream {
    /// A provider whose requests `signer` signs. `before` is the provider of that name in the previous configuration, of its
    /// replicas the one at the same place: its addresses stay known where it is at the same place, and its connections stay in
    /// use where they are made with the same settings. `in_flight` counts the requests of all replicas.
    ///
    /// # Errors
    /// For a name or a header that HTTP cannot carry.
    pub fn new(provider: Arc<Provider>, signer: &Signer, before: Option<&Self>, in_flight: Arc<AtomicUsize>) -> Result<Self, String> {
        let template = template(&provider, signer);
        let label = shared(provider.name.as_bytes()).map_err(|e| e.to_string())?;
        let (base, http) = (&provider.base, provider.http);
        let via = Via::of(&provider);
        let origin = matches!(via, Via::Forward(_)).then(|| format!("http://{}", base.authority.to_str().unwrap_or_default()).into());
        let place = via.place(&provider);
        let same_place = |before: &&Self| before.connections.via().place(&before.provider) == place;
        let same_settings = |before: &&Self| {
            let (old, new) = (&before.provider, &provider);
            (old.base.tls, old.http) == (new.base.tls, new.http) && old.tls == new.tls && *before.connections.via() == via
        };
        let (connections, ca, client) = match before.filter(same_place).filter(same_settings) {
            Some(before) => (before.connections.clone(), before.ca.clone(), before.client.clone()),
            None => {
                let addresses = match before.filter(same_place) {
                    Some(before) => before.addresses().clone(),
                    None => Arc::new(Addresses::new(provider.name.clone(), place.0.clone(), place.1)),
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
        Ok(Self { template, usual: OnceLock::new(), label, origin, connections, provider, in_flight, ca, client })
    }

    /// Name of the provider.
    pub fn name(&self) -> &Arc<str> {
        &self.provider.name
    }

    /// Whether it leads to where another provider is, apart from the path.
    pub fn is_at(&self, other: &Provider) -> bool {
        let place = |base: &BaseUrl| (base.host.clone(), base.port, base.socket.clone());
        place(&self.provider.base) == place(&other.base)
    }

    /// Counts the requests in flight at all replicas of its provider.
    pub fn in_flight(&self) -> &Arc<AtomicUsize> {
        &self.in_flight
    }

    /// The headers that every request to the provider has: host, what the gateway says of itself, the operator's own,
    /// and the key where it is the same for all.
    pub fn template(&self) -> &HeaderMap {
        &self.template
    }

    /// What a request asks for: a path below the provider's base URL.
    ///
    /// # Errors
    /// When that is no URI.
    pub fn uri(&self, path: &str) -> Result<Uri, InvalidUri> {
        match self.usual.get() {
            Some((usual, uri)) if usual == path => Ok(uri.clone()),
            usual => {
                let uri = Uri::from_maybe_shared(self.provider.base.path_and_query(path))?;
                if usual.is_none() {
                    let _ = self.usual.set((path.to_owned(), uri.clone())); // another request may have been faster
                }
                Ok(uri)
            }
        }
    }

    /// What a request to a proxy begins with in front of its path. `None` where requests go to the provider's own servers.
    pub fn origin(&self) -> Option<&str> {
        self.origin.as_deref()
    }

    /// The provider's name as a header value.
    pub fn label(&self) -> &HeaderValue {
        &self.label
    }

    /// Its addresses.
    pub fn addresses(&self) -> &Arc<Addresses> {
        self.connections.addresses()
    }

    /// Its connections.
    pub fn connections(&self) -> &Connections {
        &self.connections
    }

    /// Takes a place for one attempt.
    ///
    /// # Errors
    /// 503 when `max_connections` attempts are in flight.
    pub fn enter(&self) -> Result<Place, ApiError> {
        let place = Place(self.in_flight.clone());
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        match self.provider.max_connections {
            Some(most) if before >= most as usize => Err(ApiError::new(
                503,
                ErrorKind::Overloaded,
                format!("All connections to provider `{}` are in use; try again later.", self.provider.name),
            )),
            _ => Ok(place),
        }
    }

    /// A peer for one attempt, at an address that it has not `dialled` yet. `None` when there is no such address.
    pub async fn peer(&self, timeouts: &Timeouts, dialled: &mut Dialled) -> Option<Box<HttpPeer>> {
        let picked = self.addresses().dial(dialled).await?;
        let Provider { base, tls, http, .. } = &*self.provider;
        let name = tls.server_name.as_ref().unwrap_or(&base.host);
        let mut peer = HttpPeer::new(picked.address, base.tls, if base.tls { name.to_string() } else { String::new() });
        peer.group_key = self.connections.key(picked);
        peer.client_cert_key.clone_from(&self.client);
        let o = &mut peer.options;
        o.connection_timeout = Some(timeouts.connect);
        o.total_connection_timeout = Some(timeouts.connect);
        // Reading and writing have their deadlines in the replay session.
        o.idle_timeout = Some(IDLE);
        o.verify_cert = tls.verify;
        o.verify_hostname = tls.verify;
        o.ca.clone_from(&self.ca);
        o.alpn = match (http, base.tls) {
            (HttpVersion::Http2, _) => ALPN::H2,
            (HttpVersion::Auto, true) => ALPN::H2H1,
            (HttpVersion::Auto, false) | (HttpVersion::Http1, _) => dial::http1_only(),
        };
        o.custom_l4 = Some(self.connections.clone());
        o.tcp_keepalive = Some(KEEPALIVE);
        o.h2_ping_interval = Some(PING_EVERY);
        o.max_h2_streams = MAX_H2_STREAMS;
        o.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
        Some(Box::new(peer))
    }
}

/// A value whose clones share its bytes.
pub fn shared(text: &[u8]) -> Result<HeaderValue, InvalidHeaderValue> {
    let value = HeaderValue::from_bytes(text)?;
    drop(value.clone()); // the first clone is what makes the bytes shareable
    Ok(value)
}

fn template(provider: &Provider, signer: &Signer) -> HeaderMap {
    const AGENT: HeaderValue = HeaderValue::from_static(concat!("tidegate/", env!("CARGO_PKG_VERSION")));
    let mut template = HeaderMap::with_capacity(16);
    template.insert(HOST, provider.base.authority.clone());
    template.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    template.insert(ACCEPT, HeaderValue::from_static("*/*"));
    // Pingora would hand compressed bytes to the decoder if they were asked for.
    template.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    template.insert(USER_AGENT, AGENT);
    for (name, value) in provider.headers.iter().chain(signer.fixed()) {
        template.insert(name.clone(), value.clone());
    }
    if let Some(credentials) = provider.forward_proxy().and_then(|proxy| proxy.authorization()) {
        template.insert(PROXY_AUTHORIZATION, credentials.clone());
    }
    // Places that every request fills, so that its copy of the template need not grow.
    template.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    template.insert(TRACEPARENT, HeaderValue::from_static(""));
    template.clone() // as in `shared`
}
