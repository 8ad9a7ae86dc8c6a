//! Drain state of the process: the requests and connections in flight, and the phase of the shutdown.
//!
//! ```text
//! Serving --begin()--> Draining --close()--> Closed
//! ```

use pingora_core::server::ShutdownWatch;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::sync::watch;

/// Time after [`Drain::close`] in which requests in flight respond with an error.
pub const CLOSE_GRACE: Duration = Duration::from_secs(2);
/// How long an idle client connection stays open in a drain. A request may be on its way, and a client must not repeat a
/// POST if the connection closes at that moment (RFC 9112, sections 9.3.1 and 9.6).
pub const IDLE_GRACE: Duration = Duration::from_secs(2);

/// Phase of the shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// No shutdown.
    Serving,
    /// No connections are accepted, idle ones are closed; requests are served.
    Draining,
    /// Requests in flight are aborted.
    Closed,
}

/// The requests and client connections of all generations.
#[derive(Debug, Default)]
pub struct Drain {
    requests: AtomicUsize,
    connections: AtomicUsize,
    phase: AtomicU8,
    phase_changed: Notify,
    begun: watch::Sender<bool>,
}

impl Drain {
    /// Counts a request until the guard is dropped.
    pub fn request(self: &Arc<Self>) -> RequestGuard {
        self.requests.fetch_add(1, Ordering::Relaxed);
        RequestGuard(self.clone())
    }

    /// Number of requests in flight.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// Counts a client connection until the guard is dropped; `None` if `max` are open.
    pub fn connection(self: &Arc<Self>, max: usize) -> Option<ConnectionGuard> {
        let before = self.connections.fetch_add(1, Ordering::Relaxed);
        let guard = ConnectionGuard(self.clone());
        (before < max).then_some(guard)
    }

    /// Number of open client connections.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Starts the drain.
    pub fn begin(&self) {
        self.enter(Phase::Draining);
        self.begun.send_replace(true);
    }

    /// Aborts requests in flight and wakes everything that waits for a provider.
    pub fn close(&self) {
        self.enter(Phase::Closed);
    }

    fn enter(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::AcqRel);
        self.phase_changed.notify_waiters();
    }

    /// The current phase.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Serving,
            1 => Phase::Draining,
            _ => Phase::Closed,
        }
    }

    /// Whether requests in flight are aborted.
    pub fn is_closed(&self) -> bool {
        self.phase() == Phase::Closed
    }

    /// Resolves at the next change of the phase, if it is polled before.
    pub fn changed(&self) -> Notified<'_> {
        self.phase_changed.notified()
    }

    /// True once the drain has started; the type that Pingora's services and connections watch.
    pub fn watch(&self) -> ShutdownWatch {
        self.begun.subscribe()
    }
}

/// Waits until the flag is set or its sender is dropped.
pub async fn is_set(flag: &mut watch::Receiver<bool>) {
    drop(flag.wait_for(|set| *set).await);
}

/// Counts a request, from its headers to its access log line.
pub struct RequestGuard(Arc<Drain>);

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts an open client connection.
pub struct ConnectionGuard(Arc<Drain>);

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_connections_are_open_than_allowed_and_a_closed_one_makes_room() {
        let drain = Arc::new(Drain::default());
        let open: Vec<_> = (0..3).map(|_| drain.connection(2)).collect();
        assert_eq!(open.iter().map(Option::is_some).collect::<Vec<_>>(), [true, true, false]);
        assert_eq!(drain.connections(), 2);
        drop(open);
        assert!(drain.connection(1).is_some() && drain.connection(0).is_none());
        assert_eq!(drain.connections(), 0);
    }
}
