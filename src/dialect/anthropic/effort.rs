//! How much a Claude thinks: OpenAI's `reasoning_effort` in the words of the model's generation, the same wherever the
//! model is asked.

use super::model::{Model, Quiet, Thinking};
use crate::dialect::params::Settled;
use crate::error::ApiError;
use crate::json::write::Writer;
use crate::llm::field::Field;
use crate::llm::request::{Effort, Request};

/// Smallest thinking budget, in tokens; it must be below the answer's limit.
const MIN_BUDGET: u64 = 1024;

/// Tokens for thinking, of a size that leaves room for the answer within every thinking model's output limit.
const fn budget(effort: Effort) -> u64 {
    match effort {
        Effort::None | Effort::Minimal => MIN_BUDGET,
        Effort::Low => 2048,
        Effort::Medium => 8192,
        Effort::High => 16_384,
        Effort::XHigh | Effort::Max => 24_576,
    }
}

/// The word of `output_config.effort` for it.
fn word(effort: Effort, model: Model) -> &'static str {
    match effort {
        Effort::None | Effort::Minimal | Effort::Low => "low",
        Effort::Medium => "medium",
        Effort::XHigh if model.extra_high() => "xhigh",
        Effort::High | Effort::XHigh => "high",
        Effort::Max => "max",
    }
}

/// How the model is told to think; by default not at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::dialect) struct Thought {
    mode: Option<Mode>,
    effort: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// So many tokens.
    Budget(u64),
    /// As it likes. `hidden`: what it thinks is only told where that is asked for.
    Adaptive { hidden: bool },
    /// Not, in the word that the model has for it.
    Not(&'static str),
}

impl Thought {
    /// What the request's effort means. `forces`: a call is demanded; `can_think`: the conversation lets the model begin
    /// or go on with thinking of a fixed budget.
    ///
    /// # Errors
    /// A 400 for an unknown effort, or for one that the model cannot keep where the route rejects lost hints.
    pub(in crate::dialect) fn choose(
        request: &Request<'_>,
        model: Model,
        limit: Option<u64>,
        (forces, can_think): (bool, bool),
        settled: &mut Settled,
    ) -> Result<Self, ApiError> {
        let Some(effort) = Effort::read(request)? else { return Ok(Self::default()) };
        if effort == Effort::None {
            return Self::none(request, model, settled);
        }
        let thought = match model.thinking() {
            // A demanded call and thinking exclude each other; effort alone goes with both.
            Thinking::Adaptive => {
                let mode = Mode::Adaptive { hidden: model.hides_thinking() };
                Self { mode: (!forces).then_some(mode), effort: Some(word(effort, model)) }
            }
            Thinking::Budget if !forces && can_think => {
                // A quarter of the client's limit is left to the answer; a limit that holds no budget means no thinking.
                let room = limit.map_or(u64::MAX, |limit| if limit > MIN_BUDGET { (limit / 4 * 3).max(MIN_BUDGET) } else { 0 });
                let budget = Some(budget(effort).min(room)).filter(|budget| *budget >= MIN_BUDGET);
                Self { mode: budget.map(Mode::Budget), effort: None }
            }
            _ => Self::default(),
        };
        if thought == Self::default() {
            settled.drop(request.name_of(Field::ReasoningEffort))?;
        }
        if effort == Effort::XHigh && thought.effort == Some("high") {
            settled.adjust(request.name_of(Field::ReasoningEffort), "this model knows no effort between high and max")?;
        }
        Ok(thought)
    }

    /// No thinking, which only those that think by default have to be told; those that always think do so as little as they
    /// can.
    fn none(request: &Request<'_>, model: Model, settled: &mut Settled) -> Result<Self, ApiError> {
        let word = match model.quiet() {
            Quiet::Disabled => "disabled",
            Quiet::BetweenTools => "between_tools",
            Quiet::Never if model.thinking() == Thinking::Adaptive => {
                settled.adjust(request.name_of(Field::ReasoningEffort), "this model always thinks")?;
                return Ok(Self { mode: None, effort: Some("low") });
            }
            Quiet::Unasked | Quiet::Never => return Ok(Self::default()),
        };
        Ok(Self { mode: Some(Mode::Not(word)), effort: None })
    }

    /// Whether the model thinks.
    pub(in crate::dialect) fn thinks(self) -> bool {
        self.mode.is_some_and(|mode| !matches!(mode, Mode::Not(_)))
    }

    /// Whether it thinks with a budget, which has to be below the limit of the answer.
    pub(in crate::dialect) fn has_budget(self) -> bool {
        matches!(self.mode, Some(Mode::Budget(_)))
    }

    /// The mandatory limit, which counts thinking too and must be above its budget.
    pub(in crate::dialect) fn max_tokens(self, limit: Option<u64>, default: u64) -> u64 {
        match (limit, self.mode) {
            (Some(limit), _) => limit,
            (None, Some(Mode::Budget(budget))) if default <= budget => default.saturating_add(budget),
            (None, _) => default,
        }
    }

    /// Writes `thinking` and `output_config`, which also holds the schema of the answer.
    pub(in crate::dialect) fn write(self, w: &mut Writer, schema: Option<&str>) {
        match self.mode {
            None => {}
            Some(Mode::Budget(tokens)) => {
                w.key("thinking").object().key("type").string("enabled").key("budget_tokens").integer(tokens).end_object();
            }
            Some(Mode::Not(word)) => {
                w.key("thinking").object().key("type").string(word).end_object();
            }
            Some(Mode::Adaptive { hidden }) => {
                w.key("thinking").object().key("type").string("adaptive");
                if hidden {
                    w.key("display").string("summarized");
                }
                w.end_object();
            }
        }
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
