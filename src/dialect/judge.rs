//! What a provider's words say of a failure, whatever status or type came with them.
//!
//! The parts of messages below are those of the services' documentation and of recorded refusals; all are compared in
//! lower case.

use super::openai::error::{blames_account, blames_input};
use crate::llm::failure::{FailureClass, ProviderError};

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
        use FailureClass::{BadRequest, ContentFilter, ContextLength, Credential, NotFound, RateLimited, Server};
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
            Server if blames_input(&message) => BadRequest,
            class => class,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
            let error = ProviderError { class, message: message.into(), param: None, retry_after: None };
            assert_eq!(error.judged(), judged, "{message}");
        }
    }
}
