//! Nulls inside of the fields that have a structure. A null is absence, and OpenAI's published schema allows it in few places,
//! so that servers which check their requests against it refuse it in all others.

use super::body::Body;
use crate::json::envelope::ScanError;
use crate::json::walk;
use crate::json::write::Writer;
use crate::llm::envelope::ChatRequest;
use crate::llm::field::Field;
use memchr::memmem;

/// The fields with a structure, beside the messages.
const FIELDS: [Field; 5] = [Field::Tools, Field::ToolChoice, Field::ResponseFormat, Field::StreamOptions, Field::Functions];
/// Members that may be null: an assistant's turn of calls alone has no content.
const NULLABLE: &str = "content";
/// Members whose inside is not of OpenAI's schema, so that a null there may mean something: JSON schemas, what a provider
/// wants back, arguments.
const OPAQUE: [&str; 6] = ["parameters", "schema", "extra_content", "reasoning_details", "arguments", "input"];

/// Takes the nulls out of a request. One without any, from the client and from the route's settings, is not searched.
pub fn remove(body: &mut Body<'_>, request: &ChatRequest<'_>) {
    let (parsed, params) = (request.parsed, request.params);
    if !parsed.envelope().has_null && params.overrides.is_empty() && params.defaults.is_empty() {
        return;
    }
    let traits = parsed.traits();
    let messages = if traits.nulls || traits.calls || traits.parts { Some(Field::Messages) } else { None };
    for field in FIELDS.into_iter().chain(messages) {
        if let Some(json) = body.value(field).and_then(without) {
            body.set(field, json);
        }
    }
}

/// The value without its null members; `None` where it has none.
fn without(json: &[u8]) -> Option<Vec<u8>> {
    if !may_have(json) {
        return None;
    }
    let (mut w, mut found) = (Writer::with_capacity(json.len()), false);
    copy(simdutf8::basic::from_utf8(json).ok()?, &mut w, &mut found).ok()?;
    found.then(|| w.finish())
}

/// Whether a `null` stands behind a member's name. In a string its quotation mark would be escaped.
fn may_have(json: &[u8]) -> bool {
    memmem::find_iter(json, b"null").any(|at| {
        let name = json.get(..at).and_then(|before| before.trim_ascii_end().strip_suffix(b":")).map(<[u8]>::trim_ascii_end);
        name.and_then(|name| name.strip_suffix(b"\"")).is_some_and(|name| !name.ends_with(b"\\"))
    })
}

fn copy(json: &str, w: &mut Writer, found: &mut bool) -> Result<(), ScanError> {
    match json.as_bytes().first() {
        Some(b'{') => {
            w.object();
            let mut members = walk::inner_members(json)?;
            while let Some((key, value)) = members.next()? {
                let name = key.decode();
                match &*name {
                    name if value == "null" && name != NULLABLE => *found = true,
                    name if OPAQUE.contains(&name) => {
                        w.key(name).raw(value);
                    }
                    name => copy(value, w.key(name), found)?,
                }
            }
            w.end_object();
        }
        Some(b'[') => {
            w.array();
            let mut elements = walk::inner_elements(json)?;
            while let Some(value) = elements.next()? {
                copy(value, w, found)?;
            }
            w.end_array();
        }
        _ => {
            w.raw(json);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_members_are_left_out_of_what_openais_schema_describes() {
        for (json, want) in [
            (
                r#"[{"type":"function","function":{"name":"f","description":null,"parameters":null,"strict" : null}}]"#,
                Some(r#"[{"type":"function","function":{"name":"f"}}]"#),
            ),
            (
                r#"{"type":"json_schema","json_schema":{"name":"s","strict":null,"schema":{"default":null}}}"#,
                Some(r#"{"type":"json_schema","json_schema":{"name":"s","schema":{"default":null}}}"#),
            ),
            (r#"{"include_usage":true,"include_obfuscation":null}"#, Some(r#"{"include_usage":true}"#)),
            (
                r#"[{"role":"assistant","content":null,"refusal":null,"tool_calls":[{"id":"c","extra_content":{"a":null},"index":null}]}]"#,
                Some(r#"[{"role":"assistant","content":null,"tool_calls":[{"id":"c","extra_content":{"a":null}}]}]"#),
            ),
            (r#"[{"role":"assistant","content":null}]"#, None),
            (r#"[{"function":{"parameters":{"enum":[null],"default":null}}}]"#, None),
            (r#"[{"role":"user","content":"{\"a\":null} null"}]"#, None),
        ] {
            let told = without(json.as_bytes()).map(|json| String::from_utf8(json).unwrap());
            assert_eq!(told.as_deref(), want, "{json}");
        }
    }
}
