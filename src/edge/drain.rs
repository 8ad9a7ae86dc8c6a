//! The end of the process: who is still being served, and until when.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// How long requests whose time is over are waited for, to notice it and tell their clients.
pub const FAREWELL: Duration = Duration::from_secs(2);

/// The requests of all generations.
#[derive(Debug, Default)]
pub struct Drain {
    present: AtomicUsize,
    over: AtomicBool,
    bell: Notify,
}

impl Drain {
    /// A request has come in.
    pub fn presence(self: &Arc<Self>) -> Presence {
        self.present.fetch_add(1, Ordering::Relaxed);
        Presence(self.clone())
    }

    /// Requests that have not ended.
    pub fn present(&self) -> usize {
        self.present.load(Ordering::Relaxed)
    }

    /// The time for what is still being answered is over: whoever waits is woken and told.
    pub fn close(&self) {
        self.over.store(true, Ordering::Release);
        self.bell.notify_waiters();
    }

    /// Whether it is.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Resolves when it is, if it is awaited before.
    pub fn closed(&self) -> Notified<'_> {
        self.bell.notified()
    }
}

/// Counts a request from its headers to its line in the log.
pub struct Presence(Arc<Drain>);

impl Drop for Presence {
    fn drop(&mut self) {
        self.0.present.fetch_sub(1, Ordering::Relaxed);
    }
}
