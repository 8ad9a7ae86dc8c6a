//! Embeddings of everyone who speaks OpenAI: the client's bytes with a few members spliced, and an answer whose vectors
//! keep their spelling.

use super::quirks::{self, Quirks};
use crate::dialect::Outgoing;
use crate::dialect::openai::body::Body;
use crate::dialect::openai::{error, usage};
use crate::dialect::shared::embeddings::Answer;
use crate::dialect::shared::params::{Settled, Unknown};
use crate::error::ApiError;
use crate::json::walk;
use crate::llm::embeddings::{DIMENSIONS, ENCODING_FORMAT, EmbeddingRequest, INPUT};
use crate::llm::failure::Fault;
use crate::llm::field::Field;

/// Members that a route's settings cannot change: the gateway itself decides them.
const FIXED: [&str; 3] = ["model", INPUT, "stream"];

/// Writes a request; `None` where the provider has no embeddings.
///
/// # Errors
/// A 400 that names the field that the provider cannot keep.
pub fn encode(request: &EmbeddingRequest<'_>, quirks: &Quirks) -> Result<Option<Outgoing>, ApiError> {
    let Some(how) = &quirks.embeddings.0 else { return Ok(None) };
    if !how.tokens {
        request.texts()?;
    }
    let closed = quirks.unknown == Unknown::Drop;
    let sent = |field: Option<Field>, name: &str| match (name, field) {
        (INPUT | DIMENSIONS, _) | (_, Some(Field::Model)) => true,
        (ENCODING_FORMAT, _) => how.encoding_format,
        (_, Some(Field::User)) => how.user,
        _ => !closed,
    };
    let mut settled = Settled::new(request.base.params.reject_unsupported);
    // Vectors come in the wanted form whatever the provider knows of it: that is no loss.
    let mut lost = request.base.names().filter(|name| !sent(Field::of(name.as_bytes()), name) && name != ENCODING_FORMAT);
    lost.try_for_each(|name| settled.drop_unknown(&name))?;
    let mut body = Body::new(request.base);
    body.choose(closed, &FIXED, sent);
    body.set_model();
    match &how.dimensions.0 {
        None => request.fixed_dimensions()?,
        Some(name) => {
            if name != DIMENSIONS {
                body.remove(DIMENSIONS);
            }
            if let Some(dimensions) = request.dimensions {
                body.set(name.as_str(), dimensions.as_bytes());
            }
        }
    }
    Ok(Some(request.outgoing(quirks::path(&how.path, request.base.model), body.finish(), settled, read)))
}

/// Reads `{"data":[{"index":…,"embedding":…}],"usage":…}`.
fn read(json: &str) -> Result<Answer<'_>, Fault> {
    let (mut answer, mut data, mut failure) = (Answer::default(), None, false);
    let mut members = walk::members(json)?;
    while let Some((key, value)) = members.next()? {
        match key.raw() {
            "data" if value.starts_with('[') => data = Some(value),
            // All that embeddings use is input, wherever it is counted.
            "usage" if value.starts_with('{') => {
                answer.prompt_tokens = usage::read(&mut walk::Cursor::new(value), false)?.map(|usage| usage.total());
            }
            "error" => failure |= !matches!(value, "null" | "{}" | "\"\"" | "false"),
            "object" => failure |= value == "\"error\"",
            _ => {}
        }
    }
    let Some(data) = data.filter(|_| !failure) else { return Err(Fault::Provider(error::in_band(json))) };
    let mut items = walk::elements(data)?;
    loop {
        let (mut index, mut vector) = (answer.vectors.len(), "");
        let item = items.next_object(|key, value| match key.raw() {
            "index" => index = walk::unsigned(value).and_then(|n| usize::try_from(n).ok()).unwrap_or(index),
            "embedding" => vector = value,
            _ => {}
        });
        match item? {
            None => return Ok(answer),
            Some(_) => answer.vectors.push((index, vector.into())),
        }
    }
}
