//! The parameters of a tool as one plain object, for targets that take no union at the top.
//!
//! A union is folded, not wrapped into a property of its own: the arguments of a call keep the shape that the client's
//! schema gives them, so that nothing has to be unpacked from an answer and nothing packed into a history. The object has
//! the properties of all branches, and requires what every branch requires. Which of them belong together is said in the
//! description.

use super::rules::CONSTRAINTS;
use super::{Member, describe, elements, members};
use crate::json::text::Text;
use crate::json::walk;
use crate::json::write::Writer;
use std::borrow::Cow;

/// Deepest union inside of a union that is folded.
const MAX_FOLDS: usize = 16;
/// Longest union that stands in the description as it came, in bytes; of a longer one only the names stand there.
const MAX_WORDS: usize = 2048;
/// Keywords that make a schema a union of others, or another schema.
const COMBINING: [&str; 4] = ["allOf", "anyOf", "oneOf", "$ref"];

/// An object's properties, each with its schemas, and which of them are required; raw JSON strings without quotes.
#[derive(Clone, Debug, Default)]
struct Fold {
    properties: Vec<(String, Vec<String>)>,
    required: Vec<String>,
}

/// The schema as a plain object; `None` where its top is no union.
pub(super) fn plain(schema: &str) -> Option<String> {
    let top = members(schema).ok()?;
    if !top.iter().any(|(key, _)| COMBINING.contains(&&**key)) {
        return None;
    }
    let mut fold = Fold::default();
    fold.add(&top, &top, 0);
    let words = words(&top);
    let mut w = Writer::with_capacity(schema.len() + 256);
    w.object();
    let mut described = words.is_empty();
    for (key, value) in &top {
        match &**key {
            name if COMBINING.contains(&name) || matches!(name, "properties" | "required" | "enum" | "not") => {}
            "description" if !described && value.starts_with('"') => {
                described = true;
                describe(&mut w, value, &words);
            }
            _ => {
                w.key(key).raw(value);
            }
        }
    }
    if !described {
        w.key("description").string(&words);
    }
    fold.write(&mut w);
    w.end_object();
    Some(w.into_string())
}

/// A schema with `type`, `properties` and `required` alone, what else it says as words, and whether a constraint is among
/// them. `None` where it has nothing else.
pub(super) fn bare(schema: &str) -> Option<(String, String, bool)> {
    let top = members(schema).ok()?;
    let is_bare = |key: &str| matches!(key, "type" | "properties" | "required");
    if top.iter().all(|(key, _)| is_bare(key)) {
        return None;
    }
    let (mut w, mut note, mut words) = (Writer::with_capacity(schema.len()), String::new(), String::new());
    w.object();
    for (key, value) in &top {
        match &**key {
            name if is_bare(name) => {
                w.key(name).raw(value);
            }
            "description" => note = walk::string(value).map(|text| text.decode().into_owned()).unwrap_or_default(),
            name if CONSTRAINTS.contains(&name) => {
                words.push_str(if words.is_empty() { "{" } else { ", " });
                words.extend([name, ": ", value]);
            }
            _ => {}
        }
    }
    w.end_object();
    let lost = !words.is_empty();
    if lost {
        note.extend([if note.is_empty() { "" } else { "\n\n" }, &words, "}"]);
    }
    Some((String::from_utf8(w.finish()).ok()?, note, lost))
}

impl Fold {
    /// Adds what a schema says of its object; `top` has the definitions.
    fn add(&mut self, schema: &[Member<'_>], top: &[Member<'_>], depth: usize) {
        for (key, value) in schema {
            match &**key {
                "properties" => self.properties(value),
                "required" => elements(value).unwrap_or_default().iter().for_each(|name| self.require(name)),
                "$ref" if depth < MAX_FOLDS => {
                    if let Some(target) = resolve(value, top) {
                        self.add(&members(target).unwrap_or_default(), top, depth + 1);
                    }
                }
                "allOf" if depth < MAX_FOLDS => {
                    for branch in elements(value).unwrap_or_default() {
                        self.add(&members(branch).unwrap_or_default(), top, depth + 1);
                    }
                }
                "anyOf" | "oneOf" if depth < MAX_FOLDS => self.choose(value, top, depth),
                _ => {}
            }
        }
    }

    /// Adds a choice of schemas: what any of them has, and what all of them require.
    fn choose(&mut self, branches: &str, top: &[Member<'_>], depth: usize) {
        let mut common: Option<Vec<String>> = None;
        for branch in elements(branches).unwrap_or_default() {
            let mut one = Self::default();
            one.add(&members(branch).unwrap_or_default(), top, depth + 1);
            for (name, schemas) in one.properties {
                schemas.into_iter().for_each(|schema| self.property(&name, schema));
            }
            common = Some(match common {
                None => one.required,
                Some(common) => common.into_iter().filter(|name| one.required.contains(name)).collect(),
            });
        }
        common.unwrap_or_default().into_iter().for_each(|name| self.require_name(name));
    }

    fn properties(&mut self, object: &str) {
        let Ok(mut named) = walk::members(object) else { return };
        while let Ok(Some((name, schema))) = named.next() {
            self.property(&name.decode(), schema.to_owned());
        }
    }

    fn property(&mut self, name: &str, schema: String) {
        match self.properties.iter_mut().find(|(known, _)| known == name) {
            None => self.properties.push((name.to_owned(), vec![schema])),
            Some((_, schemas)) if schemas.contains(&schema) => {}
            Some((_, schemas)) => schemas.push(schema),
        }
    }

    fn require(&mut self, name: &str) {
        if let Some(name) = walk::string(name) {
            self.require_name(name.decode().into_owned());
        }
    }

    fn require_name(&mut self, name: String) {
        if !self.required.contains(&name) {
            self.required.push(name);
        }
    }

    fn write(&self, w: &mut Writer) {
        w.key("properties").object();
        for (name, schemas) in &self.properties {
            w.key(name);
            match schemas.as_slice() {
                [one] => w.raw(one),
                several => w.object().key("anyOf").raw_list(several.iter().map(String::as_str)).end_object(),
            };
        }
        w.end_object();
        let known = |name: &&String| self.properties.iter().any(|(property, _)| property == *name);
        if self.required.iter().any(|name| known(&name)) {
            w.key("required").text_list(self.required.iter().filter(known).map(|name| Text::Plain(name)));
        }
    }
}

/// The definition that a reference names.
pub(super) fn resolve<'a>(reference: &str, top: &'a [Member<'_>]) -> Option<&'a str> {
    let reference = walk::string(reference)?.decode();
    let (place, name) = reference.strip_prefix("#/")?.split_once('/')?;
    let (_, definitions) = top.iter().find(|(key, _)| key == place)?;
    walk::members(definitions).ok()?.find(name).ok()?
}

/// The unions as words; none where all of them are conjunctions, with which nothing is lost.
fn words(top: &[Member<'_>]) -> String {
    let mut words = String::new();
    for (key, value) in top.iter().filter(|(key, _)| matches!(&**key, "anyOf" | "oneOf" | "enum" | "not")) {
        words.push_str(if words.is_empty() { "{" } else { ", " });
        words.extend([key, ": "]);
        if value.len() <= MAX_WORDS {
            words.push_str(value);
        } else {
            words.push_str(&names(value, top));
        }
    }
    words.extend((!words.is_empty()).then_some('}'));
    words
}

/// The property names of each branch, the optional ones with a question mark: `[a, b?] or [c]`.
fn names(branches: &str, top: &[Member<'_>]) -> String {
    let name = |fold: &Fold| {
        let names = fold.properties.iter().map(|(name, _)| {
            let mark = if fold.required.contains(name) { "" } else { "?" };
            Cow::Owned::<str>(format!("{name}{mark}"))
        });
        format!("[{}]", names.collect::<Vec<_>>().join(", "))
    };
    let branches = elements(branches).unwrap_or_default().into_iter().map(|branch| {
        let mut fold = Fold::default();
        fold.add(&members(branch).unwrap_or_default(), top, 1);
        name(&fold)
    });
    branches.collect::<Vec<_>>().join(" or ")
}
