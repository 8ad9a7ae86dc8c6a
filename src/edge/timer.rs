//! One alarm for everything that a connection may have to wait for.
//!
//! A request has a handful of deadlines, one after the other, and nearly all of them are met: a timer for each would be
//! set up and torn down without ever firing. So a connection has a single timer, and its deadline, which the parts of the
//! edge move, is only looked at when the timer fires. On a busy connection that is once in a while, whatever the number
//! of requests.
//!
//! ```text
//! Idle --first bytes--> Client --headers read--> Nobody --request sent--> Upstream --next request awaited--> Idle
//!   |                     |                                                  |
//!   late: the connection ends                                                late: the waiting future is polled again, and
//!                                                                            moves the deadline or fails the attempt
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
    /// Of the connection (of HTTP/2: the request) that this task serves.
    static CURRENT: Arc<ConnectionTimer>;
}

/// What is being waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// Nothing that has an end.
    Nobody,
    /// The client, which has sent nothing of its next request: when it is late, the connection ends.
    Idle(Idle),
    /// The client, which has sent a part: when it is late, the connection ends.
    Client(Instant),
    /// The same, in an HTTP/2 handshake.
    Handshake(Instant),
    /// The provider: when it is late, [`ConnectionTimer::take_rung`] tells.
    Upstream(Instant),
    /// The provider was late, and nobody has asked yet.
    Rung,
}

/// A client that has sent nothing of its next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Idle {
    until: Instant,
    /// From the request's first bytes to the end of its headers.
    headers: Duration,
}

/// The deadline of one connection, or of one request of an HTTP/2 connection.
#[derive(Debug)]
pub struct ConnectionTimer {
    wait: Mutex<Wait>,
    /// Whether the client has sent bytes since a request was awaited. Written and read by the connection's own task.
    heard: AtomicBool,
    /// Whether a request's head has not been read; not used over HTTP/2.
    head: AtomicBool,
    drain: Arc<Drain>,
}

impl ConnectionTimer {
    fn new(wait: Wait, drain: Arc<Drain>) -> Arc<Self> {
        Arc::new(Self { wait: Mutex::new(wait), heard: AtomicBool::new(false), head: AtomicBool::new(false), drain })
    }

    /// Waits for a fresh connection's first request until then.
    pub fn with_client(until: Instant, drain: Arc<Drain>) -> Arc<Self> {
        Self::new(Wait::Client(until), drain)
    }

    /// Waits for nothing yet.
    pub fn endless(drain: Arc<Drain>) -> Arc<Self> {
        Self::new(Wait::Nobody, drain)
    }

    /// That of the task; a fresh one in tests that call the hooks directly.
    pub fn current() -> Arc<Self> {
        CURRENT.try_with(Arc::clone).unwrap_or_else(|_| Self::endless(Arc::default()))
    }

    /// Does something with that of the task.
    pub fn with_current<T>(does: impl FnOnce(&Self) -> T) {
        let _ = CURRENT.try_with(|timer| does(timer)); // none in tests that call the hooks directly
    }

    /// The client has until then for its next request to begin, and `headers` from its first bytes to the end of its headers.
    pub fn await_request(&self, until: Instant, headers: Duration) {
        let mut wait = self.wait.lock();
        self.heard.store(false, Ordering::Relaxed);
        *wait = Wait::Idle(Idle { until, headers });
    }

    /// The client has sent bytes.
    pub fn hear(&self) {
        self.heard.store(true, Ordering::Relaxed);
    }

    /// The client has until then.
    pub fn await_client(&self, until: Instant) {
        *self.wait.lock() = Wait::Client(until);
    }

    /// The provider has until then, or the alarm is rung for whoever waits for it.
    pub fn await_upstream(&self, until: Instant) {
        *self.wait.lock() = Wait::Upstream(until);
    }

    /// Whether the alarm has been rung since this was asked before; then nothing is awaited any more.
    pub fn take_rung(&self) -> bool {
        let mut wait = self.wait.lock();
        let rung = *wait == Wait::Rung;
        if rung {
            *wait = Wait::Nobody;
        }
        rung
    }

    /// The client has begun an HTTP/2 handshake.
    pub fn handshake_begins(&self) {
        let mut wait = self.wait.lock();
        if let Wait::Client(until) = *wait {
            *wait = Wait::Handshake(until);
        }
    }

    /// An HTTP/2 handshake is over, if there was one.
    pub fn handshake_is_over(&self) {
        let mut wait = self.wait.lock();
        if matches!(*wait, Wait::Handshake(_)) {
            *wait = Wait::Nobody;
        }
    }

    /// Whatever was awaited is there.
    pub fn rest(&self) {
        *self.wait.lock() = Wait::Nobody;
    }

    /// The head of the next HTTP/1 request is awaited, until [`Self::head_is_read`].
    pub fn await_head(&self) {
        self.head.store(true, Ordering::Relaxed);
    }

    /// A request's head has been read and accepted.
    pub fn head_is_read(&self) {
        self.head.store(false, Ordering::Relaxed);
        self.rest();
    }

    /// Whether a request's head has not been read.
    pub fn is_head_awaited(&self) -> bool {
        self.head.load(Ordering::Relaxed)
    }

    /// Whether the process is about to end, which is why the alarm was rung.
    pub fn drain_is_over(&self) -> bool {
        self.drain.is_closed()
    }

    /// Whether client connections are to be closed after the current response, because the process drains.
    pub fn is_draining(&self) -> bool {
        self.drain.phase() >= Phase::Draining
    }

    /// The current wait, after the client's bytes and the drain have been accounted for.
    fn current_wait(&self, phase: Phase) -> Wait {
        let mut wait = self.wait.lock();
        match &mut *wait {
            Wait::Idle(idle) if self.heard.load(Ordering::Relaxed) => *wait = Wait::Client(Instant::now() + idle.headers),
            Wait::Idle(idle) if phase >= Phase::Draining => idle.until = idle.until.min(Instant::now() + IDLE_GRACE),
            _ => {}
        }
        *wait
    }

    /// Awaits `serve` under this deadline; `None` where the client was late.
    pub async fn over<T>(self: Arc<Self>, serve: impl Future<Output = Option<T>>) -> Option<T> {
        let mut serve = pin!(CURRENT.scope(self.clone(), serve));
        let mut changed = pin!(self.drain.changed());
        let mut alarm = pin!(sleep_until(Instant::now()));
        let (mut armed, mut phase, mut knows) = (false, None::<Phase>, None::<Waker>);
        poll_fn(|cx| {
            if phase != Some(self.drain.phase()) {
                // Registered before the phase is read: no change is missed, and each one wakes this task.
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
                        Wait::Nobody | Wait::Rung => return Poll::Pending,
                        Wait::Upstream(_) if phase == Some(Phase::Closed) => break *self.wait.lock() = Wait::Rung,
                        Wait::Idle(Idle { until, .. }) | Wait::Client(until) | Wait::Handshake(until) | Wait::Upstream(until) => until,
                    };
                    // An alarm that is due earlier stays: it is moved on when it fires, which costs less than now.
                    if !armed || until < alarm.deadline() {
                        alarm.as_mut().reset(until);
                        (armed, knows) = (true, None);
                    }
                    // An alarm that knows whom to wake need not be told again.
                    if knows.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) && !alarm.is_elapsed() {
                        return Poll::Pending;
                    }
                    // Without Tokio's budget: where that is spent, a timer is pending without having taken the waker.
                    if pin!(unconstrained(alarm.as_mut())).poll(cx).is_pending() {
                        knows = Some(cx.waker().clone());
                        return Poll::Pending;
                    }
                    armed = false;
                    if until > alarm.deadline() {
                        continue;
                    }
                    match wait {
                        Wait::Upstream(_) => break *self.wait.lock() = Wait::Rung,
                        _ => return Poll::Ready(None),
                    }
                }
            }
        })
        .await
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::inspect::Inspector;
    use super::*;

    fn soon(seconds: u64) -> Instant {
        Instant::now() + Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_client_loses_its_connection_and_one_in_time_does_not() {
        let late = ConnectionTimer::with_client(soon(5), Arc::default()).over(std::future::pending::<Option<()>>());
        assert_eq!(late.await, None);
        let in_time = ConnectionTimer::with_client(soon(5), Arc::default()).over(async {
            ConnectionTimer::current().rest();
            tokio::time::sleep(Duration::from_secs(9)).await;
            Some(())
        });
        assert_eq!(in_time.await, Some(()));
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_drain_is_told_to_whoever_waits_for_a_provider() {
        let drain = Arc::new(Drain::default());
        let served = ConnectionTimer::with_client(soon(5), drain.clone()).over(async {
            let timer = ConnectionTimer::current();
            timer.await_upstream(soon(60));
            poll_fn(|_| if timer.take_rung() { Poll::Ready(Some(timer.drain_is_over())) } else { Poll::Pending }).await
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
            let served = ConnectionTimer::with_client(soon(first), Arc::default()).over(async {
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
        let served = timer.over(async {
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
            let ended = tokio::spawn(read_to_end(ConnectionTimer::with_client(soon(5), drain.clone()), bytes));
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
        let served = ConnectionTimer::with_client(soon(5), Arc::default()).over(async {
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
        let served = ConnectionTimer::with_client(soon(1), Arc::default()).over(async {
            let timer = ConnectionTimer::current();
            let mut rung = 0;
            timer.await_upstream(soon(7));
            poll_fn(|_| {
                if timer.take_rung() {
                    rung += 1;
                    timer.await_upstream(soon(3));
                }
                if rung == 2 { Poll::Ready(Some(())) } else { Poll::Pending }
            })
            .await
        });
        assert_eq!(served.await, Some(()));
        assert_eq!(began.elapsed().as_secs(), 10);
    }
}
