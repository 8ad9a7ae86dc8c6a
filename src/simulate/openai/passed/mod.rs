//! The older and the smaller endpoints: completions, moderations, images, audio, rerank.
//!
//! Images and audio are bytes made of the request's digest; a transcript names the length and the SHA-256 of its file.

mod check;
mod write;

pub(in crate::simulate) use write::{content_type, events, whole};

use super::Service::{self, DeepSeek, Fireworks, Hyperbolic, OpenAi, SgLang, Together, Vllm, VllmLegacy, Xai};
use super::check::key;
use super::service_at;
use crate::llm::endpoint::Endpoint;
use crate::simulate::ask::{Ask, tokens};
use crate::simulate::dialect::{Incoming, Refusal};
use crate::simulate::multipart::{self, Field};
use crate::simulate::seen::sha256_hex;
use crate::simulate::shape::{object, strings, text_of};
use serde_json::{Map, Value, json};

/// What a request asks for.
#[derive(Debug)]
pub(in crate::simulate) struct Passed {
    /// The endpoint.
    pub(in crate::simulate) endpoint: Endpoint,
    /// Its members, or the fields of its form with each file as `{"name":…,"bytes":…,"sha256":…}`.
    pub(in crate::simulate) request: Value,
}

/// The service and the endpoint at a path.
pub(super) fn at(path: &str) -> Option<(&'static Service, Endpoint)> {
    Endpoint::ALL.iter().find_map(|endpoint| {
        let base = path.strip_suffix(endpoint.path())?;
        let service = service_at(base).filter(|service| has(**service, *endpoint))?;
        (*service != DeepSeek || base.ends_with("/beta")).then_some((service, *endpoint))
    })
}

/// Whether a service has an endpoint.
fn has(service: Service, endpoint: Endpoint) -> bool {
    use Endpoint::{AudioSpeech, AudioTranscriptions, AudioTranslations, Completions, ImagesEdits, ImagesGenerations, Rerank};
    match service {
        OpenAi => endpoint != Rerank,
        Together => matches!(endpoint, Completions | ImagesGenerations | AudioSpeech | AudioTranscriptions | AudioTranslations | Rerank),
        DeepSeek | Hyperbolic => endpoint == Completions,
        Fireworks | SgLang => matches!(endpoint, Completions | Rerank),
        Xai => matches!(endpoint, ImagesGenerations | ImagesEdits),
        Vllm | VllmLegacy => matches!(endpoint, Completions | AudioTranscriptions | AudioTranslations | Rerank),
        Service::Compatible => true,
    }
}

/// Reads a request from whoever may ask.
///
/// # Errors
/// What the service would refuse.
pub(super) fn read(service: Service, endpoint: Endpoint, request: Incoming<'_>) -> Result<Ask, Refusal> {
    key(service, request.headers)?;
    read_body(service, endpoint, request)
}

/// The same of one whose key has been looked at.
///
/// # Errors
/// What the service would refuse.
pub(in crate::simulate) fn read_body(service: Service, endpoint: Endpoint, request: Incoming<'_>) -> Result<Ask, Refusal> {
    // xAI's edits are JSON; OpenAI's take both.
    let is_json = request.header("content-type").starts_with("application/json");
    let body = if endpoint.takes_forms() && !(is_json && endpoint == Endpoint::ImagesEdits) {
        form(&multipart::read(request.header("content-type"), request.body)?)
    } else {
        object(request.headers, request.body)?
    };
    check::check(service, endpoint, &body, is_json)?;
    let model = body.get("model").and_then(Value::as_str).unwrap_or_default().to_owned();
    if model.is_empty() {
        return Err(Refusal::field("missing_required_parameter", "model", "you must provide a model parameter"));
    }
    let mut ask = Ask::begin(model, request.body)?;
    let body = Value::Object(body);
    let prompt = match endpoint {
        Endpoint::Rerank => [strings(body.get("documents")).join(" "), text_of(&body, "query").to_owned()].join(" "),
        Endpoint::AudioSpeech | Endpoint::Moderations => strings(body.get("input")).join(" "),
        _ => strings(body.get("prompt")).join(" "),
    };
    ask.prompt_tokens = tokens(&prompt);
    ask.user = prompt;
    ask.stream = match endpoint {
        Endpoint::AudioSpeech => text_of(&body, "stream_format") == "sse",
        // "streaming is not supported for whisper-1 and will be ignored"
        Endpoint::AudioTranscriptions => truth(&body, "stream") && !ask.name.starts_with("whisper"),
        _ => truth(&body, "stream"),
    };
    ask.include_usage = body.pointer("/stream_options/include_usage") == Some(&json!(true));
    ask.max_tokens = body.get("max_tokens").and_then(Value::as_u64);
    ask.stop = strings(body.get("stop"));
    if endpoint == Endpoint::Completions || endpoint.makes_images() {
        ask.wants(number(&body, "n").unwrap_or(1));
    }
    ask.passed = Some(Passed { endpoint, request: body });
    Ok(ask)
}

/// A form's fields as members.
fn form(fields: &[Field]) -> Map<String, Value> {
    let value = |field: &Field| match &field.file {
        Some(name) => json!({ "name": name, "bytes": field.content.len(), "sha256": sha256_hex(&field.content) }),
        None => json!(field.text()),
    };
    let mut members = Map::new();
    for field in fields {
        match (members.get_mut(field.name.as_str()), field.name.ends_with("[]")) {
            (Some(Value::Array(list)), true) => list.push(value(field)),
            (_, true) => drop(members.insert(field.name.clone(), json!([value(field)]))),
            _ => drop(members.insert(field.name.clone(), value(field))),
        }
    }
    members
}

fn truth(body: &Value, name: &str) -> bool {
    matches!(body.get(name), Some(Value::Bool(true))) || text_of(body, name) == "true"
}

/// A number, which in a form is text.
fn number(body: &Value, name: &str) -> Option<u64> {
    let value = body.get(name)?;
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}
