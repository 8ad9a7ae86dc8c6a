//! The one tight loop of JSON: how far does plain string text go?
//!
//! Reading a string and escaping one stop at the same bytes (RFC 8259, section 7: the quotation mark, the reverse
//! solidus and the control characters U+0000 to U+001F), so both use this search. Bodies are mostly string text, which
//! makes its speed the speed of the whole scan.

use super::walk::Stop;
use wide::u8x16;

/// Bytes looked at together where no special byte is near; the compiler turns the loop over one block into vector
/// instructions.
const BLOCK: usize = 64;
/// Bytes of a vector.
const LANES: usize = 16;
/// Plain bytes after which blocks are tried: keys and short words end before, where a block would cost more than it saves.
const PATIENCE: usize = 32;

/// Whether a byte cannot stand unescaped in a JSON string.
const fn special(b: u8) -> bool {
    b < 0x20 || b == b'"' || b == b'\\'
}

/// How many bytes at the start of `bytes` are plain string text: no quote, no backslash, no control character.
pub fn plain(bytes: &[u8]) -> usize {
    let mut at = 0;
    loop {
        let Some(lanes) = lanes(bytes, at) else { return at + tail(bytes.get(at..).unwrap_or_default()) };
        let hits = marks(lanes);
        if hits != 0 {
            return at + hits.trailing_zeros() as usize;
        }
        at += LANES;
        if at == PATIENCE {
            at += blocks(bytes.get(at..).unwrap_or_default());
        }
    }
}

/// The position behind the closing quote of the string whose text begins at `start`, which has its opening quote
/// before it (`string` of RFC 8259, section 7).
#[inline]
pub(super) fn string_end(bytes: &[u8], start: usize) -> Result<usize, Stop> {
    // Most strings are names and short words, whose end is the first special byte of the first vector.
    match lanes(bytes, start).map(|lanes| marks(lanes).trailing_zeros() as usize) {
        Some(first) if bytes.get(start + first) == Some(&b'"') && first < LANES => Ok(start + first + 1),
        Some(first) if first >= LANES => long_string_end(bytes, start + LANES),
        _ => long_string_end(bytes, start),
    }
}

/// [`string_end`] of any string, or of the rest of one that begins between two characters.
#[inline(never)]
fn long_string_end(bytes: &[u8], start: usize) -> Result<usize, Stop> {
    let (mut at, mut patience) = (start, start + PATIENCE);
    let mut smooth = true; // text without an escape so far is likely to go on so
    'lanes: loop {
        if at >= patience {
            at = if smooth { smooth_text(bytes, at) } else { easy_blocks(bytes, at) };
            patience = at + BLOCK; // what stopped it has to be read in smaller steps
        }
        let Some(lanes) = lanes(bytes, at) else { return string_tail(bytes, at) };
        let mut hits = marks(lanes);
        while hits != 0 {
            let hit = at + hits.trailing_zeros() as usize;
            match bytes.get(hit) {
                Some(b'"') => return Ok(hit + 1),
                Some(b'\\') => {
                    smooth = false;
                    let end = escape_end(bytes, hit)?;
                    if end >= at + LANES {
                        at = end;
                        continue 'lanes;
                    }
                    hits &= u32::MAX << (end - at);
                }
                _ => return Err(Stop::new(CONTROL, hit)),
            }
        }
        at += LANES;
    }
}

/// Moves over text without escapes: to the next quote or backslash, or not at all where there is none, or a control
/// character before it.
fn smooth_text(bytes: &[u8], start: usize) -> usize {
    let rest = bytes.get(start..).unwrap_or_default();
    let text = memchr::memchr2(b'"', b'\\', rest).and_then(|end| rest.get(..end)).unwrap_or_default();
    if text.iter().fold(u8::MAX, |least, b| least.min(*b)) < 0x20 { start } else { start + text.len() }
}

/// As [`string_end`], in a text that has been checked: only the quote is looked for.
pub(super) fn closing_quote(bytes: &[u8], start: usize) -> Result<usize, Stop> {
    let mut at = start;
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        match memchr::memchr2(b'"', b'\\', rest) {
            Some(i) if rest.get(i) == Some(&b'"') => return Ok(at + i + 1),
            Some(i) => at += i + 2,
            None => return Err(Stop::new("the string has no end", at)),
        }
    }
}

/// Moves over whole blocks of string text in which no escape but the usual ones stands, and comes to rest between two
/// characters. No branch depends on where the escapes are, which is what makes prose and program text slow otherwise.
fn easy_blocks(bytes: &[u8], start: usize) -> usize {
    let ends_in_backslash = |at: usize| at.checked_sub(1).and_then(|i| bytes.get(i)) == Some(&b'\\');
    if ends_in_backslash(start) {
        return start; // the end of an escape, which would look like the beginning of one
    }
    let mut at = start;
    while let Some((before, block)) = block(bytes, at.wrapping_sub(1)).zip(block(bytes, at)) {
        if !before.iter().zip(block).fold(true, |easy, (&before, &b)| easy & easy_after(before, b)) {
            break;
        }
        at += BLOCK;
    }
    if at > start && ends_in_backslash(at) { at - 1 } else { at }
}

/// Whether a byte is fine behind this other one, where no escaped backslash is near.
const fn easy_after(before: u8, b: u8) -> bool {
    let escape = (b == b'n') | (b == b'"') | (b == b't') | (b == b'/');
    let escaped = before == b'\\';
    (b >= 0x20) & ((escaped & escape) | (!escaped & (b != b'"')))
}

/// Whether there is nothing special in a block.
#[inline]
fn is_plain(block: &[u8; BLOCK]) -> bool {
    !block.iter().fold(false, |hit, &b| hit | special(b))
}

/// How many spaces stand at the start, at most [`LANES`]: the indentation of a body that a person has laid out.
#[inline]
pub(super) fn spaces(bytes: &[u8]) -> usize {
    lanes(bytes, 0).map_or(0, |lanes| (!lanes.simd_eq(u8x16::splat(b' ')).to_bitmask()).trailing_zeros() as usize)
}

const CONTROL: &str = "a control character in a string must be escaped";

/// [`string_end`] byte by byte, where less than a vector is left.
fn string_tail(bytes: &[u8], mut at: usize) -> Result<usize, Stop> {
    loop {
        match bytes.get(at) {
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') => at = escape_end(bytes, at)?,
            Some(0..0x20) => return Err(Stop::new(CONTROL, at)),
            Some(_) => at += 1,
            None => return Err(Stop::new("the text ends within a string: expected `\"`", at)),
        }
    }
}

/// The position behind the escape whose backslash is at `at`.
#[inline]
fn escape_end(bytes: &[u8], at: usize) -> Result<usize, Stop> {
    match bytes.get(at + 1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 2),
        Some(b'u') => match bytes.get(at + 2..at + 6) {
            Some(digits) if digits.iter().fold(true, |all, b| all & b.is_ascii_hexdigit()) => Ok(at + 6),
            _ => Err(Stop::new("expected four hexadecimal digits after `\\u`", at)),
        },
        _ => Err(Stop::new("unknown escape: expected one of `\"\\/bfnrtu` after `\\`", at)),
    }
}

/// How many bytes at the start are whole blocks of plain text.
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
    bytes.iter().position(|&b| special(b)).unwrap_or(bytes.len())
}

/// One bit for every special byte, the lowest for the first.
#[inline]
fn marks(lanes: u8x16) -> u32 {
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
