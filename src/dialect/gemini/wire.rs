//! The parts of Gemini's `GenerateContentResponse` that an answer is made of, borrowed from its bytes.
//!
//! Every member is optional and may be null: protocol buffers leave out what has its default value, and all unknown
//! members (safety ratings) are skipped.

use crate::json::text::Text;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// One chunk of a stream, or a whole answer.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answer<'a> {
    #[serde(borrow, default)]
    pub(super) candidates: Option<Vec<Candidate<'a>>>,
    #[serde(borrow, default)]
    pub(super) prompt_feedback: Option<Feedback<'a>>,
    #[serde(default)]
    pub(super) usage_metadata: Option<Counts>,
    #[serde(borrow, default)]
    pub(super) error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Candidate<'a> {
    #[serde(default)]
    pub(super) index: Option<u32>,
    #[serde(borrow, default)]
    pub(super) content: Option<Content<'a>>,
    #[serde(borrow, default)]
    pub(super) finish_reason: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(super) finish_message: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(super) logprobs_result: Option<Logprobs<'a>>,
    #[serde(borrow, default)]
    pub(super) grounding_metadata: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) citation_metadata: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(super) struct Content<'a> {
    #[serde(borrow, default)]
    pub(super) parts: Option<Vec<Part<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Part<'a> {
    #[serde(borrow, default)]
    pub(super) text: Option<Text<'a>>,
    #[serde(default)]
    pub(super) thought: Option<bool>,
    #[serde(borrow, default)]
    pub(super) function_call: Option<Call<'a>>,
    #[serde(borrow, default)]
    pub(super) thought_signature: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) inline_data: Option<Blob<'a>>,
    #[serde(borrow, default)]
    pub(super) file_data: Option<File<'a>>,
    #[serde(borrow, default)]
    pub(super) executable_code: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) code_execution_result: Option<&'a RawValue>,
}

/// Bytes in base64.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Blob<'a> {
    #[serde(borrow, default)]
    pub(super) mime_type: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) data: Text<'a>,
}

/// Bytes at an address.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct File<'a> {
    #[serde(borrow, default)]
    pub(super) mime_type: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) file_uri: Text<'a>,
}

/// Where an answer's words come from: what Google found for it, and what it repeats.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Grounding<'a> {
    #[serde(borrow, default)]
    pub(super) grounding_chunks: Option<Vec<Chunk<'a>>>,
    #[serde(default)]
    pub(super) grounding_supports: Option<Vec<Support>>,
}

#[derive(Deserialize)]
pub(super) struct Chunk<'a> {
    #[serde(borrow, default, alias = "retrievedContext")]
    pub(super) web: Option<Site<'a>>,
}

#[derive(Clone, Copy, Deserialize)]
pub(super) struct Site<'a> {
    #[serde(borrow, default)]
    pub(super) uri: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) title: Option<Text<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Support {
    pub(super) segment: Option<Segment>,
    pub(super) grounding_chunk_indices: Option<Vec<usize>>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Segment {
    pub(super) start_index: Option<u64>,
    pub(super) end_index: Option<u64>,
}

/// `citationSources` at AI Studio, `citations` on Vertex AI.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Citations<'a> {
    #[serde(borrow, default, alias = "citations")]
    pub(super) citation_sources: Option<Vec<Citation<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Citation<'a> {
    #[serde(default)]
    pub(super) start_index: Option<u64>,
    #[serde(default)]
    pub(super) end_index: Option<u64>,
    #[serde(borrow, default)]
    pub(super) uri: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) title: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Call<'a> {
    #[serde(borrow, default)]
    pub(super) id: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) name: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) args: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) partial_args: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Feedback<'a> {
    #[serde(borrow, default)]
    pub(super) block_reason: Option<Cow<'a, str>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Counts {
    pub(super) prompt_token_count: Option<u64>,
    pub(super) tool_use_prompt_token_count: Option<u64>,
    pub(super) candidates_token_count: Option<u64>,
    pub(super) thoughts_token_count: Option<u64>,
    pub(super) cached_content_token_count: Option<u64>,
    pub(super) total_token_count: Option<u64>,
    pub(super) prompt_tokens_details: Option<Vec<Modality>>,
    pub(super) candidates_tokens_details: Option<Vec<Modality>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Modality {
    pub(super) modality: Option<String>,
    pub(super) token_count: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Logprobs<'a> {
    #[serde(borrow, default)]
    pub(super) chosen_candidates: Option<Vec<Token<'a>>>,
    #[serde(borrow, default)]
    pub(super) top_candidates: Option<Vec<Top<'a>>>,
}

#[derive(Deserialize)]
pub(super) struct Top<'a> {
    #[serde(borrow, default)]
    pub(super) candidates: Option<Vec<Token<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Token<'a> {
    #[serde(borrow, default)]
    pub(super) token: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) log_probability: Option<&'a RawValue>,
}
