//! AWS Bedrock: Converse and ConverseStream, one protocol for all of its models.
//!
//! | client | Converse |
//! | --- | --- |
//! | `messages` | `system`, `messages` ([`messages`]) |
//! | `tools`, `tool_choice`, `response_format`, `guided_json`, `guided_choice` | `toolConfig`, `outputConfig` ([`tools`]) |
//! | `max_tokens`, `temperature`, `top_p`, `stop` | `inferenceConfig` |
//! | `reasoning_effort`, `parallel_tool_calls` | `additionalModelRequestFields`, by model family |
//! | `service_tier` | `serviceTier` |
//! | `metadata` | `requestMetadata` |
//! | `cache_control` | `cachePoint` |

use super::anthropic::model::Model;
use super::anthropic::sampling::{self, Sampling};
use super::anthropic::toolbox::{Call, Toolbox};
use super::anthropic::tools::write_choice;
use super::anthropic::turns::Block;
use super::params::{self, Policy, Settled, Unknown};
use super::{Dialect, Framing, Outgoing, ProviderError};
use crate::chat::event::Text;
use crate::chat::field::Field;
use crate::chat::message;
use crate::chat::request::ChatRequest;
use crate::embed::request::EmbeddingRequest;
use crate::error::ApiError;
use crate::json::write::Writer;
use crate::percent;
use crate::provider::Target;
use bytes::Bytes;
use http::HeaderMap;
use std::borrow::Cow;
use std::collections::BTreeMap;

mod decode;
mod embeddings;
pub mod error;
mod messages;
mod thinking;
mod tools;
mod wire;

#[cfg(test)]
pub(in crate::dialect) mod tests;

/// Most pairs of `requestMetadata`.
const MAX_METADATA: usize = 16;
/// Longest key or value there.
const MAX_METADATA_TEXT: usize = 256;

/// Bedrock's Converse API.
pub struct Bedrock;

/// Which models understand what: Converse is one shape, but its optional fields are not for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// Anthropic's models.
    Claude,
    /// OpenAI's open models.
    OpenAi,
    /// Qwen.
    Qwen,
    /// Amazon's Nova.
    Nova,
    /// Any other.
    Other,
}

impl Family {
    /// Model ids name the maker, after an optional inference profile's region (`us.anthropic.claude-…`); an ARN ends
    /// with such an id or says nothing.
    pub(super) fn of(model: &str) -> Self {
        let model = model.rsplit('/').next().unwrap_or(model);
        if model.contains("anthropic.") || model.contains("claude") {
            Self::Claude
        } else if model.contains("openai.") {
            Self::OpenAi
        } else if model.contains("qwen.") {
            Self::Qwen
        } else if model.contains("amazon.nova") {
            Self::Nova
        } else {
            Self::Other
        }
    }

    /// Whether the models keep what a request marks.
    fn caches(self) -> bool {
        matches!(self, Self::Claude | Self::Nova)
    }
}

/// Fields that are written, for this family.
fn policy(field: Field, family: Family) -> Policy {
    let claude = family == Family::Claude;
    match field {
        Field::ParallelToolCalls if claude => Policy::Mapped,
        Field::ReasoningEffort if !matches!(family, Family::Nova | Family::Other) => Policy::Mapped,
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
    fn encode(&self, request: &ChatRequest<'_>, target: &Target) -> Result<Outgoing, ApiError> {
        let family = Family::of(request.model);
        let mut settled = params::settle(request, Unknown::Drop, |field| policy(field, family))?;
        let mut toolbox = Toolbox::read(request, target.structured_output, family == Family::Claude, &mut settled)?;
        let mut conversation = messages::read(request, &message::read(request)?)?;
        let calls_tools = conversation.blocks().any(|block| matches!(block, Block::Call { .. } | Block::Result { .. }));
        if calls_tools && toolbox.tools.is_empty() {
            toolbox.tools = tools::undeclared(conversation.blocks());
        }
        if calls_tools && toolbox.call == Call::None {
            conversation.system.push((Text::Plain(tools::NO_CALLS), None));
        }
        // Only Claude keeps tools, and Nova the rest of a prompt.
        let mut lost = !family.caches() && conversation.caches();
        if family != Family::Claude {
            toolbox.tools.iter_mut().for_each(|tool| lost |= tool.cache.take().is_some());
        }
        if lost {
            settled.drop_names(request, std::iter::once(Cow::Borrowed("cache_control")))?;
        }
        // The target's own limit where nobody asks for one; the model's where the target has none either.
        let limit = params::token_limit(request)?.or(target.default_max_tokens.map(u64::from));
        let can_think = conversation.can_think();
        let thinking = thinking::Thinking::of(request, family, limit, (toolbox.forces(), can_think), &mut settled)?;

        let mut w = Writer::with_capacity(request.parsed.body().len() + 512);
        w.object();
        messages::write(&mut w, &conversation, thinking.claude_thinks(), family.caches());
        write_inference(&mut w, request, family, limit, thinking, &mut settled)?;
        if !toolbox.tools.is_empty() && (calls_tools || toolbox.call != Call::None) {
            tools::write(&mut w, &toolbox.tools, toolbox.call);
        }
        if let Some(schema) = toolbox.native() {
            tools::write_output(&mut w, schema);
        }
        // Converse's own choice cannot say this.
        let serial = family == Family::Claude && toolbox.serial && toolbox.call != Call::None;
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

        let operation = if request.stream() { "converse-stream" } else { "converse" };
        // Only Claude wants its thinking back, and only where a call of the client's can carry it.
        let seal = request.seal.filter(|_| thinking.claude_thinks() && toolbox.calls).cloned();
        let decoder = decode::Converse::new(toolbox.content_tool(), seal);
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

    fn encode_embeddings(&self, request: &EmbeddingRequest<'_>, target: &Target) -> Result<Outgoing, ApiError> {
        embeddings::encode(request, &target.provider)
    }

    fn read_error(&self, status: u16, headers: &HeaderMap, body: &[u8]) -> ProviderError {
        error::read(status, headers, body)
    }
}

fn write_inference(
    w: &mut Writer,
    request: &ChatRequest<'_>,
    family: Family,
    limit: Option<u64>,
    thinking: thinking::Thinking,
    settled: &mut Settled,
) -> Result<(), ApiError> {
    let sampling = match family {
        Family::Claude if thinking.claude_thinks() || !Model::of(request.model).sampled() => Sampling::Fixed,
        Family::Claude => Sampling::Either,
        _ => Sampling::Both,
    };
    let (temperature, top_p) = sampling.settle(request, settled)?;
    let stop = sampling::stops(request, family == Family::Claude)?;
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
            w.text(text);
        }
        w.end_array();
    }
    w.end_object();
    Ok(())
}

/// `metadata` stands in the operator's log of invocations, where the service takes it: at most 16 pairs of a small alphabet
/// (`RequestMetadata` of its service model).
fn write_metadata(w: &mut Writer, request: &ChatRequest<'_>, settled: &mut Settled) -> Result<(), ApiError> {
    let Some(raw) = params::asked(request, Field::Metadata) else { return Ok(()) };
    let fits = |text: &str| {
        let known = |b: u8| b.is_ascii_alphanumeric() || b.is_ascii_whitespace() || b":_@$#=/+,-.".contains(&b);
        text.len() <= MAX_METADATA_TEXT && text.bytes().all(known)
    };
    let pairs = serde_json::from_str::<BTreeMap<Cow<'_, str>, Cow<'_, str>>>(raw).unwrap_or_default();
    let all = pairs.iter().all(|(key, value)| !key.is_empty() && fits(key) && fits(value));
    if !all || pairs.is_empty() || pairs.len() > MAX_METADATA {
        return settled.drop_hint(request, Field::Metadata);
    }
    w.key("requestMetadata").object();
    for (key, value) in &pairs {
        w.key(key).string(value);
    }
    w.end_object();
    Ok(())
}

fn write_tier(w: &mut Writer, request: &ChatRequest<'_>, settled: &mut Settled) -> Result<(), ApiError> {
    match params::asked(request, Field::ServiceTier) {
        Some(r#""default""#) | None => {}
        Some(tier @ (r#""priority""# | r#""flex""# | r#""reserved""#)) => {
            w.key("serviceTier").object().key("type").raw(tier).end_object();
        }
        Some(_) => settled.drop_hint(request, Field::ServiceTier)?,
    }
    Ok(())
}
