//! Access to the system's clocks, random numbers and environment variables. Clippy forbids the underlying functions in
//! all other files; pure code takes the values as arguments.
#![expect(clippy::disallowed_methods, reason = "the one place for them")]

use std::ffi::OsString;
use std::time::{Duration, Instant, SystemTime};

/// The monotonic clock.
pub fn now() -> Instant {
    Instant::now()
}

/// The time since `then` on the monotonic clock.
pub fn since(then: Instant) -> Duration {
    then.elapsed()
}

/// The wall clock. It can step in either direction.
pub fn system_time() -> SystemTime {
    SystemTime::now()
}

/// The wall clock as a duration since the Unix epoch; zero if it is set before that.
pub fn unix_time() -> Duration {
    system_time().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// The wall clock in whole seconds since the Unix epoch.
pub fn unix_seconds() -> i64 {
    i64::try_from(unix_time().as_secs()).unwrap_or(i64::MAX)
}

/// The wall clock in nanoseconds since the Unix epoch.
pub fn wall_clock() -> u64 {
    u64::try_from(unix_time().as_nanos()).unwrap_or(u64::MAX)
}

/// 64 random bits, not for secrets.
pub fn random() -> u64 {
    fastrand::u64(..)
}

/// Fills `out` with random bytes, not for secrets.
pub fn fill_random(out: &mut [u8]) {
    fastrand::fill(out);
}

/// Fills `out` with cryptographically secure random bytes.
///
/// # Errors
/// If the operating system provides none.
pub fn fill_secret(out: &mut [u8]) -> Result<(), getrandom::Error> {
    getrandom::fill(out)
}

/// An environment variable; `None` if it is unset or not Unicode.
pub fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// An environment variable; `None` if it is unset or empty.
pub fn env_os(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}
