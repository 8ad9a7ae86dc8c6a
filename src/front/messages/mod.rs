//! Anthropic's Messages API, for Claude Code, the Anthropic SDKs and others that speak it.
//! <https://platform.claude.com/docs/en/api/messages>
//!
//! ```text
//! to Claude:     the client's bytes, spliced by the dialect;  the provider's bytes, by [`super::native`]
//! to all others: [`request`] -> llm::Request;                 events -> [`blocks`] -> [`stream`] or [`whole`]
//! ```
//!
//! What a provider wants back with the next turn is sealed into the `signature` of a thinking block ([`super::sealed`]).

use crate::error::ApiError;
use crate::json::text::Text;
use crate::json::walk;
use crate::json::write::Writer;
use crate::llm::envelope::Parsed;
use crate::llm::field::{Field, Shape};
use crate::llm::finish::Finish;
use crate::llm::validate;
use bytes::Bytes;

pub mod blocks;
pub mod error;
pub mod ids;
pub mod models;
mod request;
pub mod stream;
mod tools;
pub mod usage;
pub mod whole;

/// The header that names the version of the API.
pub const VERSION: &str = "anthropic-version";

/// The fields that this protocol shares with chat completions, and what their values must be.
fn shape(field: Field) -> Option<Shape> {
    match field {
        // A whole number in any spelling: Claude reads `1e3` too.
        Field::MaxTokens => Some(Shape::Number),
        Field::Model | Field::Messages | Field::Stream | Field::Temperature | Field::TopP | Field::Tools | Field::ToolChoice => {
            Some(field.shape())
        }
        _ => None,
    }
}

/// Checks the body of `POST /v1/messages`, or of `count_tokens` where it is only to be counted. What else a provider needs
/// is read for the target.
///
/// # Errors
/// A 400 that names the position or the field.
pub fn parse(body: Bytes, counting: bool) -> Result<Parsed, ApiError> {
    let parsed = Parsed::scan_as(body, shape)?;
    validate::model(parsed.raw(Field::Model))?;
    let messages = parsed.raw(Field::Messages).ok_or_else(|| validate::missing(Field::Messages.name()))?;
    if walk::inner_elements(messages).and_then(|mut list| list.next())?.is_none() {
        return Err(validate::wrong(Field::Messages.name(), "an array of at least one message"));
    }
    if !counting && parsed.raw(Field::MaxTokens).is_none() {
        return Err(validate::missing(Field::MaxTokens.name()));
    }
    Ok(parsed)
}

/// Anthropic's word for the end of an answer, and the stop sequence that came. `calls`: the answer has calls of tools;
/// `refused`: it has the text of a refusal.
fn stop_reason(finish: &Finish, calls: bool, refused: bool) -> (&'static str, Option<&str>) {
    match finish {
        Finish::StopSequence(sequence) => ("stop_sequence", sequence.as_deref()),
        Finish::Length | Finish::ContextWindow => ("max_tokens", None),
        Finish::ContentFilter | Finish::Refusal(_) => ("refusal", None),
        Finish::Stop | Finish::ToolCalls | Finish::Pause if calls => ("tool_use", None),
        Finish::Stop | Finish::ToolCalls | Finish::Pause => (if refused { "refusal" } else { "end_turn" }, None),
    }
}

/// The answer of `count_tokens`.
pub fn count(tokens: u64) -> Vec<u8> {
    let mut w = Writer::default();
    w.object().key("input_tokens").integer(tokens).end_object();
    w.finish()
}

/// The session that Claude Code writes into `metadata.user_id`, the text of a JSON object.
pub fn session(parsed: &Parsed) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Metadata<'a> {
        #[serde(borrow)]
        user_id: Text<'a>,
    }
    #[derive(serde::Deserialize)]
    struct User {
        session_id: String,
    }
    let metadata: Metadata<'_> = serde_json::from_str(parsed.raw_named("metadata")?).ok()?;
    let user: User = serde_json::from_str(&metadata.user_id.decode()).ok()?;
    Some(user.session_id).filter(|id| !id.is_empty())
}
