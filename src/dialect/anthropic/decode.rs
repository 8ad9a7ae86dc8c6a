//! Reads answers of the Messages API, streamed and whole.
//!
//! ```text
//! message_start (block_start (block_delta)* block_stop)* message_delta message_stop
//! ```
//!
//! `ping` and unknown events may stand anywhere, an `error` event ends the answer, and an end without `message_stop` is
//! a broken answer. A whole answer is the same blocks, each complete at once.
//! <https://docs.anthropic.com/en/api/messages-streaming>

use super::blocks::{Blocks, Kind};
use super::wire::{WireBlock, WireCitation, WireDelta, WireEvent, WireMessage, WireSource, WireUsage};
use crate::dialect;
use crate::dialect::shown::{self, Sources};
use crate::frame::Frame;
use crate::json::text::{Text, raw_text};
use crate::llm::event::{Event, Sink};
use crate::llm::failure::{FailureClass, Fault, ProviderError};
use crate::llm::state::Seal;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// The status that stands for an error event, which has none of its own; only used where its type is unknown.
const EVENT_STATUS: u16 = 500;

/// The events that say something; every other one is skipped, whatever it holds.
const EVENTS: [&str; 7] =
    ["message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta", "message_stop", "error"];

/// Reads one answer.
pub struct Decoder {
    blocks: Blocks,
    /// The message's id.
    id: Option<Box<str>>,
    usage: WireUsage<'static>,
    stop: Option<String>,
}

impl Decoder {
    /// A decoder for one answer. `content_tool`: the tool whose call was forced in order to get the content as its
    /// arguments; `seal` where thinking is to be kept for the next turn.
    pub fn new(content_tool: Option<&'static str>, seal: Option<Seal>) -> Self {
        Self { blocks: Blocks::new(content_tool, seal), id: None, usage: WireUsage::default(), stop: None }
    }

    /// Reads one event, whatever it came framed in.
    ///
    /// # Errors
    /// As [`dialect::Decoder::frame`].
    pub fn event(&mut self, data: &str, out: &mut dyn Sink) -> Result<(), Fault> {
        if self.blocks.done() {
            return Ok(());
        }
        let event: WireEvent<'_> = match serde_json::from_str(data) {
            Ok(event) => event,
            // Members that known events have may be anything in the others.
            Err(_) if is_unknown(data) => return Ok(()),
            Err(_) => return Err(broken("an event is not JSON of this protocol")),
        };
        let Some(kind) = event.r#type.map(Text::decode) else { return Err(broken("an event without a type")) };
        match (&*kind, event.index) {
            ("message_start", _) => self.start(event.message, out)?,
            ("content_block_start", Some(index)) => {
                let Some(block) = event.content_block else { return Err(broken("a block without content")) };
                self.begin(index, &block, out)?;
                // In a stream the input is `{}` and its text follows in pieces.
                if let Some(input) = block.input.map(RawValue::get).filter(|input| !blank(input)) {
                    self.blocks.input(index, input);
                }
            }
            ("content_block_delta", Some(index)) => {
                if let Some(delta) = event.delta {
                    self.delta(index, &delta, out)?;
                }
            }
            ("content_block_stop", Some(index)) => self.blocks.close(index, out),
            ("message_delta", _) => {
                if let Some(reason) = event.delta.and_then(|d| raw_text(d.stop_reason?)) {
                    self.stop = Some(reason.decode().into_owned());
                }
                self.counted(event.usage, out);
            }
            ("message_stop", _) => {
                self.blocks.finish(self.stop.as_deref().unwrap_or_default(), out)?;
                out.event(Event::End);
            }
            ("error", _) => return Err(failed(event.error)),
            _ => {}
        }
        Ok(())
    }

    fn counted(&mut self, usage: Option<WireUsage<'_>>, out: &mut dyn Sink) {
        if let Some(usage) = usage {
            if let Some(tier) = string(usage.service_tier) {
                out.event(Event::ServiceTier(tier));
            }
            self.usage.update(&usage);
            out.event(Event::Usage(self.usage.usage()));
        }
    }

    /// A block begins.
    fn begin(&mut self, index: u64, block: &WireBlock<'_>, out: &mut dyn Sink) -> Result<(), Fault> {
        match &*block.r#type.decode() {
            "text" => {
                self.blocks.open(index, Kind::Text, out)?;
                self.blocks.say(string(block.text).unwrap_or(Text::Raw("")), out)?;
                let cited: Vec<&RawValue> = block.citations.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
                if !cited.is_empty() {
                    cite(&cited, out);
                }
                Ok(())
            }
            "thinking" => {
                self.blocks.open(index, Kind::Thinking, out)?;
                self.blocks.think(string(block.thinking), string(block.signature), out);
                Ok(())
            }
            "redacted_thinking" => {
                self.blocks.open(index, Kind::Skipped, out)?;
                if let Some(Text::Raw(data)) = string(block.data) {
                    self.blocks.redacted(data);
                }
                Ok(())
            }
            "tool_use" => self.blocks.call(index, string(block.id), string(block.name).unwrap_or(Text::Raw("")), out),
            "image" => {
                self.blocks.open(index, Kind::Skipped, out)?;
                let source = block.source.and_then(|raw| serde_json::from_str::<WireSource<'_>>(raw.get()).ok());
                match source.map(|source| (source.media_type.zip(source.data), source.url)) {
                    Some((Some((media_type, data)), _)) => shown::image_data(0, media_type, data, out),
                    Some((None, Some(url))) => shown::image(0, &[url], out),
                    _ => return Err(shown::unshown("image", "")),
                }
                self.blocks.shown();
                Ok(())
            }
            "audio" | "video" | "document" => Err(shown::unshown(&block.r#type.decode(), "")),
            // The traces of tools that Anthropic runs itself are no part of the answer, but for what a search has found.
            kind => {
                self.blocks.open(index, Kind::Skipped, out)?;
                if kind == "web_search_tool_result" {
                    // Else it is an error of the search, which the model was told.
                    let found = block.content.and_then(|raw| serde_json::from_str::<Vec<WireCitation<'_>>>(raw.get()).ok());
                    let pages = found.unwrap_or_default().into_iter().filter_map(|page| Some((page.url?, string(page.title))));
                    shown::search_results(0, pages, out);
                }
                Ok(())
            }
        }
    }

    fn delta(&mut self, index: u64, delta: &WireDelta<'_>, out: &mut dyn Sink) -> Result<(), Fault> {
        if let Some(citation) = delta.citation {
            cite(&[citation], out);
        }
        match self.blocks.kind(index) {
            Some(Kind::Text) => self.blocks.say(string(delta.text).unwrap_or(Text::Raw("")), out)?,
            Some(Kind::Thinking) => self.blocks.think(string(delta.thinking), string(delta.signature), out),
            Some(Kind::Call(_) | Kind::Content) => {
                self.blocks.arguments(index, string(delta.partial_json).unwrap_or(Text::Raw("")), out);
            }
            Some(Kind::Skipped) => {}
            None => self.unopened(index, delta, out)?,
        }
        Ok(())
    }
}

impl Decoder {
    /// A delta of a block that never started. What it adds says what the block is, so that nothing has to be lost; only the
    /// arguments of a call, whose name nobody knows, cannot be told.
    fn unopened(&mut self, index: u64, delta: &WireDelta<'_>, out: &mut dyn Sink) -> Result<(), Fault> {
        if let Some(text) = string(delta.text) {
            self.blocks.open(index, Kind::Text, out)?;
            return self.blocks.say(text, out);
        }
        if delta.thinking.is_some() {
            self.blocks.open(index, Kind::Thinking, out)?;
            self.blocks.think(string(delta.thinking), string(delta.signature), out);
        }
        if string(delta.partial_json).is_some_and(|fragment| !fragment.is_empty()) {
            return Err(broken("arguments of a tool call that never began"));
        }
        Ok(())
    }

    /// A message begins. Once the answer has content, only the same message may begin again, as a proxy that reconnects
    /// repeats it: another one would be a second answer inside of the first.
    fn start(&mut self, message: Option<WireMessage<'_>>, out: &mut dyn Sink) -> Result<(), Fault> {
        let id = message.as_ref().and_then(|message| message.id).map(Text::decode);
        let other = matches!((&self.id, &id), (Some(first), Some(id)) if **first != **id);
        if other && self.blocks.has_content() {
            return Err(broken("a second message began inside of the answer"));
        }
        if let Some(id) = id {
            self.id = Some(id.into());
        }
        self.counted(message.and_then(|message| message.usage), out);
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
        for (index, block) in (0..).zip(message.content.iter().flatten()) {
            self.begin(index, block, out)?;
            if let Some(input) = block.input {
                self.blocks.arguments(index, Text::Plain(input.get()), out);
            }
            self.blocks.close(index, out);
        }
        self.counted(message.usage, out);
        self.blocks.finish(&message.stop_reason.map(Text::decode).unwrap_or_default(), out)
    }

    fn end(&mut self, _out: &mut dyn Sink) -> Result<(), Fault> {
        self.blocks.end()
    }
}

/// Writes where words come from.
fn cite(citations: &[&RawValue], out: &mut dyn Sink) {
    let mut sources = Sources::new();
    for raw in citations {
        match serde_json::from_str::<WireCitation<'_>>(raw.get()) {
            Ok(citation) => sources.source(citation.url, citation.source, string(citation.title), raw.get()),
            Err(_) => sources.source(None, None, None, raw.get()),
        }
    }
    sources.write(0, out);
}

/// Whether this is an event that the gateway does not know.
fn is_unknown(data: &str) -> bool {
    #[derive(Deserialize)]
    struct Kind<'a> {
        #[serde(borrow)]
        r#type: Text<'a>,
    }
    serde_json::from_str::<Kind<'_>>(data).is_ok_and(|kind| !EVENTS.contains(&&*kind.r#type.decode()))
}

/// The raw inside of a string; `None` for anything else.
fn string(value: Option<&RawValue>) -> Option<Text<'_>> {
    value.and_then(raw_text)
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
