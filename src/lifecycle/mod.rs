//! The life of one request as a state machine. Pure: instants come in as arguments, and what the edge has to do is returned.

pub mod answer;
pub mod failure;

pub use self::answer::{Answer, Metered, Refusal};
pub use self::failure::{AttemptFailure, Connect, Deadline, Delivery};

use crate::error::ApiError;
use crate::llm::failure::Fault;
use crate::provider::timeouts::Timeouts;
use crate::telemetry::labels::Phase;
use std::mem::replace;
use std::time::{Duration, Instant};

/// Where a request is.
///
/// ```text
/// Received
///    | limits admit it
///    v           failed, another target
/// Admitted <-------------------------------.
///    | target picked                       |
///    v                                     |
/// Attempting ------------------------------+
///    | first content                       |
///    v                                     v
/// Relaying ---- whole, broken off ----> Ending ----> Settled
///                                          ^
///                 refused, no target left -'
/// ```
enum State {
    /// The request is being read and checked.
    Received,
    /// Limits have admitted it. No target is being asked.
    Admitted(Client),
    /// A target is being asked, and nothing of an answer is for the client so far.
    Attempting(Attempt),
    /// An answer is sent to the client while it comes.
    Relaying(Timer, Answer),
    /// All that the client gets has been produced. Until an instant the provider's body may still end, so that its connection
    /// can be kept; `None`: the connection is given up.
    Ending(Option<Instant>),
    /// It is over.
    Settled,
}

/// What the client has been sent before its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// Nothing.
    Nothing,
    /// A heartbeat, under the head of a successful stream: the status is final, and any target can still answer.
    Opened,
}

/// An attempt at a target, until its answer begins.
struct Attempt {
    client: Client,
    progress: Progress,
    /// When its request was first sent. Its deadlines do not begin again with another connection.
    began: Option<Instant>,
    /// Reconnects after [`Delivery::Doubtful`].
    stale: u8,
    /// Reconnects after [`Delivery::Refused`] and [`Delivery::Unprocessed`].
    unprocessed: u8,
    /// How often its request was written again without a field that the target had refused.
    adjustments: u8,
}

/// How far an attempt is.
///
/// ```text
///      request sent            1xx             2xx
/// Connecting ---> Awaiting ---------> Interim -----> Answering
///   ^  ^             |   \               \
///   |  '- connection |    '- other status -'-------> Refused
///   |       broke ---'                                  |
///   '------------------- a field is left out -----------'
/// ```
enum Progress {
    /// The request is not sent on this connection. Has how the last connect failed.
    Connecting(Option<AttemptFailure>),
    /// The request is sent.
    Awaiting(Timer),
    /// The provider has sent an interim response.
    Interim(Timer),
    /// The response is an answer.
    Answering(Timer, Answer),
    /// The response is a refusal, whose body is read.
    Refused(Timer, Box<Refusal>),
}

/// The deadlines of a request that is sent.
#[derive(Clone, Copy)]
struct Timer {
    timeouts: Timeouts,
    stream: bool,
    began: Instant,
    /// When the request was sent on this connection.
    sent: Instant,
    /// When the provider last sent anything; the time that a slow client takes is not counted.
    read: Option<Instant>,
    /// Whether the model has begun to think. Its first token has come then, though there may be nothing in it for the client.
    thinking: bool,
}

/// See [`State`].
pub struct Lifecycle {
    state: State,
    heartbeat: Option<Heartbeat>,
    /// When all attempts together end, and which deadline that is.
    deadline: Option<(Instant, Deadline)>,
    /// Whether [`Self::due`] may be earlier than when the alarm was last set. A later one need not be noticed: an alarm that
    /// fires too early is set again.
    rearm: bool,
}

struct Heartbeat {
    /// The silence after which one is due.
    every: Duration,
    /// When the client was last sent anything; at first, when its request was admitted.
    written: Instant,
}

/// What is due at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// The client gets a heartbeat.
    Heartbeat,
    /// A deadline of the attempt.
    Late(Deadline),
    /// The provider's body has not ended after the whole answer, and is given up.
    UpstreamEnd,
}

/// What a piece of the provider's body leads to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Bytes for the client.
    pub out: Vec<u8>,
    /// Where the answer begins with them: what the client has before it.
    pub begins: Option<Client>,
    /// Where the answer is whole, or the attempt failed, which [`Lifecycle::fail`] still has to be told.
    pub end: Option<Result<Metered, AttemptFailure>>,
}

/// What an error leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The same attempt again, on another connection; it takes none of the route's attempts.
    Reconnect,
    /// The attempt has failed, which [`Lifecycle::fail`] still has to be told: another one, or the client's error.
    Fail(AttemptFailure),
    /// No attempt is under way: the next one, or the client's error. With the failure, unless it has been dealt with.
    Next(Option<AttemptFailure>),
    /// The answer cannot go on; the client gets an error event.
    Truncate(AttemptFailure),
    /// The client has disconnected.
    Abandon,
    /// The client has all that it gets; its response is ended.
    Finish,
}

/// The connection on which an attempt met with an error.
#[derive(Clone, Copy, Debug, Default)]
pub struct Connection {
    /// Whether it had served another request before.
    pub reused: bool,
    /// Whether anything has come on it since the request.
    pub received: bool,
    /// Whether the provider has an address that the attempt has not dialled.
    pub other_address: bool,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self { state: State::Received, heartbeat: None, deadline: None, rearm: false }
    }
}

impl Lifecycle {
    /// Limits have admitted the request. Its client gets a heartbeat after each silence of `heartbeat`, and all attempts together
    /// end with `deadline`.
    pub fn admit(&mut self, heartbeat: Option<Duration>, deadline: Option<(Instant, Deadline)>, now: Instant) {
        self.state = State::Admitted(Client::Nothing);
        self.heartbeat = heartbeat.map(|every| Heartbeat { every, written: now });
        self.deadline = deadline;
        self.rearm = self.heartbeat.is_some() || deadline.is_some();
    }

    /// The deadline of all attempts together is the request's own from here on: no target is to blame for the time that an
    /// earlier one took.
    pub fn share_deadline(&mut self) {
        self.deadline = self.deadline.map(|(at, _)| (at, Deadline::Request));
    }

    /// A target has been picked.
    pub fn connect(&mut self) {
        if let State::Admitted(client) = self.state {
            let progress = Progress::Connecting(None);
            self.state = State::Attempting(Attempt { client, progress, began: None, stale: 0, unprocessed: 0, adjustments: 0 });
        }
    }

    /// The attempt's request is sent, for a `stream` or a buffered answer.
    pub fn send(&mut self, timeouts: &Timeouts, stream: bool, now: Instant) {
        if let State::Attempting(attempt) = &mut self.state
            && let Progress::Connecting(_) = attempt.progress
        {
            let began = *attempt.began.get_or_insert(now);
            attempt.progress = Progress::Awaiting(Timer { timeouts: *timeouts, stream, began, sent: now, read: None, thinking: false });
            self.rearm = true;
        }
    }

    /// An interim response (1xx).
    pub fn on_interim(&mut self) {
        if let State::Attempting(Attempt { progress, .. }) = &mut self.state
            && let Progress::Awaiting(timer) = progress
        {
            *progress = Progress::Interim(*timer);
        }
    }

    /// The response's head.
    pub fn on_head(&mut self, response: Result<Answer, Box<Refusal>>, now: Instant) {
        let State::Attempting(Attempt { progress, .. }) = &mut self.state else { return };
        let (Progress::Awaiting(timer) | Progress::Interim(timer)) = progress else { return };
        // A buffered answer may come long after its head, and the deadline for the first byte waits for its body.
        if timer.stream || response.is_err() {
            self.rearm |= timer.read(now);
        }
        *progress = match response {
            Ok(answer) => Progress::Answering(*timer, answer),
            Err(refusal) => Progress::Refused(*timer, refusal),
        };
    }

    /// A piece of the response's body, and its end. `leave` is asked about an answer that is withheld: whether another target
    /// will be asked in its place.
    pub fn on_bytes(&mut self, bytes: &[u8], end: bool, now: Instant, leave: impl FnOnce() -> bool) -> Step {
        let (timer, answer, client) = match &mut self.state {
            State::Attempting(Attempt { progress: Progress::Refused(timer, refusal), .. }) => {
                self.rearm |= timer.read(now);
                let read = refusal.push(bytes) || end;
                return Step { end: read.then(|| Err(refusal.failure())), ..Step::default() };
            }
            State::Attempting(Attempt { progress: Progress::Answering(timer, answer), client, .. }) => (timer, answer, Some(*client)),
            State::Relaying(timer, answer) => (timer, answer, None),
            _ => return Step::default(),
        };
        self.rearm |= timer.read(now);
        let (mut out, mut result) = answer.push(bytes, end);
        timer.thinking |= answer.is_thinking();
        if client == Some(Client::Opened) && answer.is_opaque() && !out.is_empty() {
            (out, result) = (Vec::new(), Err(Fault::Broken("the answer to a stream request is no stream".into())));
        }
        if client.is_some() && result.is_ok() && answer.is_withheld() && leave() {
            answer.discard();
            return Step { end: Some(Err(AttemptFailure::Withheld)), ..Step::default() };
        }
        // What was said before a fault stands, and then it is too late for another target.
        let begins = client.filter(|_| !out.is_empty() && (result.is_err() || answer.started()));
        let end = match result {
            Err(fault) => Some(Err(fault.into())),
            Ok(()) if !end && !answer.is_over() => None,
            Ok(()) if client.is_some() && begins.is_none() => Some(Err(AttemptFailure::Empty)),
            Ok(()) => Some(Ok(Metered { whole: true, ..answer.metered() })),
        };
        if let Some(Ok(_)) = end {
            self.end(Some(now + UPSTREAM_END_TIMEOUT));
        } else if begins.is_some() {
            self.state = match replace(&mut self.state, State::Settled) {
                State::Attempting(Attempt { progress: Progress::Answering(timer, answer), .. }) => State::Relaying(timer, answer),
                other => other,
            };
        }
        Step { out, begins, end }
    }

    /// An error under way. `None`: one that a hook has raised after it had told of the failure here.
    pub fn on_error(&mut self, failure: Option<AttemptFailure>, on: Connection, now: Instant) -> Action {
        use AttemptFailure as F;
        let (attempt, failure) = match (&mut self.state, failure) {
            (State::Settled, _) => return Action::Finish,
            (_, Some(F::Cancelled)) => return Action::Abandon,
            (State::Ending(_), _) => return Action::Finish,
            (State::Received | State::Admitted(_), failure) => return Action::Next(failure),
            (State::Relaying(..), failure) => return Action::Truncate(failure.unwrap_or(F::Internal)),
            (State::Attempting(attempt), failure) => (attempt, failure),
        };
        if let Some(F::Disconnected(delivery)) = failure
            && attempt.take_reconnect(delivery, on, now)
        {
            self.rearm = true;
            return Action::Reconnect;
        }
        match (&mut attempt.progress, failure) {
            (Progress::Connecting(_), None) => Action::Reconnect,
            (Progress::Connecting(last), Some(F::Connect(connect))) => match connect {
                // No address is left: the last one that was dialled says why.
                Connect::UnknownHost | Connect::ProxyUnknownHost => Action::Fail(last.take().unwrap_or(F::Connect(connect))),
                connect if on.other_address && connect != Connect::TimedOut => {
                    *last = Some(F::Connect(connect));
                    Action::Reconnect
                }
                connect => Action::Fail(F::Connect(connect)),
            },
            (Progress::Connecting(_), Some(F::Disconnected(_))) => Action::Fail(F::Connect(Connect::Unreachable)),
            // A refusal need not have a whole body: its status says enough. (A server that refuses before it has read the request
            // resets the connection behind its answer.)
            (Progress::Refused(_, refusal), Some(F::Empty | F::Disconnected(_))) => Action::Fail(refusal.failure()),
            (_, failure) => Action::Fail(failure.unwrap_or(F::Internal)),
        }
    }

    /// The attempt's request is written again without a field that the target has refused. `false` where that was done too
    /// often.
    pub fn retry_adjusted(&mut self) -> bool {
        let State::Attempting(attempt) = &mut self.state else { return false };
        let allowed = matches!(attempt.progress, Progress::Refused(..)) && attempt.adjustments < MAX_ADJUSTMENTS;
        if allowed {
            attempt.adjustments += 1;
            attempt.progress = Progress::Connecting(None);
            self.rearm = true;
        }
        allowed
    }

    /// The attempt has failed. Returns what was used, where that counts: of an answer that the client has a part of, and where
    /// the client has disconnected or gives no more time, since the provider has read its prompt.
    pub fn fail(&mut self, failure: &AttemptFailure) -> Option<Metered> {
        let (state, metered) = match replace(&mut self.state, State::Settled) {
            State::Relaying(_, answer) => (State::Ending(None), Some(answer.metered())),
            State::Attempting(Attempt { client, progress, .. }) => {
                let used = match progress {
                    Progress::Connecting(_) | Progress::Refused(..) => None,
                    Progress::Awaiting(_) | Progress::Interim(_) => Some(Metered::default()),
                    Progress::Answering(_, answer) => Some(answer.metered()),
                };
                let by_client = matches!(failure, AttemptFailure::Cancelled | AttemptFailure::Late(Deadline::Request));
                (State::Admitted(client), used.filter(|_| by_client))
            }
            other => (other, None),
        };
        self.state = state;
        self.rearm = true; // the alarm may be set for a deadline of the attempt
        metered
    }

    /// The events that end an answer which cannot go on, where they depend on what the client has of it.
    pub fn ending(&self, error: &ApiError) -> Option<Vec<u8>> {
        if let State::Relaying(_, answer) = &self.state { answer.failure(error) } else { None }
    }

    /// Whether the answer that the client gets is bytes that pass: no event can end it.
    pub fn is_opaque(&self) -> bool {
        matches!(&self.state, State::Relaying(_, answer) if answer.is_opaque())
    }

    /// The client gets an error of the gateway's. Returns what it has been sent before.
    pub fn respond(&mut self) -> Client {
        let client = self.client().map_or(Client::Nothing, |client| *client);
        self.end(None);
        client
    }

    fn end(&mut self, until: Option<Instant>) {
        if !matches!(self.state, State::Settled) {
            self.state = State::Ending(until);
            self.rearm = true;
        }
    }

    /// A heartbeat is about to be written. Returns whether it is the first thing that the client gets.
    pub fn on_heartbeat(&mut self, now: Instant) -> bool {
        if let Some(heartbeat) = &mut self.heartbeat {
            heartbeat.written = now;
        }
        self.rearm = true; // the alarm has fired for this one
        self.client().is_some_and(|client| replace(client, Client::Opened) == Client::Nothing)
    }

    /// The client has been sent a part of its answer. The provider was not read meanwhile, and a slow client is not its silence.
    pub fn on_written(&mut self, now: Instant) {
        if let Some(heartbeat) = &mut self.heartbeat {
            heartbeat.written = now;
        }
        if let State::Relaying(timer, _) = &mut self.state {
            timer.read(now);
        }
    }

    /// The request is over. Returns how far it was.
    pub fn settle(&mut self) -> Phase {
        match replace(&mut self.state, State::Settled) {
            State::Received => Phase::Request,
            State::Admitted(_) | State::Attempting(_) => Phase::Waiting,
            State::Relaying(..) | State::Ending(_) | State::Settled => Phase::Answer,
        }
    }

    /// Whether a target is being asked.
    pub fn is_attempting(&self) -> bool {
        matches!(self.state, State::Attempting(_) | State::Relaying(..))
    }

    /// Whether the client's response is decided: no other target can answer.
    pub fn is_committed(&self) -> bool {
        matches!(self.state, State::Relaying(..) | State::Ending(_))
    }

    /// Whether the client has its whole answer.
    pub fn is_complete(&self) -> bool {
        matches!(self.state, State::Ending(Some(_)))
    }

    /// Whether nothing is left but to end the client's response, and to give up the provider's.
    pub fn is_aborted(&self) -> bool {
        matches!(self.state, State::Ending(None))
    }

    /// The next instant at which something is due.
    pub fn due(&self) -> Option<(Instant, Due)> {
        match self.state {
            State::Received | State::Ending(None) | State::Settled => return None,
            State::Ending(Some(until)) => return Some((until, Due::UpstreamEnd)),
            State::Admitted(_) | State::Attempting(_) | State::Relaying(..) => {}
        }
        let deadline = self.next_deadline().map(|(at, deadline)| (at, Due::Late(deadline)));
        let heartbeat = self.heartbeat.as_ref().map(|beat| (beat.written + beat.every, Due::Heartbeat));
        [deadline, heartbeat].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// The deadline behind a wait for the provider that was given up outside of this state machine.
    pub fn late(&self, now: Instant) -> Deadline {
        self.next_deadline().filter(|(at, _)| *at <= now).map_or(Deadline::FirstByte, |(_, deadline)| deadline)
    }

    /// The next deadline, of the attempt or of all attempts together.
    fn next_deadline(&self) -> Option<(Instant, Deadline)> {
        let attempt = match &self.state {
            State::Attempting(attempt) => match &attempt.progress {
                Progress::Connecting(_) => None,
                Progress::Awaiting(timer) | Progress::Interim(timer) => Some(timer.next(false)),
                Progress::Answering(timer, _) | Progress::Refused(timer, _) => Some(timer.next(false)),
            },
            State::Relaying(timer, _) => Some(timer.next(true)),
            State::Received | State::Admitted(_) | State::Ending(_) | State::Settled => None,
        };
        [attempt, self.deadline].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// Whether the alarm has to be set again, for what [`Self::due`] returns.
    pub fn take_rearm(&mut self) -> bool {
        std::mem::take(&mut self.rearm)
    }

    fn client(&mut self) -> Option<&mut Client> {
        match &mut self.state {
            State::Admitted(client) | State::Attempting(Attempt { client, .. }) => Some(client),
            _ => None,
        }
    }
}

impl Attempt {
    /// Takes one of its reconnects, if what happened on its connection allows it and there is one left.
    fn take_reconnect(&mut self, delivery: Delivery, on: Connection, now: Instant) -> bool {
        let within = |time| !matches!(&self.progress, Progress::Awaiting(timer) if now.saturating_duration_since(timer.sent) > time);
        let (allowed, taken, most) = match delivery {
            Delivery::Refused | Delivery::Unprocessed => (true, &mut self.unprocessed, MAX_UNPROCESSED),
            Delivery::Doubtful => (on.reused && within(STALE_AFTER), &mut self.stale, MAX_STALE),
            Delivery::Unanswered => (on.reused && within(DEAD_AFTER), &mut self.stale, MAX_STALE),
            Delivery::Processed => return false,
        };
        let received = on.received || !matches!(self.progress, Progress::Connecting(_) | Progress::Awaiting(_));
        let free = allowed && !received && *taken < most;
        *taken += u8::from(free);
        if free && let Progress::Awaiting(_) = self.progress {
            self.progress = Progress::Connecting(None);
        }
        free
    }
}

impl Timer {
    /// The provider has sent something. Returns whether the next deadline may be nearer.
    fn read(&mut self, now: Instant) -> bool {
        self.read.replace(now).is_none()
    }

    /// The next deadline, of an answer that has `begun` for the client or not.
    fn next(&self, begun: bool) -> (Instant, Deadline) {
        let t = &self.timeouts;
        let silence = match self.read {
            None => (self.began + t.first_byte(self.stream), Deadline::FirstByte),
            Some(read) => (read + t.between_bytes, Deadline::BetweenBytes),
        };
        // A buffered answer comes at once.
        let first_token = (self.stream && !begun && !self.thinking).then(|| (self.began + t.first_token, Deadline::FirstToken));
        let total = t.total.map(|after| (self.began + after, Deadline::Total));
        [first_token, total].into_iter().flatten().fold(silence, |next, other| if other.0 < next.0 { other } else { next })
    }
}

/// Reconnects of one attempt after a connection that had served others broke. A server that has gone away takes all of its
/// connections with it, and the pool does not always know yet.
const MAX_STALE: u8 = 3;
/// A connection that the server had closed breaks within a round trip of the request. One that breaks later may have had it
/// processed.
const STALE_AFTER: Duration = Duration::from_secs(2);
/// An HTTP/2 connection that was dead when the request was sent is given up within 15 seconds: a ping is sent every 10 and awaited
/// for 5.
const DEAD_AFTER: Duration = Duration::from_secs(20);
/// Reconnects of one attempt whose request was not processed. A server that ends each connection after a number of requests
/// refuses all that are under way beyond it, and with many at a time that is more than one connection.
const MAX_UNPROCESSED: u8 = 8;
/// How often one attempt is written again as a refusal asks for.
const MAX_ADJUSTMENTS: u8 = 3;
/// How long a provider's body may take to end after the answer in it.
const UPSTREAM_END_TIMEOUT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
