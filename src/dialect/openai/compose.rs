//! Writes a neutral request as a chat completion, for clients that speak another protocol. What the provider does otherwise
//! than OpenAI is then applied to it as to every chat completion.

use crate::dialect::Outgoing;
use crate::dialect::shared::names::{self, ShortNames};
use crate::dialect::shared::params::Settled;
use crate::error::ApiError;
use crate::json::surrogate;
use crate::json::text::Text;
use crate::json::write::Writer;
use crate::llm::constraint::Constraint;
use crate::llm::envelope::{ChatRequest, Parsed};
use crate::llm::field::Field;
use crate::llm::request::{Ask, Block, CallId, Content, Path, Request, Role, ToolChoice, Turn};
use crate::llm::settings::Params;
use std::borrow::Cow;

/// Encodes a request from its chat completion: the client's own, or one that is composed here from the neutral request.
///
/// # Errors
/// What `encode` refuses, and a 400 for a parameter that OpenAI does not have where the route rejects such.
pub fn with_chat(
    ask: &dyn Ask,
    encode: impl FnOnce(&ChatRequest<'_>, Option<&Request<'_>>) -> Result<Outgoing, ApiError>,
) -> Result<Outgoing, ApiError> {
    if let Some(chat) = ask.chat() {
        return encode(chat, None);
    }
    let mut request = ask.request()?;
    let names = ShortNames::of(&request, names::OPENAI);
    names.shorten(&mut request);
    let mut settled = Settled::new(request.reject_unsupported);
    for param in &request.params {
        match param.field {
            None if request.passed.iter().any(|(name, _)| *name == param.name) => {}
            None => settled.drop_unknown(&param.name)?,
            Some(_) if param.refused => settled.drop(param.name.clone().into_owned())?,
            Some(_) => {}
        }
    }
    let params = Params { reject_unsupported: request.reject_unsupported, adjustments: request.adjustments, ..Params::default() };
    let mut places = Vec::new();
    let body = compose(&request, &mut places);
    let in_clients_words = |error| in_clients_words(error, &request, &places);
    let parsed = Parsed::parse(body.into()).map_err(in_clients_words)?;
    let chat = ChatRequest { parsed: &parsed, params: &params, system: None, model: request.model, seal: request.seal };
    let mut outgoing = encode(&chat, Some(&request)).map_err(in_clients_words)?;
    outgoing.decoder = names.clone().around(outgoing.decoder);
    for names in [&mut outgoing.dropped, &mut outgoing.adjusted] {
        names.iter_mut().for_each(|name| *name = clients_name(name, &request));
    }
    settled.dropped.retain(|name| !outgoing.dropped.contains(name));
    outgoing.dropped.append(&mut settled.dropped);
    Ok(outgoing)
}

/// The client's name for a field of the composed chat completion.
fn clients_name(name: &str, request: &Request<'_>) -> Cow<'static, str> {
    match Field::of(name.as_bytes()) {
        Some(Field::MaxCompletionTokens) => request.name_of(Field::MaxTokens),
        Some(field) => request.name_of(field),
        None => Cow::Owned(name.to_owned()),
    }
}

/// Where a message of the composed chat completion stands in the client's request, and each of its parts.
type Place = (Path, Vec<Path>);

/// A refusal that blames a field of the composed chat completion, by the client's name of it.
fn in_clients_words(mut error: ApiError, request: &Request<'_>, places: &[Place]) -> ApiError {
    let Some(param) = error.param.take() else { return error };
    let (from, to) = match message_path(&param, places) {
        Some(path) => (param.to_string(), path.to_string()),
        None => {
            let end = param.find(['.', '[']).unwrap_or(param.len());
            let (field, rest) = param.split_at_checked(end).unwrap_or((&param, ""));
            (param.to_string(), format!("{}{rest}", clients_name(field, request)))
        }
    };
    let mut message = error.message.replace(&format!("`{from}`"), &format!("`{to}`"));
    for (kind, what) in [("`image_url` parts", "images"), ("`file` parts", "files"), ("`input_audio` parts", "audio")] {
        message = message.replace(kind, what); // the client has other names of them
    }
    error.message = message.into();
    error.param = Some(to.into());
    error
}

/// The client's path of `messages[N]` or `messages[N].content[M]`, and of whatever is below.
fn message_path(param: &str, places: &[Place]) -> Option<Path> {
    let number = |text: &str| text.split_once(']').and_then(|(number, rest)| Some((number.parse::<usize>().ok()?, rest.to_owned())));
    let (message, rest) = number(param.strip_prefix("messages[")?)?;
    let (turn, parts) = places.get(message)?;
    let part = rest.strip_prefix(".content[").and_then(number).and_then(|(part, _)| parts.get(part));
    Some(*part.unwrap_or(turn))
}

/// The body of the chat completion, and where its messages come from.
fn compose(request: &Request<'_>, places: &mut Vec<Place>) -> Vec<u8> {
    let mut w = Writer::with_capacity(request.size + 1024);
    w.object().key("model").string(request.model).key("messages").array();
    let turns = request.turns();
    let mut results = Vec::new();
    for turn in &turns {
        if turn.role() == Role::Tool {
            results.push(turn);
        } else if !results.is_empty() {
            places.extend(attachments(&std::mem::take(&mut results), &mut w));
        }
        let parts = message(turn, request, &mut w);
        places.push((turn.at(), parts));
    }
    places.extend(attachments(&results, &mut w));
    w.end_array();
    if request.stream {
        w.key("stream").flag(true);
    }
    sampling(request, &mut w);
    tools(request, &mut w);
    output(request, &mut w);
    w.optional_text("reasoning_effort", request.effort).optional_text("user", request.user);
    w.optional_raw("metadata", request.metadata).optional_raw("service_tier", request.service_tier);
    for (key, raw) in &request.passed {
        w.key(key).raw(raw);
    }
    w.end_object();
    surrogate::repair(w.finish())
}

fn sampling(request: &Request<'_>, w: &mut Writer) {
    let sampling = &request.sampling;
    for (key, value) in [
        ("max_tokens", sampling.max_tokens),
        ("temperature", sampling.temperature.map(|(raw, _)| raw)),
        ("top_p", sampling.top_p.map(|(raw, _)| raw)),
        ("frequency_penalty", sampling.frequency_penalty),
        ("presence_penalty", sampling.presence_penalty),
        ("seed", sampling.seed),
        ("n", sampling.choices),
        ("logprobs", sampling.logprobs.then_some("true")),
        ("top_logprobs", sampling.top_logprobs),
    ] {
        w.optional_raw(key, value);
    }
    if !sampling.stop.is_empty() {
        w.key("stop").text_list(sampling.stop.iter().copied());
    }
}

/// Writes a message; where its parts come from.
fn message(turn: &Turn<'_, '_>, request: &Request<'_>, w: &mut Writer) -> Vec<Path> {
    let role = match turn.role() {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    };
    w.object().key("role").string(role).optional_text("name", turn.name());
    if turn.role() == Role::Tool {
        w.key("tool_call_id").string(turn.answers());
    }
    let result = turn.role() == Role::Tool;
    let spoken = |block: &&Block<'_>| match block.content {
        Content::Call(_) | Content::Reasoning(_) | Content::Generated(_) => false,
        _ => !result || !is_attachment(block),
    };
    let places = turn.blocks.iter().filter(spoken).map(|block| block.at).collect();
    let mut parts = turn.blocks.iter().filter(spoken).peekable();
    let prefix = turn.error_prefix();
    match turn.blocks {
        [Block { content: Content::Text(text), .. }] => {
            w.key("content").texts(&[prefix, *text]);
        }
        // Only calls may stand without content.
        _ if parts.peek().is_none() && turn.calls().next().is_some() => {
            w.key("content").raw("null");
        }
        _ if parts.peek().is_none() => {
            w.key("content").text(prefix);
        }
        _ => {
            w.key("content").array();
            if !prefix.is_empty() {
                w.object().key("type").string("text").key("text").text(prefix).end_object();
            }
            parts.for_each(|block| part(block, w));
            w.end_array();
        }
    }
    let reasoning = turn.blocks.iter().filter_map(|block| if let Content::Reasoning(text) = block.content { Some(text) } else { None });
    let reasoning: Vec<_> = reasoning.collect();
    if !reasoning.is_empty() {
        w.key("reasoning_content").texts(&reasoning);
    }
    let mut calls = turn.calls().peekable();
    if calls.peek().is_some() {
        w.key("tool_calls").array();
        for (call, _) in calls {
            w.object().key("id").string(&sealed(&call.id, request)).key("type").string("function").key("function").object();
            w.key("name").text(call.name).key("arguments");
            call.write_arguments(w);
            w.end_object().optional_raw("extra_content", call.extra).end_object();
        }
        w.end_array();
    }
    w.end_object();
    places
}

/// Whether a result of a tool cannot hold it: OpenAI takes texts only there.
fn is_attachment(block: &Block<'_>) -> bool {
    matches!(block.content, Content::Image { .. } | Content::File { .. } | Content::Audio { .. })
}

/// What the results of a turn's calls hold beside texts, as a message of the user's behind all of them.
fn attachments(results: &[&Turn<'_, '_>], w: &mut Writer) -> Option<Place> {
    let all: Vec<&Block<'_>> = results.iter().flat_map(|turn| turn.blocks).filter(|block| is_attachment(block)).collect();
    let first = all.first()?.at;
    w.object().key("role").string("user").key("content").array();
    all.iter().for_each(|block| part(block, w));
    w.end_array().end_object();
    Some((first, all.iter().map(|block| block.at).collect()))
}

fn part(block: &Block<'_>, w: &mut Writer) {
    match block.content {
        Content::Text(text) => {
            w.object().key("type").string("text").key("text").text(text).end_object();
        }
        Content::Refusal(text) => {
            w.object().key("type").string("refusal").key("refusal").text(text).end_object();
        }
        Content::Image { source, detail } => {
            source.write_url(w.object().key("type").string("image_url").key("image_url").object().key("url"));
            w.optional_text("detail", detail).end_object().end_object();
        }
        Content::File { source, name, id } => {
            w.object().key("type").string("file").key("file").object();
            if let Some(source) = source {
                source.write_url(w.key("file_data"));
            }
            w.optional_text("filename", name).optional_text("file_id", id).end_object().end_object();
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
        w.optional_text("description", tool.description).optional_raw("parameters", tool.parameters);
        w.optional_flag("strict", tool.strict).end_object().end_object();
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
        ToolChoice::Named(name) => write_choice(*name, w),
        ToolChoice::Allowed { required, names } => {
            w.object().key("type").string("allowed_tools").key("allowed_tools").object();
            w.key("mode").string(if *required { "required" } else { "auto" }).key("tools").array();
            for name in names {
                write_choice(*name, w);
            }
            w.end_array().end_object().end_object()
        }
    };
}

/// Writes the choice of one function.
pub fn write_choice<'w>(name: Text<'_>, w: &'w mut Writer) -> &'w mut Writer {
    w.object().key("type").string("function").key("function").object().key("name").text(name).end_object().end_object()
}

fn output(request: &Request<'_>, w: &mut Writer) {
    let Some(output) = &request.output else { return };
    match &output.constraint {
        Constraint::JsonObject => w.key("response_format").object().key("type").string("json_object").end_object(),
        Constraint::JsonSchema(schema) => {
            schema.write(w.key("response_format").object().key("type").string("json_schema").key("json_schema"));
            w.end_object()
        }
        Constraint::Choice(choices) => w.key("guided_choice").text_list(choices.iter().copied()),
        Constraint::Regex(text) => w.key("guided_regex").text(*text),
        Constraint::Grammar(text) => w.key("guided_grammar").text(*text),
        Constraint::StructuralTag(tag) => w.key("structural_tag").string(tag),
    };
}

#[cfg(test)]
mod tests {
    use crate::dialect::Dialect;
    use crate::dialect::openai::{OpenAi, ResponsesUse};
    use crate::llm::adjustments::Adjustments;
    use crate::llm::envelope::ChatRequest;
    use crate::llm::field::{Field, Fields};
    use crate::llm::messages::{Headers, MessagesRequest};
    use crate::llm::settings::Params;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn settings(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(name, json)| ((*name).to_owned(), (*json).to_owned())).collect()
    }

    fn dialect(kind: &str) -> OpenAi {
        let quirks = Arc::new(crate::provider::catalogue::named(kind).unwrap().quirks(None).clone());
        OpenAi { quirks, split_think_tags: false, responses: ResponsesUse::default() }
    }

    /// The body that a provider of `kind` receives, without model, messages and token limit, and the dropped fields.
    fn sent(kind: &str, params: &Params, members: &str) -> (Value, Vec<String>) {
        let body = format!(r#"{{"model":"r","max_tokens":5,"messages":[{{"role":"user","content":"Hi"}}]{members}}}"#);
        let parsed = crate::front::messages::parse(body.into(), false).unwrap();
        let base = ChatRequest { parsed: &parsed, params, system: None, model: "m", seal: None };
        let outgoing = dialect(kind).encode(&MessagesRequest { base, headers: &Headers::default() }).unwrap();
        let mut body: Value = serde_json::from_slice(&outgoing.body.joined()).unwrap();
        for name in ["model", "messages", "max_tokens", "max_completion_tokens"] {
            body.as_object_mut().unwrap().remove(name);
        }
        (body, outgoing.dropped.into_iter().map(|name| name.into_owned()).collect())
    }

    #[test]
    fn an_end_users_id_that_is_too_long_for_the_provider_goes_as_its_hash() {
        let id = format!("user_{}", "0".repeat(100));
        let user = |kind: &str, id: &str| {
            let (mut body, dropped) = sent(kind, &Params::default(), &format!(r#","metadata":{{"user_id":"{id}"}}"#));
            assert_eq!(dropped, Vec::<String>::new());
            let name = if kind == "zhipu" { "user_id" } else { "user" };
            body.get_mut(name).unwrap().take().as_str().unwrap().to_owned()
        };
        let hash = user("openai", &id);
        assert!(hash.len() == 64 && hash == user("azure_openai", &id), "{hash}");
        assert_eq!((user("openai", "u1").as_str(), user("zhipu", &id), user("vllm", &id)), ("u1", id.clone(), id.clone()));
        assert_eq!(user("zhipu", &id.repeat(2)).len(), 64);
    }

    #[test]
    fn a_routes_settings_reach_the_provider_as_they_do_for_chat() {
        let list = settings(&[("top_k", "40"), ("chat_template_kwargs", r#"{"a":1}"#), ("seed", "7"), ("x", "null"), ("max_tokens", "9")]);
        let want = json!({"top_k": 40, "chat_template_kwargs": {"a": 1}, "seed": 7});
        let overriding = Params { overrides: list.clone(), ..Params::default() };
        let defaulting = Params { defaults: list, ..Params::default() };
        assert_eq!(sent("vllm", &overriding, ""), (want.clone(), vec![]));
        assert_eq!(sent("vllm", &defaulting, ""), (want.clone(), vec![]));
        assert_eq!(sent("vllm", &overriding, r#","top_k":5"#), (want, vec![]));
        // A member of the client without a counterpart still replaces a default.
        let silenced = json!({"chat_template_kwargs": {"a": 1}, "seed": 7});
        assert_eq!(sent("vllm", &defaulting, r#","top_k":5"#), (silenced, vec!["top_k".to_owned()]));
        assert_eq!(sent("openai", &overriding, "").1, ["chat_template_kwargs"]);
    }

    #[test]
    fn a_default_in_the_providers_words_yields_to_the_clients() {
        let list = settings(&[("thinking", r#"{"type":"enabled"}"#)]);
        let defaulting = Params { defaults: list.clone(), ..Params::default() };
        let enabled = json!({"thinking": {"type": "enabled"}});
        assert_eq!(sent("deepseek", &defaulting, ""), (enabled, vec![]));
        let disabled = json!({"thinking": {"type": "disabled"}});
        assert_eq!(sent("deepseek", &defaulting, r#","thinking":{"type":"disabled"}"#), (disabled, vec![]));
        let overriding = Params { overrides: list, ..Params::default() };
        let (body, _) = sent("deepseek", &overriding, r#","thinking":{"type":"enabled","budget_tokens":2048}"#);
        assert_eq!(body.get("thinking"), Some(&json!({"type": "enabled"})));
    }

    #[test]
    fn a_constraint_that_loses_is_not_sent() {
        let defaulting = Params { defaults: settings(&[("guided_json", "{}")]), ..Params::default() };
        let format = r#","output_config":{"format":{"type":"json_schema","schema":{"type":"object"}}}"#;
        let (body, _) = sent("vllm", &defaulting, format);
        assert!(body.get("response_format").is_some() && body.get("guided_json").is_none(), "{body}");
        let adjustments = Adjustments::without(Fields::of(&[Field::Stop]));
        let params = Params { adjustments, ..Params::default() };
        assert_eq!(sent("openai", &params, r#","stop_sequences":["a"]"#), (json!({}), vec!["stop_sequences".to_owned()]));
    }
}
