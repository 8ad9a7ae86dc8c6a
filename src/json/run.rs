//! Finds the end of plain text in JSON strings, the hottest loop of the scanner.
//!
//! Scanning and escaping error at the same bytes (RFC 8259, section 7: quotation mark, reverse solidus and control
//! characters U+0000 to U+001F), so both use this search. Bodies consist mostly of string text.

use super::walk::SyntaxError;
use wide::u8x16;

/// Bytes checked together in plain text; the compiler vectorises the loop over one block.
const BLOCK: usize = 64;
/// Bytes of a vector.
const LANES: usize = 16;
/// Plain bytes after which blocks are used: shorter strings, such as keys, are cheaper without.
const BLOCK_THRESHOLD: usize = 32;

/// Whether a byte must be escaped in a JSON string.
const fn is_special(b: u8) -> bool {
    b < 0x20 || b == b'"' || b == b'\\'
}

/// Number of leading bytes that need no escape.
pub fn plain(bytes: &[u8]) -> usize {
    let mut at = 0;
    loop {
        let Some(lanes) = lanes(bytes, at) else { return at + tail(bytes.get(at..).unwrap_or_default()) };
        let hits = special_mask(lanes);
        if hits != 0 {
            return at + hits.trailing_zeros() as usize;
        }
        at += LANES;
        if at == BLOCK_THRESHOLD {
            at += blocks(bytes.get(at..).unwrap_or_default());
        }
    }
}

/// Position after the closing quote of a string whose text begins at `start` (`string` of RFC 8259, section 7).
#[inline]
pub(super) fn string_end(bytes: &[u8], start: usize) -> Result<usize, SyntaxError> {
    // Fast path: most strings end within the first vector.
    match lanes(bytes, start).map(|lanes| special_mask(lanes).trailing_zeros() as usize) {
        Some(first) if bytes.get(start + first) == Some(&b'"') && first < LANES => Ok(start + first + 1),
        Some(first) if first >= LANES => long_string_end(bytes, start + LANES),
        _ => long_string_end(bytes, start),
    }
}

/// [`string_end`] for longer strings, or for the rest of one from a character boundary.
#[inline(never)]
fn long_string_end(bytes: &[u8], start: usize) -> Result<usize, SyntaxError> {
    let (mut at, mut block_at) = (start, start + BLOCK_THRESHOLD);
    let mut unescaped = true; // no escape so far
    'lanes: loop {
        if at >= block_at {
            at = if unescaped { skip_unescaped(bytes, at) } else { skip_simple_blocks(bytes, at) };
            block_at = at + BLOCK; // read past the obstacle in smaller steps
        }
        let Some(lanes) = lanes(bytes, at) else { return string_tail(bytes, at) };
        let mut hits = special_mask(lanes);
        while hits != 0 {
            let hit = at + hits.trailing_zeros() as usize;
            match bytes.get(hit) {
                Some(b'"') => return Ok(hit + 1),
                Some(b'\\') => {
                    unescaped = false;
                    let end = escape_end(bytes, hit)?;
                    if end >= at + LANES {
                        at = end;
                        continue 'lanes;
                    }
                    hits &= u32::MAX << (end - at);
                }
                _ => return Err(SyntaxError::new(CONTROL, hit)),
            }
        }
        at += LANES;
    }
}

/// Skips text without escapes, up to the next quote or backslash. Returns `start` if there is none, or a control
/// character precedes it.
fn skip_unescaped(bytes: &[u8], start: usize) -> usize {
    let rest = bytes.get(start..).unwrap_or_default();
    let text = memchr::memchr2(b'"', b'\\', rest).and_then(|end| rest.get(..end)).unwrap_or_default();
    if text.iter().fold(u8::MAX, |least, b| least.min(*b)) < 0x20 { start } else { start + text.len() }
}

/// [`string_end`] in validated text: searches for the quote only.
pub(super) fn closing_quote(bytes: &[u8], start: usize) -> Result<usize, SyntaxError> {
    let mut at = start;
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        match memchr::memchr2(b'"', b'\\', rest) {
            Some(i) if rest.get(i) == Some(&b'"') => return Ok(at + i + 1),
            Some(i) => at += i + 2,
            None => return Err(SyntaxError::new("unterminated string", at)),
        }
    }
}

/// Skips blocks whose only escapes are the common ones, and stops at a character boundary. Branch-free, so that escapes
/// in prose and program code do not cause mispredictions.
fn skip_simple_blocks(bytes: &[u8], start: usize) -> usize {
    let ends_in_backslash = |at: usize| at.checked_sub(1).and_then(|i| bytes.get(i)) == Some(&b'\\');
    if ends_in_backslash(start) {
        return start; // the backslash of an escape would be misread
    }
    let mut at = start;
    while let Some((before, block)) = block(bytes, at.wrapping_sub(1)).zip(block(bytes, at)) {
        if !before.iter().zip(block).fold(true, |simple, (&before, &b)| simple & is_simple_after(before, b)) {
            break;
        }
        at += BLOCK;
    }
    if at > start && ends_in_backslash(at) { at - 1 } else { at }
}

/// Whether `b` is valid after `before`, if no escaped backslash is near.
const fn is_simple_after(before: u8, b: u8) -> bool {
    let escape = (b == b'n') | (b == b'"') | (b == b't') | (b == b'/');
    let escaped = before == b'\\';
    (b >= 0x20) & ((escaped & escape) | (!escaped & (b != b'"')))
}

/// Whether a block contains no special byte.
#[inline]
fn is_plain(block: &[u8; BLOCK]) -> bool {
    !block.iter().fold(false, |hit, &b| hit | is_special(b))
}

/// Number of leading spaces, at most [`LANES`]: indentation.
#[inline]
pub(super) fn spaces(bytes: &[u8]) -> usize {
    lanes(bytes, 0).map_or(0, |lanes| (!lanes.simd_eq(u8x16::splat(b' ')).to_bitmask()).trailing_zeros() as usize)
}

const CONTROL: &str = "unescaped control character in a string";

/// [`string_end`] byte by byte, for the last few bytes.
fn string_tail(bytes: &[u8], mut at: usize) -> Result<usize, SyntaxError> {
    loop {
        match bytes.get(at) {
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') => at = escape_end(bytes, at)?,
            Some(0..0x20) => return Err(SyntaxError::new(CONTROL, at)),
            Some(_) => at += 1,
            None => return Err(SyntaxError::new("unterminated string: expected `\"`", at)),
        }
    }
}

/// Position after the escape whose backslash is at `at`.
#[inline]
fn escape_end(bytes: &[u8], at: usize) -> Result<usize, SyntaxError> {
    match bytes.get(at + 1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 2),
        Some(b'u') => match bytes.get(at + 2..at + 6) {
            Some(digits) if digits.iter().fold(true, |all, b| all & b.is_ascii_hexdigit()) => Ok(at + 6),
            _ => Err(SyntaxError::new("expected four hexadecimal digits after `\\u`", at)),
        },
        _ => Err(SyntaxError::new("unknown escape: expected one of `\"\\/bfnrtu` after `\\`", at)),
    }
}

/// Length of the leading blocks of plain text, in bytes.
#[inline]
fn blocks(bytes: &[u8]) -> usize {
    let (blocks, _) = bytes.as_chunks::<BLOCK>();
    blocks.iter().take_while(|block| is_plain(block)).count() * BLOCK
}

#[inline]
fn block(bytes: &[u8], at: usize) -> Option<&[u8; BLOCK]> {
    bytes.get(at..)?.first_chunk()
}

#[inline]
fn lanes(bytes: &[u8], at: usize) -> Option<u8x16> {
    bytes.get(at..)?.first_chunk().map(|lanes| u8x16::new(*lanes))
}

fn tail(bytes: &[u8]) -> usize {
    bytes.iter().position(|&b| is_special(b)).unwrap_or(bytes.len())
}

/// One bit per special byte, the lowest for the first.
#[inline]
fn special_mask(lanes: u8x16) -> u32 {
    let control = lanes.min(u8x16::splat(0x1f)).simd_eq(lanes);
    (control | lanes.simd_eq(u8x16::splat(b'"')) | lanes.simd_eq(u8x16::splat(b'\\'))).to_bitmask()
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn every_special_byte_is_found_at_every_place() {
        for place in 0..120 {
            for b in 0..=255u8 {
                // What stands behind must not matter: neighbours that could borrow or carry.
                for after in [0x00, 0x1f, 0x20, 0x21, b'"', b'#', b'\\', b']', 0x7f, 0x80, 0xff] {
                    let mut bytes = vec![b'!'; place];
                    bytes.extend([b, after]);
                    let want = (0..place + 2).find(|&i| matches!(bytes[i], 0..=0x1f | b'"' | b'\\')).unwrap_or(place + 2);
                    assert_eq!(plain(&bytes), want, "{place} {b:#x} {after:#x}");
                }
            }
        }
    }

    #[test]
    fn a_string_ends_at_the_first_quote_that_is_not_escaped() {
        for place in 0..200 {
            for (middle, good) in [
                ("", true),
                ("\\n", true),
                ("\\\"", true),
                ("\\\\", true),
                ("\\\\\\\"", true),
                ("\\u00e4\\t", true),
                ("\\/\\\"\\n\\\"", true),
                ("\\x", false),
                ("\\u00g4", false),
                ("\\\\\\ ", false),
                ("\n", false),
                ("\\\n", false),
            ] {
                for after in [0, 3, 150] {
                    let text = format!("\"{}{middle}{}", ".".repeat(place), "-".repeat(after));
                    let whole = format!("{text}\" \" more text behind the end of the string, a block of it at the very least, or more");
                    let want = good.then_some(text.len() + 1);
                    assert_eq!(string_end(whole.as_bytes(), 1).ok(), want, "{whole}");
                    assert!(string_end(text.as_bytes(), 1).is_err(), "{text}");
                }
            }
        }
    }
}
