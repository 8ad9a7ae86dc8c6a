//! What is wrong with a file, and where.

use crate::redact::{REDACTED, redact};

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

/// What a problem means for the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// The configuration can be used, and probably does not do what its author meant.
    Warning,
}

/// Collects problems in any order and returns them sorted by position.
#[derive(Default)]
pub struct Problems {
    found: Vec<(Position, Severity, String)>,
    errors: usize,
}

impl Problems {
    /// Adds an error. What looks like a secret in the message is removed.
    pub fn add(&mut self, at: Position, message: impl Into<String>) {
        self.errors += 1;
        self.push(at, Severity::Error, message.into());
    }

    /// Adds a warning, as [`Problems::add`] does.
    pub fn warn(&mut self, at: Position, message: impl Into<String>) {
        self.push(at, Severity::Warning, message.into());
    }

    fn push(&mut self, at: Position, severity: Severity, message: String) {
        self.found.push((at, severity, redact(&without_values(&message)).into_owned()));
    }

    /// How many errors there are so far.
    pub fn count(&self) -> usize {
        self.errors
    }

    /// All of them, sorted by position, the same one never twice.
    pub fn into_sorted(mut self) -> Vec<(Position, Severity, String)> {
        self.found.sort();
        self.found.dedup();
        self.found
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
pub fn secret_value(piece: &str) -> Option<usize> {
    let value = |(at, separator): (usize, &str)| {
        let key = piece.get(..at)?.trim_end().trim_end_matches(['"', '\'']).to_ascii_lowercase();
        let at = at + separator.len();
        (SECRET_KEYS.iter().any(|name| key.ends_with(name))
            && !key.ends_with("first_token")
            && piece.get(at..).is_some_and(|value| !value.trim().is_empty()))
        .then_some(at)
    };
    piece.match_indices([':', '=', ' ']).find_map(value)
}
