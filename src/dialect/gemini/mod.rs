//! Gemini's `generateContent`, as Vertex AI and Google AI Studio speak it.
//!
//! The two differ in the path, in who may fetch a URL, and in labels; everything else is one protocol. Vertex serves
//! other publishers too, by other protocols: see [`Vertex`].

mod config;
mod contents;
mod decode;
mod embeddings;
mod encode;
mod error;
mod logprobs;
mod name;
mod shown;
mod signature;
mod vertex;
mod wire;

use super::blame::Names;
use crate::dialect::{Dialect, Outgoing};
use crate::error::ApiError;
use crate::llm::embeddings::EmbeddingRequest;
use crate::llm::envelope::ChatRequest;
use crate::llm::failure::ProviderError;
use crate::provider::{Provider, Settings, Target};
use http::HeaderMap;

pub use decode::{MAX_CHOICES, MAX_FINISH_MESSAGE};
#[cfg(test)]
pub(in crate::dialect) use error::NAMES;
pub use vertex::{Publisher, Vertex};

/// Gemini's protocol.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gemini;

impl Dialect for Gemini {
    fn encode(&self, request: &ChatRequest<'_>, target: &Target) -> Result<Outgoing, ApiError> {
        encode::encode(request, &target.provider)
    }

    fn encode_embeddings(&self, request: &EmbeddingRequest<'_>, target: &Target) -> Result<Outgoing, ApiError> {
        embeddings::encode(request, &target.provider)
    }

    fn read_error(&self, status: u16, headers: &HeaderMap, body: &[u8]) -> ProviderError {
        error::read(status, headers, body)
    }

    fn names(&self, _model: &str) -> &'static [Names] {
        &[error::NAMES]
    }
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
