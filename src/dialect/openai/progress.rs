//! How far the arguments of a streamed call are: whether they are one complete JSON value.

/// Reads arguments in pieces, without keeping them. It counts brackets; that they are in order is the client's to check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Open containers.
    depth: u32,
    /// Whether a container has been opened at all.
    begun: bool,
    in_string: bool,
    /// The last character was a backslash in a string.
    escaped: bool,
}

impl Progress {
    /// Reads a piece: the inside of a JSON string (`quoted`), or JSON itself.
    pub fn read(&mut self, piece: &str, quoted: bool) {
        let mut bytes = piece.bytes();
        while let Some(byte) = bytes.next() {
            let byte = match byte {
                b'\\' if quoted => match bytes.next() {
                    Some(b'u') => unicode(&mut bytes),
                    Some(b'"') => b'"',
                    Some(b'\\') => b'\\',
                    _ => b' ', // white space, or a solidus
                },
                byte => byte,
            };
            self.take(byte);
        }
    }

    fn take(&mut self, byte: u8) {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' => self.escaped = self.in_string,
            b'"' => self.in_string = !self.in_string,
            _ if self.in_string => {}
            b'{' | b'[' => {
                self.depth += 1;
                self.begun = true;
            }
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }

    /// Whether the value, an object or an array, is complete.
    pub const fn is_complete(self) -> bool {
        self.begun && self.depth == 0 && !self.in_string
    }
}

/// The character of `\uXXXX`, behind the `u`, where it is one of ASCII; any other one has no meaning here.
fn unicode(bytes: &mut std::str::Bytes<'_>) -> u8 {
    let code = bytes.by_ref().take(4).fold(0u32, |code, digit| code * 16 + char::from(digit).to_digit(16).unwrap_or_default());
    u8::try_from(code).unwrap_or(b' ')
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_complete_behind_its_last_bracket_however_it_is_cut() {
        for (json, complete) in [
            (r#"{"a":1}"#, true),
            (r#"{"a":"}"}"#, true),
            (r#"{"a":"\"}"#, false),
            (r#"{"a":"\\"} "#, true),
            (r#"{"a":["\\\"",{"b":[]}]}"#, true),
            (r#"{"a":{"b":1}"#, false),
            ("", false),
            ("[]", true),
            ("{}", true),
        ] {
            let mut whole = Progress::default();
            whole.read(json, false);
            assert_eq!(whole.is_complete(), complete, "{json}");
            let mut escapes = Progress::default();
            for piece in json.chars() {
                escapes.read(&format!("\\u{:04x}", u32::from(piece)), true);
            }
            assert_eq!(escapes, whole, "{json}");
            let mut quoted = Progress::default();
            let text = serde_json::to_string(json).unwrap();
            quoted.read(text.strip_prefix('"').unwrap().strip_suffix('"').unwrap(), true);
            assert_eq!(quoted, whole, "{json}");
        }
    }
}
