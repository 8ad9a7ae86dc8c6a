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
    /// A client that has received nothing for this long gets a heartbeat; `None`: never.
    heartbeat: Option<Duration>,
    /// Whether the next deadline may have come nearer since this was asked.
    nearer: AtomicBool,
}

#[derive(Default)]
struct State {
    /// This attempt's request body, until it is handed out.
    body: Option<Bytes>,
    deadlines: Option<Deadlines>,
    /// When the upstream last sent anything that counts.
    heard: Option<Instant>,
    /// When the client was last sent anything; at first, when its request had been read.
    written: Option<Instant>,
    /// The head of the client's answer, from the commit until it is written.
    head: Option<Box<ResponseHeader>>,
    answer: Answer,
    ending: Ending,
    /// Where the real session comes back to.
    home: Option<Box<ServerSession>>,
}

/// How far the client's answer is.
///
/// ```text
/// Held --heartbeat--> Opened
///   |                   |
///   +----commit---------+--> Committed
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Answer {
    /// Nothing has been sent.
    #[default]
    Held,
    /// A heartbeat has sent the head of a successful stream. Another target can still answer; only the status is final.
    Opened,
    /// The answer is one target's, or an error.
    Committed,
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
    /// For the first content, from `began`; `None` for a buffered request, whose answer comes at once.
    pub first_token: Option<Duration>,
    /// Between two reads once the headers are there.
    pub between_bytes: Duration,
    /// For the whole attempt, from `began`.
    pub total: Option<Duration>,
}

/// Which instant in the life of a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// The client gets a heartbeat.
    Heartbeat,
    /// A deadline has passed.
    Late(Late),
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
    /// For a request that has been read `now`, and whose client gets a heartbeat after each silence of `heartbeat`.
    pub fn new(heartbeat: Option<Duration>, now: Instant) -> Self {
        let state = State { written: Some(now), ..State::default() };
        Self { state: Mutex::new(state), heartbeat, nearer: AtomicBool::new(heartbeat.is_some()) }
    }

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

    /// An attempt has failed: its deadlines are void until the next one begins.
    pub fn end_attempt(&self) {
        self.state.lock().deadlines = None;
        self.nearer.store(true, Ordering::Relaxed); // the alarm may be set for one of them
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

    /// A write to the client has completed. The upstream was not read meanwhile, so a slow client does not count as the
    /// upstream's silence.
    pub fn written(&self, now: Instant) {
        let mut s = self.state.lock();
        s.written = Some(now);
        s.heard = Some(now);
    }

    /// A heartbeat is about to be written. Returns whether it is the first thing that the client gets.
    pub fn begin_heartbeat(&self, now: Instant) -> bool {
        let mut s = self.state.lock();
        s.written = Some(now);
        self.nearer.store(true, Ordering::Relaxed); // the alarm has fired for this heartbeat; arm it for the next one
        let first = s.answer == Answer::Held;
        if first {
            s.answer = Answer::Opened;
        }
        first
    }

    /// The first content is there: from now on the answer is the client's, under this head unless a heartbeat has sent one.
    pub fn commit(&self, head: Option<Box<ResponseHeader>>) {
        let mut s = self.state.lock();
        s.head = head;
        s.answer = Answer::Committed;
    }

    /// Whether the answer is the client's already.
    pub fn committed(&self) -> bool {
        self.state.lock().answer == Answer::Committed
    }

    /// Whether a heartbeat has sent the head, and nothing has been committed.
    pub fn opened(&self) -> bool {
        self.state.lock().answer == Answer::Opened
    }

    /// The head, once, to the one who writes it.
    pub fn take_head(&self) -> Option<Box<ResponseHeader>> {
        self.state.lock().head.take()
    }

    /// What has been written so far is all there will be.
    pub fn end(&self) {
        self.state.lock().ending = Ending::Cut;
    }

    /// What has been written so far is the whole answer; only the upstream's body has not ended.
    pub fn complete(&self) {
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

    /// Whether [`Stage::next_due`] may be earlier than when this was asked before. That it is later need not be known: an
    /// alarm that rings too early is set again.
    pub fn take_nearer(&self) -> bool {
        // Asked with every chunk and nearly always false, which costs less to see than to write.
        self.nearer.load(Ordering::Relaxed) && self.nearer.swap(false, Ordering::Relaxed)
    }

    /// The next instant at which something is due. `None`: nothing is.
    pub fn next_due(&self) -> Option<(Instant, Due)> {
        let s = self.state.lock();
        let late = s.deadline().map(|(at, late)| (at, Due::Late(late)));
        let beat = self.heartbeat.zip(s.written).filter(|_| s.ending == Ending::Open).map(|(every, at)| (at + every, Due::Heartbeat));
        match (late, beat) {
            (Some(late), Some(beat)) => Some(if beat.0 < late.0 { beat } else { late }),
            (late, beat) => late.or(beat),
        }
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

impl State {
    /// The attempt's next deadline.
    fn deadline(&self) -> Option<(Instant, Late)> {
        let d = self.deadlines?;
        if let Ending::Whole(until) = self.ending {
            return Some((until, Late::Rest));
        }
        let first_token = d.first_token.filter(|_| self.answer != Answer::Committed).map(|after| (d.began + after, Late::FirstToken));
        let total = d.total.map(|after| (d.began + after, Late::Total));
        let silence = match self.heard {
            None => (d.began + d.first_byte, Late::FirstByte),
            Some(heard) => (heard + d.between_bytes, Late::BetweenBytes),
        };
        [Some(silence), first_token, total].into_iter().flatten().min_by_key(|(at, _)| *at)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn deadlines(began: Instant) -> Deadlines {
        Deadlines { began, first_byte: 10 * SECOND, first_token: Some(25 * SECOND), between_bytes: 20 * SECOND, total: Some(60 * SECOND) }
    }

    fn head() -> Option<Box<ResponseHeader>> {
        Some(Box::new(ResponseHeader::build(200, None).unwrap()))
    }

    #[test]
    fn the_nearest_deadline_in_force_is_the_one_that_counts() {
        let (stage, t) = (Stage::default(), Instant::now());
        let late = || match stage.next_due() {
            Some((at, Due::Late(late))) => ((at - t).as_secs(), late),
            other => unreachable!("{other:?}"),
        };
        assert!(stage.next_due().is_none());
        assert!(!stage.take_nearer());
        stage.begin_attempt(Bytes::new(), deadlines(t));
        assert_eq!(late(), (10, Late::FirstByte));
        assert!(stage.take_nearer());
        stage.heard(t + SECOND);
        assert!(stage.take_nearer(), "the time between bytes may be shorter than that for the first one");
        assert_eq!(late(), (21, Late::BetweenBytes));
        stage.heard(t + 9 * SECOND);
        assert_eq!(late(), (25, Late::FirstToken));
        stage.commit(head());
        assert_eq!(late(), (29, Late::BetweenBytes));
        stage.heard(t + 59 * SECOND);
        assert_eq!(late(), (60, Late::Total));
        assert!(!stage.take_nearer(), "all of this has only moved the deadline away");
        stage.complete();
        assert!(stage.take_nearer());
        stage.heard(t + 60 * SECOND);
        assert_eq!(late(), (59 + REST.as_secs(), Late::Rest));
    }

    #[test]
    fn a_heartbeat_is_due_after_each_silence_towards_the_client_until_the_answer_is_over() {
        let t = Instant::now();
        let stage = Stage::new(Some(8 * SECOND), t);
        let due = || stage.next_due().map(|(at, due)| ((at - t).as_secs(), due));
        assert!(stage.take_nearer());
        assert_eq!(due(), Some((8, Due::Heartbeat)), "while no target has been asked yet");
        stage.begin_attempt(Bytes::new(), deadlines(t + SECOND));
        assert!(stage.begin_heartbeat(t + 8 * SECOND) && stage.opened());
        assert_eq!(due(), Some((11, Due::Late(Late::FirstByte))), "what the client gets is no word of the upstream's");
        stage.heard(t + 10 * SECOND);
        assert_eq!(due(), Some((16, Due::Heartbeat)), "what the upstream sends is nothing that the client gets");
        stage.end_attempt();
        assert!(stage.take_nearer());
        assert!(!stage.begin_heartbeat(t + 16 * SECOND), "the head is sent once");
        assert_eq!(due(), Some((24, Due::Heartbeat)), "between two attempts");
        stage.begin_attempt(Bytes::new(), deadlines(t + 17 * SECOND));
        stage.commit(None);
        assert!(stage.committed() && !stage.opened());
        stage.written(t + 20 * SECOND);
        assert_eq!(due(), Some((28, Due::Heartbeat)), "in a pause of the answer");
        stage.complete();
        assert_eq!(due(), Some((20 + REST.as_secs(), Due::Late(Late::Rest))));
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
        assert_eq!(stage.next_due().unwrap().1, Due::Late(Late::FirstByte));
    }
}
