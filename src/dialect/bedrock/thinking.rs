//! `reasoning_effort` on Bedrock: Converse has no field for it that all models know, so that each family has its own
//! in `additionalModelRequestFields`.

use super::Family;
use crate::chat::field::Field;
use crate::chat::request::ChatRequest;
use crate::dialect::anthropic::encode::{Effort, MIN_BUDGET};
use crate::dialect::anthropic::model::{self, Model};
use crate::dialect::params::Settled;
use crate::error::ApiError;
use crate::json::write::Writer;

/// How a model is told to think.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thinking {
    /// It is not told.
    Off,
    /// Claude up to 4.5: so many tokens.
    Budget(u64),
    /// Claude from 4.6 on: as it likes (unless a tool is demanded), with this effort.
    Adaptive { free: bool, effort: &'static str },
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
        let Some(effort) = Effort::read(request)?.filter(|effort| *effort != Effort::None) else { return Ok(Self::Off) };
        let word = match effort {
            Effort::None | Effort::Minimal | Effort::Low => "low",
            Effort::Medium => "medium",
            Effort::High | Effort::XHigh | Effort::Max => "high",
        };
        let model = Model::of(request.model);
        let thinking = match (family, model.thinking()) {
            (Family::OpenAi, _) => Self::Word("reasoning_effort", word),
            (Family::Qwen, _) => Self::Word("reasoning_config", word),
            (Family::Other, _) => return Ok(Self::Off), // the field's policy has named it as dropped
            (Family::Claude, model::Thinking::Adaptive) => Self::Adaptive { free: !forced, effort: effort.name(model) },
            (Family::Claude, model::Thinking::Never) => Self::Off,
            (Family::Claude, model::Thinking::Budget) => {
                // "budget_tokens must be at least 1024 and less than max_tokens"; half is left for the answer. A forced
                // tool excludes thinking, and so does a call in the history whose thinking is lost.
                let room = limit.map_or(u64::MAX, |limit| limit / 2);
                if room < MIN_BUDGET || forced || unsigned { Self::Off } else { Self::Budget(effort.budget().min(room)) }
            }
        };
        if thinking == Self::Off {
            settled.drop_hint(request, Field::ReasoningEffort)?;
        }
        Ok(thinking)
    }

    /// Whether anything is written.
    pub(super) fn is_on(self) -> bool {
        self != Self::Off
    }

    /// Whether Claude thinks, which it does at its default temperature only.
    pub(super) fn fixes_sampling(self) -> bool {
        matches!(self, Self::Budget(_) | Self::Adaptive { free: true, .. })
    }

    /// Writes the family's members.
    pub(super) fn write(self, w: &mut Writer) {
        match self {
            Self::Off => {}
            Self::Budget(tokens) => {
                w.key("thinking").object().key("type").string("enabled").key("budget_tokens").integer(tokens).end_object();
            }
            Self::Adaptive { free, effort } => {
                if free {
                    w.key("thinking").object().key("type").string("adaptive").end_object();
                }
                w.key("output_config").object().key("effort").string(effort).end_object();
            }
            Self::Word(key, word) => {
                w.key(key).string(word);
            }
        }
    }
}
