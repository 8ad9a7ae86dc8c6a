//! What a correct answer is, whoever gave it.
//!
//! Decoders report what a provider said; the law makes it what OpenAI's clients rely on, in one place for all
//! dialects: tool calls have contiguous indices from 0, one id and one name each and never empty arguments; a choice
//! has exactly one finish reason, said last; a `stop` after tool calls is `tool_calls`.
//!
//! ```text
//! choice:   open --content, reasoning, calls--> open --finish--> finished (told at the end, see below)
//! answer:   silent --first content--> started --end()--> complete
//!                                             --fault--> truncated: no finish reason is ever told
//! ```
//!
//! Finish reasons are held back until the answer is complete, because the usage that belongs beside the last one comes
//! after it, and because an answer that broke off must not have one.

use crate::json::text::Text;
use crate::llm::event::{Event, Finish, SPEAKING, Sink, ToolForm};
use crate::llm::usage::Usage;
use smallvec::SmallVec;

/// Most choices of one answer; OpenAI's own bound for `n`.
pub const MAX_CHOICES: usize = 128;
/// Most tool calls of one choice.
pub const MAX_CALLS: usize = 1024;

/// Most bytes of log probabilities and other members that are held back because no content has come.
pub const MAX_BESIDE: usize = 64 << 10;
/// Most of an answer's id that goes into the id of a call, so that this one keeps to OpenAI's bound of 40 characters.
const MAX_ANSWER_ID: usize = 24;

/// Takes what the law lets through: the events of [`Event`], with `call` being the client's index and `id` always
/// there, and the two that end an answer.
pub trait Writer: Sink {
    /// Everything of one provider frame has been said.
    fn flush(&mut self);
}

#[derive(Debug)]
struct Call {
    /// The decoder's number for it.
    key: u32,
    id_hash: u64,
    /// Whether it has what a call must have: arguments, which an input need not be.
    has_arguments: bool,
}

#[derive(Debug, Default)]
struct Choice {
    calls: SmallVec<[Call; 1]>,
    finish: Option<Finish>,
    seen: bool,
}

/// The state of one answer.
#[derive(Debug)]
pub struct Law {
    choices: SmallVec<[Choice; 1]>,
    usage: Option<Usage>,
    started: bool,
    ended: bool,
    broken: Option<&'static str>,
    /// Makes the ids of calls that come without one of their own; unique for the answer.
    answer_id: Box<str>,
    said_bytes: u64,
    beside_bytes: usize,
}

impl Law {
    /// The law for one answer, whose id makes the ids of nameless tool calls unique. Its end is what is random in it.
    pub fn new(answer_id: &str) -> Self {
        let end = answer_id.get(answer_id.len().saturating_sub(MAX_ANSWER_ID)..).unwrap_or_default();
        Self {
            choices: SmallVec::new(),
            usage: None,
            started: false,
            ended: false,
            broken: None,
            answer_id: end.into(),
            said_bytes: 0,
            beside_bytes: 0,
        }
    }

    /// Whether content, or the end of a choice, has been seen: from here on the client is told.
    pub fn started(&self) -> bool {
        self.started
    }

    /// Whether the provider has said that nothing follows.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// What the provider says was used.
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// Bytes of text, reasoning and arguments so far, for an estimate where usage is missing.
    pub fn said_bytes(&self) -> u64 {
        self.said_bytes
    }

    /// Whether every choice has ended, so that counts are final.
    pub fn is_finished(&self) -> bool {
        let mut seen = self.choices.iter().filter(|choice| choice.seen).peekable();
        seen.peek().is_some() && seen.all(|choice| choice.finish.is_some())
    }

    /// Whether the answer is over with nothing said, because the provider's policy forbids it.
    pub fn is_withheld(&self) -> bool {
        let mut seen = self.choices.iter().filter(|choice| choice.seen).peekable();
        self.said_bytes == 0 && seen.peek().is_some() && seen.all(|choice| choice.finish == Some(Finish::ContentFilter))
    }

    /// What broke the law, if anything did: then the provider's answer cannot be told.
    pub fn broken(&self) -> Option<&'static str> {
        self.broken
    }

    /// Reports to `out` under this law.
    pub fn over<'a, W: Writer>(&'a mut self, out: &'a mut W) -> Lawful<'a, W> {
        Lawful { law: self, out }
    }

    /// The answer is complete: tells the finish reasons, the usage with the last one.
    ///
    /// # Errors
    /// Says what is missing where a choice has no finish reason, or there is none at all.
    pub fn complete<W: Writer>(&mut self, out: &mut W) -> Result<(), &'static str> {
        if let Some(what) = self.broken {
            return Err(what);
        }
        let last = self.choices.iter().rposition(|c| c.seen).ok_or("the answer has no choices")?;
        if self.choices.iter().any(|c| c.seen && c.finish.is_none()) {
            return Err("a choice has no finish reason");
        }
        self.started = true;
        for (i, choice) in self.choices.iter_mut().enumerate().filter(|(_, c)| c.seen) {
            let Some(finish) = choice.finish else { continue };
            let reason = if finish == Finish::Stop && !choice.calls.is_empty() { Finish::ToolCalls } else { finish };
            if reason != Finish::Length {
                for (call, _) in choice.calls.iter().enumerate().filter(|(_, c)| !c.has_arguments) {
                    out.event(Event::ToolArguments { choice: i as u32, call: call as u32, fragment: Text::Plain("{}") });
                }
            }
            if i == last
                && let Some(usage) = self.usage
            {
                out.event(Event::Usage(usage));
            }
            out.event(Event::Finish { choice: i as u32, reason });
        }
        out.flush();
        Ok(())
    }

    fn choice(&mut self, index: u32) -> Option<&mut Choice> {
        let index = index as usize;
        if index >= MAX_CHOICES {
            self.broken = Some("the answer has too many choices");
            return None;
        }
        while self.choices.len() <= index {
            self.choices.push(Choice::default());
        }
        let choice = self.choices.get_mut(index)?;
        choice.seen = true;
        Some(choice)
    }
}

/// A [`Sink`] that puts events right before they reach a writer.
pub struct Lawful<'a, W> {
    law: &'a mut Law,
    out: &'a mut W,
}

impl<W: Writer> Lawful<'_, W> {
    fn say(&mut self, choice: u32, text: Option<Text<'_>>, event: Event<'_>) {
        if self.law.choice(choice).is_none() {
            return;
        }
        if let Some(Text::Raw(s) | Text::Plain(s)) = text {
            if s.is_empty() {
                return;
            }
            self.law.said_bytes += s.len() as u64;
        }
        self.law.started = true;
        self.out.event(event);
    }

    /// What comes beside an answer is not its beginning, unless it is all that comes for long.
    fn beside(&mut self, choice: u32, json: &str, event: Event<'_>) {
        if self.law.choice(choice).is_some() {
            self.law.beside_bytes += json.len();
            self.law.started |= self.law.beside_bytes > MAX_BESIDE;
            self.out.event(event);
        }
    }

    fn tool_start(&mut self, choice: u32, key: u32, id: Option<Text<'_>>, name: Text<'_>, form: ToolForm<'_>) {
        let Some(state) = self.law.choice(choice) else { return };
        let id_hash = id.map_or(0, |id| fnv(&id.decode()));
        // Some servers repeat id and name on every fragment, others reuse the number for the next call.
        if state.calls.iter().rev().find(|c| c.key == key).is_some_and(|c| id_hash == 0 || id_hash == c.id_hash) {
            return;
        }
        let index = state.calls.len();
        if index >= MAX_CALLS {
            self.law.broken = Some("the answer has too many tool calls");
            return;
        }
        // Two calls of one id could not be answered one by one.
        let taken = state.calls.iter().any(|c| c.id_hash == id_hash);
        state.calls.push(Call { key, id_hash, has_arguments: form == ToolForm::Custom });
        self.law.started = true;
        let made;
        let id = match id.filter(|id| !id.is_empty() && !taken) {
            Some(id) => id,
            None => {
                made = format!("call_{}_{choice}_{index}", self.law.answer_id);
                Text::Plain(&made)
            }
        };
        self.out.event(Event::ToolStart { choice, call: index as u32, id: Some(id), name, form });
    }

    fn tool_arguments(&mut self, choice: u32, key: u32, fragment: Text<'_>) {
        if fragment.is_empty() {
            return;
        }
        let Some(state) = self.law.choice(choice) else { return };
        let Some((index, call)) = state.calls.iter_mut().enumerate().rev().find(|(_, c)| c.key == key) else {
            self.law.broken = Some("the answer has arguments of a tool call that never began");
            return;
        };
        call.has_arguments = true;
        self.law.said_bytes += match fragment {
            Text::Raw(s) | Text::Plain(s) => s.len() as u64,
        };
        self.out.event(Event::ToolArguments { choice, call: index as u32, fragment });
    }
}

impl<W: Writer> Sink for Lawful<'_, W> {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Content { choice, text } | Event::Reasoning { choice, text } | Event::Refusal { choice, text } => {
                self.say(choice, Some(text), event);
            }
            Event::Extra { choice, key, .. } if SPEAKING.contains(&key) => self.say(choice, None, event),
            Event::Logprobs { choice, json } | Event::Extra { choice, json, .. } => self.beside(choice, json, event),
            Event::ToolStart { choice, call, id, name, form } => self.tool_start(choice, call, id, name, form),
            Event::ToolArguments { choice, call, fragment } => self.tool_arguments(choice, call, fragment),
            Event::Finish { choice, reason } => {
                if let Some(state) = self.law.choice(choice) {
                    state.finish.get_or_insert(reason);
                }
            }
            Event::Usage(usage) => self.law.usage = Some(self.law.usage.map_or(usage, |before| before.and_later(usage))),
            Event::Embedding { .. } => {
                self.law.started = true;
                self.out.event(event);
            }
            Event::Fingerprint(_) | Event::ServiceTier(_) => self.out.event(event),
            Event::End => self.law.ended = true,
        }
    }
}

/// FNV-1a; tells ids apart without keeping them. Never 0 for a text.
fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)) | 1
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Log(Vec<String>);

    impl Sink for Log {
        fn event(&mut self, event: Event<'_>) {
            self.0.push(match event {
                Event::Content { choice, text } => format!("{choice} text {}", text.decode()),
                Event::ToolStart { choice, call, id, name, .. } => {
                    format!("{choice} call {call} {} {}", id.unwrap().decode(), name.decode())
                }
                Event::ToolArguments { choice, call, fragment } => format!("{choice} args {call} {}", fragment.decode()),
                Event::Finish { choice, reason } => format!("{choice} finish {}", reason.name()),
                Event::Usage(u) => format!("usage {}", u.total()),
                other => format!("{other:?}"),
            });
        }
    }

    impl Writer for Log {
        fn flush(&mut self) {}
    }

    fn told(events: Vec<Event<'_>>) -> (Vec<String>, Result<(), &'static str>) {
        let (mut law, mut log) = (Law::new("01"), Log::default());
        for e in events {
            law.over(&mut log).event(e);
        }
        let end = law.complete(&mut log);
        (log.0, end)
    }

    fn start<'a>(call: u32, id: Option<&'a str>, name: &'a str) -> Event<'a> {
        Event::ToolStart { choice: 0, call, id: id.map(Text::Raw), name: Text::Raw(name), form: ToolForm::Function }
    }

    #[test]
    fn calls_get_contiguous_indices_ids_and_arguments() {
        let args = |call, s| Event::ToolArguments { choice: 0, call, fragment: Text::Plain(s) };
        let finish = Event::Finish { choice: 0, reason: Finish::Stop };
        let (log, end) = told(vec![
            start(3, Some("a"), "f"),
            args(3, "{}"),
            start(3, Some("a"), "f"),
            start(3, Some("b"), "g"),
            args(3, "[1]"),
            start(7, None, "h"),
            finish,
        ]);
        assert_eq!(
            log,
            ["0 call 0 a f", "0 args 0 {}", "0 call 1 b g", "0 args 1 [1]", "0 call 2 call_01_0_2 h", "0 args 2 {}", "0 finish tool_calls"]
        );
        assert_eq!(end, Ok(()));
    }

    #[test]
    fn every_call_has_an_id_of_its_own_that_openai_takes() {
        let (mut law, mut log) = (Law::new(&"0123456789abcdef".repeat(2)), Log::default());
        for call in 0..MAX_CALLS as u32 {
            law.over(&mut log).event(Event::ToolStart {
                choice: MAX_CHOICES as u32 - 1,
                call,
                id: Some(Text::Plain("same")),
                name: Text::Plain("f"),
                form: ToolForm::Function,
            });
        }
        let ids: std::collections::BTreeSet<_> = log.0.iter().map(|line| line.split(' ').nth(3).unwrap()).collect();
        assert_eq!(ids.len(), MAX_CALLS);
        assert!(ids.contains("same") && ids.iter().all(|id| id.len() <= 40), "{ids:?}");
    }

    #[test]
    fn the_input_of_a_custom_tool_may_be_empty() {
        let custom = Event::ToolStart { choice: 0, call: 0, id: None, name: Text::Raw("f"), form: ToolForm::Custom };
        let (log, _) = told(vec![custom, Event::Finish { choice: 0, reason: Finish::ToolCalls }]);
        assert_eq!(log, ["0 call 0 call_01_0_0 f", "0 finish tool_calls"]);
    }

    #[test]
    fn the_finish_is_told_once_and_last_with_the_usage_before_it() {
        let text = |s| Event::Content { choice: 0, text: Text::Plain(s) };
        let finish = |reason| Event::Finish { choice: 0, reason };
        let usage = Event::Usage(Usage { prompt: 3, completion: 4, ..Usage::default() });
        let (log, end) = told(vec![text("a"), finish(Finish::Length), text(""), finish(Finish::Stop), text("b"), usage]);
        assert_eq!(log, ["0 text a", "0 text b", "usage 7", "0 finish length"]);
        assert_eq!(end, Ok(()));
    }

    #[test]
    fn a_count_never_falls() {
        let usage = |prompt, completion, reasoning| Event::Usage(Usage { prompt, completion, reasoning, ..Usage::default() });
        let (mut law, mut log) = (Law::new("01"), Log::default());
        // The second count of the prompt is Gemini's own correction.
        for event in [usage(14, 1, 0), usage(12, 2, 0), usage(0, 30, 7), usage(0, 0, 0)] {
            law.over(&mut log).event(event);
        }
        assert_eq!(law.usage(), Some(Usage { prompt: 12, completion: 30, reasoning: 7, ..Usage::default() }));
    }

    #[test]
    fn without_a_finish_nothing_is_invented() {
        let (log, end) = told(vec![Event::Content { choice: 0, text: Text::Plain("a") }]);
        assert_eq!(log, ["0 text a"]);
        assert!(end.is_err());
        assert!(told(vec![]).1.is_err());
        assert!(
            told(vec![
                Event::ToolArguments { choice: 0, call: 0, fragment: Text::Plain("x") },
                Event::Finish { choice: 0, reason: Finish::Stop }
            ])
            .1
            .is_err()
        );
    }
}
