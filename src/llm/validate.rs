//! What a request must have before anything is done with it: known fields of the right type, and a chat that has a
//! model and messages.
//!
//! Messages are judged while the body is scanned, so that a long conversation costs no further pass and no memory. What only
//! one provider cares about is left to that provider's dialect.

use crate::error::ApiError;
use crate::json::error_path;
use crate::json::text::Text;
use crate::json::walk::{self, Element, Item};
use crate::llm::envelope::{MessageTraits, Outline};
use crate::llm::field::{Field, Shape};
use crate::llm::state;

/// The roles of OpenAI's messages; `function` is the deprecated form of `tool`.
const ROLES: [&str; 6] = ["system", "developer", "user", "assistant", "tool", "function"];

/// Checks the type of one known field. `value` is raw JSON that a scanner has accepted, so that its first byte tells
/// its type; null counts as absent.
pub(super) fn shape(field: Field, shape: Shape, value: &str) -> Result<(), ApiError> {
    let first = value.bytes().next().unwrap_or(b' ');
    let number = first == b'-' || first.is_ascii_digit();
    let (ok, want) = match shape {
        Shape::Any => (true, ""),
        Shape::Text => (first == b'"', "a string"),
        // JSON has no bound; `1e999` would be infinite wherever it is read.
        Shape::Number => (number && value.parse().is_ok_and(f64::is_finite), "a finite number"),
        Shape::Integer => (number && !value.contains(['.', 'e', 'E']), "an integer"),
        Shape::Flag => (matches!(first, b't' | b'f'), "true or false"),
        Shape::List => (first == b'[', "an array"),
        Shape::Object => (first == b'{', "an object"),
        Shape::TextOrList => (matches!(first, b'"' | b'['), "a string or an array"),
        Shape::TextOrObject => (matches!(first, b'"' | b'{'), "a string or an object"),
    };
    if ok || first == b'n' { Ok(()) } else { Err(wrong(field.name(), want)) }
}

/// Checks what every chat needs: a model, messages with known roles and readable content, and an `n` of 1 or more. What
/// its messages have in them.
pub(super) fn chat(outline: &Outline, text: &str, messages: Messages) -> Result<MessageTraits, ApiError> {
    model(outline.raw(text, Field::Model))?;
    for field in [Field::N, Field::MaxTokens, Field::MaxCompletionTokens] {
        if let Some(raw) = outline.raw(text, field) {
            count(field.name(), raw)?;
        }
    }
    outline.raw(text, Field::Messages).ok_or_else(|| missing("messages"))?;
    messages.finish()
}

/// Checks that a request names a route, with the raw value of `model`.
pub(crate) fn model(raw: Option<&str>) -> Result<(), ApiError> {
    match raw {
        None => Err(missing("model")),
        Some("\"\"") => Err(wrong("model", "the name of a route, which is not empty")),
        Some(_) => Ok(()),
    }
}

/// Checks a number of something, of which there must be one or more.
pub(crate) fn count(name: &'static str, raw: &str) -> Result<(), ApiError> {
    match walk::unsigned(raw) {
        Some(1..) => Ok(()),
        None if !raw.is_empty() && raw.bytes().all(|b| b.is_ascii_digit()) => Err(ApiError::field(name, format!("`{name}` is too large"))),
        _ => Err(wrong(name, "1 or more")),
    }
}

/// The messages of a chat, as they are met.
#[derive(Default)]
pub(super) struct Messages {
    /// How many have ended.
    number: usize,
    /// Whether the one that is being read has a role.
    role: bool,
    traits: MessageTraits,
    fault: Option<ApiError>,
}

impl Messages {
    pub(super) fn note(&mut self, item: Item<'_>) {
        if self.fault.is_some() {
            return;
        }
        match item {
            Item::Member(key, value) => self.member(&key.decode(), value),
            Item::End(element) => {
                let role = std::mem::take(&mut self.role);
                match element {
                    Element::Other => self.fault = Some(wrong(format!("messages[{}]", self.number), "an object")),
                    Element::Object if !role => self.fault = Some(missing(format!("messages[{}].role", self.number))),
                    Element::Object => {}
                }
                self.number += 1;
            }
        }
    }

    fn member(&mut self, name: &str, value: &str) {
        self.traits.media |= value.starts_with(['[', '{']) && name != "tool_calls";
        match name {
            "role" => {
                self.role = true;
                let known = walk::string(value).map(Text::decode).filter(|text| ROLES.contains(&text.as_ref()));
                self.traits.developer |= known.as_deref() == Some("developer");
                if known.is_none() {
                    self.refuse(name, "one of system, developer, user, assistant, tool, function");
                }
            }
            "content" if value.starts_with('[') => self.traits.parts = true,
            "content" if !value.starts_with('"') && value != "null" => self.refuse(name, "a string or an array"),
            _ if value == "null" && name != "content" => self.traits.nulls = true,
            "tool_calls" if is_empty_list(value) => self.traits.empty_calls = true,
            "tool_calls" | "tool_call_id" => {
                self.traits.calls = true;
                self.traits.sealed |= state::may_be_in(value);
                if name == "tool_call_id" {
                    self.traits.longest_id = self.traits.longest_id.max(value.len().saturating_sub(2));
                }
            }
            "name" => self.traits.names = true,
            _ => self.traits.reasoning |= name.starts_with("reasoning"),
        }
    }

    fn refuse(&mut self, member: &str, want: &str) {
        self.fault = Some(wrong(format!("messages[{}].{member}", self.number), want));
    }

    fn finish(self) -> Result<MessageTraits, ApiError> {
        match self.fault {
            Some(fault) => Err(fault),
            None if self.number == 0 => Err(wrong("messages", "an array of at least one message")),
            None => Ok(self.traits),
        }
    }
}

/// Whether a value (raw JSON) is an array without elements.
pub(crate) fn is_empty_list(value: &str) -> bool {
    value.strip_prefix('[').and_then(|inside| inside.strip_suffix(']')).is_some_and(|inside| inside.trim().is_empty())
}

/// The 400 for a field of the wrong type or value.
pub(crate) fn wrong(param: impl Into<String>, want: &str) -> ApiError {
    let param = param.into();
    let message = format!("`{param}` must be {want}");
    ApiError::field(param, message)
}

/// The 400 for a value that could not be read: which member of it is to blame, and what it must be.
#[cold]
pub(crate) fn unreadable(param: &str, json: &str, e: &serde_json::Error) -> ApiError {
    let (inner, value) = error_path::locate(json, e.line(), e.column());
    let path = [param, if inner.is_empty() || inner.starts_with('[') { "" } else { "." }, &inner].concat();
    let text = e.to_string();
    let quoted = |start: &str| text.strip_prefix(start).and_then(|rest| rest.split('`').next());
    if let Some(name) = quoted("missing field `") {
        return missing(format!("{path}.{name}"));
    }
    if let Some(name) = quoted("duplicate field `") {
        let path = format!("{path}.{name}");
        return ApiError::field(path.clone(), format!("`{path}` is there twice"));
    }
    let expected = text.rsplit_once("expected ").map_or(&*text, |(_, expected)| expected);
    let has = |words: &[&str]| words.iter().any(|word| expected.contains(word));
    let want = match () {
        () if has(&["struct", "map"]) => "an object",
        () if has(&["sequence", "tuple"]) => "an array",
        () if has(&["bool"]) => "true or false",
        () if has(&["string", "str "]) => "a string",
        () if has(&["u64", "u32", "usize", "i64", "integer"]) => "a whole number",
        () => "of the form that OpenAI's API has for it",
    };
    // Where a string is missed, only the object or array around it is known.
    match only_other(value).or_else(|| first_other(value)).filter(|_| want == "a string") {
        Some(name) => wrong(format!("{path}{name}"), want),
        None => wrong(path, want),
    }
}

/// The first element of an array that is no string.
fn first_other(json: &str) -> Option<String> {
    let mut elements = walk::inner_elements(json).ok()?;
    let mut number = 0;
    while let Some(value) = elements.next().ok()? {
        if !value.starts_with('"') {
            return Some(format!("[{number}]"));
        }
        number += 1;
    }
    None
}

/// The only member of an object that is no string.
fn only_other(json: &str) -> Option<String> {
    let mut members = walk::inner_members(json).ok()?;
    let mut found = None;
    while let Some((key, value)) = members.next().ok()? {
        if !value.starts_with('"') && found.replace(format!(".{}", key.decode())).is_some() {
            return None;
        }
    }
    found
}

/// The 400 for a field that is not there.
pub(crate) fn missing(param: impl Into<String>) -> ApiError {
    let param = param.into();
    let message = format!("`{param}` is missing");
    ApiError::field(param, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::envelope::Parsed;
    use bytes::Bytes;

    fn param(body: &str) -> String {
        let error = Parsed::parse(Bytes::copy_from_slice(body.as_bytes())).unwrap_err();
        assert_eq!(error.status, 400);
        let param = error.param.unwrap_or_default().into_owned();
        assert!(error.message.contains(&param), "{}", error.message);
        param
    }

    #[test]
    fn a_chat_without_its_parts_is_refused_by_name() {
        for (body, want) in [
            (r#"{"messages":[{"role":"user","content":"x"}]}"#, "model"),
            (r#"{"model":null,"messages":[{"role":"user","content":"x"}]}"#, "model"),
            (r#"{"model":"","messages":[{"role":"user","content":"x"}]}"#, "model"),
            (r#"{"model":7,"messages":[{"role":"user","content":"x"}]}"#, "model"),
            (r#"{"model":"m"}"#, "messages"),
            (r#"{"model":"m","messages":"hi"}"#, "messages"),
            (r#"{"model":"m","messages":[]}"#, "messages"),
            (r#"{"model":"m","messages":["hi"]}"#, "messages[0]"),
            (r#"{"model":"m","messages":[{"role":"user"},{"content":"x"}]}"#, "messages[1].role"),
            (r#"{"model":"m","messages":[{"role":"user"},{},{"role":"wizard"}]}"#, "messages[1].role"),
            (r#"{"model":"m","messages":[{"role":"user"},{"role":"user"},{"role":"wizard"}]}"#, "messages[2].role"),
            (r#"{"model":"m","messages":[{"role":1}]}"#, "messages[0].role"),
            (r#"{"model":"m","messages":[{"role":"user","content":{}}]}"#, "messages[0].content"),
            (r#"{"model":"m","messages":[{"role":"user","content":"x"}],"n":0}"#, "n"),
            (r#"{"model":"m","messages":[{"role":"user","content":"x"}],"n":-1}"#, "n"),
            (r#"{"model":"m","messages":[{"role":"user","content":"x"}],"max_tokens":0}"#, "max_tokens"),
            (r#"{"model":"m","messages":[{"role":"user","content":"x"}],"max_completion_tokens":-1}"#, "max_completion_tokens"),
            (r#"{"model":"m","messages":[{"role":"user","content":"x"}],"temperature":"hot"}"#, "temperature"),
            (r#"{"model":"m","messages":[{"role":"user","content":"x"}],"temperature":1e999}"#, "temperature"),
            (r#"{"model":"m","messages":[{"role":"user","content":"x"}],"max_tokens":1.5}"#, "max_tokens"),
            (r#"{"model":"m","messages":[{"role":"user","content":"x"}],"stream_options":[]}"#, "stream_options"),
        ] {
            assert_eq!(param(body), want, "{body}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_number_or_a_key_is_said_as_it_is() {
        for (body, want) in [
            (r#"{"model":"m","messages":[{"role":"user"}],"max_tokens":18446744073709551616}"#, "`max_tokens` is too large"),
            (r#"{"model":"m","mod\u0065l":"n"}"#, "Invalid JSON body: duplicate key `model` at line 1 column 14 (byte 13)"),
            (r#"{"model":"m","messages":[{"role":"user"}],"n":99999999999999999999}"#, "`n` is too large"),
            (r#"{"model":"m","messages":[{"role":"user"}],"n":-99999999999999999999}"#, "`n` must be 1 or more"),
        ] {
            assert_eq!(Parsed::parse(Bytes::from_static(body.as_bytes())).unwrap_err().message, want);
        }
    }

    #[test]
    fn an_element_that_is_no_string_is_named() {
        let e = serde_json::from_str::<Vec<Text<'_>>>(r#"["a",1]"#).unwrap_err();
        assert_eq!(unreadable("stop", r#"["a",1]"#, &e).param.as_deref(), Some("stop[1]"));
    }

    #[test]
    fn bad_json_is_refused_with_its_position() {
        let error = Parsed::parse(Bytes::from_static(br#"{"model": "m", "messages": [}"#)).unwrap_err();
        assert_eq!(error.message, "Invalid JSON body: expected a value at line 1 column 29 (byte 28)");
        assert!(Parsed::parse(Bytes::from_static(b"[1,2]")).is_err());
    }

    #[test]
    fn spelling_and_nulls_do_not_matter() {
        let body = br#"{"mod\u0065l":"m","n":null,"stream":true,"x":null,
            "messages":[{"r\u006fle":"us\u0065r","content":null},{"content":[],"role":"tool"}]}"#;
        let parsed = Parsed::parse(Bytes::from_static(body)).unwrap();
        assert_eq!(parsed.raw(Field::Model), Some("\"m\""));
        assert!(parsed.stream() && parsed.raw(Field::N).is_none());
        assert!(parsed.find("model").is_some() && parsed.find("x").is_some() && parsed.find("y").is_none());
    }

    #[test]
    fn what_stands_in_messages_is_noted_however_it_is_spelled() {
        let traits = |messages: &str| Parsed::parse(format!(r#"{{"model":"m","messages":[{messages}]}}"#).into()).unwrap().traits();
        let nothing = r#"{"role":"user","content":"tool_calls reasoning developer [ --tg1- name"}"#;
        assert_eq!(traits(nothing), MessageTraits::default());
        for (message, want) in [
            (r#"{"role":"assistant","tool_c\u0061lls":[{}]}"#, MessageTraits { calls: true, ..MessageTraits::default() }),
            (r#"{"role":"assistant","tool_calls":[ ]}"#, MessageTraits { empty_calls: true, ..MessageTraits::default() }),
            (
                r#"{"role":"tool","tool_call_id":"longer","content":""},{"role":"tool","tool_call_id":"x"}"#,
                MessageTraits { calls: true, longest_id: 6, ..MessageTraits::default() },
            ),
            (
                r#"{"role":"assistant","tool_calls":[{"id":"x--tg1-AA"}]}"#,
                MessageTraits { calls: true, sealed: true, ..MessageTraits::default() },
            ),
            (r#"{"role":"user","n\u0061me":"Ada"}"#, MessageTraits { names: true, ..MessageTraits::default() }),
            (r#"{"role":"assistant","reasoning_content":"x"}"#, MessageTraits { reasoning: true, ..MessageTraits::default() }),
            (r#"{"role":"devel\u006fper","content":""}"#, MessageTraits { developer: true, ..MessageTraits::default() }),
            (r#"{"role":"user","content":[]}"#, MessageTraits { parts: true, media: true, ..MessageTraits::default() }),
            (r#"{"role":"assistant","images":[{}]}"#, MessageTraits { media: true, ..MessageTraits::default() }),
        ] {
            assert_eq!(traits(&format!("{nothing},{message}")), want, "{message}");
        }
    }

    #[test]
    fn other_endpoints_have_other_fields() {
        let parsed = Parsed::scan(Bytes::from_static(br#"{"model":"m","input":["a"]}"#)).unwrap();
        assert_eq!(parsed.find("input").unwrap().value.of(parsed.body()), br#"["a"]"#);
    }
}
