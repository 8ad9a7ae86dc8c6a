//! Limits that all nodes count together, in one Redis.
//!
//! - All limits of a request, those of the first provider included, are decided by one script in one round trip, each
//!   group all or none, in the time of Redis. `decide.lua` is that script; [`cell`] is what this node knows of one limit;
//!   [`link`] keeps the connection and tells Redis what requests leave behind, off their path.
//! - A failure is told as [`Failed`]; [`super::store`] knows what then holds. What a failed decision charged in Redis
//!   without the answer being heard stays charged for `requests`; reservations and places are restated.
//! - Commands: EVALSHA, EVAL, SCRIPT LOAD, SET, DEL, PEXPIRE; keys: `{tidegate}:*`; needs Redis 5 or a server that speaks
//!   as it does: one, a primary that Sentinels watch, or a cluster ([`server`]). All keys share one hash tag, because one
//!   decision is one atomic round trip: a cluster counts on one of its nodes and gives availability, not scale.
//!
//! With leases, a round trip also takes ⌊amount × lease ÷ period⌋ units of each limit on requests and tokens in advance,
//! where so many are there, and requests are admitted from them without asking until the lease ends. What is leased is
//! reserved, so it is not given to two nodes. The overshoot is at most ⌊amount × lease ÷ period⌋ for each node that dies or
//! is cut off from Redis for more than [`link::LIFE`] before it has told what it spent; requests with a limit on
//! `concurrent` or `usd` always ask. Units that lie idle at one node are refused to others for at most a lease.

pub mod cell;
pub mod link;
pub mod server;
pub mod trouble;

use super::memory::Limiter;
use super::permit::{Counted, Permit, own};
use super::{Estimate, Granted, Refusal, Scope, Standing, Subject, Used, whole_milliseconds};
use crate::limit::rule::{Dimension, LimitRule};
use ::redis::Cmd;
use cell::{Cell, MOST};
use link::{Link, Session};
use smallvec::SmallVec;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};
use tokio::time::timeout_at;
use trouble::Failure;

/// How every key begins: the part in braces is what Redis Cluster hashes.
pub const TAG: &str = "{tidegate}";
/// The script's text.
const SOURCE: &str = include_str!("decide.lua");
/// The script with its digest.
static SCRIPT: LazyLock<::redis::Script> = LazyLock::new(|| ::redis::Script::new(SOURCE));
/// Numbers that the script tells of each limit.
const NUMBERS: usize = 4;

/// Redis failed or was late; what was to be decided is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed;

/// Whether the limit store can be reached by this URL.
pub fn is_url(text: &str) -> bool {
    const SCHEMES: [&str; 6] =
        ["redis://", "rediss://", "redis-sentinel://", "rediss-sentinel://", "redis-cluster://", "rediss-cluster://"];
    SCHEMES.iter().any(|scheme| text.starts_with(scheme)) && server::Server::open(text).is_ok()
}

/// The limits of one configuration, counted in Redis.
pub struct Shared {
    limiter: Arc<Limiter>,
    /// One for each limit, in the order of [`Limiter::range`].
    cells: Vec<Arc<Cell>>,
    link: Arc<Link>,
    timeout: Duration,
    lease: Option<Duration>,
    /// Whether a request waits for a session where there is none: when nothing else would admit it.
    patient: bool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("link", &self.link).finish_non_exhaustive()
    }
}

type Cells<'a> = SmallVec<[&'a Arc<Cell>; 8]>;

/// What Redis said.
struct Answer {
    epoch: u64,
    numbers: Vec<i64>,
    sent: Instant,
}

/// What Redis said of one limit.
struct Said {
    wait: i64,
    standing: Standing,
    leased: u64,
}

impl Shared {
    /// The limits of `limiter`, over `link`, with what this node knows of them from the configuration before.
    pub fn new(
        limiter: Arc<Limiter>,
        link: Arc<Link>,
        timeout: Duration,
        lease: Option<Duration>,
        patient: bool,
        previous: Option<&Self>,
    ) -> Self {
        let known: HashMap<_, _> = previous
            .filter(|previous| Arc::ptr_eq(&previous.link, &link))
            .iter()
            .flat_map(|previous| &previous.cells)
            .map(|cell| (&cell.identity, cell))
            .collect();
        let cells = limiter
            .rules()
            .map(|(identity, rule)| match known.get(identity) {
                Some(cell) => {
                    cell.retune(*rule);
                    Arc::clone(cell)
                }
                None => link.add(|epoch| Cell::new(identity.clone(), *rule, epoch)),
            })
            .collect();
        link.look_often(lease);
        Self { limiter, cells, link, timeout, lease, patient }
    }

    /// The link.
    pub fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// Whether key and team would admit one more request. A refusal that is remembered is told again; Redis is asked only
    /// if `ask` says that the body is worth a round trip.
    ///
    /// # Errors
    /// The limit that would wait longest. A store that fails refuses nothing here: the admission will.
    pub async fn peek(&self, who: &Subject, ask: bool) -> Result<(), Refusal> {
        let cells = self.of([self.limiter.range(Scope::Key, who.key), self.limiter.range(Scope::Team, who.team)]);
        if let Some(refusal) = cells.iter().filter_map(|cell| cell.remembered()).max_by_key(|refusal| refusal.retry_after) {
            return Err(refusal);
        }
        if !ask || cells.is_empty() {
            return Ok(());
        }
        let Ok(answer) = self.call("peek", &cells, cells.len(), &Estimate { tokens: 1, micro_usd: 0 }).await else { return Ok(()) };
        self.read(&answer, 0, 0, &cells, &Estimate::default()).map(drop)
    }

    /// Charges one request to all limits of key, team and route or to none, and if it is admitted also to those of the
    /// provider that will be asked first, all or none.
    ///
    /// # Errors
    /// The failure of Redis, or the limit that would wait longest.
    pub async fn admit(
        self: &Arc<Self>,
        who: &Subject,
        route: usize,
        provider: Option<usize>,
        estimate: Estimate,
    ) -> Result<Result<Permit, Refusal>, Failed> {
        let mut cells = self.of(own(&self.limiter, who, route));
        let permit = |granted| Permit::new(&self.limiter, *who, route, estimate, Counted::Shared(Arc::clone(self)), granted);
        if let Some(granted) = self.spend(&cells, &estimate) {
            return Ok(Ok(permit(granted)));
        }
        let first = cells.len();
        if let Some(provider) = provider {
            cells.extend(self.of([self.limiter.range(Scope::Provider, Some(provider))]));
        }
        let answer = self.call("admit", &cells, first, &estimate).await?;
        let (mine, theirs) = cells.split_at(first);
        let mut permit = match self.read(&answer, 0, 0, mine, &estimate) {
            Ok(granted) => permit(granted),
            Err(refusal) => return Ok(Err(refusal)),
        };
        if let (Some(provider), false) = (provider, theirs.is_empty()) {
            permit.keep_ahead(provider, Counted::Shared(Arc::clone(self)), self.read(&answer, 1, first, theirs, &estimate));
        }
        Ok(Ok(permit))
    }

    /// Charges one attempt to all limits of a provider, or to none.
    ///
    /// # Errors
    /// The failure of Redis, or the limit that would wait longest.
    pub async fn enter(&self, provider: usize, estimate: &Estimate) -> Result<Result<Granted, Refusal>, Failed> {
        let cells = self.of([self.limiter.range(Scope::Provider, Some(provider))]);
        if let Some(granted) = self.spend(&cells, estimate) {
            return Ok(Ok(granted));
        }
        let answer = self.call("admit", &cells, cells.len(), estimate).await?;
        Ok(self.read(&answer, 0, 0, &cells, estimate))
    }

    /// Replaces reservations by what was used.
    pub(super) fn settle(&self, cells: Range<usize>, estimate: &Estimate, used: &Used) {
        for cell in self.cells.get(cells).unwrap_or_default() {
            if cell.amounts(estimate, used).is_some_and(|(held, used)| cell.settle(held, used)) {
                self.link.enqueue(cell);
            }
        }
    }

    /// Frees places, and gives reservations back that have not been settled.
    pub(super) fn leave(&self, cells: Range<usize>, unsettled: Option<&Estimate>) {
        for cell in self.cells.get(cells).unwrap_or_default() {
            let held = match cell.rule().dimension {
                Dimension::Concurrent => Some(1),
                _ => unsettled.and_then(|estimate| cell.amounts(estimate, &Used::default())).map(|(held, _)| held),
            };
            if held.is_some_and(|held| cell.settle(held, 0)) {
                self.link.enqueue(cell);
            }
        }
    }

    /// Where every limit stands now by what Redis last told this node, in the order of scopes and members.
    pub fn standings(&self) -> impl Iterator<Item = Standing> {
        let now = Instant::now();
        self.cells.iter().map(move |cell| cell.standing_at(now))
    }

    fn of<const N: usize>(&self, ranges: [Range<usize>; N]) -> Cells<'_> {
        ranges.into_iter().filter_map(|range| self.cells.get(range)).flatten().collect()
    }

    /// Admits from what is leased, or because there is no limit at all.
    fn spend(&self, cells: &Cells<'_>, estimate: &Estimate) -> Option<Granted> {
        let now = Instant::now();
        for (index, cell) in cells.iter().enumerate() {
            let rule = cell.rule();
            if self.leased(&rule) == 0 || !cell.spend(cost(&rule, estimate), now) {
                for spent in cells.iter().take(index) {
                    spent.unspend(cost(&spent.rule(), estimate));
                }
                return None;
            }
        }
        let mut granted = Granted::default();
        for cell in cells {
            let rule = cell.rule();
            // A request is used at once; its tokens stay reserved until it settles.
            if rule.dimension == Dimension::Requests && cell.settle(1, 1) {
                self.link.enqueue(cell);
            }
            granted.kinds.insert(cell.identity.scope, rule.dimension);
            granted.headers.add(rule.dimension, || cell.standing());
        }
        Some(granted)
    }

    /// How much of a limit is taken in advance.
    fn leased(&self, rule: &LimitRule) -> u64 {
        let Some(lease) = self.lease else { return 0 };
        match rule.dimension {
            Dimension::Requests | Dimension::Tokens => {
                let share = u128::from(rule.amount) * lease.as_nanos() / rule.per.as_nanos().max(1);
                u64::try_from(share).unwrap_or(u64::MAX).min(rule.burst)
            }
            Dimension::Concurrent | Dimension::Usd => 0,
        }
    }

    async fn call(&self, operation: &str, cells: &[&Arc<Cell>], first: usize, estimate: &Estimate) -> Result<Answer, Failed> {
        let answer = self.ask(operation, cells, first, estimate).await;
        if answer.is_ok() {
            self.link.decided();
        }
        answer
    }

    async fn ask(&self, operation: &str, cells: &[&Arc<Cell>], first: usize, estimate: &Estimate) -> Result<Answer, Failed> {
        self.link.calls();
        let deadline = tokio::time::Instant::now() + self.timeout;
        let failed = |failure| {
            self.link.failed(&failure);
            Failed
        };
        let waited = timeout_at(deadline, self.link.session(self.patient)).await;
        let mut session = waited.ok().flatten().ok_or_else(|| failed(Failure::Unconnected))?;
        loop {
            let sent = Instant::now();
            let answer = timeout_at(deadline, self.invoke(&session, operation, cells, first, estimate)).await;
            match answer {
                Ok(Ok(numbers)) if numbers.as_slice() != [-1] => return Ok(Answer { epoch: session.epoch, numbers, sent }),
                // Flushed or replaced: nothing was decided, and the node registers anew.
                Ok(Ok(_)) => {
                    self.link.suspect(&session);
                    let other = timeout_at(deadline, self.link.other_than(Some(&session))).await;
                    session = other.ok().flatten().ok_or_else(|| failed(Failure::Unconnected))?;
                }
                Ok(Err(error)) => {
                    if !trouble::changed_nothing(&error) {
                        self.link.suspect(&session);
                    }
                    return Err(failed(Failure::Error(&error)));
                }
                Err(_late) => {
                    self.link.suspect(&session);
                    return Err(failed(Failure::Late(self.timeout)));
                }
            }
        }
    }

    async fn invoke(
        &self,
        session: &Session,
        operation: &str,
        cells: &[&Arc<Cell>],
        first: usize,
        estimate: &Estimate,
    ) -> ::redis::RedisResult<Vec<i64>> {
        let command = |how: &str, script: &str| {
            let mut command = Cmd::new();
            command.arg(how).arg(script).arg(cells.len() + 1).arg(&session.registration);
            for cell in cells {
                command.arg(&cell.key);
            }
            command.arg(operation).arg(&session.node).arg(link::LIFE.as_micros() as u64).arg(first);
            for cell in cells {
                let rule = cell.touch();
                let cost = cost(&rule, estimate);
                // A lease that would not last for this request once more is none.
                let lease = Some(self.leased(&rule)).filter(|lease| *lease >= cost).unwrap_or_default();
                parameters(&mut command, &rule, cost, lease);
            }
            command
        };
        let mut connection = session.connection.clone();
        match command("EVALSHA", SCRIPT.get_hash()).query_async(&mut connection).await {
            Err(error) if error.kind() == ::redis::ErrorKind::Server(::redis::ServerErrorKind::NoScript) => {
                command("EVAL", SOURCE).query_async(&mut connection).await
            }
            answer => answer,
        }
    }

    /// What the answer says of one group: admitted, and then all of it is booked; or refused.
    fn read(&self, answer: &Answer, group: usize, skip: usize, cells: &[&Arc<Cell>], estimate: &Estimate) -> Result<Granted, Refusal> {
        let told = answer.numbers.get(2 + skip * NUMBERS..).unwrap_or_default();
        let all: SmallVec<[_; 8]> =
            cells.iter().zip(told.chunks_exact(NUMBERS)).map(|(cell, numbers)| (*cell, cell.rule(), said(&cell.rule(), numbers))).collect();
        let mut granted = Granted::default();
        for (cell, rule, said) in &all {
            granted.headers.add(rule.dimension, || said.standing);
            granted.kinds.insert(cell.identity.scope, rule.dimension);
        }
        if answer.numbers.get(group) == Some(&1) {
            let ends = self.lease.map(|lease| answer.sent + lease);
            for (cell, rule, said) in &all {
                let taken = if rule.dimension == Dimension::Requests { 0 } else { cost(rule, estimate) };
                if cell.admitted(answer.epoch, taken, said.leased, ends, said.standing) {
                    self.link.enqueue(cell);
                }
            }
            return Ok(granted);
        }
        let longest =
            all.iter().filter(|(.., said)| said.wait != 0).max_by_key(|(.., said)| if said.wait < 0 { i64::MAX } else { said.wait });
        let refusal = |cell: &Cell, rule: &LimitRule, said: &Said| Refusal {
            scope: cell.identity.scope,
            dimension: rule.dimension,
            limit: cell::limit(rule),
            per: cell.identity.per,
            retry_after: u64::try_from(said.wait).ok().map(|wait| whole_milliseconds(Duration::from_micros(wait))),
            renewed: said.standing.reset,
            headers: Box::new(granted.headers),
        };
        for (cell, rule, said) in &all {
            if let (Dimension::Requests, Ok(wait @ 1..)) = (rule.dimension, u64::try_from(said.wait)) {
                cell.refused(refusal(cell, rule, said), Duration::from_micros(wait), said.standing);
            }
        }
        match longest {
            Some((cell, rule, said)) => Err(refusal(cell, rule, said)),
            None => Ok(granted), // no limit in this group
        }
    }
}

/// What a request asks of a limit at once.
fn cost(rule: &LimitRule, estimate: &Estimate) -> u64 {
    match rule.dimension {
        Dimension::Requests | Dimension::Concurrent => 1,
        Dimension::Tokens => estimate.tokens.min(MOST),
        Dimension::Usd => estimate.micro_usd.min(MOST),
    }
}

/// Appends what the script needs to know of a limit.
fn parameters(command: &mut Cmd, rule: &LimitRule, a: impl ::redis::ToRedisArgs, b: u64) {
    let period = u64::try_from(rule.per.as_micros()).unwrap_or(u64::MAX).max(1);
    command.arg(rule.dimension.name()).arg(rule.amount).arg(period).arg(rule.burst).arg(a).arg(b.min(9 * MOST));
}

fn said(rule: &LimitRule, numbers: &[i64]) -> Said {
    let number = |index: usize| numbers.get(index).copied().unwrap_or_default();
    let amount = |index| u64::try_from(number(index)).unwrap_or_default();
    let (limit, remaining) = (cell::limit(rule), amount(1));
    let standing =
        Standing { limit, used: limit.saturating_sub(remaining), reserved: 0, remaining, reset: Duration::from_micros(amount(2)) };
    Said { wait: number(0), standing, leased: amount(3) }
}
