//! One alarm for everything that a connection may have to wait for.
//!
//! A request has a handful of deadlines, one after the other, and nearly all of them are met: a timer for each would be
//! set up and torn down without ever firing. So a connection has a single timer, and its deadline, which the parts of the
//! edge move, is only looked at when the timer fires. On a busy connection that is once in a while, whatever the number
//! of requests.
//!
//! ```text
//! Client --headers read--> Nobody --request sent--> Upstream --next request awaited--> Client
//!   |                                                  |
//!   late: the connection ends                          late: whoever waits is polled again, and moves the deadline or gives up
//! ```

use super::drain::Drain;
use parking_lot::Mutex;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, Waker};
use tokio::time::{Instant, sleep_until};

tokio::task_local! {
    /// Of the connection (of HTTP/2: the request) that this task serves.
    static CURRENT: Arc<Patience>;
}

/// What is being waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// Nothing that has an end.
    Nobody,
    /// The client: when it is late, the connection ends.
    Client(Instant),
    /// The same, in an HTTP/2 handshake.
    Handshake(Instant),
    /// The provider: when it is late, [`Patience::take_rung`] tells.
    Upstream(Instant),
    /// The provider was late, and nobody has asked yet.
    Rung,
}

/// The deadline of one connection, or of one request of an HTTP/2 connection.
#[derive(Debug)]
pub struct Patience {
    wait: Mutex<Wait>,
    drain: Arc<Drain>,
}

impl Patience {
    /// Waits for the client until then.
    pub fn with_client(until: Instant, drain: Arc<Drain>) -> Arc<Self> {
        Arc::new(Self { wait: Mutex::new(Wait::Client(until)), drain })
    }

    /// Waits for nothing yet.
    pub fn endless(drain: Arc<Drain>) -> Arc<Self> {
        Arc::new(Self { wait: Mutex::new(Wait::Nobody), drain })
    }

    /// That of the task; a fresh one in tests that call the hooks directly.
    pub fn current() -> Arc<Self> {
        CURRENT.try_with(Arc::clone).unwrap_or_else(|_| Self::endless(Arc::default()))
    }

    /// Does something with that of the task.
    pub fn with_current(does: impl FnOnce(&Self)) {
        let _ = CURRENT.try_with(|patience| does(patience)); // none in tests that call the hooks directly
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

    /// Whether the process is about to end, which is why the alarm was rung.
    pub fn drain_is_over(&self) -> bool {
        self.drain.is_over()
    }

    /// Awaits `serve` under this deadline; `None` where the client was late.
    pub async fn over<T>(self: Arc<Self>, serve: impl Future<Output = Option<T>>) -> Option<T> {
        let mut serve = pin!(CURRENT.scope(self.clone(), serve));
        let mut closed = pin!(self.drain.closed());
        let mut alarm = pin!(sleep_until(Instant::now()));
        let (mut armed, mut listening, mut knows) = (false, false, None::<Waker>);
        poll_fn(|cx| {
            if !std::mem::replace(&mut listening, true) {
                let _ = closed.as_mut().poll(cx); // wakes this task once; that it is over is seen below
            }
            loop {
                if let Poll::Ready(served) = serve.as_mut().poll(cx) {
                    return Poll::Ready(served);
                }
                loop {
                    let wait = *self.wait.lock();
                    if matches!(wait, Wait::Upstream(_)) && self.drain.is_over() {
                        break *self.wait.lock() = Wait::Rung;
                    }
                    let (Wait::Client(until) | Wait::Handshake(until) | Wait::Upstream(until)) = wait else { return Poll::Pending };
                    // An alarm that is due earlier stays: it is moved on when it fires, which costs less than now.
                    if !armed || until < alarm.deadline() {
                        alarm.as_mut().reset(until);
                        (armed, knows) = (true, None);
                    }
                    // An alarm that knows whom to wake need not be told again.
                    if knows.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) && !alarm.is_elapsed() {
                        return Poll::Pending;
                    }
                    if alarm.as_mut().poll(cx).is_pending() {
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
mod tests {
    use super::*;
    use std::time::Duration;

    fn soon(seconds: u64) -> Instant {
        Instant::now() + Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_client_loses_its_connection_and_one_in_time_does_not() {
        let late = Patience::with_client(soon(5), Arc::default()).over(std::future::pending::<Option<()>>());
        assert_eq!(late.await, None);
        let in_time = Patience::with_client(soon(5), Arc::default()).over(async {
            Patience::current().rest();
            tokio::time::sleep(Duration::from_secs(9)).await;
            Some(())
        });
        assert_eq!(in_time.await, Some(()));
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_drain_is_told_to_whoever_waits_for_a_provider() {
        let drain = Arc::new(Drain::default());
        let served = Patience::with_client(soon(5), drain.clone()).over(async {
            let patience = Patience::current();
            patience.await_upstream(soon(60));
            poll_fn(|_| if patience.take_rung() { Poll::Ready(Some(patience.drain_is_over())) } else { Poll::Pending }).await
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
            let served = Patience::with_client(soon(first), Arc::default()).over(async {
                Patience::current().await_client(soon(then));
                std::future::pending::<Option<()>>().await
            });
            assert_eq!(served.await, None);
            assert_eq!(began.elapsed().as_secs(), then);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_provider_is_told_to_whoever_waits_for_it() {
        let began = Instant::now();
        let served = Patience::with_client(soon(1), Arc::default()).over(async {
            let patience = Patience::current();
            let mut rung = 0;
            patience.await_upstream(soon(7));
            poll_fn(|_| {
                if patience.take_rung() {
                    rung += 1;
                    patience.await_upstream(soon(3));
                }
                if rung == 2 { Poll::Ready(Some(())) } else { Poll::Pending }
            })
            .await
        });
        assert_eq!(served.await, Some(()));
        assert_eq!(began.elapsed().as_secs(), 10);
    }
}
