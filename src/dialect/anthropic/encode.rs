//! Writes a request for the Messages API, straight from the client's bytes into one new body.

use super::decode::Decoder;
use super::{Host, Seat};
use crate::dialect::Outgoing;
use crate::dialect::shared::claude::{self, Model, Sampling, Terms, Thought};
use crate::dialect::shared::media::{Format, Media, Place};
use crate::dialect::shared::names::{self, ShortNames};
use crate::dialect::shared::params::{Policy, settle};
use crate::dialect::shared::thinking_state::CLAUDE;
use crate::dialect::shared::toolbox::{Call, Toolbox};
use crate::dialect::shared::turns::{Block, Conversation, blank};
use crate::error::ApiError;
use crate::hex;
use crate::json::surrogate;
use crate::json::text::Text;
use crate::json::write::Writer;
use crate::llm::field::Field;
use crate::llm::media::Base64;
use crate::llm::request::{CacheMark, Content, Request};
use sha2::{Digest, Sha256};
use std::borrow::Cow;

/// Longest `metadata.user_id`, in bytes.
const MAX_USER: usize = 256;
/// From so many digits on, a text without letters may be a telephone number.
const PHONE_DIGITS: usize = 7;
/// From this `anthropic-version` on sampling parameters are refused.
const UNSAMPLED_VERSION: &str = "2026-10-21";

/// What this dialect has a form for; constraints and old function calls are judged where they are read.
const MAPPED: [Field; 17] = [
    Field::MaxTokens,
    Field::MaxCompletionTokens,
    Field::Temperature,
    Field::TopP,
    Field::Stop,
    Field::Tools,
    Field::ToolChoice,
    Field::ParallelToolCalls,
    Field::ResponseFormat,
    Field::ReasoningEffort,
    Field::User,
    Field::GuidedJson,
    Field::GuidedRegex,
    Field::GuidedChoice,
    Field::GuidedGrammar,
    Field::StructuralTag,
    Field::Functions,
];

/// Writes a request, less its headers.
///
/// # Errors
/// A 400 that names what the model cannot take.
pub fn encode(request: Request<'_>, seat: &Seat<'_>, path: String) -> Result<Outgoing, ApiError> {
    ShortNames::within(request, names::CLAUDE, |request| write(request, seat, path))
}

fn write(request: &Request<'_>, seat: &Seat<'_>, path: String) -> Result<Outgoing, ApiError> {
    let mut settled = settle(request, |field| match field {
        Field::FunctionCall => Policy::Mapped,
        _ => Policy::of(field, &MAPPED),
    })?;
    let model = Model::of(request.model);
    let toolbox = Toolbox::read(request, &model.means(seat.structured_output), &mut settled)?;
    let instruction = toolbox.instruction();
    let mut conversation = Conversation::read(request, CLAUDE, |_, content| source(content, seat.host))?;
    if let Some(words) = &instruction {
        conversation.system.push((Text::Plain(words), None));
    }
    let limit = request.token_limit()?;
    let terms = Terms { limit, forces: toolbox.forces(), can_think: conversation.can_think() };
    let thought = Thought::choose(request, model, terms, &mut settled)?;
    let sampling = sampling(model, thought.thinks(), seat.host, seat.version);

    let mut w = Writer::with_capacity(request.size + 4096);
    w.object();
    match seat.host {
        Host::Api => {
            w.key("model").string(request.model);
        }
        Host::Vertex | Host::Bedrock => {
            w.key("anthropic_version").string(seat.version);
        }
    }
    w.key("max_tokens").integer(thought.max_tokens(limit, seat.default_max_tokens));
    if request.stream {
        w.key("stream").flag(true);
    }
    write_messages(&mut w, &conversation, thought.may_think());
    write_tools(&mut w, &toolbox);
    thought.write(&mut w, toolbox.native().map(|held| &*held.schema));
    let (temperature, top_p) = sampling.settle(request, &mut settled)?;
    w.optional_raw("temperature", temperature).optional_raw("top_p", top_p);
    let stops = claude::stops(request, true)?;
    if !stops.is_empty() {
        w.key("stop_sequences").text_list(stops.iter().copied());
    }
    if let Some(user) = request.user {
        w.key("metadata").object().key("user_id").string(&opaque(&user.decode())).end_object();
    }
    w.end_object();

    let decoder = toolbox.around(Decoder::new(toolbox.content_tool(), thought.may_think() && toolbox.calls));
    Ok(Outgoing::new(path, surrogate::repair(w.finish()), settled, decoder))
}

/// What a model accepts of `temperature` and `top_p` under this `anthropic-version`.
pub(super) fn sampling(model: Model, thinks: bool, host: Host, version: &str) -> Sampling {
    let sampled = model.sampled() && !thinks && (host != Host::Api || version < UNSAMPLED_VERSION);
    if sampled { Sampling::Either } else { Sampling::Fixed }
}

/// A user's id as Anthropic takes it: "a uuid, hash value, or other opaque identifier". An e-mail address or a telephone
/// number is refused with a 400, so that everything that is not plainly an identifier goes as its SHA-256, the same in
/// every request. <https://docs.anthropic.com/en/api/messages#body-metadata-user-id>
pub(super) fn opaque(user: &str) -> Cow<'_, str> {
    let plain = user.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b':' | b'|'));
    let letters = user.bytes().any(|b| b.is_ascii_alphabetic());
    let digits = user.bytes().filter(u8::is_ascii_digit).count();
    if plain && user.len() <= MAX_USER && (letters || digits < PHONE_DIGITS) {
        return Cow::Borrowed(user);
    }
    Cow::Owned(hex::encode(&Sha256::digest(user.as_bytes())))
}

/// An image or a document, and its title.
pub(super) struct Source<'a> {
    kind: &'static str,
    place: At<'a>,
    title: Option<Text<'a>>,
}

enum At<'a> {
    /// Media type and bytes.
    Base64(String, Base64<'a>),
    Plain(String),
    Url(Text<'a>),
}

/// Reads an image or a document as `host` takes it. Only Anthropic's own API fetches anything, and the address of a document can only be a PDF's.
/// <https://platform.claude.com/docs/en/build-with-claude/vision>
fn source<'a>(content: &Content<'a>, host: Host) -> Result<Source<'a>, &'static str> {
    let read = Media::of(content)?;
    let taken = || {
        let media = read?;
        let place = match media.place {
            Place::Here(format, data) if format.is_image() => At::Base64(format!("image/{}", format.name()), data.base64),
            Place::Here(format, data) if format.is_text() => At::Plain(data.text()?),
            Place::Here(Format::Pdf, data) => At::Base64("application/pdf".to_owned(), data.base64),
            Place::Web(url) if host == Host::Api => At::Url(url),
            Place::Here(..) | Place::Web(_) | Place::S3(..) => return None,
        };
        let title = media.filename.filter(|name| !media.image && !blank(*name));
        Some(Source { kind: if media.image { "image" } else { "document" }, place, title })
    };
    taken().ok_or(match content {
        Content::Image { .. } if host == Host::Api => {
            "this model takes images as an https URL or a data URI of image/jpeg, image/png, image/gif or image/webp"
        }
        Content::Image { .. } => "this model takes images as a data URI of image/jpeg, image/png, image/gif or image/webp",
        Content::File { source: None, .. } => "this model takes files as a data URI in `file_data`, not by `file_id`",
        Content::File { .. } => "this model takes files as a data URI of a PDF, a text or an image",
        _ => "this model takes no audio",
    })
}

/// Writes the members `system` and `messages`, with the conversation's thinking only if `thinking`.
fn write_messages(w: &mut Writer, conversation: &Conversation<'_, Source<'_>>, thinking: bool) {
    write_system(w, &conversation.system);
    w.key("messages").array();
    for turn in &conversation.turns {
        w.object().key("role").string(if turn.assistant { "assistant" } else { "user" }).key("content").array();
        turn.blocks.iter().for_each(|block| write_block(w, block, thinking));
        w.end_array().end_object();
    }
    w.end_array();
}

/// Writes the instructions: as one text, or as blocks if a part of them has a cache mark.
fn write_system(w: &mut Writer, system: &[(Text<'_>, Option<CacheMark>)]) {
    if system.iter().any(|(_, cache)| cache.is_some()) {
        w.key("system").array();
        system.iter().for_each(|(text, cache)| write_text(w, *text, *cache));
        w.end_array();
    } else if !system.is_empty() {
        let mut pieces: Vec<_> = system.iter().flat_map(|(text, _)| [*text, Text::Plain("\n\n")]).collect();
        pieces.pop();
        w.key("system").texts(&pieces);
    }
}

fn write_text(w: &mut Writer, text: Text<'_>, cache: Option<CacheMark>) {
    w.object().key("type").string("text").key("text").text(text);
    write_cache(w, cache);
    w.end_object();
}

/// Writes `cache_control`, if there is a mark.
fn write_cache(w: &mut Writer, cache: Option<CacheMark>) {
    let Some(cache) = cache else { return };
    w.key("cache_control").object().key("type").string("ephemeral");
    w.optional_text("ttl", cache.ttl().map(Text::Plain)).end_object();
}

fn write_block(w: &mut Writer, block: &Block<'_, Source<'_>>, thinking: bool) {
    match block {
        Block::Thinking(blocks) => {
            if thinking {
                w.raw(blocks);
            }
        }
        Block::Text(text, cache) => write_text(w, *text, *cache),
        Block::Prefill(text) => write_text(w, Text::Plain(text), None),
        Block::Media(source, cache) => {
            w.object().key("type").string(source.kind).key("source").object().key("type");
            match &source.place {
                At::Base64(media, data) => w.string("base64").key("media_type").string(media).key("data").text(data.text()),
                At::Plain(text) => w.string("text").key("media_type").string("text/plain").key("data").string(text),
                At::Url(url) => w.string("url").key("url").text(*url),
            };
            w.end_object().optional_text("title", source.title);
            write_cache(w, *cache);
            w.end_object();
        }
        Block::Call { id, name, input } => {
            w.object().key("type").string("tool_use").key("id").string(id).key("name").text(*name).key("input").raw(input);
            w.end_object();
        }
        Block::Result { id, content, failed } => {
            w.object().key("type").string("tool_result").key("tool_use_id").string(id);
            match content.as_slice() {
                [] => {}
                [Block::Text(text, None)] => {
                    w.key("content").text(*text);
                }
                blocks => {
                    w.key("content").array();
                    blocks.iter().for_each(|block| write_block(w, block, false));
                    w.end_array();
                }
            }
            if *failed {
                w.key("is_error").flag(true);
            }
            w.end_object();
        }
    }
}

/// Writes the members `tools` and `tool_choice`.
fn write_tools(w: &mut Writer, toolbox: &Toolbox<'_>) {
    if toolbox.tools.is_empty() {
        return;
    }
    w.key("tools").array();
    for tool in &toolbox.tools {
        w.object().key("name").text(tool.name);
        tool.write_description(w);
        w.key("input_schema").raw(&tool.schema);
        if tool.strict {
            w.key("strict").flag(true);
        }
        write_cache(w, tool.cache);
        w.end_object();
    }
    w.end_array();
    let answer = matches!(toolbox.call, Call::Tool(_)) && toolbox.content_tool().is_some();
    if toolbox.call != Call::Unsaid || toolbox.serial {
        write_choice(w, toolbox.call, toolbox.serial || answer);
    }
}

/// Writes `tool_choice`; `serial`: with one call at most.
pub(in crate::dialect) fn write_choice(w: &mut Writer, call: Call<'_>, serial: bool) {
    w.key("tool_choice").object().key("type");
    match call {
        Call::Unsaid | Call::Auto => w.string("auto"),
        Call::None => w.string("none"),
        Call::Any => w.string("any"),
        Call::Tool(name) => w.string("tool").key("name").text(name),
    };
    if serial && call != Call::None {
        w.key("disable_parallel_tool_use").flag(true);
    }
    w.end_object();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_name_a_person_goes_as_its_hash() {
        for user in ["user-123", "3f2504e0-4f89-11d3-9a0c-0305e82c3301", "org:7|u_9", "123456"] {
            assert_eq!(opaque(user), user);
        }
        let long = "x".repeat(MAX_USER + 1);
        for user in ["alice@example.com", "+49 30 901820", "030-901-820", "4930901820", "Alice Smith", "Jürgen", long.as_str()] {
            let hash = opaque(user);
            assert!(hash.len() == 64 && hash != user && hash == opaque(user), "{user}");
        }
        assert_eq!(opaque("alice@example.com"), "ff8d9819fc0e12bf0d24892e45987e249a28dce836a85cad60e28eaaa8c6d976");
    }
}
