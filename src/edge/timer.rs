//! One timer for all timeouts of a connection.
//!
//! A request has several deadlines in sequence, and nearly all are met. Instead of a timer for each, a connection has a single
//! timer, and a deadline that the edge moves and that is only compared when the timer fires: on a busy connection rarely,
//! regardless of the number of requests.
//!
//! ```text
//! Idle --first bytes--> Client --headers read--> None --request sent--> Upstream --next request awaited--> Idle
//!   |                     |                                                |
//!   timeout: the connection is closed                                      timeout: the awaiting future is polled again, and
//!                                                                          moves the deadline or fails the attempt
//! ```
//!
//! Pingora does not report a request's first bytes; the stream of [`super::inspect`] does.

use super::drain::{Drain, IDLE_GRACE, Phase};
use parking_lot::Mutex;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;
use tokio::task::coop::unconstrained;
use tokio::time::{Instant, sleep_until};

tokio::task_local! {
    /// The timer of the connection (for HTTP/2: of the stream) that this task serves.
    static CURRENT: Arc<ConnectionTimer>;
}

/// What the connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// Nothing with a deadline.
    None,
    /// The first bytes of the next request. On timeout the connection is closed.
    Idle(Idle),
    /// The rest of a request's headers. On timeout the connection is closed.
    Client(Instant),
    /// The client in an HTTP/2 handshake. On timeout the connection is closed.
    Handshake(Instant),
    /// The provider. A timeout is reported by [`ConnectionTimer::take_expired`].
    Upstream(Instant),
    /// The provider's deadline has passed; not reported yet.
    Expired,
}

/// Deadlines of an idle connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Idle {
    until: Instant,
    /// Timeout of the next request's headers, from its first bytes.
    headers: Duration,
}

/// The timer of a connection, or of one stream of an HTTP/2 connection.
#[derive(Debug)]
pub struct ConnectionTimer {
    wait: Mutex<Wait>,
    /// Whether bytes were received since [`Self::await_request`]. Only used by the connection's own task.
    received: AtomicBool,
    /// Whether an HTTP/1 head is awaited.
    head: AtomicBool,
    drain: Arc<Drain>,
}

impl ConnectionTimer {
    fn new(wait: Wait, drain: Arc<Drain>) -> Arc<Self> {
        Arc::new(Self { wait: Mutex::new(wait), received: AtomicBool::new(false), head: AtomicBool::new(false), drain })
    }

    /// The timer of a new connection, whose first request must arrive before `until`.
    pub fn for_client(until: Instant, drain: Arc<Drain>) -> Arc<Self> {
        Self::new(Wait::Client(until), drain)
    }

    /// A timer without a deadline.
    pub fn idle(drain: Arc<Drain>) -> Arc<Self> {
        Self::new(Wait::None, drain)
    }

    /// The timer of the current task; a new one in tests that call the hooks directly.
    pub fn current() -> Arc<Self> {
        CURRENT.try_with(Arc::clone).unwrap_or_else(|_| Self::idle(Arc::default()))
    }

    /// Calls `does` with the timer of the current task.
    pub fn with_current<T>(does: impl FnOnce(&Self) -> T) {
        let _ = CURRENT.try_with(|timer| does(timer)); // none in tests that call the hooks directly
    }

    /// Awaits the first bytes of the next request until `until`, then the rest of its headers for `headers`.
    pub fn await_request(&self, until: Instant, headers: Duration) {
        let mut wait = self.wait.lock();
        self.received.store(false, Ordering::Relaxed);
        *wait = Wait::Idle(Idle { until, headers });
    }

    /// Records that bytes were received.
    pub fn on_bytes(&self) {
        self.received.store(true, Ordering::Relaxed);
    }

    /// Awaits the client until `until`.
    pub fn await_client(&self, until: Instant) {
        *self.wait.lock() = Wait::Client(until);
    }

    /// Awaits the provider until `until`.
    pub fn await_upstream(&self, until: Instant) {
        *self.wait.lock() = Wait::Upstream(until);
    }

    /// Whether the provider's deadline has passed. Clears the deadline.
    pub fn take_expired(&self) -> bool {
        let mut wait = self.wait.lock();
        let expired = *wait == Wait::Expired;
        if expired {
            *wait = Wait::None;
        }
        expired
    }

    /// The client has started an HTTP/2 handshake.
    pub fn begin_handshake(&self) {
        let mut wait = self.wait.lock();
        if let Wait::Client(until) = *wait {
            *wait = Wait::Handshake(until);
        }
    }

    /// Ends an HTTP/2 handshake, if any.
    pub fn end_handshake(&self) {
        let mut wait = self.wait.lock();
        if matches!(*wait, Wait::Handshake(_)) {
            *wait = Wait::None;
        }
    }

    /// Clears the deadline.
    pub fn clear(&self) {
        *self.wait.lock() = Wait::None;
    }

    /// Awaits the head of the next HTTP/1 request, until [`Self::on_head_read`].
    pub fn await_head(&self) {
        self.head.store(true, Ordering::Relaxed);
    }

    /// Records that a request head was accepted. Clears the deadline.
    pub fn on_head_read(&self) {
        self.head.store(false, Ordering::Relaxed);
        self.clear();
    }

    /// Whether a request head is awaited.
    pub fn is_head_awaited(&self) -> bool {
        self.head.load(Ordering::Relaxed)
    }

    /// Whether requests in flight are aborted by a drain.
    pub fn is_drain_closed(&self) -> bool {
        self.drain.is_closed()
    }

    /// Whether the process drains, so that connections are closed after the current response.
    pub fn is_draining(&self) -> bool {
        self.drain.phase() >= Phase::Draining
    }

    /// The current wait, after applying received bytes and the drain.
    fn current_wait(&self, phase: Phase) -> Wait {
        let mut wait = self.wait.lock();
        match &mut *wait {
            Wait::Idle(idle) if self.received.load(Ordering::Relaxed) => *wait = Wait::Client(Instant::now() + idle.headers),
            Wait::Idle(idle) if phase >= Phase::Draining => idle.until = idle.until.min(Instant::now() + IDLE_GRACE),
            _ => {}
        }
        *wait
    }

    /// Runs `serve` with this timer; `None` on a timeout of the client.
    pub async fn run<T>(self: Arc<Self>, serve: impl Future<Output = Option<T>>) -> Option<T> {
        let mut serve = pin!(CURRENT.scope(self.clone(), serve));
        let mut changed = pin!(self.drain.changed());
        let mut sleep = pin!(sleep_until(Instant::now()));
        let (mut armed, mut phase, mut registered) = (false, None::<Phase>, None::<Waker>);
        poll_fn(|cx| {
            if phase != Some(self.drain.phase()) {
                // Registered before the phase is read, so that no change is missed.
                changed.set(self.drain.changed());
                let _ = changed.as_mut().poll(cx);
                phase = Some(self.drain.phase());
            }
            loop {
                if let Poll::Ready(served) = serve.as_mut().poll(cx) {
                    return Poll::Ready(served);
                }
                loop {
                    let wait = self.current_wait(phase.unwrap_or(Phase::Serving));
                    let until = match wait {
                        Wait::None | Wait::Expired => return Poll::Pending,
                        Wait::Upstream(_) if phase == Some(Phase::Closed) => break *self.wait.lock() = Wait::Expired,
                        Wait::Idle(Idle { until, .. }) | Wait::Client(until) | Wait::Handshake(until) | Wait::Upstream(until) => until,
                    };
                    // An earlier sleep stays and is reset when it fires, which is cheaper than resetting it now.
                    if !armed || until < sleep.deadline() {
                        sleep.as_mut().reset(until);
                        (armed, registered) = (true, None);
                    }
                    // The current waker is registered already.
                    if registered.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) && !sleep.is_elapsed() {
                        return Poll::Pending;
                    }
                    // Outside tokio's cooperative budget: without budget, the sleep would not register the waker.
                    if pin!(unconstrained(sleep.as_mut())).poll(cx).is_pending() {
                        registered = Some(cx.waker().clone());
                        return Poll::Pending;
                    }
                    armed = false;
                    if until > sleep.deadline() {
                        continue;
                    }
                    match wait {
                        Wait::Upstream(_) => break *self.wait.lock() = Wait::Expired,
                        _ => return Poll::Ready(None),
                    }
                }
            }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::super::inspect::Inspector;
    use super::*;

    fn soon(seconds: u64) -> Instant {
        Instant::now() + Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_client_loses_its_connection_and_one_in_time_does_not() {
        let late = ConnectionTimer::for_client(soon(5), Arc::default()).run(std::future::pending::<Option<()>>());
        assert_eq!(late.await, None);
        let in_time = ConnectionTimer::for_client(soon(5), Arc::default()).run(async {
            ConnectionTimer::current().clear();
            tokio::time::sleep(Duration::from_secs(9)).await;
            Some(())
        });
        assert_eq!(in_time.await, Some(()));
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_drain_is_told_to_whoever_waits_for_a_provider() {
        let drain = Arc::new(Drain::default());
        let served = ConnectionTimer::for_client(soon(5), drain.clone()).run(async {
            let timer = ConnectionTimer::current();
            timer.await_upstream(soon(60));
            poll_fn(|_| if timer.take_expired() { Poll::Ready(Some(timer.is_drain_closed())) } else { Poll::Pending }).await
        });
        let (served, began) = (tokio::spawn(served), Instant::now());
        tokio::task::yield_now().await;
        drain.close();
        assert_eq!(served.await.ok().flatten(), Some(true));
        assert_eq!(began.elapsed().as_secs(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_deadline_counts_whether_it_is_earlier_or_later_than_those_before() {
        for (first, then) in [(5, 50), (50, 5)] {
            let began = Instant::now();
            let served = ConnectionTimer::for_client(soon(first), Arc::default()).run(async {
                ConnectionTimer::current().await_client(soon(then));
                std::future::pending::<Option<()>>().await
            });
            assert_eq!(served.await, None);
            assert_eq!(began.elapsed().as_secs(), then);
        }
    }

    /// Serves a connection that is read from `bytes`; when it ended, in seconds.
    async fn read_to_end(timer: Arc<ConnectionTimer>, bytes: tokio::io::DuplexStream) -> u64 {
        use tokio::io::AsyncReadExt;
        let began = Instant::now();
        let mut bytes = Inspector::new(timer.clone(), Duration::from_secs(10)).wrap(Box::new(bytes));
        let served = timer.run(async {
            ConnectionTimer::current().await_request(soon(75), Duration::from_secs(10));
            let mut head = [0; 4];
            bytes.read_exact(&mut head).await.ok()
        });
        served.await;
        began.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_has_its_time_for_headers_from_its_first_bytes_on() {
        use tokio::io::AsyncWriteExt;
        for (drain_at, first_bytes_at, ends_at) in [
            (None, None, 75),
            (None, Some(60), 70),
            (Some(30), None, 32),
            (Some(30), Some(31), 41),
            (Some(30), Some(29), 39),
            (Some(30), Some(30), 40),
        ] {
            let drain = Arc::new(Drain::default());
            let (mut client, bytes) = tokio::io::duplex(64);
            let ended = tokio::spawn(read_to_end(ConnectionTimer::for_client(soon(5), drain.clone()), bytes));
            let events = [drain_at.map(|at| (at, true)), first_bytes_at.map(|at| (at, false))];
            let mut events: Vec<(u64, bool)> = events.into_iter().flatten().collect();
            events.sort_unstable();
            let began = Instant::now();
            for (at, is_drain) in events {
                tokio::time::sleep_until(began + Duration::from_secs(at)).await;
                if is_drain { drain.begin() } else { client.write_all(b"P").await.unwrap() }
            }
            assert_eq!(ended.await.unwrap(), ends_at, "drain {drain_at:?}, bytes {first_bytes_at:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_holds_for_a_task_that_has_spent_its_budget() {
        let began = Instant::now();
        let served = ConnectionTimer::for_client(soon(5), Arc::default()).run(async {
            ConnectionTimer::current().await_request(soon(75), Duration::from_secs(10));
            for _ in 0..1000 {
                tokio::task::consume_budget().await;
            }
            std::future::pending::<Option<()>>().await
        });
        assert_eq!(served.await, None);
        assert_eq!(began.elapsed().as_secs(), 75);
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_provider_is_told_to_whoever_waits_for_it() {
        let began = Instant::now();
        let served = ConnectionTimer::for_client(soon(1), Arc::default()).run(async {
            let timer = ConnectionTimer::current();
            let mut expired = 0;
            timer.await_upstream(soon(7));
            poll_fn(|_| {
                if timer.take_expired() {
                    expired += 1;
                    timer.await_upstream(soon(3));
                }
                if expired == 2 { Poll::Ready(Some(())) } else { Poll::Pending }
            })
            .await
        });
        assert_eq!(served.await, Some(()));
        assert_eq!(began.elapsed().as_secs(), 10);
    }
}
