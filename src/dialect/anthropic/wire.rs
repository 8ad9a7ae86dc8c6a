//! The shapes of Anthropic's answers, read without a document: texts stay raw slices of the frame.

use super::error::WireError;
use crate::json::text::Text;
use crate::llm::usage::Usage;
use serde::Deserialize;
use serde_json::value::RawValue;

/// One event of a stream; also a whole answer, which has the members of `message` at its top.
#[derive(Deserialize)]
pub(super) struct WireEvent<'a> {
    #[serde(borrow, default)]
    pub r#type: Option<Text<'a>>,
    #[serde(default)]
    pub index: Option<u64>,
    #[serde(borrow, default)]
    pub message: Option<WireMessage<'a>>,
    #[serde(borrow, default)]
    pub content_block: Option<WireBlock<'a>>,
    #[serde(borrow, default)]
    pub delta: Option<WireDelta<'a>>,
    #[serde(borrow, default)]
    pub usage: Option<WireUsage<'a>>,
    #[serde(borrow, default)]
    pub error: Option<WireError<'a>>,
}

/// An answer.
#[derive(Deserialize)]
pub(super) struct WireMessage<'a> {
    #[serde(borrow, default)]
    pub id: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub r#type: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub content: Option<Vec<WireBlock<'a>>>,
    #[serde(borrow, default)]
    pub stop_reason: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub stop_sequence: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub stop_details: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub usage: Option<WireUsage<'a>>,
    #[serde(borrow, default)]
    pub error: Option<WireError<'a>>,
}

/// A content block, whole or (in a stream) at its beginning.
#[derive(Deserialize)]
pub(super) struct WireBlock<'a> {
    #[serde(borrow)]
    pub r#type: Text<'a>,
    #[serde(borrow, default)]
    pub text: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub thinking: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub signature: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub name: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub input: Option<&'a RawValue>,
    /// A text's sources.
    #[serde(borrow, default)]
    pub citations: Option<&'a RawValue>,
    /// An image's bytes or address.
    #[serde(borrow, default)]
    pub source: Option<&'a RawValue>,
    /// The result of a tool of the provider's own.
    #[serde(borrow, default)]
    pub content: Option<&'a RawValue>,
}

/// Where words come from. Those of the web have a `url`, those of search results a `source`; those of documents neither.
#[derive(Deserialize)]
pub(super) struct WireCitation<'a> {
    #[serde(borrow, default)]
    pub url: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub source: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub title: Option<&'a RawValue>,
}

/// An image: `base64` with a media type, or `url`.
#[derive(Deserialize)]
pub(super) struct WireSource<'a> {
    #[serde(borrow, default)]
    pub media_type: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub data: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub url: Option<Text<'a>>,
}

/// What a delta adds: to a block, or (the stop reason) to the message. Deltas of other blocks have members of the same
/// names and other types, so that only what is used is looked at.
#[derive(Deserialize)]
pub(super) struct WireDelta<'a> {
    #[serde(borrow, default)]
    pub text: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub thinking: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub signature: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub partial_json: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub citation: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub stop_reason: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub stop_sequence: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub stop_details: Option<&'a RawValue>,
}

/// What a refusal is about.
#[derive(Deserialize)]
pub(super) struct WireStop<'a> {
    #[serde(borrow, default)]
    pub category: Option<Text<'a>>,
}

/// Tokens so far, and the tier that serves the request. `input_tokens` leaves out what went through the cache.
#[derive(Clone, Copy, Default, Deserialize)]
pub(super) struct WireUsage<'a> {
    input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_creation: Option<WireCacheCreation>,
    cache_read_input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    output_tokens_details: Option<WireDetails>,
    /// `standard`, `priority` or `batch`.
    #[serde(borrow, default)]
    pub service_tier: Option<&'a RawValue>,
}

/// What was written to the cache, by how long it is kept.
#[derive(Clone, Copy, Default, Deserialize)]
struct WireCacheCreation {
    ephemeral_1h_input_tokens: Option<u64>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
struct WireDetails {
    thinking_tokens: Option<u64>,
}

impl WireUsage<'_> {
    /// Takes over a later count, as [`Usage::and_later`] does; one that is left out stands.
    pub(super) fn update(&mut self, later: &WireUsage<'_>) {
        let anew = |before: Option<u64>, later: Option<u64>| later.filter(|count| *count > 0).or(before).or(later);
        self.input_tokens = anew(self.input_tokens, later.input_tokens);
        self.cache_creation_input_tokens = anew(self.cache_creation_input_tokens, later.cache_creation_input_tokens);
        self.cache_read_input_tokens = anew(self.cache_read_input_tokens, later.cache_read_input_tokens);
        self.cache_creation = later.cache_creation.or(self.cache_creation);
        self.output_tokens = later.output_tokens.max(self.output_tokens);
        self.output_tokens_details = later.output_tokens_details.max(self.output_tokens_details);
    }

    /// In the form that is the same for all providers.
    pub(super) fn usage(&self) -> Usage {
        let cached = self.cache_read_input_tokens.unwrap_or_default();
        let cache_write = self.cache_creation_input_tokens.unwrap_or_default();
        Usage {
            prompt: self.input_tokens.unwrap_or_default().saturating_add(cached).saturating_add(cache_write),
            completion: self.output_tokens.unwrap_or_default(),
            cached,
            cache_write,
            cache_write_hour: self.cache_creation.and_then(|written| written.ephemeral_1h_input_tokens).unwrap_or_default(),
            reasoning: self.output_tokens_details.and_then(|d| d.thinking_tokens).unwrap_or_default(),
            ..Usage::default()
        }
    }
}
