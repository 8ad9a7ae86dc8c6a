//! The dialect of everyone who speaks OpenAI chat completions: OpenAI itself, the hosted clones, self-hosted servers.
//!
//! The client speaks it too, so a request is the client's own bytes with a few members spliced ([`encode`]), and an
//! answer is read without building a document ([`decode`]). How providers differ is data: `provider::catalogue`.

use crate::dialect::{Dialect, Outgoing};
use crate::error::ApiError;
use crate::llm::embeddings::EmbeddingRequest;
use crate::llm::failure::ProviderError;
use crate::llm::request::Ask;
use crate::provider::Target;
use http::HeaderMap;

pub mod body;
mod calls;
pub mod compose;
mod constraint;
pub mod decode;
mod element;
pub mod embeddings;
pub mod encode;
pub mod error;
pub mod messages;
mod nulls;
mod returned;
mod usage;

/// OpenAI chat completions.
pub struct OpenAi;

impl Dialect for OpenAi {
    fn encode(&self, ask: &dyn Ask, target: &Target) -> Result<Outgoing, ApiError> {
        compose::with_chat(ask, |chat| encode::encode(ask, chat, &target.provider.quirks, target.split_think_tags))
    }

    fn encode_embeddings(&self, request: &EmbeddingRequest<'_>, target: &Target) -> Result<Outgoing, ApiError> {
        embeddings::encode(request, &target.provider)
    }

    fn read_error(&self, status: u16, headers: &HeaderMap, body: &[u8]) -> ProviderError {
        error::read(status, headers, body)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]
pub(crate) mod tests;
