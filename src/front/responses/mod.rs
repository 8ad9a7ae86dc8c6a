//! OpenAI's Responses API without state, for Codex, newer OpenAI code and others that speak it.
//! <https://platform.openai.com/docs/api-reference/responses>
//!
//! ```text
//! to a provider that has it: the client's bytes, spliced by the dialect;  the provider's bytes, by [`super::native`]
//! to all others:             [`request`] -> llm::Request;                 events -> [`items`] -> one [`response`], or a stream
//! ```
//!
//! Nothing is stored: what a provider wants back with the next turn is sealed into the `encrypted_content` of a reasoning item
//! ([`super::sealed`]).

use crate::error::ApiError;
use crate::json::text::Text;
use crate::json::walk;
use crate::llm::envelope::{ChatRequest, Parsed};
use crate::llm::field::{Field, Shape};
use crate::llm::request::Authority;
use crate::llm::validate;
use bytes::Bytes;
use memchr::memmem;

mod custom;
pub mod error;
mod item;
pub mod items;
mod request;
pub mod response;
pub mod tools;

/// The member that holds the conversation.
pub const INPUT: &str = "input";
/// The member that holds instructions ahead of it.
pub const INSTRUCTIONS: &str = "instructions";
/// The member that limits the answer's tokens.
pub const MAX_TOKENS: &str = "max_output_tokens";
/// The type of an item that stands for a stored one.
const REFERENCE: &str = "item_reference";

/// The fields that this protocol shares with chat completions, and what their values must be.
fn shape(field: Field) -> Option<Shape> {
    match field {
        Field::Model
        | Field::Stream
        | Field::StreamOptions
        | Field::Temperature
        | Field::TopP
        | Field::Tools
        | Field::ToolChoice
        | Field::ParallelToolCalls
        | Field::User
        | Field::Metadata
        | Field::ServiceTier
        | Field::PromptCacheKey
        | Field::PromptCacheRetention
        | Field::PromptCacheOptions
        | Field::SafetyIdentifier
        | Field::EpisodeId
        | Field::TensorzeroEpisodeId => Some(field.shape()),
        _ => None,
    }
}

/// Checks the body of `POST /v1/responses`. What else a provider needs is read for the target.
///
/// # Errors
/// A 400 that names the position or the field.
pub fn parse(body: Bytes) -> Result<Parsed, ApiError> {
    let parsed = Parsed::scan_as(body, shape)?;
    validate::model(parsed.raw(Field::Model))?;
    let input = parsed.raw_named(INPUT);
    let says_something = match input.map(str::as_bytes) {
        Some([b'"', rest @ ..]) => rest != b"\"",
        Some([b'[', ..]) => walk::inner_elements(input.unwrap_or_default()).and_then(|mut list| list.next())?.is_some(),
        Some(_) => return Err(validate::wrong(INPUT, "a text or an array of items")),
        None => false,
    };
    // The conversation may be a stored one.
    if says_something || stored(&parsed)?.is_some() {
        return Ok(parsed);
    }
    Err(if input.is_some() { validate::wrong(INPUT, "a text or an array of items, which is not empty") } else { validate::missing(INPUT) })
}

/// What a request refers to that only the provider which has stored it knows: the name of the member, or the type of the item.
///
/// # Errors
/// Where `input` cannot be read.
pub fn stored(parsed: &Parsed) -> Result<Option<&'static str>, ApiError> {
    let members = ["previous_response_id", "conversation", "prompt"].into_iter();
    let member = members.chain(["background"]).find(|name| parsed.raw_named(name).is_some_and(|raw| raw != "false"));
    let input = parsed.raw_named(INPUT).filter(|raw| raw.starts_with('[') && memmem::find(raw.as_bytes(), REFERENCE.as_bytes()).is_some());
    let (None, Some(input)) = (member, input) else { return Ok(member) };
    let mut items = walk::inner_elements(input)?;
    let mut found = false;
    while items
        .next_object(|key, value| found |= key.is("type") && walk::string(value).is_some_and(|kind| kind.decode() == REFERENCE))?
        .is_some()
    {}
    Ok(found.then_some(REFERENCE))
}

/// The limit of the answer's tokens: the route's override, else the client's, else the route's default.
pub fn max_tokens(request: &ChatRequest<'_>) -> Option<u64> {
    let route = || request.max_tokens().and_then(|(_, raw)| raw.parse().ok());
    if overrides_max_tokens(request) { route() } else { request.raw_named(MAX_TOKENS).and_then(walk::unsigned).or_else(route) }
}

/// Whether the route overrides that limit, in either of chat's spellings.
fn overrides_max_tokens(request: &ChatRequest<'_>) -> bool {
    [Field::MaxTokens, Field::MaxCompletionTokens].iter().any(|field| request.authority(*field) == Authority::Override)
}

/// The 400 for a request that refers to something stored, at a provider that has stored nothing.
pub fn not_stored(name: &'static str) -> ApiError {
    let message = match name {
        "background" => "`background`: nothing runs in the background here; leave `background` out".to_owned(),
        "prompt" => {
            "`prompt` is stored by a provider, and nothing is stored here; write the prompt in `instructions` and `input`".to_owned()
        }
        _ => {
            format!(
                "`{name}` needs something that a provider has stored, and nothing is stored here; send the whole conversation in `input`"
            )
        }
    };
    let mut error = ApiError::field(name, message);
    if name == "previous_response_id" {
        error.code = Some("previous_response_not_found".into());
    }
    error
}

/// Whether reasoning is shown as a summary, because the client asks for one; else as the model's own text.
pub fn summarises(parsed: &Parsed) -> bool {
    let asks = |raw| {
        let mut members = walk::inner_members(raw).ok()?;
        while let Some((key, value)) = members.next().ok()? {
            if (key.is("summary") || key.is("generate_summary")) && walk::string(value).is_some_and(|text: Text<'_>| !text.is_empty()) {
                return Some(());
            }
        }
        None
    };
    parsed.raw_named("reasoning").filter(|raw| raw.starts_with('{')).and_then(asks).is_some()
}
