//! Client keys: `tg-` followed by 256 random bits in base 62.

use crate::hex;
use sha2::{Digest, Sha256};

/// Digits of 256 bits in base 62: 62^43 is just above 2^256.
const DIGITS: usize = 43;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Formats 256 random bits as a key.
pub fn of_bits(bits: [u8; 32]) -> String {
    let mut number = bits;
    let mut digits = [0u8; DIGITS];
    for slot in digits.iter_mut().rev() {
        // Long division by 62; the remainder is the next digit from the right.
        let mut remainder = 0u16;
        for byte in &mut number {
            let part = remainder * 256 + u16::from(*byte);
            *byte = (part / 62) as u8;
            remainder = part % 62;
        }
        *slot = ALPHABET.get(usize::from(remainder)).copied().unwrap_or(b'0');
    }
    format!("tg-{}", String::from_utf8_lossy(&digits))
}

/// SHA-256 of a key in hexadecimal, as stored in the configuration.
pub fn digest(key: &str) -> String {
    hex::encode(&Sha256::digest(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_43_digits_whatever_its_bits() {
        assert_eq!(of_bits([0; 32]), format!("tg-{}", "0".repeat(43)));
        let mut one = [0; 32];
        one[31] = 62;
        assert_eq!(of_bits(one), format!("tg-{}10", "0".repeat(41)));
        // 2^256 - 1 in base 62, from an independent calculation.
        assert_eq!(of_bits([255; 32]), "tg-yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp1");
    }

    #[test]
    fn the_digest_is_sha256() {
        assert_eq!(digest("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
