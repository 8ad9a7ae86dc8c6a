//! Anthropic's Messages API: at Anthropic itself, and for Claude models on Vertex AI and behind Bedrock's InvokeModel.
//!
//! [`encode`] writes requests, [`decode`] reads answers, [`error`] reads refusals. What Bedrock's Converse shares with it is in
//! [`shared`](super::shared): turns, media, tools, thinking and sampling, and the blocks of an answer.

use crate::dialect::shared::blame::Names;
use crate::dialect::{Dialect, Outgoing};
use crate::error::ApiError;
use crate::frame::Framing;
use crate::llm::failure::ProviderError;
use crate::llm::request::Ask;
use crate::percent;
use crate::provider::{Settings, StructuredOutput, Target};
use http::{HeaderMap, HeaderName, HeaderValue};

pub mod decode;
pub mod encode;
pub mod error;

/// `max_tokens` where neither client nor configuration gives one; the API demands it.
pub const DEFAULT_MAX_TOKENS: u32 = 4096;
/// What Vertex AI wants for `anthropic_version`, in the body.
pub const VERTEX_VERSION: &str = "vertex-2023-10-16";
/// What Bedrock wants for `anthropic_version`, in the body.
pub const BEDROCK_VERSION: &str = "bedrock-2023-05-31";
/// Stands before the names of Claude models on Vertex AI.
pub const VERTEX_PREFIX: &str = "anthropic/";

/// Where a Claude model is asked, which decides where model and version are said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// Anthropic: model in the body, version in a header.
    Api,
    /// Vertex AI: model in the path, version in the body.
    Vertex,
    /// Bedrock's InvokeModel: model and streaming in the path, version in the body.
    Bedrock,
}

/// What the configuration says about a request's destination.
pub struct Seat<'a> {
    /// Where the model is asked.
    pub host: Host,
    /// `anthropic-version`.
    pub version: &'a str,
    /// `anthropic-beta`.
    pub beta: &'a [String],
    /// `max_tokens` where the client gives none.
    pub default_max_tokens: u64,
    /// How an answer is held to a schema.
    pub structured_output: StructuredOutput,
}

impl<'a> Seat<'a> {
    /// The seat of a target, whatever its provider is.
    pub fn of(target: &'a Target) -> Self {
        let (host, version, beta, default) = match &target.provider.settings {
            Settings::Anthropic { version, beta, default_max_tokens } => {
                (Host::Api, version.as_str(), beta.as_slice(), *default_max_tokens)
            }
            Settings::Aws { .. } => (Host::Bedrock, BEDROCK_VERSION, [].as_slice(), DEFAULT_MAX_TOKENS),
            _ => (Host::Vertex, VERTEX_VERSION, [].as_slice(), DEFAULT_MAX_TOKENS),
        };
        let default_max_tokens = u64::from(target.default_max_tokens.unwrap_or(default));
        Self { host, version, beta, default_max_tokens, structured_output: target.structured_output }
    }
}

/// The Messages API at Anthropic and on Vertex AI.
pub struct Anthropic;

impl Dialect for Anthropic {
    fn encode(&self, ask: &dyn Ask, target: &Target) -> Result<Outgoing, ApiError> {
        let (request, seat) = (ask.request()?, Seat::of(target));
        let encoded = encode::body(&request, &seat)?;
        let mut headers = Vec::new();
        let mut header = |name: &'static str, value: &str| {
            // The configuration was checked; what cannot be a header is not sent.
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.push((HeaderName::from_static(name), value));
            }
        };
        let path = match &target.provider.settings {
            Settings::Vertex { project, location } => {
                let model = percent::google_segment(request.model.strip_prefix(VERTEX_PREFIX).unwrap_or(request.model));
                let call = if request.stream { "streamRawPredict" } else { "rawPredict" };
                format!(
                    "/v1/projects/{}/locations/{}/publishers/anthropic/models/{model}:{call}",
                    percent::google_segment(project),
                    percent::google_segment(location)
                )
            }
            _ => {
                header("anthropic-version", seat.version);
                if !seat.beta.is_empty() {
                    header("anthropic-beta", &seat.beta.join(","));
                }
                "/v1/messages".to_owned()
            }
        };
        Ok(Outgoing {
            path,
            body: encoded.body.into(),
            headers,
            dropped: encoded.settled.dropped,
            adjusted: encoded.settled.adjusted,
            framing: Framing::Sse,
            decoder: encoded.decoder,
        })
    }

    fn read_error(&self, status: u16, headers: &HeaderMap, body: &[u8]) -> ProviderError {
        error::read(status, headers, body)
    }

    fn names(&self, _model: &str) -> &'static [Names] {
        &[error::NAMES]
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]
mod tests;
