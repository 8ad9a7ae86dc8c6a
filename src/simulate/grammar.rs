//! A text of an EBNF or GBNF grammar: a grammar is a regular expression whose rules may be called by name.

use super::pattern;
use std::collections::HashMap;

/// Deepest nesting of rules and groups.
const MAX_DEPTH: usize = 64;
/// Longest text that is made, in bytes.
const MAX_TEXT: usize = 4_096;

/// A text of the grammar's rule `root` (`start` in Lark's spelling), taking first alternatives and least counts.
///
/// # Errors
/// What in the grammar is not understood.
pub fn example(grammar: &str) -> Result<String, String> {
    let mut rules: HashMap<&str, String> = HashMap::new();
    let mut last: Option<&str> = None;
    for line in grammar.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#') && !line.starts_with("//")) {
        if let Some(statement) = line.strip_prefix('%') {
            if let Some((name, body)) = statement.strip_prefix("import common.").and_then(common) {
                rules.insert(name, body.to_owned());
            }
            continue;
        }
        let line = without_alias(line);
        let head = line.split_once("::=").or_else(|| line.split_once(':'));
        match (head, last) {
            (Some((name, body)), _) if name.trim().chars().all(is_name) => {
                last = Some(name.trim());
                rules.insert(name.trim(), body.trim().to_owned());
            }
            (_, Some(name)) => rules.entry(name).or_default().push_str(&format!(" {line}")),
            _ => return Err("the grammar does not begin with a rule".into()),
        }
    }
    let root = ["root", "start"].into_iter().find(|name| rules.contains_key(name)).ok_or("the grammar has no rule `root`")?;
    rule(&rules, root, 0)
}

/// A terminal of Lark's own library.
fn common(name: &str) -> Option<(&str, &'static str)> {
    let body = match name {
        "LF" | "NEWLINE" => r#""\n""#,
        "WS" | "WS_INLINE" => r#"" ""#,
        "DIGIT" | "INT" | "NUMBER" | "SIGNED_NUMBER" => r#""0""#,
        "LETTER" | "WORD" | "CNAME" => r#""a""#,
        _ => return None,
    };
    Some((name, body))
}

/// A line of a Lark grammar without the ` -> name` that renames its alternative.
fn without_alias(line: &str) -> &str {
    match line.rsplit_once("->") {
        Some((before, name)) if !name.trim().is_empty() && name.trim().chars().all(is_name) => before.trim_end(),
        _ => line,
    }
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '-'
}

fn rule(rules: &HashMap<&str, String>, name: &str, depth: usize) -> Result<String, String> {
    let body = rules.get(name).ok_or_else(|| format!("the grammar has no rule `{name}`"))?;
    let mut rest = body.as_str();
    let text = alternatives(rules, &mut rest, depth + 1)?;
    if rest.is_empty() { Ok(text) } else { Err(format!("the rule `{name}` is not understood at `{rest}`")) }
}

fn alternatives(rules: &HashMap<&str, String>, rest: &mut &str, depth: usize) -> Result<String, String> {
    if depth > MAX_DEPTH {
        return Err("the grammar is nested too deeply".into());
    }
    let mut chosen = None;
    loop {
        let text = sequence(rules, rest, depth, chosen.is_none())?;
        chosen.get_or_insert(text);
        match rest.strip_prefix('|') {
            Some(after) => *rest = after,
            None => return Ok(chosen.unwrap_or_default()),
        }
    }
}

/// One alternative; `wanted` is false for those that are only read over.
fn sequence(rules: &HashMap<&str, String>, rest: &mut &str, depth: usize, wanted: bool) -> Result<String, String> {
    let mut out = String::new();
    loop {
        *rest = rest.trim_start();
        let Some(first) = rest.chars().next().filter(|c| !matches!(c, '|' | ')')) else { return Ok(out) };
        let atom = match first {
            '"' | '\'' => {
                let inside = take_until(rest, first)?;
                inside.replace("\\n", "\n").replace("\\t", "\t").replace("\\\"", "\"").replace("\\\\", "\\")
            }
            '[' => pattern::example(&format!("[{}]", take_until(rest, ']')?))?,
            '/' => pattern::example(take_until(rest, '/')?)?,
            '(' => {
                *rest = rest.strip_prefix('(').unwrap_or_default();
                let text = alternatives(rules, rest, depth + 1)?;
                *rest = rest.strip_prefix(')').ok_or("the grammar has a `(` without its partner")?;
                text
            }
            c if is_name(c) => {
                let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
                let (name, after) = rest.split_at(end);
                *rest = after;
                if wanted && !after.starts_with(['?', '*']) { rule(rules, name, depth + 1)? } else { String::new() }
            }
            c => return Err(format!("the grammar has a `{c}` that is not understood")),
        };
        let optional = rest.starts_with(['?', '*']);
        *rest = rest.strip_prefix(['?', '*', '+']).unwrap_or(rest);
        if !optional {
            out.push_str(&atom);
        }
        if out.len() > MAX_TEXT {
            return Err(format!("the grammar needs more than {MAX_TEXT} bytes"));
        }
    }
}

/// The inside of what begins at `rest` and ends at an unescaped `end`.
fn take_until<'a>(rest: &mut &'a str, end: char) -> Result<&'a str, String> {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        if !escaped && c == end {
            let inside = rest.get(1..at).unwrap_or_default();
            *rest = rest.get(at + c.len_utf8()..).unwrap_or_default();
            return Ok(inside);
        }
        escaped = c == '\\' && !escaped;
    }
    Err(format!("the grammar has no closing `{end}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples() {
        for (grammar, text) in [
            ("root ::= \"yes\" | \"no\"", "yes"),
            ("# a comment\nroot ::= greeting \" \" name+\ngreeting ::= (\"hi\" | \"ho\") \"!\"?\nname ::= [A-Z] [a-z]*", "hi A"),
            ("start: item\n  | \"x\"\nitem: /[0-9]{2}/", "00"),
            ("root ::= \"say \\\"a\\\"\"", "say \"a\""),
            (
                "start: begin hunk+ end\nbegin: \"*** Begin\" LF\nend: \"*** End\" LF?\nhunk: \"*** Add: \" name LF line+\n\
                name: /(.+)/\nline: \"+\" /(.*)/ LF -> line\n\n%import common.LF",
                "*** Begin\n*** Add: a\n+\n*** End",
            ),
        ] {
            assert_eq!(example(grammar).unwrap(), text, "{grammar}");
        }
    }

    #[test]
    fn what_cannot_end_or_be_read_is_refused() {
        for grammar in ["", "hello", "root ::= other", "root ::= root \"a\"", "root ::= \"a", "root ::= {", "root ::= (\"a\""] {
            assert!(example(grammar).is_err(), "{grammar}");
        }
    }
}
