//! Text of a JSON string, copied between documents without decoding.

use super::{escape, write};
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

    /// The text without the white space that it begins with, as far as that can be told without decoding `\\u` escapes.
    pub fn trimmed_start(self) -> Self {
        let mut rest = match self {
            Self::Plain(plain) => return Self::Plain(plain.trim_start()),
            Self::Raw(raw) => raw.trim_start(),
        };
        while let Some(next) = ["\\n", "\\t", "\\r"].iter().find_map(|escape| rest.strip_prefix(escape)) {
            rest = next.trim_start();
        }
        Self::Raw(rest)
    }

    /// Whether a text of JSON may be an object. It may say too much, and never too little.
    pub fn may_be_object(self) -> bool {
        self.trimmed_start().spelled().starts_with(['{', '\\'])
    }

    /// The inside of a JSON string; allocates only for plain text.
    pub fn escaped(self) -> Cow<'a, str> {
        match self {
            Self::Raw(s) => Cow::Borrowed(s),
            Self::Plain(s) => {
                let mut out = Vec::with_capacity(s.len());
                write::escape(&mut out, s);
                Cow::Owned(String::from_utf8(out).unwrap_or_default())
            }
        }
    }

    /// The decoded text; allocates only if it contains escapes. Lone surrogates become U+FFFD.
    pub fn decode(self) -> Cow<'a, str> {
        match self {
            Self::Plain(s) => Cow::Borrowed(s),
            Self::Raw(s) if memchr::memchr(b'\\', s.as_bytes()).is_none() => Cow::Borrowed(s),
            Self::Raw(s) => Cow::Owned(escape::decoded(s)),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    /// Deserializes a JSON string without decoding its escapes.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        raw_text(Some(<&RawValue>::deserialize(deserializer)?)).ok_or_else(|| serde::de::Error::custom("must be a string"))
    }
}

/// The inside of a raw JSON string; `None` for other values.
pub fn raw_text(value: Option<&RawValue>) -> Option<Text<'_>> {
    value?.get().strip_prefix('"')?.strip_suffix('"').map(Text::Raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_is_read_without_decoding() {
        for text in [Text::Raw(r#" \n\t\r {\"a\":1}"#), Text::Raw(r"\u007b}"), Text::Raw(r"\n\u0020{}"), Text::Plain(" {}")] {
            assert!(text.may_be_object(), "{text:?}");
        }
        for text in [Text::Raw(r"\nfn main() {}"), Text::Raw(""), Text::Plain("[{}]")] {
            assert!(!text.may_be_object(), "{text:?}");
        }
        assert_eq!(Text::Raw(r" \n a\n").trimmed_start(), Text::Raw(r"a\n"));
    }

    #[test]
    fn raw_text_decodes_its_escapes() {
        assert_eq!(Text::Raw(r#"a\n\u00fc\""#).decode(), "a\nü\"");
        assert_eq!([Text::Raw(r"a\n"), Text::Plain("a\n\"")].map(Text::escaped), [r"a\n", r#"a\n\""#]);
        assert_eq!(Text::Plain(r"a\n").decode(), r"a\n");
        assert_eq!(Text::Raw(r"\ud83d \ud83d\ude00").decode(), "\u{fffd} \u{1f600}");
    }
}
