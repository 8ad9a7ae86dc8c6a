//! Sections and closed sets of words, from one list each.
//!
//! [`section!`] takes a list of keys with their documentation and defaults and makes the struct, its strict reader and its JSON
//! Schema, so that these cannot drift apart. [`words!`] does the same for enums.

use super::problem::{Position, Problems};
use super::read::{Read, Reader};
use super::tree::{Key, Node};
use serde_json::{Map as JsonMap, Value as Json, json};
use std::borrow::Cow;

/// A mapping with known keys; by default it has none. A pair of sections is a section with the keys of both.
pub trait Section: Sized {
    /// Its keys.
    fn keys() -> Cow<'static, [&'static str]> {
        Cow::Borrowed(&[])
    }

    /// Its own keys of a mapping that may have more.
    fn of(entries: &Entries<'_>, cx: &mut Reader<'_>) -> Option<Self>;

    /// Lines of its documentation.
    fn docs() -> &'static [&'static str] {
        &[]
    }

    /// Its keys, for a schema.
    fn fields() -> Vec<FieldSchema> {
        Vec::new()
    }
}

impl<S: Section> Read for S {
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        let entries = cx.section::<S>(node)?;
        S::of(&entries, cx)
    }

    fn schema() -> Json {
        let fields = S::fields();
        let required: Vec<_> = fields.iter().filter(|field| field.required).map(|field| field.name).collect();
        let properties: JsonMap<_, _> = fields.into_iter().map(|field| (field.name.to_owned(), field.described())).collect();
        let docs = joined(S::docs());
        let mut schema = json!({ "type": "object", "description": docs, "properties": properties, "additionalProperties": false });
        if let (Some(object), false) = (schema.as_object_mut(), required.is_empty()) {
            object.insert("required".to_owned(), json!(required));
        }
        schema
    }
}

impl<A: Section, B: Section> Section for (A, B) {
    fn keys() -> Cow<'static, [&'static str]> {
        [&A::keys()[..], &B::keys()[..]].concat().into()
    }

    fn of(entries: &Entries<'_>, cx: &mut Reader<'_>) -> Option<Self> {
        let (a, b) = (A::of(entries, cx), B::of(entries, cx));
        Some((a?, b?))
    }

    fn docs() -> &'static [&'static str] {
        A::docs()
    }

    fn fields() -> Vec<FieldSchema> {
        let mut fields = A::fields();
        fields.extend(B::fields());
        fields
    }
}

impl Section for () {
    fn of(_: &Entries<'_>, _: &mut Reader<'_>) -> Option<Self> {
        Some(())
    }
}

/// The entries of a mapping that is read as a section.
pub struct Entries<'n> {
    /// Where it begins.
    pub at: Position,
    /// All of them.
    pub list: &'n [(Key, Node)],
    /// How many problems there were before it.
    pub before: usize,
}

impl Entries<'_> {
    /// The entry of a key that was written with a value.
    pub fn written(&self, name: &str) -> Option<(Position, &Node)> {
        let (key, node) = self.list.iter().find(|(key, _)| key.text == name)?;
        (!node.is_null()).then_some((key.at, node))
    }

    /// Those of `keys` that were written with a value, and where.
    pub fn all_written(&self, keys: &[&'static str]) -> Vec<(&'static str, Position)> {
        keys.iter().filter_map(|name| Some((*name, self.written(name)?.0))).collect()
    }
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

/// The node of a default: a flow list or mapping, else a scalar.
pub(super) fn default_node(text: &str, at: Position) -> Node {
    if text.starts_with(['[', '{']) {
        return super::tree::parse(text, &mut Problems::default()).unwrap_or_else(|| Node::plain("", at));
    }
    Node::plain(text, at)
}

/// A section of the file. A key is written `name: Type` or `name: Type = "default as the user would write it"`; its
/// documentation is the schema's description. The struct has a position beside its keys, unless `plain` stands before it.
macro_rules! section {
    ($($(#[doc = $doc:literal])+ $name:ident { $($(#[doc = $field_doc:literal])+ $field:ident : $type:ty $(= $default:literal)?),+ $(,)? })+) => {$(
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

        section!(@impl [$($doc),+] $name {
            at: |entries, _| entries.at,
            written: |entries, _| entries.all_written(&<$name as $crate::yaml::section::Section>::keys()),
            sound: |entries, cx| cx.problems.count() == entries.before,
        } { $($(#[doc = $field_doc])+ $field : $type $(= $default)?),+ });
    )+};
    (plain $($(#[doc = $doc:literal])+ $name:ident { $($(#[doc = $field_doc:literal])+ $field:ident : $type:ty $(= $default:literal)?),+ $(,)? })+) => {$(
        $(#[doc = $doc])+
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name {
            $($(#[doc = $field_doc])+ pub $field: $type),+
        }

        section!(@impl [$($doc),+] $name {} { $($(#[doc = $field_doc])+ $field : $type $(= $default)?),+ });
    )+};
    (@impl [$($doc:literal),+] $name:ident { $($own:ident : |$entries:pat_param, $cx:pat_param| $value:expr,)* } {
        $($(#[doc = $field_doc:literal])+ $field:ident : $type:ty $(= $default:literal)?),+
    }) => {
        impl $crate::yaml::section::Section for $name {
            fn keys() -> std::borrow::Cow<'static, [&'static str]> {
                std::borrow::Cow::Borrowed(&[$(stringify!($field)),+])
            }

            fn of(entries: &$crate::yaml::section::Entries<'_>, cx: &mut $crate::yaml::read::Reader<'_>) -> Option<Self> {
                $(let $field = cx.field::<$type>(entries, stringify!($field), section!(@default $($default)?));)+
                $(let $own = { let ($entries, $cx) = (entries, &*cx); $value };)*
                Some(Self { $($own,)* $($field: $field?),+ })
            }

            fn docs() -> &'static [&'static str] {
                &[$($doc),+]
            }

            fn fields() -> Vec<$crate::yaml::section::FieldSchema> {
                use $crate::yaml::problem::Position;
                use $crate::yaml::read::Read;
                vec![$({
                    let default = section!(@default $($default)?);
                    $crate::yaml::section::FieldSchema {
                        name: stringify!($field),
                        docs: &[$($field_doc),+],
                        schema: <$type as Read>::schema(),
                        default,
                        required: default.is_none() && <$type as Read>::absent(Position::START).is_none(),
                    }
                }),+]
            }
        }
    };
    (@default) => { None::<&'static str> };
    (@default $default:literal) => { Some($default) };
}

/// Enums whose variants are words of the file: each with its words, its reader and its schema.
macro_rules! words {
    ($($(#[doc = $doc:literal])+ $name:ident { $($(#[doc = $about:literal])+ $variant:ident = $word:literal),+ $(,)? })+) => {$(
        $crate::closed_set::closed_set! {
            $(#[doc = $doc])+
            $name { $($(#[doc = $about])+ $variant = $word),+ }
        }

        impl $crate::yaml::read::Read for $name {
            fn read(node: &$crate::yaml::tree::Node, cx: &mut $crate::yaml::read::Reader<'_>) -> Option<Self> {
                cx.word(node, "one of", Self::ALL.iter().map(|value| (value.name(), *value)))
            }

            fn schema() -> $crate::yaml::read::Schema {
                serde_json::json!({ "type": "string", "enum": [$($word),+] })
            }
        }
    )+};
}

pub(crate) use {section, words};
