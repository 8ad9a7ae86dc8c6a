//! What goes wrong with the shared store: a warning at a bounded rate, and the last failure for `/status`.

use crate::limit::rule::StoreFailure;
use crate::limit::wall_clock;
use crate::redact::redact_to;
use ::redis::RedisError;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// The same failure is logged once in this time …
const SAME: Duration = Duration::from_secs(60);
/// … and another one not sooner than this after the last.
const OTHER: Duration = Duration::from_secs(1);
/// Longest message of a failure that is kept, in bytes.
const MAX_MESSAGE: usize = 512;

/// The failures of one store, whether of decisions or of the connection.
#[derive(Default)]
pub struct Trouble {
    failing: AtomicBool,
    last: Mutex<Last>,
}

#[derive(Default)]
struct Last {
    failure: Option<(u64, String)>,
    /// Whether that was a connection which could not be made or used.
    unconnected: bool,
    /// When a warning was last written, and of which kind of failure.
    logged: Option<(Instant, &'static str)>,
    /// Failures since then.
    unlogged: u64,
    /// Whether there is a warning that no line about the recovery has followed.
    warned: bool,
    /// The word of `on_store_failure`.
    policy: &'static str,
}

/// Why the store decided nothing.
pub enum Failure<'a> {
    /// It answered with an error, or its connection broke.
    Error(&'a RedisError),
    /// It did not answer within this time.
    Late(Duration),
    /// There is no connection, for the reason that [`Failure::Disconnected`] gave.
    Unconnected,
    /// The connection cannot be made or used.
    Disconnected(&'a RedisError),
}

impl Failure<'_> {
    /// What makes two failures the same for the log.
    fn kind(&self) -> &'static str {
        const CODES: [&str; 10] =
            ["NOPERM", "WRONGTYPE", "OOM", "READONLY", "MISCONF", "NOAUTH", "WRONGPASS", "CLUSTERDOWN", "MOVED", "NOREPLICAS"];
        match self {
            Self::Error(error) => error.code().and_then(|code| CODES.into_iter().find(|known| *known == code)).unwrap_or("error"),
            Self::Late(_) => "late",
            Self::Unconnected | Self::Disconnected(_) => "unconnected",
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Error(error) | Self::Disconnected(error) => describe(error),
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
    /// What requests get from now on while the store fails.
    pub fn set_policy(&self, policy: StoreFailure) {
        self.last.lock().policy = policy.name();
    }

    /// The store has decided nothing, or its connection is gone. Logs the cause, the same one once in a minute.
    pub fn failed(&self, address: &str, failure: &Failure<'_>) {
        let known = self.failing.swap(true, Relaxed);
        let mut last = self.last.lock();
        // The cause of a missing connection was noted when it broke or could not be made.
        if !matches!(failure, Failure::Unconnected) || !known {
            last.failure = Some((wall_clock(), failure.message()));
        }
        let kind = failure.kind();
        last.unconnected = kind == Failure::Unconnected.kind();
        let now = Instant::now();
        let pause = |before| if before == kind { SAME } else { OTHER };
        if last.logged.is_some_and(|(at, before)| now.duration_since(at) < pause(before)) {
            last.unlogged += 1;
            return;
        }
        let more = std::mem::take(&mut last.unlogged);
        last.logged = Some((now, kind));
        last.warned = true;
        let (policy, cause) = (last.policy, last.failure.as_ref().map(|(_, cause)| cause.clone()).unwrap_or_default());
        drop(last);
        log::warn!(
            "limit store {address} failed: {cause}; applying on_store_failure={policy} ({more} more failures since the last such line)"
        );
    }

    /// The store has decided.
    pub fn answered(&self, address: &str) {
        if self.failing.load(Relaxed) {
            self.recovered(address, &mut self.last.lock());
        }
    }

    /// The connection is there again. Says nothing of a store that refuses to decide.
    pub fn connected(&self, address: &str) {
        let mut last = self.last.lock();
        if last.unconnected {
            self.recovered(address, &mut last);
        }
    }

    fn recovered(&self, address: &str, last: &mut Last) {
        self.failing.store(false, Relaxed);
        last.unconnected = false;
        if std::mem::take(&mut last.warned) {
            log::info!("limit store {address} available again");
        }
    }

    /// Whether the last decision failed, or the last try to connect.
    pub fn is_failing(&self) -> bool {
        self.failing.load(Relaxed)
    }

    /// When the last failure was, in nanoseconds since the Unix epoch, and what it was.
    pub fn last(&self) -> Option<(u64, String)> {
        self.last.lock().failure.clone()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]
mod tests {
    use super::*;

    fn refused() -> RedisError {
        std::io::Error::from(std::io::ErrorKind::ConnectionRefused).into()
    }

    fn cause(trouble: &Trouble) -> String {
        trouble.last().map(|(_, cause)| cause).unwrap_or_default()
    }

    #[test]
    fn a_request_without_a_connection_shows_why_there_is_none() {
        let trouble = Trouble::default();
        trouble.failed("redis:6379", &Failure::Unconnected);
        assert_eq!(cause(&trouble), "not connected");
        trouble.failed("redis:6379", &Failure::Disconnected(&refused()));
        trouble.failed("redis:6379", &Failure::Unconnected);
        assert!(trouble.is_failing() && cause(&trouble).contains("refused"), "{}", cause(&trouble));
        trouble.failed("redis:6379", &Failure::Late(Duration::from_millis(20)));
        assert_eq!(cause(&trouble), "no answer within 20ms");
    }

    #[test]
    fn all_failures_of_a_lost_connection_are_one_warning() {
        let trouble = Trouble::default();
        trouble.failed("redis:6379", &Failure::Disconnected(&refused()));
        (0..5).for_each(|_| trouble.failed("redis:6379", &Failure::Unconnected));
        let last = trouble.last.lock();
        assert_eq!((last.logged.map(|(_, kind)| kind), last.unlogged), (Some("unconnected"), 5));
    }

    #[test]
    fn a_connection_ends_the_trouble_of_a_missing_one_only() {
        let trouble = Trouble::default();
        trouble.failed("redis:6379", &Failure::Disconnected(&refused()));
        trouble.connected("redis:6379");
        assert!(!trouble.is_failing());
        trouble.failed("redis:6379", &Failure::Late(Duration::from_millis(20)));
        trouble.connected("redis:6379");
        assert!(trouble.is_failing(), "it can be reached, and has decided nothing yet");
        trouble.answered("redis:6379");
        assert!(!trouble.is_failing());
    }
}
