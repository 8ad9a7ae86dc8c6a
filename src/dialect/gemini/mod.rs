//! Gemini's `generateContent`, as Vertex AI and Google AI Studio speak it.
//!
//! The two differ in the path, in who may fetch a URL, and in labels; everything else is one protocol. Vertex serves
//! other publishers too: Claude by Anthropic's protocol, the rest by an OpenAI-compatible endpoint ([`openapi_path`]).

mod config;
mod contents;
mod decode;
mod encode;
mod error;
mod logprobs;
mod signature;
mod wire;

use super::{Dialect, Outgoing, ProviderError};
use crate::chat::request::ChatRequest;
use crate::error::ApiError;
use crate::provider::{Provider, Settings, Target};
use http::HeaderMap;

pub use decode::{MAX_CHOICES, MAX_FINISH_MESSAGE};

/// Gemini's protocol.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gemini;

impl Dialect for Gemini {
    fn encode(&self, request: &ChatRequest<'_>, target: &Target) -> Result<Outgoing, ApiError> {
        encode::encode(request, &target.provider)
    }

    fn read_error(&self, status: u16, headers: &HeaderMap, body: &[u8]) -> ProviderError {
        error::read(status, headers, body)
    }
}

/// Who publishes a model of Vertex AI, by the target's model name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publisher {
    /// `gemini-…` or `google/…`: this dialect.
    Google,
    /// `anthropic/…`: Anthropic's dialect.
    Anthropic,
    /// Any other `publisher/model`: the OpenAI-compatible endpoint.
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

/// Path of Vertex's OpenAI-compatible endpoint, below the base URL; the model stays in the body with its publisher.
/// `None` where the provider is not Vertex.
pub fn openapi_path(provider: &Provider) -> Option<String> {
    Some(format!("{}/endpoints/openapi/chat/completions", location(provider)?))
}

/// Path of everything in a project's location on Vertex.
fn location(provider: &Provider) -> Option<String> {
    let Settings::Vertex { project, location } = &provider.settings else { return None };
    Some(format!("/v1/projects/{}/locations/{}", segment(project), segment(location)))
}

/// One path segment: every byte that RFC 3986 does not allow in one is escaped, and so is `:`, which ends a model.
fn segment(text: &str) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'@' => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "%{byte:02X}"); // writing to a String cannot fail
            }
        }
    }
    out
}
