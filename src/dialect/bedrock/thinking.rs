//! `reasoning_effort` on Bedrock: Converse has no field for it that all models know, so that each family has its own
//! in `additionalModelRequestFields`.

use super::Family;
use crate::chat::field::Field;
use crate::chat::request::ChatRequest;
use crate::dialect::params::{self, Settled};
use crate::error::ApiError;
use crate::json::write::Writer;

/// Fewest tokens that Claude thinks with.
const MIN_BUDGET: u64 = 1024;

/// How a model is told to think.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thinking {
    /// It is not told.
    Off,
    /// Claude: so many tokens.
    Budget(u64),
    /// OpenAI's open models and Qwen: a field and a word.
    Word(&'static str, &'static str),
}

impl Thinking {
    /// What the request's effort means. `forced`: a tool must be called; `unsigned`: see `Said::unsigned_loop`.
    ///
    /// # Errors
    /// A 400 for an unknown effort, or for one that the model cannot keep where the route rejects lost hints.
    pub(super) fn of(
        request: &ChatRequest<'_>,
        family: Family,
        limit: Option<u64>,
        forced: bool,
        unsigned: bool,
        settled: &mut Settled,
    ) -> Result<Self, ApiError> {
        let field = Field::ReasoningEffort;
        let Some(raw) = params::asked(request, field) else { return Ok(Self::Off) };
        let (budget, word) = match raw {
            r#""none""# => return Ok(Self::Off),
            r#""minimal""# => (MIN_BUDGET, "low"),
            r#""low""# => (2048, "low"),
            r#""medium""# => (8192, "medium"),
            r#""high""# => (16_384, "high"),
            r#""xhigh""# | r#""max""# => (32_000, "high"),
            _ => return Err(ApiError::field(field.name(), "`reasoning_effort` must be none, minimal, low, medium, high, xhigh or max")),
        };
        match family {
            Family::OpenAi => Ok(Self::Word("reasoning_effort", word)),
            Family::Qwen => Ok(Self::Word("reasoning_config", word)),
            Family::Other => Ok(Self::Off), // the field's policy has named it as dropped
            Family::Claude => {
                // "budget_tokens must be at least 1024 and less than max_tokens"; half is left for the answer.
                let room = limit.map_or(u64::MAX, |limit| limit / 2);
                // A forced tool excludes thinking, and so does a call in the history whose thinking is lost.
                if room < MIN_BUDGET || forced || unsigned {
                    settled.drop_hint(request, field)?;
                    return Ok(Self::Off);
                }
                Ok(Self::Budget(budget.min(room)))
            }
        }
    }

    /// Whether anything is written.
    pub(super) fn is_on(self) -> bool {
        self != Self::Off
    }

    /// Writes the family's member.
    pub(super) fn write(self, w: &mut Writer) {
        match self {
            Self::Off => {}
            Self::Budget(tokens) => {
                w.key("thinking").object().key("type").string("enabled").key("budget_tokens").integer(tokens).end_object();
            }
            Self::Word(key, word) => {
                w.key(key).string(word);
            }
        }
    }
}
