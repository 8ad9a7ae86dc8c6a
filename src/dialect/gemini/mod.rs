//! Gemini's `generateContent`, as Vertex AI and Google AI Studio speak it.
//!
//! The two differ in the path, in who may fetch a URL, and in labels; everything else is one protocol. Vertex serves
//! other publishers too, by other protocols: see [`Vertex`].

mod contents;
mod decode;
mod embeddings;
mod encode;
mod error;
mod vertex;
mod wire;

use crate::dialect::shared::blame::Names;
use crate::dialect::shared::schema::rules::{self, Rules};
use crate::dialect::{Configure, Dialect, Outgoing, Setup};
use crate::error::ApiError;
use crate::llm::embeddings::EmbeddingRequest;
use crate::llm::failure::ProviderError;
use crate::llm::request::Ask;
use crate::yaml::read::Reader;
use http::HeaderMap;

#[cfg(test)]
pub(in crate::dialect) use error::NAMES;
pub use vertex::{Publisher, Vertex};

/// Gemini's protocol at Google AI Studio.
#[derive(Clone)]
pub struct Gemini;

impl Configure for Gemini {
    type ProviderKeys = ();
    type TargetKeys = ();

    fn configure(_: &mut Setup<'_>, (): &(), _: &mut Reader<'_>) -> Option<Self> {
        Some(Self)
    }
}

impl Dialect for Gemini {
    fn encode(&self, ask: &dyn Ask) -> Result<Outgoing, ApiError> {
        encode::encode(ask.request()?, None)
    }

    fn encode_count(&self, ask: &dyn Ask) -> Result<Option<Outgoing>, ApiError> {
        encode::count(ask.request()?, None).map(Some)
    }

    fn encode_embeddings(&self, request: &EmbeddingRequest<'_>) -> Result<Option<Outgoing>, ApiError> {
        embeddings::encode(request, None).map(Some)
    }

    fn read_error(&self, status: u16, headers: &HeaderMap, body: &[u8]) -> ProviderError {
        error::read(status, headers, body)
    }

    fn names(&self, _model: &str) -> &'static [Names] {
        &[error::NAMES]
    }

    fn schemas(&self, _model: &str) -> Option<(&'static Rules, &'static Rules)> {
        Some((&rules::GEMINI, &rules::GEMINI_TOOL))
    }
}
