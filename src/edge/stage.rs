//! What the filter hooks and the replay session share about one request.
//!
//! The hooks see tasks one by one and decide; the session writes them. Between the two lies this small state: the
//! attempt's request body on its way up, the head and the commit on the way down, and the attempt's deadlines.

use bytes::Bytes;
use parking_lot::Mutex;
use pingora_core::protocols::http::ServerSession;
use pingora_http::ResponseHeader;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Shared state of one request; the lock is held for a few instructions and never across an await.
#[derive(Default)]
pub struct Stage {
    state: Mutex<State>,
    /// Whether the next deadline may have come nearer since this was asked.
    nearer: AtomicBool,
}

#[derive(Default)]
struct State {
    /// This attempt's request body, until it is handed out.
    body: Option<Bytes>,
    deadlines: Option<Deadlines>,
    /// When the upstream last said anything.
    heard: Option<Instant>,
    /// The head of the client's answer; there once the answer is committed, taken when it is written.
    head: Option<Box<ResponseHeader>>,
    committed: bool,
    ending: Ending,
    /// Where the real session comes back to.
    home: Option<Box<ServerSession>>,
}

/// What is left to do for an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// It goes on.
    #[default]
    Open,
    /// All of it has been told. What its provider still sends is let come until then, so that the connection can be kept.
    Whole(Instant),
    /// It has been told as far as it goes; end it and let go of the upstream.
    Cut,
}

/// How long a provider's body may take to end after the answer in it.
const REST: Duration = Duration::from_secs(1);

/// Deadlines of one attempt.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// When the attempt began.
    pub began: Instant,
    /// For the response headers, from `began`.
    pub first_byte: Duration,
    /// For the first content, from `began`.
    pub first_token: Duration,
    /// Between two reads once the headers are there.
    pub between_bytes: Duration,
    /// For the whole attempt, from `began`.
    pub total: Option<Duration>,
}

/// Which deadline passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Late {
    /// No response headers.
    FirstByte,
    /// No content.
    FirstToken,
    /// Silence.
    BetweenBytes,
    /// The whole attempt took too long.
    Total,
    /// The answer is whole and its body has not ended.
    Rest,
    /// The gateway's own time is over.
    Drain,
}

impl Late {
    /// What the client is told.
    pub const fn message(self) -> &'static str {
        match self {
            Self::FirstByte => "the provider did not answer in time",
            Self::FirstToken => "the provider did not begin its answer in time",
            Self::BetweenBytes => "the provider fell silent in the middle of its answer",
            Self::Total => "the provider did not complete its answer in time",
            Self::Rest => "the provider did not end its complete answer",
            Self::Drain => "the gateway is going away",
        }
    }
}

impl Stage {
    /// An attempt begins: its body will be replayed, nothing of its answer has been seen.
    pub fn begin_attempt(&self, body: Bytes, deadlines: Deadlines) {
        let mut s = self.state.lock();
        s.body = Some(body);
        s.deadlines = Some(deadlines);
        s.heard = None;
        s.head = None;
        s.ending = Ending::Open;
        self.nearer.store(true, Ordering::Relaxed);
    }

    /// Takes the attempt's body; only the first call gets it.
    pub fn take_body(&self) -> Option<Bytes> {
        self.state.lock().body.take()
    }

    /// Whether the attempt's body has not been handed out yet.
    pub fn has_body(&self) -> bool {
        self.state.lock().body.is_some()
    }

    /// The upstream said something.
    pub fn heard(&self, now: Instant) {
        if self.state.lock().heard.replace(now).is_none() {
            self.nearer.store(true, Ordering::Relaxed);
        }
    }

    /// The first content is there: from now on the answer is the client's, under this head.
    pub fn commit(&self, head: Box<ResponseHeader>) {
        let mut s = self.state.lock();
        s.head = Some(head);
        s.committed = true;
    }

    /// Whether the answer is the client's already.
    pub fn committed(&self) -> bool {
        self.state.lock().committed
    }

    /// The head, once, to the one who writes it.
    pub fn take_head(&self) -> Option<Box<ResponseHeader>> {
        self.state.lock().head.take()
    }

    /// What has been written so far is all there will be.
    pub fn end(&self) {
        self.state.lock().ending = Ending::Cut;
    }

    /// What has been written so far is the whole answer; only its body has not ended.
    pub fn told(&self) {
        let mut s = self.state.lock();
        if let Some(heard) = s.heard {
            s.ending = Ending::Whole(heard + REST);
            self.nearer.store(true, Ordering::Relaxed);
        }
    }

    /// What is left to do.
    pub fn ending(&self) -> Ending {
        self.state.lock().ending
    }

    /// Whether [`Stage::deadline`] may be earlier than when this was asked before. That it is later need not be known: an
    /// alarm that rings too early is set again.
    pub fn take_nearer(&self) -> bool {
        // Asked with every chunk and nearly always false, which costs less to see than to write.
        self.nearer.load(Ordering::Relaxed) && self.nearer.swap(false, Ordering::Relaxed)
    }

    /// The next instant at which a deadline may have passed, and which one it would be. `None`: there is none.
    pub fn deadline(&self) -> Option<(Instant, Late)> {
        let s = self.state.lock();
        let d = s.deadlines?;
        if let Ending::Whole(until) = s.ending {
            return Some((until, Late::Rest));
        }
        let mut next = match s.heard {
            None => (d.began + d.first_byte, Late::FirstByte),
            Some(heard) => (heard + d.between_bytes, Late::BetweenBytes),
        };
        if !s.committed && d.began + d.first_token < next.0 {
            next = (d.began + d.first_token, Late::FirstToken);
        }
        if let Some(total) = d.total
            && d.began + total < next.0
        {
            next = (d.began + total, Late::Total);
        }
        Some(next)
    }

    /// Brings the real session home.
    pub fn come_home(&self, session: Box<ServerSession>) {
        self.state.lock().home = Some(session);
    }

    /// Takes the real session back, if it has come home.
    pub fn take_home(&self) -> Option<Box<ServerSession>> {
        self.state.lock().home.take()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn deadlines(began: Instant) -> Deadlines {
        let secs = Duration::from_secs;
        Deadlines { began, first_byte: secs(10), first_token: secs(25), between_bytes: secs(20), total: Some(secs(60)) }
    }

    #[test]
    fn the_nearest_deadline_in_force_is_the_one_that_counts() {
        let (stage, t) = (Stage::default(), Instant::now());
        assert!(stage.deadline().is_none());
        assert!(!stage.take_nearer());
        stage.begin_attempt(Bytes::new(), deadlines(t));
        assert_eq!(stage.deadline().unwrap(), (t + Duration::from_secs(10), Late::FirstByte));
        assert!(stage.take_nearer());
        stage.heard(t + Duration::from_secs(1));
        assert!(stage.take_nearer(), "the time between bytes may be shorter than that for the first one");
        assert_eq!(stage.deadline().unwrap(), (t + Duration::from_secs(21), Late::BetweenBytes));
        stage.heard(t + Duration::from_secs(9));
        assert_eq!(stage.deadline().unwrap(), (t + Duration::from_secs(25), Late::FirstToken));
        stage.commit(Box::new(ResponseHeader::build(200, None).unwrap()));
        assert_eq!(stage.deadline().unwrap(), (t + Duration::from_secs(29), Late::BetweenBytes));
        stage.heard(t + Duration::from_secs(59));
        assert_eq!(stage.deadline().unwrap(), (t + Duration::from_secs(60), Late::Total));
        assert!(!stage.take_nearer(), "all of this has only moved the deadline away");
        stage.told();
        assert!(stage.take_nearer());
        stage.heard(t + Duration::from_secs(60));
        assert_eq!(stage.deadline().unwrap(), (t + Duration::from_secs(59) + REST, Late::Rest));
    }

    #[test]
    fn a_new_attempt_forgets_the_old_one() {
        let (stage, t) = (Stage::default(), Instant::now());
        stage.begin_attempt(Bytes::from_static(b"one"), deadlines(t));
        stage.heard(t);
        stage.end();
        stage.begin_attempt(Bytes::from_static(b"two"), deadlines(t));
        assert_eq!(stage.ending(), Ending::Open);
        assert_eq!(stage.take_body().unwrap(), "two");
        assert!(stage.take_body().is_none());
        assert_eq!(stage.deadline().unwrap().1, Late::FirstByte);
    }
}
