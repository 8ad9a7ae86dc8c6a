//! One vector in its two forms: a JSON array of numbers, or base64 of little-endian 32-bit floats (OpenAI's
//! `encoding_format`). A vector that has the wanted form already is passed on in its own spelling.

use crate::json::walk;
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use std::borrow::Cow;
use std::fmt::Write;

/// Padding is written, and not demanded of providers.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent));

/// OpenAI's `encoding_format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// An array of numbers.
    #[default]
    Float,
    /// A string: base64 of little-endian 32-bit floats.
    Base64,
}

impl Encoding {
    /// The encoding of this name.
    pub fn of(name: &str) -> Option<Self> {
        match name {
            "float" => Some(Self::Float),
            "base64" => Some(Self::Base64),
            _ => None,
        }
    }
}

/// A provider's vector (raw JSON that a scanner has accepted, in either form) in the wanted form. `None` where it is no
/// vector.
pub fn convert(json: &str, to: Encoding) -> Option<Cow<'_, str>> {
    match (walk::string(json), to) {
        (None, Encoding::Float) => is_numbers(json).then_some(Cow::Borrowed(json)),
        (None, Encoding::Base64) => {
            let bytes: Vec<u8> = numbers(json)?.iter().flat_map(|x| x.to_le_bytes()).collect();
            let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4 + 2);
            out.push('"');
            BASE64.encode_string(bytes, &mut out);
            out.push('"');
            Some(Cow::Owned(out))
        }
        (Some(text), to) => {
            let floats = floats(&text.decode())?;
            Some(if to == Encoding::Base64 { Cow::Borrowed(json) } else { Cow::Owned(array(&floats)) })
        }
    }
}

/// How many numbers a vector has that [`convert`] has given.
pub fn length(json: &str) -> u64 {
    let length = match walk::string(json) {
        None => json.bytes().filter(|b| *b == b',').count() + 1,
        Some(text) => BASE64.decode(&*text.decode()).map_or(0, |bytes| bytes.len() / 4),
    };
    length as u64
}

/// Whether well-formed JSON is an array of numbers and nothing else: no other array is made of these characters.
fn is_numbers(json: &str) -> bool {
    let inside = json.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    inside.is_some_and(|inside| {
        let number = |b: u8| b.is_ascii_digit() || matches!(b, b'-' | b'+' | b'.' | b'e' | b'E' | b',' | b' ' | b'\n' | b'\r' | b'\t');
        inside.bytes().all(number) && inside.bytes().any(|b| b.is_ascii_digit())
    })
}

fn numbers(json: &str) -> Option<Vec<f32>> {
    let inside = json.strip_prefix('[')?.strip_suffix(']')?;
    inside.split(',').map(|number| number.trim_ascii().parse().ok().filter(|x: &f32| x.is_finite())).collect()
}

fn floats(text: &str) -> Option<Vec<f32>> {
    let bytes = BASE64.decode(text).ok()?;
    let mut words = bytes.chunks_exact(4);
    let floats: Option<Vec<f32>> =
        words.by_ref().map(|word| word.try_into().ok().map(f32::from_le_bytes).filter(|x| x.is_finite())).collect();
    floats.filter(|floats| !floats.is_empty() && words.remainder().is_empty())
}

/// The shortest spelling of each number that reads back as the same one.
fn array(floats: &[f32]) -> String {
    let mut out = String::with_capacity(floats.len() * 12 + 2);
    for (number, x) in floats.iter().enumerate() {
        let _ = write!(out, "{}{x:?}", if number == 0 { '[' } else { ',' }); // writing to a String cannot fail
    }
    out.push(']');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wanted_form_keeps_its_spelling() {
        assert_eq!(convert("[ 0.10, -2e-3 ]", Encoding::Float).unwrap(), "[ 0.10, -2e-3 ]");
        assert_eq!(convert("\"AACAPw==\"", Encoding::Base64).unwrap(), "\"AACAPw==\"");
    }

    #[test]
    fn numbers_are_little_endian_floats() {
        assert_eq!(convert("[1, -2.0]", Encoding::Base64).unwrap(), "\"AACAPwAAAMA=\"");
        assert_eq!(convert("\"AACAPwAAAMA=\"", Encoding::Float).unwrap(), "[1.0,-2.0]");
        assert_eq!((length("\"AACAPwAAAMA=\""), length("[1.0,-2.0]"), length("[ 7 ]")), (2, 2, 1));
        assert_eq!(convert("\"AACAPw\"", Encoding::Float).unwrap(), "[1.0]", "padding may be missing");
        assert_eq!(convert("\"AAAAAAAAgD8\\u003d\"", Encoding::Float).unwrap(), "[0.0,1.0]", "escapes may be there");
    }

    #[test]
    fn every_float_reads_back() {
        let all: Vec<f32> = (0..400).map(|n| f32::from_bits(0x9e37_79b9_u32.wrapping_mul(n))).filter(|x| x.is_finite()).collect();
        let text = array(&all);
        let back: Vec<f32> = serde_json::from_str(&text).unwrap();
        assert_eq!(back, all);
        let round = convert(&text, Encoding::Base64).unwrap();
        assert_eq!(convert(&round, Encoding::Float).unwrap(), text);
    }

    #[test]
    fn what_is_no_vector_is_none() {
        for json in ["[]", "[[1]]", "[null]", "[\"1\"]", "{}", "1", "null", "\"\"", "\"AAA=\"", "\"not base64!\"", "\"AADAfw==\""] {
            for to in [Encoding::Float, Encoding::Base64] {
                assert_eq!(convert(json, to), None, "{json}");
            }
        }
        assert_eq!(convert("[1e99]", Encoding::Base64), None, "no 32-bit float");
    }
}
