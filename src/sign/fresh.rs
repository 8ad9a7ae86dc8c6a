//! Caches an expiring value, such as a token, and renews it in the background before it expires.
//!
//! ```text
//!            get() without a valid value
//!   Empty ────────────────────────────────────────► Fetching ──► Fresh ──(some time before expiry)──► Fetching …
//!     ▲                                                │ failed
//!     └──── failure, retried after a second ◄──────────┘
//! ```
//!
//! A valid value is returned without waiting; otherwise callers wait for one shared fetch. While
//! [`Fresh::refresh_loop`] runs, only the first callers wait.

use crate::system;
use arc_swap::ArcSwapOption;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::Mutex;

/// A value is not used in its last seconds, because it could expire in transit.
pub const EXPIRY_MARGIN: Duration = Duration::from_secs(10);
/// Minimum interval of background fetches, regardless of the value's lifetime.
pub const MIN_REFRESH_INTERVAL: Duration = Duration::from_secs(10);
/// After a failed fetch, callers get its error for this time.
pub const FAILURE_TTL: Duration = Duration::from_secs(1);
/// Maximum delay after failed background fetches.
pub const MAX_BACKOFF: Duration = Duration::from_secs(60);
/// Maximum time a caller waits for the shared fetch.
pub const FETCH_TIMEOUT: Duration = Duration::from_secs(12);
/// Interval of checks of a value that does not expire.
const IDLE_CHECK: Duration = Duration::from_secs(24 * 3600);

/// Why there is no value, without secrets.
pub type Reason = Cow<'static, str>;

/// Fetches values. Equal sources are interchangeable.
pub trait Source: Eq + Send + Sync {
    /// The cached value.
    type Value: Send + Sync;

    /// Fetches a new value.
    ///
    /// # Errors
    /// Why it failed, without secrets.
    fn fetch(&self) -> impl Future<Output = Result<Self::Value, Reason>> + Send;

    /// Expiry of a value, if any.
    fn expires(value: &Self::Value) -> Option<SystemTime>;
}

/// A cached value with its source.
pub struct Fresh<S: Source> {
    source: S,
    /// How long before expiry a value is renewed.
    early: Duration,
    current: ArcSwapOption<S::Value>,
    /// Locked during a fetch, so that fetches do not overlap.
    fetch: Mutex<Fetched<S::Value>>,
}

/// Results of earlier fetches.
struct Fetched<V> {
    /// Time of the last failure, if the last fetch failed.
    failed: Option<Instant>,
    /// The previous value, still registered for redaction because requests that use it may be in flight.
    _previous: Option<Arc<V>>,
}

impl<S: Source> Fresh<S> {
    /// An empty cache.
    pub fn new(source: S, early: Duration) -> Self {
        let fetch = Mutex::new(Fetched { failed: None, _previous: None });
        Self { source, early, current: ArcSwapOption::empty(), fetch }
    }

    /// The source.
    pub fn source(&self) -> &S {
        &self.source
    }

    /// Returns the current value, or waits for the shared fetch if there is no valid one.
    ///
    /// # Errors
    /// Why there is no value.
    pub async fn get(&self) -> Result<Arc<S::Value>, Reason> {
        if let Some(value) = self.usable(EXPIRY_MARGIN) {
            return Ok(value);
        }
        match tokio::time::timeout(FETCH_TIMEOUT, self.renew(EXPIRY_MARGIN)).await {
            Ok(result) => result,
            Err(_) => Err("timed out".into()),
        }
    }

    /// Fetches the first value and renews it before it expires. Never returns.
    pub async fn refresh_loop(&self) {
        let mut backoff = FAILURE_TTL;
        loop {
            tokio::time::sleep(self.until_due()).await;
            if self.renew(self.early).await.is_ok() {
                backoff = FAILURE_TTL;
                tokio::time::sleep(MIN_REFRESH_INTERVAL).await;
            } else {
                tokio::time::sleep(backoff).await;
                backoff = (backoff * 2).min(MAX_BACKOFF);
            }
        }
    }

    fn replace(&self, value: Arc<S::Value>) -> Fetched<S::Value> {
        Fetched { failed: None, _previous: self.current.swap(Some(value)) }
    }

    /// The value, if it is valid for longer than `ahead`.
    fn usable(&self, ahead: Duration) -> Option<Arc<S::Value>> {
        let value = self.current.load_full()?;
        S::expires(&value).is_none_or(|end| system::system_time() + ahead < end).then_some(value)
    }

    fn until_due(&self) -> Duration {
        let Some(value) = self.current.load_full() else { return Duration::ZERO };
        let Some(end) = S::expires(&value) else { return IDLE_CHECK };
        end.duration_since(system::system_time()).unwrap_or(Duration::ZERO).saturating_sub(self.early)
    }

    /// Ensures a value that is valid for longer than `ahead`, with one fetch at a time and none shortly after another
    /// caller's.
    async fn renew(&self, ahead: Duration) -> Result<Arc<S::Value>, Reason> {
        let mut fetched = self.fetch.lock().await;
        if let Some(value) = self.usable(ahead) {
            return Ok(value);
        }
        if fetched.failed.is_some_and(|when| system::since(when) < FAILURE_TTL) {
            return Err("the last fetch just failed".into());
        }
        match self.source.fetch().await {
            Ok(value) => {
                let value = Arc::new(value);
                *fetched = self.replace(Arc::clone(&value));
                Ok(value)
            }
            Err(why) => {
                fetched.failed = Some(system::now());
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
