//! Finds the end of JSON strings, and of plain text in them: the hottest loops of the scanner.
//!
//! Scanning and escaping stop at the same bytes (RFC 8259, section 7: quotation mark, reverse solidus and control characters
//! U+0000 to U+001F). Text is read in blocks of 64 bytes, each of which becomes masks of one bit per byte. Which bytes are
//! escaped is found by arithmetic on the masks, as in simdjson's first stage (<https://arxiv.org/abs/1902.08318>, section
//! 3.1.1), so that source code, with an escape every few bytes, costs no branch that cannot be predicted.

use super::walk::SyntaxError;
use wide::u8x16;

/// Bytes of a block.
const BLOCK: usize = 64;
/// Bytes of a vector.
const LANES: usize = 16;

const CONTROL: &str = "unescaped control character in a string";
const UNTERMINATED: &str = "unterminated string: expected `\"`";
const DIGITS: &str = "expected four hexadecimal digits after `\\u`";
const UNKNOWN: &str = "unknown escape: expected one of `\"\\/bfnrtu` after `\\`";

/// Number of leading bytes that need no escape.
pub fn plain(bytes: &[u8]) -> usize {
    let (blocks, _) = bytes.as_chunks::<BLOCK>();
    let mut at = 0;
    for block in blocks {
        let special = specials(block);
        if special != 0 {
            return at + special.trailing_zeros() as usize;
        }
        at += BLOCK;
    }
    let rest = bytes.get(at..).unwrap_or_default();
    at + (specials(&padded(rest)).trailing_zeros() as usize).min(rest.len())
}

/// Position after the closing quote of a string whose text begins at `start` (`string` of RFC 8259, section 7).
#[inline]
pub(super) fn string_end(bytes: &[u8], start: usize) -> Result<usize, SyntaxError> {
    short_end(bytes, start).map_or_else(|| long_end::<false>(bytes, start), Ok)
}

/// [`string_end`] in validated text.
#[inline]
pub(super) fn closing_quote(bytes: &[u8], start: usize) -> Result<usize, SyntaxError> {
    short_end(bytes, start).map_or_else(|| long_end::<true>(bytes, start), Ok)
}

/// The same where the string ends within the first vector and has no escape, as most do.
#[inline]
fn short_end(bytes: &[u8], start: usize) -> Option<usize> {
    let lanes = u8x16::new(*bytes.get(start..)?.first_chunk()?);
    let first = start + special(lanes).to_bitmask().trailing_zeros() as usize;
    (first < start + LANES && bytes.get(first) == Some(&b'"')).then_some(first + 1)
}

/// [`string_end`]; `VALID`: of validated text.
#[inline(never)]
fn long_end<const VALID: bool>(bytes: &[u8], start: usize) -> Result<usize, SyntaxError> {
    let (mut at, mut escapes) = (start, Escapes::default());
    while let Some(block) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        if let Some(end) = end_in::<VALID>(bytes, at, block, &mut escapes)? {
            return Ok(end);
        }
        at += BLOCK;
    }
    let rest = bytes.get(at..).unwrap_or_default();
    let end = end_in::<VALID>(bytes, at, &padded(rest), &mut escapes)?;
    end.ok_or(SyntaxError::new(UNTERMINATED, bytes.len()))
}

/// The end of the string in the block at `at`, if it is there. Everything before it is checked, unless the text is `VALID`.
#[inline]
fn end_in<const VALID: bool>(bytes: &[u8], at: usize, block: &[u8; BLOCK], escapes: &mut Escapes) -> Result<Option<usize>, SyntaxError> {
    if !escapes.is_pending() && specials(block) == 0 {
        return Ok(None);
    }
    let (quotes, backslashes) = (mask(block, |lanes| is(lanes, b'"')), mask(block, |lanes| is(lanes, b'\\')));
    let escaped = escapes.next(backslashes);
    let ends = quotes & !escaped;
    if !VALID {
        let inside = ends.wrapping_sub(1) & !ends; // all bits before the first end, or all
        let controls = inside & mask(block, control);
        let escaped = escaped & inside;
        if controls != 0 || escaped != 0 {
            check(bytes, at, controls, escaped & !(quotes | backslashes | simple(block, escaped)))?;
        }
    }
    Ok((ends != 0).then(|| at + ends.trailing_zeros() as usize + 1))
}

/// Refuses the first of the control characters and the escapes that are none. `unusual`: escaped bytes that need a closer look.
#[inline]
fn check(bytes: &[u8], at: usize, controls: u64, mut unusual: u64) -> Result<(), SyntaxError> {
    let first_control = controls.trailing_zeros();
    while unusual != 0 {
        let place = unusual.trailing_zeros();
        if place > first_control {
            break;
        }
        let backslash = (at + place as usize).saturating_sub(1);
        match bytes.get(backslash + 1) {
            Some(b'u') => match bytes.get(backslash + 2..backslash + 6) {
                Some(digits) if digits.iter().fold(true, |all, b| all & b.is_ascii_hexdigit()) => {}
                _ => return Err(SyntaxError::new(DIGITS, backslash)),
            },
            _ => return Err(SyntaxError::new(UNKNOWN, backslash)),
        }
        unusual &= unusual - 1;
    }
    if controls != 0 { Err(SyntaxError::new(CONTROL, at + first_control as usize)) } else { Ok(()) }
}

/// Which bytes a backslash escapes, from block to block.
#[derive(Default)]
struct Escapes {
    /// 1 where the first byte of the next block is escaped.
    carry: u64,
}

impl Escapes {
    const fn is_pending(&self) -> bool {
        self.carry != 0
    }

    /// The escaped bytes of a block with these backslashes. A backslash escapes the byte behind it unless it is escaped itself:
    /// in a run of them every second one is. Adding the backslashes to those that begin a run on an odd place carries a bit out
    /// of every such run, so that the two kinds of run can be told apart.
    #[inline]
    const fn next(&mut self, backslashes: u64) -> u64 {
        const EVEN: u64 = 0x5555_5555_5555_5555;
        let unescaped = backslashes & !self.carry;
        let behind = unescaped << 1 | self.carry;
        let odd_starts = unescaped & !EVEN & !behind;
        let (even_runs, overflow) = odd_starts.overflowing_add(unescaped);
        self.carry = overflow as u64;
        (EVEN ^ (even_runs << 1)) & behind
    }
}

/// The escaped bytes that stand for themselves behind a backslash, beside quote and backslash.
#[inline]
fn simple(block: &[u8; BLOCK], escaped: u64) -> u64 {
    if escaped == 0 {
        return 0;
    }
    mask(block, |lanes| (is(lanes, b'n') | is(lanes, b't') | is(lanes, b'r')) | (is(lanes, b'/') | is(lanes, b'b') | is(lanes, b'f')))
}

/// One bit per byte for which `test` has all bits set, the lowest for the first.
#[inline]
fn mask(block: &[u8; BLOCK], test: impl Fn(u8x16) -> u8x16) -> u64 {
    let (vectors, _) = block.as_chunks::<LANES>();
    vectors.iter().rev().fold(0, |mask, lanes| mask << LANES | u64::from(test(u8x16::new(*lanes)).to_bitmask()))
}

/// One bit per byte that must be escaped in a JSON string.
#[inline]
fn specials(block: &[u8; BLOCK]) -> u64 {
    let (vectors, _) = block.as_chunks::<LANES>();
    let any = vectors.iter().fold(u8x16::splat(0), |any, lanes| any | special(u8x16::new(*lanes)));
    if any.to_bitmask() == 0 { 0 } else { mask(block, special) }
}

#[inline]
fn special(lanes: u8x16) -> u8x16 {
    control(lanes) | is(lanes, b'"') | is(lanes, b'\\')
}

#[inline]
fn control(lanes: u8x16) -> u8x16 {
    lanes.min(u8x16::splat(0x1f)).simd_eq(lanes)
}

#[inline]
fn is(lanes: u8x16, byte: u8) -> u8x16 {
    lanes.simd_eq(u8x16::splat(byte))
}

/// The last bytes of a text as a block. What is added ends nothing, and is refused behind a backslash.
#[inline]
fn padded(rest: &[u8]) -> [u8; BLOCK] {
    let mut block = [b' '; BLOCK];
    block.iter_mut().zip(rest).for_each(|(slot, byte)| *slot = *byte);
    block
}

/// Number of leading spaces, at most [`LANES`]: indentation.
#[inline]
pub(super) fn spaces(bytes: &[u8]) -> usize {
    let lanes = bytes.first_chunk().map(|lanes| u8x16::new(*lanes));
    lanes.map_or(0, |lanes| ((!is(lanes, b' ')).to_bitmask().trailing_zeros() as usize).min(LANES))
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::unwrap_used)]
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

    #[test]
    fn every_second_backslash_of_a_run_escapes_wherever_blocks_end() {
        for before in 0..70 {
            for run in 0..140 {
                let text = format!("{}{}\"{}\" and more", ".".repeat(before), "\\".repeat(run), "-".repeat(before));
                let first = before + run + 1;
                let want = if run % 2 == 0 { first } else { first + before + 1 };
                assert_eq!(
                    (string_end(text.as_bytes(), 0).ok(), closing_quote(text.as_bytes(), 0).ok()),
                    (Some(want), Some(want)),
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn the_first_fault_is_told_at_its_place() {
        for place in [0, 15, 62, 63, 64, 127] {
            for (fault, offset, what) in [
                ("\\x\u{1}", 0, UNKNOWN),
                ("\u{1}\\x", 0, CONTROL),
                ("\\\u{1}", 0, UNKNOWN),
                ("\\u12\"", 0, DIGITS),
                ("\\\\\\u12g4", 2, DIGITS),
            ] {
                let text = format!("{}{fault}{}\"", ".".repeat(place), "-".repeat(80));
                let error = string_end(text.as_bytes(), 0).unwrap_err();
                assert_eq!(error, SyntaxError::new(what, place + offset), "{text}");
            }
        }
        assert_eq!(string_end(b"abc\\", 0).unwrap_err(), SyntaxError::new(UNKNOWN, 3));
        assert_eq!(string_end(b"abc", 0).unwrap_err(), SyntaxError::new(UNTERMINATED, 3));
    }
}
