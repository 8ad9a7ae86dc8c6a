//! Which member a provider's refusal is about, where the request can be sent again without it: one that the gateway has
//! added, or a hint of the client's that the model does not have.

use super::params::Policy;
use crate::llm::envelope::ChatRequest;
use crate::llm::failure::{FailureClass, ProviderError};
use crate::llm::field::Field;

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

/// The member to leave out. Of several that are quoted it is the last one: "`temperature` and `top_p` cannot both be
/// specified".
pub fn member(refusal: &ProviderError, request: &ChatRequest<'_>) -> Option<Field> {
    if refusal.judged() != FailureClass::BadRequest {
        return None;
    }
    let text = [refusal.message.as_str(), refusal.param.as_deref().unwrap_or_default()].join(" ");
    let names: Vec<String> = text.split(|c: char| !c.is_alphanumeric() && c != '_').map(squeezed).collect();
    let quoted = |name: &str| names.iter().rposition(|word| *word == squeezed(name));
    if request.stream() && ["stream_options", "include_usage"].iter().any(|name| quoted(name).is_some()) {
        return Some(Field::StreamOptions);
    }
    let lower = refusal.message.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if !has(&UNSUPPORTED) || has(&VALUE) || request.params.reject_unsupported {
        return None;
    }
    let hints = Field::ALL.iter().filter(|field| is_hint(**field) && request.raw(**field).is_some());
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::llm::envelope::Parsed;
    use crate::llm::settings::Params;

    fn blamed(message: &str, param: Option<&str>, strict: bool) -> Option<Field> {
        let body = r#"{"model":"r","messages":[{"role":"user","content":"x"}],"stream":true,"temperature":0.5,"top_p":0.5,"presence_penalty":1,"stop":"x","max_tokens":5}"#;
        let parsed = Parsed::parse(body.into()).unwrap();
        let params = Params { reject_unsupported: strict, ..Params::default() };
        let request = ChatRequest { parsed: &parsed, params: &params, system: None, model: "m", seal: None };
        let param = param.map(str::to_owned);
        member(&ProviderError { class: FailureClass::BadRequest, message: message.into(), param, retry_after: None }, &request)
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
}
