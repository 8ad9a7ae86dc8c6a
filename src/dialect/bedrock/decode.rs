//! Reads answers of Converse, streamed and whole.
//!
//! ```text
//! messageStart (contentBlockStart? (contentBlockDelta)* contentBlockStop)* messageStop metadata
//! ```
//!
//! Only tool calls have a `contentBlockStart`. The answer is complete with `messageStop`; `metadata` with the usage is
//! the last that follows. Unknown events and members, the padding `p` among them, are skipped.

use super::error;
use super::family::Family;
use super::shown::{self, OpenImage};
use super::wire::{Answer, BlockDelta, BlockStart, BlockStop, MessageStop, Metadata, Reasoning, Tier, WireUsage};
use crate::dialect::Decoder;
use crate::dialect::anthropic::blocks::Blocks;
use crate::dialect::shown::unshown;
use crate::frame::Frame;
use crate::json::text::Text;
use crate::llm::event::{Event, Sink};
use crate::llm::failure::Fault;
use crate::llm::state::Seal;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Reads one answer.
pub(super) struct Converse {
    blocks: Blocks,
    family: Family,
    /// The image whose block is open.
    image: Option<OpenImage>,
    /// What follows the answer has been read too.
    ended: bool,
}

impl Converse {
    /// A decoder for one answer of a model of this family. `content_tool`: the tool whose arguments are the content; `seal` where thinking is to be
    /// kept for the next turn.
    pub(super) fn new(family: Family, content_tool: Option<&'static str>, seal: Option<Seal>) -> Self {
        Self { family, blocks: Blocks::new(content_tool, seal), image: None, ended: false }
    }

    fn event(&mut self, kind: &str, payload: &[u8], out: &mut dyn Sink) -> Result<(), Fault> {
        match kind {
            "contentBlockStart" => {
                let event: BlockStart<'_> = parse(payload)?;
                let start = event.start.unwrap_or_default();
                if let Some(call) = start.tool_use {
                    self.blocks.call(event.block, call.id, call.name.unwrap_or(Text::Raw("")), out)?;
                } else if let Some(image) = start.image {
                    self.image.get_or_insert_default().push(&image)?;
                }
            }
            "contentBlockDelta" => {
                let event: BlockDelta<'_> = parse(payload)?;
                let delta = event.delta.unwrap_or_default();
                if let Some(image) = &delta.image {
                    self.image.get_or_insert_default().push(image)?;
                }
                if let Some(citation) = delta.citation {
                    shown::citations(&[citation], out);
                }
                if let Some(text) = delta.text {
                    self.blocks.say(text, out)?;
                }
                if let Some(fragment) = delta.tool_use.and_then(|call| call.input) {
                    if self.blocks.kind(event.block).is_none() && !fragment.is_empty() {
                        return Err(Fault::Broken("arguments of a tool call that never began".into()));
                    }
                    self.blocks.arguments(event.block, fragment, out);
                }
                if let Some(reasoning) = delta.reasoning {
                    self.think(&reasoning, out);
                }
            }
            "contentBlockStop" => {
                let event: BlockStop = parse(payload)?;
                self.blocks.close(event.block, out);
                self.show(out)?;
            }
            "messageStop" => {
                let event: MessageStop<'_> = parse(payload)?;
                self.show(out)?;
                self.blocks.finish(&event.reason.map(Text::decode).unwrap_or_default(), out)?;
            }
            "metadata" => {
                let event: Metadata<'_> = parse(payload)?;
                served(event.tier, event.usage, self.family, out);
                if self.blocks.done() {
                    self.ended = true;
                    out.event(Event::End);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Writes the image whose block has ended.
    fn show(&mut self, out: &mut dyn Sink) -> Result<(), Fault> {
        let Some(image) = self.image.take() else { return Ok(()) };
        self.blocks.shown();
        image.finish(out)
    }

    fn think(&mut self, reasoning: &Reasoning<'_>, out: &mut dyn Sink) {
        self.blocks.think(reasoning.text, reasoning.signature, out);
        if let Some(data) = reasoning.redacted {
            let inner = STANDARD.decode(data.decode().as_bytes()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            // What is kept becomes JSON again, so only what needs no escapes is kept.
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=' | b'-' | b'_');
            if let Some(inner) = inner.filter(|inner| inner.bytes().all(plain)) {
                self.blocks.redacted(&inner);
            }
        }
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
                self.blocks.say(text, out)?;
            }
            if let Some(call) = content.tool_use {
                self.blocks.call(block, call.id, call.name.unwrap_or(Text::Raw("")), out)?;
                self.blocks.arguments(block, Text::Plain(call.input.map_or("", RawValue::get)), out);
            }
            if let Some(reasoning) = content.reasoning {
                let text = reasoning.reasoning_text.unwrap_or_default();
                self.think(&Reasoning { redacted: reasoning.redacted, ..text }, out);
            }
            if let Some(cited) = content.cited {
                for text in cited.content.into_iter().flatten().filter_map(|part| part.text) {
                    self.blocks.say(text, out)?;
                }
                shown::citations(&cited.citations.unwrap_or_default(), out);
            }
            if let Some(image) = content.image {
                self.blocks.shown();
                shown::image(&image, out)?;
            }
            let others = [content.video, content.audio, content.document, content.search_result];
            if let Some((name, _)) = ["video", "audio", "document", "searchResult"].iter().zip(others).find(|(_, other)| other.is_some()) {
                return Err(unshown(name, ""));
            }
            self.blocks.close(block, out);
        }
        served(answer.tier, answer.usage, self.family, out);
        self.blocks.finish(&answer.reason.map(Text::decode).unwrap_or_default(), out)
    }

    fn end(&mut self, _out: &mut dyn Sink) -> Result<(), Fault> {
        self.blocks.end()
    }
}

fn parse<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, Fault> {
    serde_json::from_slice(json).map_err(|_| Fault::Broken("the answer is not JSON of this protocol".into()))
}

/// How the answer was served: in which tier, and what it used.
fn served(tier: Option<Tier<'_>>, usage: Option<WireUsage>, family: Family, out: &mut dyn Sink) {
    if let Some(tier) = tier.and_then(|tier| tier.r#type) {
        out.event(Event::ServiceTier(tier));
    }
    if let Some(usage) = usage {
        out.event(Event::Usage(usage.usage(family.takes().cache_in_input)));
    }
}
