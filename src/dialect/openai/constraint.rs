//! How a decoding constraint is said to a server that speaks OpenAI: one of a few dialects of its own.

use super::body::Body;
use super::encode::Draft;
use super::schemas;
use crate::dialect::params::{Unknown, unsupported};
use crate::error::ApiError;
use crate::json::envelope::ScanError;
use crate::json::text::Text;
use crate::json::walk;
use crate::json::write::Writer;
use crate::llm::constraint::{self, Constraint, Schema, choice_regex, choice_schema};
use crate::llm::envelope::ChatRequest;
use crate::llm::field::{Field, Fields, GUIDED};
use crate::provider::catalogue::{Guided, Quirks, Schemas};

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
    let (constraint, is_adapted) = schemas::constraint(output.field, quirks, output.constraint, draft)?;
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
            w.array();
            choices.iter().for_each(|choice| {
                w.text(*choice);
            });
            w.end_array();
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
            let schema = String::from_utf8(w.finish()).unwrap_or_default().into();
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
        Constraint::Choice(choices) => {
            w.key("choice").array();
            choices.iter().for_each(|choice| {
                w.text(*choice);
            });
            w.end_array()
        }
        Constraint::Regex(regex) => w.key("regex").text(*regex),
        Constraint::Grammar(grammar) => w.key("grammar").text(*grammar),
        Constraint::StructuralTag(tag) => w.key("structural_tag").string(tag),
    };
    if let Some(pattern) = request.raw(Field::GuidedWhitespacePattern) {
        w.key("whitespace_pattern").raw(pattern);
    }
    w.end_object();
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

/// SGLang tells a tag from other formats by its `type`, which vLLM's form of it does without.
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
