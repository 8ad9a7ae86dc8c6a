//! A value that satisfies a JSON schema: how structured output and tool arguments are played without a model.

use super::pattern;
use serde_json::{Map, Value, json};

/// Depth from which only what a schema requires is made, so that recursive schemas end.
const FULL_DEPTH: usize = 6;
/// Deepest nesting that is followed.
const MAX_DEPTH: usize = 32;
/// Most schema nodes that are visited.
const MAX_NODES: usize = 10_000;
/// Longest string that is made to satisfy `minLength`, in characters.
const MAX_STRING: u64 = 100_000;
/// Most items that are made to satisfy `minItems`.
const MAX_ITEMS: u64 = 1_000;

/// A value that satisfies `schema`; `hint` is what free strings say.
///
/// # Errors
/// What in the schema cannot be satisfied or is not understood.
pub fn sample(schema: &Value, hint: &str) -> Result<Value, String> {
    Maker { root: schema, hint, nodes: 0 }.make(schema, "", 0)
}

struct Maker<'a> {
    root: &'a Value,
    hint: &'a str,
    nodes: usize,
}

impl Maker<'_> {
    fn make(&mut self, schema: &Value, name: &str, depth: usize) -> Result<Value, String> {
        self.nodes += 1;
        if depth > MAX_DEPTH || self.nodes > MAX_NODES {
            return Err("the schema is too deep or too large".into());
        }
        let schema = match schema {
            Value::Object(object) => object,
            Value::Bool(true) => return Ok(json!({})),
            _ => return Err("a schema is an object or true".into()),
        };
        if let Some(value) = schema.get("const") {
            return Ok(value.clone());
        }
        if let Some(values) = schema.get("enum") {
            return values.get(0).cloned().ok_or_else(|| "`enum` is empty".into());
        }
        if let Some(path) = schema.get("$ref").and_then(Value::as_str) {
            let target = path.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
            let target = target.cloned().ok_or_else(|| format!("`$ref` {path} leads nowhere"))?;
            return self.make(&target, name, depth + 1);
        }
        if let Some(parts) = schema.get("allOf").and_then(Value::as_array) {
            return self.all_of(schema, parts, name, depth);
        }
        if let Some(branches) = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array) {
            let mut why = "`anyOf` is empty".to_owned();
            for branch in branches {
                match self.make(branch, name, depth + 1) {
                    Ok(value) => return Ok(value),
                    Err(error) => why = error,
                }
            }
            return Err(why);
        }
        match kind(schema) {
            "object" => self.object(schema, depth),
            "array" => self.array(schema, name, depth),
            "string" => self.string(schema, name),
            "integer" => number(schema, true),
            "number" => number(schema, false),
            "boolean" => Ok(Value::Bool(true)),
            "null" => Ok(Value::Null),
            other => Err(format!("`type` {other} does not exist")),
        }
    }

    /// The parts of `allOf` laid over each other: members of the later ones win, `properties` and `required` add up.
    fn all_of(&mut self, schema: &Map<String, Value>, parts: &[Value], name: &str, depth: usize) -> Result<Value, String> {
        let mut merged = schema.clone();
        merged.remove("allOf");
        for part in parts {
            let path = part.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix('#'));
            let part = path.and_then(|pointer| self.root.pointer(pointer)).unwrap_or(part);
            for (key, value) in part.as_object().into_iter().flatten() {
                match (merged.get_mut(key), value) {
                    (Some(Value::Object(old)), Value::Object(new)) if key == "properties" => old.extend(new.clone()),
                    (Some(Value::Array(old)), Value::Array(new)) if key == "required" => old.extend(new.clone()),
                    _ => {
                        merged.insert(key.clone(), value.clone());
                    }
                }
            }
        }
        self.make(&Value::Object(merged), name, depth + 1)
    }

    fn object(&mut self, schema: &Map<String, Value>, depth: usize) -> Result<Value, String> {
        let required: Vec<&str> =
            schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        let mut out = Map::new();
        for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let needed = required.contains(&name.as_str());
            if !needed && depth >= FULL_DEPTH {
                continue;
            }
            match self.make(property, name, depth + 1) {
                Ok(value) => {
                    out.insert(name.clone(), value);
                }
                Err(error) if needed => return Err(error),
                Err(_) => {}
            }
        }
        for name in required {
            if !out.contains_key(name) {
                let rest =
                    schema.get("additionalProperties").filter(|rest| rest.is_object()).cloned().unwrap_or(json!({ "type": "string" }));
                let value = self.make(&rest, name, depth + 1)?;
                out.insert(name.to_owned(), value);
            }
        }
        Ok(Value::Object(out))
    }

    fn array(&mut self, schema: &Map<String, Value>, name: &str, depth: usize) -> Result<Value, String> {
        let prefix = schema.get("prefixItems").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let least = schema.get("minItems").and_then(Value::as_u64).unwrap_or(0);
        let most = schema.get("maxItems").and_then(Value::as_u64).unwrap_or(u64::MAX);
        let wanted = if depth >= FULL_DEPTH { least } else { least.max(1).max(prefix.len() as u64).min(most) };
        if wanted > MAX_ITEMS {
            return Err(format!("`minItems` is above {MAX_ITEMS}"));
        }
        let rest = schema.get("items").cloned().unwrap_or(json!({ "type": "string" }));
        let mut out = Vec::new();
        for position in 0..wanted {
            let item = usize::try_from(position).ok().and_then(|n| prefix.get(n)).unwrap_or(&rest);
            if matches!(item, Value::Bool(false)) {
                break;
            }
            match self.make(item, name, depth + 1) {
                Ok(value) => out.push(value),
                Err(_) if position >= least => break,
                Err(error) => return Err(error),
            }
        }
        Ok(Value::Array(out))
    }

    fn string(&self, schema: &Map<String, Value>, name: &str) -> Result<Value, String> {
        if let Some(text) = schema.get("pattern").and_then(Value::as_str) {
            return pattern::example(text).map(Value::String);
        }
        let fixed = match schema.get("format").and_then(Value::as_str) {
            Some("date-time") => Some("2026-01-01T12:00:00Z"),
            Some("date") => Some("2026-01-01"),
            Some("time") => Some("12:00:00Z"),
            Some("email") => Some("someone@example.com"),
            Some("uuid") => Some("01890a5d-ac96-774b-bcce-b302099a8057"),
            Some("uri") => Some("https://example.com/"),
            Some("ipv4") => Some("192.0.2.1"),
            _ => None,
        };
        let mut text = fixed.unwrap_or(if self.hint.is_empty() { name } else { self.hint }).to_owned();
        let least = schema.get("minLength").and_then(Value::as_u64).unwrap_or(0);
        let most = schema.get("maxLength").and_then(Value::as_u64).unwrap_or(u64::MAX);
        if least > MAX_STRING || least > most {
            return Err(format!("`minLength` is above `maxLength` or {MAX_STRING}"));
        }
        while (text.chars().count() as u64) < least {
            text.push('x');
        }
        Ok(Value::String(text.chars().take(usize::try_from(most).unwrap_or(usize::MAX)).collect()))
    }
}

/// The type to make: the first of a list that is not null; from the other keywords where none is given.
fn kind(schema: &Map<String, Value>) -> &str {
    match schema.get("type") {
        Some(Value::String(kind)) => kind,
        Some(Value::Array(kinds)) => {
            let kinds = || kinds.iter().filter_map(Value::as_str);
            kinds().find(|kind| *kind != "null").or_else(|| kinds().next()).unwrap_or("null")
        }
        _ if schema.contains_key("items") || schema.contains_key("prefixItems") => "array",
        _ if ["minLength", "maxLength", "pattern", "format"].iter().any(|key| schema.contains_key(*key)) => "string",
        _ if ["minimum", "maximum", "multipleOf"].iter().any(|key| schema.contains_key(*key)) => "number",
        _ => "object",
    }
}

/// The number nearest to 1 within the bounds, or the first multiple there.
fn number(schema: &Map<String, Value>, whole: bool) -> Result<Value, String> {
    let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
    let step = bound("multipleOf").filter(|step| *step > 0.0);
    let gap = if whole { 1.0 } else { 0.5 };
    let least = [bound("minimum"), bound("exclusiveMinimum").map(|n| if whole { n.floor() + 1.0 } else { n + gap })];
    let most = [bound("maximum"), bound("exclusiveMaximum").map(|n| if whole { n.ceil() - 1.0 } else { n - gap })];
    let mut least = least.into_iter().flatten().fold(f64::NEG_INFINITY, f64::max);
    let mut most = most.into_iter().flatten().fold(f64::INFINITY, f64::min);
    if whole {
        (least, most) = (least.ceil(), most.floor());
    }
    if least > most {
        return Err("`minimum` is above `maximum`".into());
    }
    let mut value = 1.0_f64.clamp(least, most);
    if let Some(step) = step {
        value = (value / step).ceil() * step;
        if value > most {
            value = (most / step).floor() * step;
        }
        if value < least {
            return Err("`multipleOf` has no multiple within the bounds".into());
        }
    }
    if whole && value.abs() < 9e15 {
        #[allow(clippy::cast_possible_truncation, reason = "within 2^53")]
        return Ok(json!(value as i64));
    }
    Ok(json!(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_satisfy_their_schemas() {
        for (schema, value) in [
            (json!({}), json!({})),
            (json!({ "const": 3 }), json!(3)),
            (json!({ "enum": ["b", "a"] }), json!("b")),
            (json!({ "type": ["null", "string"] }), json!("hi")),
            (json!({ "type": "string", "minLength": 4 }), json!("hixx")),
            (json!({ "type": "string", "maxLength": 1 }), json!("h")),
            (json!({ "type": "string", "pattern": "^[A-Z]{2}$" }), json!("AA")),
            (json!({ "type": "integer", "minimum": 5.5 }), json!(6)),
            (json!({ "type": "integer", "exclusiveMaximum": 0 }), json!(-1)),
            (json!({ "type": "integer", "multipleOf": 5, "minimum": 12 }), json!(15)),
            (json!({ "type": "number", "maximum": 0.25 }), json!(0.25)),
            (json!({ "type": "array", "items": { "type": "boolean" }, "minItems": 2 }), json!([true, true])),
            (json!({ "type": "array", "prefixItems": [{ "const": 1 }, { "const": 2 }], "items": false }), json!([1, 2])),
            (json!({ "anyOf": [{ "type": "wrong" }, { "const": "second" }] }), json!("second")),
            (
                json!({ "allOf": [{ "properties": { "a": { "const": 1 } } }, { "$ref": "#/$defs/b" }], "$defs": { "b": { "properties": { "b": { "const": 2 } } } } }),
                json!({ "a": 1, "b": 2 }),
            ),
            (
                json!({ "type": "object", "required": ["free"], "properties": { "n": { "type": "null" } } }),
                json!({ "n": null, "free": "hi" }),
            ),
        ] {
            assert_eq!(sample(&schema, "hi").unwrap(), value, "{schema}");
        }
    }

    #[test]
    fn a_recursive_schema_ends() {
        let tree = json!({ "$ref": "#/$defs/node", "$defs": { "node": { "type": "object", "required": ["name", "children"], "properties":
            { "name": { "type": "string" }, "children": { "type": "array", "items": { "$ref": "#/$defs/node" } }, "parent": { "$ref": "#/$defs/node" } } } } });
        assert!(sample(&tree, "").unwrap().pointer("/children/0/name").is_some());
        let list = json!({ "$ref": "#/$defs/l", "$defs": { "l": { "type": "object", "required": ["next"], "properties":
            { "next": { "anyOf": [{ "$ref": "#/$defs/l" }, { "type": "null" }] } } } } });
        assert!(sample(&list, "").unwrap().get("next").is_some());
    }

    #[test]
    fn what_cannot_be_satisfied_says_so() {
        for schema in [
            json!(false),
            json!({ "enum": [] }),
            json!({ "$ref": "#/nowhere" }),
            json!({ "type": "integer", "minimum": 2, "maximum": 1 }),
            json!({ "$ref": "#" }),
            json!({ "type": "array", "minItems": 1_000_000 }),
        ] {
            assert!(sample(&schema, "").is_err(), "{schema}");
        }
    }
}
