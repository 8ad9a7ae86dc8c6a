//! What a refusal teaches about a target: how the same request, written otherwise, would be taken.

use super::params::Policy;
use super::refusal::{UNCACHED, own_words};
use crate::llm::adjustments::Adjustment;
use crate::llm::failure::{FailureClass, ProviderError};
use crate::llm::field::{Field, Fields};

/// What is known of the request that was refused.
pub struct Refused {
    /// Whether its answer is a stream.
    pub stream: bool,
    /// The limit of the answer's tokens that the client or the route gives.
    pub max_tokens: Option<u64>,
    /// Whether the route refuses what cannot be kept, so that no value of the client's may be lost or changed.
    pub strict: bool,
    /// The fields that the client or the route gives, without those that the target has refused before.
    pub given: Fields,
}

/// Words of refusals that are about a member itself.
const UNSUPPORTED: [&str; 17] = [
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
    "not enabled",
    "cannot be",
    "can't be",
    "not accept",
    "incompatible",
    "cannot both",
    "mutually exclusive",
];
/// Words of refusals that are about a member's value, which is the client's to change.
const VALUE: [&str; 10] =
    ["range", "between", "at most", "at least", "maximum", "minimum", "less than", "greater than", "invalid value", "supported values"];
/// Words that name the limit of the answer's tokens, without separators.
const LIMITS: [&str; 5] = ["maxtokens", "maxcompletiontokens", "maxoutputtokens", "maxnewtokens", "maxtokenstosample"];
/// The same in prose.
const LIMIT_WORDS: [&str; 2] = ["maximum tokens", "max tokens"];
/// Words of refusals of a limit that is too high. Bedrock: "exceeds the model limit of 10000"; Gemini: "the supported range is
/// from 1 (inclusive) to 65537 (exclusive)"; OpenAI: "supports at most 16384 completion tokens"; Anthropic: "128000 > 64000";
/// DeepSeek: "the valid range of max_tokens is [1, 8192]"; Groq: "must be less than or equal to `8192`".
const TOO_HIGH: [&str; 8] = ["exceed", "at most", "range", "less than", "too large", " > ", "maximum allowed", "up to"];
/// Words of refusals of a limit that is too low, or that another member forbids.
const TOO_LOW: [&str; 3] = ["at least", "greater than", "minimum"];
/// Words of chat templates that take one message of instructions, at the beginning (Qwen 3.5 and others, in vLLM, SGLang,
/// llama.cpp).
const SYSTEM_FIRST: &str = "system message must be at the beginning";
/// OpenAI's words for a model that does not reason, in its Responses API: "Encrypted content is not supported with this model."
const NOT_ENCRYPTED: &str = "encrypted content is not supported";

/// What the request to the same target shall do without or say otherwise; nothing where the refusal is about something else.
pub fn adjustments(refusal: &ProviderError, refused: &Refused) -> Vec<Adjustment> {
    if refusal.judged() != FailureClass::BadRequest {
        return Vec::new();
    }
    let message = own_words(&refusal.message);
    let lower = message.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let text = [&message, refusal.param.as_deref().unwrap_or_default()].join(" ");
    let names: Vec<String> = text.split(|c: char| !c.is_alphanumeric() && c != '_').map(squeezed).collect();
    let names_it = |name: &str| names.iter().rposition(|word| *word == squeezed(name));
    let is_unsupported = has(&UNSUPPORTED) && !has(&VALUE);
    if is_unsupported && refused.stream && ["stream_options", "include_usage"].iter().any(|name| names_it(name).is_some()) {
        return vec![Adjustment::Without(Field::StreamOptions)];
    }
    if has(&UNCACHED) || (is_unsupported && names_it("cache_control").is_some()) {
        return vec![Adjustment::WithoutCacheMarks];
    }
    if lower.contains(SYSTEM_FIRST) {
        return vec![Adjustment::SystemFirst];
    }
    if lower.contains(NOT_ENCRYPTED) {
        return vec![Adjustment::PlainReasoning];
    }
    // OpenAI, from GPT-5.4 on: "Function tools with reasoning_effort are not supported for gpt-5.6 in /v1/chat/completions. To use
    // function tools, use /v1/responses or set reasoning_effort to 'none'."
    if lower.contains("function tools") && lower.contains("/v1/responses") {
        return vec![Adjustment::ToolsWithoutReasoning];
    }
    if let Some(spelling) = spelling(&lower, is_unsupported) {
        return vec![Adjustment::MaxTokensAs(spelling)];
    }
    if refused.strict {
        return Vec::new();
    }
    if let Some(asked) = refused.max_tokens
        && (names.iter().any(|word| LIMITS.contains(&word.as_str())) || has(&LIMIT_WORDS))
        && has(&TOO_HIGH)
        && !has(&TOO_LOW)
    {
        return limit(&lower, asked).map(Adjustment::MaxTokens).into_iter().collect();
    }
    if !is_unsupported {
        return Vec::new();
    }
    let hints = refused.given.iter().filter(|field| is_hint(*field));
    let named = hints.filter_map(|field| Some((words(field).iter().filter_map(|name| names_it(name)).max()?, field)));
    let mut named: Vec<_> = named.collect();
    named.sort_unstable();
    // A validator lists all that it does not know. Of several in other words it is the last one: "`temperature` and `top_p`
    // cannot both be specified".
    let first = if has(&["extra inputs"]) { 0 } else { named.len().saturating_sub(1) };
    named.drain(first..).map(|(_, field)| Adjustment::Without(field)).collect()
}

/// The name of a field in refusals, and Gemini's words for it: "Penalty is not enabled for this model".
fn words(field: Field) -> Vec<&'static str> {
    let more: &[&str] = match field {
        Field::ReasoningEffort => &["effort", "thinking"], // `reasoning.effort` in OpenAI's Responses API
        Field::FrequencyPenalty | Field::PresencePenalty => &["penalty"],
        Field::TopLogprobs => &["logprobs"],
        _ => &[],
    };
    [&[field.name()], more].concat()
}

/// Whether the answer means the same without the field. A stop sequence and the limit of tokens have no other place.
fn is_hint(field: Field) -> bool {
    Policy::when_lost(field) == Policy::Hint && !matches!(field, Field::Stop | Field::MaxTokens | Field::MaxCompletionTokens)
}

/// The spelling of the limit of tokens that is wanted in place of the one that is not known: "Unsupported parameter: 'max_tokens'
/// is not supported with this model. Use 'max_completion_tokens' instead.", or a server that knows `max_tokens` only.
fn spelling(lower: &str, unsupported: bool) -> Option<Field> {
    let (old, new) = (Field::MaxTokens, Field::MaxCompletionTokens);
    match (lower.contains(old.name()), lower.contains(new.name())) {
        (true, true) if lower.contains("instead") => {
            let wants_new = lower.rfind(new.name()) > lower.rfind(old.name());
            Some(if wants_new { new } else { old })
        }
        (false, true) if unsupported => Some(old),
        _ => None,
    }
}

/// The highest limit that a refusal allows: the greatest number in it below the one that was asked for.
fn limit(lower: &str, asked: u64) -> Option<u64> {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | ',');
    let mut greatest = None;
    for word in lower.split(|c: char| !is_part(c)) {
        let word = word.trim_matches(['.', ',', '-']);
        // "[1,8192]" is two numbers, "8,192" is one.
        let thousands = word.split(',').skip(1).all(|part| part.len() == 3);
        let numbers: Vec<String> = if thousands { vec![word.replace(',', "")] } else { word.split(',').map(str::to_owned).collect() };
        let found = numbers.iter().filter_map(|number| number.parse::<u64>().ok()).filter(|number| *number < asked);
        greatest = greatest.max(found.max());
    }
    let exclusive = |n: u64| lower.contains(&format!("{n} (exclusive)")) || lower.contains(&format!("less than {n}"));
    greatest.map(|n| if exclusive(n) { n - 1 } else { n }).filter(|n| *n > 0)
}

/// A name without its separators: some servers write `presencePenalty`.
fn squeezed(name: &str) -> String {
    name.chars().filter(|c| *c != '_').flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::envelope::{ChatRequest, Parsed};
    use crate::llm::settings::Params;

    fn read(message: &str, param: Option<&str>, strict: bool) -> Vec<Adjustment> {
        let body = r#"{"model":"r","messages":[{"role":"user","content":"x"}],"stream":true,"temperature":0.5,"top_p":0.5,"presence_penalty":1,"frequency_penalty":1,"logprobs":true,"reasoning_effort":"high","stop":"x","max_tokens":128000}"#;
        let Ok(parsed) = Parsed::parse(body.into()) else { unreachable!() };
        let params = Params { reject_unsupported: strict, ..Params::default() };
        let request = ChatRequest { parsed: &parsed, params: &params, system: None, model: "m", seal: None };
        let param = param.map(str::to_owned);
        let refusal = ProviderError { param, ..ProviderError::new(FailureClass::BadRequest, message) };
        let given = request.fields().iter().filter(|field| request.raw(*field).is_some()).collect();
        adjustments(&refusal, &Refused { stream: true, max_tokens: Some(128_000), strict, given })
    }

    #[test]
    fn refusals_of_members_are_told_from_refusals_of_values() {
        let without = |fields: &[Field]| fields.iter().map(|field| Adjustment::Without(*field)).collect::<Vec<_>>();
        for (message, want) in [
            ("Invalid JSON: json: unknown field \"stream_options\"", without(&[Field::StreamOptions])),
            ("body.stream_options.include_usage: Extra inputs are not permitted", without(&[Field::StreamOptions])),
            ("Argument not supported on this model: presencePenalty", without(&[Field::PresencePenalty])),
            ("Unsupported value: 'temperature' does not support 0.5 with this model.", without(&[Field::Temperature])),
            ("`temperature` and `top_p` cannot both be specified for this model", without(&[Field::TopP])),
            (
                "top_p: Extra inputs are not permitted; temperature: Extra inputs are not permitted",
                without(&[Field::TopP, Field::Temperature]),
            ),
            ("Unsupported parameter: 'reasoning.effort' is not supported with this model.", without(&[Field::ReasoningEffort])),
            ("Thinking is not enabled for models/gemini-2.0-flash", without(&[Field::ReasoningEffort])),
            ("Thinking level MEDIUM is not supported for this model.", without(&[Field::ReasoningEffort])),
            ("Penalty is not enabled for models/gemini-x", without(&[Field::PresencePenalty])),
            ("Logprobs is not enabled for models/gemini-x", without(&[Field::Logprobs])),
            (
                "Unsupported value: 'reasoning_effort' does not support 'xhigh' with this model. Supported values are: 'low' and 'high'.",
                vec![],
            ),
            ("Invalid value: 'temperature'. Supported values are: 'auto' and 'flex'.", vec![]),
            ("Invalid value: 'stream_options'. Supported values are: 'auto' and 'flex'.", vec![]),
            ("'temperature is not supported' was not expected here", vec![]),
            ("temperature: range: 0..1", vec![]),
            ("Argument not supported on this model: stop", vec![]),
            ("Unsupported parameter: 'max_tokens' is not supported with this model.", vec![]),
            ("Unsupported parameter: 'seed' is not supported", vec![]),
            ("tools are not supported", vec![]),
        ] {
            assert_eq!(read(message, None, false), want, "{message}");
        }
        assert_eq!(read("This field is not supported.", Some("temperature"), false), without(&[Field::Temperature]));
        assert_eq!(read("'temperature' is not supported", None, true), vec![]);
        assert_eq!(read("stream_options is not supported", None, true), without(&[Field::StreamOptions]));
    }

    #[test]
    fn a_limit_of_tokens_is_read_from_the_refusal_of_a_higher_one() {
        for (message, want) in [
            (
                "The maximum tokens you requested exceeds the model limit of 10000. Try again with a maximum tokens value that is lower than 10000.",
                Some(10_000),
            ),
            (
                "Unable to submit request because it has a maxOutputTokens value of 128000 but the supported range is from 1 (inclusive) to 65537 (exclusive). Update the value and try again.",
                Some(65_536),
            ),
            (
                "max_tokens is too large: 128000. This model supports at most 16384 completion tokens, whereas you provided 128000.",
                Some(16_384),
            ),
            (
                "max_tokens: 128000 > 64000, which is the maximum allowed number of output tokens for claude-sonnet-4-5-20250929",
                Some(64_000),
            ),
            ("Invalid max_tokens value, the valid range of max_tokens is [1, 8192]", Some(8192)),
            ("Range of max_tokens should be [1,32768]", Some(32_768)),
            (
                "`max_tokens` must be less than or equal to `8192`, the maximum value for `max_tokens` is less than the `context_window` for this model",
                Some(8192),
            ),
            ("max_completion_tokens: must not exceed 16,384", Some(16_384)),
            ("max_tokens must be at least 1", None),
            ("`max_tokens` must be greater than `thinking.budget_tokens` 32000", None),
            ("max_tokens is too large", None),
        ] {
            assert_eq!(read(message, None, false), Vec::from_iter(want.map(Adjustment::MaxTokens)), "{message}");
            assert_eq!(read(message, None, true), vec![], "{message}");
        }
    }

    #[test]
    fn what_is_wanted_otherwise_is_told_by_known_words() {
        for (message, want) in [
            (
                "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
                Adjustment::MaxTokensAs(Field::MaxCompletionTokens),
            ),
            ("body.max_completion_tokens: Extra inputs are not permitted", Adjustment::MaxTokensAs(Field::MaxTokens)),
            ("Unknown parameter `max_completion_tokens`, use `max_tokens` instead", Adjustment::MaxTokensAs(Field::MaxTokens)),
            (
                "Function tools with reasoning_effort are not supported for gpt-5.6-sol in /v1/chat/completions. To use function tools, use /v1/responses or set reasoning_effort to 'none'.",
                Adjustment::ToolsWithoutReasoning,
            ),
            ("System message must be at the beginning.", Adjustment::SystemFirst),
            (
                "Extra inputs are not permitted, field: 'messages[0].content.list[ChatMessageContent][0].cache_control', value: {'type': 'ephemeral'}",
                Adjustment::WithoutCacheMarks,
            ),
            (
                "You invoked an unsupported model or your request did not allow prompt caching. See the documentation for more information.",
                Adjustment::WithoutCacheMarks,
            ),
            ("Encrypted content is not supported with this model.", Adjustment::PlainReasoning),
        ] {
            assert_eq!(read(message, None, true), [want], "{message}");
        }
    }
}
