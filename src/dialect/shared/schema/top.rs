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
use std::collections::{HashMap, HashSet};

/// Deepest union inside of a union that is folded.
const MAX_FOLDS: usize = 16;
/// Least number of bytes of definitions that are folded in for references, each as often as it is referred to. Definitions that
/// refer to each other several times would be folded without end.
const MIN_ROOM: usize = 1 << 20;
/// Longest union that stands in the description as it came, in bytes; of a longer one only the names stand there.
const MAX_WORDS: usize = 2048;
/// Keywords that make a schema a union of others, or another schema.
const COMBINING: [&str; 4] = ["allOf", "anyOf", "oneOf", "$ref"];

/// An object's properties, each with its schemas, and which of them are required, both in their order.
#[derive(Debug, Default)]
struct Fold<'s> {
    properties: Vec<(Cow<'s, str>, Vec<&'s str>)>,
    /// The place of each property.
    places: HashMap<Cow<'s, str>, usize>,
    /// The schemas of all properties, each with the property's place.
    schemas: HashSet<(usize, &'s str)>,
    required: Vec<Cow<'s, str>>,
    is_required: HashSet<Cow<'s, str>>,
}

/// The schemas that references can name, by their place and their name, and how many bytes of them may still be folded in.
pub(super) struct Definitions<'s> {
    by_place: HashMap<&'s str, HashMap<Cow<'s, str>, &'s str>>,
    room: usize,
}

/// The schema as a plain object; `None` where its top is no union.
pub(super) fn plain(schema: &str) -> Option<String> {
    let top = members(schema).ok()?;
    if !top.iter().any(|(key, _)| COMBINING.contains(&&**key)) {
        return None;
    }
    let mut fold = Fold::default();
    fold.add(&top, &mut Definitions::of(schema, &top), 0);
    let words = words(&top, &mut Definitions::of(schema, &top));
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
    Some((w.into_string(), note, lost))
}

impl<'s> Fold<'s> {
    /// Adds what a schema says of its object.
    fn add(&mut self, schema: &[Member<'s>], definitions: &mut Definitions<'s>, depth: usize) {
        for (key, value) in schema {
            let Cow::Borrowed(value) = *value else { continue };
            match &**key {
                "properties" => self.properties(value),
                "required" => elements(value).unwrap_or_default().into_iter().for_each(|name| self.require(name)),
                "$ref" if depth < MAX_FOLDS => {
                    if let Some(target) = definitions.take(value) {
                        self.add(&members(target).unwrap_or_default(), definitions, depth + 1);
                    }
                }
                "allOf" if depth < MAX_FOLDS => {
                    for branch in elements(value).unwrap_or_default() {
                        self.add(&members(branch).unwrap_or_default(), definitions, depth + 1);
                    }
                }
                "anyOf" | "oneOf" if depth < MAX_FOLDS => self.choose(value, definitions, depth),
                _ => {}
            }
        }
    }

    /// Adds a choice of schemas: what any of them has, and what all of them require.
    fn choose(&mut self, branches: &'s str, definitions: &mut Definitions<'s>, depth: usize) {
        let mut common: Option<Vec<Cow<'s, str>>> = None;
        for branch in elements(branches).unwrap_or_default() {
            let mut one = Self::default();
            one.add(&members(branch).unwrap_or_default(), definitions, depth + 1);
            for (name, schemas) in one.properties {
                schemas.into_iter().for_each(|schema| self.property(name.clone(), schema));
            }
            common = Some(match common {
                None => one.required,
                Some(common) => common.into_iter().filter(|name| one.is_required.contains(name)).collect(),
            });
        }
        common.unwrap_or_default().into_iter().for_each(|name| self.require_name(name));
    }

    fn properties(&mut self, object: &'s str) {
        let Ok(mut named) = walk::members(object) else { return };
        while let Ok(Some((name, schema))) = named.next() {
            self.property(name.decode(), schema);
        }
    }

    fn property(&mut self, name: Cow<'s, str>, schema: &'s str) {
        let place = *self.places.entry(name).or_insert_with_key(|name| {
            self.properties.push((name.clone(), Vec::new()));
            self.properties.len() - 1
        });
        if let Some((_, schemas)) = self.properties.get_mut(place).filter(|_| self.schemas.insert((place, schema))) {
            schemas.push(schema);
        }
    }

    fn require(&mut self, name: &'s str) {
        if let Some(name) = walk::string(name) {
            self.require_name(name.decode());
        }
    }

    fn require_name(&mut self, name: Cow<'s, str>) {
        if self.is_required.insert(name.clone()) {
            self.required.push(name);
        }
    }

    fn write(&self, w: &mut Writer) {
        w.key("properties").object();
        for (name, schemas) in &self.properties {
            w.key(name);
            match schemas.as_slice() {
                [one] => w.raw(one),
                several => w.object().key("anyOf").raw_list(several.iter().copied()).end_object(),
            };
        }
        w.end_object();
        let known = |name: &&Cow<'s, str>| self.places.contains_key(*name);
        if self.required.iter().any(|name| known(&name)) {
            w.key("required").text_list(self.required.iter().filter(known).map(|name| Text::Plain(name)));
        }
    }
}

impl<'s> Definitions<'s> {
    /// Those of a schema with these members.
    pub(super) fn of(schema: &str, top: &[Member<'s>]) -> Self {
        let mut by_place = HashMap::new();
        for (key, value) in top {
            let (Cow::Borrowed(place), Cow::Borrowed(value)) = (key, value) else { continue };
            let Ok(mut named) = walk::members(value) else { continue };
            let by_name = by_place.entry(*place).or_insert_with(HashMap::new);
            while let Ok(Some((name, schema))) = named.next() {
                by_name.entry(name.decode()).or_insert(schema);
            }
        }
        Self { by_place, room: schema.len().max(MIN_ROOM) }
    }

    /// The definition that a reference names.
    pub(super) fn find(&self, reference: &str) -> Option<&'s str> {
        let reference = walk::string(reference)?.decode();
        let (place, name) = reference.strip_prefix("#/")?.split_once('/')?;
        self.by_place.get(place)?.get(name).copied()
    }

    /// The same, where there is room for it.
    fn take(&mut self, reference: &str) -> Option<&'s str> {
        let definition = self.find(reference)?;
        self.room = self.room.checked_sub(definition.len())?;
        Some(definition)
    }
}

/// The unions as words; none where all of them are conjunctions, with which nothing is lost.
fn words<'s>(top: &[Member<'s>], definitions: &mut Definitions<'s>) -> String {
    let mut words = String::new();
    for (key, value) in top.iter().filter(|(key, _)| matches!(&**key, "anyOf" | "oneOf" | "enum" | "not")) {
        let Cow::Borrowed(value) = *value else { continue };
        words.push_str(if words.is_empty() { "{" } else { ", " });
        words.extend([key, ": "]);
        if value.len() <= MAX_WORDS {
            words.push_str(value);
        } else {
            words.push_str(&names(value, definitions));
        }
    }
    words.extend((!words.is_empty()).then_some('}'));
    words
}

/// The property names of each branch, the optional ones with a question mark: `[a, b?] or [c]`.
fn names<'s>(branches: &'s str, definitions: &mut Definitions<'s>) -> String {
    let name = |fold: &Fold<'s>| {
        let names = fold.properties.iter().map(|(name, _)| {
            let mark = if fold.is_required.contains(name) { "" } else { "?" };
            Cow::Owned::<str>(format!("{name}{mark}"))
        });
        format!("[{}]", names.collect::<Vec<_>>().join(", "))
    };
    let branches = elements(branches).unwrap_or_default().into_iter().map(|branch| {
        let mut fold = Fold::default();
        fold.add(&members(branch).unwrap_or_default(), definitions, 1);
        name(&fold)
    });
    branches.collect::<Vec<_>>().join(" or ")
}

#[cfg(test)]
mod tests {
    use super::plain;
    use serde_json::Value;

    const MANY: usize = 20_000;

    fn folded(schema: &str) -> Value {
        serde_json::from_str(&plain(schema).unwrap()).unwrap()
    }

    fn joined(one: impl Fn(usize) -> String) -> String {
        (0..MANY).map(one).collect::<Vec<_>>().join(",")
    }

    #[test]
    fn long_branches_are_folded() {
        let (properties, required) = (joined(|i| format!(r#""p{i}":{{}}"#)), joined(|i| format!(r#""p{i}""#)));
        let branch = format!(r#"{{"properties":{{{properties}}},"required":[{required}]}}"#);
        let folded = folded(&format!(r#"{{"anyOf":[{branch},{branch}]}}"#));
        assert_eq!(folded["properties"].as_object().unwrap().len(), MANY);
        assert_eq!(folded["required"].as_array().unwrap().len(), MANY);
    }

    #[test]
    fn many_branches_are_folded() {
        let branches = joined(|i| format!(r#"{{"properties":{{"kind":{{"const":{i}}}}},"required":["kind"]}}"#));
        let folded = folded(&format!(r#"{{"anyOf":[{branches}]}}"#));
        assert_eq!(folded["properties"]["kind"]["anyOf"].as_array().unwrap().len(), MANY);
        assert_eq!(folded["required"], serde_json::json!(["kind"]));
    }

    #[test]
    fn many_references_find_their_definitions() {
        let branches = joined(|i| format!(r##"{{"$ref":"#/$defs/d{i}"}}"##));
        let definitions = joined(|i| format!(r#""d{i}":{{"properties":{{"p{i}":{{}}}}}}"#));
        let folded = folded(&format!(r#"{{"anyOf":[{branches}],"$defs":{{{definitions}}}}}"#));
        assert_eq!(folded["properties"].as_object().unwrap().len(), MANY);
    }

    #[test]
    fn definitions_that_repeat_each_other_are_folded_up_to_a_limit() {
        let references = |to: usize| vec![format!(r##"{{"$ref":"#/$defs/d{to}"}}"##); 100].join(",");
        let definition = |i: usize| format!(r#""d{i}":{{"properties":{{"p{i}":{{}}}},"allOf":[{}]}}"#, references(i + 1));
        let definitions = (0..8).map(definition).collect::<Vec<_>>().join(",");
        let folded = folded(&format!(r##"{{"$ref":"#/$defs/d0","$defs":{{{definitions}}}}}"##));
        assert!(folded["properties"].as_object().unwrap().contains_key("p7"), "{folded}");
    }
}
