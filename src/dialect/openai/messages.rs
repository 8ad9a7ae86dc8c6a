//! The messages, where a provider takes less in them than OpenAI. Most take them as they are, and nothing is copied.

use super::quirks::{Part, Quirks, ReasoningField, ReasoningTurns, Returned};
use super::returned;
use crate::dialect::shared::ids;
use crate::dialect::shared::params::Settled;
use crate::error::ApiError;
use crate::json::envelope::ScanError;
use crate::json::text::Text;
use crate::json::walk;
use crate::json::write::Writer;
use crate::llm::envelope::{ChatRequest, MessageTraits};
use crate::llm::field::Field;
use crate::llm::state;
use crate::llm::validate::is_empty_list;
use memchr::memmem;
use smallvec::SmallVec;
use std::borrow::Cow;

const PARTS: [Part; 3] = [Part::ImageUrl, Part::File, Part::InputAudio];

/// What the `name` of messages is called in `x-tidegate-dropped-params`.
pub(super) const NAMES: &str = "messages[].name";

/// The messages as the provider wants them, with an assistant's reasoning in `field`; `None` where they can stay as they
/// came.
///
/// # Errors
/// A 400 that names the part of a message that the provider cannot take.
pub fn rewrite(
    request: &ChatRequest<'_>,
    quirks: &Quirks,
    field: ReasoningField,
    settled: &mut Settled,
) -> Result<Option<Vec<u8>>, ApiError> {
    let traits = request.parsed.traits();
    let Some(raw) = request.parsed.raw(Field::Messages).filter(|raw| touched(raw, traits, quirks, field)) else { return Ok(None) };
    let mut w = Writer::with_capacity(raw.len());
    w.array();
    let mut elements = walk::inner_elements(raw).map_err(|e| bad("messages", e))?;
    let mut number = 0;
    while let Some(message) = elements.next().map_err(|e| bad("messages", e))? {
        let turn = Turn::read(message, request).map_err(|e| bad(&format!("messages[{number}]"), e))?;
        if turn.assistant && !quirks.empty_turns && !turn.says {
            number += 1;
            continue;
        }
        if turn.has_name && !quirks.message_names {
            settled.drop(NAMES)?;
        }
        turn.write(message, number, request, quirks, field, &mut w)?;
        number += 1;
    }
    w.end_array();
    Ok(Some(w.finish()))
}

/// Whether anything in the messages may have to change. Words are looked for, wherever they stand: a match that means
/// nothing costs time only.
fn touched(raw: &str, traits: MessageTraits, quirks: &Quirks, field: ReasoningField) -> bool {
    let has = |word: &str| memmem::find(raw.as_bytes(), word.as_bytes()).is_some();
    // Another provider's state is of no use here, and its ids may be longer than what this one takes.
    traits.sealed
        || traits.empty_calls
        || (quirks.reasoning_required && traits.calls)
        || quirks.call_id_max.is_some_and(|max| traits.longest_id > max)
        || (!quirks.message_names && traits.names)
        || (!quirks.developer_role && traits.developer)
        || (!quirks.empty_turns && (traits.parts || has("\"assistant\"")))
        || (traits.reasoning && (quirks.reasoning != ReasoningTurns::Keep || field != ReasoningField::ReasoningContent))
        || (traits.parts && (quirks.flatten_text || PARTS.iter().any(|part| !quirks.parts.contains(part) && has(part.name()))))
}

/// What has to be known of a message before it is written.
#[derive(Default)]
struct Turn<'a> {
    assistant: bool,
    /// The reasoning that the client sent, a JSON string with something in it.
    reasoning: Option<&'a str>,
    has_content: bool,
    /// Whether it has content with something in it, or a call.
    says: bool,
    has_name: bool,
    has_details: bool,
    /// What was sealed behind the id of each call, by its place.
    returned: SmallVec<[State; 2]>,
}

/// A call's own id, where something was sealed behind it, and that.
#[derive(Default)]
struct State {
    id: Option<String>,
    returned: returned::State,
}

impl<'a> Turn<'a> {
    fn read(message: &'a str, request: &ChatRequest<'_>) -> Result<Self, ScanError> {
        let mut turn = Self::default();
        let mut members = walk::inner_members(message)?;
        while let Some((key, value)) = members.next()? {
            match &*key.decode() {
                "tool_calls" if value.starts_with('[') => {
                    turn.says |= value != "[]";
                    let mut calls = walk::inner_elements(value)?;
                    while let Some(call) = calls.next()? {
                        turn.returned.push(State::read(call, request)?);
                    }
                }
                "reasoning_content" | "reasoning" if value.starts_with('"') && value != "\"\"" => {
                    turn.reasoning = turn.reasoning.or(Some(value))
                }
                "role" => turn.assistant = value == "\"assistant\"",
                "content" => {
                    turn.has_content = value != "null";
                    turn.says |= !is_blank(value)?;
                }
                "function_call" => turn.says |= value != "null",
                "name" => turn.has_name = true,
                "reasoning_details" => turn.has_details = value != "null",
                _ => {}
            }
        }
        Ok(turn)
    }

    fn write(
        &self,
        message: &'a str,
        number: usize,
        request: &ChatRequest<'_>,
        quirks: &Quirks,
        field: ReasoningField,
        w: &mut Writer,
    ) -> Result<(), ApiError> {
        let bad = |e| bad(&format!("messages[{number}]"), e);
        let kept = quirks.reasoning == ReasoningTurns::Keep;
        let own_name = field == ReasoningField::ReasoningContent;
        let required = quirks.reasoning_required && own_name && self.assistant && request.parsed.traits().calls;
        let returns = quirks.returns.contains(&Returned::Reasoning);
        let sealed = || self.returned.iter().find_map(|state| state.returned.reasoning.as_deref());
        let reasoning: Option<&str> = self.reasoning.or_else(|| if returns { sealed() } else { None }).filter(|_| kept);
        let reasoning = reasoning.or(required.then_some(NO_REASONING));
        let details = self.returned.iter().find_map(|state| state.returned.details.as_deref());
        let details = details.filter(|_| kept && !self.has_details && quirks.returns.contains(&Returned::ReasoningDetails));
        let inside = reasoning.filter(|_| field == ReasoningField::Content);
        w.object();
        if let Some(thought) = inside.filter(|_| !self.has_content) {
            thinking(thought, w.key("content"));
        }
        let mut members = walk::inner_members(message).map_err(bad)?;
        while let Some((key, value)) = members.next().map_err(bad)? {
            let name = key.decode();
            match &*name {
                "role" if value == "\"developer\"" && !quirks.developer_role => {
                    w.key("role").string("system");
                }
                "name" if !quirks.message_names => {}
                // "Invalid 'messages[1].tool_calls': empty array. Expected an array with minimum length 1".
                "tool_calls" if is_empty_list(value) => {}
                "content" if value == "null" && inside.is_some() => {}
                "reasoning_details" if details.is_some() => {}
                "content" if !quirks.empty_turns && inside.is_none() && value.starts_with('[') && is_blank(value).map_err(bad)? => {
                    w.key("content").string("");
                }
                "content" if value.starts_with('[') => content(value, number, quirks, inside, w.key("content"))?,
                "content" if inside.is_some() => {
                    let (thought, text) = (inside.and_then(walk::string), walk::string(value));
                    w.key("content").texts(&[OPEN, thought.unwrap_or(Text::Raw("")), CLOSE, text.unwrap_or(Text::Raw(""))]);
                }
                // Once, below; under a name of the client's own where the provider does not look for it.
                "reasoning_content" | "reasoning" if !kept || !own_name || required => {}
                "tool_call_id" => id(value, request, quirks, w.key("tool_call_id")),
                "tool_calls" if value.starts_with('[') => self.tool_calls(value, quirks, w.key("tool_calls")).map_err(bad)?,
                _ => {
                    w.key(&name).raw(value);
                }
            }
        }
        match (reasoning, field) {
            (Some(reasoning), ReasoningField::Reasoning) => {
                w.key("reasoning").raw(reasoning);
            }
            (Some(reasoning), ReasoningField::ReasoningContent) if required || self.reasoning.is_none() => {
                w.key("reasoning_content").raw(reasoning);
            }
            _ => {}
        }
        w.optional_raw("reasoning_details", details).end_object();
        Ok(())
    }

    /// The calls with the ids that the provider itself gave, or such as it takes, and what it wants back with them.
    fn tool_calls(&self, json: &str, quirks: &Quirks, w: &mut Writer) -> Result<(), ScanError> {
        w.array();
        let mut calls = walk::inner_elements(json)?;
        let mut states = self.returned.iter();
        while let Some(call) = calls.next()? {
            let state = states.next();
            if !call.starts_with('{') {
                w.raw(call);
                continue;
            }
            w.object();
            let mut members = walk::inner_members(call)?;
            let mut has_extra = false;
            while let Some((key, value)) = members.next()? {
                let name = key.decode();
                has_extra |= name == "extra_content";
                if name == "id" {
                    let text = walk::string(value).map(Text::decode).unwrap_or_default();
                    fit(value, state.and_then(|state| state.id.as_deref()), &text, quirks, w.key("id"));
                } else {
                    w.key(&name).raw(value);
                }
            }
            if let Some(extra) = state.and_then(|state| state.returned.extra.as_deref())
                && !has_extra
                && quirks.returns.contains(&Returned::ExtraContent)
            {
                w.key("extra_content").raw(extra);
            }
            w.end_object();
        }
        w.end_array();
        Ok(())
    }
}

impl State {
    fn read(call: &str, request: &ChatRequest<'_>) -> Result<Self, ScanError> {
        if !call.starts_with('{') || !state::may_be_in(call) {
            return Ok(Self::default());
        }
        let id = walk::member(call, "id")?.and_then(walk::string).map(Text::decode).unwrap_or_default();
        let opened = request.seal.and_then(|seal| seal.open(&id));
        Ok(opened.map_or_else(Self::default, |(id, state)| Self { id: Some(id), returned: returned::State::of(&state) }))
    }
}

/// Whether content is nothing, or nothing but empty texts.
fn is_blank(content: &str) -> Result<bool, ScanError> {
    if !content.starts_with('[') {
        return Ok(matches!(content, "null" | "\"\""));
    }
    let mut parts = walk::inner_elements(content)?;
    while let Some(part) = parts.next()? {
        let text = if part.starts_with('{') { walk::member(part, "text")? } else { None };
        if text != Some("\"\"") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Blank reasoning. DeepSeek rejects an empty string as missing.
const NO_REASONING: &str = "\" \"";
/// What stands around reasoning inside of content, as reasoning models' own templates write it.
const OPEN: Text<'static> = Text::Plain("<think>\n");
const CLOSE: Text<'static> = Text::Plain("\n</think>\n\n");

/// Reasoning (a JSON string) between its tags.
fn thinking(reasoning: &str, w: &mut Writer) {
    w.texts(&[OPEN, walk::string(reasoning).unwrap_or(Text::Raw("")), CLOSE]);
}

/// An id without the state that is sealed behind it, if any, and no longer than the provider takes.
fn id(json: &str, request: &ChatRequest<'_>, quirks: &Quirks, w: &mut Writer) {
    let text = walk::string(json).map(Text::decode).unwrap_or_default();
    let opened = request.seal.and_then(|seal| seal.open(&text)).map(|(id, _)| id);
    fit(json, opened.as_deref(), &text, quirks, w);
}

/// Writes an id: the one that was `opened`, else `text` as it stands in `json`.
fn fit(json: &str, opened: Option<&str>, text: &str, quirks: &Quirks, w: &mut Writer) {
    match (fitted(opened.unwrap_or(text), quirks), opened) {
        (Cow::Borrowed(_), None) => w.raw(json),
        (id, _) => w.string(&id),
    };
}

/// An id of a call as the provider takes it: one that is too long, of another provider, is hashed.
pub(super) fn fitted<'a>(id: &'a str, quirks: &Quirks) -> Cow<'a, str> {
    if quirks.call_id_max.is_some_and(|max| id.len() > max) { format!("call_{}", ids::hashed(id)).into() } else { id.into() }
}

fn content(json: &str, number: usize, quirks: &Quirks, thought: Option<&str>, w: &mut Writer) -> Result<(), ApiError> {
    let bad = |e| bad(&format!("messages[{number}].content"), e);
    let mut texts = SmallVec::<[Text<'_>; 8]>::new();
    let thought = thought.map(|thought| walk::string(thought).unwrap_or(Text::Raw("")));
    let mut elements = walk::inner_elements(json).map_err(bad)?;
    let mut place = 0;
    while let Some(part) = elements.next().map_err(bad)? {
        let (mut kind, mut text) = ("", Text::Raw(""));
        let mut members = walk::inner_members(part).map_err(bad)?;
        while let Some((key, value)) = members.next().map_err(bad)? {
            match &*key.decode() {
                "type" => kind = value.trim_matches('"'),
                "text" | "refusal" => text = walk::string(value).unwrap_or(text),
                _ => {}
            }
        }
        let known = PARTS.iter().find(|part| part.name() == kind);
        if known.is_some_and(|part| !quirks.parts.contains(part)) || (quirks.flatten_text && !matches!(kind, "text" | "refusal")) {
            return Err(refused(number, place, kind));
        }
        if !texts.is_empty() {
            texts.push(Text::Plain("\n"));
        }
        texts.push(text);
        place += 1;
    }
    match thought {
        Some(thought) if quirks.flatten_text => {
            texts.insert_many(0, [OPEN, thought, CLOSE]);
            w.texts(&texts);
        }
        None if quirks.flatten_text => {
            w.texts(&texts);
        }
        Some(thought) => {
            w.array().object().key("type").string("text").key("text").texts(&[OPEN, thought, CLOSE]).end_object();
            let mut parts = walk::inner_elements(json).map_err(bad)?;
            while let Some(part) = parts.next().map_err(bad)? {
                w.raw(part);
            }
            w.end_array();
        }
        None => {
            w.raw(json);
        }
    }
    Ok(())
}

/// The 400 for a content part that a provider cannot take.
pub fn refused(message: usize, part: usize, kind: &str) -> ApiError {
    let kind: String = kind.chars().take(32).collect();
    let param = format!("messages[{message}].content[{part}].{kind}");
    let text = format!("`{param}`: this model's provider takes no `{kind}` parts; leave it out or choose another model");
    ApiError::field(param, text)
}

pub(super) fn bad(what: &str, e: ScanError) -> ApiError {
    ApiError::field(what.to_owned(), format!("`{what}`: {}", e.what))
}
