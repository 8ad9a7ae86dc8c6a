//! What a provider's refusal means: its class, and when to retry.

use crate::dialect::openai::error::{blames_account, blames_input, blames_reasoning};
use crate::llm::failure::{FailureClass, ProviderError};
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
/// Alibaba "inappropriate content", OpenRouter "requires moderation on OpenAI. Your input was flagged for …".
const CONTENT: [&str; 11] = [
    "content management policy",
    "content filtering policy",
    "content policy",
    "violating our usage policy",
    "violates usage guidelines",
    "violate our usage polic",
    "our safety system",
    "content exists risk",
    "may contain inappropriate content",
    "requires moderation on",
    "your input was flagged",
];
/// The model is unknown, reported with a 400: Bedrock, DeepSeek, Mistral. Bedrock's "Invocation of model ID … with on-demand throughput
/// isn’t supported" asks for the id of an inference profile: <https://github.com/langchain-ai/langchain-aws/issues/1019>.
const MODEL: [&str; 5] = [
    "model identifier is invalid",
    "model not exist",
    "invalid model: ",
    "with on-demand throughput isn",
    "doesn't support on-demand throughput",
];
/// Words of a refusal of one request that is above the tokens of a minute, at OpenAI with a 429, at Groq with a 413: "Request too
/// large for model `x` … on tokens per minute (TPM): Limit 6000, Requested 9000". <https://github.com/continuedev/continue/issues/10218>
const TOO_LARGE: [&str; 2] = ["request too large for ", "requested "];

/// Words of Bedrock's refusal of a `cachePoint` for a model or an account without prompt caching, a 403.
/// <https://github.com/BerriAI/litellm/pull/39210>, <https://github.com/BerriAI/litellm/issues/7218>
pub const UNCACHED: [&str; 2] = ["did not allow prompt caching", "do not have access to explicit prompt caching"];

impl ProviderError {
    /// The class under the provider's words, which count more than a status or a type that says only that something
    /// failed: a request to blame is the client's to change, an unpaid account the operator's, whatever dialect says it.
    pub fn judged(&self) -> FailureClass {
        use FailureClass::{BadRequest, ContentFilter, ContextLength, Credential, NotFound, RateLimited, Server, StaleReasoning, TooLarge};
        if !matches!(self.class, BadRequest | RateLimited | Server | Credential) {
            return self.class;
        }
        let message = own_words(&self.message).to_ascii_lowercase();
        let says = |parts: &[&str]| parts.iter().any(|part| message.contains(part));
        match self.class {
            BadRequest | RateLimited if TOO_LARGE.iter().all(|part| message.contains(part)) => TooLarge,
            BadRequest | RateLimited | Server if blames_account(&message) => Credential,
            // xAI refuses content with a 403.
            BadRequest | Credential if says(&CONTENT) => ContentFilter,
            BadRequest | Server if says(&CONTEXT) => ContextLength,
            Credential if says(&UNCACHED) => BadRequest,
            BadRequest if says(&MODEL) => NotFound,
            BadRequest if blames_reasoning(&message) => StaleReasoning,
            Server if blames_input(&message) => BadRequest,
            class => class,
        }
    }
}

impl ProviderError {
    /// Whether it is about nothing but the endpoint that was asked for: a 404 that names no model, which is what a server has for a
    /// path that it does not know, or a key to which this endpoint is not open (OpenAI: "Missing scopes: model.request").
    pub fn is_about_endpoint(&self) -> bool {
        let message = self.message.to_ascii_lowercase();
        match self.judged() {
            FailureClass::NotFound => self.class == FailureClass::NotFound && !names_target(&message),
            FailureClass::Credential => ["scope", "permission", "not authorized to perform"].iter().any(|part| message.contains(part)),
            _ => false,
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
        || names_target(&message)
}

/// Whether a lower-case message is about a model.
fn names_target(message: &str) -> bool {
    unquoted(message).any(|word| TARGET_WORDS.contains(&word.trim_matches(|c: char| !c.is_alphanumeric())))
}

/// A message without texts of several words in single quotes or backticks, which may be the client's own.
pub fn own_words(message: &str) -> String {
    let mut words: Vec<&str> = Vec::new();
    let mut open: Option<(usize, char)> = None;
    for word in message.split(' ') {
        if open.is_none()
            && let Some(quote) = word.chars().next().filter(|first| matches!(first, '\'' | '`'))
        {
            open = Some((words.len(), quote));
        }
        words.push(word);
        let Some((from, quote)) = open else { continue };
        let bare = word.trim_end_matches(|c: char| !c.is_alphanumeric() && c != quote);
        if bare.len() > 1 && bare.ends_with(quote) {
            if words.len() - from > 1 {
                words.truncate(from);
            }
            open = None;
        }
    }
    words.join(" ")
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

/// The message of a refusal whose body cannot be read as one: its text.
pub fn text(status: u16, body: &[u8]) -> String {
    match String::from_utf8_lossy(body).trim() {
        "" => format!("the provider answered {status} without a message"),
        shown => shown.to_owned(),
    }
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

/// What the wait stands behind in a provider's words: OpenAI and Groq, Gemini, Azure.
const WAITS: [&str; 3] = ["try again in ", "retry in ", "retry after "];
/// The units of time by their names, in seconds.
const UNITS: [(&[&str], f64); 4] =
    [(&["ms"], 0.001), (&["s", "second", "seconds"], 1.0), (&["m", "minute", "minutes"], 60.0), (&["h", "hour", "hours"], 3600.0)];

/// Reads when to come back from a provider's words: "Please try again in 11.054s", `6ms`, `1m2.5s`, `2h`. OpenAI says it only
/// so where an answer has begun.
pub fn from_words(message: &str) -> Option<Duration> {
    let lower = message.to_ascii_lowercase();
    let mut rest = WAITS.iter().find_map(|words| lower.split_once(words))?.1;
    let mut total = None;
    while rest.starts_with(|c: char| c.is_ascii_digit()) {
        let (number, behind) = split_behind(rest, |c| c.is_ascii_digit() || c == '.');
        let (unit, behind) = split_behind(behind.strip_prefix(' ').unwrap_or(behind), |c| c.is_ascii_lowercase());
        let (_, seconds) = UNITS.iter().find(|(names, _)| names.contains(&unit))?;
        total = Some(total.unwrap_or_default() + number.parse::<f64>().ok()? * seconds);
        rest = behind;
    }
    total.map(bounded)
}

/// What a text begins with of such characters, and the rest.
fn split_behind(text: &str, is: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at_checked(text.find(|c| !is(c)).unwrap_or(text.len())).unwrap_or((text, ""))
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
mod tests {
    use super::*;
    use FailureClass::{BadRequest, ContentFilter, ContextLength, Credential, NotFound, RateLimited, Server, Timeout, TooLarge};

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
            (
                BadRequest,
                "Invocation of model ID x with on-demand throughput isn’t supported. Retry your request with the ID or ARN of an inference profile",
                NotFound,
            ),
            (
                RateLimited,
                "Request too large for gpt-4o in organization o on tokens per min (TPM): Limit 30000, Requested 45000.",
                TooLarge,
            ),
            (
                BadRequest,
                "Request too large for model `x` in organization `o` service tier `on_demand` on tokens per minute (TPM): Limit 6000, Requested 9000, please reduce your message size and try again. Upgrade at https://console.groq.com/settings/billing",
                TooLarge,
            ),
            (
                RateLimited,
                "Rate limit reached for model `x` on tokens per minute (TPM): Limit 6000, Used 5034, Requested 1443.",
                RateLimited,
            ),
            (Credential, "You invoked an unsupported model or your request did not allow prompt caching.", BadRequest),
            (BadRequest, "User location is not supported for the API use.", Credential),
            (BadRequest, "Your credit balance is too low to access the API", Credential),
            (RateLimited, "Insufficient balance", Credential),
            (Server, "image input is not supported", BadRequest),
            (BadRequest, "max_tokens is too large: 100000. This model supports at most 16384 completion tokens", BadRequest),
            (RateLimited, "Rate limit reached on input token count per minute", RateLimited),
            (Timeout, "no answer in the maximum context", Timeout),
            (Credential, "Incorrect API key provided", Credential),
            (BadRequest, "Invalid value: 'insufficient balance'. Supported values are: 'auto' and 'flex'.", BadRequest),
            (BadRequest, "`invalid model: x` is no service tier", BadRequest),
            (BadRequest, "The user's prompt is too long for 'm'", ContextLength),
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

    #[test]
    fn a_wait_is_read_from_words() {
        for (words, wait) in [
            ("Rate limit reached for gpt-5 on tokens per min (TPM): Limit 30000. Please try again in 11.054s. Visit https", Some(11_054)),
            ("Please try again in 6ms.", Some(6)),
            ("Please try again in 1m2.5s. Need more tokens?", Some(62_500)),
            ("Please try again in 2h13m4.5s", Some(7_984_500)),
            ("Please try again in 2h", Some(7_200_000)),
            ("Please retry after 26 seconds.", Some(26_000)),
            ("Please try again in 99999999999999999999h", Some(MAX_WAIT.as_millis())),
            ("Please try again in a moment.", None),
            ("Please try again in 3 fortnights.", None),
            ("Please try again in 1..2s", None),
            ("Please try again later", None),
        ] {
            assert_eq!(from_words(words).map(|wait| wait.as_millis()), wait, "{words}");
        }
    }

    #[test]
    fn a_bare_404_and_a_key_without_a_scope_are_about_the_endpoint() {
        for (class, message, want) in [
            (NotFound, "Not Found", true),
            (NotFound, "the provider answered with status 404", true),
            (NotFound, "The model `x` does not exist.", false),
            (BadRequest, "The provided model identifier is invalid.", false),
            (Credential, "You have insufficient permissions for this operation. Missing scopes: model.request.", true),
            (Credential, "User: arn:aws:iam::1:user/x is not authorized to perform: bedrock:CountTokens", true),
            (Credential, "Incorrect API key provided", false),
            (Server, "Method Not Allowed", false),
        ] {
            assert_eq!(ProviderError::new(class, message).is_about_endpoint(), want, "{message}");
        }
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
