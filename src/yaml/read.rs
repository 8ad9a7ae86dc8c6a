//! Taking a [`Node`] tree apart with types, without stopping at the first problem.
//!
//! [`section!`] and [`words!`] make the user's types: one list of keys with their documentation and defaults, from
//! which come the struct, its strict reader and its JSON Schema, so that these cannot drift apart. A key that is wrong
//! is noted and read as if it were absent; only a required key that is wrong makes its whole section unusable.

use super::env::{self, Env};
use super::problem::{Position, Problems};
use super::tree::{Key, Node, Value, shown_key};
use crate::near;
use serde_json::{Map as JsonMap, Value as Json, json};
use std::path::PathBuf;

/// Longest piece of a value that a message repeats, in characters.
const MAX_ECHO: usize = 60;

/// What a reading collects.
pub struct Reader<'a> {
    /// Where variables come from.
    pub env: Env<'a>,
    /// What was wrong.
    pub problems: Problems,
    /// The key whose value is being read, for messages.
    key: String,
}

/// A type that a user can write.
pub trait Read: Sized {
    /// Reads a node; where there is none to be had, notes why and gives `None`.
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self>;

    /// The value of a key that is not there; `None` where the key is required. `at` is the mapping that lacks it.
    fn absent(_at: Position) -> Option<Self> {
        None
    }

    /// Its JSON Schema.
    fn schema() -> Json;
}

impl<'a> Reader<'a> {
    /// An empty collection of problems.
    pub fn new(env: Env<'a>) -> Self {
        Self { env, problems: Problems::default(), key: "the configuration".to_owned() }
    }

    /// Notes that the value of the current key is not what it must be. Nothing of the value is repeated.
    pub fn must_be(&mut self, at: Position, what: &str) {
        let message = format!("`{}` must be {what}", self.key);
        self.problems.add(at, message);
    }

    /// Notes that the value of the current key is not what it must be, and repeats it as it stands in the file (never
    /// what a variable in it stands for).
    pub fn wrong(&mut self, node: &Node, what: &str) {
        match &node.value {
            Value::Scalar(text, _) => {
                let echo: String = text.chars().take(MAX_ECHO).collect();
                let message = format!("`{}`: `{echo}` is not {what}", self.key);
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
                let message = format!("`{}`: {message}", self.key);
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
        let text = self.text(node, what)?;
        let words: Vec<_> = words.collect();
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text.trim()) {
            return Some(*value);
        }
        let names: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        let alike = text.trim().to_lowercase().replace(['-', ' ', '.'], "_");
        let other = others.iter().find(|(other, _)| *other == alike).map(|(_, name)| *name).filter(|name| names.contains(name));
        let near = other.or_else(|| near::nearest(&alike, names.iter().copied(), 1).first().copied());
        let hint = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        self.wrong(node, &format!("{what}: {}{hint}", names.join(", ")));
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

    /// The entries of a mapping that may only have these keys.
    pub fn section<'n>(&mut self, node: &'n Node, keys: &[&'static str]) -> Option<&'n [(Key, Node)]> {
        let entries = self.map(node)?;
        for (key, node) in entries {
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
        Some(entries)
    }

    /// A key of a section: its value, else its default, else what its type says of absence.
    pub fn field<T: Read>(&mut self, at: Position, entries: &[(Key, Node)], name: &'static str, default: Option<&str>) -> Option<T> {
        let node = entries.iter().find(|(key, _)| key.text == name).map(|(_, node)| node).filter(|node| !node.is_null());
        if let Some(value) = node.and_then(|node| self.keyed(name, |cx| T::read(node, cx))) {
            return Some(value);
        }
        let value = match default {
            Some(text) => T::read(&default_node(text, at), self),
            None => T::absent(at),
        };
        if value.is_none() && node.is_none() {
            self.problems.add(at, format!("`{name}` is missing"));
        }
        value
    }

    /// Reads something under another key.
    fn keyed<T>(&mut self, name: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        let outer = std::mem::replace(&mut self.key, name.to_owned());
        let value = read(self);
        self.key = outer;
        value
    }
}

/// The node of a default: a flow list or mapping, else a scalar.
fn default_node(text: &str, at: Position) -> Node {
    if text.starts_with(['[', '{']) {
        return super::tree::parse(text, &mut Problems::default()).unwrap_or_else(|| Node::plain("", at));
    }
    Node::plain(text, at)
}

/// A key of a section, as its schema says it.
pub struct FieldSchema {
    /// The key.
    pub name: &'static str,
    /// Lines of its documentation.
    pub docs: &'static [&'static str],
    /// The schema of its type.
    pub schema: Json,
    /// Its default as the user would write it.
    pub default: Option<&'static str>,
    /// Whether it must be there.
    pub required: bool,
}

/// The schema of a section, from what [`section!`] lists.
pub fn section_schema(docs: &[&str], fields: Vec<FieldSchema>) -> Json {
    let required: Vec<_> = fields.iter().filter(|field| field.required).map(|field| field.name).collect();
    let properties: JsonMap<_, _> = fields.into_iter().map(|field| (field.name.to_owned(), field.described())).collect();
    let mut schema = json!({ "type": "object", "description": joined(docs), "properties": properties, "additionalProperties": false });
    if let (Some(object), false) = (schema.as_object_mut(), required.is_empty()) {
        object.insert("required".to_owned(), json!(required));
    }
    schema
}

impl FieldSchema {
    /// The type's schema with the key's documentation and default.
    fn described(self) -> Json {
        let mut schema = self.schema;
        let is_text = schema.get("type").is_some_and(|kind| kind == "string");
        if let Some(object) = schema.as_object_mut() {
            object.insert("description".to_owned(), Json::String(joined(self.docs)));
            if let Some(text) = self.default {
                let json = super::json::of_node(&default_node(text, Position::START)).filter(|_| !is_text);
                object.insert("default".to_owned(), json.unwrap_or_else(|| Json::String(text.to_owned())));
            }
        }
        schema
    }
}

fn joined(docs: &[&str]) -> String {
    docs.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

/// A section of the file: the struct, its reader and its schema. A key is written `name: Type` or
/// `name: Type = "default as the user would write it"`; its documentation is the schema's description.
macro_rules! section {
    ($(#[doc = $doc:literal])+ $name:ident { $($(#[doc = $field_doc:literal])+ $field:ident : $type:ty $(= $default:literal)?),+ $(,)? }) => {
        $(#[doc = $doc])+
        pub struct $name {
            /// Where it begins.
            pub at: $crate::yaml::problem::Position,
            /// Whether nothing in it was wrong; checks that would only repeat a problem look here.
            pub sound: bool,
            /// The keys that were written with a value, and where.
            pub written: Vec<(&'static str, $crate::yaml::problem::Position)>,
            $($(#[doc = $field_doc])+ pub $field: $type),+
        }

        impl $name {
            /// Its keys.
            pub const KEYS: &'static [&'static str] = &[$(stringify!($field)),+];
        }

        impl $crate::yaml::read::Read for $name {
            fn read(node: &$crate::yaml::tree::Node, cx: &mut $crate::yaml::read::Reader<'_>) -> Option<Self> {
                let before = cx.problems.count();
                let entries = cx.section(node, Self::KEYS)?;
                let at = node.at;
                $(let $field = cx.field::<$type>(at, entries, stringify!($field), section!(@default $($default)?));)+
                let is = |name: &str, (key, node): &($crate::yaml::tree::Key, $crate::yaml::tree::Node)| key.text == name && !node.is_null();
                let written = |name: &&'static str| entries.iter().find(|entry| is(name, entry)).map(|(key, _)| (*name, key.at));
                let written = Self::KEYS.iter().filter_map(written).collect();
                Some(Self { at, sound: cx.problems.count() == before, written, $($field: $field?),+ })
            }

            fn schema() -> serde_json::Value {
                use $crate::yaml::problem::Position;
                use $crate::yaml::read::{FieldSchema, Read, section_schema};
                section_schema(&[$($doc),+], vec![$({
                    let default = section!(@default $($default)?);
                    FieldSchema {
                        name: stringify!($field),
                        docs: &[$($field_doc),+],
                        schema: <$type as Read>::schema(),
                        default,
                        required: default.is_none() && <$type as Read>::absent(Position::START).is_none(),
                    }
                }),+])
            }
        }
    };
    (@default) => { None::<&'static str> };
    (@default $default:literal) => { Some($default) };
}

/// A closed set of words: the reader and the schema of an enum, each variant with the user's word for it.
macro_rules! words {
    ($type:ty, $what:literal { $($variant:ident = $word:literal),+ $(,)? }) => {
        impl $crate::yaml::read::Words for $type {
            const WORDS: &'static [(&'static str, Self)] = &[$(($word, <$type>::$variant)),+];
        }

        impl $crate::yaml::read::Read for $type {
            fn read(node: &$crate::yaml::tree::Node, cx: &mut $crate::yaml::read::Reader<'_>) -> Option<Self> {
                cx.word(node, $what, <Self as $crate::yaml::read::Words>::WORDS.iter().copied())
            }

            fn schema() -> serde_json::Value {
                serde_json::json!({ "type": "string", "enum": [$($word),+] })
            }
        }
    };
}

pub(crate) use {section, words};

/// A closed set of words.
pub trait Words: Copy + PartialEq + 'static {
    /// The user's words and what they mean.
    const WORDS: &'static [(&'static str, Self)];

    /// The user's word for it.
    fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, value)| *value == self).map_or("", |(word, _)| word)
    }
}

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

    fn schema() -> Json {
        json!({ "type": "string" })
    }
}

impl Read for PathBuf {
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        cx.parsed(node, "the path of a file", |text| (!text.is_empty()).then(|| text.into()))
    }

    fn schema() -> Json {
        json!({ "type": "string" })
    }
}

impl Read for bool {
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        cx.parsed(node, "true or false", |text| text.parse().ok())
    }

    fn schema() -> Json {
        json!({ "type": "boolean" })
    }
}
