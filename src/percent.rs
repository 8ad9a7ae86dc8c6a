//! Percent-encoding (RFC 3986), in the one spelling that signatures allow: capitals, and nothing encoded that need not be.

use std::fmt::Write;

/// Appends `text` with everything percent-encoded but unreserved characters and the bytes in `keep`.
pub fn encode(out: &mut String, text: &str, keep: &[u8]) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') || keep.contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}"); // writing to a String cannot fail
        }
    }
}

/// One segment of a path or one value of a form.
pub fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    encode(&mut out, text, b"");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unreserved_characters_stay() {
        assert_eq!(segment("a-Z_0.~:/ü %"), "a-Z_0.~%3A%2F%C3%BC%20%25");
        let mut path = String::new();
        encode(&mut path, "/model/a%3A0", b"/");
        assert_eq!(path, "/model/a%253A0");
    }
}
