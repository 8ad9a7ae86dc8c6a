//! AWS SageMaker: an envelope around whatever a model's container speaks.
//!
//! The service passes bodies through, so the target's `format` says what is inside: OpenAI chat completions (the OpenAI
//! dialect, unchanged), TGI's `generate` ([`tgi`]), or JumpStart's old Llama 2 chat ([`llama2`]). What is the service's
//! own is here: paths, headers, the event stream around a streamed body, and the error around a container's error.

use crate::dialect::bedrock::aws;
use crate::dialect::bedrock::error::WireError;
use crate::dialect::openai::quirks::Quirks;
use crate::dialect::openai::{OpenAi, ServerKeys};
use crate::dialect::shared::blame::Names;
use crate::dialect::shared::refusal;
use crate::dialect::{Configure, Setup};
use crate::dialect::{Decoder, Dialect, Outgoing, bedrock, openai};
use crate::error::ApiError;
use crate::frame::{Frame, Framing};
use crate::llm::embeddings::EmbeddingRequest;
use crate::llm::event::Sink;
use crate::llm::failure::{FailureClass, Fault, ProviderError};
use crate::llm::request::Ask;
use crate::percent;
use crate::sign::credential::AwsKeys;
use crate::yaml::read::Reader;
use crate::yaml::section::{section, words};
use crate::yaml::value::Tokens;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use std::sync::Arc;

mod embeddings;
mod llama2;
mod prompt;
mod tgi;

#[cfg(test)]
mod tests;

/// `accept` of the operation that answers whole.
const ACCEPT: HeaderName = HeaderName::from_static("accept");
/// `accept` of the operation that streams: the service takes `accept` itself for its own content type there.
const SAGEMAKER_ACCEPT: HeaderName = HeaderName::from_static("x-amzn-sagemaker-accept");
/// Which of an endpoint's models answers.
const INFERENCE_COMPONENT: HeaderName = HeaderName::from_static("x-amzn-sagemaker-inference-component");

/// What TGI, JumpStart's Llama 2 and the embeddings containers call the client's fields.
const NAMES: Names = &[
    ("inputs", "messages"),
    ("text_inputs", "messages"),
    ("max_new_tokens", "max_tokens"),
    ("max_total_tokens", "max_tokens"),
    ("grammar", "response_format"),
    ("parameters.max_new_tokens", "max_tokens"),
    ("parameters.temperature", "temperature"),
    ("parameters.top_p", "top_p"),
    ("parameters.stop", "stop"),
    ("parameters.seed", "seed"),
    ("parameters.frequency_penalty", "frequency_penalty"),
    ("parameters.grammar", "response_format"),
];

/// SageMaker's runtime.
#[derive(Clone)]
pub struct SageMaker {
    /// How a container is asked that speaks OpenAI.
    pub openai: OpenAi,
    /// What the endpoint's container speaks.
    pub format: Format,
    /// `X-Amzn-SageMaker-Inference-Component`.
    pub inference_component: Option<Arc<str>>,
    /// `max_tokens` where the client gives none.
    pub default_max_tokens: Option<u32>,
}

section! {
    /// Keys of targets that are endpoints of SageMaker.
    EndpointKeys {
        /// Overrides the provider's `default_max_tokens` (anthropic, bedrock, sagemaker, vertex).
        default_max_tokens: Option<Tokens>,
        /// What the endpoint's container speaks (sagemaker). Default: openai_chat.
        format: Option<Format>,
        /// The inference component to ask (sagemaker).
        inference_component: Option<String>,
    }
}

words! {
    /// What a SageMaker endpoint's container speaks.
    Format {
        /// OpenAI chat completions (LMI, vLLM, SGLang, TGI 3).
        OpenAiChat = "openai_chat",
        /// TGI's `generate`.
        Tgi = "tgi",
        /// JumpStart's old Llama-2 chat.
        Llama2Chat = "llama2_chat",
        /// JumpStart's Hugging Face embeddings.
        HfEmbedding = "hf_embedding",
        /// The TEI container.
        TeiEmbedding = "tei_embedding",
    }
}

impl Configure for SageMaker {
    type ProviderKeys = (AwsKeys, ServerKeys);
    type TargetKeys = EndpointKeys;

    fn configure(setup: &mut Setup<'_>, (keys, server): &Self::ProviderKeys, cx: &mut Reader<'_>) -> Option<Self> {
        aws(setup, keys, ("sagemaker", None), cx)?;
        let openai = OpenAi::new(setup.quirks, server);
        Some(Self { openai, format: Format::OpenAiChat, inference_component: None, default_max_tokens: None })
    }

    fn for_target(&self, keys: &EndpointKeys, split_think_tags: bool) -> Self {
        Self {
            openai: self.openai.for_target(&(), split_think_tags),
            format: keys.format.unwrap_or(self.format),
            inference_component: keys.inference_component.as_deref().map(Arc::from),
            default_max_tokens: keys.default_max_tokens.map(|tokens| tokens.0),
        }
    }
}

impl Dialect for SageMaker {
    fn encode(&self, ask: &dyn Ask) -> Result<Outgoing, ApiError> {
        let mut out = match self.format {
            Format::OpenAiChat => self.openai.encode(ask)?,
            Format::Tgi => tgi::encode(&ask.request()?, self)?,
            Format::Llama2Chat => llama2::encode(&ask.request()?, self)?,
            Format::HfEmbedding | Format::TeiEmbedding => {
                return Err(ApiError::field("model", "this model makes embeddings; it cannot answer a chat"));
            }
        };
        // A container that cannot stream answers whole; the relay writes its answer as chunks.
        self.address(&mut out, ask.model(), ask.stream() && self.format != Format::Llama2Chat)?;
        out.framing = Framing::AwsSse;
        out.decoder = Box::new(Container(out.decoder));
        Ok(out)
    }

    fn encode_embeddings(&self, request: &EmbeddingRequest<'_>) -> Result<Option<Outgoing>, ApiError> {
        let Some(mut out) = embeddings::encode(request, self.format)? else { return Ok(None) };
        self.address(&mut out, request.base.model, false)?;
        Ok(Some(out))
    }

    fn read_error(&self, status: u16, headers: &HeaderMap, body: &[u8]) -> ProviderError {
        unwrapped(headers, body).unwrap_or_else(|| bedrock::error::read(status, headers, body))
    }

    fn names(&self, _model: &str) -> &'static [Names] {
        &[NAMES]
    }

    fn quirks(&self) -> Option<&Quirks> {
        self.openai.quirks()
    }
}

impl SageMaker {
    /// Adds the service's own part of a request: the endpoint in the path, and `accept`.
    fn address(&self, out: &mut Outgoing, model: &str, stream: bool) -> Result<(), ApiError> {
        let (operation, accept) = if stream {
            ("invocations-response-stream", (SAGEMAKER_ACCEPT, HeaderValue::from_static("text/event-stream")))
        } else {
            ("invocations", (ACCEPT, HeaderValue::from_static("application/json")))
        };
        out.path = format!("/endpoints/{}/{operation}", percent::segment(model));
        out.headers.push(accept);
        if let Some(name) = &self.inference_component {
            let why = |_| ApiError::upstream("The target's `inference_component` has characters that no header may have.");
            out.headers.push((INFERENCE_COMPONENT, HeaderValue::from_str(name).map_err(why)?));
        }
        Ok(())
    }
}

/// "ModelError" (424): the container's own refusal, with its own status and body inside.
fn unwrapped(headers: &HeaderMap, body: &[u8]) -> Option<ProviderError> {
    let wire: WireError<'_> = serde_json::from_slice(body).ok()?;
    let status = wire.original_status?;
    let inner = wire.original_message.as_deref().unwrap_or_default();
    let mut error = openai::error::read(status, headers, inner.as_bytes());
    if inner.trim().is_empty() {
        error.message = wire.message().unwrap_or("the model's container failed").to_owned();
    }
    // A container has no credentials of ours: what it says of them is its failure.
    if error.class == FailureClass::Credential {
        error.class = FailureClass::Server;
    }
    error.retry_after = refusal::from_headers(headers);
    Some(error)
}

/// Reads an answer, which may come as the only element of a list.
fn read_only<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Fault> {
    let broken = || Fault::Broken("the answer is not JSON of this protocol".into());
    if !body.trim_ascii_start().starts_with(b"[") {
        return serde_json::from_slice(body).map_err(|_| broken());
    }
    let list: Vec<T> = serde_json::from_slice(body).map_err(|_| broken())?;
    list.into_iter().next().ok_or_else(broken)
}

/// A container's decoder inside of the service's event stream.
struct Container(Box<dyn Decoder>);

impl Decoder for Container {
    fn headers(&mut self, headers: &HeaderMap) {
        self.0.headers(headers);
    }

    fn frame(&mut self, frame: Frame<'_>, out: &mut dyn Sink) -> Result<(), Fault> {
        match frame {
            Frame::Aws { .. } => bedrock::error::failure(frame).map_or(Ok(()), Err), // an event that is not known yet is skipped
            sse => self.0.frame(sse, out),
        }
    }

    fn whole(&mut self, body: &[u8], out: &mut dyn Sink) -> Result<(), Fault> {
        self.0.whole(body, out)
    }

    fn end(&mut self, out: &mut dyn Sink) -> Result<(), Fault> {
        self.0.end(out)
    }
}
