//! Schemas and what becomes of them at the targets.

use super::rules::{BEDROCK_TOOL, CLAUDE, CLAUDE_RELAXED, CLAUDE_TOOL, GEMINI, GEMINI_TOOL, MISTRAL, NOVA_TOOL, OPENAI, OPENAI_TOOL};
use super::*;
use serde_json::{Value, json};

fn told(schema: &Value, rules: &Rules) -> (Value, bool) {
    let text = schema.to_string();
    let adapted = adapt(&text, rules);
    (serde_json::from_str(&adapted.schema).unwrap(), adapted.reworded)
}

fn tool(schema: &Value, rules: &Rules) -> Value {
    serde_json::from_str(&adapt_tool(&schema.to_string(), rules).unwrap().schema).unwrap()
}

#[test]
fn a_tool_takes_an_object() {
    assert_eq!(object(r#"{"type":"object","properties":{}}"#).unwrap(), r#"{"type":"object","properties":{}}"#);
    assert_eq!(object("{ }").unwrap(), r#"{"type":"object" }"#);
    assert_eq!(object(r#"{"properties":{"type":{}}}"#).unwrap(), r#"{"type":"object","properties":{"type":{}}}"#);
    assert_eq!(object(r#"{"type":"array"}"#), None);
}

#[test]
fn every_object_that_says_nothing_is_closed() {
    let open = r##"{"type":"object","properties":{"b":{"type":"array","items":{"type":["object","null"]}},"type":{"const":1.0},"c":{"anyOf":[{"type":"object"},{"$ref":"#/$defs/d"}]}},"$defs":{"d":{"type":"object"}},"required":["b"]}"##;
    let want = r##"{"type":"object","properties":{"b":{"type":"array","items":{"type":["object","null"],"additionalProperties":false}},"type":{"const":1.0},"c":{"anyOf":[{"type":"object","additionalProperties":false},{"$ref":"#/$defs/d"}]}},"$defs":{"d":{"type":"object","additionalProperties":false}},"required":["b"],"additionalProperties":false}"##;
    let adapted = adapt(open, &CLAUDE);
    assert_eq!((&*adapted.schema, adapted.reworded, adapted.open), (want, false, false));
    assert_eq!(adapt("true", &CLAUDE).schema, "true");
}

#[test]
fn what_is_refused_becomes_words() {
    let open = r#"{"type":"object","properties":{"minimum":{"type":"integer","minimum":1,"description":"a \"number\"","maximum":1e1},"b":{"type":"array","minItems":1,"maxItems":3,"items":{"type":"string","format":"uri"}},"c":{"type":"string","format":"iban","pattern":"^[A-Z]"}},"additionalProperties":false}"#;
    let want = r#"{"type":"object","properties":{"minimum":{"type":"integer","description":"a \"number\"\n\n{minimum: 1, maximum: 1e1}"},"b":{"type":"array","minItems":1,"items":{"type":"string","format":"uri"},"description":"{maxItems: 3}"},"c":{"type":"string","pattern":"^[A-Z]","description":"{format: \"iban\"}"}},"additionalProperties":false}"#;
    let adapted = adapt(open, &CLAUDE);
    assert_eq!((&*adapted.schema, adapted.reworded), (want, true));
    let fits = r#"{"type":"string","description":"d"}"#;
    assert_eq!(adapt(fits, &CLAUDE), Adapted::unchanged(Cow::Borrowed(fits)));
}

#[test]
fn no_target_is_sent_a_keyword_that_it_does_not_know() {
    let constraints = json!({
        "not": {"const": 0}, "propertyNames": {"pattern": "^x"}, "contains": {"type": "string"}, "minContains": 2, "if": {"type": "string"},
        "then": {"minLength": 1}, "else": {"type": "integer"}, "patternProperties": {"^x": {"type": "string"}},
        "dependentRequired": {"a": ["b"]}, "dependentSchemas": {"a": {}}, "unevaluatedProperties": false, "uniqueItems": true
    });
    for rules in [&CLAUDE, &CLAUDE_RELAXED, &GEMINI, &GEMINI_TOOL, &MISTRAL, &OPENAI] {
        for (key, value) in constraints.as_object().unwrap() {
            let schema = json!({"type": "object", "properties": {"n": {"type": "object", key: value, "description": "N."}}});
            let (told, reworded) = told(&schema, rules);
            let n = &told["properties"]["n"];
            assert!(n.get(key).is_none() && reworded, "{}: {told}", rules.name);
            let words = n["description"].as_str().unwrap();
            assert!(words.starts_with(&format!("N.\n\n{{{key}: ")), "{words}");
        }
    }
}

#[test]
fn an_annotation_is_left_out_without_a_word() {
    let schema =
        json!({"$schema": "http://json-schema.org/draft-07/schema#", "type": "string", "readOnly": true, "x-order": 1, "$comment": "c"});
    for rules in [&CLAUDE, &GEMINI, &OPENAI] {
        assert_eq!(told(&schema, rules), (json!({"type": "string"}), false), "{}", rules.name);
    }
    let examples = json!({"type": "string", "examples": ["a"]});
    assert_eq!(told(&examples, &CLAUDE), (json!({"type": "string", "description": r#"{examples: ["a"]}"#}), false));
}

#[test]
fn another_keyword_of_the_same_meaning_takes_its_place() {
    let one_of = json!({"oneOf": [{"type": "string"}, {"type": "null"}], "discriminator": {"propertyName": "t"}});
    for rules in [&CLAUDE, &GEMINI, &MISTRAL, &OPENAI] {
        assert_eq!(told(&one_of, rules), (json!({"anyOf": [{"type": "string"}, {"type": "null"}]}), false), "{}", rules.name);
    }
    let both = json!({"anyOf": [{"type": "string"}], "oneOf": [{"minLength": 1}]});
    let words = json!({"anyOf": [{"type": "string"}], "description": r#"{oneOf: [{"minLength":1}]}"#});
    assert_eq!(told(&both, &CLAUDE), (words, true));
    assert_eq!(told(&json!({"const": "a"}), &GEMINI), (json!({"enum": ["a"]}), false));
    assert_eq!(told(&json!({"const": true}), &GEMINI), (json!({"description": "{enum: [true]}"}), true));
    let described = json!({"$ref": "#/$defs/a", "description": "d"});
    assert_eq!(told(&described, &GEMINI), (json!({"anyOf": [{"$ref": "#/$defs/a"}], "description": "d"}), false));
    assert_eq!(told(&described, &CLAUDE), (described.clone(), false));
    let all_of = json!({"allOf": [{"$ref": "#/$defs/a"}], "title": "t"});
    assert_eq!(told(&all_of, &GEMINI), (json!({"anyOf": [{"$ref": "#/$defs/a"}], "title": "t"}), false));
    assert_eq!(told(&json!({"enum": [{"a": 1}]}), &CLAUDE), (json!({"description": r#"{enum: [{"a":1}]}"#}), true));
    assert!(told(&json!({"type": "string", "pattern": r"^(?=.*\d)"}), &CLAUDE).1);
    assert!(!told(&json!({"type": "string", "pattern": r"^(?:a|\\b)+$"}), &CLAUDE).1);
}

#[test]
fn what_strict_output_cannot_say_at_all_is_found() {
    let adapted = |schema: &Value| {
        let text = schema.to_string();
        let adapted = adapt(&text, &CLAUDE);
        (adapted.open, adapted.recursive)
    };
    let map = json!({"type": "object", "additionalProperties": {"type": "string"}});
    assert_eq!(adapted(&map), (true, false));
    assert_eq!(adapted(&json!({"type": "object", "additionalProperties": true})), (true, false));
    let tree = json!({"$ref": "#/$defs/n", "$defs": {"n": {"type": "object", "properties": {"next": {"$ref": "#/$defs/m"}}}, "m": {"anyOf": [{"$ref": "#/$defs/n"}]}}});
    assert_eq!(adapted(&tree), (false, true));
    let root = json!({"type": "object", "properties": {"next": {"$ref": "#"}}});
    assert_eq!(adapted(&root), (false, true));
    let chain = json!({"$ref": "#/$defs/n", "$defs": {"n": {"$ref": "#/$defs/m"}, "m": {"type": "string"}}});
    assert_eq!(adapted(&chain), (false, false));
    let text = map.to_string();
    assert_eq!(adapt(&text, &CLAUDE_RELAXED).schema, text, "a tool that is not strict keeps its maps");
}

#[test]
fn a_union_at_the_top_of_a_tool_becomes_one_object() {
    let union = json!({"type": "object", "description": "D.", "anyOf": [
        {"properties": {"a": {"type": "string"}, "k": {"const": 1}}, "required": ["k", "a"]},
        {"properties": {"b": {"type": "string"}, "k": {"const": 2}}, "required": ["k", "b"]}]});
    let folded = tool(&union, &CLAUDE_TOOL);
    let k = json!({"anyOf": [{"const": 1}, {"const": 2}]});
    assert_eq!(folded["properties"], json!({"a": {"type": "string"}, "k": k, "b": {"type": "string"}}));
    assert_eq!((&folded["required"], &folded["type"]), (&json!(["k"]), &json!("object")));
    assert!(folded["description"].as_str().unwrap().starts_with("D.\n\n{anyOf: [{"), "{folded}");
    assert!(["anyOf", "oneOf", "allOf"].iter().all(|key| folded.get(key).is_none()));

    let requires = json!({"properties": {"a": {}, "b": {}}, "required": ["a"], "oneOf": [{"required": ["a"]}, {"required": ["b"]}]});
    assert_eq!(tool(&requires, &GEMINI_TOOL)["properties"], json!({"a": {}, "b": {}}));
    assert_eq!(tool(&requires, &GEMINI_TOOL)["required"], json!(["a"]));

    let definitions = json!({"a": {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}});
    let reference = json!({"$ref": "#/$defs/a", "$defs": definitions});
    let want = json!({"type": "object", "$defs": definitions, "properties": {"x": {"type": "integer"}}, "required": ["x"]});
    assert_eq!(tool(&reference, &CLAUDE_TOOL), want);
    let all_of = json!({"allOf": [{"$ref": "#/$defs/a"}, {"properties": {"y": {}}, "required": ["y"]}], "$defs": definitions});
    assert_eq!(tool(&all_of, &CLAUDE_TOOL)["required"], json!(["x", "y"]));
    assert!(tool(&all_of, &CLAUDE_TOOL).get("description").is_none(), "a conjunction loses nothing");
}

#[test]
fn a_long_union_is_told_by_its_names() {
    let long = "x".repeat(3000);
    let union = json!({"anyOf": [{"properties": {"a": {"description": long}, "c": {}}, "required": ["a"]}, {"properties": {"b": {}}}]});
    assert_eq!(tool(&union, &CLAUDE_TOOL)["description"], "{anyOf: [a, c?] or [b?]}");
}

#[test]
fn a_tool_that_fits_keeps_its_spelling() {
    let schema = r#"{ "type":"object","properties":{"n":{"type":"number","minimum":1.50e0}} }"#;
    assert!(matches!(adapt_tool(schema, &CLAUDE_TOOL).unwrap().schema, Cow::Borrowed(text) if text == schema));
    assert!(matches!(adapt_tool(schema, &GEMINI_TOOL).unwrap().schema, Cow::Borrowed(text) if text == schema));
}

#[test]
fn the_use_of_strict_schemas_is_counted() {
    let schema = json!({"type": "object", "properties": {"a": {"type": ["string", "null"]}, "b": {"anyOf": [{"type": "string"}, {"type": "object", "properties": {"c": {}}}]}}, "required": ["a"]});
    assert_eq!(limits::Use::of(&schema.to_string()), limits::Use { optional: 2, unions: 2, tools: 0 });
}

fn array(inside: Value) -> Value {
    let mut array = json!({"type": "array"});
    array.as_object_mut().unwrap().extend(inside.as_object().unwrap().clone());
    json!({"type": "object", "properties": {"a": array}})
}

#[test]
fn keywords_of_older_drafts_become_those_of_the_newest() {
    let (number, text) = (json!({"type": "number"}), json!({"type": "string"}));
    for (old, new) in [
        (json!({"items": [number, text], "additionalItems": false}), json!({"prefixItems": [number, text], "items": false})),
        (
            json!({"items": [number], "additionalItems": {"items": [text]}}),
            json!({"prefixItems": [number], "items": {"prefixItems": [text]}}),
        ),
        (
            json!({"items": text, "additionalItems": false, "contains": {"items": []}}),
            json!({"items": text, "contains": {"prefixItems": []}}),
        ),
        (json!({"prefixItems": [number], "items": [text]}), json!({"prefixItems": [number]})),
        (json!({"items": {"minimum": 1, "exclusiveMinimum": true}}), json!({"items": {"exclusiveMinimum": 1}})),
        (json!({"items": {"maximum": 1.50, "exclusiveMaximum": false}}), json!({"items": {"maximum": 1.50}})),
        (json!({"items": {"exclusiveMaximum": true}}), json!({"items": {}})),
        (json!({"contains": {"items": [text]}}), json!({"contains": {"prefixItems": [text]}})),
        (json!({"items": {"type": "string", "required": true}}), json!({"items": {"type": "string"}})),
    ] {
        assert_eq!(tool(&array(old), &CLAUDE_TOOL), array(new));
    }
    let properties =
        json!({"type": "object", "properties": {"items": {"type": "string"}, "required": {"type": "boolean"}}, "required": ["items"]})
            .to_string();
    assert!(matches!(adapt_tool(&properties, &CLAUDE_TOOL).unwrap().schema, Cow::Borrowed(_)));
}

#[test]
fn a_tuple_becomes_a_list_of_what_any_place_has_where_there_are_no_tuples() {
    let tuple = array(json!({"items": [{"type": "number"}, {"type": "string"}, {"type": "number"}]}));
    let words = r#"{prefixItems: [{"type":"number"},{"type":"string"},{"type":"number"}]}"#;
    let list = array(json!({"items": {"anyOf": [{"type": "number"}, {"type": "string"}]}, "description": words}));
    assert_eq!(tool(&tuple, &OPENAI), list);
    assert_eq!(tool(&tuple, &OPENAI_TOOL), list);
    let pair = array(json!({"prefixItems": [{"type": "number"}, {"type": "number"}], "items": false}));
    let words = r#"{prefixItems: [{"type":"number"},{"type":"number"}]}"#;
    assert_eq!(tool(&pair, &OPENAI_TOOL), array(json!({"items": {"type": "number"}, "description": words})));
    assert_eq!(told(&tuple, &GEMINI).0, array(json!({"prefixItems": tuple["properties"]["a"]["items"]})));
    // Nested ones take no more than their size times their depth.
    let deep = (0..40).fold(json!({}), |inner, _| json!({"type": "array", "items": [inner]}));
    let deep = json!({"type": "object", "properties": {"a": deep}}).to_string();
    assert!(adapt_tool(&deep, &OPENAI_TOOL).unwrap().schema.len() < 100 * deep.len());
}

#[test]
fn openai_has_properties_at_the_top_of_every_tool() {
    for rules in [&OPENAI, &OPENAI_TOOL] {
        for (bare, want) in [
            ("{}", r#"{"type":"object","properties":{}}"#),
            (r#"{"type":"object"}"#, r#"{"type":"object","properties":{}}"#),
            (r#"{ "type":"object","additionalProperties":false }"#, r#"{ "type":"object","additionalProperties":false ,"properties":{}}"#),
            (r#"{"properties":{"a":{}}}"#, r#"{"type":"object","properties":{"a":{}}}"#),
        ] {
            let adapted = adapt_tool(bare, rules).unwrap();
            let value = |text: &str| serde_json::from_str::<Value>(text).unwrap();
            assert_eq!((value(&adapted.schema), adapted.reworded), (value(want), false), "{}", rules.name);
        }
        assert_eq!(adapt_tool(r#"{"type":"array"}"#, rules), None);
    }
}

#[test]
fn gemini_is_told_in_words_of_what_is_required_and_no_property() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "object", "required": ["x"]}}, "required": ["a", "ref"]});
    for rules in [&GEMINI, &GEMINI_TOOL] {
        let (sent, reworded) = told(&schema, rules);
        let want = json!({"type": "object", "properties": {"a": {"type": "object", "description": r#"{required: ["x"]}"#}},
            "required": ["a"], "description": r#"{required: ["ref"]}"#});
        assert_eq!((sent, reworded), (want, true));
    }
    let fits = r#"{"type":"object","properties":{"\u0061":{}},"required":["a"]}"#;
    assert!(matches!(adapt(fits, &GEMINI).schema, Cow::Borrowed(_)));
}

#[test]
fn no_object_of_another_model_on_bedrock_says_whether_it_is_open() {
    let schema = json!({"type": "object", "additionalProperties": false, "properties": {"m": {"type": "object", "additionalProperties": {"type": "string"}}, "o": {"type": "object", "additionalProperties": true}}});
    let m = json!({"type": "object", "description": r#"{additionalProperties: {"type":"string"}}"#});
    let sent = json!({"type": "object", "properties": {"m": m, "o": {"type": "object"}}});
    assert_eq!(tool(&schema, &BEDROCK_TOOL), sent);
}

#[test]
fn the_top_of_a_nova_tool_is_bare() {
    let point = json!({"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]});
    let schema = json!({"$schema": "http://json-schema.org/draft-07/schema#", "title": "T", "description": "Draws.", "additionalProperties": false,
        "type": "object", "minProperties": 1, "properties": {"p": {"$ref": "#/$defs/point", "description": "Where."}, "all": {"type": "array", "items": {"$ref": "#/definitions/line"}}},
        "$defs": {"point": point}, "definitions": {"line": {"type": "array", "items": {"$ref": "#/$defs/point"}}}});
    let text = schema.to_string();
    let adapted = adapt_tool(&text, &NOVA_TOOL).unwrap();
    let p = json!({"description": "Where.", "type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]});
    let want = json!({"type": "object", "properties": {"p": p, "all": {"type": "array", "items": {"type": "array", "items": point}}}});
    assert_eq!(serde_json::from_str::<Value>(&adapted.schema).unwrap(), want);
    assert_eq!((adapted.note.as_str(), adapted.reworded), ("Draws.\n\n{minProperties: 1}", true));
    let fits = r#"{"type":"object","properties":{"a":{}},"required":["a"]}"#;
    assert_eq!(adapt_tool(fits, &NOVA_TOOL), Some(Adapted::unchanged(Cow::Borrowed(fits))));
}

#[test]
fn definitions_that_refer_to_themselves_or_grow_without_end_are_cut() {
    let tree = json!({"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"type": "object", "properties": {"next": {"$ref": "#/$defs/n"}}}}});
    let text = tree.to_string();
    let adapted = adapt_tool(&text, &NOVA_TOOL).unwrap();
    let want = json!({"type": "object", "properties": {"n": {"type": "object", "properties": {"next": {}}}}});
    assert_eq!(serde_json::from_str::<Value>(&adapted.schema).unwrap(), want);
    assert!(adapted.reworded);
    let mut definitions = serde_json::Map::new();
    for n in 0..60 {
        let next = json!({"$ref": format!("#/$defs/d{}", n + 1)});
        definitions.insert(format!("d{n}"), json!({"type": "object", "properties": {"a": next, "b": next}}));
    }
    let bomb = json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/d0"}}, "$defs": definitions}).to_string();
    let adapted = adapt_tool(&bomb, &NOVA_TOOL).unwrap();
    assert!(adapted.reworded && adapted.schema.len() < 400_000, "{}", adapted.schema.len());
}

#[test]
fn a_conjunction_of_one_is_merged_into_many_members() {
    let members = |name: &str| (0..20_000).map(|i| format!(r#""{name}{i}":{i}"#)).collect::<Vec<_>>().join(",");
    let schema = format!(r#"{{{},"allOf":[{{{},"type":"string"}}]}}"#, members("a"), members("b"));
    assert_eq!(adapt(&schema, &OPENAI).schema, r#"{"type":"string"}"#);
}
