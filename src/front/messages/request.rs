//! Reads a request into the neutral form, in one walk over its messages.

use super::{ids, tools};
use crate::error::ApiError;
use crate::front::asks::{answer_format, asks, hint, neutral};
use crate::front::read::{cache, elements, flag, inner_members, optional, raw_members, required};
use crate::front::sealed::{Origin, origin};
use crate::json::text::Text;
use crate::json::walk::{self, Cursor};
use crate::llm::constraint::{Constraint, DEFAULT_SCHEMA_NAME, Schema};
use crate::llm::envelope::ChatRequest;
use crate::llm::field::Field;
use crate::llm::media::Source;
use crate::llm::messages::MessagesRequest;
use crate::llm::request::{Ask, Block, CallId, Content, OutputFormat, Param, Path, Request, Role, ToolCall, ToolChoice};
use crate::llm::strict;
use crate::llm::validate::wrong;
use crate::redact::shown;
use std::borrow::Cow;
use std::collections::HashSet;

/// How the text begins by which Claude Code names itself to Anthropic. It differs between conversations, so that it would
/// spoil every other provider's cache of the prompt.
const ATTRIBUTION: &str = "x-anthropic-billing-header";
/// What stands before the name of a tool that a search has found.
const FOUND: &str = "This tool is now available: ";
/// The effort that a budget of thinking below so many tokens comes to.
const BUDGETS: [(u64, &str); 3] = [(4096, "low"), (16_384, "medium"), (u64::MAX, "high")];

impl Ask for MessagesRequest<'_> {
    fn model(&self) -> &str {
        self.base.model
    }

    fn stream(&self) -> bool {
        self.base.stream()
    }

    fn request(&self) -> Result<Request<'_>, ApiError> {
        read(self).map(Request::adjusted)
    }

    fn messages(&self) -> Option<&MessagesRequest<'_>> {
        Some(self)
    }
}

/// The request of one attempt.
///
/// # Errors
/// A 400 that names the message, the block or the field that cannot be read, or that no other provider has.
fn read<'a>(ask: &MessagesRequest<'a>) -> Result<Request<'a>, ApiError> {
    let base = &ask.base;
    let mut request = neutral(base)?;
    request.passed = base.passed();
    for (name, raw) in base.parsed.unknown() {
        match &*name {
            "system" => system(raw, Path::top("system"), &mut request)?,
            "stop_sequences" => {
                let list: Vec<Text<'a>> =
                    serde_json::from_str(raw).map_err(|e| crate::llm::validate::unreadable("stop_sequences", raw, &e))?;
                if !list.is_empty() && asks(base, Field::Stop, "stop_sequences", &mut request) {
                    request.sampling.stop = list.into_iter().filter(|text| !text.is_empty()).collect();
                }
            }
            "metadata" => {
                let at = Path::top("metadata");
                let [user] = inner_members(Some(raw), at, ["user_id"])?;
                if let Some(user) = optional(user, at.member("user_id"))?.filter(|user| !user.is_empty())
                    && asks(base, Field::User, "metadata.user_id", &mut request)
                {
                    request.user = Some(user);
                }
            }
            "thinking" | "output_config" | "cache_control" => {} // below; the last one says how to cache
            "service_tier" if raw == "\"auto\"" => {}
            // With these Anthropic runs tools: <https://platform.claude.com/docs/en/api/messages/create>.
            "mcp_servers" | "container" if raw != "[]" => {
                let message = format!("`{name}` is for tools that Anthropic runs, and known to Claude only; leave it out");
                return Err(ApiError::field(name.into_owned(), message));
            }
            _ => request.params.push(Param::unknown(name)),
        }
    }
    request.params.extend(base.unknown_settings());
    think(base, &mut request)?;
    request.tools = tools::read(base, &mut request.params)?;
    tools::choice(base, &mut request)?;
    if matches!(request.tool_choice, None | Some(ToolChoice::Auto | ToolChoice::None)) {
        request.params.retain(|param| param.field != Some(Field::ToolChoice) || param.refused); // asks for nothing
    }
    messages(ask, &mut request)?;
    Ok(request)
}

/// `thinking` and `output_config`: how much the model shall think, and what its answer shall look like.
fn think<'a>(base: &ChatRequest<'a>, request: &mut Request<'a>) -> Result<(), ApiError> {
    let (thinking, output) = (Path::top("thinking"), Path::top("output_config"));
    let mut clients_effort = None;
    if let Some(raw) = base.parsed.raw_named("output_config") {
        let [effort, format] = raw_members(&mut Cursor::inside(raw), output, ["effort", "format"])?;
        clients_effort = optional(effort, output.member("effort"))?;
        if let Some(raw) = format.filter(|raw| *raw != "null") {
            let format = OutputFormat { field: Field::ResponseFormat, constraint: schema(raw, output.member("format"))? };
            answer_format(base, format, "output_config.format", request);
        }
    }
    let (mut budget, mut name) = (None, "output_config.effort");
    if let Some(raw) = base.parsed.raw_named("thinking") {
        let [kind, tokens] = raw_members(&mut Cursor::inside(raw), thinking, ["type", "budget_tokens"])?;
        match &*required(kind, thinking.member("type"))?.decode() {
            "disabled" | "between_tools" => (clients_effort, name) = (Some(Text::Plain("none")), "thinking"),
            "enabled" => {
                let must_be = || thinking.member("budget_tokens").must_be("a whole number");
                let tokens = tokens.and_then(walk::unsigned).ok_or_else(must_be)?;
                budget = Some(tokens);
                if clients_effort.is_none() {
                    let word = BUDGETS.iter().find(|(below, _)| tokens < *below).map_or("high", |(_, word)| word);
                    (clients_effort, name) = (Some(Text::Plain(word)), "thinking");
                }
            }
            "adaptive" => {} // leaves it to the model
            _ => return Err(thinking.member("type").must_be("enabled, adaptive, between_tools or disabled")),
        }
    }
    if clients_effort.is_some() && asks(base, Field::ReasoningEffort, name, request) {
        (request.effort, request.thinking_budget) = (clients_effort, budget);
    }
    Ok(())
}

/// `{"type": "json_schema", "schema": …}`.
fn schema(raw: &str, at: Path) -> Result<Constraint<'_>, ApiError> {
    let [kind, schema] = raw_members(&mut Cursor::inside(raw), at, ["type", "schema"])?;
    if required(kind, at.leaf("type"))?.decode() != "json_schema" {
        return Err(at.leaf("type").must_be("json_schema"));
    }
    let schema = schema.filter(|schema| schema.starts_with('{')).ok_or_else(|| at.leaf("schema").must_be("a JSON schema, an object"))?;
    let strict = strict::keeps_rules(schema).then_some(true);
    Ok(Constraint::JsonSchema(Schema { name: Text::Plain(DEFAULT_SCHEMA_NAME), schema: Cow::Borrowed(schema), strict, description: None }))
}

/// Instructions: a text, or blocks of text.
fn system<'a>(raw: &'a str, at: Path, request: &mut Request<'a>) -> Result<(), ApiError> {
    let mut blocks = Vec::new();
    content(raw, at, request, &mut blocks)?;
    if let Some(block) = blocks.iter().find(|block| !matches!(block.content, Content::Text(_))) {
        return Err(block.at.leaf("type").must_be("text"));
    }
    blocks.retain(|block| !matches!(block.content, Content::Text(text) if text.decode().starts_with(ATTRIBUTION)));
    request.push_turn(Role::System, at, blocks);
    Ok(())
}

fn messages<'a>(ask: &MessagesRequest<'a>, request: &mut Request<'a>) -> Result<(), ApiError> {
    let raw = ask.base.parsed.raw(Field::Messages).unwrap_or("[]");
    let mut cursor = Cursor::inside(raw);
    let mut calls = HashSet::new();
    elements(&mut cursor, Path::top(Field::Messages.name()), |cursor, index| {
        let at = Path::element(Field::Messages.name(), index);
        let [role, raw] = raw_members(cursor, at, ["role", "content"])?;
        let raw = raw.filter(|raw| *raw != "null").ok_or_else(|| at.member("content").missing())?;
        match &*required(role, at.member("role"))?.decode() {
            "user" => user(raw, at, request, &calls),
            "assistant" => assistant(raw, at, request, ask, &mut calls),
            "system" => system(raw, at.member("content"), request),
            _ => Err(at.member("role").must_be("user, assistant or system")),
        }
    })
}

/// A user's turn: the results of calls, each as a turn of its own, and then everything else.
fn user<'a>(raw: &'a str, at: Path, request: &mut Request<'a>, calls: &HashSet<Cow<'a, str>>) -> Result<(), ApiError> {
    let (mut said, before) = (Vec::new(), request.speakers.len());
    each(raw, at.member("content"), |cursor, at| match kind(cursor, at)?.as_ref() {
        Some(kind) if kind.decode() == "tool_result" => result(cursor, at, request, calls),
        _ => block(cursor, at, request, &mut said),
    })?;
    // Results alone are no turn beside them.
    if !said.is_empty() || request.speakers.len() == before {
        request.push_turn(Role::User, at, said);
    }
    Ok(())
}

fn result<'a>(cursor: &mut Cursor<'a>, at: Path, request: &mut Request<'a>, calls: &HashSet<Cow<'a, str>>) -> Result<(), ApiError> {
    let [id, raw, failed, mark] = raw_members(cursor, at, ["tool_use_id", "content", "is_error", "cache_control"])?;
    let failed = flag(failed, at.leaf("is_error"))?;
    let id = required(id, at.leaf("tool_use_id"))?.decode();
    if !calls.contains(&id) {
        return Err(at.leaf("tool_use_id").refused("no `tool_use` block of an earlier message has this id"));
    }
    let mut blocks = Vec::new();
    if let Some(raw) = raw.filter(|raw| *raw != "null") {
        content(raw, at.leaf("content"), request, &mut blocks)?;
    }
    if let (Some(mark), Some(last)) = (mark.and_then(cache), blocks.last_mut()) {
        last.cache.get_or_insert(mark);
    }
    let start = request.blocks.len();
    request.blocks.append(&mut blocks);
    request.end_turn(Role::Tool, None, Some(CallId { id: ids::decode(id), state: None }), at, start);
    if let Some(speaker) = request.speakers.last_mut() {
        speaker.failed = failed;
    }
    Ok(())
}

/// An assistant's turn: texts, thinking and calls. The state of a thinking block belongs to the call behind it.
fn assistant<'a>(
    raw: &'a str,
    at: Path,
    request: &mut Request<'a>,
    ask: &MessagesRequest<'a>,
    calls: &mut HashSet<Cow<'a, str>>,
) -> Result<(), ApiError> {
    let (mut said, mut state) = (Vec::new(), None);
    each(raw, at.member("content"), |cursor, at| {
        let Some(kind) = kind(cursor, at)? else { return block(cursor, at, request, &mut said) };
        match &*kind.decode() {
            "thinking" => {
                let [text, signature] = raw_members(cursor, at, ["thinking", "signature"])?;
                let signature = optional(signature, at.leaf("signature"))?.map(Text::decode).unwrap_or_default();
                let text = optional(text, at.leaf("thinking"))?.filter(|text| !text.is_empty());
                match origin(ask.base.seal, &signature) {
                    Origin::Other => return Ok(()),
                    Origin::Own(own) => state = Some(own).filter(|own| !own.is_empty()).or(state.take()),
                    Origin::Foreign => {}
                }
                said.extend(text.map(|text| Block::new(Content::Reasoning(text), at)));
            }
            "tool_use" => {
                let [id, name, input] = raw_members(cursor, at, ["id", "name", "input"])?;
                let id = required(id, at.leaf("id"))?.decode();
                let input = input.filter(|input| input.starts_with('{')).ok_or_else(|| at.leaf("input").must_be("an object"))?;
                let call = ToolCall {
                    id: CallId { id: ids::decode(id.clone()), state: state.take() },
                    name: required(name, at.leaf("name"))?,
                    arguments: Text::Plain(input),
                    custom: None,
                    extra: None,
                };
                calls.insert(id);
                said.push(Block::new(Content::Call(call), at.leaf("input")));
            }
            // Only Claude reads what it has encrypted itself.
            "redacted_thinking" => drop(cursor.raw()?),
            // The traces of tools that Anthropic ran.
            kind if kind == "server_tool_use" || kind == "mcp_tool_use" || (kind.ends_with("_tool_result") && kind != "tool_result") => {
                cursor.raw()?;
                hint(&mut request.params, "server_tool_use");
            }
            _ => block(cursor, at, request, &mut said)?,
        }
        Ok(())
    })?;
    request.push_turn(Role::Assistant, at, said);
    Ok(())
}

/// A content: one text, or each of its blocks.
fn each<'a>(raw: &'a str, at: Path, mut block: impl FnMut(&mut Cursor<'a>, Path) -> Result<(), ApiError>) -> Result<(), ApiError> {
    let mut cursor = Cursor::inside(raw);
    match raw.as_bytes().first() {
        Some(b'"') => block(&mut cursor, at.inner(0)),
        Some(b'[') => elements(&mut cursor, at, |cursor, number| match cursor.at_object() {
            true => block(cursor, if at.leaf.is_empty() { at.inner(number) } else { at }),
            false => Err(wrong(format!("{at}[{number}]"), "an object")),
        }),
        _ => Err(at.must_be("a string or an array of blocks")),
    }
}

/// The type of the block that the cursor is at; `None` for a text that is the whole content.
fn kind<'a>(cursor: &Cursor<'a>, at: Path) -> Result<Option<Text<'a>>, ApiError> {
    if !cursor.at_object() {
        return Ok(None);
    }
    let [kind] = raw_members(&mut cursor.clone(), at, ["type"])?;
    required(kind, at.leaf("type")).map(Some)
}

/// Reads texts, images and documents.
fn content<'a>(raw: &'a str, at: Path, request: &mut Request<'a>, into: &mut Vec<Block<'a>>) -> Result<(), ApiError> {
    each(raw, at, |cursor, at| block(cursor, at, request, into))
}

/// Reads one block of those that may stand anywhere. Texts of nothing are left out.
fn block<'a>(cursor: &mut Cursor<'a>, at: Path, request: &mut Request<'a>, into: &mut Vec<Block<'a>>) -> Result<(), ApiError> {
    const NAMES: [&str; 8] = ["type", "text", "source", "title", "context", "content", "tool_name", "cache_control"];
    let Some(kind) = kind(cursor, at)? else {
        let text = required(Some(cursor.raw()?), at)?;
        into.extend((!text.is_empty()).then(|| Block::text(text, at)));
        return Ok(());
    };
    let [_, text, source, title, context, inside, tool, mark] = raw_members(cursor, at, NAMES)?;
    let start = into.len();
    let word = kind.decode();
    match &*word {
        "text" => {
            let text = required(text, at.leaf("text"))?;
            into.extend((!text.is_empty()).then(|| Block::text(text, at)));
        }
        "image" => {
            let source = media(source, at, "image")?;
            into.push(Block::new(Content::Image { source, detail: None }, at));
        }
        "document" => document(source, [title, context], at, request, into)?,
        "search_result" => {
            for (raw, leaf) in [(title, "title"), (source, "source")] {
                into.extend(optional(raw, at.leaf(leaf))?.map(|text| Block::text(text, at)));
            }
            content(inside.unwrap_or("[]"), at.leaf("content"), request, into)?;
        }
        // A summary of what was said before.
        "compaction" => into.extend(optional(inside, at.leaf("content"))?.map(|text| Block::text(text, at))),
        // What a search for tools has found; their definitions are among `tools`.
        "tool_reference" => into.extend([Text::Plain(FOUND), required(tool, at.leaf("tool_name"))?].map(|text| Block::text(text, at))),
        _ => {
            return Err(at
                .leaf("type")
                .refused(&format!("a block of type `{}` cannot stand here, or is known to Claude only", shown(&word))));
        }
    }
    if let (Some(mark), Some(last)) = (mark.and_then(cache), into.get_mut(start..).and_then(<[_]>::last_mut)) {
        last.cache.get_or_insert(mark);
    }
    Ok(())
}

/// A document: a file, or texts, which need no file to be read.
fn document<'a>(
    source: Option<&'a str>,
    [title, context]: [Option<&'a str>; 2],
    at: Path,
    request: &mut Request<'a>,
    into: &mut Vec<Block<'a>>,
) -> Result<(), ApiError> {
    let [kind, data, inside] = inner_members(source, at.leaf("source"), ["type", "data", "content"])?;
    let title = optional(title, at.leaf("title"))?;
    let context = optional(context, at.leaf("context"))?;
    into.extend(context.map(|text| Block::text(text, at)));
    match &*required(kind, at.leaf("source.type"))?.decode() {
        "text" => {
            into.extend(title.map(|text| Block::text(text, at)));
            into.push(Block::text(required(data, at.leaf("source.data"))?, at));
        }
        "content" => {
            into.extend(title.map(|text| Block::text(text, at)));
            content(inside.unwrap_or("[]"), at.leaf("source.content"), request, into)?;
        }
        _ => {
            let source = Some(media(source, at, "document")?);
            into.push(Block::new(Content::File { source, name: title, id: None }, at));
        }
    }
    Ok(())
}

/// Where an image or a document is.
fn media<'a>(source: Option<&'a str>, at: Path, what: &str) -> Result<Source<'a>, ApiError> {
    let [kind, media_type, data, url] = inner_members(source, at.leaf("source"), ["type", "media_type", "data", "url"])?;
    match &*required(kind, at.leaf("source.type"))?.decode() {
        "base64" => {
            let media_type = required(media_type, at.leaf("source.media_type"))?;
            Ok(Source::Base64 { media_type, data: required(data, at.leaf("source.data"))? })
        }
        "url" => Ok(Source::Url(required(url, at.leaf("source.url"))?)),
        "file" => Err(at.leaf("source").refused(&format!("a `file_id` is known to Anthropic only; send the {what} as base64"))),
        _ => Err(at.leaf("source.type").must_be("base64 or url")),
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
