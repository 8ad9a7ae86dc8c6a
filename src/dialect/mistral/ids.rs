//! Tool-call ids of nine characters. Mistral: "must be a-z, A-Z, 0-9, with a length of 9".
//!
//! Its own ids go to the client and come back as they are. Ids of other providers, of a conversation that began
//! elsewhere, are hashed: a call and its result get the same id, in every request, without anything being remembered.

use crate::chat::event::Text;
use sha2::{Digest, Sha256};

const LENGTH: usize = 9;
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The id as Mistral takes it.
pub fn fit(id: Text<'_>) -> String {
    let id = id.decode();
    if id.len() == LENGTH && id.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return id.into_owned();
    }
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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn foreign_ids_fit_and_stay_apart() {
        let ids: std::collections::HashSet<String> = (0..1000).map(|n| fit(Text::Plain(&format!("call_{n}")))).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.len() == 9 && id.bytes().all(|b| b.is_ascii_alphanumeric())));
    }

    #[test]
    fn an_id_is_the_same_however_it_is_spelled() {
        assert_eq!(fit(Text::Raw(r"call\u005f1")), fit(Text::Plain("call_1")));
        assert_eq!(fit(Text::Raw("aB3456789")), "aB3456789");
        assert_ne!(fit(Text::Plain("aB34_6789")), "aB34_6789");
    }
}
