//! Signals and shutdown: SIGTERM drains, SIGQUIT upgrades, SIGINT exits at once, SIGHUP reloads ([`super::reload`]), SIGUSR1 and
//! SIGUSR2 are ignored.
//!
//! Pingora's own shutdown is not used: it stops accepting before a new process has the listeners, and closes idle client
//! connections at once. [`Signals::recv`] never returns; the process exits here.

use super::drain::{CLOSE_GRACE, Drain, IDLE_GRACE};
use super::handover::hand_over;
use super::serve::Process;
use crate::system;
use crate::telemetry::pages::Upgrade;
use crate::units;
use async_trait::async_trait;
use pingora_core::server::{ShutdownSignal, ShutdownSignalWatch};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Exit code of a process whose predecessor withdrew the listeners; the same as of one that cannot listen.
const NOT_STARTED: i32 = 3;

/// How long the last traces may take at the end of a drain, and after SIGINT.
const DRAIN_FLUSH: Duration = Duration::from_secs(5);
/// See [`DRAIN_FLUSH`].
const INTERRUPT_FLUSH: Duration = Duration::from_secs(1);

/// Handles signals.
pub struct Signals {
    /// This process.
    pub process: Arc<Process>,
}

/// Why the process drains.
#[derive(Clone, Copy, PartialEq, Eq)]
enum DrainReason {
    /// SIGTERM.
    Terminated,
    /// A new process has taken over.
    Upgraded,
    /// The previous process has withdrawn its listeners.
    Withdrawn,
}

#[async_trait]
impl ShutdownSignalWatch for Signals {
    async fn recv(&self) -> ShutdownSignal {
        let (Ok(quit), Ok(term), Ok(mut int)) =
            (signal(SignalKind::quit()), signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
        else {
            log::error!("signals cannot be received");
            return ShutdownSignal::FastShutdown;
        };
        tokio::select! {
            _ = int.recv() => exit(&self.process, "interrupted", (0, INTERRUPT_FLUSH)),
            () = self.until_drain(quit, term) => {}
        }
        int.recv().await;
        exit(&self.process, "interrupted", (0, INTERRUPT_FLUSH))
    }
}

impl Signals {
    /// Waits for a reason to drain, and starts the drain.
    async fn until_drain(&self, quit: Signal, term: Signal) {
        let process = &self.process;
        let reason = self.drain_reason(quit, term).await;
        if reason == DrainReason::Upgraded {
            process.admin_released.send_replace(true);
        } else {
            process.serving.store(false, Ordering::Relaxed);
        }
        let live = process.live.load_full();
        let delay = live.snapshot.server.drain_delay;
        if reason == DrainReason::Terminated && !delay.is_zero() {
            log::info!("not ready; draining starts in {delay:?}");
            tokio::time::sleep(delay).await;
        }
        process.sockets.lock().take();
        live.drain.begin();
        let process = process.clone();
        std::thread::spawn(move || exit_when_drained(&process, if reason == DrainReason::Withdrawn { NOT_STARTED } else { 0 }));
    }

    async fn drain_reason(&self, mut quit: Signal, mut term: Signal) -> DrainReason {
        loop {
            tokio::select! {
                _ = term.recv() => return DrainReason::Terminated,
                () = self.process.withdrawn.notified() => return DrainReason::Withdrawn,
                _ = quit.recv() => tokio::select! {
                    upgraded = self.upgrade() => if upgraded { return DrainReason::Upgraded },
                    _ = term.recv() => return DrainReason::Terminated,
                },
            }
        }
    }

    /// Hands the listeners over to a new process. `false` if that failed and this process continues to serve.
    async fn upgrade(&self) -> bool {
        let process = &self.process;
        let live = process.live.load_full();
        let time = live.snapshot.server.upgrade_timeout;
        let sockets = process.sockets.lock().clone();
        let (Some(path), Some(sockets)) = (&process.upgrade_socket, sockets) else {
            return self.upgrade_failed("there is no upgrade socket; set server.upgrade_socket and restart".to_owned());
        };
        log::info!("upgrade: waiting for a new process at {}, timeout {time:?}", path.display());
        *process.upgrade.lock() = Upgrade::Waiting { since: system::wall_clock() };
        match hand_over(path, &sockets, time).await {
            Ok(()) => {
                log::info!("upgrade: the new process serves");
                true
            }
            Err(problem) => self.upgrade_failed(problem),
        }
    }

    fn upgrade_failed(&self, problem: String) -> bool {
        log::error!("upgrade failed, this process continues to serve: {problem}");
        *self.process.upgrade.lock() = Upgrade::Failed { at: system::wall_clock(), problem };
        false
    }
}

/// Exits when the drain is complete, or after `server.drain_timeout`.
#[expect(clippy::disallowed_methods, reason = "runs on its own thread")]
fn exit_when_drained(process: &Process, code: i32) {
    const POLL: Duration = Duration::from_millis(50);
    let live = process.live.load_full();
    let (drain, server) = (&live.drain, &live.snapshot.server);
    let time = server.drain_timeout;
    let began = system::now();
    log::info!("draining {}, timeout {time:?}", units::count(drain.requests(), "request"));
    let mut idle = IdleCheck { headers: server.header_timeout, since: None };
    while !idle.is_drained(drain, system::now()) {
        if system::since(began) >= time && !drain.is_closed() {
            log::warn!("drain timeout after {time:?}: aborting {}", units::count(drain.requests(), "request"));
            drain.close();
        }
        if system::since(began) > time + CLOSE_GRACE {
            log::warn!("exiting with {} that could not be aborted", units::count(drain.requests(), "request"));
            break;
        }
        std::thread::sleep(POLL);
    }
    exit(process, "drained", (code, DRAIN_FLUSH))
}

/// Detects the end of a drain.
struct IdleCheck {
    /// `server.header_timeout`.
    headers: Duration,
    /// Since when there are no requests.
    since: Option<Instant>,
}

impl IdleCheck {
    /// Covers the time between the end of a request and its log line, and between two requests on a connection.
    const SETTLE: Duration = Duration::from_millis(50);

    /// Whether there have been no requests for long enough.
    fn is_drained(&mut self, drain: &Drain, now: Instant) -> bool {
        if drain.requests() > 0 {
            self.since = None;
            return false;
        }
        let idle = now.saturating_duration_since(*self.since.get_or_insert(now));
        // Idle connections are closed by their own timeouts; HTTP/2 ones when their clients react to GOAWAY.
        let wait = if drain.connections() == 0 || drain.is_closed() { Self::SETTLE } else { IDLE_GRACE + self.headers };
        idle >= wait
    }
}

/// Disables the default action of SIGUSR1, SIGUSR2 and SIGHUP, which is to terminate the process: log rotation sends them.
/// tokio installs its handler permanently with the first receiver, which need not be kept.
pub fn ignore_unused() {
    let ignored = tokio::runtime::Builder::new_current_thread().enable_all().build().and_then(|runtime| {
        let _entered = runtime.enter();
        [SignalKind::user_defined1(), SignalKind::user_defined2(), SignalKind::hangup()]
            .into_iter()
            .try_for_each(|kind| signal(kind).map(drop))
    });
    if let Err(e) = ignored {
        log::error!("SIGUSR1, SIGUSR2 and an early SIGHUP will terminate the process: {e}");
    }
}

#[expect(clippy::disallowed_methods, reason = "drained, and traces and the log are flushed")]
fn exit(process: &Process, why: &str, (code, flush): (i32, Duration)) -> ! {
    log::info!("{why}");
    if let Some(tracer) = &process.live.load().tracer {
        tracer.flush(flush);
    }
    crate::telemetry::log::flush();
    std::process::exit(code)
}
