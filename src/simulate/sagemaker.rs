//! SageMaker's InvokeEndpoint, with a container behind it that takes OpenAI's chat completions or TGI's `generate`,
//! whichever the body is.
//!
//! A streamed answer is the container's own stream in `PayloadPart`s, cut elsewhere than its events end. What the
//! container refuses is a 424 around the container's own answer.

use super::ask::{Ask, Constraint};
use super::aws;
use super::dialect::{Dialect, Incoming, Refusal, unescape};
use super::openai::Service;
use super::reply::{Block, Finish, Reply};
use super::shape::Rule::{Need, Null};
use super::shape::{Shape, object, strings, text_of};
use bytes::Bytes;
use serde_json::{Map, Value, json};

/// Longest name of an endpoint.
const MAX_NAME: usize = 63;
/// Most bytes of a body, by the service model.
const MAX_BODY: usize = 6 << 20;
/// What the container is where it speaks OpenAI's protocol.
const CONTAINER: Service = Service::VllmLegacy;

/// runtime.sagemaker.REGION.amazonaws.com.
pub(super) struct SageMaker;

/// Who answers at a path.
pub(super) fn find(path: &str) -> Option<&'static dyn Dialect> {
    parse(path).map(|_| &SageMaker as &dyn Dialect)
}

/// The endpoint, as it came, and whether its answer is to be streamed.
fn parse(path: &str) -> Option<(&str, bool)> {
    let (endpoint, operation) = path.strip_prefix("/sagemaker/endpoints/")?.split_once('/')?;
    match operation {
        "invocations" => Some((endpoint, false)),
        "invocations-response-stream" => Some((endpoint, true)),
        _ => None,
    }
}

impl Dialect for SageMaker {
    fn read(&self, request: Incoming<'_>) -> Result<Ask, Refusal> {
        aws::check(&request, "sagemaker", false)?;
        let service = |message: &str| Refusal { code: "ValidationException", ..Refusal::status(400, message) };
        let (endpoint, stream) = parse(request.path()).unwrap_or_default();
        let endpoint = unescape(endpoint);
        let name = endpoint.split('+').next().unwrap_or_default();
        let good = (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !good || name.starts_with('-') || name.ends_with('-') {
            return Err(service("EndpointName must match [a-zA-Z0-9](-*[a-zA-Z0-9])* of at most 63 characters."));
        }
        if request.body.len() > MAX_BODY {
            return Err(service("Body must have length less than or equal to 6291456."));
        }
        let mut body = object(request.headers, request.body)?;
        if stream != (body.get("stream") == Some(&Value::Bool(true))) {
            return Err(Refusal::at("stream", "`stream` in the container's body does not fit the operation"));
        }
        if body.contains_key("inputs") {
            return generate(endpoint, body, request.body);
        }
        body.insert("model".into(), json!(endpoint));
        CONTAINER.judge(&body, request.body)
    }

    fn whole(&self, ask: &Ask, reply: &Reply) -> Vec<u8> {
        if !ask.is_text {
            return CONTAINER.whole(ask, reply);
        }
        let texts = reply.choices.iter().map(|spoken| json!({ "generated_text": spoken.text, "details": details(reply, &spoken.finish) }));
        Value::Array(texts.collect()).to_string().into_bytes()
    }

    fn events(&self, ask: &Ask, reply: &Reply) -> Vec<Bytes> {
        parted(if ask.is_text { tokens(ask, reply) } else { CONTAINER.events(ask, reply) })
    }

    fn refusal(&self, refusal: &Refusal) -> Value {
        let Refusal { message, status, .. } = refusal;
        if self.refusal_status(refusal) == *status {
            json!({ "Message": message })
        } else {
            let original = CONTAINER.refusal(refusal).to_string();
            let told = format!("Received client error ({status}) from primary with message \"{original}\".");
            json!({ "Message": told, "OriginalStatusCode": status, "OriginalMessage": original, "LogStreamArn": "" })
        }
    }

    /// The service refuses what it can judge itself; everything else is the container's word.
    fn refusal_status(&self, refusal: &Refusal) -> u16 {
        if refusal.code.ends_with("Exception") || refusal.status == 405 { refusal.status } else { 424 }
    }

    fn refusal_headers(&self, refusal: &Refusal) -> Vec<(&'static str, String)> {
        let exception = if self.refusal_status(refusal) == 424 { "ModelError" } else { aws::exception(refusal) };
        aws::refusal_headers(refusal, exception)
    }

    fn junk(&self, text: &str) -> Bytes {
        part(&CONTAINER.junk(text))
    }

    fn error_event(&self, _: &Ask, _: usize, refusal: &Refusal) -> Bytes {
        let body = json!({ "Message": refusal.message, "ErrorCode": "ModelInvocationTimeExceeded" });
        aws::message(false, "ModelStreamError", body.to_string().as_bytes())
    }

    fn idle(&self) -> Bytes {
        part(&CONTAINER.idle())
    }

    fn stream_type(&self) -> &'static str {
        aws::EVENT_STREAM
    }
}

fn part(bytes: &[u8]) -> Bytes {
    aws::message(true, "PayloadPart", bytes)
}

/// As many parts as there are events, none of them ending where an event does but the last.
fn parted(events: Vec<Bytes>) -> Vec<Bytes> {
    let last = events.len().saturating_sub(1);
    let mut held: Vec<u8> = Vec::new();
    events
        .iter()
        .enumerate()
        .map(|(n, event)| {
            held.extend_from_slice(event);
            let keep = if n == last { 0 } else { (n * 7 % 11 + 1).min(held.len()) };
            let rest = held.split_off(held.len() - keep);
            part(&std::mem::replace(&mut held, rest))
        })
        .collect()
}

/// TGI's body; its ranges leave out their ends, see [`generate`].
static GENERATE: Shape = Shape::Closed(&[
    ("inputs", Need, &Shape::Text),
    ("stream", Null, &Shape::Flag),
    (
        "parameters",
        Null,
        &Shape::Closed(&[
            ("max_new_tokens", Null, &Shape::Whole(1, i64::MAX)),
            ("temperature", Null, &Shape::Number(f64::MIN_POSITIVE, f64::MAX)),
            ("top_p", Null, &Shape::Number(f64::MIN_POSITIVE, 1.0 - f64::EPSILON)),
            ("top_k", Null, &Shape::Whole(1, i64::MAX)),
            ("top_n_tokens", Null, &Shape::Whole(1, i64::MAX)),
            ("typical_p", Null, &Shape::Number(f64::MIN_POSITIVE, 1.0 - f64::EPSILON)),
            ("repetition_penalty", Null, &Shape::Number(f64::MIN_POSITIVE, f64::MAX)),
            ("frequency_penalty", Null, &Shape::Number(-2.0, 2.0)),
            ("seed", Null, &Shape::Whole(0, i64::MAX)),
            ("best_of", Null, &Shape::Whole(1, i64::MAX)),
            ("stop", Null, &Shape::List(&Shape::Text)),
            ("do_sample", Null, &Shape::Flag),
            ("details", Null, &Shape::Flag),
            ("decoder_input_details", Null, &Shape::Flag),
            ("return_full_text", Null, &Shape::Flag),
            ("watermark", Null, &Shape::Flag),
            ("truncate", Null, &Shape::Whole(1, i64::MAX)),
            ("adapter_id", Null, &Shape::Text),
            ("grammar", Null, &Shape::Closed(&[("type", Need, &Shape::Word(&["json", "regex"])), ("value", Need, &Shape::Any)])),
        ]),
    ),
]);

/// Reads TGI's `generate`.
fn generate(endpoint: String, body: Map<String, Value>, raw: &[u8]) -> Result<Ask, Refusal> {
    let body = Value::Object(body);
    GENERATE.check(&body, "").map_err(|(at, why)| Refusal { status: 422, ..Refusal::at(&at, format!("`{at}`: {why:?}")) })?;
    let mut ask = Ask::begin(endpoint, raw)?;
    let parameters = body.get("parameters").unwrap_or(&Value::Null);
    ask.is_text = true;
    ask.stream = body.get("stream") == Some(&Value::Bool(true));
    ask.max_tokens = parameters.get("max_new_tokens").and_then(Value::as_u64);
    ask.stop = strings(parameters.get("stop"));
    if let Some(grammar) = parameters.get("grammar").filter(|grammar| !grammar.is_null()) {
        let value = grammar.get("value").cloned().unwrap_or_default();
        ask.constraint = match value {
            Value::String(pattern) if text_of(grammar, "type") == "regex" => Constraint::Pattern(pattern),
            schema => Constraint::Schema(schema),
        };
    }
    let inputs = text_of(&body, "inputs");
    ask.heard(inputs);
    ask.user = last_user_text(inputs).to_owned();
    Ok(ask)
}

/// The user's last words in a prompt that was rendered for Llama 3 or Llama 2; all of another prompt.
fn last_user_text(prompt: &str) -> &str {
    let templates = [("<|start_header_id|>user<|end_header_id|>", "<|eot_id|>"), ("<</SYS>>", "[/INST]"), ("[INST]", "[/INST]")];
    let found = templates.iter().find_map(|(begin, end)| prompt.rsplit_once(begin)?.1.split_once(end));
    found.map_or(prompt, |(text, _)| text).trim()
}

/// TGI's stream: an event for each token, the last of them with the whole text.
fn tokens(ask: &Ask, reply: &Reply) -> Vec<Bytes> {
    let mut out = Vec::new();
    for spoken in reply.choices.iter().take(1) {
        let token = |(n, text): (usize, String)| {
            json!({ "index": n + 1, "token": { "id": n, "text": text, "logprob": -0.125, "special": false },
            "generated_text": null, "details": null })
        };
        out.extend(Block::Text(&spoken.text).pieces(ask).into_iter().enumerate().map(token));
        // the token that ends a text is no part of it
        let end = json!({ "id": 128_009, "text": "<|eot_id|>", "logprob": 0.0, "special": true });
        out.push(json!({ "index": out.len() + 1, "token": end, "generated_text": spoken.text, "details": details(reply, &spoken.finish) }));
    }
    out.iter().map(|event| Bytes::from(format!("data:{event}\n\n"))).collect()
}

fn details(reply: &Reply, finish: &Finish) -> Value {
    let word = finish.word("eos_token", "length", "eos_token");
    json!({ "finish_reason": word, "generated_tokens": reply.usage.completion, "input_length": reply.usage.prompt, "prefill": [], "seed": null, "tokens": [] })
}
