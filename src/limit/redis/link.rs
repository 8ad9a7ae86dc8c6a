//! The link to one Redis: a connection that comes back by itself, and a thread that tells Redis what requests left behind.
//!
//! ```text
//! workers ── decide ──> Session ──┐                        the session that all workers use
//!                                 ├── one connection ──> Redis
//! thread "limit-store" ── register, report, renew ──┘
//! ```
//!
//! A node's holdings in Redis count only while its *registration* is there. Whenever the two may disagree (the connection
//! broke, an answer was late, Redis was flushed or replaced) the session is withdrawn and the thread registers the node
//! anew under another name: the old registration is removed first, so that commands still on their way change nothing,
//! then what the node really holds is restated. So places and reservations neither leak nor get lost.

use super::cell::{Cell, Report};
use super::server::{self, Connection, Server};
use super::trouble::{Failure, Trouble, describe};
use super::{SCRIPT, SOURCE, TAG, parameters};
use crate::limit::rule::StoreFailure;
use crate::redact::KnownSecrets;
use ::redis::{Cmd, Pipeline, RedisError};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

/// How long the holdings of a node that is gone still count.
pub const LIFE: Duration = Duration::from_secs(15);
/// How often a node renews its registration and what it holds.
const RENEW: Duration = Duration::from_secs(3);
/// How often the thread looks around when nobody wakes it.
const TICK: Duration = Duration::from_secs(1);
/// For each step of the thread's own.
const PATIENCE: Duration = Duration::from_secs(2);
/// Waits between tries to connect; doubling.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// Limits that are reported in one batch.
const BATCH: usize = 128;
/// Old names of this node that a restatement removes; those before them expire.
const OLD_NAMES: usize = 8;

/// What the metrics count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreEvent {
    /// The store is called: for a decision, to connect, or to report what requests left behind.
    Call,
    /// Such a call has failed or was late.
    Error,
}

/// Called for each event, for the metrics.
pub type OnEvent = Arc<dyn Fn(StoreEvent) + Send + Sync>;

/// Is told how the first try to connect ended.
pub type First = Receiver<Result<(), String>>;

/// A registration of this node with Redis, and the connection it holds for.
pub struct Session {
    /// To be cloned for each use.
    pub connection: Connection,
    /// The node's name in this registration.
    pub node: String,
    /// The key whose being there means that the registration holds.
    pub registration: String,
    /// Number of the registration.
    pub epoch: u64,
}

/// See the module.
pub struct Link {
    url: crate::secret::Secret,
    /// Keeps the password out of errors and logs.
    _secrets: KnownSecrets,
    address: String,
    on_event: OnEvent,
    trouble: Trouble,
    session: watch::Sender<Option<Arc<Session>>>,
    /// All limits of all generations that are still in use, and the number of the last registration.
    cells: Mutex<(Vec<Weak<Cell>>, u64)>,
    /// Limits of which Redis must be told something; each stands in it once.
    queue: Mutex<Vec<Arc<Cell>>>,
    wake: Arc<Notify>,
    tick: AtomicU64,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Link {
    /// Starts the thread. `policy` is what its warnings say of requests meanwhile. The receiver is told how the first try to connect ended.
    ///
    /// # Errors
    /// When the URL or the system's certificates cannot be used.
    pub fn start(url: &crate::secret::Secret, policy: StoreFailure, on_event: OnEvent) -> Result<(Arc<Self>, First), String> {
        let (server, address) = Server::open(url.expose()).map_err(|e| format!("the limit store's URL cannot be used: {e}"))?;
        let link = Arc::new(Self {
            url: url.clone(),
            _secrets: KnownSecrets::new(server::passwords(url.expose()).iter().map(|password| &**password).chain([url.expose()])),
            address,
            on_event,
            trouble: Trouble::default(),
            session: watch::channel(None).0,
            cells: Mutex::default(),
            queue: Mutex::default(),
            wake: Arc::default(),
            tick: AtomicU64::new(millis(TICK)),
        });
        link.trouble.set_policy(policy);
        let (told, first) = sync_channel(1);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
        let (weak, wake) = (Arc::downgrade(&link), link.wake.clone());
        let node = format!("n{:016x}", fastrand::u64(..));
        let keeper = Keeper { server, connection: None, node, old: Vec::new(), told: Some(told), renewed: Instant::now() };
        std::thread::Builder::new()
            .name("limit-store".to_owned())
            .spawn(move || runtime.block_on(keeper.keep(weak, wake)))
            .map_err(|e| e.to_string())?;
        Ok((link, first))
    }

    /// Whether it leads to this URL.
    pub fn leads_to(&self, url: &crate::secret::Secret) -> bool {
        self.url.expose() == url.expose()
    }

    /// Host and port, for messages.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The store is about to be called.
    pub fn calls(&self) {
        (self.on_event)(StoreEvent::Call);
    }

    /// A call has failed: the store has decided nothing for a request, or its connection is gone.
    pub fn failed(&self, failure: &Failure<'_>) {
        (self.on_event)(StoreEvent::Error);
        self.trouble.failed(&self.address, failure);
    }

    /// The store has decided.
    pub fn decided(&self) {
        self.trouble.answered(&self.address);
    }

    /// What has gone wrong, for `/status`.
    pub fn trouble(&self) -> &Trouble {
        &self.trouble
    }

    /// Whether there is a session now.
    pub fn is_connected(&self) -> bool {
        self.session.borrow().is_some()
    }

    /// Makes a limit known, so that what is held of it is restated and renewed.
    pub fn add(&self, make: impl FnOnce(u64) -> Cell) -> Arc<Cell> {
        let mut cells = self.cells.lock();
        let cell = Arc::new(make(cells.1));
        cells.0.push(Arc::downgrade(&cell));
        cell
    }

    /// Leases last `lease`: looks around often enough to give them back in time.
    pub fn look_often(&self, lease: Option<Duration>) {
        let tick = lease.map_or(TICK, |lease| (lease / 2).clamp(Duration::from_millis(5), TICK));
        self.tick.store(millis(tick), Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// The session; where there is none, waits for one as long as the caller does, or not at all.
    pub async fn session(&self, wait: bool) -> Option<Arc<Session>> {
        if let Some(session) = self.session.borrow().as_ref() {
            return Some(session.clone());
        }
        if wait { self.other_than(None).await } else { None }
    }

    /// Waits for another session.
    pub async fn other_than(&self, old: Option<&Arc<Session>>) -> Option<Arc<Session>> {
        let mut sessions = self.session.subscribe();
        let new = sessions.wait_for(|now| now.as_ref().is_some_and(|now| old.is_none_or(|old| !Arc::ptr_eq(old, now)))).await;
        new.ok()?.clone()
    }

    /// Redis and this node may disagree: nobody uses the session any more, and the node registers anew.
    pub fn suspect(&self, session: &Arc<Session>) {
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

    /// Redis must be told something of this limit, which has just been put up for it.
    pub fn enqueue(&self, cell: &Arc<Cell>) {
        self.queue.lock().push(cell.clone());
        self.wake.notify_one();
    }

    fn all(&self) -> Vec<Arc<Cell>> {
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

impl Drop for Link {
    fn drop(&mut self) {
        self.wake.notify_one(); // the thread sees that nobody is left, and ends
    }
}

/// What the thread has.
struct Keeper {
    server: Server,
    connection: Option<Connection>,
    /// The node's name without the number of the registration.
    node: String,
    /// Names under which Redis may still hold something for this node.
    old: Vec<String>,
    told: Option<SyncSender<Result<(), String>>>,
    renewed: Instant,
}

impl Keeper {
    async fn keep(mut self, link: Weak<Link>, wake: Arc<Notify>) {
        let mut wait = RETRY.0;
        loop {
            let tick = {
                let Some(link) = link.upgrade() else { return };
                if let Err(error) = self.turn(&link).await {
                    self.failed(&link, &error);
                    drop(link);
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(RETRY.1);
                    continue;
                }
                Duration::from_millis(link.tick.load(Ordering::Relaxed))
            };
            wait = RETRY.0;
            let _woken_or_not = timeout(tick, wake.notified()).await;
        }
    }

    fn failed(&mut self, link: &Arc<Link>, error: &RedisError) {
        self.connection = None;
        link.failed(&Failure::Disconnected(error));
        if let Some(told) = self.told.take() {
            let _nobody_waits = told.send(Err(describe(error)));
        }
    }

    /// Whatever is to be done now.
    async fn turn(&mut self, link: &Arc<Link>) -> Result<(), RedisError> {
        let current = link.session.borrow().clone();
        let session = match current {
            Some(session) => session,
            None => self.register_again(link).await?,
        };
        let result = self.report(link, &session).await;
        if result.is_err() {
            link.suspect(&session);
        }
        result
    }

    /// On the connection that is there, else on a new one.
    async fn register_again(&mut self, link: &Arc<Link>) -> Result<Arc<Session>, RedisError> {
        if let Some(connection) = self.connection.take() {
            link.calls();
            match self.register(link, connection).await {
                Ok(session) => return Ok(session),
                Err(error) => {
                    log::debug!("limit store {}: {error}; connecting anew", link.address);
                    (link.on_event)(StoreEvent::Error);
                }
            }
        }
        link.calls();
        let connection = self.server.connect().await?;
        self.register(link, connection).await
    }

    async fn register(&mut self, link: &Arc<Link>, mut connection: Connection) -> Result<Arc<Session>, RedisError> {
        let epoch = link.next_epoch();
        let node = format!("{}.{epoch:x}", self.node);
        let mut first = ::redis::pipe();
        // The new name is not there yet: its key has the script loaded by the cluster's node that will run it.
        for old in self.old.iter().chain([&node]) {
            first.cmd("DEL").arg(registration(old));
        }
        first.cmd("SCRIPT").arg("LOAD").arg(SOURCE);
        let _sha: Vec<::redis::Value> = patient(&first, &mut connection).await?;
        let old = self.old.join(" ");
        self.old.push(node.clone());
        if self.old.len() > OLD_NAMES {
            self.old.remove(0);
        }
        // Only now: whatever is still under way under the old name changes nothing any more.
        let reports: Vec<_> = link.all().into_iter().filter_map(|cell| Some((cell.restate(epoch)?, cell))).collect();
        tell(link, &mut connection, "restate", &node, &old, reports).await?;
        let mut last = ::redis::pipe();
        last.cmd("SET").arg(registration(&node)).arg("").arg("PX").arg(millis(LIFE));
        let _ok: Vec<::redis::Value> = patient(&last, &mut connection).await?;
        self.old = vec![node.clone()];
        self.renewed = Instant::now();
        self.connection = Some(connection.clone());
        let session = Arc::new(Session { connection, registration: registration(&node), node, epoch });
        link.session.send_replace(Some(session.clone()));
        link.trouble.connected(&link.address);
        if let Some(told) = self.told.take() {
            let _nobody_waits = told.send(Ok(()));
        }
        Ok(session)
    }

    /// Renews what must be renewed and tells what there is to tell.
    async fn report(&mut self, link: &Arc<Link>, session: &Arc<Session>) -> Result<(), RedisError> {
        let now = Instant::now();
        let mut connection = session.connection.clone();
        let due = now.duration_since(self.renewed) >= RENEW;
        for cell in link.all() {
            if cell.end_lease(now) || (due && cell.renew()) {
                link.queue.lock().push(cell);
            }
        }
        if due || !link.queue.lock().is_empty() {
            link.calls();
        }
        if due {
            let mut renew = ::redis::pipe();
            renew.cmd("PEXPIRE").arg(&session.registration).arg(millis(LIFE));
            let there: Vec<u64> = patient(&renew, &mut connection).await?;
            self.renewed = now;
            if there != [1] {
                link.suspect(session);
                return Ok(());
            }
        }
        let cells = std::mem::take(&mut *link.queue.lock());
        let reports = cells.into_iter().map(|cell| (cell.report(), cell)).collect();
        if !tell(link, &mut connection, "settle", &session.node, "0", reports).await? {
            link.suspect(session);
        }
        Ok(())
    }
}

/// Tells Redis, in batches; whether it accepted all. What it did not accept, or did not confirm, stays to be told: a use
/// whose confirmation was lost is charged twice rather than not at all.
async fn tell(
    link: &Link,
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
                    command.arg(operation).arg(node).arg(LIFE.as_micros() as u64).arg(first);
                    parameters(&mut command, &cell.rule(), report.held, report.charge);
                    pipe.add_command(command);
                }
                patient(&pipe, connection).await.unwrap_or_else(|error| {
                    result = Err(error);
                    Vec::new()
                })
            }
            _ => Vec::new(),
        };
        for (index, (report, cell)) in batch.iter().enumerate() {
            if answers.get(index).is_none_or(|answer| answer.as_slice() != [1]) {
                if let Ok(all) = &mut result {
                    *all = false;
                }
                if cell.untold(report.charge) {
                    link.queue.lock().push(cell.clone());
                }
            }
        }
    }
    result
}

async fn patient<T: ::redis::FromRedisValue>(pipe: &Pipeline, connection: &mut Connection) -> Result<T, RedisError> {
    timeout(PATIENCE, pipe.query_async(connection)).await.map_err(|_| late())?
}

fn late() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

fn registration(node: &str) -> String {
    format!("{TAG}:node:{node}")
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
