//! Anthropic's Messages API: at Anthropic itself, and for Claude models on Vertex AI and behind Bedrock's InvokeModel.
//!
//! [`encode`] writes requests, [`decode`] reads answers, [`error`] reads refusals. What Bedrock's Converse shares with it is in
//! [`shared`](super::shared): turns, media, tools, thinking and sampling, and the blocks of an answer.

use crate::dialect::shared::blame::Names;
use crate::dialect::shared::count::unavailable;
use crate::dialect::{Dialect, Outgoing};
use crate::error::ApiError;
use crate::frame::Framing;
use crate::json::write::Writer;
use crate::llm::failure::ProviderError;
use crate::llm::messages::MessagesRequest;
use crate::llm::request::Ask;
use crate::percent;
use crate::provider::{Settings, StructuredOutput, Target};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};

pub mod decode;
pub mod encode;
pub mod error;
mod splice;

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
        let seat = Seat::of(target);
        if let Some(messages) = ask.messages() {
            return native(messages, &seat, target, false);
        }
        let request = ask.request()?;
        let encoded = encode::body(&request, &seat)?;
        let mut headers = Vec::new();
        let mut header = |name: &'static str, value: &str| {
            // The configuration was checked; what cannot be a header is not sent.
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.push((HeaderName::from_static(name), value));
            }
        };
        if seat.host == Host::Api {
            header("anthropic-version", seat.version);
            if !seat.beta.is_empty() {
                header("anthropic-beta", &seat.beta.join(","));
            }
        }
        Ok(Outgoing {
            path: path(target, request.model, request.stream),
            body: encoded.body.into(),
            headers,
            dropped: encoded.settled.dropped,
            adjusted: encoded.settled.adjusted,
            framing: Framing::Sse,
            decoder: encoded.decoder,
        })
    }

    fn encode_count(&self, ask: &dyn Ask, target: &Target) -> Result<Outgoing, ApiError> {
        match ask.messages() {
            Some(messages) => native(messages, &Seat::of(target), target, true),
            None => Err(unavailable(target)),
        }
    }

    fn read_error(&self, status: u16, headers: &HeaderMap, body: &[u8]) -> ProviderError {
        error::read(status, headers, body)
    }

    fn names(&self, _model: &str) -> &'static [Names] {
        &[error::NAMES]
    }
}

/// Where a message is asked for.
fn path(target: &Target, model: &str, stream: bool) -> String {
    let Settings::Vertex { project, location } = &target.provider.settings else { return "/v1/messages".to_owned() };
    let model = percent::google_segment(model.strip_prefix(VERTEX_PREFIX).unwrap_or(model));
    let call = if stream { "streamRawPredict" } else { "rawPredict" };
    let (project, location) = (percent::google_segment(project), percent::google_segment(location));
    format!("/v1/projects/{project}/locations/{location}/publishers/anthropic/models/{model}:{call}")
}

/// A request of a client that speaks this protocol, to a message or to a count of its tokens.
///
/// # Errors
/// A 400 that names a setting of the route's that is lost, where the route refuses that.
pub(in crate::dialect) fn native(
    request: &MessagesRequest<'_>,
    seat: &Seat<'_>,
    target: &Target,
    counting: bool,
) -> Result<Outgoing, ApiError> {
    let (body, settled) = splice::body(request, seat, counting)?;
    let (model, stream) = (request.base.model, request.base.stream());
    let mut headers = Vec::new();
    let mut header = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.push((HeaderName::from_static(name), value));
        }
    };
    let betas = splice::betas(request, seat).join(",");
    if seat.host == Host::Api {
        header("anthropic-version", request.headers.version.as_deref().unwrap_or(seat.version));
    }
    if seat.host != Host::Bedrock && !betas.is_empty() {
        header("anthropic-beta", &betas);
    }
    let path = match (seat.host, counting) {
        (Host::Api, true) => "/v1/messages/count_tokens".to_owned(),
        // https://docs.cloud.google.com/vertex-ai/generative-ai/docs/partner-models/claude/count-tokens
        (Host::Vertex, true) => path(target, "count-tokens", false),
        (Host::Api | Host::Vertex, false) => path(target, model, stream),
        (Host::Bedrock, true) => format!("/model/{}/count-tokens", percent::segment(model)),
        (Host::Bedrock, false) => {
            let operation = if stream { "invoke-with-response-stream" } else { "invoke" };
            format!("/model/{}/{operation}", percent::segment(model))
        }
    };
    let body = if seat.host == Host::Bedrock && counting {
        let mut w = Writer::with_capacity(body.len() / 3 * 4 + 64);
        w.object().key("input").object().key("invokeModel").object().key("body").string(&STANDARD.encode(&body));
        w.end_object().end_object().end_object();
        w.finish().into()
    } else {
        body
    };
    Ok(Outgoing {
        path,
        body,
        headers,
        dropped: settled.dropped,
        adjusted: settled.adjusted,
        framing: if seat.host == Host::Bedrock { Framing::AwsInvoke } else { Framing::Sse },
        decoder: splice::decoder(counting),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]
mod tests;
