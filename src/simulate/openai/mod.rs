//! The OpenAI chat-completions protocol as a dozen services speak it, each with what differs on its wire.

mod check;
mod error;
mod read;
mod write;

use super::ask::Ask;
use super::dialect::{Dialect, Refusal};
use super::reply::Reply;
use bytes::Bytes;
use http::HeaderMap;

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
    let base = path.strip_suffix("/chat/completions")?;
    BASES.iter().find(|(known, _)| *known == base).map(|(_, service)| service as &dyn Dialect)
}

impl Service {
    /// Whether a request without a key is served.
    fn keyless(self) -> bool {
        matches!(self, Vllm | VllmLegacy | SgLang | Compatible)
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
    fn read(&self, _path: &str, headers: &HeaderMap, body: &[u8]) -> Result<Ask, Refusal> {
        let json = check::check(*self, headers, body)?;
        read::read(*self, &json, body)
    }

    fn whole(&self, ask: &Ask, reply: &Reply) -> Vec<u8> {
        let mut out = Vec::new();
        if *self == DeepSeek {
            out.extend_from_slice(b"\n\n"); // it keeps the connection alive with blank lines while a request is queued
        }
        out.extend_from_slice(write::whole(*self, ask, reply).to_string().as_bytes());
        out
    }

    fn events(&self, ask: &Ask, reply: &Reply) -> Vec<Bytes> {
        let mut events: Vec<Bytes> =
            write::chunks(*self, ask, reply).into_iter().map(|chunk| Bytes::from(format!("data: {chunk}\n\n"))).collect();
        events.push(Bytes::from_static(b"data: [DONE]\n\n"));
        events
    }

    fn refusal(&self, refusal: &Refusal) -> Vec<u8> {
        error::body(*self, refusal).to_string().into_bytes()
    }

    fn error_event(&self, refusal: &Refusal) -> Bytes {
        Bytes::from(format!("data: {}\n\n", error::body(*self, refusal)))
    }

    fn idle(&self) -> Bytes {
        Bytes::from_static(b": keep-alive\n\n")
    }

    fn stream_type(&self) -> &'static str {
        if *self == Together { "text/event-stream;charset=utf-8" } else { "text/event-stream; charset=utf-8" }
    }
}
