//! Text of a JSON string, copied between documents without decoding.

use super::surrogate;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// Text to write into a JSON document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text<'a> {
    /// The inside of a JSON string, escapes included. Copied verbatim, so it must come from validated JSON.
    Raw(&'a str),
    /// Text without escapes, to be escaped when written.
    Plain(&'a str),
}

impl<'a> Text<'a> {
    /// Whether it is empty.
    pub fn is_empty(self) -> bool {
        self.spelled().is_empty()
    }

    /// The text as written, escapes included.
    pub const fn spelled(self) -> &'a str {
        match self {
            Self::Raw(s) | Self::Plain(s) => s,
        }
    }

    /// The decoded text; allocates only if it contains escapes. Lone surrogates become U+FFFD.
    pub fn decode(self) -> Cow<'a, str> {
        match self {
            Self::Plain(s) => Cow::Borrowed(s),
            Self::Raw(s) if memchr::memchr(b'\\', s.as_bytes()).is_none() => Cow::Borrowed(s),
            Self::Raw(s) => Cow::Owned(unescaped(s).or_else(|| unescaped(&surrogate::repaired(s))).unwrap_or_else(|| s.to_owned())),
        }
    }
}

fn unescaped(inside: &str) -> Option<String> {
    serde_json::from_str(&format!("\"{inside}\"")).ok()
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    /// Deserializes a JSON string without decoding its escapes.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        raw_text(<&'a RawValue>::deserialize(deserializer)?).ok_or_else(|| serde::de::Error::custom("must be a string"))
    }
}

/// The inside of a raw JSON string; `None` for other values.
pub fn raw_text(value: &RawValue) -> Option<Text<'_>> {
    value.get().strip_prefix('"')?.strip_suffix('"').map(Text::Raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_text_decodes_its_escapes() {
        assert_eq!(Text::Raw(r#"a\n\u00fc\""#).decode(), "a\nü\"");
        assert_eq!(Text::Plain(r"a\n").decode(), r"a\n");
        assert_eq!(Text::Raw(r"\ud83d \ud83d\ude00").decode(), "\u{fffd} \u{1f600}");
    }
}
