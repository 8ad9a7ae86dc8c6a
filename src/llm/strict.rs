//! Whether a schema keeps the rules of OpenAI's strict mode.
//!
//! `guided_json` binds the model; `json_schema` only does so where it is strict, and a schema that breaks strict mode's
//! rules would be refused. So a schema that keeps them is sent as strict.
#![expect(clippy::disallowed_types, reason = "a schema is looked at from several sides")]

use serde_json::Value;
use std::collections::HashSet;

/// Deepest schema that is looked at.
const MAX_DEPTH: usize = 32;

/// The keywords that strict mode takes.
const KEYWORDS: [&str; 20] = [
    "type",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "enum",
    "const",
    "anyOf",
    "$ref",
    "$defs",
    "description",
    "title",
    "pattern",
    "format",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "minItems",
    "maxItems",
];

/// Whether the schema (raw JSON) keeps them: an object at the root, every object closed with all of its properties
/// required, no keyword that strict mode does not have.
pub fn keeps_rules(schema: &str) -> bool {
    serde_json::from_str::<Value>(schema).is_ok_and(|root| root.get("type").is_some_and(|t| t == "object") && keeps(&root, 0))
}

fn keeps(schema: &Value, depth: usize) -> bool {
    let Some(members) = schema.as_object().filter(|_| depth < MAX_DEPTH) else { return false };
    if members.keys().any(|key| !KEYWORDS.contains(&key.as_str())) {
        return false;
    }
    let all = |key: &str| members.get(key).and_then(Value::as_object).into_iter().flatten().all(|(_, inner)| keeps(inner, depth + 1));
    let alternatives = members.get("anyOf").and_then(Value::as_array).into_iter().flatten().all(|inner| keeps(inner, depth + 1));
    let items = members.get("items").is_none_or(|inner| keeps(inner, depth + 1));
    closed(members) && all("properties") && all("$defs") && alternatives && items
}

fn closed(members: &serde_json::Map<String, Value>) -> bool {
    let names_object = |kind: &Value| kind == "object" || kind.as_array().is_some_and(|list| list.iter().any(|one| one == "object"));
    if !members.contains_key("properties") && !members.get("type").is_some_and(names_object) {
        return true;
    }
    let required = members.get("required").and_then(Value::as_array).into_iter().flatten();
    let required: HashSet<&str> = required.filter_map(Value::as_str).collect();
    let mut properties = members.get("properties").and_then(Value::as_object).into_iter().flat_map(|map| map.keys());
    members.get("additionalProperties") == Some(&Value::Bool(false)) && properties.all(|name| required.contains(name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::keeps_rules;

    #[test]
    fn many_properties_are_found_among_the_required() {
        let names: Vec<String> = (0..20_000).map(|i| format!("p{i}")).collect();
        let properties = names.iter().map(|name| format!(r#""{name}":{{}}"#)).collect::<Vec<_>>().join(",");
        let schema = |required: &[String]| {
            format!(r#"{{"type":"object","properties":{{{properties}}},"required":{required:?},"additionalProperties":false}}"#)
        };
        assert!(keeps_rules(&schema(&names)));
        assert!(!keeps_rules(&schema(names.get(1..).unwrap_or_default())));
    }

    #[test]
    fn only_closed_schemas_with_known_keywords_keep_the_rules() {
        let object = |inner: &str, rest: &str| {
            format!(r#"{{"type":"object","properties":{{"a":{inner}}},"required":["a"],"additionalProperties":false{rest}}}"#)
        };
        assert!(keeps_rules(&object(r#"{"type":["string","null"]}"#, "")));
        assert!(keeps_rules(&object(&object(r##"{"$ref":"#/$defs/x"}"##, ""), r#","$defs":{"x":{"enum":[1]}}"#)));
        for no in [
            object(r#"{"type":"object"}"#, ""),
            object(r#"{"type":"string","minLength":1}"#, ""),
            object(r#"{"anyOf":[{"type":"array","items":{"type":"object"}}]}"#, ""),
            object("{}", "").replace(r#"["a"]"#, "[]"),
            r#"{"type":"string"}"#.to_owned(),
            "{}".to_owned(),
            "{oops".to_owned(),
        ] {
            assert!(!keeps_rules(&no), "{no}");
        }
    }
}
