//! Reading Gemini's answers: every chunk of a stream has the shape of a whole answer, so there is one reader for both.
//!
//! ```text
//!   candidate: Unseen ──part──► Talking ──finishReason──► Finished     end of bytes is clean ⇔ all seen are Finished
//!                 └──────────────────┴──the prompt's blockReason──► Finished
//! ```
//!
//! There is no event that ends a stream: the bytes simply end, and a chunk with usage alone may follow the finish.

use super::wire::{Answer, Call, Candidate, Citations, Counts, Grounding, Logprobs, Modality, Part, Segment, Token};
use super::{contents, error};
use crate::dialect::{self, Decoder};
use crate::frame::Frame;
use crate::json::text::Text;
use crate::json::write::Writer;
use crate::llm::event::{Block, Citation, Event, Finish, Page, RawBlock, Sink, Source, ToolForm};
use crate::llm::failure::{FailureClass, Fault, ProviderError};
use crate::llm::usage::{Details, Usage};
use crate::redact::truncated;
use serde_json::value::RawValue;

/// What is known of one candidate.
#[derive(Clone, Copy, Default)]
struct Choice {
    index: u32,
    calls: u32,
    /// Whether a part with something in it has come.
    content: bool,
    finished: bool,
}

/// Reads one answer.
#[derive(Default)]
pub(super) struct GeminiDecoder {
    choices: Vec<Choice>,
}

impl GeminiDecoder {
    /// Reads one object, or an array of them: what a stream is without `alt=sse`.
    fn read(&mut self, json: &[u8], out: &mut dyn Sink) -> Result<(), Fault> {
        let text = std::str::from_utf8(json).map_err(|_| Fault::Broken("the answer is not UTF-8".into()))?;
        let broken = |e: serde_json::Error| Fault::Broken(format!("the answer is not Gemini's JSON: {}", place(&e)).into());
        if text.trim_start().starts_with('[') {
            let list: Vec<&RawValue> = serde_json::from_str(text).map_err(broken)?;
            return list.into_iter().try_for_each(|item| self.answer(item.get(), out));
        }
        self.answer(text, out)
    }

    fn answer(&mut self, json: &str, out: &mut dyn Sink) -> Result<(), Fault> {
        let broken = |e: serde_json::Error| Fault::Broken(format!("the answer is not Gemini's JSON: {}", place(&e)).into());
        let answer: Answer<'_> = serde_json::from_str(json).map_err(broken)?;
        if let Some(error) = answer.error {
            return Err(Fault::Provider(error::inside(error)));
        }
        // What has nothing of an answer may be the error of a server in front of Google's.
        let nothing = answer.candidates.is_none() && answer.prompt_feedback.is_none() && answer.usage_metadata.is_none();
        if let Some(failure) = if nothing { dialect::error_in(json) } else { None } {
            return Err(Fault::Provider(failure));
        }
        // Usage goes first, so that it is known even where a finish reason turns out to be a failure.
        if let Some(usage) = answer.usage_metadata.as_ref().and_then(usage) {
            out.event(Event::Usage(usage));
        }
        let candidates = answer.candidates.unwrap_or_default();
        let blocked = answer.prompt_feedback.is_some_and(|f| f.block_reason.is_some());
        candidates.into_iter().try_for_each(|candidate| self.candidate(candidate, out))?;
        if blocked {
            self.block(out);
        }
        Ok(())
    }

    /// The prompt is refused, before or after the first words: what has come so far is all of the answer.
    fn block(&mut self, out: &mut dyn Sink) {
        if self.choices.is_empty() {
            self.choices.push(Choice::default());
        }
        for choice in self.choices.iter_mut().filter(|choice| !choice.finished) {
            choice.finished = true;
            out.event(Event::Finish { choice: choice.index, reason: Finish::ContentFilter });
        }
    }

    fn candidate(&mut self, candidate: Candidate<'_>, out: &mut dyn Sink) -> Result<(), Fault> {
        let choice = candidate.index.unwrap_or(0);
        let at = match self.choices.iter().position(|c| c.index == choice) {
            Some(at) => at,
            None if self.choices.len() < MAX_CHOICES => {
                self.choices.push(Choice { index: choice, ..Choice::default() });
                self.choices.len() - 1
            }
            None => return Err(Fault::Broken("more candidates than any answer has".into())),
        };
        let Some(state) = self.choices.get_mut(at) else { return Ok(()) };
        for part in candidate.content.and_then(|c| c.parts).unwrap_or_default() {
            state.part(part, out)?;
        }
        if let Some(json) = candidate.logprobs_result.as_ref().and_then(convert) {
            out.event(Event::Logprobs { choice, json: &json });
        }
        if candidate.grounding_metadata.is_some() || candidate.citation_metadata.is_some() {
            sources(choice, candidate.grounding_metadata, candidate.citation_metadata, out);
        }
        match candidate.finish_reason.as_deref() {
            None | Some("" | "FINISH_REASON_UNSPECIFIED") => {}
            Some(word) => {
                let reason = Finish::of(word, state.content).ok_or_else(|| failed(word, candidate.finish_message.as_deref()))?;
                out.event(Event::Finish { choice, reason });
                state.finished = true;
            }
        }
        Ok(())
    }
}

impl Choice {
    /// Images that belong to the thinking are skipped.
    fn part(&mut self, part: Part<'_>, out: &mut dyn Sink) -> Result<(), Fault> {
        let choice = self.index;
        if let Some(function) = part.function_call {
            return self.call(&function, part.thought_signature, out);
        }
        let thought = part.thought == Some(true);
        if let Some(blob) = part.inline_data.filter(|_| !thought) {
            self.content = true;
            let (kind, data) = (&*blob.mime_type, blob.data);
            let media_type = Text::Plain(kind);
            out.event(match kind.split('/').next() {
                Some("image") => Event::Image { choice, source: Source::Base64 { media_type, data } },
                Some("audio") => Event::Audio { choice, media_type, data },
                _ => raw(choice, "inlineData", kind, "", true),
            });
        }
        if let Some(file) = part.file_data.filter(|_| !thought) {
            self.content = true;
            out.event(match &*file.mime_type {
                kind if kind.starts_with("image/") => Event::Image { choice, source: Source::Url(file.file_uri) },
                kind => raw(choice, "fileData", kind, "", true),
            });
        }
        // The traces of tools that Google runs itself.
        for (name, json) in [("executableCode", part.executable_code), ("codeExecutionResult", part.code_execution_result)] {
            json.into_iter().for_each(|json| out.event(raw(choice, name, "", json.get(), false)));
        }
        if let Some(text) = part.text.filter(|text| !text.is_empty()) {
            self.content = true;
            out.event(if thought { Event::Reasoning { choice, text } } else { Event::Content { choice, text } });
        }
        Ok(())
    }

    fn call(&mut self, function: &Call<'_>, signature: Option<Text<'_>>, out: &mut dyn Sink) -> Result<(), Fault> {
        // Arguments only come in pieces where `streamFunctionCallArguments` was asked for, which the encoder never does.
        if function.partial_args.is_some() {
            return Err(Fault::Broken("function arguments came in pieces, which was not asked for".into()));
        }
        let Some(called) = function.name.filter(|name| !name.is_empty()) else {
            // A call without a name only ends the one before.
            return if function.args.is_none() { Ok(()) } else { Err(Fault::Broken("a function call without a name".into())) };
        };
        if function.args.is_some_and(|args| !args.get().starts_with('{')) {
            return Err(Fault::Broken("the arguments of a function call are no object".into()));
        }
        let (choice, call) = (self.index, self.calls);
        let decoded = called.decode();
        let name = contents::original_name(&decoded).map_or(called, Text::Plain);
        let state = contents::state(signature);
        out.event(Event::ToolStart { choice, call, id: function.id, name, form: ToolForm::Function, state: state.as_deref() });
        if let Some(args) = function.args {
            out.event(Event::ToolArguments { choice, call, fragment: Text::Plain(args.get()) });
        }
        out.event(Event::BlockEnd { choice, block: Block::Call(call) });
        (self.calls, self.content) = (call + 1, true);
        Ok(())
    }
}

impl Decoder for GeminiDecoder {
    fn frame(&mut self, frame: Frame<'_>, out: &mut dyn Sink) -> Result<(), Fault> {
        match frame {
            Frame::Sse { data, .. } if data.trim().is_empty() => Ok(()),
            Frame::Sse { data, .. } => self.read(data.as_bytes(), out),
            Frame::Aws { .. } => Err(Fault::Broken("an AWS frame in a Gemini stream".into())),
        }
    }

    fn whole(&mut self, body: &[u8], out: &mut dyn Sink) -> Result<(), Fault> {
        self.read(body, out)?;
        match self.choices.as_slice() {
            [] => Err(Fault::Broken("the answer has no candidates".into())),
            _ => self.end(out),
        }
    }

    fn end(&mut self, _: &mut dyn Sink) -> Result<(), Fault> {
        let complete = !self.choices.is_empty() && self.choices.iter().all(|c| c.finished);
        if complete { Ok(()) } else { Err(Fault::Truncated) }
    }
}

const fn raw<'a>(choice: u32, name: &'a str, media_type: &'a str, json: &'a str, essential: bool) -> Event<'a> {
    Event::Raw { choice, block: RawBlock { name, media_type, json, essential } }
}

/// Emits the sources of the answer's text, and the pages that a search has found for no words in particular. The positions are
/// Google's, in bytes of UTF-8.
fn sources(choice: u32, grounding: Option<&RawValue>, citations: Option<&RawValue>, out: &mut dyn Sink) {
    // What is not of this form is left out; the answer is whole without it.
    let grounding: Grounding<'_> = grounding.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
    let citations: Citations<'_> = citations.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
    let (chunks, supports) = (grounding.grounding_chunks.unwrap_or_default(), grounding.grounding_supports.unwrap_or_default());
    let (mut list, mut cited) = (Vec::new(), vec![false; chunks.len()]);
    for support in supports {
        let segment = support.segment.unwrap_or_default();
        for at in support.grounding_chunk_indices.into_iter().flatten() {
            let (Some(chunk), Some(cited)) = (chunks.get(at), cited.get_mut(at)) else { continue };
            *cited = true;
            if let Some(site) = chunk.web {
                list.extend(citation(site.uri, site.title, segment));
            }
        }
    }
    let uncited = chunks.iter().zip(&cited).filter(|(_, cited)| !**cited).filter_map(|(chunk, _)| chunk.web);
    let pages: Vec<Page<'_>> = uncited.filter_map(|site| Some(Page { url: site.uri?, title: site.title })).collect();
    for one in citations.citation_sources.unwrap_or_default() {
        list.extend(citation(one.uri, one.title, Segment { start_index: one.start_index, end_index: one.end_index }));
    }
    out.event(Event::SearchResults { choice, pages: &pages });
    out.event(Event::Citations { choice, list: &list });
}

fn citation<'a>(url: Option<Text<'a>>, title: Option<Text<'a>>, segment: Segment) -> Option<Citation<'a>> {
    let span = (segment.start_index.unwrap_or_default(), segment.end_index.unwrap_or_default());
    url.map(|_| Citation { url, title, span, json: "" })
}

/// Where JSON is wrong; serde's own message could quote the answer.
fn place(e: &serde_json::Error) -> String {
    format!("line {}, column {}", e.line(), e.column())
}

/// A finish reason that means that the answer failed (`MALFORMED_FUNCTION_CALL`, `OTHER` …), or an unknown one.
fn failed(word: &str, message: Option<&str>) -> Fault {
    let message = message.unwrap_or_default();
    let message = format!("The answer ended with {word}. {}", truncated(message, MAX_FINISH_MESSAGE));
    Fault::Provider(ProviderError::new(FailureClass::Server, message.trim_end().to_owned()))
}

/// Counts are sums over the whole answer so far. `None` where a chunk has only other members (`trafficType`).
fn usage(counts: &Counts) -> Option<Usage> {
    let counted = counts.prompt_token_count.is_some() || counts.candidates_token_count.is_some() || counts.total_token_count.is_some();
    let n = Option::unwrap_or_default;
    let of = |list: &Option<Vec<Modality>>, modality: &str| -> u64 {
        let found = list.iter().flatten().filter(|m| m.modality.as_deref() == Some(modality));
        found.map(|m| n(m.token_count)).fold(0, u64::saturating_add)
    };
    let reasoning = n(counts.thoughts_token_count);
    // What tools of the provider fed in is input too; what came from a cache is inside of the prompt already.
    let prompt = n(counts.prompt_token_count).saturating_add(n(counts.tool_use_prompt_token_count));
    // Some answers leave out the candidates or the thoughts; the total counts them all the same.
    let rest = n(counts.total_token_count).saturating_sub(prompt);
    counted.then(|| Usage {
        prompt,
        completion: n(counts.candidates_token_count).saturating_add(reasoning).max(rest),
        cached: n(counts.cached_content_token_count),
        reasoning,
        prompt_audio: of(&counts.prompt_tokens_details, "AUDIO"),
        completion_audio: of(&counts.candidates_tokens_details, "AUDIO"),
        details: Details { completion_image: of(&counts.candidates_tokens_details, "IMAGE"), ..Details::default() },
        ..Usage::default()
    })
}

/// Most candidates of one answer; Gemini gives at most 8.
const MAX_CHOICES: usize = 128;
/// Longest finish message of the provider that is passed on, in bytes.
const MAX_FINISH_MESSAGE: usize = 2048;

/// What stands for a probability of nothing, which JSON cannot write; OpenAI's own value for it.
const NEVER: &str = "-9999.0";

/// OpenAI's `logprobs` object; `None` where there are no tokens.
pub(super) fn convert(result: &Logprobs<'_>) -> Option<String> {
    let chosen = result.chosen_candidates.as_deref().filter(|list| !list.is_empty())?;
    let top = result.top_candidates.as_deref().unwrap_or_default();
    let mut w = Writer::default();
    w.object().key("content").array();
    for (i, token) in chosen.iter().enumerate() {
        w.object();
        members(&mut w, token);
        w.key("top_logprobs").array();
        for alternative in top.get(i).and_then(|t| t.candidates.as_deref()).unwrap_or_default() {
            w.object();
            members(&mut w, alternative);
            w.end_object();
        }
        w.end_array().end_object();
    }
    w.end_array().key("refusal").raw("null").end_object();
    Some(w.into_string())
}

fn members(w: &mut Writer, token: &Token<'_>) {
    let text = token.token.unwrap_or(Text::Raw(""));
    // Protocol buffers leave out a zero and write infinities as strings.
    let logprob = match token.log_probability.map(|raw| raw.get()) {
        None => "0.0",
        Some(number) if number.starts_with(|c: char| c == '-' || c.is_ascii_digit()) => number,
        Some(_) => NEVER,
    };
    w.key("token").text(text).key("logprob").raw(logprob).key("bytes").array();
    for byte in text.decode().bytes() {
        w.integer(u64::from(byte));
    }
    w.end_array();
}

#[cfg(test)]
mod tests;
