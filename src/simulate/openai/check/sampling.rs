//! Numbers, stops, log probabilities, and what reasoning models refuse.

use super::{Checked, given, refuse};
use crate::simulate::openai::Service::{self, DeepSeek, Fireworks, OpenAi, SgLang, Together, Xai};
use crate::simulate::openai::read::thinks;
use serde_json::{Map, Value};

/// What OpenAI's reasoning models refuse at any value but the default.
const REASONING_DEFAULTS: [(&str, f64); 4] = [("temperature", 1.0), ("top_p", 1.0), ("frequency_penalty", 0.0), ("presence_penalty", 0.0)];

/// Checks ranges and types of the numbers.
pub(in crate::simulate::openai) fn numbers(service: Service, body: &Map<String, Value>) -> Checked {
    let hottest = if service.is_vllm() || service == SgLang { f64::MAX } else { 2.0 };
    for (name, least, most) in
        [("temperature", 0.0, hottest), ("top_p", 0.0, 1.0), ("frequency_penalty", -2.0, 2.0), ("presence_penalty", -2.0, 2.0)]
    {
        let Some(value) = given(body, name) else { continue };
        match value.as_f64() {
            None => return refuse("invalid_type", name, format!("Invalid type for '{name}': expected a decimal.")),
            Some(n) if n > most => {
                let why = format!("Invalid '{name}': decimal above maximum value. Expected a value <= {most}, but got {value} instead.");
                return refuse("decimal_above_max_value", name, why);
            }
            Some(n) if n < least => {
                let why = format!("Invalid '{name}': decimal below minimum value. Expected a value >= {least}, but got {value} instead.");
                return refuse("decimal_below_min_value", name, why);
            }
            Some(_) => {}
        }
    }
    for (name, least, most) in [("max_tokens", 1, u64::MAX), ("max_completion_tokens", 1, u64::MAX), ("n", 1, 128)] {
        let Some(value) = given(body, name) else { continue };
        if value.as_u64().is_none_or(|n| n < least || n > most) {
            let why = format!("Invalid '{name}': expected an integer from {least} to {most}, but got {value} instead.");
            return refuse("invalid_value", name, why);
        }
    }
    if given(body, "seed").is_some_and(|seed| !seed.is_i64() && !seed.is_u64()) {
        return refuse("invalid_type", "seed", "Invalid type for 'seed': expected an integer.");
    }
    if service == OpenAi && given(body, "max_tokens").is_some() && given(body, "max_completion_tokens").is_some() {
        let why = "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.";
        return refuse("invalid_parameter_combination", "max_tokens", why);
    }
    Ok(())
}

/// Checks `stop`.
pub(super) fn stop(service: Service, body: &Map<String, Value>) -> Checked {
    let most = match service {
        OpenAi => 4,
        DeepSeek => 16,
        _ => usize::MAX,
    };
    match given(body, "stop") {
        None => Ok(()),
        Some(Value::String(_)) if service != Together => Ok(()),
        Some(Value::Array(texts)) if texts.len() <= most && texts.iter().all(Value::is_string) => Ok(()),
        Some(_) => refuse("invalid_value", "stop", "Invalid 'stop': expected an array of strings of the length that this service takes."),
    }
}

/// Checks `logprobs` and `top_logprobs`.
pub(super) fn logprobs(service: Service, body: &Map<String, Value>) -> Checked {
    let most = match service {
        Fireworks => 5,
        Xai => 8,
        _ => 20,
    };
    let good = match given(body, "logprobs") {
        None => true,
        Some(Value::Bool(_)) => service != Together,
        Some(value) => matches!(service, Together | Fireworks) && value.as_u64().is_some_and(|n| n <= most),
    };
    if !good {
        let wanted = if service == Together { "an integer from 0 to 20" } else { "a boolean" };
        return refuse("invalid_type", "logprobs", format!("Invalid type for 'logprobs': expected {wanted}."));
    }
    let Some(top) = given(body, "top_logprobs") else { return Ok(()) };
    if top.as_u64().is_none_or(|n| n > most) {
        return refuse("integer_above_max_value", "top_logprobs", format!("Invalid 'top_logprobs': expected an integer from 0 to {most}."));
    }
    if body.get("logprobs") != Some(&Value::Bool(true)) && !matches!(service, Together | Fireworks) {
        return refuse("invalid_value", "top_logprobs", "'top_logprobs' needs 'logprobs' to be true.");
    }
    Ok(())
}

/// Checks `stream` and `stream_options`.
pub(in crate::simulate::openai) fn streaming(body: &Map<String, Value>) -> Checked {
    let stream = given(body, "stream");
    if stream.is_some_and(|stream| !stream.is_boolean()) {
        return refuse("invalid_type", "stream", "Invalid type for 'stream': expected a boolean.");
    }
    if given(body, "stream_options").is_some() && stream != Some(&Value::Bool(true)) {
        return refuse("invalid_value", "stream_options", "The 'stream_options' parameter is only allowed when 'stream' is enabled.");
    }
    Ok(())
}

/// OpenAI's own reasoning models.
pub(in crate::simulate::openai) fn is_openai_reasoning(model: &str) -> bool {
    model.starts_with("gpt-5") || model.strip_prefix('o').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// Whether it is one of OpenAI's models that reason or call tools in chat completions, and never both: GPT-5.4 and later.
fn is_without_tools(model: &str) -> bool {
    let minor = model.strip_prefix("gpt-5.").map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default());
    minor.and_then(|minor| minor.parse::<u32>().ok()).is_some_and(|minor| minor >= 4)
}

/// Checks what models refuse that think.
pub(super) fn reasoning(service: Service, body: &Map<String, Value>, model: &str) -> Checked {
    let unsupported = |name: &str, more: &str| {
        refuse("unsupported_parameter", name, format!("Unsupported parameter: '{name}' is not supported with this model.{more}"))
    };
    if service == Xai && thinks(service, body) {
        for name in ["presence_penalty", "frequency_penalty", "stop"] {
            if given(body, name).is_some() {
                return unsupported(name, "");
            }
        }
    }
    if service != OpenAi || !is_openai_reasoning(model) {
        return Ok(());
    }
    if given(body, "max_tokens").is_some() {
        return unsupported("max_tokens", " Use 'max_completion_tokens' instead.");
    }
    if body.get("reasoning_effort").is_some_and(|effort| effort == "none") {
        return Ok(());
    }
    if is_without_tools(model) && given(body, "tools").is_some() {
        let why = format!(
            "Function tools with reasoning_effort are not supported for {model} in /v1/chat/completions. To use function tools, use \
             /v1/responses or set reasoning_effort to 'none'."
        );
        return refuse("", "reasoning_effort", why);
    }
    for (name, only) in REASONING_DEFAULTS {
        if given(body, name).and_then(Value::as_f64).is_some_and(|n| (n - only).abs() > f64::EPSILON) {
            let why = format!(
                "Unsupported value: '{name}' does not support this value with this model. Only the default ({only}) value is supported."
            );
            return refuse("unsupported_value", name, why);
        }
    }
    match ["logprobs", "top_logprobs", "logit_bias"].into_iter().find(|name| given(body, name).is_some_and(|value| *value != false)) {
        Some(name) => unsupported(name, ""),
        None => Ok(()),
    }
}
