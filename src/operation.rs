//! What a client can ask a model for. Everything that differs between the operations, apart from the bytes themselves,
//! is decided here; the way of a request is the same for all.

use crate::chat::field::Field;
use crate::chat::request::{ChatRequest, Parsed};
use crate::dialect::{self, Outgoing};
use crate::embed::request::{self as embeddings, EmbeddingRequest};
use crate::error::ApiError;
use crate::limit::Prospect;
use crate::provider::Target;
use bytes::Bytes;

/// One of the API's endpoints that are answered by a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `POST /v1/chat/completions`.
    Chat,
    /// `POST /v1/embeddings`.
    Embeddings,
}

impl Operation {
    /// Checks a body.
    ///
    /// # Errors
    /// A 400 that names the position or the field.
    pub fn parse(self, body: Bytes) -> Result<Parsed, ApiError> {
        match self {
            Self::Chat => Parsed::parse(body),
            Self::Embeddings => embeddings::parse(body),
        }
    }

    /// What a request will probably use.
    pub fn prospect(self, parsed: &Parsed) -> Prospect {
        let bytes = |raw: Option<&str>| raw.map_or(0, |raw| raw.len() as u64);
        let number = |field| parsed.raw(field).and_then(|raw| raw.parse().ok());
        match self {
            Self::Chat => Prospect {
                prompt_bytes: bytes(parsed.raw(Field::Messages)),
                max_tokens: number(Field::MaxCompletionTokens).or_else(|| number(Field::MaxTokens)),
                choices: number(Field::N).unwrap_or(1),
            },
            Self::Embeddings => Prospect { prompt_bytes: bytes(parsed.raw_named(embeddings::INPUT)), max_tokens: Some(0), choices: 1 },
        }
    }

    /// Writes the request of one attempt in the target's dialect.
    ///
    /// # Errors
    /// A 400 that names the field where the target cannot keep what the client asked for.
    pub fn encode(self, request: &ChatRequest<'_>, target: &Target) -> Result<Outgoing, ApiError> {
        let dialect = dialect::of(target);
        match self {
            Self::Chat => dialect.encode(request, target),
            Self::Embeddings => dialect.encode_embeddings(&EmbeddingRequest::of(request)?, target),
        }
    }
}
