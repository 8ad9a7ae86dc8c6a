//! Where a JSON value ends whose text comes in pieces, which not every provider says of the arguments of a call.

use super::escape;
use super::text::Text;

/// How deep inside a JSON value the pieces of its text have come. Counts brackets; that they match is the client's to check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Open objects and arrays.
    open: usize,
    begun: bool,
    /// Inside a string.
    quoted: bool,
    /// Behind a backslash in a string.
    escaped: bool,
}

impl Depth {
    /// Reads the next piece.
    pub fn read(&mut self, piece: Text<'_>) {
        match piece {
            // Beyond ASCII nothing has a meaning here.
            Text::Raw(raw) if memchr::memchr(b'\\', raw.as_bytes()).is_some() => {
                escape::code_points(raw).for_each(|c| self.step(u8::try_from(c).unwrap_or(u8::MAX)));
            }
            Text::Raw(text) | Text::Plain(text) => text.bytes().for_each(|byte| self.step(byte)),
        }
    }

    fn step(&mut self, byte: u8) {
        match byte {
            _ if std::mem::take(&mut self.escaped) => {}
            b'\\' if self.quoted => self.escaped = true,
            b'"' => self.quoted = !self.quoted,
            _ if self.quoted => {}
            b'{' | b'[' => {
                self.open += 1;
                self.begun = true;
            }
            b'}' | b']' => self.open = self.open.saturating_sub(1),
            _ => {}
        }
    }

    /// Whether an object or an array has begun.
    pub const fn begun(self) -> bool {
        self.begun
    }

    /// Whether it has ended.
    pub const fn is_whole(self) -> bool {
        self.begun && self.open == 0 && !self.quoted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_whole_with_its_last_bracket_however_it_is_cut_and_spelled() {
        for (json, begun, whole) in [
            ("", false, false),
            ("null", false, false),
            ("[]", true, true),
            ("{}", true, true),
            (r#"{"a":1}"#, true, true),
            (r#"{"a":"}"}"#, true, true),
            (r#"{"a":"\"}"#, true, false),
            (r#"{"a":"\\"} "#, true, true),
            (r#"{"a":"\u00e9é😀\n/"}"#, true, true),
            (r#"{"a":["\\\"",{"b":[]}]}"#, true, true),
            (r#"{"a":{"b":1}"#, true, false),
            (r#"{"a": [1, "}\"]""#, true, false),
            (r#"{"a": [1, "}\"]"]}"#, true, true),
        ] {
            let mut plain = Depth::default();
            plain.read(Text::Plain(json));
            assert_eq!((plain.begun(), plain.is_whole()), (begun, whole), "{json}");
            let spelled = serde_json::to_string(json).unwrap();
            let mut raw = Depth::default();
            raw.read(Text::Raw(spelled.strip_prefix('"').unwrap().strip_suffix('"').unwrap()));
            assert_eq!(raw, plain, "{json}");
            let (mut pieces, mut units) = (Depth::default(), Depth::default());
            for piece in json.chars() {
                pieces.read(Text::Plain(piece.encode_utf8(&mut [0; 4])));
                let escaped: String = piece.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect();
                units.read(Text::Raw(&escaped));
            }
            assert_eq!((pieces, units), (plain, plain), "{json}");
        }
    }
}
