//! The shapes of Converse's answers, read without a document: texts stay raw slices of the frame.

use crate::json::text::Text;
use crate::llm::usage::Usage;
use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize)]
pub(super) struct BlockStart<'a> {
    #[serde(rename = "contentBlockIndex", default)]
    pub block: u64,
    #[serde(borrow, default)]
    pub start: Option<Start<'a>>,
}

#[derive(Default, Deserialize)]
pub(super) struct Start<'a> {
    #[serde(borrow, default, rename = "toolUse")]
    pub tool_use: Option<WireCall<'a>>,
    #[serde(borrow, default)]
    pub image: Option<Image<'a>>,
}

#[derive(Deserialize)]
pub(super) struct WireCall<'a> {
    #[serde(borrow, default, rename = "toolUseId")]
    pub id: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub name: Option<Text<'a>>,
    /// Only in a whole answer.
    #[serde(borrow, default)]
    pub input: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(super) struct BlockDelta<'a> {
    #[serde(rename = "contentBlockIndex", default)]
    pub block: u64,
    #[serde(borrow, default)]
    pub delta: Option<Delta<'a>>,
}

#[derive(Default, Deserialize)]
pub(super) struct Delta<'a> {
    #[serde(borrow, default)]
    pub text: Option<Text<'a>>,
    #[serde(borrow, default, rename = "toolUse")]
    pub tool_use: Option<Fragment<'a>>,
    #[serde(borrow, default, rename = "reasoningContent")]
    pub reasoning: Option<Reasoning<'a>>,
    #[serde(borrow, default)]
    pub citation: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub image: Option<Image<'a>>,
}

#[derive(Deserialize)]
pub(super) struct Fragment<'a> {
    #[serde(borrow, default)]
    pub input: Option<Text<'a>>,
}

/// A delta's reasoning; in a whole answer, `reasoningText`.
#[derive(Default, Deserialize)]
pub(super) struct Reasoning<'a> {
    #[serde(borrow, default)]
    pub text: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub signature: Option<Text<'a>>,
    #[serde(borrow, default, rename = "redactedContent")]
    pub redacted: Option<Text<'a>>,
}

#[derive(Deserialize)]
pub(super) struct BlockStop {
    #[serde(rename = "contentBlockIndex", default)]
    pub block: u64,
}

#[derive(Deserialize)]
pub(super) struct MessageStop<'a> {
    #[serde(borrow, default, rename = "stopReason")]
    pub reason: Option<Text<'a>>,
}

#[derive(Deserialize)]
pub(super) struct Metadata<'a> {
    #[serde(default)]
    pub usage: Option<WireUsage>,
    #[serde(borrow, default, rename = "serviceTier")]
    pub tier: Option<Tier<'a>>,
}

/// The tier that served the request.
#[derive(Deserialize)]
pub(super) struct Tier<'a> {
    #[serde(borrow, default)]
    pub r#type: Option<Text<'a>>,
}

#[derive(Deserialize)]
pub(super) struct WireUsage {
    #[serde(default, rename = "inputTokens")]
    pub input: Option<u64>,
    #[serde(default, rename = "outputTokens")]
    pub output: Option<u64>,
    #[serde(default, rename = "totalTokens")]
    pub total: Option<u64>,
    #[serde(default, rename = "cacheReadInputTokens")]
    pub cached: Option<u64>,
    #[serde(default, rename = "cacheWriteInputTokens")]
    pub cache_write: Option<u64>,
    #[serde(default, rename = "cacheDetails")]
    pub written: Option<Vec<Written>>,
}

/// What was written to the cache, by how long it is kept: `5m` or `1h`.
#[derive(Deserialize)]
pub(super) struct Written {
    #[serde(default, rename = "inputTokens")]
    pub input: u64,
    #[serde(default)]
    pub ttl: String,
}

impl WireUsage {
    /// `inputTokens` leaves out what went through the cache, `totalTokens` does not. `cache_in_input`: the model's own count
    /// of its input includes the cache, so that the service's total has it twice.
    pub(super) fn usage(&self, cache_in_input: bool) -> Usage {
        let (cached, cache_write) = (self.cached.unwrap_or_default(), self.cache_write.unwrap_or_default());
        let completion = self.output.unwrap_or_default();
        let sum = self.input.unwrap_or_default().saturating_add(cached).saturating_add(cache_write);
        let prompt = match self.total {
            _ if cache_in_input && self.input.is_some() => self.input.unwrap_or_default(),
            Some(total) if total > 0 => total.saturating_sub(completion),
            _ => sum,
        };
        let hour = self.written.iter().flatten().filter(|written| written.ttl == "1h").map(|written| written.input);
        Usage { prompt, completion, cached, cache_write, cache_write_hour: hour.fold(0, u64::saturating_add), ..Usage::default() }
    }
}

#[derive(Deserialize)]
pub(super) struct Answer<'a> {
    #[serde(borrow, default)]
    pub output: Option<Output<'a>>,
    #[serde(borrow, default, rename = "stopReason")]
    pub reason: Option<Text<'a>>,
    #[serde(default)]
    pub usage: Option<WireUsage>,
    #[serde(borrow, default, rename = "serviceTier")]
    pub tier: Option<Tier<'a>>,
}

#[derive(Deserialize)]
pub(super) struct Output<'a> {
    #[serde(borrow, default)]
    pub message: Option<WireMessage<'a>>,
}

#[derive(Deserialize)]
pub(super) struct WireMessage<'a> {
    #[serde(borrow, default)]
    pub content: Option<Vec<Block<'a>>>,
}

#[derive(Deserialize)]
pub(super) struct Block<'a> {
    #[serde(borrow, default)]
    pub text: Option<Text<'a>>,
    #[serde(borrow, default, rename = "toolUse")]
    pub tool_use: Option<WireCall<'a>>,
    #[serde(borrow, default, rename = "reasoningContent")]
    pub reasoning: Option<WholeReasoning<'a>>,
    #[serde(borrow, default, rename = "citationsContent")]
    pub cited: Option<Cited<'a>>,
    #[serde(borrow, default)]
    pub image: Option<Image<'a>>,
    #[serde(borrow, default)]
    pub video: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub audio: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub document: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "searchResult")]
    pub search_result: Option<&'a RawValue>,
}

/// Texts that name their sources.
#[derive(Deserialize)]
pub(super) struct Cited<'a> {
    #[serde(borrow, default)]
    pub content: Option<Vec<CitedText<'a>>>,
    #[serde(borrow, default)]
    pub citations: Option<Vec<&'a RawValue>>,
}

/// Where words come from; `source` is a link where what was cited is a search result with one.
#[derive(Deserialize)]
pub(super) struct Citation<'a> {
    #[serde(borrow, default)]
    pub title: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub source: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub location: Option<Location<'a>>,
}

#[derive(Deserialize)]
pub(super) struct Location<'a> {
    #[serde(borrow, default)]
    pub web: Option<Web<'a>>,
}

#[derive(Deserialize)]
pub(super) struct Web<'a> {
    #[serde(borrow, default)]
    pub url: Option<Text<'a>>,
}

#[derive(Deserialize)]
pub(super) struct CitedText<'a> {
    #[serde(borrow, default)]
    pub text: Option<Text<'a>>,
}

/// In a stream the format comes first and the bytes follow in pieces, each in base64 of its own.
#[derive(Deserialize)]
pub(super) struct Image<'a> {
    /// `png`, `jpeg`, `gif` or `webp`.
    #[serde(borrow, default)]
    pub format: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub source: Option<ImageSource<'a>>,
    /// Why there is none.
    #[serde(borrow, default)]
    pub error: Option<ImageError<'a>>,
}

#[derive(Deserialize)]
pub(super) struct ImageError<'a> {
    #[serde(borrow, default)]
    pub message: Option<Text<'a>>,
}

#[derive(Deserialize)]
pub(super) struct ImageSource<'a> {
    #[serde(borrow, default)]
    pub bytes: Option<Text<'a>>,
}

#[derive(Deserialize)]
pub(super) struct WholeReasoning<'a> {
    #[serde(borrow, default, rename = "reasoningText")]
    pub reasoning_text: Option<Reasoning<'a>>,
    #[serde(borrow, default, rename = "redactedContent")]
    pub redacted: Option<Text<'a>>,
}
