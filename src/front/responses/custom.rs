//! The input of a custom tool, out of the arguments of the function that stands for it: `{"input": "…"}`.

use super::tools::CUSTOM_INPUT;

/// Finds the input in the arguments' text, however that is cut.
#[derive(Debug, Default)]
pub struct Input {
    state: State,
    /// The text so far of a key, or the part of an escape.
    held: String,
}

/// Length of the escape of half a surrogate pair.
const LONE: usize = 6;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Before the value: a key may come.
    #[default]
    Before,
    /// Inside of a key.
    Key,
    /// Behind the key of the input.
    Found,
    /// Inside of the input.
    Inside,
    /// Behind it.
    Over,
    /// The arguments have another form.
    Other,
}

impl Input {
    /// Reads more of the arguments; what of the input is in it, as the inside of a JSON string without half of an escape.
    pub fn read(&mut self, arguments: &str) -> String {
        let mut out = String::new();
        for c in arguments.chars() {
            match self.state {
                State::Before => match c {
                    '"' => self.state = State::Key,
                    '{' | ',' => {}
                    c if c.is_ascii_whitespace() => {}
                    _ => self.state = State::Other,
                },
                State::Key if c != '"' => self.held.push(c),
                State::Key => self.state = if std::mem::take(&mut self.held) == CUSTOM_INPUT { State::Found } else { State::Other },
                State::Found => match c {
                    '"' => self.state = State::Inside,
                    ':' => {}
                    c if c.is_ascii_whitespace() => {}
                    _ => self.state = State::Other,
                },
                State::Inside => self.inside(c, &mut out),
                State::Over | State::Other => {}
            }
        }
        out
    }

    fn inside(&mut self, c: char, out: &mut String) {
        if self.held.len() == LONE && c != '\\' {
            out.push_str(&std::mem::take(&mut self.held)); // the second half does not come
        }
        if self.held.is_empty() {
            match c {
                '"' => self.state = State::Over,
                '\\' => self.held.push(c),
                c => out.push(c),
            }
            return;
        }
        self.held.push(c);
        if is_whole(&self.held) {
            out.push_str(&self.held);
            self.held.clear();
        }
    }

    /// Whether the input has come, or comes.
    pub fn is_found(&self) -> bool {
        matches!(self.state, State::Inside | State::Over)
    }
}

/// Whether escapes are whole. The first half of a surrogate pair waits for the second one.
fn is_whole(held: &str) -> bool {
    let is_high = |digits: &str| u16::from_str_radix(digits, 16).is_ok_and(|unit| (0xD800..0xDC00).contains(&unit));
    match held.as_bytes() {
        [b'\\', b'u', digits @ ..] => match digits.len() {
            0..4 => false,
            4 => !held.get(2..6).is_some_and(is_high),
            5 => false, // behind the first half stands a backslash
            6 => !held.ends_with('u'),
            _ => digits.len() >= 10,
        },
        held => held.len() > 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_input_comes_as_it_is_spelled_and_no_escape_is_cut() {
        let patch = r#"*** Begin \"x\"\n\ud83d\ude00 ü \\ \u00fc \ud83d end \ud83d"#;
        let arguments = format!("{{ \"input\" : \"{patch}\" }}");
        for size in 1..8 {
            let (mut input, mut all) = (Input::default(), String::new());
            let chars: Vec<char> = arguments.chars().collect();
            for piece in chars.chunks(size) {
                let more = input.read(&piece.iter().collect::<String>());
                assert!(serde_json::from_str::<String>(&format!("\"{more}\"")).is_ok() || more.contains("ud83d"), "{more}");
                all.push_str(&more);
            }
            assert_eq!((all.as_str(), input.is_found()), (patch, true));
        }
    }

    #[test]
    fn arguments_of_another_form_have_none() {
        for arguments in ["", "null", "\"text\"", "[1]", r#"{"patch":"x"}"#, r#"{"input":{}}"#, "plain"] {
            let mut input = Input::default();
            assert_eq!((input.read(arguments).as_str(), input.is_found()), ("", false), "{arguments}");
        }
    }
}
