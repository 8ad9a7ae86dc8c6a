//! JSON schemas as Anthropic wants them; members and numbers keep their spelling and their order.

use crate::chat::event::Text;
use crate::json::envelope::{MAX_DEPTH, ScanError};
use crate::json::walk;
use crate::json::write::Writer;
use std::borrow::Cow;

/// A tool's schema with `type: object` at its top, which the API demands; `None` where it says another type.
pub(in crate::dialect) fn object(schema: &str) -> Option<Cow<'_, str>> {
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

/// What a schema has become, and whether any of it is words now.
pub(in crate::dialect) struct Strict<'a> {
    pub(in crate::dialect) schema: Cow<'a, str>,
    pub(in crate::dialect) reworded: bool,
}

/// A schema as strict output takes it. Its objects say `additionalProperties: false` wherever they say nothing about it:
/// any other is refused, and clients that hold other servers to a schema seldom write it. Keywords that are refused
/// ("For 'integer' type, property 'minimum' is not supported") stand in the description, where Anthropic's own SDKs put
/// them too (`transform_schema`). What is no schema stays as it is.
pub(in crate::dialect) fn strict(schema: &str) -> Strict<'_> {
    let (mut w, mut reworded) = (Writer::with_capacity(schema.len() + 256), false);
    match rewrite(&mut w, schema, 0, &mut reworded).map(|()| String::from_utf8(w.finish())) {
        Ok(Ok(schema)) => Strict { schema: Cow::Owned(schema), reworded },
        _ => Strict { schema: Cow::Borrowed(schema), reworded: false },
    }
}

/// The string formats that strict output knows.
const FORMATS: [&str; 10] = ["date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"];

/// Whether strict output refuses a keyword.
/// <https://platform.claude.com/docs/en/build-with-claude/structured-outputs#json-schema-limitations>
fn refused(key: &str, value: &str) -> bool {
    match key {
        "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "multipleOf" | "minLength" | "maxLength" | "maxItems"
        | "uniqueItems" | "minProperties" | "maxProperties" => true,
        "minItems" => !matches!(value, "0" | "1"),
        "format" => walk::string(value).is_some_and(|format| !FORMATS.contains(&&*format.decode())),
        _ => false,
    }
}

/// The refused keywords of one schema as words, `{minimum: 1, maximum: 9}`; empty where it has none.
fn words(schema: &str) -> Result<String, ScanError> {
    let (mut members, mut words) = (walk::members(schema)?, String::new());
    while let Some((key, value)) = members.next()? {
        let key = key.decode();
        if refused(&key, value) {
            words.push_str(if words.is_empty() { "{" } else { ", " });
            words.extend([&*key, ": ", value]);
        }
    }
    words.extend((!words.is_empty()).then_some('}'));
    Ok(words)
}

/// Where schemas are inside of a schema.
fn rewrite(w: &mut Writer, schema: &str, depth: usize, reworded: &mut bool) -> Result<(), ScanError> {
    if !schema.starts_with('{') || depth > MAX_DEPTH {
        w.raw(schema);
        return Ok(());
    }
    let words = words(schema)?;
    *reworded |= !words.is_empty();
    let mut members = walk::members(schema)?;
    let (mut object, mut said, mut described) = (false, false, words.is_empty());
    w.object();
    while let Some((key, value)) = members.next()? {
        let key = key.decode();
        match &*key {
            name if refused(name, value) => {}
            "properties" | "$defs" | "definitions" if value.starts_with('{') => {
                let mut named = walk::members(value)?;
                w.key(&key).object();
                while let Some((name, schema)) = named.next()? {
                    w.key(&name.decode());
                    rewrite(w, schema, depth + 1, reworded)?;
                }
                w.end_object();
            }
            "anyOf" | "allOf" | "oneOf" if value.starts_with('[') => {
                let mut list = walk::elements(value)?;
                w.key(&key).array();
                while let Some(schema) = list.next()? {
                    rewrite(w, schema, depth + 1, reworded)?;
                }
                w.end_array();
            }
            "items" => rewrite(w.key(&key), value, depth + 1, reworded)?,
            "description" if !described && value.starts_with('"') => {
                described = true;
                let text = walk::string(value).unwrap_or(Text::Raw(""));
                w.key(&key).texts(&[text, Text::Plain("\n\n"), Text::Plain(&words)]);
            }
            name => {
                object |= name == "type" && value.contains(r#""object""#);
                said |= name == "additionalProperties";
                w.key(&key).raw(value);
            }
        }
    }
    if !described {
        w.key("description").string(&words);
    }
    if object && !said {
        w.key("additionalProperties").flag(false);
    }
    w.end_object();
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_takes_an_object() {
        assert_eq!(object(r#"{"type":"object","properties":{}}"#).unwrap(), r#"{"type":"object","properties":{}}"#);
        assert_eq!(object("{ }").unwrap(), r#"{"type":"object" }"#);
        assert_eq!(object(r#"{"properties":{"type":{}}}"#).unwrap(), r#"{"type":"object","properties":{"type":{}}}"#);
        assert_eq!(object(r#"{"type":"array"}"#), None);
    }

    fn closed(schema: &str) -> Cow<'_, str> {
        let strict = strict(schema);
        assert!(!strict.reworded);
        strict.schema
    }

    #[test]
    fn every_object_that_says_nothing_is_closed() {
        let open = r##"{"type":"object","properties":{"b":{"type":"array","items":{"type":["object","null"]}},"type":{"const":1.0},"c":{"anyOf":[{"type":"object","additionalProperties":{"type":"string"}},{"$ref":"#/$defs/d"}]}},"$defs":{"d":{"type":"object"}},"required":["b"]}"##;
        let want = r##"{"type":"object","properties":{"b":{"type":"array","items":{"type":["object","null"],"additionalProperties":false}},"type":{"const":1.0},"c":{"anyOf":[{"type":"object","additionalProperties":{"type":"string"}},{"$ref":"#/$defs/d"}]}},"$defs":{"d":{"type":"object","additionalProperties":false}},"required":["b"],"additionalProperties":false}"##;
        assert_eq!(closed(open), want);
        assert_eq!(closed("true"), "true");
        assert_eq!(closed(r#"{"enum":[{"type":"object"}]}"#), r#"{"enum":[{"type":"object"}]}"#);
    }

    #[test]
    fn what_is_refused_becomes_words() {
        let open = r#"{"type":"object","properties":{"minimum":{"type":"integer","minimum":1,"description":"a \"number\"","maximum":1e1},"b":{"type":"array","minItems":1,"maxItems":3,"items":{"type":"string","format":"uri"}},"c":{"type":"string","format":"iban","pattern":"^[A-Z]"}},"additionalProperties":false}"#;
        let want = r#"{"type":"object","properties":{"minimum":{"type":"integer","description":"a \"number\"\n\n{minimum: 1, maximum: 1e1}"},"b":{"type":"array","minItems":1,"items":{"type":"string","format":"uri"},"description":"{maxItems: 3}"},"c":{"type":"string","pattern":"^[A-Z]","description":"{format: \"iban\"}"}},"additionalProperties":false}"#;
        let strict = strict(open);
        assert_eq!((&*strict.schema, strict.reworded), (want, true));
        assert_eq!(closed(r#"{"type":"string","description":"d"}"#), r#"{"type":"string","description":"d"}"#);
    }
}
