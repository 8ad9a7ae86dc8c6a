//! The neutral reading of a request: what a dialect makes of it, and all that [`super::reply`] looks at.

use super::script::Script;
use serde_json::Value;

/// Bytes of text that count as one token.
const BYTES_PER_TOKEN: usize = 4;
/// Tokens that one image, document or sound counts as.
pub(super) const TOKENS_PER_MEDIUM: u64 = 85;

/// A request, whatever dialect it came in.
#[derive(Debug, Default)]
pub(super) struct Ask {
    /// The model's whole name, script included: the dialect echoes it.
    pub(super) model: String,
    /// The model's name without its script: the answer mentions it.
    pub(super) name: String,
    /// What the model's name asks for.
    pub(super) script: Script,
    /// Hex that is the same for the same body: ids are made of it.
    pub(super) digest: String,
    /// Whether the answer is streamed.
    pub(super) stream: bool,
    /// Whether a stream tells its usage, where the dialect leaves that to the client.
    pub(super) include_usage: bool,
    /// Text of the last user message.
    pub(super) user: String,
    /// Media types of the images, documents and sounds in all messages, in order.
    pub(super) media: Vec<String>,
    /// Texts of the tool results that end the conversation; `None` where it ends in something else.
    pub(super) results: Option<Vec<String>>,
    /// Tools that may be called.
    pub(super) tools: Vec<Tool>,
    /// Whether they must be.
    pub(super) choice: Choice,
    /// Whether more than one call is allowed.
    pub(super) parallel: bool,
    /// What the text must satisfy.
    pub(super) constraint: Constraint,
    /// Answers wanted.
    pub(super) n: usize,
    /// Most tokens of an answer.
    pub(super) max_tokens: Option<u64>,
    /// Texts that end an answer.
    pub(super) stop: Vec<String>,
    /// Log probabilities wanted, with so many alternatives.
    pub(super) logprobs: Option<u64>,
    /// Whether the model thinks first.
    pub(super) thinks: bool,
    /// Tokens of the prompt.
    pub(super) prompt_tokens: u64,
}

/// A tool that the client offers.
#[derive(Debug)]
pub(super) struct Tool {
    /// Its name.
    pub(super) name: String,
    /// JSON schema of its arguments.
    pub(super) parameters: Value,
}

/// Whether a tool must be called.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Choice {
    /// None may.
    None,
    /// The model decides.
    #[default]
    Auto,
    /// One must.
    Required,
    /// This one must.
    Named(String),
}

/// What a text must satisfy.
#[derive(Debug, Default, PartialEq)]
pub(super) enum Constraint {
    /// Nothing.
    #[default]
    Free,
    /// To be a JSON object.
    Object,
    /// To satisfy a JSON schema.
    Schema(Value),
    /// To be one of these.
    OneOf(Vec<String>),
    /// To match a regular expression.
    Pattern(String),
    /// To be in a grammar.
    Grammar(String),
}

/// Tokens of a text by the rule of this simulator: four bytes are one, rounded up.
pub(super) fn tokens(text: &str) -> u64 {
    text.len().div_ceil(BYTES_PER_TOKEN) as u64
}

/// The head of `text` that has at most `tokens` tokens, cut between characters; `None` where all of it has.
pub(super) fn cut(text: &str, tokens: u64) -> Option<&str> {
    let most = usize::try_from(tokens).unwrap_or(usize::MAX).saturating_mul(BYTES_PER_TOKEN);
    if text.len() <= most {
        return None;
    }
    (0..=most).rev().find_map(|end| text.get(..end))
}
