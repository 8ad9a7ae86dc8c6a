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
#[serde(rename_all = "camelCase", bound = "'de: 'a")]
pub(super) struct Answer<'a> {
    pub(super) candidates: Option<Vec<Candidate<'a>>>,
    pub(super) prompt_feedback: Option<Feedback<'a>>,
    pub(super) usage_metadata: Option<Counts>,
    pub(super) error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound = "'de: 'a")]
pub(super) struct Candidate<'a> {
    pub(super) index: Option<u32>,
    pub(super) content: Option<Content<'a>>,
    pub(super) finish_reason: Option<Cow<'a, str>>,
    pub(super) finish_message: Option<Cow<'a, str>>,
    pub(super) logprobs_result: Option<Logprobs<'a>>,
    pub(super) grounding_metadata: Option<&'a RawValue>,
    pub(super) citation_metadata: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(bound = "'de: 'a")]
pub(super) struct Content<'a> {
    pub(super) parts: Option<Vec<Part<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound = "'de: 'a")]
pub(super) struct Part<'a> {
    pub(super) text: Option<Text<'a>>,
    pub(super) thought: Option<bool>,
    pub(super) function_call: Option<Call<'a>>,
    pub(super) thought_signature: Option<Text<'a>>,
    pub(super) inline_data: Option<Blob<'a>>,
    pub(super) file_data: Option<File<'a>>,
    pub(super) executable_code: Option<&'a RawValue>,
    pub(super) code_execution_result: Option<&'a RawValue>,
}

/// Bytes in base64.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Blob<'a> {
    #[serde(borrow, default)]
    pub(super) mime_type: Cow<'a, str>,
    pub(super) data: Text<'a>,
}

/// Bytes at an address.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct File<'a> {
    #[serde(borrow, default)]
    pub(super) mime_type: Cow<'a, str>,
    pub(super) file_uri: Text<'a>,
}

/// Where an answer's words come from: what Google found for it, and what it repeats.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", bound = "'de: 'a")]
pub(super) struct Grounding<'a> {
    pub(super) grounding_chunks: Option<Vec<Chunk<'a>>>,
    pub(super) grounding_supports: Option<Vec<Support>>,
}

#[derive(Deserialize)]
#[serde(bound = "'de: 'a")]
pub(super) struct Chunk<'a> {
    #[serde(alias = "retrievedContext")]
    pub(super) web: Option<Site<'a>>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(bound = "'de: 'a")]
pub(super) struct Site<'a> {
    pub(super) uri: Option<Text<'a>>,
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
#[serde(rename_all = "camelCase", bound = "'de: 'a")]
pub(super) struct Citations<'a> {
    #[serde(alias = "citations")]
    pub(super) citation_sources: Option<Vec<Citation<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound = "'de: 'a")]
pub(super) struct Citation<'a> {
    pub(super) start_index: Option<u64>,
    pub(super) end_index: Option<u64>,
    pub(super) uri: Option<Text<'a>>,
    pub(super) title: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound = "'de: 'a")]
pub(super) struct Call<'a> {
    pub(super) id: Option<Text<'a>>,
    pub(super) name: Option<Text<'a>>,
    pub(super) args: Option<&'a RawValue>,
    pub(super) partial_args: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Feedback<'a> {
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
#[serde(rename_all = "camelCase", bound = "'de: 'a")]
pub(super) struct Logprobs<'a> {
    pub(super) chosen_candidates: Option<Vec<Token<'a>>>,
    pub(super) top_candidates: Option<Vec<Top<'a>>>,
}

#[derive(Deserialize)]
#[serde(bound = "'de: 'a")]
pub(super) struct Top<'a> {
    pub(super) candidates: Option<Vec<Token<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound = "'de: 'a")]
pub(super) struct Token<'a> {
    pub(super) token: Option<Text<'a>>,
    pub(super) log_probability: Option<&'a RawValue>,
}
