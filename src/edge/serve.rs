//! The process: its listeners, TLS, HTTP/2, background work. How it ends is in [`super::signals`].

use super::connector::addresses::RESOLVE_EVERY;
use super::connector::http1::Http1Connector;
use super::connector::idle::{IdlePool, SWEEP_EVERY};
use super::descriptors;
use super::drain::is_set;
use super::front::{self, Options};
use super::handover::{self, Predecessor};
use super::intake::MAX_HEADERS;
use super::live::Live;
use super::proxy::Gateway;
use super::reject::Rejections;
use super::reload::{Reloader, warn};
use super::signals::{self, Signals};
use super::sockets::Sockets;
use super::upgrade;
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
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// Streams that one HTTP/2 client connection may have open.
const H2_STREAMS: u32 = 256;
/// Received but unread bytes of one HTTP/2 stream, and of all streams of a connection.
const H2_WINDOW: (u32, u32) = (1 << 20, 4 << 20);
/// Read buffer of a client connection under TLS, whose records come in several reads each. What is read in the clear goes
/// straight to where Pingora wants it.
const READ_BUFFER_OF_TLS: usize = 8 << 10;
/// Unused upstream connections that are kept: so many with TLS, and as many in the clear.
const POOL: usize = 1024;

/// Why the process ended.
pub enum Ended {
    /// As it was told to.
    Well,
    /// An address could not be listened on, or something else that is needed at start is not there.
    CouldNotStart(String),
}

/// What all parts of the process share.
pub struct Process {
    /// The current generation.
    pub live: Arc<ArcSwap<Live>>,
    /// Whether the process is ready: once it accepts connections, and until SIGTERM.
    pub serving: AtomicBool,
    /// When it began, by the wall clock, in nanoseconds since the epoch …
    pub started: u64,
    /// … and on the clock that durations are taken from.
    pub began: Instant,
    /// The listening sockets, until the drain begins.
    pub sockets: Mutex<Option<Arc<Sockets>>>,
    /// Where an upgrade hands the sockets over; `None` where it cannot.
    pub upgrade_socket: Option<PathBuf>,
    /// Becomes true when the next process has the admin listener.
    pub admin_released: watch::Sender<bool>,
    /// Notified when the process before has withdrawn its sockets from this one.
    pub withdrawn: Notify,
    /// The state of an upgrade to another process, for `/status`.
    pub upgrade: Mutex<Upgrade>,
    /// What became of reloads, for `/status`.
    pub reloads: Mutex<Reloads>,
    /// Upstream connections in the clear that are not in use.
    pub idle: Arc<IdlePool>,
    /// Client connections that are not served.
    pub rejections: Rejections,
    /// Client connections for which the process has descriptors.
    descriptors_allow: usize,
}

impl Process {
    /// One that begins now and does not serve yet.
    pub fn new(live: Arc<ArcSwap<Live>>, sockets: Sockets, upgrade_socket: Option<PathBuf>) -> Self {
        Self {
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
            idle: Arc::new(IdlePool::new(POOL)),
            rejections: Rejections::default(),
            descriptors_allow: descriptors::client_connections(),
        }
    }

    /// How many client connections may be open at once, on all listeners together.
    pub fn max_connections(&self, server: &ServerSettings) -> usize {
        server.max_connections.unwrap_or(self.descriptors_allow)
    }

    /// Warns where more client connections are configured than there are descriptors for.
    pub fn check_max_connections(&self, server: &ServerSettings) {
        let (most, allowed) = (self.max_connections(server), self.descriptors_allow);
        if most > allowed {
            log::warn!(
                "server.max_connections is {most}, and the limit of open files allows {allowed}: raise the limit (LimitNOFILE, ulimit -n)"
            );
        }
    }

    /// Confirms to the process before that this one serves.
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

/// Called once, when the process serves.
pub type OnServing = Box<dyn FnOnce() + Send>;

/// Serves until it is stopped.
pub fn run(loaded: Loaded, path: Option<PathBuf>, upgrade: bool, on_serving: OnServing) -> Ended {
    descriptors::raise();
    signals::claim();
    let Loaded { snapshot, files, warnings } = loaded;
    let live = match Live::new(snapshot, None) {
        Ok(live) => Arc::new(live),
        Err(e) => return Ended::CouldNotStart(e),
    };
    match start(&live, path, files, &warnings, upgrade, on_serving) {
        Ok((server, signals)) => {
            drop(live); // the first configuration ends with the first reload, and its connections with it
            server.run(RunArgs { shutdown_signal: Box::new(signals) });
            crate::telemetry::log::flush();
            Ended::Well
        }
        Err(e) => Ended::CouldNotStart(e),
    }
}

/// Everything that can fail, before a request is accepted.
fn start(
    live: &Arc<Live>,
    path: Option<PathBuf>,
    files: Vec<PathBuf>,
    warnings: &[Problem],
    upgrade: bool,
    on_serving: OnServing,
) -> Result<(Server, Signals), String> {
    let snapshot = &live.snapshot;
    let reloader = path.clone().map(|path| Reloader::new(path, files)); // before anything is waited for
    let upgrade_socket = match upgrade::socket(snapshot.server.upgrade_socket.as_deref(), path.as_deref()) {
        Ok(socket) => Some(socket),
        Err(e) if upgrade => return Err(e),
        Err(e) => {
            log::warn!("this process cannot be upgraded: {e}");
            None
        }
    };
    let inherited = upgrade_socket.as_ref().filter(|_| upgrade).map(|socket| handover::inherit(socket, snapshot.server.upgrade_timeout));
    let (inherited, predecessor) = inherited.transpose()?.unzip();
    let sockets = Sockets::open(snapshot.listen.iter().map(|l| &l.address), snapshot.admin, inherited)?;
    let copied = |e: std::io::Error| format!("a listener cannot be copied: {e}");
    let (table, admin) = (sockets.for_pingora().map_err(copied)?, sockets.for_admin().map_err(copied)?);
    let process = Arc::new(Process::new(Arc::new(ArcSwap::from(live.clone())), sockets, upgrade_socket));
    warn(&process, warnings);
    let conf = ServerConf {
        threads: snapshot.server.threads,
        work_stealing: false, // a thread keeps its connections: see benches/README.md for what that saves
        upstream_keepalive_pool_size: POOL.div_ceil(snapshot.server.threads),
        max_retries: usize::MAX, // the hooks bound the tries
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let service = proxy_service(&server, &process, &snapshot.listen);
    let accepting = watch::Sender::new(false);
    let is_accepting = accepting.subscribe();
    server.add_service(Listening { service, table: Some(table), accepting, process: process.clone() });
    // An inherited admin listener is the other process's too: only a process that is ready answers there.
    let admin_waits = predecessor.is_some().then(|| is_accepting.clone());
    let start = Start { accepting: is_accepting, predecessor, on_serving };
    let upkeep = Upkeep { process: process.clone(), reloader, start: Mutex::new(Some(start)) };
    server.add_service(background_service("upkeep", upkeep));
    for listen in &snapshot.listen {
        log::info!("listening on {}{}", listen.address, if listen.tls.is_some() { " (TLS)" } else { "" });
    }
    process.check_max_connections(&snapshot.server);
    super::admin::serve(admin, process.clone(), admin_waits).map_err(|e| format!("the admin listener cannot be served: {e}"))?;
    Ok((server, Signals { process }))
}

/// Pingora's service with sockets of our own. It neither binds nor fetches any, and it stops accepting when the drain
/// begins. Its clean-up does not happen: that closes every connection that waits for a request, or has sent half of one.
struct Listening {
    service: Service<HttpProxy<Gateway, Http1Connector>>,
    table: Option<Fds>,
    /// Becomes true when connections are accepted.
    accepting: watch::Sender<bool>,
    process: Arc<Process>,
}

#[async_trait]
impl pingora_core::services::Service for Listening {
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
            // Looked at before each poll: the tasks that accept may see the drain, and end, before `begun` is woken.
            if *draining.borrow() {
                return Poll::Ready(());
            }
            // The first poll takes the sockets of the table and starts the tasks that accept.
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
    options.allow_connect_method_proxying = true; // the gateway refuses it itself, in the shape of its errors
    let mut h2 = H2Options::new();
    h2.max_concurrent_streams(H2_STREAMS)
        .initial_window_size(H2_WINDOW.0)
        .initial_connection_window_size(H2_WINDOW.1)
        .max_header_list_size(MAX_HEADERS as u32);
    let doors = listen.to_vec();
    let mut service = front::service(&server.configuration, gateway, process.clone(), Options { server: options, h2, doors });
    for l in listen {
        let read = if l.tls.is_some() { READ_BUFFER_OF_TLS } else { 0 };
        let config = match &l.address {
            ListenAddress::Tcp(address) => ListenerConfig::tcp(address.to_string()),
            // Pingora sets the mode again, of the path.
            ListenAddress::Unix { path, mode } => {
                ListenerConfig::uds(path.display().to_string()).permissions(Permissions::from_mode(*mode))
            }
        };
        service.add_listener(config.l4_buffer(L4BufferSettings::default().read(read)));
    }
    service
}

/// Background work: the start, reloads, look-ups, the closing of idle connections.
struct Upkeep {
    process: Arc<Process>,
    reloader: Option<Reloader>,
    start: Mutex<Option<Start>>,
}

/// What happens once, when the process serves.
struct Start {
    /// Set when connections are accepted.
    accepting: watch::Receiver<bool>,
    /// The process that waits for it.
    predecessor: Option<Predecessor>,
    on_serving: OnServing,
}

#[async_trait]
impl BackgroundService for Upkeep {
    async fn start(&self, _shutdown: ShutdownWatch) {
        let Ok(mut hangup) = signal(SignalKind::hangup()) else {
            log::error!("SIGHUP cannot be received");
            return;
        };
        let mut draining = self.process.live.load().drain.watch();
        let start = self.start.lock().take();
        if let Some(Start { mut accepting, predecessor, on_serving }) = start {
            is_set(&mut accepting).await;
            self.process.confirm(predecessor).await;
            on_serving();
        }
        let mut fresh = KeptFresh::default();
        fresh.follow(&self.process.live.load_full());
        let mut look = tokio::time::interval(super::reload::LOOK_EVERY);
        let mut resolve = tokio::time::interval(RESOLVE_EVERY);
        let mut sweep = tokio::time::interval(SWEEP_EVERY);
        loop {
            tokio::select! {
                () = is_set(&mut draining) => return,
                _ = hangup.recv() => if let Some(r) = &self.reloader {
                    r.reload(&self.process).await;
                    fresh.follow(&self.process.live.load_full());
                },
                _ = look.tick() => {
                    self.process.live.load().follow_wall_clock();
                    if let Some(r) = &self.reloader {
                        r.look(&self.process).await;
                        fresh.follow(&self.process.live.load_full());
                    }
                },
                _ = sweep.tick() => self.process.idle.sweep(),
                _ = resolve.tick() => {
                    // Not awaited: a slow name server keeps nothing else waiting.
                    self.process.live.load().named_addresses().for_each(|addresses| drop(addresses.refresh()));
                }
            }
        }
    }
}

/// The tasks that keep the credentials of the current generation fresh.
#[derive(Default)]
struct KeptFresh {
    generation: u64,
    tasks: tokio::task::JoinSet<()>,
}

impl KeptFresh {
    fn follow(&mut self, live: &Live) {
        if self.generation == live.generation {
            return;
        }
        self.generation = live.generation;
        self.tasks.abort_all();
        for signer in live.expiring_signers() {
            let signer = signer.clone();
            self.tasks.spawn(async move { signer.keep_fresh().await });
        }
    }
}
