//! Anthropic's `usage` object: `input_tokens` leaves out what was read from or written to a cache.
//! <https://platform.claude.com/docs/en/build-with-claude/prompt-caching#tracking-cache-performance>

use crate::json::write::Writer;
use crate::llm::usage::Usage;

/// Writes the object.
pub fn write(usage: &Usage, w: &mut Writer) {
    let (cached, written) = (usage.cached, usage.cache_write);
    let hour = usage.cache_write_hour.min(written);
    // Some servers count the cached ones apart.
    w.object().key("input_tokens").integer(usage.prompt.saturating_sub(cached).saturating_sub(written));
    w.key("cache_creation_input_tokens").integer(written).key("cache_read_input_tokens").integer(cached);
    w.key("cache_creation").object();
    w.key("ephemeral_5m_input_tokens").integer(written - hour).key("ephemeral_1h_input_tokens").integer(hour).end_object();
    w.key("output_tokens").integer(usage.completion);
    if (1..=usage.completion).contains(&usage.reasoning) {
        w.key("output_tokens_details").object().key("thinking_tokens").integer(usage.reasoning).end_object();
    }
    w.end_object();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_counted_twice_and_nothing_is_negative() {
        let json = |usage: Usage| {
            let mut w = Writer::default();
            write(&usage, &mut w);
            serde_json::from_slice::<serde_json::Value>(&w.finish()).unwrap()
        };
        let usage = json(Usage { prompt: 1000, completion: 20, cached: 600, cache_write: 300, reasoning: 12, ..Usage::default() });
        assert_eq!((usage["input_tokens"].as_u64(), usage["cache_creation_input_tokens"].as_u64()), (Some(100), Some(300)));
        assert_eq!(usage["output_tokens_details"]["thinking_tokens"], 12);
        let odd = json(Usage { prompt: 10, cached: 600, cache_write: 5, completion: 1, reasoning: 2, ..Usage::default() });
        assert_eq!((odd["input_tokens"].as_u64(), odd["cache_read_input_tokens"].as_u64()), (Some(0), Some(600)));
        assert!(odd.get("output_tokens_details").is_none(), "more than there is");
    }
}
