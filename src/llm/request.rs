//! One attempt's request in neutral terms, whichever protocol its client speaks.
//!
//! A front builds it under the settings of the route, borrowing from the client's bytes: texts keep their JSON spelling,
//! schemas and arguments stay raw, data URIs are not copied. Every value knows its [`Path`] in the client's own words, so
//! that a dialect's refusal names what the client wrote.

use super::adjustments::Adjustments;
use super::constraint::Constraint;
use super::envelope::ChatRequest;
use super::field::{Field, Fields, GUIDED, Loss};
use super::media::Source;
use super::messages::MessagesRequest;
pub use super::path::Path;
use super::responses::ResponsesRequest;
use super::state::Seal;
use crate::closed_set::closed_set;
use crate::error::ApiError;
use crate::json::text::Text;
use crate::json::write::Writer;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::HashSet;

/// The fields whose values a [`Request`] holds.
pub const HELD: Fields = Fields::of(&GUIDED)
    .with(Field::Model)
    .with(Field::Messages)
    .with(Field::Stream)
    .with(Field::MaxTokens)
    .with(Field::MaxCompletionTokens)
    .with(Field::Temperature)
    .with(Field::TopP)
    .with(Field::FrequencyPenalty)
    .with(Field::PresencePenalty)
    .with(Field::Stop)
    .with(Field::Seed)
    .with(Field::N)
    .with(Field::Logprobs)
    .with(Field::TopLogprobs)
    .with(Field::Tools)
    .with(Field::ToolChoice)
    .with(Field::ParallelToolCalls)
    .with(Field::ResponseFormat)
    .with(Field::ReasoningEffort)
    .with(Field::User)
    .with(Field::Metadata)
    .with(Field::ServiceTier);

/// What one attempt asks of a model.
#[derive(Default)]
pub struct Request<'a> {
    /// The model at the attempt's target.
    pub model: &'a str,
    /// Whether the client wants the answer as a stream.
    pub stream: bool,
    /// Length of the client's body in bytes, for the capacity of what is written.
    pub size: usize,
    /// Who speaks, in order; the blocks of all of them are in [`Self::blocks`].
    pub speakers: Vec<Speaker<'a>>,
    /// The blocks of all turns, one turn's after the other's.
    pub blocks: Vec<Block<'a>>,
    /// The functions that the model may call.
    pub tools: Vec<Tool<'a>>,
    /// Which of them it may or must call; `None` where the client does not say.
    pub tool_choice: Option<ToolChoice<'a>>,
    /// Whether it may make one call at a time only.
    pub serial_calls: bool,
    /// What the answer must look like.
    pub output: Option<OutputFormat<'a>>,
    /// Limits and randomness of the answer.
    pub sampling: Sampling<'a>,
    /// The reasoning effort, in the client's word; see [`Effort::read`].
    pub effort: Option<Text<'a>>,
    /// For how many tokens it may think, where the client says it as a number; [`Self::effort`] then has the nearest word.
    pub thinking_budget: Option<u64>,
    /// The end user.
    pub user: Option<Text<'a>>,
    /// Pairs for the provider's log, raw JSON.
    pub metadata: Option<&'a str>,
    /// The tier of service, raw JSON.
    pub service_tier: Option<&'a str>,
    /// Every parameter that asks for something, the ones above included.
    pub params: Vec<Param<'a>>,
    /// Members for providers that speak OpenAI, as name and raw JSON, that have no place above: the route's settings, and fields of
    /// the client's.
    pub passed: Vec<(&'a str, &'a str)>,
    /// Whether a parameter without a counterpart is a 400 instead of being dropped.
    pub reject_unsupported: bool,
    /// What the target has taught.
    pub adjustments: Adjustments,
    /// Seals what a provider wants back into ids; `None` where no state is kept.
    pub seal: Option<&'a Seal>,
}

/// A client's request as its front holds it.
pub trait Ask {
    /// The model at the attempt's target.
    fn model(&self) -> &str;

    /// Whether the client wants the answer as a stream.
    fn stream(&self) -> bool;

    /// In neutral terms, for a dialect that speaks another protocol than the client.
    ///
    /// # Errors
    /// A 400 that names what cannot be read.
    fn request(&self) -> Result<Request<'_>, ApiError>;

    /// The envelope of a chat completion, for a dialect that splices it. `None` where the client speaks another protocol.
    fn chat(&self) -> Option<&ChatRequest<'_>> {
        None
    }

    /// The same for a request of the Messages API.
    fn messages(&self) -> Option<&MessagesRequest<'_>> {
        None
    }

    /// The same for a request of the Responses API.
    fn responses(&self) -> Option<&ResponsesRequest<'_>> {
        None
    }
}

/// A parameter that asks for something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param<'a> {
    /// Which one; `None` where the gateway does not know it.
    pub field: Option<Field>,
    /// Its name in the client's words.
    pub name: Cow<'a, str>,
    /// What it means for the answer to go without it.
    pub loss: Loss,
    /// Whether the target has refused it before, so that it counts as absent.
    pub refused: bool,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The operator or the developer: instructions.
    System,
    /// The user.
    User,
    /// The model.
    Assistant,
    /// A tool: the result of a call.
    Tool,
}

/// The head of a turn, without its blocks.
#[derive(Clone, Debug)]
pub struct Speaker<'a> {
    /// Who speaks.
    pub role: Role,
    /// The speaker's name.
    pub name: Option<Text<'a>>,
    /// The call that a tool's result answers; always present for [`Role::Tool`].
    pub answers: Option<CallId<'a>>,
    /// Whether it is the result of a call that failed.
    pub failed: bool,
    /// Where the turn stands.
    pub at: Path,
    /// How many blocks it has.
    pub length: usize,
}

/// One turn of the conversation.
#[derive(Clone, Copy, Debug)]
pub struct Turn<'r, 'a> {
    /// Its position in the conversation.
    pub index: usize,
    speaker: &'r Speaker<'a>,
    /// What is said.
    pub blocks: &'r [Block<'a>],
}

/// A part of a turn.
#[derive(Clone, Debug)]
pub struct Block<'a> {
    /// What it is.
    pub content: Content<'a>,
    /// Whether the prompt is cached up to and including this block.
    pub cache: Option<CacheMark>,
    /// Where it stands.
    pub at: Path,
}

/// What a block holds.
#[expect(missing_docs, reason = "the fields are explained by their variants")]
#[derive(Clone, Debug)]
pub enum Content<'a> {
    /// Text.
    Text(Text<'a>),
    /// The text of a refusal that the model gave earlier.
    Refusal(Text<'a>),
    /// The model's earlier reasoning, without a provider's signature.
    Reasoning(Text<'a>),
    /// An image. `detail`: `low`, `high` or `auto`.
    Image { source: Source<'a>, detail: Option<Text<'a>> },
    /// A file, or the id that a provider's file store gave it.
    File { source: Option<Source<'a>>, name: Option<Text<'a>>, id: Option<Text<'a>> },
    /// Sound in base64, and its format (`wav`, `mp3`).
    Audio { data: Text<'a>, format: Text<'a> },
    /// A call of a tool.
    Call(ToolCall<'a>),
    /// An image that the model made in an earlier answer, by its URL.
    Generated(Text<'a>),
}

/// A call of a tool that the model made earlier.
#[derive(Clone, Debug)]
pub struct ToolCall<'a> {
    /// Its id.
    pub id: CallId<'a>,
    /// The function.
    pub name: Text<'a>,
    /// The text of a JSON document; may be empty. Of a custom tool the input, which is any text.
    pub arguments: Text<'a>,
    /// Of a custom tool, the argument of the function which stands for it that takes the input.
    pub custom: Option<&'static str>,
    /// What a provider's own clients send beside a call, raw JSON.
    pub extra: Option<&'a str>,
}

/// The id of a call as its provider made it, and the provider's state that the client sent back with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallId<'a> {
    /// The provider's id.
    pub id: Cow<'a, str>,
    /// The state; `None` where none came back or nobody can open it.
    pub state: Option<Vec<u8>>,
}

/// How long the prompt is cached. A hint: the answer is the same without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheMark {
    /// For the provider's default time, some minutes.
    Short,
    /// For an hour.
    Hour,
}

/// A function that the model may call.
#[derive(Clone, Copy, Debug)]
pub struct Tool<'a> {
    /// Its name.
    pub name: Text<'a>,
    /// What it does.
    pub description: Option<Text<'a>>,
    /// The JSON schema of its arguments; always an object where present.
    pub parameters: Option<&'a str>,
    /// Whether arguments must match the schema.
    pub strict: Option<bool>,
    /// Whether the prompt is cached up to and including this tool.
    pub cache: Option<CacheMark>,
    /// Where the schema stands.
    pub at: Path,
}

/// Which tools the model may or must call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolChoice<'a> {
    /// Any or none.
    Auto,
    /// None.
    None,
    /// At least one.
    Required,
    /// This one; it is among the tools.
    Named(Text<'a>),
    /// Only these; they are among the tools.
    Allowed {
        /// Whether one of them must be called.
        required: bool,
        /// Their names.
        names: Vec<Text<'a>>,
    },
}

/// What the answer must look like, and the field that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputFormat<'a> {
    /// The field.
    pub field: Field,
    /// The constraint.
    pub constraint: Constraint<'a>,
}

/// Limits and randomness of the answer. Numbers keep their spelling (raw JSON).
#[derive(Clone, Debug, Default)]
pub struct Sampling<'a> {
    /// Most tokens of the answer, thinking included.
    pub max_tokens: Option<&'a str>,
    /// `temperature`, and who set it.
    pub temperature: Option<(&'a str, Authority)>,
    /// `top_p`, and who set it.
    pub top_p: Option<(&'a str, Authority)>,
    /// Penalty of frequent tokens.
    pub frequency_penalty: Option<&'a str>,
    /// Penalty of tokens that have occurred.
    pub presence_penalty: Option<&'a str>,
    /// Texts that end the answer; none of them is empty.
    pub stop: Vec<Text<'a>>,
    /// The seed.
    pub seed: Option<&'a str>,
    /// How many answers, where more than one.
    pub choices: Option<&'a str>,
    /// Whether log probabilities are wanted.
    pub logprobs: bool,
    /// How many alternatives to each token, where they are wanted.
    pub top_logprobs: Option<&'a str>,
}

/// Who set a value, from the weakest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Authority {
    /// The route's default.
    Default,
    /// The client.
    Client,
    /// The route's override.
    Override,
}

closed_set! {
    /// How much a model shall think, from the least.
    #[expect(missing_docs, reason = "the words are OpenAI's and mean what they say")]
    #[derive(PartialOrd, Ord)]
    Effort { None = "none", Minimal = "minimal", Low = "low", Medium = "medium", High = "high", XHigh = "xhigh", Max = "max" }
}

impl<'a> Param<'a> {
    /// A parameter that the gateway does not know.
    pub fn unknown(name: impl Into<Cow<'a, str>>) -> Self {
        Self { field: None, name: name.into(), loss: Loss::Hint, refused: false }
    }
}

impl<'a> Request<'a> {
    /// The turns of the conversation.
    pub fn turns(&self) -> Vec<Turn<'_, 'a>> {
        let mut rest = self.blocks.as_slice();
        let turn = |(index, speaker): (usize, _)| {
            let speaker: &Speaker<'a> = speaker;
            let (blocks, others) = rest.split_at_checked(speaker.length).unwrap_or((rest, &[]));
            rest = others;
            Turn { index, speaker, blocks }
        };
        let mut turns: Vec<_> = self.speakers.iter().enumerate().map(turn).collect();
        // What a client says between two results of one turn's calls comes behind all of them: elsewhere results must stand
        // directly behind their calls.
        let place = |turn: &Turn<'_, '_>| match turn.role() {
            Role::Tool => 0,
            Role::System | Role::User => 1,
            Role::Assistant => 2,
        };
        turns.split_inclusive_mut(|turn| turn.role() == Role::Assistant).skip(1).for_each(|part| part.sort_by_key(place));
        turns
    }

    /// Ends a turn whose blocks have been pushed since `start`.
    pub fn end_turn(&mut self, role: Role, name: Option<Text<'a>>, answers: Option<CallId<'a>>, at: Path, start: usize) {
        let length = self.blocks.len() - start;
        self.speakers.push(Speaker { role, name, answers, failed: false, at, length });
    }

    /// Adds a turn with these blocks, unless there are none. One of the user's that says nothing is a turn all the same.
    pub fn push_turn(&mut self, role: Role, at: Path, blocks: impl IntoIterator<Item = Block<'a>>) {
        let start = self.blocks.len();
        self.blocks.extend(blocks);
        if self.blocks.len() > start || role == Role::User {
            self.end_turn(role, None, None, at, start);
        }
    }

    /// A parameter that asks for something.
    pub fn param(&self, field: Field) -> Option<&Param<'a>> {
        self.params.iter().find(|param| param.field == Some(field))
    }

    /// The fields that the client or the route asks for, without those that the target has refused.
    pub fn asks(&self) -> Fields {
        self.params.iter().filter(|param| !param.refused).filter_map(|param| param.field).collect()
    }

    /// The client's name for a parameter.
    pub fn name_of(&self, field: Field) -> Cow<'static, str> {
        self.param(field).map_or(Cow::Borrowed(field.name()), |param| Cow::Owned(param.name.clone().into_owned()))
    }

    /// The limit of the answer's tokens as a number.
    ///
    /// # Errors
    /// A 400 that names the field where it is no whole number of at least 1.
    pub fn token_limit(&self) -> Result<Option<u64>, ApiError> {
        let Some(raw) = self.sampling.max_tokens else { return Ok(None) };
        match raw.parse() {
            Ok(limit) if limit > 0 => Ok(Some(limit)),
            _ => {
                let newer = self.param(Field::MaxCompletionTokens).map(|_| Field::MaxCompletionTokens);
                let name = self.name_of(newer.unwrap_or(Field::MaxTokens));
                let message = format!("`{name}` must be a whole number of at least 1");
                Err(ApiError::field(name, message))
            }
        }
    }
}

impl<'r, 'a> Turn<'r, 'a> {
    /// Who speaks.
    pub fn role(&self) -> Role {
        self.speaker.role
    }

    /// The speaker's name.
    pub fn name(&self) -> Option<Text<'a>> {
        self.speaker.name
    }

    /// The id of the call that a tool's result answers; empty for other turns.
    pub fn answers(&self) -> &'r str {
        self.speaker.answers.as_ref().map_or("", |call| &call.id)
    }

    /// Whether it is the result of a call that failed.
    pub fn failed(&self) -> bool {
        self.speaker.failed
    }

    /// What the result of a call begins with in a protocol that cannot say otherwise that the call failed: nothing, where it
    /// did not fail or its text says so already.
    pub fn error_prefix(&self) -> Text<'static> {
        let first = self.blocks.iter().find_map(|block| if let Content::Text(text) = block.content { Some(text) } else { None });
        let word = |text: Text<'_>| text.trimmed_start().spelled().get(..5).is_some_and(|word| word.eq_ignore_ascii_case("error"));
        Text::Plain(if self.failed() && !first.is_some_and(word) { "Error: " } else { "" })
    }

    /// Where the turn stands.
    pub fn at(&self) -> Path {
        self.speaker.at
    }

    /// The calls of the turn.
    pub fn calls(&self) -> impl Iterator<Item = (&'r ToolCall<'a>, Path)> + use<'r, 'a> {
        self.blocks.iter().filter_map(|block| if let Content::Call(call) = &block.content { Some((call, block.at)) } else { None })
    }

    /// The texts of a turn that may hold nothing else beside calls and reasoning (instructions, assistant turns, most
    /// tool results), empty ones left out. A refusal is text here.
    ///
    /// # Errors
    /// A 400 that names the first block of another kind.
    pub fn texts(&self) -> Result<Vec<(Text<'a>, Option<CacheMark>)>, ApiError> {
        let mut texts = Vec::new();
        for block in self.blocks {
            match block.content {
                Content::Text(text) | Content::Refusal(text) if !text.is_empty() => texts.push((text, block.cache)),
                Content::Text(_) | Content::Refusal(_) | Content::Reasoning(_) | Content::Call(_) | Content::Generated(_) => {}
                Content::Image { .. } | Content::File { .. } | Content::Audio { .. } => {
                    return Err(block.at.refused("only text can stand in a message of this role"));
                }
            }
        }
        Ok(texts)
    }
}

impl Request<'_> {
    /// Leaves out what a target has taught that it does not take, where nothing of the answer depends on it.
    pub fn adjusted(mut self) -> Self {
        if self.adjustments.without_cache_marks {
            self.blocks.iter_mut().for_each(|block| block.cache = None);
            self.tools.iter_mut().for_each(|tool| tool.cache = None);
        }
        self
    }
}

impl<'a> Block<'a> {
    /// A block without a cache mark.
    pub const fn new(content: Content<'a>, at: Path) -> Self {
        Self { content, cache: None, at }
    }

    /// A text without a cache mark.
    pub const fn text(text: Text<'a>, at: Path) -> Self {
        Self::new(Content::Text(text), at)
    }
}

impl<'a> ToolCall<'a> {
    /// The arguments as a JSON object, their escapes undone once; `{}` for none.
    ///
    /// # Errors
    /// A 400 that names the arguments, which stand at `at`, where they are no JSON object.
    pub fn object(&self, at: Path) -> Result<Cow<'a, str>, ApiError> {
        if let Some(object) = self.custom_object() {
            return Ok(Cow::Owned(object));
        }
        let json = self.arguments.decode();
        if has_none(&json) {
            return Ok(Cow::Borrowed("{}"));
        }
        if json.trim_start().starts_with('{') && serde_json::from_str::<&RawValue>(&json).is_ok() {
            return Ok(json);
        }
        let path = at.to_string();
        let message = format!("`{path}` must be the text of a JSON object");
        Err(ApiError::field(path, message))
    }
}

impl ToolCall<'_> {
    /// Writes the arguments as a text, for a provider that takes them so.
    pub fn write_arguments(&self, w: &mut Writer) {
        match self.custom_object() {
            Some(object) => w.string(&object),
            None if has_none(self.arguments.spelled()) => w.string("{}"),
            None => w.text(self.arguments),
        };
    }

    /// The arguments of the function that stands for a custom tool.
    fn custom_object(&self) -> Option<String> {
        let mut w = Writer::default();
        w.object().key(self.custom?).text(self.arguments).end_object();
        Some(w.into_string())
    }
}

impl CacheMark {
    /// The provider's word for a time that is not its default.
    pub const fn ttl(self) -> Option<&'static str> {
        match self {
            Self::Short => None,
            Self::Hour => Some("1h"),
        }
    }
}

impl Effort {
    /// The request's effort.
    ///
    /// # Errors
    /// A 400 that names the field where its word is unknown.
    pub fn read(request: &Request<'_>) -> Result<Option<Self>, ApiError> {
        request.effort.map(|word| Self::of(word, || request.name_of(Field::ReasoningEffort))).transpose()
    }

    /// The effort of this word, which the client knows by `name`.
    ///
    /// # Errors
    /// A 400 that names the field where the word is unknown.
    pub fn of(word: Text<'_>, name: impl FnOnce() -> Cow<'static, str>) -> Result<Self, ApiError> {
        let word = word.decode();
        Self::ALL.iter().copied().find(|effort| effort.name() == word).ok_or_else(|| {
            let name = name();
            let message = format!("`{name}` must be none, minimal, low, medium, high, xhigh or max");
            ApiError::field(name, message)
        })
    }
}

/// What some servers write for the arguments of a call that has none.
pub const NO_ARGUMENTS: &str = "null";

/// Whether the text of a call's arguments says that there are none.
fn has_none(arguments: &str) -> bool {
    matches!(arguments.trim(), "" | NO_ARGUMENTS)
}

/// The names as a set, however their JSON spells them.
pub fn decoded<'a>(names: impl IntoIterator<Item = Text<'a>>) -> HashSet<Cow<'a, str>> {
    names.into_iter().map(Text::decode).collect()
}

/// Whether two names mean the same, however their JSON spells them.
pub fn same_text(a: Text<'_>, b: Text<'_>) -> bool {
    a == b || a.decode() == b.decode()
}
