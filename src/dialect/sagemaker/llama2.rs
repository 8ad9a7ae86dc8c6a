//! JumpStart's first Llama 2 chat containers: messages and three parameters in, one message out, no streaming.

use super::prompt::Template;
use super::tgi::max_new_tokens;
use super::{SageMaker, read_only};
use crate::dialect::shared::params::{self, Policy};
use crate::dialect::{Decoder, Outgoing};
use crate::error::ApiError;
use crate::json::text::Text;
use crate::json::write::Writer;
use crate::llm::event::{Event, Finish, Sink};
use crate::llm::failure::Fault;
use crate::llm::field::Field;
use crate::llm::request::Request;
use http::{HeaderName, HeaderValue};
use serde::Deserialize;
use std::borrow::Cow;

/// Meta's licence is accepted with every request; the operator did so when the endpoint was made.
const CUSTOM_ATTRIBUTES: HeaderName = HeaderName::from_static("x-amzn-sagemaker-custom-attributes");

/// Writes a request; path and framing are the service's.
pub(super) fn encode(request: &Request<'_>, target: &SageMaker) -> Result<Outgoing, ApiError> {
    let mapped = [Field::MaxTokens, Field::MaxCompletionTokens, Field::Temperature, Field::TopP];
    let settled = params::settle(request, |field| Policy::of(field, &mapped))?;
    let mut w = Writer::with_capacity(request.size + 256);
    w.object().key("inputs").array().array();
    let dialog = Template::Llama2.fold(&request.turns())?;
    let mut said = |role: &str, text: &str| {
        w.object().key("role").string(role).key("content").string(text).end_object();
    };
    if !dialog.system.is_empty() {
        said("system", &dialog.system);
    }
    // Meta's code wants 'system', then 'user' and alternating, and the last message from 'user'.
    if matches!(dialog.turns.first(), Some((false, _))) {
        said("user", "");
    }
    for (user, text) in &dialog.turns {
        said(if *user { "user" } else { "assistant" }, text);
    }
    if matches!(dialog.turns.last(), Some((false, _))) {
        said("user", "");
    }
    w.end_array().end_array().key("parameters").object();
    w.key("max_new_tokens").integer(max_new_tokens(request, target)?);
    for (key, value) in [("temperature", request.sampling.temperature), ("top_p", request.sampling.top_p)] {
        w.optional_raw(key, value.map(|(raw, _)| raw));
    }
    w.end_object().end_object();
    let headers = vec![(CUSTOM_ATTRIBUTES, HeaderValue::from_static("accept_eula=true"))];
    Ok(Outgoing { headers, ..Outgoing::new("", w.finish(), settled, Box::new(Llama2)) })
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
    fn whole(&mut self, body: &[u8], out: &mut dyn Sink) -> Result<(), Fault> {
        // One dialog was sent; newer containers answer with its element alone.
        let Wire { generation: Generation::Message { content: text } | Generation::Text(text) } = read_only(body)?;
        // The template leaves a space before the answer.
        out.event(Event::Content { choice: 0, text: Text::Plain(text.strip_prefix(' ').unwrap_or(&text)) });
        out.event(Event::Finish { choice: 0, reason: Finish::Stop });
        Ok(())
    }
}
