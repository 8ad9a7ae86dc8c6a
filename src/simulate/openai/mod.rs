//! OpenAI's chat completions, embeddings and Responses API as a dozen services speak it, each with what differs on its wire.

mod check;
pub(super) mod embeddings;
mod error;
mod hosted;
pub(super) mod passed;
pub(super) mod read;
mod responses;
mod write;

use super::ask::Ask;
use super::dialect::{Dialect, Incoming, Refusal};
use super::reply::Reply;
use super::shape::object;
use bytes::Bytes;
use serde_json::{Map, Value};

/// Who speaks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    OpenAi,
    Together,
    DeepSeek,
    Fireworks,
    Hyperbolic,
    Xai,
    /// vLLM from 0.12: `structured_outputs`, and `guided_*` is silently ignored.
    Vllm,
    /// vLLM before 0.12: `guided_*`, and reasoning is `reasoning_content`.
    VllmLegacy,
    SgLang,
    /// Any other server: it takes all spellings of a constraint.
    Compatible,
}

use Service::{Compatible, DeepSeek, Fireworks, Hyperbolic, OpenAi, SgLang, Together, Vllm, VllmLegacy, Xai};

/// The embeddings endpoint, after the base path.
const EMBEDDINGS: &str = "/embeddings";

/// Base paths, as in the services' own base URLs.
static BASES: [(&str, Service); 13] = [
    ("/openai/v1", OpenAi),
    ("/together/v1", Together),
    ("/deepseek", DeepSeek),
    ("/deepseek/v1", DeepSeek),
    ("/deepseek/beta", DeepSeek),
    ("/fireworks/inference/v1", Fireworks),
    ("/hyperbolic/v1", Hyperbolic),
    ("/xai/v1", Xai),
    ("/vllm/v1", Vllm),
    ("/vllm_legacy/v1", VllmLegacy),
    ("/sglang/v1", SgLang),
    ("/openai_compatible/v1", Compatible),
    ("/v1", Compatible),
];

/// Who answers at a path.
pub(super) fn find(path: &str) -> Option<&'static dyn Dialect> {
    let at = |endpoint: &str| service_at(path.strip_suffix(endpoint)?);
    let chat = || at("/chat/completions").or_else(|| at(EMBEDDINGS).filter(|service| service.embeds()));
    let passed = || passed::at(path).map(|(service, _)| service);
    let own = at(responses::PATH)
        .and_then(|service| responses::of(*service))
        .or_else(|| chat().or_else(passed).map(|service| service as &dyn Dialect));
    own.or_else(|| hosted::find(path))
}

/// The service at a base path.
fn service_at(base: &str) -> Option<&'static Service> {
    BASES.iter().find(|(known, _)| *known == base).map(|(_, service)| service)
}

impl Service {
    /// Reads a chat request from whoever may ask; its ids are made of `raw`.
    ///
    /// # Errors
    /// What the service would refuse.
    pub(super) fn judge(self, json: &Map<String, Value>, raw: &[u8]) -> Result<Ask, Refusal> {
        check::check(self, json)?;
        read::read(self, json, raw)
    }

    /// Whether a request without a key is served.
    fn keyless(self) -> bool {
        matches!(self, Vllm | VllmLegacy | SgLang | Compatible)
    }

    /// Whether it has embeddings.
    fn embeds(self) -> bool {
        !matches!(self, DeepSeek | Xai | Hyperbolic)
    }

    /// Whether it is a server that one runs oneself.
    fn is_vllm(self) -> bool {
        matches!(self, Vllm | VllmLegacy)
    }

    /// Where reasoning goes; `None` where it is never shown.
    fn reasoning_key(self) -> Option<&'static str> {
        match self {
            OpenAi => None,
            Together | Vllm => Some("reasoning"),
            _ => Some("reasoning_content"),
        }
    }
}

impl Dialect for Service {
    fn read(&self, request: Incoming<'_>) -> Result<Ask, Refusal> {
        let Incoming { headers, body, .. } = request;
        if request.path().ends_with(EMBEDDINGS) {
            return embeddings::read(*self, headers, body);
        }
        if let Some((_, endpoint)) = passed::at(request.path()) {
            return passed::read(*self, endpoint, request);
        }
        check::key(*self, headers)?;
        self.judge(&object(headers, body)?, body)
    }

    fn whole(&self, ask: &Ask, reply: &Reply) -> Vec<u8> {
        if let Some(embed) = &ask.embed {
            return embeddings::whole(*self, ask, embed).to_string().into_bytes();
        }
        if let Some(passed) = &ask.passed {
            return passed::whole(ask, passed, reply);
        }
        let mut out = Vec::new();
        if *self == DeepSeek {
            out.extend_from_slice(b"\n\n"); // it keeps the connection alive with blank lines while a request is queued
        }
        out.extend_from_slice(write::whole(*self, ask, reply).to_string().as_bytes());
        out
    }

    fn whole_type(&self, ask: &Ask) -> &'static str {
        ask.passed.as_ref().map_or("application/json", passed::content_type)
    }

    fn events(&self, ask: &Ask, reply: &Reply) -> Vec<Bytes> {
        if let Some(passed) = &ask.passed {
            return passed::events(ask, passed, reply);
        }
        let mut events: Vec<Bytes> =
            write::chunks(*self, ask, reply).into_iter().map(|chunk| Bytes::from(format!("data: {chunk}\n\n"))).collect();
        events.push(Bytes::from_static(b"data: [DONE]\n\n"));
        events
    }

    fn refusal(&self, refusal: &Refusal) -> Value {
        error::body(*self, refusal)
    }

    fn stream_type(&self) -> &'static str {
        if *self == Together { "text/event-stream;charset=utf-8" } else { "text/event-stream; charset=utf-8" }
    }
}
