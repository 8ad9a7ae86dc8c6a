//! A request as a borrowed view of the client's bytes.
//!
//! [`Parsed`] is made once when the body is there: one pass over the bytes, the types of the known fields checked.
//! [`ChatRequest`] is what one attempt sees: the client's fields under the route's defaults and overrides, with the
//! model of the attempt's target. Nothing is copied; opaque JSON (schemas, arguments, data URIs) stays raw.

use super::event::Text;
use super::field::{Field, Shape};
use crate::config::snapshot::Params;
use crate::error::ApiError;
use crate::json::envelope::{self, Envelope, Member};
use crate::sign::seal::Seal;
use bytes::Bytes;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// A checked body and where its fields are.
#[derive(Clone, Debug)]
pub struct Parsed {
    body: Bytes,
    envelope: Envelope,
    /// Member number plus one of every known field; 0 for an absent one.
    index: [u16; Field::ALL.len()],
}

impl Parsed {
    /// Checks a body: well-formed JSON, one object, no member twice, known fields of the right type.
    ///
    /// # Errors
    /// A 400 that names the position or the field.
    pub fn parse(body: Bytes) -> Result<Self, ApiError> {
        let envelope = envelope::scan(&body).map_err(|e| ApiError::invalid(e.to_string()))?;
        let mut index = [0u16; Field::ALL.len()];
        for (i, member) in envelope.members.iter().enumerate() {
            let Some(field) = Field::of(name_of(member, &body).as_bytes()) else { continue };
            if let Some(slot) = index.get_mut(field as usize) {
                *slot = i as u16 + 1;
            }
            check_shape(field, member.value.of(&body))?;
        }
        Ok(Self { body, envelope, index })
    }

    /// The body as it came.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Where its members are.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// The member of a known field, also where its value is null.
    pub fn member(&self, field: Field) -> Option<&Member> {
        let slot = *self.index.get(field as usize)?;
        self.envelope.members.get(usize::from(slot).checked_sub(1)?)
    }

    /// The raw value of a field; `None` where it is absent or null.
    pub fn raw(&self, field: Field) -> Option<&str> {
        let value = std::str::from_utf8(self.member(field)?.value.of(&self.body)).ok()?;
        (value != "null").then_some(value)
    }

    /// The text of a string field.
    pub fn text(&self, field: Field) -> Option<String> {
        serde_json::from_str(self.raw(field)?).ok()
    }

    /// Whether a field is `true`.
    pub fn flag(&self, field: Field) -> bool {
        self.raw(field) == Some("true")
    }

    /// Whether the client wants the answer as a stream.
    pub fn stream(&self) -> bool {
        self.flag(Field::Stream)
    }

    /// Whether the client wants usage in its stream.
    pub fn include_usage(&self) -> bool {
        #[derive(serde::Deserialize)]
        struct Options {
            #[serde(default)]
            include_usage: Option<bool>,
        }
        self.raw(Field::StreamOptions)
            .and_then(|raw| serde_json::from_str::<Options>(raw).ok())
            .and_then(|o| o.include_usage)
            .unwrap_or(false)
    }
}

/// A member's name, however it is spelled: a provider reads `"max_tok\u0065ns"` as `max_tokens`, so the gateway must too.
pub fn name_of<'b>(member: &Member, body: &'b [u8]) -> Cow<'b, str> {
    let raw = std::str::from_utf8(envelope::key_bytes(member.key.of(body))).unwrap_or_default();
    Text::Raw(raw).decode()
}

fn check_shape(field: Field, value: &[u8]) -> Result<(), ApiError> {
    let first = value.first().copied().unwrap_or(b' ');
    let number = first == b'-' || first.is_ascii_digit();
    let integer = number && !value.iter().any(|b| matches!(b, b'.' | b'e' | b'E'));
    let (ok, want) = match field.shape() {
        Shape::Any => (true, ""),
        Shape::Text => (first == b'"', "a string"),
        Shape::Number => (number, "a number"),
        Shape::Integer => (integer, "an integer"),
        Shape::Flag => (matches!(first, b't' | b'f'), "true or false"),
        Shape::List => (first == b'[', "an array"),
        Shape::Object => (first == b'{', "an object"),
        Shape::TextOrList => (matches!(first, b'"' | b'['), "a string or an array"),
        Shape::TextOrObject => (matches!(first, b'"' | b'{'), "a string or an object"),
    };
    if ok || first == b'n' {
        return Ok(());
    }
    Err(ApiError::field(field.name(), format!("`{}` must be {want}", field.name())))
}

/// What one attempt is made from.
#[derive(Clone, Copy)]
pub struct ChatRequest<'a> {
    /// The client's request.
    pub parsed: &'a Parsed,
    /// The route's defaults, overrides and policy.
    pub params: &'a Params,
    /// The route's own system prompt, as plain text; it stands before the client's.
    pub system: Option<&'a str>,
    /// The model at this attempt's target, as plain text.
    pub model: &'a str,
    /// Opens and makes tool-call ids that carry a provider's state; `None` where no state is kept.
    pub seal: Option<&'a Seal>,
}

impl<'a> ChatRequest<'a> {
    /// The raw JSON value of a field: the route's override, else the client's, else the route's default. `None` where
    /// nobody gives one or the value is null.
    pub fn raw(&self, field: Field) -> Option<&'a str> {
        let find = |list: &'a [(String, String)]| list.iter().find(|(name, _)| name == field.name()).map(|(_, json)| json.as_str());
        find(&self.params.overrides)
            .or_else(|| self.parsed.raw(field))
            .or_else(|| find(&self.params.defaults))
            .filter(|json| *json != "null")
    }

    /// A field's value as any type; borrowed parts borrow from the request.
    ///
    /// # Errors
    /// A 400 that names the field.
    pub fn get<T: serde::Deserialize<'a>>(&self, field: Field) -> Result<Option<T>, ApiError> {
        let Some(raw) = self.raw(field) else { return Ok(None) };
        serde_json::from_str(raw).map(Some).map_err(|e| ApiError::field(field.name(), format!("`{}`: {e}", field.name())))
    }

    /// Whether the client wants the answer as a stream.
    pub fn stream(&self) -> bool {
        self.parsed.stream()
    }

    /// The messages, each still raw.
    ///
    /// # Errors
    /// A 400 that names `messages`.
    pub fn messages(&self) -> Result<Vec<&'a RawValue>, ApiError> {
        Ok(self.get(Field::Messages)?.unwrap_or_default())
    }
}
