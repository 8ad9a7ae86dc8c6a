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
    /// OpenAI's own word for it, where that says more than the kind.
    pub code: Option<&'static str>,
}

/// A provider's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The words, redacted.
    pub words: String,
    /// Where they say that the prompt does not fit into the model's context.
    pub overflow: Option<Overflow>,
}

/// A prompt that is too long for a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overflow {
    /// Tokens of the prompt, and most tokens of the context, where both are known.
    pub tokens: Option<(u64, u64)>,
}

impl Overflow {
    /// Finds the tokens in a provider's words: the first number that they call a maximum or a length, and the first one
    /// above it.
    pub fn read(words: &str) -> Self {
        let mut numbers = Vec::new();
        let mut rest = 0;
        while let Some(start) = words.get(rest..).and_then(|tail| tail.find(|c: char| c.is_ascii_digit())).map(|at| rest + at) {
            let tail = words.get(start..).unwrap_or_default();
            let end = start + tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
            numbers.extend(words.get(start..end).and_then(|digits| digits.parse::<u64>().ok()).map(|number| (number, start, end)));
            rest = end;
        }
        let is_limit = |&&(_, start, end): &&(u64, usize, usize)| {
            let before = words.get(..start).and_then(|text| text.rsplit(|c: char| c.is_ascii_digit()).next()).unwrap_or_default();
            let after = words.get(end..).unwrap_or_default().trim_start();
            ["maximum", "context length", "limit"].iter().any(|word| before.contains(word)) || after.starts_with("maximum")
        };
        let limit = numbers.iter().find(is_limit).map(|(number, ..)| *number);
        let above = |limit: u64| numbers.iter().map(|(number, ..)| *number).find(|number| *number > limit);
        Self { tokens: limit.and_then(|limit| Some((above(limit)?, limit))) }
    }
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

    /// 405: the endpoint exists, the method does not.
    pub fn method(allow: &'static str) -> Self {
        let mut error = Self::new(405, ErrorKind::InvalidRequest, format!("Use {allow} here."));
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
            (
                "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens (4900 in the messages, 100 in the completion).",
                Some((5000, 4096)),
            ),
            ("The input (5000 tokens) is longer than the model's context length (4096 tokens).", Some((5000, 4096))),
            ("The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).", Some((1_200_000, 1_048_576))),
            (
                "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length",
                Some((40_000, 32_768)),
            ),
            ("prompt is too long: 210000 tokens > 200000 maximum", Some((210_000, 200_000))),
            ("Input is too long for requested model.", None),
            ("maximum 99999999999999999999999 tokens", None),
        ] {
            assert_eq!(Overflow::read(words).tokens, tokens, "{words}");
        }
    }
}
