//! Selects the store that counts limits, and applies `on_store_failure` while the shared one fails.

use super::memory::Limiter;
use super::permit::{Charge, Counted, Permit};
use super::redis::RedisLimiter;
use super::redis::client::{OnEvent, StoreClient};
use super::{Admission, Estimate, LimitExceeded, LimitSet, LimitStatus, Subject};
use crate::closed_set::closed_set;
use crate::error::{ApiError, ErrorKind};
use crate::limit::rule::{LimitStore, StoreFailure};
use std::sync::Arc;
use std::time::Duration;

/// How long start-up waits for the first connection to the shared store.
const START_TIMEOUT: Duration = Duration::from_secs(5);

/// The store of one configuration. [`Store::Memory`] never waits and does not allocate.
pub enum Store {
    /// Counts in this process.
    Memory(Arc<Limiter>),
    /// Counts for all nodes.
    Shared(SharedStore),
}

/// The shared store and its failure policy.
pub struct SharedStore {
    limiter: Arc<Limiter>,
    redis: Arc<RedisLimiter>,
    on_failure: StoreFailure,
}

/// State of the shared store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreStatus {
    /// Hosts and ports, without password.
    pub address: String,
    /// Applied while the store fails.
    pub on_failure: StoreFailure,
    /// Whether this node is connected and registered.
    pub connected: bool,
    /// Whether the last decision or connection attempt failed.
    pub failing: bool,
    /// Time (nanoseconds since the Unix epoch) and text of the last failure.
    pub last_failure: Option<(u64, String)>,
}

closed_set! {
    /// Who counts the limits.
    CountedBy {
        /// This process.
        Node = "node",
        /// The shared store.
        Store = "store",
        /// Nothing counts: the shared store fails under `allow` or `deny`.
        Nothing = "none",
    }
}

/// Why a request was not admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LimitError {
    /// A limit is exceeded.
    Exceeded(LimitExceeded),
    /// The store failed and decided nothing; from [`Store`], under `on_store_failure: deny`.
    Store,
}

impl From<LimitExceeded> for LimitError {
    fn from(exceeded: LimitExceeded) -> Self {
        Self::Exceeded(exceeded)
    }
}

impl From<&LimitError> for ApiError {
    fn from(error: &LimitError) -> Self {
        match error {
            LimitError::Exceeded(exceeded) => exceeded.into(),
            LimitError::Store => {
                Self::new(503, ErrorKind::Overloaded, "The gateway cannot count this request at the moment. Try again in a moment.")
            }
        }
    }
}

impl Store {
    /// Returns the client of the configured store: that of `previous` if the URL is the same, else a new one, after
    /// waiting for its first connection attempt. `None` without a shared store.
    ///
    /// # Errors
    /// When the URL cannot be used; under `deny` also when the store cannot be reached.
    pub fn client(config: &LimitStore, previous: Option<&Self>, on_event: OnEvent) -> Result<Option<Arc<StoreClient>>, String> {
        let Some(url) = &config.redis else { return Ok(None) };
        if let Some(client) = previous.and_then(Self::redis).map(RedisLimiter::client).filter(|client| client.is_for(url)) {
            return Ok(Some(Arc::clone(client)));
        }
        let (client, first) = StoreClient::start(url, config.on_failure, on_event)?;
        let reached = first.recv_timeout(START_TIMEOUT).unwrap_or_else(|_| Err(format!("no response within {START_TIMEOUT:?}")));
        match (config.on_failure, reached) {
            (StoreFailure::Deny, Err(why)) => Err(format!("the limit store at {} cannot be reached: {why}", client.address())),
            _ => Ok(Some(client)),
        }
    }

    /// A store for the limits of `limiter`, with the client that [`Store::client`] returned.
    pub fn new(config: &LimitStore, limiter: &Arc<Limiter>, client: Option<Arc<StoreClient>>, previous: Option<&Self>) -> Self {
        let limiter = Arc::clone(limiter);
        let Some(client) = client else { return Self::Memory(limiter) };
        client.health().set_policy(config.on_failure);
        let redis = RedisLimiter::new(Arc::clone(&limiter), client, config, previous.and_then(Self::redis));
        Self::Shared(SharedStore { limiter, redis: Arc::new(redis), on_failure: config.on_failure })
    }

    fn redis(&self) -> Option<&RedisLimiter> {
        match self {
            Self::Memory(_) => None,
            Self::Shared(store) => Some(&store.redis),
        }
    }

    /// Whether key and team would admit one more request of minimal size. Charges nothing. Without `remote`, only
    /// decisions cached in this process are used.
    ///
    /// # Errors
    /// The limit with the longest wait.
    pub async fn peek(&self, subject: &Subject, remote: bool, now: u64) -> Result<(), LimitExceeded> {
        match self {
            Self::Memory(limiter) => limiter.peek(subject, now),
            Self::Shared(store) => Box::pin(store.redis.peek(subject, remote)).await,
        }
    }

    /// Charges one request to all limits of its key, team and route, or to none. `provider` is the first target's: a
    /// shared store decides on its limits in the same round trip, for [`Store::enter`].
    ///
    /// # Errors
    /// Why the request is not admitted. Nothing was charged.
    pub async fn admit(
        &self,
        subject: &Subject,
        route: usize,
        provider: Option<usize>,
        estimate: Estimate,
        now: u64,
    ) -> Result<Permit, LimitError> {
        match self {
            Self::Memory(limiter) => Ok(limiter.admit(subject, route, estimate, now)?),
            Self::Shared(store) => Box::pin(store.admit(Charge { subject: *subject, route, estimate }, provider, now)).await,
        }
    }

    /// Charges all limits of an attempt's provider, or none; releases the previous attempt first. Returns the charged
    /// limits.
    ///
    /// # Errors
    /// Why the attempt is not admitted. The permit stays valid.
    pub async fn enter(&self, permit: &mut Permit, provider: usize, now: u64) -> Result<LimitSet, LimitError> {
        let mut result = match self {
            Self::Memory(_) => permit.enter_provider(provider, now).map_err(Into::into),
            Self::Shared(store) => Box::pin(store.enter(permit, provider, now)).await,
        };
        if let Err(LimitError::Exceeded(exceeded)) = &mut result {
            exceeded.headers.merge(permit.headers());
        }
        result
    }

    /// State of the shared store; `None` if limits are counted in this process.
    pub fn status(&self) -> Option<StoreStatus> {
        let Self::Shared(store) = self else { return None };
        let client = store.redis.client();
        Some(StoreStatus {
            address: client.address().to_owned(),
            on_failure: store.on_failure,
            connected: client.is_connected(),
            failing: client.health().is_failing(),
            last_failure: client.health().last(),
        })
    }

    /// Who counts the limits now.
    pub fn counted_by(&self) -> CountedBy {
        match self {
            Self::Memory(_) => CountedBy::Node,
            Self::Shared(store) if !store.redis.client().health().is_failing() => CountedBy::Store,
            Self::Shared(store) => match store.on_failure {
                StoreFailure::Local => CountedBy::Node,
                StoreFailure::Allow | StoreFailure::Deny => CountedBy::Nothing,
            },
        }
    }

    /// State of all limits as the shared store last reported it, in the order of [`Limiter::statuses`]. `None` if this
    /// process counts, including a failing store under `on_store_failure: local`.
    pub fn statuses(&self) -> Option<impl Iterator<Item = LimitStatus>> {
        self.redis().filter(|_| self.counted_by() != CountedBy::Node).map(RedisLimiter::statuses)
    }
}

impl SharedStore {
    async fn admit(&self, charge: Charge, provider: Option<usize>, now: u64) -> Result<Permit, LimitError> {
        let mut permit = match (self.redis.admit(charge, provider).await, self.on_failure) {
            (Err(LimitError::Store), StoreFailure::Local) => self.limiter.admit(&charge.subject, charge.route, charge.estimate, now)?,
            (Err(LimitError::Store), StoreFailure::Allow) => Permit::new(&self.limiter, charge, Counted::Uncounted, Admission::default()),
            (decided, _) => return decided,
        };
        permit.note_store_failure();
        Ok(permit)
    }

    async fn enter(&self, permit: &mut Permit, provider: usize, now: u64) -> Result<LimitSet, LimitError> {
        permit.leave_provider();
        let decision = match permit.take_prefetched(provider) {
            Some(decision) => decision.map_err(Into::into),
            None => self.redis.enter(provider, permit.estimate()).await,
        };
        if decision == Err(LimitError::Store) {
            permit.note_store_failure();
        }
        let (counted, admission) = match (decision, self.on_failure) {
            (Err(LimitError::Store), StoreFailure::Local) => return Ok(permit.enter_provider(provider, now)?),
            (Err(LimitError::Store), StoreFailure::Allow) => (Counted::Uncounted, Admission::default()),
            (decision, _) => (Counted::Shared(Arc::clone(&self.redis)), decision?),
        };
        Ok(permit.record_provider(provider, counted, &admission))
    }
}
