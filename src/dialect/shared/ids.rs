//! Tool-call ids that fit a provider which takes not every id.
//!
//! A provider's own ids go to the client and come back as they are. Ids of other providers, of a conversation that began
//! elsewhere, are hashed: a call and its result get the same id, in every request, without anything being remembered.

use sha2::{Digest, Sha256};

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
