//! JSON schemas as a target takes them: one adapter for all, and a table of what each target takes ([`rules`]).
//!
//! What a target does not know is never sent. Where another keyword of the target's means the same it takes its place:
//! `oneOf` becomes `anyOf`, `const` an `enum` of one value, a reference among other keywords a union of one. Everything
//! else becomes words at the end of the description, `{minimum: 1, not: {"const": 2}}`, which is where Anthropic's own
//! SDKs put it too (`transform_schema`). Members and numbers keep their spelling and their order.

use crate::json::envelope::{MAX_DEPTH, ScanError};
use crate::json::text::Text;
use crate::json::walk;
use crate::json::write::Writer;
use std::borrow::Cow;
use std::collections::HashSet;

mod dated;
mod inline;
pub mod limits;
mod recursion;
pub mod rules;
mod top;

pub use dated::may_be as may_be_dated;
use rules::{CONSTRAINTS, NOTES, Objects, Rules, Top, Values};

/// A schema for a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adapted<'a> {
    /// The schema to send; the client's own text where nothing had to be changed.
    pub schema: Cow<'a, str>,
    /// A constraint is only words now.
    pub reworded: bool,
    /// An object of any members was closed, because the target demands it: the model can give none of them.
    pub open: bool,
    /// The schema refers to itself, which the target refuses.
    pub recursive: bool,
    /// What the schema says of a tool that belongs into the tool's description; empty where it can stay.
    pub note: String,
}

impl<'a> Adapted<'a> {
    /// A schema that can stay.
    const fn unchanged(schema: Cow<'a, str>) -> Self {
        Self { schema, reworded: false, open: false, recursive: false, note: String::new() }
    }
}

/// The schemas of an array's first elements.
const PREFIX: &str = "prefixItems";

/// A keyword and its value, raw JSON.
type Member<'a> = (Cow<'a, str>, Cow<'a, str>);

/// Adapts a schema to the rules of its target. What is no schema stays as it is, for the target to refuse.
pub fn adapt<'a>(schema: &'a str, rules: &Rules) -> Adapted<'a> {
    let unchanged = Adapted::unchanged(Cow::Borrowed(schema));
    let may_have_tuples = || !rules.tuples && schema.contains(PREFIX);
    if rules.keywords.is_none() && rules.objects == Objects::Open && !may_be_dated(schema) && !may_have_tuples() {
        return unchanged;
    }
    let mut pass = Pass { rules, reworded: false, open: false, changed: false };
    let mut w = Writer::with_capacity(schema.len() + 256);
    if pass.schema(&mut w, schema, 0).is_err() {
        return unchanged;
    }
    let recursive = !rules.recursion && recursion::is_recursive(schema);
    let schema = if pass.changed { Cow::Owned(w.into_string()) } else { Cow::Borrowed(schema) };
    Adapted { schema, reworded: pass.reworded, open: pass.open, recursive, note: String::new() }
}

/// Adapts the parameters of a tool, which are an object at every target. `None` where the schema is of another type.
pub fn adapt_tool<'a>(schema: &'a str, rules: &Rules) -> Option<Adapted<'a>> {
    let inlined = if rules.top == Top::Bare { inline::inlined(schema) } else { None };
    let (schema, mut reworded) = inlined.unwrap_or((Cow::Borrowed(schema), false));
    let plain = if rules.union_at_top { None } else { top::plain(&schema) };
    let is_typed = rules.typed_tools || rules.top == Top::Properties || plain.is_some();
    reworded |= plain.is_some();
    let schema = plain.map_or(schema, Cow::Owned);
    let schema = if is_typed { then(schema, object)? } else { schema };
    let schema = if rules.top == Top::Properties { then(schema, with_properties)? } else { schema };
    let mut adapted = match schema {
        Cow::Borrowed(text) => adapt(text, rules),
        Cow::Owned(text) => {
            let adapted = adapt(&text, rules);
            Adapted { schema: Cow::Owned(adapted.schema.into_owned()), ..adapted }
        }
    };
    if rules.top == Top::Bare
        && let Some((bare, note, lost)) = top::bare(&adapted.schema)
    {
        (adapted.schema, adapted.note) = (Cow::Owned(bare), note);
        reworded |= lost;
    }
    Some(Adapted { reworded: adapted.reworded || reworded, ..adapted })
}

/// Applies what may leave a text as it is.
fn then<'a>(text: Cow<'a, str>, change: impl Fn(&str) -> Option<Cow<'_, str>>) -> Option<Cow<'a, str>> {
    match change(&text)? {
        Cow::Borrowed(_) => Some(text),
        Cow::Owned(changed) => Some(Cow::Owned(changed)),
    }
}

/// A schema with `properties` at its top.
fn with_properties(schema: &str) -> Option<Cow<'_, str>> {
    let mut members = walk::members(schema).ok()?;
    while let Some((key, _)) = members.next().ok()? {
        if key.is("properties") {
            return Some(Cow::Borrowed(schema));
        }
    }
    let rest = schema.trim_end().strip_suffix('}')?;
    let comma = if rest.trim() == "{" { "" } else { "," };
    Some(Cow::Owned(format!(r#"{rest}{comma}"properties":{{}}}}"#)))
}

/// A tool's schema with `type: object` at its top, which is demanded everywhere; `None` where it says another type.
pub fn object(schema: &str) -> Option<Cow<'_, str>> {
    let mut members = walk::members(schema).ok()?;
    let mut empty = true;
    while let Some((key, value)) = members.next().ok()? {
        empty = false;
        if key.is("type") {
            return (value == r#""object""#).then_some(Cow::Borrowed(schema));
        }
    }
    let rest = schema.trim_start().strip_prefix('{')?;
    Some(Cow::Owned(format!(r#"{{"type":"object"{}{rest}"#, if empty { "" } else { "," })))
}

/// The members of a schema; none where it is `true` or `false`.
fn members(schema: &str) -> Result<Vec<Member<'_>>, ScanError> {
    let mut list = Vec::new();
    let mut walk = walk::members(schema)?;
    while let Some((key, value)) = walk.next()? {
        list.push((key.decode(), Cow::Borrowed(value)));
    }
    Ok(list)
}

/// One walk over a schema.
struct Pass<'r> {
    rules: &'r Rules,
    reworded: bool,
    open: bool,
    /// Something else than the client's own members was written.
    changed: bool,
}

impl Pass<'_> {
    fn takes(&self, key: &str) -> bool {
        let listed = || self.rules.keywords.is_none_or(|lists| lists.iter().any(|list| list.contains(&key)));
        (key != PREFIX || self.rules.tuples) && listed()
    }

    /// Writes what a schema becomes.
    fn schema(&mut self, w: &mut Writer, schema: &str, depth: usize) -> Result<(), ScanError> {
        if !schema.starts_with('{') || depth > MAX_DEPTH {
            w.raw(schema);
            return Ok(());
        }
        let members = self.respelled(members(schema)?)?;
        let words = self.words(&members);
        let said = |name: &str| members.iter().any(|(key, _)| key == name);
        let is_object = members.iter().any(|(key, value)| key == "type" && value.contains(r#""object""#));
        let mut described = words.is_empty();
        w.object();
        for (key, value) in &members {
            match &**key {
                name if self.refuses(name, value) => self.changed = true,
                "properties" | "$defs" | "definitions" | "patternProperties" | "dependentSchemas" if value.starts_with('{') => {
                    let mut named = walk::members(value)?;
                    w.key(key).object();
                    while let Some((name, schema)) = named.next()? {
                        self.schema(w.key(&name.decode()), schema, depth + 1)?;
                    }
                    w.end_object();
                }
                "anyOf" | "allOf" | "oneOf" | "prefixItems" if value.starts_with('[') => {
                    let mut list = walk::elements(value)?;
                    w.key(key).array();
                    while let Some(schema) = list.next()? {
                        self.schema(w, schema, depth + 1)?;
                    }
                    w.end_array();
                }
                "items" | "additionalProperties" | "not" | "if" | "then" | "else" | "contains" | "propertyNames" => {
                    self.schema(w.key(key), value, depth + 1)?;
                }
                "required" if !self.rules.undeclared_required && value.starts_with('[') => self.required(w, value, &members)?,
                "description" if !described && value.starts_with('"') => {
                    described = true;
                    describe(w, value, &words);
                }
                _ => {
                    w.key(key).raw(value);
                }
            }
        }
        if !described {
            w.key("description").string(&words);
        }
        let closes = self.rules.objects == Objects::Closed && (is_object || said("additionalProperties"));
        if closes && !members.iter().any(|(key, value)| key == "additionalProperties" && value == "false") {
            self.changed = true;
            w.key("additionalProperties").flag(false);
        }
        w.end_object();
        Ok(())
    }

    /// Writes `required` with the properties of the same schema that it names.
    fn required(&mut self, w: &mut Writer, names: &str, members: &[Member<'_>]) -> Result<(), ScanError> {
        let (known, lost): (Vec<_>, Vec<_>) = elements(names)?.into_iter().partition(declared(members)?);
        if lost.is_empty() {
            w.key("required").raw(names);
            return Ok(());
        }
        self.changed = true;
        if !known.is_empty() {
            w.key("required").array();
            known.iter().for_each(|name| {
                w.raw(name);
            });
            w.end_array();
        }
        Ok(())
    }

    /// The members in keywords that the target has, where there are any of the same meaning.
    fn respelled<'a>(&mut self, mut members: Vec<Member<'a>>) -> Result<Vec<Member<'a>>, ScanError> {
        let has = |members: &[Member<'_>], name: &str| members.iter().any(|(key, _)| key == name);
        self.changed |= dated::renew(&mut members);
        // Without its tuple an array has what any place of it may have.
        if !self.takes(PREFIX)
            && let Some((_, tuple)) = members.iter().find(|(key, value)| key == PREFIX && value.starts_with('['))
        {
            let rest = members.iter().find(|(key, value)| key == "items" && value.starts_with('{')).map(|(_, value)| value);
            let items = any_of(elements(tuple)?.into_iter().chain(rest.map(|rest| &**rest)));
            self.changed = true;
            members.retain(|(key, _)| key != "items");
            members.push((Cow::Borrowed("items"), Cow::Owned(items)));
        }
        // A conjunction of one, as generators write it to put a description beside a reference, is its only part.
        if !self.takes("allOf")
            && let Some(at) = members.iter().position(|(key, _)| key == "allOf")
            && let Some((_, value)) = members.get(at)
            && let [only] = elements(value)?.as_slice()
            && only.starts_with('{')
        {
            let inner = self::members(only)?.into_iter().map(|(key, value)| (key.into_owned(), value.into_owned())).collect::<Vec<_>>();
            let taken: HashSet<&str> = members.iter().map(|(key, _)| &**key).collect();
            if !inner.iter().any(|(key, _)| taken.contains(&**key)) {
                self.changed = true;
                members.remove(at);
                members.splice(at..at, inner.into_iter().map(|(key, value)| (Cow::Owned(key), Cow::Owned(value))));
            }
        }
        // Every branch of the one is a branch of the other; that only one may fit is a matter of how the branches differ.
        if !self.takes("oneOf") && self.takes("anyOf") && !has(&members, "anyOf") {
            for (key, _) in members.iter_mut().filter(|(key, _)| key == "oneOf") {
                self.changed = true;
                *key = Cow::Borrowed("anyOf");
            }
        }
        if !self.takes("const") && self.takes("enum") && !has(&members, "enum") {
            for (key, value) in members.iter_mut().filter(|(key, _)| key == "const") {
                self.changed = true;
                (*key, *value) = (Cow::Borrowed("enum"), Cow::Owned(format!("[{value}]")));
            }
        }
        let beside = |key: &str| !key.starts_with('$') && (self.takes(key) || CONSTRAINTS.contains(&key));
        if self.rules.lone_ref && has(&members, "$ref") && !has(&members, "anyOf") && members.iter().any(|(key, _)| beside(key)) {
            for (key, value) in members.iter_mut().filter(|(key, _)| key == "$ref") {
                self.changed = true;
                (*key, *value) = (Cow::Borrowed("anyOf"), Cow::Owned(format!(r#"[{{"$ref":{value}}}]"#)));
            }
        }
        Ok(members)
    }

    /// Whether a keyword, or its value, is not for this target.
    fn refuses(&self, key: &str, value: &str) -> bool {
        if !self.takes(key) {
            return true;
        }
        match key {
            "format" => {
                self.rules.formats.is_some_and(|known| walk::string(value).is_some_and(|format| !known.contains(&&*format.decode())))
            }
            "minItems" => self.rules.min_items.is_some_and(|most| value.parse::<u64>().map_or(true, |least| least > most)),
            "enum" => !elements(value).unwrap_or_default().iter().all(|value| self.lists(value)),
            "const" => !self.lists(value),
            "pattern" => !self.rules.lookaround && looks_around(value),
            "additionalProperties" => match self.rules.objects {
                Objects::Open => false,
                Objects::Closed => value != "false",
                Objects::Unsaid => true,
            },
            // Whether there may be more elements is said by a schema at most where keywords are listed.
            "items" => self.rules.keywords.is_some() && matches!(value, "true" | "false"),
            _ => false,
        }
    }

    fn lists(&self, value: &str) -> bool {
        let first = value.as_bytes().first().copied().unwrap_or_default();
        match self.rules.values {
            Values::Any => true,
            Values::Plain => !matches!(first, b'{' | b'['),
            Values::TextsAndNumbers => first == b'"' || first == b'-' || first.is_ascii_digit(),
        }
    }

    /// The refused keywords of one schema as words, `{minimum: 1, maximum: 9}`; empty where it has none.
    fn words(&mut self, members: &[Member<'_>]) -> String {
        let mut words = String::new();
        for (key, value) in members {
            if key == "required" && !self.rules.undeclared_required {
                let names = elements(value).unwrap_or_default();
                let lost: Vec<_> =
                    declared(members).map(|known| names.into_iter().filter(|name| !known(name)).collect()).unwrap_or_default();
                if !lost.is_empty() {
                    self.reworded = true;
                    words.push_str(if words.is_empty() { "{" } else { ", " });
                    words.extend(["required: [", &lost.join(", "), "]"]);
                }
                continue;
            }
            let (constraint, note) = (CONSTRAINTS.contains(&&**key), NOTES.contains(&&**key));
            if !self.refuses(key, value) || !(constraint || note) {
                continue;
            }
            let open = key == "additionalProperties" || key == "patternProperties";
            self.open |= open && self.rules.objects == Objects::Closed;
            // Any members are what every object has where nothing is said, and a tool's arguments need not be closed.
            if key == "additionalProperties" && matches!(&**value, "true" | "{}") {
                self.reworded |= self.rules.objects != Objects::Unsaid;
                continue;
            }
            if key == "additionalProperties" && value == "false" {
                continue;
            }
            self.reworded |= constraint;
            words.push_str(if words.is_empty() { "{" } else { ", " });
            words.extend([key, ": ", value]);
        }
        words.extend((!words.is_empty()).then_some('}'));
        words
    }
}

/// Writes a description with more words at its end.
fn describe(w: &mut Writer, description: &str, words: &str) {
    let text = walk::string(description).unwrap_or(Text::Raw(""));
    w.key("description").texts(&[text, Text::Plain("\n\n"), Text::Plain(words)]);
}

/// Whether a name (raw JSON) is one of the properties of a schema.
fn declared<'m>(members: &'m [Member<'_>]) -> Result<impl Fn(&&str) -> bool + use<'m>, ScanError> {
    let mut names = HashSet::new();
    if let Some((_, properties)) = members.iter().find(|(key, value)| key == "properties" && value.starts_with('{')) {
        let mut list = walk::members(properties)?;
        while let Some((name, _)) = list.next()? {
            names.insert(name.decode());
        }
    }
    Ok(move |name: &&str| walk::string(name).is_some_and(|name| names.contains(&name.decode())))
}

/// A schema that allows what any of these allows.
fn any_of<'s>(schemas: impl Iterator<Item = &'s str>) -> String {
    let mut seen = HashSet::new();
    let different: Vec<&str> = schemas.filter(|schema| seen.insert(*schema)).collect();
    match different.as_slice() {
        [] => "{}".to_owned(),
        [one] => (*one).to_owned(),
        several => format!(r#"{{"anyOf":[{}]}}"#, several.join(",")),
    }
}

/// The elements of a raw array; none where it is no array.
fn elements(value: &str) -> Result<Vec<&str>, ScanError> {
    if value.starts_with('[') { walk::elements(value)?.rest() } else { Ok(Vec::new()) }
}

/// Whether a pattern has look-around, a reference back or a word boundary.
fn looks_around(pattern: &str) -> bool {
    let pattern = walk::string(pattern).map(Text::decode).unwrap_or_default();
    let mut bytes = pattern.bytes();
    while let Some(b) = bytes.next() {
        if b == b'\\' && bytes.next().is_some_and(|b| matches!(b, b'b' | b'B' | b'k' | b'1'..=b'9')) {
            return true;
        }
    }
    ["(?=", "(?!", "(?<=", "(?<!"].iter().any(|group| pattern.contains(group))
}

#[cfg(test)]
mod tests;
