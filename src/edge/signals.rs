//! Signals, and the end of the process: SIGTERM drains, SIGQUIT upgrades, SIGINT stops at once, also during the others;
//! SIGHUP reloads ([`super::reload`]), SIGUSR1 and SIGUSR2 do nothing.
//!
//! Pingora's own shutdown is never started. It stops accepting whether or not a successor has the listeners, and closes
//! every client connection that waits for a request; so [`Signals::recv`] does not return, and the process ends here.

use super::drain::{Drain, FAREWELL, IDLE_GRACE};
use super::handover::hand_over;
use super::serve::Process;
use crate::system;
use crate::telemetry::pages::Upgrade;
use async_trait::async_trait;
use pingora_core::server::{ShutdownSignal, ShutdownSignalWatch};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Exit code of a process that could not take over, as of one that could not listen.
const NOT_STARTED: i32 = 3;

/// Waits for signals and does what they ask for.
pub struct Signals {
    /// The process that they are sent to.
    pub process: Arc<Process>,
}

/// Why the process ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// SIGTERM.
    Terminated,
    /// A successor serves.
    Succeeded,
    /// The process before has withdrawn its listeners.
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
            _ = int.recv() => leave("interrupted", 0),
            () = self.until_drain(quit, term) => {}
        }
        int.recv().await;
        leave("interrupted", 0)
    }
}

impl Signals {
    /// Serves until there is a reason to end, and begins the drain.
    async fn until_drain(&self, quit: Signal, term: Signal) {
        let process = &self.process;
        let end = self.end(quit, term).await;
        if end == End::Succeeded {
            process.admin_released.send_replace(true);
        } else {
            process.serving.store(false, Ordering::Relaxed);
        }
        let live = process.live.load_full();
        let delay = live.snapshot.server.drain_delay;
        if end == End::Terminated && !delay.is_zero() {
            log::info!("not ready; the drain begins in {delay:?}");
            tokio::time::sleep(delay).await;
        }
        process.sockets.lock().take();
        live.drain.begin();
        let process = process.clone();
        std::thread::spawn(move || leave_when_done(&process, if end == End::Withdrawn { NOT_STARTED } else { 0 }));
    }

    async fn end(&self, mut quit: Signal, mut term: Signal) -> End {
        loop {
            tokio::select! {
                _ = term.recv() => return End::Terminated,
                () = self.process.withdrawn.notified() => return End::Withdrawn,
                _ = quit.recv() => tokio::select! {
                    upgraded = self.upgrade() => if upgraded { return End::Succeeded },
                    _ = term.recv() => return End::Terminated,
                },
            }
        }
    }

    /// Hands the listeners to a successor; false where none serves, and this process continues.
    async fn upgrade(&self) -> bool {
        let process = &self.process;
        let live = process.live.load_full();
        let time = live.snapshot.server.upgrade_timeout;
        let sockets = process.sockets.lock().clone();
        let (Some(path), Some(sockets)) = (&process.upgrade_socket, sockets) else {
            return self.upgrade_failed("there is no upgrade socket; set server.upgrade_socket and restart".to_owned());
        };
        log::info!("upgrade: waiting {time:?} for a successor at {}", path.display());
        *process.upgrade.lock() = Upgrade::Waiting { since: system::wall_clock() };
        match hand_over(path, &sockets, time).await {
            Ok(()) => {
                log::info!("upgrade: a successor serves");
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

/// Ends the process when nothing is left to do, or the time for it is over.
#[expect(clippy::disallowed_methods, reason = "a thread of its own")]
fn leave_when_done(process: &Process, code: i32) {
    const POLL: Duration = Duration::from_millis(50);
    let live = process.live.load_full();
    let (drain, server) = (&live.drain, &live.snapshot.server);
    let time = server.drain_timeout;
    let began = system::now();
    log::info!("draining {} requests, timeout {time:?}", drain.present());
    let mut quiet = Quiet { headers: server.header_timeout, since: None };
    while !quiet.is_enough(drain, system::now()) {
        if system::since(began) >= time && !drain.is_over() {
            drain.close();
        }
        if system::since(began) > time + FAREWELL {
            log::warn!("{} requests are cut off", drain.present());
            break;
        }
        std::thread::sleep(POLL);
    }
    leave("drained", code)
}

/// Whether there has been nothing to do for long enough.
struct Quiet {
    /// How long a client may take for the headers of a request.
    headers: Duration,
    since: Option<Instant>,
}

impl Quiet {
    /// Between the end of a request and the last bytes of its log line, and between two requests of a connection.
    const SETTLE: Duration = Duration::from_millis(50);

    fn is_enough(&mut self, drain: &Drain, now: Instant) -> bool {
        if drain.present() > 0 {
            self.since = None;
            return false;
        }
        let quiet = now.saturating_duration_since(*self.since.get_or_insert(now));
        // Connections end by deadlines of their own; those of HTTP/2 end when their clients have seen GOAWAY, if they do.
        let wait = if drain.connections() == 0 || drain.is_over() { Self::SETTLE } else { IDLE_GRACE + self.headers };
        quiet >= wait
    }
}

/// SIGUSR1 and SIGUSR2, which log rotation sends to other servers, have no meaning here; SIGHUP has one as soon as the
/// process serves. The default action of all three is to end the process. tokio replaces it for good with the first
/// receiver, which need not be kept.
pub fn claim() {
    let claimed = tokio::runtime::Builder::new_current_thread().enable_all().build().and_then(|runtime| {
        let _entered = runtime.enter();
        [SignalKind::user_defined1(), SignalKind::user_defined2(), SignalKind::hangup()]
            .into_iter()
            .try_for_each(|kind| signal(kind).map(drop))
    });
    if let Err(e) = claimed {
        log::error!("SIGUSR1, SIGUSR2 and an early SIGHUP will end the process: {e}");
    }
}

#[expect(clippy::disallowed_methods, reason = "no request is left, and the log is written")]
fn leave(why: &str, code: i32) -> ! {
    log::info!("{why}");
    crate::telemetry::log::flush();
    std::process::exit(code)
}
