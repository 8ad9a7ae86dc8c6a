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
    /// The part of `cache_write` that is kept for an hour; the rest is kept for some minutes.
    pub cache_write_hour: u64,
    /// The part of `completion` that was reasoning.
    pub reasoning: u64,
    /// Audio tokens in the prompt.
    pub prompt_audio: u64,
    /// Audio tokens in the completion.
    pub completion_audio: u64,
    /// Further parts.
    pub details: Details,
}

/// Parts that few providers count; 0 where they do not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// Text tokens in the prompt.
    pub prompt_text: u64,
    /// Image tokens in the prompt.
    pub prompt_image: u64,
    /// Text tokens in the completion.
    pub completion_text: u64,
    /// Image tokens in the completion.
    pub completion_image: u64,
    /// Tokens of the client's prediction that the completion has.
    pub accepted_prediction: u64,
    /// Tokens of the client's prediction that it does not have.
    pub rejected_prediction: u64,
}

impl Usage {
    /// `prompt + completion`.
    pub const fn total(&self) -> u64 {
        self.prompt.saturating_add(self.completion)
    }

    /// This and a later count of the same answer. Output grows, so that its counts keep their highest value; the prompt
    /// is counted anew each time, and only a zero, with which some servers end a stream, does not replace a count of it.
    #[must_use]
    pub fn and_later(self, later: Self) -> Self {
        let (a, b) = (self.details, later.details);
        let anew = |before, later| if later == 0 { before } else { later };
        Self {
            prompt: anew(self.prompt, later.prompt),
            completion: self.completion.max(later.completion),
            cached: anew(self.cached, later.cached),
            cache_write: anew(self.cache_write, later.cache_write),
            cache_write_hour: anew(self.cache_write_hour, later.cache_write_hour),
            reasoning: self.reasoning.max(later.reasoning),
            prompt_audio: anew(self.prompt_audio, later.prompt_audio),
            completion_audio: self.completion_audio.max(later.completion_audio),
            details: Details {
                prompt_text: anew(a.prompt_text, b.prompt_text),
                prompt_image: anew(a.prompt_image, b.prompt_image),
                completion_text: a.completion_text.max(b.completion_text),
                completion_image: a.completion_image.max(b.completion_image),
                accepted_prediction: a.accepted_prediction.max(b.accepted_prediction),
                rejected_prediction: a.rejected_prediction.max(b.rejected_prediction),
            },
        }
    }
}
