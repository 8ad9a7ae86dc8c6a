//! From a checked OpenAI request to the neutral one.

use super::Service::{self, Compatible, DeepSeek, Fireworks, OpenAi, SgLang, Together, VllmLegacy, Xai};
use super::check::{given, is_openai_reasoning};
use crate::simulate::ask::{Ask, Choice, Constraint, TOKENS_PER_MEDIUM, Tool, tokens};
use crate::simulate::dialect::Refusal;
use crate::simulate::script::Script;
use crate::simulate::seen::sha256_hex;
use serde_json::{Map, Value, json};

/// Hex digits of the body's SHA-256 that ids are made of.
const DIGEST: usize = 24;
/// Most answers that `n` gives, so that one request cannot ask for unbounded work.
const MAX_N: u64 = 128;

/// Reads a request that [`super::check`] has accepted.
///
/// # Errors
/// A model's name with a bad script.
pub(super) fn read(service: Service, json: &Map<String, Value>, body: &[u8]) -> Result<Ask, Refusal> {
    let model = text_of(json, "model").to_owned();
    let (name, script) = Script::parse(&model).map_err(|why| Refusal::field("invalid_value", "model", why))?;
    let mut ask = Ask {
        name: name.to_owned(),
        digest: sha256_hex(body).chars().take(DIGEST).collect(),
        stream: flag(json, "stream"),
        include_usage: json.get("stream_options").is_some_and(|options| options.get("include_usage") == Some(&Value::Bool(true))),
        choice: choice(json),
        parallel: json.get("parallel_tool_calls") != Some(&Value::Bool(false)),
        constraint: constraint(service, json)?,
        n: json.get("n").and_then(Value::as_u64).unwrap_or(1).min(MAX_N).try_into().unwrap_or(1),
        max_tokens: ["max_completion_tokens", "max_tokens"].iter().find_map(|key| json.get(*key)?.as_u64()),
        stop: strings(json.get("stop")),
        logprobs: logprobs(json),
        thinks: script.reasoning || thinks(service, json),
        script,
        model,
        ..Ask::default()
    };
    ask.tools = tools(json);
    messages(json, &mut ask);
    Ok(ask)
}

fn text_of<'a>(json: &'a Map<String, Value>, key: &str) -> &'a str {
    json.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn flag(json: &Map<String, Value>, key: &str) -> bool {
    json.get(key) == Some(&Value::Bool(true))
}

/// A text or an array of texts; empty ones end nothing and are left out.
fn strings(value: Option<&Value>) -> Vec<String> {
    let texts = match value {
        Some(Value::Array(items)) => items.as_slice(),
        Some(one) => std::slice::from_ref(one),
        None => &[],
    };
    texts.iter().filter_map(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned).collect()
}

fn messages(json: &Map<String, Value>, ask: &mut Ask) {
    let mut results = Vec::new();
    for message in json.get("messages").and_then(Value::as_array).into_iter().flatten() {
        let role = message.get("role").and_then(Value::as_str).unwrap_or_default();
        let text = content(message.get("content"), &mut ask.media);
        ask.prompt_tokens += tokens(&text);
        for call in message.get("tool_calls").and_then(Value::as_array).into_iter().flatten() {
            ask.prompt_tokens += call.pointer("/function/arguments").and_then(Value::as_str).map_or(0, tokens);
        }
        match role {
            "tool" | "function" => results.push(text),
            _ => {
                results.clear();
                if role == "user" {
                    ask.user = text;
                }
            }
        }
    }
    ask.prompt_tokens += ask.media.len() as u64 * TOKENS_PER_MEDIUM;
    ask.results = Some(results).filter(|results| !results.is_empty());
}

/// The text of a message; the types of what else is in it go to `media`.
fn content(content: Option<&Value>, media: &mut Vec<String>) -> String {
    let mut out = String::new();
    match content {
        Some(Value::String(text)) => out.push_str(text),
        Some(Value::Array(parts)) => {
            for part in parts {
                match part.get("type").and_then(Value::as_str).unwrap_or_default() {
                    "text" => out.push_str(part.get("text").and_then(Value::as_str).unwrap_or_default()),
                    "image_url" => media.push(data_type(part.pointer("/image_url/url"), "image by URL")),
                    "file" => media.push(data_type(part.pointer("/file/file_data"), "file")),
                    "input_audio" => {
                        media.push(format!("audio/{}", part.pointer("/input_audio/format").and_then(Value::as_str).unwrap_or("wav")))
                    }
                    other => media.push(other.to_owned()),
                }
            }
        }
        _ => {}
    }
    out
}

fn data_type(uri: Option<&Value>, otherwise: &str) -> String {
    let inline = uri.and_then(Value::as_str).and_then(|uri| uri.strip_prefix("data:")?.split_once(';'));
    inline.map_or(otherwise, |(kind, _)| kind).to_owned()
}

fn tools(json: &Map<String, Value>) -> Vec<Tool> {
    let tools = json.get("tools").and_then(Value::as_array).into_iter().flatten();
    let allowed: Option<Vec<&Value>> = json
        .get("tool_choice")
        .and_then(|choice| choice.pointer("/allowed_tools/tools")?.as_array())
        .map(|tools| tools.iter().filter_map(|tool| tool.pointer("/function/name")).collect());
    tools
        .filter_map(|tool| {
            let name = tool.pointer("/function/name").filter(|name| allowed.as_ref().is_none_or(|allowed| allowed.contains(name)))?;
            let parameters = tool.pointer("/function/parameters").cloned().unwrap_or(json!({}));
            Some(Tool { name: name.as_str()?.to_owned(), parameters })
        })
        .collect()
}

fn choice(json: &Map<String, Value>) -> Choice {
    let Some(choice) = given(json, "tool_choice") else { return Choice::Auto };
    match choice.as_str().or_else(|| choice.pointer("/allowed_tools/mode").and_then(Value::as_str)) {
        Some("none") => Choice::None,
        Some("required" | "any") => Choice::Required,
        _ => choice.pointer("/function/name").and_then(Value::as_str).map_or(Choice::Auto, |name| Choice::Named(name.to_owned())),
    }
}

fn logprobs(json: &Map<String, Value>) -> Option<u64> {
    let top = || json.get("top_logprobs").and_then(Value::as_u64).unwrap_or(0);
    match json.get("logprobs") {
        Some(Value::Bool(true)) => Some(top()),
        Some(value) => value.as_u64(),
        None => None,
    }
}

/// Whether the model thinks first, by its name and by what the request says.
pub(super) fn thinks(service: Service, json: &Map<String, Value>) -> bool {
    let model = text_of(json, "model");
    let effort = given(json, "reasoning_effort").and_then(Value::as_str);
    match json.get("thinking").and_then(|thinking| thinking.get("type")).and_then(Value::as_str) {
        Some("disabled") => return false,
        Some("enabled") => return true,
        _ => {}
    }
    let by_name = match service {
        OpenAi => return is_openai_reasoning(model) && effort != Some("none"),
        DeepSeek => model.contains("v4") || model.contains("reasoner"),
        Xai => model.contains("grok-3-mini") || (model.contains("reasoning") && !model.contains("non-reasoning")),
        _ => ["-r1", "-R1", "QwQ", "hinking"].iter().any(|part| model.contains(part)),
    };
    by_name || effort.is_some_and(|effort| effort != "none")
}

/// What the text must satisfy, in the spelling of this service.
fn constraint(service: Service, json: &Map<String, Value>) -> Result<Constraint, Refusal> {
    let own = |key: &str| given(json, key);
    if matches!(service, VllmLegacy | Compatible) {
        let found = guided(own("guided_json"), own("guided_regex"), own("guided_choice"), own("guided_grammar"));
        if let Some(found) = found {
            return found.map_err(|why| Refusal::field("", "guided_json", why));
        }
    }
    if matches!(service, Service::Vllm | Compatible)
        && let Some(structured) = own("structured_outputs").and_then(Value::as_object)
    {
        if flag(structured, "json_object") {
            return Ok(Constraint::Object);
        }
        let own = |key: &str| given(structured, key);
        if let Some(found) = guided(own("json"), own("regex"), own("choice"), own("grammar")) {
            return found.map_err(|why| Refusal::field("", "structured_outputs", why));
        }
    }
    if matches!(service, SgLang | Compatible)
        && let Some(found) = guided(None, own("regex"), None, own("ebnf"))
    {
        return found.map_err(|why| Refusal::field("", "regex", why));
    }
    let Some(format) = own("response_format") else { return Ok(Constraint::Free) };
    let text = |key: &str| format.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok(match format.get("type").and_then(Value::as_str).unwrap_or_default() {
        "json_schema" => Constraint::Schema(format.pointer("/json_schema/schema").cloned().unwrap_or(json!({}))),
        "json_object" => match format.get("schema").filter(|_| matches!(service, Fireworks | Together)) {
            Some(schema) => Constraint::Schema(schema.clone()),
            None => Constraint::Object,
        },
        "grammar" => Constraint::Grammar(text("grammar")),
        "regex" => Constraint::Pattern(text("pattern")),
        _ => Constraint::Free,
    })
}

/// The four kinds of guided decoding; a schema may be an object or its text.
fn guided(
    schema: Option<&Value>,
    regex: Option<&Value>,
    choice: Option<&Value>,
    grammar: Option<&Value>,
) -> Option<Result<Constraint, String>> {
    let text = |value: &Value| value.as_str().map(str::to_owned).ok_or_else(|| "a regular expression or a grammar is a string".to_owned());
    if let Some(schema) = schema {
        return Some(match schema {
            Value::String(text) => {
                serde_json::from_str(text).map(Constraint::Schema).map_err(|error| format!("the schema is not JSON: {error}"))
            }
            value => Ok(Constraint::Schema(value.clone())),
        });
    }
    if let Some(regex) = regex {
        return Some(text(regex).map(Constraint::Pattern));
    }
    if let Some(choice) = choice {
        return Some(
            choice.as_array().map(|_| Constraint::OneOf(strings(Some(choice)))).ok_or_else(|| "a choice is an array of strings".to_owned()),
        );
    }
    grammar.map(|grammar| text(grammar).map(Constraint::Grammar))
}
