//! The rules that every answer follows, whichever provider gave it and whichever protocol the client speaks.
//!
//! ```text
//! choice:   open --content, reasoning, calls--> open --finish--> finished (written at the end, see below)
//! answer:   silent --first content--> started --complete()--> complete
//!                                             --fault-------> truncated: no finish reason is ever written
//! ```
//!
//! A choice finishes once and last, its calls are counted from 0 in the order of their starts and have different ids, and
//! everything is bounded. Finish reasons are held back until the answer is complete: the usage that belongs beside them comes
//! after them, and an answer that broke off must not have one.

use crate::llm::event::{Block, Event, Finish, RawBlock, Sink};
use crate::llm::finish::FinishReasons;
use crate::llm::usage::Usage;
use smallvec::SmallVec;
use std::borrow::Cow;

/// Writes an answer in a front's protocol: the events that [`Order`] lets through.
pub trait Writer: Sink {
    /// Everything of one provider frame has been written.
    fn flush(&mut self) {}

    /// Why this protocol has no place for an essential block; `None` where it has one.
    fn refusal(&self, _block: &RawBlock<'_>) -> Option<String> {
        None
    }
}

/// The state of one answer.
#[derive(Debug, Default)]
pub struct Order {
    choices: SmallVec<[Choice; 1]>,
    usage: Option<Usage>,
    started: bool,
    thinking: bool,
    ended: bool,
    broken: Option<Cow<'static, str>>,
    content_bytes: u64,
    /// Bytes of events that may come before the first content.
    beside_bytes: usize,
}

#[derive(Debug, Default)]
struct Choice {
    calls: SmallVec<[Call; 1]>,
    finish: Option<Finish>,
    seen: bool,
}

#[derive(Debug)]
struct Call {
    /// The decoder's number for it.
    key: u32,
    /// 0 where it has none.
    id_hash: u64,
}

impl Order {
    /// Whether content, or the end of a choice, has come: from here on the client gets the answer.
    pub fn started(&self) -> bool {
        self.started
    }

    /// Whether the model has begun to think, which need not be shown.
    pub fn is_thinking(&self) -> bool {
        self.thinking
    }

    /// Whether the provider has marked the end of its stream.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// What the provider has counted so far.
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// Bytes of text, reasoning and arguments so far, for an estimate where usage is missing.
    pub fn content_bytes(&self) -> u64 {
        self.content_bytes
    }

    /// Whether every choice has finished, so that counts are final.
    pub fn is_finished(&self) -> bool {
        self.finishes(Option::is_some)
    }

    /// Whether the answer is over without content, because a policy of the provider's forbids it.
    pub fn is_withheld(&self) -> bool {
        self.content_bytes == 0 && self.finishes(|finish| finish.as_ref().is_some_and(Finish::is_withheld))
    }

    /// Why the choices ended that have.
    pub fn finish_reasons(&self) -> FinishReasons {
        self.choices.iter().filter_map(|choice| choice.finish.as_ref()).map(Finish::word).collect()
    }

    fn finishes(&self, is: impl Fn(&Option<Finish>) -> bool) -> bool {
        let mut seen = self.choices.iter().filter(|choice| choice.seen).peekable();
        seen.peek().is_some() && seen.all(|choice| is(&choice.finish))
    }

    /// Why the answer cannot be written, where it cannot. Every further event is ignored.
    pub fn broken(&self) -> Option<&Cow<'static, str>> {
        self.broken.as_ref()
    }

    /// A sink that writes to `out` what these rules let through.
    pub fn over<'a, W: Writer>(&'a mut self, out: &'a mut W) -> Ordered<'a, W> {
        Ordered { order: self, out }
    }

    /// The answer is complete: writes the finish reasons.
    ///
    /// # Errors
    /// What is missing where a choice has no finish reason, or there is none at all.
    pub fn complete<W: Writer>(&mut self, out: &mut W) -> Result<(), Cow<'static, str>> {
        if let Some(what) = &self.broken {
            return Err(what.clone());
        }
        if !self.choices.iter().any(|choice| choice.seen) {
            return Err("the answer has no choices".into());
        }
        if !self.is_finished() {
            return Err("a choice has no finish reason".into());
        }
        self.started = true;
        for (choice, state) in (0..).zip(&self.choices) {
            if let Some(reason) = state.finish.clone() {
                out.event(Event::Finish { choice, reason });
            }
        }
        Ok(())
    }

    /// The state of a choice; `None`, and nothing further is written, where there are too many.
    fn choice(&mut self, index: u32) -> Option<&mut Choice> {
        let index = index as usize;
        if index >= MAX_CHOICES {
            self.broken = Some("the answer has too many choices".into());
            return None;
        }
        while self.choices.len() <= index {
            self.choices.push(Choice::default());
        }
        let choice = self.choices.get_mut(index)?;
        choice.seen = true;
        Some(choice)
    }

    /// Counts bytes that come beside content. They do not start the answer, unless they are all that comes for long.
    fn beside(&mut self, bytes: usize) {
        self.beside_bytes += bytes;
        self.started |= self.beside_bytes > MAX_BESIDE;
    }
}

/// See [`Order::over`].
pub struct Ordered<'a, W> {
    order: &'a mut Order,
    out: &'a mut W,
}

impl<W: Writer> Ordered<'_, W> {
    fn start_call(&mut self, choice: u32, key: u32, event: Event<'_>) {
        let (Some(Choice { calls, .. }), Event::ToolStart { id, name, form, state, .. }) = (self.order.choice(choice), event) else {
            return;
        };
        let id = id.filter(|id| !id.is_empty());
        let id_hash = id.map_or(0, |id| fnv(&id.decode()));
        // Some servers repeat id and name on every fragment, others reuse the number for the next call.
        if calls.iter().rfind(|call| call.key == key).is_some_and(|call| id_hash == 0 || id_hash == call.id_hash) {
            return;
        }
        let call = calls.len() as u32;
        if call >= MAX_CALLS {
            self.order.broken = Some("the answer has too many tool calls".into());
            return;
        }
        // Two calls of one id could not be answered one by one.
        let id = id.filter(|_| !calls.iter().any(|call| call.id_hash == id_hash));
        calls.push(Call { key, id_hash });
        self.order.started = true;
        self.out.event(Event::ToolStart { choice, call, id, name, form, state });
    }

    /// The number of the call that the decoder calls `key`.
    fn call(&mut self, choice: u32, key: u32) -> Option<u32> {
        let calls = &self.order.choice(choice)?.calls;
        calls.iter().rposition(|call| call.key == key).map(|call| call as u32)
    }
}

impl<W: Writer> Sink for Ordered<'_, W> {
    fn event(&mut self, event: Event<'_>) {
        let order = &mut *self.order;
        if order.broken.is_some() {
            return;
        }
        if let Some(choice) = event.choice()
            && order.choice(choice).is_none()
        {
            return;
        }
        match event {
            Event::Content { text, .. } | Event::Reasoning { text, .. } | Event::Refusal { text, .. } if text.is_empty() => return,
            Event::Content { text, .. } | Event::Reasoning { text, .. } | Event::Refusal { text, .. } => {
                order.content_bytes += text.spelled().len() as u64;
                order.started = true;
            }
            Event::ReasoningStart { .. } => {
                order.thinking = true;
                return;
            }
            Event::Signature { .. } | Event::RedactedReasoning { .. } => order.thinking = true,
            Event::ToolStart { choice, call, .. } => return self.start_call(choice, call, event),
            Event::ToolArguments { fragment, .. } if fragment.is_empty() => return,
            Event::ToolArguments { choice, call: key, fragment } => {
                order.content_bytes += fragment.spelled().len() as u64;
                match self.call(choice, key) {
                    Some(call) => self.out.event(Event::ToolArguments { choice, call, fragment }),
                    None => self.order.broken = Some("the answer has arguments of a tool call that never began".into()),
                }
                return;
            }
            Event::BlockEnd { choice, block: Block::Call(key) } => {
                if let Some(call) = self.call(choice, key) {
                    self.out.event(Event::BlockEnd { choice, block: Block::Call(call) });
                }
                return;
            }
            Event::Finish { choice, reason } => {
                if let Some(state) = order.choice(choice) {
                    state.finish.get_or_insert(reason);
                }
                return;
            }
            Event::Usage(usage) => {
                let usage = order.usage.map_or(usage, |before| before.and_later(usage));
                order.usage = Some(usage);
                return self.out.event(Event::Usage(usage));
            }
            Event::End => {
                order.ended = true;
                return;
            }
            Event::Image { .. } | Event::Audio { .. } | Event::Extra { content: true, .. } | Event::Embedding { .. } => {
                order.started = true
            }
            Event::Logprobs { json, .. } | Event::Extra { json, .. } => order.beside(json.len()),
            Event::Citations { list, .. } => {
                order.beside(list.iter().map(|one| one.json.len() + one.url.map_or(0, |url| url.spelled().len())).sum())
            }
            Event::SearchResults { pages, .. } => order.beside(pages.iter().map(|page| page.url.spelled().len()).sum()),
            Event::Raw { block, .. } if block.essential => {
                order.broken = self.out.refusal(&block).map(Cow::Owned);
                if order.broken.is_some() {
                    return;
                }
                order.started = true;
            }
            _ => {}
        }
        self.out.event(event);
    }
}

/// FNV-1a; compares ids without keeping them. Never 0 for a text.
fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)) | 1
}

/// Most choices of one answer; OpenAI's own bound for `n`.
pub const MAX_CHOICES: usize = 128;
/// Most tool calls of one choice.
pub const MAX_CALLS: u32 = 1024;
/// Most bytes of log probabilities and other members that are held back because no content has come.
pub const MAX_BESIDE: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::text::Text;
    use crate::llm::event::ToolForm;

    #[derive(Default)]
    struct Log(Vec<String>);

    impl Sink for Log {
        fn event(&mut self, event: Event<'_>) {
            self.0.push(match event {
                Event::Content { choice, text } => format!("{choice} text {}", text.decode()),
                Event::ToolStart { choice, call, id, name, .. } => {
                    format!("{choice} call {call} {} {}", id.map_or("-".into(), Text::decode), name.decode())
                }
                Event::ToolArguments { choice, call, fragment } => format!("{choice} args {call} {}", fragment.decode()),
                Event::Finish { choice, reason } => format!("{choice} finish {reason:?}"),
                Event::Usage(u) => format!("usage {}", u.total()),
                other => format!("{other:?}"),
            });
        }
    }

    impl Writer for Log {
        fn refusal(&self, block: &RawBlock<'_>) -> Option<String> {
            (block.name == "video").then(|| "no videos".into())
        }
    }

    fn written(events: Vec<Event<'_>>) -> (Vec<String>, Result<(), Cow<'static, str>>) {
        let (mut order, mut log) = (Order::default(), Log::default());
        for e in events {
            order.over(&mut log).event(e);
        }
        let end = order.complete(&mut log);
        (log.0, end)
    }

    fn start<'a>(call: u32, id: Option<&'a str>, name: &'a str) -> Event<'a> {
        Event::ToolStart { choice: 0, call, id: id.map(Text::Raw), name: Text::Raw(name), form: ToolForm::Function, state: None }
    }

    #[test]
    fn calls_are_counted_and_have_different_ids() {
        let args = |call, s| Event::ToolArguments { choice: 0, call, fragment: Text::Plain(s) };
        let finish = Event::Finish { choice: 0, reason: Finish::Stop };
        let (log, end) = written(vec![
            start(3, Some("a"), "f"),
            args(3, "{}"),
            start(3, Some("a"), "f"),
            start(3, Some("b"), "g"),
            args(3, "[1]"),
            start(7, None, "h"),
            start(9, Some("a"), "i"),
            Event::BlockEnd { choice: 0, block: Block::Call(9) },
            finish,
        ]);
        assert_eq!(
            log,
            [
                "0 call 0 a f",
                "0 args 0 {}",
                "0 call 1 b g",
                "0 args 1 [1]",
                "0 call 2 - h",
                "0 call 3 - i",
                "BlockEnd { choice: 0, block: Call(3) }",
                "0 finish Stop"
            ]
        );
        assert_eq!(end, Ok(()));
    }

    #[test]
    fn the_finish_is_written_once_and_last_behind_the_usage() {
        let text = |s| Event::Content { choice: 0, text: Text::Plain(s) };
        let finish = |reason| Event::Finish { choice: 0, reason };
        let usage = Event::Usage(Usage { prompt: 3, completion: 4, ..Usage::default() });
        let (log, end) = written(vec![text("a"), finish(Finish::Length), text(""), finish(Finish::Stop), text("b"), usage]);
        assert_eq!(log, ["0 text a", "0 text b", "usage 7", "0 finish Length"]);
        assert_eq!(end, Ok(()));
    }

    #[test]
    fn thinking_that_is_not_shown_does_not_start_the_answer() {
        for event in [Event::ReasoningStart { choice: 0 }, Event::Signature { choice: 0, text: Text::Raw("s") }] {
            let (mut order, mut log) = (Order::default(), Log::default());
            assert!(!order.is_thinking());
            order.over(&mut log).event(event);
            assert_eq!((order.is_thinking(), order.started()), (true, false));
        }
    }

    #[test]
    fn a_count_never_falls() {
        let usage = |prompt, completion, reasoning| Event::Usage(Usage { prompt, completion, reasoning, ..Usage::default() });
        let (mut order, mut log) = (Order::default(), Log::default());
        // The second count of the prompt is Gemini's own correction.
        for event in [usage(14, 1, 0), usage(12, 2, 0), usage(0, 30, 7), usage(0, 0, 0)] {
            order.over(&mut log).event(event);
        }
        assert_eq!(order.usage(), Some(Usage { prompt: 12, completion: 30, reasoning: 7, ..Usage::default() }));
    }

    #[test]
    fn without_a_finish_nothing_is_invented() {
        let (log, end) = written(vec![Event::Content { choice: 0, text: Text::Plain("a") }]);
        assert_eq!(log, ["0 text a"]);
        assert!(end.is_err());
        assert!(written(vec![]).1.is_err());
        assert!(
            written(vec![
                Event::ToolArguments { choice: 0, call: 0, fragment: Text::Plain("x") },
                Event::Finish { choice: 0, reason: Finish::Stop }
            ])
            .1
            .is_err()
        );
    }

    #[test]
    fn an_answer_with_a_block_that_cannot_be_written_is_broken_and_not_started() {
        let raw = |name, essential| Event::Raw { choice: 0, block: RawBlock { name, media_type: "", json: "{}", essential } };
        let (mut order, mut log) = (Order::default(), Log::default());
        for event in [raw("video", false), raw("video", true), raw("sound", true), Event::Content { choice: 0, text: Text::Plain("a") }] {
            order.over(&mut log).event(event);
        }
        assert_eq!((order.broken().map(|what| &**what), order.started(), log.0.len()), (Some("no videos"), false, 1));
        assert_eq!(order.complete(&mut log), Err("no videos".into()));
    }

    #[test]
    fn an_essential_block_starts_the_answer_and_a_trace_does_not() {
        for essential in [false, true] {
            let (mut order, mut log) = (Order::default(), Log::default());
            let block = RawBlock { name: "sound", media_type: "", json: "{}", essential };
            order.over(&mut log).event(Event::Raw { choice: 0, block });
            assert_eq!((order.started(), log.0.len()), (essential, 1));
        }
    }
}
