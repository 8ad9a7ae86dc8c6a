//! The messages, where a provider takes less in them than OpenAI. Most take them as they are, and nothing is copied.

use crate::chat::event::Text;
use crate::chat::field::Field;
use crate::chat::request::{ChatRequest, Talk};
use crate::dialect::ids;
use crate::error::ApiError;
use crate::json::envelope::ScanError;
use crate::json::walk;
use crate::json::write::Writer;
use crate::provider::catalogue::{Part, Quirks, ReasoningTurns};
use crate::sign::seal;
use memchr::memmem;
use smallvec::SmallVec;

const PARTS: [Part; 3] = [Part::ImageUrl, Part::File, Part::InputAudio];

/// The messages as the provider wants them; `None` where they can stay as they came.
///
/// # Errors
/// A 400 that names the part of a message that the provider cannot take.
pub fn rewrite(request: &ChatRequest<'_>, quirks: &Quirks) -> Result<Option<Vec<u8>>, ApiError> {
    let talk = request.parsed.talk();
    if talk == Talk::default() {
        return Ok(None); // as most are
    }
    let Some(raw) = request.parsed.raw(Field::Messages).filter(|raw| touched(raw, talk, quirks)) else { return Ok(None) };
    let mut w = Writer::with_capacity(raw.len());
    w.array();
    let mut elements = walk::inner_elements(raw).map_err(|e| bad("messages", e))?;
    let mut number = 0;
    while let Some(message) = elements.next().map_err(|e| bad("messages", e))? {
        write(message, number, request, quirks, &mut w)?;
        number += 1;
    }
    w.end_array();
    Ok(Some(w.finish()))
}

/// Whether anything in the messages may have to change. Words are looked for, wherever they stand: a match that means
/// nothing costs time only.
fn touched(raw: &str, talk: Talk, quirks: &Quirks) -> bool {
    let has = |word: &str| memmem::find(raw.as_bytes(), word.as_bytes()).is_some();
    // Another provider's state is of no use here, and its ids may be longer than what this one takes.
    (talk.calls && (has(seal::MARK) || quirks.call_id_max.is_some_and(|max| has_long_id(raw, max))))
        || (!quirks.developer_role && talk.developer)
        || (quirks.reasoning != ReasoningTurns::Keep && talk.reasoning)
        || (talk.parts && (quirks.flatten_text || PARTS.iter().any(|part| !quirks.parts.contains(part) && has(part.name()))))
}

/// Whether a result names a call by a longer id. Every call of a conversation has its result, so the calls are not looked at.
fn has_long_id(raw: &str, max: usize) -> bool {
    const NAME: &str = "\"tool_call_id\"";
    memmem::find_iter(raw.as_bytes(), NAME).any(|at| {
        let value = raw.get(at + NAME.len()..).unwrap_or_default().trim_start_matches([':', ' ', '\t', '\r', '\n']);
        value.strip_prefix('"').is_some_and(|id| id.find('"').is_some_and(|end| end > max))
    })
}

fn write(message: &str, number: usize, request: &ChatRequest<'_>, quirks: &Quirks, w: &mut Writer) -> Result<(), ApiError> {
    let bad = |e| bad(&format!("messages[{number}]"), e);
    let mut members = walk::inner_members(message).map_err(bad)?;
    let mut calls = false;
    while let Some((key, value)) = members.next().map_err(bad)? {
        calls |= key.is("tool_calls") && value.starts_with('[') && value != "[]";
    }
    w.object();
    let mut members = walk::inner_members(message).map_err(bad)?;
    while let Some((key, value)) = members.next().map_err(bad)? {
        let name = key.decode();
        match &*name {
            "role" if value == "\"developer\"" && !quirks.developer_role => {
                w.key("role").string("system");
            }
            "content" if value.starts_with('[') => content(value, number, quirks, w.key("content"))?,
            "reasoning_content" | "reasoning"
                if quirks.reasoning == ReasoningTurns::Strip || (quirks.reasoning == ReasoningTurns::ToolTurns && !calls) => {}
            "tool_call_id" => id(value, request, quirks, w.key("tool_call_id")),
            "tool_calls" if value.starts_with('[') => tool_calls(value, request, quirks, w.key("tool_calls")).map_err(bad)?,
            _ => {
                w.key(&name).raw(value);
            }
        }
    }
    w.end_object();
    Ok(())
}

/// The calls with the ids that the provider itself gave, or such as it takes.
fn tool_calls(json: &str, request: &ChatRequest<'_>, quirks: &Quirks, w: &mut Writer) -> Result<(), ScanError> {
    w.array();
    let mut calls = walk::inner_elements(json)?;
    while let Some(call) = calls.next()? {
        if !call.starts_with('{') {
            w.raw(call);
            continue;
        }
        w.object();
        let mut members = walk::inner_members(call)?;
        while let Some((key, value)) = members.next()? {
            let name = key.decode();
            if name == "id" {
                id(value, request, quirks, w.key("id"))
            } else {
                w.key(&name).raw(value);
            }
        }
        w.end_object();
    }
    w.end_array();
    Ok(())
}

/// An id without the state that is sealed behind it, if any, and no longer than the provider takes.
fn id(json: &str, request: &ChatRequest<'_>, quirks: &Quirks, w: &mut Writer) {
    let text = walk::string(json).map(Text::decode).unwrap_or_default();
    let opened = request.seal.and_then(|seal| seal.open(&text)).map(|(id, _)| id);
    let id = opened.as_deref().unwrap_or(&text);
    match &opened {
        _ if quirks.call_id_max.is_some_and(|max| id.len() > max) => w.string(&format!("call_{}", ids::hashed(id))),
        Some(id) => w.string(id),
        None => w.raw(json),
    };
}

fn content(json: &str, number: usize, quirks: &Quirks, w: &mut Writer) -> Result<(), ApiError> {
    let bad = |e| bad(&format!("messages[{number}].content"), e);
    let mut texts = SmallVec::<[Text<'_>; 8]>::new();
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
    if quirks.flatten_text {
        w.texts(&texts);
    } else {
        w.raw(json);
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

fn bad(what: &str, e: ScanError) -> ApiError {
    ApiError::field(what.to_owned(), format!("`{what}`: {}", e.what))
}
