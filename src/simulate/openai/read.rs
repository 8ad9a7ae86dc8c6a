//! From a checked OpenAI request to the neutral one.

use super::Service::{self, Compatible, DeepSeek, Fireworks, OpenAi, SgLang, Together, VllmLegacy, Xai};
use super::check::{given, is_openai_reasoning};
use crate::simulate::ask::{Ask, Choice, Constraint};
use crate::simulate::dialect::Refusal;
use crate::simulate::shape::strings;
use serde_json::{Map, Value, json};

/// Reads a request that [`super::check`] has accepted.
///
/// # Errors
/// A model's name with a bad script.
pub(in crate::simulate) fn read(service: Service, json: &Map<String, Value>, body: &[u8]) -> Result<Ask, Refusal> {
    let mut ask = Ask::begin(text_of(json, "model").to_owned(), body)?;
    ask.stream = flag(json, "stream");
    ask.include_usage = json.get("stream_options").is_some_and(|options| options.get("include_usage") == Some(&Value::Bool(true)));
    ask.choice = choice(json);
    ask.parallel = json.get("parallel_tool_calls") != Some(&Value::Bool(false));
    ask.constraint = constraint(service, json)?;
    ask.wants(json.get("n").and_then(Value::as_u64).unwrap_or(1));
    ask.max_tokens = ["max_completion_tokens", "max_tokens"].iter().find_map(|key| json.get(*key)?.as_u64());
    ask.stop = strings(json.get("stop"));
    ask.logprobs = logprobs(json);
    ask.thinks |= thinks(service, json);
    tools(json, &mut ask);
    messages(json, &mut ask);
    Ok(ask)
}

fn text_of<'a>(json: &'a Map<String, Value>, key: &str) -> &'a str {
    json.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn flag(json: &Map<String, Value>, key: &str) -> bool {
    json.get(key) == Some(&Value::Bool(true))
}

fn messages(json: &Map<String, Value>, ask: &mut Ask) {
    for message in json.get("messages").and_then(Value::as_array).into_iter().flatten() {
        let text = content(message.get("content"), ask);
        match message.get("role").and_then(Value::as_str).unwrap_or_default() {
            "tool" | "function" => ask.tool_says(text),
            "user" => ask.user_says(text),
            _ => ask.heard(&text),
        }
        for call in message.get("tool_calls").and_then(Value::as_array).into_iter().flatten() {
            ask.heard(call.pointer("/function/arguments").and_then(Value::as_str).unwrap_or_default());
        }
    }
}

/// The text of a message; the types of what else is in it are noted.
fn content(content: Option<&Value>, ask: &mut Ask) -> String {
    let mut out = String::new();
    match content {
        Some(Value::String(text)) => out.push_str(text),
        Some(Value::Array(parts)) => {
            for part in parts {
                match part.get("type").and_then(Value::as_str).unwrap_or_default() {
                    "text" => out.push_str(part.get("text").and_then(Value::as_str).unwrap_or_default()),
                    "image_url" => ask.user_shows(data_type(part.pointer("/image_url/url"), "image by URL")),
                    "file" => ask.user_shows(data_type(part.pointer("/file/file_data"), "file")),
                    "input_audio" => {
                        ask.user_shows(&format!("audio/{}", part.pointer("/input_audio/format").and_then(Value::as_str).unwrap_or("wav")))
                    }
                    "thinking" | "refusal" => {}
                    other => ask.user_shows(other),
                }
            }
        }
        _ => {}
    }
    out
}

/// The media type of a data URI.
pub(super) fn data_type<'a>(uri: Option<&'a Value>, otherwise: &'a str) -> &'a str {
    let inline = uri.and_then(Value::as_str).and_then(|uri| uri.strip_prefix("data:")?.split_once(';'));
    inline.map_or(otherwise, |(kind, _)| kind)
}

fn tools(json: &Map<String, Value>, ask: &mut Ask) {
    let allowed: Option<Vec<&Value>> = json
        .get("tool_choice")
        .and_then(|choice| choice.pointer("/allowed_tools/tools")?.as_array())
        .map(|tools| tools.iter().filter_map(|tool| tool.pointer("/function/name")).collect());
    for tool in json.get("tools").and_then(Value::as_array).into_iter().flatten() {
        if let Some(name) = tool.pointer("/function/name").filter(|name| allowed.as_ref().is_none_or(|allowed| allowed.contains(name))) {
            ask.offer(name.as_str().unwrap_or_default(), tool.pointer("/function/parameters"));
        }
    }
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
    match json.get("thinking").and_then(|thinking| thinking.get("type")).and_then(Value::as_str) {
        Some("disabled") => false,
        Some("enabled") => true,
        _ => reasons(service, text_of(json, "model"), given(json, "reasoning_effort").and_then(Value::as_str)),
    }
}

/// Whether a model thinks first, by its name and by the effort that is asked for.
pub(super) fn reasons(service: Service, model: &str, effort: Option<&str>) -> bool {
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
            return found.map_err(|why| Refusal::at("guided_json", why));
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
            return found.map_err(|why| Refusal::at("structured_outputs", why));
        }
    }
    if matches!(service, SgLang | Compatible)
        && let Some(found) = guided(None, own("regex"), None, own("ebnf"))
    {
        return found.map_err(|why| Refusal::at("regex", why));
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
