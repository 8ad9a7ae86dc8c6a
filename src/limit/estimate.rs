//! Estimates the usage of a request before it is sent, from moving averages per route.

use super::Used;
use super::rule::Dimension;
use crate::account::{self, Price};
use crate::llm::usage::Usage;
use memchr::{memchr, memmem};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Initial bytes per prompt token: English text with common tokenizers.
pub const INITIAL_BYTES_PER_TOKEN: u64 = 4;
/// Initial completion tokens per choice, where the client sets no maximum.
pub const INITIAL_COMPLETION: u64 = 256;
/// Maximum bytes counted for an image, a file or audio in a prompt: about a thousand tokens, the cost of a common
/// image. Their size does not predict their cost.
pub const MEDIA_BYTES: u64 = 4096;
/// Maximum estimated prompt, in tokens: more than any model's context.
pub const MAX_PROMPT: u64 = 16 << 20;
/// Maximum estimated completion of one choice, in tokens: more than any model writes, whatever maximum a client sets.
pub const MAX_COMPLETION: u64 = 1 << 20;
/// Maximum estimated choices, the maximum of `n` in OpenAI's API.
pub const MAX_CHOICES: u64 = 128;

/// Fixed-point scale of the averages.
const SCALE: u64 = 1024;
/// An observation moves an average by 1/WEIGHT of the difference.
const WEIGHT: u64 = 16;
/// Bounds of an observed ratio, against outliers.
const BYTES_PER_TOKEN: (u64, u64) = (SCALE / 4, 64 * SCALE);

/// Estimated usage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Prompt and completion tokens.
    pub tokens: u64,
    /// Estimated cost, in micro-dollars.
    pub micro_usd: u64,
}

impl Estimate {
    /// See [`Used::of`].
    pub(super) const fn of(&self, dimension: Dimension) -> Option<u64> {
        Used { tokens: self.tokens, micro_usd: self.micro_usd }.of(dimension)
    }
}

/// The properties of a request that its estimate is based on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestSize {
    /// Bytes of its messages as counted by [`prompt_bytes`], plus the route's system prompt.
    pub prompt_bytes: u64,
    /// `max_completion_tokens` or `max_tokens`, from the client or the route.
    pub max_tokens: Option<u64>,
    /// `n`; 0 counts as 1.
    pub choices: u64,
}

/// Bytes of the raw JSON messages, counting each data URI and audio recording as at most [`MEDIA_BYTES`].
pub fn prompt_bytes(messages: &str) -> u64 {
    let mut bytes = messages.len() as u64;
    if bytes <= MEDIA_BYTES {
        return bytes; // as most are
    }
    let mut rest = messages.as_bytes();
    while let Some(at) = memmem::find(rest, b"\"data") {
        rest = rest.get(at + 5..).unwrap_or_default();
        let media = uri(rest).or_else(|| recording(rest)).unwrap_or_default();
        let Some(length) = memchr(b'"', media) else { continue };
        // Behind the closing quote: the value of a member `data` may itself begin with `data:`, and counts once.
        rest = media.get(length + 1..).unwrap_or_default();
        bytes = bytes.saturating_sub((length as u64).saturating_sub(MEDIA_BYTES));
    }
    bytes
}

/// After `"data`: the rest of a string like `"data:image/png;base64,…`.
fn uri(rest: &[u8]) -> Option<&[u8]> {
    const LONGEST_TYPE: usize = 128;
    rest.strip_prefix(b":").filter(|rest| memmem::find(rest.get(..LONGEST_TYPE).unwrap_or(rest), b";base64,").is_some())
}

/// After `"data`: the value of `input_audio.data`.
fn recording(rest: &[u8]) -> Option<&[u8]> {
    rest.strip_prefix(b"\"")?.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start().strip_prefix(b"\"")
}

/// Two moving averages. Concurrent updates may lose an observation.
#[derive(Debug)]
pub struct Averages {
    bytes_per_token: AtomicU64,
    completion: AtomicU64,
}

impl Default for Averages {
    fn default() -> Self {
        Self { bytes_per_token: AtomicU64::new(INITIAL_BYTES_PER_TOKEN * SCALE), completion: AtomicU64::new(INITIAL_COMPLETION * SCALE) }
    }
}

impl Averages {
    /// Estimated tokens: the prompt by its bytes, the completion by its maximum or the average. Bounded, because it is charged
    /// where a provider reports no usage.
    pub fn usage(&self, request: &RequestSize) -> Usage {
        let ratio = self.bytes_per_token.load(Relaxed).max(1);
        let prompt = request.prompt_bytes.saturating_mul(SCALE).div_ceil(ratio).min(MAX_PROMPT);
        let each = request.max_tokens.unwrap_or_else(|| self.completion.load(Relaxed).div_ceil(SCALE)).min(MAX_COMPLETION);
        Usage { prompt, completion: each * request.choices.clamp(1, MAX_CHOICES), ..Usage::default() }
    }

    /// [`Averages::usage`] as total tokens and cost.
    pub fn estimate(&self, request: &RequestSize, price: Option<&Price>) -> Estimate {
        let usage = self.usage(request);
        Estimate { tokens: usage.total(), micro_usd: price.map_or(0, |price| account::cost(price, &usage)) }
    }

    /// Updates the averages. `used` must come from a provider, not from an estimate.
    pub fn learn(&self, request: &RequestSize, used: &Usage) {
        if used.prompt > 0 && request.prompt_bytes > 0 {
            let (least, most) = BYTES_PER_TOKEN;
            let seen = (request.prompt_bytes.saturating_mul(SCALE) / used.prompt).clamp(least, most);
            approach(&self.bytes_per_token, seen);
        }
        if used.completion > 0 {
            approach(&self.completion, (used.completion / request.choices.max(1)).saturating_mul(SCALE));
        }
    }
}

fn approach(average: &AtomicU64, seen: u64) {
    let old = average.load(Relaxed);
    let step = old.abs_diff(seen) / WEIGHT;
    average.store(if seen >= old { old.saturating_add(step) } else { old.saturating_sub(step) }, Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Rates;

    #[test]
    fn a_request_is_estimated_by_its_bytes_and_its_maximum() {
        let averages = Averages::default();
        let request = RequestSize { prompt_bytes: 401, max_tokens: Some(50), choices: 2 };
        let rates = Rates { input: 1_000_000, output: 10_000_000, ..Rates::default() };
        let price = Price { rates, ..Price::default() };
        assert_eq!(averages.estimate(&request, Some(&price)), Estimate { tokens: 201, micro_usd: 101 + 1000 });
        assert_eq!(averages.estimate(&RequestSize { max_tokens: None, ..request }, None), Estimate { tokens: 101 + 512, micro_usd: 0 });
    }

    #[test]
    fn media_count_for_what_they_cost_and_not_for_their_size() {
        let part = |size: usize| format!(r#"{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{}"}}}}"#, "A".repeat(size));
        let sound = |size: usize| format!(r#"{{"type":"input_audio","input_audio":{{"data" : "{}","format":"wav"}}}}"#, "B".repeat(size));
        let text = |size: usize| format!(r#"{{"type":"text","text":"{}"}}"#, r#"the \"data\": \"data:, "#.repeat(size));
        let of = |parts: &[String]| prompt_bytes(&format!(r#"[{{"role":"user","content":[{}]}}]"#, parts.join(",")));
        assert_eq!(of(&[part(5)]), of(&[]) + part(5).len() as u64);
        assert_eq!(of(&[part(1 << 20)]), of(&[part(5000)]));
        assert_eq!(of(&[part(5000), part(6000), sound(7000)]), of(&[part(1 << 20), part(1 << 20), sound(1 << 20)]));
        assert!((2 * MEDIA_BYTES..2 * MEDIA_BYTES + 300).contains(&of(&[part(1 << 20), sound(1 << 20)])));
        assert_eq!(of(&[text(900)]), of(&[]) + text(900).len() as u64, "text is what it is");
        // Anthropic's image source with a data URI in place of its bytes.
        let both = |size: usize| format!(r#"{{"type":"base64","data":"data:image/png;base64,{}"}}"#, "A".repeat(size));
        assert_eq!(of(&[both(1 << 20)]), of(&[both(5000)]));
        assert_eq!(of(&[both(9000), both(1 << 20), part(9000)]), of(&[both(5000), both(5000), part(5000)]));
        for cut in ["\"data", "\"data:", "\"data\"", "\"data\":", "\"data\": \""] {
            let odd = "x".repeat(5000) + cut;
            assert_eq!(prompt_bytes(&odd), odd.len() as u64, "{cut}");
        }
    }

    #[test]
    fn an_estimate_is_bounded_whatever_a_client_asks_for() {
        let request = RequestSize { prompt_bytes: u64::MAX, max_tokens: Some(u64::MAX), choices: u64::MAX };
        let usage = Averages::default().usage(&request);
        assert_eq!((usage.prompt, usage.completion), (MAX_PROMPT, MAX_COMPLETION * MAX_CHOICES));
    }

    #[test]
    fn estimates_approach_what_answers_use() {
        let averages = Averages::default();
        let request = RequestSize { prompt_bytes: 1000, max_tokens: None, choices: 1 };
        for _ in 0..200 {
            averages.learn(&request, &Usage { prompt: 500, completion: 40, ..Usage::default() });
        }
        let usage = averages.usage(&request);
        assert!(usage.prompt.abs_diff(500) <= 5 && usage.completion.abs_diff(40) <= 1, "{usage:?}");
        averages.learn(&request, &Usage::default());
        assert_eq!(averages.usage(&request), usage, "an answer without counts teaches nothing");
    }
}
