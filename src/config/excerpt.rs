//! The source line of a problem as a terminal shows it: one line around the place, without anything that may be a secret.
//!
//! The file may be no YAML at all, so its text is scanned, not its tree. A value is shown only under a key of the schema
//! that holds no secret; comments, what stands under `headers`, quoted text that is not closed on its line, and text
//! whose key is unclear are not shown.

use crate::llm::field::Field;
use crate::redact::redact;
use crate::yaml::problem::{Position, secret_value};
use crate::yaml::referred::shown_path;
use crate::yaml::tree::shown_key;
use std::collections::HashSet;
use std::path::Path;
use std::sync::LazyLock;

/// Widest line that is shown, in characters.
const MAX_WIDTH: usize = 100;
/// What is kept before the place in a line that is cut, in characters.
const BEFORE: usize = 60;
/// Longest number that is shown under an unknown key, in bytes.
const MAX_NUMBER: usize = 5;
/// What stands for text that is not shown.
const HIDDEN: &str = "…";

/// Keys whose mappings have values of any name that may be secrets.
const SECRET_SECTIONS: [&str; 2] = ["headers", "credentials"];
/// Keys with a path of a file.
const PATHS: [&str; 4] = ["file", "certificate", "key", "client_key"];
/// Keys that may hold a secret although their name does not say so.
const SECRET_KEYS: [&str; 3] = ["store", "proxy", "seal_keys"];

/// Keys whose values are shown: those of the configuration and of requests.
static KNOWN: LazyLock<HashSet<String>> = LazyLock::new(|| {
    let mut keys: HashSet<String> = Field::ALL.iter().map(|field| field.name().to_owned()).collect();
    collect(&super::file::schema(), &mut keys);
    for key in SECRET_KEYS {
        keys.remove(key);
    }
    keys
});

fn collect(schema: &serde_json::Value, keys: &mut HashSet<String>) {
    match schema {
        serde_json::Value::Object(members) => {
            if let Some(serde_json::Value::Object(properties)) = members.get("properties") {
                keys.extend(properties.keys().cloned());
            }
            members.values().for_each(|inner| collect(inner, keys));
        }
        serde_json::Value::Array(items) => items.iter().for_each(|inner| collect(inner, keys)),
        _ => {}
    }
}

/// A line, and where in it the place is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt {
    /// What is shown of it.
    pub text: String,
    /// Characters before the place.
    pub caret: usize,
}

/// Makes excerpts of a file, for places in the order of the file.
pub struct Excerpts<'t> {
    lines: std::str::Lines<'t>,
    scan: Scan,
    /// The line that was scanned last, and what is shown of each of its characters.
    line: usize,
    shown: Vec<(usize, String)>,
}

impl<'t> Excerpts<'t> {
    /// None yet.
    pub fn new(text: &'t str) -> Self {
        Self { lines: text.lines(), scan: Scan::default(), line: 0, shown: Vec::new() }
    }

    /// The line of a place; `None` where the file has no such line.
    pub fn at(&mut self, at: Position) -> Option<Excerpt> {
        while self.line < at.line {
            let line = self.lines.next()?;
            self.shown = self.scan.line(line);
            self.line += 1;
        }
        let mut text = String::new();
        let mut caret = None;
        for (column, piece) in &self.shown {
            // The last piece that begins at the place or before it.
            if *column < at.column {
                caret = Some(text.chars().count());
            }
            text.push_str(piece);
        }
        let caret = caret.unwrap_or_default();
        let text = text.trim_end();
        (!text.trim().is_empty()).then(|| cut(text, caret))
    }
}

/// A long line around its place.
fn cut(text: &str, caret: usize) -> Excerpt {
    let length = text.chars().count();
    if length <= MAX_WIDTH {
        return Excerpt { text: text.to_owned(), caret };
    }
    let from = if caret > BEFORE + 20 { caret - BEFORE } else { 0 };
    let mut piece: String = text.chars().skip(from).take(MAX_WIDTH).collect();
    let mut caret = caret - from;
    if from > 0 {
        piece.insert_str(0, HIDDEN);
        caret += 1;
    }
    if from + MAX_WIDTH < length {
        piece.push_str(HIDDEN);
    }
    Excerpt { text: piece, caret }
}

/// What is open at a place of the file.
struct Open {
    /// The key whose value is being read.
    key: String,
    /// Its column; not meaningful in a flow collection.
    indent: usize,
    /// `{` or `[` where the value is a flow collection.
    flow: Option<char>,
}

/// Reads a file line by line.
#[derive(Default)]
struct Scan {
    stack: Vec<Open>,
    /// The quote of a text that is not closed yet.
    quote: Option<char>,
}

impl Scan {
    /// What is shown of a line: pieces and the column, from 0, where each begins. A piece is one character or one that is
    /// hidden.
    fn line(&mut self, line: &str) -> Vec<(usize, String)> {
        let chars: Vec<char> = line.chars().collect();
        let mut shown = Vec::new();
        if let Some(quote) = self.quote {
            if closes(&chars, 0, quote).is_some() {
                self.quote = None;
            }
            hide(&mut shown, &chars, 0, chars.len());
            return shown;
        }
        let mut at = chars.iter().take_while(|c| **c == ' ').count();
        if chars.get(at).is_none_or(|c| *c == '#') {
            return shown;
        }
        if !self.in_flow() {
            let item = is_dash(&chars, at);
            while self.stack.last().is_some_and(|open| open.indent > at || open.indent == at && !item) {
                self.stack.pop();
            }
        }
        plain(&mut shown, &chars, 0, at);
        let (mut item, mut valued) = (false, false);
        while let Some(c) = chars.get(at).copied() {
            let blank = c.is_whitespace();
            let start = at;
            if blank {
                at += 1;
                plain(&mut shown, &chars, start, at);
            } else if c == '#' && (at == 0 || chars.get(at - 1).is_some_and(|before| before.is_whitespace())) {
                break;
            } else if !self.in_flow() && is_dash(&chars, at) {
                item = true;
                at += 1;
                plain(&mut shown, &chars, start, at);
            } else if self.is_colon(&chars, at) {
                at += 1;
                plain(&mut shown, &chars, start, at);
            } else if self.in_flow() && matches!(c, ',' | '}' | ']') {
                at += 1;
                plain(&mut shown, &chars, start, at);
                valued = false;
                if !self.delimiter(c) {
                    hide(&mut shown, &chars, at, chars.len());
                    break;
                }
            } else if matches!(c, '{' | '[') {
                at += 1;
                plain(&mut shown, &chars, start, at);
                let key = self.stack.last().map_or(String::new(), |open| open.key.clone());
                self.stack.push(Open { key, indent: start, flow: Some(c) });
                (item, valued) = (false, false);
            } else {
                let Some(end) = self.scalar(&chars, start) else {
                    hide(&mut shown, &chars, start, chars.len());
                    self.quote = Some(c);
                    break;
                };
                at = end;
                let is_key = is_key(&chars, start, end);
                // A second colon makes the text before it no key.
                if is_key && valued {
                    hide(&mut shown, &chars, start, chars.len());
                    break;
                }
                self.token(&mut shown, &chars, start, end, is_key, &mut item);
                valued |= is_key;
                if self.quoted_and_more(&chars, start, end) {
                    hide(&mut shown, &chars, end, chars.len());
                    break;
                }
            }
        }
        shown
    }

    /// Whether this colon separates a key from its value.
    fn is_colon(&self, chars: &[char], at: usize) -> bool {
        let quoted = at > 0 && matches!(chars.get(at - 1), Some('"' | '\''));
        let ends = chars.get(at + 1).is_none_or(|next| next.is_whitespace() || self.in_flow() && matches!(next, ',' | '}' | ']'));
        chars.get(at) == Some(&':') && (ends || quoted && self.in_flow())
    }

    fn in_flow(&self) -> bool {
        self.flow().is_some()
    }

    /// The innermost flow collection.
    fn flow(&self) -> Option<char> {
        self.stack.iter().rev().find_map(|open| open.flow)
    }

    /// After a comma or a closing bracket. `false` where the last flow collection ends: what follows belongs to nothing.
    fn delimiter(&mut self, c: char) -> bool {
        while self.stack.last().is_some_and(|open| open.flow.is_none()) {
            self.stack.pop(); // the key whose value ends
        }
        if c != ',' {
            self.stack.pop();
        }
        self.in_flow()
    }

    /// Where a scalar ends; `None` for a quoted one that does not end on its line.
    fn scalar(&self, chars: &[char], start: usize) -> Option<usize> {
        match chars.get(start).copied() {
            Some(quote @ ('"' | '\'')) => closes(chars, start + 1, quote),
            _ => {
                let flow = self.in_flow();
                let ends = |at: usize| {
                    let (c, next) = (chars.get(at).copied().unwrap_or(' '), chars.get(at + 1).copied());
                    self.is_colon(chars, at) || flow && matches!(c, ',' | '{' | '}' | '[' | ']') || c.is_whitespace() && next == Some('#')
                };
                let variable = closing_brace(chars, start).unwrap_or(start);
                let end = (variable.max(start) + 1..chars.len()).find(|at| ends(*at)).unwrap_or(chars.len());
                Some((start + 1..=end).rev().find(|end| chars.get(end - 1).is_some_and(|c| !c.is_whitespace())).unwrap_or(end))
            }
        }
    }

    /// Whether text follows a quoted scalar that does not belong there.
    fn quoted_and_more(&self, chars: &[char], start: usize, end: usize) -> bool {
        let next = chars.iter().skip(end).find(|c| !c.is_whitespace());
        matches!(chars.get(start), Some('"' | '\'')) && next.is_some_and(|c| !matches!(c, ':' | ',' | '}' | ']' | '#'))
    }

    /// A key, or a value of the current one.
    fn token(&mut self, shown: &mut Vec<(usize, String)>, chars: &[char], start: usize, end: usize, is_key: bool, item: &mut bool) {
        let text: String = chars.iter().skip(start).take(end - start).collect();
        let bare = text.trim_end().trim_matches(['"', '\'']);
        let in_secret = self.stack.iter().any(|open| is_secret(&open.key));
        if is_key {
            piece(shown, chars, start, end, if in_secret { HIDDEN.into() } else { shown_key(&text, true) });
            if !self.in_flow() {
                while self.stack.last().is_some_and(|open| open.indent >= start) {
                    self.stack.pop();
                }
            }
            self.stack.push(Open { key: bare.to_ascii_lowercase(), indent: start, flow: None });
            return;
        }
        let in_section = self.stack.iter().any(|open| SECRET_SECTIONS.contains(&open.key.as_str()));
        let key = self.stack.last().map_or("", |open| open.key.as_str());
        // Where a key belongs, a scalar is one whose colon or space was forgotten.
        let keyless = match self.stack.last() {
            None => true,
            Some(open) => open.flow == Some('{') || open.flow.is_none() && !*item && shown.iter().all(|(_, piece)| piece.trim().is_empty()),
        };
        *item = false;
        let value = if is_variable(bare) {
            Some(text.clone())
        } else if in_secret || in_section {
            None
        } else if keyless {
            Some(shown_key(&text, true).into_owned())
        } else {
            shown_value(key, bare).then(|| text.clone())
        };
        // What is left of a value before a secret's key in it, and in a URL before its query.
        let value = value.map(|value| match secret_value(&value).or_else(|| value.find("://").and_then(|_| Some(value.find('?')? + 1))) {
            Some(at) => format!("{}{HIDDEN}", value.get(..at).unwrap_or_default()),
            None => value,
        });
        match value {
            Some(value) => piece(shown, chars, start, end, redact(&value)),
            None => piece(shown, chars, start, end, HIDDEN.into()),
        }
    }
}

/// Whether a colon follows a scalar, after a quoted one also behind white space.
fn is_key(chars: &[char], start: usize, end: usize) -> bool {
    let quoted = matches!(chars.get(start), Some('"' | '\''));
    chars.iter().skip(end).find(|c| !quoted || !c.is_whitespace()) == Some(&':')
}

fn is_secret(key: &str) -> bool {
    secret_value(&format!("{key}: x")).is_some() || SECRET_KEYS.contains(&key)
}

fn shown_value(key: &str, value: &str) -> bool {
    if value.contains("://") && value.contains('@') || is_secret(key) {
        return false;
    }
    if !KNOWN.contains(key) {
        return value.len() <= MAX_NUMBER && (value.parse::<f64>().is_ok() || matches!(value, "true" | "false"));
    }
    let path = PATHS.contains(&key) || key.ends_with("_file") || key.ends_with("_certificate");
    !path || value.starts_with("${") || shown_path(Path::new(value)).is_some()
}

/// Whether a text is nothing but a variable; a default may be a secret.
fn is_variable(text: &str) -> bool {
    let name = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    name.is_some_and(|name| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'))
}

/// The end of a variable that begins here.
fn closing_brace(chars: &[char], start: usize) -> Option<usize> {
    let begins = chars.get(start) == Some(&'$') && chars.get(start + 1) == Some(&'{');
    begins.then(|| {
        (start + 2..chars.len()).take_while(|at| !chars.get(*at).is_some_and(|c| c.is_whitespace())).find(|at| chars.get(*at) == Some(&'}'))
    })?
}

fn is_dash(chars: &[char], at: usize) -> bool {
    chars.get(at) == Some(&'-') && chars.get(at + 1).is_none_or(|c| c.is_whitespace())
}

/// The character after the closing quote.
fn closes(chars: &[char], from: usize, quote: char) -> Option<usize> {
    let mut at = from;
    while let Some(c) = chars.get(at) {
        match c {
            '\\' if quote == '"' => at += 1,
            '\'' if quote == '\'' && chars.get(at + 1) == Some(&'\'') => at += 1,
            c if *c == quote => return Some(at + 1),
            _ => {}
        }
        at += 1;
    }
    None
}

/// Characters as they are.
fn plain(shown: &mut Vec<(usize, String)>, chars: &[char], from: usize, to: usize) {
    for (at, c) in chars.iter().enumerate().take(to).skip(from) {
        shown.push((at, if c.is_control() { ' ' } else { *c }.to_string()));
    }
}

/// Something that is not shown; a comment is left out without a sign.
fn hide(shown: &mut Vec<(usize, String)>, chars: &[char], from: usize, to: usize) {
    if chars.iter().take(to).skip(from).find(|c| !c.is_whitespace()).is_some_and(|c| *c != '#') {
        shown.push((from, HIDDEN.to_owned()));
    }
}

/// A token as it is shown: as it stands, or something shorter in its place.
fn piece(shown: &mut Vec<(usize, String)>, chars: &[char], from: usize, to: usize, text: std::borrow::Cow<'_, str>) {
    let same = text.chars().eq(chars.iter().take(to).skip(from).copied());
    if same {
        plain(shown, chars, from, to);
    } else {
        shown.push((from, text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()));
    }
}
