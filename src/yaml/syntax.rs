//! What is wrong with a file that is no YAML, in words that say what to do.

use super::problem::Position;

/// The place and the message for an error of the YAML parser. `open` is where the innermost open collection begins.
pub(super) fn explain(text: &str, open: Option<Position>, at: Position, info: &str) -> (Position, String) {
    if let Some((open, quote)) = open_quote(text) {
        return (open, format!("this is not YAML: the quote that opens here is not closed with `{quote}`"));
    }
    let bracket = open.and_then(|open| Some((open, char_at(text, open).filter(|c| matches!(c, '{' | '['))?)));
    if let Some((open, bracket)) = bracket {
        if let Some((at, name)) = unquoted_variable(text, open, at) {
            let message = format!(
                "`${{{name}}}` must be in quotes here: write \"${{{name}}}\"; between `{{…}}` or `[…]` YAML reads its braces as its own"
            );
            return (at, message);
        }
        if is_unclosed(text, open) {
            let close = if bracket == '{' { '}' } else { ']' };
            return (open, format!("this is not YAML: the `{bracket}` that opens here is not closed with `{close}`"));
        }
    }
    (at, format!("this is not YAML: {info}"))
}

/// The characters of a text from a place on, with their places.
fn from(text: &str, at: Position) -> impl Iterator<Item = (Position, char)> {
    let lines = text.split('\n').enumerate().skip(at.line.saturating_sub(1));
    let characters = lines.flat_map(|(number, line)| {
        line.chars().chain(['\n']).enumerate().map(move |(column, c)| (Position { line: number + 1, column: column + 1 }, c))
    });
    characters.skip_while(move |(place, _)| *place < at)
}

fn char_at(text: &str, at: Position) -> Option<char> {
    from(text, at).next().filter(|(place, _)| *place == at).map(|(_, c)| c)
}

/// The quote that is not closed, and where it opens: one whose text has lines that are indented no more than its own.
fn open_quote(text: &str) -> Option<(Position, char)> {
    let mut opened: Option<(Position, char)> = None;
    let mut own = 0;
    let (mut comment, mut before) = (false, '\n');
    for (at, c) in from(text, Position::START) {
        let previous = std::mem::replace(&mut before, c);
        match opened {
            _ if comment => comment = c != '\n',
            Some((open, _)) if at.line > open.line && !c.is_whitespace() && at.column <= own + 1 => return opened,
            Some((_, quote)) if c == quote && (quote == '\'' || previous != '\\') => opened = None,
            None if matches!(c, '"' | '\'') && opens_value(previous) => {
                (opened, own) = (Some((at, c)), indent(text, at.line));
            }
            None => comment = c == '#' && previous.is_whitespace(),
            Some(_) => {}
        }
    }
    opened
}

/// Whether a quote behind this character begins a value.
const fn opens_value(before: char) -> bool {
    matches!(before, ' ' | '{' | '[' | ',' | ':' | '\n')
}

/// How far a line is indented.
fn indent(text: &str, line: usize) -> usize {
    text.split('\n').nth(line.saturating_sub(1)).map_or(0, |line| line.len() - line.trim_start().len())
}

/// The characters that are neither in quotes nor in a comment.
fn bare(text: &str, at: Position) -> impl Iterator<Item = (Position, char)> {
    let (mut quote, mut comment, mut before) = (None, false, ' ');
    from(text, at).filter(move |(_, c)| {
        let previous = std::mem::replace(&mut before, *c);
        match (quote, *c) {
            _ if comment => {
                comment = *c != '\n';
                return false;
            }
            (Some(open), c) => {
                if c == open && (open == '\'' || previous != '\\') {
                    quote = None;
                }
                return false;
            }
            // A quote opens only where a value begins.
            (None, '"' | '\'') if opens_value(previous) => quote = Some(*c),
            (None, '#') if previous.is_whitespace() => comment = true,
            _ => return true,
        }
        false
    })
}

/// A variable in no quotes between the opening of a collection and the error, or right behind it.
fn unquoted_variable(text: &str, open: Position, error: Position) -> Option<(Position, String)> {
    let mut dollar: Option<(Position, String)> = None;
    for (at, c) in bare(text, open) {
        if at.line > error.line {
            break;
        }
        dollar = match (dollar, c) {
            (_, '$') => Some((at, String::new())),
            (Some((at, name)), '{') if name.is_empty() => Some((at, "{".to_owned())),
            (Some((at, name)), '}') if name.starts_with('{') && name.len() > 1 => return Some((at, name.get(1..)?.to_owned())),
            (Some((at, name)), c) if name.starts_with('{') && (c.is_ascii_alphanumeric() || "_:-./".contains(c)) => {
                Some((at, name + &c.to_string()))
            }
            _ => None,
        };
    }
    None
}

/// Whether a bracket is still open at the end of the file, or where a line begins that is indented no more than its own.
fn is_unclosed(text: &str, open: Position) -> bool {
    let own = indent(text, open.line);
    let mut depth = 0usize;
    for (at, c) in bare(text, open) {
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' => depth = depth.saturating_sub(1),
            c if !c.is_whitespace() && at.line > open.line && at.column <= own + 1 => return true,
            _ => {}
        }
        if depth == 0 {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use crate::config::problem::Problem;
    use crate::yaml::problem::Problems;
    use crate::yaml::tree;

    fn told(text: &str) -> Vec<String> {
        let mut problems = Problems::default();
        let _none = tree::parse(text, &mut problems);
        Problem::list(problems, "t", text).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_unquoted_variable_between_brackets_is_named() {
        let told_of = "must be in quotes here";
        for (text, start) in [
            ("a: { kind: openai, api_key: ${KEY} }\n", "t:1:29: `${KEY}`"),
            ("a: { b: \"${OTHER}\", # ${NOT}\n  api_key: ${KEY:-x},\n  c: d }\n", "t:2:12: `${KEY:-x}`"),
            ("a: [ ${KEY} ]\n", "t:1:6: `${KEY}`"),
        ] {
            let told = told(text);
            assert!(matches!(&told[..], [one] if one.starts_with(start) && one.contains(told_of)), "{text}: {told:?}");
        }
        assert!(told("a: ${KEY}\n").is_empty());
    }

    #[test]
    fn an_unclosed_bracket_is_shown_where_it_opens() {
        for (text, start) in [
            ("a: { b: c\nd: e\n", "t:1:4: this is not YAML: the `{` that opens here is not closed with `}`"),
            ("r:\n  a:\n    t: [ x, y\n  b: { }\n", "t:3:8: this is not YAML: the `[` that opens here is not closed with `]`"),
            ("a: [ \"]\", b\n", "t:1:4: this is not YAML: the `[`"),
        ] {
            let told = told(text);
            assert!(matches!(&told[..], [one] if one.starts_with(start)), "{text}: {told:?}");
        }
    }

    #[test]
    fn an_unclosed_quote_is_shown_where_it_opens() {
        for (text, start) in [
            ("a: \"b\nc: \"d\"\n", "t:1:4: this is not YAML: the quote that opens here is not closed with `\"`"),
            ("a:\n  b: 'c\n  d: e\n", "t:2:6: this is not YAML: the quote that opens here is not closed with `'`"),
            ("a: { b: \"c }\nd: e\n", "t:1:9: this is not YAML: the quote"),
            ("# don't\na: \"b \\\" c\n", "t:2:4: this is not YAML: the quote"),
        ] {
            let told = told(text);
            assert!(matches!(&told[..], [one] if one.starts_with(start)), "{text}: {told:?}");
        }
        assert!(told("a: it's\nb: \"c\n  d\" # it's\n").is_empty());
    }

    #[test]
    fn other_errors_stay_where_they_are() {
        let told = told("a: [ b ]\nc: *nobody\n");
        assert!(matches!(&told[..], [one] if one.starts_with("t:2:4: this is not YAML: ")), "{told:?}");
    }
}
