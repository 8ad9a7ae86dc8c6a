//! `reasoning_effort` on Bedrock: Converse has no field for it that all models know, so that each family has its own
//! in `additionalModelRequestFields`.

use super::family::Family;
use crate::dialect::anthropic::DEFAULT_MAX_TOKENS;
use crate::dialect::anthropic::effort::Thought;
use crate::dialect::anthropic::model::Model;
use crate::dialect::params::Settled;
use crate::error::ApiError;
use crate::json::write::Writer;
use crate::llm::field::Field;
use crate::llm::request::{Effort, Request};

/// How a model is told to think.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thinking {
    /// It is not told.
    Off,
    /// Claude.
    Claude(Thought),
    /// OpenAI's open models and Qwen: a field and a word.
    Word(&'static str, &'static str),
}

impl Thinking {
    /// What the request's effort means; the rest is as in [`Thought::choose`].
    ///
    /// # Errors
    /// A 400 for an unknown effort, or for one that the model cannot keep where the route rejects lost hints.
    pub(super) fn of(
        request: &Request<'_>,
        family: Family,
        limit: Option<u64>,
        (forces, can_think): (bool, bool),
        settled: &mut Settled,
    ) -> Result<Self, ApiError> {
        let key = match family {
            Family::Claude => {
                let thought = Thought::choose(request, Model::of(request.model), limit, (forces, can_think), settled)?;
                return Ok(if thought == Thought::default() { Self::Off } else { Self::Claude(thought) });
            }
            Family::OpenAi => "reasoning_effort",
            Family::Qwen => "reasoning_config",
            Family::Nova | Family::Llama | Family::Mistral | Family::Other => {
                Effort::read(request)?; // the field's policy has named it as dropped
                return Ok(Self::Off);
            }
        };
        let word = match Effort::read(request)? {
            None => return Ok(Self::Off),
            Some(Effort::None) => {
                // OpenAI's open models cannot be told not to think.
                if family == Family::OpenAi {
                    settled.drop(request.name_of(Field::ReasoningEffort))?;
                }
                return Ok(Self::Off);
            }
            Some(Effort::Minimal | Effort::Low) => "low",
            Some(Effort::Medium) => "medium",
            Some(Effort::High) => "high",
            Some(Effort::XHigh | Effort::Max) => {
                settled.adjust(request.name_of(Field::ReasoningEffort), "this model knows no effort above high")?;
                "high"
            }
        };
        Ok(Self::Word(key, word))
    }

    /// The limit that is written: the client's, else the target's own. A Claude that thinks with a budget gets the limit
    /// that it gets from Anthropic, because the one that Bedrock puts in where there is none (4096) may be below the budget.
    pub(super) fn max_tokens(self, limit: Option<u64>, default: Option<u32>) -> Option<u64> {
        match self {
            Self::Claude(thought) if thought.has_budget() => {
                Some(thought.max_tokens(limit, u64::from(default.unwrap_or(DEFAULT_MAX_TOKENS))))
            }
            _ => limit.or(default.map(u64::from)),
        }
    }

    /// Whether anything is written.
    pub(super) fn is_on(self) -> bool {
        self != Self::Off
    }

    /// Whether it is Claude that thinks.
    pub(super) fn claude_thinks(self) -> bool {
        matches!(self, Self::Claude(thought) if thought.thinks())
    }

    /// Writes the family's members.
    pub(super) fn write(self, w: &mut Writer) {
        match self {
            Self::Off => {}
            Self::Claude(thought) => thought.write(w, None),
            Self::Word(key, word) => {
                w.key(key).string(word);
            }
        }
    }
}
