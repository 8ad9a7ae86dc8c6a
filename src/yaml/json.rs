//! YAML values as JSON, for what is passed on to providers as it is (`params`) and for the schema's defaults.

use super::read::{Read, Reader};
use super::tree::{Node, Value};
use serde_json::{Map, Number, Value as Json};

/// A YAML value as JSON by YAML's core schema: unquoted null, true, false and numbers are what they look like,
/// everything else is text. `None` for what JSON cannot say (`.inf`, `.nan`).
pub fn of_node(node: &Node) -> Option<Json> {
    match &node.value {
        Value::List(items) => items.iter().map(of_node).collect::<Option<Vec<_>>>().map(Json::Array),
        Value::Map(entries) => {
            let entries = entries.iter().map(|(key, node)| Some((key.text.clone(), of_node(node)?)));
            entries.collect::<Option<Map<_, _>>>().map(Json::Object)
        }
        Value::Scalar(text, true) => of_plain(text),
        Value::Scalar(text, false) => Some(Json::String(text.clone())),
    }
}

fn of_plain(text: &str) -> Option<Json> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Some(Json::Null),
        "true" | "True" | "TRUE" => return Some(Json::Bool(true)),
        "false" | "False" | "FALSE" => return Some(Json::Bool(false)),
        ".nan" | ".NaN" | ".NAN" => return None,
        _ => {}
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        return None;
    }
    if let Ok(number) = serde_json::from_str::<Number>(text) {
        return Some(Json::Number(number));
    }
    let radix = |prefix, radix| text.strip_prefix(prefix).and_then(|digits| u64::from_str_radix(digits, radix).ok());
    if let Some(number) = radix("0x", 16).or_else(|| radix("0o", 8)) {
        return Some(Json::Number(number.into()));
    }
    let decimal = unsigned.starts_with(|c: char| c == '.' || c.is_ascii_digit());
    match text.parse::<f64>() {
        Ok(number) if decimal && unsigned.bytes().any(|b| b.is_ascii_digit()) => match text.parse::<i64>() {
            Ok(whole) => Some(Json::Number(whole.into())),
            Err(_) => Number::from_f64(number).map(Json::Number),
        },
        _ => Some(Json::String(text.to_owned())),
    }
}

/// Fields with any JSON as their values, for a provider.
pub struct Fields(pub Vec<(crate::yaml::value::At<String>, Json)>);

impl Read for Fields {
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        let mut fields = Vec::new();
        for (key, node) in cx.map(node)? {
            let mut node = node.clone();
            expand(&mut node, cx);
            match of_node(&node) {
                Some(json) => fields.push((crate::yaml::value::At { at: key.at, value: key.text.clone() }, json)),
                None => cx.must_be(node.at, "something that JSON can say; it has no infinity and no NaN"),
            }
        }
        Some(Self(fields))
    }

    fn absent(_at: crate::yaml::problem::Position) -> Option<Self> {
        Some(Self(Vec::new()))
    }

    fn schema() -> Json {
        serde_json::json!({ "type": "object", "additionalProperties": true })
    }
}

/// Puts variables into every text of a tree.
fn expand(node: &mut Node, cx: &mut Reader<'_>) {
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(|item| expand(item, cx)),
        Value::Map(entries) => entries.iter_mut().for_each(|(_, value)| expand(value, cx)),
        Value::Scalar(text, _) if text.contains("${") => {
            let Some(expanded) = cx.text(node, "text") else { return };
            if let Value::Scalar(text, _) = &mut node.value {
                *text = expanded;
            }
        }
        Value::Scalar(..) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::problem::{Position, Problems};
    use crate::yaml::tree;

    #[test]
    fn yamls_core_schema() {
        let yaml =
            r#"{ a: 0.2, b: "0.2", c: null, d: [yes, true, 1e-5], e: +7, f: .5, g: 0x1F, h: 1.0e-05, i: infinity, j: 12abc, k: 0o17 }"#;
        let node = tree::parse(yaml, &mut Problems::default()).unwrap();
        let want =
            r#"{"a":0.2,"b":"0.2","c":null,"d":["yes",true,1e-5],"e":7,"f":0.5,"g":31,"h":1.0e-05,"i":"infinity","j":"12abc","k":15}"#;
        assert_eq!(of_node(&node).unwrap(), serde_json::from_str::<Json>(want).unwrap());
        for text in [".inf", "-.inf", ".nan"] {
            assert!(of_node(&Node::plain(text, Position::START)).is_none(), "{text}");
        }
    }
}
