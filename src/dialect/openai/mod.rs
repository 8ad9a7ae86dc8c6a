//! The dialect of everyone who speaks OpenAI chat completions: OpenAI itself, the hosted clones, self-hosted servers.
//!
//! The client speaks it too, so a request is the client's own bytes with a few members spliced ([`encode`]), and an
//! answer is read without building a document ([`decode`]). How providers differ is data: [`quirks`]. A request of the
//! Responses API passes in the same way to a provider that has it, and a provider may be asked by that API for all clients
//! ([`responses`]).

use crate::dialect::shared::blame::Names;
use crate::dialect::{Configure, Dialect, Outgoing, Setup};
use crate::error::ApiError;
use crate::json::envelope::ScanError;
use crate::json::walk::Cursor;
use crate::llm::embeddings::EmbeddingRequest;
use crate::llm::endpoint::Endpoint;
use crate::llm::failure::ProviderError;
use crate::llm::request::Ask;
use crate::llm::usage::Usage;
use crate::sign::credential::Credential;
use crate::yaml::read::{Read, Reader, Schema};
use crate::yaml::section::{section, words};
use crate::yaml::tree::Node;
use crate::yaml::value::{At, SecretValue};
use http::HeaderMap;
use quirks::{Guided, Quirks, ReasoningField, Returned};
use serde_json::json;
use std::sync::Arc;

pub mod body;
mod cache_marks;
mod calls;
pub mod compose;
mod constraint;
pub mod decode;
mod element;
pub mod embeddings;
pub mod encode;
pub mod error;
mod instructions;
mod logprobs;
pub mod messages;
mod nulls;
pub mod quirks;
mod responses;
mod returned;
mod sources;
mod usage;

/// OpenAI chat completions, as one kind of provider speaks them.
#[derive(Clone)]
pub struct OpenAi {
    /// How it differs from OpenAI.
    pub quirks: Arc<Quirks>,
    /// Whether a `<think>` text inside the content is moved to `reasoning_content`.
    pub split_think_tags: bool,
    /// Which requests the provider is asked by the Responses API.
    pub responses: ResponsesUse,
}

/// Which requests a provider is asked by the Responses API, and not by chat completions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResponsesUse {
    /// None: it does not have the API.
    #[default]
    Never,
    /// Those of the API's own clients, which pass as they are, and those with tools where chat completions take them without
    /// reasoning only.
    Own,
    /// All. Those of other clients are translated.
    All,
}

section! {
    /// Keys of providers that speak OpenAI.
    ServerKeys {
        /// How the server takes a decoding constraint (vllm, sglang, openai_compatible). Default for vllm: structured_outputs;
        /// `sglang` says that the server is SGLang, as the kind of that name does.
        guided: Option<ServerGuided>,
        /// Whether `stream_options.include_usage` is added to every stream (kinds that speak OpenAI, sagemaker, vertex).
        /// Default: by kind. A server that refuses it is asked without it for an hour, whatever stands here.
        inject_stream_options: Option<bool>,
        /// Where an assistant's reasoning stands in requests (kinds that speak OpenAI, sagemaker, vertex): reasoning_content,
        /// reasoning, or content, between `<think>` tags. Default: by kind.
        reasoning_field: Option<ReasoningField>,
        /// What the provider needs back on the next turn, kept sealed in tool-call ids for clients that drop it (kinds that
        /// speak OpenAI, sagemaker, vertex). Default: by kind.
        returns: Option<Vec<Returned>>,
    }
}

words! {
    /// By which API of OpenAI's a provider is asked.
    Api {
        /// Chat completions.
        Chat = "chat",
        /// Responses.
        Responses = "responses",
    }
}

section! {
    /// Keys of providers that speak OpenAI over its own paths.
    ApiKeys {
        /// By which of OpenAI's APIs the provider is asked for clients of chat completions and Messages (kinds that speak OpenAI):
        /// chat, or responses, which GPT-5.4 and later models require for tools with reasoning. Default: chat.
        api: Option<At<Api>>,
        /// Whether the provider has the Responses API, so that requests of that API pass to it as they are (kinds that speak
        /// OpenAI). Otherwise they are translated. Default: by kind; `false` is for an older server.
        responses: Option<bool>,
        /// The endpoints that the provider has beside those of chat, embeddings and Responses, as a list; requests pass to them as
        /// they are (kinds that speak OpenAI). Default: by kind; openai_compatible: none.
        endpoints: Option<Vec<Endpoint>>,
        /// An access token as it is, sent as `authorization: Bearer` (vertex; azure_openai, azure_openai_deployments in place
        /// of `api_key`).
        access_token: Option<At<SecretValue>>,
        /// Name of the Azure resource, the first part of its host (azure_openai, azure_openai_deployments). Not with `base_url`.
        resource: Option<At<String>>,
        /// Version of the API, such as 2024-10-21 (azure_openai_deployments). Not with a `base_url` that has a query.
        api_version: Option<At<String>>,
        /// Host of the workspace, such as dbc-a1b2c3d4-e5f6.cloud.databricks.com (databricks). Not with `base_url`.
        workspace: Option<At<String>>,
    }
}

impl ApiKeys {
    /// The settings that words of a base URL stand for.
    fn places(&self) -> [(&'static str, &'static str, Option<&At<String>>); 3] {
        [
            ("RESOURCE", "resource", self.resource.as_ref()),
            ("API_VERSION", "api_version", self.api_version.as_ref()),
            ("WORKSPACE", "workspace", self.workspace.as_ref()),
        ]
    }

    /// Which requests are of the Responses API.
    fn responses_use(&self, quirks: &Quirks, cx: &mut Reader<'_>) -> ResponsesUse {
        let has = self.responses.unwrap_or(quirks.responses);
        match &self.api {
            Some(api) if api.value == Api::Responses => {
                if self.responses == Some(false) {
                    cx.problems.add(api.at, "`api: responses` and `responses: false` exclude each other; write one of them");
                }
                ResponsesUse::All
            }
            _ if has => ResponsesUse::Own,
            _ => ResponsesUse::Never,
        }
    }

    /// Puts the settings into the base URL, and takes the access token.
    fn apply(&self, setup: &mut Setup<'_>, cx: &mut Reader<'_>) {
        for (word, key, value) in self.places() {
            if !setup.base_url.contains(word) {
                if let Some(value) = value.filter(|_| setup.kind_base_url.contains(word)) {
                    cx.problems.add(value.at, format!("`{key}` has no effect, because `base_url` says it; write one of them"));
                }
            } else if let Some(name) = setup.host_part(key, value, (self.at, &self.written), cx) {
                setup.base_url = setup.base_url.replace(word, &name);
            }
        }
        if let Some(token) = &self.access_token {
            if setup.api_key.is_some() {
                cx.problems.add(token.at, "`access_token` and `api_key` exclude each other; write one of them");
            }
            // Without the token there is a problem already.
            setup.credential = Some(cx.secret(&token.value).map_or(Credential::None, Credential::Bearer));
        }
    }
}

/// What an operator can say of a server's decoding constraints.
#[derive(Clone, Copy)]
pub struct ServerGuided(pub Guided);

const SERVERS: [Guided; 4] = [Guided::StructuredOutputs, Guided::Legacy, Guided::Sglang, Guided::LlamaCpp];

impl Read for ServerGuided {
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        cx.word(node, "one of", SERVERS.into_iter().map(|guided| (guided.name(), Self(guided))))
    }

    fn schema() -> Schema {
        json!({ "type": "string", "enum": SERVERS.map(Guided::name) })
    }
}

impl OpenAi {
    /// The dialect with these quirks of a kind, but for what the operator says of the server.
    pub fn new(quirks: &Quirks, keys: &ServerKeys) -> Self {
        let mut quirks = quirks.clone();
        quirks.guided = keys.guided.map_or(quirks.guided, |server| server.0);
        quirks.usage_option = keys.inject_stream_options.unwrap_or(quirks.usage_option);
        quirks.reasoning_field = keys.reasoning_field.unwrap_or(quirks.reasoning_field);
        if let Some(returns) = &keys.returns {
            quirks.returns.clone_from(returns);
        }
        Self { quirks: Arc::new(quirks), split_think_tags: false, responses: ResponsesUse::default() }
    }
}

/// Reads the usage (raw JSON) of an answer that passes; `None` where it counts no tokens.
///
/// # Errors
/// Where it is not well formed.
pub fn read_usage(json: &str) -> Result<Option<Usage>, ScanError> {
    usage::read(&mut Cursor::new(json), false)
}

impl Configure for OpenAi {
    type ProviderKeys = (ServerKeys, ApiKeys);
    type TargetKeys = ();

    fn configure(setup: &mut Setup<'_>, (server, api): &Self::ProviderKeys, cx: &mut Reader<'_>) -> Option<Self> {
        api.apply(setup, cx);
        let mut dialect = Self { responses: api.responses_use(setup.quirks, cx), ..Self::new(setup.quirks, server) };
        if let Some(endpoints) = &api.endpoints {
            Arc::make_mut(&mut dialect.quirks).endpoints.clone_from(endpoints);
        }
        Some(dialect)
    }

    fn for_target(&self, (): &(), split_think_tags: bool) -> Self {
        Self { split_think_tags, ..self.clone() }
    }
}

impl Dialect for OpenAi {
    fn encode(&self, ask: &dyn Ask) -> Result<Outgoing, ApiError> {
        if let Some(request) = ask.responses().filter(|_| self.has_responses()) {
            return responses::pass(request, &self.quirks);
        }
        match self.responses {
            ResponsesUse::All => return responses::translate(ask, self),
            // What the API cannot say is asked for by chat completions, without reasoning.
            ResponsesUse::Own if responses::is_wanted(ask) => {
                if let Ok(outgoing) = responses::translate(ask, self) {
                    return Ok(outgoing);
                }
            }
            ResponsesUse::Own | ResponsesUse::Never => {}
        }
        compose::with_chat(ask, |chat, _| encode::encode(ask, chat, &self.quirks, self.split_think_tags))
    }

    fn encode_embeddings(&self, request: &EmbeddingRequest<'_>) -> Result<Option<Outgoing>, ApiError> {
        embeddings::encode(request, &self.quirks)
    }

    fn read_error(&self, status: u16, headers: &HeaderMap, body: &[u8]) -> ProviderError {
        error::read(status, headers, body)
    }

    fn quirks(&self) -> Option<&Quirks> {
        Some(&self.quirks)
    }

    fn names(&self, _model: &str) -> &'static [Names] {
        if self.responses == ResponsesUse::All { &[responses::NAMES] } else { &[] }
    }

    fn has_responses(&self) -> bool {
        self.responses != ResponsesUse::Never
    }

    fn endpoint(&self, endpoint: Endpoint) -> Option<&str> {
        self.quirks.endpoint(endpoint)
    }
}

#[cfg(test)]
pub(crate) mod tests;
