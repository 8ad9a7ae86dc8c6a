//! Configuration of limits: dimension, amount, period, routes, and where they are counted.

use super::budget::{DAY, MONTH};
use crate::closed_set::closed_set;
use crate::secret::Secret;
use crate::units;
use crate::yaml::section::words;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// One configured limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What it counts, and how much of it.
    pub rule: LimitRule,
    /// The routes that it is confined to; `None` for all.
    pub routes: Option<LimitedRoutes>,
}

/// What a limit counts, and how much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitRule {
    /// The counted quantity.
    pub dimension: Dimension,
    /// Amount per period (micro-dollars for `usd`).
    pub amount: u64,
    /// The period.
    pub per: LimitPeriod,
    /// Amount that may be used at once; defaults to `amount`.
    pub burst: u64,
    /// The share of the limit, in percent from 1 to 100, that is warned of when it is used.
    pub warn: Option<u8>,
}

impl LimitRule {
    /// What a client is told as the limit: the burst, or the amount of `concurrent`.
    pub const fn limit(&self) -> u64 {
        match self.dimension {
            Dimension::Concurrent => self.amount,
            _ => self.burst,
        }
    }

    /// The used amount that is warned of, rounded up and at least 1; `None` without `warn`.
    pub fn mark(&self) -> Option<u64> {
        let amount = (u128::from(self.limit()) * u128::from(self.warn?)).div_ceil(100);
        Some(u64::try_from(amount).unwrap_or(u64::MAX).max(1))
    }
}

/// How what a limit counts is renewed. Its order has no meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LimitPeriod {
    /// Not at all: `concurrent` counts requests in flight.
    None,
    /// Bit by bit, in this time: a token bucket ([`gcra`](super::gcra)).
    Smooth(Duration),
    /// In full, when the next window of this length begins ([`budget`](super::budget)). [`MONTH`] is a month of the calendar.
    Window(Duration),
}

impl LimitPeriod {
    /// Its length; zero for `concurrent`.
    pub const fn length(self) -> Duration {
        match self {
            Self::None => Duration::ZERO,
            Self::Smooth(length) | Self::Window(length) => length,
        }
    }
}

/// As it is written in the configuration: `month`, `day`, `7d`, `1h30m`.
impl fmt::Display for LimitPeriod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Window(MONTH) => f.write_str("month"),
            Self::Window(DAY) => f.write_str("day"),
            period => f.write_str(&units::text(period.length())),
        }
    }
}

/// The routes that a limit is confined to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitedRoutes {
    /// As they are configured.
    pub names: RouteNames,
    /// Those that the names stand for.
    pub set: RouteSet,
}

/// The routes of a limit as they are configured: sorted, each once, an alias by the name of its route. A pattern stays as
/// it is written, so that the limit is the same one when a further route matches it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteNames(Arc<[Arc<str>]>);

/// Most names of a [`RouteNames`] that a message lists.
const MAX_LISTED: usize = 3;

impl RouteNames {
    /// Names in any order.
    pub fn new(mut names: Vec<Arc<str>>) -> Self {
        names.sort();
        names.dedup();
        Self(names.into())
    }

    /// All of them, sorted.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(AsRef::as_ref)
    }
}

/// For a message: the first names, and how many more there are.
impl fmt::Display for RouteNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, name) in self.iter().take(MAX_LISTED).enumerate() {
            write!(f, "{}`{name}`", if at == 0 { "" } else { ", " })?;
        }
        match self.0.len().saturating_sub(MAX_LISTED) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// A set of routes, by index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteSet(pub Vec<bool>);

impl RouteSet {
    /// Whether the set contains the route.
    pub fn has(&self, route: usize) -> bool {
        self.0.get(route).copied().unwrap_or(false)
    }
}

/// Whether a pattern with one `*` matches a name; the `*` stands for at least one character.
pub fn is_match(pattern: &str, name: &str) -> bool {
    let Some((prefix, suffix)) = pattern.split_once('*').filter(|(_, suffix)| !suffix.contains('*')) else { return false };
    name.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(suffix)).is_some_and(|star| !star.is_empty())
}

closed_set! {
    /// The quantity that a limit counts.
    #[derive(Hash, PartialOrd, Ord)]
    Dimension {
        /// Requests.
        Requests = "requests",
        /// Prompt and completion tokens.
        Tokens = "tokens",
        /// Requests in flight.
        Concurrent = "concurrent",
        /// Money, in micro-dollars.
        Usd = "usd",
    }
}

/// The store in which limits are counted.
#[derive(Clone)]
pub struct LimitStore {
    /// URL of a Redis shared by all nodes; may contain a password. `None` counts in this process.
    pub redis: Option<Secret>,
    /// Applied while Redis fails or times out.
    pub on_failure: StoreFailure,
    /// Timeout of one decision.
    pub timeout: Duration,
    /// Validity of units leased in advance; `None` disables leases.
    pub lease: Option<Duration>,
}

words! {
    /// Policy for requests while the shared store fails.
    StoreFailure {
        /// Count in this process.
        Local = "local",
        /// Admit without counting.
        Allow = "allow",
        /// Reject with 503.
        Deny = "deny",
    }
}
