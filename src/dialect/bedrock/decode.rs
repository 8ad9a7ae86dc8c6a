//! Reads answers of Converse, streamed and whole.
//!
//! ```text
//! messageStart (contentBlockStart? (contentBlockDelta)* contentBlockStop)* messageStop metadata
//! ```
//!
//! Only tool calls have a `contentBlockStart`. The answer is complete with `messageStop`; `metadata` with the usage is
//! the last that follows. Unknown events and members, the padding `p` among them, are skipped.

use super::error;
use super::tools::CONTENT_TOOL;
use super::wire::{Answer, BlockDelta, BlockStart, BlockStop, MessageStop, Metadata, Reasoning, WireCall, WireUsage};
use crate::chat::event::{Event, Finish, Sink, Text, ToolForm};
use crate::dialect::anthropic::replay::Keeper;
use crate::dialect::{Decoder, FailureClass, Fault, Frame, ProviderError};
use crate::sign::seal::Seal;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;
use smallvec::SmallVec;

/// Most tool calls that may be open at a time; the protocol has one.
const MAX_OPEN: usize = 64;

/// A tool call whose arguments are coming.
struct Call {
    block: u32,
    /// Its arguments are the answer's content.
    content: bool,
    /// No piece of its arguments has come.
    empty: bool,
}

/// Reads one answer.
pub(super) struct Converse {
    keeper: Keeper,
    /// Whether the content comes as the arguments of [`CONTENT_TOOL`].
    content_tool: bool,
    open: SmallVec<[Call; 2]>,
    /// The content tool has been called; a second call would spoil its JSON.
    answered: bool,
    /// One of the client's tools has been called.
    called: bool,
    finished: bool,
    /// And so is what follows it.
    ended: bool,
}

impl Converse {
    /// A decoder for one answer; `seal` where thinking is to be kept for the next turn.
    pub(super) fn new(seal: Option<Seal>, content_tool: bool) -> Self {
        Self {
            keeper: Keeper::new(seal),
            content_tool,
            open: SmallVec::new(),
            answered: false,
            called: false,
            finished: false,
            ended: false,
        }
    }

    fn event(&mut self, kind: &str, payload: &[u8], out: &mut dyn Sink) -> Result<(), Fault> {
        match kind {
            "contentBlockStart" => {
                let event: BlockStart<'_> = parse(payload)?;
                if let Some(call) = event.start.and_then(|start| start.tool_use) {
                    self.begin(event.block, &call, out)?;
                }
            }
            "contentBlockDelta" => {
                let event: BlockDelta<'_> = parse(payload)?;
                let delta = event.delta.unwrap_or_default();
                if let Some(text) = delta.text {
                    self.say(text, out);
                }
                if let Some(fragment) = delta.tool_use.and_then(|call| call.input) {
                    self.arguments(event.block, fragment, out);
                }
                if let Some(reasoning) = delta.reasoning {
                    self.think(&reasoning, out);
                }
            }
            "contentBlockStop" => {
                let event: BlockStop = parse(payload)?;
                self.keeper.end_thinking();
                self.close(|call| call.block == event.block, out);
            }
            "messageStop" => {
                let event: MessageStop<'_> = parse(payload)?;
                self.finish(event.reason, out)?;
            }
            "metadata" => {
                let event: Metadata = parse(payload)?;
                count(event.usage, out);
                if self.finished {
                    self.ended = true;
                    out.event(Event::End);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn begin(&mut self, block: u32, call: &WireCall<'_>, out: &mut dyn Sink) -> Result<(), Fault> {
        self.close(|call| call.block == block, out);
        if self.open.len() == MAX_OPEN {
            return Err(Fault::Broken("too many open tool calls".into()));
        }
        let name = call.name.unwrap_or(Text::Raw(""));
        let content = self.content_tool && name.decode() == CONTENT_TOOL;
        if content && std::mem::replace(&mut self.answered, true) {
            return Ok(());
        }
        if !content {
            self.called = true;
            let id = call.id.map(|id| self.keeper.id(id));
            out.event(Event::ToolStart { choice: 0, call: block, id: id.as_deref().map(Text::Plain), name, form: ToolForm::Function });
        }
        self.open.push(Call { block, content, empty: true });
        Ok(())
    }

    fn arguments(&mut self, block: u32, fragment: Text<'_>, out: &mut dyn Sink) {
        if fragment.is_empty() {
            return;
        }
        if let Some(call) = self.open.iter_mut().find(|call| call.block == block) {
            call.empty = false;
            out.event(match call.content {
                true => Event::Content { choice: 0, text: fragment },
                false => Event::ToolArguments { choice: 0, call: block, fragment },
            });
        }
    }

    /// Ends the open calls that `which` picks; a call without arguments is given empty ones.
    fn close(&mut self, which: impl Fn(&Call) -> bool, out: &mut dyn Sink) {
        while let Some(at) = self.open.iter().position(&which) {
            let (block, empty) = self.open.get(at).map_or((0, false), |call| (call.block, call.empty));
            if empty {
                self.arguments(block, Text::Raw("{}"), out);
            }
            self.open.swap_remove(at);
        }
    }

    fn say(&self, text: Text<'_>, out: &mut dyn Sink) {
        // Words beside the tool that gives the content would spoil its JSON.
        if !self.content_tool && !text.is_empty() {
            out.event(Event::Content { choice: 0, text });
        }
    }

    fn think(&mut self, reasoning: &Reasoning<'_>, out: &mut dyn Sink) {
        let nothing = Text::Raw("");
        let text = reasoning.text.unwrap_or(nothing);
        self.keeper.thinking(text, reasoning.signature.unwrap_or(nothing));
        if let Some(data) = reasoning.redacted {
            let inner = STANDARD.decode(data.decode().as_bytes()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            // What is kept becomes JSON again, so only what needs no escapes is kept.
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=' | b'-' | b'_');
            if let Some(inner) = inner.filter(|inner| inner.bytes().all(plain)) {
                self.keeper.redacted(&inner);
            }
        }
        if !text.is_empty() {
            out.event(Event::Reasoning { choice: 0, text });
        }
    }

    fn finish(&mut self, word: Option<Text<'_>>, out: &mut dyn Sink) -> Result<(), Fault> {
        self.close(|_| true, out);
        let word = word.map(Text::decode).unwrap_or_default();
        let reason = match Finish::of(&word) {
            // The call was the gateway's own way to get the content.
            Some(Finish::ToolCalls) if self.answered && !self.called => Finish::Stop,
            Some(Finish::Stop) if self.content_tool && !self.answered && !self.called => {
                return Err(failed("the model did not answer in the form that was asked for".to_owned()));
            }
            Some(reason) => reason,
            None => {
                let shown: String = word.chars().take(64).collect();
                return Err(failed(format!("the model's answer ended with `{shown}`")));
            }
        };
        self.finished = true;
        out.event(Event::Finish { choice: 0, reason });
        Ok(())
    }
}

impl Decoder for Converse {
    fn frame(&mut self, frame: Frame<'_>, out: &mut dyn Sink) -> Result<(), Fault> {
        match frame {
            _ if self.ended => Ok(()),
            Frame::Aws { message_type: "event", kind, payload, .. } => self.event(kind, payload, out),
            Frame::Aws { message_type: "exception" | "error", kind, error_message, payload } => {
                Err(Fault::Provider(error::exception(kind, error_message, payload)))
            }
            _ => Err(Fault::Broken("a frame that is neither an event nor an exception".into())),
        }
    }

    fn whole(&mut self, body: &[u8], out: &mut dyn Sink) -> Result<(), Fault> {
        let answer: Answer<'_> = parse(body)?;
        let Some(message) = answer.output.and_then(|output| output.message) else {
            return Err(Fault::Broken("the answer holds no message".into()));
        };
        for (block, content) in (0..).zip(message.content.unwrap_or_default()) {
            if let Some(text) = content.text {
                self.say(text, out);
            }
            if let Some(call) = content.tool_use {
                self.begin(block, &call, out)?;
                let input = call.input.map(RawValue::get).filter(|input| *input != "null");
                self.arguments(block, Text::Plain(input.unwrap_or_default()), out);
                self.close(|call| call.block == block, out);
            }
            if let Some(reasoning) = content.reasoning {
                let text = reasoning.reasoning_text.unwrap_or_default();
                self.think(&Reasoning { redacted: reasoning.redacted, ..text }, out);
                self.keeper.end_thinking();
            }
        }
        count(answer.usage, out);
        self.finish(answer.reason, out)
    }

    fn end(&mut self, _out: &mut dyn Sink) -> Result<(), Fault> {
        if self.finished { Ok(()) } else { Err(Fault::Truncated) }
    }
}

fn parse<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, Fault> {
    serde_json::from_slice(json).map_err(|_| Fault::Broken("the answer is not JSON of this protocol".into()))
}

fn failed(message: String) -> Fault {
    Fault::Provider(ProviderError { class: FailureClass::Server, message, param: None, retry_after: None })
}

fn count(usage: Option<WireUsage>, out: &mut dyn Sink) {
    if let Some(usage) = usage {
        out.event(Event::Usage(usage.usage()));
    }
}
