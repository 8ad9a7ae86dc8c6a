//! The neutral reading of a request: what a dialect makes of it, and all that [`super::reply`] looks at.

use super::dialect::Refusal;
use super::embed::Embed;
use super::openai::passed::Passed;
use super::script::Script;
use super::seen::sha256_hex;
use serde_json::{Map, Value};

/// Bytes of text that count as one token.
const BYTES_PER_TOKEN: usize = 4;
/// Hex digits of the body's SHA-256 that ids are made of.
const DIGEST: usize = 24;
/// Most answers that one request gets, so that it cannot ask for unbounded work.
const MAX_N: u64 = 128;
/// Tokens that one image, document or sound counts as.
const TOKENS_PER_MEDIUM: u64 = 85;

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
    /// Whether the prompt was one text, and so is the answer: a server that knows no messages.
    pub(super) is_text: bool,
    /// Whether the model thinks first.
    pub(super) thinks: bool,
    /// Vectors are wanted, not an answer.
    pub(super) embed: Option<Embed>,
    /// An endpoint other than that of answers and vectors is asked.
    pub(super) passed: Option<Passed>,
    /// Tokens of the prompt.
    pub(super) prompt_tokens: u64,
    /// Members of the request, for a dialect whose answers repeat them.
    pub(super) request: Map<String, Value>,
}

impl Ask {
    /// What a request to this model asks for before anything else of it was read.
    ///
    /// # Errors
    /// A bad script in the model's name.
    pub(super) fn begin(model: String, body: &[u8]) -> Result<Self, Refusal> {
        let (name, script) = Script::parse(&model).map_err(|why| Refusal::field("invalid_value", "model", why))?;
        let (name, thinks) = (name.to_owned(), script.reasoning);
        let digest = sha256_hex(body).chars().take(DIGEST).collect();
        Ok(Self { name, script, thinks, digest, model, parallel: true, n: 1, ..Self::default() })
    }

    /// So many answers are wanted.
    pub(super) fn wants(&mut self, n: u64) {
        self.n = n.clamp(1, MAX_N).try_into().unwrap_or(1);
    }

    /// A text of the prompt that nobody looks at: a system prompt, or an earlier answer. It ends a run of tool results.
    pub(super) fn heard(&mut self, text: &str) {
        self.prompt_tokens += tokens(text);
        self.results = None;
    }

    /// The user says something.
    pub(super) fn user_says(&mut self, text: String) {
        self.heard(&text);
        self.user = text;
    }

    /// The user shows an image, a document or a sound.
    pub(super) fn user_shows(&mut self, kind: &str) {
        self.prompt_tokens += TOKENS_PER_MEDIUM;
        self.media.push(kind.to_owned());
    }

    /// A tool answers.
    pub(super) fn tool_says(&mut self, text: String) {
        self.prompt_tokens += tokens(&text);
        self.results.get_or_insert_default().push(text);
    }

    /// A tool is offered.
    pub(super) fn offer(&mut self, name: &str, parameters: Option<&Value>) {
        let parameters = parameters.cloned().unwrap_or_else(|| Value::Object(Map::new()));
        self.tools.push(Tool { name: name.to_owned(), parameters, ..Tool::default() });
    }
}

/// A tool that the client offers.
#[derive(Debug, Default)]
pub(super) struct Tool {
    /// Its name.
    pub(super) name: String,
    /// JSON schema of its arguments.
    pub(super) parameters: Value,
    /// What its input must satisfy, for a custom tool, whose input is a text.
    pub(super) input: Option<Constraint>,
    /// The namespace it is in.
    pub(super) namespace: Option<String>,
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
