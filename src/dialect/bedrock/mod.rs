//! AWS Bedrock: Converse and ConverseStream, one protocol for all of its models.
//!
//! | client | Converse |
//! | --- | --- |
//! | `messages` | `system`, `messages` ([`messages`]) |
//! | `tools`, `tool_choice`, `response_format`, `guided_json`, `guided_choice` | `toolConfig`, `outputConfig` ([`messages`]) |
//! | `max_tokens`, `temperature`, `top_p`, `stop` | `inferenceConfig` |
//! | `reasoning_effort`, `parallel_tool_calls` | `additionalModelRequestFields`, by model family |
//! | `service_tier` | `serviceTier` |
//! | `metadata` | `requestMetadata` |
//! | `cache_control` | `cachePoint` |

use self::family::Family;
use crate::dialect::anthropic::encode::write_choice;
use crate::dialect::anthropic::{self, Seat};
use crate::dialect::shared::blame::Names;
use crate::dialect::shared::claude::{self, Model, Sampling};
use crate::dialect::shared::count::unavailable;
use crate::dialect::shared::params::{self, Policy, Settled};
use crate::dialect::shared::toolbox::{Call, Toolbox};
use crate::dialect::shared::turns::Block;
use crate::dialect::{Dialect, Outgoing};
use crate::error::ApiError;
use crate::frame::Framing;
use crate::json::text::Text;
use crate::json::write::Writer;
use crate::llm::embeddings::EmbeddingRequest;
use crate::llm::failure::ProviderError;
use crate::llm::field::Field;
use crate::llm::request::{Ask, Request};
use crate::percent;
use crate::provider::Target;
use bytes::Bytes;
use http::HeaderMap;
use std::borrow::Cow;
use std::collections::BTreeMap;

mod decode;
mod embeddings;
pub mod error;
pub mod family;
mod messages;

#[cfg(test)]
pub(in crate::dialect) mod tests;

/// Most pairs of `requestMetadata`.
const MAX_METADATA: usize = 16;
/// Longest key or value there.
const MAX_METADATA_TEXT: usize = 256;

/// Bedrock's Converse API.
pub struct Bedrock;

/// Fields that are written, for this family.
fn policy(field: Field, family: Family) -> Policy {
    let takes = family.takes();
    match field {
        Field::ParallelToolCalls if family == Family::Claude => Policy::Mapped,
        Field::ReasoningEffort if takes.effort => Policy::Mapped,
        // Without it the answer would go on behind the place where the client wants it to end.
        Field::Stop if !takes.stop => Policy::Essential,
        _ => Policy::of(
            field,
            &[
                Field::MaxTokens,
                Field::MaxCompletionTokens,
                Field::Temperature,
                Field::TopP,
                Field::Stop,
                Field::Tools,
                Field::ToolChoice,
                Field::ResponseFormat,
                Field::GuidedJson,
                Field::GuidedChoice,
                Field::ServiceTier,
                Field::Metadata,
                // Without tools these ask for nothing; with them the tools' reader explains what to use instead.
                Field::Functions,
                Field::FunctionCall,
            ],
        ),
    }
}

impl Dialect for Bedrock {
    fn encode(&self, ask: &dyn Ask, target: &Target) -> Result<Outgoing, ApiError> {
        let family = Family::of(ask.model());
        if let (Family::Claude, Some(messages)) = (family, ask.messages()) {
            return anthropic::native(messages, &Seat::of(target), target, false);
        }
        let request = &ask.request()?;
        let mut settled = params::settle(request, |field| policy(field, family))?;
        let takes = family.takes();
        let mut toolbox = Toolbox::read(request, &family.means(target.structured_output), &mut settled)?;
        let mut conversation = messages::read(request, family)?;
        let calls_tools = conversation.blocks().any(|block| matches!(block, Block::Call { .. } | Block::Result { .. }));
        if calls_tools && toolbox.tools.is_empty() {
            toolbox.tools = messages::undeclared(conversation.blocks());
        }
        if calls_tools && toolbox.call == Call::None {
            conversation.system.push((Text::Plain(messages::NO_CALLS), None));
        }
        if let Some(words) = toolbox.instruction() {
            conversation.system.push((Text::Plain(words), None));
        }
        // Only Claude keeps tools, and Nova the rest of a prompt. The answer is the same without.
        if family != Family::Claude {
            toolbox.tools.iter_mut().for_each(|tool| tool.cache = None);
        }
        let limit = request.token_limit()?;
        let can_think = conversation.can_think();
        let thinking = family::Thinking::of(request, family, limit, (toolbox.forces(), can_think), &mut settled)?;
        let limit = thinking.max_tokens(limit, target.default_max_tokens);

        let mut w = Writer::with_capacity(request.size + 512);
        w.object();
        // Claude refuses its own thinking where it is told not to think; the others are not told.
        let thinks = family != Family::Claude || thinking.claude_thinks();
        messages::write(&mut w, &conversation, thinks, takes.cache);
        write_inference(&mut w, request, family, limit, thinking, &mut settled)?;
        // Only Claude's own `tool_choice` can say this. The whole choice is written there then: Converse merges both into
        // one request and refuses a choice that stands in two places ("The additional field tool_choice/type conflicts
        // with the existing field toolConfig.toolChoice.tool").
        let serial = family == Family::Claude && toolbox.serial && toolbox.call != Call::None;
        if !toolbox.tools.is_empty() && (calls_tools || toolbox.call != Call::None) {
            messages::write_tools(&mut w, &toolbox.tools, if serial { Call::Unsaid } else { toolbox.call });
        }
        if let Some(schema) = toolbox.native() {
            messages::write_output(&mut w, schema);
        }
        if serial || thinking.is_on() {
            w.key("additionalModelRequestFields").object();
            thinking.write(&mut w);
            if serial {
                write_choice(&mut w, toolbox.call, true);
            }
            w.end_object();
        }
        write_tier(&mut w, request, &mut settled)?;
        write_metadata(&mut w, request, &mut settled)?;
        w.end_object();

        let operation = if request.stream { "converse-stream" } else { "converse" };
        // Thinking has to come back with a call of the client's tools only.
        let decoder = decode::Converse::new(family, toolbox.content_tool(), thinks && toolbox.calls);
        Ok(Outgoing {
            path: format!("/model/{}/{operation}", percent::segment(request.model)),
            body: Bytes::from(w.finish()),
            headers: Vec::new(),
            dropped: settled.dropped,
            adjusted: settled.adjusted,
            framing: Framing::AwsEventStream,
            decoder: toolbox.around(decoder),
        })
    }

    fn encode_count(&self, ask: &dyn Ask, target: &Target) -> Result<Outgoing, ApiError> {
        match (Family::of(ask.model()), ask.messages()) {
            (Family::Claude, Some(messages)) => anthropic::native(messages, &Seat::of(target), target, true),
            _ => Err(unavailable(target)),
        }
    }

    fn encode_embeddings(&self, request: &EmbeddingRequest<'_>, target: &Target) -> Result<Outgoing, ApiError> {
        embeddings::encode(request, &target.provider)
    }

    fn read_error(&self, status: u16, headers: &HeaderMap, body: &[u8]) -> ProviderError {
        error::read(status, headers, body)
    }

    fn names(&self, _model: &str) -> &'static [Names] {
        &[error::NAMES, super::anthropic::error::NAMES]
    }
}

fn write_inference(
    w: &mut Writer,
    request: &Request<'_>,
    family: Family,
    limit: Option<u64>,
    thinking: family::Thinking,
    settled: &mut Settled,
) -> Result<(), ApiError> {
    let sampling = match family {
        Family::Claude if thinking.claude_thinks() || !Model::of(request.model).sampled() => Sampling::Fixed,
        Family::Claude => Sampling::Either,
        _ => Sampling::Both,
    };
    let (temperature, top_p) = sampling.settle(request, settled)?;
    let stop = claude::stops(request, family == Family::Claude)?;
    if limit.is_none() && temperature.is_none() && top_p.is_none() && stop.is_empty() {
        return Ok(());
    }
    w.key("inferenceConfig").object();
    if let Some(limit) = limit {
        w.key("maxTokens").integer(limit);
    }
    for (key, value) in [("temperature", temperature), ("topP", top_p)] {
        if let Some(value) = value {
            w.key(key).raw(value);
        }
    }
    if !stop.is_empty() {
        w.key("stopSequences").array();
        for text in stop {
            w.text(*text);
        }
        w.end_array();
    }
    w.end_object();
    Ok(())
}

/// `metadata` stands in the operator's log of invocations, where the service takes it: at most 16 pairs of a small alphabet
/// (`RequestMetadata` of its service model).
fn write_metadata(w: &mut Writer, request: &Request<'_>, settled: &mut Settled) -> Result<(), ApiError> {
    let Some(raw) = request.metadata else { return Ok(()) };
    let fits = |text: &str| {
        let known = |b: u8| b.is_ascii_alphanumeric() || b.is_ascii_whitespace() || b":_@$#=/+,-.".contains(&b);
        text.len() <= MAX_METADATA_TEXT && text.bytes().all(known)
    };
    let pairs = serde_json::from_str::<BTreeMap<Cow<'_, str>, Cow<'_, str>>>(raw).unwrap_or_default();
    let all = pairs.iter().all(|(key, value)| !key.is_empty() && fits(key) && fits(value));
    if !all || pairs.is_empty() || pairs.len() > MAX_METADATA {
        return settled.drop(request.name_of(Field::Metadata));
    }
    w.key("requestMetadata").object();
    for (key, value) in &pairs {
        w.key(key).string(value);
    }
    w.end_object();
    Ok(())
}

fn write_tier(w: &mut Writer, request: &Request<'_>, settled: &mut Settled) -> Result<(), ApiError> {
    match request.service_tier {
        Some(r#""default""#) | None => {}
        Some(tier @ (r#""priority""# | r#""flex""# | r#""reserved""#)) => {
            w.key("serviceTier").object().key("type").raw(tier).end_object();
        }
        Some(_) => settled.drop(request.name_of(Field::ServiceTier))?,
    }
    Ok(())
}
