//! Writes a conversation in the words of the Messages API.

use super::Host;
use super::media::{Format, Media, Place};
use super::turns::{Block, Conversation, blank};
use crate::error::ApiError;
use crate::json::text::Text;
use crate::json::write::Writer;
use crate::llm::media::Base64;
use crate::llm::request::{CacheMark, Content, Request};

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

/// Reads the messages as `host` takes them.
///
/// # Errors
/// A 400 that names the message or the part that Anthropic cannot take.
pub(super) fn read<'a>(request: &Request<'a>, host: Host) -> Result<Conversation<'a, Source<'a>>, ApiError> {
    Conversation::read(request, |_, content| source(content, host))
}

/// Only Anthropic's own API fetches anything, and the address of a document can only be a PDF's.
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
        Content::File { data: None, .. } => "this model takes files as a data URI in `file_data`, not by `file_id`",
        Content::File { .. } => "this model takes files as a data URI of a PDF, a text or an image",
        _ => "this model takes no audio",
    })
}

/// Writes the members `system` and `messages`; thinking is only told to a model that thinks.
pub(super) fn write(w: &mut Writer, conversation: &Conversation<'_, Source<'_>>, thinking: bool) {
    write_system(w, &conversation.system);
    w.key("messages").array();
    for turn in &conversation.turns {
        w.object().key("role").string(if turn.assistant { "assistant" } else { "user" }).key("content").array();
        turn.blocks.iter().for_each(|block| write_block(w, block, thinking));
        w.end_array().end_object();
    }
    w.end_array();
}

/// Instructions are one text, unless a part of them shall be kept: only blocks can say which.
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

/// Writes `cache_control`, where something shall be kept.
pub(super) fn write_cache(w: &mut Writer, cache: Option<CacheMark>) {
    let Some(cache) = cache else { return };
    w.key("cache_control").object().key("type").string("ephemeral");
    if let Some(ttl) = cache.ttl() {
        w.key("ttl").string(ttl);
    }
    w.end_object();
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
            w.end_object();
            if let Some(title) = source.title {
                w.key("title").text(title);
            }
            write_cache(w, *cache);
            w.end_object();
        }
        Block::Call { id, name, input } => {
            w.object().key("type").string("tool_use").key("id").string(id).key("name").text(*name).key("input").raw(input);
            w.end_object();
        }
        Block::Result { id, content } => {
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
            w.end_object();
        }
    }
}
