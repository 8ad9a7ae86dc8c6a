//! Fetches an issuer's keys, in the background: at the start, then again and again, and where a token names a key that is not
//! among them. The last good set stays while fetching fails.
//!
//! ```text
//!              due                      fetched: after max-age of the answer, 1m to 1h
//!   waiting ─────────► fetching ──────► waiting
//!      ▲                  │ failed: after 1s, 2s, 4s … 1m
//!      │                  ▼
//!      └───────────── waiting
//!   want(): makes a fetch due, at most once in UNKNOWN_KEY_INTERVAL
//! ```
//!
//! All fetches are made by [`KeySource::keep_fresh`]; a request only makes one due and waits for its end, for a bounded time.

use super::keys::KeySet;
use crate::egress::Egress;
use crate::sign::fresh::Reason;
use crate::sign::http;
use crate::system;
use ::http::header::{ACCEPT, CACHE_CONTROL};
use ::http::uri::Scheme;
use ::http::{HeaderMap, Request, Uri};
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use parking_lot::Mutex;
use serde::Deserialize;
use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// Time between fetches, where the answer has no `cache-control: max-age`.
pub const REFRESH: Duration = Duration::from_secs(600);
/// Shortest and longest time between fetches, whatever the answer says: a key that is withdrawn is gone within an hour.
pub const REFRESH_BOUNDS: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(3600));
/// Tokens with unknown keys cause at most one fetch in this time.
pub const UNKNOWN_KEY_INTERVAL: Duration = Duration::from_secs(60);
/// First wait after a failed fetch; doubled each time …
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// … up to this.
const LAST_RETRY: Duration = Duration::from_secs(60);
/// Longest that a request waits for a fetch.
pub const MAX_WAIT: Duration = Duration::from_secs(5);

/// Where keys are fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A key set.
    KeySet(Uri),
    /// A discovery document, whose `jwks_uri` is that of the key set.
    Discovery(Uri),
}

/// A URL that keys may be fetched from: https, or http to this machine.
///
/// # Errors
/// What is wrong with it, behind its name.
pub fn key_url(text: &str) -> Result<Uri, &'static str> {
    let url: Uri = text.trim().parse().map_err(|_| "is not a URL like https://idp.example.com/keys")?;
    let host = url.host().unwrap_or_default();
    if host.is_empty() || url.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err("must be a URL with a host, and without user and password");
    }
    match url.scheme_str() {
        Some("https") => Ok(url),
        Some("http") if is_loopback(host) => Ok(url),
        Some("http") => {
            Err("must begin with https://: who could change the keys on the way could make tokens (http is for this machine only)")
        }
        _ => Err("must begin with https://"),
    }
}

/// The URL of the keys that the discovery document at `from` names. One that came by https names none at a port of this machine,
/// which anybody may have.
fn key_set_url(text: &str, from: &Uri) -> Result<Uri, &'static str> {
    let url = key_url(text)?;
    match url.scheme() == Some(&Scheme::HTTPS) || from.scheme() == Some(&Scheme::HTTP) {
        true => Ok(url),
        false => Err("must begin with https://, as the issuer does"),
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    address.map_or_else(|_| host.eq_ignore_ascii_case("localhost"), |address| address.to_canonical().is_loopback())
}

/// When keys are fetched; pure.
#[derive(Debug)]
struct Schedule {
    /// The next fetch; one that is under way is due until it has ended, so that one that is given up is made again.
    due: Instant,
    /// Failed fetches in a row.
    failures: u32,
    /// The last fetch for an unknown key.
    wanted: Option<Instant>,
}

impl Schedule {
    /// For a token with an unknown key: whether a fetch is due, which is worth waiting for.
    fn want(&mut self, now: Instant) -> bool {
        if self.due <= now {
            return true;
        }
        if self.wanted.is_some_and(|last| now < last + UNKNOWN_KEY_INTERVAL) {
            return false;
        }
        (self.due, self.wanted) = (now, Some(now));
        true
    }

    fn succeeded(&mut self, now: Instant, max_age: Option<Duration>) {
        let (least, most) = REFRESH_BOUNDS;
        (self.due, self.failures) = (now + max_age.unwrap_or(REFRESH).clamp(least, most), 0);
    }

    fn failed(&mut self, now: Instant) {
        let wait = FIRST_RETRY.saturating_mul(1 << self.failures.min(6)).min(LAST_RETRY);
        (self.due, self.failures) = (now + wait, self.failures.saturating_add(1));
    }
}

/// What has become of fetches.
#[derive(Debug, Default)]
struct History {
    fetched: Option<u64>,
    failed: Option<(u64, String)>,
    failures: u64,
}

/// The keys of an issuer, fetched.
#[derive(Debug)]
pub struct KeySource {
    issuer: Arc<str>,
    location: Location,
    egress: Egress,
    keys: ArcSwapOption<KeySet>,
    /// Incremented after the keys have changed.
    version: AtomicU64,
    schedule: Mutex<Schedule>,
    history: Mutex<History>,
    /// Wakes [`KeySource::keep_fresh`] when a fetch is due.
    wake: Notify,
    /// Changes when a fetch has ended.
    ended: watch::Sender<()>,
}

/// State of an issuer's keys, for `/status` and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyStatus {
    /// The issuer.
    pub issuer: Arc<str>,
    /// Number of keys.
    pub keys: usize,
    /// When they were fetched last, in nanoseconds since the epoch.
    pub fetched: Option<u64>,
    /// Number of failed fetches.
    pub failures: u64,
    /// Whether the last fetch failed.
    pub failing: bool,
    /// When and why a fetch failed last.
    pub last_failure: Option<(u64, String)>,
}

impl KeySource {
    /// Without keys; the first fetch is due.
    pub fn new(issuer: Arc<str>, location: Location, egress: Egress) -> Self {
        let schedule = Schedule { due: Instant::now(), failures: 0, wanted: None };
        Self {
            issuer,
            location,
            egress,
            keys: ArcSwapOption::empty(),
            version: AtomicU64::new(0),
            schedule: Mutex::new(schedule),
            history: Mutex::default(),
            wake: Notify::new(),
            ended: watch::Sender::new(()),
        }
    }

    /// Whether it fetches the same.
    pub fn is_for(&self, issuer: &str, location: &Location, egress: &Egress) -> bool {
        *self.issuer == *issuer && self.location == *location && self.egress == *egress
    }

    /// The keys; `None` while there are none.
    pub fn keys(&self) -> Option<KeySet> {
        self.keys.load().as_deref().cloned()
    }

    /// The version of the keys. Read it before them: what was checked with older keys is then never taken for newer.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// How long until the next fetch.
    pub fn next_fetch(&self) -> Duration {
        self.schedule.lock().due.saturating_duration_since(Instant::now())
    }

    /// For a token whose key is not there: waits for the end of a fetch, at most [`MAX_WAIT`]. Returns at once where a fetch has
    /// just been made in vain.
    pub async fn wait(&self) {
        let mut ended = self.ended.subscribe();
        let now = Instant::now();
        let worth = {
            let mut schedule = self.schedule.lock();
            // Without any keys fetches are retried anyway; a token changes nothing about that.
            if self.keys.load().is_some() { schedule.want(now) } else { schedule.due <= now }
        };
        if worth {
            self.wake.notify_one();
            let _in_vain = tokio::time::timeout(MAX_WAIT, ended.changed()).await;
        }
    }

    /// Fetches the keys whenever that is due. Never returns.
    pub async fn keep_fresh(&self) {
        loop {
            let due = self.schedule.lock().due;
            if due <= Instant::now() {
                let fetched = self.fetch().await;
                self.note(fetched);
            } else {
                tokio::select! {
                    () = tokio::time::sleep_until(due) => {}
                    () = self.wake.notified() => {}
                }
            }
        }
    }

    /// Takes the result of a fetch over.
    pub(super) fn note(&self, fetched: Result<(KeySet, Option<Duration>), Reason>) {
        let (now, time) = (Instant::now(), system::wall_clock());
        match fetched {
            Ok((keys, max_age)) => {
                if self.keys.load().as_deref() != Some(&keys) {
                    log::info!("the keys of issuer `{}` have changed: {} are in force", self.issuer, keys.count());
                    self.keys.store(Some(Arc::new(keys)));
                    self.version.fetch_add(1, Ordering::Release);
                } else if self.schedule.lock().failures > 0 {
                    log::info!("the keys of issuer `{}` can be fetched again", self.issuer);
                }
                self.history.lock().fetched = Some(time);
                self.schedule.lock().succeeded(now, max_age);
            }
            Err(why) => {
                let mut schedule = self.schedule.lock();
                if schedule.failures == 0 {
                    let more = if self.keys.load().is_some() { "; the last ones stay in force" } else { "; its tokens get a 503" };
                    log::error!("cannot fetch the keys of issuer `{}`: {why}{more}", self.issuer);
                }
                schedule.failed(now);
                drop(schedule);
                let mut history = self.history.lock();
                (history.failed, history.failures) = (Some((time, why.into_owned())), history.failures + 1);
            }
        }
        self.ended.send_replace(());
    }

    async fn fetch(&self) -> Result<(KeySet, Option<Duration>), Reason> {
        let url = match &self.location {
            Location::KeySet(url) => Cow::Borrowed(url),
            Location::Discovery(url) => Cow::Owned(self.discover(url.clone()).await?),
        };
        let answer = get(url.into_owned(), &self.egress, "the key set").await?;
        let keys = KeySet::parse(&answer.body).map_err(|what| format!("the answer {what}"))?;
        Ok((keys, max_age(&answer.headers)))
    }

    /// The URL of the key set, from the discovery document.
    async fn discover(&self, url: Uri) -> Result<Uri, Reason> {
        #[derive(Deserialize)]
        struct Document {
            issuer: String,
            jwks_uri: String,
        }
        let answer = get(url.clone(), &self.egress, "the discovery document").await?;
        let document: Document =
            serde_json::from_slice(&answer.body).map_err(|_| "the discovery document has no `issuer` and `jwks_uri`")?;
        // "The issuer value returned MUST be identical to the Issuer URL that was directly used to retrieve the configuration
        // information" (OpenID Connect Discovery, section 4.3).
        if *document.issuer != *self.issuer {
            return Err("the discovery document is one of another issuer: `issuer` must be the same, character for character".into());
        }
        key_set_url(&document.jwks_uri, &url).map_err(|what| format!("`jwks_uri` of the discovery document {what}").into())
    }

    /// For `/status` and metrics.
    pub fn status(&self) -> KeyStatus {
        let failing = self.schedule.lock().failures > 0;
        let history = self.history.lock();
        KeyStatus {
            issuer: Arc::clone(&self.issuer),
            keys: self.keys.load().as_ref().map_or(0, |keys| keys.count()),
            fetched: history.fetched,
            failures: history.failures,
            failing,
            last_failure: history.failed.clone(),
        }
    }
}

async fn get(url: Uri, egress: &Egress, what: &str) -> Result<http::Answer, Reason> {
    let request = Request::get(url)
        .header(ACCEPT, "application/jwk-set+json, application/json")
        .body(Bytes::new())
        .map_err(|_| "the URL is not valid")?;
    let answer = http::send(request, egress).await.map_err(|why| format!("{what}: {why}"))?;
    match answer.status {
        200 => Ok(answer),
        status @ 300..=399 => Err(format!("{what} is somewhere else (status {status}); redirects are not followed").into()),
        status => Err(format!("{what} was answered with status {status}").into()),
    }
}

/// `max-age` of `cache-control` (RFC 9111, section 5.2.2.1).
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let mut directives = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    let seconds = directives.find_map(|one| one.trim().to_ascii_lowercase().strip_prefix("max-age=")?.trim_matches('"').parse().ok())?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
