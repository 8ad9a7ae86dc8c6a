//! The schemas of tools and of the answer, where a provider does not take every JSON schema.

use super::encode::Draft;
use crate::dialect::schema::{self, rules::Rules};
use crate::error::ApiError;
use crate::json::envelope::ScanError;
use crate::json::walk;
use crate::json::write::Writer;
use crate::llm::constraint::{Constraint, Schema};
use crate::llm::envelope::ChatRequest;
use crate::llm::field::Field;
use crate::provider::catalogue::{Quirks, Schemas};
use memchr::memmem;
use serde_json::value::RawValue;

/// What a schema of a tool that has to be adapted has somewhere in its text: a union, a reference, or its strictness.
const SIGNS: [&[u8]; 3] = [b"Of\"", b"\"$ref\"", b"\"strict\""];

/// Adapts the tools' schemas to the provider. Tools that fit are sent as the client spelled them.
///
/// # Errors
/// A 400 that names `tools` where the route refuses changed fields.
pub fn tools(request: &ChatRequest<'_>, quirks: &Quirks, draft: &mut Draft<'_>) -> Result<(), ApiError> {
    let (Some((output, tool)), Some(raw)) = (quirks.schemas.rules(), request.raw(Field::Tools)) else { return Ok(()) };
    if !SIGNS.iter().any(|sign| memmem::find(raw.as_bytes(), sign).is_some()) {
        return Ok(());
    }
    let bad = |e: ScanError| ApiError::field(Field::Tools.name(), format!("`tools`: {e}"));
    let list: Vec<&RawValue> = request.get(Field::Tools)?.unwrap_or_default();
    let mut w = Writer::with_capacity(raw.len() + 256);
    let mut change = Change::default();
    w.array();
    for one in list {
        write_tool(&mut w, one.get(), (output, tool), &mut change).map_err(bad)?;
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
fn write_tool(w: &mut Writer, tool: &str, rules: (&Rules, &Rules), change: &mut Change) -> Result<(), ScanError> {
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
        let is_strict = member(value, "strict")? == Some("true");
        let mut inner = walk::inner_members(value)?;
        w.object();
        while let Some((key, value)) = inner.next()? {
            w.key(&key.decode());
            let adapted = if key.is("parameters") { schema::adapt_tool(value, if is_strict { rules.0 } else { rules.1 }) } else { None };
            match adapted {
                Some(adapted) if adapted.schema != value => {
                    change.any = true;
                    change.reworded |= adapted.reworded;
                    w.raw(&adapted.schema);
                }
                _ => {
                    w.raw(value);
                }
            }
        }
        w.end_object();
    }
    w.end_object();
    Ok(())
}

fn member<'a>(object: &'a str, name: &str) -> Result<Option<&'a str>, ScanError> {
    let mut members = walk::inner_members(object)?;
    while let Some((key, value)) = members.next()? {
        if key.is(name) {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

/// The answer's schema as the provider takes it; `None` where it is that already.
///
/// # Errors
/// A 400 that names the field where the route refuses changed fields.
pub fn output<'a>(field: Field, quirks: &Quirks, schema: &Schema<'a>, draft: &mut Draft<'_>) -> Result<Option<Schema<'a>>, ApiError> {
    // Where OpenAI does not hold to a schema strictly it takes any.
    let strict = schema.strict == Some(true) || quirks.schemas != Schemas::Openai;
    let Some((rules, _)) = quirks.schemas.rules().filter(|_| strict) else { return Ok(None) };
    let adapted = schema::adapt(&schema.schema, rules);
    if adapted.reworded {
        draft.settled.adjust(field.name(), "it takes a part of this schema as words only")?;
    }
    Ok((adapted.schema != schema.schema).then(|| Schema { schema: adapted.schema.into_owned().into(), ..schema.clone() }))
}

/// The constraint with its schema as the provider takes it.
///
/// # Errors
/// As [`output`].
pub fn constraint<'a>(
    field: Field,
    quirks: &Quirks,
    constraint: Constraint<'a>,
    draft: &mut Draft<'_>,
) -> Result<(Constraint<'a>, bool), ApiError> {
    match constraint {
        Constraint::JsonSchema(schema) => Ok(match output(field, quirks, &schema, draft)? {
            Some(adapted) => (Constraint::JsonSchema(adapted), true),
            None => (Constraint::JsonSchema(schema), false),
        }),
        other => Ok((other, false)),
    }
}
