//! The process: listeners, TLS, h2, background work, signals, drain, upgrade.

use super::addresses::RESOLVE_EVERY;
use super::certificate::Shown;
use super::descriptors;
use super::dial::Dialler;
use super::drain::FAREWELL;
use super::front::{self, Door, Options};
use super::intake::MAX_HEADERS;
use super::live::Live;
use super::pool::{Pool, SWEEP_EVERY};
use super::proxy::Gateway;
use super::reload::Reloader;
use super::signals;
use super::upgrade::{self, Heir};
use crate::config::Loaded;
use crate::config::snapshot::Listen;
use crate::limit::wall_clock;
use crate::telemetry::pages::Reloads;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use parking_lot::Mutex;
use pingora_core::apps::HttpServerOptions;
use pingora_core::listeners::{L4BufferSettings, ListenerConfig, tls::TlsSettings};
use pingora_core::protocols::http::v2::server::H2Options;
use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{ExecutionPhase, RunArgs, Server, ShutdownSignal, ShutdownSignalWatch, ShutdownWatch};
use pingora_core::services::background::{BackgroundService, background_service};
use pingora_core::services::listening::Service;
use pingora_proxy::HttpProxy;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, broadcast};
use tokio::time::Instant;

/// How long an HTTP/2 connection without streams is kept.
const H2_IDLE: Duration = Duration::from_secs(120);
/// Streams that one HTTP/2 client connection may have open.
const H2_STREAMS: u32 = 256;
/// Received but unread bytes of one HTTP/2 stream, and of all streams of a connection.
const H2_WINDOW: (u32, u32) = (1 << 20, 4 << 20);
/// Read buffer of a client connection under TLS, whose records come in several reads each. What is read in the clear goes
/// straight to where Pingora wants it.
const READ_BUFFER_OF_TLS: usize = 8 << 10;
/// Unused upstream connections that are kept: so many with TLS, and as many in the clear.
const POOL: usize = 1024;

/// How long Pingora waits for requests in flight: for ever, as the drain ends the process itself, at a time that a reload
/// may change.
const GRACE: u64 = u32::MAX as u64;

/// How long an upgrade waits for the admin address to be free.
const ADMIN_PATIENCE: Duration = Duration::from_secs(5);

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
    /// Whether new requests are welcome: once the listeners are up, and until the process is on its way out.
    pub serving: AtomicBool,
    /// When it began, by the wall clock, in nanoseconds since the epoch …
    pub started: u64,
    /// … and on the clock that durations are taken from.
    pub began: Instant,
    /// Told when the next process is to have the admin address.
    pub admin_leaves: Notify,
    /// What became of reloads, for `/status`.
    pub reloads: Mutex<Reloads>,
    /// Upstream connections in the clear that are not in use.
    pub idle: Arc<Pool>,
}

impl Process {
    /// One that begins now and does not serve yet.
    pub fn new(live: Arc<ArcSwap<Live>>) -> Self {
        Self {
            live,
            serving: AtomicBool::new(false),
            started: wall_clock(),
            began: Instant::now(),
            admin_leaves: Notify::new(),
            reloads: Mutex::default(),
            idle: Arc::new(Pool::new(POOL)),
        }
    }

    /// Pingora does not tell when it listens, so the listeners are asked.
    async fn wait_for_listeners(&self) {
        const AGAIN: Duration = Duration::from_millis(10);
        for listen in self.live.load_full().snapshot.listen.iter().filter(|l| l.address.port() != 0) {
            let mut address = listen.address;
            if address.ip().is_unspecified() {
                address.set_ip(if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
            }
            while tokio::net::TcpStream::connect(address).await.is_err() {
                tokio::time::sleep(AGAIN).await;
            }
        }
        self.serving.store(true, Ordering::Relaxed);
        log::info!("serving");
    }
}

/// Serves until told to stop.
pub fn run(loaded: Loaded, path: Option<PathBuf>, upgrade: bool) -> Ended {
    descriptors::raise();
    signals::claim();
    let Loaded { snapshot, files } = loaded;
    let live = match Live::new(snapshot, None) {
        Ok(live) => Arc::new(live),
        Err(e) => return Ended::CouldNotStart(e),
    };
    let snapshot = &live.snapshot;
    let process = Arc::new(Process::new(Arc::new(ArcSwap::from(live.clone()))));
    let socket = match upgrade::socket(snapshot.server.upgrade_socket.as_deref(), path.as_deref()) {
        Ok(socket) => socket,
        Err(e) if upgrade => return Ended::CouldNotStart(e),
        Err(e) => {
            log::warn!("this process cannot be upgraded: {e}");
            PathBuf::new()
        }
    };
    let addresses = snapshot.listen.iter().map(|l| l.address.to_string()).collect();
    let listeners = match upgrade.then(|| upgrade::inherit(&socket, &addresses)).transpose() {
        Ok(listeners) => listeners,
        Err(e) => return Ended::CouldNotStart(e),
    };
    for address in addresses.iter().filter(|a| listeners.as_ref().is_none_or(|l| l.get(a).is_none())) {
        // Pingora would try for half a minute and then panic.
        if let Err(e) = TcpListener::bind(address) {
            return Ended::CouldNotStart(format!("cannot listen on {address}: {e}"));
        }
    }
    let conf = ServerConf {
        threads: snapshot.server.threads,
        work_stealing: false, // a thread keeps its connections: see benches/README.md for what that saves
        grace_period_seconds: Some(GRACE),
        graceful_shutdown_timeout_seconds: Some(1),
        upstream_keepalive_pool_size: POOL.div_ceil(snapshot.server.threads),
        upgrade_sock: socket.to_string_lossy().into_owned(),
        max_retries: usize::MAX, // the hooks bound the tries
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    // The process before leaves its admin address when it has handed its listeners over.
    let patience = if upgrade { ADMIN_PATIENCE } else { Duration::ZERO };
    if let Err(e) = crate::admin::serve(snapshot.admin, process.clone(), patience) {
        return Ended::CouldNotStart(format!("cannot listen on {} (admin): {e}", snapshot.admin));
    }
    let service = match proxy_service(&server, &process, &snapshot.listen) {
        Ok(service) => service,
        Err(e) => return Ended::CouldNotStart(e),
    };
    server.add_service(Heir { service, listeners });
    let reloader = path.map(|path| Reloader::new(path, files));
    server.add_service(background_service("upkeep", Upkeep { process: process.clone(), reloader }));
    for listen in &snapshot.listen {
        log::info!("listening on {}{}", listen.address, if listen.tls.is_some() { " (TLS)" } else { "" });
    }
    let phases = server.watch_execution_phase();
    server.run(RunArgs { shutdown_signal: Box::new(Signals { process, phases }) });
    crate::telemetry::log::flush();
    Ended::Well
}

fn proxy_service(server: &Server, process: &Arc<Process>, listen: &[Listen]) -> Result<Service<HttpProxy<Gateway, Dialler>>, String> {
    let gateway = Gateway { live: process.live.clone() };
    let mut options = HttpServerOptions::default();
    options.h2c = true;
    options.allow_connect_method_proxying = true; // the gateway refuses it itself, in the shape of its errors
    options.h2_idle_timeout = Some(H2_IDLE);
    let mut h2 = H2Options::new();
    h2.max_concurrent_streams(H2_STREAMS)
        .initial_window_size(H2_WINDOW.0)
        .initial_connection_window_size(H2_WINDOW.1)
        .max_header_list_size(MAX_HEADERS as u32);
    let mut doors = Vec::new();
    for l in listen {
        let Some(identity) = &l.tls else {
            doors.push(Door { address: l.address, tls: None });
            continue;
        };
        let mut settings = TlsSettings::intermediate("", "").map_err(|e| format!("{}: {e}", l.address))?;
        settings.set_cert_resolver(Arc::new(Shown::new(process.live.clone(), l.address, identity.certified.clone())));
        settings.enable_h2();
        doors.push(Door { address: l.address, tls: Some(settings.build()) });
    }
    let mut service = front::service(&server.configuration, gateway, process.clone(), Options { server: options, h2, doors });
    for l in listen {
        let read = if l.tls.is_some() { READ_BUFFER_OF_TLS } else { 0 };
        service.add_listener(ListenerConfig::tcp(l.address.to_string()).l4_buffer(L4BufferSettings::default().read(read)));
    }
    Ok(service)
}

/// What goes on beside the requests: reloads, look-ups, the closing of idle connections.
struct Upkeep {
    process: Arc<Process>,
    reloader: Option<Reloader>,
}

#[async_trait]
impl BackgroundService for Upkeep {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let Ok(mut hangup) = signal(SignalKind::hangup()) else {
            log::error!("SIGHUP cannot be received");
            return;
        };
        self.process.wait_for_listeners().await;
        let mut fresh = KeptFresh::default();
        fresh.follow(&self.process.live.load_full());
        let mut look = tokio::time::interval(super::reload::LOOK_EVERY);
        let mut resolve = tokio::time::interval(RESOLVE_EVERY);
        let mut sweep = tokio::time::interval(SWEEP_EVERY);
        loop {
            tokio::select! {
                _ = shutdown.changed() => return,
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
                    let live = self.process.live.load_full();
                    // Beside the others and this loop: a slow name server keeps nothing else waiting.
                    for addresses in live.named_addresses() {
                        let addresses = addresses.clone();
                        tokio::spawn(async move { addresses.resolve().await });
                    }
                }
            }
        }
    }
}

/// The tasks that keep the credentials of the current generation fresh.
#[derive(Default)]
struct KeptFresh {
    generation: u64,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl KeptFresh {
    fn follow(&mut self, live: &Live) {
        if self.generation == live.generation {
            return;
        }
        self.tasks.drain(..).for_each(|task| task.abort());
        self.generation = live.generation;
        self.tasks.extend(live.expiring_signers().cloned().map(|signer| tokio::spawn(async move { signer.keep_fresh().await })));
    }
}

/// SIGTERM drains, SIGQUIT hands the listeners over, SIGINT stops at once, also while the others are at work.
struct Signals {
    process: Arc<Process>,
    phases: broadcast::Receiver<ExecutionPhase>,
}

#[async_trait]
impl ShutdownSignalWatch for Signals {
    async fn recv(&self) -> ShutdownSignal {
        let (Ok(mut quit), Ok(mut term), Ok(mut int)) =
            (signal(SignalKind::quit()), signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
        else {
            log::error!("signals cannot be received");
            return ShutdownSignal::FastShutdown;
        };
        let what = tokio::select! {
            _ = quit.recv() => ShutdownSignal::GracefulUpgrade,
            _ = term.recv() => ShutdownSignal::GracefulTerminate,
            // Pingora would end its runtimes under listeners that go on trying to accept.
            _ = int.recv() => leave("interrupted"),
        };
        let process = self.process.clone();
        process.serving.store(false, Ordering::Relaxed);
        if matches!(what, ShutdownSignal::GracefulUpgrade) {
            process.admin_leaves.notify_one();
        }
        let phases = self.phases.resubscribe();
        std::thread::spawn(move || leave_when_done(&process, phases));
        tokio::spawn(async move {
            int.recv().await;
            leave("interrupted");
        });
        what
    }
}

/// Ends the process when nothing is left to do, or the time for it is over. It takes requests until the shutdown has
/// begun: an upgrade hands the listeners over first.
fn leave_when_done(process: &Process, mut phases: broadcast::Receiver<ExecutionPhase>) {
    const POLL: Duration = Duration::from_millis(50);
    while !matches!(phases.blocking_recv(), Ok(ExecutionPhase::ShutdownStarted) | Err(broadcast::error::RecvError::Closed)) {}
    let live = process.live.load_full();
    let patience = live.snapshot.server.drain_timeout;
    let began = Instant::now();
    log::info!("draining: {} requests in flight, at most {patience:?} for them", live.drain.present());
    let mut quiet = 0;
    while quiet < 2 {
        if began.elapsed() >= patience && !live.drain.is_over() {
            live.drain.close();
        }
        if began.elapsed() > patience + FAREWELL {
            log::warn!("{} requests are cut off", live.drain.present());
            break;
        }
        std::thread::sleep(POLL);
        quiet = if live.drain.present() == 0 { quiet + 1 } else { 0 };
    }
    leave("drained");
}

fn leave(why: &str) -> ! {
    log::info!("{why}");
    crate::telemetry::log::flush();
    std::process::exit(0)
}
