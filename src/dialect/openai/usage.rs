//! Usage in every spelling that servers have for it.

use crate::json::envelope::ScanError;
use crate::json::walk::{self, Cursor};
use crate::llm::usage::Usage;

/// Reads a usage object; `None` where it counts nothing.
///
/// `completion_excludes_reasoning`: xAI counts reasoning beside `completion_tokens` while the total has all of it.
///
/// # Errors
/// Where it is not well formed.
pub fn read(at: &mut Cursor<'_>, completion_excludes_reasoning: bool) -> Result<Option<Usage>, ScanError> {
    let mut usage = Usage::default();
    let (mut completion, mut total) = (None, None);
    at.object(|at, name| {
        let name = chats(name);
        match name {
            "prompt_tokens_details" | "prompt_token_details" if at.at_object() => return prompt_details(at, &mut usage),
            "completion_tokens_details" | "completion_token_details" if at.at_object() => return completion_details(at, &mut usage),
            _ => {}
        }
        let value = at.raw()?;
        match name {
            // Some servers have both names, one of them with 0.
            "prompt_tokens" => usage.prompt = usage.prompt.max(number(value)),
            "completion_tokens" if value != "null" => completion = completion.max(Some(number(value))),
            "total_tokens" if value != "null" => total = Some(number(value)),
            // DeepSeek, Mistral, Moonshot; the details, where there are any, are the same.
            "prompt_cache_hit_tokens" | "num_cached_tokens" | "cached_tokens" => usage.cached = usage.cached.max(number(value)),
            "reasoning_tokens" => usage.reasoning = usage.reasoning.max(number(value)),
            _ => {}
        }
        Ok::<_, ScanError>(())
    })?;
    let rest = total.map(|total: u64| total.saturating_sub(usage.prompt)).filter(|_| total != Some(0));
    usage.completion = match completion {
        Some(count) if !completion_excludes_reasoning => count,
        count => rest.or(count).unwrap_or(0),
    };
    let counted = usage.prompt > 0 || completion.is_some() || total.is_some();
    Ok(counted.then_some(usage))
}

fn prompt_details(at: &mut Cursor<'_>, usage: &mut Usage) -> Result<(), ScanError> {
    at.object(|at, name| {
        let value = at.raw()?;
        match name {
            "cached_tokens" => usage.cached = usage.cached.max(number(value)),
            "cache_write_tokens" | "cache_creation_tokens" => usage.cache_write = number(value),
            "audio_tokens" => usage.prompt_audio = number(value),
            "text_tokens" => usage.details.prompt_text = number(value),
            "image_tokens" => usage.details.prompt_image = number(value),
            _ => {}
        }
        Ok(())
    })
}

fn completion_details(at: &mut Cursor<'_>, usage: &mut Usage) -> Result<(), ScanError> {
    at.object(|at, name| {
        let value = at.raw()?;
        match name {
            "reasoning_tokens" => usage.reasoning = usage.reasoning.max(number(value)),
            "audio_tokens" => usage.completion_audio = number(value),
            "text_tokens" => usage.details.completion_text = number(value),
            "image_tokens" => usage.details.completion_image = number(value),
            "accepted_prediction_tokens" => usage.details.accepted_prediction = number(value),
            "rejected_prediction_tokens" => usage.details.rejected_prediction = number(value),
            _ => {}
        }
        Ok(())
    })
}

/// The name in chat completions of a count that the Responses API, and some servers everywhere, call otherwise.
fn chats(name: &str) -> &str {
    match name {
        "input_tokens" => "prompt_tokens",
        "input_tokens_details" | "input_token_details" => "prompt_tokens_details",
        "output_tokens" => "completion_tokens",
        "output_tokens_details" | "output_token_details" => "completion_tokens_details",
        _ => name,
    }
}

/// A count of tokens; some servers write it as `12.0`, and none at all as null.
fn number(json: &str) -> u64 {
    // `as` saturates: what is negative or no number is 0.
    walk::unsigned(json).unwrap_or_else(|| json.parse::<f64>().map_or(0, |n| n as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_spellings_are_read() {
        let read = |json| super::read(&mut Cursor::new(json), false).unwrap().unwrap();
        let openai = read(
            r#"{"prompt_tokens":9,"completion_tokens":5,"total_tokens":14,"prompt_tokens_details":{"cached_tokens":4,"audio_tokens":1},
               "completion_tokens_details":{"reasoning_tokens":3,"audio_tokens":null}}"#,
        );
        assert_eq!(openai, Usage { prompt: 9, completion: 5, cached: 4, reasoning: 3, prompt_audio: 1, ..Usage::default() });
        let details = read(
            r#"{"prompt_tokens":9,"completion_tokens":5,"prompt_tokens_details":{"text_tokens":3,"image_tokens":6},
               "completion_tokens_details":{"text_tokens":5,"image_tokens":4,"accepted_prediction_tokens":2,"rejected_prediction_tokens":1}}"#,
        );
        let mut written = Vec::new();
        crate::front::chat::usage::write(&details, &mut written);
        let written = String::from_utf8(written).unwrap();
        assert!(written.contains(r#"{"cached_tokens":0,"text_tokens":3,"image_tokens":6,"audio_tokens":0}"#), "{written}");
        let completion = r#"{"reasoning_tokens":0,"text_tokens":5,"image_tokens":4,"accepted_prediction_tokens":2,"rejected_prediction_tokens":1,"audio_tokens":0}"#;
        assert!(written.contains(completion), "{written}");
        let deepseek = read(r#"{"completion_tokens":5,"prompt_tokens":9,"prompt_cache_hit_tokens":4,"prompt_tokens_details":null}"#);
        assert_eq!((deepseek.cached, deepseek.total()), (4, 14));
        let sglang = read(r#"{"prompt_tokens":9.0,"total_tokens":14,"completion_tokens":null,"reasoning_tokens":2}"#);
        assert_eq!((sglang.prompt, sglang.completion, sglang.reasoning), (9, 5, 2));
    }

    #[test]
    fn counts_under_the_names_of_responses_are_read_everywhere() {
        for json in [
            r#"{"input_tokens":9,"output_tokens":5,"input_tokens_details":{"cached_tokens":4}}"#,
            r#"{"prompt_tokens":9,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":4},"input_tokens":0,"output_tokens":0,"input_tokens_details":null}"#,
        ] {
            let usage = read(&mut Cursor::new(json), false).unwrap().unwrap();
            assert_eq!((usage.prompt, usage.completion, usage.cached), (9, 5, 4), "{json}");
        }
    }

    #[test]
    fn reasoning_beside_the_completion_is_counted_in() {
        let json = r#"{"prompt_tokens":12,"completion_tokens":1,"total_tokens":241,"completion_tokens_details":{"reasoning_tokens":228}}"#;
        assert_eq!(read(&mut Cursor::new(json), true).unwrap().unwrap().completion, 229);
        assert_eq!(read(&mut Cursor::new(json), false).unwrap().unwrap().completion, 1);
    }

    #[test]
    fn usage_that_counts_nothing_is_none() {
        assert_eq!(read(&mut Cursor::new("{}"), false).unwrap(), None);
        assert!(read(&mut Cursor::new("{oops}"), false).is_err());
    }
}
