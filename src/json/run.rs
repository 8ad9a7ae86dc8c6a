//! The one tight loop of JSON: how far does plain string text go?
//!
//! Reading a string and escaping one stop at the same bytes (RFC 8259, section 7: the quotation mark, the reverse
//! solidus and the control characters U+0000 to U+001F), so both use this search. Bodies are mostly string text, which
//! makes its speed the speed of the whole scan.

/// Bytes looked at together where no special byte is near; the compiler turns the loop over one block into vector
/// instructions.
const BLOCK: usize = 64;
/// Bytes in a machine word.
const WORD: usize = 8;

/// Whether a byte cannot stand unescaped in a JSON string.
const fn special(b: u8) -> bool {
    b < 0x20 || b == b'"' || b == b'\\'
}

/// How many bytes at the start of `bytes` are plain string text: no quote, no backslash, no control character.
pub fn plain(bytes: &[u8]) -> usize {
    // Keys and short words end within two words, where setting up the block loop would cost more than it saves.
    let mut at = 0;
    let mut rest = bytes;
    for _ in 0..2 {
        let Some((word, after)) = rest.split_first_chunk::<WORD>() else { return at + tail(rest) };
        let hits = marks(*word);
        if hits != 0 {
            return at + first(hits);
        }
        at += WORD;
        rest = after;
    }
    let (blocks, _) = rest.as_chunks::<BLOCK>();
    let clean = blocks.iter().take_while(|block| !block.iter().fold(false, |hit, &b| hit | special(b))).count() * BLOCK;
    at += clean;
    rest = rest.get(clean..).unwrap_or_default();
    while let Some((word, after)) = rest.split_first_chunk::<WORD>() {
        let hits = marks(*word);
        if hits != 0 {
            return at + first(hits);
        }
        at += WORD;
        rest = after;
    }
    at + tail(rest)
}

fn tail(bytes: &[u8]) -> usize {
    bytes.iter().position(|&b| special(b)).unwrap_or(bytes.len())
}

/// Number of the byte that the lowest mark stands in.
const fn first(marks: u64) -> usize {
    (marks.trailing_zeros() / 8) as usize
}

/// The top bit of every special byte. A borrow may set a false mark, but only above a true one, so the lowest is right.
const fn marks(word: [u8; WORD]) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    const TOPS: u64 = ONES << 7;
    let word = u64::from_le_bytes(word);
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    let quote = quote.wrapping_sub(ONES) & !quote;
    let backslash = backslash.wrapping_sub(ONES) & !backslash;
    (control | quote | backslash) & TOPS
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn every_special_byte_is_found_at_every_place() {
        for place in 0..200 {
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
}
