//! What an answer used, in one form for all providers.

/// Tokens of one answer. `prompt` includes what was read from or written to a cache, `completion` includes reasoning,
/// so that `prompt + completion` is always the total.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// All input tokens.
    pub prompt: u64,
    /// All output tokens, reasoning included.
    pub completion: u64,
    /// The part of `prompt` that was read from a cache.
    pub cached: u64,
    /// The part of `prompt` that was written to a cache.
    pub cache_write: u64,
    /// The part of `completion` that was reasoning.
    pub reasoning: u64,
    /// Audio tokens in the prompt.
    pub prompt_audio: u64,
    /// Audio tokens in the completion.
    pub completion_audio: u64,
}

impl Usage {
    /// `prompt + completion`.
    pub const fn total(&self) -> u64 {
        self.prompt.saturating_add(self.completion)
    }
}

impl Usage {
    /// Appends OpenAI's `usage` object.
    pub fn write(&self, out: &mut Vec<u8>) {
        use crate::json::write::integer;
        let mut member = |key: &[u8], n: u64| {
            out.extend_from_slice(key);
            integer(out, n);
        };
        member(b"{\"prompt_tokens\":", self.prompt);
        member(b",\"completion_tokens\":", self.completion);
        member(b",\"total_tokens\":", self.total());
        member(b",\"prompt_tokens_details\":{\"cached_tokens\":", self.cached);
        if self.cache_write > 0 {
            member(b",\"cache_write_tokens\":", self.cache_write);
        }
        member(b",\"audio_tokens\":", self.prompt_audio);
        member(b"},\"completion_tokens_details\":{\"reasoning_tokens\":", self.reasoning);
        member(b",\"audio_tokens\":", self.completion_audio);
        out.extend_from_slice(b"}}");
    }
}
