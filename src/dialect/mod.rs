//! Dialects: the wire protocols of providers.
//!
//! A dialect is code, a provider is data. [`Dialect::encode`] writes one attempt's request, [`Decoder`] reads its
//! answer, [`Dialect::read_error`] reads a refusal. All of it is sans-io: bytes in, bytes and events out, no clock, no
//! randomness, no async, so that every protocol can be tested byte by byte.

use crate::error::ApiError;
use crate::frame::{Frame, Framing};
use crate::llm::embeddings::EmbeddingRequest;
use crate::llm::event::Sink;
use crate::llm::failure::{Fault, ProviderError};
use crate::llm::request::Ask;
use crate::provider::{Kind, Target};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use shared::embeddings::unavailable;
use std::borrow::Cow;

use shared::schema::rules::{self, Rules};

pub mod anthropic;
pub mod bedrock;
pub mod gemini;
pub mod mistral;
pub mod openai;
pub mod sagemaker;
pub mod shared;

/// The dialect that a target speaks.
pub fn of(target: &Target) -> &'static dyn Dialect {
    match target.provider.kind {
        Kind::Anthropic => &anthropic::Anthropic,
        Kind::GoogleAiStudio => &gemini::Gemini,
        Kind::Vertex => &gemini::Vertex,
        Kind::Bedrock => &bedrock::Bedrock,
        Kind::Mistral => &mistral::Mistral,
        Kind::SageMaker => &sagemaker::SageMaker,
        Kind::OpenAi(_) => &openai::OpenAi,
    }
}

/// Which JSON schemas a target takes of an answer (and of strict tools), and of other tools; `None`: any.
pub fn schemas(target: &Target, model: &str) -> Option<(&'static Rules, &'static Rules)> {
    const CLAUDE: (&Rules, &Rules) = (&rules::CLAUDE, &rules::CLAUDE_TOOL);
    const GEMINI: (&Rules, &Rules) = (&rules::GEMINI, &rules::GEMINI_TOOL);
    match target.provider.kind {
        Kind::Anthropic => Some(CLAUDE),
        Kind::GoogleAiStudio => Some(GEMINI),
        Kind::Vertex => match gemini::Publisher::of(model) {
            gemini::Publisher::Google => Some(GEMINI),
            gemini::Publisher::Anthropic => Some(CLAUDE),
            gemini::Publisher::Other => target.provider.quirks.schemas.rules(),
        },
        Kind::Bedrock => {
            let means = bedrock::family::Family::of(model).means(target.structured_output);
            Some((means.output_rules, means.tool_rules))
        }
        Kind::SageMaker => None,
        Kind::Mistral | Kind::OpenAi(_) => target.provider.quirks.schemas.rules(),
    }
}

/// One wire protocol.
pub trait Dialect: Sync {
    /// Writes the request of one attempt.
    ///
    /// # Errors
    /// A 400 that names the field where the target cannot keep what the client asked for.
    fn encode(&self, ask: &dyn Ask, target: &Target) -> Result<Outgoing, ApiError>;

    /// Writes a request that counts the tokens of a prompt. Few providers have that.
    ///
    /// # Errors
    /// A 404 where this one has not, and a 400 that names the field where it cannot read the prompt.
    fn encode_count(&self, _ask: &dyn Ask, target: &Target) -> Result<Outgoing, ApiError> {
        Err(shared::count::unavailable(target))
    }

    /// Writes the request of one attempt at embeddings. Not every provider has them.
    ///
    /// # Errors
    /// A 400 that names the field where the target cannot keep what the client asked for.
    fn encode_embeddings(&self, _request: &EmbeddingRequest<'_>, target: &Target) -> Result<Outgoing, ApiError> {
        Err(unavailable(&target.provider))
    }

    /// Reads an answer whose status is not 2xx. `body` may be cut off, empty or not JSON.
    fn read_error(&self, status: u16, headers: &HeaderMap, body: &[u8]) -> ProviderError;

    /// The names that refusals of a model have for what clients write, where they are not OpenAI's.
    fn names(&self, _model: &str) -> &'static [shared::blame::Names] {
        &[]
    }
}

/// A request as it will leave, less its signature and its host.
pub struct Outgoing {
    /// Path and query below the provider's base URL, beginning with `/`; already percent-encoded.
    pub path: String,
    /// The body, byte for byte as it will be signed and sent.
    pub body: Bytes,
    /// Headers of the dialect's own (`anthropic-version`, `accept` …); content type and length are the edge's.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Fields that had no counterpart and were left out, in the client's words; told in `x-tidegate-dropped-params`.
    pub dropped: Vec<Cow<'static, str>>,
    /// Fields whose value was changed to fit; told in `x-tidegate-adjusted-params`.
    pub adjusted: Vec<Cow<'static, str>>,
    /// How the streamed answer is cut into frames.
    pub framing: Framing,
    /// Reads the answer to this very request.
    pub decoder: Box<dyn Decoder>,
}

/// The decoder of an attempt whose decoder is in use.
pub struct Spent;

impl Decoder for Spent {
    fn frame(&mut self, _: Frame<'_>, _: &mut dyn Sink) -> Result<(), Fault> {
        Err(Fault::Truncated)
    }

    fn whole(&mut self, _: &[u8], _: &mut dyn Sink) -> Result<(), Fault> {
        Err(Fault::Truncated)
    }

    fn end(&mut self, _: &mut dyn Sink) -> Result<(), Fault> {
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

    /// Reads one frame of a stream.
    ///
    /// # Errors
    /// A [`Fault`] ends the answer; what was said before it stands.
    fn frame(&mut self, frame: Frame<'_>, out: &mut dyn Sink) -> Result<(), Fault>;

    /// Reads a whole buffered answer.
    ///
    /// # Errors
    /// A [`Fault`] when the body is no answer or says that the provider failed.
    fn whole(&mut self, body: &[u8], out: &mut dyn Sink) -> Result<(), Fault>;

    /// The stream's bytes have ended, cleanly as far as HTTP is concerned.
    ///
    /// # Errors
    /// [`Fault::Truncated`] where the protocol's own end is missing.
    fn end(&mut self, out: &mut dyn Sink) -> Result<(), Fault>;
}

/// The error that a frame or a body holds, which its dialect could not read as a part of an answer. Every dialect has the
/// same reader: proxies and gateways in front of a provider answer in their own form.
pub fn error_in(text: &str) -> Option<ProviderError> {
    openai::error::find(text)
}
