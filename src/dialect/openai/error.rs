//! Refusals and failures of servers that speak OpenAI, which have every shape that an error can have.
//!
//! `{"error":{"message":…}}` (OpenAI and most), `{"error":"…","code":"…"}` (xAI), `{"object":"error","message":…}` (vLLM,
//! SGLang, Mistral), `{"message":…}`, `{"detail":"…"}` and `{"detail":[{"loc":…,"msg":…}]}` (FastAPI), `{"fault":…}`
//! (API proxies), plain text, HTML, nothing.
#![expect(clippy::disallowed_types, reason = "errors are rare, and have any shape")]

use crate::dialect::shared::refusal::{self, is_target_unknown};
use crate::llm::failure::{FailureClass, ProviderError};
use http::HeaderMap;
use serde_json::{Map, Value};

/// Parts of lower-case messages that blame the request, whatever the status. llama.cpp answers 500 to "image input is not
/// supported", "input is too large to process" and a grammar that cannot be parsed; template errors of vLLM and SGLang
/// are 500 too.
const INPUT: [&str; 23] = [
    "system message must be at the beginning", // a chat template in llama.cpp
    "is not supported",
    "are not supported",
    "not supported by",
    "does not support",
    "unsupported param",
    "unsupported content",
    "unsupported value",
    "too large to process",
    "context size",
    "context length",
    "context window",
    "maximum context",
    "prompt is too long",
    "input is too long",
    "too many tokens",
    "max_new_tokens",
    "failed to parse grammar",
    "unrecognized schema",
    "json schema",
    "must alternate",
    "param requires",
    "failed to decode image",
];
/// Parts of words in `type` and `code` that mean that the operator's account has to be paid or unlocked: OpenAI's
/// `insufficient_quota` and `billing_not_active`, Moonshot's `exceeded_current_quota_error`, Alibaba's `Arrearage`.
const ACCOUNT_WORDS: [&str; 6] =
    ["insufficient_quota", "billing", "exceeded_current_quota", "arrearage", "insufficient_balance", "insufficient_credit"];
/// The same for a prompt that is too long: OpenAI and most, llama.cpp.
const CONTEXT_WORDS: [&str; 2] = ["context_length_exceeded", "exceed_context_size"];
/// The same for a prompt or an answer against the provider's policy: OpenAI (`content_policy_violation`, `bio_policy`,
/// `cyber_policy`, `misalignment_policy_violation`), Azure, Alibaba.
const CONTENT_WORDS: [&str; 6] =
    ["_policy", "content_filter", "responsibleaipolicyviolation", "invalid_prompt", "moderation_blocked", "data_inspection_failed"];
/// The same for encrypted reasoning of another account, another model or an older key.
const STALE_REASONING: &str = "invalid_encrypted_content";
/// The same in messages, which name the "encrypted content".
const STALE_REASONING_TEXTS: [&str; 2] = ["could not be verified", "could not be decrypted"];
/// The same of Claude, whose blocks are bound to the conversation and the account that they were made in
/// (<https://platform.claude.com/docs/en/build-with-claude/preserved-thinking>), and of Gemini.
const STALE_SIGNATURES: [&str; 4] = [
    "invalid signature in thinking block",
    "thought signature is not valid",
    "corrupted thought signature",
    // https://ai.google.dev/gemini-api/docs/thought-signatures. Of a call to which the client returned none, too.
    "missing a thought_signature",
];
/// Codes of the Responses API for an image in the prompt.
const IMAGE_WORDS: [&str; 7] =
    ["invalid_image", "invalid_base64_image", "image_too_", "image_parse_error", "image_file", "unsupported_image", "download_image"];
/// Numbers in `code` and `status_code` that are no statuses of HTTP, by the documentation of MiniMax (four digits from 1000)
/// and Z.ai.
const CODES: [(&str, FailureClass); 11] = [
    ("1001", FailureClass::Timeout),
    ("1002", FailureClass::RateLimited),
    ("1004", FailureClass::Credential),
    ("1008", FailureClass::Credential),
    ("1039", FailureClass::BadRequest),
    ("1113", FailureClass::Credential),
    ("1302", FailureClass::RateLimited),
    ("1305", FailureClass::Overloaded),
    ("2013", FailureClass::BadRequest),
    ("2049", FailureClass::Credential),
    ("2056", FailureClass::RateLimited),
];
/// The same in messages. "You exceeded your current quota, please check your plan and billing details" is not among them:
/// Gemini says so of its limits per minute.
const ACCOUNT: [&str; 9] = [
    // Gemini: where the gateway runs, not where its client is. https://ai.google.dev/gemini-api/docs/available-regions
    "user location is not supported",
    "credit balance is too low",
    "insufficient balance",
    "insufficient credit",
    "used all available credits",
    "monthly spending limit",
    "billing hard limit",
    "please check your billing",
    "insufficient account balance",
];

/// Longest error body that is read as JSON, in bytes.
pub const MAX_ERROR_BODY: usize = 64 << 10;
/// Members that hold a message or an object with one.
const MESSAGES: [&str; 14] = [
    "error",
    "errors",
    "fault",
    "detail",
    "message",
    "msg",
    "faultstring",
    "error_description",
    "base_resp",
    "status_msg",
    "error_msg",
    "error_message",
    "errorMessage",
    "details",
];
/// Longest name of a field, or code, that is kept, in bytes.
const MAX_PARAM: usize = 128;

/// Reads an answer whose status is not 2xx.
pub fn read(status: u16, headers: &HeaderMap, body: &[u8]) -> ProviderError {
    let said = Said::read(body);
    let class = match said.word_class() {
        _ if said.blames_account() => FailureClass::Credential,
        Some(class) if is_exact(class) && matches!(status, 400 | 403 | 404 | 413 | 422) => class,
        Some(FailureClass::Server) if status == 400 => FailureClass::Server,
        // What is wrong with the operator's key is not the client's bad request.
        Some(FailureClass::Credential) if status == 400 => FailureClass::Credential,
        _ if status == 403 && said.is_too_long() => FailureClass::BadRequest, // Together's status for it
        _ => said.class_of(status),
    };
    let message = said.message.unwrap_or_else(|| format!("the provider answered with status {status}"));
    ProviderError { param: said.param, code: said.code, retry_after: refusal::from_headers(headers), class, message }
}

/// Reads an error that came in the middle of an answer, where there is no status.
pub fn in_band(json: &str) -> ProviderError {
    let said = Said::read(json.as_bytes());
    let word = said.word_class();
    let class = match said.status.map(|status| said.class_of(status)).or(word) {
        _ if said.blames_account() => FailureClass::Credential,
        class => word.filter(|word| is_exact(*word)).or(class).unwrap_or(FailureClass::Server),
    };
    let message = said.message.unwrap_or_else(|| "the provider reported an error without a message".to_owned());
    ProviderError { param: said.param, code: said.code, ..ProviderError::new(class, message) }
}

/// The failure that a document says, where it is no part of an answer but an error under any of the names that servers
/// have for one; `None` where it is none.
pub fn find(json: &str) -> Option<ProviderError> {
    let value: Value = serde_json::from_str(json).ok()?;
    let members = match &value {
        Value::Array(list) => list.first()?.as_object()?,
        value => value.as_object()?,
    };
    let filled = |value: &Value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(members) => !members.is_empty(),
        _ => true,
    };
    let has = |name: &&str| members.get(*name).is_some_and(filled);
    let named =
        ["error", "errors", "error_code", "error_msg", "error_message", "errorCode", "errorMessage", "detail", "fault"].iter().any(has);
    let said = |name: &str| members.get(name).and_then(Value::as_str);
    let typed = said("object") == Some("error") || said("type") == Some("error") || said("message").is_some_and(|text| !text.is_empty());
    let failed = named || typed || members.get("base_resp").is_some_and(|resp| base_status(resp) != 0);
    failed.then(|| in_band(json))
}

/// Whether MiniMax's `base_resp`, which every answer of theirs has, says that it failed.
pub fn is_failed_base_resp(json: &str) -> bool {
    serde_json::from_str(json).is_ok_and(|resp| base_status(&resp) != 0)
}

fn base_status(resp: &Value) -> i64 {
    resp.get("status_code").and_then(Value::as_i64).unwrap_or_default()
}

/// The class of a refusal with OpenRouter's `metadata`: `reasons` and `flagged_input` of a prompt that moderation has flagged, or the
/// step at which no endpoint of the model was left. <https://openrouter.ai/docs/api/reference/errors-and-debugging>
fn of_metadata(error: &Map<String, Value>) -> Option<FailureClass> {
    let metadata = error.get("metadata")?;
    let has = |name: &str| metadata.get(name).is_some_and(|value| !value.is_null());
    if has("reasons") || has("flagged_input") {
        return Some(FailureClass::ContentFilter);
    }
    // With a 404 it is a step that the request has failed, such as a filter for images.
    (has("failed_routing_step") && error.get("code").is_some_and(|code| code == 403)).then_some(FailureClass::NotFound)
}

/// Whether a class that words say is more exact than that of any status.
const fn is_exact(class: FailureClass) -> bool {
    matches!(class, FailureClass::ContextLength | FailureClass::ContentFilter | FailureClass::StaleReasoning | FailureClass::NotFound)
}

/// Statuses that mean something else here than elsewhere.
fn of_status(status: u16) -> FailureClass {
    match status {
        412 => FailureClass::Credential, // Fireworks: the account is suspended
        524 => FailureClass::Timeout,    // a CDN that has waited too long for the provider
        _ => FailureClass::of_status(status),
    }
}

/// What a body says.
#[derive(Debug, Default)]
struct Said {
    message: Option<String>,
    /// Whether it is JSON.
    is_json: bool,
    /// `type`, `code` and `status`, in lower case.
    words: String,
    /// A code that is an HTTP status.
    status: Option<u16>,
    /// The field to blame.
    param: Option<String>,
    /// The innermost `code` that is a word.
    code: Option<String>,
    /// What OpenRouter's `metadata` says.
    metadata: Option<FailureClass>,
}

impl Said {
    fn read(body: &[u8]) -> Self {
        let mut said = Self::default();
        let text = String::from_utf8_lossy(body.get(..MAX_ERROR_BODY).unwrap_or(body));
        let text = text.trim();
        match serde_json::from_str::<Value>(text) {
            Ok(value) => {
                said.is_json = true;
                said.value(&value);
            }
            Err(_) if text.is_empty() || text.starts_with(['<', '{', '[']) => {} // HTML, or JSON cut off
            Err(_) => {
                // Some servers refuse a stream with the event that would have ended it.
                let data = text.lines().find_map(|line| line.strip_prefix("data:").or_else(|| line.strip_prefix("error:"))).unwrap_or(text);
                match serde_json::from_str::<Value>(data) {
                    Ok(value) => said.value(&value),
                    Err(_) => said.say(data),
                }
            }
        }
        said
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.say(text),
            Value::Array(list) => {
                let messages: Vec<String> = list.iter().filter_map(listed).collect();
                self.blame(list.iter().find_map(place).as_deref());
                match list.first() {
                    Some(first) if messages.is_empty() => self.value(first),
                    _ => self.say(&messages.join("; ")),
                }
            }
            Value::Object(members) => {
                // The innermost message wins, the words of all levels count.
                for key in MESSAGES {
                    if let Some(inner) = members.get(key)
                        && self.message.is_none()
                    {
                        self.value(inner);
                    }
                }
                self.blame(members.get("param").and_then(Value::as_str));
                self.code = self.code.take().or_else(|| name(members.get("code").and_then(Value::as_str)));
                self.metadata = self.metadata.or_else(|| of_metadata(members));
                for key in ["type", "code", "status", "error_type", "error_code", "errorCode", "status_code"] {
                    match members.get(key) {
                        Some(Value::String(word)) => {
                            self.words.push_str(&word.to_ascii_lowercase());
                            self.words.push(' ');
                        }
                        Some(Value::Number(n)) => {
                            let status = n.as_u64().and_then(|n| u16::try_from(n).ok()).filter(|n| (400..600).contains(n));
                            self.status = self.status.or(status);
                            if status.is_none() {
                                self.words.push_str(&format!("{n} "));
                            }
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }

    fn blame(&mut self, param: Option<&str>) {
        self.param = self.param.take().or_else(|| name(param));
    }

    /// The class of a status with this body.
    fn class_of(&self, status: u16) -> FailureClass {
        match &self.message {
            Some(message) if status == 404 && self.is_json && !is_target_unknown(&self.words, self.param.as_deref(), message) => {
                FailureClass::UnknownReference
            }
            _ => of_status(status),
        }
    }

    /// Whether it says that the prompt and the answer do not fit into the model's context.
    fn is_too_long(&self) -> bool {
        let message = self.message.as_deref().unwrap_or_default().to_ascii_lowercase();
        ["max_new_tokens", "context length", "maximum context"].iter().any(|text| message.contains(text))
    }

    /// Whether it says that the operator's account has to be paid or unlocked.
    fn blames_account(&self) -> bool {
        self.words.split(' ').any(|word| matches!(word, "1008" | "1113") || ACCOUNT_WORDS.iter().any(|account| word.contains(account)))
            || self.message.as_deref().is_some_and(blames_account)
    }

    fn say(&mut self, text: &str) {
        let text = text.trim();
        if !text.is_empty() {
            self.message = Some(text.to_owned());
        }
    }

    /// What the words and the message say, where they say it plainly.
    fn word_class(&self) -> Option<FailureClass> {
        let word = |list: &[&str]| list.iter().any(|word| self.words.contains(word));
        if let Some((_, class)) = CODES.iter().find(|(code, _)| self.words.split(' ').any(|word| word == *code)) {
            return Some(*class);
        }
        if self.metadata.is_some() {
            return self.metadata;
        }
        if word(&CONTEXT_WORDS) {
            return Some(FailureClass::ContextLength);
        }
        if word(&CONTENT_WORDS) {
            return Some(FailureClass::ContentFilter);
        }
        if word(&[STALE_REASONING]) || self.message.as_deref().is_some_and(blames_reasoning) {
            return Some(FailureClass::StaleReasoning);
        }
        if word(&["model_not_found"]) {
            return Some(FailureClass::NotFound);
        }
        let key = self.message.as_deref().is_some_and(blames_key);
        if key || word(&["invalid_api_key", "api_key_invalid", "authentication", "permission", "unauthenticated", "unauthorized"]) {
            Some(FailureClass::Credential)
        } else if word(&["rate_limit", "rate-limit", "resource-exhausted", "resource_exhausted", "ratelimit"]) {
            Some(FailureClass::RateLimited)
        } else if word(&["overloaded", "unavailable", "capacity", "slow_down"]) {
            Some(FailureClass::Overloaded)
        } else if word(&["timeout", "deadline"]) {
            Some(FailureClass::Timeout)
        } else if word(&["invalid_request", "invalid-argument", "badrequest", "bad_request", "validation"]) || word(&IMAGE_WORDS) {
            Some(FailureClass::BadRequest)
        } else {
            None
        }
    }
}

/// Whether a message blames the request, as an answer to which no other target and no repetition would help.
pub fn blames_input(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    INPUT.iter().any(|text| message.contains(text))
}

/// Whether a message reports that reasoning of an earlier turn, which came back, cannot be read.
pub fn blames_reasoning(message: &str) -> bool {
    let message = message.to_ascii_lowercase().replace('`', "");
    let encrypted = message.contains("encrypted content") && STALE_REASONING_TEXTS.iter().any(|text| message.contains(text));
    encrypted || STALE_SIGNATURES.iter().any(|text| message.contains(text))
}

/// Whether a message says that the operator's account has to be paid or unlocked.
pub fn blames_account(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ACCOUNT.iter().any(|text| message.contains(text))
}

/// Whether a message says that the operator's key is wrong, which some providers report as a bad request.
pub fn blames_key(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["incorrect api key", "invalid api key", "invalid_api_key", "api key is invalid", "api key not valid", "api key expired"]
        .iter()
        .any(|text| message.contains(text))
}

/// A word that is fit to be a field's name, or a code.
fn name(word: Option<&str>) -> Option<String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b':' | b'[' | b']');
    word.filter(|word| (1..=MAX_PARAM).contains(&word.len()) && word.bytes().all(plain)).map(str::to_owned)
}

/// One entry of FastAPI's list: `{"loc": ["body", "stop"], "msg": "…"}` as `body.stop: …`.
fn listed(value: &Value) -> Option<String> {
    let message = value.get("msg")?.as_str()?;
    let place: Vec<String> = value.get("loc").and_then(Value::as_array).into_iter().flatten().map(plain).collect();
    Some(if place.is_empty() { message.to_owned() } else { format!("{}: {message}", place.join(".")) })
}

/// The field of an entry of FastAPI's list: `["body", "messages", 0, "role"]` as `messages[0].role`.
fn place(value: &Value) -> Option<String> {
    let mut out = String::new();
    for step in value.get("loc")?.as_array()?.iter().skip_while(|step| *step == "body") {
        match step {
            Value::Number(n) => out.push_str(&format!("[{n}]")),
            step if out.is_empty() => out.push_str(&plain(step)),
            step => out.extend([".", &plain(step)]),
        }
    }
    Some(out)
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;
