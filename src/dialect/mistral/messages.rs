//! The conversation, written anew with the keys that Mistral's schema has and no others.

use super::ids;
use crate::error::ApiError;
use crate::json::text::Text;
use crate::json::write::Writer;
use crate::llm::data::{Base64, standard_uri};
use crate::llm::envelope::ChatRequest;
use crate::llm::link::Link;
use crate::llm::message::{self, Message, Part, Role};

/// The `messages` array.
///
/// # Errors
/// A 400 that names the part of a message that Mistral cannot take.
pub fn write(request: &ChatRequest<'_>) -> Result<Vec<u8>, ApiError> {
    let messages = message::read(request)?;
    let mut said: Vec<&Message<'_>> = Vec::with_capacity(messages.len());
    let (mut late, mut first) = (Vec::new(), 0);
    for message in &messages {
        if !says(message)? {
            continue;
        }
        let before = said.last().map(|message| message.role);
        if message.role == Role::System && matches!(before, Some(Role::Assistant | Role::Tool)) {
            late.push(message);
            continue;
        }
        if message.role == Role::System && first == said.len() {
            first += 1;
        }
        said.push(message);
    }
    // "Unexpected role 'system' after role 'tool'": instructions behind an answer or a result stand with the first ones, as
    // they do in every dialect whose provider takes instructions at the beginning only.
    let instructed = !late.is_empty() && messages.last().is_some_and(|message| message.role == Role::System);
    said.splice(first..first, late);
    let ends_with = said.last().map(|message| message.role);
    // "Expected last role User or Tool": instructions alone, or at the end, are answered behind a turn that says nothing.
    let blank = matches!(ends_with, None | Some(Role::System)) || (instructed && ends_with == Some(Role::Assistant));
    let mut w = Writer::with_capacity(request.parsed.body().len());
    w.array();
    for (at, message) in said.iter().enumerate() {
        let last = at + 1 == said.len() && !blank;
        match message.role {
            Role::System => system(message, &mut w)?,
            Role::User => user(message, &mut w)?,
            Role::Assistant => assistant(message, last, &mut w)?,
            Role::Tool => tool(message, &mut w)?,
        }
    }
    if blank {
        w.object().key("role").string("user").key("content").string(" ").end_object();
    }
    w.end_array();
    Ok(w.finish())
}

/// Whether there is anything in the message. Instructions and turns of the assistant's without it are left out: the
/// latter are refused there.
fn says(message: &Message<'_>) -> Result<bool, ApiError> {
    Ok(match message.role {
        Role::User | Role::Tool => true,
        Role::System | Role::Assistant => !message.tool_calls.is_empty() || !message.texts()?.is_empty(),
    })
}

fn system(message: &Message<'_>, w: &mut Writer) -> Result<(), ApiError> {
    w.object().key("role").string("system").key("content");
    content(&message.texts()?, w);
    w.end_object();
    Ok(())
}

fn user(message: &Message<'_>, w: &mut Writer) -> Result<(), ApiError> {
    w.object().key("role").string("user").key("content");
    match &*message.parts() {
        [] => content(&[], w),
        [Part::Text(text)] => content(&[*text], w),
        parts => {
            w.array();
            for (j, part) in parts.iter().enumerate() {
                write_part(message, j, part, w)?;
            }
            w.end_array();
        }
    }
    w.end_object();
    Ok(())
}

fn write_part(message: &Message<'_>, j: usize, part: &Part<'_>, w: &mut Writer) -> Result<(), ApiError> {
    match *part {
        Part::Text(text) | Part::Refusal(text) => write_text(text, w),
        Part::ImageUrl { url, detail } => {
            let made = standard_uri(url).map_err(|what| message.unfit(j, what))?;
            let url = made.as_deref().map_or(url, Text::Plain);
            w.object().key("type").string("image_url").key("image_url").object().key("url").text(url);
            if let Some(detail) = detail.filter(|detail| matches!(&*detail.decode(), "low" | "auto" | "high")) {
                w.key("detail").text(detail);
            }
            w.end_object().end_object();
        }
        Part::File { file_data: Some(data), filename, .. } => {
            let made = standard_uri(data).map_err(|what| message.unfit(j, what))?;
            let data = made.as_deref().map_or(data, Text::Plain);
            match Link::of(data) {
                Link::Data { media_type, .. } if media_type.starts_with("image/") => {
                    w.object().key("type").string("image_url").key("image_url").text(data).end_object();
                    return Ok(());
                }
                Link::Data { .. } | Link::Web(_) => {}
                _ => return Err(message.unfit(j, "`file_data` must be a data URI in base64 (`data:application/pdf;base64,…`)")),
            }
            w.object().key("type").string("document_url").key("document_url").text(data);
            if let Some(name) = filename {
                w.key("document_name").text(name);
            }
            w.end_object();
        }
        Part::File { file_id: Some(id), .. } => {
            w.object().key("type").string("file").key("file_id").text(id).end_object();
        }
        Part::File { .. } => return Err(message.unfit(j, "a file needs `file_data` or `file_id`")),
        Part::InputAudio { data, .. } => {
            let data = Base64::read(data).map_err(|what| message.unfit(j, what))?;
            w.object().key("type").string("input_audio").key("input_audio").text(data.text()).end_object();
        }
    }
    Ok(())
}

/// The conversation may end with an assistant's turn only as the beginning of the answer.
fn assistant(message: &Message<'_>, last: bool, w: &mut Writer) -> Result<(), ApiError> {
    let texts = message.texts()?;
    w.object().key("role").string("assistant").key("content");
    content(&texts, w);
    if !message.tool_calls.is_empty() {
        w.key("tool_calls").array();
        for call in &message.tool_calls {
            let arguments = if call.arguments.is_empty() { Text::Plain("{}") } else { call.arguments };
            w.object().key("id").string(&ids::fit(call.id)).key("type").string("function");
            w.key("function").object().key("name").text(call.name).key("arguments").text(arguments).end_object().end_object();
        }
        w.end_array();
    } else if last {
        w.key("prefix").flag(true);
    }
    w.end_object();
    Ok(())
}

fn tool(message: &Message<'_>, w: &mut Writer) -> Result<(), ApiError> {
    w.object().key("role").string("tool");
    if let Some(id) = message.tool_call_id {
        w.key("tool_call_id").string(&ids::fit(id));
    }
    if let Some(name) = message.name {
        w.key("name").text(name);
    }
    w.key("content");
    content(&message.texts()?, w);
    w.end_object();
    Ok(())
}

/// One text is a string, several are chunks.
fn content(texts: &[Text<'_>], w: &mut Writer) {
    match texts {
        [] => {
            w.string("");
        }
        [text] => {
            w.text(*text);
        }
        texts => {
            w.array();
            texts.iter().for_each(|text| write_text(*text, w));
            w.end_array();
        }
    }
}

fn write_text(text: Text<'_>, w: &mut Writer) {
    w.object().key("type").string("text").key("text").text(text).end_object();
}
