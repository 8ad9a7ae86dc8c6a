//! Tool-call ids that fit a provider which takes not every id.
//!
//! A provider's own ids go to the client and come back as they are. Ids of other providers, of a conversation that began
//! elsewhere, are hashed: a call and its result get the same id, in every request, without anything being remembered.

use crate::hex;
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// Longest id that Bedrock takes (`toolUseId` of its service model); Anthropic's own are shorter.
const MAX_ID: usize = 64;
/// Characters of a hash.
pub const LENGTH: usize = 9;
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The id as [`LENGTH`] letters and digits.
pub fn hashed(id: &str) -> String {
    // 62^9 is about 2^53.6, so that two of a conversation's ids meet with a chance of less than one in 10^11.
    let digest = Sha256::digest(id.as_bytes());
    let mut number = digest.iter().take(8).fold(0u64, |n, byte| n << 8 | u64::from(*byte));
    let mut out = String::with_capacity(LENGTH);
    for _ in 0..LENGTH {
        out.push(DIGITS.get((number % 62) as usize).map_or('0', |digit| char::from(*digit)));
        number /= 62;
    }
    out
}

/// An id in Anthropic's alphabet, `^[a-zA-Z0-9_-]+$`: every other byte as a dash and two hexadecimal digits, so that ids that
/// other providers made stay different from each other. One that is too long becomes its hash, the same wherever it
/// stands.
pub fn legal(id: &str) -> String {
    let mut out = String::with_capacity(id.len());
    for b in id.bytes() {
        if b.is_ascii_alphanumeric() || b == b'_' || b == b'-' {
            out.push(char::from(b));
        } else {
            let _ = write!(out, "-{b:02x}"); // writing to a String cannot fail
        }
    }
    match out.len() {
        0 => "-".to_owned(),
        1..=MAX_ID => out,
        _ => hex::encode(Sha256::digest(out.as_bytes()).iter().take(MAX_ID / 2)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::shared::testing::seal;

    #[test]
    fn foreign_ids_become_legal_and_stay_apart() {
        assert_eq!([legal("call_1"), legal("call:1")], ["call_1", "call-3a1"]);
        assert_ne!(legal("a.b"), legal("a b"));
        assert_eq!(legal(&"c".repeat(65)).len(), MAX_ID);
        let (a, b) = (legal(&seal().seal("", b"a")), legal(&seal().seal("", b"b")));
        assert!(a != b && a.len() <= MAX_ID);
    }
}
