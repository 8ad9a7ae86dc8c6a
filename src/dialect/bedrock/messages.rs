//! The conversation as Converse wants it. Pictures and documents go through as the base64 text that the client sent, or
//! as an address in S3, which the service reads with the rights of the gateway's own credentials.

use super::family::Family;
use crate::dialect::shared::media::{self, Format, Place};
use crate::dialect::shared::toolbox::{ANY_OBJECT, Call, Spec};
use crate::dialect::shared::turns::{Block, Conversation, Turn};
use crate::error::ApiError;
use crate::json::text::Text;
use crate::json::write::Writer;
use crate::llm::constraint::Schema;
use crate::llm::media::Base64;
use crate::llm::request::{CacheMark, Content, Request, Role};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// Longest document name, by the service's own rule.
const MAX_NAME: usize = 200;
/// Added to a document without text: the service requires one.
const BESIDE_DOCUMENT: &str = "See the attached document.";
/// The result of a call that gave nothing: some models refuse a result without content, all of them a blank text, and the service
/// a failed result without content: "The content field at … toolResult cannot be empty when status value is error."
const NO_OUTPUT: &str = "(no output)";

/// What Converse takes besides texts.
pub(super) enum Media<'a> {
    Image(Format, Source<'a>),
    /// With its name.
    Document(Format, Source<'a>, String),
    /// Data and format.
    Audio(Source<'a>, Text<'a>),
}

/// Where the bytes are.
pub(super) enum Source<'a> {
    Bytes(Base64<'a>),
    S3(Text<'a>),
}

/// Reads the messages.
///
/// # Errors
/// A 400 that names the message or the part that the protocol cannot carry.
pub(super) fn read<'a>(request: &Request<'a>, family: Family) -> Result<Conversation<'a, Media<'a>>, ApiError> {
    let mut conversation = Conversation::read(request, family.maker(), media)?;
    // "A conversation must start with a user message."
    if conversation.turns.first().is_some_and(|turn| turn.assistant) {
        conversation.turns.insert(0, Turn::opening());
    }
    Ok(conversation)
}

fn media<'a>(role: Role, content: &Content<'a>) -> Result<Media<'a>, &'static str> {
    if let (Content::Audio { data, format }, Role::User) = (content, role) {
        return Ok(Media::Audio(Source::Bytes(Base64::read(*data)?), *format));
    }
    let found = media::Media::of(content)?;
    let filename = found.as_ref().and_then(|found| found.filename);
    let (format, source) = match found.map(|found| found.place) {
        // The service reads texts as UTF-8.
        Some(Place::Here(format, data)) if format.is_text() => {
            let bytes = data.base64.decode();
            let foreign = bytes.as_ref().is_some_and(|bytes| std::str::from_utf8(bytes).is_err());
            match data.text().filter(|_| foreign) {
                Some(text) => (format, Source::Bytes(Base64::Made(STANDARD.encode(text)))),
                None => (format, Source::Bytes(data.base64)),
            }
        }
        Some(Place::Here(format, data)) => (format, Source::Bytes(data.base64)),
        Some(Place::S3(format, uri)) => (format, Source::S3(uri)),
        Some(Place::Web(_)) => {
            return Err("this model's provider takes no URL of the web and the gateway fetches nothing; send a base64 data URI");
        }
        None => {
            return Err(match content {
                Content::Image { .. } => "this model takes images as a base64 data URI or an s3: URL of PNG, JPEG, GIF or WebP",
                Content::File { source: None, .. } => "a `file_id` is known to another provider only; send the file in `file_data`",
                Content::File { .. } => {
                    "this model takes files as a base64 data URI or an s3: URL of PDF, CSV, Word, Excel, HTML, Markdown, plain text or an image"
                }
                _ => "this kind of content cannot stand here",
            });
        }
    };
    let name = || filename.map(Text::decode).unwrap_or_default();
    Ok(if format.is_image() { Media::Image(format, source) } else { Media::Document(format, source, document_name(&name())) })
}

/// Document names have letters, digits, single spaces, hyphens and brackets only; the extension is said by `format`.
fn document_name(filename: &str) -> String {
    let stem = filename.rsplit_once('.').map_or(filename, |(stem, _)| stem);
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '(' | ')' | '[' | ']');
    let plain: String = stem.chars().map(|c| if fits(c) { c } else { ' ' }).take(MAX_NAME / 2).collect();
    let words: Vec<&str> = plain.split(' ').filter(|word| !word.is_empty()).collect();
    if words.is_empty() { "document".to_owned() } else { words.join(" ") }
}

/// Writes `messages` and `system`: the conversation's thinking only if `thinking`, its cache marks only if `caches`.
pub(super) fn write(w: &mut Writer, conversation: &Conversation<'_, Media<'_>>, thinking: bool, caches: bool) {
    let mut names = HashMap::new();
    w.key("messages").array();
    for turn in &conversation.turns {
        w.object().key("role").string(if turn.assistant { "assistant" } else { "user" }).key("content").array();
        for block in &turn.blocks {
            write_block(w, block, thinking, &mut names);
            write_cache(w, block.cache().filter(|_| caches));
        }
        let document = turn.blocks.iter().any(|block| matches!(block, Block::Media(Media::Document(..), _)));
        if document && !turn.blocks.iter().any(|block| matches!(block, Block::Text(..))) {
            w.object().key("text").string(BESIDE_DOCUMENT).end_object();
        }
        w.end_array().end_object();
    }
    w.end_array();
    if !conversation.system.is_empty() {
        w.key("system").array();
        for (text, cache) in &conversation.system {
            w.object().key("text").text(*text).end_object();
            write_cache(w, cache.filter(|_| caches));
        }
        w.end_array();
    }
}

/// Writes the block that caches everything before it.
/// <https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html>
pub(super) fn write_cache(w: &mut Writer, cache: Option<CacheMark>) {
    let Some(cache) = cache else { return };
    w.object().key("cachePoint").object().key("type").string("default");
    w.optional_text("ttl", cache.ttl().map(Text::Plain)).end_object().end_object();
}

fn write_block(w: &mut Writer, block: &Block<'_, Media<'_>>, thinking: bool, names: &mut Names) {
    match block {
        Block::Text(text, _) => {
            w.object().key("text").text(*text).end_object();
        }
        Block::Prefill(text) => {
            w.object().key("text").string(text).end_object();
        }
        Block::Media(media, _) => write_media(w, media, names),
        Block::Thinking(blocks) => {
            if thinking {
                thoughts(&format!("[{blocks}]")).iter().for_each(|thought| thought.write(w));
            }
        }
        Block::Call { id, name, input } => {
            w.object().key("toolUse").object().key("toolUseId").string(id);
            w.key("name").text(*name).key("input").raw(input).end_object().end_object();
        }
        Block::Result { id, content, failed } => {
            w.object().key("toolResult").object().key("toolUseId").string(id).key("content").array();
            content.iter().for_each(|block| write_block(w, block, false, names));
            if content.is_empty() {
                w.object().key("text").string(NO_OUTPUT).end_object();
            }
            w.end_array();
            if *failed {
                w.key("status").string("error");
            }
            w.end_object().end_object();
        }
    }
}

fn write_media(w: &mut Writer, media: &Media<'_>, names: &mut Names) {
    let (kind, format, name, source) = match media {
        Media::Image(format, source) => ("image", Text::Plain(format.name()), None, source),
        Media::Document(format, source, name) => ("document", Text::Plain(format.name()), Some(name), source),
        Media::Audio(source, format) => ("audio", *format, None, source),
    };
    w.object().key(kind).object().key("format").text(format);
    if let Some(name) = name {
        w.key("name").string(&fresh(name, names));
    }
    w.key("source").object();
    match source {
        Source::Bytes(data) => w.key("bytes").text(data.text()),
        Source::S3(uri) => w.key("s3Location").object().key("uri").text(*uri).end_object(),
    };
    w.end_object().end_object().end_object();
}

/// The names of documents, each with the highest number that has been tried for another document of that name.
type Names = HashMap<String, usize>;

/// A name that no other document has: the service refuses one that comes twice.
fn fresh(name: &str, names: &mut Names) -> String {
    let (mut fresh, mut n) = (name.to_owned(), names.get(name).copied().unwrap_or(1));
    while names.contains_key(&fresh) {
        n += 1;
        fresh = format!("{name} ({n})");
    }
    names.insert(fresh.clone(), 1);
    names.insert(name.to_owned(), n);
    fresh
}

/// A thinking block in Anthropic's own form, in which it is kept whichever cloud it came from: the signatures hold
/// everywhere.
#[derive(serde::Deserialize)]
#[serde(bound = "'de: 'a")]
struct Thought<'a> {
    thinking: Option<Text<'a>>,
    signature: Option<Text<'a>>,
    data: Option<Text<'a>>,
}

/// The thinking of a sealed state, an array; none where the state is another dialect's.
fn thoughts(state: &str) -> Vec<Thought<'_>> {
    let mut list: Vec<Thought<'_>> = serde_json::from_str(state).unwrap_or_default();
    list.retain(|thought| thought.signature.is_some() || thought.data.is_some());
    list
}

impl Thought<'_> {
    fn write(&self, w: &mut Writer) {
        w.object().key("reasoningContent").object();
        if let Some(data) = self.data {
            // The service's JSON writes a blob as base64, and this blob is a text that happens to be base64 itself.
            w.key("redactedContent").string(&STANDARD.encode(data.decode().as_bytes()));
        } else {
            let nothing = Text::Raw("");
            w.key("reasoningText").object().key("text").text(self.thinking.unwrap_or(nothing));
            w.key("signature").text(self.signature.unwrap_or(nothing)).end_object();
        }
        w.end_object().end_object();
    }
}

/// The instruction to a model that must not call tools: the protocol has no such choice, and a conversation with tool
/// blocks must declare tools.
pub(super) const NO_CALLS: &str = "Do not call any tool in this turn; answer in text.";

/// Tools for a history that has calls while the request declares none; the service refuses it without.
pub(super) fn undeclared<'a: 'b, 'b, M: 'b>(blocks: impl Iterator<Item = &'b Block<'a, M>>) -> Vec<Spec<'a>> {
    let spec = |name| Spec::new(name, NO_CALLS, Cow::Borrowed(ANY_OBJECT), String::new());
    let (mut specs, mut known): (Vec<Spec<'a>>, _) = (Vec::new(), HashSet::new());
    for block in blocks {
        let Block::Call { name, .. } = block else { continue };
        if known.insert(name.decode()) {
            specs.push(spec(*name));
        }
    }
    if specs.is_empty() {
        // A result whose call is not there: the service shall say so, not complain about missing tools.
        specs.push(spec(Text::Plain("unknown")));
    }
    specs
}

/// Writes `toolConfig`.
pub(super) fn write_tools(w: &mut Writer, tools: &[Spec<'_>], call: Call<'_>) {
    w.key("toolConfig").object().key("tools").array();
    for tool in tools {
        w.object().key("toolSpec").object().key("name").text(tool.name);
        tool.write_description(w);
        w.key("inputSchema").object().key("json").raw(&tool.schema).end_object();
        if tool.strict {
            w.key("strict").flag(true);
        }
        w.end_object().end_object();
        write_cache(w, tool.cache);
    }
    w.end_array();
    match call {
        Call::Unsaid | Call::None | Call::Auto => {}
        Call::Any => {
            w.key("toolChoice").object().key("any").object().end_object().end_object();
        }
        Call::Tool(name) => {
            w.key("toolChoice").object().key("tool").object().key("name").text(name).end_object().end_object();
        }
    }
    w.end_object();
}

/// Writes `outputConfig`: the schema as the *text* of JSON.
pub(super) fn write_output(w: &mut Writer, held: &Schema<'_>) {
    w.key("outputConfig").object().key("textFormat").object().key("type").string("json_schema");
    w.key("structure").object().key("jsonSchema").object().key("schema").string(&held.schema);
    w.key("name").text(held.name).optional_text("description", held.description.filter(|text| !text.is_empty()));
    w.end_object().end_object().end_object().end_object();
}
