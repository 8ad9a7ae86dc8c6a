//! Reads the input of a custom tool from the arguments of the function that stands for it: `{"input": "…"}`. A model writes
//! these arguments, so they may be malformed.

use super::tools::CUSTOM_INPUT;

/// Reads the input from the pieces of the arguments' text.
///
/// ```text
/// Start --quote--> Key --`input`--> Colon --quote--> Value --quote--> End
///   \________________\_______________\--all else--> Other
/// ```
#[derive(Debug, Default)]
pub struct Input {
    state: State,
    /// The key so far, or an escape that is not complete.
    partial: String,
    /// The first half of a surrogate pair, whose second half may follow.
    high: Option<u16>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Start,
    Key,
    Colon,
    Value,
    End,
    /// The arguments have another form.
    Other,
}

impl Input {
    /// Reads a piece of the arguments. Returns what it adds to the input.
    pub fn read(&mut self, arguments: &str) -> String {
        let mut out = String::new();
        for c in arguments.chars() {
            match self.state {
                State::Start => match c {
                    '"' => self.state = State::Key,
                    '{' => {}
                    c if c.is_ascii_whitespace() => {}
                    _ => self.state = State::Other,
                },
                State::Key if c != '"' => self.partial.push(c),
                State::Key => {
                    self.state = if std::mem::take(&mut self.partial) == CUSTOM_INPUT { State::Colon } else { State::Other };
                }
                State::Colon => match c {
                    '"' => self.state = State::Value,
                    ':' => {}
                    c if c.is_ascii_whitespace() => {}
                    _ => self.state = State::Other,
                },
                State::Value if self.partial.is_empty() => match c {
                    '"' => {
                        self.drop_high(&mut out);
                        self.state = State::End;
                    }
                    '\\' => self.partial.push(c),
                    c => self.push(c, &mut out),
                },
                State::Value => self.escape(c, &mut out),
                State::End | State::Other => {}
            }
        }
        out
    }

    /// Whether the arguments have the expected form, as far as they have been read.
    pub fn is_found(&self) -> bool {
        matches!(self.state, State::Value | State::End)
    }

    fn push(&mut self, c: char, out: &mut String) {
        self.drop_high(out);
        out.push(c);
    }

    /// The second half of a pair has not followed.
    fn drop_high(&mut self, out: &mut String) {
        out.extend(self.high.take().map(|_| char::REPLACEMENT_CHARACTER));
    }

    /// Reads the next character of an escape. What is none is taken as it is written: models forget to escape backslashes.
    fn escape(&mut self, c: char, out: &mut String) {
        let digits = self.partial.strip_prefix("\\u").map(str::len);
        match (digits, c) {
            (None, '"' | '\\' | '/') => self.push(c, out),
            (None, 'b') => self.push('\u{8}', out),
            (None, 'f') => self.push('\u{c}', out),
            (None, 'n') => self.push('\n', out),
            (None, 'r') => self.push('\r', out),
            (None, 't') => self.push('\t', out),
            (None, 'u') => return self.partial.push(c),
            (Some(0..3), c) if c.is_ascii_hexdigit() => return self.partial.push(c),
            (Some(_), c) if c.is_ascii_hexdigit() => {
                self.partial.push(c);
                let unit = self.partial.get(2..).and_then(|digits| u16::from_str_radix(digits, 16).ok());
                self.unit(unit.unwrap_or_default(), out);
            }
            _ => {
                self.drop_high(out);
                out.push_str(&std::mem::take(&mut self.partial));
                return out.push_str(&self.read(c.encode_utf8(&mut [0; 4])));
            }
        }
        self.partial.clear();
    }

    /// A unit of UTF-16.
    fn unit(&mut self, unit: u16, out: &mut String) {
        if let Some(high) = self.high
            && let Some(Ok(c)) = char::decode_utf16([high, unit]).next()
        {
            self.high = None;
            out.push(c);
        } else if (0xD800..0xDC00).contains(&unit) {
            self.drop_high(out);
            self.high = Some(unit);
        } else {
            self.push(char::from_u32(unit.into()).unwrap_or(char::REPLACEMENT_CHARACTER), out);
        }
    }
}

/// The input in complete arguments of another form: their member of that name, else all that the model wrote.
pub fn of_other_form(arguments: &str) -> String {
    #[derive(serde::Deserialize)]
    struct Arguments {
        input: String,
    }
    serde_json::from_str::<Arguments>(arguments).map_or_else(|_| arguments.to_owned(), |arguments| arguments.input)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &str, size: usize) -> (String, bool) {
        let mut input = Input::default();
        let chars: Vec<char> = arguments.chars().collect();
        let all = chars.chunks(size).map(|piece| input.read(&piece.iter().collect::<String>())).collect();
        (all, input.is_found())
    }

    #[test]
    fn the_input_is_read_however_the_arguments_are_cut() {
        let escaped = r#"*** Begin \"x\"\n\ud83d\ude00 ü \\ \/ \u00fc \ud83d end \ude00\ud83d\ud83d\ude00\ud83d\t\ud83d"#;
        let input = "*** Begin \"x\"\n😀 ü \\ / ü \u{fffd} end \u{fffd}\u{fffd}😀\u{fffd}\t\u{fffd}";
        for size in 1..8 {
            assert_eq!(read(&format!("{{ \"input\" : \"{escaped}\" }}"), size), (input.to_owned(), true));
        }
    }

    #[test]
    fn what_is_no_json_is_taken_as_it_is_written() {
        for (written, input) in
            [("a\nb\u{1}", "a\nb\u{1}"), (r"C:\xü \'\u12G4\q", r"C:\xü \'\u12G4\q"), (r"\u12\n", "\\u12\n"), (r"\u1", "")]
        {
            for size in 1..4 {
                assert_eq!(read(&format!("{{\"input\":\"{written}"), size).0, input);
            }
        }
        assert_eq!(read(r#"{"input":"\u12"}"#, 1).0, r"\u12");
    }

    #[test]
    fn arguments_of_another_form_have_none() {
        for arguments in ["", "null", "\"text\"", "[1]", r#"{"patch":"x"}"#, r#"{"input":{}}"#, "plain"] {
            assert_eq!(read(arguments, 3), (String::new(), false), "{arguments}");
            assert_eq!(of_other_form(arguments), arguments);
        }
        assert_eq!(of_other_form(r#"{"why":"so","input":"a\nb"}"#), "a\nb");
    }
}
