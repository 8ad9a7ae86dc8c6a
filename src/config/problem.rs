//! A problem of a configuration as its operator reads it: the file, the place, the line.

use super::excerpt::{Excerpt, Excerpts};
use crate::yaml::problem::{Position, Problems, Severity};
use std::fmt;
use std::sync::Arc;

/// One thing that is wrong. Neither its message nor its excerpt holds the value of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What it means for the configuration.
    pub severity: Severity,
    /// The file as the user named it.
    pub file: Arc<str>,
    /// Where in the file; `None` where the file could not be read.
    pub at: Option<Position>,
    /// What is wrong and what to do.
    pub message: String,
    /// The line, for a terminal.
    pub excerpt: Option<Excerpt>,
}

impl Problem {
    /// A file that cannot be read.
    pub fn unreadable(file: &str, message: String) -> Self {
        Self { severity: Severity::Error, file: file.into(), at: None, message, excerpt: None }
    }

    /// What was found in a file with this text, sorted by position, each with its line.
    pub fn list(found: Problems, file: &str, text: &str) -> Vec<Self> {
        let file: Arc<str> = file.into();
        let mut excerpts = Excerpts::new(text);
        let problem = |(at, severity, message): (Position, Severity, String)| {
            let excerpt = excerpts.at(at);
            Self { severity, file: file.clone(), at: Some(at), message, excerpt }
        };
        found.into_sorted().into_iter().map(problem).collect()
    }
}

/// `FILE:LINE:COLUMN: MESSAGE`, for logs.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some(at) => write!(f, "{}:{}:{}: {}", self.file, at.line, at.column, self.message),
            None => write!(f, "{}: {}", self.file, self.message),
        }
    }
}
