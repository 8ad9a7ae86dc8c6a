//! Providers and targets: which dialect is spoken where, and with whose credentials.

use crate::dialect::Dialect;
use crate::egress::Egress;
use crate::egress::proxy::Proxy;
use crate::limit::rule::Limit;
use crate::pem::{Certificates, Identity};
use crate::sign::credential::Credential;
use crate::sign::signer::Payer;
use catalogue::Kind;
use http::{HeaderName, HeaderValue};
use price::Pricing;
use protocol::Protocol;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use timeouts::Timeouts;

pub mod catalogue;
pub mod price;
pub mod prices;
pub mod protocol;
pub mod timeouts;

/// A provider of the configuration: a dialect at a base URL with credentials. Where several servers are one provider, each
/// replica is one, with the same index and name.
#[derive(Clone)]
pub struct Provider {
    /// Its position in the snapshot.
    pub index: usize,
    /// The user's name for it.
    pub name: Arc<str>,
    /// What it is.
    pub kind: &'static Kind,
    /// What its targets speak where they say nothing themselves.
    pub protocol: Protocol,
    /// Where it is.
    pub base: BaseUrl,
    /// Its number among the endpoints of all providers: one each, or one for each replica.
    pub endpoint: usize,
    /// Its name, with the base URL where it has replicas; what health and metrics of targets go by.
    pub endpoint_name: Arc<str>,
    /// The further replicas of the first one.
    pub replicas: Vec<Arc<Provider>>,
    /// How a request proves who pays.
    pub credential: Credential,
    /// Headers that the operator adds to every request.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Its deadlines; a route may override them.
    pub timeouts: Timeouts,
    /// How its certificate is checked.
    pub tls: TlsOptions,
    /// The proxies of its connections and of those that fetch its credentials.
    pub egress: Egress,
    /// Which version of HTTP it is asked with.
    pub http: HttpVersion,
    /// Most requests in flight at once; `None` is no bound.
    pub max_connections: Option<u32>,
    /// Shared by everyone who uses the provider.
    pub limits: Vec<Limit>,
}

impl Provider {
    /// It and its further replicas.
    pub fn endpoints(self: &Arc<Self>) -> impl Iterator<Item = &Arc<Self>> {
        std::iter::once(self).chain(&self.replicas)
    }

    /// Whose requests its signer signs.
    pub fn payer(&self) -> Payer<'_> {
        Payer { provider: &self.name, credential: &self.credential, authority: &self.base.authority, egress: &self.egress }
    }

    /// The proxy that its requests go through.
    pub fn proxy(&self) -> Option<&Arc<Proxy>> {
        let base = &self.base;
        if base.socket.is_some() { None } else { self.egress.proxy_for(base.tls, &base.host, base.port) }
    }

    /// The proxy that its requests are given to in absolute form (RFC 9112, section 3.2.2). `None` where they go directly or
    /// through a tunnel, as HTTP/2 without TLS does too: a proxy would not pass it on.
    pub fn forward_proxy(&self) -> Option<&Arc<Proxy>> {
        self.proxy().filter(|_| !self.base.tls && self.http != HttpVersion::Http2)
    }
}

/// How a provider's certificate is checked.
#[derive(Clone, PartialEq, Eq)]
pub struct TlsOptions {
    /// What replaces the system's roots.
    pub ca: Option<Certificates>,
    /// Whether the certificate is checked at all.
    pub verify: bool,
    /// Name to ask for and to check, where it is not the host.
    pub server_name: Option<Arc<str>>,
    /// What the gateway shows.
    pub client: Option<Arc<Identity>>,
}

/// Which version of HTTP a provider is asked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpVersion {
    /// Over TLS the one that the provider chooses by ALPN, HTTP/2 preferred; HTTP/1.1 otherwise.
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, without TLS by prior knowledge.
    Http2,
}

/// A base URL, taken apart once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl {
    /// Whether to use TLS.
    pub tls: bool,
    /// The Unix socket to connect to in place of host and port.
    pub socket: Option<Arc<Path>>,
    /// Host name or address, without brackets or port.
    pub host: Arc<str>,
    /// Port.
    pub port: u16,
    /// What goes into `host`: host, and the port where it is not the scheme's own.
    pub authority: HeaderValue,
    /// Path prefix without a trailing slash; may be empty.
    pub prefix: Arc<str>,
    /// Query without the question mark, sent with every request; may be empty.
    pub query: Arc<str>,
}

impl BaseUrl {
    /// The request target for a path below it, which may have a query of its own.
    pub fn path_and_query(&self, path: &str) -> String {
        if self.query.is_empty() {
            return [&*self.prefix, path].concat();
        }
        let separator = if path.contains('?') { "&" } else { "?" };
        [&*self.prefix, path, separator, &*self.query].concat()
    }

    /// Values of the query that may be credentials: all but those of versions.
    pub fn query_secrets(&self) -> impl Iterator<Item = &str> {
        let pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(name, _)| !name.ends_with("version")).map(|(_, value)| value)
    }
}

/// The query is not shown: it may hold a credential.
impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let query = if self.query.is_empty() { "" } else { "?…" };
        let Some(socket) = &self.socket else {
            let scheme = if self.tls { "https" } else { "http" };
            return write!(f, "{scheme}://{}{}{query}", self.authority.to_str().unwrap_or_default(), self.prefix);
        };
        let separator = if self.prefix.is_empty() { "" } else { ":" };
        write!(f, "unix:{}{separator}{}{query}", socket.display(), self.prefix)
    }
}

/// A provider and a model there. Where the provider has replicas, each of them is a target.
#[derive(Clone)]
pub struct Target {
    /// Its number among all targets of the snapshot, for health and metrics.
    pub index: usize,
    /// Where it is.
    pub provider: Arc<Provider>,
    /// How many targets, from this one on, are the replicas of one; 0 for all of them but the first.
    pub replicas: u16,
    /// The model there.
    pub model: ModelName,
    /// Its share under `weighted`; 0 for a target that is only reached by fail-over.
    pub weight: u32,
    /// What it costs.
    pub pricing: Pricing,
    /// How many tokens the model takes; `None` where nobody said.
    pub context: Option<u32>,
    /// What the model is called in Anthropic's list of models.
    pub display_name: Option<Box<str>>,
    /// How it is asked.
    pub protocol: Protocol,
}

impl Target {
    /// What writes its requests and reads its answers.
    pub fn dialect(&self) -> &dyn Dialect {
        self.protocol.dialect()
    }
}

/// The upstream's name for the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelName {
    /// Always this one.
    Fixed(Arc<str>),
    /// `*` in it stands for what the route's `*` matched.
    Pattern(Arc<str>),
}
