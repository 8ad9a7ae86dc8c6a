//! Configuration of limits: dimension, amount, period, and where they are counted.

use crate::closed_set::closed_set;
use crate::secret::Secret;
use crate::yaml::section::words;
use std::time::Duration;

/// One configured limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitRule {
    /// The counted quantity.
    pub dimension: Dimension,
    /// Amount per period (micro-dollars for `usd`).
    pub amount: u64,
    /// The period; ignored for `concurrent`.
    pub per: Duration,
    /// Amount that may be used at once; defaults to `amount`.
    pub burst: u64,
}

closed_set! {
    /// The quantity that a limit counts.
    #[derive(Hash)]
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
