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
use crate::dialect::anthropic::{self, BEDROCK_VERSION, Host, Seat};
use crate::dialect::shared::blame::Names;
use crate::dialect::shared::claude::{self, ClaudeKeys, DEFAULT_MAX_TOKENS, Model, Sampling, StructuredOutput, Terms};
use crate::dialect::shared::names::{self, ShortNames};
use crate::dialect::shared::params::{self, Policy, Settled};
use crate::dialect::shared::schema::rules::Rules;
use crate::dialect::shared::toolbox::{Call, Toolbox};
use crate::dialect::shared::turns::Block;
use crate::dialect::{Configure, Dialect, Outgoing, Setup};
use crate::error::ApiError;
use crate::frame::Framing;
use crate::json::surrogate;
use crate::json::text::Text;
use crate::json::write::Writer;
use crate::llm::embeddings::EmbeddingRequest;
use crate::llm::failure::ProviderError;
use crate::llm::field::Field;
use crate::llm::messages::MessagesRequest;
use crate::llm::request::{Ask, Request};
use crate::percent;
use crate::sign::credential::{AwsKeys, Credential};
use crate::yaml::read::Reader;
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

/// Where AWS's own tools look for a Bedrock API key, before any keys that sign.
/// <https://docs.aws.amazon.com/bedrock/latest/userguide/api-keys-use.html>
const KEY_VARIABLE: &str = "AWS_BEARER_TOKEN_BEDROCK";

/// Bedrock's Converse API.
#[derive(Clone)]
pub struct Bedrock {
    /// `max_tokens` where the client gives none.
    pub default_max_tokens: Option<u32>,
    /// How a Claude model is held to a JSON schema.
    pub structured_output: StructuredOutput,
}

impl Configure for Bedrock {
    type ProviderKeys = AwsKeys;
    type TargetKeys = ClaudeKeys;

    fn configure(setup: &mut Setup<'_>, keys: &AwsKeys, cx: &mut Reader<'_>) -> Option<Self> {
        aws(setup, keys, ("bedrock", Some(KEY_VARIABLE)), cx)?;
        Some(Self { default_max_tokens: None, structured_output: StructuredOutput::Native })
    }

    fn for_target(&self, keys: &ClaudeKeys, _: bool) -> Self {
        Self {
            default_max_tokens: keys.default_max_tokens.map(|tokens| tokens.0),
            structured_output: keys.structured_output.unwrap_or(self.structured_output),
        }
    }
}

/// Puts the region into the base URL of a service of AWS, and finds who signs for it: `(service, key_variable)` are its name in
/// signatures and a variable that may have a key for it. `None` after a problem.
pub(in crate::dialect) fn aws(
    setup: &mut Setup<'_>,
    keys: &AwsKeys,
    (service, key_variable): (&'static str, Option<&'static str>),
    cx: &mut Reader<'_>,
) -> Option<()> {
    let region = setup.host_part("region", keys.region.as_ref(), (keys.at, &keys.written), cx);
    let own = keys.own(setup.api_key.as_ref(), cx);
    let region = region?;
    setup.base_url = setup.base_url.replace("REGION", &region);
    // The China partition has a domain of its own.
    if region.starts_with("cn-") {
        setup.base_url.push_str(".cn");
    }
    if own.is_some() || setup.api_key.is_none() {
        setup.credential = Some(Credential::Aws { keys: own, region, service, key_variable });
    }
    Some(())
}

impl Bedrock {
    /// A request of a client that speaks the Messages API for a Claude, which InvokeModel takes as it is.
    fn invoke(&self, messages: &MessagesRequest<'_>, operation: &str, counting: bool) -> Result<Outgoing, ApiError> {
        let seat = Seat {
            host: Host::Bedrock,
            version: BEDROCK_VERSION,
            beta: &[],
            default_max_tokens: self.default_max_tokens.unwrap_or(DEFAULT_MAX_TOKENS).into(),
            structured_output: self.structured_output,
        };
        anthropic::native(messages, &seat, format!("/model/{}/{operation}", percent::segment(messages.base.model)), counting)
    }

    /// A request for Converse.
    fn converse(&self, request: &Request<'_>, family: Family) -> Result<Outgoing, ApiError> {
        let mut settled = params::settle(request, |field| policy(field, family))?;
        let takes = family.takes();
        let mut toolbox = Toolbox::read(request, &family.means(request.model, self.structured_output), &mut settled)?;
        let instruction = toolbox.instruction();
        let mut conversation = messages::read(request, family)?;
        let calls_tools = conversation.blocks().any(|block| matches!(block, Block::Call { .. } | Block::Result { .. }));
        if calls_tools && toolbox.tools.is_empty() {
            toolbox.tools = messages::undeclared(conversation.blocks());
        }
        if calls_tools && toolbox.call == Call::None {
            conversation.system.push((Text::Plain(messages::NO_CALLS), None));
        }
        if let Some(words) = &instruction {
            conversation.system.push((Text::Plain(words), None));
        }
        // Only Claude keeps tools, and Nova the rest of a prompt. The answer is the same without.
        if family != Family::Claude {
            toolbox.tools.iter_mut().for_each(|tool| tool.cache = None);
        }
        let limit = request.token_limit()?;
        let terms = Terms { limit, forces: toolbox.forces(), can_think: conversation.can_think() };
        let thinking = family::Thinking::of(request, family, terms, &mut settled)?;
        let limit = thinking.max_tokens(limit, self.default_max_tokens);

        let mut w = Writer::with_capacity(request.size + 512);
        w.object();
        // Claude refuses its own thinking where it is told not to think; the others are not told.
        let thinks = family != Family::Claude || thinking.claude_may_think();
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
        let path = format!("/model/{}/{operation}", percent::segment(request.model));
        let outgoing = Outgoing::new(path, surrogate::repair(w.finish()), settled, toolbox.around(decoder));
        Ok(Outgoing { framing: Framing::AwsEventStream, ..outgoing })
    }
}

impl Dialect for Bedrock {
    fn encode(&self, ask: &dyn Ask) -> Result<Outgoing, ApiError> {
        let family = Family::of(ask.model());
        if let (Family::Claude, Some(messages)) = (family, ask.messages()) {
            return self.invoke(messages, if ask.stream() { "invoke-with-response-stream" } else { "invoke" }, false);
        }
        ShortNames::within(ask.request()?, names::PLAIN, |request| self.converse(request, family))
    }

    fn encode_count(&self, ask: &dyn Ask) -> Result<Option<Outgoing>, ApiError> {
        match (Family::of(ask.model()), ask.messages()) {
            (Family::Claude, Some(messages)) => self.invoke(messages, "count-tokens", true).map(Some),
            _ => Ok(None),
        }
    }

    fn encode_embeddings(&self, request: &EmbeddingRequest<'_>) -> Result<Option<Outgoing>, ApiError> {
        embeddings::encode(request)
    }

    fn read_error(&self, status: u16, headers: &HeaderMap, body: &[u8]) -> ProviderError {
        error::read(status, headers, body)
    }

    fn names(&self, _model: &str) -> &'static [Names] {
        &[error::NAMES, super::anthropic::error::NAMES]
    }

    fn schemas(&self, model: &str) -> Option<(&'static Rules, &'static Rules)> {
        let means = Family::of(model).means(model, self.structured_output);
        Some((means.output_rules, means.tool_rules))
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
    w.optional_raw("temperature", temperature).optional_raw("topP", top_p);
    if !stop.is_empty() {
        w.key("stopSequences").text_list(stop.iter().copied());
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
