//! Finds the end of JSON strings, and of plain text in them: the hottest loops of the scanner.
//!
//! Scanning and escaping stop at the same bytes (RFC 8259, section 7: quotation mark, reverse solidus and control characters
//! U+0000 to U+001F). Text is read in blocks of 64 bytes, each of which becomes masks of one bit per byte. Which bytes are
//! escaped is found by arithmetic on the masks, as in simdjson's first stage (<https://arxiv.org/abs/1902.08318>, section
//! 3.1.1), so that source code, with an escape every few bytes, costs no branch that cannot be predicted.
//!
//! The loops are compiled for several kinds of vectors, and `dispatch!` chooses those of the processor. All that it calls is
//! inlined: a function of its own would be compiled for the smallest vectors.

use super::walk::SyntaxError;
use fearless_simd::prelude::*;
use fearless_simd::{Level, dispatch, u8x64};
use std::num::NonZeroU64;

/// Bytes of a block.
const BLOCK: usize = 64;

const CONTROL: &&str = &"unescaped control character in a string";
const UNTERMINATED: &&str = &"unterminated string: expected `\"`";
const DIGITS: &&str = &"expected four hexadecimal digits after `\\u`";
const UNKNOWN: &&str = &"unknown escape: expected one of `\"\\/bfnrtu` after `\\`";

/// Number of leading bytes that need no escape.
pub fn plain(bytes: &[u8]) -> usize {
    dispatch!(Level::new(), simd => plain_with(simd, bytes))
}

#[inline(always)]
fn plain_with<S: Simd>(simd: S, bytes: &[u8]) -> usize {
    let (blocks, rest) = bytes.as_chunks::<BLOCK>();
    let mut at = 0;
    for block in blocks {
        let special = special(simd, block);
        if special != 0 {
            return at + special.trailing_zeros() as usize;
        }
        at += BLOCK;
    }
    at + (special(simd, &padded(rest)).trailing_zeros() as usize).min(rest.len())
}

/// The block of a text that its reader is in: where strings end there. A string that begins and ends in it costs no look at its
/// text.
#[derive(Clone, Debug)]
pub(super) struct Block {
    /// Position of its first byte.
    base: usize,
    /// 1 for each quotation mark that is not escaped.
    quotes: u64,
    /// 1 for each of them, for each control character, and for each escaped byte that needs a closer look.
    stops: u64,
    escapes: Escapes,
}

impl Block {
    /// Before the first block of a text.
    pub(super) const NONE: Self = Self { base: 0usize.wrapping_sub(BLOCK), quotes: 0, stops: 0, escapes: Escapes { carry: 0 } };

    /// Position after the closing quote of a string whose text begins at `start` (`string` of RFC 8259, section 7). `VALID`: the
    /// text is validated, and only quotes are looked for. `start` must not be less than at the last call, and what is between must
    /// not be part of a string.
    #[inline(always)]
    pub(super) fn string_end<const VALID: bool>(&mut self, bytes: &[u8], start: usize) -> Result<usize, SyntaxError> {
        let passed = start.wrapping_sub(self.base);
        if let Some(stops) = self.stops.checked_shr(passed as u32).and_then(NonZeroU64::new) {
            let first = start + stops.trailing_zeros() as usize;
            if bytes.get(first) == Some(&b'"') {
                return Ok(first + 1);
            }
        }
        self.long_end::<VALID>(bytes, start)
    }

    /// The same for a string that begins or ends in another block, or needs a closer look.
    #[inline(never)]
    fn long_end<const VALID: bool>(&mut self, bytes: &[u8], start: usize) -> Result<usize, SyntaxError> {
        dispatch!(Level::new(), simd => self.long_end_with::<_, VALID>(simd, bytes, start))
    }

    #[inline(always)]
    fn long_end_with<S: Simd, const VALID: bool>(&mut self, simd: S, bytes: &[u8], start: usize) -> Result<usize, SyntaxError> {
        if start.wrapping_sub(self.base) >= BLOCK {
            *self = Self { base: start, ..Self::NONE };
            self.read::<S, VALID>(simd, bytes);
        }
        let mut ahead = u64::MAX << (start - self.base);
        loop {
            let ends = self.quotes & ahead;
            let inside = ahead & ends.wrapping_sub(1) & !ends; // before the first end, or all
            if !VALID && self.stops & inside != 0 {
                check(bytes, self.base, self.stops & inside)?;
            }
            if ends != 0 {
                return Ok(self.base + ends.trailing_zeros() as usize + 1);
            }
            self.base += BLOCK;
            if self.base >= bytes.len() {
                return Err(SyntaxError::new(UNTERMINATED, bytes.len()));
            }
            self.read::<S, VALID>(simd, bytes);
            ahead = u64::MAX;
        }
    }

    /// Reads the block at `base`.
    #[inline(always)]
    fn read<S: Simd, const VALID: bool>(&mut self, simd: S, bytes: &[u8]) {
        let rest = bytes.get(self.base..).unwrap_or_default();
        match rest.first_chunk() {
            Some(block) => self.look::<S, VALID>(simd, block),
            None => self.look::<S, VALID>(simd, &padded(rest)),
        }
    }

    #[inline(always)]
    fn look<S: Simd, const VALID: bool>(&mut self, simd: S, block: &[u8; BLOCK]) {
        let lanes: u8x64<S> = (*block).simd_into(simd);
        let (quotes, backslashes) = (is(lanes, b'"'), is(lanes, b'\\'));
        let escaped = self.escapes.next(backslashes);
        self.quotes = quotes & !escaped;
        self.stops = self.quotes;
        if !VALID {
            self.stops |= control(lanes);
            if escaped != 0 {
                self.stops |= escaped & !(quotes | backslashes | simple(lanes));
            }
        }
    }
}

/// Refuses the first control character, and the first escape that is none. `faults`: the bytes of a string in the block at `at` that
/// may be either.
#[inline(never)]
fn check(bytes: &[u8], at: usize, mut faults: u64) -> Result<(), SyntaxError> {
    while faults != 0 {
        let place = at + faults.trailing_zeros() as usize;
        let digits = bytes.get(place + 1..place + 5).unwrap_or_default();
        if bytes.get(place) != Some(&b'u') {
            let before = bytes.get(..place).unwrap_or_default();
            let escaped = before.iter().rev().take_while(|b| **b == b'\\').count() % 2 == 1;
            return Err(if escaped { SyntaxError::new(UNKNOWN, place - 1) } else { SyntaxError::new(CONTROL, place) });
        }
        if digits.len() != 4 || !digits.iter().fold(true, |all, b| all & b.is_ascii_hexdigit()) {
            return Err(SyntaxError::new(DIGITS, place - 1));
        }
        faults &= faults - 1;
    }
    Ok(())
}

/// Which bytes a backslash escapes, from block to block.
#[derive(Clone, Debug)]
struct Escapes {
    /// 1 where the first byte of the next block is escaped.
    carry: u64,
}

impl Escapes {
    /// The escaped bytes of a block with these backslashes. A backslash escapes the byte behind it unless it is escaped itself:
    /// in a run of them every second one is. Adding the backslashes to those that begin a run on an odd place carries a bit out
    /// of every such run, so that the two kinds of run can be told apart.
    #[inline(always)]
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

/// The bytes that stand for themselves behind a backslash, beside quote and backslash.
#[inline(always)]
fn simple<S: Simd>(lanes: u8x64<S>) -> u64 {
    is(lanes, b'n') | is(lanes, b't') | is(lanes, b'r') | is(lanes, b'/') | is(lanes, b'b') | is(lanes, b'f')
}

/// The bytes that must be escaped in a JSON string.
#[inline(always)]
fn special<S: Simd>(simd: S, block: &[u8; BLOCK]) -> u64 {
    let lanes: u8x64<S> = (*block).simd_into(simd);
    control(lanes) | is(lanes, b'"') | is(lanes, b'\\')
}

/// One bit per control character, the lowest for the first byte.
#[inline(always)]
fn control<S: Simd>(lanes: u8x64<S>) -> u64 {
    lanes.simd_le(0x1f).to_bitmask()
}

/// One bit per byte that is `byte`.
#[inline(always)]
fn is<S: Simd>(lanes: u8x64<S>, byte: u8) -> u64 {
    lanes.simd_eq(byte).to_bitmask()
}

/// The last bytes of a text as a block. What is added ends nothing, and is refused behind a backslash.
#[inline(always)]
fn padded(rest: &[u8]) -> [u8; BLOCK] {
    let mut block = [b' '; BLOCK];
    block.iter_mut().zip(rest).for_each(|(slot, byte)| *slot = *byte);
    block
}

/// Eight spaces.
const SPACES: u64 = u64::from_le_bytes([b' '; 8]);

/// Number of leading spaces, at most eight: indentation.
#[inline]
pub(super) fn spaces(bytes: &[u8]) -> usize {
    bytes.first_chunk().map_or(0, |word| ((u64::from_le_bytes(*word) ^ SPACES).trailing_zeros() / u8::BITS) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string_end(bytes: &[u8], start: usize) -> Result<usize, SyntaxError> {
        Block::NONE.clone().string_end::<false>(bytes, start)
    }

    fn closing_quote(bytes: &[u8], start: usize) -> Result<usize, SyntaxError> {
        Block::NONE.clone().string_end::<true>(bytes, start)
    }

    #[test]
    fn one_block_serves_all_strings_in_it() {
        let long = "a text that is longer than a block of sixty-four bytes, so that it ends in another one";
        let strings = ["", "a", r"\\", r#"\n\""#, "潮の満ち引き", long];
        for gap in [0, 1, 7, 61, 62, 63, 64, 65, 200] {
            for first in 0..strings.len() {
                let order = (0..40).map(|i| strings[(first + i * 5 + i * i) % strings.len()]);
                let text = order.map(|string| format!("{}\"{string}\"", ",".repeat(gap))).collect::<String>();
                let (mut checked, mut valid, mut at) = (Block::NONE, Block::NONE, 0);
                while at < text.len() {
                    let start = at + gap + 1;
                    at = string_end(text.as_bytes(), start).unwrap();
                    assert_eq!(checked.string_end::<false>(text.as_bytes(), start), Ok(at), "{text}");
                    assert_eq!(valid.string_end::<true>(text.as_bytes(), start), Ok(at), "{text}");
                }
            }
        }
    }

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
    fn every_kind_of_vector_finds_the_same() {
        let best = Level::new();
        let levels = [Some(Level::baseline()), best.as_avx2().map(Level::Avx2), Some(best)];
        let pieces = [&b"a"[..], b"\\", b"\"", b"\x1f", b" ", b"\\n", b"\\u00e4", "ü".as_bytes(), b"plain text of some length, as most is"];
        for seed in 0..3000usize {
            let number = |i: usize| (seed * 31 + i * i * 7 + i * seed) % pieces.len();
            let text: Vec<u8> = (0..40).flat_map(|i| pieces[number(i)]).copied().collect();
            let of = |level: Level| {
                let (mut checked, mut valid) = (Block::NONE, Block::NONE);
                dispatch!(level, simd => (
                    plain_with(simd, &text),
                    checked.long_end_with::<_, false>(simd, &text, seed % 3),
                    valid.long_end_with::<_, true>(simd, &text, seed % 3),
                ))
            };
            let found: Vec<_> = levels.into_iter().flatten().map(of).collect();
            assert!(found.iter().all(|one| *one == found[0]), "{found:?}");
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
