//! Writes a neutral request for the Responses API. The provider answers without keeping anything, so that the reasoning that led
//! to a call comes back with it ([`super::state`]).

use super::input;
use super::splice::Place;
use crate::dialect::openai::constraint::{output, tool_schema};
use crate::dialect::openai::encode::hashed_user;
use crate::dialect::openai::quirks::Quirks;
use crate::dialect::shared::params::{Policy, Settled, nearest_effort, settle, temperature, unsupported};
use crate::error::ApiError;
use crate::json::surrogate;
use crate::json::text::Text;
use crate::json::walk;
use crate::json::write::Writer;
use crate::llm::constraint::{Constraint, Schema, choice_schema};
use crate::llm::envelope::ChatRequest;
use crate::llm::field::Field;
use crate::llm::request::{Authority, Request, Tool, ToolChoice, same_text};

/// The fields that the API has, and those that are judged where they are read. It has no `stop`, `n`, `seed`, penalties or
/// `logit_bias`: <https://platform.openai.com/docs/api-reference/responses/create>.
const MAPPED: [Field; 25] = [
    Field::MaxTokens,
    Field::MaxCompletionTokens,
    Field::Temperature,
    Field::TopP,
    Field::Tools,
    Field::ToolChoice,
    Field::ParallelToolCalls,
    Field::ResponseFormat,
    Field::ReasoningEffort,
    Field::Verbosity,
    Field::Logprobs,
    Field::TopLogprobs,
    Field::User,
    Field::Metadata,
    Field::Store,
    Field::ServiceTier,
    Field::PromptCacheKey,
    Field::PromptCacheRetention,
    Field::PromptCacheOptions,
    Field::SafetyIdentifier,
    Field::Moderation,
    Field::GuidedJson,
    Field::GuidedChoice,
    Field::Functions,
    Field::FunctionCall,
];
/// Fewest output tokens: "Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16".
const MIN_TOKENS: u64 = 16;
/// What asks for reasoning in the form that can come back.
pub(super) const ENCRYPTED: &str = r#""reasoning.encrypted_content""#;
/// What asks for log probabilities.
const LOGPROBS: &str = r#""message.output_text.logprobs""#;
/// The arguments of a function that has none; the API requires a schema.
const NO_PARAMETERS: &str = r#"{"type":"object","properties":{}}"#;
/// Members that a route's settings cannot change: the gateway itself decides them.
const FIXED: [&str; 4] = ["model", "messages", "stream", "input"];
/// Members whose own members are set one by one.
const OBJECTS: [&str; 2] = ["reasoning", "text"];

/// A body, and what became of the parameters.
pub(super) struct Composed {
    pub(super) body: Vec<u8>,
    pub(super) settled: Settled,
    /// Whether the answer is an object that holds the choice of a `guided_choice`.
    pub(super) unwrap_choice: bool,
}

/// Writes the body of a request.
///
/// # Errors
/// A 400 that names what the API cannot say.
pub(super) fn body(request: &Request<'_>, settings: &Settings<'_>, quirks: &Quirks) -> Result<Composed, ApiError> {
    let mut settled = settle(request, |field| policy(field, quirks))?;
    let mut w = Writer::with_capacity(request.size + 1024);
    w.object().key("model").string(request.model);
    input::write(w.key("input"), request, quirks, &mut settled)?;
    if request.stream {
        w.key("stream").flag(true);
    }
    let tools = allowed(request, quirks);
    write_tools(&mut w, request, &tools, quirks, &mut settled)?;
    let mut members = Members::default();
    tool_choice(request, quirks, !tools.is_empty(), &mut members);
    let unwrap_choice = format(request, quirks, &mut settled, &mut members)?;
    sampling(request, quirks, &mut settled, &mut members)?;
    effort(request, quirks, &mut settled, &mut members)?;
    let mut include = Vec::new();
    if !tools.is_empty() && request.seal.is_some() && !request.adjustments.plain_reasoning {
        include.push(ENCRYPTED);
    }
    if request.sampling.logprobs {
        include.push(LOGPROBS);
    }
    if !include.is_empty() {
        members.set("include", format!("[{}]", include.join(",")));
    }
    members.settings(request, settings, quirks)?;
    if !members.has(Field::Store.name()) {
        members.set(Field::Store.name(), "false");
    }
    members.write(&mut w);
    w.end_object();
    Ok(Composed { body: surrogate::repair(w.finish()), settled, unwrap_choice })
}

/// Takes out the hints that the provider lacks. That they are lost, their names in the request still say.
pub(super) fn leave_out(request: &mut Request<'_>, quirks: &Quirks) {
    let sampling = &mut request.sampling;
    for field in &quirks.lacks {
        match field {
            Field::Temperature => sampling.temperature = None,
            Field::TopP => sampling.top_p = None,
            Field::Logprobs => (sampling.logprobs, sampling.top_logprobs) = (false, None),
            Field::TopLogprobs => sampling.top_logprobs = None,
            Field::ReasoningEffort => request.effort = None,
            Field::ParallelToolCalls => request.serial_calls = false,
            Field::User => request.user = None,
            Field::Metadata => request.metadata = None,
            Field::ServiceTier => request.service_tier = None,
            _ => {}
        }
    }
}

/// What becomes of a field here.
fn policy(field: Field, quirks: &Quirks) -> Policy {
    if quirks.lacks.contains(&field) { Policy::when_lost(field) } else { Policy::of(field, &MAPPED) }
}

/// The tools that the model may call. Where the choice cannot say which of them, these are all that it is told of.
fn allowed<'r, 'a>(request: &'r Request<'a>, quirks: &Quirks) -> Vec<&'r Tool<'a>> {
    let tools = request.tools.iter();
    match &request.tool_choice {
        Some(ToolChoice::Allowed { names, .. }) if !quirks.allowed_tools => {
            tools.filter(|tool| names.iter().any(|name| same_text(*name, tool.name))).collect()
        }
        _ => tools.collect(),
    }
}

/// Writes `tools`. A schema is only kept strictly where the client asks for it, which here must be said.
fn write_tools(w: &mut Writer, request: &Request<'_>, tools: &[&Tool<'_>], quirks: &Quirks, settled: &mut Settled) -> Result<(), ApiError> {
    if tools.is_empty() {
        return Ok(());
    }
    w.key("tools").array();
    for tool in tools {
        let (is_strict, schema) = (tool.strict == Some(true), tool.parameters.unwrap_or(NO_PARAMETERS));
        let adapted = tool_schema(schema, is_strict, quirks);
        if adapted.as_ref().is_some_and(|adapted| adapted.reworded) {
            settled.adjust(request.name_of(Field::Tools), "it takes a part of this schema as words only")?;
        }
        w.object().key("type").string("function").key("name").text(tool.name).optional_text("description", tool.description);
        w.key("parameters").raw(adapted.as_ref().map_or(schema, |adapted| &adapted.schema)).key("strict").flag(is_strict).end_object();
    }
    w.end_array();
    Ok(())
}

fn tool_choice(request: &Request<'_>, quirks: &Quirks, has_tools: bool, members: &mut Members) {
    if !has_tools {
        return;
    }
    if request.serial_calls {
        members.set("parallel_tool_calls", "false");
    }
    let Some(choice) = &request.tool_choice else { return };
    let mut w = Writer::default();
    let function = |name: Text<'_>, w: &mut Writer| {
        w.object().key("type").string("function").key("name").text(name).end_object();
    };
    match choice {
        ToolChoice::Auto => _ = w.string("auto"),
        ToolChoice::None => _ = w.string("none"),
        ToolChoice::Required => _ = w.string("required"),
        ToolChoice::Named(name) => function(*name, &mut w),
        ToolChoice::Allowed { required, names } => {
            let mode = if *required { "required" } else { "auto" };
            if quirks.allowed_tools {
                w.object().key("type").string("allowed_tools").key("mode").string(mode).key("tools").array();
                names.iter().for_each(|name| function(*name, &mut w));
                w.end_array().end_object();
            } else {
                w.string(mode);
            }
        }
    }
    members.set("tool_choice", written(w));
}

/// Sets `text.format`. Whether the answer is an object that holds a choice.
fn format(request: &Request<'_>, quirks: &Quirks, settled: &mut Settled, members: &mut Members) -> Result<bool, ApiError> {
    let Some(asked) = &request.output else { return Ok(false) };
    let name = || request.name_of(asked.field);
    let schema: Schema<'_> = match &asked.constraint {
        Constraint::JsonObject => {
            members.merge("text", "format", r#"{"type":"json_object"}"#, true);
            return Ok(false);
        }
        Constraint::JsonSchema(schema) => output(name(), quirks, schema, settled)?.unwrap_or_else(|| schema.clone()),
        Constraint::Choice(choices) => choice_schema(choices),
        Constraint::Regex(_) | Constraint::Grammar(_) | Constraint::StructuralTag(_) => return Err(unsupported(name())),
    };
    let mut w = Writer::default();
    w.object().key("type").string("json_schema");
    schema.write_members(&mut w);
    w.end_object();
    members.merge("text", "format", &written(w), true);
    Ok(matches!(asked.constraint, Constraint::Choice(_)))
}

fn sampling(request: &Request<'_>, quirks: &Quirks, settled: &mut Settled, members: &mut Members) -> Result<(), ApiError> {
    let sampling = &request.sampling;
    if let Some(limit) = request.token_limit()? {
        if limit < MIN_TOKENS {
            let name = request.param(Field::MaxCompletionTokens).map_or(Field::MaxTokens, |_| Field::MaxCompletionTokens);
            settled.adjust(request.name_of(name), &format!("its provider takes no limit below {MIN_TOKENS}"))?;
        }
        members.set("max_output_tokens", limit.max(MIN_TOKENS).to_string());
    }
    if let Some((raw, _)) = sampling.temperature {
        let max = quirks.temperature_max.as_deref();
        let value = max.map_or(Ok(raw), |max| temperature(raw, request.name_of(Field::Temperature), max, settled))?;
        members.set("temperature", value);
    }
    if let Some((raw, _)) = sampling.top_p {
        members.set("top_p", raw);
    }
    if let Some(raw) = sampling.top_logprobs {
        let above = quirks.top_logprobs_max.filter(|max| raw.parse::<u64>().is_ok_and(|n| n > *max));
        if let Some(max) = above {
            settled.adjust(request.name_of(Field::TopLogprobs), &format!("its provider gives at most {max}"))?;
        }
        members.set("top_logprobs", above.map_or(raw.to_owned(), |max| max.to_string()));
    }
    for (key, value) in [("metadata", request.metadata), ("service_tier", request.service_tier)] {
        if let Some(raw) = value {
            members.set(key, raw);
        }
    }
    if let Some(user) = request.user {
        let hash = hashed_user(user, quirks);
        members.set("user", quoted(hash.as_deref().map_or(user, Text::Plain)));
    }
    Ok(())
}

/// Sets `reasoning.effort`. A summary is not asked for: an organization that is not verified is refused one, and with it the
/// answer ("Your organization must be verified to generate reasoning summaries"). A route may ask for it by `reasoning`.
fn effort(request: &Request<'_>, quirks: &Quirks, settled: &mut Settled, members: &mut Members) -> Result<(), ApiError> {
    let Some(word) = request.effort else { return Ok(()) };
    match nearest_effort(&word.decode(), &quirks.efforts) {
        Some(nearest) => {
            let known = quirks.efforts.join(", ");
            settled.adjust(request.name_of(Field::ReasoningEffort), &format!("its provider knows only {known}"))?;
            members.merge("reasoning", "effort", &quoted(Text::Plain(nearest)), true);
        }
        None => members.merge("reasoning", "effort", &quoted(word), true),
    }
    Ok(())
}

fn written(w: Writer) -> String {
    String::from_utf8(w.finish()).unwrap_or_default()
}

/// A text as raw JSON.
fn quoted(text: Text<'_>) -> String {
    let mut w = Writer::default();
    w.text(text);
    written(w)
}

/// Who set the members that pass. A route's overrides count before what the client asks for, and its defaults yield to it.
pub(super) struct Settings<'a>(pub(super) Option<&'a ChatRequest<'a>>);

impl Settings<'_> {
    fn authority(&self, name: &str) -> Authority {
        let Some(base) = self.0 else { return Authority::Client };
        match Field::of(name.as_bytes()) {
            Some(field) => base.authority(field),
            None if base.params.overrides.iter().any(|(known, _)| known == name) => Authority::Override,
            None => Authority::Default,
        }
    }
}

/// The members of a request behind its tools, by their names.
#[derive(Default)]
struct Members(Vec<(String, Value)>);

enum Value {
    /// Raw JSON.
    Raw(String),
    Object(Vec<(String, String)>),
}

impl Members {
    fn set(&mut self, name: &str, json: impl Into<String>) {
        let value = Value::Raw(json.into());
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }

    fn object(&mut self, name: &str) -> Option<&mut Vec<(String, String)>> {
        if !self.has(name) {
            self.0.push((name.to_owned(), Value::Object(Vec::new())));
        }
        self.0.iter_mut().find(|(known, _)| known == name).and_then(|(_, value)| match value {
            Value::Object(members) => Some(members),
            Value::Raw(_) => None,
        })
    }

    /// Adds the members that pass: chat's in this API's words, and the route's own as they are.
    fn settings(&mut self, request: &Request<'_>, settings: &Settings<'_>, quirks: &Quirks) -> Result<(), ApiError> {
        for authority in [Authority::Client, Authority::Override, Authority::Default] {
            let overrides = authority == Authority::Override;
            for (name, json) in request.passed.iter().filter(|(name, _)| settings.authority(name) == authority) {
                let place = match Field::of(name.as_bytes()) {
                    Some(field) if policy(field, quirks) == Policy::Mapped => Place::of(field),
                    Some(_) => None,
                    None if FIXED.contains(name) => None,
                    None => Some(Place::Top(name)),
                };
                match place {
                    None => {}
                    Some(Place::Inner(object, name)) => self.merge(object, name, json, overrides),
                    Some(Place::Top(name)) if OBJECTS.contains(&name) && json.starts_with('{') => {
                        let mut members = walk::members(json)?;
                        while let Some((key, value)) = members.next()? {
                            self.merge(name, &key.decode(), value, overrides);
                        }
                    }
                    Some(Place::Top("include")) => self.include(json)?,
                    Some(Place::Top(name)) if overrides || !self.has(name) => self.set(name, *json),
                    Some(Place::Top(_)) => {}
                }
            }
        }
        Ok(())
    }

    /// Sets a member of an object, where it has none of that name or the route `overrides` it.
    fn merge(&mut self, object: &str, name: &str, json: &str, overrides: bool) {
        let Some(members) = self.object(object) else { return };
        match members.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) if overrides => *old = json.to_owned(),
            Some(_) => {}
            None => members.push((name.to_owned(), json.to_owned())),
        }
    }

    /// Adds what the route wants to be included.
    fn include(&mut self, json: &str) -> Result<(), ApiError> {
        let old = self.0.iter().find_map(|(name, value)| match value {
            Value::Raw(json) if name == "include" => Some(json.clone()),
            _ => None,
        });
        let mut list: Vec<&str> = Vec::new();
        for json in old.iter().map(String::as_str).chain([json]).filter(|json| json.starts_with('[')) {
            let mut elements = walk::elements(json)?;
            while let Some(element) = elements.next()? {
                if !list.contains(&element) {
                    list.push(element);
                }
            }
        }
        self.set("include", format!("[{}]", list.join(",")));
        Ok(())
    }

    fn write(&self, w: &mut Writer) {
        for (name, value) in &self.0 {
            w.key(name);
            match value {
                Value::Raw(json) => _ = w.raw(json),
                Value::Object(members) => {
                    w.object();
                    members.iter().for_each(|(name, json)| _ = w.key(name).raw(json));
                    w.end_object();
                }
            }
        }
    }
}
