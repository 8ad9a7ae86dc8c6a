//! Answers made of blocks, whichever protocol spells them: the Messages API and Bedrock's Converse have the same texts,
//! thinking and tool calls, and both may be asked for content as the arguments of a forced tool.

use super::thinking_state::ThinkingState;
use crate::json::text::Text;
use crate::llm::event::{Block, Citation, Event, Finish, Sink, Source, ToolForm};
use crate::llm::failure::{FailureClass, Fault, ProviderError};

/// An open block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dialect) enum Kind {
    Text,
    Thinking,
    /// A call of the client's tools, by the answer's own count of them.
    Call(u32),
    /// The forced tool, whose arguments are the content.
    Content,
    /// A block that has no event of its own.
    Raw,
    /// A block that is complete with its start.
    Whole,
}

struct Open {
    index: u64,
    kind: Kind,
    /// No piece of a call's arguments has come.
    empty: bool,
    /// Arguments that the block began with; they only count where no piece comes.
    input: Option<String>,
}

/// Emits one answer, block by block.
#[derive(Default)]
pub(in crate::dialect) struct Blocks {
    /// Where thinking has to come back with a call.
    thinking: Option<ThinkingState>,
    /// The forced tool whose arguments are the content.
    content_tool: Option<&'static str>,
    open: Vec<Open>,
    /// The block of text or reasoning that the last event belongs to.
    current: Option<Block>,
    calls: u32,
    /// The forced tool has been called; a second call would spoil its JSON.
    answered: bool,
    held: String,
    done: bool,
    /// A block has begun.
    begun: bool,
    /// A text, some thinking or a call has come.
    content: bool,
}

impl Blocks {
    /// Nothing has come yet; `maker` where the model needs its thinking back with a call: see [`thinking`](super::thinking_state::thinking).
    pub(in crate::dialect) fn new(content_tool: Option<&'static str>, maker: Option<&'static str>) -> Self {
        Self { thinking: maker.map(ThinkingState::new), content_tool, ..Self::default() }
    }

    /// Whether any block has begun.
    pub(in crate::dialect) fn begun(&self) -> bool {
        self.begun
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
        self.begun = true;
        if kind == Kind::Thinking {
            out.event(Event::ReasoningStart { choice: 0 });
        }
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
            (true, true) => Kind::Whole,
            (true, false) => Kind::Content,
            (false, _) => Kind::Call(self.calls),
        };
        self.open(index, kind, out)?;
        if let Kind::Call(call) = kind {
            self.calls += 1;
            let state = self.thinking.as_mut().and_then(ThinkingState::take);
            out.event(Event::ToolStart { choice: 0, call, id, name, form: ToolForm::Function, state: state.as_deref() });
        }
        self.answered |= content;
        self.content = true;
        Ok(())
    }

    /// More of a call's arguments.
    pub(in crate::dialect) fn arguments(&mut self, index: u64, fragment: Text<'_>, out: &mut dyn Sink) {
        let Some(open) = self.open.iter_mut().find(|open| open.index == index && !fragment.is_empty()) else { return };
        open.empty = false;
        match open.kind {
            Kind::Call(call) => out.event(Event::ToolArguments { choice: 0, call, fragment }),
            Kind::Content => {
                self.current(Some(Block::Text), out);
                out.event(Event::Content { choice: 0, text: fragment });
            }
            Kind::Raw => out.event(Event::RawInput { choice: 0, fragment }),
            _ => {}
        }
    }

    /// Arguments that a streamed call already began with.
    pub(in crate::dialect) fn input(&mut self, index: u64, input: &str) {
        if let Some(open) = self.open.iter_mut().find(|open| open.index == index) {
            open.input = Some(input.to_owned());
        }
    }

    /// A block ends: the one that is open under this number, and any text or thinking.
    pub(in crate::dialect) fn close(&mut self, index: u64, out: &mut dyn Sink) {
        if let Some(at) = self.open.iter().position(|open| open.index == index) {
            let Open { kind, empty, input, .. } = self.open.swap_remove(at);
            let input = input.as_deref().filter(|_| empty);
            match kind {
                Kind::Call(call) => {
                    if let Some(input) = input {
                        out.event(Event::ToolArguments { choice: 0, call, fragment: Text::Plain(input) });
                    }
                    out.event(Event::BlockEnd { choice: 0, block: Block::Call(call) });
                }
                Kind::Content if empty => out.event(Event::Content { choice: 0, text: Text::Plain(input.unwrap_or("{}")) }),
                Kind::Raw => out.event(Event::BlockEnd { choice: 0, block: Block::Raw }),
                _ => {}
            }
        }
        self.current(None, out);
    }

    /// The next event belongs to this block of text or thinking, or to none.
    fn current(&mut self, block: Option<Block>, out: &mut dyn Sink) {
        if self.current == block {
            return;
        }
        if self.current == Some(Block::Reasoning)
            && let Some(thinking) = &mut self.thinking
        {
            thinking.end_thinking();
        }
        if let Some(block) = std::mem::replace(&mut self.current, block) {
            out.event(Event::BlockEnd { choice: 0, block });
        }
    }

    /// More of the answer's text.
    ///
    /// # Errors
    /// A text that is too long where a call was forced.
    pub(in crate::dialect) fn text(&mut self, text: Text<'_>, out: &mut dyn Sink) -> Result<(), Fault> {
        if text.is_empty() {
            return Ok(());
        }
        self.content = true;
        if self.content_tool.is_none() {
            self.current(Some(Block::Text), out);
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

    /// More of the open thinking block.
    pub(in crate::dialect) fn think(&mut self, text: Option<Text<'_>>, signature: Option<Text<'_>>, out: &mut dyn Sink) {
        let (text, signature) = (text.unwrap_or(Text::Raw("")), signature.unwrap_or(Text::Raw("")));
        if text.is_empty() && signature.is_empty() {
            return;
        }
        self.current(Some(Block::Reasoning), out);
        if let Some(thinking) = &mut self.thinking {
            thinking.thinking(text, signature);
        }
        if !text.is_empty() {
            self.content = true;
            out.event(Event::Reasoning { choice: 0, text });
        }
        if !signature.is_empty() {
            out.event(Event::Signature { choice: 0, text: signature });
        }
    }

    /// A block of encrypted thinking, in base64.
    pub(in crate::dialect) fn redacted(&mut self, data: &str, out: &mut dyn Sink) {
        self.current(None, out);
        if let Some(thinking) = &mut self.thinking {
            thinking.redacted(data);
        }
        out.event(Event::RedactedReasoning { choice: 0, data: Text::Raw(data) });
    }

    /// An image.
    pub(in crate::dialect) fn image(&mut self, source: Source<'_>, out: &mut dyn Sink) {
        self.current(None, out);
        self.content = true;
        out.event(Event::Image { choice: 0, source });
    }

    /// The answer is complete, for the reason that the provider calls `word`, with a stop sequence or the category of a refusal.
    ///
    /// # Errors
    /// The word means that the answer failed.
    pub(in crate::dialect) fn finish(&mut self, word: &str, detail: Option<&str>, out: &mut dyn Sink) -> Result<(), Fault> {
        while let Some(index) = self.open.last().map(|open| open.index) {
            self.close(index, out);
        }
        self.current(None, out);
        if !self.answered && !self.held.is_empty() {
            out.event(Event::Content { choice: 0, text: Text::Plain(&self.held) });
        }
        let reason = match (Finish::of(word, self.content), word) {
            // The call was the gateway's own way to get the content.
            (Some(Finish::ToolCalls), _) if self.answered && self.calls == 0 => Finish::Stop,
            (Some(reason), _) => reason.with(detail),
            (None, "") => return Err(Fault::Broken("the answer ended without saying why".into())),
            (None, word) => {
                let message = format!("the model's answer ended with `{word}`");
                return Err(Fault::Provider(ProviderError::new(FailureClass::Server, message)));
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

/// A source of a text: what is called a `source` may be its address, too. `json` is the provider's own form of it.
pub(in crate::dialect) fn citation<'a>(
    url: Option<Text<'a>>,
    source: Option<Text<'a>>,
    title: Option<Text<'a>>,
    json: &'a str,
) -> Citation<'a> {
    let is_link = |text: &Text<'_>| ["https://", "http://"].iter().any(|scheme| text.decode().starts_with(scheme));
    Citation { url: url.filter(|url| !url.is_empty()).or(source.filter(is_link)), title, span: (0, 0), json }
}

/// Most blocks that may be open at a time; the protocols have one.
const MAX_OPEN: usize = 64;
/// Most bytes of text that are held back while a forced tool is waited for.
const MAX_HELD: usize = 256 * 1024;
