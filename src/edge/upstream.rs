//! The connections of a provider: places among them, and the peer that Pingora connects to.

use super::addresses::{Addresses, Dialled};
use super::dial;
use super::upstream_request::TRACEPARENT;
use crate::config::pem::Certificates;
use crate::config::snapshot::Timeouts;
use crate::error::{ApiError, ErrorKind};
use crate::provider::Provider;
use crate::sign::signer::Signer;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, InvalidHeaderValue, USER_AGENT};
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

/// A provider's connections.
pub struct Upstream {
    provider: Arc<Provider>,
    addresses: Arc<Addresses>,
    in_flight: Arc<AtomicUsize>,
    ca: Option<Arc<[WrappedX509]>>,
    client: Option<Arc<CertKey>>,
    /// What every request to it begins with.
    template: HeaderMap,
    /// The first path that was asked for and what it becomes: nearly all requests to most providers ask for the same.
    usual: OnceLock<(String, Uri)>,
    /// Its name, for `x-tidegate-provider`.
    label: HeaderValue,
    /// Keeps pooled connections of providers with other certificates or names apart.
    group: u64,
}

/// A place among a provider's `max_connections`; given back when dropped.
pub struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Upstream {
    /// The connections of a provider whose requests `signer` signs. What is known of it from the configuration before is
    /// gone on with: requests in flight, and its addresses where it is at the same place.
    ///
    /// # Errors
    /// For a name or a header that HTTP cannot carry.
    pub fn new(provider: Arc<Provider>, signer: &Signer, generation: u64, before: Option<&Self>) -> Result<Self, String> {
        let owned = |all: &Certificates| all.der().map(<[u8]>::to_vec).collect::<Vec<_>>();
        let ca = provider.tls.ca.as_ref().map(|all| owned(all).into_iter().map(|der| WrappedX509::new(der, parse_x509)).collect());
        let client = provider.tls.client.as_ref().map(|own| Arc::new(CertKey::new(owned(&own.chain), own.key.secret_der().to_vec())));
        // Certificates may change with a reload: pooled connections that were made with others must not be used.
        let group = if provider.base.tls { (generation << 32) | provider.index as u64 } else { provider.index as u64 };
        let template = template(&provider, signer);
        let label = shared(provider.name.as_bytes()).map_err(|e| e.to_string())?;
        let base = &provider.base;
        let same_place = |before: &&Self| (&before.provider.base.host, before.provider.base.port) == (&base.host, base.port);
        let addresses = match before.filter(same_place) {
            Some(before) => before.addresses.clone(),
            None => Arc::new(Addresses::new(provider.name.clone(), base.host.clone(), base.port)),
        };
        Ok(Self {
            template,
            usual: OnceLock::new(),
            label,
            addresses,
            provider,
            in_flight: before.map(|before| before.in_flight.clone()).unwrap_or_default(),
            ca,
            client,
            group,
        })
    }

    /// Name of the provider.
    pub fn name(&self) -> &Arc<str> {
        &self.provider.name
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
                let uri = Uri::from_maybe_shared([&*self.provider.base.prefix, path].concat())?;
                if usual.is_none() {
                    let _ = self.usual.set((path.to_owned(), uri.clone())); // another request may have been faster
                }
                Ok(uri)
            }
        }
    }

    /// The provider's name as a header value.
    pub fn label(&self) -> &HeaderValue {
        &self.label
    }

    /// Its addresses.
    pub fn addresses(&self) -> &Arc<Addresses> {
        &self.addresses
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

    /// A peer for one attempt, at an address that it has not `dialled` yet.
    ///
    /// # Errors
    /// 502 when the provider's host has no address.
    pub async fn peer(&self, timeouts: &Timeouts, dialled: &mut Dialled) -> Result<Box<HttpPeer>, ApiError> {
        let Some(address) = self.addresses.dial(dialled).await else {
            return Err(ApiError::upstream(format!("Provider `{}` cannot be found.", self.provider.name)));
        };
        let tls = &self.provider.tls;
        let name = tls.server_name.as_ref().unwrap_or(&self.provider.base.host);
        let mut peer =
            HttpPeer::new(address, self.provider.base.tls, if self.provider.base.tls { name.to_string() } else { String::new() });
        peer.group_key = self.group;
        peer.client_cert_key.clone_from(&self.client);
        let o = &mut peer.options;
        o.connection_timeout = Some(timeouts.connect);
        o.total_connection_timeout = Some(timeouts.connect);
        // Reading and writing have their deadlines in the replay session.
        o.idle_timeout = Some(IDLE);
        o.verify_cert = tls.verify;
        o.verify_hostname = tls.verify;
        o.ca.clone_from(&self.ca);
        o.alpn = if self.provider.base.tls { ALPN::H2H1 } else { dial::in_the_clear() };
        o.max_h2_streams = MAX_H2_STREAMS;
        o.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
        Ok(Box::new(peer))
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
    // Places that every request fills, so that its copy of the template need not grow.
    template.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    template.insert(TRACEPARENT, HeaderValue::from_static(""));
    template.clone() // as in `shared`
}
