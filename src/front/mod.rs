//! The protocols that clients speak: each reads requests and writes answers and errors.

use crate::error::ApiError;
use uuid::Uuid;

pub mod chat;
mod depth;
pub mod embeddings;
pub mod messages;
pub mod models;
pub mod native;
mod read;
pub mod sealed;

/// Whose protocol a path belongs to: what the gateway itself says there has its shape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Front {
    /// OpenAI's chat completions, embeddings and models, and every unknown path.
    #[default]
    OpenAi,
    /// Anthropic's Messages.
    Messages,
}

impl Front {
    /// By the path of the request.
    pub fn of(path: &str) -> Self {
        match path.strip_prefix("/v1/messages") {
            Some("") => Self::Messages,
            Some(rest) if rest.starts_with('/') => Self::Messages,
            _ => Self::OpenAi,
        }
    }

    /// The status of an error.
    pub const fn status(self, error: &ApiError) -> u16 {
        match self {
            Self::OpenAi => error.status,
            Self::Messages => messages::error::status(error),
        }
    }

    /// The body of an error. `id`: the request's.
    pub fn error(self, error: &ApiError, id: Uuid) -> Vec<u8> {
        match self {
            Self::OpenAi => chat::error::body(error),
            Self::Messages => messages::error::body(error, id),
        }
    }

    /// The event that ends a stream which cannot be completed.
    pub fn error_event(self, error: &ApiError, id: Uuid) -> Vec<u8> {
        match self {
            Self::OpenAi => chat::error::event(error),
            Self::Messages => messages::error::event(error, id),
        }
    }

    /// What is written into a silent stream, between two events. OpenAI's clients get a comment, which every reader of
    /// server-sent events skips (WHATWG HTML, section 9.2.6).
    pub const fn heartbeat(self) -> &'static [u8] {
        match self {
            Self::OpenAi => b": keep-alive\n\n",
            Self::Messages => b"event: ping\ndata: {\"type\":\"ping\"}\n\n",
        }
    }
}
