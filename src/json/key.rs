//! The key of a member, compared regardless of its escapes.

use super::escape::code_points;
use super::text::Text;
use std::borrow::Cow;
use std::cmp::Ordering;

/// A key: the validated text between its quotes.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a>(&'a str);

impl<'a> Key<'a> {
    /// A key from the inside of a validated JSON string.
    pub(super) const fn of(raw: &'a str) -> Self {
        Self(raw)
    }

    /// Whether the decoded key is `name`: `"mod\u0065l"` is `model`.
    pub fn is(self, name: &str) -> bool {
        if self.is_escaped() { code_points(self.0).eq(name.chars().map(u32::from)) } else { self.0 == name }
    }

    /// Whether it contains escapes.
    pub(super) fn is_escaped(self) -> bool {
        self.0.contains('\\')
    }

    /// The key as written, escapes included.
    pub const fn raw(self) -> &'a str {
        self.0
    }

    /// The decoded key; allocates only if it contains escapes. A lone surrogate becomes U+FFFD.
    pub fn decode(self) -> Cow<'a, str> {
        Text::Raw(self.0).decode()
    }

    /// Compares decoded keys by code point.
    pub(super) fn order(self, other: Self) -> Ordering {
        if self.is_escaped() || other.is_escaped() {
            code_points(self.0).cmp(code_points(other.0))
        } else {
            self.0.cmp(other.0) // UTF-8 sorts by code point
        }
    }
}
