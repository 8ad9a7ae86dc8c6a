//! Log probabilities: Gemini's two parallel lists become OpenAI's one list.

use super::wire::{Logprobs, Token};
use crate::json::text::Text;
use crate::json::write::Writer;

/// What stands for a probability of nothing, which JSON cannot say; OpenAI's own value for it.
const NEVER: &str = "-9999.0";

/// OpenAI's `logprobs` object; `None` where there are no tokens.
pub(super) fn convert(result: &Logprobs<'_>) -> Option<String> {
    let chosen = result.chosen_candidates.as_deref().filter(|list| !list.is_empty())?;
    let top = result.top_candidates.as_deref().unwrap_or_default();
    let mut w = Writer::default();
    w.object().key("content").array();
    for (i, token) in chosen.iter().enumerate() {
        w.object();
        members(&mut w, token);
        w.key("top_logprobs").array();
        for alternative in top.get(i).and_then(|t| t.candidates.as_deref()).unwrap_or_default() {
            w.object();
            members(&mut w, alternative);
            w.end_object();
        }
        w.end_array().end_object();
    }
    w.end_array().key("refusal").raw("null").end_object();
    String::from_utf8(w.finish()).ok()
}

fn members(w: &mut Writer, token: &Token<'_>) {
    let text = token.token.unwrap_or(Text::Raw(""));
    // Protocol buffers leave out a zero and write infinities as strings.
    let logprob = match token.log_probability.map(|raw| raw.get()) {
        None => "0.0",
        Some(number) if number.starts_with(|c: char| c == '-' || c.is_ascii_digit()) => number,
        Some(_) => NEVER,
    };
    w.key("token").text(text).key("logprob").raw(logprob).key("bytes").array();
    for byte in text.decode().bytes() {
        w.integer(u64::from(byte));
    }
    w.end_array();
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn two_lists_become_one() {
        let json = r#"{"chosenCandidates":[{"token":"ü","tokenId":7,"logProbability":-0.25},{"token":"!"}],
            "topCandidates":[{"candidates":[{"token":"ü","logProbability":-0.25},{"token":"u","logProbability":"-Infinity"}]},{}]}"#;
        let got: serde_json::Value = serde_json::from_str(&convert(&serde_json::from_str(json).unwrap()).unwrap()).unwrap();
        let want = serde_json::json!({"refusal": null, "content": [
            {"token": "ü", "logprob": -0.25, "bytes": [195, 188], "top_logprobs": [
                {"token": "ü", "logprob": -0.25, "bytes": [195, 188]}, {"token": "u", "logprob": -9999.0, "bytes": [117]}]},
            {"token": "!", "logprob": 0.0, "bytes": [33], "top_logprobs": []}]});
        assert_eq!(got, want);
        assert!(convert(&serde_json::from_str("{}").unwrap()).is_none());
    }
}
