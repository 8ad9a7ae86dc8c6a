//! The protocols that clients speak: each reads requests and writes answers and errors.

use crate::error::ApiError;
use uuid::Uuid;

mod asks;
pub mod chat;
pub mod embeddings;
pub mod messages;
pub mod models;
pub mod native;
pub mod passed;
mod read;
pub mod responses;
pub mod sealed;
mod write;

/// Whose protocol a path belongs to: what the gateway itself says there has its shape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Front {
    /// OpenAI's chat completions, embeddings and models, the endpoints that pass, and every unknown path.
    #[default]
    OpenAi,
    /// Anthropic's Messages.
    Messages,
    /// OpenAI's Responses.
    Responses,
}

impl Front {
    /// By the path of the request, and whether it has the header [`messages::VERSION`], which Anthropic's clients send to every
    /// endpoint and which decides whose list of models is meant.
    pub fn of(path: &str, has_version: bool) -> Self {
        let is_below = |base| path.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        match () {
            () if is_below("/v1/messages") || (has_version && is_below("/v1/models")) => Self::Messages,
            () if is_below("/v1/responses") => Self::Responses,
            () => Self::OpenAi,
        }
    }

    /// The status of an error.
    pub const fn status(self, error: &ApiError) -> u16 {
        match self {
            Self::OpenAi | Self::Responses => error.status,
            Self::Messages => messages::error::status(error),
        }
    }

    /// The body of an error. `id`: the request's.
    pub fn error(self, error: &ApiError, id: Uuid) -> Vec<u8> {
        match self {
            Self::OpenAi => chat::error::body(error),
            Self::Messages => messages::error::body(error, id),
            Self::Responses => responses::error::body(error),
        }
    }

    /// The event that ends a stream which cannot be completed. Where a client is told of a response, that has more to say:
    /// [`responses::response::Response::failure`].
    pub fn error_event(self, error: &ApiError, id: Uuid) -> Vec<u8> {
        match self {
            Self::OpenAi | Self::Responses => chat::error::event(error),
            Self::Messages => messages::error::event(error, id),
        }
    }

    /// What is written into a silent stream, between two events. OpenAI's clients get a comment, which every reader of
    /// server-sent events skips (WHATWG HTML, section 9.2.6). For Responses this is only so where the provider's own events pass.
    pub const fn heartbeat(self) -> &'static [u8] {
        match self {
            Self::OpenAi | Self::Responses => b": keep-alive\n\n",
            Self::Messages => b"event: ping\ndata: {\"type\":\"ping\"}\n\n",
        }
    }
}
