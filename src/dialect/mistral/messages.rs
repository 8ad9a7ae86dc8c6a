//! The conversation, written anew with the keys that Mistral's schema has and no others.

use crate::dialect::openai::body::Body;
use crate::dialect::openai::compose;
use crate::dialect::shared::ids::{LENGTH, hashed};
use crate::dialect::shared::params::Settled;
use crate::dialect::shared::schema::{self, rules};
use crate::error::ApiError;
use crate::json::surrogate;
use crate::json::text::Text;
use crate::json::write::Writer;
use crate::llm::field::Field;
use crate::llm::media::{Base64, Link};
use crate::llm::request::{Block, CacheMark, Content, Request, Role, ToolChoice, Turn, decoded};

/// The `messages` array.
///
/// # Errors
/// A 400 that names the part of a message that Mistral cannot take.
pub fn write(request: &Request<'_>) -> Result<Vec<u8>, ApiError> {
    let turns = request.turns();
    let mut said: Vec<&Turn<'_, '_>> = Vec::with_capacity(turns.len());
    let (mut late, mut first) = (Vec::new(), 0);
    for turn in &turns {
        if !says(turn)? {
            continue;
        }
        let before = said.last().map(|turn| turn.role());
        if turn.role() == Role::System && matches!(before, Some(Role::Assistant | Role::Tool)) {
            late.push(turn);
            continue;
        }
        if turn.role() == Role::System && first == said.len() {
            first += 1;
        }
        said.push(turn);
    }
    // "Unexpected role 'system' after role 'tool'": instructions behind an answer or a result stand with the first ones, as
    // they do in every dialect whose provider takes instructions at the beginning only.
    let instructed = !late.is_empty() && turns.last().is_some_and(|turn| turn.role() == Role::System);
    said.splice(first..first, late);
    let ends_with = said.last().map(|turn| turn.role());
    // "Expected last role User or Tool": instructions alone, or at the end, are answered behind a turn that says nothing.
    let blank = matches!(ends_with, None | Some(Role::System)) || (instructed && ends_with == Some(Role::Assistant));
    let mut w = Writer::with_capacity(request.size);
    w.array();
    for (at, turn) in said.iter().enumerate() {
        let last = at + 1 == said.len() && !blank;
        match turn.role() {
            Role::System => system(turn, &mut w)?,
            Role::User => user(turn, &mut w)?,
            Role::Assistant => assistant(turn, last, &mut w)?,
            Role::Tool => tool(turn, &mut w)?,
        }
    }
    if blank {
        w.object().key("role").string("user").key("content").string(" ").end_object();
    }
    w.end_array();
    Ok(surrogate::repair(w.finish()))
}

/// Whether there is anything in the turn. Instructions and turns of the assistant's without it are left out: the latter
/// are refused there.
fn says(turn: &Turn<'_, '_>) -> Result<bool, ApiError> {
    Ok(match turn.role() {
        Role::User | Role::Tool => true,
        Role::System | Role::Assistant => turn.calls().next().is_some() || !turn.texts()?.is_empty(),
    })
}

fn system(turn: &Turn<'_, '_>, w: &mut Writer) -> Result<(), ApiError> {
    w.object().key("role").string("system").key("content");
    content(&turn.texts()?, w);
    w.end_object();
    Ok(())
}

fn user(turn: &Turn<'_, '_>, w: &mut Writer) -> Result<(), ApiError> {
    w.object().key("role").string("user").key("content");
    match turn.blocks {
        [] => {
            w.string("");
        }
        [Block { content: Content::Text(text), .. }] => {
            w.text(*text);
        }
        blocks => {
            w.array();
            blocks.iter().try_for_each(|block| write_block(block, w))?;
            w.end_array();
        }
    }
    w.end_object();
    Ok(())
}

fn write_block(block: &Block<'_>, w: &mut Writer) -> Result<(), ApiError> {
    match block.content {
        Content::Text(text) | Content::Refusal(text) => write_text(text, w),
        Content::Image { source, detail } => {
            w.object().key("type").string("image_url").key("image_url").object().key("url");
            source.write_standard_url(w).map_err(|what| block.at.refused(what))?;
            w.optional_text("detail", detail.filter(|detail| matches!(&*detail.decode(), "low" | "auto" | "high")));
            w.end_object().end_object();
        }
        Content::File { source: Some(source), name, .. } => {
            let image = match source.link() {
                Link::Data(uri) => uri.read().map_err(|what| block.at.refused(what))?.media_type.starts_with("image/"),
                Link::Web(_) => false,
                _ => return Err(block.at.refused("`file_data` must be a data URI in base64 (`data:application/pdf;base64,…`)")),
            };
            let kind = if image { "image_url" } else { "document_url" };
            w.object().key("type").string(kind).key(kind);
            source.write_standard_url(w).map_err(|what| block.at.refused(what))?;
            w.optional_text("document_name", name.filter(|_| !image)).end_object();
        }
        Content::File { id: Some(id), .. } => {
            w.object().key("type").string("file").key("file_id").text(id).end_object();
        }
        Content::File { .. } => return Err(block.at.refused("a file needs `file_data` or `file_id`")),
        Content::Audio { data, .. } => {
            let data = Base64::read(data).map_err(|what| block.at.refused(what))?;
            w.object().key("type").string("input_audio").key("input_audio").text(data.text()).end_object();
        }
        Content::Reasoning(_) | Content::Call(_) | Content::Generated(_) => {}
    }
    Ok(())
}

/// The conversation may end with an assistant's turn only as the beginning of the answer.
fn assistant(turn: &Turn<'_, '_>, last: bool, w: &mut Writer) -> Result<(), ApiError> {
    w.object().key("role").string("assistant").key("content");
    content(&turn.texts()?, w);
    let mut calls = turn.calls().peekable();
    if calls.peek().is_some() {
        w.key("tool_calls").array();
        for (call, _) in calls {
            w.object().key("id").string(&fit(&call.id.id)).key("type").string("function");
            w.key("function").object().key("name").text(call.name).key("arguments");
            call.write_arguments(w);
            w.end_object().end_object();
        }
        w.end_array();
    } else if last {
        w.key("prefix").flag(true);
    }
    w.end_object();
    Ok(())
}

fn tool(turn: &Turn<'_, '_>, w: &mut Writer) -> Result<(), ApiError> {
    w.object().key("role").string("tool").key("tool_call_id").string(&fit(turn.answers()));
    w.optional_text("name", turn.name()).key("content");
    let prefix = turn.error_prefix();
    if turn.blocks.iter().all(|block| matches!(block.content, Content::Text(_))) {
        match (turn.texts()?, prefix.is_empty()) {
            (texts, true) => content(&texts, w),
            (texts, false) if texts.len() < 2 => {
                let pieces: Vec<_> = std::iter::once(prefix).chain(texts.into_iter().map(|(text, _)| text)).collect();
                w.texts(&pieces);
            }
            (mut texts, false) => {
                texts.insert(0, (prefix, None));
                content(&texts, w);
            }
        }
    } else {
        w.array();
        if !prefix.is_empty() {
            write_text(prefix, w);
        }
        turn.blocks.iter().try_for_each(|block| write_block(block, w))?;
        w.end_array();
    }
    w.end_object();
    Ok(())
}

/// One text is a string, several are chunks.
fn content(texts: &[(Text<'_>, Option<CacheMark>)], w: &mut Writer) {
    match texts {
        [] => {
            w.string("");
        }
        [(text, _)] => {
            w.text(*text);
        }
        texts => {
            w.array();
            texts.iter().for_each(|(text, _)| write_text(*text, w));
            w.end_array();
        }
    }
}

fn write_text(text: Text<'_>, w: &mut Writer) {
    w.object().key("type").string("text").key("text").text(text).end_object();
}

/// The id as Mistral takes it.
pub fn fit(id: &str) -> String {
    if id.len() == LENGTH && id.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return id.to_owned();
    }
    hashed(id)
}

/// Writes `tools` and `tool_choice`.
///
/// # Errors
/// A 400 that names the tool or the choice.
pub fn write_tools(request: &Request<'_>, body: &mut Body<'_>, settled: &mut Settled) -> Result<(), ApiError> {
    let (tools, choice) = (&request.tools, &request.tool_choice);
    if tools.is_empty() {
        body.remove_tools();
        return Ok(());
    }
    let allowed = match choice {
        Some(ToolChoice::Allowed { names, .. }) => Some(decoded(names.iter().copied())),
        _ => None,
    };
    let mut w = Writer::default();
    w.array();
    for tool in tools.iter().filter(|tool| allowed.as_ref().is_none_or(|names| names.contains(&tool.name.decode()))) {
        w.object().key("type").string("function").key("function").object().key("name").text(tool.name);
        w.optional_text("description", tool.description);
        let parameters = tool.parameters.unwrap_or(r#"{"type":"object","properties":{}}"#);
        let rules = if tool.strict == Some(true) { &rules::MISTRAL } else { &rules::MISTRAL_TOOL };
        match schema::adapt_tool(parameters, rules) {
            Some(adapted) => {
                if adapted.reworded {
                    settled.adjust(request.name_of(Field::Tools), "it takes a part of this schema as words only")?;
                }
                w.key("parameters").raw(&adapted.schema)
            }
            None => w.key("parameters").raw(parameters),
        };
        w.optional_flag("strict", tool.strict).end_object().end_object();
    }
    w.end_array();
    body.set(Field::Tools, w.finish());
    let mut w = Writer::default();
    match choice {
        None => return Ok(()),
        Some(ToolChoice::Auto | ToolChoice::Allowed { required: false, .. }) => w.string("auto"),
        Some(ToolChoice::None) => w.string("none"),
        Some(ToolChoice::Required | ToolChoice::Allowed { required: true, .. }) => w.string("any"),
        Some(ToolChoice::Named(name)) => compose::write_choice(*name, &mut w),
    };
    body.set(Field::ToolChoice, w.finish());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_ids_fit_and_stay_apart() {
        let ids: std::collections::HashSet<String> = (0..1000).map(|n| fit(&format!("call_{n}"))).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.len() == 9 && id.bytes().all(|b| b.is_ascii_alphanumeric())));
    }

    #[test]
    fn an_id_that_fits_stays() {
        assert_eq!(fit("aB3456789"), "aB3456789");
        assert_ne!(fit("aB34_6789"), "aB34_6789");
    }
}
