//! A conversation of turns, as Anthropic and Bedrock want it: instructions apart, users and assistants in turn, the
//! results of a turn's calls together at the beginning of the user's next turn.
//!
//! Instructions alone, or behind the assistant's last turn, are answered at OpenAI, and so is a user's turn with nothing in it.
//! So they are in every dialect here: where a provider wants a user's turn in that place, it gets one that says as little as the
//! provider takes ([`OPENING`]).

use super::ids::legal;
use super::open_calls::{Answers, OpenCalls};
use super::thinking_state::thinking;
use crate::error::ApiError;
use crate::json::text::Text;
use crate::llm::field::Field;
use crate::llm::request::{self, CacheMark, Content, Request, Role};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// What a turn says that has to be there and has nothing to say; a blank text is refused.
const OPENING: &str = ".";

/// A conversation, ready to be written; `M` is an image or a file as the protocol wants it.
pub(in crate::dialect) struct Conversation<'a, M> {
    /// Instructions, the route's first, each with its cache mark.
    pub(in crate::dialect) system: Vec<(Text<'a>, Option<CacheMark>)>,
    /// At least one, and each with a block.
    pub(in crate::dialect) turns: Vec<Turn<'a, M>>,
}

/// What one side says before the other does.
pub(in crate::dialect) struct Turn<'a, M> {
    pub(in crate::dialect) assistant: bool,
    pub(in crate::dialect) blocks: Vec<Block<'a, M>>,
}

/// A part of a turn.
pub(in crate::dialect) enum Block<'a, M> {
    Text(Text<'a>, Option<CacheMark>),
    /// The beginning of an answer, which the model goes on with; it does not end in white space.
    Prefill(String),
    Media(M, Option<CacheMark>),
    /// Thinking that came back, the inside of a JSON array of Anthropic's blocks.
    Thinking(String),
    Call {
        id: String,
        name: Text<'a>,
        input: Cow<'a, str>,
    },
    Result {
        id: String,
        content: Vec<Self>,
        failed: bool,
    },
}

impl<'a, M> Conversation<'a, M> {
    /// Sorts the turns: instructions apart, the results of calls first in the user's turn. `media` takes a block that is no
    /// text, of a user's or a tool's turn, or says what the model takes instead. `maker`: whose thinking may go back.
    ///
    /// # Errors
    /// A 400 that names the block that cannot be taken.
    pub(in crate::dialect) fn read(
        request: &Request<'a>,
        maker: &str,
        media: impl Fn(Role, &Content<'a>) -> Result<M, &'static str>,
    ) -> Result<Self, ApiError> {
        let turns = request.turns();
        let mut this = Self { system: Vec::new(), turns: Vec::with_capacity(turns.len()) };
        let mut ids = CallIds::default();
        for turn in &turns {
            match turn.role() {
                Role::System => this.system.extend(turn.texts()?),
                Role::User => this.push(turn, contents(turn, &media)?),
                Role::Assistant => {
                    let step = this.turns.len() - usize::from(this.turns.last().is_some_and(|turn| turn.assistant));
                    this.push(turn, assistant(turn, maker, step, &mut ids)?);
                }
                Role::Tool => {
                    let Some(id) = ids.answered(turn.answers()) else { continue };
                    let (content, failed) = (contents(turn, &media)?, turn.failed());
                    this.push(turn, vec![Block::Result { id, content, failed }]);
                }
            }
        }
        this.system.retain(|(text, _)| !blank(*text));
        for turn in this.turns.iter_mut().filter(|turn| !turn.assistant) {
            turn.blocks.sort_by_key(|block| !matches!(block, Block::Result { .. })); // stable: results first, else as they came
        }
        // Instructions stand apart and what is empty is left out, so that without a turn of the user's here the model would
        // continue the assistant's, which newer ones refuse.
        let prefilled = turns.last().is_some_and(|turn| turn.role() == Role::Assistant);
        if (this.turns.is_empty() && !this.system.is_empty()) || (!prefilled && this.turns.last().is_some_and(|turn| turn.assistant)) {
            this.turns.push(Turn::opening());
        }
        let Some(last) = this.turns.last_mut() else {
            let list = request.speakers.last().map_or(Field::Messages.name(), |speaker| speaker.at.list);
            return Err(ApiError::field(list, format!("`{list}` must hold a user's message that is not empty")));
        };
        if let (true, Some(block)) = (last.assistant, last.blocks.last_mut())
            && let Block::Text(text, _) = block
        {
            *block = Block::Prefill(text.decode().trim_end().to_owned());
        }
        Ok(this)
    }

    /// Adds to the last turn where it is the same side's; what is empty adds nothing.
    fn push(&mut self, turn: &request::Turn<'_, 'a>, blocks: Vec<Block<'a, M>>) {
        let assistant = turn.role() == Role::Assistant;
        match self.turns.last_mut() {
            _ if blocks.is_empty() => {}
            Some(turn) if turn.assistant == assistant => turn.blocks.extend(blocks),
            _ => self.turns.push(Turn { assistant, blocks }),
        }
    }

    /// Every block, turn by turn.
    pub(in crate::dialect) fn blocks(&self) -> impl Iterator<Item = &Block<'a, M>> {
        self.turns.iter().flat_map(|turn| &turn.blocks)
    }

    /// Whether the model may go on thinking with a fixed budget: not behind a prefill, and behind tool results only
    /// where the turn that called begins with its own thinking.
    pub(in crate::dialect) fn can_think(&self) -> bool {
        match self.turns.as_slice() {
            [.., calls, last] if !last.assistant && matches!(last.blocks.first(), Some(Block::Result { .. })) => {
                matches!(calls.blocks.first(), Some(Block::Thinking(_)))
            }
            [.., last] => !last.assistant,
            [] => true,
        }
    }
}

impl<M> Turn<'_, M> {
    /// A turn of the user's that says nothing.
    pub(in crate::dialect) fn opening() -> Self {
        Self { assistant: false, blocks: vec![Block::Text(Text::Plain(OPENING), None)] }
    }
}

impl<M> Block<'_, M> {
    /// The cache mark of this block, or of one inside it.
    pub(in crate::dialect) fn cache(&self) -> Option<CacheMark> {
        match self {
            Self::Text(_, cache) | Self::Media(_, cache) => *cache,
            Self::Result { content, .. } => content.iter().find_map(Self::cache),
            Self::Prefill(_) | Self::Thinking(_) | Self::Call { .. } => None,
        }
    }
}

/// The ids of calls as they are sent, each different from all others: Anthropic and Bedrock refuse one that repeats
/// ("`tool_use` ids must be unique"), and a second result of a call ("each tool_use must have a single result").
#[derive(Default)]
struct CallIds<'r> {
    open: OpenCalls<'r>,
    /// By the call's number.
    sent: Vec<String>,
    used: HashSet<String>,
    /// How often an id has come that repeats.
    repeated: HashMap<&'r str, usize>,
}

impl<'r> CallIds<'r> {
    /// The id of a call of this step: the client's, or with a number behind it where it is in use. It depends on the turns
    /// before it only, so that a conversation that grows keeps its ids and what the provider has cached of it.
    fn call(&mut self, id: &'r str, step: usize) -> String {
        let mut sent = legal(id);
        while !self.used.insert(sent.clone()) {
            let count = self.repeated.entry(id).or_insert(1);
            *count += 1;
            sent = legal(&format!("{id}-{count}"));
        }
        self.open.add(id, step);
        self.sent.push(sent.clone());
        sent
    }

    /// The id of the call that a result answers; `None` where all calls of this id have their results. One that nobody has
    /// called stays, for the provider to refuse.
    fn answered(&mut self, id: &str) -> Option<String> {
        match self.open.take(id) {
            Answers::Call(number) => self.sent.get(number).cloned(),
            Answers::Nothing => None,
            Answers::Unknown => Some(legal(id)),
        }
    }
}

/// An assistant's turn: the thinking that led to its first call, its words, its calls. Thinking that comes without its
/// signature (`reasoning_content`) cannot be given back.
fn assistant<'r, 'a, M>(
    turn: &request::Turn<'r, 'a>,
    maker: &str,
    step: usize,
    ids: &mut CallIds<'r>,
) -> Result<Vec<Block<'a, M>>, ApiError> {
    let texts = turn.texts()?.into_iter().filter(|(text, _)| !blank(*text));
    let mut blocks: Vec<_> = texts.map(|(text, cache)| Block::Text(text, cache)).collect();
    for (j, (call, at)) in turn.calls().enumerate() {
        if let Some(thinking) = thinking(&call.id, maker) {
            let at = if j == 0 { 0 } else { blocks.len() };
            blocks.insert(at, Block::Thinking(thinking));
        }
        blocks.push(Block::Call { id: ids.call(&call.id.id, step), name: call.name, input: call.object(at)? });
    }
    Ok(blocks)
}

/// What a user or a tool says.
fn contents<'a, M>(
    turn: &request::Turn<'_, 'a>,
    media: &impl Fn(Role, &Content<'a>) -> Result<M, &'static str>,
) -> Result<Vec<Block<'a, M>>, ApiError> {
    let mut blocks = Vec::with_capacity(turn.blocks.len());
    for block in turn.blocks {
        match &block.content {
            Content::Text(text) | Content::Refusal(text) if blank(*text) => {}
            Content::Text(text) | Content::Refusal(text) => blocks.push(Block::Text(*text, block.cache)),
            Content::Reasoning(_) | Content::Call(_) | Content::Generated(_) => {}
            other => blocks.push(Block::Media(media(turn.role(), other).map_err(|what| block.at.refused(what))?, block.cache)),
        }
    }
    Ok(blocks)
}

/// Whether there is nothing but white space in it: such a text is refused.
pub(in crate::dialect) fn blank(text: Text<'_>) -> bool {
    let rest = text.trimmed_start();
    rest.is_empty() || (rest.spelled().starts_with("\\u") && rest.decode().trim().is_empty())
}
