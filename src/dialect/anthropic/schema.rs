//! JSON schemas as Anthropic wants them; members and numbers keep their spelling and their order.

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

/// A schema whose objects say `additionalProperties: false` wherever they say nothing about it: strict output refuses
/// any other, and clients that hold other servers to a schema seldom write it. What is no schema stays as it is.
pub(in crate::dialect) fn closed(schema: &str) -> Cow<'_, str> {
    let mut w = Writer::with_capacity(schema.len() + 256);
    match close(&mut w, schema, 0).map(|()| String::from_utf8(w.finish())) {
        Ok(Ok(closed)) => Cow::Owned(closed),
        _ => Cow::Borrowed(schema),
    }
}

/// Where schemas are inside of a schema.
fn close(w: &mut Writer, schema: &str, depth: usize) -> Result<(), ScanError> {
    if !schema.starts_with('{') || depth > MAX_DEPTH {
        w.raw(schema);
        return Ok(());
    }
    let mut members = walk::members(schema)?;
    let (mut object, mut said) = (false, false);
    w.object();
    while let Some((key, value)) = members.next()? {
        let key = key.decode();
        w.key(&key);
        match &*key {
            "properties" | "$defs" | "definitions" if value.starts_with('{') => {
                let mut named = walk::members(value)?;
                w.object();
                while let Some((name, schema)) = named.next()? {
                    w.key(&name.decode());
                    close(w, schema, depth + 1)?;
                }
                w.end_object();
            }
            "anyOf" | "allOf" | "oneOf" if value.starts_with('[') => {
                let mut list = walk::elements(value)?;
                w.array();
                while let Some(schema) = list.next()? {
                    close(w, schema, depth + 1)?;
                }
                w.end_array();
            }
            "items" => close(w, value, depth + 1)?,
            name => {
                object |= name == "type" && value.contains(r#""object""#);
                said |= name == "additionalProperties";
                w.raw(value);
            }
        }
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

    #[test]
    fn every_object_that_says_nothing_is_closed() {
        let open = r##"{"type":"object","properties":{"b":{"type":"array","items":{"type":["object","null"]}},"type":{"const":1.0},"c":{"anyOf":[{"type":"object","additionalProperties":{"type":"string"}},{"$ref":"#/$defs/d"}]}},"$defs":{"d":{"type":"object"}},"required":["b"]}"##;
        let want = r##"{"type":"object","properties":{"b":{"type":"array","items":{"type":["object","null"],"additionalProperties":false}},"type":{"const":1.0},"c":{"anyOf":[{"type":"object","additionalProperties":{"type":"string"}},{"$ref":"#/$defs/d"}]}},"$defs":{"d":{"type":"object","additionalProperties":false}},"required":["b"],"additionalProperties":false}"##;
        assert_eq!(closed(open), want);
        assert_eq!(closed("true"), "true");
        assert_eq!(closed(r#"{"enum":[{"type":"object"}]}"#), r#"{"enum":[{"type":"object"}]}"#);
    }
}
