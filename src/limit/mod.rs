//! How much: limits on keys, teams, routes and providers.
//!
//! ```text
//!  peek(key, team)          before the body is read, charges nothing
//!  admit(key, team, route)  all limits or none ──> Permit ──> settle(what was used) ──> drop: the place is free
//!                                 └──> Refusal: scope, dimension, how long to wait
//! ```
//!
//! [`gcra`] and [`budget`] are pure arithmetic over injected time, [`memory`] holds one state per configured limit and
//! decides over several at once, [`redis`] does the same for all nodes together, [`store`] is whichever of them is
//! configured, [`estimate`] knows what a request will probably use, [`headers`] tells the client.

use crate::account;
use crate::error::{ApiError, ErrorKind};
use rule::Dimension;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime};

pub mod budget;
pub mod estimate;
pub mod gcra;
pub mod headers;
pub mod memory;
pub mod permit;
pub mod redis;
pub mod rule;
pub mod store;

pub use estimate::{Estimate, Prospect};
pub use headers::{LimitHeaders, Standing};
pub use memory::Limiter;
pub use permit::Permit;
pub use redis::link::StoreEvent;
pub use store::{CountedBy, Denied, Store, StoreStatus};

/// What a limit belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// One client key.
    Key,
    /// All keys of a team.
    Team,
    /// Everyone who uses a route.
    Route,
    /// Everything that goes to a provider.
    Provider,
}

impl Scope {
    /// All of them, in the order in which their limits are locked.
    pub const ALL: [Self; 4] = [Self::Key, Self::Team, Self::Route, Self::Provider];

    /// The word in metrics, messages and `/limits`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Team => "team",
            Self::Route => "route",
            Self::Provider => "provider",
        }
    }
}

/// Who asks, by index into the snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// The key; `None` where nobody is asked for one.
    pub key: Option<usize>,
    /// Its team.
    pub team: Option<usize>,
}

/// What an answer really used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Prompt and completion tokens.
    pub tokens: u64,
    /// What they cost, in micro-dollars.
    pub micro_usd: u64,
}

/// Kinds of limits that were asked, a set of (scope, dimension).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds(u16);

impl Kinds {
    fn insert(&mut self, scope: Scope, dimension: Dimension) {
        self.0 |= 1 << (scope as u16 * 4 + dimension as u16);
    }

    /// Its members.
    pub fn iter(self) -> impl Iterator<Item = (Scope, Dimension)> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let number = left.trailing_zeros() as usize;
            left &= left.wrapping_sub(1);
            Some((*Scope::ALL.get(number / 4)?, *Dimension::ALL.get(number % 4)?))
        })
    }
}

/// What limits say that have admitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Granted {
    /// Where the tightest of them stand now.
    pub headers: LimitHeaders,
    /// Which kinds they are, for the metrics.
    pub kinds: Kinds,
}

/// A limit that said no: of all that did, the one that would wait longest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Whose limit it is.
    pub scope: Scope,
    /// What it counts.
    pub dimension: Dimension,
    /// How much of it there is at once (micro-dollars for `usd`).
    pub limit: u64,
    /// The limit's period; zero for `concurrent`.
    pub per: Duration,
    /// The wait after which the request would be admitted, in whole milliseconds, rounded up; `None` for a spent
    /// budget, which waiting does not help.
    pub retry_after: Option<Duration>,
    /// Of a spent budget: after how long it is renewed.
    pub renewed: Duration,
    /// Where the tightest limits stand.
    pub headers: Box<LimitHeaders>,
}

/// Told where a request in flight has what is missing: no limit knows when that one ends.
const IN_FLIGHT_WAIT: Duration = Duration::from_secs(1);

impl From<&Refusal> for ApiError {
    /// A 429 that names scope and dimension, or a 402 for a spent budget. It names no key and no team.
    fn from(refusal: &Refusal) -> Self {
        let scope = refusal.scope.name();
        let mut message = String::new();
        let _ = match (refusal.dimension, refusal.retry_after) {
            (Dimension::Usd, None) => {
                let (amount, period) = (account::usd(refusal.limit), headers::period(refusal.per));
                let at = i128::from(wall_clock()) + i128::try_from(refusal.renewed.as_nanos()).unwrap_or_default();
                // To the full second, up.
                let at = jiff::Timestamp::from_nanosecond(at + 999_999_999).unwrap_or_default();
                let left =
                    headers::duration(Duration::from_secs(refusal.renewed.as_secs() + u64::from(refusal.renewed.subsec_nanos() > 0)));
                write!(
                    message,
                    "The budget of this {scope} is spent: {amount} USD per {period}. It is renewed at {at:.0}, in {left}, or needs a higher \
                     `usd` limit."
                )
            }
            (Dimension::Usd, Some(_)) => {
                write!(message, "What is left of the budget of this {scope} is set aside for requests in flight. Wait for one to end.")
            }
            (Dimension::Concurrent, _) => {
                write!(message, "This {scope} has reached its limit of {} concurrent requests. Wait for one to end.", refusal.limit)
            }
            (Dimension::Requests | Dimension::Tokens, wait) => write!(
                message,
                "This {scope} has reached its limit on {} ({} per {}). Try again in {}.",
                refusal.dimension.name(),
                refusal.limit,
                headers::period(refusal.per),
                headers::duration(wait.unwrap_or_default()),
            ),
        };
        match refusal.retry_after {
            Some(wait) => Self::new(429, ErrorKind::RateLimit, message).with_retry_after(wait),
            None => Self::new(402, ErrorKind::InsufficientQuota, message),
        }
    }
}

/// The time that limits run on: nanoseconds since the Unix epoch that never step back, whatever is done to the clock
/// of the machine.
#[derive(Clone, Debug)]
pub struct Clock {
    epoch: u64,
    origin: Instant,
    wall: Arc<WallOffset>,
}

/// What to add to the time of a [`Clock`] to get the wall clock, in nanoseconds. The two drift apart when the machine is
/// suspended or its clock is set.
#[derive(Debug, Default)]
pub struct WallOffset(AtomicI64);

impl WallOffset {
    /// The wall clock at a time of the [`Clock`].
    pub fn at(&self, steady: u64) -> u64 {
        steady.saturating_add_signed(self.0.load(Ordering::Relaxed))
    }

    /// Sets it so that `steady` is `wall` on the wall clock.
    pub fn set(&self, steady: u64, wall: u64) {
        let offset = i128::from(wall) - i128::from(steady);
        self.0.store(i64::try_from(offset).unwrap_or_default(), Ordering::Relaxed);
    }
}

impl Clock {
    /// Reads the machine's clock, once.
    pub fn start() -> Arc<Self> {
        Arc::new(Self { epoch: wall_clock(), origin: Instant::now(), wall: Arc::default() })
    }

    /// Now.
    pub fn now(&self) -> u64 {
        self.epoch.saturating_add(nanoseconds(self.origin.elapsed()))
    }

    /// The offset to the wall clock, as [`Clock::follow_wall_clock`] last found it.
    pub fn wall(&self) -> Arc<WallOffset> {
        Arc::clone(&self.wall)
    }

    /// Compares with the wall clock. To be called every second: that is how late budgets notice a step.
    pub fn follow_wall_clock(&self) {
        self.wall.set(self.now(), wall_clock());
    }
}

/// The wall clock: nanoseconds since the Unix epoch. It can step in either direction, so nothing is measured with it.
pub fn wall_clock() -> u64 {
    nanoseconds(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

/// Rounded up, so that who waits as told is admitted.
fn whole_milliseconds(time: Duration) -> Duration {
    Duration::from_millis(u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX))
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]
mod tests {
    use super::*;

    fn refusal(dimension: Dimension, retry_after: Option<Duration>) -> Refusal {
        Refusal {
            scope: Scope::Team,
            dimension,
            limit: 5,
            per: Duration::from_secs(60),
            retry_after,
            renewed: Duration::ZERO,
            headers: Box::default(),
        }
    }

    #[test]
    fn a_rate_is_a_429_that_says_when_to_come_back() {
        let wait = Duration::from_millis(11_900);
        let error = ApiError::from(&refusal(Dimension::Requests, Some(wait)));
        assert_eq!((error.status, error.kind, error.retry_after), (429, ErrorKind::RateLimit, Some(wait)));
        assert_eq!(error.message, "This team has reached its limit on requests (5 per 1m). Try again in 11.9s.");
    }

    #[test]
    fn a_spent_budget_is_a_402_without_a_time() {
        let error = ApiError::from(&refusal(Dimension::Usd, None));
        assert_eq!((error.status, error.kind, error.retry_after), (402, ErrorKind::InsufficientQuota, None));
    }

    #[test]
    fn a_spent_budget_says_which_one_it_is_and_when_it_is_renewed() {
        let spent = |limit, per| {
            let renewed = Duration::from_millis(8 * 3_600_000 - 1);
            ApiError::from(&Refusal { limit, per, renewed, ..refusal(Dimension::Usd, None) }).message
        };
        let message = spent(100_000_000, budget::MONTH);
        assert!(message.starts_with("The budget of this team is spent: 100 USD per month. It is renewed at 2"), "{message}");
        assert!(message.contains("Z, in 8h0m0s,"), "{message}");
        assert!(spent(2_500_000, Duration::from_secs(86_400)).contains("2.5 USD per day."));
        assert!(spent(1, Duration::from_secs(5400)).contains("0.000001 USD per 1h30m."));
    }

    #[test]
    fn a_budget_that_is_only_reserved_is_a_429() {
        let error = ApiError::from(&refusal(Dimension::Usd, Some(IN_FLIGHT_WAIT)));
        assert_eq!((error.status, error.kind, error.retry_after), (429, ErrorKind::RateLimit, Some(IN_FLIGHT_WAIT)));
        assert!(error.message.contains("in flight"), "{}", error.message);
    }

    #[test]
    fn a_set_of_kinds_holds_what_was_put_in() {
        let mut kinds = Kinds::default();
        kinds.insert(Scope::Provider, Dimension::Usd);
        kinds.insert(Scope::Key, Dimension::Requests);
        assert_eq!(kinds.iter().collect::<Vec<_>>(), [(Scope::Key, Dimension::Requests), (Scope::Provider, Dimension::Usd)]);
    }
}
