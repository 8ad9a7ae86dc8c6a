//! Every event in every state, and what is due when.

use super::*;
use crate::dialect::gemini::Gemini;
use crate::dialect::openai::decode::Decoder;
use crate::frame::Framing;
use crate::front::chat::chunk::UsagePlace;
use crate::front::chat::head::Head;
use crate::provider::protocol::Protocol;
use crate::relay::{Form, Relay};
use http::HeaderMap;
use uuid::Uuid;

const SECOND: Duration = Duration::from_secs(1);
const CONTENT: &[u8] = b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";
const LAST: &[u8] = b"data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
const WITHHELD: &[u8] = b"data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"content_filter\"}]}\n\ndata: [DONE]\n\n";
const COMMENT: &[u8] = b": still here\n\n";
const BROKEN: &[u8] = b"data: {\n\n";

const TIMEOUTS: Timeouts = Timeouts {
    connect: SECOND,
    first_byte: Some(Duration::from_secs(10)),
    first_token: Duration::from_secs(25),
    between_bytes: Duration::from_secs(20),
    total: Some(Duration::from_secs(60)),
};

fn answer() -> Result<Answer, Box<Refusal>> {
    let head = Head::new(Uuid::nil(), Uuid::nil(), 0, "m");
    let form = Form::Chunks(UsagePlace::Withheld);
    Ok(Answer::new(Relay::new(Some(Framing::Sse), Box::new(Decoder::new(false)), head, form, None), None))
}

fn refusal() -> Result<Answer, Box<Refusal>> {
    let protocol = Some(Protocol::Gemini(Gemini));
    Err(Box::new(Refusal { status: 429, headers: HeaderMap::new(), body: Vec::new(), decoder: None, protocol }))
}

impl Lifecycle {
    fn name(&self) -> &'static str {
        match &self.state {
            State::Received => "Received",
            State::Admitted(Client::Nothing) => "Admitted",
            State::Admitted(Client::Opened) => "Opened",
            State::Attempting(attempt) => match attempt.progress {
                Progress::Connecting(_) => "Connecting",
                Progress::Awaiting(_) => "Awaiting",
                Progress::Interim(_) => "Interim",
                Progress::Answering(..) => "Answering",
                Progress::Refused(..) => "Refused",
            },
            State::Relaying(..) => "Relaying",
            State::Ending(Some(_)) => "Whole",
            State::Ending(None) => "Cut",
            State::Settled => "Settled",
        }
    }

    fn bytes(&mut self, bytes: &[u8], end: bool, now: Instant, leave: bool) -> String {
        let step = self.on_bytes(bytes, end, now, || leave);
        let begins = step.begins.map_or(String::new(), |client| format!("begins after {client:?} "));
        let out = if step.out.is_empty() { "" } else { "out " };
        begins
            + out
            + &match step.end {
                None => String::new(),
                Some(Ok(metered)) => format!("whole, {} bytes", metered.bytes),
                Some(Err(failure)) => format!("failed: {failure}"),
            }
    }

    fn error(&mut self, failure: Option<AttemptFailure>, on: Connection) -> String {
        let now = match &self.state {
            State::Attempting(Attempt { progress: Progress::Awaiting(timer), .. }) => timer.sent,
            _ => Instant::now(),
        };
        match self.on_error(failure, on, now) {
            Action::Fail(failure) => format!("Fail({failure})"),
            Action::Truncate(failure) => format!("Truncate({failure})"),
            Action::Next(failure) => format!("Next({})", failure.map_or_else(String::new, |failure| failure.to_string())),
            action => format!("{action:?}"),
        }
    }
}

/// A request in each state.
fn states(t: Instant) -> Vec<Lifecycle> {
    let reached = |steps: usize| {
        let mut life = Lifecycle::default();
        let all: [&dyn Fn(&mut Lifecycle); 4] =
            [&|l| l.admit(Some(8 * SECOND), None, t), &|l| l.connect(), &|l| l.send(&TIMEOUTS, true, t), &|l| l.on_head(answer(), t)];
        all.iter().take(steps).for_each(|step| step(&mut life));
        life
    };
    let after = |steps: usize, then: &dyn Fn(&mut Lifecycle)| {
        let mut life = reached(steps);
        then(&mut life);
        life
    };
    vec![
        reached(0),
        reached(1),
        after(1, &|l| assert!(l.on_heartbeat(t))),
        reached(2),
        reached(3),
        after(3, &|l| l.on_interim()),
        after(3, &|l| l.on_head(refusal(), t)),
        reached(4),
        after(4, &|l| drop(l.bytes(CONTENT, false, t, false))),
        after(4, &|l| drop(l.bytes(&[CONTENT, LAST].concat(), false, t, false))),
        after(1, &|l| assert_eq!(l.respond(), Client::Nothing)),
        after(0, &|l| assert_eq!(l.settle(), Phase::Request)),
    ]
}

/// Its name, and what returns its result.
type Event = (&'static str, Box<dyn Fn(&mut Lifecycle) -> String>);

fn events(t: Instant) -> Vec<Event> {
    use AttemptFailure as F;
    fn event(name: &'static str, does: impl Fn(&mut Lifecycle) -> String + 'static) -> Event {
        (name, Box::new(does))
    }
    fn quiet(name: &'static str, does: impl Fn(&mut Lifecycle) + 'static) -> Event {
        event(name, move |life| {
            does(life);
            String::new()
        })
    }
    let on = Connection { reused: true, received: false, other_address: true };
    let metered = |metered: Option<Metered>| metered.map_or(String::new(), |metered| format!("charges {} bytes", metered.bytes));
    vec![
        quiet("connect", move |l| l.connect()),
        quiet("send", move |l| l.send(&TIMEOUTS, true, t)),
        quiet("1xx", move |l| l.on_interim()),
        quiet("2xx", move |l| l.on_head(answer(), t)),
        quiet("429", move |l| l.on_head(refusal(), t)),
        event("comment", move |l| l.bytes(COMMENT, false, t, false)),
        event("content", move |l| l.bytes(CONTENT, false, t, false)),
        event("last", move |l| l.bytes(LAST, false, t, false)),
        event("withheld, a target is left", move |l| l.bytes(WITHHELD, false, t, true)),
        event("withheld, none is left", move |l| l.bytes(WITHHELD, false, t, false)),
        event("broken", move |l| l.bytes(BROKEN, false, t, false)),
        event("content, broken", move |l| l.bytes(&[CONTENT, BROKEN].concat(), false, t, false)),
        event("end", move |l| l.bytes(b"", true, t, false)),
        event("handled", move |l| l.error(None, on)),
        event("cancelled", move |l| l.error(Some(F::Cancelled), on)),
        event("late", move |l| l.error(Some(F::Late(Deadline::Total)), on)),
        event("no connection", move |l| l.error(Some(F::Connect(Connect::Unreachable)), on)),
        event("refused by HTTP/2", move |l| l.error(Some(F::Disconnected(Delivery::Refused)), on)),
        event("reused connection broke", move |l| l.error(Some(F::Disconnected(Delivery::Doubtful)), on)),
        event("connection broke", move |l| l.error(Some(F::Disconnected(Delivery::Processed)), on)),
        event("empty", move |l| l.error(Some(F::Empty), on)),
        event("retry_adjusted", |l| if l.retry_adjusted() { "allowed".into() } else { String::new() }),
        event("fail", move |l| metered(l.fail(&F::Truncated))),
        event("fail, client gone", move |l| metered(l.fail(&F::Cancelled))),
        event("respond", |l| format!("after {:?}", l.respond())),
        event("heartbeat", move |l| if l.on_heartbeat(t) { "first".into() } else { String::new() }),
        event("settle", |l| format!("{:?}", l.settle())),
    ]
}

/// `transitions.txt` has what changes or is returned; whatever is not in it changes nothing.
#[test]
fn every_event_in_every_state() {
    let t = Instant::now();
    let mut table = String::new();
    for number in 0..states(t).len() {
        for (event, does) in events(t) {
            let mut life = states(t).remove(number);
            let from = life.name();
            let returned = does(&mut life);
            let to = life.name();
            if from != to || !returned.is_empty() {
                let to = if from == to { "" } else { to };
                let comma = if to.is_empty() || returned.is_empty() { "" } else { ", " };
                table += format!("{from} + {event} = {to}{comma}{returned}").trim_end();
                table += "\n";
            }
        }
    }
    assert_eq!(table, include_str!("transitions.txt"), "\n{table}");
}

#[test]
fn an_attempt_reconnects_a_few_times_on_connections_that_had_served_others() {
    let (t, reused) = (Instant::now(), Connection { reused: true, ..Connection::default() });
    let lost = |delivery| Some(AttemptFailure::Disconnected(delivery));
    for (delivery, on, most) in [
        (Delivery::Doubtful, reused, MAX_STALE),
        (Delivery::Unanswered, reused, MAX_STALE),
        (Delivery::Doubtful, Connection::default(), 0),
        (Delivery::Doubtful, Connection { received: true, ..reused }, 0),
        (Delivery::Refused, Connection::default(), MAX_UNPROCESSED),
        (Delivery::Unprocessed, Connection::default(), MAX_UNPROCESSED),
        (Delivery::Processed, reused, 0),
    ] {
        let mut life = states(t).remove(4);
        for _ in 0..most {
            assert_eq!(life.on_error(lost(delivery), on, t + STALE_AFTER), Action::Reconnect, "{delivery:?} {on:?}");
            life.send(&TIMEOUTS, true, t);
        }
        let failed = Action::Fail(AttemptFailure::Disconnected(delivery));
        assert_eq!(life.on_error(lost(delivery), on, t + STALE_AFTER), failed, "{delivery:?} {on:?}");
    }
    let mut life = states(t).remove(4);
    assert_eq!(life.on_error(lost(Delivery::Doubtful), reused, t), Action::Reconnect);
    life.send(&TIMEOUTS, true, t + 9 * SECOND);
    assert_eq!(life.on_error(lost(Delivery::Doubtful), reused, t + 10 * SECOND), Action::Reconnect);
    life.send(&TIMEOUTS, true, t + 10 * SECOND);
    for (delivery, after) in [(Delivery::Doubtful, STALE_AFTER), (Delivery::Unanswered, DEAD_AFTER)] {
        let failed = Action::Fail(AttemptFailure::Disconnected(delivery));
        assert_eq!(life.on_error(lost(delivery), reused, t + 11 * SECOND + after), failed, "it may have been processed");
    }
}

#[test]
fn a_wait_that_ended_elsewhere_has_the_deadline_that_has_passed() {
    let t = Instant::now();
    let mut life = states(t).remove(4);
    assert_eq!([5, 10, 30].map(|seconds| life.late(t + seconds * SECOND)), [Deadline::FirstByte; 3]);
    life.deadline = Some((t + 3 * SECOND, Deadline::Request));
    assert_eq!([2, 3].map(|seconds| life.late(t + seconds * SECOND)), [Deadline::FirstByte, Deadline::Request]);
}

#[test]
fn an_attempt_connects_to_every_address_and_then_says_why_the_last_one_failed() {
    let (mut life, other) = (states(Instant::now()).remove(3), Connection { other_address: true, ..Connection::default() });
    let connect = |connect| Some(AttemptFailure::Connect(connect));
    let now = Instant::now();
    assert_eq!(life.on_error(connect(Connect::Untrusted), other, now), Action::Reconnect);
    assert_eq!(
        life.on_error(connect(Connect::TimedOut), other, now),
        Action::Fail(AttemptFailure::Connect(Connect::TimedOut)),
        "its time to connect is over"
    );
    let left = life.on_error(connect(Connect::UnknownHost), Connection::default(), now);
    assert_eq!(left, Action::Fail(AttemptFailure::Connect(Connect::Untrusted)));
}

#[test]
fn the_nearest_deadline_in_force_is_the_one_that_counts() {
    let t = Instant::now();
    let mut life = Lifecycle::default();
    let late = |life: &Lifecycle| match life.due() {
        Some((at, Due::Late(late))) => ((at - t).as_secs(), late),
        other => unreachable!("{other:?}"),
    };
    life.admit(None, None, t);
    life.connect();
    assert!(life.due().is_none() && !life.take_rearm());
    life.send(&TIMEOUTS, true, t);
    assert_eq!(late(&life), (10, Deadline::FirstByte));
    assert!(life.take_rearm());
    life.on_head(answer(), t + SECOND);
    assert!(life.take_rearm(), "the time between bytes may be shorter than that for the first one");
    assert_eq!(late(&life), (21, Deadline::BetweenBytes));
    life.bytes(COMMENT, false, t + 9 * SECOND, false);
    assert_eq!(late(&life), (25, Deadline::FirstToken));
    life.bytes(CONTENT, false, t + 9 * SECOND, false);
    assert_eq!(late(&life), (29, Deadline::BetweenBytes));
    life.on_written(t + 10 * SECOND);
    assert_eq!(late(&life), (30, Deadline::BetweenBytes), "a slow client is not the provider's silence");
    life.bytes(COMMENT, false, t + 59 * SECOND, false);
    assert_eq!(late(&life), (60, Deadline::Total));
    assert!(!life.take_rearm(), "all of this has only moved the deadline away");
    life.bytes(LAST, false, t + 59 * SECOND, false);
    assert!(life.take_rearm());
    life.bytes(COMMENT, false, t + 60 * SECOND, false);
    assert_eq!(life.due(), Some((t + 59 * SECOND + UPSTREAM_END_TIMEOUT, Due::UpstreamEnd)));
}

#[test]
fn thinking_that_is_not_shown_is_a_first_token() {
    const THINKING: &[u8] =
        b"data: {\"choices\":[{\"index\":0,\"delta\":{\"reasoning_details\":[{\"type\":\"reasoning.encrypted\"}]}}]}\n\n";
    let t = Instant::now();
    let mut life = Lifecycle::default();
    life.admit(None, None, t);
    life.connect();
    life.send(&TIMEOUTS, true, t);
    life.on_head(answer(), t);
    assert_eq!(life.bytes(THINKING, false, t + 9 * SECOND, false), "", "another target may still answer");
    assert_eq!(life.due(), Some((t + 29 * SECOND, Due::Late(Deadline::BetweenBytes))));
    assert_eq!(life.name(), "Answering");
}

#[test]
fn the_requests_own_deadline_holds_from_its_admission_to_its_last_byte() {
    let t = Instant::now();
    let mut life = Lifecycle::default();
    let late = Some((t + 7 * SECOND, Due::Late(Deadline::Request)));
    life.admit(None, Some((t + 7 * SECOND, Deadline::Request)), t);
    assert!(life.take_rearm());
    assert_eq!(life.due(), late, "while no target has been asked yet");
    life.connect();
    assert_eq!(life.due(), late);
    life.send(&TIMEOUTS, true, t);
    assert_eq!(life.due(), late, "it is nearer than the provider's");
    assert_eq!(life.error(Some(AttemptFailure::Late(Deadline::Request)), Connection::default()), "Fail(deadline)");
    assert!(life.fail(&AttemptFailure::Late(Deadline::Request)).is_some(), "the provider has read the prompt");
    life.connect();
    life.send(&TIMEOUTS, true, t);
    life.on_head(answer(), t);
    life.bytes(CONTENT, false, t, false);
    assert_eq!(life.due(), late);
    assert_eq!(life.error(Some(AttemptFailure::Late(Deadline::Request)), Connection::default()), "Truncate(deadline)");
    life.bytes(LAST, false, t, false);
    assert_eq!(life.due(), Some((t + UPSTREAM_END_TIMEOUT, Due::UpstreamEnd)));
}

#[test]
fn the_first_byte_of_a_buffered_answer_is_that_of_its_body() {
    let t = Instant::now();
    let mut life = states(t).remove(3);
    life.send(&TIMEOUTS, false, t);
    life.on_head(answer(), t + SECOND);
    life.heartbeat = None;
    assert_eq!(life.due(), Some((t + 10 * SECOND, Due::Late(Deadline::FirstByte))));
    life.bytes(b" ", false, t + 9 * SECOND, false);
    assert_eq!(life.due(), Some((t + 29 * SECOND, Due::Late(Deadline::BetweenBytes))));
}

#[test]
fn a_heartbeat_is_due_after_each_silence_towards_the_client_until_the_answer_is_over() {
    let t = Instant::now();
    let mut life = Lifecycle::default();
    let due = |life: &Lifecycle| life.due().map(|(at, due)| ((at - t).as_secs(), due));
    life.admit(Some(8 * SECOND), None, t);
    assert!(life.take_rearm());
    assert_eq!(due(&life), Some((8, Due::Heartbeat)), "while no target has been asked yet");
    life.connect();
    life.send(&TIMEOUTS, true, t + SECOND);
    assert!(life.on_heartbeat(t + 8 * SECOND));
    assert_eq!(due(&life), Some((11, Due::Late(Deadline::FirstByte))), "what the client gets is no word of the provider's");
    life.on_head(answer(), t + 10 * SECOND);
    assert_eq!(due(&life), Some((16, Due::Heartbeat)), "what the provider sends is nothing that the client gets");
    life.fail(&AttemptFailure::Truncated);
    assert!(life.take_rearm());
    assert!(!life.on_heartbeat(t + 16 * SECOND), "the head is sent once");
    assert_eq!(due(&life), Some((24, Due::Heartbeat)), "between two attempts");
    life.connect();
    life.send(&TIMEOUTS, true, t + 17 * SECOND);
    life.on_head(answer(), t + 17 * SECOND);
    assert_eq!(life.bytes(CONTENT, false, t + 20 * SECOND, false), "begins after Opened out ");
    life.on_written(t + 20 * SECOND);
    assert_eq!(due(&life), Some((28, Due::Heartbeat)), "in a pause of the answer");
    life.bytes(LAST, false, t + 20 * SECOND, false);
    assert_eq!(due(&life), Some((20 + UPSTREAM_END_TIMEOUT.as_secs(), Due::UpstreamEnd)));
}

#[test]
fn a_new_attempt_forgets_the_old_one_and_a_reconnect_keeps_its_time() {
    let t = Instant::now();
    let mut life = states(t).remove(4);
    life.heartbeat = None;
    let lost = Some(AttemptFailure::Disconnected(Delivery::Refused));
    assert_eq!(life.on_error(lost, Connection::default(), t), Action::Reconnect);
    life.send(&TIMEOUTS, true, t + 5 * SECOND);
    assert_eq!(life.due(), Some((t + 10 * SECOND, Due::Late(Deadline::FirstByte))));
    life.fail(&AttemptFailure::Truncated);
    life.connect();
    life.send(&TIMEOUTS, true, t + 6 * SECOND);
    assert_eq!(life.due(), Some((t + 16 * SECOND, Due::Late(Deadline::FirstByte))));
}

#[test]
fn so_many_refused_fields_are_left_out_and_no_more() {
    let t = Instant::now();
    let mut life = states(t).remove(4);
    for allowed in [true, true, true, false] {
        life.on_head(refusal(), t);
        assert_eq!(life.retry_adjusted(), allowed);
        life.send(&TIMEOUTS, true, t);
    }
}
