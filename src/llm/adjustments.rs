//! What a target has taught by refusing requests, and how those that follow are written therefore.

use super::field::{Field, Fields};
use std::fmt::{Display, Formatter, Result};

/// One change of the requests to a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adjustment {
    /// This field is left out.
    Without(Field),
    /// At most this many tokens are asked for.
    MaxTokens(u64),
    /// The limit of tokens is spelled by this field, [`Field::MaxTokens`] or [`Field::MaxCompletionTokens`].
    MaxTokensAs(Field),
    /// A request with tools does without reasoning, or goes to another API of the provider's.
    ToolsWithoutReasoning,
    /// All instructions stand in one message, which is the first.
    SystemFirst,
    /// Nothing says up to where the prompt is cached.
    WithoutCacheMarks,
    /// Reasoning is not asked for in encrypted form, which only models that reason have.
    PlainReasoning,
}

impl Adjustment {
    /// The member of a chat completion that it is about.
    pub const fn field(self) -> Field {
        match self {
            Self::Without(field) | Self::MaxTokensAs(field) => field,
            Self::MaxTokens(_) => Field::MaxTokens,
            Self::ToolsWithoutReasoning | Self::PlainReasoning => Field::ReasoningEffort,
            Self::SystemFirst | Self::WithoutCacheMarks => Field::Messages,
        }
    }

    /// Whether the other one takes its place.
    pub fn is_replaced_by(self, other: Self) -> bool {
        self == other || matches!((self, other), (Self::MaxTokens(_), Self::MaxTokens(_)) | (Self::MaxTokensAs(_), Self::MaxTokensAs(_)))
    }
}

/// What happens to the member, for a log line or a page.
impl Display for Adjustment {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Without(_) => f.write_str("left out"),
            Self::MaxTokens(limit) => write!(f, "at most {limit}"),
            Self::MaxTokensAs(_) => f.write_str("the spelling of the limit of tokens"),
            Self::ToolsWithoutReasoning => f.write_str("not beside tools in chat completions"),
            Self::SystemFirst => f.write_str("instructions in one first message"),
            Self::WithoutCacheMarks => f.write_str("without cache marks"),
            Self::PlainReasoning => f.write_str("not asked for in encrypted form"),
        }
    }
}

/// All changes of the requests to one target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Adjustments {
    /// The fields that are left out.
    pub without: Fields,
    /// See [`Adjustment::MaxTokens`].
    pub max_tokens: Option<u64>,
    /// See [`Adjustment::MaxTokensAs`].
    pub max_tokens_as: Option<Field>,
    /// See [`Adjustment::ToolsWithoutReasoning`].
    pub tools_without_reasoning: bool,
    /// See [`Adjustment::SystemFirst`].
    pub system_first: bool,
    /// See [`Adjustment::WithoutCacheMarks`].
    pub without_cache_marks: bool,
    /// See [`Adjustment::PlainReasoning`].
    pub plain_reasoning: bool,
}

impl Adjustments {
    /// The changes that leave these fields out.
    pub const fn without(fields: Fields) -> Self {
        Self {
            without: fields,
            max_tokens: None,
            max_tokens_as: None,
            tools_without_reasoning: false,
            system_first: false,
            without_cache_marks: false,
            plain_reasoning: false,
        }
    }

    /// Adds a change. Returns whether it changes anything.
    pub fn insert(&mut self, one: Adjustment) -> bool {
        let before = *self;
        match one {
            Adjustment::Without(field) => self.without.insert(field),
            Adjustment::MaxTokens(limit) => self.max_tokens = Some(self.max_tokens.map_or(limit, |known| known.min(limit))),
            Adjustment::MaxTokensAs(field) => self.max_tokens_as = Some(field),
            Adjustment::ToolsWithoutReasoning => self.tools_without_reasoning = true,
            Adjustment::SystemFirst => self.system_first = true,
            Adjustment::WithoutCacheMarks => self.without_cache_marks = true,
            Adjustment::PlainReasoning => self.plain_reasoning = true,
        }
        *self != before
    }

    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
