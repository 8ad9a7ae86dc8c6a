//! OpenAI's Responses API as the services that have it speak it.

mod check;
mod encrypted;
mod events;
mod input;
mod read;
mod shape;
mod tools;
mod write;

use super::Service::{self, Compatible, OpenAi, Vllm, Xai};
use super::check::key;
use crate::simulate::ask::Ask;
use crate::simulate::dialect::{Dialect, Incoming, Refusal, typed_event};
use crate::simulate::reply::Reply;
use crate::simulate::shape::object;
use bytes::Bytes;
use serde_json::Value;

/// The endpoint, after the base path.
pub(super) const PATH: &str = "/responses";

/// The value of `include` that asks for encrypted reasoning.
const ENCRYPTED_REASONING: &str = "reasoning.encrypted_content";
/// The value of `include` that asks for log probabilities.
const LOGPROBS: &str = "message.output_text.logprobs";

/// The Responses API of a service.
struct Responses(Service);

/// The Responses API of `service`; `None` where it has none.
pub(super) fn of(service: Service) -> Option<&'static dyn Dialect> {
    match service {
        OpenAi => Some(&Responses(OpenAi)),
        Xai => Some(&Responses(Xai)),
        Vllm => Some(&Responses(Vllm)),
        Compatible => Some(&Responses(Compatible)),
        _ => None,
    }
}

impl Dialect for Responses {
    fn read(&self, request: Incoming<'_>) -> Result<Ask, Refusal> {
        let Incoming { headers, body: raw, .. } = request;
        key(self.0, headers)?;
        let body = object(headers, raw)?;
        check::check(self.0, &body)?;
        read::read(self.0, body, raw)
    }

    fn whole(&self, ask: &Ask, reply: &Reply) -> Vec<u8> {
        write::whole(self.0, ask, reply).to_string().into_bytes()
    }

    fn failed(&self, ask: &Ask, refusal: &Refusal) -> Vec<u8> {
        write::failed(self.0, ask, refusal).to_string().into_bytes()
    }

    fn events(&self, ask: &Ask, reply: &Reply) -> Vec<Bytes> {
        let done = matches!(self.0, Vllm | Compatible).then_some(Bytes::from_static(b"data: [DONE]\n\n"));
        events::events(self.0, ask, reply).iter().map(typed_event).chain(done).collect()
    }

    fn refusal(&self, refusal: &Refusal) -> Value {
        self.0.refusal(refusal)
    }

    fn junk(&self, text: &str) -> Bytes {
        Bytes::from(format!("event: response.output_text.delta\ndata: {text}\n\n"))
    }

    fn error_event(&self, ask: &Ask, sent: usize, refusal: &Refusal) -> Bytes {
        events::failure(self.0, ask, sent, refusal).iter().flat_map(typed_event).collect()
    }

    fn idle(&self) -> Bytes {
        self.0.idle()
    }
}
