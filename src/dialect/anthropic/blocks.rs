//! What an answer made of blocks says, whichever protocol spells them: the Messages API and Bedrock's Converse bring the
//! same texts, thinking and tool calls, and both may be asked for content as the arguments of a forced tool.

use super::replay::Keeper;
use crate::json::text::Text;
use crate::llm::event::{Event, Finish, Sink, ToolForm};
use crate::llm::failure::{FailureClass, Fault, ProviderError};
use crate::llm::state::Seal;

/// Most blocks that may be open at a time; the protocols have one.
const MAX_OPEN: usize = 64;
/// Most bytes of text that are held back while a forced tool is waited for.
const MAX_HELD: usize = 256 * 1024;

/// An open block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dialect) enum Kind {
    Text,
    Thinking,
    /// A call of the client's tools, by the answer's own count of them.
    Call(u32),
    /// The forced tool, whose arguments are the content.
    Content,
    /// Nothing that the client is told.
    Skipped,
}

struct Open {
    index: u64,
    kind: Kind,
    /// No piece of a call's arguments has come.
    empty: bool,
    /// Arguments that the block began with; they only count where no piece comes.
    input: Option<String>,
}

/// Tells one answer, block by block.
pub(in crate::dialect) struct Blocks {
    keeper: Keeper,
    /// The forced tool whose arguments are the content.
    content_tool: Option<&'static str>,
    open: Vec<Open>,
    calls: u32,
    /// The forced tool has been called; a second call would spoil its JSON.
    answered: bool,
    held: String,
    done: bool,
    /// A block has begun.
    content: bool,
    /// A text, some thinking or a call has come.
    said: bool,
}

impl Blocks {
    /// Nothing is said yet; `seal` where thinking is to be kept for the next turn.
    pub(in crate::dialect) fn new(content_tool: Option<&'static str>, seal: Option<Seal>) -> Self {
        Self {
            keeper: Keeper::new(seal),
            content_tool,
            open: Vec::new(),
            calls: 0,
            answered: false,
            held: String::new(),
            done: false,
            content: false,
            said: false,
        }
    }

    /// Whether any block has begun.
    pub(in crate::dialect) fn has_content(&self) -> bool {
        self.content
    }

    /// Whether the answer is complete.
    pub(in crate::dialect) fn done(&self) -> bool {
        self.done
    }

    /// What kind of block is open under this number.
    pub(in crate::dialect) fn kind(&self, index: u64) -> Option<Kind> {
        self.open.iter().find(|open| open.index == index).map(|open| open.kind)
    }

    /// A block begins; one that is open under its number has ended.
    ///
    /// # Errors
    /// Too many are open.
    pub(in crate::dialect) fn open(&mut self, index: u64, kind: Kind, out: &mut dyn Sink) -> Result<(), Fault> {
        self.close(index, out);
        if self.open.len() == MAX_OPEN {
            return Err(Fault::Broken("too many open blocks".into()));
        }
        self.content = true;
        self.open.push(Open { index, kind, empty: true, input: None });
        Ok(())
    }

    /// A tool call begins.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(in crate::dialect) fn call(&mut self, index: u64, id: Option<Text<'_>>, name: Text<'_>, out: &mut dyn Sink) -> Result<(), Fault> {
        let content = self.content_tool.is_some_and(|tool| tool == name.decode());
        let kind = match (content, self.answered) {
            (true, true) => Kind::Skipped,
            (true, false) => Kind::Content,
            (false, _) => Kind::Call(self.calls),
        };
        self.open(index, kind, out)?;
        if let Kind::Call(call) = kind {
            self.calls += 1;
            let id = id.map(|id| self.keeper.id(id));
            out.event(Event::ToolStart { choice: 0, call, id: id.as_deref().map(Text::Plain), name, form: ToolForm::Function });
        }
        self.answered |= content;
        self.said = true;
        Ok(())
    }

    /// More of a call's arguments.
    pub(in crate::dialect) fn arguments(&mut self, index: u64, fragment: Text<'_>, out: &mut dyn Sink) {
        let Some(open) = self.open.iter_mut().find(|open| open.index == index && !fragment.is_empty()) else { return };
        open.empty = false;
        match open.kind {
            Kind::Call(call) => out.event(Event::ToolArguments { choice: 0, call, fragment }),
            Kind::Content => out.event(Event::Content { choice: 0, text: fragment }),
            _ => {}
        }
    }

    /// Arguments that a streamed call already began with.
    pub(in crate::dialect) fn input(&mut self, index: u64, input: &str) {
        if let Some(open) = self.open.iter_mut().find(|open| open.index == index) {
            open.input = Some(input.to_owned());
        }
    }

    /// A block ends, where one of this number is open. A call without arguments is given empty ones.
    pub(in crate::dialect) fn close(&mut self, index: u64, out: &mut dyn Sink) {
        self.keeper.end_thinking();
        let Some(at) = self.open.iter().position(|open| open.index == index) else { return };
        if self.open.get(at).is_some_and(|open| open.empty) {
            let input = self.open.get_mut(at).and_then(|open| open.input.take());
            self.arguments(index, Text::Plain(input.as_deref().unwrap_or("{}")), out);
        }
        self.open.swap_remove(at);
    }

    /// More of the answer's text.
    ///
    /// # Errors
    /// A text that is too long where a call was forced.
    pub(in crate::dialect) fn say(&mut self, text: Text<'_>, out: &mut dyn Sink) -> Result<(), Fault> {
        if text.is_empty() {
            return Ok(());
        }
        self.said = true;
        if self.content_tool.is_none() {
            out.event(Event::Content { choice: 0, text });
            return Ok(());
        }
        // Words beside the forced tool would spoil its JSON; they only count where no call comes.
        let text = text.decode();
        if self.held.len().saturating_add(text.len()) > MAX_HELD {
            return Err(Fault::Broken("a long text where a tool call was forced".into()));
        }
        self.held.push_str(&text);
        Ok(())
    }

    /// Something that is neither text nor a call has been written.
    pub(in crate::dialect) fn shown(&mut self) {
        self.said = true;
    }

    /// More of the open thinking block.
    pub(in crate::dialect) fn think(&mut self, text: Option<Text<'_>>, signature: Option<Text<'_>>, out: &mut dyn Sink) {
        let (text, signature) = (text.unwrap_or(Text::Raw("")), signature.unwrap_or(Text::Raw("")));
        self.keeper.thinking(text, signature);
        if !text.is_empty() {
            self.said = true;
            out.event(Event::Reasoning { choice: 0, text });
        }
    }

    /// A block of encrypted thinking, in base64.
    pub(in crate::dialect) fn redacted(&mut self, data: &str) {
        self.keeper.redacted(data);
    }

    /// The answer is complete, for the reason that the provider calls `word`.
    ///
    /// # Errors
    /// The word means that the answer failed.
    pub(in crate::dialect) fn finish(&mut self, word: &str, out: &mut dyn Sink) -> Result<(), Fault> {
        while let Some(index) = self.open.last().map(|open| open.index) {
            self.close(index, out);
        }
        if !self.answered && !self.held.is_empty() {
            out.event(Event::Content { choice: 0, text: Text::Plain(&self.held) });
        }
        let reason = match (Finish::of(word, self.said), word) {
            // The call was the gateway's own way to get the content.
            (Some(Finish::ToolCalls), _) if self.answered && self.calls == 0 => Finish::Stop,
            (Some(reason), _) => reason,
            (None, "") => return Err(Fault::Broken("the answer ended without saying why".into())),
            (None, word) => {
                let message = format!("the model's answer ended with `{word}`");
                return Err(Fault::Provider(ProviderError { class: FailureClass::Server, message, param: None, retry_after: None }));
            }
        };
        self.done = true;
        out.event(Event::Finish { choice: 0, reason });
        Ok(())
    }

    /// The stream has ended.
    ///
    /// # Errors
    /// [`Fault::Truncated`] where the answer has not.
    pub(in crate::dialect) fn end(&self) -> Result<(), Fault> {
        if self.done { Ok(()) } else { Err(Fault::Truncated) }
    }
}
