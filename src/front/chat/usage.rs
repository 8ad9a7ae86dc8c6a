//! OpenAI's `usage` object.

use crate::json::write::integer;
use crate::llm::usage::Usage;

/// Appends the object.
pub fn write(usage: &Usage, out: &mut Vec<u8>) {
    let more = usage.details;
    for (key, n, always) in [
        (b"{\"prompt_tokens\":".as_slice(), usage.prompt, true),
        (b",\"completion_tokens\":", usage.completion, true),
        (b",\"total_tokens\":", usage.total(), true),
        (b",\"prompt_tokens_details\":{\"cached_tokens\":", usage.cached, true),
        (b",\"cache_write_tokens\":", usage.cache_write, false),
        (b",\"text_tokens\":", more.prompt_text, false),
        (b",\"image_tokens\":", more.prompt_image, false),
        (b",\"audio_tokens\":", usage.prompt_audio, true),
        (b"},\"completion_tokens_details\":{\"reasoning_tokens\":", usage.reasoning, true),
        (b",\"text_tokens\":", more.completion_text, false),
        (b",\"image_tokens\":", more.completion_image, false),
        (b",\"accepted_prediction_tokens\":", more.accepted_prediction, false),
        (b",\"rejected_prediction_tokens\":", more.rejected_prediction, false),
        (b",\"audio_tokens\":", usage.completion_audio, true),
    ] {
        if always || n > 0 {
            out.extend_from_slice(key);
            integer(out, n);
        }
    }
    out.extend_from_slice(b"}}");
}
