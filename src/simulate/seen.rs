//! What arrived at the simulator: a bounded ring that tests and `GET /_simulator/requests` read.

use crate::hex;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, Version};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Requests that are remembered; older ones are forgotten.
pub const MAX_SEEN: usize = 1_000;
/// Bytes up to which a body is kept whole; of a larger one only length and SHA-256 are kept.
pub const MAX_KEPT_BODY: usize = 64 * 1024;
/// Requests that `GET /_simulator/requests` shows unless `?last=N` asks otherwise.
pub const DEFAULT_SHOWN: usize = 20;
/// The number of a request that is not remembered: one to the simulator itself.
pub(super) const UNRECORDED: u64 = u64::MAX;
/// Characters of a credential that are shown.
const SHOWN_OF_CREDENTIAL: usize = 10;
/// Headers that carry credentials: they are shown shortened.
const CREDENTIALS: [&str; 5] = ["authorization", "x-api-key", "api-key", "x-goog-api-key", "x-amz-security-token"];

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Counted from 0 since the simulator began.
    pub number: u64,
    /// HTTP version it came with.
    pub version: Version,
    /// Method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// Headers as they came, credentials included.
    pub headers: HeaderMap,
    /// Body, or what is kept of it; empty until it was read to its end.
    pub body: SeenBody,
    /// How the exchange ended.
    pub ending: Ending,
    /// Time from arrival to the ending; `None` while it goes on.
    pub lasted: Option<Duration>,
    arrived: Instant,
}

/// What is kept of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeenBody {
    /// All of it, at most [`MAX_KEPT_BODY`] bytes.
    Whole(Bytes),
    /// A larger body.
    Digest {
        /// Its length in bytes.
        length: usize,
        /// Its SHA-256 in lower-case hex.
        sha256: String,
    },
}

impl SeenBody {
    /// Keeps what may be kept of `body`.
    fn of(body: &Bytes) -> Self {
        if body.len() <= MAX_KEPT_BODY { Self::Whole(body.clone()) } else { Self::Digest { length: body.len(), sha256: sha256_hex(body) } }
    }

    /// Its length in bytes.
    pub fn length(&self) -> usize {
        match self {
            Self::Whole(bytes) => bytes.len(),
            Self::Digest { length, .. } => *length,
        }
    }

    /// Its SHA-256 in lower-case hex.
    pub fn sha256(&self) -> String {
        match self {
            Self::Whole(bytes) => sha256_hex(bytes),
            Self::Digest { sha256, .. } => sha256.clone(),
        }
    }

    /// The body as JSON; `None` where it is none or was too large to keep.
    pub fn json(&self) -> Option<serde_json::Value> {
        match self {
            Self::Whole(bytes) => serde_json::from_slice(bytes).ok(),
            Self::Digest { .. } => None,
        }
    }
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It has not ended.
    Open,
    /// The whole answer was handed to the connection.
    Answered,
    /// The client went away before that.
    ClientLeft,
    /// The script in the model's name broke the connection.
    Broken,
}

/// SHA-256 in lower-case hex.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(&Sha256::digest(bytes))
}

/// The last [`MAX_SEEN`] requests.
#[derive(Debug, Default)]
pub(super) struct Ring {
    inner: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    next: u64,
    kept: VecDeque<Seen>,
}

impl Ring {
    /// Remembers a request whose head has arrived; its number is what the other calls take.
    pub(super) fn arrived<B>(&self, request: &http::Request<B>) -> u64 {
        let mut entries = self.inner.lock();
        let number = entries.next;
        entries.next += 1;
        if entries.kept.len() == MAX_SEEN {
            entries.kept.pop_front();
        }
        entries.kept.push_back(Seen {
            number,
            version: request.version(),
            method: request.method().clone(),
            path: request.uri().path_and_query().map_or_else(String::new, ToString::to_string),
            headers: request.headers().clone(),
            body: SeenBody::Whole(Bytes::new()),
            ending: Ending::Open,
            lasted: None,
            arrived: Instant::now(),
        });
        number
    }

    /// Adds the body to a request that is still remembered.
    pub(super) fn body(&self, number: u64, body: &Bytes) {
        let kept = SeenBody::of(body);
        self.update(number, |seen| seen.body = kept);
    }

    /// Notes how a request ended; only the first ending counts.
    pub(super) fn ended(&self, number: u64, ending: Ending) {
        self.update(number, |seen| {
            if seen.ending == Ending::Open {
                seen.ending = ending;
                seen.lasted = Some(seen.arrived.elapsed());
            }
        });
    }

    fn update(&self, number: u64, change: impl FnOnce(&mut Seen)) {
        let mut entries = self.inner.lock();
        let first = entries.kept.front().map_or(0, |seen| seen.number);
        let position = number.checked_sub(first).and_then(|n| usize::try_from(n).ok());
        if let Some(seen) = position.and_then(|n| entries.kept.get_mut(n)) {
            change(seen);
        }
    }

    /// All that is remembered, oldest first.
    pub(super) fn all(&self) -> Vec<Seen> {
        self.inner.lock().kept.iter().cloned().collect()
    }

    /// The last `count` requests as JSON, newest first, credentials shortened.
    pub(super) fn show(&self, count: usize) -> serde_json::Value {
        let entries = self.inner.lock();
        let shown: Vec<_> = entries.kept.iter().rev().take(count).map(show).collect();
        serde_json::json!({ "seen": entries.next, "requests": shown })
    }
}

fn show(seen: &Seen) -> serde_json::Value {
    let headers: serde_json::Map<_, _> = seen
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), show_header(name, &String::from_utf8_lossy(value.as_bytes())).into()))
        .collect();
    let body = match &seen.body {
        SeenBody::Whole(bytes) => match serde_json::from_slice(bytes) {
            Ok(json) => json,
            Err(_) => serde_json::Value::String(String::from_utf8_lossy(bytes).into_owned()),
        },
        SeenBody::Digest { .. } => serde_json::Value::Null,
    };
    let ending = match seen.ending {
        Ending::Open => "open",
        Ending::Answered => "answered",
        Ending::ClientLeft => "client_left",
        Ending::Broken => "broken",
    };
    serde_json::json!({
        "number": seen.number, "method": seen.method.as_str(), "path": seen.path, "version": format!("{:?}", seen.version),
        "headers": headers, "body_length": seen.body.length(), "body_sha256": seen.body.sha256(), "body": body,
        "ending": ending, "lasted_ms": seen.lasted.map(|t| t.as_millis()),
    })
}

fn show_header(name: &HeaderName, value: &str) -> String {
    if !CREDENTIALS.contains(&name.as_str()) {
        return value.to_owned();
    }
    let head: String = value.chars().take(SHOWN_OF_CREDENTIAL).collect();
    format!("{head}… ({} characters)", value.chars().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(key: &str) -> http::Request<()> {
        http::Request::post("/v1/chat/completions?x=1").header("authorization", key).body(()).unwrap()
    }

    #[test]
    fn the_ring_forgets_the_oldest_and_survives_late_news_of_it() {
        let ring = Ring::default();
        for _ in 0..=MAX_SEEN {
            ring.arrived(&request("Bearer sk-1"));
        }
        ring.ended(0, Ending::Answered);
        ring.ended(MAX_SEEN as u64, Ending::ClientLeft);
        ring.ended(MAX_SEEN as u64, Ending::Answered);
        let all = ring.all();
        assert_eq!((all.len(), all[0].number, all[0].ending), (MAX_SEEN, 1, Ending::Open));
        assert_eq!(all[MAX_SEEN - 1].ending, Ending::ClientLeft, "the first ending counts");
    }

    #[test]
    fn a_large_body_is_a_digest_and_a_credential_is_not_shown() {
        let ring = Ring::default();
        let number = ring.arrived(&request("Bearer sk-very-long-secret"));
        ring.body(number, &Bytes::from(vec![b'a'; MAX_KEPT_BODY + 1]));
        let all = ring.all();
        assert_eq!(all[0].body.length(), MAX_KEPT_BODY + 1);
        assert_eq!(all[0].body.sha256().len(), 64);
        let shown = ring.show(5).to_string();
        assert!(shown.contains("Bearer sk-") && !shown.contains("secret"), "{shown}");
    }
}
