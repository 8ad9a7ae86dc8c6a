//! The shortest text that a simple regular expression accepts: how guided decoding is played without a model.
//!
//! Literals, escapes, classes, groups, alternation (the first branch wins) and quantifiers (the least count) are
//! understood; look-around and back-references are not, and are refused.

/// Deepest nesting of groups.
const MAX_DEPTH: usize = 64;
/// Longest text that is made, in bytes.
const MAX_TEXT: usize = 4_096;

/// A text that `pattern` accepts.
///
/// # Errors
/// What in the pattern is not understood.
pub fn example(pattern: &str) -> Result<String, String> {
    let mut parser = Parser { rest: pattern.chars().collect::<Vec<_>>().into_iter().peekable(), depth: 0 };
    let text = parser.alternatives()?;
    match parser.rest.next() {
        None => Ok(text),
        Some(c) => Err(format!("the pattern has a `{c}` without its partner")),
    }
}

struct Parser {
    rest: std::iter::Peekable<std::vec::IntoIter<char>>,
    depth: usize,
}

impl Parser {
    fn eat(&mut self, c: char) -> bool {
        self.rest.next_if_eq(&c).is_some()
    }

    fn alternatives(&mut self) -> Result<String, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("the pattern is nested too deeply".into());
        }
        let first = self.sequence()?;
        while self.eat('|') {
            self.sequence()?;
        }
        self.depth -= 1;
        Ok(first)
    }

    fn sequence(&mut self) -> Result<String, String> {
        let mut out = String::new();
        while let Some(&c) = self.rest.peek() {
            if c == '|' || c == ')' {
                break;
            }
            let atom = self.atom()?;
            let times = self.least_count()?;
            if out.len().saturating_add(atom.len().saturating_mul(times)) > MAX_TEXT {
                return Err(format!("the pattern needs more than {MAX_TEXT} bytes"));
            }
            out.push_str(&atom.repeat(times));
        }
        Ok(out)
    }

    fn atom(&mut self) -> Result<String, String> {
        match self.rest.next() {
            Some('^' | '$') | None => Ok(String::new()),
            Some('.') => Ok("a".into()),
            Some('(') => self.group(),
            Some('[') => self.class(),
            Some('\\') => match self.escape()? {
                Some(c) => Ok(c.to_string()),
                None => Ok(String::new()),
            },
            Some(c @ ('*' | '+' | '?')) => Err(format!("the pattern has a `{c}` with nothing to repeat")),
            Some(c) => Ok(c.to_string()),
        }
    }

    fn group(&mut self) -> Result<String, String> {
        if self.eat('?') && !self.eat(':') {
            return Err("the pattern uses a group other than (…) and (?:…)".into());
        }
        let text = self.alternatives()?;
        if self.eat(')') { Ok(text) } else { Err("the pattern has a `(` without its partner".into()) }
    }

    /// What stands after a backslash: a character to write, or nothing (a word boundary).
    fn escape(&mut self) -> Result<Option<char>, String> {
        Ok(match self.rest.next() {
            None => return Err("the pattern ends in a backslash".into()),
            Some('b') => None,
            Some('d') => Some('0'),
            Some('w' | 'D' | 'S') => Some('a'),
            Some('s') => Some(' '),
            Some('W') => Some('-'),
            Some('n') => Some('\n'),
            Some('t') => Some('\t'),
            Some('r') => Some('\r'),
            Some(c) if c.is_ascii_alphanumeric() => return Err(format!("the pattern uses `\\{c}`")),
            Some(c) => Some(c),
        })
    }

    fn class(&mut self) -> Result<String, String> {
        let negated = self.eat('^');
        let mut ranges: Vec<(char, char)> = Vec::new();
        loop {
            let low = match self.rest.next() {
                None => return Err("the pattern has a `[` without its partner".into()),
                Some(']') if !ranges.is_empty() => break,
                Some('\\') => match self.rest.peek() {
                    Some('d') if negated => {
                        self.rest.next();
                        ranges.push(('0', '9'));
                        continue;
                    }
                    Some('w') if negated => {
                        self.rest.next();
                        ranges.extend([('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')]);
                        continue;
                    }
                    _ => self.escape()?.unwrap_or('\u{8}'),
                },
                Some(c) => c,
            };
            let mut high = low;
            if self.rest.peek() == Some(&'-') {
                self.rest.next();
                match self.rest.next() {
                    None => return Err("the pattern has a `[` without its partner".into()),
                    Some(']') => {
                        ranges.extend([(low, low), ('-', '-')]);
                        break;
                    }
                    Some('\\') => high = self.escape()?.unwrap_or(low),
                    Some(c) => high = c,
                }
            }
            ranges.push((low, high));
        }
        let within = |c: char| ranges.iter().any(|&(low, high)| low <= c && c <= high);
        let pick = if negated { ('a'..='z').chain(' '..='~').find(|&c| !within(c)) } else { ranges.first().map(|&(low, _)| low) };
        pick.map(String::from).ok_or_else(|| "the pattern has a class that accepts nothing printable".into())
    }

    fn least_count(&mut self) -> Result<usize, String> {
        let times = if self.eat('?') || self.eat('*') {
            0
        } else if self.eat('+') {
            1
        } else if self.eat('{') {
            let mut digits = String::new();
            while let Some(c) = self.rest.next_if(char::is_ascii_digit) {
                digits.push(c);
            }
            if self.eat(',') {
                while self.rest.next_if(char::is_ascii_digit).is_some() {}
            }
            if !self.eat('}') {
                return Err("the pattern has a `{` that is no count".into());
            }
            if digits.is_empty() { 0 } else { digits.parse().map_err(|_| "the pattern has a count that is too large")? }
        } else {
            return Ok(1);
        };
        let _lazy = self.eat('?');
        Ok(times)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples() {
        for (pattern, text) in [
            ("", ""),
            ("yes|no", "yes"),
            (r"^\d{3}-[A-Z]{2,4}$", "000-AA"),
            (r"(?:red|green) (car)+?s*", "red car"),
            (r"[^a-y]x?", "z"),
            (r"[^\w]", " "),
            (r"[]a]b", "]b"),
            (r"[+-]1\.5", "+1.5"),
            (r"[\-_]", "-"),
            ("(a|b){2}", "aa"),
            (r"\(New\) York", "(New) York"),
        ] {
            assert_eq!(example(pattern).unwrap(), text, "{pattern}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for pattern in ["(?=a)b", r"(a)\1", "[a", "(a", "a)", "*a", "a{x}", r"a\", "a{9999999}", "(a{4000}){4000}"] {
            assert!(example(pattern).is_err(), "{pattern}");
        }
        assert!(example(&"(".repeat(100_000)).is_err());
    }
}
