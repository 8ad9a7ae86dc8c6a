//! What is wrong with a configuration, and where.

use std::fmt;
use std::sync::Arc;

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
    /// Notes a problem.
    pub fn add(&mut self, at: Position, message: impl Into<String>) {
        self.0.push((at, message.into()));
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
