//! Reads a `generateContent` request: its shape, the rules that its shape does not tell, and then what it asks for.

use super::shape::{STUDIO, VERTEX};
use crate::simulate::ask::{Ask, Choice, Constraint};
use crate::simulate::dialect::{Refusal, refuse};
use crate::simulate::shape::{Why, items, strings, text_of};
use crate::simulate::signature::sign;
use serde_json::{Map, Value, json};

/// Most stop sequences.
const MAX_STOPS: usize = 5;
/// What a call that another model made carries in the place of a signature.
const NO_SIGNATURE: &str = "skip_thought_signature_validator";

/// Reads the body for this model; `raw` is what ids are made of.
///
/// # Errors
/// The first fault.
pub(super) fn body(vertex: bool, model: String, body: Map<String, Value>, raw: &[u8]) -> Result<Ask, Refusal> {
    let body = camel(Value::Object(body), false);
    let shape = if vertex { &VERTEX } else { &STUDIO };
    shape.check(&body, "").map_err(|(at, why)| {
        let message = match why {
            Why::Missing => format!("* GenerateContentRequest.{at}: is not specified"),
            Why::Unknown => format!("Invalid JSON payload received. Unknown name at '{at}': Cannot find field."),
            Why::Wrong => format!("Invalid value at '{at}'"),
        };
        Refusal::at(&at, message)
    })?;
    let mut ask = Ask::begin(model, raw)?;
    config(&body, &mut ask)?;
    tools(&body, &mut ask)?;
    let system = body.get("systemInstruction").unwrap_or(&Value::Null);
    ask.heard(&texts(system));
    contents(items(&body, "contents"), &mut ask)?;
    Ok(ask)
}

/// The names in camel case: the services read both spellings. What an application names itself is left alone.
fn camel(value: Value, is_own: bool) -> Value {
    match value {
        Value::Object(object) => object
            .into_iter()
            .map(|(key, value)| {
                let name = if is_own { key } else { camel_name(&key) };
                let value = match name.as_str() {
                    "args" | "response" | "parametersJsonSchema" | "responseJsonSchema" | "labels" if !is_own => value,
                    "properties" if !is_own => camel(value, true),
                    _ => camel(value, false),
                };
                (name, value)
            })
            .collect(),
        Value::Array(items) => items.into_iter().map(|item| camel(item, false)).collect(),
        other => other,
    }
}

fn camel_name(name: &str) -> String {
    let mut parts = name.split('_');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |mut out, part| {
        let mut letters = part.chars();
        out.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        out + letters.as_str()
    })
}

fn config(body: &Value, ask: &mut Ask) -> Result<(), Refusal> {
    let config = body.get("generationConfig").unwrap_or(&Value::Null);
    let number = |key: &str| config.get(key).and_then(Value::as_u64);
    ask.wants(number("candidateCount").unwrap_or(1));
    ask.max_tokens = number("maxOutputTokens");
    ask.stop = strings(config.get("stopSequences"));
    if ask.stop.len() > MAX_STOPS {
        return refuse("generationConfig.stopSequences", format!("At most {MAX_STOPS} stop sequences are supported."));
    }
    if config.get("responseLogprobs") == Some(&Value::Bool(true)) {
        ask.logprobs = Some(number("logprobs").unwrap_or(0));
    } else if number("logprobs").is_some() {
        return refuse("generationConfig.logprobs", "Logprobs must not be set unless response_logprobs is true.");
    }
    let thinking = config.get("thinkingConfig").unwrap_or(&Value::Null);
    let (budget, level) = (thinking.get("thinkingBudget"), thinking.get("thinkingLevel"));
    if budget.is_some() && level.is_some() {
        return refuse("generationConfig.thinkingConfig", "You can only set only one of thinking budget and thinking level.");
    }
    if level.is_some() && !signs(&ask.name) {
        return refuse("generationConfig.thinkingConfig", "Thinking level is not supported for this model.");
    }
    ask.thinks |= thinking.get("includeThoughts") == Some(&Value::Bool(true)) && budget != Some(&json!(0));
    let (own, standard) = (config.get("responseSchema"), config.get("responseJsonSchema"));
    let mime = text_of(config, "responseMimeType");
    if own.is_some() && standard.is_some() {
        return refuse("generationConfig", "Only one of response_schema and response_json_schema may be set.");
    }
    let schema = standard.cloned().or_else(|| own.map(standardised));
    if schema.is_some() && !matches!(mime, "application/json" | "text/x.enum") {
        return refuse("generationConfig", "Response schema is supported only with response_mime_type application/json or text/x.enum.");
    }
    ask.constraint = match (mime, schema) {
        ("text/x.enum", Some(schema)) => Constraint::OneOf(strings(schema.get("enum"))),
        (_, Some(schema)) => Constraint::Schema(schema),
        ("application/json", None) => Constraint::Object,
        _ => Constraint::Free,
    };
    Ok(())
}

/// Whether this model signs its thoughts and knows thinking levels: Gemini from its third generation.
pub(super) fn signs(model: &str) -> bool {
    !["gemini-1", "gemini-2"].iter().any(|old| model.contains(old))
}

/// Gemini's own schema as JSON Schema: its types are in capitals.
fn standardised(schema: &Value) -> Value {
    match schema {
        Value::Object(object) => object
            .iter()
            .map(|(key, value)| match value {
                Value::String(kind) if key == "type" => (key.clone(), json!(kind.to_lowercase())),
                value => (key.clone(), standardised(value)),
            })
            .collect(),
        Value::Array(items) => items.iter().map(standardised).collect(),
        other => other.clone(),
    }
}

fn tools(body: &Value, ask: &mut Ask) -> Result<(), Refusal> {
    let config = body.pointer("/toolConfig/functionCallingConfig").unwrap_or(&Value::Null);
    let (mode, allowed) = (text_of(config, "mode"), strings(config.get("allowedFunctionNames")));
    if !allowed.is_empty() && !matches!(mode, "ANY" | "VALIDATED") {
        return refuse("toolConfig", "Please set function calling mode to ANY or VALIDATED in order to use allowed_function_names.");
    }
    for tool in items(body, "tools") {
        for function in items(tool, "functionDeclarations") {
            let (own, standard) = (function.get("parameters"), function.get("parametersJsonSchema"));
            if own.is_some() && standard.is_some() {
                return refuse("tools", "`parameters` and `parameters_json_schema` are mutually exclusive.");
            }
            let name = text_of(function, "name");
            if allowed.is_empty() || allowed.iter().any(|one| one == name) {
                ask.offer(name, standard.cloned().or_else(|| own.map(standardised)).as_ref());
            }
        }
    }
    if mode == "ANY" && ask.tools.is_empty() {
        return refuse("toolConfig", "Function calling config is set without function_declarations.");
    }
    ask.choice = match mode {
        "NONE" => Choice::None,
        "ANY" => Choice::Required,
        _ => Choice::Auto,
    };
    Ok(())
}

fn contents(contents: &[Value], ask: &mut Ask) -> Result<(), Refusal> {
    if contents.first().is_some_and(|content| text_of(content, "role") == "model") {
        return refuse("contents", "Please ensure that the conversation starts with a user turn.");
    }
    // calls of turns before the user's last word need no signature any more
    let is_asked = |content: &Value| text_of(content, "role") != "model" && names(content, "functionResponse").is_empty();
    let current = contents.iter().rposition(is_asked).unwrap_or(0);
    let mut open: Vec<&str> = Vec::new();
    for (n, content) in contents.iter().enumerate() {
        let at = format!("contents.{n}");
        let role = text_of(content, "role");
        if role == "system" || role.is_empty() && contents.len() > 1 {
            return refuse(&at, "Please use a valid role: user, model.");
        }
        if role == "model" {
            if n > current && signs(&ask.name) {
                signed(content, &at)?;
            }
            for part in items(content, "parts") {
                ask.heard(&part.pointer("/functionCall/args").map(Value::to_string).unwrap_or_default());
            }
            ask.heard(&texts(content));
            open = names(content, "functionCall");
            continue;
        }
        let mut answers = names(content, "functionResponse");
        answers.sort_unstable();
        open.sort_unstable();
        if answers != open {
            return refuse(
                &at,
                "Please ensure that the number of function response parts is equal to the number of function call parts of the \
                 function call turn, and that function response turns come immediately after it.",
            );
        }
        open.clear();
        user(content, ask);
    }
    Ok(())
}

/// The first call of a step must carry the signature that it came with.
fn signed(content: &Value, at: &str) -> Result<(), Refusal> {
    let Some(call) = items(content, "parts").iter().find(|part| part.get("functionCall").is_some()) else { return Ok(()) };
    let name = call.pointer("/functionCall/name").and_then(Value::as_str).unwrap_or_default();
    match text_of(call, "thoughtSignature") {
        NO_SIGNATURE => Ok(()),
        "" => refuse(
            at,
            format!("Function call is missing a thought_signature in functionCall parts. Additional data, function call `{name}`."),
        ),
        signature if signature == sign(name) => Ok(()),
        _ => refuse(at, "Thought signature is not valid."),
    }
}

fn user(content: &Value, ask: &mut Ask) {
    for part in items(content, "parts") {
        if let Some(response) = part.pointer("/functionResponse/response") {
            ask.tool_says(response.get("result").and_then(Value::as_str).map_or_else(|| response.to_string(), str::to_owned));
        }
        for key in ["inlineData", "fileData"] {
            if let Some(data) = part.get(key) {
                ask.user_shows(text_of(data, "mimeType"));
            }
        }
    }
    let text = texts(content);
    if !text.is_empty() {
        ask.user_says(text);
    }
}

fn texts(content: &Value) -> String {
    items(content, "parts").iter().map(|part| text_of(part, "text")).collect()
}

fn names<'a>(content: &'a Value, key: &str) -> Vec<&'a str> {
    items(content, "parts").iter().filter_map(|part| part.get(key)?.get("name")?.as_str()).collect()
}
