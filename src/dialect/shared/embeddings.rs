//! What the embeddings of all providers have in common: the answer is read whole and held to the request, one vector per
//! input, each in the wanted form.

use super::params::{self, Settled};
use crate::dialect::{Decoder, Outgoing};
use crate::error::ApiError;
use crate::json::slices::Slices;
use crate::json::walk;
use crate::llm::embeddings::{DIMENSIONS, ENCODING_FORMAT, EmbeddingRequest, INPUT};
use crate::llm::event::{Event, Sink};
use crate::llm::failure::Fault;
use crate::llm::field::Field;
use crate::llm::usage::Usage;
use crate::llm::vector::{Encoding, convert, length};
use http::{HeaderMap, HeaderName};
use std::borrow::Cow;

/// What a provider's answer says.
#[derive(Debug, Default)]
pub struct Answer<'a> {
    /// Number of the input, and its vector as raw JSON: an array of numbers, or a base64 string.
    pub vectors: Vec<(usize, Cow<'a, str>)>,
    /// Tokens of all inputs, where the provider counts them.
    pub prompt_tokens: Option<u64>,
}

impl<'a> Answer<'a> {
    /// An answer whose vectors come in the order of the inputs.
    pub fn in_order(vectors: impl IntoIterator<Item: Into<Cow<'a, str>>>, prompt_tokens: Option<u64>) -> Self {
        Self { vectors: vectors.into_iter().map(Into::into).enumerate().collect(), prompt_tokens }
    }
}

/// Reads one provider's form of an answer.
pub type Read = for<'a> fn(&'a str) -> Result<Answer<'a>, Fault>;

/// What a reader made with serde says of an answer that is not the protocol. The provider's own text is left out.
pub fn broken(e: &serde_json::Error) -> Fault {
    Fault::Broken(format!("the provider's answer has no embeddings (line {}, column {})", e.line(), e.column()).into())
}

/// The decoder of every provider's embeddings.
#[derive(Debug)]
pub struct Whole {
    read: Read,
    count: usize,
    /// How many numbers each vector must have.
    dimensions: Option<u64>,
    encoding: Encoding,
    counted_by: Option<HeaderName>,
    counted: Option<u64>,
}

impl Whole {
    /// A decoder of the answer to this request.
    pub fn new(request: &EmbeddingRequest<'_>, read: Read) -> Self {
        let dimensions = request.dimensions.and_then(walk::unsigned);
        Self { read, count: request.input.count, dimensions, encoding: request.encoding, counted_by: None, counted: None }
    }

    /// The header that counts tokens where the body does not.
    pub fn counted_by(mut self, header: HeaderName) -> Self {
        self.counted_by = Some(header);
        self
    }
}

impl Decoder for Whole {
    fn headers(&mut self, headers: &HeaderMap) {
        let value = self.counted_by.as_ref().and_then(|name| headers.get(name));
        self.counted = value.and_then(|value| value.to_str().ok()?.trim().parse().ok());
    }

    fn whole(&mut self, body: &[u8], out: &mut dyn Sink) -> Result<(), Fault> {
        let text = simdutf8::basic::from_utf8(body).map_err(|_| Fault::Broken("the provider's answer is not UTF-8".into()))?;
        let mut answer = (self.read)(text)?;
        answer.vectors.sort_by_key(|(index, _)| *index);
        let complete = answer.vectors.len() == self.count && answer.vectors.iter().enumerate().all(|(place, (index, _))| place == *index);
        if !complete {
            let (have, want) = (answer.vectors.len(), self.count);
            let what = format!("the provider's answer must have one embedding for each of the {want} inputs, and has {have}");
            return Err(Fault::Broken(what.into()));
        }
        for (index, json) in answer.vectors {
            let json = convert(&json, self.encoding).ok_or(Fault::Broken("an embedding is no vector".into()))?;
            if let Some(want) = self.dimensions
                && let have = length(&json)
                && have != want
            {
                let what = format!("each embedding must have the {want} `dimensions` that were asked for, and has {have}");
                return Err(Fault::Broken(what.into()));
            }
            out.event(Event::Embedding { index: u32::try_from(index).unwrap_or(u32::MAX), json: &json });
        }
        if let Some(prompt) = answer.prompt_tokens.or(self.counted) {
            out.event(Event::Usage(Usage { prompt, ..Usage::default() }));
        }
        Ok(())
    }
}

impl EmbeddingRequest<'_> {
    /// The same for a model whose vectors have one length only.
    ///
    /// # Errors
    /// A 400 that names `dimensions` where it is given.
    pub fn fixed_dimensions(&self) -> Result<(), ApiError> {
        if self.dimensions.is_some() { Err(params::unsupported(DIMENSIONS)) } else { Ok(()) }
    }

    /// Leaves out whatever is not OpenAI's and not in `known`: the policy of every provider with a protocol of its own.
    ///
    /// # Errors
    /// A 400 that names the first such member, where the route says `unsupported: reject`.
    pub fn settle(&self, known: &[&str]) -> Result<Settled, ApiError> {
        let mut settled = Settled::new(self.base.params.reject_unsupported);
        let own = [Field::Model.name(), INPUT, DIMENSIONS, ENCODING_FORMAT, Field::Stream.name()];
        let mut others = self.base.names().filter(|name| !own.contains(&&**name) && !known.contains(&&**name));
        others.try_for_each(|name| settled.drop_unknown(&name))?;
        Ok(settled)
    }

    /// A request whose answer comes whole and is read by `read`.
    pub fn outgoing(&self, path: String, body: impl Into<Slices>, settled: Settled, read: Read) -> Outgoing {
        Outgoing::new(path, body, settled, Box::new(Whole::new(self, read)))
    }
}
