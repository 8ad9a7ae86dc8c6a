//! The top-level fields of a chat-completions request: their names, their types, and what losing one would mean.

/// What a field's value must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A string.
    Text,
    /// A finite number.
    Number,
    /// A whole number.
    Integer,
    /// `true` or `false`.
    Flag,
    /// An array.
    List,
    /// An object.
    Object,
    /// A string or an array.
    TextOrList,
    /// A string or an object.
    TextOrObject,
    /// Left to the provider.
    Any,
}

macro_rules! fields {
    ($($(#[$doc:meta])* $variant:ident = $name:literal : $shape:ident),+ $(,)?) => {
        /// A field that the gateway knows. Every other one is "unknown" and passes through to open dialects.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Field { $($(#[$doc])* #[doc = concat!("`", $name, "`")] $variant),+ }

        impl Field {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Field] = &[$(Field::$variant),+];

            /// The client's name for it.
            pub const fn name(self) -> &'static str {
                match self { $(Field::$variant => $name),+ }
            }

            /// What its value must be (null counts as absent).
            pub const fn shape(self) -> Shape {
                match self { $(Field::$variant => Shape::$shape),+ }
            }

            /// The field of this name.
            #[allow(non_upper_case_globals, reason = "a pattern for each variant, by its name")]
            pub fn of(name: &[u8]) -> Option<Self> {
                $(const $variant: &[u8] = $name.as_bytes();)+
                match name {
                    $($variant => Some(Field::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

/// What it means for an answer to go without a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The answer means the same: the parameter is left out and named.
    Hint,
    /// The answer would be another one: a 400 that names the parameter.
    Essential,
}

impl Field {
    /// What losing it means. `None` for what every dialect and the gateway itself handle.
    pub const fn loss(self) -> Option<Loss> {
        Some(match self {
            Self::Model | Self::Messages | Self::Stream | Self::StreamOptions | Self::EpisodeId | Self::TensorzeroEpisodeId => return None,
            Self::N
            | Self::Tools
            | Self::ToolChoice
            | Self::Functions
            | Self::FunctionCall
            | Self::ResponseFormat
            | Self::GuidedJson
            | Self::GuidedRegex
            | Self::GuidedChoice
            | Self::GuidedGrammar
            | Self::StructuralTag
            | Self::StructuredOutputs
            | Self::Regex
            | Self::Ebnf
            | Self::JsonSchema
            | Self::Grammar
            | Self::ChatTemplate
            | Self::Moderation
            | Self::Modalities
            | Self::Audio
            | Self::WebSearchOptions => Loss::Essential,
            _ => Loss::Hint,
        })
    }
}

/// A set of fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fields(u64);

impl Fields {
    /// The set of these fields.
    pub const fn of(fields: &[Field]) -> Self {
        const { assert!(Field::ALL.len() <= u64::BITS as usize) };
        let mut set = Self(0);
        let mut rest = fields;
        while let [field, others @ ..] = rest {
            set.0 |= 1 << *field as u8;
            rest = others;
        }
        set
    }

    /// The set with one more field.
    pub const fn with(mut self, field: Field) -> Self {
        self.insert(field);
        self
    }

    /// Adds a field.
    pub const fn insert(&mut self, field: Field) {
        self.0 |= 1 << field as u8;
    }

    /// The fields that are in both.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Its fields in the order of their numbers.
    pub fn iter(self) -> impl Iterator<Item = Field> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let field = Field::ALL.get(rest.trailing_zeros() as usize)?;
            rest &= rest - 1;
            Some(*field)
        })
    }

    /// Whether a field is in it.
    pub const fn contains(self, field: Field) -> bool {
        self.0 & (1 << field as u8) != 0
    }

    /// Whether it has none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<Field> for Fields {
    fn from_iter<T: IntoIterator<Item = Field>>(fields: T) -> Self {
        fields.into_iter().fold(Self::default(), Self::with)
    }
}

fields! {
    Model = "model": Text,
    Messages = "messages": List,
    Stream = "stream": Flag,
    StreamOptions = "stream_options": Object,
    MaxTokens = "max_tokens": Integer,
    MaxCompletionTokens = "max_completion_tokens": Integer,
    Temperature = "temperature": Number,
    TopP = "top_p": Number,
    FrequencyPenalty = "frequency_penalty": Number,
    PresencePenalty = "presence_penalty": Number,
    Stop = "stop": TextOrList,
    Seed = "seed": Integer,
    N = "n": Integer,
    Tools = "tools": List,
    ToolChoice = "tool_choice": TextOrObject,
    ParallelToolCalls = "parallel_tool_calls": Flag,
    ResponseFormat = "response_format": Object,
    ReasoningEffort = "reasoning_effort": Text,
    Logprobs = "logprobs": Flag,
    TopLogprobs = "top_logprobs": Integer,
    LogitBias = "logit_bias": Object,
    User = "user": Text,
    Metadata = "metadata": Object,
    Store = "store": Flag,
    ServiceTier = "service_tier": Text,
    Verbosity = "verbosity": Text,
    PromptCacheKey = "prompt_cache_key": Text,
    PromptCacheRetention = "prompt_cache_retention": Text,
    PromptCacheOptions = "prompt_cache_options": Object,
    SafetyIdentifier = "safety_identifier": Text,
    Prediction = "prediction": Object,
    Moderation = "moderation": Object,
    Modalities = "modalities": List,
    Audio = "audio": Object,
    WebSearchOptions = "web_search_options": Object,
    Functions = "functions": List,
    FunctionCall = "function_call": TextOrObject,
    ChatTemplate = "chat_template": Text,
    ChatTemplateKwargs = "chat_template_kwargs": Object,
    MmProcessorKwargs = "mm_processor_kwargs": Object,
    GuidedJson = "guided_json": Any,
    GuidedRegex = "guided_regex": Text,
    GuidedChoice = "guided_choice": List,
    GuidedGrammar = "guided_grammar": Text,
    StructuralTag = "structural_tag": TextOrObject,
    StructuredOutputs = "structured_outputs": Object,
    Regex = "regex": Text,
    Ebnf = "ebnf": Text,
    JsonSchema = "json_schema": TextOrObject,
    Grammar = "grammar": TextOrObject,
    GuidedDecodingBackend = "guided_decoding_backend": Text,
    GuidedWhitespacePattern = "guided_whitespace_pattern": Text,
    EpisodeId = "episode_id": Text,
    TensorzeroEpisodeId = "tensorzero::episode_id": Text,
}

/// The fields beside `response_format` that hold a decoding constraint: vLLM's before and from 0.12, SGLang's, llama.cpp's
/// and TGI's.
pub const GUIDED: [Field; 10] = [
    Field::GuidedJson,
    Field::GuidedChoice,
    Field::GuidedRegex,
    Field::GuidedGrammar,
    Field::StructuralTag,
    Field::StructuredOutputs,
    Field::Regex,
    Field::Ebnf,
    Field::JsonSchema,
    Field::Grammar,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_and_no_other() {
        for field in Field::ALL {
            assert_eq!(Field::of(field.name().as_bytes()), Some(*field));
            for other in [format!("{}_", field.name()), field.name().to_uppercase(), field.name().replace('e', "a")] {
                assert!(Field::of(other.as_bytes()).is_none_or(|found| found.name() == other), "{other}");
            }
        }
        assert_eq!((Field::of(b""), Field::of(b"x"), Field::of(b"n")), (None, None, Some(Field::N)));
    }
}
