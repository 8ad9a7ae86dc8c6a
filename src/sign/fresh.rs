//! A value that expires, fetched once for everyone, kept, and renewed in the background before its end.
//!
//! ```text
//!            get() finds none, or an expired one
//!   Empty ────────────────────────────────────────► Fetching ──► Fresh ──(some time before expiry)──► Fetching …
//!     ▲                                                │ failed
//!     └──────────── rests for a second ◄───────────────┘
//! ```
//!
//! Whoever finds a fresh value takes it without waiting; the first ones wait for one shared fetch. While
//! [`Fresh::refresh_loop`] runs, no later one ever does.

use arc_swap::ArcSwapOption;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::Mutex;

/// A value is not used in its last seconds: it could expire on its way.
pub const EXPIRY_SLACK: Duration = Duration::from_secs(10);
/// Shortest time between two background fetches, whatever lifetime the source claims.
pub const REFRESH_REST: Duration = Duration::from_secs(10);
/// After a failed fetch, others are answered with its failure for this long instead of asking again.
pub const FAILURE_REST: Duration = Duration::from_secs(1);
/// Longest wait between two background fetches that failed.
pub const MAX_BACKOFF: Duration = Duration::from_secs(60);
/// How long one waits for the shared fetch.
pub const WAIT: Duration = Duration::from_secs(12);
/// How often a value that does not expire is looked at.
const FOREVER: Duration = Duration::from_secs(24 * 3600);

/// Why there is no value, in words without a secret.
pub type Reason = Cow<'static, str>;

/// Where a value comes from. Equal sources fetch the same values, so one can take the place of the other.
pub trait Source: Eq + Send + Sync {
    /// What is kept.
    type Value: Send + Sync;

    /// Gets a new value.
    ///
    /// # Errors
    /// Why there is none, without a secret.
    fn fetch(&self) -> impl Future<Output = Result<Self::Value, Reason>> + Send;

    /// When a value ends; `None` for one that stays.
    fn expires(value: &Self::Value) -> Option<SystemTime>;
}

/// A kept value.
pub struct Fresh<S: Source> {
    source: S,
    /// How long before its end a value is renewed.
    early: Duration,
    current: ArcSwapOption<S::Value>,
    /// Held while fetching, so that there is one fetch at a time.
    fetch: Mutex<Fetched<S::Value>>,
}

/// What became of earlier fetches.
struct Fetched<V> {
    /// When the last one failed, if it did.
    failed: Option<Instant>,
    /// The value before the current one. Requests that carry it may still be answered, so its secrets have to stay known.
    _previous: Option<Arc<V>>,
}

impl<S: Source> Fresh<S> {
    /// Nothing is fetched yet.
    pub fn new(source: S, early: Duration) -> Self {
        let fetch = Mutex::new(Fetched { failed: None, _previous: None });
        Self { source, early, current: ArcSwapOption::empty(), fetch }
    }

    /// Where its values come from.
    pub fn source(&self) -> &S {
        &self.source
    }

    /// The current value. Does not wait when there is a fresh one; else waits for the one fetch that all share.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn get(&self) -> Result<Arc<S::Value>, Reason> {
        if let Some(value) = self.usable(EXPIRY_SLACK) {
            return Ok(value);
        }
        match tokio::time::timeout(WAIT, self.renew(EXPIRY_SLACK)).await {
            Ok(result) => result,
            Err(_) => Err("it took too long".into()),
        }
    }

    /// Keeps the value fresh, and fetches the first one. Never ends; the caller drops it to stop.
    pub async fn refresh_loop(&self) {
        let mut backoff = FAILURE_REST;
        loop {
            tokio::time::sleep(self.until_due()).await;
            if self.renew(self.early).await.is_ok() {
                backoff = FAILURE_REST;
                tokio::time::sleep(REFRESH_REST).await;
            } else {
                tokio::time::sleep(backoff).await;
                backoff = (backoff * 2).min(MAX_BACKOFF);
            }
        }
    }

    fn replace(&self, value: Arc<S::Value>) -> Fetched<S::Value> {
        Fetched { failed: None, _previous: self.current.swap(Some(value)) }
    }

    /// The value, where it lasts longer than this.
    fn usable(&self, ahead: Duration) -> Option<Arc<S::Value>> {
        let value = self.current.load_full()?;
        S::expires(&value).is_none_or(|end| SystemTime::now() + ahead < end).then_some(value)
    }

    fn until_due(&self) -> Duration {
        let Some(value) = self.current.load_full() else { return Duration::ZERO };
        let Some(end) = S::expires(&value) else { return FOREVER };
        end.duration_since(SystemTime::now()).unwrap_or(Duration::ZERO).saturating_sub(self.early)
    }

    /// Makes sure that there is a value which lasts: one fetch at a time, and none where somebody else has just fetched
    /// one or just failed.
    async fn renew(&self, ahead: Duration) -> Result<Arc<S::Value>, Reason> {
        let mut fetched = self.fetch.lock().await;
        if let Some(value) = self.usable(ahead) {
            return Ok(value);
        }
        if fetched.failed.is_some_and(|when| when.elapsed() < FAILURE_REST) {
            return Err("the last attempt has just failed".into());
        }
        match self.source.fetch().await {
            Ok(value) => {
                let value = Arc::new(value);
                *fetched = self.replace(Arc::clone(&value));
                Ok(value)
            }
            Err(why) => {
                fetched.failed = Some(Instant::now());
                Err(why)
            }
        }
    }
}

#[cfg(test)]
impl<S: Source> Fresh<S> {
    /// Takes over a value as a fetch does.
    pub(crate) async fn put(&self, value: S::Value) {
        *self.fetch.lock().await = self.replace(Arc::new(value));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    struct Count {
        fetches: AtomicUsize,
        lifetime: Option<Duration>,
        fails: bool,
    }

    impl PartialEq for Count {
        fn eq(&self, _: &Self) -> bool {
            true
        }
    }

    impl Eq for Count {}

    impl Source for Count {
        type Value = (usize, Option<SystemTime>);

        async fn fetch(&self) -> Result<Self::Value, Reason> {
            tokio::task::yield_now().await;
            let number = self.fetches.fetch_add(1, SeqCst);
            if self.fails { Err("no".into()) } else { Ok((number, self.lifetime.map(|life| SystemTime::now() + life))) }
        }

        fn expires(value: &Self::Value) -> Option<SystemTime> {
            value.1
        }
    }

    fn fresh(lifetime: Option<Duration>, fails: bool) -> Fresh<Count> {
        Fresh::new(Count { fetches: AtomicUsize::new(0), lifetime, fails }, Duration::from_secs(300))
    }

    #[tokio::test]
    async fn all_share_one_fetch_and_keep_it() {
        let fresh = fresh(Some(Duration::from_secs(3600)), false);
        let (a, b, c) = tokio::join!(fresh.get(), fresh.get(), fresh.get());
        assert_eq!([a.unwrap().0, b.unwrap().0, c.unwrap().0, fresh.get().await.unwrap().0], [0; 4]);
        assert!(fresh.until_due() > Duration::from_secs(3200));
    }

    #[tokio::test]
    async fn an_expired_value_is_not_used() {
        let fresh = fresh(Some(Duration::from_secs(5)), false);
        assert_eq!(fresh.get().await.unwrap().0, 0);
        assert_eq!(fresh.get().await.unwrap().0, 1);
        assert_eq!(fresh.until_due(), Duration::ZERO);
    }

    #[tokio::test]
    async fn a_failure_is_shared_for_a_while() {
        let fresh = fresh(None, true);
        let (a, b) = tokio::join!(fresh.get(), fresh.get());
        assert!(a.is_err() && b.is_err());
        assert_eq!(fresh.source.fetches.load(SeqCst), 1);
    }
}
