//! How the OpenAI dialect differs at one kind of provider: a closed set of keys of the catalogue.

use crate::dialect::shared::params::{Policy, Unknown};
use crate::dialect::shared::schema::rules::{self, Rules};
use crate::llm::endpoint::Endpoint;
use crate::llm::field::Field;
use crate::percent;
use crate::yaml::section::{section, words};
use crate::yaml::value::{OrNone, scalars};

section! {
    plain
    /// How the OpenAI dialect differs at one kind of provider. The defaults are OpenAI's protocol as it is written.
    Quirks {
        /// Path below the base URL, in which `{model}` stands for the model.
        path: String = "/chat/completions",
        /// Whether the provider has the Responses API, at `/responses` below the base URL.
        responses: bool = "false",
        /// Highest temperature, as raw JSON; a higher one is clamped.
        temperature_max: Option<String>,
        /// Highest `top_logprobs`; a higher one is clamped.
        top_logprobs_max: Option<u64>,
        /// The one spelling of the answer's token limit that is accepted.
        max_tokens: MaxTokens = "as_it_came",
        /// Fields without a counterpart: hints are dropped and named, others are a 400.
        lacks: Vec<Field>,
        /// Serving extras that the provider knows.
        extras: Vec<Field>,
        /// Fields that have another name there.
        rename: Vec<(Field, String)>,
        /// What becomes of members that the gateway does not know.
        unknown: Unknown = "pass",
        /// Whether `stream_options.include_usage` is known; otherwise usage comes unasked.
        usage_option: bool = "true",
        /// How a decoding constraint is written.
        guided: Guided = "response_format",
        /// Whether `response_format` knows `json_schema`.
        json_schema: bool = "true",
        /// Which JSON schemas are accepted.
        schemas: Schemas = "any",
        /// Whether messages may have a `name`; otherwise it is left out.
        message_names: bool = "true",
        /// Content parts beside text that messages may have.
        parts: Vec<Part> = "[image_url, file, input_audio]",
        /// Whether the role `developer` exists; otherwise it is sent as `system`.
        developer_role: bool = "false",
        /// Whether an assistant's message may be empty; otherwise it is left out.
        empty_turns: bool = "true",
        /// Whether `cache_control` may stand in messages and tools; otherwise it is left out.
        cache_marks: bool = "true",
        /// Whether content must be a string, so that an array of texts becomes one.
        flatten_text: bool = "false",
        /// What becomes of an assistant turn's `reasoning_content`.
        reasoning: ReasoningTurns = "keep",
        /// Where an assistant turn's reasoning stands.
        reasoning_field: ReasoningField = "reasoning_content",
        /// Whether the server rejects an assistant turn without reasoning in a conversation with calls. Such a turn gets blank
        /// reasoning.
        reasoning_required: bool = "false",
        /// What the provider needs back on the next turn, sealed in tool-call ids for clients that know OpenAI's members only.
        returns: Vec<Returned>,
        /// The words for `reasoning_effort` that are known; none: all of OpenAI's are.
        efforts: Vec<String>,
        /// Members (raw JSON) that turn thinking off, sent where the effort `none` is asked for.
        reasoning_off: Vec<(String, String)>,
        /// What a demanded tool call needs beside `tool_choice`.
        forced_tools: ForcedTools = "as_they_came",
        /// What `tool_choice` can say. Another choice is written with what there is, or a 400.
        tool_choices: Vec<Choice> = "[none, auto, required, named]",
        /// Whether `tool_choice` knows `allowed_tools`; otherwise the tools themselves are narrowed to them.
        allowed_tools: bool = "false",
        /// Whether the server rejects two tools of one name. The first of them is sent.
        unique_tools: bool = "false",
        /// Longest `user`, in characters, at least 64; a longer one is hashed.
        user_max: Option<usize>,
        /// Longest id of a tool call in a request, in bytes; a longer one is hashed.
        call_id_max: Option<usize>,
        /// Whether a single stop must be an array too.
        stop_list: bool = "false",
        /// Whether `logprobs` is the number of alternatives.
        logprobs_number: bool = "false",
        /// Whether usage counts reasoning beside `completion_tokens`, so that completion is total - prompt.
        completion_excludes_reasoning: bool = "false",
        /// The endpoints that it has beside those of chat, embeddings and Responses; requests pass to them as they are.
        endpoints: Vec<Endpoint>,
        /// Paths below the base URL of those that are elsewhere than at OpenAI.
        endpoint_paths: Vec<(Endpoint, String)>,
        /// How its embeddings differ; `none` where it has none.
        embeddings: OrNone<Embeddings> = "{}",
    }
}

section! {
    plain
    /// How OpenAI's embeddings differ at one kind of provider.
    Embeddings {
        /// Path below the base URL, in which `{model}` stands for the model.
        path: String = "/embeddings",
        /// What `dimensions` is called there; `none` where vectors have one length only.
        dimensions: OrNone<String> = "dimensions",
        /// Whether `encoding_format` is known; otherwise vectors come as numbers.
        encoding_format: bool = "true",
        /// Whether `user` is known.
        user: bool = "true",
        /// Whether `input` may be token numbers.
        tokens: bool = "true",
    }
}

/// A path of the catalogue, with the model in the place of `{model}`.
pub fn path(template: &str, model: &str) -> String {
    match template.split_once("{model}") {
        Some((before, after)) => [before, &percent::segment(model), after].concat(),
        None => template.to_owned(),
    }
}

impl Quirks {
    /// Whether `tool_choice` can say this.
    pub fn can_choose(&self, choice: Choice) -> bool {
        self.tool_choices.contains(&choice)
    }

    /// The path of an endpoint below the base URL; `None` where the provider does not have it.
    pub fn endpoint(&self, endpoint: Endpoint) -> Option<&str> {
        let elsewhere = || self.endpoint_paths.iter().find(|(other, _)| *other == endpoint).map(|(_, path)| path.as_str());
        self.endpoints.contains(&endpoint).then(|| elsewhere().unwrap_or(endpoint.path()))
    }

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

words! {
    /// How the answer's token limit is spelled.
    MaxTokens {
        /// Either spelling is accepted.
        AsItCame = "as_it_came",
        /// `max_tokens` only.
        MaxTokens = "max_tokens",
        /// `max_completion_tokens` only.
        MaxCompletionTokens = "max_completion_tokens",
    }

    /// How a decoding constraint is written.
    Guided {
        /// `response_format` with a JSON schema, and nothing for expressions and grammars.
        ResponseFormat = "response_format",
        /// vLLM's `structured_outputs` (0.12 and later).
        StructuredOutputs = "structured_outputs",
        /// vLLM's `guided_*` (before 0.12), as they come.
        Legacy = "legacy",
        /// SGLang's `response_format`, `regex` and `ebnf`.
        Sglang = "sglang",
        /// llama.cpp's `response_format` and `grammar`.
        LlamaCpp = "llama_cpp",
        /// `response_format` with a JSON schema or a grammar.
        Fireworks = "fireworks",
        /// `response_format` with a JSON schema or a regular expression.
        Together = "together",
        /// Not at all.
        None = "none",
    }

    /// Which JSON schemas a provider accepts; [`rules`] has the lists.
    Schemas {
        /// All, as far as the gateway knows.
        Any = "any",
        /// Those of OpenAI's strict mode, where a schema is strict, and tools without a union at the top.
        Openai = "openai",
        /// Mistral's.
        Mistral = "mistral",
    }
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

words! {
    /// A content part beside text.
    Part {
        /// `image_url`.
        ImageUrl = "image_url",
        /// `file`.
        File = "file",
        /// `input_audio`.
        InputAudio = "input_audio",
    }

    /// What becomes of an assistant turn's `reasoning_content`.
    ReasoningTurns {
        /// Sent as it came.
        Keep = "keep",
        /// Left out.
        Strip = "strip",
    }

    /// Where an assistant turn's reasoning stands. Answers have it under any name; this is the way back.
    ReasoningField {
        /// `reasoning_content`, or under the name that the client used.
        ReasoningContent = "reasoning_content",
        /// `reasoning` (vLLM from 0.12, Groq, OpenRouter).
        Reasoning = "reasoning",
        /// Between `<think>` tags in front of the content.
        Content = "content",
    }

    /// What a provider needs back on the next turn.
    Returned {
        /// The reasoning of a turn that called tools (DeepSeek, Kimi: "The `reasoning_content` in the thinking mode must be
        /// passed back to the API").
        Reasoning = "reasoning",
        /// `reasoning_details` of a turn that called tools: a model behind OpenRouter has its signatures there.
        /// <https://openrouter.ai/docs/use-cases/reasoning-tokens#preserving-reasoning-blocks>
        ReasoningDetails = "reasoning_details",
        /// `extra_content` of a call, where Google's OpenAI endpoint puts its thought signatures.
        ExtraContent = "extra_content",
    }

    /// What `tool_choice` says.
    Choice {
        /// `none`. Where it is missing, no tools are sent.
        None = "none",
        /// `auto`. Where it is missing, nothing is said, which means the same.
        Auto = "auto",
        /// `required`. Where it is missing, the function is named if there is only one.
        Required = "required",
        /// A function by its name. Where it is missing, the tools are narrowed to it, and one is required.
        Named = "named",
    }

    /// What a demanded tool call needs beside `tool_choice`.
    ForcedTools {
        /// Nothing.
        AsTheyCame = "as_they_came",
        /// Thinking turned off: a thinking model refuses a demanded call.
        WithoutThinking = "without_thinking",
    }
}

scalars!(Field, "a field", { "type": "string" }, |name| Field::of(name.as_bytes()));
