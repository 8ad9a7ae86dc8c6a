//! Undoes the escapes of JSON strings (RFC 8259, section 7).

use std::str::Chars;

/// The inside of a validated string without its escapes. A lone surrogate, which Unicode text cannot contain, becomes U+FFFD.
pub(super) fn decoded(inside: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(inside.len()), inside);
    while let Some((plain, escape)) = memchr::memchr(b'\\', rest.as_bytes()).and_then(|at| rest.split_at_checked(at)) {
        out.push_str(plain);
        let mut chars = escape.chars();
        out.extend(code_point(&mut chars).map(|c| char::from_u32(c).unwrap_or(char::REPLACEMENT_CHARACTER)));
        rest = chars.as_str();
    }
    out.push_str(rest);
    out
}

/// Its code points. A lone surrogate, which RFC 8259 (section 8.2) permits, is returned as such.
pub(super) fn code_points(inside: &str) -> impl Iterator<Item = u32> + '_ {
    let mut chars = inside.chars();
    std::iter::from_fn(move || code_point(&mut chars))
}

/// The next code point.
fn code_point(chars: &mut Chars<'_>) -> Option<u32> {
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
            let high = hex(chars)?;
            let mut ahead = chars.clone();
            let low = (ahead.next() == Some('\\') && ahead.next() == Some('u')).then(|| hex(&mut ahead)).flatten();
            match (high, low) {
                (0xd800..=0xdbff, Some(low @ 0xdc00..=0xdfff)) => {
                    *chars = ahead;
                    0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00)
                }
                _ => high,
            }
        }
        same => u32::from(same),
    })
}

fn hex(chars: &mut Chars<'_>) -> Option<u32> {
    (0..4).try_fold(0, |n, _| Some(n << 4 | chars.next()?.to_digit(16)?))
}
