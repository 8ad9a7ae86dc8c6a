//! The text of a JSON string, kept in its spelling.

use super::surrogate;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// A piece of text on its way from one JSON document into another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text<'a> {
    /// The inside of a JSON string as it stood there, escapes included, quotes left out. It is copied verbatim, so it
    /// must come from text that a JSON scanner has accepted.
    Raw(&'a str),
    /// Plain characters that still need escaping.
    Plain(&'a str),
}

impl<'a> Text<'a> {
    /// Whether there is nothing in it.
    pub fn is_empty(self) -> bool {
        self.spelled().is_empty()
    }

    /// The text as it is written, escapes included.
    pub const fn spelled(self) -> &'a str {
        match self {
            Self::Raw(s) | Self::Plain(s) => s,
        }
    }

    /// The characters themselves; allocates only where an escape has to be undone. Half of a surrogate pair, which no text
    /// can hold, is U+FFFD.
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
    /// Takes a JSON string as it is spelled, without undoing its escapes.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        raw_text(<&'a RawValue>::deserialize(deserializer)?).ok_or_else(|| serde::de::Error::custom("must be a string"))
    }
}

/// The inside of a raw JSON string; `None` where the value is none.
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
