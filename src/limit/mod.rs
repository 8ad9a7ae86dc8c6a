//! Limits on keys, teams, routes and providers.
//!
//! ```text
//!  peek(key, team)          before the body is read, charges nothing; limits of some routes cannot speak yet
//! admit(key, team, route)  all limits or none ──> Permit ──> settle(usage) ──> drop: in-flight slot released
//!                                └──> LimitExceeded: the limit, retry_after
//! ```
//!
//! [`gcra`] and [`budget`] are pure arithmetic over injected time. [`memory`] stores one state per configured limit in
//! this process; [`redis`] shares them between nodes; [`store`] selects one of the two by configuration. [`estimate`]
//! predicts a request's usage, [`headers`] writes `x-ratelimit-*`, and [`warn`] has soft limits.

use crate::account;
use crate::closed_set::closed_set;
use crate::error::{ApiError, ErrorKind};
use crate::system;
use crate::units::nanoseconds;
use memory::LimitId;
use rule::{Dimension, LimitPeriod, RouteNames};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

pub mod budget;
pub mod estimate;
pub mod gcra;
pub mod headers;
pub mod memory;
pub mod permit;
pub mod redis;
pub mod rule;
pub mod store;
pub mod warn;

pub use estimate::{Estimate, RequestSize};
pub use headers::{LimitHeaders, LimitStatus};
pub use memory::Limiter;
pub use permit::Permit;
pub use redis::client::StoreEvent;
pub use store::{CountedBy, LimitError, Store, StoreStatus};

closed_set! {
    /// The entity that a limit applies to.
    #[derive(Hash, PartialOrd, Ord)]
    Scope {
        /// One client key.
        Key = "key",
        /// All keys of a team.
        Team = "team",
        /// All requests on a route.
        Route = "route",
        /// All attempts at a provider.
        Provider = "provider",
    }
}

/// The client that a request is charged to, as indices into the snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// `None` if the listener requires no key.
    pub key: Option<usize>,
    /// The key's team.
    pub team: Option<usize>,
}

/// Actual usage of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Prompt and completion tokens.
    pub tokens: u64,
    /// What they cost, in micro-dollars.
    pub micro_usd: u64,
}

impl Used {
    /// The amount in a dimension; `None` in those that count requests.
    const fn of(&self, dimension: Dimension) -> Option<u64> {
        match dimension {
            Dimension::Tokens => Some(self.tokens),
            Dimension::Usd => Some(self.micro_usd),
            Dimension::Requests | Dimension::Concurrent => None,
        }
    }
}

/// A set of (scope, dimension) pairs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitSet(u16);

impl LimitSet {
    fn insert(&mut self, scope: Scope, dimension: Dimension) {
        self.0 |= 1 << (scope as u16 * 4 + dimension as u16);
    }

    /// The members of the set.
    pub fn iter(self) -> impl Iterator<Item = (Scope, Dimension)> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let number = left.trailing_zeros() as usize;
            left &= left.wrapping_sub(1);
            Some((*Scope::ALL.get(number / 4)?, *Dimension::ALL.get(number % 4)?))
        })
    }
}

/// The result of charging a group of limits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// State of the tightest limits after the charge.
    pub headers: LimitHeaders,
    /// The limits that were checked, for metrics.
    pub kinds: LimitSet,
}

/// The limit that rejected a request; if several did, the one with the longest wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitExceeded {
    /// The scope of the limit.
    pub scope: Scope,
    /// The dimension of the limit.
    pub dimension: Dimension,
    /// The routes that it is confined to.
    pub routes: Option<RouteNames>,
    /// The limit's period.
    pub per: LimitPeriod,
    /// The burst (micro-dollars for `usd`).
    pub limit: u64,
    /// The shortest wait after which the request would be admitted, rounded up to milliseconds. `None` for a spent
    /// budget of `usd`.
    pub retry_after: Option<Duration>,
    /// Time until a spent window is renewed; zero for others, and where the rest of a window is only reserved.
    pub renews_in: Duration,
    /// State of the tightest limits, and which one refused.
    pub headers: Box<LimitHeaders>,
}

impl LimitExceeded {
    fn new(id: &LimitId, limit: u64, (retry_after, renews_in): (Option<Duration>, Duration), headers: LimitHeaders) -> Self {
        let LimitId { scope, routes, dimension, per, .. } = id;
        let headers = Box::new(LimitHeaders { exceeded: Some((*scope, *dimension, routes.clone())), ..headers });
        Self { scope: *scope, dimension: *dimension, routes: routes.clone(), per: *per, limit, retry_after, renews_in, headers }
    }
}

/// `retry_after` when requests in flight occupy the limit: their end cannot be predicted.
const IN_FLIGHT_WAIT: Duration = Duration::from_secs(1);

impl From<&LimitExceeded> for ApiError {
    fn from(refusal: &LimitExceeded) -> Self {
        refusal.error(Scope::Key.name())
    }
}

impl LimitExceeded {
    /// A 429, or a 402 for a spent budget. The message names scope, dimension and routes, never a key or a team. `who`: what the
    /// scope of keys is called.
    pub fn error(&self, who: &str) -> ApiError {
        let refusal = self;
        const LATER: &str = "Wait until one of them has finished, then try again.";
        let LimitExceeded { per, limit, retry_after, renews_in, .. } = refusal;
        let (scope, dimension, routes) = (refusal.scope.name(), refusal.dimension.name(), on_routes(refusal.routes.as_ref()));
        let scope = if refusal.scope == Scope::Key { who } else { scope };
        let message = match (refusal.dimension, refusal.per) {
            (Dimension::Usd, _) if !renews_in.is_zero() => {
                let (amount, end) = (account::usd(*limit), renewal(*renews_in));
                format!(
                    "The budget of this {scope}{routes} is spent: {amount} USD per {per}. It is renewed {end}, or needs a higher `usd` limit."
                )
            }
            (Dimension::Usd, _) => format!("The remaining budget of this {scope}{routes} is reserved for running requests. {LATER}"),
            (Dimension::Concurrent, _) => {
                format!("This {scope} has reached its limit of {limit} concurrent requests{routes}. {LATER}")
            }
            (_, LimitPeriod::Window(_)) if renews_in.is_zero() => {
                format!(
                    "What is left of this {scope}'s limit on {dimension}{routes} ({limit} per {per}) is reserved for running requests. {LATER}"
                )
            }
            (_, LimitPeriod::Window(_)) => {
                let end = renewal(*renews_in);
                format!(
                    "This {scope} has reached its limit on {dimension}{routes} ({limit} per {per}). It is renewed {end}; try again then."
                )
            }
            _ => {
                let wait = headers::duration(retry_after.unwrap_or_default());
                format!("This {scope} has reached its limit on {dimension}{routes} ({limit} per {per}). Try again in {wait}.")
            }
        };
        match retry_after {
            Some(wait) => ApiError::new(429, ErrorKind::RateLimit, message).with_retry_after(*wait),
            None => ApiError::new(402, ErrorKind::InsufficientQuota, message),
        }
    }
}

/// The routes that a limit is confined to, as the end of a phrase; empty for all.
fn on_routes(routes: Option<&RouteNames>) -> String {
    routes.map_or_else(String::new, |routes| format!(" for {routes}"))
}

/// When a window is renewed, by the clock, and how long that is from now, rounded up to full seconds. Windows end on full seconds.
fn renewal(renews_in: Duration) -> String {
    let at = i128::from(system::wall_clock()) + i128::try_from(renews_in.as_nanos()).unwrap_or_default();
    let at = jiff::Timestamp::from_nanosecond(at + 500_000_000).unwrap_or_default();
    let left = Duration::from_secs(renews_in.as_secs() + u64::from(renews_in.subsec_nanos() > 0));
    format!("at {at:.0}, in {}", headers::duration(left))
}

/// A monotonic clock: nanoseconds since the Unix epoch at start-up, unaffected by steps of the system clock.
#[derive(Clone, Debug)]
pub struct Clock {
    epoch: u64,
    origin: Instant,
    wall: Arc<WallOffset>,
}

/// Offset from [`Clock`] to the wall clock, in nanoseconds. It changes when the machine is suspended or its clock is
/// set.
#[derive(Debug, Default)]
pub struct WallOffset(AtomicI64);

impl WallOffset {
    /// The wall clock at `monotonic`, a time of the [`Clock`].
    pub fn at(&self, monotonic: u64) -> u64 {
        monotonic.saturating_add_signed(self.0.load(Ordering::Relaxed))
    }

    /// Sets the offset so that `monotonic` corresponds to `wall`.
    pub fn set(&self, monotonic: u64, wall: u64) {
        let offset = i128::from(wall) - i128::from(monotonic);
        self.0.store(i64::try_from(offset).unwrap_or_default(), Ordering::Relaxed);
    }
}

impl Clock {
    /// Reads the system clock once.
    pub fn start() -> Arc<Self> {
        Arc::new(Self { epoch: system::wall_clock(), origin: system::now(), wall: Arc::default() })
    }

    /// The current time.
    pub fn now(&self) -> u64 {
        self.epoch.saturating_add(nanoseconds(system::since(self.origin)))
    }

    /// The offset that [`Clock::follow_wall_clock`] measured last.
    pub fn wall(&self) -> Arc<WallOffset> {
        Arc::clone(&self.wall)
    }

    /// Updates the offset. Call it every second, so that budgets follow steps of the wall clock.
    pub fn follow_wall_clock(&self) {
        self.wall.set(self.now(), system::wall_clock());
    }
}

/// Rounded up, so that a request after this wait is admitted.
fn whole_milliseconds(time: Duration) -> Duration {
    Duration::from_millis(u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(dimension: Dimension, retry_after: Option<Duration>) -> LimitExceeded {
        LimitExceeded {
            scope: Scope::Team,
            dimension,
            limit: 5,
            routes: None,
            per: if dimension == Dimension::Usd { LimitPeriod::Window(budget::DAY) } else { LimitPeriod::Smooth(Duration::from_secs(60)) },
            retry_after,
            renews_in: Duration::ZERO,
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
        let mut of_a_key = refusal(Dimension::Requests, Some(Duration::from_secs(1)));
        of_a_key.scope = Scope::Key;
        assert!(of_a_key.error("user").message.starts_with("This user has reached its limit"));
        let error = ApiError::from(&refusal(Dimension::Usd, None));
        assert_eq!((error.status, error.kind, error.retry_after), (402, ErrorKind::InsufficientQuota, None));
    }

    #[test]
    fn a_spent_budget_says_which_one_it_is_and_when_it_is_renewed() {
        let spent = |limit, per| {
            let (renews_in, per) = (Duration::from_millis(8 * 3_600_000 - 1), LimitPeriod::Window(per));
            ApiError::from(&LimitExceeded { limit, per, renews_in, ..refusal(Dimension::Usd, None) }).message
        };
        let message = spent(100_000_000, budget::MONTH);
        assert!(message.starts_with("The budget of this team is spent: 100 USD per month. It is renewed at 2"), "{message}");
        assert!(message.contains("Z, in 8h0m0s,"), "{message}");
        assert!(spent(2_500_000, Duration::from_secs(86_400)).contains("2.5 USD per day."));
        assert!(spent(1, Duration::from_secs(5400)).contains("0.000001 USD per 1h30m."));
    }

    #[test]
    fn a_spent_window_says_for_which_routes_it_is_and_when_it_ends() {
        let wait = Duration::from_secs(8 * 3600);
        let of = |names: &[&str]| Some(RouteNames::new(names.iter().map(|name| (*name).into()).collect()));
        let spent = |routes, renews_in| {
            let wait = if renews_in == Duration::ZERO { IN_FLIGHT_WAIT } else { renews_in };
            let refused = refusal(Dimension::Tokens, Some(wait));
            ApiError::from(&LimitExceeded { routes, per: LimitPeriod::Window(budget::DAY), renews_in, ..refused })
        };
        let error = spent(of(&["gpt-5"]), wait);
        assert_eq!((error.status, error.retry_after), (429, Some(wait)));
        let begin = "This team has reached its limit on tokens for `gpt-5` (5 per day). It is renewed at 2";
        assert!(error.message.starts_with(begin) && error.message.ends_with("Z, in 8h0m0s; try again then."), "{}", error.message);
        let many = spent(of(&["e", "d", "c", "b", "a"]), wait).message;
        assert!(many.contains("for `a`, `b`, `c` and 2 more (5 per day)"), "{many}");
        let reserved = spent(None, Duration::ZERO);
        assert_eq!(reserved.retry_after, Some(IN_FLIGHT_WAIT));
        assert!(reserved.message.contains("limit on tokens (5 per day) is reserved for running requests."), "{}", reserved.message);
    }

    #[test]
    fn a_budget_that_is_only_reserved_is_a_429() {
        let error = ApiError::from(&refusal(Dimension::Usd, Some(IN_FLIGHT_WAIT)));
        assert_eq!((error.status, error.kind, error.retry_after), (429, ErrorKind::RateLimit, Some(IN_FLIGHT_WAIT)));
        assert!(error.message.ends_with("Wait until one of them has finished, then try again."), "{}", error.message);
    }

    #[test]
    fn a_set_of_kinds_holds_what_was_put_in() {
        let mut kinds = LimitSet::default();
        kinds.insert(Scope::Provider, Dimension::Usd);
        kinds.insert(Scope::Key, Dimension::Requests);
        assert_eq!(kinds.iter().collect::<Vec<_>>(), [(Scope::Key, Dimension::Requests), (Scope::Provider, Dimension::Usd)]);
    }
}
