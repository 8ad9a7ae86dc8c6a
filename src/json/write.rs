//! Writes JSON into a buffer.

use super::run;
use crate::json::text::Text;

/// Appends `text` as the inside of a JSON string, escaping quotes, backslashes and control characters.
pub fn escape(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut rest = text.as_bytes();
    loop {
        let Some((plain, after)) = rest.split_at_checked(run::plain(rest)) else { return };
        out.extend_from_slice(plain);
        let Some((&b, after)) = after.split_first() else { return };
        rest = after;
        match b {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                let digit = |n: u8| HEX.get(usize::from(n & 15)).copied().unwrap_or(b'0');
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(b >> 4), digit(b)]);
            }
        }
    }
}

/// A JSON string.
pub fn quoted(text: &str) -> Vec<u8> {
    let mut w = Writer::with_capacity(text.len() + 2);
    w.string(text);
    w.finish()
}

/// Appends an integer in decimal.
pub fn integer(out: &mut Vec<u8>, n: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
}

/// Writes a JSON document and its commas. Does not check that keys occur only in objects.
#[derive(Debug, Default)]
pub struct Writer {
    out: Vec<u8>,
    comma: bool,
}

impl Writer {
    /// A writer with an initial capacity in bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { out: Vec::with_capacity(capacity), comma: false }
    }

    /// A writer that appends to `out`.
    pub fn appending(out: Vec<u8>) -> Self {
        Self { out, comma: false }
    }

    fn next(&mut self) {
        if self.comma {
            self.out.push(b',');
        }
        self.comma = true;
    }

    /// Starts an object.
    pub fn object(&mut self) -> &mut Self {
        self.next();
        self.out.push(b'{');
        self.comma = false;
        self
    }

    /// Ends the object.
    pub fn end_object(&mut self) -> &mut Self {
        self.out.push(b'}');
        self.comma = true;
        self
    }

    /// Starts an array.
    pub fn array(&mut self) -> &mut Self {
        self.next();
        self.out.push(b'[');
        self.comma = false;
        self
    }

    /// Ends the array.
    pub fn end_array(&mut self) -> &mut Self {
        self.out.push(b']');
        self.comma = true;
        self
    }

    /// Writes a key; a value must follow.
    pub fn key(&mut self, key: &str) -> &mut Self {
        self.next();
        self.out.push(b'"');
        escape(&mut self.out, key);
        self.out.extend_from_slice(b"\":");
        self.comma = false;
        self
    }

    /// Writes a string value from unescaped text.
    pub fn string(&mut self, text: &str) -> &mut Self {
        self.text(Text::Plain(text))
    }

    /// Writes a string value.
    pub fn text(&mut self, text: Text<'_>) -> &mut Self {
        self.texts(&[text])
    }

    /// Writes one string value from several pieces.
    pub fn texts(&mut self, pieces: &[Text<'_>]) -> &mut Self {
        self.next();
        self.out.push(b'"');
        for piece in pieces {
            match piece {
                Text::Raw(raw) => self.out.extend_from_slice(raw.as_bytes()),
                Text::Plain(plain) => escape(&mut self.out, plain),
            }
        }
        self.out.push(b'"');
        self
    }

    /// Writes a value that is already JSON.
    pub fn raw(&mut self, json: &str) -> &mut Self {
        self.next();
        self.out.extend_from_slice(json.as_bytes());
        self
    }

    /// Writes members that are already JSON: the inside of an object, which is not empty.
    pub fn members(&mut self, json: &str) -> &mut Self {
        self.raw(json)
    }

    /// Writes elements that are already JSON: the inside of an array, which may be empty.
    pub fn elements(&mut self, json: &str) -> &mut Self {
        if json.is_empty() { self } else { self.raw(json) }
    }

    /// Writes an integer.
    pub fn integer(&mut self, n: u64) -> &mut Self {
        self.next();
        integer(&mut self.out, n);
        self
    }

    /// Writes an array of strings.
    pub fn text_list<'t>(&mut self, texts: impl IntoIterator<Item = Text<'t>>) -> &mut Self {
        self.array();
        for text in texts {
            self.text(text);
        }
        self.end_array()
    }

    /// Writes an array of values that are already JSON.
    pub fn raw_list<'t>(&mut self, values: impl IntoIterator<Item = &'t str>) -> &mut Self {
        self.array();
        for json in values {
            self.raw(json);
        }
        self.end_array()
    }

    /// Writes a member with a string, if there is one.
    pub fn optional_text(&mut self, key: &str, text: Option<Text<'_>>) -> &mut Self {
        if let Some(text) = text { self.key(key).text(text) } else { self }
    }

    /// Writes a member whose value is already JSON, if there is one.
    pub fn optional_raw(&mut self, key: &str, json: Option<&str>) -> &mut Self {
        if let Some(json) = json { self.key(key).raw(json) } else { self }
    }

    /// Writes a member with `true` or `false`, if there is one.
    pub fn optional_flag(&mut self, key: &str, value: Option<bool>) -> &mut Self {
        if let Some(value) = value { self.key(key).flag(value) } else { self }
    }

    /// Writes `true` or `false`.
    pub fn flag(&mut self, value: bool) -> &mut Self {
        self.raw(if value { "true" } else { "false" })
    }

    /// The document.
    pub fn finish(self) -> Vec<u8> {
        self.out
    }

    /// The document as text. What a writer appends to must be text too.
    pub fn into_string(self) -> String {
        String::from_utf8(self.out).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_escaped_reads_back() {
        let all: String = (0u32..0x300).filter_map(char::from_u32).chain("😀\u{2028}".chars()).collect();
        let mut out = vec![b'"'];
        escape(&mut out, &all);
        out.push(b'"');
        assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), all);
    }

    #[test]
    fn commas_stand_between_values_only() {
        let mut w = Writer::default();
        w.object().key("a").integer(1).key("b").array().string("x\"").raw("1.50").object().end_object().end_array();
        w.key("c").texts(&[Text::Raw("\\n"), Text::Plain("\n")]).end_object();
        assert_eq!(w.into_string(), r#"{"a":1,"b":["x\"",1.50,{}],"c":"\n\n"}"#);
    }

    #[test]
    fn lists_and_members_without_a_value_need_no_comma() {
        let mut w = Writer::default();
        w.object().optional_text("a", None).optional_raw("b", Some("[1]")).optional_raw("c", None).optional_flag("d", Some(true));
        w.key("e").text_list([]).key("f").text_list([Text::Raw("x"), Text::Plain("\"")]).key("g").raw_list(["1", "{}"]).end_object();
        assert_eq!(w.into_string(), r#"{"b":[1],"d":true,"e":[],"f":["x","\""],"g":[1,{}]}"#);
    }
}
