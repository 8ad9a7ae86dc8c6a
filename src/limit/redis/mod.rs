//! Limits counted in a Redis that all nodes share.
//!
//! - One script decides all limits of a request, including those of its first provider, in one atomic round trip, using
//!   the time of Redis. `decide.lua` is the script, [`cell`] the state of one limit on this node, [`client`] the
//!   connection and the thread that reports usage in the background.
//! - A failure is returned as [`LimitError::Store`]; [`super::store`] applies the policy. If a reply is lost, its charge
//!   to `requests` remains in Redis; reservations and in-flight counts are restated.
//!   A decision that the client does not wait for any more is awaited and reverted ([`to_end`]).
//! - Commands: EVALSHA, EVAL, SCRIPT LOAD, SET, DEL, PEXPIRE; keys: `{tidegate}:*`. Requires Redis 5 or a compatible
//!   server: one server, Sentinels, or a cluster ([`server`]). All keys share a hash tag, so a cluster adds
//!   availability, not capacity.
//!
//! With leases, a round trip also tops up this node to ⌊amount × lease ÷ period⌋ units of each limit on requests and
//! tokens; it admits requests from them without a round trip until the lease ends. The overshoot is at most that amount
//! for each node that dies or is cut off from Redis for more than [`client::HOLD_TTL`] before reporting. Requests with a
//! limit on `concurrent` or `usd` always take a round trip, and lease nothing. Leased units that a node does not use are
//! unavailable to others until the lease ends.
//!
//! A crossing of a soft limit (`warn`) is found by the script, and told to the node whose command it happened in: it is
//! warned of once, not once per node. Leased units count as used when the node reports their use.

pub mod cell;
pub mod client;
pub mod health;
pub mod server;
mod to_end;

use super::memory::Limiter;
use super::permit::{Charge, Counted, Permit};
use super::{Admission, Estimate, LimitError, LimitExceeded, LimitStatus, Subject, Used, whole_milliseconds};
use crate::limit::rule::{Dimension, LimitPeriod, LimitRule, LimitStore, StoreFailure};
use crate::system;
use ::redis::Cmd;
use cell::{Cell, MAX_COST};
use client::{Session, StoreClient};
use health::StoreError;
use smallvec::SmallVec;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};
use to_end::ToEnd;
use tokio::time::timeout_at;

/// Prefix of every key; Redis Cluster hashes the part in braces.
pub const TAG: &str = "{tidegate}";
const SOURCE: &str = include_str!("decide.lua");
static SCRIPT: LazyLock<::redis::Script> = LazyLock::new(|| ::redis::Script::new(SOURCE));
/// Integers per limit in the script's reply.
const NUMBERS: usize = 5;

/// Whether `text` is a URL that [`server::Server::open`] accepts.
pub fn is_url(text: &str) -> bool {
    const SCHEMES: [&str; 6] =
        ["redis://", "rediss://", "redis-sentinel://", "rediss-sentinel://", "redis-cluster://", "rediss-cluster://"];
    SCHEMES.iter().any(|scheme| text.starts_with(scheme)) && server::Server::open(text).is_ok()
}

/// The limits of one configuration, counted in Redis.
pub struct RedisLimiter {
    limiter: Arc<Limiter>,
    /// One per limit, in the order of [`Limiter::range`].
    cells: Vec<Arc<Cell>>,
    client: Arc<StoreClient>,
    timeout: Duration,
    lease: Option<Duration>,
    /// Whether a request waits for a session to be established: under `deny`, where it would be rejected otherwise.
    wait_for_session: bool,
}

impl std::fmt::Debug for RedisLimiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisLimiter").field("client", &self.client).finish_non_exhaustive()
    }
}

type Cells<'a> = SmallVec<[&'a Arc<Cell>; 8]>;

/// Units that a call leases of each limit, in order.
struct Leases<'a>(SmallVec<[(&'a Cell, u64); 8]>);

impl Leases<'_> {
    fn of(&self, index: usize) -> u64 {
        self.0.get(index).map_or(0, |(_, units)| *units)
    }
}

impl Drop for Leases<'_> {
    fn drop(&mut self) {
        self.0.iter().filter(|(_, units)| *units > 0).for_each(|(cell, _)| cell.end_leasing());
    }
}

/// Reply of the script.
struct Reply {
    epoch: u64,
    numbers: Vec<i64>,
    sent: Instant,
}

/// The script's reply for one limit.
struct CellReply {
    /// Microseconds; 0 if it admits, negative if a window is spent until then.
    wait: i64,
    status: LimitStatus,
    leased: u64,
    /// Whether this node is to warn.
    warns: bool,
}

impl CellReply {
    /// Orders rejections: a spent budget of `usd`, then the longest wait.
    fn rank(&self, rule: &LimitRule) -> u64 {
        if self.wait < 0 && rule.dimension == Dimension::Usd { u64::MAX } else { self.wait.unsigned_abs() }
    }
}

impl RedisLimiter {
    /// The limits of `limiter`, with the state that this node has of them from the previous configuration.
    pub fn new(limiter: Arc<Limiter>, client: Arc<StoreClient>, config: &LimitStore, previous: Option<&Self>) -> Self {
        let known: HashMap<_, _> = previous
            .filter(|previous| Arc::ptr_eq(&previous.client, &client))
            .iter()
            .flat_map(|previous| &previous.cells)
            .map(|cell| (&cell.id, cell))
            .collect();
        let cells = limiter
            .rules()
            .map(|(id, rule, warnings)| match known.get(id) {
                Some(cell) => {
                    cell.set_rule(*rule);
                    Arc::clone(cell)
                }
                None => client.add(|epoch| Cell::new(id.clone(), *rule, Arc::clone(warnings), epoch)),
            })
            .collect();
        let LimitStore { timeout, lease, on_failure, .. } = *config;
        client.set_lease(lease);
        Self { limiter, cells, client, timeout, lease, wait_for_session: on_failure == StoreFailure::Deny }
    }

    /// The client.
    pub fn client(&self) -> &Arc<StoreClient> {
        &self.client
    }

    /// Whether key and team would admit one more request, whatever its route. Returns a cached rejection if there is one;
    /// calls Redis only if `remote`.
    ///
    /// # Errors
    /// The limit with the longest wait. A failing store rejects nothing here; the admission applies the policy.
    pub async fn peek(&self, subject: &Subject, remote: bool) -> Result<(), LimitExceeded> {
        let cells = self.own(subject, None);
        if let Some(exceeded) = cells.iter().filter_map(|cell| cell.cached_rejection()).max_by_key(|exceeded| exceeded.retry_after) {
            return Err(exceeded);
        }
        if !remote || cells.is_empty() {
            return Ok(());
        }
        let Ok(reply) = self.call("peek", &cells, cells.len(), &Estimate { tokens: 1, micro_usd: 0 }).await else { return Ok(()) };
        self.read(&reply, 0, 0, &cells, None).map(drop)
    }

    /// Charges one request to all limits of key, team and route, or to none; if admitted, also to those of `provider`,
    /// all or none.
    ///
    /// # Errors
    /// The failure of Redis, or the limit with the longest wait.
    pub(super) async fn admit(self: &Arc<Self>, charge: Charge, provider: Option<usize>) -> Result<Permit, LimitError> {
        if let Some(admission) = self.spend(&self.own(&charge.subject, Some(charge.route)), &charge.estimate) {
            return Ok(self.permit(charge, admission));
        }
        let this = Arc::clone(self);
        // A permit that nobody waits for is dropped, which releases what it holds.
        ToEnd::new(async move { this.decide(charge, provider).await }, drop).await
    }

    fn permit(self: &Arc<Self>, charge: Charge, admission: Admission) -> Permit {
        Permit::new(&self.limiter, charge, Counted::Shared(Arc::clone(self)), admission)
    }

    /// [`Self::admit`] by Redis.
    async fn decide(self: &Arc<Self>, charge: Charge, provider: Option<usize>) -> Result<Permit, LimitError> {
        let mut cells = self.own(&charge.subject, Some(charge.route));
        let first = cells.len();
        if let Some(provider) = provider {
            cells.extend(self.of_provider(provider));
        }
        let reply = self.call("admit", &cells, first, &charge.estimate).await?;
        let (own, of_provider) = cells.split_at_checked(first).unwrap_or_default();
        let mut permit = self.permit(charge, self.read(&reply, 0, 0, own, Some(&charge.estimate))?);
        if let (Some(provider), false) = (provider, of_provider.is_empty()) {
            permit.store_prefetched(provider, self.read(&reply, 1, first, of_provider, Some(&charge.estimate)));
        }
        Ok(permit)
    }

    /// Charges one attempt to all limits of a provider, or to none.
    ///
    /// # Errors
    /// The failure of Redis, or the limit with the longest wait.
    pub async fn enter(self: &Arc<Self>, provider: usize, estimate: Estimate) -> Result<Admission, LimitError> {
        if let Some(admission) = self.spend(&self.of_provider(provider).collect(), &estimate) {
            return Ok(admission);
        }
        let (this, other) = (Arc::clone(self), Arc::clone(self));
        let decide = async move {
            let cells: Cells<'_> = this.of_provider(provider).collect();
            let reply = this.call("admit", &cells, cells.len(), &estimate).await?;
            Ok(this.read(&reply, 0, 0, &cells, Some(&estimate))?)
        };
        let release = move |decision: Result<Admission, LimitError>| {
            if decision.is_ok() {
                other.limiter.of_provider(provider).for_each(|cell| other.release(cell, Some(&estimate)));
            }
        };
        ToEnd::new(decide, release).await
    }

    /// Replaces a reservation by actual usage.
    pub(super) fn settle(&self, cell: usize, estimate: &Estimate, used: &Used) {
        let Some(cell) = self.cells.get(cell) else { return };
        let rule = cell.rule();
        if used.of(rule.dimension).is_some_and(|used| cell.settle(cost(&rule, estimate), used)) {
            self.client.enqueue(cell);
        }
    }

    /// Releases an in-flight slot, and a reservation that is not settled.
    pub(super) fn release(&self, cell: usize, unsettled: Option<&Estimate>) {
        let Some(cell) = self.cells.get(cell) else { return };
        let rule = cell.rule();
        let held = match rule.dimension {
            Dimension::Requests => None,
            Dimension::Concurrent => Some(1),
            Dimension::Tokens | Dimension::Usd => unsettled.map(|estimate| cost(&rule, estimate)),
        };
        if held.is_some_and(|held| cell.settle(held, 0)) {
            self.client.enqueue(cell);
        }
    }

    /// State of every limit as Redis last reported it, extrapolated to now, in the order of scopes and members.
    pub fn statuses(&self) -> impl Iterator<Item = LimitStatus> {
        let now = system::now();
        self.cells.iter().map(move |cell| cell.status_at(now))
    }

    /// The cells of [`Limiter::each_own`].
    fn own(&self, subject: &Subject, route: Option<usize>) -> Cells<'_> {
        let mut cells = Cells::new();
        self.limiter.each_own(subject, route, |cell| cells.extend(self.cells.get(cell)));
        cells
    }

    fn of_provider(&self, provider: usize) -> impl Iterator<Item = &Arc<Cell>> {
        self.cells.get(self.limiter.of_provider(provider)).unwrap_or_default().iter()
    }

    /// Admits from leased units; also if there are no limits.
    fn spend(&self, cells: &Cells<'_>, estimate: &Estimate) -> Option<Admission> {
        let now = system::now();
        for (index, cell) in cells.iter().enumerate() {
            let rule = cell.rule();
            if self.leased(&rule) == 0 || !cell.spend(cost(&rule, estimate), now) {
                for spent in cells.iter().take(index) {
                    spent.unspend(cost(&spent.rule(), estimate));
                }
                return None;
            }
        }
        let mut admission = Admission::default();
        for cell in cells {
            let rule = cell.rule();
            // Requests are charged at once; tokens stay reserved until settled.
            if rule.dimension == Dimension::Requests && cell.settle(1, 1) {
                self.client.enqueue(cell);
            }
            admission.kinds.insert(cell.id.scope, rule.dimension);
            admission.headers.add(&cell.id, || cell.status());
        }
        Some(admission)
    }

    /// What a call leases for the two groups of limits that it decides. A group is admitted from leases only if all of its
    /// limits have leased units, so nothing is leased for a group of which one limit leases none, or too few for one more
    /// such request.
    fn leases<'a>(&self, cells: &[&'a Arc<Cell>], first: usize, estimate: &Estimate) -> Leases<'a> {
        let of = |cell: &Arc<Cell>| {
            let rule = cell.rule();
            Some(self.leased(&rule)).filter(|lease| *lease > 0 && *lease >= cost(&rule, estimate))
        };
        let (own, of_provider) = cells.split_at_checked(first).unwrap_or_default();
        let mut leases = Leases(SmallVec::new());
        for group in [own, of_provider] {
            let lease: Option<SmallVec<[u64; 8]>> = group.iter().map(|cell| of(cell)).collect();
            let units =
                |index: usize, cell: &Cell| lease.as_ref().and_then(|all| all.get(index)).map_or(0, |lease| cell.begin_leasing(*lease));
            leases.0.extend(group.iter().enumerate().map(|(index, cell)| (&***cell, units(index, cell))));
        }
        leases
    }

    /// Units of a limit that this node may have leased.
    fn leased(&self, rule: &LimitRule) -> u64 {
        let Some(lease) = self.lease else { return 0 };
        match rule.dimension {
            Dimension::Requests | Dimension::Tokens => {
                let share = u128::from(rule.amount) * lease.as_nanos() / rule.per.length().as_nanos().max(1);
                u64::try_from(share).unwrap_or(u64::MAX).min(rule.burst)
            }
            Dimension::Concurrent | Dimension::Usd => 0,
        }
    }

    async fn call(&self, operation: &str, cells: &[&Arc<Cell>], first: usize, estimate: &Estimate) -> Result<Reply, LimitError> {
        self.client.count_call();
        let deadline = tokio::time::Instant::now() + self.timeout;
        let failed = |failure| {
            self.client.record_failure(&failure);
            LimitError::Store
        };
        let waited = timeout_at(deadline, self.client.session(self.wait_for_session)).await;
        let mut session = waited.ok().flatten().ok_or_else(|| failed(StoreError::NotConnected))?;
        let leases = self.leases(if operation == "admit" { cells } else { &[] }, first, estimate);
        loop {
            let sent = system::now();
            let reply = timeout_at(deadline, self.invoke(&session, operation, cells, first, estimate, &leases)).await;
            match reply {
                Ok(Ok(numbers)) if numbers.as_slice() != [-1] => {
                    self.client.record_decision();
                    return Ok(Reply { epoch: session.epoch, numbers, sent });
                }
                // Redis was flushed or replaced: nothing was decided, and the node registers again.
                Ok(Ok(_)) => {
                    self.client.invalidate(&session);
                    let other = timeout_at(deadline, self.client.next_session(Some(&session))).await;
                    session = other.ok().flatten().ok_or_else(|| failed(StoreError::NotConnected))?;
                }
                Ok(Err(error)) => {
                    if !health::changed_nothing(&error) {
                        self.client.invalidate(&session);
                    }
                    return Err(failed(StoreError::Error(&error)));
                }
                Err(_late) => {
                    self.client.invalidate(&session);
                    return Err(failed(StoreError::Timeout(self.timeout)));
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
        leases: &Leases<'_>,
    ) -> ::redis::RedisResult<Vec<i64>> {
        let command = |how: &str, script: &str| {
            let mut command = Cmd::new();
            command.arg(how).arg(script).arg(cells.len() + 1).arg(&session.registration);
            for cell in cells {
                command.arg(&cell.key);
            }
            command.arg(operation).arg(&session.node).arg(client::HOLD_TTL.as_micros() as u64).arg(first);
            for (index, cell) in cells.iter().enumerate() {
                let rule = cell.touch();
                parameters(&mut command, &rule, cost(&rule, estimate), leases.of(index));
            }
            command
        };
        let mut connection = session.connection.clone();
        match command("EVALSHA", SCRIPT.get_hash()).query_async(&mut connection).await {
            Err(error) if error.kind() == ::redis::ErrorKind::Server(::redis::ServerErrorKind::NoScript) => {
                command("EVAL", SOURCE).query_async(&mut connection).await
            }
            reply => reply,
        }
    }

    /// Evaluates one group of the reply: records what was `charged` if admitted, else returns the limit with the longest wait.
    fn read(
        &self,
        reply: &Reply,
        group: usize,
        skip: usize,
        cells: &[&Arc<Cell>],
        charged: Option<&Estimate>,
    ) -> Result<Admission, LimitExceeded> {
        let groups = reply.numbers.get(2 + skip * NUMBERS..).unwrap_or_default();
        let all: SmallVec<[_; 8]> = cells
            .iter()
            .zip(groups.chunks_exact(NUMBERS))
            .map(|(cell, numbers)| (*cell, cell.rule(), parse_cell_reply(&cell.rule(), numbers)))
            .collect();
        let mut admission = Admission::default();
        for (cell, rule, parsed) in &all {
            admission.headers.add(&cell.id, || parsed.status);
            admission.kinds.insert(cell.id.scope, rule.dimension);
        }
        if reply.numbers.get(group) == Some(&1) {
            let ends = self.lease.map(|lease| reply.sent + lease);
            let Some(estimate) = charged else { return Ok(admission) };
            for (cell, rule, parsed) in &all {
                let reserved = if rule.dimension == Dimension::Requests { 0 } else { cost(rule, estimate) };
                if cell.record_admission(reply.epoch, reserved, parsed.leased, ends, parsed.status) {
                    self.client.enqueue(cell);
                }
                if parsed.warns {
                    cell.warn();
                }
            }
            return Ok(admission);
        }
        let longest = all.iter().filter(|(.., parsed)| parsed.wait != 0).max_by_key(|(_, rule, parsed)| parsed.rank(rule));
        let exceeded = |cell: &Cell, rule: &LimitRule, parsed: &CellReply| {
            let wait = Duration::from_micros(parsed.wait.unsigned_abs());
            let (is_spent, retry_after) = (parsed.wait < 0, Some(whole_milliseconds(wait)));
            let retry_after = retry_after.filter(|_| !is_spent || rule.dimension != Dimension::Usd);
            let renews_in = if is_spent { wait } else { Duration::ZERO };
            LimitExceeded::new(&cell.id, rule.limit(), (retry_after, renews_in), admission.headers.clone())
        };
        for (cell, rule, parsed) in &all {
            if rule.dimension == Dimension::Requests && parsed.wait != 0 {
                let wait = Duration::from_micros(parsed.wait.unsigned_abs());
                cell.record_rejection(exceeded(cell, rule, parsed), wait, parsed.status);
            }
        }
        match longest {
            Some((cell, rule, parsed)) => Err(exceeded(cell, rule, parsed)),
            None => Ok(admission), // no limit in this group
        }
    }
}

/// Cost of a request in a limit's dimension.
fn cost(rule: &LimitRule, estimate: &Estimate) -> u64 {
    estimate.of(rule.dimension).map_or(1, |amount| amount.min(MAX_COST))
}

/// Appends a limit's parameters to the script's arguments.
fn parameters(command: &mut Cmd, rule: &LimitRule, a: impl ::redis::ToRedisArgs, b: u64) {
    let period = u64::try_from(rule.per.length().as_micros()).unwrap_or(u64::MAX).max(1);
    let is_window = matches!(rule.per, LimitPeriod::Window(_));
    command.arg(rule.dimension.name()).arg(u8::from(is_window)).arg(rule.amount).arg(period).arg(rule.burst);
    command.arg(rule.mark().unwrap_or_default()).arg(a).arg(b.min(9 * MAX_COST));
}

fn parse_cell_reply(rule: &LimitRule, numbers: &[i64]) -> CellReply {
    let number = |index: usize| numbers.get(index).copied().unwrap_or_default();
    let amount = |index| u64::try_from(number(index)).unwrap_or_default();
    let (limit, remaining) = (rule.limit(), amount(1));
    let status =
        LimitStatus { limit, used: limit.saturating_sub(remaining), reserved: 0, remaining, reset: Duration::from_micros(amount(2)) };
    CellReply { wait: number(0), status, leased: amount(3), warns: number(4) == 1 }
}
