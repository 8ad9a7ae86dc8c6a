//! Thought signatures: what Gemini wants back with a function call, as the state of the call.
//!
//! Gemini 3 and later refuse a function call in the history of the current turn when it comes back without the
//! `thoughtSignature` it was given with; plain OpenAI clients only return the id.

use crate::json::text::Text;
use crate::llm::request::{CallId, ToolCall};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::borrow::Cow;

/// Starts the state of a signature, so that another provider's state is never sent to Gemini, nor this one elsewhere:
/// states of other dialects are text, and no UTF-8 text begins with this byte.
const TAG: &[u8] = b"\xffgemini:";
/// Starts that of a signature that decoding and encoding would not give back as it is spelled; it is kept as a text.
const VERBATIM: &[u8] = b"\xffgemini=";
/// What Gemini accepts in the place of a signature that nobody has: a history that another model has written.
pub(super) const UNKNOWN: &str = "skip_thought_signature_validator";

/// The state of a call with this signature; `None` where it has none.
pub(super) fn state(signature: Option<Text<'_>>) -> Option<Vec<u8>> {
    let signature = signature.filter(|text| !text.is_empty())?.decode();
    let mut state = TAG.to_vec();
    let is_base64 = STANDARD.decode_vec(signature.as_bytes(), &mut state).is_ok();
    Some(if is_base64 { state } else { [VERBATIM, signature.as_bytes()].concat() })
}

/// How an id begins that was made here.
const MADE: &str = "call_";
/// Lengths of ids that are taken for Gemini's own.
const OWN: std::ops::RangeInclusive<usize> = 8..=32;

/// The id under which Gemini made a call, to be written beside the call and its result. `None` for an id that another
/// provider or the gateway made: their calls have none at Gemini.
pub(super) fn own_id<'r>(call: &'r CallId<'_>) -> Option<&'r str> {
    let foreign = call.state.as_deref().is_some_and(|state| !state.starts_with(TAG) && !state.starts_with(VERBATIM));
    // Gemini's are short and of letters and digits; all others have a prefix, which ends in an underscore or a hyphen.
    let own = !foreign && !call.id.starts_with(MADE) && OWN.contains(&call.id.len()) && call.id.bytes().all(|b| b.is_ascii_alphanumeric());
    own.then_some(&*call.id)
}

/// The signature that a call of the history brings back: in its id, or where Google's own OpenAI endpoint puts it.
pub(super) fn of<'a>(call: &ToolCall<'a>) -> Option<Cow<'a, str>> {
    #[derive(Deserialize)]
    struct Extra<'a> {
        #[serde(borrow)]
        google: Google<'a>,
    }
    #[derive(Deserialize)]
    struct Google<'a> {
        #[serde(borrow)]
        thought_signature: Cow<'a, str>,
    }
    if let Some(state) = &call.id.state {
        let encoded = state.strip_prefix(TAG).map(|signature| STANDARD.encode(signature));
        let verbatim = || String::from_utf8(state.strip_prefix(VERBATIM)?.to_vec()).ok();
        return encoded.or_else(verbatim).map(Cow::Owned);
    }
    let extra: Extra<'a> = serde_json::from_str(call.extra?).ok()?;
    Some(extra.google.thought_signature).filter(|signature| !signature.is_empty())
}
