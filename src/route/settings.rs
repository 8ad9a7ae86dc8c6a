//! What a route is configured by: its targets, how one of them is chosen, and when a failure moves on.

use crate::limit::rule::LimitRule;
use crate::llm::settings::Params;
use crate::provider::Target;
use crate::provider::timeouts::TimeoutOverrides;
use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

/// The routes of a configuration, by index.
#[derive(Default)]
pub struct Routes {
    /// All of them.
    pub list: Vec<Arc<Route>>,
    /// Their indices by exact name, aliases included.
    pub exact: HashMap<Arc<str>, usize>,
    /// Prefix, suffix and index of each pattern, the longest prefix first.
    pub patterns: Vec<(Arc<str>, Arc<str>, usize)>,
    /// How many targets they have in all; `Target::index` is below it.
    pub targets: usize,
}

impl Deref for Routes {
    type Target = [Arc<Route>];

    fn deref(&self) -> &Self::Target {
        &self.list
    }
}

/// A name that clients may ask for.
#[derive(Clone)]
pub struct Route {
    /// Its position in the snapshot.
    pub index: usize,
    /// As written; with a `*` for a pattern.
    pub name: Arc<str>,
    /// Further names that clients can ask for.
    pub aliases: Vec<Arc<str>>,
    /// Tried first, by weight.
    pub targets: Vec<Arc<Target>>,
    /// Tried in order when every target has failed.
    pub fallback: Vec<Arc<Target>>,
    /// Whether a target's provider has replicas.
    pub pooled: bool,
    /// Which target comes first.
    pub balance: Balance,
    /// When a failure moves on to the next target.
    pub retry: Retry,
    /// When failures keep a target out.
    pub ejection: Ejection,
    /// The smallest `context` of its targets; `None` where none has one.
    pub smallest_context: Option<u32>,
    /// Overrides of the provider's deadlines.
    pub timeouts: TimeoutOverrides,
    /// A stream that has been silent for this long gets a heartbeat; `None`: never.
    pub keep_alive: Option<Duration>,
    /// A system prompt that stands before the client's own.
    pub system: Option<Arc<str>>,
    /// Defaults, overrides and what to do with unsupported parameters.
    pub params: Params,
    /// Shared by everyone who uses the route.
    pub limits: Vec<LimitRule>,
}

impl Route {
    /// Whether its name is a pattern rather than a name that a client can ask for.
    pub fn is_pattern(&self) -> bool {
        self.name.contains('*')
    }

    /// All names that clients can ask for; none of a pattern.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        std::iter::once(&self.name).filter(|_| !self.is_pattern()).chain(&self.aliases)
    }
}

/// Which target comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// At random, by weight.
    Weighted,
    /// Of two at random, by weight, the one with fewer requests in flight.
    LeastRequests,
    /// Of two at random, by weight, the one whose first token is to be expected sooner.
    Latency,
    /// The same one for the same episode, user or key.
    Sticky,
}

/// When a failure moves on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Tries in all, the first one included; at least 1.
    pub attempts: u32,
    /// Retry when no connection could be made.
    pub connect: bool,
    /// Retry when a deadline passed before the first token.
    pub timeout: bool,
    /// Retry on 429.
    pub rate_limited: bool,
    /// Retry on 408, 5xx and broken answers.
    pub server_error: bool,
    /// Retry on a credential that is refused, unpaid or not to be had.
    pub credential: bool,
    /// Retry on 404.
    pub not_found: bool,
    /// Retry a prompt that is too long, once, at another model.
    pub context_length: bool,
    /// Retry what the provider's policy forbids.
    pub content_filter: bool,
    /// Wait before the second try of the *same* target; doubles from there.
    pub backoff_initial: Duration,
    /// Longest such wait.
    pub backoff_max: Duration,
}

/// When failures keep a target out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// So many failures; 0..=[`MAX_FAILURES`](crate::route::health::MAX_FAILURES), 0: never.
    pub failures: u32,
    /// That are at least so many millionths of the attempts, or come in a row.
    pub share: u32,
    /// Within this time.
    pub window: Duration,
    /// For how long, also where a credential or a model is set aside; doubles with each failed probe.
    pub initial: Duration,
    /// Longest that it gets.
    pub max: Duration,
}
