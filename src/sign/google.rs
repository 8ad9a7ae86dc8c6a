//! Google access tokens: fetched once for everyone, kept, and renewed in the background well before they expire.
//!
//! ```text
//!            token() finds none, or an expired one
//!   Empty ────────────────────────────────────────► Fetching ──► Fresh ──(225 s before expiry)──► Fetching …
//!     ▲                                                │ failed
//!     └──────────── rests for 1 s ◄────────────────────┘
//! ```
//!
//! A request that finds a fresh token takes it without waiting. The first requests wait for one shared fetch; when
//! [`TokenSource::refresh_loop`] runs, no later one ever does.

use crate::config::secret::Secret;
use crate::error::ApiError;
use crate::provider::Credential;
use arc_swap::ArcSwapOption;
use http::HeaderValue;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

mod grant;

pub use grant::check;

/// A token is renewed this long before it expires. The metadata server gives out its cached token until about five
/// minutes before the end, so that asking much earlier would bring the same one.
pub const REFRESH_BEFORE: Duration = Duration::from_secs(225);
/// A token is not used in its last seconds: it could expire on its way.
pub const EXPIRY_SLACK: Duration = Duration::from_secs(10);
/// Shortest time between two background fetches, whatever lifetime a token server claims.
pub const REFRESH_REST: Duration = Duration::from_secs(10);
/// After a failed fetch, requests are answered with its failure for this long instead of asking again.
pub const FAILURE_REST: Duration = Duration::from_secs(1);
/// Longest wait between two background fetches that failed.
pub const MAX_BACKOFF: Duration = Duration::from_secs(60);
/// How long a request waits for the shared fetch.
pub const WAIT: Duration = Duration::from_secs(12);

/// An access token, ready to be sent.
pub struct Token {
    header: HeaderValue,
    expires: Option<Instant>,
}

impl Token {
    fn new(token: &Secret, expires: Option<Instant>) -> Option<Self> {
        let mut header = HeaderValue::from_str(&format!("Bearer {}", token.expose())).ok()?;
        header.set_sensitive(true);
        Some(Self { header, expires })
    }

    /// The value of `authorization`; marked as sensitive.
    pub fn header(&self) -> &HeaderValue {
        &self.header
    }

    fn usable(&self, now: Instant) -> bool {
        self.expires.is_none_or(|expires| now + EXPIRY_SLACK < expires)
    }
}

/// Where a provider's tokens come from.
enum Origin {
    File(PathBuf),
    Default,
    Given,
}

/// One provider's tokens.
pub struct TokenSource {
    provider: Arc<str>,
    origin: Origin,
    current: ArcSwapOption<Token>,
    /// Held while fetching, so that there is one fetch at a time; holds when the last one failed.
    fetch: Mutex<Option<Instant>>,
}

impl TokenSource {
    /// The tokens of a provider's credential; `None` where it is not one of Google's.
    pub fn new(provider: Arc<str>, credential: &Credential) -> Option<Self> {
        let (origin, current) = match credential {
            Credential::GoogleToken(token) => (Origin::Given, Token::new(token, None).map(Arc::new)),
            Credential::GoogleFile(path) => (Origin::File(path.clone()), None),
            Credential::GoogleDefault => (Origin::Default, None),
            _ => return None,
        };
        Some(Self { provider, origin, current: ArcSwapOption::new(current), fetch: Mutex::new(None) })
    }

    /// The current token. Does not wait when there is a fresh one; else waits for the one fetch that all share.
    ///
    /// # Errors
    /// A 502 that names the provider and no secret.
    pub async fn token(&self) -> Result<Arc<Token>, ApiError> {
        if let Some(token) = self.current.load_full().filter(|t| t.usable(Instant::now())) {
            return Ok(token);
        }
        match tokio::time::timeout(WAIT, self.renew(Instant::now())).await {
            Ok(Some(token)) => Ok(token),
            Ok(None) | Err(_) => Err(self.failure()),
        }
    }

    /// Keeps the token fresh, and fetches the first one. Never ends; the caller drops it to stop.
    pub async fn refresh_loop(&self) {
        let mut backoff = FAILURE_REST;
        loop {
            let wait = self.until_due(Instant::now());
            tokio::time::sleep(wait).await;
            // Whatever is there now is to be replaced, unless a request was faster.
            match self.renew(Instant::now() + REFRESH_BEFORE).await {
                Some(_) => backoff = FAILURE_REST,
                None => {
                    tokio::time::sleep(backoff).await;
                    backoff = (backoff * 2).min(MAX_BACKOFF);
                    continue;
                }
            }
            tokio::time::sleep(REFRESH_REST).await;
        }
    }

    fn until_due(&self, now: Instant) -> Duration {
        let Some(token) = self.current.load_full() else { return Duration::ZERO };
        match token.expires {
            Some(expires) => expires.saturating_duration_since(now).saturating_sub(REFRESH_BEFORE),
            None => Duration::from_secs(24 * 3600), // a given token is never renewed
        }
    }

    /// Makes sure that there is a token which is still usable at `at`: one fetch at a time, and none where somebody
    /// else has just fetched one or just failed.
    async fn renew(&self, at: Instant) -> Option<Arc<Token>> {
        let mut failed = self.fetch.lock().await;
        if let Some(token) = self.current.load_full().filter(|t| t.usable(at)) {
            return Some(token);
        }
        if failed.is_some_and(|when| when.elapsed() < FAILURE_REST) {
            return None;
        }
        let fetched = match &self.origin {
            Origin::File(path) => grant::from_file(path).await,
            Origin::Default => grant::from_environment(&|name| std::env::var(name).ok()).await,
            Origin::Given => Err("the given access token has characters that no header may have".into()),
        };
        let token = fetched.and_then(|grant| {
            let expires = Instant::now() + grant.lifetime;
            Token::new(&grant.token, Some(expires)).ok_or_else(|| "the token server's token is no header value".into())
        });
        match token {
            Ok(token) => {
                *failed = None;
                let token = Arc::new(token);
                self.current.store(Some(token.clone()));
                Some(token)
            }
            Err(why) => {
                log::error!("provider {}: no Google access token: {why}", self.provider);
                *failed = Some(Instant::now());
                None
            }
        }
    }

    fn failure(&self) -> ApiError {
        ApiError::upstream(format!(
            "The gateway has no valid credential for provider `{}`: its access token could not be fetched. Try again later or ask the operator.",
            self.provider
        ))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]
mod tests;
