//! All instructions of a conversation in one message, the first, for servers whose chat templates take no other.

use crate::json::envelope::ScanError;
use crate::json::text::Text;
use crate::json::walk;
use crate::json::write::Writer;

/// What stands between two texts of instructions.
const BETWEEN: Text<'static> = Text::Plain("\n\n");

/// Messages (a JSON array) with one message in front that holds the route's instructions and those of all messages of the roles
/// `system` and `developer`.
///
/// # Errors
/// Where a message is not well formed.
pub fn first(messages: &str, route: Option<&str>) -> Result<Vec<u8>, ScanError> {
    let mut texts: Vec<Text<'_>> = route.map(Text::Plain).into_iter().collect();
    let mut others = Vec::new();
    let mut elements = walk::inner_elements(messages)?;
    while let Some(message) = elements.next()? {
        let (mut instructs, mut content) = (false, None);
        let mut members = walk::inner_members(message)?;
        while let Some((key, value)) = members.next()? {
            instructs |= key.is("role") && matches!(value, "\"system\"" | "\"developer\"");
            content = content.or(key.is("content").then_some(value));
        }
        match content {
            Some(content) if instructs && content.starts_with('[') => {
                let mut parts = walk::inner_elements(content)?;
                while let Some(part) = parts.next()? {
                    texts.extend(walk::member(part, "text")?.and_then(walk::string));
                }
            }
            Some(content) if instructs => texts.extend(walk::string(content)),
            _ => others.push(message),
        }
    }
    let mut w = Writer::with_capacity(messages.len() + route.map_or(0, str::len) + 64);
    w.array();
    if !texts.is_empty() {
        let pieces: Vec<_> = texts.iter().flat_map(|text| [BETWEEN, *text]).skip(1).collect();
        w.object().key("role").string("system").key("content").texts(&pieces).end_object();
    }
    others.into_iter().for_each(|message| {
        w.raw(message);
    });
    w.end_array();
    Ok(w.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_stand_in_one_message_in_front_of_all_others() {
        let messages = r#"[{"role":"system","content":"a\n"},{"role":"user","content":"x"},{"content":[{"type":"text","text":"b"},{"type":"text","text":"c"}],"role":"developer"},{"role":"assistant","content":null}]"#;
        let rest = r#"{"role":"user","content":"x"},{"role":"assistant","content":null}]"#;
        let sent = |route| String::from_utf8(first(messages, route).unwrap()).unwrap();
        assert_eq!(sent(None), format!(r#"[{{"role":"system","content":"a\n\n\nb\n\nc"}},{rest}"#));
        assert_eq!(sent(Some("r")), format!(r#"[{{"role":"system","content":"r\n\na\n\n\nb\n\nc"}},{rest}"#));
        let none = r#"[{"role":"user","content":"x"}]"#;
        assert_eq!(first(none, None).unwrap(), none.as_bytes());
    }
}
