//! What is wrong with a configuration, and where.

use crate::redact::{REDACTED, redact};
use std::fmt;
use std::sync::Arc;

/// Keys whose values are secrets. Where a message repeats a piece of the file that holds one of them, as it does after a
/// forgotten space or quote, the piece ends there.
const SECRET_KEYS: [&str; 13] = [
    "api_key",
    "api-key",
    "apikey",
    "access_token",
    "access_key_id",
    "secret_access_key",
    "session_token",
    "authorization",
    "password",
    "proxy",
    "secret",
    "sha256",
    "token",
];

/// A place in a file, both counted from 1; the column counts characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

impl Position {
    /// The first character of the file.
    pub const START: Self = Self { line: 1, column: 1 };
}

/// One thing that is wrong. Its message never holds the value of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file as the user named it.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)
    }
}

/// Collects problems in any order and gives them back sorted by position.
#[derive(Default)]
pub struct Problems(Vec<(Position, String)>);

impl Problems {
    /// Notes a problem. What looks like a secret in the message is removed.
    pub fn add(&mut self, at: Position, message: impl Into<String>) {
        self.0.push((at, redact(&without_values(&message.into())).into_owned()));
    }

    /// How many there are so far.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// All of them, sorted by position, the same one never twice.
    pub fn into_sorted(mut self, file: &str) -> Vec<Problem> {
        let file: Arc<str> = file.into();
        self.0.sort();
        self.0.dedup();
        let problem = |(at, message): (Position, String)| Problem { file: file.clone(), line: at.line, column: at.column, message };
        self.0.into_iter().map(problem).collect()
    }
}

/// The message with each of its pieces between backticks without what follows a key of [`SECRET_KEYS`].
fn without_values(message: &str) -> String {
    let pieces = message.split('`').enumerate().map(|(number, piece)| match secret_value(piece).filter(|_| number % 2 == 1) {
        Some(at) => format!("{}{REDACTED}", piece.get(..at).unwrap_or_default()),
        None => piece.to_owned(),
    });
    pieces.collect::<Vec<_>>().join("`")
}

/// Where the value of a secret begins, if there is one.
fn secret_value(piece: &str) -> Option<usize> {
    let value = |(at, separator): (usize, &str)| {
        let key = piece.get(..at)?.trim_end().trim_end_matches(['"', '\'']).to_ascii_lowercase();
        let at = at + separator.len();
        (SECRET_KEYS.iter().any(|name| key.ends_with(name)) && piece.get(at..).is_some_and(|value| !value.trim().is_empty())).then_some(at)
    };
    piece.match_indices([':', '=', ' ']).find_map(value)
}
