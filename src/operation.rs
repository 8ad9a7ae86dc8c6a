//! What a client can ask a model for. Everything that differs between the operations, apart from the bytes themselves,
//! is decided here; the way of a request is the same for all.

use crate::account::Units;
use crate::dialect::shared::params::Settled;
use crate::dialect::{Outgoing, Spent};
use crate::error::{ApiError, ErrorKind};
use crate::frame::Framing;
use crate::front::passed::{self, Form};
use crate::front::responses::response::Response;
use crate::front::{embeddings, messages, responses};
use crate::json::walk;
use crate::limit::{RequestSize, estimate};
use crate::llm::embeddings::{EmbeddingRequest, INPUT};
use crate::llm::endpoint::Endpoint;
use crate::llm::envelope::{ChatRequest, Parsed};
use crate::llm::field::{Field, Fields};
use crate::llm::messages::{Headers, MessagesRequest};
use crate::llm::request::Ask;
use crate::llm::responses::ResponsesRequest;
use crate::provider::Target;
use bytes::Bytes;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use std::sync::Arc;

/// One of the API's endpoints that are answered by a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `POST /v1/chat/completions`.
    Chat,
    /// `POST /v1/embeddings`.
    Embeddings,
    /// `POST /v1/messages`.
    Messages,
    /// `POST /v1/messages/count_tokens`.
    CountTokens,
    /// `POST /v1/responses`.
    Responses,
    /// One whose requests and answers pass as they are.
    Passed(Endpoint),
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
        /// What the request refers to that is stored, and the index of the only provider that can have stored it.
        stored: Option<(&'static str, usize)>,
    },
    /// The boundary of a form that is still to be read.
    Boundary(Box<str>),
    /// A form.
    Form(Form),
}

impl Beside {
    /// Reads a body.
    ///
    /// # Errors
    /// A 400 that names the position or the field.
    pub fn read(self, operation: Operation, body: Bytes) -> Result<(Parsed, Self), ApiError> {
        match self {
            Self::Boundary(boundary) => passed::form(body, boundary).map(|(parsed, form)| (parsed, Self::Form(form))),
            beside => Ok((operation.parse(body)?, beside)),
        }
    }
}

impl Operation {
    /// Those that do not pass.
    const TRANSLATED: [Self; 5] = [Self::Chat, Self::Embeddings, Self::Messages, Self::CountTokens, Self::Responses];
    /// Number of operations.
    pub const COUNT: usize = Self::TRANSLATED.len() + Endpoint::ALL.len();

    /// All of them, by their number.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::TRANSLATED.into_iter().chain(Endpoint::ALL.iter().map(|endpoint| Self::Passed(*endpoint)))
    }

    /// Its number, below [`Self::COUNT`].
    pub const fn index(self) -> usize {
        match self {
            Self::Chat => 0,
            Self::Embeddings => 1,
            Self::Messages => 2,
            Self::CountTokens => 3,
            Self::Responses => 4,
            Self::Passed(endpoint) => Self::TRANSLATED.len() + endpoint as usize,
        }
    }

    /// Its name in the log and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Embeddings => "embeddings",
            Self::Messages => "messages",
            Self::CountTokens => "count_tokens",
            Self::Responses => "responses",
            Self::Passed(endpoint) => endpoint.name(),
        }
    }

    /// Whether the client wants its answer as a stream of events.
    pub fn streams(self, parsed: &Parsed) -> bool {
        if let Self::Passed(endpoint) = self { passed::streams(parsed, endpoint) } else { parsed.stream() }
    }

    /// Whether the head of a stream may be sent before a provider answers.
    pub const fn always_streams(self) -> bool {
        if let Self::Passed(endpoint) = self { endpoint.always_streams() } else { true }
    }

    /// Whether its usage tells what the next request of the route will use: it is like that of chat.
    pub const fn is_typical(self) -> bool {
        !matches!(self, Self::CountTokens | Self::Passed(_))
    }

    /// Whether a target can be asked for it, as far as that is known without its request.
    pub fn is_at(self, target: &Target) -> bool {
        if let Self::Passed(endpoint) = self { target.dialect().endpoint(endpoint).is_some() } else { true }
    }

    /// What a request asks for that is paid beside tokens.
    pub fn units(self, request: &ChatRequest<'_>) -> Units {
        if let Self::Passed(endpoint) = self { passed::units(request, endpoint) } else { Units { requests: 1, ..Units::default() } }
    }

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
            Self::Passed(_) => passed::parse(body),
        }
    }

    /// What a request will probably use, under what its route sets; its model does not matter yet.
    pub fn prospect(self, request: &ChatRequest<'_>) -> RequestSize {
        match self {
            Self::Chat | Self::Messages => RequestSize {
                prompt_bytes: request.parsed.raw(Field::Messages).map_or(0, |messages| {
                    if request.parsed.traits().media { estimate::prompt_bytes(messages) } else { messages.len() as u64 }
                }) + if self == Self::Messages {
                    request.parsed.raw_named("system").map_or(0, |raw| raw.len() as u64)
                } else {
                    0
                } + request.system.map_or(0, |system| system.len() as u64),
                max_tokens: self.max_tokens(request).map(|(_, limit)| limit),
                choices: request.raw(Field::N).and_then(|raw| raw.parse().ok()).unwrap_or(1),
            },
            Self::Responses => RequestSize {
                prompt_bytes: [responses::INPUT, responses::INSTRUCTIONS]
                    .into_iter()
                    .filter_map(|name| request.parsed.raw_named(name))
                    .map(estimate::prompt_bytes)
                    .sum::<u64>()
                    + request.system.map_or(0, |system| system.len() as u64),
                max_tokens: self.max_tokens(request).map(|(_, limit)| limit),
                choices: 1,
            },
            Self::Embeddings => {
                let input = request.parsed.raw_named(INPUT);
                RequestSize { prompt_bytes: input.map_or(0, |raw| raw.len() as u64), max_tokens: Some(0), choices: 1 }
            }
            Self::CountTokens => RequestSize { prompt_bytes: 0, max_tokens: Some(0), choices: 1 },
            Self::Passed(endpoint) => {
                let prompt = endpoint.prompt().iter().filter_map(|name| request.raw_named(name));
                let writes = endpoint == Endpoint::Completions;
                RequestSize {
                    prompt_bytes: prompt.map(|raw| raw.len() as u64).sum(),
                    max_tokens: if writes { request.raw_named(Field::MaxTokens.name()).and_then(walk::unsigned) } else { Some(0) },
                    choices: if writes { request.raw_named("n").and_then(walk::unsigned).unwrap_or(1) } else { 1 },
                }
            }
        }
    }

    /// The limit of the answer's tokens, under what the route sets, by the client's name for it.
    pub fn max_tokens(self, request: &ChatRequest<'_>) -> Option<(&'static str, u64)> {
        if self == Self::Responses {
            return responses::max_tokens(request).map(|limit| (responses::MAX_TOKENS, limit));
        }
        request.max_tokens().and_then(|(field, raw)| Some((field.name(), raw.parse().ok()?)))
    }

    /// The fields that the client or the route gives, in the words of any front.
    pub fn asks(self, request: &ChatRequest<'_>) -> Fields {
        let neutral = match self {
            Self::Messages => MessagesRequest { base: *request, headers: &Headers::default() }.request().map(|r| r.asks()),
            Self::Responses => ResponsesRequest { base: *request, functions: &Arc::default() }.request().map(|r| r.asks()),
            _ => return request.fields().iter().filter(|field| request.raw(*field).is_some()).collect(),
        };
        neutral.unwrap_or_default()
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
                let functions = match beside {
                    Beside::Responses { stored: Some((name, at)), .. } if *at != target.provider.index => {
                        return Err(responses::not_stored(name));
                    }
                    Beside::Responses { response, .. } => response.functions(),
                    _ => &no_functions,
                };
                dialect.encode(&ResponsesRequest { base: *request, functions })
            }
            Self::Passed(endpoint) => {
                let path = dialect.endpoint(endpoint).ok_or_else(|| no_endpoint(endpoint, std::iter::empty()))?;
                pass(path, request, beside)
            }
        }
    }
}

/// The request of one attempt at an endpoint that passes.
fn pass(path: &str, request: &ChatRequest<'_>, beside: &Beside) -> Result<Outgoing, ApiError> {
    let mut settled = Settled::new(request.params.reject_unsupported);
    let (body, headers) = match beside {
        Beside::Form(form) => {
            // The route's settings are members of JSON, which a form does not have.
            request.params.overrides.iter().chain(&request.params.defaults).try_for_each(|(name, _)| settled.drop_unknown(name))?;
            let content_type = HeaderValue::try_from(form.content_type()).map_err(|_| ApiError::internal())?;
            (form.with_model(request.model)?, vec![(CONTENT_TYPE, content_type)])
        }
        _ => (passed::body(request), Vec::new()),
    };
    let (framing, decoder) = (Framing::Sse, Box::new(Spent)); // an answer that passes has no use for either
    Ok(Outgoing { path: path.to_owned(), body, headers, dropped: settled.dropped, adjusted: settled.adjusted, framing, decoder })
}

/// The 404 where no target of a route has an endpoint; `others`: the providers that have it.
pub fn no_endpoint<'p>(endpoint: Endpoint, others: impl Iterator<Item = &'p str>) -> ApiError {
    let others: Vec<String> = others.take(MAX_NAMED + 1).map(|name| format!("`{name}`")).collect();
    let path = endpoint.path();
    let message = match others.get(..MAX_NAMED) {
        _ if others.is_empty() => format!("No provider of this gateway has /v1{path}."),
        Some(first) if others.len() > MAX_NAMED => {
            format!("No provider of this model has /v1{path}. These have it: {}, and others.", first.join(", "))
        }
        _ => format!("No provider of this model has /v1{path}. These have it: {}.", others.join(", ")),
    };
    ApiError { param: Some(Field::Model.name().into()), ..ApiError::new(404, ErrorKind::NotFound, message) }
}

/// Most providers that an error names.
const MAX_NAMED: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::settings::Params;

    #[test]
    fn each_operation_has_a_number_and_a_name_of_its_own() {
        let numbers: Vec<_> = Operation::all().map(Operation::index).collect();
        assert_eq!(numbers, (0..Operation::COUNT).collect::<Vec<_>>());
        let names: std::collections::HashSet<_> = Operation::all().map(Operation::name).collect();
        assert_eq!(names.len(), Operation::COUNT);
    }

    #[test]
    fn a_prospect_of_a_request_that_passes_is_its_text_and_for_completions_what_they_may_write() {
        let size = |endpoint, body: &'static str| {
            let parsed = Operation::Passed(endpoint).parse(body.into()).unwrap();
            let request = ChatRequest { parsed: &parsed, params: &Params::default(), system: Some("not sent"), model: "", seal: None };
            let size = Operation::Passed(endpoint).prospect(&request);
            (size.prompt_bytes, size.max_tokens, size.choices)
        };
        assert_eq!(size(Endpoint::Completions, r#"{"model":"r","prompt":"abc","max_tokens":7,"n":2}"#), (5, Some(7), 2));
        assert_eq!(size(Endpoint::Completions, r#"{"model":"r","prompt":["abc"]}"#), (7, None, 1));
        assert_eq!(size(Endpoint::ImagesGenerations, r#"{"model":"r","prompt":"abc","n":4}"#), (5, Some(0), 1));
        assert_eq!(size(Endpoint::Rerank, r#"{"model":"r","query":"q","documents":["a","b"]}"#), (12, Some(0), 1));
        assert_eq!(size(Endpoint::Moderations, r#"{"model":"r","input":"x"}"#), (0, Some(0), 1));
    }

    #[test]
    fn an_endpoint_that_a_model_does_not_have_is_told_with_those_who_have_it() {
        let names: Vec<String> = (0..10).map(|n| format!("p{n}")).collect();
        let message = |count: usize| no_endpoint(Endpoint::Rerank, names.iter().take(count).map(String::as_str)).message;
        assert_eq!(message(0), "No provider of this gateway has /v1/rerank.");
        assert_eq!(message(2), "No provider of this model has /v1/rerank. These have it: `p0`, `p1`.");
        assert!(message(8).ends_with("`p6`, `p7`.") && message(10).ends_with("`p7`, and others."), "{}", message(10));
    }

    #[test]
    fn a_prospect_counts_an_image_alike_wherever_a_message_has_it() {
        let size = |bytes: usize, message: &str| {
            let data = format!("data:image/png;base64,{}", "A".repeat(bytes));
            let body = format!(r#"{{"model":"m","messages":[{}]}}"#, message.replace("DATA", &data));
            let (parsed, params) = (Parsed::parse(body.into()).unwrap(), Params::default());
            Operation::Chat.prospect(&ChatRequest { parsed: &parsed, params: &params, system: None, model: "", seal: None }).prompt_bytes
        };
        for message in [
            r#"{"role":"user","content":[{"type":"image_url","image_url":{"url":"DATA"}}]}"#,
            r#"{"role":"assistant","content":"Here","images":[{"image_url":{"url":"DATA"}}]}"#,
        ] {
            assert_eq!(size(1 << 20, message), size(5000, message), "{message}");
        }
    }

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
