//! What a provider's refusal means: its class, the member that it is about, and when to come back.

use super::params::Policy;
use crate::dialect::openai::error::{blames_account, blames_input, blames_reasoning};
use crate::llm::failure::{FailureClass, ProviderError};
use crate::llm::field::Field;
use http::HeaderMap;
use jiff::civil::DateTime;
use jiff::fmt::rfc2822;
use jiff::tz::TimeZone;
use std::time::Duration;

/// The prompt does not fit into the model's context. OpenAI, vLLM, SGLang, DeepSeek and Mistral name the "context length";
/// Anthropic writes "prompt is too long" and "exceed context limit", Bedrock "Input is too long for requested model" and
/// "Too many input tokens", Gemini "input token count", xAI "maximum prompt length", llama.cpp "context size".
const CONTEXT: [&str; 13] = [
    "context length",
    "maximum context",
    "context size",
    "context window",
    "context limit",
    "prompt is too long",
    "input is too long",
    "too many input tokens",
    "input token count",
    "maximum prompt length",
    "maximum model length",
    "`max_new_tokens` must be",
    "reduce the length of the messages",
];
/// The prompt, or what would have been answered, is against the provider's policy. Azure and OpenAI name a policy or the
/// safety system, Anthropic its "content filtering policy", xAI "usage guidelines", DeepSeek writes "Content Exists Risk",
/// Alibaba "inappropriate content".
const CONTENT: [&str; 9] = [
    "content management policy",
    "content filtering policy",
    "content policy",
    "violating our usage policy",
    "violates usage guidelines",
    "violate our usage polic",
    "our safety system",
    "content exists risk",
    "may contain inappropriate content",
];
/// The model is unknown, told with a 400: Bedrock, DeepSeek, Mistral.
const MODEL: [&str; 3] = ["model identifier is invalid", "model not exist", "invalid model: "];

impl ProviderError {
    /// The class under the provider's words, which count more than a status or a type that says only that something
    /// failed: a request to blame is the client's to change, an unpaid account the operator's, whatever dialect says it.
    pub fn judged(&self) -> FailureClass {
        use FailureClass::{BadRequest, ContentFilter, ContextLength, Credential, NotFound, RateLimited, Server, StaleReasoning};
        if !matches!(self.class, BadRequest | RateLimited | Server | Credential) {
            return self.class;
        }
        let message = self.message.to_ascii_lowercase();
        let says = |parts: &[&str]| parts.iter().any(|part| message.contains(part));
        match self.class {
            BadRequest | RateLimited | Server if blames_account(&message) => Credential,
            // xAI refuses content with a 403.
            BadRequest | Credential if says(&CONTENT) => ContentFilter,
            BadRequest | Server if says(&CONTEXT) => ContextLength,
            BadRequest if says(&MODEL) => NotFound,
            BadRequest if blames_reasoning(&message) => StaleReasoning,
            Server if blames_input(&message) => BadRequest,
            class => class,
        }
    }
}

/// Words of a 404's type or code that are about the target: OpenAI's `model_not_found`, Azure's `DeploymentNotFound`, Databricks'
/// `ENDPOINT_NOT_FOUND`.
const TARGET_CODES: [&str; 3] = ["model", "deployment", "endpoint_not_found"];
/// The same in messages, as whole words: "The model `x` does not exist", "The API deployment for this resource does not exist".
const TARGET_WORDS: [&str; 4] = ["model", "models", "deployment", "deployments"];
/// Messages of a server that has nothing at the target's path.
const PATH_MESSAGES: [&str; 3] = ["not found", "resource not found", "no route matched with those values"];

/// Whether a 404 with an error body is about the target itself. All others are about what the client's request refers to, which
/// says nothing about the target: "Item with id 'rs_1' not found", "No endpoints found that support image input".
/// `codes`: its types and codes.
pub fn is_target_unknown(codes: &str, param: Option<&str>, message: &str) -> bool {
    let (codes, message) = (codes.to_ascii_lowercase(), message.trim().to_ascii_lowercase());
    if param.is_some_and(|param| !param.is_empty()) {
        return param == Some("model");
    }
    TARGET_CODES.iter().any(|code| codes.contains(code))
        || PATH_MESSAGES.contains(&message.trim_end_matches('.'))
        || message.starts_with("no endpoints found for ") // OpenRouter
        || unquoted(&message).any(|word| TARGET_WORDS.contains(&word.trim_matches(|c: char| !c.is_alphanumeric())))
}

/// The words of a message without what is quoted, which may be the client's own.
fn unquoted(message: &str) -> impl Iterator<Item = &str> {
    const QUOTES: [char; 3] = ['`', '\'', '"'];
    let mut open = None;
    message.split_whitespace().filter(move |word| {
        let quote = open.or_else(|| word.chars().next().filter(|first| QUOTES.contains(first)));
        let bare = word.trim_end_matches(|c: char| !c.is_alphanumeric() && !QUOTES.contains(&c));
        open = quote.filter(|quote| !bare.ends_with(*quote) || (open.is_none() && bare.len() == 1));
        quote.is_none()
    })
}

/// Words of refusals that are about a member itself.
const UNSUPPORTED: [&str; 16] = [
    "support",
    "not allowed",
    "not permitted",
    "unknown",
    "unrecognized",
    "not recognized",
    "unexpected",
    "extra inputs",
    "deprecated",
    "not available",
    "cannot be",
    "can't be",
    "not accept",
    "incompatible",
    "cannot both",
    "mutually exclusive",
];
/// Words of refusals that are about a member's value, which is the client's to change.
const VALUE: [&str; 8] = ["range", "between", "at most", "at least", "maximum", "minimum", "less than", "greater than"];

/// The member of a chat completion to leave out, of those for which `is_given`. Of several that are quoted it is the last one:
/// "`temperature` and `top_p` cannot both be specified".
pub fn member(refusal: &ProviderError, stream: bool, is_given: impl Fn(Field) -> bool) -> Option<Field> {
    if refusal.judged() != FailureClass::BadRequest {
        return None;
    }
    let text = [refusal.message.as_str(), refusal.param.as_deref().unwrap_or_default()].join(" ");
    let names: Vec<String> = text.split(|c: char| !c.is_alphanumeric() && c != '_').map(squeezed).collect();
    let quoted = |name: &str| names.iter().rposition(|word| *word == squeezed(name));
    if stream && ["stream_options", "include_usage"].iter().any(|name| quoted(name).is_some()) {
        return Some(Field::StreamOptions);
    }
    let lower = refusal.message.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if !has(&UNSUPPORTED) || has(&VALUE) {
        return None;
    }
    let hints = Field::ALL.iter().filter(|field| is_hint(**field) && is_given(**field));
    hints.filter_map(|field| Some((quoted(field.name())?, *field))).max_by_key(|(at, _)| *at).map(|(_, field)| field)
}

/// Whether the answer means the same without the field. A stop sequence and the limit of tokens have no other place.
fn is_hint(field: Field) -> bool {
    Policy::when_lost(field) == Policy::Hint && !matches!(field, Field::Stop | Field::MaxTokens | Field::MaxCompletionTokens)
}

/// A name without its separators: some servers write `presencePenalty`.
fn squeezed(name: &str) -> String {
    name.chars().filter(|c| *c != '_').flat_map(char::to_lowercase).collect()
}

/// Longest wait that is believed; a longer one is cut to it.
pub const MAX_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// Reads `retry-after-ms` (milliseconds, may be fractional), else `retry-after`: seconds, may be fractional, or a date
/// (RFC 9110 section 10.2.3), which is compared with the answer's own `date` so that no clock is needed.
pub fn from_headers(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let seconds = |text: &str| text.parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0);
    if let Some(ms) = text("retry-after-ms").and_then(seconds) {
        return Some(bounded(ms / 1000.0));
    }
    let wish = text("retry-after")?;
    if let Some(n) = seconds(wish) {
        return Some(bounded(n));
    }
    Some(bounded((date(wish)? - date(text("date")?)?).max(0) as f64))
}

/// Seconds since the epoch of a date in one of the three forms of RFC 9110 section 5.6.7, the obsolete two included.
fn date(text: &str) -> Option<i64> {
    let obsolete = || ["%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"].iter().find_map(|form| DateTime::strptime(form, text).ok());
    match rfc2822::parse(text) {
        Ok(date) => Some(date.timestamp().as_second()),
        Err(_) => Some(TimeZone::UTC.to_timestamp(obsolete()?).ok()?.as_second()),
    }
}

fn bounded(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.min(MAX_WAIT.as_secs_f64())).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::llm::envelope::{ChatRequest, Parsed};
    use crate::llm::settings::Params;
    use FailureClass::{BadRequest, ContentFilter, ContextLength, Credential, NotFound, RateLimited, Server, Timeout};

    #[test]
    fn words_say_what_a_status_does_not() {
        for (class, message, judged) in [
            (BadRequest, "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001.", ContextLength),
            (BadRequest, "prompt is too long: 210000 tokens > 200000 maximum", ContextLength),
            (BadRequest, "input length and `max_tokens` exceed context limit: 199000 + 21000 > 200000", ContextLength),
            (BadRequest, "Input is too long for requested model.", ContextLength),
            (BadRequest, "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).", ContextLength),
            (BadRequest, "This model's maximum prompt length is 131072 but the request contains 200000 tokens.", ContextLength),
            (BadRequest, "Prompt contains 40000 tokens, too large for model with 32768 maximum context length", ContextLength),
            (Server, "the request exceeds the available context size", ContextLength),
            (BadRequest, "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.", ContentFilter),
            (BadRequest, "Output blocked by content filtering policy", ContentFilter),
            (Credential, "Content violates usage guidelines. Failed check: SAFETY_CHECK_TYPE_BIO", ContentFilter),
            (BadRequest, "The provided model identifier is invalid.", NotFound),
            (BadRequest, "Your credit balance is too low to access the API", Credential),
            (RateLimited, "Insufficient balance", Credential),
            (Server, "image input is not supported", BadRequest),
            (BadRequest, "max_tokens is too large: 100000. This model supports at most 16384 completion tokens", BadRequest),
            (RateLimited, "Rate limit reached on input token count per minute", RateLimited),
            (Timeout, "no answer in the maximum context", Timeout),
            (Credential, "Incorrect API key provided", Credential),
        ] {
            let error = ProviderError::new(class, message);
            assert_eq!(error.judged(), judged, "{message}");
        }
    }

    #[test]
    fn a_404_is_about_the_target_or_about_what_the_client_refers_to() {
        for (codes, param, message) in [
            ("invalid_request_error model_not_found", None, "x"),
            ("NotFoundError", Some("model"), "x"),
            ("NotFoundError", None, "The model `x` does not exist."),
            ("not_found_error", None, "model: claude-x"),
            ("api_error", None, "model \"x\" not found, try pulling it first"),
            ("DeploymentNotFound", None, "The API deployment for this resource does not exist."),
            ("", None, "No endpoints found for x/y."),
            ("404", None, "Resource not found"),
            ("", None, "Not Found"),
            ("", None, "You don't have access to model x"),
        ] {
            assert!(is_target_unknown(codes, param, message), "{message}");
        }
        for (codes, param, message) in [
            (
                "invalid_request_error",
                Some("input"),
                "Item with id 'rs_1' not found. Items are not persisted when `store` is set to false.",
            ),
            ("invalid_request_error", None, "Item with id 'model' not found."),
            ("invalid_request_error", None, "File 'the other model' not found."),
            ("not_found_error", None, "File not found: file_model_1"),
            ("", None, "No endpoints found that support image input"),
        ] {
            assert!(!is_target_unknown(codes, param, message), "{message}");
        }
    }

    fn blamed(message: &str, param: Option<&str>, strict: bool) -> Option<Field> {
        let body = r#"{"model":"r","messages":[{"role":"user","content":"x"}],"stream":true,"temperature":0.5,"top_p":0.5,"presence_penalty":1,"stop":"x","max_tokens":5}"#;
        let parsed = Parsed::parse(body.into()).unwrap();
        let params = Params { reject_unsupported: strict, ..Params::default() };
        let request = ChatRequest { parsed: &parsed, params: &params, system: None, model: "m", seal: None };
        let param = param.map(str::to_owned);
        let refusal = ProviderError { class: FailureClass::BadRequest, message: message.into(), param, retry_after: None };
        member(&refusal, request.stream(), |field| !strict && request.raw(field).is_some())
    }

    #[test]
    fn refusals_of_members_are_told_from_refusals_of_values() {
        for (message, want) in [
            ("Invalid JSON: json: unknown field \"stream_options\"", Some(Field::StreamOptions)),
            ("body.stream_options.include_usage: Extra inputs are not permitted", Some(Field::StreamOptions)),
            ("Argument not supported on this model: presencePenalty", Some(Field::PresencePenalty)),
            ("Unsupported value: 'temperature' does not support 0.5 with this model.", Some(Field::Temperature)),
            ("`temperature` and `top_p` cannot both be specified for this model", Some(Field::TopP)),
            ("temperature: range: 0..1", None),
            ("Argument not supported on this model: stop", None),
            ("Unsupported parameter: 'max_tokens' is not supported with this model.", None),
            ("Unsupported parameter: 'seed' is not supported", None),
            ("tools are not supported", None),
        ] {
            assert_eq!(blamed(message, None, false), want, "{message}");
        }
        assert_eq!(blamed("This field is not supported.", Some("temperature"), false), Some(Field::Temperature));
        assert_eq!(blamed("'temperature' is not supported", None, true), None);
        assert_eq!(blamed("stream_options is not supported", None, true), Some(Field::StreamOptions));
    }

    #[test]
    fn all_forms_are_read_and_bounded() {
        let wait = |list: &[(&'static str, &'static str)]| {
            let map = list.iter().map(|(k, v)| (http::HeaderName::from_static(k), http::HeaderValue::from_static(v))).collect();
            from_headers(&map).map(|d| d.as_millis())
        };
        assert_eq!(wait(&[("retry-after", "7")]), Some(7000));
        assert_eq!(wait(&[("retry-after", "0.5")]), Some(500));
        assert_eq!(wait(&[("retry-after", "7"), ("retry-after-ms", "1250.5")]), Some(1250));
        let date = ("date", "Wed, 21 Oct 2026 07:28:00 GMT");
        assert_eq!(wait(&[("retry-after", "Wed, 21 Oct 2026 07:28:30 GMT"), date]), Some(30_000));
        assert_eq!(wait(&[("retry-after", "Wed, 21 Oct 2026 07:27:00 GMT"), date]), Some(0));
        assert_eq!(wait(&[("retry-after", "Wednesday, 21-Oct-26 07:28:30 GMT"), date]), Some(30_000));
        assert_eq!(wait(&[("retry-after", "Wed Oct 21 07:28:30 2026"), date]), Some(30_000));
        assert_eq!(wait(&[("retry-after", "1e300")]), Some(MAX_WAIT.as_millis()));
        for wrong in ["", "-1", "soon", "nan", "Wed, 21 Oct 2026 07:28:30 GMT"] {
            assert_eq!(wait(&[("retry-after", wrong)]), None, "{wrong}");
        }
    }
}
