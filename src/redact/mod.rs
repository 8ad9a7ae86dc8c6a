//! Removes secrets from text of external origin.
//!
//! Providers quote the operator's credentials in their errors, in full, encoded or masked. Before such a text reaches a
//! client or the log, this removes known secrets ([`KnownSecrets`]), then everything that resembles a key, preferring
//! false positives.

use std::borrow::Cow;

mod known;

pub use known::{KnownSecrets, MIN_SECRET};

/// The replacement.
pub const REDACTED: &str = "[redacted]";

/// Maximum bytes that [`redact_to`] searches.
pub const MAX_SEARCHED: usize = 64 << 10;

/// Most characters of a name or a word that an error or the log repeats.
const MAX_SHOWN: usize = 64;

/// Prefixes of keys, and the minimum number of characters that follow.
const PREFIXES: [(&str, usize); 18] = [
    ("sk-", 8),
    ("sk_", 8),
    ("pk-", 8),
    ("rk-", 8),
    ("fw_", 8),
    ("fw-", 8),
    ("hf_", 8),
    ("gsk_", 8),
    ("xai-", 8),
    ("key-", 16),
    ("AKIA", 12),
    ("ASIA", 12),
    ("ABSK", 16),
    ("AIza", 16),
    ("ya29.", 8),
    ("eyJ", 16),
    ("tgp_", 8),
    ("bedrock-api-key-", 8),
];

/// Prefix of the gateway's keys. Names of files and hosts also begin with it, so the rest is checked.
const OWN_PREFIX: &str = "tg-";
/// Minimum length of the rest, which must have both cases and digits.
const OWN_PART: usize = 8;

/// Words that precede a credential.
const CREDENTIAL_LABELS: [&str; 6] = ["bearer", "api-key", "api_key", "apikey", "x-api-key", "x-goog-api-key"];

/// A part without separators is a key from this length on, if it has letters and digits …
const LONG_PART: usize = 24;
/// … or from this one, if it has both cases and digits.
const MIXED_PART: usize = 16;
/// Base64 of this length with both cases and digits is a key even if it contains slashes.
const LONG_BASE64: usize = 40;

/// Replaces known secrets and everything that resembles a key by [`REDACTED`]. Takes microseconds per kilobyte: use it
/// for errors and logs.
pub fn redact(text: &str) -> Cow<'_, str> {
    match redact_known(text) {
        Cow::Borrowed(text) => redact_suspicious(text),
        Cow::Owned(text) => Cow::Owned(redact_suspicious(&text).into_owned()),
    }
}

/// The redacted text, truncated to `max` bytes after redaction. Text beyond [`MAX_SEARCHED`] bytes is dropped.
pub fn redact_to(text: &str, max: usize) -> Cow<'_, str> {
    match redact(truncated(text, MAX_SEARCHED)) {
        Cow::Borrowed(text) => Cow::Borrowed(truncated(text, max)),
        Cow::Owned(mut text) => {
            text.truncate(truncated(&text, max).len());
            Cow::Owned(text)
        }
    }
}

/// The first `max` bytes, without a part of a character.
pub fn truncated(text: &str, max: usize) -> &str {
    let end = (0..=max.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

/// A name or a word of a client or a provider, for an error or the log: its first [`MAX_SHOWN`] characters.
pub fn cut(text: &str) -> String {
    text.chars().take(MAX_SHOWN).collect()
}

/// The same without control characters.
pub fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_SHOWN).collect()
}

fn redact_known(text: &str) -> Cow<'_, str> {
    let found = known::find(text);
    if found.is_empty() {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut copied = 0;
    for range in found {
        out.push_str(text.get(copied..range.start).unwrap_or_default());
        out.push_str(REDACTED);
        copied = range.end;
    }
    out.push_str(text.get(copied..).unwrap_or_default());
    Cow::Owned(out)
}

fn redact_suspicious(text: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let mut copied = 0;
    let mut after_label = false;
    let mut rest = 0;
    while let Some((start, word)) = next_word(text, rest) {
        // A comma or semicolon separates list items.
        after_label &= !text.get(rest..start).is_some_and(|between| between.contains([',', ';']));
        rest = start + word.len();
        let bare = word.trim_end_matches(['.', '/', '-']);
        if is_key(bare) || after_label && !is_plain_word(bare) {
            out.push_str(text.get(copied..start).unwrap_or_default());
            out.push_str(REDACTED);
            copied = start + bare.len();
        }
        after_label = CREDENTIAL_LABELS.iter().any(|name| name.eq_ignore_ascii_case(bare));
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(text.get(copied..).unwrap_or_default());
    Cow::Owned(out)
}

/// Characters of keys and of masked keys.
fn in_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | '+' | '~') || is_mask(c)
}

fn is_mask(c: char) -> bool {
    matches!(c, '*' | '…' | '•')
}

fn next_word(text: &str, from: usize) -> Option<(usize, &str)> {
    let tail = text.get(from..)?;
    let start = tail.find(in_word)?;
    let word = tail.get(start..)?;
    let end = word.find(|c| !in_word(c)).unwrap_or(word.len());
    Some((from + start, word.get(..end)?))
}

fn is_key(word: &str) -> bool {
    let (upper, lower, digit) = char_classes(word);
    let base64 =
        word.len() >= LONG_BASE64 && upper && lower && digit && word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'));
    is_masked(word) || base64 || has_prefix(word) || is_own_key(word) || word.split(['/', '.', '-', '_', '+', '~']).any(is_key_part)
}

/// Masked inside (`ab**cd`, `ab…cd`), or by more stars than emphasis uses (`****abcd`).
fn is_masked(word: &str) -> bool {
    let inside = word.trim_matches(is_mask);
    let longest = word.split(|c| !is_mask(c)).map(|run| run.chars().count()).max().unwrap_or(0);
    inside.contains(['…', '•']) || inside.contains("**") || longest >= 4 && !inside.is_empty()
}

fn is_key_part(part: &str) -> bool {
    let (upper, lower, digit) = char_classes(part);
    digit && (upper || lower) && (part.len() >= LONG_PART || part.len() >= MIXED_PART && upper && lower)
}

fn char_classes(text: &str) -> (bool, bool, bool) {
    let has = |kind: fn(&u8) -> bool| text.as_bytes().iter().any(kind);
    (has(u8::is_ascii_uppercase), has(u8::is_ascii_lowercase), has(u8::is_ascii_digit))
}

/// Whether a key prefix occurs at the beginning or after a character that is not alphanumeric.
fn has_prefix(word: &str) -> bool {
    PREFIXES.iter().any(|(prefix, least)| after(word, prefix).any(|rest| rest.len() >= *least))
}

/// Whether it contains a key of the gateway: `tg-` and base 62.
fn is_own_key(word: &str) -> bool {
    after(word, OWN_PREFIX).any(|rest| {
        let part = rest.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
        part.len() >= OWN_PART && char_classes(part) == (true, true, true)
    })
}

/// What follows each occurrence of a prefix at the beginning or after a character that is not alphanumeric.
fn after<'w>(word: &'w str, prefix: &'w str) -> impl Iterator<Item = &'w str> {
    word.match_indices(prefix).filter_map(move |(at, _)| {
        let before = word.get(..at)?.chars().next_back();
        before.is_none_or(|c| !c.is_ascii_alphanumeric()).then(|| word.get(at + prefix.len()..))?
    })
}

/// English prose: "Bearer token", "API-key is".
fn is_plain_word(word: &str) -> bool {
    word.len() < LONG_PART && word.bytes().all(|b| b.is_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_cut() {
        let long = "é\n".repeat(MAX_SHOWN);
        assert_eq!(cut(&long), "é\n".repeat(MAX_SHOWN / 2));
        assert_eq!(shown(&long), "é".repeat(MAX_SHOWN));
    }

    #[test]
    fn keys_are_taken_out() {
        for (text, want) in [
            (
                "Incorrect API key provided: sk-proj-ab12CD34ef. See https://x.com.",
                "Incorrect API key provided: [redacted]. See https://x.com.",
            ),
            ("key sk-ab****cd is bad", "key [redacted] is bad"),
            ("key \"sk-ab…cd\" is bad", "key \"[redacted]\" is bad"),
            ("the key ending in ****wxyz", "the key ending in [redacted]"),
            ("a key ab********34 of yours", "a key [redacted] of yours"),
            ("tg-2dEfGh45JkLm", "[redacted]"),
            ("/keys/tg-2dEfGh45JkLm.txt", "[redacted]"),
            ("user AKIAIOSFODNN7EXAMPLE denied", "user [redacted] denied"),
            ("?key=AIzaSyA-1234567890abcdefgh&alt=sse", "?key=[redacted]&alt=sse"),
            ("Authorization: Bearer abc123", "Authorization: Bearer [redacted]"),
            ("x-api-key: hunter2", "x-api-key: [redacted]"),
            ("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "[redacted]"),
            ("digest 9f86d081884c7d659a2feaa0c55ad015 there", "digest [redacted] there"),
            ("jwt eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJhIn0.c2ln", "jwt [redacted]"),
            ("(sk-aaaaaaaa,sk-bbbbbbbb)", "([redacted],[redacted])"),
        ] {
            assert_eq!(redact(text), want);
        }
    }

    #[test]
    fn what_helps_stays() {
        for text in [
            "This model's maximum context length is 8192 tokens, however you requested 9001.",
            "model accounts/fireworks/models/llama-v3p1-405b-instruct not found",
            "claude-sonnet-4-5-20250929 and Qwen/Qwen3-235B-A22B-Instruct-2507-FP8",
            "request 01977ed9-7492-7b70-8347-9564aeb44a24 failed",
            "The Bearer token is missing; the api_key was not given",
            "the keys here are access_token, api_key, api_key_file, base_url",
            "see https://platform.openai.com/account/api-keys **now** or a*b",
            "task-management-system and sk-learn",
            "/etc/tg-gateway/config.yaml and tg-production-2024/models/llama, tg-eu-west-1.internal/v1",
            "ünïcödé … 日本語",
            "",
        ] {
            assert!(matches!(redact(text), Cow::Borrowed(_)), "{}", redact(text));
        }
    }
}
