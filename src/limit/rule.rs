//! What limits are configured by: what is counted, how much of it, and where.

use crate::secret::Secret;
use std::time::Duration;

/// One limit as configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitRule {
    /// What is counted.
    pub dimension: Dimension,
    /// How much of it per period (for `usd`: micro-dollars).
    pub amount: u64,
    /// The period; meaningless for `concurrent`.
    pub per: Duration,
    /// How much may be used at once; default `amount`.
    pub burst: u64,
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dimension {
    /// Requests.
    Requests,
    /// Prompt and completion tokens.
    Tokens,
    /// Requests in flight.
    Concurrent,
    /// Money, in micro-dollars.
    Usd,
}

impl Dimension {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Requests, Self::Tokens, Self::Concurrent, Self::Usd];

    /// The word in metrics, messages and `/limits`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::Concurrent => "concurrent",
            Self::Usd => "usd",
        }
    }
}

/// Where limits are counted.
#[derive(Clone)]
pub struct LimitStore {
    /// URL of the Redis that all nodes share, which may hold a password; `None` counts in the process.
    pub redis: Option<Secret>,
    /// What a request gets while Redis fails or is late.
    pub on_failure: StoreFailure,
    /// How long a request waits for Redis.
    pub timeout: Duration,
    /// How long what a node takes in advance may be spent; `None` takes nothing in advance.
    pub lease: Option<Duration>,
}

/// What a request gets while the shared store fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreFailure {
    /// It is counted in the process.
    Local,
    /// It is admitted and not counted.
    Allow,
    /// It is refused with 503.
    Deny,
}

impl StoreFailure {
    /// The word in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}
