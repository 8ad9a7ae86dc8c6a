//! The configuration that requests run on: immutable, complete, valid. A reload makes a new one; a request keeps the
//! one it began with.

use super::key_files::KeysDir;
use crate::auth::tenants::Tenants;
use crate::limit::memory::Rules;
use crate::limit::rule::LimitStore;
use crate::provider::Provider;
use crate::redact::KnownSecrets;
use crate::route::settings::Routes;
use crate::telemetry::attribute::Attribute;
use crate::telemetry::log::Log;
use crate::telemetry::spans::Tracing;
use crate::yaml::section::words;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio_rustls::rustls::ServerConfig;

/// One valid configuration.
#[derive(Clone)]
pub struct Snapshot {
    /// SHA-256 of the configuration file, without files that it names.
    pub digest: [u8; 32],
    /// Where clients connect.
    pub listen: Vec<Listen>,
    /// Where Prometheus and the orchestrator connect.
    pub admin: SocketAddr,
    /// What holds for every connection.
    pub server: Server,
    /// By index.
    pub providers: Vec<Arc<Provider>>,
    /// What clients may ask for.
    pub routes: Routes,
    /// Who may ask, the key files included.
    pub tenants: Tenants,
    /// The key files.
    pub keys_dir: Option<KeysDir>,
    /// Where limits are counted.
    pub limit_store: LimitStore,
    /// What goes to stdout.
    pub log: Log,
    /// What the access log has of requests under names of the operator's.
    pub attributes: Vec<Attribute>,
    /// Where spans go; `None`: no request is traced.
    pub tracing: Option<Tracing>,
    /// Seals a provider's state into tool-call ids; the same on all nodes that share a configuration.
    pub seal_keys: ([u8; 32], Vec<[u8; 32]>),
    /// Keeps the providers' secrets out of errors and logs.
    pub secrets: Arc<KnownSecrets>,
}

impl Snapshot {
    /// The limits of keys, teams, routes and providers, the order of [`Scope::ALL`](crate::limit::Scope::ALL).
    pub fn limits(&self) -> [Rules<'_>; 4] {
        [
            self.tenants.keys.iter().map(|key| (Arc::clone(&key.name), key.limits.as_slice())).collect(),
            self.tenants.teams.iter().map(|team| (Arc::clone(&team.name), team.limits.as_slice())).collect(),
            self.routes.iter().map(|route| (Arc::clone(&route.name), route.limits.as_slice())).collect(),
            self.providers.iter().map(|provider| (Arc::clone(&provider.name), provider.limits.as_slice())).collect(),
        ]
    }
}

/// A listener.
#[derive(Clone)]
pub struct Listen {
    /// Where clients connect.
    pub address: ListenAddress,
    /// How it speaks TLS; `None` in the clear.
    pub tls: Option<Arc<ServerConfig>>,
    /// Whether connections begin with a header of the PROXY protocol.
    pub proxy_protocol: bool,
}

/// Where clients connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// Address and port; port 0 is any free one.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix {
        /// Absolute, at most 107 bytes, without white space.
        path: PathBuf,
        /// The permissions of the socket's file.
        mode: u32,
    },
}

impl fmt::Display for ListenAddress {
    /// As it is configured.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix { path, .. } => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What holds for every connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Worker threads; never 0.
    pub threads: usize,
    /// Most client connections at once; `None` for as many as there are descriptors for.
    pub max_connections: Option<usize>,
    /// Largest request body in bytes.
    pub max_body: usize,
    /// From the first byte of a request to the end of its headers.
    pub header_timeout: Duration,
    /// For the whole body.
    pub body_timeout: Duration,
    /// How long a client connection without a request is kept.
    pub client_idle_timeout: Duration,
    /// How long everything is still accepted after SIGTERM, while the process is not ready any more.
    pub drain_delay: Duration,
    /// How long a drain waits for streams in flight.
    pub drain_timeout: Duration,
    /// How long the two processes of an upgrade wait for each other.
    pub upgrade_timeout: Duration,
    /// Where an upgrade hands the listeners over; `None` for the default.
    pub upgrade_socket: Option<PathBuf>,
    /// Where a stream's usage goes.
    pub stream_usage: StreamUsage,
    /// What answers have as `model`.
    pub response_model: ResponseModel,
    /// Whose `x-forwarded-for` and PROXY protocol are believed.
    pub trust_forwarded_for: Trust,
    /// Which web pages may use the API; `None`: none.
    pub cors: Option<Cors>,
}

/// Whose word for a client's address is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Peers with an address in one of these networks.
    pub networks: Vec<ipnet::IpNet>,
    /// Peers at a Unix socket.
    pub unix: bool,
}

impl Trust {
    /// Whether a peer is one of them; `None` is one at a Unix socket, which has no address. An IPv4 address is one in whatever
    /// form it comes: a listener on `[::]` sees it inside of an IPv6 one.
    pub fn trusts(&self, peer: Option<IpAddr>) -> bool {
        match peer.map(|peer| peer.to_canonical()) {
            Some(peer) => self.networks.iter().any(|network| network.contains(&peer)),
            None => self.unix,
        }
    }
}

/// Which web pages may use the API from a browser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// Their origins, as browsers send them.
    pub origins: Vec<String>,
    /// Whether all may.
    pub any: bool,
    /// How long a browser may remember the answer to a preflight.
    pub max_age: Duration,
}

words! {
    /// Where a stream's usage goes.
    StreamUsage {
        /// On the chunk that carries the finish reason.
        Merged = "merged",
        /// On a last chunk without choices, OpenAI's own form.
        Separate = "separate",
    }

    /// What answers have as `model`.
    ResponseModel {
        /// What the client asked for.
        Asked = "asked",
        /// The model that answered, as its provider calls it.
        Upstream = "upstream",
    }
}
