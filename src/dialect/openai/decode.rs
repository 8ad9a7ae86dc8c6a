//! The answer of a server that speaks OpenAI, streamed or whole, read without building a document.
//!
//! ```text
//! open --chunks--> open --finish_reason of every choice seen--> finished --[DONE] or the end--> complete
//!   \--the end, or [DONE], before a finish_reason--> truncated
//! ```

use super::calls::Calls;
use super::mold::Mold;
use super::{error, usage};
use crate::chat::event::{Event, Finish, Sink, Text};
use crate::chat::usage::Usage;
use crate::dialect::{Decoder as Decodes, FailureClass, Fault, Frame, ProviderError};
use crate::json::envelope::ScanError;
use crate::json::walk::{self, Cursor};
use smallvec::SmallVec;
use std::borrow::Cow;

/// Most choices of one answer; OpenAI's own bound for `n`.
pub const MAX_CHOICES: u64 = 128;

/// Members of a message or delta that are not passed on: they say what the answer says anyway, or nothing at all.
const LITTER: [&str; 7] = ["role", "name", "prefix", "token_id", "token_ids", "tool_call_id", "stop_reason"];

#[derive(Debug, Default)]
struct Choice {
    index: u32,
    finished: bool,
    calls: Calls,
}

/// Reads one answer.
#[derive(Debug, Default)]
pub struct Decoder {
    completion_excludes_reasoning: bool,
    choices: SmallVec<[Choice; 1]>,
    told_fingerprint: bool,
    told_tier: bool,
    done: bool,
    mold: Mold,
}

impl From<ScanError> for Fault {
    fn from(e: ScanError) -> Self {
        broken(e)
    }
}

/// A decoder's complaint about JSON.
pub(super) fn broken(e: ScanError) -> Fault {
    Fault::Broken(format!("the provider's answer is no JSON: {} (byte {})", e.what, e.offset).into())
}

impl Decoder {
    /// A decoder for a provider whose `completion_tokens` leave reasoning out, or not.
    pub fn new(completion_excludes_reasoning: bool) -> Self {
        Self { completion_excludes_reasoning, ..Self::default() }
    }

    /// Reads a chunk or a completion: every byte once, and what it says is told when all of it has been read.
    fn document(&mut self, json: &str, whole: bool, out: &mut dyn Sink) -> Result<(), Fault> {
        let excludes = self.completion_excludes_reasoning;
        let mut said: SmallVec<[Said<'_>; 1]> = SmallVec::new();
        let (mut used, mut has_choices, mut failure, mut detail) = (None, false, false, false);
        let mut at = Cursor::new(json);
        at.object(|at, name| {
            match name {
                "choices" if at.at_array() => {
                    has_choices = true;
                    return at.array(|at| {
                        if said.len() as u64 >= MAX_CHOICES {
                            return Err(Fault::Broken("the answer has too many choices".into()));
                        }
                        let place = said.len() as u64;
                        said.push(Said::read(at, place, excludes)?);
                        Ok(())
                    });
                }
                "usage" if at.at_object() => {
                    used = usage::read(at, excludes).map_err(broken)?.or(used);
                    return Ok(());
                }
                "x_groq" if at.at_object() => {
                    return at
                        .object(|at, name| {
                            if name == "usage" && used.is_none() && at.at_object() {
                                used = usage::read(at, excludes)?;
                            } else {
                                at.raw()?;
                            }
                            Ok::<_, ScanError>(())
                        })
                        .map_err(broken);
                }
                _ => {}
            }
            let value = at.raw().map_err(broken)?;
            match name {
                "error" => failure |= !matches!(value, "null" | "{}" | "\"\"" | "false"),
                "object" => failure |= value == "\"error\"",
                "detail" | "fault" => detail = true,
                "system_fingerprint" if !self.told_fingerprint => {
                    if let Some(text) = filled(value) {
                        self.told_fingerprint = true;
                        out.event(Event::Fingerprint(text));
                    }
                }
                "service_tier" if !self.told_tier => {
                    if let Some(text) = filled(value) {
                        self.told_tier = true;
                        out.event(Event::ServiceTier(text));
                    }
                }
                _ => {}
            }
            Ok(())
        })?;
        at.finish().map_err(broken)?;
        if failure || (detail && !has_choices) {
            return Err(Fault::Provider(error::in_band(json)));
        }
        if let Some(json) = said.iter().find_map(|choice| choice.failure) {
            return Err(Fault::Provider(error::in_band(json)));
        }
        if let Some(used) = used {
            out.event(Event::Usage(used));
        } else if let [only] = said.as_slice()
            && !whole
            && only.is_content_alone()
            && only.index < MAX_CHOICES
        {
            self.mold.keep(json, only.content, only.index as u32);
        }
        said.iter().try_for_each(|choice| self.choice(choice, whole, out))
    }

    /// Tells what one element of `choices` says.
    fn choice(&mut self, said: &Said<'_>, whole: bool, out: &mut dyn Sink) -> Result<(), Fault> {
        if said.index >= MAX_CHOICES {
            return Err(Fault::Broken("the answer has too many choices".into()));
        }
        let index = said.index as u32;
        let at = self.choices.iter().position(|choice| choice.index == index).unwrap_or_else(|| {
            self.choices.push(Choice { index, ..Choice::default() });
            self.choices.len() - 1
        });
        let Some(choice) = self.choices.get_mut(at) else { return Ok(()) };
        choice.tell(said, whole, out)?;
        if let Some(json) = said.logprobs {
            tell_logprobs(index, json, out)?;
        }
        if let Some(used) = said.used {
            out.event(Event::Usage(used));
        }
        let Some(word) = said.finish else { return Ok(()) };
        let word = word.decode();
        let reason = Finish::of(&word).ok_or_else(|| Fault::Provider(failed(&word)))?;
        choice.calls.finish(index, out);
        choice.finished = true;
        out.event(Event::Finish { choice: index, reason });
        Ok(())
    }

    fn complete(&self) -> Result<(), Fault> {
        let finished = |choice: &Choice| choice.finished;
        let complete = if self.done { self.choices.iter().any(finished) } else { self.choices.iter().all(finished) };
        if complete && !self.choices.is_empty() { Ok(()) } else { Err(Fault::Truncated) }
    }
}

impl Decodes for Decoder {
    fn frame(&mut self, frame: Frame<'_>, out: &mut dyn Sink) -> Result<(), Fault> {
        let Frame::Sse { event, data } = frame else {
            return Err(Fault::Broken("an event stream of another protocol".into()));
        };
        let data = data.trim_ascii();
        if self.done || data.is_empty() {
            return Ok(()); // what follows [DONE] is nobody's; a blank event keeps the connection alive
        }
        if data == "[DONE]" {
            self.done = true;
            out.event(Event::End);
            return Ok(());
        }
        if event == Some("error") {
            return Err(Fault::Provider(error::in_band(data)));
        }
        if let Some((choice, text)) = self.mold.cast(data) {
            if !text.is_empty() {
                out.event(Event::Content { choice, text: Text::Raw(text) });
            }
            return Ok(());
        }
        self.document(data, false, out)
    }

    fn whole(&mut self, body: &[u8], out: &mut dyn Sink) -> Result<(), Fault> {
        let text = std::str::from_utf8(body).map_err(|_| Fault::Broken("the provider's answer is no UTF-8 text".into()))?;
        self.document(text, true, out)?;
        if self.choices.is_empty() {
            return Err(Fault::Broken("the provider's answer has no choices".into()));
        }
        self.complete()
    }

    fn end(&mut self, _out: &mut dyn Sink) -> Result<(), Fault> {
        self.complete()
    }
}

/// What one element of `choices` says, all of it raw.
#[derive(Default)]
struct Said<'a> {
    index: u64,
    content: &'a str,
    reasoning: Option<Text<'a>>,
    refusal: Option<Text<'a>>,
    calls: &'a str,
    extras: SmallVec<[(&'a str, &'a str); 2]>,
    logprobs: Option<&'a str>,
    finish: Option<Text<'a>>,
    used: Option<Usage>,
    /// The whole element, where it says that it failed.
    failure: Option<&'a str>,
}

impl<'a> Said<'a> {
    /// Reads an element; `place` is its number where it says none.
    fn read(at: &mut Cursor<'a>, place: u64, completion_excludes_reasoning: bool) -> Result<Self, Fault> {
        let (start, mut failed) = (at.position(), false);
        let mut said = Self { index: place, ..Self::default() };
        at.object(|at, name| {
            match name {
                "delta" | "message" if at.at_object() => return at.object(|at, name| said.member(name, at.raw()?)),
                "usage" if at.at_object() => {
                    said.used = usage::read(at, completion_excludes_reasoning)?;
                    return Ok(());
                }
                _ => {}
            }
            let value = at.raw()?;
            match name {
                "index" => said.index = walk::unsigned(value).unwrap_or(place),
                "logprobs" if value.starts_with('{') => said.logprobs = Some(value),
                "finish_reason" => said.finish = filled(value),
                "error" => failed |= value.starts_with('{') && value != "{}",
                _ => {}
            }
            Ok::<_, ScanError>(())
        })
        .map_err(broken)?;
        said.failure = failed.then(|| at.since(start));
        Ok(said)
    }

    /// Whether it says some words of content and nothing else.
    fn is_content_alone(&self) -> bool {
        let others = self.reasoning.is_some() || self.refusal.is_some() || self.logprobs.is_some() || self.used.is_some();
        self.content.starts_with('"') && !others && self.calls.is_empty() && self.extras.is_empty() && self.finish.is_none()
    }

    /// A member of a `delta` or a `message`.
    fn member(&mut self, name: &'a str, value: &'a str) -> Result<(), ScanError> {
        match name {
            "content" => self.content = value,
            // Some servers say the same under two names.
            "reasoning_content" | "reasoning" | "reasoning_text" => self.reasoning = self.reasoning.or_else(|| filled(value)),
            "refusal" => self.refusal = filled(value),
            "tool_calls" => self.calls = if value.starts_with('[') { value } else { self.calls },
            _ if matches!(value, "null" | "[]" | "{}" | "\"\"") => {}
            // Whatever is spelled with escapes may be a second one of the members above.
            name if name.contains('\\') => {}
            name if LITTER.contains(&name) => {}
            name => self.extras.push((name, value)),
        }
        Ok(())
    }
}

impl Choice {
    /// Reasoning is told before the content that it led to.
    fn tell(&mut self, said: &Said<'_>, whole: bool, out: &mut dyn Sink) -> Result<(), Fault> {
        let choice = self.index;
        for (key, json) in &said.extras {
            match *key {
                "annotations" => {
                    if let Some(json) = citations(json) {
                        out.event(Event::Extra { choice, key, json: &json });
                    }
                }
                _ => out.event(Event::Extra { choice, key, json }),
            }
        }
        if let Some(text) = said.reasoning {
            out.event(Event::Reasoning { choice, text });
        }
        if said.content.starts_with('[') {
            parts(choice, said.content, out)?;
        } else if let Some(text) = filled(said.content) {
            out.event(Event::Content { choice, text });
        }
        if let Some(text) = said.refusal {
            out.event(Event::Refusal { choice, text });
        }
        if said.calls.is_empty() { Ok(()) } else { self.calls.read(choice, said.calls, whole, out) }
    }
}

/// Content as an array of parts: texts, and Mistral's `thinking`, whose own content is an array of texts or a string.
fn parts(choice: u32, json: &str, out: &mut dyn Sink) -> Result<(), Fault> {
    let mut elements = walk::inner_elements(json).map_err(broken)?;
    while let Some(part) = elements.next().map_err(broken)? {
        if let Some(text) = filled(part) {
            out.event(Event::Content { choice, text });
        }
        if !part.starts_with('{') {
            continue;
        }
        let (mut text, mut thinking) = (None, "");
        let mut members = walk::inner_members(part).map_err(broken)?;
        while let Some((key, value)) = members.next().map_err(broken)? {
            match key.raw() {
                "text" => text = filled(value),
                "thinking" => thinking = value,
                _ => {}
            }
        }
        if let Some(text) = text {
            out.event(Event::Content { choice, text });
        }
        if let Some(text) = filled(thinking) {
            out.event(Event::Reasoning { choice, text });
        } else if thinking.starts_with('[') {
            thoughts(choice, thinking, out)?;
        }
    }
    Ok(())
}

fn thoughts(choice: u32, json: &str, out: &mut dyn Sink) -> Result<(), Fault> {
    let mut elements = walk::inner_elements(json).map_err(broken)?;
    while let Some(part) = elements.next().map_err(broken)? {
        if !part.starts_with('{') {
            continue;
        }
        let mut members = walk::inner_members(part).map_err(broken)?;
        while let Some((key, value)) = members.next().map_err(broken)? {
            if let ("text", Some(text)) = (key.raw(), filled(value)) {
                out.event(Event::Reasoning { choice, text });
            }
        }
    }
    Ok(())
}

/// OpenAI's schema wants both lists of log probabilities to be there; anything else than these is another format.
fn tell_logprobs(choice: u32, json: &str, out: &mut dyn Sink) -> Result<(), Fault> {
    let (mut content, mut refusal) = (None, None);
    let mut members = walk::inner_members(json).map_err(broken)?;
    while let Some((key, value)) = members.next().map_err(broken)? {
        match key.raw() {
            "content" => content = Some(value),
            "refusal" => refusal = Some(value),
            _ => {}
        }
    }
    let list = |value: Option<&str>| value.is_some_and(|value| value.starts_with('['));
    match (content, refusal) {
        _ if !list(content) && !list(refusal) => {}
        (Some(_), Some(_)) => out.event(Event::Logprobs { choice, json }),
        (content, refusal) => {
            let json = format!(r#"{{"content":{},"refusal":{}}}"#, content.unwrap_or("null"), refusal.unwrap_or("null"));
            out.event(Event::Logprobs { choice, json: &json });
        }
    }
    Ok(())
}

/// The inside of a string that has something in it.
fn filled(json: &str) -> Option<Text<'_>> {
    walk::string(json).filter(|text| !text.is_empty())
}

/// A finish reason that says that the answer failed, or that nobody knows.
fn failed(word: &str) -> ProviderError {
    let class = if word == "insufficient_system_resource" { FailureClass::Overloaded } else { FailureClass::Server };
    let word: String = word.chars().take(64).collect();
    ProviderError { class, message: format!("the provider ended the answer with `{word}`"), retry_after: None }
}
/// The annotations that OpenAI's schema knows; some servers put files and others among them.
fn citations(json: &str) -> Option<Cow<'_, str>> {
    let mut kept = Vec::new();
    let (mut all, mut elements) = (true, walk::inner_elements(json).ok()?);
    while let Some(element) = elements.next().ok()? {
        let mut members = walk::inner_members(element).ok();
        let mut known = false;
        while let Some((key, value)) = members.as_mut().and_then(|m| m.next().ok()).flatten() {
            known |= key.is("type") && value == "\"url_citation\"";
        }
        all &= known;
        kept.extend(known.then_some(element));
    }
    match (all, kept.is_empty()) {
        (true, _) => Some(Cow::Borrowed(json)),
        (false, true) => None,
        (false, false) => Some(Cow::Owned(format!("[{}]", kept.join(",")))),
    }
}
