//! The configuration that requests run on: immutable, complete, valid. A reload makes a new one; a request keeps the
//! one it began with.

use super::pem::{Certificates, Identity};
use super::secret::Secret;
use crate::llm::settings::Params;
use crate::provider::{Provider, Target};
use crate::redact::KnownSecrets;
use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio_rustls::rustls::ServerConfig;

/// One valid configuration.
pub struct Snapshot {
    /// Where clients connect.
    pub listen: Vec<Listen>,
    /// Where Prometheus and the orchestrator connect.
    pub admin: SocketAddr,
    /// What holds for every connection.
    pub server: Server,
    /// By index.
    pub providers: Vec<Arc<Provider>>,
    /// By index.
    pub routes: Vec<Arc<Route>>,
    /// Finds a route by name.
    pub route_names: RouteNames,
    /// How many targets there are in all; `Target::index` is below it.
    pub targets: usize,
    /// Whether keys are asked for.
    pub auth: AuthMode,
    /// By index.
    pub teams: Vec<Team>,
    /// By index.
    pub keys: Vec<Key>,
    /// Finds a key by the SHA-256 of its text.
    pub key_digests: HashMap<[u8; 32], usize>,
    /// Where limits are counted.
    pub limit_store: LimitStore,
    /// What goes to stdout.
    pub log: Log,
    /// Seals a provider's state into tool-call ids; the same on all nodes that share a configuration.
    pub seal_key: [u8; 32],
    /// Keeps the providers' secrets out of errors and logs.
    pub secrets: KnownSecrets,
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

/// Where a stream's usage goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamUsage {
    /// On the chunk that carries the finish reason.
    Merged,
    /// On a last chunk without choices, OpenAI's own form.
    Separate,
}

/// What answers have as `model`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseModel {
    /// What the client asked for.
    Asked,
    /// The model that answered, as its provider calls it.
    Upstream,
}

/// A name that clients may ask for.
#[derive(Clone)]
pub struct Route {
    /// Its position in the snapshot.
    pub index: usize,
    /// As written; with a `*` for a pattern.
    pub name: Arc<str>,
    /// Further names that clients can ask for.
    pub aliases: Vec<Arc<str>>,
    /// Tried first, by weight.
    pub targets: Vec<Arc<Target>>,
    /// Tried in order when every target has failed.
    pub fallback: Vec<Arc<Target>>,
    /// Whether a target's provider has replicas.
    pub pooled: bool,
    /// Which target comes first.
    pub balance: Balance,
    /// When a failure moves on to the next target.
    pub retry: Retry,
    /// When failures keep a target out.
    pub ejection: Ejection,
    /// The smallest `context` of its targets; `None` where none has one.
    pub smallest_context: Option<u32>,
    /// Overrides of the provider's deadlines.
    pub timeouts: TimeoutOverrides,
    /// A stream that has been silent for this long gets a heartbeat; `None`: never.
    pub keep_alive: Option<Duration>,
    /// A system prompt that stands before the client's own.
    pub system: Option<Arc<str>>,
    /// Defaults, overrides and what to do with unsupported parameters.
    pub params: Params,
    /// Shared by everyone who uses the route.
    pub limits: Vec<LimitRule>,
}

impl Route {
    /// Whether its name is a pattern rather than a name that a client can ask for.
    pub fn is_pattern(&self) -> bool {
        self.name.contains('*')
    }

    /// All names that clients can ask for; none of a pattern.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        std::iter::once(&self.name).filter(|_| !self.is_pattern()).chain(&self.aliases)
    }
}

/// Which target comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// At random, by weight.
    Weighted,
    /// Of two at random, by weight, the one with fewer requests in flight.
    LeastRequests,
    /// Of two at random, by weight, the one whose first token is to be expected sooner.
    Latency,
    /// The same one for the same episode, user or key.
    Sticky,
}

/// When failures keep a target out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// So many failures; 0..=[`MAX_FAILURES`](crate::route::health::MAX_FAILURES), 0: never.
    pub failures: u32,
    /// That are at least so many millionths of the attempts, or come in a row.
    pub share: u32,
    /// Within this time.
    pub window: Duration,
    /// For how long, also where a credential or a model is set aside; doubles with each failed probe.
    pub initial: Duration,
    /// Longest that it gets.
    pub max: Duration,
}

/// When a failure moves on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Tries in all, the first one included; at least 1.
    pub attempts: u32,
    /// Retry when no connection could be made.
    pub connect: bool,
    /// Retry when a deadline passed before the first token.
    pub timeout: bool,
    /// Retry on 429.
    pub rate_limited: bool,
    /// Retry on 408, 5xx and broken answers.
    pub server_error: bool,
    /// Retry on a credential that is refused, unpaid or not to be had.
    pub credential: bool,
    /// Retry on 404.
    pub not_found: bool,
    /// Retry a prompt that is too long, once, at another model.
    pub context_length: bool,
    /// Retry what the provider's policy forbids.
    pub content_filter: bool,
    /// Wait before the second try of the *same* target; doubles from there.
    pub backoff_initial: Duration,
    /// Longest such wait.
    pub backoff_max: Duration,
}

/// Deadlines of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection, TLS included. Default 5 s.
    pub connect: Duration,
    /// What [`Timeouts::first_byte`] returns; `None`: its default.
    pub first_byte: Option<Duration>,
    /// From the request sent to the first content of a stream. Default 120 s.
    pub first_token: Duration,
    /// Between two reads of the answer. Default 60 s.
    pub between_bytes: Duration,
    /// For the whole attempt. Default none.
    pub total: Option<Duration>,
}

impl Timeouts {
    /// `first_byte` of a stream where none is configured.
    pub const FIRST_BYTE_STREAMED: Duration = Duration::from_secs(60);
    /// `first_byte` of a buffered request where none is configured: a long generation takes minutes, and nothing of it is
    /// sent before its end.
    pub const FIRST_BYTE_BUFFERED: Duration = Duration::from_secs(600);

    /// From the request sent to the response headers of a stream, or to the first byte of the body of a buffered answer.
    pub fn first_byte(&self, stream: bool) -> Duration {
        self.first_byte.unwrap_or(if stream { Self::FIRST_BYTE_STREAMED } else { Self::FIRST_BYTE_BUFFERED })
    }
}

/// A route's own deadlines; what is `None` is the provider's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeoutOverrides {
    /// See [`Timeouts::connect`].
    pub connect: Option<Duration>,
    /// See [`Timeouts::first_byte`].
    pub first_byte: Option<Duration>,
    /// See [`Timeouts::first_token`].
    pub first_token: Option<Duration>,
    /// See [`Timeouts::between_bytes`].
    pub between_bytes: Option<Duration>,
    /// See [`Timeouts::total`].
    pub total: Option<Duration>,
}

impl TimeoutOverrides {
    /// The provider's deadlines with the route's own in their place.
    pub fn over(&self, provider: &Timeouts) -> Timeouts {
        Timeouts {
            connect: self.connect.unwrap_or(provider.connect),
            first_byte: self.first_byte.or(provider.first_byte),
            first_token: self.first_token.unwrap_or(provider.first_token),
            between_bytes: self.between_bytes.unwrap_or(provider.between_bytes),
            total: self.total.or(provider.total),
        }
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

/// Whether keys are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMode {
    /// Every request needs a key.
    Keys,
    /// Nobody is asked; all routes are open, accounted under team and key `anonymous`.
    None,
}

/// A tenant.
pub struct Team {
    /// Its name.
    pub name: Arc<str>,
    /// Routes it may use; `None` is all.
    pub routes: Option<RouteSet>,
    /// Shared by its keys.
    pub limits: Vec<LimitRule>,
}

/// A client key.
pub struct Key {
    /// The user's name for it; what logs show.
    pub id: Arc<str>,
    /// Its team's index.
    pub team: usize,
    /// SHA-256 of the key's text.
    pub digest: [u8; 32],
    /// Seconds since the epoch after which it is refused.
    pub expires: Option<i64>,
    /// Whether it is refused.
    pub disabled: bool,
    /// Narrows the team's routes; `None` is all of them.
    pub routes: Option<RouteSet>,
    /// Its own.
    pub limits: Vec<LimitRule>,
}

/// A set of routes, by index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteSet(pub Vec<bool>);

impl RouteSet {
    /// Whether it holds the route.
    pub fn has(&self, route: usize) -> bool {
        self.0.get(route).copied().unwrap_or(false)
    }
}

/// Finds routes by name.
#[derive(Clone, Debug, Default)]
pub struct RouteNames {
    /// Exact names, aliases included.
    pub exact: HashMap<Arc<str>, usize>,
    /// Prefix, suffix and route of each pattern, the longest prefix first.
    pub patterns: Vec<(Arc<str>, Arc<str>, usize)>,
}

/// One limit as configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitRule {
    /// What is counted.
    pub dimension: Dimension,
    /// How much of it per period (for `usd`: micro-dollars).
    pub amount: u64,
    /// The period; meaningless for `concurrent`.
    pub per: Duration,
    /// How much may be used at once; default `amount`.
    pub burst: u64,
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dimension {
    /// Requests.
    Requests,
    /// Prompt and completion tokens.
    Tokens,
    /// Requests in flight.
    Concurrent,
    /// Money, in micro-dollars.
    Usd,
}

/// Where limits are counted.
#[derive(Clone)]
pub struct LimitStore {
    /// URL of the Redis that all nodes share, which may hold a password; `None` counts in the process.
    pub redis: Option<Secret>,
    /// What a request gets while Redis fails or is late.
    pub on_failure: StoreFailure,
    /// How long a request waits for Redis.
    pub timeout: Duration,
    /// How long what a node takes in advance may be spent; `None` takes nothing in advance.
    pub lease: Option<Duration>,
}

/// What a request gets while the shared store fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreFailure {
    /// It is counted in the process.
    Local,
    /// It is admitted and not counted.
    Allow,
    /// It is refused with 503.
    Deny,
}

impl StoreFailure {
    /// The word in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object.
    Json,
    /// `key=value`, with every field that is there.
    Text,
    /// A few words.
    Short,
}

/// What goes to stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// How a line looks.
    pub format: LogFormat,
    /// Least severe level that is written.
    pub level: log::LevelFilter,
    /// Whether every request gets an access-log line.
    pub access: bool,
}
