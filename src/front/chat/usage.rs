//! OpenAI's `usage` object.

use crate::json::write::integer;
use crate::llm::usage::Usage;

/// Appends the object.
pub fn write(usage: &Usage, out: &mut Vec<u8>) {
    let mut member = |key: &[u8], n: u64| {
        out.extend_from_slice(key);
        integer(out, n);
    };
    member(b"{\"prompt_tokens\":", usage.prompt);
    member(b",\"completion_tokens\":", usage.completion);
    member(b",\"total_tokens\":", usage.total());
    member(b",\"prompt_tokens_details\":{\"cached_tokens\":", usage.cached);
    let more = usage.details;
    for (key, n) in [
        (b",\"cache_write_tokens\":".as_slice(), usage.cache_write),
        (b",\"text_tokens\":", more.prompt_text),
        (b",\"image_tokens\":", more.prompt_image),
    ] {
        if n > 0 {
            member(key, n);
        }
    }
    member(b",\"audio_tokens\":", usage.prompt_audio);
    member(b"},\"completion_tokens_details\":{\"reasoning_tokens\":", usage.reasoning);
    for (key, n) in [
        (b",\"text_tokens\":".as_slice(), more.completion_text),
        (b",\"image_tokens\":", more.completion_image),
        (b",\"accepted_prediction_tokens\":", more.accepted_prediction),
        (b",\"rejected_prediction_tokens\":", more.rejected_prediction),
    ] {
        if n > 0 {
            member(key, n);
        }
    }
    member(b",\"audio_tokens\":", usage.completion_audio);
    out.extend_from_slice(b"}}");
}
