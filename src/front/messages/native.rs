//! Passes a Claude's answer on: its bytes as they are, but for the model, which is called what the client called it.

use crate::error::ApiError;
use crate::json::text::Text;
use crate::json::walk::{self, Cursor};
use crate::json::write::Writer;

/// The events that have not been taken yet.
pub struct Native {
    model: Box<str>,
    id: Option<Box<str>>,
    out: Vec<u8>,
}

impl Native {
    /// For an answer to a client that called the model so.
    pub fn new(model: Box<str>) -> Self {
        Self { model, id: None, out: Vec::new() }
    }

    /// What has been passed since the last call.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// The provider's id of the answer, once it has come.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Passes one event. Hosts that frame it in another way leave its name to its `type`.
    pub fn event(&mut self, name: Option<&str>, data: &str) {
        let found = if name.is_none() { member(data, "type").map(|(_, value)| value.trim_matches('"')) } else { None };
        let name = name.or(found).unwrap_or_default();
        if name.is_empty() && data.is_empty() {
            return;
        }
        let mut renamed = None;
        if name == "message_start" {
            renamed = self.renamed(data, Some("message"));
            self.keep_id(member(data, "message").map_or("", |(_, message)| message));
        }
        self.out.extend_from_slice(b"event: ");
        self.out.extend_from_slice(name.as_bytes());
        for line in renamed.as_deref().unwrap_or(data).split('\n') {
            self.out.extend_from_slice(b"\ndata: ");
            self.out.extend_from_slice(line.as_bytes());
        }
        self.out.extend_from_slice(b"\n\n");
    }

    /// A whole answer.
    pub fn whole(&mut self, body: &[u8]) -> Vec<u8> {
        let text = std::str::from_utf8(body).unwrap_or_default();
        self.keep_id(text);
        self.renamed(text, None).map_or_else(|| body.to_vec(), String::into_bytes)
    }

    fn keep_id(&mut self, message: &str) {
        let id = member(message, "id").and_then(|(_, value)| walk::string(value)).map(Text::decode);
        self.id = id.filter(|id| id.len() <= MAX_ID).map(Into::into);
    }

    /// The same JSON with the client's name of the model, which is a member of the object or of the one `inside`. `None` where
    /// there is none.
    fn renamed(&self, json: &str, inside: Option<&str>) -> Option<String> {
        let (start, object) = match inside {
            Some(name) => member(json, name)?,
            None => (0, json),
        };
        let (at, value) = member(object, "model")?;
        let (before, after) = (json.get(..start + at)?, json.get(start + at + value.len()..)?);
        let mut w = Writer::with_capacity(self.model.len() + 2);
        w.string(&self.model);
        Some([before, &String::from_utf8(w.finish()).ok()?, after].concat())
    }
}

/// Longest id that is kept, in bytes.
const MAX_ID: usize = 128;

/// The value of an object's member and where it begins.
fn member<'a>(json: &'a str, name: &str) -> Option<(usize, &'a str)> {
    let (mut cursor, mut found) = (Cursor::new(json), None);
    let read = cursor.object(|cursor, key| {
        let value = cursor.raw()?;
        if found.is_none() && Text::Raw(key).decode() == name {
            found = Some((cursor.position() - value.len(), value));
        }
        Ok::<_, ApiError>(())
    });
    read.ok()?;
    found
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_the_messages_own_model_is_renamed() {
        let mut native = Native::new("a \"b\"".into());
        let body = r#"{ "content":[{"input":{"model":"x"}}], "\u006dodel" : "claude", "z": 1.50 }"#;
        let expected = r#"{ "content":[{"input":{"model":"x"}}], "\u006dodel" : "a \"b\"", "z": 1.50 }"#;
        assert_eq!(String::from_utf8(native.whole(body.as_bytes())).unwrap(), expected);
        assert_eq!(native.whole(b"{\"a\":1}"), b"{\"a\":1}");
    }

    #[test]
    fn events_pass_as_they_are_and_get_their_name_from_their_type() {
        let mut native = Native::new("m".into());
        native.event(Some("message_start"), r#"{"type":"message_start","message":{"id":"1","model":"claude"},"model":"claude"}"#);
        native.event(None, r#"{"x": 1.0,"type":"brand_new"}"#);
        let expected = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"1\",\"model\":\"m\"},\"model\":\"claude\"}\n\n\
             event: brand_new\ndata: {\"x\": 1.0,\"type\":\"brand_new\"}\n\n";
        assert_eq!((String::from_utf8(native.take()).unwrap(), native.id()), (expected.to_owned(), Some("1")));
    }
}
