//! Where the arguments of a call end, which not every provider says.

/// How deep inside a JSON value the pieces of its text have come.
#[derive(Debug, Default)]
pub struct Depth {
    open: usize,
    begun: bool,
    quoted: bool,
    escaped: bool,
}

impl Depth {
    /// Reads the next piece.
    pub fn read(&mut self, text: &str) {
        for byte in text.bytes() {
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
    }

    /// Whether an object or an array has begun.
    pub fn begun(&self) -> bool {
        self.begun
    }

    /// Whether it has ended.
    pub fn is_whole(&self) -> bool {
        self.begun && self.open == 0 && !self.quoted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_whole_with_its_last_bracket() {
        for (text, begun, whole) in [
            ("", false, false),
            ("null", false, false),
            ("{\"a\": [1, \"}\\\"]\"", true, false),
            ("{\"a\": [1, \"}\\\"]\"]}", true, true),
            ("{}", true, true),
        ] {
            for cut in 0..=text.len() {
                let mut depth = Depth::default();
                depth.read(&text[..cut]);
                depth.read(&text[cut..]);
                assert_eq!((depth.begun(), depth.is_whole()), (begun, whole), "{text}");
            }
        }
    }
}
