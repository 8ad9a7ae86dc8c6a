//! A request as a borrowed view of the client's bytes.
//!
//! [`Parsed`] is made once when the body is there: one pass over the bytes, the types of the known fields checked.
//! [`ChatRequest`] is what one attempt sees: the client's fields under the route's defaults and overrides, with the
//! model of the attempt's target. Nothing is copied; opaque JSON (schemas, arguments, data URIs) stays raw.

use crate::error::ApiError;
use crate::json::envelope::{self, Envelope, Member};
use crate::json::text::Text;
use crate::json::utf8::Utf8Bytes;
use crate::json::walk::{self, Item};
use crate::llm::field::{Field, Fields, GUIDED, Shape};
use crate::llm::request::{Authority, HELD, Param, Sampling};
use crate::llm::settings::Params;
use crate::llm::state::Seal;
use crate::llm::validate;
use bytes::Bytes;
use smallvec::SmallVec;
use std::borrow::Cow;

/// Client fields with this prefix speak to the gateway and never go upstream.
const GATEWAY_PREFIX: &str = "tensorzero::";

/// A checked body and where its fields are.
#[derive(Clone, Debug)]
pub struct Parsed {
    body: Utf8Bytes,
    outline: Outline,
    traits: MessageTraits,
}

/// Where the fields of a body are.
#[derive(Clone, Debug)]
pub(super) struct Outline {
    envelope: Envelope,
    /// Which known field each member is.
    fields: SmallVec<[Option<Field>; 16]>,
    /// Member number plus one of every known field; 0 for an absent one.
    index: [u16; Field::ALL.len()],
    /// The known fields that are there, null or not.
    present: Fields,
}

/// What stands in a chat's messages that a dialect may have to do something about. It may say too much, and never too
/// little.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageTraits {
    /// Calls of tools, or their results.
    pub calls: bool,
    /// A list of no calls.
    pub empty_calls: bool,
    /// The id of a call, or of its result, with a provider's state in it.
    pub sealed: bool,
    /// The longest id of a call that has a result, in bytes. Every call of a conversation has one.
    pub longest_id: usize,
    /// A model's reasoning.
    pub reasoning: bool,
    /// The role `developer`.
    pub developer: bool,
    /// The name of a participant.
    pub names: bool,
    /// Content in parts.
    pub parts: bool,
    /// Values in which an image, a file or a recording may be: objects and arrays, other than calls.
    pub media: bool,
    /// A null beside the content.
    pub nulls: bool,
}

impl MessageTraits {
    /// Of messages that nobody has looked into.
    const UNKNOWN: Self = Self {
        calls: true,
        empty_calls: true,
        sealed: true,
        longest_id: usize::MAX,
        reasoning: true,
        developer: true,
        names: true,
        parts: true,
        media: true,
        nulls: true,
    };
}

impl Outline {
    /// `shape`: what the value of a field must be, where the client's protocol has it; else the member is an unknown one.
    /// `note` receives what is in the messages.
    fn of<'t>(text: &'t str, shape: impl Fn(Field) -> Option<Shape>, note: impl FnMut(Item<'t>)) -> Result<Self, ApiError> {
        let envelope = envelope::scan_noting(text, Field::Messages.name(), note).map_err(|e| ApiError::invalid(e.message(text)))?;
        let mut index = [0u16; Field::ALL.len()];
        let (mut fields, mut present) = (SmallVec::new(), Fields::default());
        for (number, member) in (1..).zip(&envelope.members) {
            let name = member.name(text);
            let field = Field::of(name.raw().as_bytes()).or_else(|| Field::of(name.decode().as_bytes()));
            let known = field.and_then(|field| Some((field, shape(field)?)));
            fields.push(known.map(|(field, _)| field));
            let Some((field, shape)) = known else { continue };
            if let Some(slot) = index.get_mut(field as usize) {
                *slot = number;
            }
            present.insert(field);
            validate::shape(field, shape, member.value.text(text))?;
        }
        Ok(Self { envelope, fields, index, present })
    }

    fn member(&self, field: Field) -> Option<&Member> {
        let slot = *self.index.get(field as usize)?;
        self.envelope.members.get(usize::from(slot).checked_sub(1)?)
    }

    /// The raw value of a field of `text`; `None` where it is absent or null.
    pub(super) fn raw<'t>(&self, text: &'t str, field: Field) -> Option<&'t str> {
        self.member(field).map(|member| member.value.text(text)).filter(|value| *value != "null")
    }
}

impl Parsed {
    /// Checks the body of a chat completion: [`Self::scan`], and the parts that every provider needs are there.
    ///
    /// # Errors
    /// A 400 that names the position or the field.
    pub fn parse(body: Bytes) -> Result<Self, ApiError> {
        let body = Utf8Bytes::new(body).map_err(ApiError::from)?;
        let mut messages = validate::Messages::default();
        let outline = Outline::of(body.text(), |field| Some(field.shape()), |item| messages.note(item))?;
        let traits = validate::chat(&outline, body.text(), messages)?;
        Ok(Self { body, outline, traits })
    }

    /// Checks a body of any endpoint: well-formed JSON, one object, no member twice, known fields of the right type.
    ///
    /// # Errors
    /// A 400 that names the position or the field.
    pub fn scan(body: Bytes) -> Result<Self, ApiError> {
        Self::scan_as(body, |field| Some(field.shape()))
    }

    /// The same for a protocol that has only the fields for which `shape` says what their values must be.
    ///
    /// # Errors
    /// A 400 that names the position or the field.
    pub fn scan_as(body: Bytes, shape: impl Fn(Field) -> Option<Shape>) -> Result<Self, ApiError> {
        let body = Utf8Bytes::new(body).map_err(ApiError::from)?;
        let outline = Outline::of(body.text(), shape, |_| ())?;
        Ok(Self { body, outline, traits: MessageTraits::UNKNOWN })
    }

    /// The body as it came.
    pub fn body(&self) -> &Bytes {
        self.body.bytes()
    }

    /// Where its members are.
    pub fn envelope(&self) -> &Envelope {
        &self.outline.envelope
    }

    /// Its members in their order, each with the known field that it is.
    pub fn members(&self) -> impl Iterator<Item = (Option<Field>, &Member)> {
        self.outline.fields.iter().copied().zip(&self.outline.envelope.members)
    }

    /// What stands in its messages.
    pub fn traits(&self) -> MessageTraits {
        self.traits
    }

    /// The member of a known field, also where its value is null.
    pub fn member(&self, field: Field) -> Option<&Member> {
        self.outline.member(field)
    }

    /// The member of this name, known or not, also where its value is null.
    pub fn find(&self, name: &str) -> Option<&Member> {
        match Field::of(name.as_bytes()) {
            Some(field) if self.member(field).is_some() => self.member(field),
            _ => self.find_unknown(name),
        }
    }

    /// The member of this name, which is no known field's.
    pub fn find_unknown(&self, name: &str) -> Option<&Member> {
        let mut unknown = self.members().filter(|(field, _)| field.is_none()).map(|(_, member)| member);
        unknown.find(|member| member.name(self.body.text()).is(name))
    }

    /// The members that are no known field, the gateway's own, or null: name and raw value.
    pub fn unknown(&self) -> impl Iterator<Item = (Cow<'_, str>, &str)> {
        let unknown = self.members().filter(|(field, _)| field.is_none());
        let named = unknown.map(|(_, member)| (self.name_of(member), self.text_of(member)));
        named.filter(|(name, raw)| *raw != "null" && !is_gateways(name))
    }

    /// The raw value of a field; `None` where it is absent or null.
    pub fn raw(&self, field: Field) -> Option<&str> {
        self.member(field).map(|member| self.text_of(member)).filter(|value| *value != "null")
    }

    /// The raw value of the member of this name, known or not; `None` where it is absent or null.
    pub fn raw_named(&self, name: &str) -> Option<&str> {
        self.find(name).map(|member| self.text_of(member)).filter(|value| *value != "null")
    }

    /// A member's name, however it is spelled: a provider reads `"max_tok\u0065ns"` as `max_tokens`, so the gateway must too.
    pub fn name_of(&self, member: &Member) -> Cow<'_, str> {
        member.name(self.body.text()).decode()
    }

    /// The raw value of a member.
    fn text_of(&self, member: &Member) -> &str {
        member.value.text(self.body.text())
    }

    /// The text of a string field.
    pub fn text(&self, field: Field) -> Option<String> {
        Some(walk::string(self.raw(field)?)?.decode().into_owned())
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
        let options = self.raw(Field::StreamOptions);
        options.and_then(|raw| walk::member(raw, "include_usage").ok().flatten()) == Some("true")
    }
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
    /// nobody gives one, the value is null or the target has refused the member.
    pub fn raw(&self, field: Field) -> Option<&'a str> {
        if self.params.adjustments.without.contains(field) {
            return None;
        }
        self.given(field)
    }

    /// The same, also where the target has refused the member.
    pub fn given(&self, field: Field) -> Option<&'a str> {
        if self.params.overrides.is_empty() && self.params.defaults.is_empty() {
            return self.parsed.raw(field).filter(|json| *json != "null");
        }
        self.under_settings(field.name(), || self.parsed.raw(field))
    }

    /// The known fields that may be given: all that the client or the route's settings name, null or not.
    pub fn fields(&self) -> Fields {
        let mut fields = self.parsed.outline.present;
        let settings = self.params.overrides.iter().chain(&self.params.defaults);
        settings.filter_map(|(name, _)| Field::of(name.as_bytes())).for_each(|field| fields.insert(field));
        fields
    }

    /// The same for a member of any name.
    pub fn raw_named(&self, name: &str) -> Option<&'a str> {
        self.under_settings(name, || self.parsed.raw_named(name))
    }

    fn under_settings(&self, name: &str, client: impl FnOnce() -> Option<&'a str>) -> Option<&'a str> {
        let find = |list: &'a [(String, String)]| list.iter().find(|(known, _)| known == name).map(|(_, json)| json.as_str());
        find(&self.params.overrides).or_else(client).or_else(|| find(&self.params.defaults)).filter(|json| *json != "null")
    }

    /// A field's value as any type; borrowed parts borrow from the request.
    ///
    /// # Errors
    /// A 400 that names the field.
    pub fn get<T: serde::Deserialize<'a>>(&self, field: Field) -> Result<Option<T>, ApiError> {
        let Some(raw) = self.raw(field) else { return Ok(None) };
        serde_json::from_str(raw).map(Some).map_err(|e| validate::unreadable(field.name(), raw, &e))
    }

    /// A field's raw value where it asks for something: null, defaults and empty values are as good as absent.
    pub fn asked(&self, field: Field) -> Option<&'a str> {
        let raw = self.raw(field)?;
        let empty = match raw.as_bytes() {
            [b'"', rest @ ..] => rest == b"\"",
            [b'{' | b'[', inside @ .., b'}' | b']'] => inside.iter().all(u8::is_ascii_whitespace),
            _ => false,
        };
        let zero = || raw.parse::<f64>().is_ok_and(|n| n == 0.0);
        let nothing = match field {
            Field::N => raw == "1",
            Field::Logprobs | Field::Store => raw == "false",
            Field::TopLogprobs => zero() || self.raw(Field::Logprobs) != Some("true"),
            Field::FrequencyPenalty | Field::PresencePenalty => zero(),
            Field::ParallelToolCalls => raw == "true" || self.asked(Field::Tools).is_none(),
            // Without tools nothing can be called, whatever the choice says; a choice that demands a call is a mistake.
            Field::ToolChoice => matches!(raw, "\"none\"" | "\"auto\"") && self.asked(Field::Tools).is_none(),
            Field::FunctionCall => matches!(raw, "\"none\"" | "\"auto\"") && self.asked(Field::Functions).is_none(),
            Field::ResponseFormat => is_text_format(raw),
            Field::Modalities => serde_json::from_str::<Vec<&str>>(raw).is_ok_and(|list| list == ["text"]),
            Field::ServiceTier => raw == "\"auto\"" || empty,
            Field::Verbosity => raw == "\"medium\"" || empty,
            // An empty value of these is a mistake or means something: the provider or the constraint shall judge.
            Field::WebSearchOptions => false,
            field if GUIDED.contains(&field) && field != Field::StructuralTag => false,
            _ => empty,
        };
        (!nothing).then_some(raw)
    }

    /// The limit of the answer's tokens and its spelling: the route's override, else the client's, else the route's default,
    /// whatever spelling each of them uses; within one of them the newer `max_completion_tokens` counts.
    pub fn max_tokens(&self) -> Option<(Field, &'a str)> {
        const SPELLINGS: [Field; 2] = [Field::MaxCompletionTokens, Field::MaxTokens];
        let of = |list: &'a [(String, String)]| {
            SPELLINGS.iter().find_map(|field| list.iter().find(|(name, _)| name == field.name()).map(|(_, json)| (*field, json.as_str())))
        };
        let clients = || SPELLINGS.iter().find_map(|field| self.parsed.raw(*field).map(|json| (*field, json)));
        of(&self.params.overrides).or_else(clients).or_else(|| of(&self.params.defaults)).filter(|(_, json)| *json != "null")
    }

    /// Limits and randomness, of the fields that the request or the route's settings have.
    ///
    /// # Errors
    /// A 400 that names `stop` where it is no list of texts.
    pub fn sampling(&self) -> Result<Sampling<'a>, ApiError> {
        let number = |field| self.raw(field).map(|raw| (raw, self.authority(field)));
        Ok(Sampling {
            max_tokens: self.max_tokens().map(|(_, raw)| raw),
            temperature: number(Field::Temperature),
            top_p: number(Field::TopP),
            frequency_penalty: self.asked(Field::FrequencyPenalty),
            presence_penalty: self.asked(Field::PresencePenalty),
            stop: self.stops()?,
            seed: self.raw(Field::Seed),
            choices: self.asked(Field::N),
            logprobs: self.asked(Field::Logprobs).is_some(),
            top_logprobs: self.asked(Field::TopLogprobs),
        })
    }

    /// `stop` as a list. Empty texts, which stop nothing, are left out.
    fn stops(&self) -> Result<Vec<Text<'a>>, ApiError> {
        let mut list = match self.asked(Field::Stop) {
            None => Vec::new(),
            Some(raw) if raw.starts_with('[') => self.get::<Vec<Text<'a>>>(Field::Stop)?.unwrap_or_default(),
            Some(raw) => walk::string(raw).into_iter().collect(),
        };
        list.retain(|text| !text.is_empty());
        Ok(list)
    }

    /// Who set a field's value.
    pub fn authority(&self, field: Field) -> Authority {
        let overridden = self.params.overrides.iter().any(|(name, _)| name == field.name());
        match self.parsed.raw(field) {
            _ if overridden => Authority::Override,
            Some(_) => Authority::Client,
            None => Authority::Default,
        }
    }

    /// Names of the members that are given, by the client or by the route's settings, and are not the gateway's own.
    pub fn names(&self) -> impl Iterator<Item = Cow<'a, str>> + use<'a> {
        let (parsed, params) = (self.parsed, self.params);
        let body = parsed.body();
        let clients = parsed.envelope().members.iter().filter(|member| member.value.of(body) != b"null");
        let clients = clients.map(|member| parsed.name_of(member));
        let routes = params.overrides.iter().chain(&params.defaults).map(|(name, _)| Cow::Borrowed(name.as_str()));
        clients.chain(routes).filter(|name| !is_gateways(name))
    }

    /// The known fields that ask for something, or that the target has refused.
    pub fn asked_fields(&self) -> impl Iterator<Item = Param<'a>> + '_ {
        self.fields().iter().filter_map(|field| {
            let loss = field.loss()?;
            let refused = self.params.adjustments.without.contains(field) && self.given(field).is_some();
            let param = Param { field: Some(field), name: Cow::Borrowed(field.name()), loss, refused };
            (refused || self.asked(field).is_some()).then_some(param)
        })
    }

    /// The members that the gateway does not know.
    pub fn unknown(&self) -> impl Iterator<Item = Param<'a>> + use<'a> {
        self.parsed.unknown().map(|(name, _)| Param::unknown(name)).chain(self.unknown_settings())
    }

    /// Those that the route sets.
    pub fn unknown_settings(&self) -> impl Iterator<Item = Param<'a>> + use<'a> {
        let unknown = self.settings().into_iter().filter(|(name, _)| Field::of(name.as_bytes()).is_none());
        unknown.map(|(name, _)| Param::unknown(name))
    }

    /// The route's settings that a neutral request has no place for, as name and raw JSON.
    pub fn passed(&self) -> Vec<(&'a str, &'a str)> {
        let mut settings = self.settings();
        let has_place = |field| HELD.contains(field) || self.params.adjustments.without.contains(field);
        settings.retain(|(name, _)| !Field::of(name.as_bytes()).is_some_and(has_place));
        settings
    }

    /// The settings that apply, each once: the route's overrides, and its defaults where the client has no member of that
    /// name.
    fn settings(&self) -> Vec<(&'a str, &'a str)> {
        let defaults = self.params.defaults.iter().filter(|(name, _)| self.parsed.raw_named(name).is_none());
        let mut settings: Vec<(&str, &str)> = Vec::new();
        for (name, json) in self.params.overrides.iter().chain(defaults) {
            if !is_gateways(name) && !settings.iter().any(|(first, _)| first == name) {
                settings.push((name, json));
            }
        }
        settings.retain(|(_, json)| *json != "null");
        settings
    }

    /// Whether the client wants the answer as a stream.
    pub fn stream(&self) -> bool {
        self.parsed.stream()
    }
}

fn is_text_format(raw: &str) -> bool {
    walk::member(raw, "type").ok().flatten().and_then(walk::string).is_some_and(|kind| kind.decode() == "text")
}

/// Whether a member of the client's speaks to the gateway and never goes upstream.
pub fn is_gateways(name: &str) -> bool {
    name == Field::EpisodeId.name() || name.starts_with(GATEWAY_PREFIX)
}
