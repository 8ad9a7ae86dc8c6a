//! Writes a request for the Messages API, straight from the client's bytes into one new body.

use super::decode::Decoder;
use super::model::{Model, Thinking};
use super::tools::{Held, Toolbox};
use super::turns::Conversation;
use super::{Host, Seat};
use crate::chat::event::Text;
use crate::chat::field::Field;
use crate::chat::message;
use crate::chat::request::ChatRequest;
use crate::dialect::unwrap::UnwrapChoice;
use crate::dialect::{
    self,
    params::{Policy, Settled, Unknown, asked, settle, temperature, token_limit},
};
use crate::error::ApiError;
use crate::json::write::Writer;

/// Smallest thinking budget, in tokens.
pub(in crate::dialect) const MIN_BUDGET: u64 = 1024;
/// Longest `metadata.user_id`, in characters.
const MAX_USER: usize = 256;
/// From this `anthropic-version` on sampling parameters are refused.
const UNSAMPLED_VERSION: &str = "2026-10-21";

/// What this dialect has a form for; constraints and old function calls are judged where they are read.
const MAPPED: [Field; 17] = [
    Field::MaxTokens,
    Field::MaxCompletionTokens,
    Field::Temperature,
    Field::TopP,
    Field::Stop,
    Field::Tools,
    Field::ToolChoice,
    Field::ParallelToolCalls,
    Field::ResponseFormat,
    Field::ReasoningEffort,
    Field::User,
    Field::GuidedJson,
    Field::GuidedRegex,
    Field::GuidedChoice,
    Field::GuidedGrammar,
    Field::StructuralTag,
    Field::Functions,
];

/// A body, what became of the parameters, and the reader of its answer.
pub struct Encoded {
    /// The request body.
    pub body: Vec<u8>,
    /// What was left out or changed.
    pub settled: Settled,
    /// Reads the answer.
    pub decoder: Box<dyn dialect::Decoder>,
}

/// Writes the body of a request.
///
/// # Errors
/// A 400 that names what the model cannot take.
pub fn body(request: &ChatRequest<'_>, seat: &Seat<'_>) -> Result<Encoded, ApiError> {
    let mut settled = settle(request, Unknown::Drop, |field| match field {
        Field::FunctionCall => Policy::Mapped,
        _ => Policy::of(field, &MAPPED),
    })?;
    let messages = message::read(request)?;
    let toolbox = Toolbox::read(request, seat.structured_output)?;
    let conversation = Conversation::read(request.system, &messages, request.seal, seat.host)?;
    let model = Model::of(request.model);
    let effort = Effort::read(request)?;
    let limit = token_limit(request)?;

    let thought = Thought::choose(effort, model, limit, &toolbox, &conversation);
    if effort.is_some_and(|effort| effort != Effort::None) && thought == Thought::default() {
        settled.drop_hint(request, Field::ReasoningEffort)?;
    }
    if thought.effort == Some("high") && effort == Some(Effort::XHigh) {
        settled.adjust(request, Field::ReasoningEffort, "this model knows no effort between high and max")?;
    }

    let mut w = Writer::with_capacity(request.parsed.body().len() + 4096);
    w.object();
    match seat.host {
        Host::Api => {
            w.key("model").string(request.model);
        }
        Host::Vertex | Host::Bedrock => {
            w.key("anthropic_version").string(seat.version);
            if !seat.beta.is_empty() && seat.host == Host::Bedrock {
                w.key("anthropic_beta").array();
                seat.beta.iter().for_each(|beta| {
                    w.string(beta);
                });
                w.end_array();
            }
        }
    }
    w.key("max_tokens").integer(thought.max_tokens(limit, seat.default_max_tokens));
    if request.stream() && seat.host != Host::Bedrock {
        w.key("stream").flag(true);
    }
    conversation.write(&mut w, thought.thinks());
    toolbox.write(&mut w)?;
    thought.write(&mut w, &toolbox.held);
    sampling(request, &mut w, &mut settled, seat, model, thought)?;
    stop(request, &mut w)?;
    user(request, &mut w, &mut settled)?;
    w.end_object();

    let seal = request.seal.filter(|_| thought.thinks() && toolbox.has_tools()).cloned();
    let content_tool = if let Held::Forced(name, _) = &toolbox.held { Some(name.clone()) } else { None };
    let decoder: Box<dyn dialect::Decoder> = Box::new(Decoder::new(content_tool, seal));
    let decoder = if toolbox.choice_inside { Box::new(UnwrapChoice::new(decoder)) } else { decoder };
    Ok(Encoded { body: w.finish(), settled, decoder })
}

/// OpenAI's `reasoning_effort`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::dialect) enum Effort {
    None,
    Minimal,
    Low,
    Medium,
    High,
    XHigh,
    Max,
}

impl Effort {
    pub(in crate::dialect) fn read(request: &ChatRequest<'_>) -> Result<Option<Self>, ApiError> {
        if asked(request, Field::ReasoningEffort).is_none() {
            return Ok(None);
        }
        let Some(word) = request.get::<Text<'_>>(Field::ReasoningEffort)? else { return Ok(None) };
        Ok(Some(match &*word.decode() {
            "none" => Self::None,
            "minimal" => Self::Minimal,
            "low" => Self::Low,
            "medium" => Self::Medium,
            "high" => Self::High,
            "xhigh" => Self::XHigh,
            "max" => Self::Max,
            _ => {
                let message = "`reasoning_effort` must be none, minimal, low, medium, high, xhigh or max";
                return Err(ApiError::field(Field::ReasoningEffort.name(), message));
            }
        }))
    }

    /// Tokens for thinking, of a size that leaves room for the answer within every thinking model's output limit.
    pub(in crate::dialect) fn budget(self) -> u64 {
        match self {
            Self::None | Self::Minimal => MIN_BUDGET,
            Self::Low => 2048,
            Self::Medium => 8192,
            Self::High => 16_384,
            Self::XHigh | Self::Max => 24_576,
        }
    }

    pub(in crate::dialect) fn name(self, model: Model) -> &'static str {
        match self {
            Self::None | Self::Minimal | Self::Low => "low",
            Self::Medium => "medium",
            Self::XHigh if model.extra_high() => "xhigh",
            Self::High | Self::XHigh => "high",
            Self::Max => "max",
        }
    }
}

/// How the model is told to think; by default not at all.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Thought {
    budget: Option<u64>,
    adaptive: bool,
    effort: Option<&'static str>,
}

impl Thought {
    fn choose(effort: Option<Effort>, model: Model, limit: Option<u64>, toolbox: &Toolbox<'_>, conversation: &Conversation<'_>) -> Self {
        let Some(effort) = effort.filter(|effort| *effort != Effort::None) else { return Self::default() };
        match model.thinking() {
            // A demanded call and thinking exclude each other; effort alone goes with both.
            Thinking::Adaptive => Self { budget: None, adaptive: !toolbox.forces(), effort: Some(effort.name(model)) },
            Thinking::Budget if !toolbox.forces() && conversation.can_think() => {
                // A quarter of the client's limit is left to the answer; a limit that holds no budget means no thinking.
                let room = limit.map_or(u64::MAX, |limit| if limit > MIN_BUDGET { (limit / 4 * 3).max(MIN_BUDGET) } else { 0 });
                let budget = Some(effort.budget().min(room)).filter(|budget| *budget >= MIN_BUDGET);
                Self { budget, ..Self::default() }
            }
            _ => Self::default(),
        }
    }

    fn thinks(self) -> bool {
        self.adaptive || self.budget.is_some()
    }

    /// The mandatory limit, which counts thinking too and must be above its budget.
    fn max_tokens(self, limit: Option<u64>, default: u64) -> u64 {
        match (limit, self.budget) {
            (Some(limit), _) => limit,
            (None, Some(budget)) if default <= budget => default.saturating_add(budget),
            (None, _) => default,
        }
    }

    fn write(self, w: &mut Writer, held: &Held<'_>) {
        if let Some(budget) = self.budget {
            w.key("thinking").object().key("type").string("enabled").key("budget_tokens").integer(budget).end_object();
        } else if self.adaptive {
            w.key("thinking").object().key("type").string("adaptive").end_object();
        }
        let schema = if let Held::Native(schema) = held { Some(schema) } else { None };
        if self.effort.is_none() && schema.is_none() {
            return;
        }
        w.key("output_config").object();
        if let Some(effort) = self.effort {
            w.key("effort").string(effort);
        }
        if let Some(schema) = schema {
            w.key("format").object().key("type").string("json_schema").key("schema").raw(schema).end_object();
        }
        w.end_object();
    }
}

/// `temperature`, or `top_p` without it: the API refuses both together, either beside thinking, and newer models any.
fn sampling(
    request: &ChatRequest<'_>,
    w: &mut Writer,
    settled: &mut Settled,
    seat: &Seat<'_>,
    model: Model,
    thought: Thought,
) -> Result<(), ApiError> {
    let free = model.sampled() && !thought.thinks() && (seat.host != Host::Api || seat.version < UNSAMPLED_VERSION);
    if free {
        if let Some(value) = temperature(request, "1", settled)? {
            w.key("temperature").raw(value);
            if request.raw(Field::TopP).is_some() {
                settled.drop_hint(request, Field::TopP)?;
            }
        } else if let Some(value) = request.raw(Field::TopP) {
            w.key("top_p").raw(value);
        }
        return Ok(());
    }
    for field in [Field::Temperature, Field::TopP] {
        // 1 is the default of both, and the only value that needs no mention.
        if request.raw(field).is_some_and(|raw| raw.parse() != Ok(1.0_f64)) {
            settled.drop_hint(request, field)?;
        }
    }
    Ok(())
}

fn stop(request: &ChatRequest<'_>, w: &mut Writer) -> Result<(), ApiError> {
    if asked(request, Field::Stop).is_none() {
        return Ok(());
    }
    let list = match request.raw(Field::Stop) {
        Some(raw) if raw.starts_with('[') => request.get::<Vec<Text<'_>>>(Field::Stop)?.unwrap_or_default(),
        _ => request.get::<Text<'_>>(Field::Stop)?.into_iter().collect(),
    };
    if list.iter().any(|text| text.decode().trim().is_empty()) {
        return Err(ApiError::field(Field::Stop.name(), "`stop`: this model refuses a stop sequence of nothing but white space"));
    }
    w.key("stop_sequences").array();
    list.iter().for_each(|text| {
        w.text(*text);
    });
    w.end_array();
    Ok(())
}

fn user(request: &ChatRequest<'_>, w: &mut Writer, settled: &mut Settled) -> Result<(), ApiError> {
    if asked(request, Field::User).is_none() {
        return Ok(());
    }
    match request.get::<Text<'_>>(Field::User)? {
        Some(user) if user.decode().chars().count() <= MAX_USER => {
            w.key("metadata").object().key("user_id").text(user).end_object();
            Ok(())
        }
        _ => settled.drop_hint(request, Field::User),
    }
}
