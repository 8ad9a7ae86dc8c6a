//! Writes a neutral request as a chat completion, for clients that speak another protocol. What the provider does otherwise
//! than OpenAI is then applied to it as to every chat completion.

use crate::dialect::Outgoing;
use crate::dialect::shared::params::Settled;
use crate::error::ApiError;
use crate::json::write::Writer;
use crate::llm::constraint::Constraint;
use crate::llm::envelope::{ChatRequest, Parsed};
use crate::llm::request::{Ask, Block, CallId, Content, Request, Role, ToolChoice, Turn};
use crate::llm::settings::Params;
use std::borrow::Cow;

/// Encodes a request from its chat completion: the client's own, or one that is composed here.
///
/// # Errors
/// What `encode` refuses, and a 400 for a parameter that OpenAI does not have where the route rejects such.
pub fn with_chat(ask: &dyn Ask, encode: impl FnOnce(&ChatRequest<'_>) -> Result<Outgoing, ApiError>) -> Result<Outgoing, ApiError> {
    if let Some(chat) = ask.chat() {
        return encode(chat);
    }
    let request = ask.request()?;
    let mut settled = Settled::new(request.reject_unsupported);
    let mut unknown = request.params.iter().filter(|param| param.field.is_none());
    unknown.try_for_each(|param| settled.drop_unknown(&param.name))?;
    let parsed = Parsed::parse(compose(&request).into())?;
    let params = Params { reject_unsupported: request.reject_unsupported, ..Params::default() };
    let chat = ChatRequest { parsed: &parsed, params: &params, system: None, model: request.model, seal: request.seal };
    let mut outgoing = encode(&chat)?;
    outgoing.dropped.append(&mut settled.dropped);
    Ok(outgoing)
}

/// The body of the chat completion.
fn compose(request: &Request<'_>) -> Vec<u8> {
    let mut w = Writer::with_capacity(request.size + 1024);
    w.object().key("model").string(request.model).key("messages").array();
    request.turns().iter().for_each(|turn| message(turn, request, &mut w));
    w.end_array();
    if request.stream {
        w.key("stream").flag(true);
    }
    sampling(request, &mut w);
    tools(request, &mut w);
    output(request, &mut w);
    for (key, value) in [("reasoning_effort", request.effort), ("user", request.user)] {
        if let Some(text) = value {
            w.key(key).text(text);
        }
    }
    for (key, value) in [("metadata", request.metadata), ("service_tier", request.service_tier)] {
        if let Some(raw) = value {
            w.key(key).raw(raw);
        }
    }
    w.end_object();
    w.finish()
}

fn sampling(request: &Request<'_>, w: &mut Writer) {
    let sampling = &request.sampling;
    for (key, value) in [
        ("max_completion_tokens", sampling.max_tokens),
        ("temperature", sampling.temperature.map(|(raw, _)| raw)),
        ("top_p", sampling.top_p.map(|(raw, _)| raw)),
        ("frequency_penalty", sampling.frequency_penalty),
        ("presence_penalty", sampling.presence_penalty),
        ("seed", sampling.seed),
        ("n", sampling.choices),
        ("logprobs", sampling.logprobs.then_some("true")),
        ("top_logprobs", sampling.top_logprobs),
    ] {
        if let Some(raw) = value {
            w.key(key).raw(raw);
        }
    }
    if !sampling.stop.is_empty() {
        w.key("stop").array();
        sampling.stop.iter().for_each(|text| {
            w.text(*text);
        });
        w.end_array();
    }
}

fn message(turn: &Turn<'_, '_>, request: &Request<'_>, w: &mut Writer) {
    let role = match turn.role() {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    };
    w.object().key("role").string(role);
    if let Some(name) = turn.name() {
        w.key("name").text(name);
    }
    if turn.role() == Role::Tool {
        w.key("tool_call_id").string(turn.answers());
    }
    let spoken = |block: &&Block<'_>| !matches!(block.content, Content::Call(_) | Content::Reasoning(_) | Content::Generated(_));
    let mut parts = turn.blocks.iter().filter(spoken).peekable();
    match turn.blocks {
        [Block { content: Content::Text(text), .. }] => {
            w.key("content").text(*text);
        }
        _ if parts.peek().is_none() => {
            // Only calls may stand without content.
            let calls = turn.calls().next().is_some();
            w.key("content").raw(if calls { "null" } else { "\"\"" });
        }
        _ => {
            w.key("content").array();
            parts.for_each(|block| part(block, w));
            w.end_array();
        }
    }
    if let Some(Content::Reasoning(text)) = turn.blocks.iter().map(|block| &block.content).find(|c| matches!(c, Content::Reasoning(_))) {
        w.key("reasoning_content").text(*text);
    }
    let mut calls = turn.calls().peekable();
    if calls.peek().is_some() {
        w.key("tool_calls").array();
        for (call, _) in calls {
            w.object().key("id").string(&sealed(&call.id, request)).key("type").string("function").key("function").object();
            w.key("name").text(call.name).key("arguments").text(call.arguments).end_object();
            if let Some(extra) = call.extra {
                w.key("extra_content").raw(extra);
            }
            w.end_object();
        }
        w.end_array();
    }
    w.end_object();
}

fn part(block: &Block<'_>, w: &mut Writer) {
    match block.content {
        Content::Text(text) => {
            w.object().key("type").string("text").key("text").text(text).end_object();
        }
        Content::Refusal(text) => {
            w.object().key("type").string("refusal").key("refusal").text(text).end_object();
        }
        Content::Image { url, detail } => {
            w.object().key("type").string("image_url").key("image_url").object().key("url").text(url);
            if let Some(detail) = detail {
                w.key("detail").text(detail);
            }
            w.end_object().end_object();
        }
        Content::File { data, name, id } => {
            w.object().key("type").string("file").key("file").object();
            for (key, value) in [("file_data", data), ("filename", name), ("file_id", id)] {
                if let Some(text) = value {
                    w.key(key).text(text);
                }
            }
            w.end_object().end_object();
        }
        Content::Audio { data, format } => {
            w.object().key("type").string("input_audio").key("input_audio").object();
            w.key("data").text(data).key("format").text(format).end_object().end_object();
        }
        Content::Reasoning(_) | Content::Call(_) | Content::Generated(_) => {}
    }
}

/// A call's id with its state behind it, which the splice takes out where the provider wants it back.
fn sealed<'r>(call: &'r CallId<'_>, request: &Request<'_>) -> Cow<'r, str> {
    match (&call.state, request.seal) {
        (Some(state), Some(seal)) => Cow::Owned(seal.seal(&call.id, state)),
        _ => Cow::Borrowed(&call.id),
    }
}

fn tools(request: &Request<'_>, w: &mut Writer) {
    if request.tools.is_empty() {
        return;
    }
    w.key("tools").array();
    for tool in &request.tools {
        w.object().key("type").string("function").key("function").object().key("name").text(tool.name);
        if let Some(description) = tool.description {
            w.key("description").text(description);
        }
        if let Some(schema) = tool.parameters {
            w.key("parameters").raw(schema);
        }
        if let Some(strict) = tool.strict {
            w.key("strict").flag(strict);
        }
        w.end_object().end_object();
    }
    w.end_array();
    if request.serial_calls {
        w.key("parallel_tool_calls").flag(false);
    }
    let Some(choice) = &request.tool_choice else { return };
    let w = w.key("tool_choice");
    match choice {
        ToolChoice::Auto => w.string("auto"),
        ToolChoice::None => w.string("none"),
        ToolChoice::Required => w.string("required"),
        ToolChoice::Named(name) => {
            w.object().key("type").string("function").key("function").object().key("name").text(*name).end_object().end_object()
        }
        ToolChoice::Allowed { required, names } => {
            w.object().key("type").string("allowed_tools").key("allowed_tools").object();
            w.key("mode").string(if *required { "required" } else { "auto" }).key("tools").array();
            for name in names {
                w.object().key("type").string("function").key("function").object().key("name").text(*name).end_object().end_object();
            }
            w.end_array().end_object().end_object()
        }
    };
}

fn output(request: &Request<'_>, w: &mut Writer) {
    let Some(output) = &request.output else { return };
    match &output.constraint {
        Constraint::JsonObject => {
            w.key("response_format").object().key("type").string("json_object").end_object();
        }
        Constraint::JsonSchema(schema) => {
            w.key("response_format").object().key("type").string("json_schema").key("json_schema");
            schema.write(w);
            w.end_object();
        }
        Constraint::Choice(choices) => {
            w.key("guided_choice").array();
            choices.iter().for_each(|choice| {
                w.text(*choice);
            });
            w.end_array();
        }
        Constraint::Regex(text) => {
            w.key("guided_regex").text(*text);
        }
        Constraint::Grammar(text) => {
            w.key("guided_grammar").text(*text);
        }
        Constraint::StructuralTag(tag) => {
            w.key("structural_tag").string(tag);
        }
    }
}
