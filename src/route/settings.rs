//! Configuration of routes: targets, balancing, retries and ejection.

use crate::limit::rule::Limit;
use crate::llm::settings::Params;
use crate::provider::Target;
use crate::provider::timeouts::TimeoutOverrides;
use crate::yaml::section::words;
use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

/// The routes of a configuration.
#[derive(Clone, Default)]
pub struct Routes {
    /// By index.
    pub list: Vec<Arc<Route>>,
    /// Indices by exact name and alias.
    pub exact: HashMap<Arc<str>, usize>,
    /// Prefix, suffix and index of each pattern, longest prefix first.
    pub patterns: Vec<(Arc<str>, Arc<str>, usize)>,
    /// Number of targets; `Target::index` is below it.
    pub targets: usize,
}

impl Deref for Routes {
    type Target = [Arc<Route>];

    fn deref(&self) -> &Self::Target {
        &self.list
    }
}

/// A route.
#[derive(Clone)]
pub struct Route {
    /// Index in the snapshot.
    pub index: usize,
    /// As configured; contains a `*` for a pattern.
    pub name: Arc<str>,
    /// Alternative names.
    pub aliases: Vec<Arc<str>>,
    /// Tried first, as balanced.
    pub targets: Vec<Arc<Target>>,
    /// Tried in order when all targets have failed.
    pub fallback: Vec<Arc<Target>>,
    /// Whether any target's provider has replicas.
    pub pooled: bool,
    /// How the first target is chosen.
    pub balance: Balance,
    /// Which failures are retried.
    pub retry: Retry,
    /// When a failing target is ejected.
    pub ejection: Ejection,
    /// The smallest `context` of its targets, if any.
    pub smallest_context: Option<u32>,
    /// Overrides of the provider's timeouts.
    pub timeouts: TimeoutOverrides,
    /// Interval of heartbeats in silent streams; `None` disables them.
    pub keep_alive: Option<Duration>,
    /// System prompt, placed before the client's.
    pub system: Option<Arc<str>>,
    /// Default and override parameters, and the policy for unsupported ones.
    pub params: Params,
    /// Limits shared by all clients of the route.
    pub limits: Vec<Limit>,
}

impl Route {
    /// Whether its name is a pattern.
    pub fn is_pattern(&self) -> bool {
        self.name.contains('*')
    }

    /// Names that clients can use; only aliases for a pattern.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        std::iter::once(&self.name).filter(|_| !self.is_pattern()).chain(&self.aliases)
    }

    /// The index of the provider that has the Responses API, where exactly one of its targets' providers has; those that are
    /// reached by fail-over do not count.
    pub fn provider_with_responses(&self) -> Option<usize> {
        let mut providers = self.targets.iter().filter(|target| target.dialect().has_responses()).map(|target| target.provider.index);
        let first = providers.next()?;
        providers.all(|other| other == first).then_some(first)
    }
}

words! {
    /// How the first target is chosen.
    Balance {
        /// Weighted random.
        Weighted = "weighted",
        /// Of two weighted random targets, the one with fewer requests in flight.
        LeastRequests = "least_requests",
        /// Of two weighted random targets, the one with the lower expected time to first token.
        Latency = "latency",
        /// The same target for the same episode, user or key.
        Sticky = "sticky",
    }
}

/// Which failures are retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Maximum attempts including the first; at least 1.
    pub attempts: u32,
    /// Retry when connecting fails.
    pub connect: bool,
    /// Retry when a timeout passes before the first token.
    pub timeout: bool,
    /// Retry on 429.
    pub rate_limited: bool,
    /// Retry on 408, 5xx and invalid responses.
    pub server_error: bool,
    /// Retry when a credential is rejected, unpaid or unavailable.
    pub credential: bool,
    /// Retry on 404.
    pub not_found: bool,
    /// Retry a prompt that is too long once, with another model.
    pub context_length: bool,
    /// Retry what the provider's content policy blocks.
    pub content_filter: bool,
    /// Delay before the second attempt at the *same* target; doubles.
    pub backoff_initial: Duration,
    /// Maximum delay.
    pub backoff_max: Duration,
    /// Bounds the retries at providers that the request has already asked.
    pub budget: Budget,
}

/// The most retries of a route at providers that a request has already asked, over [`WINDOW`](super::budget::WINDOW) seconds: a
/// share of its requests, and no fewer than so many a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// In millionths of the requests.
    pub share: u32,
    /// The floor.
    pub per_second: u32,
}

/// When a failing target is ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// Failures that eject; 0..=[`MAX_FAILURES`](crate::route::health::MAX_FAILURES), 0 disables.
    pub failures: u32,
    /// Minimum share of attempts that must fail, in millionths; consecutive failures always count.
    pub share: u32,
    /// Period in which failures are counted.
    pub window: Duration,
    /// Cooldown, also after a rejected credential or model; doubles with each failed probe.
    pub initial: Duration,
    /// Maximum cooldown.
    pub max: Duration,
}
