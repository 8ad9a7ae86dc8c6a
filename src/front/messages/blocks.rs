//! Puts the events of an answer in the order of this protocol: one block after the other, one open at a time.
//!
//! Other protocols may have several calls open side by side and do not say when one is over. Here the first block is written
//! as it comes and the ones behind it wait; it is over when its provider says so, when its arguments are a whole JSON value,
//! or with the answer.

use super::ids::{self, Used};
use super::stop_reason;
use crate::front::sealed;
use crate::front::write::append;
use crate::json::depth::Depth;
use crate::json::text::Text;
use crate::llm::event::{Block, Event, Finish, RawBlock, Sink};
use crate::llm::order::Writer;
use crate::llm::state::Seal;
use crate::llm::usage::Usage;
use crate::redact::cut;
use std::borrow::Cow;
use std::collections::VecDeque;

/// Most bytes of blocks that wait behind an open one.
const MAX_WAITING: usize = 16 << 20;

/// What some servers say of a call without arguments.
const NULL: &[u8] = b"null";

/// What a block is.
#[derive(Debug, PartialEq, Eq)]
pub enum Kind {
    /// `text`.
    Text,
    /// `thinking`.
    Thinking,
    /// `tool_use`.
    Call {
        /// The order's number of the call.
        number: u32,
        /// Its id, in this protocol's alphabet.
        id: Box<str>,
        /// The tool.
        name: Box<str>,
    },
}

/// Writes blocks that come one after the other.
pub trait Form {
    /// The answer begins. What it has used so far, where that is known.
    fn begin(&mut self, usage: &Usage);
    /// A block begins.
    fn start(&mut self, kind: &Kind);
    /// More of it: a text, thinking, or the text of a call's arguments.
    fn piece(&mut self, kind: &Kind, text: Text<'_>);
    /// It ends; thinking with a signature.
    fn stop(&mut self, kind: &Kind, signature: Option<&str>);
    /// The answer ends, for this reason and stop sequence.
    fn end(&mut self, stop: (&'static str, Option<&str>), usage: &Usage);
}

/// A block that is open, or waits.
struct Pending {
    kind: Kind,
    started: bool,
    /// Its provider has said that it is over.
    ended: bool,
    /// What has come of it before it was started, as the inside of a JSON string.
    waiting: Vec<u8>,
    arguments: Depth,
    /// What the provider wants back with the call behind this thinking.
    state: Vec<u8>,
}

/// Orders the blocks of one answer for a form.
pub struct Blocks<F> {
    /// Where they are written.
    pub form: F,
    queue: VecDeque<Pending>,
    begun: bool,
    waiting: usize,
    /// Makes the ids of calls that come without one of their own; unique for the answer.
    answer_id: Box<str>,
    used: Used,
    seal: Option<Seal>,
    calls: bool,
    refused: bool,
    usage: Usage,
    finish: Option<Finish>,
    fault: Option<Cow<'static, str>>,
}

impl<F: Form> Blocks<F> {
    /// Blocks of an answer of this id. `used`: the ids that no call of the answer may have.
    pub fn new(form: F, answer_id: &str, used: Used, seal: Option<Seal>) -> Self {
        Self {
            form,
            queue: VecDeque::new(),
            begun: false,
            waiting: 0,
            answer_id: answer_id.into(),
            used,
            seal,
            calls: false,
            refused: false,
            usage: Usage::default(),
            finish: None,
            fault: None,
        }
    }

    /// Why the answer cannot be written, where it cannot.
    pub fn fault(&mut self) -> Option<Cow<'static, str>> {
        self.fault.take()
    }

    /// The answer is complete: writes what is left of it.
    pub fn done(&mut self) {
        self.begin();
        while let Some(block) = self.queue.pop_front() {
            self.write(block);
        }
        let finish = self.finish.take().unwrap_or(Finish::Stop);
        self.form.end(stop_reason(&finish, self.calls, self.refused), &self.usage);
    }

    fn begin(&mut self) {
        if !std::mem::replace(&mut self.begun, true) {
            self.form.begin(&self.usage);
        }
    }

    /// More of the text or the thinking that comes last, or a new block of it.
    fn text(&mut self, kind: Kind, text: Text<'_>) {
        if !self.queue.back().is_some_and(|last| last.kind == kind && !last.ended) {
            self.push(kind);
        }
        let last = self.queue.len().saturating_sub(1);
        self.piece(last, text);
    }

    fn push(&mut self, kind: Kind) {
        let waiting = Vec::new();
        self.queue.push_back(Pending { kind, started: false, ended: false, waiting, arguments: Depth::default(), state: Vec::new() });
    }

    fn start_call(&mut self, number: u32, id: Option<Text<'_>>, name: Text<'_>, state: Option<&[u8]>) {
        self.calls = true;
        if let Some(state) = state {
            if !self.queue.back().is_some_and(|last| last.kind == Kind::Thinking && last.state.is_empty()) {
                self.push(Kind::Thinking);
            }
            if let Some(thinking) = self.queue.back_mut() {
                thinking.state = state.to_vec();
            }
        }
        let own = id.map(|id| Box::from(ids::encode(&id.decode()))).filter(|id| self.used.add(id));
        let id = own.unwrap_or_else(|| format!("toolu_{}_{number}", self.answer_id).into());
        self.push(Kind::Call { number, id, name: name.decode().into() });
        self.advance();
    }

    fn call(&self, wanted: u32) -> Option<usize> {
        self.queue.iter().position(|block| matches!(block.kind, Kind::Call { number, .. } if number == wanted))
    }

    fn piece(&mut self, at: usize, text: Text<'_>) {
        let Some(block) = self.queue.get_mut(at) else { return };
        if matches!(block.kind, Kind::Call { .. }) {
            block.arguments.read(text);
        }
        if at == 0 && block.started && block.waiting.is_empty() && block.is_shown() {
            self.form.piece(&block.kind, text);
        } else {
            let before = block.waiting.len();
            append(&mut block.waiting, text);
            self.waiting += block.waiting.len() - before;
            if self.waiting > MAX_WAITING {
                self.fault = Some("the answer has too much behind a call of a tool that does not end".into());
            }
        }
        self.advance();
    }

    /// Starts the first block, and ends it where the next one may start.
    fn advance(&mut self) {
        while let Some(mut block) = self.queue.pop_front() {
            self.begin();
            let over = !self.queue.is_empty() && block.is_over();
            if over {
                self.write(block);
                continue;
            }
            if !block.started {
                block.started = true;
                self.form.start(&block.kind);
            }
            if block.is_shown() {
                self.release(&mut block);
            }
            self.queue.push_front(block);
            return;
        }
    }

    /// Writes what has waited of an open block. Some servers say `null` of a call without arguments.
    fn release(&mut self, block: &mut Pending) {
        let waiting = std::mem::take(&mut block.waiting);
        self.waiting -= waiting.len();
        let nothing = !block.is_shown() && waiting.trim_ascii() == NULL;
        match std::str::from_utf8(&waiting) {
            Ok(text) if !text.is_empty() && !nothing => self.form.piece(&block.kind, Text::Raw(text)),
            _ => {}
        }
    }

    fn write(&mut self, mut block: Pending) {
        if !block.started {
            self.form.start(&block.kind);
        }
        self.release(&mut block);
        let signed = (block.kind == Kind::Thinking).then(|| sealed::seal(self.seal.as_ref(), &block.state));
        self.form.stop(&block.kind, signed.as_deref());
    }

    fn lost(&mut self, what: &str) {
        self.fault.get_or_insert_with(|| format!("the answer has {what}, which a message cannot hold").into());
    }
}

impl<F: Form> Sink for Blocks<F> {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Content { choice: 0, text } => self.text(Kind::Text, text),
            Event::Refusal { choice: 0, text } => {
                self.refused = true;
                self.text(Kind::Text, text);
            }
            Event::Reasoning { choice: 0, text } => self.text(Kind::Thinking, text),
            Event::ToolStart { choice: 0, call, id, name, state, .. } => self.start_call(call, id, name, state),
            Event::ToolArguments { choice: 0, call, fragment } => {
                if let Some(at) = self.call(call) {
                    self.piece(at, fragment);
                } else {
                    self.fault = Some("the answer has arguments of a tool call behind its end".into());
                }
            }
            Event::BlockEnd { choice: 0, block } => {
                let at = match block {
                    Block::Call(number) => self.call(number),
                    Block::Text | Block::Reasoning => self.queue.len().checked_sub(1),
                    Block::Raw => None,
                };
                if let Some(block) = at.and_then(|at| self.queue.get_mut(at)) {
                    block.ended = true;
                    self.advance();
                }
            }
            Event::Usage(usage) => self.usage = usage,
            Event::Finish { choice: 0, reason } => self.finish = Some(reason),
            Event::Image { .. } => self.lost("an image"),
            Event::Audio { .. } => self.lost("sound"),
            Event::Extra { content: true, key, .. } => self.lost(&format!("a member `{}`", cut(key))),
            _ => {} // no part of a message
        }
    }
}

impl<F: Form> Writer for Blocks<F> {
    fn refusal(&self, block: &RawBlock<'_>) -> Option<String> {
        Some(format!("the answer has a block `{}`, which a message cannot hold", cut(block.name)))
    }
}

impl Pending {
    /// Whether it may be written as it comes: a call's arguments once they begin as an object does.
    fn is_shown(&self) -> bool {
        !matches!(self.kind, Kind::Call { .. }) || self.arguments.begun()
    }

    /// Whether nothing more comes of it, once another block has begun.
    fn is_over(&self) -> bool {
        self.ended || !matches!(self.kind, Kind::Call { .. }) || self.arguments.is_whole() || self.waiting.trim_ascii() == NULL
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::event::ToolForm;

    #[derive(Default)]
    struct Log(Vec<String>);

    impl Form for Log {
        fn begin(&mut self, _: &Usage) {
            self.0.push("begin".into());
        }
        fn start(&mut self, kind: &Kind) {
            self.0.push(match kind {
                Kind::Text => "text".into(),
                Kind::Thinking => "thinking".into(),
                Kind::Call { id, name, .. } => format!("call {id} {name}"),
            });
        }
        fn piece(&mut self, _: &Kind, text: Text<'_>) {
            self.0.push(format!("+{}", text.decode()));
        }
        fn stop(&mut self, _: &Kind, signature: Option<&str>) {
            self.0.push(signature.map_or("stop".into(), |signature| format!("stop {signature}")));
        }
        fn end(&mut self, stop: (&'static str, Option<&str>), _: &Usage) {
            self.0.push(format!("{stop:?}"));
        }
    }

    fn written(events: Vec<Event<'_>>) -> Vec<String> {
        let used = Used::default();
        let mut blocks = Blocks::new(Log::default(), "01", used, None);
        events.into_iter().for_each(|event| blocks.event(event));
        blocks.done();
        blocks.form.0
    }

    fn start(call: u32, state: Option<&'static [u8]>) -> Event<'static> {
        Event::ToolStart { choice: 0, call, id: None, name: Text::Raw("f"), form: ToolForm::Function, state }
    }

    fn arguments(call: u32, text: &'static str) -> Event<'static> {
        Event::ToolArguments { choice: 0, call, fragment: Text::Plain(text) }
    }

    #[test]
    fn calls_that_are_open_side_by_side_come_one_after_the_other() {
        let events = vec![
            start(0, None),
            arguments(0, "{\"a\":\"}"),
            start(1, None),
            arguments(1, "{}"),
            arguments(0, "\"}"),
            Event::Finish { choice: 0, reason: Finish::ToolCalls },
        ];
        let end = "(\"tool_use\", None)";
        let expected = ["begin", "call toolu_01_0 f", "+{\"a\":\"}", "+\"}", "stop", "call toolu_01_1 f", "+{}", "stop", end];
        assert_eq!(written(events), expected);
    }

    #[test]
    fn a_call_under_a_used_id_gets_a_fresh_one() {
        let mut used = Used::default();
        used.add("call_0");
        let mut blocks = Blocks::new(Log::default(), "01", used, None);
        for (call, id) in ["call_0", "call_1", "call_1"].into_iter().enumerate() {
            let (call, id) = (call as u32, Some(Text::Raw(id)));
            blocks.event(Event::ToolStart { choice: 0, call, id, name: Text::Raw("f"), form: ToolForm::Function, state: None });
            blocks.event(Event::BlockEnd { choice: 0, block: Block::Call(call) });
        }
        let calls: Vec<_> = blocks.form.0.iter().filter(|line| line.starts_with("call")).collect();
        assert_eq!(calls, ["call toolu_01_0 f", "call call_1 f", "call toolu_01_2 f"]);
    }

    #[test]
    fn a_call_ends_where_its_arguments_do_or_its_provider_says_so() {
        let text = |text| Event::Content { choice: 0, text: Text::Plain(text) };
        let ended = Event::BlockEnd { choice: 0, block: Block::Call(0) };
        let log = written(vec![text("a"), start(0, None), ended, start(1, None), arguments(1, "{}"), text("b")]);
        let calls = ["call toolu_01_0 f", "stop", "call toolu_01_1 f", "+{}", "stop"];
        assert_eq!(log, [&["begin", "text", "+a", "stop"][..], &calls, &["text", "+b", "stop", "(\"tool_use\", None)"]].concat());
    }

    #[test]
    fn arguments_that_are_null_are_none() {
        let calls = vec![start(0, None), arguments(0, "nu"), arguments(0, "ll"), start(1, None), arguments(1, " "), arguments(1, "[1]")];
        let end = "(\"tool_use\", None)";
        assert_eq!(written(calls), ["begin", "call toolu_01_0 f", "stop", "call toolu_01_1 f", "+ [1]", "stop", end]);
    }

    #[test]
    fn a_state_stands_in_the_thinking_before_its_call() {
        let thought = Event::Reasoning { choice: 0, text: Text::Plain("hm") };
        let log = written(vec![thought, start(0, Some(b"one")), arguments(0, "{}"), start(1, Some(b"two"))]);
        let blocks: Vec<_> = log.iter().map(|line| line.split(' ').next().unwrap_or_default()).collect();
        let first = ["begin", "thinking", "+hm", "stop", "call", "+{}", "stop"];
        assert_eq!(blocks, [&first[..], &["thinking", "stop", "call", "stop", "(\"tool_use\","]].concat());
    }
}
