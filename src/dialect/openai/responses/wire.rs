//! What is read of an answer's JSON: its events, the response and its items. Members of the same name have other types in other
//! events and items, so that a value is only looked at where it is used.

use crate::json::text::Text;
use serde::Deserialize;
use serde_json::value::RawValue;

/// The parts of a message or of reasoning; none where they cannot be read.
pub(super) fn parts(list: Option<&RawValue>) -> Vec<WirePart<'_>> {
    list.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
}

/// One event of a stream.
#[derive(Deserialize)]
#[serde(bound = "'de: 'a")]
pub(super) struct WireEvent<'a> {
    pub(super) r#type: Option<Text<'a>>,
    pub(super) output_index: Option<&'a RawValue>,
    pub(super) summary_index: Option<&'a RawValue>,
    pub(super) delta: Option<&'a RawValue>,
    pub(super) logprobs: Option<&'a RawValue>,
    pub(super) item: Option<&'a RawValue>,
    pub(super) response: Option<&'a RawValue>,
}

/// An answer, whole or at its end.
#[derive(Default, Deserialize)]
#[serde(bound = "'de: 'a")]
pub(super) struct WireResponse<'a> {
    pub(super) status: Option<&'a RawValue>,
    pub(super) output: Option<Vec<&'a RawValue>>,
    pub(super) service_tier: Option<&'a RawValue>,
    pub(super) usage: Option<&'a RawValue>,
    pub(super) incomplete_details: Option<&'a RawValue>,
    pub(super) error: Option<&'a RawValue>,
}

/// Why an answer is not complete.
#[derive(Deserialize)]
#[serde(bound = "'de: 'a")]
pub(super) struct WireIncomplete<'a> {
    pub(super) reason: Option<&'a RawValue>,
}

/// An item of an answer.
#[derive(Deserialize)]
#[serde(bound = "'de: 'a")]
pub(super) struct WireItem<'a> {
    pub(super) r#type: Option<Text<'a>>,
    pub(super) id: Option<&'a RawValue>,
    pub(super) status: Option<&'a RawValue>,
    pub(super) call_id: Option<&'a RawValue>,
    pub(super) name: Option<&'a RawValue>,
    pub(super) namespace: Option<&'a RawValue>,
    /// Of a function.
    pub(super) arguments: Option<&'a RawValue>,
    /// Of a custom tool.
    pub(super) input: Option<&'a RawValue>,
    pub(super) content: Option<&'a RawValue>,
    /// Of a message.
    pub(super) phase: Option<&'a RawValue>,
    /// Of reasoning.
    pub(super) summary: Option<&'a RawValue>,
    /// Of reasoning.
    pub(super) encrypted_content: Option<&'a RawValue>,
}

/// A part of a message or of reasoning.
#[derive(Deserialize)]
#[serde(bound = "'de: 'a")]
pub(super) struct WirePart<'a> {
    pub(super) text: Option<&'a RawValue>,
    pub(super) refusal: Option<&'a RawValue>,
    pub(super) logprobs: Option<&'a RawValue>,
}
