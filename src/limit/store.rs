//! Where limits are counted: in this process, or in a store that all nodes share, with what holds while that one fails.

use super::memory::Limiter;
use super::permit::{Counted, Permit};
use super::redis::link::{Link, OnEvent};
use super::redis::{Failed, Shared};
use super::{Estimate, Granted, Kinds, Refusal, Standing, Subject};
use crate::error::{ApiError, ErrorKind};
use crate::limit::rule::{LimitStore, StoreFailure};
use std::sync::Arc;
use std::time::Duration;

/// How long a start waits for the first word of the shared store.
const START: Duration = Duration::from_secs(5);

/// The store of one configuration.
///
/// Memory answers at once: its calls never wait and allocate nothing.
pub enum Store {
    /// Counts in the process.
    Memory(Arc<Limiter>),
    /// Counts for all nodes.
    Shared(Remote),
}

/// The shared store and what holds while it fails.
pub struct Remote {
    limiter: Arc<Limiter>,
    shared: Arc<Shared>,
    on_failure: StoreFailure,
}

/// How the shared store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreStatus {
    /// Hosts and ports; never a password.
    pub address: String,
    /// What a request gets while it fails.
    pub on_failure: StoreFailure,
    /// Whether the node is connected and registered.
    pub connected: bool,
    /// Whether the last decision, or the last try to connect, failed.
    pub failing: bool,
    /// When the last failure was, in nanoseconds since the Unix epoch, and what it was.
    pub last_failure: Option<(u64, String)>,
}

/// Who counts limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountedBy {
    /// This process, for itself.
    Node,
    /// The shared store, for all nodes.
    Store,
    /// The shared store fails, and requests are let through or refused without a count.
    Nobody,
}

impl CountedBy {
    /// The word in `/limits`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Store => "store",
            Self::Nobody => "nobody",
        }
    }
}

/// Why a request was not admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// A limit said no.
    Limit(Refusal),
    /// Nobody knows: the store failed, and the configuration says to refuse then.
    Store,
}

impl From<&Denied> for ApiError {
    fn from(denied: &Denied) -> Self {
        match denied {
            Denied::Limit(refusal) => refusal.into(),
            Denied::Store => {
                Self::new(503, ErrorKind::Overloaded, "The gateway cannot count this request at the moment. Try again in a moment.")
            }
        }
    }
}

impl Store {
    /// The link to the shared store that a configuration asks for: the one before where that leads to the same place,
    /// else a new one, whose first word is waited for.
    ///
    /// # Errors
    /// When it cannot be used at all; under `deny` also when it cannot be reached.
    pub fn link(config: &LimitStore, previous: Option<&Self>, on_event: OnEvent) -> Result<Option<Arc<Link>>, String> {
        let Some(url) = &config.redis else { return Ok(None) };
        if let Some(link) = previous.and_then(Self::shared).map(Shared::link).filter(|link| link.leads_to(url)) {
            return Ok(Some(Arc::clone(link)));
        }
        let (link, first) = Link::start(url, config.on_failure, on_event)?;
        let reached = first.recv_timeout(START).unwrap_or_else(|_| Err("it does not answer".to_owned()));
        match (config.on_failure, reached) {
            (StoreFailure::Deny, Err(why)) => Err(format!("the limit store at {} cannot be reached: {why}", link.address())),
            _ => Ok(Some(link)),
        }
    }

    /// The store of a configuration whose limits are `limiter`, over what [`Store::link`] gave.
    pub fn new(config: &LimitStore, limiter: &Arc<Limiter>, link: Option<Arc<Link>>, previous: Option<&Self>) -> Self {
        let limiter = Arc::clone(limiter);
        let Some(link) = link else { return Self::Memory(limiter) };
        link.trouble().set_policy(config.on_failure);
        let patient = config.on_failure == StoreFailure::Deny;
        let before = previous.and_then(Self::shared);
        let shared = Shared::new(Arc::clone(&limiter), link, config.timeout, config.lease, patient, before);
        Self::Shared(Remote { limiter, shared: Arc::new(shared), on_failure: config.on_failure })
    }

    fn shared(&self) -> Option<&Shared> {
        match self {
            Self::Memory(_) => None,
            Self::Shared(remote) => Some(&remote.shared),
        }
    }

    /// Whether key and team would admit one more request, however small. Charges nothing. `ask` allows a round trip to a
    /// shared store; without it, only what is known here is told.
    ///
    /// # Errors
    /// The limit that would wait longest.
    pub async fn peek(&self, who: &Subject, ask: bool, now: u64) -> Result<(), Refusal> {
        match self {
            Self::Memory(limiter) => limiter.peek(who, now),
            Self::Shared(remote) => Box::pin(remote.shared.peek(who, ask)).await,
        }
    }

    /// Charges one request to all limits of its key, team and route, or to none. `provider` is the one that will be asked
    /// first: a shared store decides on its limits in the same round trip and keeps the answer for [`Store::enter`].
    ///
    /// # Errors
    /// Why it is not admitted; nothing has been charged then.
    pub async fn admit(
        &self,
        who: &Subject,
        route: usize,
        provider: Option<usize>,
        estimate: Estimate,
        now: u64,
    ) -> Result<Permit, Denied> {
        match self {
            Self::Memory(limiter) => limiter.admit(who, route, estimate, now).map_err(Denied::Limit),
            Self::Shared(remote) => Box::pin(remote.admit(who, route, provider, estimate, now)).await,
        }
    }

    /// Charges the limits of the provider of one attempt, all or none; an earlier attempt is left first. Tells which kinds
    /// admitted it.
    ///
    /// # Errors
    /// Why the provider may not be asked, with its limits beside those of the permit, which itself stays good.
    pub async fn enter(&self, permit: &mut Permit, provider: usize, now: u64) -> Result<Kinds, Denied> {
        let mut entered = match self {
            Self::Memory(_) => permit.enter_provider(provider, now).map_err(Denied::Limit),
            Self::Shared(remote) => Box::pin(remote.enter(permit, provider, now)).await,
        };
        if let Err(Denied::Limit(refusal)) = &mut entered {
            refusal.headers.merge(permit.headers());
        }
        entered
    }

    /// How the shared store is; `None` where limits are counted in the process.
    pub fn status(&self) -> Option<StoreStatus> {
        let Self::Shared(remote) = self else { return None };
        let link = remote.shared.link();
        Some(StoreStatus {
            address: link.address().to_owned(),
            on_failure: remote.on_failure,
            connected: link.is_connected(),
            failing: link.trouble().is_failing(),
            last_failure: link.trouble().last(),
        })
    }

    /// Who counts at the moment.
    pub fn counted_by(&self) -> CountedBy {
        match self {
            Self::Memory(_) => CountedBy::Node,
            Self::Shared(remote) if !remote.shared.link().trouble().is_failing() => CountedBy::Store,
            Self::Shared(remote) => match remote.on_failure {
                StoreFailure::Local => CountedBy::Node,
                StoreFailure::Allow | StoreFailure::Deny => CountedBy::Nobody,
            },
        }
    }

    /// Where the limits stand by what a shared store last told this node, in the order of [`Limiter::standings`]. `None`
    /// where this node counts them itself, which it also does while the store fails under `on_store_failure: local`.
    pub fn standings(&self) -> Option<impl Iterator<Item = Standing>> {
        self.shared().filter(|_| self.counted_by() != CountedBy::Node).map(Shared::standings)
    }
}

impl Remote {
    async fn admit(&self, who: &Subject, route: usize, provider: Option<usize>, estimate: Estimate, now: u64) -> Result<Permit, Denied> {
        let mut permit = match (self.shared.admit(who, route, provider, estimate).await, self.on_failure) {
            (Ok(decided), _) => return decided.map_err(Denied::Limit),
            (Err(Failed), StoreFailure::Local) => self.limiter.admit(who, route, estimate, now).map_err(Denied::Limit)?,
            (Err(Failed), StoreFailure::Allow) => Permit::new(&self.limiter, *who, route, estimate, Counted::Nowhere, Granted::default()),
            (Err(Failed), StoreFailure::Deny) => return Err(Denied::Store),
        };
        permit.note_store_failure();
        Ok(permit)
    }

    async fn enter(&self, permit: &mut Permit, provider: usize, now: u64) -> Result<Kinds, Denied> {
        permit.leave_provider();
        let (counted, told) = match permit.take_ahead(provider) {
            Some(ahead) => ahead,
            None => match (self.shared.enter(provider, &permit.estimate()).await, self.on_failure) {
                (Ok(told), _) => (Counted::Shared(Arc::clone(&self.shared)), told),
                (Err(Failed), StoreFailure::Local) => {
                    permit.note_store_failure();
                    return permit.enter_provider(provider, now).map_err(Denied::Limit);
                }
                (Err(Failed), StoreFailure::Allow) => {
                    permit.note_store_failure();
                    (Counted::Nowhere, Ok(Granted::default()))
                }
                (Err(Failed), StoreFailure::Deny) => {
                    permit.note_store_failure();
                    return Err(Denied::Store);
                }
            },
        };
        let granted = told.map_err(Denied::Limit)?;
        Ok(permit.entered(provider, counted, &granted))
    }
}
