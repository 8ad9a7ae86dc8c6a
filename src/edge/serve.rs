//! Starts the process: listeners, HTTP/2 settings, background tasks. Shutdown is in [`super::signals`].

use super::connector::addresses::RESOLVE_INTERVAL;
use super::connector::http1::Http1Connector;
use super::connector::idle::{IdlePool, SWEEP_INTERVAL};
use super::descriptors;
use super::downstream::{self, Options};
use super::drain::is_set;
use super::handover::{self, Predecessor};
use super::intake::MAX_HEADERS;
use super::live::Live;
use super::proxy::Gateway;
use super::reject::Rejections;
use super::reload::{Fixed, Reloader, tell, warn};
use super::signals::{self, Signals};
use super::sockets::Sockets;
use super::upgrade;
use crate::auth::jwt::Tokens;
use crate::auth::jwt::source::KeySource;
use crate::config::Loaded;
use crate::config::problem::Problem;
use crate::config::snapshot::{Listen, ListenAddress, Server as ServerSettings};
use crate::system;
use crate::telemetry::pages::{Reloads, Upgrade};
use arc_swap::ArcSwap;
use async_trait::async_trait;
use parking_lot::Mutex;
use pingora_core::apps::HttpServerOptions;
use pingora_core::listeners::{L4BufferSettings, ListenerConfig};
use pingora_core::protocols::http::v2::server::H2Options;
use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{Fds, ListenFds, RunArgs, Server, ShutdownWatch};
use pingora_core::services::background::{BackgroundService, background_service};
use pingora_core::services::listening::Service;
use pingora_proxy::HttpProxy;
use std::fs::Permissions;
use std::future::{Future, poll_fn};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

/// Maximum concurrent streams of an HTTP/2 client connection.
const H2_STREAMS: u32 = 256;
/// Flow-control windows of an HTTP/2 stream and connection, in bytes.
const H2_WINDOW: (u32, u32) = (1 << 20, 4 << 20);
/// Read buffer of a TLS client connection, which takes several reads per record. Plain connections are read unbuffered.
const TLS_READ_BUFFER: usize = 8 << 10;
/// Maximum idle upstream connections, of Pingora's pool and of [`IdlePool`] each.
const POOL_SIZE: usize = 1024;

/// State shared by all parts of the process.
pub struct Process {
    /// The current generation.
    pub live: Arc<ArcSwap<Live>>,
    /// Whether the process is ready: from accepting connections until SIGTERM.
    pub serving: AtomicBool,
    /// Start time, in nanoseconds since the Unix epoch.
    pub started: u64,
    /// Start time on the monotonic clock.
    pub began: Instant,
    /// The listening sockets, until the drain starts.
    pub sockets: Mutex<Option<Arc<Sockets>>>,
    /// Path of the upgrade socket; `None` if the process cannot be upgraded.
    pub upgrade_socket: Option<PathBuf>,
    /// True once a new process has the admin listener.
    pub admin_released: watch::Sender<bool>,
    /// Notified when the previous process has withdrawn its sockets.
    pub withdrawn: Notify,
    /// State of an upgrade, for `/status`.
    pub upgrade: Mutex<Upgrade>,
    /// Results of reloads, for `/status`.
    pub reloads: Mutex<Reloads>,
    /// Idle HTTP/1.1 upstream connections.
    pub idle: Arc<IdlePool>,
    /// Counts and logs rejected client connections.
    pub rejections: Rejections,
    /// What the process was started with, and reloads do not change.
    pub fixed: Fixed,
    /// Client connections that the limit of open files allows.
    descriptor_limit: usize,
}

impl Process {
    /// A process that starts now and does not serve yet.
    pub fn new(live: Arc<ArcSwap<Live>>, sockets: Sockets, upgrade_socket: Option<PathBuf>) -> Self {
        Self {
            fixed: Fixed::of(&live.load().snapshot),
            live,
            serving: AtomicBool::new(false),
            started: system::wall_clock(),
            began: Instant::now(),
            sockets: Mutex::new(Some(Arc::new(sockets))),
            upgrade_socket,
            admin_released: watch::Sender::new(false),
            withdrawn: Notify::new(),
            upgrade: Mutex::default(),
            reloads: Mutex::default(),
            idle: Arc::new(IdlePool::new(POOL_SIZE)),
            rejections: Rejections::default(),
            descriptor_limit: descriptors::client_connections(),
        }
    }

    /// Maximum number of client connections on all listeners.
    pub fn max_connections(&self, server: &ServerSettings) -> usize {
        server.max_connections.unwrap_or(self.descriptor_limit)
    }

    /// Warns if more client connections are configured than the limit of open files allows.
    pub fn check_max_connections(&self, server: &ServerSettings) {
        let (max, allowed) = (self.max_connections(server), self.descriptor_limit);
        if max > allowed {
            log::warn!(
                "server.max_connections is {max}, but the limit of open files allows {allowed}: raise the limit (LimitNOFILE, ulimit -n)"
            );
        }
    }

    /// Confirms to the previous process that this one serves.
    async fn confirm(&self, predecessor: Option<Predecessor>) {
        let confirmed = match predecessor {
            Some(predecessor) => tokio::task::spawn_blocking(|| predecessor.confirm()).await,
            None => Ok(Ok(())),
        };
        match confirmed {
            Ok(Err(why)) => {
                log::error!("{why}");
                self.withdrawn.notify_one();
            }
            _ => log::info!("serving"),
        }
    }
}

/// Called once requests are accepted.
pub type OnServing = Box<dyn FnOnce() + Send>;

/// Serves until the process is stopped.
///
/// # Errors
/// Why it cannot start.
pub fn run(loaded: Loaded, path: Option<PathBuf>, upgrade: bool, on_serving: OnServing) -> Result<(), String> {
    descriptors::raise();
    signals::ignore_unused();
    let Loaded { snapshot, files, warnings, key_problems } = loaded;
    let live = Arc::new(Live::new(snapshot, None)?);
    let (server, signals) = start(&live, path, files, (&warnings, key_problems), upgrade, on_serving)?;
    drop(live); // so that the first reload drops the first configuration and its connections
    server.run(RunArgs { shutdown_signal: Box::new(signals) });
    Ok(())
}

/// The part of the start that can fail, before requests are accepted.
fn start(
    live: &Arc<Live>,
    path: Option<PathBuf>,
    files: Vec<PathBuf>,
    (warnings, key_problems): (&[Problem], Vec<Problem>),
    upgrade: bool,
    on_serving: OnServing,
) -> Result<(Server, Signals), String> {
    let snapshot = &live.snapshot;
    let reloader = path.clone().map(|path| Reloader::new(path, files)); // before waiting for an upgrade
    let upgrade_socket = match upgrade::socket(snapshot.server.upgrade_socket.as_deref(), path.as_deref()) {
        Ok(socket) => Some(socket),
        Err(e) if upgrade => return Err(e),
        Err(e) => {
            log::warn!("upgrades are disabled: {e}");
            None
        }
    };
    let inherited = upgrade_socket.as_ref().filter(|_| upgrade).map(|socket| handover::inherit(socket, snapshot.server.upgrade_timeout));
    let (inherited, predecessor) = inherited.transpose()?.unzip();
    let sockets = Sockets::open(snapshot.listen.iter().map(|l| &l.address), snapshot.admin, inherited)?;
    let copied = |e: std::io::Error| format!("cannot duplicate a listener: {e}");
    let (table, admin) = (sockets.for_pingora().map_err(copied)?, sockets.for_admin().map_err(copied)?);
    let process = Arc::new(Process::new(Arc::new(ArcSwap::from(live.clone())), sockets, upgrade_socket));
    warn(&process, warnings);
    tell(&process, key_problems);
    let conf = ServerConf {
        threads: snapshot.server.threads,
        work_stealing: false, // a thread keeps its connections; figures in benches/README.md
        upstream_keepalive_pool_size: POOL_SIZE.div_ceil(snapshot.server.threads),
        max_retries: usize::MAX, // bounded by the hooks
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let service = proxy_service(&server, &process, &snapshot.listen);
    let accepting = watch::Sender::new(false);
    let is_accepting = accepting.subscribe();
    server.add_service(ProxyService { service, table: Some(table), accepting, process: process.clone() });
    // An inherited admin listener is shared with the previous process: only a ready process may accept from it.
    let admin_waits = predecessor.is_some().then(|| is_accepting.clone());
    let start = Start { accepting: is_accepting, predecessor, on_serving };
    let background = Background { process: process.clone(), reloader, start: Mutex::new(Some(start)) };
    server.add_service(background_service("background", background));
    for listen in &snapshot.listen {
        log::info!("listening on {}{}", listen.address, if listen.tls.is_some() { " (TLS)" } else { "" });
    }
    process.check_max_connections(&snapshot.server);
    super::admin::serve(admin, process.clone(), admin_waits).map_err(|e| format!("cannot start the admin listener: {e}"))?;
    Ok((server, Signals { process }))
}

/// Pingora's service with sockets from [`Sockets`], which stops accepting when the drain starts. Skips Pingora's shutdown, which
/// closes connections that are idle or have sent part of a request.
struct ProxyService {
    service: Service<HttpProxy<Gateway, Http1Connector>>,
    table: Option<Fds>,
    /// True once connections are accepted.
    accepting: watch::Sender<bool>,
    process: Arc<Process>,
}

#[async_trait]
impl pingora_core::services::Service for ProxyService {
    async fn start_service(&mut self, fds: Option<ListenFds>, _shutdown: ShutdownWatch, listeners_per_fd: usize) {
        if let (Some(shared), Some(table)) = (&fds, self.table.take()) {
            *shared.lock() = table;
        }
        let drain = self.process.live.load().drain.clone();
        let mut begun = drain.watch();
        let (accepting, process) = (self.accepting.clone(), self.process.clone());
        let mut service = pin!(self.service.start_service(fds, drain.watch(), listeners_per_fd));
        let draining = begun.clone();
        let serve = poll_fn(|cx| {
            // Checked before each poll: the accept tasks may see the drain, and end, before `begun` is woken.
            if *draining.borrow() {
                return Poll::Ready(());
            }
            // The first poll takes the sockets from the table and starts the accept tasks.
            let polled = service.as_mut().poll(cx);
            if polled.is_pending() && !*accepting.borrow() {
                process.serving.store(true, Ordering::Relaxed);
                accepting.send_replace(true);
            }
            polled
        });
        tokio::select! {
            biased;
            () = is_set(&mut begun) => {}
            () = serve => {}
        }
    }

    fn name(&self) -> &str {
        self.service.name()
    }

    fn threads(&self) -> Option<usize> {
        self.service.threads
    }
}

fn proxy_service(server: &Server, process: &Arc<Process>, listen: &[Listen]) -> Service<HttpProxy<Gateway, Http1Connector>> {
    let gateway = Gateway { live: process.live.clone() };
    let mut options = HttpServerOptions::default();
    options.h2c = true;
    options.allow_connect_method_proxying = true; // the gateway rejects it itself, with its own error body
    let mut h2 = H2Options::new();
    h2.max_concurrent_streams(H2_STREAMS)
        .initial_window_size(H2_WINDOW.0)
        .initial_connection_window_size(H2_WINDOW.1)
        .max_header_list_size(MAX_HEADERS as u32);
    let listeners = listen.to_vec();
    let mut service = downstream::service(&server.configuration, gateway, process.clone(), Options { server: options, h2, listeners });
    for l in listen {
        let read = if l.tls.is_some() { TLS_READ_BUFFER } else { 0 };
        let config = match &l.address {
            ListenAddress::Tcp(address) => ListenerConfig::tcp(address.to_string()),
            // Pingora sets the mode of the path again.
            ListenAddress::Unix { path, mode } => {
                ListenerConfig::uds(path.display().to_string()).permissions(Permissions::from_mode(*mode))
            }
        };
        service.add_listener(config.l4_buffer(L4BufferSettings::default().read(read)));
    }
    service
}

/// Background tasks: reloads, name lookups, credential refresh, closing idle connections.
struct Background {
    process: Arc<Process>,
    reloader: Option<Reloader>,
    start: Mutex<Option<Start>>,
}

/// Work to do once connections are accepted.
struct Start {
    /// True once connections are accepted.
    accepting: watch::Receiver<bool>,
    /// The previous process, which waits for a confirmation.
    predecessor: Option<Predecessor>,
    on_serving: OnServing,
}

#[async_trait]
impl BackgroundService for Background {
    async fn start(&self, _shutdown: ShutdownWatch) {
        let Ok(hangup) = signal(SignalKind::hangup()) else {
            log::error!("cannot receive SIGHUP");
            return;
        };
        let draining = self.process.live.load().drain.watch();
        let start = self.start.lock().take();
        if let Some(Start { mut accepting, predecessor, on_serving }) = start {
            is_set(&mut accepting).await;
            self.process.confirm(predecessor).await;
            on_serving();
        }
        tokio::select! {
            () = self.run(hangup, draining) => {}
            () = self.watch_keys() => {}
        }
    }
}

impl Background {
    /// Loop of its own: a reload that waits for a credential must not hold up the end of a key.
    async fn watch_keys(&self) {
        let Some(reloader) = &self.reloader else { return std::future::pending().await };
        let mut poll = tokio::time::interval(super::reload::KEYS_POLL_INTERVAL);
        loop {
            poll.tick().await;
            reloader.poll_keys(&self.process).await;
        }
    }

    /// Runs until the drain begins.
    async fn run(&self, mut hangup: Signal, mut draining: watch::Receiver<bool>) {
        let mut refresh = CredentialRefresh::default();
        refresh.follow(&self.process.live.load_full());
        let mut poll = tokio::time::interval(super::reload::POLL_INTERVAL);
        let mut resolve = tokio::time::interval(RESOLVE_INTERVAL);
        let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
        loop {
            tokio::select! {
                () = is_set(&mut draining) => return,
                _ = hangup.recv() => if let Some(r) = &self.reloader {
                    r.reload(&self.process).await;
                    refresh.follow(&self.process.live.load_full());
                },
                _ = poll.tick() => {
                    self.process.live.load().follow_wall_clock();
                    if let Some(r) = &self.reloader {
                        r.poll(&self.process).await;
                        refresh.follow(&self.process.live.load_full());
                    }
                },
                _ = sweep.tick() => self.process.idle.sweep(),
                _ = resolve.tick() => {
                    // Not awaited: a slow name server must not block this loop.
                    self.process.live.load().named_addresses().for_each(|addresses| drop(addresses.refresh()));
                }
            }
        }
    }
}

/// Tasks that refresh the credentials of the current generation, and the keys of its issuers.
#[derive(Default)]
struct CredentialRefresh {
    generation: u64,
    signers: JoinSet<()>,
    /// The sources of keys that are kept fresh, and their tasks in `keys`.
    sources: Vec<(Arc<KeySource>, AbortHandle)>,
    keys: JoinSet<()>,
}

impl CredentialRefresh {
    fn follow(&mut self, live: &Live) {
        if self.generation == live.generation {
            return;
        }
        self.generation = live.generation;
        self.signers.abort_all();
        for signer in live.expiring_signers() {
            let signer = signer.clone();
            self.signers.spawn(async move { signer.keep_fresh().await });
        }
        self.follow_sources(&live.tokens.iter().flat_map(Tokens::sources).cloned().collect::<Vec<_>>());
    }

    /// A source that stays goes on with what it does: requests may be waiting for a fetch that is under way.
    fn follow_sources(&mut self, now: &[Arc<KeySource>]) {
        self.sources.retain(|(source, task)| {
            let stays = now.iter().any(|other| Arc::ptr_eq(other, source));
            if !stays {
                task.abort();
            }
            stays
        });
        for source in now {
            if !self.sources.iter().any(|(known, _)| Arc::ptr_eq(known, source)) {
                let task = source.clone();
                self.sources.push((source.clone(), self.keys.spawn(async move { task.keep_fresh().await })));
            }
        }
        while self.keys.try_join_next().is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::jwt::source::Location;
    use crate::egress::Egress;

    #[tokio::test]
    async fn a_source_of_keys_that_stays_is_not_interrupted_by_a_reload() {
        let source = |issuer: &str| {
            let location = Location::KeySet(http::Uri::from_static("http://127.0.0.1:1/"));
            Arc::new(KeySource::new(issuer.into(), location, Egress::Direct))
        };
        let (stays, goes, comes) = (source("stays"), source("goes"), source("comes"));
        let mut refresh = CredentialRefresh::default();
        refresh.follow_sources(&[stays.clone(), goes]);
        let [before, gone] = [0, 1].map(|at| refresh.sources[at].1.clone());
        refresh.follow_sources(&[comes.clone(), stays.clone()]);
        tokio::task::yield_now().await;
        assert!(refresh.sources.len() == 2 && refresh.sources[0].1.id() == before.id() && !before.is_finished());
        assert!(gone.is_finished() && Arc::ptr_eq(&refresh.sources[1].0, &comes));
        refresh.follow_sources(&[]);
        tokio::task::yield_now().await;
        assert!(before.is_finished() && refresh.sources.is_empty());
    }
}
