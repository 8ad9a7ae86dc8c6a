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
use crate::dialect::Decoder;
use crate::dialect::shared::blocks::{self, Blocks};
use crate::frame::Frame;
use crate::json::text::Text;
use crate::llm::event::{Event, RawBlock, Sink, Source};
use crate::llm::failure::{FailureClass, Fault, ProviderError};
use crate::llm::usage::Usage;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;
use smallvec::SmallVec;

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
    /// A decoder for one answer of a model of this family. `content_tool`: the tool whose arguments are the content;
    /// `returns_thinking` where thinking has to come back with a call.
    pub(super) fn new(family: Family, content_tool: Option<&'static str>, returns_thinking: bool) -> Self {
        Self { family, blocks: Blocks::new(content_tool, returns_thinking.then(|| family.maker())), image: None, ended: false }
    }

    fn event(&mut self, kind: &str, payload: &[u8], out: &mut dyn Sink) -> Result<(), Fault> {
        match kind {
            "contentBlockStart" => {
                let event: BlockEvent<'_> = parse(payload)?;
                let start = event.start.unwrap_or_default();
                if let Some(call) = start.tool_use {
                    self.blocks.call(event.content_block_index, call.tool_use_id, call.name.unwrap_or(Text::Raw("")), out)?;
                } else if let Some(image) = start.image {
                    self.image.get_or_insert_default().push(&image)?;
                }
            }
            "contentBlockDelta" => {
                let event: BlockEvent<'_> = parse(payload)?;
                let delta = event.delta.unwrap_or_default();
                if let Some(image) = &delta.image {
                    self.image.get_or_insert_default().push(image)?;
                }
                if let Some(citation) = delta.citation {
                    cite(&[citation], out);
                }
                if let Some(text) = delta.text {
                    self.blocks.text(text, out)?;
                }
                if let Some(fragment) = delta.tool_use.and_then(|call| call.input) {
                    if self.blocks.kind(event.content_block_index).is_none() && !fragment.is_empty() {
                        return Err(Fault::Broken("arguments of a tool call that never began".into()));
                    }
                    self.blocks.arguments(event.content_block_index, fragment, out);
                }
                if let Some(reasoning) = delta.reasoning_content {
                    self.think(&reasoning, out);
                }
            }
            "contentBlockStop" => {
                let event: BlockEvent<'_> = parse(payload)?;
                self.blocks.close(event.content_block_index, out);
                self.end_image(out);
            }
            "messageStop" => {
                let event: Answer<'_> = parse(payload)?;
                self.end_image(out);
                self.blocks.finish(&event.stop_reason.map(Text::decode).unwrap_or_default(), None, out)?;
            }
            "metadata" => {
                let event: Answer<'_> = parse(payload)?;
                served(event.service_tier, event.usage, self.family, out);
                if self.blocks.done() {
                    self.ended = true;
                    out.event(Event::End);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The block of an image, where one is open, has ended.
    fn end_image(&mut self, out: &mut dyn Sink) {
        if let Some(OpenImage { format, bytes }) = self.image.take() {
            let data = STANDARD.encode(bytes);
            self.image(format.as_deref().map(Text::Plain), Some(Text::Plain(&data)), out);
        }
    }

    fn image(&mut self, format: Option<Text<'_>>, data: Option<Text<'_>>, out: &mut dyn Sink) {
        match format.zip(data.filter(|data| !data.is_empty())) {
            Some((format, data)) => {
                let media_type = format!("image/{}", format.decode());
                self.blocks.image(Source::Base64 { media_type: Text::Plain(&media_type), data }, out);
            }
            None => raw("image", "", true, out),
        }
    }

    fn think(&mut self, reasoning: &Reasoning<'_>, out: &mut dyn Sink) {
        self.blocks.think(reasoning.text, reasoning.signature, out);
        if let Some(data) = reasoning.redacted_content {
            let inner = STANDARD.decode(data.decode().as_bytes()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            // What is kept becomes JSON again, so only what needs no escapes is kept.
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=' | b'-' | b'_');
            if let Some(inner) = inner.filter(|inner| inner.bytes().all(plain)) {
                self.blocks.redacted(&inner, out);
            }
        }
    }
}

impl Decoder for Converse {
    fn frame(&mut self, frame: Frame<'_>, out: &mut dyn Sink) -> Result<(), Fault> {
        match frame {
            _ if self.ended => Ok(()),
            Frame::Aws { message_type: "event", kind, payload, .. } => self.event(kind, payload, out),
            _ => Err(error::failure(frame).unwrap_or(Fault::Broken("a frame that is neither an event nor an exception".into()))),
        }
    }

    fn whole(&mut self, body: &[u8], out: &mut dyn Sink) -> Result<(), Fault> {
        let answer: Answer<'_> = parse(body)?;
        let Some(message) = answer.output.and_then(|output| output.message) else {
            return Err(Fault::Broken("the answer holds no message".into()));
        };
        for (block, content) in (0..).zip(message.content.unwrap_or_default()) {
            if let Some(text) = content.text {
                self.blocks.text(text, out)?;
            }
            if let Some(call) = content.tool_use {
                self.blocks.call(block, call.tool_use_id, call.name.unwrap_or(Text::Raw("")), out)?;
                self.blocks.arguments(block, Text::Plain(call.input.map_or("", RawValue::get)), out);
            }
            if let Some(reasoning) = content.reasoning_content {
                let text = reasoning.reasoning_text.unwrap_or_default();
                self.think(&Reasoning { redacted_content: reasoning.redacted_content, ..text }, out);
            }
            if let Some(cited) = content.citations_content {
                for text in cited.content.into_iter().flatten().filter_map(|part| part.text) {
                    self.blocks.text(text, out)?;
                }
                let citations = cited.citations.unwrap_or_default();
                if !citations.is_empty() {
                    cite(&citations, out);
                }
            }
            if let Some(image) = content.image {
                failed(&image)?;
                self.image(image.format, image.source.and_then(|source| source.bytes), out);
            }
            let others = [content.video, content.audio, content.document, content.search_result];
            for (name, json) in ["video", "audio", "document", "searchResult"].into_iter().zip(others) {
                json.into_iter().for_each(|json| raw(name, json.get(), true, out));
            }
            self.blocks.close(block, out);
        }
        served(answer.service_tier, answer.usage, self.family, out);
        self.blocks.finish(&answer.stop_reason.map(Text::decode).unwrap_or_default(), None, out)
    }

    fn end(&mut self, _out: &mut dyn Sink) -> Result<(), Fault> {
        self.blocks.end()
    }
}

fn parse<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, Fault> {
    serde_json::from_slice(json).map_err(|_| Fault::Broken("the answer is not JSON of this protocol".into()))
}

fn raw(name: &str, json: &str, essential: bool, out: &mut dyn Sink) {
    out.event(Event::Raw { choice: 0, block: RawBlock { name, media_type: "", json, essential } });
}

/// Emits the sources of a text.
fn cite(list: &[&RawValue], out: &mut dyn Sink) {
    let list: SmallVec<[_; 1]> = list.iter().map(|raw| citation(raw)).collect();
    out.event(Event::Citations { choice: 0, list: &list });
}

fn citation(raw: &RawValue) -> crate::llm::event::Citation<'_> {
    match serde_json::from_str::<Citation<'_>>(raw.get()) {
        Ok(one) => blocks::citation(one.location.and_then(|place| place.web?.url), one.source, one.title, raw.get()),
        Err(_) => blocks::citation(None, None, None, raw.get()),
    }
}

/// The failure of a model that could not make its image.
fn failed(image: &Image<'_>) -> Result<(), Fault> {
    let Some(error) = &image.error else { return Ok(()) };
    let message = error.message.map_or_else(|| "the model made no image".into(), Text::decode).into_owned();
    Err(Fault::Provider(ProviderError::new(FailureClass::Server, message)))
}

/// The image of a stream that is being read.
#[derive(Default)]
struct OpenImage {
    format: Option<String>,
    bytes: Vec<u8>,
}

impl OpenImage {
    /// Takes its beginning, or a piece of it, which is in base64 of its own.
    ///
    /// # Errors
    /// The provider could not make it, or it is too long or not base64.
    fn push(&mut self, image: &Image<'_>) -> Result<(), Fault> {
        failed(image)?;
        if let Some(format) = image.format {
            self.format = Some(format.decode().into_owned());
        }
        let Some(source) = &image.source else { return Ok(()) };
        let piece = source.bytes.and_then(|data| STANDARD.decode(data.decode().as_bytes()).ok());
        let piece = piece.ok_or(Fault::Broken("a piece of an image is not base64".into()))?;
        if self.bytes.len() + piece.len() > MAX_IMAGE {
            return Err(Fault::Broken("an image is too long".into()));
        }
        self.bytes.extend_from_slice(&piece);
        Ok(())
    }
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

/// Longest image of a stream, in bytes.
const MAX_IMAGE: usize = 16 << 20;

/// `contentBlockStart`, `contentBlockDelta` or `contentBlockStop`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound = "'de: 'a")]
struct BlockEvent<'a> {
    #[serde(default)]
    content_block_index: u64,
    start: Option<Start<'a>>,
    delta: Option<Delta<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", bound = "'de: 'a")]
struct Start<'a> {
    tool_use: Option<WireCall<'a>>,
    image: Option<Image<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound = "'de: 'a")]
struct WireCall<'a> {
    tool_use_id: Option<Text<'a>>,
    name: Option<Text<'a>>,
    /// Only in a whole answer.
    input: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", bound = "'de: 'a")]
struct Delta<'a> {
    text: Option<Text<'a>>,
    tool_use: Option<Fragment<'a>>,
    reasoning_content: Option<Reasoning<'a>>,
    citation: Option<&'a RawValue>,
    image: Option<Image<'a>>,
}

#[derive(Deserialize)]
#[serde(bound = "'de: 'a")]
struct Fragment<'a> {
    input: Option<Text<'a>>,
}

/// A delta's reasoning; in a whole answer, `reasoningText`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", bound = "'de: 'a")]
struct Reasoning<'a> {
    text: Option<Text<'a>>,
    signature: Option<Text<'a>>,
    redacted_content: Option<Text<'a>>,
}

/// The tier that served the request.
#[derive(Deserialize)]
#[serde(bound = "'de: 'a")]
struct Tier<'a> {
    r#type: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireUsage {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    total_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_write_input_tokens: Option<u64>,
    cache_details: Option<Vec<Written>>,
}

/// What was written to the cache, by how long it is kept: `5m` or `1h`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    #[serde(default)]
    input_tokens: u64,
    #[serde(default)]
    ttl: String,
}

impl WireUsage {
    /// `inputTokens` leaves out what went through the cache, `totalTokens` does not. `cache_in_input`: the model's own count
    /// of its input includes the cache, so that the service's total has it twice.
    fn usage(&self, cache_in_input: bool) -> Usage {
        let (cached, cache_write) = (self.cache_read_input_tokens.unwrap_or_default(), self.cache_write_input_tokens.unwrap_or_default());
        let completion = self.output_tokens.unwrap_or_default();
        let sum = self.input_tokens.unwrap_or_default().saturating_add(cached).saturating_add(cache_write);
        let prompt = match self.total_tokens {
            _ if cache_in_input && self.input_tokens.is_some() => self.input_tokens.unwrap_or_default(),
            Some(total) if total > 0 => total.saturating_sub(completion),
            _ => sum,
        };
        let hour = self.cache_details.iter().flatten().filter(|written| written.ttl == "1h").map(|written| written.input_tokens);
        Usage { prompt, completion, cached, cache_write, cache_write_hour: hour.fold(0, u64::saturating_add), ..Usage::default() }
    }
}

/// A whole answer, or a part of a stream: `messageStop` has the reason, `metadata` the usage and the tier.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound = "'de: 'a")]
struct Answer<'a> {
    output: Option<Output<'a>>,
    stop_reason: Option<Text<'a>>,
    usage: Option<WireUsage>,
    service_tier: Option<Tier<'a>>,
}

#[derive(Deserialize)]
#[serde(bound = "'de: 'a")]
struct Output<'a> {
    message: Option<WireMessage<'a>>,
}

#[derive(Deserialize)]
#[serde(bound = "'de: 'a")]
struct WireMessage<'a> {
    content: Option<Vec<Block<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound = "'de: 'a")]
struct Block<'a> {
    text: Option<Text<'a>>,
    tool_use: Option<WireCall<'a>>,
    reasoning_content: Option<WholeReasoning<'a>>,
    citations_content: Option<Cited<'a>>,
    image: Option<Image<'a>>,
    video: Option<&'a RawValue>,
    audio: Option<&'a RawValue>,
    document: Option<&'a RawValue>,
    search_result: Option<&'a RawValue>,
}

/// Texts that name their sources.
#[derive(Deserialize)]
#[serde(bound = "'de: 'a")]
struct Cited<'a> {
    content: Option<Vec<CitedText<'a>>>,
    citations: Option<Vec<&'a RawValue>>,
}

/// Where words come from; `source` is a link where what was cited is a search result with one.
#[derive(Deserialize)]
#[serde(bound = "'de: 'a")]
struct Citation<'a> {
    title: Option<Text<'a>>,
    source: Option<Text<'a>>,
    location: Option<Location<'a>>,
}

#[derive(Deserialize)]
#[serde(bound = "'de: 'a")]
struct Location<'a> {
    web: Option<Web<'a>>,
}

#[derive(Deserialize)]
#[serde(bound = "'de: 'a")]
struct Web<'a> {
    url: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(bound = "'de: 'a")]
struct CitedText<'a> {
    text: Option<Text<'a>>,
}

/// In a stream the format comes first and the bytes follow in pieces, each in base64 of its own.
#[derive(Deserialize)]
#[serde(bound = "'de: 'a")]
struct Image<'a> {
    /// `png`, `jpeg`, `gif` or `webp`.
    format: Option<Text<'a>>,
    source: Option<ImageSource<'a>>,
    /// Why there is none.
    error: Option<ImageError<'a>>,
}

#[derive(Deserialize)]
#[serde(bound = "'de: 'a")]
struct ImageError<'a> {
    message: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(bound = "'de: 'a")]
struct ImageSource<'a> {
    bytes: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound = "'de: 'a")]
struct WholeReasoning<'a> {
    reasoning_text: Option<Reasoning<'a>>,
    redacted_content: Option<Text<'a>>,
}
