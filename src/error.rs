//! The one error a client can see.
//!
//! Everything that goes wrong between the client's first byte and the last one of its answer ends as an
//! [`ApiError`]: limits, bad JSON, an oversized body, a provider's failure. [`crate::front`] gives it its shape.

use crate::closed_set::closed_set;
use crate::json::envelope::ScanError;
use std::borrow::Cow;
use std::time::Duration;

closed_set! {
    /// What `error.type` says.
    ErrorKind {
        /// The request itself is wrong; sending it again will not help.
        InvalidRequest = "invalid_request_error",
        /// No key, or one that is unknown, expired or disabled; or a token that is not valid.
        Authentication = "authentication_error",
        /// A good key that may not do this.
        Permission = "permission_error",
        /// No such route or endpoint.
        NotFound = "not_found_error",
        /// A limit; waiting helps.
        RateLimit = "rate_limit_error",
        /// A spent budget; waiting does not help.
        InsufficientQuota = "insufficient_quota",
        /// A bug of ours.
        Internal = "internal_error",
        /// The provider failed or answered something that cannot be read.
        Upstream = "upstream_error",
        /// The provider has no capacity.
        Overloaded = "overloaded_error",
        /// The provider was too slow.
        Timeout = "timeout_error",
    }
}

impl ErrorKind {
    /// The statuses that it comes with.
    pub const fn statuses(self) -> &'static [u16] {
        match self {
            Self::InvalidRequest => &[400, 405, 408, 411, 413, 415, 426, 431],
            Self::Authentication => &[401],
            Self::Permission => &[403],
            Self::NotFound => &[404],
            Self::RateLimit => &[429],
            Self::InsufficientQuota => &[402],
            Self::Internal => &[500],
            Self::Upstream => &[502],
            Self::Overloaded => &[503, 529],
            Self::Timeout => &[504],
        }
    }
}

/// An answer that says no: status, type, message, and the field that is to blame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// HTTP status, 400..=599.
    pub status: u16,
    /// What kind of error it is.
    pub kind: ErrorKind,
    /// What is wrong and what to do; never a secret, never a prompt.
    pub message: Cow<'static, str>,
    /// The request field to blame, as the client wrote it.
    pub param: Option<Cow<'static, str>>,
    /// When to come back; sent as `retry-after` (whole seconds, rounded up) and `retry-after-ms`.
    pub retry_after: Option<Duration>,
    /// The methods that a 405 would allow.
    pub allow: Option<&'static str>,
    /// What the provider said, where it is the provider that says no.
    pub said: Option<Box<Said>>,
    /// OpenAI's or the provider's own word for it, where that says more than the kind.
    pub code: Option<Cow<'static, str>>,
}

/// A provider's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The words, redacted.
    pub words: String,
    /// Where they say that the prompt does not fit into the model's context.
    pub overflow: Option<Overflow>,
}

/// A prompt that is too long for a model, or that leaves too little room for the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overflow {
    /// Tokens of the prompt, and most tokens of the context, where both are known.
    pub tokens: Option<(u64, u64)>,
    /// Tokens of the prompt, those that the request reserves for the answer, and most tokens of the context, where the prompt
    /// alone fits.
    pub reserved: Option<(u64, u64, u64)>,
}

impl Overflow {
    /// Finds the tokens in a provider's words: the first number that they call a maximum or a length, and the first one
    /// above it; and what they count of the prompt and of the answer.
    pub fn read(words: &str) -> Self {
        let numbers = numbers(words);
        let limit = numbers.iter().find(|number| number.is_limit()).map(|number| number.value);
        let above = |limit: u64| numbers.iter().map(|number| number.value).find(|number| *number > limit);
        let fits = |&(prompt, answer, limit): &(u64, u64, u64)| prompt < limit && prompt.saturating_add(answer) >= limit && answer > 0;
        Self {
            tokens: limit.and_then(|limit| Some((above(limit)?, limit))),
            reserved: limit.and_then(|limit| split(&numbers).map(|(prompt, answer)| (prompt, answer, limit))).filter(fits),
        }
    }
}

/// The tokens of the prompt, which may be counted in parts, and those reserved for the answer, as they are counted first:
/// OpenAI, DeepSeek and vLLM "(20000 in the messages, 32000 in the completion)" or "32000 output tokens and your prompt
/// contains at least 769 input tokens", OpenRouter "(7884 of text input, 10 of tool input, 51200 in the output)", SGLang
/// "147746 tokens from the input messages and 32768 tokens for the completion", TGI "4031 `inputs` tokens and 200
/// `max_new_tokens`".
fn split(numbers: &[Counted<'_>]) -> Option<(u64, u64)> {
    let (mut prompt, mut answer) = (None, None);
    for number in numbers.iter().filter(|number| !number.is_limit()) {
        match number.what() {
            Some(What::Prompt) => prompt = Some(number.value.saturating_add(prompt.unwrap_or_default())),
            Some(What::Answer) => answer = answer.or(Some(number.value)),
            None => {}
        }
        if let (Some(prompt), Some(answer)) = (prompt, answer) {
            return Some((prompt, answer));
        }
    }
    None
}

/// A number in a text, with the words between it and its neighbours.
struct Counted<'a> {
    value: u64,
    before: &'a str,
    after: &'a str,
}

/// What tokens are of.
enum What {
    Prompt,
    Answer,
}

impl Counted<'_> {
    /// Whether it is the most that fits.
    fn is_limit(&self) -> bool {
        let before = ["maximum", "context length", "limit"].iter().any(|word| self.before.contains(word)) || self.before.ends_with("<= ");
        before || self.after.trim_start().starts_with("maximum")
    }

    /// What it counts, by the rest of its clause; vLLM writes "`max_tokens` is too large: 32000".
    fn what(&self) -> Option<What> {
        let clause = self.after.split([',', ';', ':', '.', '(', ')']).next().unwrap_or_default();
        let clause = clause.split_once(" and ").map_or(clause, |(first, _)| first);
        let says = |words: &[&str]| words.iter().any(|word| clause.contains(word));
        if says(&["completion", "output", "max_new_tokens"]) || self.before.ends_with("is too large: ") {
            Some(What::Answer)
        } else if says(&["messages", "input", "prompt"]) {
            Some(What::Prompt)
        } else {
            None
        }
    }
}

/// The numbers in a text.
fn numbers(text: &str) -> Vec<Counted<'_>> {
    let is_digit = |c: char| c.is_ascii_digit();
    let (mut found, mut before, mut rest) = (Vec::new(), "", text);
    while let Some(start) = rest.find(is_digit) {
        before = if found.is_empty() { rest.get(..start).unwrap_or_default() } else { before };
        let tail = rest.get(start..).unwrap_or_default();
        rest = tail.trim_start_matches(is_digit);
        let after = rest.split(is_digit).next().unwrap_or_default();
        let digits = tail.get(..tail.len() - rest.len()).unwrap_or_default();
        found.extend(digits.parse().ok().map(|value| Counted { value, before, after }));
        before = after;
    }
    found
}

impl From<ScanError> for ApiError {
    fn from(e: ScanError) -> Self {
        Self::invalid(e.to_string())
    }
}

impl ApiError {
    /// An error of this status and kind.
    pub fn new(status: u16, kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, kind, message: message.into(), param: None, retry_after: None, allow: None, said: None, code: None }
    }

    /// 400: the request cannot be served as it is.
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(400, ErrorKind::InvalidRequest, message)
    }

    /// 400 that blames one field.
    pub fn field(param: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        Self::invalid(message).with_param(param)
    }

    /// 502: the provider failed.
    pub fn upstream(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(502, ErrorKind::Upstream, message)
    }

    /// 500: a fault of the gateway's own, of which its log has more.
    pub fn internal() -> Self {
        Self::new(500, ErrorKind::Internal, "The gateway failed; its log has more under the request id.")
    }

    /// 405: the endpoint exists, the method does not. `allow`: those that it has, as the header lists them.
    pub fn method(allow: &'static str) -> Self {
        let mut error = Self::new(405, ErrorKind::InvalidRequest, format!("Use {} here.", allow.replace(", ", " or ")));
        error.allow = Some(allow);
        error
    }

    /// Names the field to blame.
    pub fn with_param(mut self, param: impl Into<Cow<'static, str>>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// Says when to come back.
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tokens_of_a_prompt_that_is_too_long_are_found_in_every_providers_words() {
        for (words, tokens) in [
            (
                "This model's maximum context length is 128000 tokens. However, your messages resulted in 150123 tokens.",
                Some((150_123, 128_000)),
            ),
            ("The input (5000 tokens) is longer than the model's context length (4096 tokens).", Some((5000, 4096))),
            ("The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).", Some((1_200_000, 1_048_576))),
            (
                "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length",
                Some((40_000, 32_768)),
            ),
            (
                "This model's maximum context length is 8192 tokens, however you requested 8977 tokens (8977 in your prompt; 0 for the completion).",
                Some((8977, 8192)),
            ),
            (
                "This model's maximum context length is 32768 tokens. However, you requested 0 output tokens and your prompt contains at least 32769 input tokens, for a total of at least 32769 tokens.",
                Some((32_769, 32_768)),
            ),
            ("prompt is too long: 210000 tokens > 200000 maximum", Some((210_000, 200_000))),
            ("Input is too long for requested model.", None),
            ("maximum 99999999999999999999999 tokens", None),
        ] {
            assert_eq!(Overflow::read(words), Overflow { tokens, reserved: None }, "{words}");
        }
    }

    #[test]
    fn too_little_room_for_the_answer_is_told_from_a_prompt_that_is_too_long() {
        for (words, reserved) in [
            (
                "This model's maximum context length is 32768 tokens. However, you requested 52000 tokens (20000 in the messages, 32000 in the completion). Please reduce the length of the messages or completion.",
                (20_000, 32_000, 32_768),
            ),
            (
                "This model's maximum context length is 4097 tokens, however you requested 4116 tokens (3860 in your prompt; 256 for the completion).",
                (3860, 256, 4097),
            ),
            (
                "'max_tokens' or 'max_completion_tokens' is too large: 32000. This model's maximum context length is 32768 tokens and your request has 1234 input tokens (32000 > 32768 - 1234).",
                (1234, 32_000, 32_768),
            ),
            (
                "This model's maximum context length is 32768 tokens. However, you requested 32000 output tokens and your prompt contains at least 769 input tokens, for a total of at least 32769 tokens. Please reduce the length of the input prompt or the number of requested output tokens. (parameter=input_tokens, value=769)",
                (769, 32_000, 32_768),
            ),
            (
                "Requested token count exceeds the model's maximum context length of 180000 tokens. You requested a total of 180514 tokens: 147746 tokens from the input messages and 32768 tokens for the completion. Please reduce the number of tokens in the input messages or the completion to fit within the limit.",
                (147_746, 32_768, 180_000),
            ),
            (
                "This endpoint's maximum context length is 256000 tokens. However, you requested about 256493 tokens (194895 of text input, 10398 of tool input, 51200 in the output). Please reduce the length of either one, or use the context-compression plugin to compress your prompt automatically.",
                (205_293, 51_200, 256_000),
            ),
            (
                "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 4031 `inputs` tokens and 200 `max_new_tokens`",
                (4031, 200, 4096),
            ),
        ] {
            assert_eq!(Overflow::read(words).reserved, Some(reserved), "{words}");
        }
        // The prompt alone is too long, or something is not counted.
        for words in [
            "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens (4900 in the messages, 100 in the completion).",
            "`inputs` tokens + `max_new_tokens` must be <= 1024. Given: 1872",
            "This model's maximum context length is 40960 tokens. However, you requested 40960 output tokens and your prompt contains 12769 characters",
        ] {
            assert_eq!(Overflow::read(words).reserved, None, "{words}");
        }
    }
}
