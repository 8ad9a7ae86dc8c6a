//! Embeddings: a direction that is the same for the same text, and nothing more.

use sha2::{Digest, Sha256};

/// Dimensions where none are asked for.
pub(super) const DEFAULT_DIMENSIONS: usize = 8;
/// Most dimensions.
pub(super) const MAX_DIMENSIONS: usize = 4_096;
/// Most texts in one request, OpenAI's own limit.
pub(super) const MAX_INPUTS: usize = 2_048;

/// What an embeddings request asks for.
#[derive(Debug)]
pub(super) struct Embed {
    /// The texts; one given as token numbers is those numbers as text.
    pub(super) inputs: Vec<String>,
    /// Length of each vector.
    pub(super) dimensions: usize,
    /// Whether vectors are base64 of little-endian 32-bit floats.
    pub(super) base64: bool,
    /// The form of the answer.
    pub(super) form: Form,
}

/// How a service lists vectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Form {
    /// OpenAI's `data[].embedding`.
    #[default]
    Data,
    /// Google's `predictions[].embeddings`.
    Predictions,
    /// Google's `embeddings[]`.
    Embeddings,
    /// Google's `embedding`, for one text.
    Embedding,
}

/// The unit vector of a text: the bytes of SHA-256(text, counter) around zero, scaled to length 1.
pub(super) fn vector(text: &str, dimensions: usize) -> Vec<f32> {
    let blocks = (0u32..).flat_map(|n| Sha256::new().chain_update(text).chain_update(n.to_be_bytes()).finalize());
    let raw: Vec<f32> = blocks.take(dimensions).map(|byte| f32::from(byte) - 127.5).collect();
    let length = raw.iter().map(|x| x * x).sum::<f32>().sqrt();
    raw.into_iter().map(|x| x / length).collect() // never 0: no byte is 127.5
}

/// Little-endian floats in base64.
pub(super) fn base64(vector: &[f32]) -> String {
    let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
    base64_of(&bytes)
}

/// Standard base64.
pub(super) fn base64_of(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0u32, |bits, n| bits << 8 | u32::from(group.get(n).copied().unwrap_or(0)));
        for n in 0..4 {
            let digit = DIGITS.get((bits >> (18 - 6 * n) & 63) as usize).copied().unwrap_or(b'=');
            out.push(if n <= group.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_of_unit_length_and_differ() {
        let (a, b) = (vector("a", 40), vector("b", 40));
        assert!((a.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-4);
        assert_eq!((a.len(), a == b, a == vector("a", 40)), (40, false, true));
    }

    #[test]
    fn base64_of_floats() {
        assert_eq!(base64(&[1.0]), "AACAPw==");
        assert_eq!(base64(&[1.0, -2.0]), "AACAPwAAAMA=");
        assert_eq!(base64(&[0.0, 0.0, 1.0]), "AAAAAAAAAAAAAIA/");
    }
}
