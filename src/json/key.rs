//! The key of a member, compared regardless of its escapes.

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
        if self.is_escaped() { self.code_points().eq(name.chars().map(u32::from)) } else { self.0 == name }
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
        if self.is_escaped() {
            Cow::Owned(self.code_points().map(|c| char::from_u32(c).unwrap_or(char::REPLACEMENT_CHARACTER)).collect())
        } else {
            Cow::Borrowed(self.0)
        }
    }

    /// Compares decoded keys by code point.
    pub(super) fn order(self, other: Self) -> Ordering {
        if self.is_escaped() || other.is_escaped() {
            self.code_points().cmp(other.code_points())
        } else {
            self.0.cmp(other.0) // UTF-8 sorts by code point
        }
    }

    /// The decoded code points. A lone surrogate, which RFC 8259 (section 8.2) permits, is returned as such.
    fn code_points(self) -> impl Iterator<Item = u32> + 'a {
        let mut chars = self.0.chars();
        std::iter::from_fn(move || {
            let c = chars.next()?;
            if c != '\\' {
                return Some(u32::from(c));
            }
            Some(match chars.next()? {
                'b' => 0x08,
                'f' => 0x0c,
                'n' => 0x0a,
                'r' => 0x0d,
                't' => 0x09,
                'u' => {
                    let high = hex(&mut chars)?;
                    let mut ahead = chars.clone();
                    let low = (ahead.next() == Some('\\') && ahead.next() == Some('u')).then(|| hex(&mut ahead)).flatten();
                    match (high, low) {
                        (0xd800..=0xdbff, Some(low @ 0xdc00..=0xdfff)) => {
                            chars = ahead;
                            0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00)
                        }
                        _ => high,
                    }
                }
                same => u32::from(same),
            })
        })
    }
}

fn hex(chars: &mut std::str::Chars<'_>) -> Option<u32> {
    (0..4).try_fold(0, |n, _| Some(n << 4 | chars.next()?.to_digit(16)?))
}
