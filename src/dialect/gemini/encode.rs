//! Writing one attempt's request straight into Gemini's JSON.

use super::contents;
use super::decode::GeminiDecoder;
use crate::dialect::shared::count;
use crate::dialect::shared::fence::Unfence;
use crate::dialect::shared::names::{self, ShortNames};
use crate::dialect::shared::params::{Policy, Settled, settle, temperature, unsupported};
use crate::dialect::shared::rewrite::Rewrite;
use crate::dialect::shared::schema::{self, rules};
use crate::dialect::shared::toolbox;
use crate::dialect::{Decoder, Outgoing};
use crate::error::ApiError;
use crate::json::surrogate;
use crate::json::write::Writer;
use crate::llm::constraint::Constraint;
use crate::llm::field::Field;
use crate::llm::request::{Effort, Request, ToolChoice};
use crate::percent;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Fields that Gemini has in its own words. `n` and the constraints are among them: the writers refuse what it cannot say.
const MAPPED: &[Field] = &[
    Field::MaxTokens,
    Field::MaxCompletionTokens,
    Field::Temperature,
    Field::TopP,
    Field::FrequencyPenalty,
    Field::PresencePenalty,
    Field::Stop,
    Field::Seed,
    Field::N,
    Field::Tools,
    Field::ToolChoice,
    Field::Functions, // refused by the reader of tools, with advice
    Field::FunctionCall,
    Field::ResponseFormat,
    Field::ReasoningEffort,
    Field::Logprobs,
    Field::TopLogprobs,
    Field::Metadata,
    Field::GuidedJson,
    Field::GuidedRegex,
    Field::GuidedChoice,
    Field::GuidedGrammar,
    Field::StructuralTag,
];

/// Longest key or value of a label.
/// <https://cloud.google.com/vertex-ai/generative-ai/docs/multimodal/add-labels-to-api-calls>
const MAX_LABEL: usize = 63;
/// Most labels of a request.
const MAX_LABELS: usize = 64;
/// Most stop sequences.
const MAX_STOPS: usize = 5;
/// Highest temperature.
const MAX_TEMPERATURE: &str = "2";
/// Room for what is written beside the client's own bytes.
const OVERHEAD: usize = 512;

/// Writes the request. `location` is the path of a place on Vertex; without one it is for AI Studio.
pub(super) fn encode(request: Request<'_>, location: Option<&str>) -> Result<Outgoing, ApiError> {
    ShortNames::within(request, names::GOOGLE, |request| generate(request, location))
}

fn generate(request: &Request<'_>, location: Option<&str>) -> Result<Outgoing, ApiError> {
    let mut settled = settle(request, |field| Policy::of(field, MAPPED))?;
    let model = request.model.strip_prefix("google/").unwrap_or(request.model);
    // One allocation for the whole body: a picture of some megabytes is copied once, from the client's bytes to here.
    let mut w = Writer::with_capacity(request.size + OVERHEAD);
    w.object();
    let held = Held::of(request, model, &mut settled)?;
    let instruction = if let Held::ByWords(words) = &held { Some(&**words) } else { None };
    contents::write(&mut w, request, &contents::Place { vertex: location.is_some(), model, instruction })?;
    tools(&mut w, request, &mut settled)?;
    generation(&mut w, request, model, held == Held::Native, &mut settled)?;
    labels(&mut w, request, location.is_some(), &mut settled)?;
    w.end_object();
    let path = path(location, model, if request.stream { "streamGenerateContent?alt=sse" } else { "generateContent" });
    let decoder: Box<dyn Decoder> = match held {
        Held::ByWords(_) if request.sampling.choices.is_none() => Unfence::default().around(Box::new(GeminiDecoder::default())),
        _ => Box::new(GeminiDecoder::default()),
    };
    Ok(Outgoing::new(path, surrogate::repair(w.finish()), settled, decoder))
}

/// Writes the request that counts the tokens of a prompt. AI Studio takes instructions and tools only inside of a whole
/// request. <https://ai.google.dev/api/tokens>
pub(super) fn count(request: Request<'_>, location: Option<&str>) -> Result<Outgoing, ApiError> {
    ShortNames::within(request, names::GOOGLE, |request| count_tokens(request, location))
}

fn count_tokens(request: &Request<'_>, location: Option<&str>) -> Result<Outgoing, ApiError> {
    let model = request.model.strip_prefix("google/").unwrap_or(request.model);
    let (mut settled, whole) = (Settled::default(), location.is_none());
    let mut w = Writer::with_capacity(request.size + OVERHEAD);
    w.object();
    if whole {
        w.key("generateContentRequest").object().key("model").string(&format!("models/{model}"));
    }
    contents::write(&mut w, request, &contents::Place { vertex: location.is_some(), model, instruction: None })?;
    tools(&mut w, &Request { tools: request.tools.clone(), ..Request::default() }, &mut settled)?;
    if whole {
        w.end_object();
    }
    w.end_object();
    let path = path(location, model, "countTokens");
    Ok(Outgoing::new(path, surrogate::repair(w.finish()), Settled::default(), Box::new(count::Decoder)))
}

fn path(location: Option<&str>, model: &str, operation: &str) -> String {
    let model = percent::google_segment(model);
    match location {
        Some(location) => format!("{location}/publishers/google/models/{model}:{operation}"),
        None => format!("/v1beta/models/{model}:{operation}"),
    }
}

/// Metadata becomes the labels of a Vertex request where every pair keeps the rules of labels; elsewhere it is a hint
/// without a counterpart.
fn labels(w: &mut Writer, request: &Request<'_>, vertex: bool, settled: &mut Settled) -> Result<(), ApiError> {
    let Some(raw) = request.metadata else { return Ok(()) };
    let pairs = serde_json::from_str::<BTreeMap<Cow<'_, str>, Cow<'_, str>>>(raw).ok();
    let fit = |pairs: &BTreeMap<Cow<'_, str>, Cow<'_, str>>| {
        let legal = |text: &str| text.len() <= MAX_LABEL && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'));
        let key = |text: &str| legal(text) && text.starts_with(|c: char| c.is_ascii_lowercase());
        pairs.len() <= MAX_LABELS && pairs.iter().all(|(k, v)| key(k) && legal(v))
    };
    match pairs.filter(|pairs| vertex && fit(pairs)) {
        None => settled.drop(request.name_of(Field::Metadata)),
        Some(pairs) => {
            w.key("labels").object();
            for (key, value) in pairs {
                w.key(&key).string(&value);
            }
            w.end_object();
            Ok(())
        }
    }
}

/// Writes `tools` and `toolConfig`.
///
/// # Errors
/// A 400 that names `tools`, where the route refuses changed fields.
pub(super) fn tools(w: &mut Writer, request: &Request<'_>, settled: &mut Settled) -> Result<(), ApiError> {
    if request.tools.is_empty() {
        return Ok(());
    }
    w.key("tools").array().object().key("functionDeclarations").array();
    for (_, tool) in toolbox::distinct(request, settled)? {
        contents::write_name(w.object().key("name"), tool.name);
        w.optional_text("description", tool.description);
        if let Some(schema) = tool.parameters.filter(|schema| !is_empty_object(schema)) {
            let adapted = schema::adapt_tool(schema, &rules::GEMINI_TOOL);
            if adapted.as_ref().is_some_and(|adapted| adapted.reworded) {
                settled.adjust(request.name_of(Field::Tools), "it takes a part of this schema as words only")?;
            }
            w.key("parametersJsonSchema").raw(adapted.as_ref().map_or(schema, |adapted| &adapted.schema));
        }
        w.end_object();
    }
    w.end_array().end_object().end_array();
    let (mode, names) = match &request.tool_choice {
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
        names.iter().for_each(|name| contents::write_name(w, *name));
        w.end_array();
    }
    w.end_object().end_object();
    Ok(())
}

fn is_empty_object(schema: &str) -> bool {
    matches!(schema.as_bytes(), [b'{', inside @ .., b'}'] if inside.iter().all(u8::is_ascii_whitespace))
}

/// What holds an answer to the client's constraint.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Held {
    /// `generationConfig`, where there is a constraint at all.
    Native,
    /// This instruction.
    ByWords(Cow<'static, str>),
    /// Nothing: a call is due, not an answer.
    Free,
}

impl Held {
    /// Before Gemini 3 a request with tools can have no other form of its answer than text: "Function calling with a response
    /// mime type: 'application/json' is unsupported".
    fn of(request: &Request<'_>, model: &str, settled: &mut Settled) -> Result<Self, ApiError> {
        let Some(output) = request.output.as_ref().filter(|_| !request.tools.is_empty() && Thinking::of(model) != Thinking::Level) else {
            return Ok(Self::Native);
        };
        let is_call_due =
            matches!(request.tool_choice, Some(ToolChoice::Required | ToolChoice::Named(_) | ToolChoice::Allowed { required: true, .. }));
        let field = request.name_of(output.field);
        match &output.constraint {
            Constraint::JsonObject | Constraint::JsonSchema(_) | Constraint::Choice(_) if is_call_due => Ok(Self::Free),
            Constraint::JsonObject => Ok(Self::ByWords(toolbox::instruction(None))),
            Constraint::JsonSchema(schema) => {
                settled.adjust(field, "beside tools it takes a schema as words only")?;
                Ok(Self::ByWords(toolbox::instruction(Some(&schema.schema))))
            }
            Constraint::Choice(_) => {
                let message = format!("`{field}`: beside tools this model cannot be held to a choice; leave out `{field}` or the tools");
                Err(ApiError::field(field, message))
            }
            Constraint::Regex(_) | Constraint::Grammar(_) | Constraint::StructuralTag(_) => Err(unsupported(field)),
        }
    }
}

/// Writes `generationConfig`; `constrained`: with the constraint.
pub(super) fn generation(
    c: &mut Writer,
    request: &Request<'_>,
    model: &str,
    constrained: bool,
    settled: &mut Settled,
) -> Result<(), ApiError> {
    c.key("generationConfig").object();
    let sampling = &request.sampling;
    let heat = sampling.temperature.map(|(raw, _)| temperature(raw, request.name_of(Field::Temperature), MAX_TEMPERATURE, settled));
    let numbers = [
        // It includes thinking tokens here, as it does at OpenAI.
        ("maxOutputTokens", sampling.max_tokens),
        ("temperature", heat.transpose()?),
        ("topP", sampling.top_p.map(|(raw, _)| raw)),
        ("frequencyPenalty", sampling.frequency_penalty),
        ("presencePenalty", sampling.presence_penalty),
        ("seed", seed(request, settled)?),
        ("candidateCount", sampling.choices),
        ("responseLogprobs", sampling.logprobs.then_some("true")),
        ("logprobs", sampling.top_logprobs),
    ];
    for (key, value) in numbers {
        c.optional_raw(key, value);
    }
    stops(c, request)?;
    if constrained {
        constraint(c, request, settled)?;
    }
    thinking(c, request, model, settled)?;
    c.end_object();
    Ok(())
}

/// Seeds are 32 bits wide; a wider one is left out and named.
fn seed<'a>(request: &Request<'a>, settled: &mut Settled) -> Result<Option<&'a str>, ApiError> {
    let Some(raw) = request.sampling.seed else { return Ok(None) };
    if raw.parse::<i32>().is_err() {
        settled.drop(request.name_of(Field::Seed))?;
        return Ok(None);
    }
    Ok(Some(raw))
}

fn stops(c: &mut Writer, request: &Request<'_>) -> Result<(), ApiError> {
    let list = &request.sampling.stop;
    if list.len() > MAX_STOPS {
        let name = request.name_of(Field::Stop);
        let message = format!("`{name}` may hold at most {MAX_STOPS} sequences for this model, it holds {}", list.len());
        return Err(ApiError::field(name, message));
    }
    if !list.is_empty() {
        c.key("stopSequences").text_list(list.iter().copied());
    }
    Ok(())
}

fn constraint(c: &mut Writer, request: &Request<'_>, settled: &mut Settled) -> Result<(), ApiError> {
    let Some(output) = &request.output else { return Ok(()) };
    match &output.constraint {
        Constraint::JsonObject => {
            c.key("responseMimeType").string("application/json");
        }
        Constraint::JsonSchema(schema) => {
            let adapted = schema::adapt(&schema.schema, &rules::GEMINI);
            if adapted.reworded {
                settled.adjust(request.name_of(output.field), "it takes a part of this schema as words only")?;
            }
            c.key("responseMimeType").string("application/json").key("responseJsonSchema").raw(&adapted.schema);
        }
        // The bare choice comes back, without quotes.
        Constraint::Choice(choices) => {
            c.key("responseMimeType").string("text/x.enum").key("responseSchema").object().key("type").string("STRING");
            c.key("enum").text_list(choices.iter().copied()).end_object();
        }
        Constraint::Regex(_) | Constraint::Grammar(_) | Constraint::StructuralTag(_) => {
            return Err(unsupported(request.name_of(output.field)));
        }
    }
    Ok(())
}

/// How thinking is requested of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Thinking {
    /// Not possible: before 2.5, and models of other names.
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

fn thinking(c: &mut Writer, request: &Request<'_>, model: &str, settled: &mut Settled) -> Result<(), ApiError> {
    let Some(effort) = Effort::read(request)? else { return Ok(()) };
    let (kind, pro) = (Thinking::of(model), model.contains("-pro")); // pro models always think
    // What is sent, as a level and as a budget.
    let (level, budget) = match effort {
        Effort::None => (if pro { "LOW" } else { "MINIMAL" }, if pro { 128 } else { 0 }),
        Effort::Minimal => (if pro { "LOW" } else { "MINIMAL" }, 512),
        Effort::Low => ("LOW", 1024),
        Effort::Medium => ("MEDIUM", 8192),
        Effort::High | Effort::XHigh | Effort::Max => ("HIGH", 24_576),
    };
    let kept = match (effort, kind) {
        (Effort::None, Thinking::Never) => return Ok(()),
        (_, Thinking::Never) => return settled.drop(request.name_of(Field::ReasoningEffort)),
        (Effort::None, Thinking::Level) | (Effort::XHigh | Effort::Max, _) => false,
        (Effort::None, Thinking::Budget) | (Effort::Minimal, Thinking::Level) => !pro,
        _ => true,
    };
    if !kept {
        settled.adjust(request.name_of(Field::ReasoningEffort), "it knows no such effort")?;
    }
    c.key("thinkingConfig").object();
    match kind {
        Thinking::Level => c.key("thinkingLevel").string(level),
        _ => {
            // https://ai.google.dev/gemini-api/docs/thinking#set-budget
            let (asked, max) = (request.thinking_budget.unwrap_or(budget), if pro { 32_768 } else { 24_576 });
            if asked > max {
                settled.adjust(request.name_of(Field::ReasoningEffort), &format!("it thinks for at most {max} tokens"))?;
            }
            c.key("thinkingBudget").integer(asked.min(max))
        }
    };
    // A client that requests thinking wants to see it.
    c.key("includeThoughts").flag(effort != Effort::None).end_object();
    Ok(())
}

#[cfg(test)]
mod tests;
