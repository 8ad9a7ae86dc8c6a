//! OpenAI's embeddings: checks a request and writes its answer, `CreateEmbeddingResponse`.

use crate::error::ApiError;
use crate::json::write::{escape, integer};
use crate::llm::embeddings::{INPUT, input};
use crate::llm::envelope::Parsed;
use crate::llm::event::{Event, Sink};
use crate::llm::field::Field;
use crate::llm::validate;
use bytes::Bytes;

/// Checks the body of an embeddings request.
///
/// # Errors
/// A 400 that names the position or the field.
pub fn parse(body: Bytes) -> Result<Parsed, ApiError> {
    let parsed = Parsed::scan(body)?;
    validate::model(parsed.raw(Field::Model))?;
    input(parsed.raw_named(INPUT).ok_or_else(|| validate::missing(INPUT))?)?;
    if parsed.stream() {
        return Err(ApiError::field("stream", "Embeddings are not streamed; leave `stream` out"));
    }
    Ok(parsed)
}

/// Writes vectors as they come; [`EmbeddingsWriter::finish`] ends the object.
#[derive(Debug)]
pub struct EmbeddingsWriter {
    out: Vec<u8>,
}

impl Default for EmbeddingsWriter {
    fn default() -> Self {
        Self { out: br#"{"object":"list","data":["#.to_vec() }
    }
}

impl EmbeddingsWriter {
    /// The object, of the model that the client asked for and what it used.
    pub fn finish(&mut self, model: &str, prompt_tokens: u64) -> Vec<u8> {
        let mut out = std::mem::take(&mut self.out);
        if out.last() == Some(&b',') {
            out.pop();
        }
        out.extend_from_slice(b"],\"model\":\"");
        escape(&mut out, model);
        out.extend_from_slice(b"\",\"usage\":{\"prompt_tokens\":");
        integer(&mut out, prompt_tokens);
        out.extend_from_slice(b",\"total_tokens\":");
        integer(&mut out, prompt_tokens);
        out.extend_from_slice(b"}}");
        out
    }
}

impl Sink for EmbeddingsWriter {
    fn event(&mut self, event: Event<'_>) {
        // Nothing else of an answer is of use to the client.
        if let Event::Embedding { index, json } = event {
            self.out.extend_from_slice(b"{\"object\":\"embedding\",\"index\":");
            integer(&mut self.out, u64::from(index));
            self.out.extend_from_slice(b",\"embedding\":");
            self.out.extend_from_slice(json.as_bytes());
            self.out.extend_from_slice(b"},");
        }
    }
}
