//! Vertex AI serves many publishers: Google's models by Gemini's protocol, Claude by Anthropic's, everybody else by an
//! endpoint that speaks OpenAI under Google's path. The target's model names the publisher.

use crate::dialect::anthropic::{self, Host, Seat, VERTEX_PREFIX, VERTEX_VERSION};
use crate::dialect::gemini::Gemini;
use crate::dialect::gemini::{embeddings, encode, error};
use crate::dialect::openai::quirks::Quirks;
use crate::dialect::openai::{OpenAi, ServerKeys};
use crate::dialect::shared::blame::Names;
use crate::dialect::shared::claude::{ClaudeKeys, DEFAULT_MAX_TOKENS, StructuredOutput};
use crate::dialect::shared::schema::rules::Rules;
use crate::dialect::{Configure, Dialect, Outgoing, Setup};
use crate::error::ApiError;
use crate::llm::embeddings::EmbeddingRequest;
use crate::llm::failure::ProviderError;
use crate::llm::request::Ask;
use crate::percent;
use crate::sign::credential::GoogleKeys;
use crate::yaml::read::Reader;
use crate::yaml::section::section;
use crate::yaml::value::At;
use http::HeaderMap;
use std::sync::Arc;

/// Who publishes a model of Vertex AI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publisher {
    /// `gemini-…` or `google/…`.
    Google,
    /// `anthropic/…`.
    Anthropic,
    /// Any other `publisher/model`.
    Other,
}

impl Publisher {
    /// The publisher of a model.
    pub fn of(model: &str) -> Self {
        match model.split_once('/') {
            None | Some(("google", _)) => Self::Google,
            Some(("anthropic", _)) => Self::Anthropic,
            Some(_) => Self::Other,
        }
    }
}

/// Vertex AI: the protocol of the model's publisher.
#[derive(Clone)]
pub struct Vertex {
    /// The path of everything in its project's location.
    pub location: Arc<str>,
    /// The dialect of other publishers' models.
    pub openai: OpenAi,
    /// `max_tokens` of a Claude model where the client gives none.
    pub default_max_tokens: u32,
    /// How a Claude model is held to a JSON schema.
    pub structured_output: StructuredOutput,
}

section! {
    /// Keys of providers that are projects of Google Cloud.
    ProjectKeys {
        /// Google Cloud project (vertex).
        project: Option<At<String>>,
        /// Google Cloud location, or `global` (vertex).
        location: Option<At<String>>,
    }
}

impl Configure for Vertex {
    type ProviderKeys = ((ProjectKeys, GoogleKeys), ServerKeys);
    type TargetKeys = ClaudeKeys;

    fn configure(setup: &mut Setup<'_>, ((keys, google), server): &Self::ProviderKeys, cx: &mut Reader<'_>) -> Option<Self> {
        let project = setup.host_part("project", keys.project.as_ref(), (keys.at, &keys.written), cx);
        let location = setup.host_part("location", keys.location.as_ref(), (keys.at, &keys.written), cx);
        setup.credential = Some(google.credential(cx));
        let (project, location) = (project?, location?);
        setup.base_url = match location.as_str() {
            "global" => "https://aiplatform.googleapis.com".to_owned(),
            "us" | "eu" => format!("https://aiplatform.{location}.rep.googleapis.com"),
            _ => setup.base_url.replace("LOCATION", &location),
        };
        Some(Self {
            location: format!("/v1/projects/{}/locations/{}", percent::google_segment(&project), percent::google_segment(&location)).into(),
            openai: OpenAi::new(setup.quirks, server),
            default_max_tokens: DEFAULT_MAX_TOKENS,
            structured_output: StructuredOutput::Native,
        })
    }

    fn for_target(&self, keys: &ClaudeKeys, split_think_tags: bool) -> Self {
        Self {
            location: self.location.clone(),
            openai: self.openai.for_target(&(), split_think_tags),
            default_max_tokens: keys.default_max_tokens.map_or(self.default_max_tokens, |tokens| tokens.0),
            structured_output: keys.structured_output.unwrap_or(self.structured_output),
        }
    }
}

impl Dialect for Vertex {
    fn encode(&self, ask: &dyn Ask) -> Result<Outgoing, ApiError> {
        match Publisher::of(ask.model()) {
            Publisher::Google => encode::encode(ask.request()?, Some(&self.location)),
            Publisher::Anthropic => {
                let path = self.claude(ask.model(), ask.stream());
                match ask.messages() {
                    Some(messages) => anthropic::native(messages, &self.seat(), path, false),
                    None => anthropic::encode::encode(ask.request()?, &self.seat(), path),
                }
            }
            Publisher::Other => {
                // The model stays in the body with its publisher.
                let outgoing = self.openai.encode(ask)?;
                Ok(Outgoing { path: format!("{}/endpoints/openapi/chat/completions", self.location), ..outgoing })
            }
        }
    }

    fn encode_count(&self, ask: &dyn Ask) -> Result<Option<Outgoing>, ApiError> {
        match (Publisher::of(ask.model()), ask.messages()) {
            (Publisher::Google, _) => encode::count(ask.request()?, Some(&self.location)).map(Some),
            // https://docs.cloud.google.com/vertex-ai/generative-ai/docs/partner-models/claude/count-tokens
            (Publisher::Anthropic, Some(messages)) => {
                anthropic::native(messages, &self.seat(), self.claude("count-tokens", false), true).map(Some)
            }
            (Publisher::Anthropic, None) | (Publisher::Other, _) => Ok(None),
        }
    }

    /// Every publisher's embedding models are asked in Google's protocol; Anthropic has none.
    fn encode_embeddings(&self, request: &EmbeddingRequest<'_>) -> Result<Option<Outgoing>, ApiError> {
        match Publisher::of(request.base.model) {
            Publisher::Anthropic => Ok(None),
            Publisher::Google | Publisher::Other => embeddings::encode(request, Some(&self.location)).map(Some),
        }
    }

    /// Errors are Google's, or have whatever shape the publisher's own server gives them under Google's status.
    fn read_error(&self, status: u16, headers: &HeaderMap, body: &[u8]) -> ProviderError {
        error::read(status, headers, body)
    }

    fn names(&self, model: &str) -> &'static [Names] {
        match Publisher::of(model) {
            Publisher::Google => &[error::NAMES],
            Publisher::Anthropic => &[anthropic::error::NAMES],
            Publisher::Other => &[],
        }
    }

    fn quirks(&self) -> Option<&Quirks> {
        self.openai.quirks()
    }

    fn schemas(&self, model: &str) -> Option<(&'static Rules, &'static Rules)> {
        match Publisher::of(model) {
            Publisher::Google => Gemini.schemas(model),
            Publisher::Anthropic => Some(anthropic::SCHEMAS),
            Publisher::Other => self.openai.schemas(model),
        }
    }
}

impl Vertex {
    /// The destination of a request for a Claude model.
    fn seat(&self) -> Seat<'_> {
        Seat {
            host: Host::Vertex,
            version: VERTEX_VERSION,
            beta: &[],
            default_max_tokens: self.default_max_tokens.into(),
            structured_output: self.structured_output,
        }
    }

    /// The path of a Claude model.
    fn claude(&self, model: &str, stream: bool) -> String {
        let model = percent::google_segment(model.strip_prefix(VERTEX_PREFIX).unwrap_or(model));
        let call = if stream { "streamRawPredict" } else { "rawPredict" };
        format!("{}/publishers/anthropic/models/{model}:{call}", self.location)
    }
}
