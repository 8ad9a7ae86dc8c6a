//! What an answer of Gemini's holds beside texts and calls: images, speech, and where its words come from.

use super::wire::{Blob, Citations, File, Grounding, Segment};
use crate::dialect::shown::{self, Sources};
use crate::json::text::Text;
use crate::llm::event::Sink;
use crate::llm::failure::Fault;
use serde_json::value::RawValue;

/// Writes bytes of an answer.
///
/// # Errors
/// A fault that names the block, where OpenAI's shape has no place for it: an answer without it would not be whole.
pub(super) fn blob(choice: u32, blob: &Blob<'_>, out: &mut dyn Sink) -> Result<(), Fault> {
    match &*blob.mime_type {
        kind if kind.starts_with("image/") => shown::image_data(choice, Text::Plain(kind), blob.data, out),
        kind if kind.starts_with("audio/") => shown::audio(choice, blob.data, out),
        kind => return Err(shown::unshown("inlineData", kind)),
    }
    Ok(())
}

/// Writes an image that is somewhere else.
///
/// # Errors
/// As [`blob`].
pub(super) fn file(choice: u32, file: &File<'_>, out: &mut dyn Sink) -> Result<(), Fault> {
    if !file.mime_type.starts_with("image/") {
        return Err(shown::unshown("fileData", &file.mime_type));
    }
    shown::image(choice, &[file.file_uri], out);
    Ok(())
}

/// Writes where the answer's words come from as OpenAI's `annotations`, and pages that a search has found for no words in
/// particular as search results. The positions are Google's, in bytes of UTF-8.
pub(super) fn annotations(choice: u32, grounding: Option<&RawValue>, citations: Option<&RawValue>, out: &mut dyn Sink) {
    let mut sources = Sources::new();
    let place = |segment: Segment| (segment.start_index.unwrap_or_default(), segment.end_index.unwrap_or_default());
    // What is not of this form helps nobody, and the answer stands without it.
    if let Some(found) = grounding.and_then(|raw| serde_json::from_str::<Grounding<'_>>(raw.get()).ok()) {
        let chunks = found.grounding_chunks.unwrap_or_default();
        let supports = found.grounding_supports.unwrap_or_default();
        for support in &supports {
            for site in support.grounding_chunk_indices.iter().flatten().filter_map(|at| chunks.get(*at)?.web) {
                if let Some(url) = site.uri {
                    sources.link(url, site.title, place(support.segment.unwrap_or_default()));
                }
            }
        }
        let cited =
            |at: usize| supports.iter().flat_map(|support| support.grounding_chunk_indices.iter().flatten()).any(|cited| *cited == at);
        let others = chunks.iter().enumerate().filter(|(at, _)| !cited(*at)).filter_map(|(_, chunk)| chunk.web);
        shown::search_results(choice, others.filter_map(|site| Some((site.uri?, site.title))), out);
    }
    if let Some(found) = citations.and_then(|raw| serde_json::from_str::<Citations<'_>>(raw.get()).ok()) {
        for one in found.citation_sources.unwrap_or_default() {
            if let Some(url) = one.uri {
                sources.link(url, one.title, (one.start_index.unwrap_or_default(), one.end_index.unwrap_or_default()));
            }
        }
    }
    sources.write(choice, out);
}
