//! The types of values that any section may have: with their place, optional, in lists, by name; text, numbers, secrets.

use super::problem::Position;
use super::read::{Read, Reader};
use super::section::section;
use super::tree::{Key, Node, Value, shown_key};
use crate::secret::Secret;
use serde_json::{Value as Json, json};
use std::path::PathBuf;

/// A value with its place, for checks that come later.
#[derive(Clone, Debug)]
pub struct At<T> {
    /// Where it stands.
    pub at: Position,
    /// The value.
    pub value: T,
}

impl<T: Read> Read for At<T> {
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        T::read(node, cx).map(|value| Self { at: node.at, value })
    }

    fn absent(at: Position) -> Option<Self> {
        T::absent(at).map(|value| Self { at, value })
    }

    fn schema() -> Json {
        T::schema()
    }
}

impl<T: Read> Read for Option<T> {
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        T::read(node, cx).map(Some)
    }

    fn absent(_at: Position) -> Option<Self> {
        Some(None)
    }

    fn schema() -> Json {
        T::schema()
    }
}

/// Items that are wrong are left out; their problems stand.
impl<T: Read> Read for Vec<T> {
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        let items = cx.list(node)?;
        Some(items.iter().filter_map(|item| T::read(item, cx)).collect())
    }

    fn absent(_at: Position) -> Option<Self> {
        Some(Vec::new())
    }

    fn schema() -> Json {
        json!({ "type": "array", "items": T::schema() })
    }
}

/// A list that may not be empty.
pub struct Some1<T>(pub Vec<T>);

impl<T: Read> Read for Some1<T> {
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        if cx.list(node)?.is_empty() {
            cx.must_be(node.at, "a list with at least one entry");
        }
        Vec::read(node, cx).map(Self)
    }

    fn schema() -> Json {
        json!({ "type": "array", "items": T::schema(), "minItems": 1 })
    }
}

/// What the user gives names to. An entry whose value is wrong keeps its name, so that uses of it are not wrong too.
pub struct Named<T> {
    /// Name and value, in the order of the file.
    pub entries: Vec<(At<String>, Option<T>)>,
    /// Whether it could be read; where it could not, nothing is known of the names.
    pub known: bool,
}

impl<T: Read> Read for Named<T> {
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        let Some(entries) = cx.map(node) else { return Some(Self { entries: Vec::new(), known: false }) };
        let entry = |(key, node): &(Key, Node)| {
            let shown = if node.is_null() { shown_key(&key.text, true) } else { key.text.as_str().into() };
            let value = cx.keyed(&shown, |cx| T::read(node, cx));
            (At { at: key.at, value: key.text.clone() }, value)
        };
        Some(Self { entries: entries.iter().map(entry).collect(), known: true })
    }

    fn absent(_at: Position) -> Option<Self> {
        Some(Self { entries: Vec::new(), known: true })
    }

    fn schema() -> Json {
        json!({ "type": "object", "additionalProperties": T::schema() })
    }
}

impl Read for String {
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        cx.text(node, "text")
    }
}

/// A value that is text in the file: its Rust type, what messages call it, its schema, and how it is read.
macro_rules! scalars {
    ($($(#[$doc:meta])* $name:ident($inner:ty), $what:literal, $schema:tt, $parse:expr;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name(pub $inner);

        scalars!($name, $what, $schema, |text| { let parse: fn(&str) -> Option<$inner> = $parse; parse(text).map($name) });
    )+};
    ($name:ty, $what:literal, $schema:tt, $parse:expr) => {
        impl $crate::yaml::read::Read for $name {
            fn read(node: &$crate::yaml::tree::Node, cx: &mut $crate::yaml::read::Reader<'_>) -> Option<Self> {
                cx.parsed(node, $what, $parse)
            }

            fn schema() -> $crate::yaml::read::Schema {
                serde_json::json!($schema)
            }
        }
    };
}
pub(crate) use scalars;

scalars! {
    /// `max_tokens`.
    Tokens(u32), "a number of tokens from 1 to 10000000", { "type": "integer", "minimum": 1, "maximum": 10_000_000 },
        |text| within(text, 1, 10_000_000).map(|n| n as u32);
}

scalars!(PathBuf, "the path of a file", { "type": "string" }, |text| (!text.is_empty()).then(|| text.into()));
scalars!(bool, "true or false", { "type": "boolean" }, |text| text.parse().ok());
scalars!(u64, "a whole number", { "type": "integer", "minimum": 0 }, |text| text.parse().ok());
scalars!(usize, "a whole number", { "type": "integer", "minimum": 0 }, |text| text.parse().ok());

/// A whole number from `from` to `to`.
pub fn within(text: &str, from: u64, to: u64) -> Option<u64> {
    text.parse().ok().filter(|n| (from..=to).contains(n))
}

/// A value, or the word `none`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrNone<T>(pub Option<T>);

impl<T: Read> Read for OrNone<T> {
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        match &node.value {
            Value::Scalar(text, true) if text == "none" => Some(Self(None)),
            _ => T::read(node, cx).map(|value| Self(Some(value))),
        }
    }

    fn schema() -> Json {
        json!({ "anyOf": [{ "enum": ["none"] }, T::schema()] })
    }
}

/// A mapping as a list of its members, in the order of the file.
impl<K: Read> Read for Vec<(K, String)> {
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        let mut pairs = Vec::new();
        for (key, value) in cx.map(node)? {
            let key = K::read(&Node::plain(&key.text, key.at), cx);
            pairs.extend(key.zip(String::read(value, cx)));
        }
        Some(pairs)
    }

    fn absent(_at: Position) -> Option<Self> {
        Some(Vec::new())
    }

    fn schema() -> Json {
        json!({ "type": "object" })
    }
}

section! {
    /// A file with a secret.
    SecretFile {
        /// Its path. White space around the secret is not part of it; a changed file is a changed configuration.
        file: At<PathBuf>,
    }
}

/// A credential, or the file that holds it; messages never repeat it.
#[derive(Clone)]
pub enum SecretValue {
    /// Written in the configuration.
    Text(Secret),
    /// In a file: `{ file: PATH }`.
    File(At<PathBuf>),
}

impl Read for SecretValue {
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        if matches!(node.value, Value::Map(_)) {
            return SecretFile::read(node, cx).map(|secret| Self::File(secret.file));
        }
        let text = cx.text(node, "text, or { file: PATH }")?;
        secret(text).map(Self::Text).map_err(|what| cx.must_be(node.at, what)).ok()
    }

    fn schema() -> Json {
        json!({ "anyOf": [{ "type": "string" }, SecretFile::schema()] })
    }
}

/// A credential without white space around it.
///
/// # Errors
/// What it must be.
pub fn secret(text: String) -> Result<Secret, &'static str> {
    let text = zeroize::Zeroizing::new(text);
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Err("set; it is empty");
    }
    if trimmed.chars().any(|c| c.is_control()) {
        return Err("one line without control characters");
    }
    Ok(Secret::new(trimmed.to_owned()))
}
