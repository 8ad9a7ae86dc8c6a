//! What is known of every provider kind: `catalogue.yaml`, read once.
//!
//! A provider that speaks OpenAI with its own habits is an entry of data there; what its keys mean is the closed set of
//! [`Quirks`]. Nothing in the dialects asks which provider it is.

use super::{GuidedStyle, Kind};
use crate::chat::field::Field;
use crate::dialect::params::{Policy, Unknown};
use serde::{Deserialize, Deserializer};
use std::collections::HashMap;
use std::sync::LazyLock;

/// One kind's entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Entry {
    /// The provider's own base URL, without a trailing slash; empty where the operator must say it. `REGION` and
    /// `LOCATION` stand for the provider's settings.
    #[serde(default)]
    pub base_url: String,
    /// Header that takes the key, where that is not `authorization: Bearer KEY`.
    #[serde(default)]
    pub key_header: Option<String>,
    /// How the OpenAI dialect differs here.
    #[serde(flatten)]
    pub quirks: Quirks,
}

/// How the OpenAI dialect differs at one provider: a closed set.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Quirks {
    /// Path below the base URL.
    pub path: String,
    /// Highest temperature, as raw JSON.
    pub temperature_max: Option<String>,
    /// Highest `top_logprobs`.
    pub top_logprobs_max: Option<u64>,
    /// How the answer's token limit is spelled.
    pub max_tokens: MaxTokens,
    /// Fields without a counterpart.
    #[serde(deserialize_with = "fields")]
    pub lacks: Vec<Field>,
    /// Serving extras that the provider knows.
    #[serde(deserialize_with = "fields")]
    pub extras: Vec<Field>,
    /// Fields that have another name there.
    #[serde(deserialize_with = "renames")]
    pub rename: Vec<(Field, String)>,
    /// What becomes of members that the gateway does not know.
    #[serde(deserialize_with = "unknown")]
    pub unknown: Unknown,
    /// Whether `stream_options.include_usage` is known; otherwise usage comes unasked.
    pub usage_option: bool,
    /// How a decoding constraint is said.
    pub guided: Guided,
    /// Whether `response_format` knows `json_schema`.
    pub json_schema: bool,
    /// Content parts beside text that messages may have.
    pub parts: Vec<Part>,
    /// Whether the role `developer` exists; otherwise it is said as `system`.
    pub developer_role: bool,
    /// Whether content must be a string, so that an array of texts becomes one.
    pub flatten_text: bool,
    /// What becomes of an assistant turn's `reasoning_content`.
    pub reasoning: ReasoningTurns,
    /// What a demanded tool call needs beside `tool_choice`.
    pub forced_tools: ForcedTools,
    /// Whether `tool_choice` knows `allowed_tools`; otherwise the tools themselves are narrowed to them.
    pub allowed_tools: bool,
    /// Whether a single stop must be an array too.
    pub stop_list: bool,
    /// Whether `logprobs` is the number of alternatives.
    pub logprobs_number: bool,
    /// Whether usage counts reasoning beside `completion_tokens`, so that completion is total - prompt.
    pub completion_excludes_reasoning: bool,
    /// What its embeddings know, where it has any.
    pub embeddings: Option<Embeddings>,
}

/// How OpenAI's embeddings differ at one provider.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Embeddings {
    /// Path below the base URL.
    pub path: String,
    /// What `dimensions` is called there; `None` where vectors have one length only.
    pub dimensions: Option<String>,
    /// Whether `encoding_format` is known; otherwise vectors come as numbers.
    pub encoding_format: bool,
    /// Whether `user` is known.
    pub user: bool,
    /// Whether `input` may be token numbers.
    pub tokens: bool,
}

impl Default for Embeddings {
    /// OpenAI's own.
    fn default() -> Self {
        Self { path: "/embeddings".into(), dimensions: Some("dimensions".into()), encoding_format: true, user: true, tokens: true }
    }
}

impl Default for Quirks {
    /// OpenAI's protocol as it is written, with nothing left out.
    fn default() -> Self {
        Self {
            path: "/chat/completions".into(),
            temperature_max: None,
            top_logprobs_max: None,
            max_tokens: MaxTokens::AsItCame,
            lacks: Vec::new(),
            extras: Vec::new(),
            rename: Vec::new(),
            unknown: Unknown::Pass,
            usage_option: true,
            guided: Guided::ResponseFormat,
            json_schema: true,
            parts: vec![Part::ImageUrl, Part::File, Part::InputAudio],
            developer_role: true,
            flatten_text: false,
            reasoning: ReasoningTurns::Keep,
            forced_tools: ForcedTools::AsTheyCame,
            allowed_tools: false,
            stop_list: false,
            logprobs_number: false,
            completion_excludes_reasoning: false,
            embeddings: Some(Embeddings::default()),
        }
    }
}

/// How the answer's token limit is spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaxTokens {
    /// Either spelling is taken.
    AsItCame,
    /// `max_tokens` only.
    MaxTokens,
    /// `max_completion_tokens` only.
    MaxCompletionTokens,
}

/// How a decoding constraint is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Guided {
    /// `response_format` with a JSON schema, and nothing for expressions and grammars.
    ResponseFormat,
    /// vLLM's `structured_outputs` (0.12 and later).
    StructuredOutputs,
    /// vLLM's `guided_*` (before 0.12), as they come.
    Legacy,
    /// SGLang's `response_format`, `regex` and `ebnf`.
    Sglang,
    /// `response_format` with a JSON schema or a grammar.
    Fireworks,
    /// `response_format` with a JSON schema or a regular expression.
    Together,
    /// Not at all.
    None,
}

/// A content part beside text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// `image_url`.
    ImageUrl,
    /// `file`.
    File,
    /// `input_audio`.
    InputAudio,
}

impl Part {
    /// The part's `type`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ImageUrl => "image_url",
            Self::File => "file",
            Self::InputAudio => "input_audio",
        }
    }
}

/// What becomes of an assistant turn's `reasoning_content`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReasoningTurns {
    /// Sent as it came.
    Keep,
    /// Sent with turns that called tools, which the provider demands; left out otherwise.
    ToolTurns,
    /// Left out.
    Strip,
}

/// What a demanded tool call needs beside `tool_choice`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ForcedTools {
    /// Nothing.
    AsTheyCame,
    /// `thinking: {"type": "disabled"}`: a thinking model refuses a demanded call.
    WithoutThinking,
}

impl Quirks {
    /// What becomes of a field here. Constraints and content are mapped: their encoders refuse what cannot be kept.
    pub fn policy(&self, field: Field) -> Policy {
        match field {
            Field::ChatTemplate | Field::ChatTemplateKwargs | Field::MmProcessorKwargs => Policy::of(field, &self.extras),
            Field::GuidedDecodingBackend if self.guided != Guided::Legacy => Policy::Hint,
            Field::GuidedWhitespacePattern if !matches!(self.guided, Guided::Legacy | Guided::StructuredOutputs) => Policy::Hint,
            _ if self.lacks.contains(&field) => Policy::when_lost(field),
            _ => Policy::Mapped,
        }
    }
}

/// The kind's entry.
pub fn entry(kind: Kind) -> &'static Entry {
    static EMPTY: LazyLock<Entry> = LazyLock::new(Entry::default);
    static ENTRIES: LazyLock<HashMap<String, Entry>> = LazyLock::new(|| parse().unwrap_or_default()); // a test parses it
    ENTRIES.get(kind.name()).unwrap_or(&EMPTY)
}

/// How the OpenAI dialect differs at this kind of provider, with the operator's own word on decoding constraints.
pub fn quirks(kind: Kind, guided: Option<GuidedStyle>) -> Quirks {
    let mut quirks = entry(kind).quirks.clone();
    if let Some(style) = guided {
        quirks.guided = match style {
            GuidedStyle::StructuredOutputs => Guided::StructuredOutputs,
            GuidedStyle::Legacy => Guided::Legacy,
            GuidedStyle::SgLang => Guided::Sglang,
        };
    }
    quirks
}

fn parse() -> Result<HashMap<String, Entry>, String> {
    serde_saphyr::from_str(include_str!("catalogue.yaml")).map_err(|e| e.to_string())
}

fn fields<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Field>, D::Error> {
    let names = Vec::<String>::deserialize(from)?;
    names.iter().map(|name| field(name)).collect()
}

fn renames<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<(Field, String)>, D::Error> {
    let names = HashMap::<String, String>::deserialize(from)?;
    names.into_iter().map(|(from, to)| Ok((field(&from)?, to))).collect()
}

fn field<E: serde::de::Error>(name: &str) -> Result<Field, E> {
    Field::of(name.as_bytes()).ok_or_else(|| E::custom(format!("`{name}` is no field")))
}

fn unknown<'de, D: Deserializer<'de>>(from: D) -> Result<Unknown, D::Error> {
    match &*String::deserialize(from)? {
        "pass" => Ok(Unknown::Pass),
        "drop" => Ok(Unknown::Drop),
        _ => Err(serde::de::Error::custom("`unknown` is pass or drop")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_parses_and_has_every_kind() {
        let entries = parse().unwrap();
        for &kind in Kind::ALL {
            assert!(entries.contains_key(kind.name()), "{}", kind.name());
        }
        assert_eq!(entries.len(), Kind::ALL.len());
    }

    #[test]
    fn every_key_of_the_catalogue_is_known() {
        // `flatten` and `deny_unknown_fields` exclude each other, so a misspelled key is found here.
        let known = [
            "base_url",
            "key_header",
            "path",
            "temperature_max",
            "top_logprobs_max",
            "max_tokens",
            "lacks",
            "extras",
            "rename",
            "unknown",
            "usage_option",
            "guided",
            "json_schema",
            "parts",
            "developer_role",
            "flatten_text",
            "reasoning",
            "forced_tools",
            "stop_list",
            "allowed_tools",
            "logprobs_number",
            "completion_excludes_reasoning",
            "embeddings",
        ];
        let all: HashMap<String, HashMap<String, serde_json::Value>> = serde_saphyr::from_str(include_str!("catalogue.yaml")).unwrap();
        for (kind, entry) in all {
            for key in entry.keys() {
                assert!(known.contains(&key.as_str()), "{kind}.{key}");
            }
        }
    }

    #[test]
    fn entries_say_what_they_should() {
        assert_eq!(entry(Kind::OpenAi).base_url, "https://api.openai.com/v1");
        assert_eq!(entry(Kind::Anthropic).key_header.as_deref(), Some("x-api-key"));
        let deepseek = quirks(Kind::DeepSeek, None);
        assert_eq!((deepseek.policy(Field::Seed), deepseek.policy(Field::N)), (Policy::Hint, Policy::Essential));
        assert_eq!(deepseek.policy(Field::ChatTemplate), Policy::Essential);
        assert_eq!(quirks(Kind::Vllm, None).policy(Field::ChatTemplate), Policy::Mapped);
        let has = |kind| quirks(kind, None).embeddings.is_some();
        assert_eq!([Kind::OpenAi, Kind::Mistral, Kind::DeepSeek, Kind::Hyperbolic, Kind::Xai].map(has), [true, true, false, false, false]);
        assert_eq!(quirks(Kind::Together, None).embeddings.unwrap().dimensions, None);
        assert_eq!(quirks(Kind::OpenAiCompatible, Some(GuidedStyle::SgLang)).guided, Guided::Sglang);
    }
}
