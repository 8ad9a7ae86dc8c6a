//! Embeddings of the containers that make them: JumpStart's Hugging Face models and TEI.

use super::Format;
use crate::dialect::Outgoing;
use crate::dialect::shared::embeddings::{Answer, Read};
use crate::error::ApiError;
use crate::json::walk;
use crate::json::write::Writer;
use crate::llm::embeddings::EmbeddingRequest;
use crate::llm::failure::Fault;
use std::borrow::Cow;

/// Writes what the target's container reads; path and headers are the service's.
pub(super) fn encode(request: &EmbeddingRequest<'_>, format: Format) -> Result<Option<Outgoing>, ApiError> {
    let (texts, read) = match format {
        Format::HfEmbedding => ("text_inputs", read_hf as Read),
        Format::TeiEmbedding => ("inputs", read_list as Read),
        _ => return Ok(None),
    };
    request.fixed_dimensions()?;
    let mut w = Writer::with_capacity(request.base.parsed.body().len() + 64);
    w.object().key(texts).raw_list(request.texts()?);
    if format == Format::HfEmbedding {
        w.key("mode").string("embedding")
    } else {
        w.key("truncate").flag(true)
    };
    w.end_object();
    Ok(Some(request.outgoing(String::new(), w.finish(), request.settle(&[])?, read)))
}

/// `{"embedding":[[…],…]}`.
fn read_hf(json: &str) -> Result<Answer<'_>, Fault> {
    let list = walk::members(json).and_then(|members| members.find("embedding"));
    read_list(list.ok().flatten().ok_or_else(no_list)?)
}

/// `[[…],…]`; a container that got one text may leave the outer brackets out. One that does not pool (Hugging Face's
/// feature extraction) gives a vector for each token, `[[[…],…],…]`.
fn read_list(json: &str) -> Result<Answer<'_>, Fault> {
    let mut items = walk::elements(json).map_err(|_| no_list())?;
    let mut list = Vec::new();
    while let Some(item) = items.next().map_err(|_| no_list())? {
        if !item.starts_with('[') {
            return Ok(Answer::in_order([json.trim_ascii()], None));
        }
        list.push(if item.as_bytes().get(1) == Some(&b'[') { Cow::Owned(pooled(item)?) } else { Cow::Borrowed(item) });
    }
    Ok(Answer::in_order(list, None))
}

/// The mean of the vectors of a text's tokens.
fn pooled(tokens: &str) -> Result<String, Fault> {
    let uneven = || Fault::Broken("the container's answer has token vectors of different lengths".into());
    let tokens: Vec<Vec<f64>> = serde_json::from_str(tokens).map_err(|_| no_list())?;
    let mut sums = vec![0.0; tokens.first().map_or(0, Vec::len)];
    for token in &tokens {
        if token.len() != sums.len() {
            return Err(uneven());
        }
        sums.iter_mut().zip(token).for_each(|(sum, value)| *sum += value);
    }
    let count = tokens.len() as f64;
    serde_json::to_string(&sums.into_iter().map(|sum| sum / count).collect::<Vec<f64>>()).map_err(|_| uneven())
}

fn no_list() -> Fault {
    Fault::Broken("the container's answer has no list of embeddings".into())
}
