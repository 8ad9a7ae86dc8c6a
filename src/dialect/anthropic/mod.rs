//! Anthropic's Messages API: at Anthropic itself, and for Claude models on Vertex AI and behind Bedrock's InvokeModel.
//!
//! [`encode`] writes requests, [`decode`] reads answers, [`error`] reads refusals. What Bedrock's Converse shares with it is in
//! [`shared`](super::shared): turns, media, tools, thinking and sampling, and the blocks of an answer.

use crate::dialect::shared::blame::Names;
use crate::dialect::shared::claude::{ClaudeKeys, DEFAULT_MAX_TOKENS, StructuredOutput};
use crate::dialect::shared::count;
use crate::dialect::shared::schema::rules::{self, Rules};
use crate::dialect::{Configure, Decoder, Dialect, Outgoing, Setup};
use crate::error::ApiError;
use crate::frame::Framing;
use crate::json::write::Writer;
use crate::llm::failure::ProviderError;
use crate::llm::messages::MessagesRequest;
use crate::llm::request::Ask;
use crate::yaml::read::Reader;
use crate::yaml::section::section;
use crate::yaml::value::Tokens;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::sync::Arc;

pub mod decode;
pub mod encode;
pub mod error;
mod splice;

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

/// The Messages API at Anthropic.
#[derive(Clone)]
pub struct Anthropic {
    /// `anthropic-version`.
    pub version: Arc<str>,
    /// `anthropic-beta`.
    pub beta: Arc<[String]>,
    /// `max_tokens` where the client gives none.
    pub default_max_tokens: u32,
    /// How an answer is held to a schema.
    pub structured_output: StructuredOutput,
}

section! {
    /// Keys of providers that speak Anthropic's Messages.
    AnthropicKeys {
        /// The header `anthropic-version` (anthropic). Default: 2023-06-01.
        version: Option<String>,
        /// Values of the header `anthropic-beta` (anthropic).
        beta: Option<Vec<String>>,
        /// `max_tokens` where the client gives none (anthropic). Default: 4096.
        default_max_tokens: Option<Tokens>,
    }
}

impl Configure for Anthropic {
    type ProviderKeys = AnthropicKeys;
    type TargetKeys = ClaudeKeys;

    fn configure(_: &mut Setup<'_>, keys: &AnthropicKeys, _: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            version: keys.version.as_deref().unwrap_or("2023-06-01").into(),
            beta: keys.beta.as_deref().unwrap_or_default().into(),
            default_max_tokens: keys.default_max_tokens.map_or(DEFAULT_MAX_TOKENS, |tokens| tokens.0),
            structured_output: StructuredOutput::Native,
        })
    }

    fn for_target(&self, keys: &ClaudeKeys, _: bool) -> Self {
        Self {
            default_max_tokens: keys.default_max_tokens.map_or(self.default_max_tokens, |tokens| tokens.0),
            structured_output: keys.structured_output.unwrap_or(self.structured_output),
            ..self.clone()
        }
    }
}

impl Anthropic {
    fn seat(&self) -> Seat<'_> {
        Seat {
            host: Host::Api,
            version: &self.version,
            beta: &self.beta,
            default_max_tokens: self.default_max_tokens.into(),
            structured_output: self.structured_output,
        }
    }
}

impl Dialect for Anthropic {
    fn encode(&self, ask: &dyn Ask) -> Result<Outgoing, ApiError> {
        let path = "/v1/messages".to_owned();
        if let Some(messages) = ask.messages() {
            return native(messages, &self.seat(), path, false);
        }
        let headers = headers(Some(&self.version), &self.beta.join(","));
        Ok(Outgoing { headers, ..encode::encode(ask.request()?, &self.seat(), path)? })
    }

    fn encode_count(&self, ask: &dyn Ask) -> Result<Option<Outgoing>, ApiError> {
        let count = |messages| native(messages, &self.seat(), "/v1/messages/count_tokens".to_owned(), true);
        ask.messages().map(count).transpose()
    }

    fn read_error(&self, status: u16, headers: &HeaderMap, body: &[u8]) -> ProviderError {
        error::read(status, headers, body)
    }

    fn names(&self, _model: &str) -> &'static [Names] {
        &[error::NAMES]
    }

    fn schemas(&self, _model: &str) -> Option<(&'static Rules, &'static Rules)> {
        Some(SCHEMAS)
    }
}

/// A request at `path` of a client that speaks this protocol, for a message or for a count of its tokens.
///
/// # Errors
/// A 400 that names a setting of the route's that is lost, where the route refuses that.
pub(in crate::dialect) fn native(
    request: &MessagesRequest<'_>,
    seat: &Seat<'_>,
    path: String,
    counting: bool,
) -> Result<Outgoing, ApiError> {
    let (body, settled) = splice::body(request, seat, counting)?;
    let version = (seat.host == Host::Api).then(|| request.headers.version.as_deref().unwrap_or(seat.version));
    let betas = if seat.host == Host::Bedrock { String::new() } else { splice::betas(request, seat).join(",") };
    let body = if seat.host == Host::Bedrock && counting {
        let mut w = Writer::with_capacity(body.len() / 3 * 4 + 64);
        w.object().key("input").object().key("invokeModel").object().key("body").string(&STANDARD.encode(body.joined()));
        w.end_object().end_object().end_object();
        w.finish().into()
    } else {
        body
    };
    let framing = if seat.host == Host::Bedrock { Framing::AwsInvoke } else { Framing::Sse };
    let decoder: Box<dyn Decoder> = if counting { Box::new(count::Decoder) } else { Box::new(decode::Decoder::native()) };
    Ok(Outgoing { headers: headers(version, &betas), framing, ..Outgoing::new(path, body, settled, decoder) })
}

/// The headers of Anthropic's own. The configuration was checked; what cannot be a header is not sent.
fn headers(version: Option<&str>, betas: &str) -> Vec<(HeaderName, HeaderValue)> {
    let betas = Some(betas).filter(|betas| !betas.is_empty());
    let all = [("anthropic-version", version), ("anthropic-beta", betas)];
    all.into_iter().filter_map(|(name, value)| Some((HeaderName::from_static(name), HeaderValue::from_str(value?).ok()?))).collect()
}

/// The rules of a Claude model for an answer and strict tools, and for other tools.
pub(super) const SCHEMAS: (&Rules, &Rules) = (&rules::CLAUDE, &rules::CLAUDE_TOOL);

#[cfg(test)]
mod tests;
