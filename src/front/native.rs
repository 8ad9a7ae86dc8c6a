//! Passes on the answer of a provider that speaks the client's protocol: its bytes as they are, but for the model, which is
//! called what the client called it.

use crate::error::ApiError;
use crate::front::responses::response::Response;
use crate::json::text::Text;
use crate::json::walk::{self, Cursor};
use crate::json::write::Writer;

/// A protocol whose answers can pass.
#[derive(Clone, Debug)]
pub enum Protocol {
    /// Anthropic's Messages.
    Messages,
    /// OpenAI's Responses, with what ends the stream where the provider does not.
    Responses(Response),
}

impl Protocol {
    /// The member that holds the answer's head, where an event of this type has one.
    fn head(&self, event: &str) -> Option<&'static str> {
        match self {
            Self::Messages => (event == "message_start").then_some("message"),
            Self::Responses(_) => match event.strip_prefix("response.")? {
                "created" | "queued" | "in_progress" | "completed" | "incomplete" | "failed" => Some("response"),
                _ => None,
            },
        }
    }
}

/// The events that have not been taken yet.
pub struct Native {
    protocol: Protocol,
    model: Box<str>,
    id: Option<Box<str>>,
    /// The `sequence_number` of the event behind the last one, where the protocol counts its events.
    next: u64,
    out: Vec<u8>,
}

impl Native {
    /// For an answer to a client that called the model so.
    pub fn new(protocol: Protocol, model: Box<str>) -> Self {
        Self { protocol, model, id: None, next: 0, out: Vec::new() }
    }

    /// What has been passed since the last call.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// The provider's id of the answer, once it has come.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// The events that end a stream which cannot be completed, where the protocol's error event alone does not.
    pub fn failure(&self, error: &ApiError) -> Option<Vec<u8>> {
        match &self.protocol {
            Protocol::Messages => None,
            Protocol::Responses(response) => Some(response.after(self.id(), self.next).failure(error, &[])),
        }
    }

    /// Passes one event. Hosts that frame it in another way leave its name to its `type`.
    pub fn event(&mut self, name: Option<&str>, data: &str) {
        let found = if name.is_none() { member(data, "type").map(|(_, value)| value.trim_matches('"')) } else { None };
        let name = name.or(found).unwrap_or_default();
        if name.is_empty() && data.is_empty() {
            return;
        }
        let mut renamed = None;
        if let Some(inside) = self.protocol.head(name) {
            renamed = self.renamed(data, Some(inside));
            self.keep_id(member(data, inside).map_or("", |(_, head)| head));
        }
        if let Protocol::Responses(_) = self.protocol {
            let number = member(data, "sequence_number").and_then(|(_, value)| walk::unsigned(value));
            self.next = number.map_or(self.next, |number| number.saturating_add(1));
        }
        write_event(&mut self.out, name, renamed.as_deref().unwrap_or(data));
    }

    /// A whole answer.
    pub fn whole(&mut self, body: &[u8]) -> Vec<u8> {
        let text = std::str::from_utf8(body).unwrap_or_default();
        self.keep_id(text);
        self.renamed(text, None).map_or_else(|| body.to_vec(), String::into_bytes)
    }

    fn keep_id(&mut self, head: &str) {
        let id = member(head, "id").and_then(|(_, value)| walk::string(value)).map(Text::decode);
        self.id = id.filter(|id| id.len() <= MAX_ID).map(Into::into).or(self.id.take());
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

/// Writes an event; one without a name, as `[DONE]` is, has an empty one.
pub fn write_event(out: &mut Vec<u8>, name: &str, data: &str) {
    for (key, value) in [("event: ", name), ("data: ", data)] {
        for line in value.split('\n').filter(|_| !value.is_empty()) {
            out.extend_from_slice(key.as_bytes());
            out.extend_from_slice(line.as_bytes());
            out.push(b'\n');
        }
    }
    out.push(b'\n');
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
mod tests {
    use super::*;

    #[test]
    fn only_the_messages_own_model_is_renamed() {
        let mut native = Native::new(Protocol::Messages, "a \"b\"".into());
        let body = r#"{ "content":[{"input":{"model":"x"}}], "\u006dodel" : "claude", "z": 1.50 }"#;
        let expected = r#"{ "content":[{"input":{"model":"x"}}], "\u006dodel" : "a \"b\"", "z": 1.50 }"#;
        assert_eq!(String::from_utf8(native.whole(body.as_bytes())).unwrap(), expected);
        assert_eq!(native.whole(b"{\"a\":1}"), b"{\"a\":1}");
    }

    #[test]
    fn events_pass_as_they_are_and_get_their_name_from_their_type() {
        let mut native = Native::new(Protocol::Messages, "m".into());
        native.event(Some("message_start"), r#"{"type":"message_start","message":{"id":"1","model":"claude"},"model":"claude"}"#);
        native.event(None, r#"{"x": 1.0,"type":"brand_new"}"#);
        let expected = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"1\",\"model\":\"m\"},\"model\":\"claude\"}\n\n\
             event: brand_new\ndata: {\"x\": 1.0,\"type\":\"brand_new\"}\n\n";
        assert_eq!((String::from_utf8(native.take()).unwrap(), native.id()), (expected.to_owned(), Some("1")));
    }

    #[test]
    fn responses_are_renamed_in_every_event_that_has_one_and_their_events_are_counted() {
        let mut native = Native::new(Protocol::Responses(Response::default()), "m".into());
        let head = |name: &str, number: u8| {
            // The response says back what was asked, which has members of any name.
            let response = r#"{"id":"resp_1","model":"gpt","tools":[{"parameters":{"sequence_number":7}}]}"#;
            format!(r#"{{"type":"response.{name}","response":{response},"sequence_number" : {number}}}"#)
        };
        native.event(Some("response.created"), &head("created", 0));
        assert_eq!(native.next, 1);
        native.event(Some("response.output_text.delta"), r#"{"delta":"\"sequence_number\":9","sequence_number": 1}"#);
        assert_eq!((native.id(), native.next), (Some("resp_1"), 2));
        native.event(Some("response.completed"), &head("completed", 2));
        native.event(None, "[DONE]");
        let passed = String::from_utf8(native.take()).unwrap();
        assert_eq!((passed.matches(r#""model":"m""#).count(), passed.matches("gpt").count(), native.next), (2, 0, 3));
        assert!(passed.ends_with("}\n\ndata: [DONE]\n\n"), "{passed}");
        let failure = String::from_utf8(native.failure(&ApiError::upstream("broke")).unwrap()).unwrap();
        assert!(failure.starts_with("event: error\ndata: {\"type\":\"error\",\"sequence_number\":3,"), "{failure}");
        assert!(failure.contains("\"sequence_number\":4,\"response\":{\"id\":\"resp_1\""), "{failure}");
    }
}
