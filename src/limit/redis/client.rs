//! The connection to Redis, re-established automatically, and the thread that reports usage in the background.
//!
//! ```text
//! workers ── decide ──> Session ──┐                        the session that all workers use
//!                                 ├── one connection ──> Redis
//! thread "limit-store" ── register, report, renew ──┘
//! ```
//!
//! What a node holds in Redis (reservations, leases, requests in flight) counts only while its *registration* key
//! exists. When Redis and the node may disagree (the connection broke, a reply timed out, Redis was flushed or
//! replaced), the session is invalidated and the node registers under a new name: it deletes the old registration, so
//! that commands still in transit have no effect, then restates what it holds. So nothing leaks or gets lost.

use super::cell::{Cell, Report};
use super::health::{StoreError, StoreHealth, describe};
use super::server::{self, Connection, Server, late};
use super::{SCRIPT, SOURCE, TAG, parameters};
use crate::limit::rule::StoreFailure;
use crate::redact::KnownSecrets;
use crate::system;
use ::redis::{Cmd, Pipeline, RedisError};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

/// How long the holdings of a dead node count.
pub const HOLD_TTL: Duration = Duration::from_secs(15);
/// Interval at which registration and holdings are renewed.
const RENEW: Duration = Duration::from_secs(3);
/// Poll interval of the thread.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Timeout of each pipeline of the thread.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);
/// Initial and maximum reconnect delay; doubles.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// Limits reported per batch.
const BATCH: usize = 128;
/// Former names of this node that a restatement removes; older ones expire.
const OLD_NAMES: usize = 8;

/// Events counted in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreEvent {
    /// A call: a decision, a connection attempt, or a report.
    Call,
    /// A call failed or timed out.
    Error,
}

/// Metrics callback.
pub type OnEvent = Arc<dyn Fn(StoreEvent) + Send + Sync>;

/// Receives the result of the first connection attempt.
pub type First = Receiver<Result<(), String>>;

/// A registration of this node, with its connection.
pub struct Session {
    /// Clone it for each use.
    pub connection: Connection,
    /// The node's name in this registration.
    pub node: String,
    /// The key that exists while the registration is valid.
    pub registration: String,
    /// Number of the registration.
    pub epoch: u64,
}

/// The client of a limit store.
pub struct StoreClient {
    url: crate::secret::Secret,
    /// Redacts the password from errors and logs.
    _secrets: KnownSecrets,
    address: String,
    on_event: OnEvent,
    health: StoreHealth,
    session: watch::Sender<Option<Arc<Session>>>,
    /// All limits of all generations in use, and the number of the last registration.
    cells: Mutex<(Vec<Weak<Cell>>, u64)>,
    /// Limits with unreported changes; each at most once.
    queue: Mutex<Vec<Arc<Cell>>>,
    wake: Arc<Notify>,
    tick: AtomicU64,
}

impl std::fmt::Debug for StoreClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreClient").field("address", &self.address).finish_non_exhaustive()
    }
}

impl StoreClient {
    /// Starts the thread. Warnings name `policy`. The receiver yields the result of the first connection attempt.
    ///
    /// # Errors
    /// When the URL or the system's certificates cannot be used.
    #[expect(clippy::disallowed_methods, reason = "blocks a thread of its own")]
    pub fn start(url: &crate::secret::Secret, policy: StoreFailure, on_event: OnEvent) -> Result<(Arc<Self>, First), String> {
        let (server, address) = Server::open(url.expose()).map_err(|e| format!("invalid limit store URL: {e}"))?;
        let client = Arc::new(Self {
            url: url.clone(),
            _secrets: KnownSecrets::new(server::passwords(url.expose()).iter().map(|password| &**password).chain([url.expose()])),
            address,
            on_event,
            health: StoreHealth::default(),
            session: watch::channel(None).0,
            cells: Mutex::default(),
            queue: Mutex::default(),
            wake: Arc::default(),
            tick: AtomicU64::new(millis(POLL_INTERVAL)),
        });
        client.health.set_policy(policy);
        let (first_result, first) = sync_channel(1);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
        let (weak, wake) = (Arc::downgrade(&client), client.wake.clone());
        let node = format!("n{:016x}", system::random());
        let worker =
            Worker { server, connection: None, node, old: Vec::new(), first_result: Some(first_result), renewed_at: system::now() };
        std::thread::Builder::new()
            .name("limit-store".to_owned())
            .spawn(move || runtime.block_on(worker.run(weak, wake)))
            .map_err(|e| e.to_string())?;
        Ok((client, first))
    }

    /// Whether the client was created for this URL.
    pub fn is_for(&self, url: &crate::secret::Secret) -> bool {
        self.url.expose() == url.expose()
    }

    /// Host and port, for messages.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Counts a call.
    pub fn count_call(&self) {
        (self.on_event)(StoreEvent::Call);
    }

    /// Records a failed call or connection.
    pub fn record_failure(&self, failure: &StoreError<'_>) {
        (self.on_event)(StoreEvent::Error);
        self.health.record_failure(&self.address, failure);
    }

    /// Records a decision.
    pub fn record_decision(&self) {
        self.health.record_decision(&self.address);
    }

    /// Health of the store, for `/status`.
    pub fn health(&self) -> &StoreHealth {
        &self.health
    }

    /// Whether there is a session.
    pub fn is_connected(&self) -> bool {
        self.session.borrow().is_some()
    }

    /// Adds a limit, so that its holdings are restated and renewed.
    pub fn add(&self, make: impl FnOnce(u64) -> Cell) -> Arc<Cell> {
        let mut cells = self.cells.lock();
        let cell = Arc::new(make(cells.1));
        cells.0.push(Arc::downgrade(&cell));
        cell
    }

    /// Sets the poll interval to return leases of this length in time.
    pub fn set_lease(&self, lease: Option<Duration>) {
        let tick = lease.map_or(POLL_INTERVAL, |lease| (lease / 2).clamp(Duration::from_millis(5), POLL_INTERVAL));
        self.tick.store(millis(tick), Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// The current session. Without one, waits for it if `wait`, else returns `None`.
    pub async fn session(&self, wait: bool) -> Option<Arc<Session>> {
        if let Some(session) = self.session.borrow().as_ref() {
            return Some(session.clone());
        }
        if wait { self.next_session(None).await } else { None }
    }

    /// Waits for a session other than `old`.
    pub async fn next_session(&self, old: Option<&Arc<Session>>) -> Option<Arc<Session>> {
        let mut sessions = self.session.subscribe();
        let new = sessions.wait_for(|now| now.as_ref().is_some_and(|now| old.is_none_or(|old| !Arc::ptr_eq(old, now)))).await;
        new.ok()?.clone()
    }

    /// Invalidates the session: requests stop using it and the node registers again.
    pub fn invalidate(&self, session: &Arc<Session>) {
        let withdrawn = self.session.send_if_modified(|now| {
            let mine = now.as_ref().is_some_and(|now| Arc::ptr_eq(now, session));
            if mine {
                *now = None;
            }
            mine
        });
        if withdrawn {
            self.wake.notify_one();
        }
    }

    /// Queues a limit whose changes must be reported.
    pub fn enqueue(&self, cell: &Arc<Cell>) {
        self.queue.lock().push(cell.clone());
        self.wake.notify_one();
    }

    fn cells(&self) -> Vec<Arc<Cell>> {
        let mut cells = self.cells.lock();
        cells.0.retain(|cell| cell.strong_count() > 0);
        cells.0.iter().filter_map(Weak::upgrade).collect()
    }

    fn next_epoch(&self) -> u64 {
        let mut cells = self.cells.lock();
        cells.1 += 1;
        cells.1
    }
}

impl Drop for StoreClient {
    fn drop(&mut self) {
        self.wake.notify_one(); // the thread exits when its upgrade fails
    }
}

/// State of the thread.
struct Worker {
    server: Server,
    connection: Option<Connection>,
    /// The node's name without the number of the registration.
    node: String,
    /// Names under which Redis may still have holdings of this node.
    old: Vec<String>,
    first_result: Option<SyncSender<Result<(), String>>>,
    renewed_at: Instant,
}

impl Worker {
    async fn run(mut self, client: Weak<StoreClient>, wake: Arc<Notify>) {
        let mut wait = BACKOFF.0;
        loop {
            let tick = {
                let Some(client) = client.upgrade() else { return };
                if let Err(error) = self.step(&client).await {
                    self.record_failure(&client, &error);
                    drop(client);
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(BACKOFF.1);
                    continue;
                }
                Duration::from_millis(client.tick.load(Ordering::Relaxed))
            };
            wait = BACKOFF.0;
            let _woken_or_not = timeout(tick, wake.notified()).await;
        }
    }

    fn record_failure(&mut self, client: &Arc<StoreClient>, error: &RedisError) {
        self.connection = None;
        client.record_failure(&StoreError::ConnectFailed(error));
        self.send_first(Err(describe(error)));
    }

    fn send_first(&mut self, result: Result<(), String>) {
        if let Some(first_result) = self.first_result.take() {
            let _no_receiver = first_result.send(result);
        }
    }

    /// Registers if needed, then reports.
    async fn step(&mut self, client: &Arc<StoreClient>) -> Result<(), RedisError> {
        let current = client.session.borrow().clone();
        let session = match current {
            Some(session) => session,
            None => self.register_again(client).await?,
        };
        let result = self.report(client, &session).await;
        if result.is_err() {
            client.invalidate(&session);
        }
        result
    }

    /// Registers on the open connection, else on a new one.
    async fn register_again(&mut self, client: &Arc<StoreClient>) -> Result<Arc<Session>, RedisError> {
        if let Some(connection) = self.connection.take() {
            client.count_call();
            match self.register(client, connection).await {
                Ok(session) => return Ok(session),
                Err(error) => {
                    log::debug!("limit store {}: {error}; reconnecting", client.address);
                    (client.on_event)(StoreEvent::Error);
                }
            }
        }
        client.count_call();
        let connection = self.server.connect().await?;
        self.register(client, connection).await
    }

    async fn register(&mut self, client: &Arc<StoreClient>, mut connection: Connection) -> Result<Arc<Session>, RedisError> {
        let epoch = client.next_epoch();
        let node = format!("{}.{epoch:x}", self.node);
        let mut first = ::redis::pipe();
        // DEL of the new, unused name routes the pipeline to the cluster node that will run the script.
        for old in self.old.iter().chain([&node]) {
            first.cmd("DEL").arg(registration(old));
        }
        first.cmd("SCRIPT").arg("LOAD").arg(SOURCE);
        let _sha: Vec<::redis::Value> = query(&first, &mut connection).await?;
        let old = self.old.join(" ");
        self.old.push(node.clone());
        if self.old.len() > OLD_NAMES {
            self.old.remove(0);
        }
        // Only now: commands in transit under the old name have no effect any more.
        let reports: Vec<_> = client.cells().into_iter().filter_map(|cell| Some((cell.restate(epoch)?, cell))).collect();
        send_reports(client, &mut connection, "restate", &node, &old, reports).await?;
        let mut last = ::redis::pipe();
        last.cmd("SET").arg(registration(&node)).arg("").arg("PX").arg(millis(HOLD_TTL));
        let _ok: Vec<::redis::Value> = query(&last, &mut connection).await?;
        self.old = vec![node.clone()];
        self.renewed_at = system::now();
        self.connection = Some(connection.clone());
        let session = Arc::new(Session { connection, registration: registration(&node), node, epoch });
        client.session.send_replace(Some(session.clone()));
        client.health.record_connection(&client.address);
        self.send_first(Ok(()));
        Ok(session)
    }

    /// Renews the registration and holdings if due, and reports queued limits.
    async fn report(&mut self, client: &Arc<StoreClient>, session: &Arc<Session>) -> Result<(), RedisError> {
        let now = system::now();
        let mut connection = session.connection.clone();
        let due = now.duration_since(self.renewed_at) >= RENEW;
        for cell in client.cells() {
            if cell.end_lease(now) || (due && cell.renew()) {
                client.queue.lock().push(cell);
            }
        }
        if due || !client.queue.lock().is_empty() {
            client.count_call();
        }
        if due {
            let mut renew = ::redis::pipe();
            renew.cmd("PEXPIRE").arg(&session.registration).arg(millis(HOLD_TTL));
            let renewed: Vec<u64> = query(&renew, &mut connection).await?;
            self.renewed_at = now;
            if renewed != [1] {
                client.invalidate(session);
                return Ok(());
            }
        }
        let cells = std::mem::take(&mut *client.queue.lock());
        let reports = cells.into_iter().map(|cell| (cell.report(), cell)).collect();
        if !send_reports(client, &mut connection, "settle", &session.node, "0", reports).await? {
            client.invalidate(session);
        }
        Ok(())
    }
}

/// Sends reports in batches; returns whether Redis accepted all. Usage that was not accepted or not confirmed is queued
/// again: if the confirmation was lost, it is charged twice rather than not at all.
async fn send_reports(
    client: &StoreClient,
    connection: &mut Connection,
    operation: &str,
    node: &str,
    first: &str,
    reports: Vec<(Report, Arc<Cell>)>,
) -> Result<bool, RedisError> {
    let mut result = Ok(true);
    for batch in reports.chunks(BATCH) {
        let answers: Vec<Vec<i64>> = match &result {
            Ok(true) => {
                let mut pipe = ::redis::pipe();
                for (report, cell) in batch {
                    let mut command = Cmd::new();
                    command.arg("EVALSHA").arg(SCRIPT.get_hash()).arg(2).arg(registration(node)).arg(&cell.key);
                    command.arg(operation).arg(node).arg(HOLD_TTL.as_micros() as u64).arg(first);
                    parameters(&mut command, &cell.rule(), report.held, report.charge);
                    pipe.add_command(command);
                }
                query(&pipe, connection).await.unwrap_or_else(|error| {
                    result = Err(error);
                    Vec::new()
                })
            }
            _ => Vec::new(),
        };
        for (index, (report, cell)) in batch.iter().enumerate() {
            let answer = answers.get(index).map_or([].as_slice(), Vec::as_slice);
            if let [1, 1] = answer {
                cell.warn();
            }
            if answer.first() != Some(&1) {
                if let Ok(all) = &mut result {
                    *all = false;
                }
                if cell.requeue(report.charge) {
                    client.queue.lock().push(cell.clone());
                }
            }
        }
    }
    result
}

async fn query<T: ::redis::FromRedisValue>(pipe: &Pipeline, connection: &mut Connection) -> Result<T, RedisError> {
    timeout(QUERY_TIMEOUT, pipe.query_async(connection)).await.map_err(|_| late())?
}

fn registration(node: &str) -> String {
    format!("{TAG}:node:{node}")
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
