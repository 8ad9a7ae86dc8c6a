//! The end of the process: which requests and connections are still served, and until when.
//!
//! ```text
//! Serving --begin()--> Draining --close()--> Over
//! ```

use pingora_core::server::ShutdownWatch;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::sync::watch;

/// How long requests whose time is over are waited for, to notice it and answer their clients.
pub const FAREWELL: Duration = Duration::from_secs(2);
/// How long a client connection without a request stays open in a drain. A client that has not seen the drain yet may
/// send a request on it; RFC 9112, 9.3.1 and 9.6: it cannot repeat a POST if the connection closes at that moment.
pub const IDLE_GRACE: Duration = Duration::from_secs(2);

/// How near the process is to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Nothing ends.
    Serving,
    /// No connection is accepted or kept any more; requests are served.
    Draining,
    /// The time for requests in flight is over.
    Over,
}

/// The requests and client connections of all generations.
#[derive(Debug, Default)]
pub struct Drain {
    requests: AtomicUsize,
    connections: AtomicUsize,
    phase: AtomicU8,
    bell: Notify,
    begun: watch::Sender<bool>,
}

impl Drain {
    /// A request has come in.
    pub fn presence(self: &Arc<Self>) -> Presence {
        self.requests.fetch_add(1, Ordering::Relaxed);
        Presence(self.clone())
    }

    /// Requests that have not ended.
    pub fn present(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// Counts a client connection that has been accepted; `None` where `most` are open already.
    pub fn connection(self: &Arc<Self>, most: usize) -> Option<Connection> {
        let before = self.connections.fetch_add(1, Ordering::Relaxed);
        let connection = Connection(self.clone());
        (before < most).then_some(connection)
    }

    /// Client connections that are open.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Begins the drain.
    pub fn begin(&self) {
        self.enter(Phase::Draining);
        self.begun.send_replace(true);
    }

    /// Ends the time for requests in flight; everything that waits for a provider is woken.
    pub fn close(&self) {
        self.enter(Phase::Over);
    }

    fn enter(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::AcqRel);
        self.bell.notify_waiters();
    }

    /// The current phase.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Serving,
            1 => Phase::Draining,
            _ => Phase::Over,
        }
    }

    /// Whether the time for requests in flight is over.
    pub fn is_over(&self) -> bool {
        self.phase() == Phase::Over
    }

    /// Resolves at the next change of the phase, if it is polled before.
    pub fn changed(&self) -> Notified<'_> {
        self.bell.notified()
    }

    /// Becomes true when the drain begins, in the form that Pingora's services and connections watch.
    pub fn watch(&self) -> ShutdownWatch {
        self.begun.subscribe()
    }
}

/// Waits until a flag is set, or nobody can set it any more.
pub async fn is_set(flag: &mut watch::Receiver<bool>) {
    drop(flag.wait_for(|set| *set).await);
}

/// Counts a request from its headers to its line in the log.
pub struct Presence(Arc<Drain>);

impl Drop for Presence {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts a client connection until it is closed.
pub struct Connection(Arc<Drain>);

impl Drop for Connection {
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
