//! What steers the answer: tools, the choice among them, and `generationConfig`.

use super::name;
use crate::dialect::params::{Settled, asked, max_tokens, temperature, unsupported};
use crate::dialect::schema::{self, rules};
use crate::error::ApiError;
use crate::json::text::Text;
use crate::json::write::Writer;
use crate::llm::constraint::Constraint;
use crate::llm::envelope::ChatRequest;
use crate::llm::field::Field;
use crate::llm::tool::{Tool, ToolChoice};
use serde_json::value::RawValue;

/// Most stop sequences that Gemini takes.
pub(super) const MAX_STOPS: usize = 5;
/// Highest temperature.
const MAX_TEMPERATURE: &str = "2";

/// Writes `tools` and `toolConfig`.
///
/// # Errors
/// A 400 that names `tools`, where the route refuses changed fields.
pub(super) fn tools(
    w: &mut Writer,
    request: &ChatRequest<'_>,
    tools: &[Tool<'_>],
    choice: Option<&ToolChoice<'_>>,
    settled: &mut Settled,
) -> Result<(), ApiError> {
    if tools.is_empty() {
        return Ok(());
    }
    w.key("tools").array().object().key("functionDeclarations").array();
    for tool in tools {
        name::write(w.object().key("name"), tool.name);
        if let Some(description) = tool.description {
            w.key("description").text(description);
        }
        if let Some(schema) = tool.parameters.filter(|schema| !is_empty_object(schema)) {
            let adapted = schema::adapt_tool(schema.get(), &rules::GEMINI_TOOL);
            if adapted.as_ref().is_some_and(|adapted| adapted.reworded) {
                settled.adjust(request, Field::Tools, "it takes a part of this schema as words only")?;
            }
            w.key("parametersJsonSchema").raw(adapted.as_ref().map_or(schema.get(), |adapted| &adapted.schema));
        }
        w.end_object();
    }
    w.end_array().end_object().end_array();
    let (mode, names) = match choice {
        None => return Ok(()),
        Some(ToolChoice::Auto) => ("AUTO", &[][..]),
        Some(ToolChoice::None) => ("NONE", &[][..]),
        Some(ToolChoice::Required) => ("ANY", &[][..]),
        Some(ToolChoice::Named(name)) => ("ANY", std::slice::from_ref(name)),
        Some(ToolChoice::Allowed { required: true, names }) => ("ANY", names.as_slice()),
        // AUTO takes no list of names; VALIDATED leaves the model the same freedom among those that are allowed.
        Some(ToolChoice::Allowed { required: false, names }) => ("VALIDATED", names.as_slice()),
    };
    w.key("toolConfig").object().key("functionCallingConfig").object().key("mode").string(mode);
    if !names.is_empty() {
        w.key("allowedFunctionNames").array();
        names.iter().for_each(|name| name::write(w, *name));
        w.end_array();
    }
    w.end_object().end_object();
    Ok(())
}

fn is_empty_object(schema: &RawValue) -> bool {
    matches!(schema.get().as_bytes(), [b'{', inside @ .., b'}'] if inside.iter().all(u8::is_ascii_whitespace))
}

fn strings(w: &mut Writer, texts: &[Text<'_>]) {
    w.array();
    for text in texts {
        w.text(*text);
    }
    w.end_array();
}

/// Writes `generationConfig`.
pub(super) fn generation(c: &mut Writer, request: &ChatRequest<'_>, model: &str, settled: &mut Settled) -> Result<(), ApiError> {
    c.key("generationConfig").object();
    let numbers = [
        // It includes thinking tokens here, as it does at OpenAI.
        ("maxOutputTokens", max_tokens(request).map(|(_, limit)| limit)),
        ("temperature", temperature(request, MAX_TEMPERATURE, settled)?),
        ("topP", request.raw(Field::TopP)),
        ("frequencyPenalty", asked(request, Field::FrequencyPenalty)),
        ("presencePenalty", asked(request, Field::PresencePenalty)),
        ("seed", seed(request, settled)?),
        ("candidateCount", asked(request, Field::N)),
        ("responseLogprobs", asked(request, Field::Logprobs)),
        ("logprobs", asked(request, Field::TopLogprobs)),
    ];
    for (key, value) in numbers {
        if let Some(value) = value {
            c.key(key).raw(value);
        }
    }
    stops(c, request)?;
    constraint(c, request, settled)?;
    thinking(c, request, model, settled)?;
    c.end_object();
    Ok(())
}

/// Seeds are 32 bits wide; a wider one is left out and named.
fn seed<'a>(request: &ChatRequest<'a>, settled: &mut Settled) -> Result<Option<&'a str>, ApiError> {
    let Some(raw) = request.raw(Field::Seed) else { return Ok(None) };
    if raw.parse::<i32>().is_err() {
        settled.drop_hint(request, Field::Seed)?;
        return Ok(None);
    }
    Ok(Some(raw))
}

fn stops(c: &mut Writer, request: &ChatRequest<'_>) -> Result<(), ApiError> {
    let Some(raw) = asked(request, Field::Stop) else { return Ok(()) };
    let list: Vec<Text<'_>> = match serde_json::from_str::<Text<'_>>(raw) {
        Ok(text) => vec![text],
        Err(_) => request.get(Field::Stop)?.unwrap_or_default(),
    };
    if list.len() > MAX_STOPS {
        return Err(ApiError::field(
            "stop",
            format!("`stop` may hold at most {MAX_STOPS} sequences for this model, it holds {}", list.len()),
        ));
    }
    strings(c.key("stopSequences"), &list);
    Ok(())
}

fn constraint(c: &mut Writer, request: &ChatRequest<'_>, settled: &mut Settled) -> Result<(), ApiError> {
    match Constraint::of(request)? {
        None => {}
        Some(Constraint::JsonObject) => {
            c.key("responseMimeType").string("application/json");
        }
        Some(Constraint::JsonSchema(schema)) => {
            let adapted = schema::adapt(&schema.schema, &rules::GEMINI);
            if adapted.reworded {
                settled.adjust(request, schema.field, "it takes a part of this schema as words only")?;
            }
            c.key("responseMimeType").string("application/json").key("responseJsonSchema").raw(&adapted.schema);
        }
        // The bare choice comes back, without quotes.
        Some(Constraint::Choice(choices)) => {
            c.key("responseMimeType").string("text/x.enum").key("responseSchema").object().key("type").string("STRING");
            strings(c.key("enum"), &choices);
            c.end_object();
        }
        Some(other) => return Err(unsupported(other.field().name())),
    }
    Ok(())
}

/// How a model is told to think.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Thinking {
    /// Before 2.5, and models of other names: not at all.
    Never,
    /// 2.5: by a budget of tokens.
    Budget,
    /// 3 and later: by a level.
    Level,
}

impl Thinking {
    fn of(model: &str) -> Self {
        let Some(version) = model.strip_prefix("gemini-") else { return Self::Never };
        // `gemini-2.5-flash-…`, `gemini-3-pro-…`; an alias such as `gemini-flash-latest` means a new one.
        let digits = version.split(['-', '@']).next().unwrap_or_default();
        let mut numbers = digits.split('.').map(|n| n.parse::<u32>());
        match (numbers.next(), numbers.next()) {
            (Some(Ok(2)), Some(Ok(minor))) if minor >= 5 => Self::Budget,
            (Some(Ok(0..=2)), _) => Self::Never,
            _ => Self::Level,
        }
    }
}

/// Whether a model refuses calls in the history that come without a thought signature.
pub(super) fn wants_signatures(model: &str) -> bool {
    Thinking::of(model) == Thinking::Level
}

fn thinking(c: &mut Writer, request: &ChatRequest<'_>, model: &str, settled: &mut Settled) -> Result<(), ApiError> {
    let Some(raw) = asked(request, Field::ReasoningEffort) else { return Ok(()) };
    let effort = raw.trim_matches('"');
    let (kind, pro) = (Thinking::of(model), model.contains("-pro")); // pro models always think
    // What is sent, as a level and as a budget.
    let (level, budget) = match effort {
        "none" => (if pro { "LOW" } else { "MINIMAL" }, if pro { 128 } else { 0 }),
        "minimal" => (if pro { "LOW" } else { "MINIMAL" }, 512),
        "low" => ("LOW", 1024),
        "medium" => ("MEDIUM", 8192),
        "high" | "xhigh" | "max" => ("HIGH", 24_576),
        _ => return Err(ApiError::field("reasoning_effort", "`reasoning_effort` must be none, minimal, low, medium, high, xhigh or max")),
    };
    let kept = match (effort, kind) {
        ("none", Thinking::Never) => return Ok(()),
        (_, Thinking::Never) => return settled.drop_hint(request, Field::ReasoningEffort),
        ("none", Thinking::Level) | ("xhigh" | "max", _) => false,
        ("none", Thinking::Budget) | ("minimal", Thinking::Level) => !pro,
        _ => true,
    };
    if !kept {
        settled.adjust(request, Field::ReasoningEffort, "it knows no such effort")?;
    }
    c.key("thinkingConfig").object();
    match kind {
        Thinking::Level => c.key("thinkingLevel").string(level),
        _ => c.key("thinkingBudget").integer(budget),
    };
    // Who asks for thinking wants to see it.
    c.key("includeThoughts").flag(effort != "none").end_object();
    Ok(())
}
