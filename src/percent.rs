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

/// One segment of a path at Google, where the `@` of a model's version stands for itself.
pub fn google_segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    encode(&mut out, text, b"@");
    out
}

/// A form (`application/x-www-form-urlencoded`) with these fields. Names are written as they are.
pub fn form(fields: &[(&str, &str)]) -> String {
    let mut out = String::new();
    for (name, value) in fields {
        out.push_str(if out.is_empty() { "" } else { "&" });
        out.push_str(name);
        out.push('=');
        encode(&mut out, value, b"");
    }
    out
}

/// Undoes the encoding; `None` where a `%` begins no escape, or the result is not UTF-8.
pub fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(text.into());
    }
    let (bytes, strict) = unescape(text);
    String::from_utf8(bytes).ok().filter(|_| strict).map(Cow::Owned)
}

/// Undoes the encoding; a `%` that begins no escape stays.
pub fn decode_lossy(text: &str) -> Vec<u8> {
    unescape(text).0
}

/// The bytes, and whether every `%` began an escape.
fn unescape(text: &str) -> (Vec<u8>, bool) {
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|n| u8::try_from(n).ok());
    let mut bytes = Vec::with_capacity(text.len());
    let mut strict = true;
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escape = after.split_first_chunk().filter(|_| *first == b'%');
        match escape.and_then(|([a, b], after)| Some((digit(*a)? << 4 | digit(*b)?, after))) {
            Some((byte, after)) => {
                bytes.push(byte);
                rest = after;
            }
            None => {
                strict &= *first != b'%';
                bytes.push(*first);
                rest = after;
            }
        }
    }
    (bytes, strict)
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
        for (bad, decoded) in [("%", &b"%"[..]), ("%4", b"%4"), ("%zz%41", b"%zzA"), ("%+4", b"%+4"), ("%ff", b"\xff")] {
            assert_eq!(decode_lossy(bad), decoded, "{bad}");
        }
    }

    #[test]
    fn only_unreserved_characters_stay() {
        assert_eq!(segment("a-Z_0.~:/ü %"), "a-Z_0.~%3A%2F%C3%BC%20%25");
        assert_eq!(google_segment("claude@20240229/é"), "claude@20240229%2F%C3%A9");
        let mut path = String::new();
        encode(&mut path, "/model/a%3A0", b"/");
        assert_eq!(path, "/model/a%253A0");
    }

    #[test]
    fn a_form_escapes_what_would_end_a_field() {
        assert_eq!(form(&[("a", "x&y=z +/ü"), ("b", "-._~")]), "a=x%26y%3Dz%20%2B%2F%C3%BC&b=-._~");
    }
}
