//! Model families: Converse is one shape, but its optional fields are not for all models.

use crate::closed_set::closed_set;
use crate::dialect::shared::claude::{DEFAULT_MAX_TOKENS, Model, StructuredOutput, Terms, Thought};
use crate::dialect::shared::params::Settled;
use crate::dialect::shared::schema::rules;
use crate::dialect::shared::thinking_state::CLAUDE;
use crate::dialect::shared::toolbox::Means;
use crate::error::ApiError;
use crate::json::write::Writer;
use crate::llm::field::Field;
use crate::llm::request::{Effort, Request};

closed_set! {
    /// The maker of a model, as far as it decides what the model takes.
    Family {
        /// Anthropic's models.
        Claude = "claude",
        /// OpenAI's models.
        OpenAi = "openai",
        /// Qwen.
        Qwen = "qwen",
        /// Amazon's Nova.
        Nova = "nova",
        /// Meta's Llama.
        Llama = "llama",
        /// Mistral's models.
        Mistral = "mistral",
        /// Cohere's, AI21's and Writer's models, and Titan.
        Older = "older",
        /// Any other; it is sent everything that Converse has, and the service judges.
        Other = "other",
    }
}

/// What the models of a family take, a row of the support matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Takes {
    /// `toolConfig.toolChoice` with `any`.
    pub forced_tool: bool,
    /// `toolConfig.toolChoice` with `tool`.
    pub named_tool: bool,
    /// `outputConfig` with a JSON schema.
    pub schema: bool,
    /// `inferenceConfig.stopSequences`.
    pub stop: bool,
    /// `cachePoint`.
    pub cache: bool,
    /// A field for `reasoning_effort`.
    pub effort: bool,
    /// `usage.inputTokens` includes what was read from and written to the cache.
    pub cache_in_input: bool,
}

/// What Converse has for every model.
const ALL: Takes =
    Takes { forced_tool: true, named_tool: false, schema: true, stop: true, cache: false, effort: false, cache_in_input: false };

impl Family {
    /// Model ids name the maker, after an optional inference profile's region (`us.anthropic.claude-…`); an ARN ends
    /// with such an id or names nobody.
    pub fn of(model: &str) -> Self {
        let model = model.rsplit('/').next().unwrap_or(model);
        let words = [
            ("anthropic.", Self::Claude),
            ("claude", Self::Claude),
            ("openai.", Self::OpenAi),
            ("qwen.", Self::Qwen),
            ("amazon.nova", Self::Nova),
            ("meta.llama", Self::Llama),
            ("mistral.", Self::Mistral),
            ("cohere.", Self::Older),
            ("ai21.", Self::Older),
            ("writer.", Self::Older),
            ("amazon.titan", Self::Older),
        ];
        words.into_iter().find(|(word, _)| model.contains(word)).map_or(Self::Other, |(_, family)| family)
    }

    /// What stands before the thinking that its models want back, so that no other family's model gets it.
    pub(in crate::dialect) const fn maker(self) -> &'static str {
        match self {
            Self::Claude => CLAUDE,
            Self::OpenAi => "openai:",
            Self::Qwen => "qwen:",
            Self::Nova => "nova:",
            Self::Llama => "llama:",
            Self::Mistral => "mistral:",
            Self::Older => "older:",
            Self::Other => "other:",
        }
    }

    /// The family's row of the matrix.
    ///
    /// Named tools: "Only supported by Anthropic Claude 3 and Amazon Nova models"
    /// (<https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ToolChoice.html>), and OpenAI's open models have been seen to
    /// take them (<https://github.com/langchain-ai/langchain-aws/issues/1278>), while DeepSeek's do not obey
    /// (<https://github.com/langchain-ai/langchain-aws/pull/1261>). Llama and Mistral: "This model doesn't support the
    /// toolConfig.toolChoice.tool field", and Llama no `any` either. Schemas:
    /// <https://docs.aws.amazon.com/bedrock/latest/userguide/structured-output.html>, whose list of models has no Llama and none
    /// of the older makers. Stop sequences: "This model doesn't support the stopSequences field" of gpt-oss and Qwen.
    pub const fn takes(self) -> Takes {
        match self {
            Self::Claude => Takes { named_tool: true, cache: true, effort: true, ..ALL },
            Self::OpenAi => Takes { named_tool: true, stop: false, effort: true, cache_in_input: true, ..ALL },
            Self::Qwen => Takes { stop: false, effort: true, ..ALL },
            Self::Nova => Takes { named_tool: true, cache: true, ..ALL },
            Self::Llama => Takes { forced_tool: false, schema: false, ..ALL },
            Self::Mistral => Takes { forced_tool: false, ..ALL },
            Self::Older => Takes { schema: false, ..ALL },
            Self::Other => ALL,
        }
    }

    /// What makes a `model` of this family keep to a constraint, with the target's setting `output`.
    pub(in crate::dialect) fn means(self, model: &str, output: StructuredOutput) -> Means {
        let takes = self.takes();
        if self == Self::Claude {
            return Model::of(model).means(output);
        }
        let tool_rules = if self == Self::Nova { &rules::NOVA_TOOL } else { &rules::BEDROCK_TOOL };
        Means {
            native: takes.schema && output == StructuredOutput::Native,
            strict_tools: false,
            forced_tool: takes.forced_tool,
            named_tool: takes.named_tool,
            worded: false,
            output_rules: &rules::BEDROCK,
            relaxed_rules: tool_rules,
            tool_rules,
        }
    }
}

/// What a request says about thinking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thinking {
    /// Nothing.
    Off,
    /// Claude's members.
    Claude(Thought),
    /// A field and a word (OpenAI's open models and Qwen).
    Word(&'static str, &'static str),
}

impl Thinking {
    /// What the request's effort means; the rest is as in [`Thought::choose`].
    ///
    /// # Errors
    /// A 400 for an unknown effort, or for one that the model cannot keep where the route rejects lost hints.
    pub(super) fn of(request: &Request<'_>, family: Family, terms: Terms, settled: &mut Settled) -> Result<Self, ApiError> {
        let key = match family {
            Family::Claude => {
                return Thought::choose(request, Model::of(request.model), terms, settled).map(Self::Claude);
            }
            Family::OpenAi => "reasoning_effort",
            Family::Qwen => "reasoning_config",
            Family::Nova | Family::Llama | Family::Mistral | Family::Older | Family::Other => {
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
        match self {
            Self::Off => false,
            Self::Claude(thought) => thought.is_told(),
            Self::Word(..) => true,
        }
    }

    /// Whether it is Claude, and its answer may have thinking in it.
    pub(super) fn claude_may_think(self) -> bool {
        matches!(self, Self::Claude(thought) if thought.may_think())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_id_names_its_family() {
        for (model, family) in [
            ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", Family::Claude),
            ("arn:aws:bedrock:us-east-1:1:inference-profile/eu.meta.llama3-3-70b-instruct-v1:0", Family::Llama),
            ("us.meta.llama4-maverick-17b-instruct-v1:0", Family::Llama),
            ("mistral.mistral-large-2407-v1:0", Family::Mistral),
            ("eu.mistral.pixtral-large-2502-v1:0", Family::Mistral),
            ("openai.gpt-oss-120b-1:0", Family::OpenAi),
            ("qwen.qwen3-32b-v1:0", Family::Qwen),
            ("us.amazon.nova-pro-v1:0", Family::Nova),
            ("cohere.command-r-plus-v1:0", Family::Older),
            ("amazon.titan-text-premier-v1:0", Family::Older),
            ("deepseek.v3-v1:0", Family::Other),
            ("arn:aws:bedrock:us-east-1:1:application-inference-profile/abc", Family::Other),
        ] {
            assert_eq!(Family::of(model), family, "{model}");
        }
    }
}
