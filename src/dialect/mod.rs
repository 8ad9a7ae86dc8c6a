//! Dialects: the wire protocols of providers.
//!
//! A dialect is code, a provider is data. [`Dialect::encode`] writes one attempt's request, [`Decoder`] reads its
//! answer, [`Dialect::read_error`] reads a refusal. All of it is sans-io: bytes in, bytes and events out, no clock, no
//! randomness, no async, so that every protocol can be tested byte by byte.

use crate::error::ApiError;
use crate::frame::{Frame, Framing};
use crate::json::slices::Slices;
use crate::llm::embeddings::EmbeddingRequest;
use crate::llm::endpoint::Endpoint;
use crate::llm::event::Sink;
use crate::llm::failure::{Fault, ProviderError};
use crate::llm::request::Ask;
use crate::secret::Secret;
use crate::sign::credential::Credential;
use crate::yaml::problem::Position;
use crate::yaml::read::Reader;
use crate::yaml::section::Section;
use crate::yaml::value::At;
use http::{HeaderMap, HeaderName, HeaderValue};
use openai::quirks::Quirks;
use shared::params::Settled;
use shared::schema::rules::Rules;
use std::borrow::Cow;

pub mod anthropic;
pub mod bedrock;
pub mod gemini;
pub mod mistral;
pub mod openai;
pub mod sagemaker;
pub mod shared;

/// One wire protocol.
pub trait Dialect: Sync {
    /// Writes the request of one attempt.
    ///
    /// # Errors
    /// A 400 that names the field where the target cannot keep what the client asked for.
    fn encode(&self, ask: &dyn Ask) -> Result<Outgoing, ApiError>;

    /// Writes a request that counts the tokens of a prompt; `None` if the provider has no endpoint for it.
    ///
    /// # Errors
    /// A 400 that names the field where it cannot read the prompt.
    fn encode_count(&self, _ask: &dyn Ask) -> Result<Option<Outgoing>, ApiError> {
        Ok(None)
    }

    /// Writes the request of one attempt at embeddings; `None` if the model makes none.
    ///
    /// # Errors
    /// A 400 that names the field where the target cannot keep what the client asked for.
    fn encode_embeddings(&self, _request: &EmbeddingRequest<'_>) -> Result<Option<Outgoing>, ApiError> {
        Ok(None)
    }

    /// Reads an answer whose status is not 2xx. `body` may be cut off, empty or not JSON.
    fn read_error(&self, status: u16, headers: &HeaderMap, body: &[u8]) -> ProviderError;

    /// The names that refusals of a model have for what clients write, where they are not OpenAI's.
    fn names(&self, _model: &str) -> &'static [shared::blame::Names] {
        &[]
    }

    /// How the dialect differs from OpenAI's, where it is OpenAI's for some model.
    fn quirks(&self) -> Option<&Quirks> {
        None
    }

    /// Whether a request of the Responses API is spliced, because the provider has that API.
    fn has_responses(&self) -> bool {
        false
    }

    /// The path, below the base URL, of an endpoint whose requests pass; `None` where the provider does not have it.
    fn endpoint(&self, _endpoint: Endpoint) -> Option<&str> {
        None
    }

    /// The JSON schemas that a model accepts for an answer (and for strict tools), and for other tools; `None`: any.
    fn schemas(&self, _model: &str) -> Option<(&'static Rules, &'static Rules)> {
        self.quirks()?.schemas.rules()
    }
}

/// A dialect with the settings of one target.
pub trait Configure: Dialect + Clone {
    /// The keys of a provider that belong to this dialect. None of them is required by the section: those of the other
    /// dialects are absent.
    type ProviderKeys: Section;
    /// The same of a target.
    type TargetKeys: Section;

    /// The dialect of a provider's targets without settings of their own. `None` after a problem.
    fn configure(setup: &mut Setup<'_>, keys: &Self::ProviderKeys, cx: &mut Reader<'_>) -> Option<Self>;

    /// The dialect with the settings of one target. `split_think_tags`: a `<think>` text inside the content is moved to
    /// `reasoning_content`.
    fn for_target(&self, _: &Self::TargetKeys, _split_think_tags: bool) -> Self {
        self.clone()
    }
}

/// A provider whose dialect is being configured: its other settings, and what the dialect's keys make of them.
pub struct Setup<'a> {
    /// The name of its kind, for messages.
    pub kind: &'a str,
    /// The quirks of its kind.
    pub quirks: &'a Quirks,
    /// Its `api_key`.
    pub api_key: Option<Secret>,
    /// The base URL of its kind; empty where its operator must say it.
    pub kind_base_url: &'a str,
    /// The part of it that is still needed: all; the query, if the section has a `base_url`; or nothing. Words in capitals
    /// (`REGION`) are replaced by the dialect.
    pub base_url: String,
    /// The credential of its requests; `None`: the `api_key`, as the catalogue says.
    pub credential: Option<Credential>,
}

impl Setup<'_> {
    /// A required name that becomes a part of a host or a path. `written`: the keys of the section at `at` that have a
    /// value.
    pub fn host_part(
        &self,
        key: &'static str,
        value: Option<&At<String>>,
        (at, written): (Position, &[(&'static str, Position)]),
        cx: &mut Reader<'_>,
    ) -> Option<String> {
        let Some(value) = value else {
            if !written.iter().any(|(name, _)| *name == key) {
                cx.problems.add(at, format!("`{key}` is missing: a provider of kind {} needs it", self.kind));
            }
            return None;
        };
        // A project may be of the old form `example.com:name`; a workspace is a whole host.
        let (more, what): (&[u8], _) = match key {
            "project" => (b".:_", "a name of letters, digits and `-`"),
            "workspace" => (b".", "a host like dbc-a1b2c3d4-e5f6.cloud.databricks.com, without https://"),
            _ => (b"", "a name of letters, digits and `-`"),
        };
        if value.value.is_empty() || !value.value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || more.contains(&b)) {
            cx.problems.add(value.at, format!("`{key}` is {what}"));
            return None;
        }
        Some(value.value.clone())
    }
}

/// A request to send, less its signature and its host.
pub struct Outgoing {
    /// Path and query below the provider's base URL, beginning with `/`; already percent-encoded.
    pub path: String,
    /// The body, byte for byte as it will be signed and sent.
    pub body: Slices,
    /// Headers of the dialect's own (`anthropic-version`, `accept` …); content type and length are the edge's.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Fields without a counterpart, which were left out, in the client's words; listed in `x-tidegate-dropped-params`.
    pub dropped: Vec<Cow<'static, str>>,
    /// Fields whose value was changed to fit; listed in `x-tidegate-adjusted-params`.
    pub adjusted: Vec<Cow<'static, str>>,
    /// How the streamed answer is cut into frames.
    pub framing: Framing,
    /// Reads the answer to this very request.
    pub decoder: Box<dyn Decoder>,
}

impl Outgoing {
    /// A request without headers of its own, whose answer streams as server-sent events.
    pub fn new(path: impl Into<String>, body: impl Into<Slices>, settled: Settled, decoder: Box<dyn Decoder>) -> Self {
        let Settled { dropped, adjusted, .. } = settled;
        Self { path: path.into(), body: body.into(), headers: Vec::new(), dropped, adjusted, framing: Framing::Sse, decoder }
    }
}

/// A placeholder for a decoder that has been moved out.
pub struct Spent;

impl Decoder for Spent {
    fn frame(&mut self, _: Frame<'_>, _: &mut dyn Sink) -> Result<(), Fault> {
        Err(Fault::Truncated)
    }

    fn whole(&mut self, _: &[u8], _: &mut dyn Sink) -> Result<(), Fault> {
        Err(Fault::Truncated)
    }
}

/// Reads one answer, a state machine over frames. Thrown away with its attempt.
pub trait Decoder: Send + Sync {
    /// Looks at the answer's headers, before anything of its body comes.
    fn headers(&mut self, _headers: &HeaderMap) {}

    /// Whether the client speaks the provider's protocol and its request was spliced, so that the answer's bytes pass.
    fn is_native(&self) -> bool {
        false
    }

    /// Reads one frame of a stream. By default the answer is not one.
    ///
    /// # Errors
    /// A [`Fault`] ends the answer; what was said before it stands.
    fn frame(&mut self, _frame: Frame<'_>, _out: &mut dyn Sink) -> Result<(), Fault> {
        Err(Fault::Broken("a stream in place of a whole answer".into()))
    }

    /// Reads a whole buffered answer.
    ///
    /// # Errors
    /// A [`Fault`] when the body is no answer or says that the provider failed.
    fn whole(&mut self, body: &[u8], out: &mut dyn Sink) -> Result<(), Fault>;

    /// The stream's bytes have ended, cleanly as far as HTTP is concerned.
    ///
    /// # Errors
    /// [`Fault::Truncated`] where the protocol's own end is missing.
    fn end(&mut self, _out: &mut dyn Sink) -> Result<(), Fault> {
        Err(Fault::Truncated)
    }
}

/// The error in a frame or a body that is no part of an answer. The same for every dialect, because proxies in front of a
/// provider have their own forms of errors.
pub fn error_in(text: &str) -> Option<ProviderError> {
    openai::error::find(text)
}

#[cfg(test)]
mod tests;
