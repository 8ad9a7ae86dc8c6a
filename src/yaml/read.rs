//! Taking a [`Node`] tree apart with types, without stopping at the first problem.
//!
//! A key that is wrong is noted and read as if it were absent; only a required key that is wrong makes its whole section
//! unusable.

use super::env::{self, Env};
use super::problem::{Position, Problems};
use super::section::{Entries, Section, default_node};
use super::tree::{Key, Node, Value, shown_key};
use crate::near;
use serde_json::Value as Json;
use std::path::PathBuf;

/// Longest piece of a value that a message repeats, in characters.
const MAX_ECHO: usize = 60;

/// What a reading collects.
pub struct Reader<'a> {
    /// Where variables come from.
    pub env: Env<'a>,
    /// What was wrong.
    pub problems: Problems,
    /// Every file that is referred to, each once.
    pub files: Vec<PathBuf>,
    /// What is being read, for messages: a key in backticks, or the file.
    key: String,
}

/// A JSON Schema.
pub type Schema = Json;

/// A type that a user can write.
pub trait Read: Sized {
    /// Reads a node; where there is none to be had, notes why and gives `None`.
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self>;

    /// The value of a key that is not there; `None` where the key is required. `at` is the mapping that lacks it.
    fn absent(_at: Position) -> Option<Self> {
        None
    }

    /// Its JSON Schema; by default that of text.
    fn schema() -> Schema {
        serde_json::json!({ "type": "string" })
    }
}

impl<'a> Reader<'a> {
    /// An empty collection of problems.
    pub fn new(env: Env<'a>) -> Self {
        Self { env, problems: Problems::default(), files: Vec::new(), key: "the file".to_owned() }
    }

    /// Notes that the value of the current key is not what it must be. Nothing of the value is repeated.
    pub fn must_be(&mut self, at: Position, what: &str) {
        let message = format!("{} must be {what}", self.key);
        self.problems.add(at, message);
    }

    /// Notes that the value of the current key is not what it must be, and repeats it as it stands in the file (never
    /// what a variable in it stands for).
    pub fn wrong(&mut self, node: &Node, what: &str) {
        match &node.value {
            Value::Scalar(text, _) => {
                let echo: String = text.chars().take(MAX_ECHO).collect();
                let message = format!("{}: `{echo}` is not {what}", self.key);
                self.problems.add(node.at, message);
            }
            _ => self.must_be(node.at, what),
        }
    }

    /// The text of a scalar with its variables put in.
    pub fn text(&mut self, node: &Node, what: &str) -> Option<String> {
        let Value::Scalar(text, _) = &node.value else {
            self.must_be(node.at, what);
            return None;
        };
        if node.is_null() {
            self.must_be(node.at, what);
            return None;
        }
        match env::expand(text, self.env) {
            Ok(text) => Some(text.into_owned()),
            Err(message) => {
                let message = format!("{}: {message}", self.key);
                self.problems.add(node.at, message);
                None
            }
        }
    }

    /// A scalar that some function understands.
    pub fn parsed<T>(&mut self, node: &Node, what: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let text = self.text(node, what)?;
        let value = parse(text.trim());
        if value.is_none() {
            self.wrong(node, what);
        }
        value
    }

    /// One of some words, and what it means.
    pub fn word<T: Copy>(&mut self, node: &Node, what: &str, words: impl Iterator<Item = (&'static str, T)>) -> Option<T> {
        self.word_or(node, what, words, &[])
    }

    /// The same with other words for them, which are not taken and answered with the right one.
    pub fn word_or<T: Copy>(
        &mut self,
        node: &Node,
        what: &str,
        words: impl Iterator<Item = (&'static str, T)>,
        others: &[(&str, &'static str)],
    ) -> Option<T> {
        let words: Vec<_> = words.collect();
        let names: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        let what = format!("{what}: {}", names.join(", "));
        let text = self.text(node, &what)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text.trim()) {
            return Some(*value);
        }
        let alike = text.trim().to_lowercase().replace(['-', ' ', '.'], "_");
        let other = others.iter().find(|(other, _)| *other == alike).map(|(_, name)| *name).filter(|name| names.contains(name));
        let near = other.or_else(|| near::nearest(&alike, names.iter().copied(), 1).first().copied());
        let hint = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        self.wrong(node, &format!("{what}{hint}"));
        None
    }

    /// The entries of a mapping.
    pub fn map<'n>(&mut self, node: &'n Node) -> Option<&'n [(Key, Node)]> {
        match &node.value {
            Value::Map(entries) => Some(entries),
            _ => {
                self.must_be(node.at, "a mapping (`key: value`)");
                None
            }
        }
    }

    /// The items of a list.
    pub fn list<'n>(&mut self, node: &'n Node) -> Option<&'n [Node]> {
        match &node.value {
            Value::List(items) => Some(items),
            _ => {
                self.must_be(node.at, "a list (`[…]`)");
                None
            }
        }
    }

    /// The entries of a mapping that may only have the keys of `S`.
    pub fn section<'n, S: Section>(&mut self, node: &'n Node) -> Option<Entries<'n>> {
        let before = self.problems.count();
        let (list, keys) = (self.map(node)?, S::keys());
        for (key, node) in list {
            if keys.contains(&key.text.as_str()) {
                continue;
            }
            let glued = key.text.split_once(':').filter(|(name, _)| keys.contains(name));
            let hint = match (glued, near::nearest(&key.text, keys.iter().copied(), 1).first()) {
                (Some((name, _)), _) => format!("; a space is missing after `{name}:`"),
                (None, Some(name)) => format!("; did you mean `{name}`?"),
                (None, None) => format!("; the keys here are {}", keys.join(", ")),
            };
            self.problems.add(key.at, format!("unknown key `{}`{hint}", shown_key(&key.text, node.is_null())));
        }
        Some(Entries { at: node.at, list, before })
    }

    /// A key of a section: its value, else its default, else what its type says of absence.
    pub fn field<T: Read>(&mut self, entries: &Entries<'_>, name: &'static str, default: Option<&str>) -> Option<T> {
        let node = entries.written(name).map(|(_, node)| node);
        if let Some(value) = node.and_then(|node| self.keyed(name, |cx| T::read(node, cx))) {
            return Some(value);
        }
        let value = match default {
            Some(text) => T::read(&default_node(text, entries.at), self),
            None => T::absent(entries.at),
        };
        if value.is_none() && node.is_none() {
            self.problems.add(entries.at, format!("`{name}` is missing"));
        }
        value
    }

    /// Reads something under another key.
    pub(super) fn keyed<T>(&mut self, name: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        let outer = std::mem::replace(&mut self.key, format!("`{name}`"));
        let value = read(self);
        self.key = outer;
        value
    }
}
