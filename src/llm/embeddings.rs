//! What a client asks for with `POST /v1/embeddings`: OpenAI's `CreateEmbeddingRequest` as a view of its bytes.

use super::envelope::ChatRequest;
use super::validate;
use super::vector::Encoding;
use crate::error::ApiError;
use crate::json::walk;

/// The member that holds the texts.
pub const INPUT: &str = "input";
/// The member that asks for vectors of another length than the model's own.
pub const DIMENSIONS: &str = "dimensions";
/// The member that says in which form vectors come.
pub const ENCODING_FORMAT: &str = "encoding_format";

/// What `input` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Input {
    /// How many vectors it asks for; at least 1.
    pub count: usize,
    /// Whether it is given as token numbers of the model's own, which no other model can read.
    pub tokens: bool,
}

/// Reads `input` (raw JSON).
///
/// # Errors
/// A 400 that names `input`.
pub(crate) fn input(json: &str) -> Result<Input, ApiError> {
    let wrong = || validate::wrong(INPUT, "a string, an array of strings, an array of token numbers or an array of such arrays");
    if json.starts_with('"') {
        return Ok(Input { count: 1, tokens: false });
    }
    // The body has been scanned: a syntax error cannot come out of a part of it.
    let mut items = walk::elements(json).map_err(|_| wrong())?;
    let (mut count, mut first) = (0, ' ');
    while let Some(item) = items.next().map_err(|_| wrong())? {
        let kind = match item.chars().next() {
            Some('"') => '"',
            Some('[') if token_list(item) => '[',
            Some(_) if walk::unsigned(item).is_some() => '0',
            _ => return Err(wrong()),
        };
        if count > 0 && kind != first {
            return Err(wrong());
        }
        (count, first) = (count + 1, kind);
    }
    match (first, count) {
        (' ', _) => Err(validate::wrong(INPUT, "an array of at least one element")),
        ('0', _) => Ok(Input { count: 1, tokens: true }),
        (first, count) => Ok(Input { count, tokens: first == '[' }),
    }
}

fn token_list(json: &str) -> bool {
    let Ok(mut items) = walk::elements(json) else { return false };
    let mut any = false;
    while let Ok(Some(item)) = items.next() {
        if walk::unsigned(item).is_none() {
            return false;
        }
        any = true;
    }
    any
}

/// What one attempt is made from.
#[derive(Clone, Copy)]
pub struct EmbeddingRequest<'a> {
    /// The client's fields under the route's settings, and the model of the attempt's target.
    pub base: ChatRequest<'a>,
    /// What `input` is.
    pub input: Input,
    /// The form that the client gets vectors in.
    pub encoding: Encoding,
    /// The length that vectors must have, as a raw JSON number of 1 or more; `None` is the model's own.
    pub dimensions: Option<&'a str>,
}

impl<'a> EmbeddingRequest<'a> {
    /// The view of a request whose body the front has accepted.
    ///
    /// # Errors
    /// A 400 that names `dimensions` or `encoding_format`.
    pub fn of(base: &ChatRequest<'a>) -> Result<Self, ApiError> {
        let encoding = match base.raw_named(ENCODING_FORMAT) {
            None => Encoding::default(),
            Some(raw) => walk::string(raw)
                .and_then(|name| Encoding::of(&name.decode()))
                .ok_or_else(|| validate::wrong(ENCODING_FORMAT, "\"float\" or \"base64\""))?,
        };
        let dimensions = base.raw_named(DIMENSIONS);
        if dimensions.is_some_and(|raw| walk::unsigned(raw).is_none_or(|n| n == 0)) {
            return Err(validate::wrong(DIMENSIONS, "a whole number of 1 or more"));
        }
        let input = input(base.parsed.raw_named(INPUT).ok_or_else(|| validate::missing(INPUT))?)?;
        Ok(Self { base: *base, input, encoding, dimensions })
    }

    /// The texts, each a raw JSON string.
    ///
    /// # Errors
    /// A 400 that names `input` where it is given as tokens.
    pub fn texts(&self) -> Result<Vec<&'a str>, ApiError> {
        if self.input.tokens {
            return Err(ApiError::field(INPUT, "`input` cannot be token numbers at this model's provider; send it as text"));
        }
        let raw = self.base.parsed.raw_named(INPUT).unwrap_or_default();
        if raw.starts_with('"') {
            return Ok(vec![raw]);
        }
        walk::elements(raw).and_then(walk::Elements::rest).map_err(|e| ApiError::field(INPUT, format!("`input`: {e}")))
    }
}
