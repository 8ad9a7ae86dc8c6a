//! Health of the shared store: rate-limited warnings, and the last failure for `/status`.

use crate::limit::rule::StoreFailure;
use crate::redact::redact_to;
use crate::system;
use ::redis::RedisError;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Interval between warnings of the same kind.
const SAME_KIND_INTERVAL: Duration = Duration::from_secs(60);
/// Minimum interval between any two warnings.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum length of a stored message, in bytes.
const MAX_MESSAGE: usize = 512;

/// Failures of one store, in decisions and connections.
#[derive(Default)]
pub struct StoreHealth {
    failing: AtomicBool,
    last: Mutex<Last>,
}

#[derive(Default)]
struct Last {
    failure: Option<(u64, String)>,
    /// Whether the last failure was of the connection.
    of_connection: bool,
    /// Time and kind of the last warning.
    logged: Option<(Instant, &'static str)>,
    /// Failures since the last warning.
    suppressed: u64,
    /// Whether the recovery has to be logged.
    warned: bool,
    /// Value of `on_store_failure`.
    policy: &'static str,
}

/// Why the store made no decision.
pub enum StoreError<'a> {
    /// An error reply, or a broken connection.
    Error(&'a RedisError),
    /// No reply within this time.
    Timeout(Duration),
    /// Not connected; [`StoreError::ConnectFailed`] reported why.
    NotConnected,
    /// Connecting or registering failed.
    ConnectFailed(&'a RedisError),
}

impl StoreError<'_> {
    /// Failures of the same kind share one warning.
    fn kind(&self) -> &'static str {
        const CODES: [&str; 10] =
            ["NOPERM", "WRONGTYPE", "OOM", "READONLY", "MISCONF", "NOAUTH", "WRONGPASS", "CLUSTERDOWN", "MOVED", "NOREPLICAS"];
        match self {
            Self::Error(error) => error.code().and_then(|code| CODES.into_iter().find(|known| *known == code)).unwrap_or("error"),
            Self::Timeout(_) => "late",
            Self::NotConnected | Self::ConnectFailed(_) => "unconnected",
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Error(error) | Self::ConnectFailed(error) => describe(error),
            Self::Timeout(timeout) => format!("no answer within {timeout:?}"),
            Self::NotConnected => "not connected".to_owned(),
        }
    }
}

/// Whether the script failed before its first write, so that Redis and this node still agree. `decide.lua` reads all
/// limits first, and a server out of memory rejects the first write. Missing permissions may affect a later one.
pub fn changed_nothing(error: &RedisError) -> bool {
    matches!(error.code(), Some("OOM" | "WRONGTYPE"))
}

/// The error text without secrets. A server error begins with its code.
pub fn describe(error: &RedisError) -> String {
    let refused = error.clone().into_server_errors().and_then(|all| {
        let (_, first) = all.first()?;
        Some(format!("{} {}", first.code(), first.details().unwrap_or_default()))
    });
    let text: String = refused.unwrap_or_else(|| error.to_string()).chars().filter(|c| !c.is_control()).collect();
    redact_to(&text, MAX_MESSAGE).into_owned()
}

impl StoreHealth {
    /// Sets the policy that warnings name.
    pub fn set_policy(&self, policy: StoreFailure) {
        self.last.lock().policy = policy.name();
    }

    /// Records a failure and logs it, at most once a minute for the same kind.
    pub fn record_failure(&self, address: &str, failure: &StoreError<'_>) {
        let known = self.failing.swap(true, Relaxed);
        let mut last = self.last.lock();
        // [`StoreError::NotConnected`] does not replace the cause recorded earlier.
        if !matches!(failure, StoreError::NotConnected) || !known {
            last.failure = Some((system::wall_clock(), failure.message()));
        }
        let kind = failure.kind();
        last.of_connection = kind == StoreError::NotConnected.kind();
        let now = system::now();
        let pause = |before| if before == kind { SAME_KIND_INTERVAL } else { MIN_INTERVAL };
        if last.logged.is_some_and(|(at, before)| now.duration_since(at) < pause(before)) {
            last.suppressed += 1;
            return;
        }
        let more = std::mem::take(&mut last.suppressed);
        last.logged = Some((now, kind));
        last.warned = true;
        let (policy, cause) = (last.policy, last.failure.as_ref().map(|(_, cause)| cause.clone()).unwrap_or_default());
        drop(last);
        let more = if more == 0 { String::new() } else { format!(" ({more} more not logged)") };
        log::warn!("limit store {address} failed: {cause}; applying on_store_failure={policy}{more}");
    }

    /// Records a decision.
    pub fn record_decision(&self, address: &str) {
        if self.failing.load(Relaxed) {
            self.recovered(address, &mut self.last.lock());
        }
    }

    /// Records a connection. A store that rejects decisions stays failing.
    pub fn record_connection(&self, address: &str) {
        let mut last = self.last.lock();
        if last.of_connection {
            self.recovered(address, &mut last);
        }
    }

    fn recovered(&self, address: &str, last: &mut Last) {
        self.failing.store(false, Relaxed);
        last.of_connection = false;
        if std::mem::take(&mut last.warned) {
            log::info!("limit store {address} available again");
        }
    }

    /// Whether the last decision or connection attempt failed.
    pub fn is_failing(&self) -> bool {
        self.failing.load(Relaxed)
    }

    /// Time (nanoseconds since the Unix epoch) and text of the last failure.
    pub fn last(&self) -> Option<(u64, String)> {
        self.last.lock().failure.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> RedisError {
        std::io::Error::from(std::io::ErrorKind::ConnectionRefused).into()
    }

    fn cause(health: &StoreHealth) -> String {
        health.last().map(|(_, cause)| cause).unwrap_or_default()
    }

    #[test]
    fn a_request_without_a_connection_shows_why_there_is_none() {
        let health = StoreHealth::default();
        health.record_failure("redis:6379", &StoreError::NotConnected);
        assert_eq!(cause(&health), "not connected");
        health.record_failure("redis:6379", &StoreError::ConnectFailed(&refused()));
        health.record_failure("redis:6379", &StoreError::NotConnected);
        assert!(health.is_failing() && cause(&health).contains("refused"), "{}", cause(&health));
        health.record_failure("redis:6379", &StoreError::Timeout(Duration::from_millis(20)));
        assert_eq!(cause(&health), "no answer within 20ms");
    }

    #[test]
    fn all_failures_of_a_lost_connection_are_one_warning() {
        let health = StoreHealth::default();
        health.record_failure("redis:6379", &StoreError::ConnectFailed(&refused()));
        (0..5).for_each(|_| health.record_failure("redis:6379", &StoreError::NotConnected));
        let last = health.last.lock();
        assert_eq!((last.logged.map(|(_, kind)| kind), last.suppressed), (Some("unconnected"), 5));
    }

    #[test]
    fn a_connection_ends_the_trouble_of_a_missing_one_only() {
        let health = StoreHealth::default();
        health.record_failure("redis:6379", &StoreError::ConnectFailed(&refused()));
        health.record_connection("redis:6379");
        assert!(!health.is_failing());
        health.record_failure("redis:6379", &StoreError::Timeout(Duration::from_millis(20)));
        health.record_connection("redis:6379");
        assert!(health.is_failing(), "it can be reached, and has decided nothing yet");
        health.record_decision("redis:6379");
        assert!(!health.is_failing());
    }
}
