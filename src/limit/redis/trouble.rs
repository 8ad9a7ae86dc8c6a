//! What goes wrong with the shared store: a warning at a bounded rate, and the last failure for `/status`.

use crate::limit::wall_clock;
use crate::redact::redact_to;
use ::redis::RedisError;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// The same failure is logged once in this time …
const SAME: Duration = Duration::from_secs(10);
/// … and another one not sooner than this after the last.
const OTHER: Duration = Duration::from_secs(1);
/// Longest message of a failure that is kept, in bytes.
const MAX_MESSAGE: usize = 512;

/// The failures of one store.
#[derive(Default)]
pub struct Trouble {
    failing: AtomicBool,
    last: Mutex<Last>,
}

#[derive(Default)]
struct Last {
    failure: Option<(u64, String)>,
    /// When a line was last written, and of which failure.
    logged: Option<(Instant, &'static str)>,
    /// Failures since then.
    unlogged: u64,
}

/// Why the store decided nothing.
pub enum Failure<'a> {
    /// It answered with an error, or its connection broke.
    Error(&'a RedisError),
    /// It did not answer within this time.
    Late(Duration),
    /// There is no connection.
    Unconnected,
}

impl Failure<'_> {
    /// What makes two failures the same for the log.
    fn kind(&self) -> &'static str {
        const CODES: [&str; 10] =
            ["NOPERM", "WRONGTYPE", "OOM", "READONLY", "MISCONF", "NOAUTH", "WRONGPASS", "CLUSTERDOWN", "MOVED", "NOREPLICAS"];
        match self {
            Self::Error(error) => error.code().and_then(|code| CODES.into_iter().find(|known| *known == code)).unwrap_or("error"),
            Self::Late(_) => "late",
            Self::Unconnected => "unconnected",
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Error(error) => describe(error),
            Self::Late(timeout) => format!("no answer within {timeout:?}"),
            Self::Unconnected => "not connected".to_owned(),
        }
    }
}

/// Whether the script ended before it wrote anything, so that Redis and this node still agree: `decide.lua` reads all limits before
/// it changes one, and a server without memory refuses its first write. Permissions may be missing for a later write.
pub fn changed_nothing(error: &RedisError) -> bool {
    matches!(error.code(), Some("OOM" | "WRONGTYPE"))
}

/// The text of an error, without secrets; one of the server's begins with its code.
pub fn describe(error: &RedisError) -> String {
    let refused = error.clone().into_server_errors().and_then(|all| {
        let (_, first) = all.first()?;
        Some(format!("{} {}", first.code(), first.details().unwrap_or_default()))
    });
    let text: String = refused.unwrap_or_else(|| error.to_string()).chars().filter(|c| !c.is_control()).collect();
    redact_to(&text, MAX_MESSAGE).into_owned()
}

impl Trouble {
    /// The store has decided nothing.
    pub fn failed(&self, address: &str, failure: &Failure<'_>) {
        self.failing.store(true, Relaxed);
        let mut last = self.last.lock();
        // What a missing connection is due to was noted when it could not be made.
        if !matches!(failure, Failure::Unconnected) || last.failure.is_none() {
            last.failure = Some((wall_clock(), failure.message()));
        }
        let (now, kind) = (Instant::now(), failure.kind());
        let pause = |before| if before == kind { SAME } else { OTHER };
        if last.logged.is_some_and(|(at, before)| now.duration_since(at) < pause(before)) {
            last.unlogged += 1;
            return;
        }
        let more = std::mem::take(&mut last.unlogged);
        last.logged = Some((now, kind));
        drop(last);
        log::warn!(
            "limit store {address} failed: {}; applying on_store_failure ({more} more failures since the last such line)",
            failure.message()
        );
    }

    /// The connection cannot be made or used; the caller logs it.
    pub fn noted(&self, error: &RedisError) {
        self.failing.store(true, Relaxed);
        self.last.lock().failure = Some((wall_clock(), Failure::Error(error).message()));
    }

    /// The store has decided.
    pub fn answered(&self) {
        if self.failing.load(Relaxed) {
            self.failing.store(false, Relaxed);
        }
    }

    /// Whether the last decision failed.
    pub fn is_failing(&self) -> bool {
        self.failing.load(Relaxed)
    }

    /// When the last failure was, in nanoseconds since the Unix epoch, and what it was.
    pub fn last(&self) -> Option<(u64, String)> {
        self.last.lock().failure.clone()
    }
}
