//! How a decoding constraint is said to a server that speaks OpenAI: one of a few dialects of its own.

use super::body::Body;
use super::encode::Draft;
use super::quirks::{Guided, Quirks, Schemas};
use crate::dialect::shared::params::{Settled, Unknown, unsupported};
use crate::dialect::shared::schema::{self, Adapted};
use crate::error::ApiError;
use crate::json::envelope::ScanError;
use crate::json::text::Text;
use crate::json::walk;
use crate::json::write::Writer;
use crate::llm::constraint::{self, Constraint, Schema, choice_regex, choice_schema};
use crate::llm::envelope::ChatRequest;
use crate::llm::field::{Field, Fields, GUIDED};
use memchr::memmem;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// Says the request's constraint as the provider wants it. Whether the answer will be an object that holds a choice.
///
/// # Errors
/// A 400 that names the field where the provider cannot keep it.
pub fn encode(request: &ChatRequest<'_>, quirks: &Quirks, draft: &mut Draft<'_>) -> Result<bool, ApiError> {
    let mut guided = request.fields().and(Fields::of(&GUIDED)).iter().any(|field| request.raw(field).is_some());
    if quirks.guided == Guided::StructuredOutputs && request.raw(Field::GuidedWhitespacePattern).is_some() {
        draft.body.remove(Field::GuidedWhitespacePattern);
        let output = constraint::read(request)?;
        guided |= output.is_some_and(|output| matches!(output.constraint, Constraint::JsonObject | Constraint::JsonSchema(_)));
        if !guided {
            draft.settled.drop(Field::GuidedWhitespacePattern.name())?; // there is no JSON to put white space into
        }
    }
    if !guided && quirks.json_schema && quirks.unknown == Unknown::Pass && quirks.schemas == Schemas::Any {
        return Ok(false); // whatever response_format says, the provider reads it itself
    }
    let Some(output) = constraint::read(request)? else {
        let body = &mut draft.body;
        if quirks.unknown == Unknown::Drop {
            body.remove(Field::ResponseFormat); // plain text is what comes without it
        }
        return Ok(false);
    };
    let (constraint, is_adapted) = adapted(output.field, quirks, output.constraint, &mut draft.settled)?;
    let body = &mut draft.body;
    if !guided {
        match constraint {
            Constraint::JsonSchema(_) if !quirks.json_schema => return Err(unsupported(Field::ResponseFormat.name())),
            Constraint::JsonSchema(schema) if is_adapted => json_schema(&schema, body),
            _ if quirks.unknown == Unknown::Pass => {}
            // A closed schema has no room for what a client may have put beside it.
            Constraint::JsonSchema(schema) => json_schema(&schema, body),
            Constraint::JsonObject => body.set(Field::ResponseFormat, br#"{"type":"json_object"}"#.as_slice()),
            _ => return Err(unsupported(Field::ResponseFormat.name())),
        }
        return Ok(false);
    }
    let has = |field: &Field| request.raw(*field).is_some();
    match quirks.guided {
        Guided::Legacy if !GUIDED.iter().any(|field| has(field) && !LEGACY.contains(field)) => {
            if let Constraint::StructuralTag(tag) = &constraint {
                body.set(Field::StructuralTag, json_text(Text::Plain(tag))); // it is a text there
            }
            return Ok(false);
        }
        // As it came: its options have no other place.
        Guided::StructuredOutputs if has(&Field::StructuredOutputs) => return Ok(false),
        _ => {}
    }
    GUIDED.iter().for_each(|field| body.remove(*field));
    match quirks.guided {
        Guided::Legacy => legacy(&constraint, body),
        Guided::StructuredOutputs => structured_outputs(request, &constraint, body),
        Guided::Sglang => sglang(&constraint, body)?,
        Guided::LlamaCpp => return llama_cpp(output.field, &constraint, body),
        style => return response_format(output.field, style, quirks, &constraint, body),
    }
    Ok(false)
}

/// The members of vLLM before 0.12.
const LEGACY: [Field; 5] = [Field::GuidedJson, Field::GuidedChoice, Field::GuidedRegex, Field::GuidedGrammar, Field::StructuralTag];

fn legacy(constraint: &Constraint<'_>, body: &mut Body<'_>) {
    match constraint {
        Constraint::JsonObject => body.set(Field::ResponseFormat, br#"{"type":"json_object"}"#.as_slice()),
        Constraint::JsonSchema(schema) => body.set(Field::GuidedJson, schema.schema.as_bytes().to_vec()),
        Constraint::Choice(choices) => {
            let mut w = Writer::default();
            w.text_list(choices.iter().copied());
            body.set(Field::GuidedChoice, w.finish());
        }
        Constraint::Regex(regex) => body.set(Field::GuidedRegex, json_text(*regex)),
        Constraint::Grammar(grammar) => body.set(Field::GuidedGrammar, json_text(*grammar)),
        Constraint::StructuralTag(tag) => body.set(Field::StructuralTag, json_text(Text::Plain(tag))),
    }
}

/// llama.cpp's members. It has no regular expressions but the `pattern` of a string in a schema, which has to be anchored;
/// the answer is a JSON string then, and its text is what the client gets.
fn llama_cpp(field: Field, constraint: &Constraint<'_>, body: &mut Body<'_>) -> Result<bool, ApiError> {
    match constraint {
        Constraint::JsonObject => body.set(Field::ResponseFormat, br#"{"type":"json_object"}"#.as_slice()),
        Constraint::JsonSchema(schema) => json_schema(schema, body),
        Constraint::Grammar(grammar) => body.set(Field::Grammar, json_text(*grammar)),
        Constraint::Choice(choices) => {
            json_schema(&choice_schema(choices), body);
            return Ok(true);
        }
        Constraint::Regex(regex) => {
            let mut w = Writer::default();
            w.object().key("type").string("string").key("pattern").string(&format!("^(?:{})$", regex.decode())).end_object();
            let schema = w.into_string().into();
            json_schema(&Schema { name: Text::Plain("guided_regex"), schema, strict: None, description: None }, body);
            return Ok(true);
        }
        Constraint::StructuralTag(_) => return Err(unsupported(field.name())),
    }
    Ok(false)
}

/// `structured_outputs` of vLLM 0.12 and later: exactly one kind, and the white space pattern beside it, which has no
/// other place there.
fn structured_outputs(request: &ChatRequest<'_>, constraint: &Constraint<'_>, body: &mut Body<'_>) {
    body.remove(Field::ResponseFormat);
    let mut w = Writer::default();
    w.object();
    match constraint {
        Constraint::JsonObject => w.key("json_object").flag(true),
        Constraint::JsonSchema(schema) => w.key("json").raw(&schema.schema),
        Constraint::Choice(choices) => w.key("choice").text_list(choices.iter().copied()),
        Constraint::Regex(regex) => w.key("regex").text(*regex),
        Constraint::Grammar(grammar) => w.key("grammar").text(*grammar),
        Constraint::StructuralTag(tag) => w.key("structural_tag").string(tag),
    };
    w.optional_raw("whitespace_pattern", request.raw(Field::GuidedWhitespacePattern)).end_object();
    body.set("structured_outputs", w.finish());
}

/// SGLang's own members.
fn sglang(constraint: &Constraint<'_>, body: &mut Body<'_>) -> Result<(), ApiError> {
    match constraint {
        Constraint::JsonObject => {}
        Constraint::JsonSchema(schema) => json_schema(schema, body),
        Constraint::Choice(choices) => body.set("regex", json_text(Text::Plain(&choice_regex(choices)))),
        Constraint::Regex(regex) => body.set("regex", json_text(*regex)),
        Constraint::Grammar(grammar) => body.set("ebnf", json_text(*grammar)),
        Constraint::StructuralTag(tag) => return structural_tag(tag, body),
    }
    Ok(())
}

/// Adds the `type` by which SGLang recognizes a structural tag; vLLM's form has none.
fn structural_tag(tag: &str, body: &mut Body<'_>) -> Result<(), ApiError> {
    let bad = |e: ScanError| ApiError::field(Field::StructuralTag.name(), format!("`structural_tag`: {}", e.what));
    let mut w = Writer::default();
    w.object().key("type").string("structural_tag");
    let mut members = walk::members(tag).map_err(bad)?;
    while let Some((key, value)) = members.next().map_err(bad)? {
        if !key.is("type") {
            w.key(&key.decode()).raw(value);
        }
    }
    w.end_object();
    body.set(Field::ResponseFormat, w.finish());
    Ok(())
}

/// Everyone else: `response_format`, with what the provider has beyond JSON schemas.
fn response_format(
    field: Field,
    style: Guided,
    quirks: &Quirks,
    constraint: &Constraint<'_>,
    body: &mut Body<'_>,
) -> Result<bool, ApiError> {
    match (constraint, style) {
        (Constraint::JsonSchema(schema), _) if quirks.json_schema => json_schema(schema, body),
        (Constraint::Choice(choices), _) if quirks.json_schema => {
            json_schema(&choice_schema(choices), body);
            return Ok(true);
        }
        (Constraint::Grammar(grammar), Guided::Fireworks) => typed("grammar", "grammar", *grammar, body),
        (Constraint::Regex(regex), Guided::Together) => typed("regex", "pattern", *regex, body),
        _ => return Err(unsupported(field.name())),
    }
    Ok(false)
}

fn json_schema(schema: &Schema<'_>, body: &mut Body<'_>) {
    let mut w = Writer::default();
    w.object().key("type").string("json_schema").key("json_schema");
    schema.write(&mut w);
    w.end_object();
    body.set(Field::ResponseFormat, w.finish());
}

fn typed(kind: &str, key: &str, text: Text<'_>, body: &mut Body<'_>) {
    let mut w = Writer::default();
    w.object().key("type").string(kind).key(key).text(text).end_object();
    body.set(Field::ResponseFormat, w.finish());
}

fn json_text(text: Text<'_>) -> Vec<u8> {
    let mut w = Writer::default();
    w.text(text);
    w.finish()
}

/// What a schema of a tool that has to be adapted has somewhere in its text: a union, a reference, a tuple, or its strictness.
const SIGNS: [&[u8]; 4] = [b"Of\"", b"\"$ref\"", b"\"prefixItems\"", b"\"strict\""];
/// Names the schema of a tool.
const PARAMETERS: &str = "\"parameters\"";

/// Whether the parameters of a tool may have no properties, which are looked for as far as the first ones. It may say too much,
/// and never too little.
fn lacks_properties(tools: &str) -> bool {
    memmem::find_iter(tools.as_bytes(), PARAMETERS).any(|at| {
        let value = tools.get(at + PARAMETERS.len()..).and_then(|rest| rest.trim_start().strip_prefix(':'));
        let Some(mut members) = value.and_then(|value| walk::inner_members(value.trim_start()).ok()) else { return true };
        loop {
            match members.next() {
                Ok(Some((key, _))) if key.is("properties") => return false,
                Ok(Some(_)) => {}
                _ => return true,
            }
        }
    })
}

/// The schema of a tool's arguments as the provider takes it; `None` where it is that already.
pub(super) fn tool_schema<'a>(schema: &'a str, is_strict: bool, quirks: &Quirks) -> Option<Adapted<'a>> {
    let (output, tool) = quirks.schemas.rules()?;
    let may_differ = is_strict
        || SIGNS.iter().any(|sign| memmem::find(schema.as_bytes(), sign).is_some())
        || schema::may_be_dated(schema)
        || !matches!(walk::member(schema, "properties"), Ok(Some(_)));
    let adapted = if may_differ { schema::adapt_tool(schema, if is_strict { output } else { tool }) } else { None };
    adapted.filter(|adapted| adapted.schema != schema)
}

/// Adapts the tools' schemas to the provider. Tools that fit are sent as the client spelled them.
///
/// # Errors
/// A 400 that names `tools` where the route refuses changed fields.
pub fn tool_schemas(request: &ChatRequest<'_>, quirks: &Quirks, draft: &mut Draft<'_>) -> Result<(), ApiError> {
    let (Some(_), Some(raw)) = (quirks.schemas.rules(), request.raw(Field::Tools)) else { return Ok(()) };
    if !SIGNS.iter().any(|sign| memmem::find(raw.as_bytes(), sign).is_some()) && !schema::may_be_dated(raw) && !lacks_properties(raw) {
        return Ok(());
    }
    let bad = |e: ScanError| ApiError::field(Field::Tools.name(), format!("`tools`: {e}"));
    let list: Vec<&RawValue> = request.get(Field::Tools)?.unwrap_or_default();
    let mut w = Writer::with_capacity(raw.len() + 256);
    let mut change = Change::default();
    w.array();
    for one in list {
        write_tool(&mut w, one.get(), quirks, &mut change).map_err(bad)?;
    }
    w.end_array();
    if change.reworded {
        draft.settled.adjust(Field::Tools.name(), "it takes a part of this schema as words only")?;
    }
    if change.any {
        draft.body.set(Field::Tools, w.finish());
    }
    Ok(())
}

/// What became of the tools.
#[derive(Default)]
struct Change {
    any: bool,
    reworded: bool,
}

/// Writes one tool with its schema adapted.
fn write_tool(w: &mut Writer, tool: &str, quirks: &Quirks, change: &mut Change) -> Result<(), ScanError> {
    if !tool.starts_with('{') {
        w.raw(tool);
        return Ok(());
    }
    let mut members = walk::inner_members(tool)?;
    w.object();
    while let Some((key, value)) = members.next()? {
        w.key(&key.decode());
        if !key.is("function") || !value.starts_with('{') {
            w.raw(value);
            continue;
        }
        let is_strict = walk::member(value, "strict")? == Some("true");
        let mut inner = walk::inner_members(value)?;
        w.object();
        while let Some((key, value)) = inner.next()? {
            w.key(&key.decode());
            match if key.is("parameters") { tool_schema(value, is_strict, quirks) } else { None } {
                Some(adapted) => {
                    change.any = true;
                    change.reworded |= adapted.reworded;
                    w.raw(&adapted.schema);
                }
                None => {
                    w.raw(value);
                }
            }
        }
        w.end_object();
    }
    w.end_object();
    Ok(())
}

/// The answer's schema as the provider takes it; `None` where it is that already.
///
/// # Errors
/// A 400 that names the field where the route refuses changed fields.
pub(super) fn output<'a>(
    name: Cow<'static, str>,
    quirks: &Quirks,
    schema: &Schema<'a>,
    settled: &mut Settled,
) -> Result<Option<Schema<'a>>, ApiError> {
    // Where OpenAI does not hold to a schema strictly it takes any.
    let strict = schema.strict == Some(true) || quirks.schemas != Schemas::Openai;
    let Some((rules, _)) = quirks.schemas.rules().filter(|_| strict) else { return Ok(None) };
    let adapted = schema::adapt(&schema.schema, rules);
    if adapted.reworded {
        settled.adjust(name, "it takes a part of this schema as words only")?;
    }
    Ok((adapted.schema != schema.schema).then(|| Schema { schema: adapted.schema.into_owned().into(), ..schema.clone() }))
}

/// The constraint with its schema as the provider takes it.
///
/// # Errors
/// As [`output`].
fn adapted<'a>(
    field: Field,
    quirks: &Quirks,
    constraint: Constraint<'a>,
    settled: &mut Settled,
) -> Result<(Constraint<'a>, bool), ApiError> {
    match constraint {
        Constraint::JsonSchema(schema) => Ok(match output(field.name().into(), quirks, &schema, settled)? {
            Some(adapted) => (Constraint::JsonSchema(adapted), true),
            None => (Constraint::JsonSchema(schema), false),
        }),
        other => Ok((other, false)),
    }
}
