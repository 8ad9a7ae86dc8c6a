//! Percent-encoding (RFC 3986): written in the one spelling that signatures allow, with capitals and nothing encoded that
//! need not be; read in any.

use std::borrow::Cow;
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

/// Undoes the encoding of a part of a path; `None` for what is no encoding of UTF-8 text.
pub fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(text.into());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut parts = text.split('%');
    bytes.extend_from_slice(parts.next()?.as_bytes());
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        let digits = Some(digits).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_encoded_once_is_decoded_once() {
        for text in ["", "plain", "a/b c%ü", "%41"] {
            assert_eq!(decode(&segment(text)).as_deref(), Some(text));
        }
        assert_eq!(decode("openai%2fgpt%252F4").as_deref(), Some("openai/gpt%2F4"));
        for bad in ["%", "%4", "%zz", "%+4", "%ff", "%c3", "%4ü"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_unreserved_characters_stay() {
        assert_eq!(segment("a-Z_0.~:/ü %"), "a-Z_0.~%3A%2F%C3%BC%20%25");
        let mut path = String::new();
        encode(&mut path, "/model/a%3A0", b"/");
        assert_eq!(path, "/model/a%253A0");
    }
}
