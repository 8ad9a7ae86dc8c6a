//! Reads answers of the Messages API, streamed and whole.
//!
//! ```text
//! message_start (block_start (block_delta)* block_stop)* message_delta message_stop
//! ```
//!
//! `ping` and unknown events may stand anywhere, an `error` event ends the answer, and an end without `message_stop` is
//! a broken answer. A whole answer is the same blocks, each complete at once.
//! <https://docs.anthropic.com/en/api/messages-streaming>

use super::error::WireError;
use crate::dialect;
use crate::dialect::bedrock::error::failure;
use crate::dialect::shared::blocks::{Blocks, Kind, citation};
use crate::dialect::shared::thinking_state::CLAUDE;
use crate::frame::Frame;
use crate::json::text::{Text, raw_text};
use crate::json::walk;
use crate::llm::event::{Citation, Event, Page, RawBlock, Sink, Source};
use crate::llm::failure::{FailureClass, Fault, ProviderError};
use crate::llm::finish::Meaning;
use crate::llm::usage::Usage;
use serde::Deserialize;
use serde_json::value::RawValue;
use smallvec::SmallVec;
use std::borrow::Cow;

/// Reads one answer.
pub struct Decoder {
    /// The answer passes as it comes, and is only read for what the gateway has to know of it: what is unknown in it is the
    /// client's to read and no failure.
    is_native: bool,
    blocks: Blocks,
    /// The message's id.
    id: Option<Box<str>>,
    usage: WireUsage<'static>,
    stop: Option<String>,
    /// The stop sequence, or the category of the refusal.
    stop_detail: Option<String>,
}

impl Decoder {
    /// A decoder for one answer. `content_tool`: the tool whose call was forced in order to get the content as its
    /// arguments; `returns_thinking` where thinking has to come back with a call.
    pub fn new(content_tool: Option<&'static str>, returns_thinking: bool) -> Self {
        let blocks = Blocks::new(content_tool, returns_thinking.then_some(CLAUDE));
        Self { is_native: false, blocks, id: None, usage: WireUsage::default(), stop: None, stop_detail: None }
    }

    /// A decoder for an answer that passes as it comes.
    pub fn native() -> Self {
        Self { is_native: true, ..Self::new(None, false) }
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
            ("message_start", _) => self.start(event.message.as_deref(), out)?,
            ("content_block_start", Some(index)) => {
                let Some(block) = event.content_block else { return Err(broken("a block without content")) };
                self.begin(index, &block, || raw_event(data), out)?;
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
                if let Some(delta) = event.delta
                    && let Some(reason) = raw_text(delta.stop_reason)
                {
                    self.stop = Some(reason.decode().into_owned());
                    self.stop_detail = detail(delta.stop_sequence, delta.stop_details);
                }
                self.counted(event.usage.as_deref(), out);
            }
            ("message_stop", _) => {
                let (stop, detail) = (self.stop.take().unwrap_or_default(), self.stop_detail.take());
                self.finish(&stop, detail.as_deref(), out)?;
                out.event(Event::End);
            }
            ("error", _) => return Err(failed(event.error.as_deref())),
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self, word: &str, detail: Option<&str>, out: &mut dyn Sink) -> Result<(), Fault> {
        let is_unknown = self.is_native && !word.is_empty() && !matches!(Meaning::of(word), Meaning::Complete(_));
        self.blocks.finish(if is_unknown { END } else { word }, detail, out)
    }

    fn counted(&mut self, usage: Option<&WireUsage<'_>>, out: &mut dyn Sink) {
        if let Some(usage) = usage {
            if let Some(tier) = raw_text(usage.service_tier) {
                out.event(Event::ServiceTier(tier));
            }
            self.usage.update(usage);
            out.event(Event::Usage(self.usage.usage()));
        }
    }

    /// A block begins. `raw` finds all of it.
    fn begin<'d>(
        &mut self,
        index: u64,
        block: &WireBlock<'_>,
        raw: impl FnOnce() -> Option<&'d str>,
        out: &mut dyn Sink,
    ) -> Result<(), Fault> {
        let name = block.r#type.decode();
        let pass = |out: &mut dyn Sink, essential| {
            let block = RawBlock { name: &name, media_type: "", json: raw().unwrap_or_default(), essential };
            out.event(Event::Raw { choice: 0, block });
        };
        match &*name {
            "text" => {
                self.blocks.open(index, Kind::Text, out)?;
                self.blocks.text(raw_text(block.text).unwrap_or(Text::Raw("")), out)?;
                let cited: Vec<&RawValue> = block.citations.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
                if !cited.is_empty() {
                    cite(&cited, out);
                }
            }
            "thinking" => {
                self.blocks.open(index, Kind::Thinking, out)?;
                self.blocks.think(raw_text(block.thinking), raw_text(block.signature), out);
            }
            "redacted_thinking" => {
                self.blocks.open(index, Kind::Whole, out)?;
                if let Some(Text::Raw(data)) = raw_text(block.data) {
                    self.blocks.redacted(data, out);
                }
            }
            "tool_use" => self.blocks.call(index, raw_text(block.id), raw_text(block.name).unwrap_or(Text::Raw("")), out)?,
            "image" => {
                self.blocks.open(index, Kind::Whole, out)?;
                let source = block.source.and_then(|raw| serde_json::from_str::<WireSource<'_>>(raw.get()).ok());
                match source.map(|source| (source.media_type.zip(source.data), source.url)) {
                    Some((Some((media_type, data)), _)) => self.blocks.image(Source::Base64 { media_type, data }, out),
                    Some((None, Some(url))) => self.blocks.image(Source::Url(url), out),
                    _ => pass(out, true),
                }
            }
            "audio" | "video" | "document" => {
                self.blocks.open(index, Kind::Raw, out)?;
                pass(out, true);
            }
            // The traces of tools that Anthropic runs itself.
            kind => {
                self.blocks.open(index, Kind::Raw, out)?;
                pass(out, self.is_native && kind == COMPACTION);
                if kind == "web_search_tool_result" {
                    // Else it is an error of the search, which only the model reads.
                    let found = block.content.and_then(|raw| serde_json::from_str::<Vec<WireCitation<'_>>>(raw.get()).ok());
                    let pages = found.iter().flatten().filter_map(|page| Some(Page { url: page.url?, title: raw_text(page.title) }));
                    let pages: Vec<Page<'_>> = pages.collect();
                    out.event(Event::SearchResults { choice: 0, pages: &pages });
                }
            }
        }
        Ok(())
    }

    fn delta(&mut self, index: u64, delta: &WireDelta<'_>, out: &mut dyn Sink) -> Result<(), Fault> {
        if let Some(citation) = delta.citation {
            cite(&[citation], out);
        }
        match self.blocks.kind(index) {
            Some(Kind::Text) => self.blocks.text(raw_text(delta.text).unwrap_or(Text::Raw("")), out)?,
            Some(Kind::Thinking) => self.blocks.think(raw_text(delta.thinking), raw_text(delta.signature), out),
            Some(Kind::Call(_) | Kind::Content | Kind::Raw) => {
                self.blocks.arguments(index, raw_text(delta.partial_json).unwrap_or(Text::Raw("")), out);
            }
            Some(Kind::Whole) => {}
            None => self.unopened(index, delta, out)?,
        }
        Ok(())
    }

    /// A delta of a block that never started. What it adds shows what the block is, so that nothing is lost; only the
    /// arguments of a call, whose name is unknown, are an error.
    fn unopened(&mut self, index: u64, delta: &WireDelta<'_>, out: &mut dyn Sink) -> Result<(), Fault> {
        if let Some(text) = raw_text(delta.text) {
            self.blocks.open(index, Kind::Text, out)?;
            return self.blocks.text(text, out);
        }
        if delta.thinking.is_some() {
            self.blocks.open(index, Kind::Thinking, out)?;
            self.blocks.think(raw_text(delta.thinking), raw_text(delta.signature), out);
        }
        if raw_text(delta.partial_json).is_some_and(|fragment| !fragment.is_empty()) {
            return Err(broken("arguments of a tool call that never began"));
        }
        Ok(())
    }

    /// A message begins. Once the answer has content, only the same message may begin again, as a proxy that reconnects
    /// repeats it: another one would be a second answer inside of the first.
    fn start(&mut self, message: Option<&WireMessage<'_>>, out: &mut dyn Sink) -> Result<(), Fault> {
        let id = message.and_then(|message| message.id).map(Text::decode);
        let other = matches!((&self.id, &id), (Some(first), Some(id)) if **first != **id);
        if other && self.blocks.begun() {
            return Err(broken("a second message began inside of the answer"));
        }
        if let Some(id) = id {
            self.id = Some(id.into());
        }
        self.counted(message.and_then(|message| message.usage.as_ref()), out);
        Ok(())
    }
}

impl dialect::Decoder for Decoder {
    fn is_native(&self) -> bool {
        self.is_native
    }

    fn frame(&mut self, frame: Frame<'_>, out: &mut dyn Sink) -> Result<(), Fault> {
        match frame {
            Frame::Sse { data: "", .. } => Ok(()),
            Frame::Sse { data, .. } => self.event(data, out),
            Frame::Aws { .. } => failure(frame).map_or(Ok(()), Err), // an event that is not known yet is skipped
        }
    }

    fn whole(&mut self, body: &[u8], out: &mut dyn Sink) -> Result<(), Fault> {
        let message: WireMessage<'_> = serde_json::from_slice(body).map_err(|_| broken("the answer is not JSON of this protocol"))?;
        match &*message.r#type.map(Text::decode).unwrap_or_default() {
            "message" => {}
            "error" => return Err(failed(message.error.as_ref())),
            _ => return Err(broken("the answer is not a message")),
        }
        for (index, block) in (0..).zip(message.content.iter().flatten()) {
            self.begin(index, block, || raw_block(body, index), out)?;
            if let Some(input) = block.input.filter(|_| self.blocks.kind(index) != Some(Kind::Raw)) {
                self.blocks.arguments(index, Text::Plain(input.get()), out);
            }
            self.blocks.close(index, out);
        }
        self.counted(message.usage.as_ref(), out);
        let detail = detail(message.stop_sequence, message.stop_details);
        self.finish(&message.stop_reason.map(Text::decode).unwrap_or_default(), detail.as_deref(), out)
    }

    fn end(&mut self, _out: &mut dyn Sink) -> Result<(), Fault> {
        self.blocks.end()
    }
}

/// Emits the sources of a text.
fn cite(list: &[&RawValue], out: &mut dyn Sink) {
    let list: SmallVec<[Citation<'_>; 1]> = list.iter().map(|raw| read_citation(raw)).collect();
    out.event(Event::Citations { choice: 0, list: &list });
}

fn read_citation(raw: &RawValue) -> Citation<'_> {
    match serde_json::from_str::<WireCitation<'_>>(raw.get()) {
        Ok(one) => citation(one.url, one.source, raw_text(one.title), raw.get()),
        Err(_) => citation(None, None, None, raw.get()),
    }
}

/// The block of an event, all of it.
fn raw_event(data: &str) -> Option<&str> {
    walk::member(data, "content_block").ok()?
}

/// A block of a message, all of it.
fn raw_block(message: &[u8], index: u64) -> Option<&str> {
    let content = walk::member(str::from_utf8(message).ok()?, "content").ok()??;
    walk::inner_elements(content).ok()?.rest().ok()?.get(index as usize).copied()
}

/// What the stop reason leaves open.
fn detail(stop_sequence: Option<&RawValue>, stop_details: Option<&RawValue>) -> Option<String> {
    let category = || serde_json::from_str::<WireStop<'_>>(stop_details?.get()).ok()?.category;
    raw_text(stop_sequence).or_else(category).map(|text| text.decode().into_owned())
}

/// Whether this is an unknown event.
fn is_unknown(data: &str) -> bool {
    #[derive(Deserialize)]
    struct Kind<'a> {
        #[serde(borrow)]
        r#type: Text<'a>,
    }
    serde_json::from_str::<Kind<'_>>(data).is_ok_and(|kind| !EVENTS.contains(&&*kind.r#type.decode()))
}

/// Whether a raw object has no members.
fn blank(json: &str) -> bool {
    json.bytes().all(|b| matches!(b, b'{' | b'}') || b.is_ascii_whitespace())
}

fn broken(what: &'static str) -> Fault {
    Fault::Broken(Cow::Borrowed(what))
}

fn failed(error: Option<&super::error::WireError<'_>>) -> Fault {
    Fault::Provider(match error {
        Some(error) => error.read(EVENT_STATUS, None),
        None => ProviderError::new(FailureClass::Server, "the provider failed without saying why"),
    })
}

/// Stands for the stop reasons that nobody knows.
const END: &str = "end_turn";
/// A block that is an answer by itself: the summary of the conversation so far.
/// <https://platform.claude.com/docs/en/build-with-claude/compaction>
const COMPACTION: &str = "compaction";
/// The status that stands for an error event, which has none of its own; only used where its type is unknown.
const EVENT_STATUS: u16 = 500;
/// The events that mean something; every other one is skipped, whatever it holds.
const EVENTS: [&str; 7] =
    ["message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta", "message_stop", "error"];

/// One event of a stream. Boxed is what a delta does not have, so that most events are small.
#[derive(Deserialize)]
#[serde(bound = "'de: 'a")]
struct WireEvent<'a> {
    r#type: Option<Text<'a>>,
    index: Option<u64>,
    message: Option<Box<WireMessage<'a>>>,
    content_block: Option<Box<WireBlock<'a>>>,
    delta: Option<WireDelta<'a>>,
    usage: Option<Box<WireUsage<'a>>>,
    error: Option<Box<WireError<'a>>>,
}

/// An answer.
#[derive(Deserialize)]
#[serde(bound = "'de: 'a")]
struct WireMessage<'a> {
    id: Option<Text<'a>>,
    r#type: Option<Text<'a>>,
    content: Option<Vec<WireBlock<'a>>>,
    stop_reason: Option<Text<'a>>,
    stop_sequence: Option<&'a RawValue>,
    stop_details: Option<&'a RawValue>,
    usage: Option<WireUsage<'a>>,
    error: Option<WireError<'a>>,
}

/// A content block, whole or (in a stream) at its beginning.
#[derive(Deserialize)]
struct WireBlock<'a> {
    #[serde(borrow)]
    r#type: Text<'a>,
    text: Option<&'a RawValue>,
    thinking: Option<&'a RawValue>,
    signature: Option<&'a RawValue>,
    data: Option<&'a RawValue>,
    id: Option<&'a RawValue>,
    name: Option<&'a RawValue>,
    input: Option<&'a RawValue>,
    /// A text's sources.
    citations: Option<&'a RawValue>,
    /// An image's bytes or address.
    source: Option<&'a RawValue>,
    /// The result of a tool of the provider's own.
    content: Option<&'a RawValue>,
}

/// Where words come from. Those of the web have a `url`, those of search results a `source`; those of documents neither.
#[derive(Deserialize)]
#[serde(bound = "'de: 'a")]
struct WireCitation<'a> {
    url: Option<Text<'a>>,
    source: Option<Text<'a>>,
    title: Option<&'a RawValue>,
}

/// An image: `base64` with a media type, or `url`.
#[derive(Deserialize)]
#[serde(bound = "'de: 'a")]
struct WireSource<'a> {
    media_type: Option<Text<'a>>,
    data: Option<Text<'a>>,
    url: Option<Text<'a>>,
}

/// What a delta adds: to a block, or (the stop reason) to the message. Deltas of other blocks have members of the same
/// names and other types, so that only what is used is looked at.
#[derive(Deserialize)]
#[serde(bound = "'de: 'a")]
struct WireDelta<'a> {
    text: Option<&'a RawValue>,
    thinking: Option<&'a RawValue>,
    signature: Option<&'a RawValue>,
    partial_json: Option<&'a RawValue>,
    citation: Option<&'a RawValue>,
    stop_reason: Option<&'a RawValue>,
    stop_sequence: Option<&'a RawValue>,
    stop_details: Option<&'a RawValue>,
}

/// What a refusal is about.
#[derive(Deserialize)]
#[serde(bound = "'de: 'a")]
struct WireStop<'a> {
    category: Option<Text<'a>>,
}

/// Tokens so far, and the tier that serves the request. `input_tokens` leaves out what went through the cache.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(bound = "'de: 'a")]
struct WireUsage<'a> {
    input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_creation: Option<WireCacheCreation>,
    cache_read_input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    output_tokens_details: Option<WireDetails>,
    /// `standard`, `priority` or `batch`.
    service_tier: Option<&'a RawValue>,
}

/// What was written to the cache, by how long it is kept.
#[derive(Clone, Copy, Default, Deserialize)]
struct WireCacheCreation {
    ephemeral_1h_input_tokens: Option<u64>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
struct WireDetails {
    thinking_tokens: Option<u64>,
}

impl WireUsage<'_> {
    /// Takes over a later count, as [`Usage::and_later`] does; one that is left out stands.
    fn update(&mut self, later: &WireUsage<'_>) {
        let anew = |before: Option<u64>, later: Option<u64>| later.filter(|count| *count > 0).or(before).or(later);
        self.input_tokens = anew(self.input_tokens, later.input_tokens);
        self.cache_creation_input_tokens = anew(self.cache_creation_input_tokens, later.cache_creation_input_tokens);
        self.cache_read_input_tokens = anew(self.cache_read_input_tokens, later.cache_read_input_tokens);
        self.cache_creation = later.cache_creation.or(self.cache_creation);
        self.output_tokens = later.output_tokens.max(self.output_tokens);
        self.output_tokens_details = later.output_tokens_details.max(self.output_tokens_details);
    }

    /// In the form that is the same for all providers.
    fn usage(&self) -> Usage {
        let cached = self.cache_read_input_tokens.unwrap_or_default();
        let cache_write = self.cache_creation_input_tokens.unwrap_or_default();
        Usage {
            prompt: self.input_tokens.unwrap_or_default().saturating_add(cached).saturating_add(cache_write),
            completion: self.output_tokens.unwrap_or_default(),
            cached,
            cache_write,
            cache_write_hour: self.cache_creation.and_then(|written| written.ephemeral_1h_input_tokens).unwrap_or_default(),
            reasoning: self.output_tokens_details.and_then(|d| d.thinking_tokens).unwrap_or_default(),
            ..Usage::default()
        }
    }
}
