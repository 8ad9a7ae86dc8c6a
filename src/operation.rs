//! What a client can ask a model for. Everything that differs between the operations, apart from the bytes themselves,
//! is decided here; the way of a request is the same for all.

use crate::closed_set::closed_set;
use crate::dialect::Outgoing;
use crate::error::{ApiError, ErrorKind};
use crate::front::responses::response::Response;
use crate::front::{embeddings, messages, responses};
use crate::limit::{RequestSize, estimate};
use crate::llm::embeddings::{EmbeddingRequest, INPUT};
use crate::llm::envelope::{ChatRequest, Parsed};
use crate::llm::field::Field;
use crate::llm::messages::{Headers, MessagesRequest};
use crate::llm::responses::ResponsesRequest;
use crate::provider::Target;
use bytes::Bytes;
use std::sync::Arc;

closed_set! {
    /// One of the API's endpoints that are answered by a provider.
    Operation {
        /// `POST /v1/chat/completions`.
        Chat = "chat",
        /// `POST /v1/embeddings`.
        Embeddings = "embeddings",
        /// `POST /v1/messages`.
        Messages = "messages",
        /// `POST /v1/messages/count_tokens`.
        CountTokens = "count_tokens",
        /// `POST /v1/responses`.
        Responses = "responses",
    }
}

/// What a request has beside its body, by its protocol.
#[derive(Clone, Default)]
pub enum Beside {
    /// Nothing.
    #[default]
    Nothing,
    /// The headers of the Messages API.
    Messages(Headers),
    /// Of the Responses API.
    Responses {
        /// What the client is told of its answer.
        response: Response,
        /// Whether the target has refused what is encrypted in the request's reasoning.
        without_reasoning: bool,
        /// What the request refers to that is stored, and the index of the only provider that can have stored it.
        stored: Option<(&'static str, usize)>,
    },
}

impl Operation {
    /// Whether a model writes an answer to it.
    pub const fn generates(self) -> bool {
        matches!(self, Self::Chat | Self::Messages | Self::Responses)
    }

    /// Checks a body.
    ///
    /// # Errors
    /// A 400 that names the position or the field.
    pub fn parse(self, body: Bytes) -> Result<Parsed, ApiError> {
        match self {
            Self::Chat => Parsed::parse(body),
            Self::Embeddings => embeddings::parse(body),
            Self::Messages => messages::parse(body, false),
            Self::CountTokens => messages::parse(body, true),
            Self::Responses => responses::parse(body),
        }
    }

    /// What a request will probably use, under what its route sets; its model does not matter yet.
    pub fn prospect(self, request: &ChatRequest<'_>) -> RequestSize {
        match self {
            Self::Chat | Self::Messages => RequestSize {
                prompt_bytes: request.parsed.raw(Field::Messages).map_or(0, estimate::prompt_bytes)
                    + if self == Self::Messages { request.parsed.raw_named("system").map_or(0, |raw| raw.len() as u64) } else { 0 }
                    + request.system.map_or(0, |system| system.len() as u64),
                max_tokens: request.max_tokens().and_then(|(_, raw)| raw.parse().ok()),
                choices: request.raw(Field::N).and_then(|raw| raw.parse().ok()).unwrap_or(1),
            },
            Self::Responses => RequestSize {
                prompt_bytes: [responses::INPUT, responses::INSTRUCTIONS]
                    .into_iter()
                    .filter_map(|name| request.parsed.raw_named(name))
                    .map(estimate::prompt_bytes)
                    .sum::<u64>()
                    + request.system.map_or(0, |system| system.len() as u64),
                max_tokens: responses::max_tokens(request),
                choices: 1,
            },
            Self::Embeddings => {
                let input = request.parsed.raw_named(INPUT);
                RequestSize { prompt_bytes: input.map_or(0, |raw| raw.len() as u64), max_tokens: Some(0), choices: 1 }
            }
            Self::CountTokens => RequestSize { prompt_bytes: 0, max_tokens: Some(0), choices: 1 },
        }
    }

    /// Writes the request of one attempt in the target's dialect.
    ///
    /// # Errors
    /// A 400 that names the field where the target cannot keep what the client asked for.
    pub fn encode(self, request: &ChatRequest<'_>, beside: &Beside, target: &Target) -> Result<Outgoing, ApiError> {
        let (dialect, provider) = (target.dialect(), &target.provider.name);
        let no_headers = Headers::default();
        let headers = if let Beside::Messages(headers) = beside { headers } else { &no_headers };
        match self {
            Self::Chat => dialect.encode(request),
            Self::Embeddings => dialect.encode_embeddings(&EmbeddingRequest::of(request)?)?.ok_or_else(|| {
                let kind = &target.provider.kind.name;
                let message = format!("Provider `{provider}` ({kind}) has no embeddings for this model; choose another model");
                ApiError::field(Field::Model.name(), message)
            }),
            Self::Messages => dialect.encode(&MessagesRequest { base: *request, headers }),
            Self::CountTokens => dialect.encode_count(&MessagesRequest { base: *request, headers })?.ok_or_else(|| {
                let message = format!("Provider `{provider}` of this model counts no tokens of a prompt.");
                ApiError::new(404, ErrorKind::NotFound, message)
            }),
            Self::Responses => {
                let no_functions = Arc::default();
                let (functions, without_reasoning) = match beside {
                    Beside::Responses { stored: Some((name, at)), .. } if *at != target.provider.index => {
                        return Err(responses::not_stored(name));
                    }
                    Beside::Responses { response, without_reasoning, .. } => (response.functions(), *without_reasoning),
                    _ => (&no_functions, false),
                };
                dialect.encode(&ResponsesRequest { base: *request, functions, without_reasoning })
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::llm::settings::Params;

    #[test]
    fn a_prospect_goes_by_what_the_route_sets() {
        let size = |body: &str, overrides: &str, defaults: &str| {
            let list = |value: &str| if value.is_empty() { vec![] } else { vec![("max_tokens".to_owned(), value.to_owned())] };
            let params = Params { overrides: list(overrides), defaults: list(defaults), ..Params::default() };
            let body = format!(r#"{{"model":"r","messages":[{{"role":"user","content":"hello"}}]{body}}}"#);
            let parsed = Operation::Chat.parse(body.into()).unwrap();
            Operation::Chat.prospect(&ChatRequest { parsed: &parsed, params: &params, system: Some("Be brief."), model: "", seal: None })
        };
        let none = size("", "", "");
        assert_eq!(none, RequestSize { prompt_bytes: 35 + 9, max_tokens: None, choices: 1 });
        assert_eq!(size("", "", "7").max_tokens, Some(7));
        assert_eq!(size(r#","max_completion_tokens":5,"n":2"#, "", "7"), RequestSize { max_tokens: Some(5), choices: 2, ..none });
        assert_eq!(size(r#","max_completion_tokens":5"#, "9", "7").max_tokens, Some(9));
    }
}
