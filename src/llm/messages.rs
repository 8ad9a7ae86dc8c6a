//! A request of Anthropic's Messages API, for one attempt.

use super::envelope::ChatRequest;

/// The request as its front holds it: the client's bytes under the route's settings, and what came in headers.
#[derive(Clone, Copy)]
pub struct MessagesRequest<'a> {
    /// The body, under the route's settings. Of OpenAI's fields it has those that the protocols share.
    pub base: ChatRequest<'a>,
    /// The client's headers that Claude gets.
    pub headers: &'a Headers,
}

/// The headers of the Messages API that say how a body is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    /// `anthropic-version`.
    pub version: Option<Box<str>>,
    /// `anthropic-beta`, its names separated by commas; empty where there are none.
    pub beta: Box<str>,
}

impl Headers {
    /// The names in `anthropic-beta`.
    pub fn betas(&self) -> impl Iterator<Item = &str> {
        self.beta.split(',').map(str::trim).filter(|name| !name.is_empty())
    }
}
