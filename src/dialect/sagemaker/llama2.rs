//! JumpStart's first Llama 2 chat containers: messages and three parameters in, one message out, no streaming.

use super::tgi::max_new_tokens;
use crate::chat::event::{Event, Finish, Sink, Text};
use crate::chat::field::Field;
use crate::chat::message::{self, Role};
use crate::chat::request::ChatRequest;
use crate::dialect::params::{self, Policy, Unknown};
use crate::dialect::{Decoder, Fault, Frame, Framing, Outgoing};
use crate::error::ApiError;
use crate::json::write::Writer;
use crate::provider::Target;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use serde::Deserialize;
use std::borrow::Cow;

/// Meta's licence is accepted with every request; the operator did so when the endpoint was made.
const CUSTOM_ATTRIBUTES: HeaderName = HeaderName::from_static("x-amzn-sagemaker-custom-attributes");

/// Writes a request; path and framing are the service's.
pub(super) fn encode(request: &ChatRequest<'_>, target: &Target) -> Result<Outgoing, ApiError> {
    if request.stream() {
        return Err(ApiError::field(Field::Stream.name(), "this model cannot stream; leave `stream` out"));
    }
    let mapped = [Field::MaxTokens, Field::MaxCompletionTokens, Field::Temperature, Field::TopP];
    let settled = params::settle(request, Unknown::Drop, |field| Policy::of(field, &mapped))?;
    let mut w = Writer::with_capacity(request.parsed.body().len() + 256);
    w.object().key("inputs").array().array();
    if let Some(system) = request.system {
        w.object().key("role").string("system").key("content").string(system).end_object();
    }
    for message in message::read(request)? {
        let role = match message.role {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant if message.tool_calls.is_empty() => "assistant",
            _ => {
                let path = message.path();
                return Err(ApiError::field(path.clone(), format!("`{path}`: this model takes no tool calls or results")));
            }
        };
        let pieces: Vec<Text<'_>> = message.texts()?.into_iter().flat_map(|text| [Text::Plain("\n"), text]).collect();
        w.object().key("role").string(role).key("content").texts(pieces.get(1..).unwrap_or_default()).end_object();
    }
    w.end_array().end_array().key("parameters").object();
    w.key("max_new_tokens").integer(max_new_tokens(request, target)?);
    for (field, key) in [(Field::Temperature, "temperature"), (Field::TopP, "top_p")] {
        if let Some(raw) = request.raw(field) {
            w.key(key).raw(raw);
        }
    }
    w.end_object().end_object();
    Ok(Outgoing {
        path: String::new(),
        body: Bytes::from(w.finish()),
        headers: vec![(CUSTOM_ATTRIBUTES, HeaderValue::from_static("accept_eula=true"))],
        dropped: settled.dropped,
        adjusted: settled.adjusted,
        framing: Framing::AwsSse,
        decoder: Box::new(Llama2),
    })
}

struct Llama2;

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    generation: Generation<'a>,
}

/// A message, or its text alone.
#[derive(Deserialize)]
#[serde(untagged)]
enum Generation<'a> {
    Message {
        #[serde(borrow)]
        content: Cow<'a, str>,
    },
    Text(#[serde(borrow)] Cow<'a, str>),
}

impl Decoder for Llama2 {
    fn frame(&mut self, _frame: Frame<'_>, _out: &mut dyn Sink) -> Result<(), Fault> {
        Err(Fault::Broken("a stream from a container that cannot stream".into()))
    }

    fn whole(&mut self, body: &[u8], out: &mut dyn Sink) -> Result<(), Fault> {
        let broken = || Fault::Broken("the answer is not JSON of this protocol".into());
        let list: Vec<Wire<'_>> = serde_json::from_slice(body).map_err(|_| broken())?;
        let (Generation::Message { content: text } | Generation::Text(text)) = &list.first().ok_or_else(broken)?.generation;
        // The template leaves a space before the answer.
        out.event(Event::Content { choice: 0, text: Text::Plain(text.strip_prefix(' ').unwrap_or(text)) });
        out.event(Event::Finish { choice: 0, reason: Finish::Stop });
        Ok(())
    }

    fn end(&mut self, _out: &mut dyn Sink) -> Result<(), Fault> {
        Err(Fault::Truncated)
    }
}
