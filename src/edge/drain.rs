//! The end of the process: who is still being served, and until when.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::time::Instant;

/// How often a request under way looks whether its time is over: nobody can wake all of them at once, and this costs
/// a request that ends sooner nothing.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long requests whose time is over are waited for, to notice it and tell their clients.
pub const FAREWELL: Duration = Duration::from_secs(2);

/// The requests of all generations.
#[derive(Default)]
pub struct Drain {
    present: AtomicUsize,
    closes: OnceLock<Instant>,
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

    /// Sets when the last answers are broken off; the first time counts.
    pub fn close_at(&self, at: Instant) {
        self.closes.get_or_init(|| at);
    }

    /// When the last answers are broken off, once that is known.
    pub fn closes(&self) -> Option<Instant> {
        self.closes.get().copied()
    }
}

/// Counts a request from its headers to its line in the log.
pub struct Presence(Arc<Drain>);

impl Drop for Presence {
    fn drop(&mut self) {
        self.0.present.fetch_sub(1, Ordering::Relaxed);
    }
}
