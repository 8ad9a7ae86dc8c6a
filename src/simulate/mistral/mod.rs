//! Mistral's chat completions: OpenAI's shape under a closed schema, with ids of nine characters and thinking inside
//! of the content.

mod embeddings;

use super::ask::Ask;
use super::dialect::{Dialect, Incoming, Refusal};
use super::openai::{Service, passed, read};
use super::reply::{Block, Call, Reply, Spoken};
use super::seen::sha256_hex;
use super::shape::Rule::{Need, Null};
use super::shape::{Shape, Why, items, object, text_of};
use crate::llm::endpoint::Endpoint;
use bytes::Bytes;
use serde_json::{Map, Value, json};

/// Characters of a call's id.
const ID: usize = 9;
/// Second of every answer's making: a fixed one, so that the same request gets the same bytes.
const CREATED: u64 = 1_750_000_000;
/// `code` of an error about a value.
const BAD_VALUE: &str = "1500";

/// The path of its embeddings.
const EMBEDDINGS: &str = "/mistral/v1/embeddings";

/// The endpoint at a path, of the few that it has beside.
fn passed_at(path: &str) -> Option<Endpoint> {
    let known = [Endpoint::Moderations, Endpoint::AudioTranscriptions];
    known.into_iter().find(|endpoint| path.strip_prefix("/mistral/v1") == Some(endpoint.path()))
}

/// api.mistral.ai.
pub(super) struct Mistral;

/// Who answers at a path.
pub(super) fn find(path: &str) -> Option<&'static dyn Dialect> {
    (matches!(path, "/mistral/v1/chat/completions" | EMBEDDINGS) || passed_at(path).is_some()).then_some(&Mistral)
}

static BODY: Shape = Shape::Closed(&[
    ("model", Need, &Shape::Filled),
    ("messages", Need, &Shape::Some(&MESSAGE)),
    ("temperature", Null, &Shape::Number(0.0, 1.5)),
    ("top_p", Null, &Shape::Number(0.0, 1.0)),
    ("max_tokens", Null, &Shape::Whole(0, i64::MAX)),
    ("stream", Null, &Shape::Flag),
    ("stop", Null, &Shape::Either(&[&Shape::Text, &Shape::List(&Shape::Text)])),
    ("random_seed", Null, &Shape::Whole(0, i64::MAX)),
    ("metadata", Null, &Shape::Object),
    ("presence_penalty", Null, &Shape::Number(-2.0, 2.0)),
    ("frequency_penalty", Null, &Shape::Number(-2.0, 2.0)),
    ("n", Null, &Shape::Whole(1, i64::MAX)),
    ("response_format", Null, &FORMAT),
    ("tools", Null, &Shape::List(&TOOL)),
    ("tool_choice", Null, &CHOICE),
    ("parallel_tool_calls", Null, &Shape::Flag),
    ("prediction", Null, &Shape::Closed(&[("type", Null, &Shape::Word(&["content"])), ("content", Null, &Shape::Text)])),
    ("prompt_mode", Null, &Shape::Word(&["reasoning"])),
    ("reasoning_effort", Null, &Shape::Word(&["high", "none"])),
    ("prompt_cache_key", Null, &Shape::Text),
    ("safe_prompt", Null, &Shape::Flag),
    ("guardrails", Null, &Shape::Any),
]);

static MESSAGE: Shape = Shape::Closed(&[
    ("role", Need, &Shape::Word(&["system", "user", "assistant", "tool"])),
    ("content", Null, &Shape::Either(&[&Shape::Text, &Shape::List(&CHUNK)])),
    ("tool_calls", Null, &Shape::List(&CALL)),
    ("prefix", Null, &Shape::Flag),
    ("tool_call_id", Null, &Shape::Text),
    ("name", Null, &Shape::Text),
]);

static CHUNK: Shape = Shape::Tagged(&[
    ("text", &[("text", Need, &Shape::Text)]),
    ("image_url", &[("image_url", Need, &Shape::Either(&[&Shape::Filled, &IMAGE]))]),
    ("document_url", &[("document_url", Need, &Shape::Filled), ("document_name", Null, &Shape::Text)]),
    ("file", &[("file_id", Need, &Shape::Filled)]),
    ("input_audio", &[("input_audio", Need, &Shape::Base64)]),
    ("thinking", &[("thinking", Need, &Shape::List(&Shape::Object)), ("closed", Null, &Shape::Flag)]),
]);

static IMAGE: Shape = Shape::Closed(&[("url", Need, &Shape::Filled), ("detail", Null, &Shape::Word(&["low", "auto", "high"]))]);

static CALL: Shape = Shape::Closed(&[
    ("id", Need, &Shape::Text),
    ("type", Null, &Shape::Word(&["function"])),
    ("index", Null, &Shape::Whole(0, i64::MAX)),
    (
        "function",
        Need,
        &Shape::Closed(&[("name", Need, &Shape::Filled), ("arguments", Need, &Shape::Either(&[&Shape::Object, &Shape::Text]))]),
    ),
]);

static TOOL: Shape = Shape::Closed(&[
    ("type", Null, &Shape::Word(&["function"])),
    (
        "function",
        Need,
        &Shape::Closed(&[
            ("name", Need, &Shape::Filled),
            ("description", Null, &Shape::Text),
            ("strict", Null, &Shape::Flag),
            ("parameters", Need, &Shape::Object),
        ]),
    ),
]);

static CHOICE: Shape = Shape::Either(&[
    &Shape::Closed(&[("type", Null, &Shape::Word(&["function"])), ("function", Need, &Shape::Closed(&[("name", Need, &Shape::Filled)]))]),
    &Shape::Word(&["auto", "none", "any", "required"]),
]);

static FORMAT: Shape = Shape::Closed(&[
    ("type", Null, &Shape::Word(&["text", "json_object", "json_schema"])),
    (
        "json_schema",
        Null,
        &Shape::Closed(&[
            ("name", Need, &Shape::Filled),
            ("description", Null, &Shape::Text),
            ("schema", Need, &Shape::Object),
            ("strict", Null, &Shape::Flag),
        ]),
    ),
]);

impl Dialect for Mistral {
    fn read(&self, request: Incoming<'_>) -> Result<Ask, Refusal> {
        if !request.header("authorization").strip_prefix("Bearer ").is_some_and(|key| key.starts_with("sk-")) {
            return Err(Refusal::status(401, "Invalid API Key"));
        }
        if let Some(endpoint) = passed_at(request.path()) {
            return passed::read_body(Service::Compatible, endpoint, request);
        }
        let body = Value::Object(object(request.headers, request.body)?);
        let embeds = request.path() == EMBEDDINGS;
        let shape = if embeds { &embeddings::BODY } else { &BODY };
        shape.check(&body, "").map_err(|(at, why)| {
            let (code, message) = match why {
                Why::Missing => ("missing", "Field required"),
                Why::Unknown => ("extra_forbidden", "Extra inputs are not permitted"),
                Why::Wrong => ("value_error", "Input should be a valid value of this field"),
            };
            Refusal { status: 422, ..Refusal::field(code, &at, message) }
        })?;
        if embeds {
            return embeddings::read(&body, request.body);
        }
        messages(items(&body, "messages"))?;
        let Value::Object(body) = body else { return Err(Refusal::status(400, "no object")) };
        let mut ask = read::read(Service::Compatible, &body, request.body)?;
        ask.thinks |= body.contains_key("prompt_mode");
        Ok(ask)
    }

    fn whole_type(&self, ask: &Ask) -> &'static str {
        ask.passed.as_ref().map_or("application/json", passed::content_type)
    }

    fn whole(&self, ask: &Ask, reply: &Reply) -> Vec<u8> {
        if let Some(passed) = &ask.passed {
            return passed::whole(ask, passed, reply);
        }
        if let Some(embed) = &ask.embed {
            return embeddings::whole(ask, embed).to_string().into_bytes();
        }
        let choices = reply.choices.iter().enumerate().map(|(index, spoken)| {
            let calls: Vec<Value> = spoken.calls.iter().enumerate().map(|(n, one)| call(ask, index, n, one)).collect();
            let message = json!({ "role": "assistant", "content": content(spoken), "tool_calls": if calls.is_empty() { Value::Null } else { calls.into() } });
            json!({ "index": index, "message": message, "finish_reason": spoken.finish.word("stop", "length", "tool_calls") })
        });
        let mut out = base(ask, "chat.completion", choices.collect());
        out.insert("usage".into(), usage(reply));
        Value::Object(out).to_string().into_bytes()
    }

    fn events(&self, ask: &Ask, reply: &Reply) -> Vec<Bytes> {
        if let Some(passed) = &ask.passed {
            return passed::events(ask, passed, reply);
        }
        let mut choices = Vec::new();
        for (index, spoken) in reply.choices.iter().enumerate() {
            let mut add =
                |delta: Value, finish: Option<&str>| choices.push(json!({ "index": index, "delta": delta, "finish_reason": finish }));
            add(json!({ "role": "assistant", "content": "" }), None);
            for block in spoken.blocks() {
                for piece in block.pieces(ask) {
                    match block {
                        Block::Thinking(_) => add(json!({ "content": [thinking(&piece)] }), None),
                        Block::Text(_) => add(json!({ "content": piece }), None),
                        Block::Call(..) => {}
                    }
                }
            }
            // calls come whole, with the end
            let calls: Vec<Value> = spoken.calls.iter().enumerate().map(|(n, one)| call(ask, index, n, one)).collect();
            let end = if calls.is_empty() { json!({ "content": "" }) } else { json!({ "content": "", "tool_calls": calls }) };
            add(end, Some(spoken.finish.word("stop", "length", "tool_calls")));
        }
        let last = choices.len().saturating_sub(1);
        let chunk = |(n, choice)| {
            let mut chunk = base(ask, "chat.completion.chunk", json!([choice]));
            if n == last {
                chunk.insert("usage".into(), usage(reply));
            }
            chunk.insert("p".into(), json!("abcdefgh"));
            Bytes::from(format!("data: {}\n\n", Value::Object(chunk)))
        };
        choices.into_iter().enumerate().map(chunk).chain([Bytes::from_static(b"data: [DONE]\n\n")]).collect()
    }

    fn refusal(&self, refusal: &Refusal) -> Value {
        error(refusal)
    }
}

fn refuse<T>(at: &str, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::field(BAD_VALUE, at, message))
}

/// The order of messages, and ids.
fn messages(messages: &[Value]) -> Result<(), Refusal> {
    let mut open: Vec<&str> = Vec::new();
    for (n, message) in messages.iter().enumerate() {
        let at = format!("messages.{n}");
        let called = items(message, "tool_calls").iter().map(|call| text_of(call, "id"));
        let role = text_of(message, "role");
        let answered = text_of(message, "tool_call_id");
        let bad = |id: &&str| id.len() != ID || !id.bytes().all(|b| b.is_ascii_alphanumeric());
        if let Some(id) = called.clone().chain([answered].into_iter().filter(|id| !id.is_empty())).find(bad) {
            return refuse(&at, format!("Tool call id was {id} but must be a-z, A-Z, 0-9, with a length of 9."));
        }
        if role == "tool" {
            match open.iter().position(|id| *id == answered) {
                Some(found) => drop(open.swap_remove(found)),
                None => return refuse(&at, "Unexpected tool call id in tool results"),
            }
            continue;
        }
        if !open.is_empty() {
            return refuse(&at, "Not the same number of function calls and responses");
        }
        let empty = message.get("content").is_none_or(|content| content.is_null() || *content == "" || *content == json!([]));
        if role == "assistant" && empty && called.clone().next().is_none() {
            return refuse(&at, "Assistant message must have either content or tool_calls, but not none.");
        }
        open.extend(called);
    }
    let last = messages.last().unwrap_or(&Value::Null);
    let good = matches!(text_of(last, "role"), "user" | "tool") || last.get("prefix") == Some(&Value::Bool(true));
    if good && open.is_empty() {
        Ok(())
    } else {
        refuse("messages", "Expected last role User or Tool (or Assistant with prefix True) for serving")
    }
}

fn base(ask: &Ask, kind: &str, choices: Value) -> Map<String, Value> {
    let fields = [
        ("id", json!(ask.digest)),
        ("object", json!(kind)),
        ("created", json!(CREATED)),
        ("model", json!(ask.model)),
        ("choices", choices),
    ];
    fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn usage(reply: &Reply) -> Value {
    let usage = reply.usage;
    json!({ "prompt_tokens": usage.prompt, "completion_tokens": usage.completion, "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": { "cached_tokens": 0 } })
}

/// A text, or a list of chunks where the model thought first.
fn content(spoken: &Spoken) -> Value {
    match spoken.reasoning {
        None => json!(spoken.text),
        Some(thought) if spoken.text.is_empty() => json!([thinking(thought)]),
        Some(thought) => json!([thinking(thought), { "type": "text", "text": spoken.text }]),
    }
}

fn thinking(text: &str) -> Value {
    json!({ "type": "thinking", "thinking": [{ "type": "text", "text": text }] })
}

fn call(ask: &Ask, index: usize, n: usize, call: &Call) -> Value {
    let id: String = sha256_hex(format!("{} {index} {n}", ask.digest).as_bytes()).chars().take(ID).collect();
    json!({ "id": id, "index": n, "type": "function", "function": { "name": call.name, "arguments": call.arguments.to_string() } })
}

/// The three shapes of an error.
fn error(refusal: &Refusal) -> Value {
    let Refusal { status, code, param, message, .. } = refusal;
    match status {
        401 => json!({ "detail": message }),
        422 => {
            let steps = param.as_deref().unwrap_or_default().split('.');
            let steps: Vec<Value> = steps.map(|step| step.parse::<u64>().map_or_else(|_| json!(step), |n| json!(n))).collect();
            let place: Vec<Value> = std::iter::once(json!("body")).chain(steps).collect();
            json!({ "detail": [{ "type": code, "loc": place, "msg": message }] })
        }
        429 => {
            json!({ "object": "error", "message": message, "type": "rate_limited", "param": null, "code": "1300", "raw_status_code": 429 })
        }
        _ => {
            let kind = if *status < 500 { "invalid_request_error" } else { "internal_server_error" };
            json!({ "object": "error", "message": message, "type": kind, "param": param, "code": BAD_VALUE, "raw_status_code": status })
        }
    }
}
