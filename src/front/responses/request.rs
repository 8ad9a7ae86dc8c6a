//! Reads a request into the neutral form, in one walk over its items.

use super::{INPUT, INSTRUCTIONS, MAX_TOKENS, REFERENCE, not_stored, overrides_max_tokens, stored, tools};
use crate::error::ApiError;
use crate::front::asks::{answer_format, asks, hint, neutral, passed};
use crate::front::read::{self, elements, flag, optional, raw_members, required};
use crate::front::sealed::{Origin, origin};
use crate::json::envelope::ScanError;
use crate::json::text::Text;
use crate::json::walk::{self, Cursor};
use crate::llm::constraint::{Constraint, DEFAULT_SCHEMA_NAME, Schema};
use crate::llm::envelope::ChatRequest;
use crate::llm::field::Field;
use crate::llm::media::Source;
use crate::llm::request::{Ask, Block, CallId, Content, OutputFormat, Param, Path, Request, Role, ToolCall};
use crate::llm::responses::ResponsesRequest;
use crate::llm::validate;
use crate::redact::shown;
use std::borrow::Cow;
use std::collections::HashSet;

/// The fields that pass to providers of OpenAI's protocol as they come, and are hints elsewhere.
const PASSED: [Field; 4] = [Field::PromptCacheKey, Field::PromptCacheRetention, Field::PromptCacheOptions, Field::SafetyIdentifier];

impl Ask for ResponsesRequest<'_> {
    fn request(&self) -> Result<Request<'_>, ApiError> {
        read(self)
    }

    fn model(&self) -> &str {
        self.base.model
    }

    fn stream(&self) -> bool {
        self.base.stream()
    }

    fn responses(&self) -> Option<&ResponsesRequest<'_>> {
        Some(self)
    }
}

/// The request of one attempt.
///
/// # Errors
/// A 400 that names the item, the part or the field that cannot be read, or that only a provider with this API has.
fn read<'a>(ask: &ResponsesRequest<'a>) -> Result<Request<'a>, ApiError> {
    let base = &ask.base;
    if let Some(name) = stored(base.parsed)? {
        return Err(not_stored(name));
    }
    let mut request = neutral(base)?;
    request.passed = passed(base, &PASSED);
    for (name, raw) in base.parsed.unknown() {
        let at = |name| Path::top(name);
        match &*name {
            INPUT | "background" => {}                      // read below; nothing runs in the background
            "store" => drop(flag(Some(raw), at("store"))?), // nothing is stored
            INSTRUCTIONS => {
                let at = at(INSTRUCTIONS);
                let text = optional(Some(raw), at)?.filter(|text| !text.is_empty());
                request.push_turn(Role::System, at, text.map(|text| Block::text(text, at)));
            }
            MAX_TOKENS => {
                validate::count(MAX_TOKENS, raw)?;
                if !overrides_max_tokens(base) && asks(base, Field::MaxTokens, MAX_TOKENS, &mut request) {
                    request.sampling.max_tokens = Some(raw);
                }
            }
            "top_logprobs" => {
                let tokens = walk::unsigned(raw).ok_or_else(|| at("top_logprobs").must_be("a whole number"))?;
                if tokens > 0
                    && asks(base, Field::Logprobs, "top_logprobs", &mut request)
                    && asks(base, Field::TopLogprobs, "top_logprobs", &mut request)
                {
                    (request.sampling.logprobs, request.sampling.top_logprobs) = (true, Some(raw));
                }
            }
            "include" => read_include(raw, base, &mut request)?,
            "reasoning" => read_reasoning(raw, Path::top("reasoning"), base, &mut request)?,
            "text" => read_text(raw, base, &mut request)?,
            "truncation" if raw == "\"disabled\"" => {}
            _ => hint(&mut request.params, name.into_owned()),
        }
    }
    request.params.extend(base.unknown_settings());
    tools::read(ask, &mut request)?;
    tools::choice(ask, &mut request)?;
    items(ask, &mut request)?;
    Ok(request)
}

/// `include`: optional parts of the answer. Of these only log probabilities matter here; reasoning always has its
/// `encrypted_content`.
fn read_include<'a>(raw: &'a str, base: &ChatRequest<'a>, request: &mut Request<'a>) -> Result<(), ApiError> {
    let list: Vec<Text<'_>> = serde_json::from_str(raw).map_err(|e| validate::unreadable("include", raw, &e))?;
    if list.iter().any(|text| text.decode() == "message.output_text.logprobs") && asks(base, Field::Logprobs, "include", request) {
        request.sampling.logprobs = true;
    }
    Ok(())
}

/// `reasoning`: the effort. [`super::summarises`] reads how reasoning is shown.
fn read_reasoning<'a>(raw: &'a str, at: Path, base: &ChatRequest<'a>, request: &mut Request<'a>) -> Result<(), ApiError> {
    let [effort, context, mode] = raw_members(&mut Cursor::inside(raw), at, ["effort", "context", "mode"])?;
    let place = if at.member.is_empty() { at.member("effort") } else { at.leaf("effort") };
    if let Some(word) = optional(effort, place)?
        && asks(base, Field::ReasoningEffort, "reasoning.effort", request)
    {
        request.effort = Some(word);
    }
    for (value, name) in [(context, "reasoning.context"), (mode, "reasoning.mode")] {
        if value.is_some_and(|raw| !matches!(raw, "null" | "\"auto\"")) {
            hint(&mut request.params, name);
        }
    }
    Ok(())
}

/// `text`: the format and the verbosity of the answer.
fn read_text<'a>(raw: &'a str, base: &ChatRequest<'a>, request: &mut Request<'a>) -> Result<(), ApiError> {
    let at = Path::top("text");
    let [format, verbosity] = raw_members(&mut Cursor::inside(raw), at, ["format", "verbosity"])?;
    if let Some(raw) = verbosity.filter(|raw| !matches!(*raw, "null" | "\"medium\""))
        && asks(base, Field::Verbosity, "text.verbosity", request)
    {
        request.passed.push((Field::Verbosity.name(), raw));
    }
    let Some(raw) = format.filter(|raw| *raw != "null") else { return Ok(()) };
    let at = at.member("format");
    let [kind, name, schema, strict, description] =
        raw_members(&mut Cursor::inside(raw), at, ["type", "name", "schema", "strict", "description"])?;
    let constraint = match &*required(kind, at.leaf("type"))?.decode() {
        "text" => return Ok(()),
        "json_object" => Constraint::JsonObject,
        "json_schema" => Constraint::JsonSchema(Schema {
            name: optional(name, at.leaf("name"))?.unwrap_or(Text::Plain(DEFAULT_SCHEMA_NAME)),
            schema: schema.filter(|raw| raw.starts_with('{')).map(Cow::Borrowed).ok_or_else(|| at.leaf("schema").must_be("an object"))?,
            strict: strict.and_then(|raw| raw.parse().ok()),
            description: optional(description, at.leaf("description"))?,
        }),
        _ => return Err(at.leaf("type").must_be("text, json_object or json_schema")),
    };
    answer_format(base, OutputFormat { field: Field::ResponseFormat, constraint }, "text.format", request);
    Ok(())
}

/// Adds what the assistant says. Consecutive items of the assistant are one turn.
fn push_assistant<'a>(request: &mut Request<'a>, at: Path, blocks: impl IntoIterator<Item = Block<'a>>) {
    match request.speakers.last_mut() {
        Some(last) if last.role == Role::Assistant => {
            let start = request.blocks.len();
            request.blocks.extend(blocks);
            last.length += request.blocks.len() - start;
        }
        _ => request.push_turn(Role::Assistant, at, blocks),
    }
}

/// Reads the items of a request in their order.
struct Reader<'r, 'a> {
    ask: &'r ResponsesRequest<'a>,
    /// The ids of the calls before the item.
    calls: HashSet<Cow<'a, str>>,
    /// The provider's state for the next call.
    state: Option<Vec<u8>>,
}

fn items<'a>(ask: &ResponsesRequest<'a>, request: &mut Request<'a>) -> Result<(), ApiError> {
    let raw = ask.base.parsed.raw_named(INPUT).unwrap_or("[]");
    if let Some(text) = walk::string(raw) {
        request.push_turn(Role::User, Path::top(INPUT), [Block::text(text, Path::top(INPUT))]);
        return Ok(());
    }
    let mut reader = Reader { ask, calls: HashSet::new(), state: None };
    elements(&mut Cursor::inside(raw), Path::top(INPUT), |cursor, number| reader.item(cursor, Path::element(INPUT, number), request))
}

/// The raw members of an item.
struct Item<'a> {
    at: Path,
    role: Option<&'a str>,
    content: Option<&'a str>,
    call_id: Option<&'a str>,
    name: Option<&'a str>,
    namespace: Option<&'a str>,
    summary: Option<&'a str>,
    encrypted: Option<&'a str>,
}

impl<'a> Reader<'_, 'a> {
    fn item(&mut self, cursor: &mut Cursor<'a>, at: Path, request: &mut Request<'a>) -> Result<(), ApiError> {
        const NAMES: [&str; 15] = [
            "type",
            "role",
            "content",
            "id",
            "call_id",
            "name",
            "namespace",
            "arguments",
            "input",
            "output",
            "summary",
            "encrypted_content",
            "action",
            "operation",
            "reasoning",
        ];
        let [kind, role, content, id, call_id, name, namespace, arguments, input, output, summary, encrypted, action, operation, reasoning] =
            raw_members(cursor, at, NAMES)?;
        let item = Item { at, role, content, call_id, name, namespace, summary, encrypted };
        let text = |raw, member| optional(raw, at.member(member)).map(|text| text.unwrap_or(Text::Plain("")));
        match optional(kind, at.member("type"))?.map(Text::decode).as_deref() {
            None | Some("message") => self.message(&item, request),
            Some("function_call") => self.call(&item, text(arguments, "arguments")?, at.member("arguments"), false, request),
            Some("custom_tool_call") => self.call(&item, text(input, "input")?, at.member("input"), true, request),
            Some("function_call_output" | "custom_tool_call_output") => self.result(&item, output, request),
            Some("reasoning") => self.reasoning(&item, request),
            Some("agent_message") => agent_message(&item, request),
            Some(REFERENCE) => Err(not_stored(REFERENCE)),
            Some("additional_tools") => Ok(()), // read with the other tools
            Some("configuration_update") => match reasoning.filter(|raw| *raw != "null") {
                Some(raw) => read_reasoning(raw, at.member("reasoning"), &self.ask.base, request),
                None => Ok(()),
            },
            // Tools of OpenAI's that the client runs.
            Some("local_shell_call" | "shell_call") => self.client_run(&item, id, "\"shell\"", action, request),
            Some("apply_patch_call") => self.client_run(&item, id, "\"apply_patch\"", operation, request),
            Some("local_shell_call_output" | "shell_call_output" | "apply_patch_call_output") => {
                self.result(&Item { call_id: call_id.or(id), ..item }, output, request)
            }
            // The answer that a provider gave after these calls follows them.
            Some(kind) if TRACES.contains(&kind) => {
                hint(&mut request.params, at.to_string());
                Ok(())
            }
            Some(kind) => {
                let kind = shown(kind);
                Err(at.refused(&format!("an item of type `{kind}` is unknown, or known only to a provider that has this API")))
            }
        }
    }

    fn message(&mut self, item: &Item<'a>, request: &mut Request<'a>) -> Result<(), ApiError> {
        let at = item.at.member("role");
        let role = match &*required(item.role, at)?.decode() {
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "system" | "developer" => Role::System,
            _ => return Err(at.must_be("user, assistant, system or developer")),
        };
        let mut blocks = Vec::new();
        content(item.content, item.at.member("content"), &mut blocks, &mut request.params)?;
        if role == Role::Assistant {
            push_assistant(request, item.at, blocks);
        } else {
            self.state = None;
            request.push_turn(role, item.at, blocks);
        }
        Ok(())
    }

    /// A call whose arguments, or input where it is `custom`, stand at `place`.
    fn call(&mut self, item: &Item<'a>, arguments: Text<'a>, place: Path, custom: bool, request: &mut Request<'a>) -> Result<(), ApiError> {
        let at = item.at;
        let id = required(item.call_id, at.member("call_id"))?.decode();
        let name = required(item.name, at.member("name"))?;
        let namespace = item.namespace.and_then(walk::string).map(Text::decode);
        let function = self.ask.functions.for_tool(namespace.as_deref(), &name.decode());
        self.calls.insert(id.clone());
        let call = ToolCall {
            id: CallId { id, state: self.state.take() },
            name: function.map_or(name, |function| Text::Plain(&function.name)),
            arguments,
            custom: custom.then_some(tools::CUSTOM_INPUT),
            extra: None,
        };
        push_assistant(request, at, [Block::new(Content::Call(call), place)]);
        Ok(())
    }

    /// A call of a tool of OpenAI's that the client runs, as one of a function; codex-rs answers its own with the output of one.
    fn client_run(
        &mut self,
        item: &Item<'a>,
        id: Option<&'a str>,
        name: &'a str,
        action: Option<&'a str>,
        request: &mut Request<'a>,
    ) -> Result<(), ApiError> {
        let item = Item { call_id: item.call_id.or(id), name: Some(name), namespace: None, ..*item };
        self.call(&item, Text::Plain(action.unwrap_or_default()), item.at, false, request)
    }

    fn result(&mut self, item: &Item<'a>, output: Option<&'a str>, request: &mut Request<'a>) -> Result<(), ApiError> {
        let at = item.at;
        let id = required(item.call_id, at.member("call_id"))?.decode();
        if !self.calls.contains(&id) {
            return Err(at.member("call_id").refused("no call of an earlier item has this id"));
        }
        self.state = None;
        let start = request.blocks.len();
        let place = at.member("output");
        match output.filter(|raw| is_list_of_others(raw)) {
            Some(raw) => request.blocks.push(Block::text(Text::Plain(raw), place)),
            None => content(output, place, &mut request.blocks, &mut request.params)?,
        }
        request.end_turn(Role::Tool, None, Some(CallId { id, state: None }), at, start);
        Ok(())
    }

    /// Reasoning: its text, and the state that belongs to the call behind it.
    fn reasoning(&mut self, item: &Item<'a>, request: &mut Request<'a>) -> Result<(), ApiError> {
        let at = item.at;
        if self.ask.without_reasoning() {
            return Ok(());
        }
        let encrypted = optional(item.encrypted, at.member("encrypted_content"))?.map(Text::decode).unwrap_or_default();
        match origin(self.ask.base.seal, &encrypted) {
            Origin::Other => return Ok(()),
            Origin::Own(own) => self.state = Some(own).filter(|own| !own.is_empty()).or(self.state.take()),
            Origin::Foreign => {}
        }
        // The model's own text says all that its summary does.
        let shown = [(item.content, at.member("content")), (item.summary, at.member("summary"))];
        let shown = shown.into_iter().find(|(raw, _)| raw.is_some_and(|raw| !matches!(raw, "null" | "[]")));
        let mut blocks: Vec<Block<'a>> = Vec::new();
        if let Some((Some(raw), at)) = shown {
            elements(&mut Cursor::inside(raw), at, |cursor, number| {
                let at = at.inner(number);
                let [text] = raw_members(cursor, at, ["text"])?;
                if !blocks.is_empty() {
                    blocks.push(Block::new(Content::Reasoning(Text::Plain("\n\n")), at));
                }
                blocks.push(Block::new(Content::Reasoning(required(text, at.leaf("text"))?), at));
                Ok(())
            })?;
        }
        blocks.retain(|block| !matches!(block.content, Content::Reasoning(text) if text.is_empty()));
        push_assistant(request, at, blocks);
        Ok(())
    }
}

/// What another agent says to this one: Codex's multi-agent mode, `{author, recipient, content}` with parts of text, which
/// name both of them, or encrypted ones (codex-rs, `AgentMessageInputContent`).
fn agent_message<'a>(item: &Item<'a>, request: &mut Request<'a>) -> Result<(), ApiError> {
    let mut blocks = Vec::new();
    content(item.content, item.at.member("content"), &mut blocks, &mut request.params)?;
    if !blocks.is_empty() {
        request.push_turn(Role::User, item.at, blocks);
    }
    Ok(())
}

/// Items that record the use of tools which a provider runs, or what only the provider reads that has encrypted it.
const TRACES: [&str; 14] = [
    "web_search_call",
    "file_search_call",
    "code_interpreter_call",
    "image_generation_call",
    "mcp_list_tools",
    "mcp_approval_request",
    "mcp_approval_response",
    "mcp_call",
    "tool_search_call",
    "tool_search_output",
    "program",
    "program_output",
    "compaction",
    "context_compaction",
];

/// Whether an output is a list of objects without a type, as a shell's outputs are.
fn is_list_of_others(raw: &str) -> bool {
    let untyped = || {
        let (mut typed, mut list) = (false, walk::inner_elements(raw)?);
        let first = list.next_object(|key, _| typed |= key.is("type"))?;
        Ok::<_, ScanError>(first.is_some() && !typed)
    };
    raw.starts_with('[') && untyped().unwrap_or_default()
}

/// Reads a content: one text, or parts. Empty texts are left out.
fn content<'a>(raw: Option<&'a str>, at: Path, into: &mut Vec<Block<'a>>, params: &mut Vec<Param<'a>>) -> Result<(), ApiError> {
    let raw = raw.unwrap_or("null");
    match raw.as_bytes().first() {
        Some(b'"') => into.extend(walk::string(raw).filter(|text| !text.is_empty()).map(|text| Block::text(text, at.inner(0)))),
        Some(b'[') => elements(&mut Cursor::inside(raw), at, |cursor, number| part(cursor, at.inner(number), into, params))?,
        _ if raw == "null" => {}
        _ => return Err(at.must_be("a string or an array of parts")),
    }
    Ok(())
}

fn part<'a>(cursor: &mut Cursor<'a>, at: Path, into: &mut Vec<Block<'a>>, params: &mut Vec<Param<'a>>) -> Result<(), ApiError> {
    const NAMES: [&str; 10] =
        ["type", "text", "refusal", "image_url", "detail", "file_data", "file_url", "file_id", "filename", "input_audio"];
    let [kind, text, refusal, image, detail, data, url, id, filename, audio] = raw_members(cursor, at, NAMES)?;
    let optional = |raw: Option<&'a str>, leaf| optional(raw, at.leaf(leaf));
    let content = match &*required(kind, at.leaf("type"))?.decode() {
        "input_text" | "output_text" | "text" => Content::Text(required(text, at.leaf("text"))?),
        "refusal" => Content::Refusal(required(refusal, at.leaf("refusal"))?),
        "input_image" => {
            let no_url = || match id {
                Some(_) => {
                    at.leaf("file_id").refused("a file's id is known only to a provider that has this API; send the image in `image_url`")
                }
                None => at.leaf("image_url").missing(),
            };
            let url = optional(image, "image_url")?.ok_or_else(no_url)?;
            Content::Image { source: Source::Url(url), detail: optional(detail, "detail")? }
        }
        "input_file" => {
            let source = optional(data, "file_data")?.or(optional(url, "file_url")?).map(Source::Url);
            let (name, id) = (optional(filename, "filename")?, optional(id, "file_id")?);
            if source.is_none() && id.is_none() {
                return Err(at.leaf("file_data").missing());
            }
            Content::File { source, name, id }
        }
        "input_audio" => read::audio(audio, at)?,
        "encrypted_content" => {
            hint(params, at.to_string());
            return Ok(());
        }
        _ => return Err(at.leaf("type").must_be("input_text, output_text, refusal, input_image, input_file or input_audio")),
    };
    if !matches!(content, Content::Text(text) | Content::Refusal(text) if text.is_empty()) {
        into.push(Block::new(content, at));
    }
    Ok(())
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
