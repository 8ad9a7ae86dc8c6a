//! Reads answers of the Messages API, streamed and whole.
//!
//! ```text
//! message_start (block_start (block_delta)* block_stop)* message_delta message_stop
//! ```
//!
//! `ping` and unknown events may stand anywhere, an `error` event ends the answer, and an end without `message_stop` is
//! a broken answer. A whole answer is the same blocks, each complete at once.
//! <https://docs.anthropic.com/en/api/messages-streaming>

use super::replay::Keeper;
use super::wire::{WireBlock, WireDelta, WireEvent, WireMessage, WireUsage};
use crate::chat::event::{Event, Finish, Sink, Text, ToolForm};
use crate::chat::message::raw_text;
use crate::dialect::{self, FailureClass, Fault, Frame, ProviderError};
use crate::sign::seal::Seal;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// Most blocks that may be open at a time; the protocol has one.
const MAX_OPEN: usize = 16;
/// Most bytes of text that are held back while a forced tool is waited for.
const MAX_HELD: usize = 256 * 1024;
/// The status that stands for an error event, which has none of its own; only used where its type is unknown.
const EVENT_STATUS: u16 = 500;

/// What the answer's content is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The text blocks.
    Text,
    /// The arguments of the tool of this name, whose call was forced in order to get them.
    Arguments(String),
}

enum Block {
    Text,
    Thinking,
    /// A call of the client's tools. `empty`: no piece of its arguments has come.
    Tool {
        call: u32,
        empty: bool,
    },
    /// The forced tool, whose arguments are the content.
    Forced {
        empty: bool,
    },
    Skipped,
}

/// Reads one answer.
pub struct Decoder {
    source: Source,
    keeper: Keeper,
    open: Vec<(u64, Block)>,
    calls: u32,
    forced: bool,
    held: String,
    usage: WireUsage,
    stop: Option<String>,
    done: bool,
}

impl Decoder {
    /// A decoder for one answer; `seal` where thinking is to be kept for the next turn.
    pub fn new(source: Source, seal: Option<Seal>) -> Self {
        Self {
            source,
            keeper: Keeper::new(seal),
            open: Vec::new(),
            calls: 0,
            forced: false,
            held: String::new(),
            usage: WireUsage::default(),
            stop: None,
            done: false,
        }
    }

    /// Reads one event, whatever it came framed in.
    ///
    /// # Errors
    /// As [`dialect::Decoder::frame`].
    pub fn event(&mut self, data: &str, out: &mut dyn Sink) -> Result<(), Fault> {
        if self.done {
            return Ok(());
        }
        let event: WireEvent<'_> = serde_json::from_str(data).map_err(|_| broken("an event is not JSON of this protocol"))?;
        let Some(kind) = event.r#type.map(Text::decode) else { return Err(broken("an event without a type")) };
        match (&*kind, event.index) {
            ("message_start", _) => self.counted(event.message.and_then(|m| m.usage), out),
            ("content_block_start", Some(index)) => {
                self.close(index, out);
                let Some(block) = event.content_block else { return Err(broken("a block without content")) };
                let block = self.begin(&block, false, out)?;
                if self.open.len() == MAX_OPEN {
                    return Err(broken("too many open blocks"));
                }
                self.open.push((index, block));
            }
            ("content_block_delta", Some(index)) => {
                if let Some(delta) = event.delta {
                    self.delta(index, &delta, out)?;
                }
            }
            ("content_block_stop", Some(index)) => self.close(index, out),
            ("message_delta", _) => {
                if let Some(reason) = event.delta.and_then(|d| d.stop_reason) {
                    self.stop = Some(reason.decode().into_owned());
                }
                self.counted(event.usage, out);
            }
            ("message_stop", _) => {
                self.finish(out)?;
                out.event(Event::End);
            }
            ("error", _) => return Err(failed(event.error)),
            _ => {}
        }
        Ok(())
    }

    fn counted(&mut self, usage: Option<WireUsage>, out: &mut dyn Sink) {
        if let Some(usage) = usage {
            self.usage.update(usage);
            out.event(Event::Usage(self.usage.usage()));
        }
    }

    /// A block begins; `whole` tells that it is complete.
    fn begin(&mut self, block: &WireBlock<'_>, whole: bool, out: &mut dyn Sink) -> Result<Block, Fault> {
        Ok(match &*block.r#type.decode() {
            "text" => {
                self.say(string(block.text), out)?;
                Block::Text
            }
            "thinking" => {
                self.think(string(block.thinking), string(block.signature), out);
                Block::Thinking
            }
            "redacted_thinking" => {
                if let Text::Raw(data) = string(block.data) {
                    self.keeper.redacted(data);
                }
                Block::Skipped
            }
            "tool_use" => {
                let name = string(block.name);
                let mut begun = if matches!(&self.source, Source::Arguments(answer) if *answer == name.decode()) {
                    if std::mem::replace(&mut self.forced, true) { Block::Skipped } else { Block::Forced { empty: true } }
                } else {
                    let call = self.calls;
                    self.calls += 1;
                    let id = self.keeper.id(string(block.id));
                    out.event(Event::ToolStart { choice: 0, call, id: Some(Text::Plain(&id)), name, form: ToolForm::Function });
                    Block::Tool { call, empty: true }
                };
                // In a stream the input is `{}` and its text follows; only a block that is complete says it here.
                let input = block.input.map(RawValue::get).filter(|input| whole || !blank(input));
                if let Some(input) = input {
                    arguments(&mut begun, Text::Plain(input), out);
                }
                begun
            }
            _ => Block::Skipped, // tools that Anthropic runs itself, and what it may invent
        })
    }

    fn delta(&mut self, index: u64, delta: &WireDelta<'_>, out: &mut dyn Sink) -> Result<(), Fault> {
        let Some(at) = self.open.iter().position(|(i, _)| *i == index) else { return Ok(()) };
        match (self.open.get_mut(at).map(|(_, block)| block), delta) {
            (Some(Block::Text), WireDelta { text: Some(text), .. }) => self.say(*text, out)?,
            (Some(Block::Thinking), WireDelta { thinking, signature, .. }) => {
                let nothing = Text::Raw("");
                self.think(thinking.unwrap_or(nothing), signature.unwrap_or(nothing), out);
            }
            (Some(block), WireDelta { partial_json: Some(json), .. }) => arguments(block, *json, out),
            _ => {}
        }
        Ok(())
    }

    /// Ends a block, where one of this number is open.
    fn close(&mut self, index: u64, out: &mut dyn Sink) {
        if let Some(at) = self.open.iter().position(|(i, _)| *i == index) {
            let (_, block) = self.open.swap_remove(at);
            self.end_block(block, out);
        }
    }

    fn end_block(&mut self, mut block: Block, out: &mut dyn Sink) {
        match block {
            Block::Thinking => self.keeper.end_thinking(),
            // A tool without arguments is streamed as an empty text, or as no text at all.
            Block::Tool { empty: true, .. } | Block::Forced { empty: true } => arguments(&mut block, Text::Raw("{}"), out),
            _ => {}
        }
    }

    fn say(&mut self, text: Text<'_>, out: &mut dyn Sink) -> Result<(), Fault> {
        if text.is_empty() {
            return Ok(());
        }
        if self.source == Source::Text {
            out.event(Event::Content { choice: 0, text });
            return Ok(());
        }
        // Words beside the forced tool would spoil its JSON; they only count where no call comes.
        if self.held.len().saturating_add(text.decode().len()) > MAX_HELD {
            return Err(broken("a long text where a tool call was forced"));
        }
        self.held.push_str(&text.decode());
        Ok(())
    }

    fn think(&mut self, text: Text<'_>, signature: Text<'_>, out: &mut dyn Sink) {
        self.keeper.thinking(text, signature);
        if !text.is_empty() {
            out.event(Event::Reasoning { choice: 0, text });
        }
    }

    /// The answer is complete.
    fn finish(&mut self, out: &mut dyn Sink) -> Result<(), Fault> {
        while let Some((_, block)) = self.open.pop() {
            self.end_block(block, out);
        }
        if !self.forced && !self.held.is_empty() {
            out.event(Event::Content { choice: 0, text: Text::Plain(&self.held) });
        }
        let word = self.stop.as_deref().unwrap_or_default();
        let Some(reason) = Finish::of(word) else {
            let shown: String = word.chars().take(64).collect();
            return Err(Fault::Broken(Cow::Owned(format!("the answer ended with stop_reason `{shown}`"))));
        };
        let reason = if reason == Finish::ToolCalls && self.forced && self.calls == 0 { Finish::Stop } else { reason };
        self.done = true;
        out.event(Event::Finish { choice: 0, reason });
        Ok(())
    }
}

impl dialect::Decoder for Decoder {
    fn frame(&mut self, frame: Frame<'_>, out: &mut dyn Sink) -> Result<(), Fault> {
        match frame {
            Frame::Sse { data: "", .. } => Ok(()),
            Frame::Sse { data, .. } => self.event(data, out),
            Frame::Aws { .. } => Err(broken("not a server-sent event")),
        }
    }

    fn whole(&mut self, body: &[u8], out: &mut dyn Sink) -> Result<(), Fault> {
        let message: WireMessage<'_> = serde_json::from_slice(body).map_err(|_| broken("the answer is not JSON of this protocol"))?;
        match &*message.r#type.map(Text::decode).unwrap_or_default() {
            "message" => {}
            "error" => return Err(failed(message.error)),
            _ => return Err(broken("the answer is not a message")),
        }
        for block in message.content.iter().flatten() {
            let block = self.begin(block, true, out)?;
            self.end_block(block, out);
        }
        self.stop = message.stop_reason.map(|reason| reason.decode().into_owned());
        self.counted(message.usage, out);
        self.finish(out)
    }

    fn end(&mut self, _out: &mut dyn Sink) -> Result<(), Fault> {
        if self.done { Ok(()) } else { Err(Fault::Truncated) }
    }
}

/// More of a call's arguments, or of the content where the call was forced.
fn arguments(block: &mut Block, fragment: Text<'_>, out: &mut dyn Sink) {
    if fragment.is_empty() {
        return;
    }
    match block {
        Block::Tool { call, empty } => {
            *empty = false;
            out.event(Event::ToolArguments { choice: 0, call: *call, fragment });
        }
        Block::Forced { empty } => {
            *empty = false;
            out.event(Event::Content { choice: 0, text: fragment });
        }
        _ => {}
    }
}

/// The raw inside of a string; empty for anything else.
fn string(value: Option<&RawValue>) -> Text<'_> {
    value.and_then(raw_text).unwrap_or(Text::Raw(""))
}

/// Whether a raw object has no members.
fn blank(json: &str) -> bool {
    json.bytes().all(|b| matches!(b, b'{' | b'}') || b.is_ascii_whitespace())
}

fn broken(what: &'static str) -> Fault {
    Fault::Broken(Cow::Borrowed(what))
}

fn failed(error: Option<super::error::WireError<'_>>) -> Fault {
    Fault::Provider(match error {
        Some(error) => error.read(EVENT_STATUS, None),
        None => ProviderError {
            class: FailureClass::Server,
            message: "the provider failed without saying why".to_owned(),
            param: None,
            retry_after: None,
        },
    })
}
