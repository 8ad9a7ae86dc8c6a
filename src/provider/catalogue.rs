//! What is known of every provider kind: `catalogue.yaml`, read once.
//!
//! A provider that speaks OpenAI with its own habits is an entry of data there, and nothing else; what its keys mean is
//! the closed set of [`Quirks`]. Nothing in the dialects asks which provider it is.

use super::Kind;
use crate::dialect::shared::params::{Policy, Unknown};
use crate::dialect::shared::schema::rules::{self, Rules};
use crate::llm::field::Field;
use http::HeaderName;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

/// One kind's entry.
#[expect(clippy::manual_non_exhaustive, reason = "`rest` is read, and must be empty")]
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Entry {
    /// The provider's own base URL, without a trailing slash; empty where the operator must say it. `REGION` and
    /// `LOCATION` stand for the provider's settings.
    pub base_url: String,
    /// Whether a provider of this kind has an `api_key`.
    pub api_key: ApiKey,
    /// Header that takes the key, where that is not `authorization: Bearer KEY`.
    #[serde(deserialize_with = "header")]
    pub key_header: Option<HeaderName>,
    /// How the OpenAI dialect differs here.
    #[serde(flatten)]
    pub quirks: Quirks,
    /// A key that is none of these is a mistake.
    #[serde(flatten, deserialize_with = "nothing")]
    rest: (),
}

impl Entry {
    /// Whether the operator runs the server, so that only they know where it is and how it takes constraints.
    pub fn self_hosted(&self) -> bool {
        self.base_url.is_empty()
    }
}

/// Whether a provider has an `api_key`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApiKey {
    /// It needs one.
    #[default]
    Required,
    /// It may have one.
    Optional,
    /// It proves who pays in another way.
    None,
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
    /// Which JSON schemas it takes.
    pub schemas: Schemas,
    /// Content parts beside text that messages may have.
    pub parts: Vec<Part>,
    /// Whether the role `developer` exists; otherwise it is said as `system`.
    pub developer_role: bool,
    /// Whether content must be a string, so that an array of texts becomes one.
    pub flatten_text: bool,
    /// What becomes of an assistant turn's `reasoning_content`.
    pub reasoning: ReasoningTurns,
    /// Where an assistant turn's reasoning stands.
    pub reasoning_field: ReasoningField,
    /// What the provider needs back on the next turn, kept for clients that know OpenAI's members only.
    pub returns: Vec<Returned>,
    /// The words for `reasoning_effort` that are known; none: all of OpenAI's are.
    pub efforts: Vec<String>,
    /// Members (raw JSON) that turn thinking off, where that is no effort.
    pub reasoning_off: BTreeMap<String, String>,
    /// What a demanded tool call needs beside `tool_choice`.
    pub forced_tools: ForcedTools,
    /// Whether `tool_choice` can name a function; otherwise the tools are narrowed to it, and one is required.
    pub named_tools: bool,
    /// Whether `tool_choice` knows `allowed_tools`; otherwise the tools themselves are narrowed to them.
    pub allowed_tools: bool,
    /// Longest id of a tool call in a request, in bytes.
    pub call_id_max: Option<usize>,
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
            schemas: Schemas::Any,
            parts: vec![Part::ImageUrl, Part::File, Part::InputAudio],
            developer_role: true,
            flatten_text: false,
            reasoning: ReasoningTurns::Keep,
            reasoning_field: ReasoningField::ReasoningContent,
            returns: Vec::new(),
            efforts: Vec::new(),
            reasoning_off: BTreeMap::new(),
            forced_tools: ForcedTools::AsTheyCame,
            named_tools: true,
            allowed_tools: false,
            call_id_max: None,
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
    /// llama.cpp's `response_format` and `grammar`.
    LlamaCpp,
    /// `response_format` with a JSON schema or a grammar.
    Fireworks,
    /// `response_format` with a JSON schema or a regular expression.
    Together,
    /// Not at all.
    None,
}

/// Which JSON schemas a provider takes; `dialect::shared::schema::rules` has the lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schemas {
    /// All, as far as the gateway knows.
    Any,
    /// Those of OpenAI's strict mode, where a schema is strict, and tools without a union at the top.
    Openai,
    /// Mistral's.
    Mistral,
}

impl Schemas {
    /// The rules of JSON output and strict tools, and of other tools.
    pub const fn rules(self) -> Option<(&'static Rules, &'static Rules)> {
        match self {
            Self::Any => None,
            Self::Openai => Some((&rules::OPENAI, &rules::OPENAI_TOOL)),
            Self::Mistral => Some((&rules::MISTRAL, &rules::MISTRAL_TOOL)),
        }
    }
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

/// Where an assistant turn's reasoning stands. Answers have it under any name; this is the way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReasoningField {
    /// `reasoning_content`, or under the name that the client used.
    ReasoningContent,
    /// `reasoning` (vLLM from 0.12, Groq, OpenRouter).
    Reasoning,
    /// Between `<think>` tags in front of the content.
    Content,
}

/// What a provider needs back on the next turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Returned {
    /// The reasoning of a turn that called tools (DeepSeek, Kimi: "The `reasoning_content` in the thinking mode must be
    /// passed back to the API").
    Reasoning,
    /// `extra_content` of a call, where Google's OpenAI endpoint puts its thought signatures.
    ExtraContent,
}

impl ReasoningField {
    /// Its name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ReasoningContent => "reasoning_content",
            Self::Reasoning => "reasoning",
            Self::Content => "content",
        }
    }
}

impl Returned {
    /// Its name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reasoning => "reasoning",
            Self::ExtraContent => "extra_content",
        }
    }
}

/// What a demanded tool call needs beside `tool_choice`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ForcedTools {
    /// Nothing.
    AsTheyCame,
    /// Thinking turned off: a thinking model refuses a demanded call.
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

static ENTRIES: LazyLock<BTreeMap<String, Entry>> = LazyLock::new(|| parse(CATALOGUE).unwrap_or_default()); // a test parses it

const CATALOGUE: &str = include_str!("catalogue.yaml");

/// The names of all kinds, in order.
pub fn names() -> impl Iterator<Item = &'static str> {
    ENTRIES.keys().map(String::as_str)
}

/// The kind's entry.
pub fn entry(kind: Kind) -> &'static Entry {
    named(kind.name())
}

fn named(name: &str) -> &'static Entry {
    static EMPTY: LazyLock<Entry> = LazyLock::new(Entry::default);
    ENTRIES.get(name).unwrap_or(&EMPTY)
}

/// How the OpenAI dialect differs at this kind of provider, with the operator's own word on decoding constraints.
pub fn quirks(kind: Kind, guided: Option<Guided>) -> Quirks {
    // Two of the operator's words are two versions of vLLM; the others are other servers.
    let entry = match guided {
        Some(Guided::Sglang) => named("sglang"),
        Some(Guided::LlamaCpp) => named("llama_cpp"),
        _ => entry(kind),
    };
    let mut quirks = entry.quirks.clone();
    quirks.guided = guided.unwrap_or(quirks.guided);
    quirks
}

fn parse(text: &str) -> Result<BTreeMap<String, Entry>, String> {
    serde_saphyr::from_str(text).map_err(|e| e.to_string())
}

fn header<'de, D: Deserializer<'de>>(from: D) -> Result<Option<HeaderName>, D::Error> {
    let name = String::deserialize(from)?;
    HeaderName::from_bytes(name.as_bytes()).map(Some).map_err(serde::de::Error::custom)
}

fn nothing<'de, D: Deserializer<'de>>(from: D) -> Result<(), D::Error> {
    let rest = HashMap::<String, IgnoredAny>::deserialize(from)?;
    rest.keys().next().map_or(Ok(()), |key| Err(serde::de::Error::custom(format!("unknown key `{key}`"))))
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
    fn every_entry_is_a_kind_that_can_be_used_and_every_kind_has_an_entry() {
        assert_eq!(parse(CATALOGUE).map(|entries| entries.len()), Ok(Kind::all().count()));
        for kind in Kind::FOREIGN {
            assert_eq!(Kind::of(kind.name()), Some(kind));
        }
        for kind in Kind::all().filter(|kind| matches!(kind, Kind::OpenAi(_))) {
            let key = if entry(kind).api_key == ApiKey::Required { ", api_key: k" } else { "" };
            let base = if entry(kind).self_hosted() { ", base_url: \"http://127.0.0.1:1/v1\"" } else { "" };
            let text = format!(
                "auth: none\nproviders: {{ p: {{ kind: {}{key}{base} }} }}\nroutes: {{ r: {{ targets: [ {{ provider: p, model: m }} ] }} }}",
                kind.name()
            );
            let loaded = crate::config::parse(&text, "t.yaml", &|_| None).unwrap_or_else(|problems| panic!("{text}: {problems:?}"));
            let explained = crate::explain::explain(&loaded.snapshot.routes, "r").unwrap();
            assert!(explained.contains(kind.name()) && !explained.contains("every request is refused"), "{explained}");
        }
    }

    /// The example of the README is an entry as it stands there.
    #[test]
    fn a_new_kind_is_a_few_lines() {
        let readme = include_str!("../../README.md").split("## A new kind of provider").nth(1).unwrap();
        let example = readme.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
        let entries = parse(example).unwrap();
        assert_eq!(entries.len(), 1);
        let groq = &entries["groq"];
        assert_eq!((groq.base_url.as_str(), groq.api_key), ("https://api.groq.com/openai/v1", ApiKey::Required));
        assert_eq!(groq.quirks.policy(Field::N), Policy::Essential);
    }

    #[test]
    fn what_is_no_key_is_told() {
        assert!(parse("x: { base_ulr: y }").unwrap_err().contains("`base_ulr`"));
        assert!(parse("x: { lacks: [sed] }").unwrap_err().contains("`sed`"));
    }

    #[test]
    fn entries_say_what_they_should() {
        assert_eq!(entry(Kind::OpenAi("openai")).base_url, "https://api.openai.com/v1");
        assert_eq!(entry(Kind::Anthropic).key_header, Some(HeaderName::from_static("x-api-key")));
        let deepseek = quirks(Kind::OpenAi("deepseek"), None);
        assert_eq!((deepseek.policy(Field::Seed), deepseek.policy(Field::N)), (Policy::Hint, Policy::Essential));
        assert_eq!(deepseek.policy(Field::ChatTemplate), Policy::Essential);
        assert_eq!(quirks(Kind::OpenAi("vllm"), None).policy(Field::ChatTemplate), Policy::Mapped);
        let has = |kind| quirks(kind, None).embeddings.is_some();
        assert_eq!(
            [Kind::OpenAi("openai"), Kind::Mistral, Kind::OpenAi("deepseek"), Kind::OpenAi("hyperbolic"), Kind::OpenAi("xai")].map(has),
            [true, true, false, false, false]
        );
        assert_eq!(quirks(Kind::OpenAi("together"), None).embeddings.unwrap().dimensions, None);
        assert_eq!(quirks(Kind::OpenAi("openai_compatible"), Some(Guided::Sglang)).guided, Guided::Sglang);
    }
}
