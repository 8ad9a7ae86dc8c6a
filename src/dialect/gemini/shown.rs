//! What an answer of Gemini's holds beside texts and calls: images, speech, and where its words come from.

use super::wire::{Blob, Citations, File, Grounding, Segment};
use crate::chat::event::{Event, Sink, Text};
use crate::dialect::Fault;
use crate::json::write::Writer;
use serde_json::value::RawValue;

/// Writes bytes of an answer.
///
/// # Errors
/// A fault that names the block, where OpenAI's shape has no place for it: an answer without it would not be whole.
pub(super) fn blob(choice: u32, blob: &Blob<'_>, out: &mut dyn Sink) -> Result<(), Fault> {
    let kind = &*blob.mime_type;
    if kind.starts_with("image/") {
        image(choice, &[Text::Plain("data:"), Text::Plain(kind), Text::Plain(";base64,"), blob.data], out);
        return Ok(());
    }
    if !kind.starts_with("audio/") {
        return Err(unshown("inlineData", kind));
    }
    let mut w = Writer::with_capacity(128);
    w.object().key("id").string(&format!("audio_{choice}")).key("data").text(blob.data);
    w.key("expires_at").integer(0).key("transcript").string("").end_object();
    extra(choice, "audio", w, out);
    Ok(())
}

/// Writes an image that is somewhere else.
///
/// # Errors
/// As [`blob`].
pub(super) fn file(choice: u32, file: &File<'_>, out: &mut dyn Sink) -> Result<(), Fault> {
    if !file.mime_type.starts_with("image/") {
        return Err(unshown("fileData", &file.mime_type));
    }
    image(choice, &[file.file_uri], out);
    Ok(())
}

fn image(choice: u32, url: &[Text<'_>], out: &mut dyn Sink) {
    let mut w = Writer::with_capacity(128);
    w.array().object().key("type").string("image_url").key("image_url").object().key("url").texts(url);
    w.end_object().end_object().end_array();
    extra(choice, "images", w, out);
}

fn extra(choice: u32, key: &str, w: Writer, out: &mut dyn Sink) {
    if let Ok(json) = String::from_utf8(w.finish()) {
        out.event(Event::Extra { choice, key, json: &json });
    }
}

fn unshown(member: &str, kind: &str) -> Fault {
    let kind: String = kind.chars().take(64).collect();
    Fault::Broken(format!("the answer has {member} of type `{kind}`, which a chat completion cannot hold").into())
}

/// Writes where the answer's words come from as OpenAI's `annotations`. The positions are Google's, in bytes of UTF-8.
pub(super) fn annotations(choice: u32, grounding: Option<&RawValue>, citations: Option<&RawValue>, out: &mut dyn Sink) {
    let mut w = Writer::default();
    let mut count = 0;
    w.array();
    let mut cite = |segment: Segment, url: Option<Text<'_>>, title: Option<Text<'_>>| {
        let Some(url) = url else { return };
        count += 1;
        w.object().key("type").string("url_citation").key("url_citation").object();
        w.key("start_index").integer(segment.start_index.unwrap_or_default());
        w.key("end_index").integer(segment.end_index.unwrap_or_default());
        w.key("url").text(url).key("title").text(title.unwrap_or(Text::Raw(""))).end_object().end_object();
    };
    // What is not of this form helps nobody, and the answer stands without it.
    if let Some(found) = grounding.and_then(|raw| serde_json::from_str::<Grounding<'_>>(raw.get()).ok()) {
        let chunks = found.grounding_chunks.unwrap_or_default();
        for support in found.grounding_supports.unwrap_or_default() {
            for site in support.grounding_chunk_indices.unwrap_or_default().into_iter().filter_map(|at| chunks.get(at)?.web) {
                cite(support.segment.unwrap_or_default(), site.uri, site.title);
            }
        }
    }
    if let Some(found) = citations.and_then(|raw| serde_json::from_str::<Citations<'_>>(raw.get()).ok()) {
        for one in found.citation_sources.unwrap_or_default() {
            cite(Segment { start_index: one.start_index, end_index: one.end_index }, one.uri, one.title);
        }
    }
    w.end_array();
    if count > 0 {
        extra(choice, "annotations", w, out);
    }
}
