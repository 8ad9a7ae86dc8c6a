//! Messages and tools without `cache_control`, for servers that take no members that they do not know.

use crate::json::envelope::ScanError;
use crate::json::walk;
use crate::json::write::Writer;
use memchr::memmem;

const MARK: &str = "cache_control";
/// Members of a message and of a tool whose values may have marks of their own: a message's parts and calls, and a tool's function.
const INSIDE: [&str; 3] = ["content", "tool_calls", "function"];

/// A list of messages or of tools (a JSON array) without marks; `None` where it has none.
///
/// # Errors
/// Where it is not well formed.
pub fn left_out(list: &[u8]) -> Result<Option<Vec<u8>>, ScanError> {
    let Some(list) = std::str::from_utf8(list).ok().filter(|list| memmem::find(list.as_bytes(), MARK.as_bytes()).is_some()) else {
        return Ok(None);
    };
    let mut w = Writer::with_capacity(list.len());
    value(list, true, &mut w)?;
    Ok(Some(w.finish()))
}

/// Writes a list of objects or an object without marks, and with `deep` what is inside of the objects.
fn value(json: &str, deep: bool, w: &mut Writer) -> Result<(), ScanError> {
    if json.starts_with('[') {
        w.array();
        let mut elements = walk::inner_elements(json)?;
        while let Some(element) = elements.next()? {
            value(element, deep, w)?;
        }
        w.end_array();
        return Ok(());
    }
    if !json.starts_with('{') {
        w.raw(json);
        return Ok(());
    }
    w.object();
    let mut members = walk::inner_members(json)?;
    while let Some((key, member)) = members.next()? {
        match &*key.decode() {
            MARK => {}
            name if deep && INSIDE.contains(&name) => value(member, false, w.key(name))?,
            name => {
                w.key(name).raw(member);
            }
        }
    }
    w.end_object();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_go_and_what_is_named_like_them_stays() {
        let mark = r#""cache_control":{"type":"ephemeral"}"#;
        let messages = format!(
            r#"[{{"role":"system","content":[{{"type":"text","text":"cache_control",{mark}}}],{mark}}},{{"role":"assistant","content":null,"tool_calls":[{{"id":"c",{mark}}}]}}]"#
        );
        let want = r#"[{"role":"system","content":[{"type":"text","text":"cache_control"}]},{"role":"assistant","content":null,"tool_calls":[{"id":"c"}]}]"#;
        assert_eq!(left_out(messages.as_bytes()).unwrap().unwrap(), want.as_bytes());
        let schema = r#""parameters":{"properties":{"cache_control":{"type":"string"}}}"#;
        let tools = format!(r#"[{{{mark},"type":"function","function":{{"name":"f",{schema},{mark}}}}}]"#);
        let want = format!(r#"[{{"type":"function","function":{{"name":"f",{schema}}}}}]"#);
        assert_eq!(left_out(tools.as_bytes()).unwrap().unwrap(), want.as_bytes());
        assert_eq!(left_out(br#"[{"role":"user","content":"x"}]"#).unwrap(), None);
    }
}
