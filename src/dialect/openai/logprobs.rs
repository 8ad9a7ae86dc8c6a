//! Log probabilities in every form that servers have for them.

use crate::json::envelope::ScanError;
use crate::json::walk;
use crate::json::write::Writer;
use crate::llm::event::{Event, Sink};
use crate::llm::failure::Fault;

/// Emits an object of log probabilities, unless there are none in it.
///
/// It is `{"content": […], "refusal": […]}`, or, at Together, the form of the older completions: `{"tokens": […],
/// "token_logprobs": […], "top_logprobs": [{"token": number}]}`.
///
/// # Errors
/// Where it is not well formed.
pub fn emit(choice: u32, json: &str, out: &mut dyn Sink) -> Result<(), Fault> {
    let (mut lists, mut older) = ([("content", ""), ("refusal", "")], [("tokens", ""), ("token_logprobs", ""), ("top_logprobs", "")]);
    let mut members = walk::inner_members(json)?;
    while let Some((key, value)) = members.next()? {
        let known = lists.iter_mut().chain(&mut older).find(|(name, _)| *name == key.raw());
        known.filter(|_| value.starts_with('[')).into_iter().for_each(|(_, list)| *list = value);
    }
    let has_tokens = |list: &str| !list.trim_matches(['[', ']', ' ', '\t', '\r', '\n']).is_empty();
    let mut w = Writer::with_capacity(json.len() + 64);
    w.object();
    if lists.iter().any(|(_, list)| has_tokens(list)) {
        for (name, list) in lists {
            w.key(name);
            tokens(list, true, &mut w)?;
        }
    } else {
        let [(_, names), (_, numbers), (_, tops)] = older;
        if !has_tokens(names) || !has_tokens(numbers) {
            return Ok(());
        }
        w.key("content");
        older_tokens(names, numbers, tops, &mut w)?;
        w.key("refusal").raw("null");
    }
    w.end_object();
    out.event(Event::Logprobs { choice, json: &w.into_string() });
    Ok(())
}

/// A list of tokens, or of `alternatives` to one, with the members that the schema demands.
fn tokens(list: &str, alternatives: bool, w: &mut Writer) -> Result<(), ScanError> {
    if list.is_empty() {
        w.raw("null");
        return Ok(());
    }
    w.array();
    let mut elements = walk::inner_elements(list)?;
    while let Some(element) = elements.next()? {
        let (mut bytes, mut top) = (false, "[]");
        w.object();
        let mut members = walk::inner_members(element)?;
        while let Some((key, value)) = members.next()? {
            match key.raw() {
                "top_logprobs" => top = if value.starts_with('[') { value } else { top },
                name => {
                    bytes |= name == "bytes";
                    w.key(&key.decode()).raw(value);
                }
            }
        }
        if !bytes {
            w.key("bytes").raw("null");
        }
        if alternatives {
            w.key("top_logprobs");
            tokens(top, false, w)?;
        }
        w.end_object();
    }
    w.end_array();
    Ok(())
}

/// The tokens of the older completions; one without a number, as the first of a prompt is, is left out.
fn older_tokens(names: &str, numbers: &str, tops: &str, w: &mut Writer) -> Result<(), ScanError> {
    let mut tops = if tops.is_empty() { None } else { Some(walk::inner_elements(tops)?) };
    let (mut names, mut numbers) = (walk::inner_elements(names)?, walk::inner_elements(numbers)?);
    w.array();
    while let (Some(name), Some(number)) = (names.next()?, numbers.next()?) {
        let top = match &mut tops {
            Some(tops) => tops.next()?.unwrap_or_default(),
            None => "",
        };
        if !name.starts_with('"') || number == "null" {
            continue;
        }
        w.object().key("token").raw(name).key("logprob").raw(number).key("bytes").raw("null").key("top_logprobs").array();
        if top.starts_with('{') {
            let mut others = walk::inner_members(top)?;
            while let Some((key, number)) = others.next()? {
                w.object().key("token").string(&key.decode()).key("logprob").raw(number).key("bytes").raw("null").end_object();
            }
        }
        w.end_array().end_object();
    }
    w.end_array();
    Ok(())
}
