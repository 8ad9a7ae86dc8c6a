//! Messages as Anthropic's turns: instructions apart, users and assistants in turn, the results of a turn's calls
//! together at the beginning of the user's next turn.

use super::{Host, replay};
use crate::chat::event::Text;
use crate::chat::link::Link;
use crate::chat::message::{Message, Part, Role};
use crate::error::ApiError;
use crate::json::write::Writer;
use crate::sign::seal::Seal;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::borrow::Cow;

/// A conversation, ready to be written.
pub(super) struct Conversation<'a> {
    system: Vec<Text<'a>>,
    turns: Vec<Turn<'a>>,
}

struct Turn<'a> {
    assistant: bool,
    blocks: Vec<Block<'a>>,
}

enum Block<'a> {
    Text(Text<'a>),
    /// `image` or `document`, where its bytes are, and its title.
    Media(&'static str, Source<'a>, Option<Text<'a>>),
    /// Thinking that came back, the inside of a JSON array.
    Thinking(String),
    Call {
        id: String,
        name: Text<'a>,
        input: Cow<'a, str>,
    },
    Result {
        id: String,
        content: Vec<Block<'a>>,
    },
}

enum Source<'a> {
    Base64(&'static str, Text<'a>),
    Plain(String),
    Url(Text<'a>),
}

impl<'a> Conversation<'a> {
    /// Sorts the messages into turns. `system` is the route's own prompt.
    ///
    /// # Errors
    /// A 400 that names the message or the part that Anthropic cannot take.
    pub(super) fn read(system: Option<&'a str>, messages: &[Message<'a>], seal: Option<&Seal>, host: Host) -> Result<Self, ApiError> {
        let mut this = Self { system: system.map(Text::Plain).into_iter().collect(), turns: Vec::new() };
        for message in messages {
            match message.role {
                Role::System => this.system.extend(message.texts()?),
                Role::User => this.push(false, contents(message, host)?),
                Role::Assistant => this.push(true, assistant(message, seal)?),
                Role::Tool => {
                    let (id, _) = replay::open(seal, message.tool_call_id.unwrap_or(Text::Raw("")));
                    this.push(false, vec![Block::Result { id, content: contents(message, host)? }]);
                }
            }
        }
        this.system.retain(|text| !blank(*text));
        if this.turns.is_empty() {
            return Err(ApiError::field("messages", "`messages` must hold a user's message that is not empty"));
        }
        for turn in this.turns.iter_mut().filter(|turn| !turn.assistant) {
            turn.blocks.sort_by_key(|block| !matches!(block, Block::Result { .. })); // stable: results first, else as they came
        }
        Ok(this)
    }

    /// Adds to the last turn where it is the same side's; what is empty adds nothing.
    fn push(&mut self, assistant: bool, blocks: Vec<Block<'a>>) {
        match self.turns.last_mut() {
            _ if blocks.is_empty() => {}
            Some(turn) if turn.assistant == assistant => turn.blocks.extend(blocks),
            _ => self.turns.push(Turn { assistant, blocks }),
        }
    }

    /// Whether the model may go on thinking with a fixed budget: not behind a prefill, and behind tool results only
    /// where the turn that called begins with its own thinking.
    pub(super) fn can_think(&self) -> bool {
        match self.turns.as_slice() {
            [.., calls, last] if !last.assistant && matches!(last.blocks.first(), Some(Block::Result { .. })) => {
                matches!(calls.blocks.first(), Some(Block::Thinking(_)))
            }
            [.., last] => !last.assistant,
            [] => true,
        }
    }

    /// Writes the members `system` and `messages`; thinking is only told to a model that thinks.
    pub(super) fn write(&self, w: &mut Writer, thinking: bool) {
        if !self.system.is_empty() {
            let mut pieces = Vec::with_capacity(self.system.len() * 2);
            for text in &self.system {
                if !pieces.is_empty() {
                    pieces.push(Text::Plain("\n\n"));
                }
                pieces.push(*text);
            }
            w.key("system").texts(&pieces);
        }
        w.key("messages").array();
        for (i, turn) in self.turns.iter().enumerate() {
            w.object().key("role").string(if turn.assistant { "assistant" } else { "user" }).key("content").array();
            let prefill = turn.assistant && i + 1 == self.turns.len();
            for (j, block) in turn.blocks.iter().enumerate() {
                block.write(w, thinking, prefill && j + 1 == turn.blocks.len());
            }
            w.end_array().end_object();
        }
        w.end_array();
    }
}

impl Block<'_> {
    fn write(&self, w: &mut Writer, thinking: bool, prefill: bool) {
        match self {
            Self::Thinking(blocks) if thinking => {
                w.raw(blocks);
            }
            Self::Thinking(_) => {}
            Self::Text(text) => {
                w.object().key("type").string("text").key("text");
                // An answer that is begun for the model must not end in white space.
                if prefill {
                    w.string(text.decode().trim_end())
                } else {
                    w.text(*text)
                };
                w.end_object();
            }
            Self::Media(kind, source, title) => {
                w.object().key("type").string(kind).key("source").object().key("type");
                match source {
                    Source::Base64(media, data) => w.string("base64").key("media_type").string(media).key("data").text(*data),
                    Source::Plain(text) => w.string("text").key("media_type").string("text/plain").key("data").string(text),
                    Source::Url(url) => w.string("url").key("url").text(*url),
                };
                w.end_object();
                if let Some(title) = title {
                    w.key("title").text(*title);
                }
                w.end_object();
            }
            Self::Call { id, name, input } => {
                w.object().key("type").string("tool_use").key("id").string(id).key("name").text(*name).key("input").raw(input);
                w.end_object();
            }
            Self::Result { id, content } => {
                w.object().key("type").string("tool_result").key("tool_use_id").string(id);
                match content.as_slice() {
                    [] => {}
                    [Block::Text(text)] => {
                        w.key("content").text(*text);
                    }
                    blocks => {
                        w.key("content").array();
                        blocks.iter().for_each(|block| block.write(w, false, false));
                        w.end_array();
                    }
                }
                w.end_object();
            }
        }
    }
}

/// An assistant's turn: the thinking that led to its first call, its words, its calls. Thinking that comes without its
/// signature (`reasoning_content`) cannot be given back.
fn assistant<'a>(message: &Message<'a>, seal: Option<&Seal>) -> Result<Vec<Block<'a>>, ApiError> {
    let texts = message.texts()?.into_iter().filter(|text| !blank(*text));
    let mut blocks: Vec<_> = texts.map(Block::Text).collect();
    for (j, call) in message.tool_calls.iter().enumerate() {
        let (id, thinking) = replay::open(seal, call.id);
        if !thinking.is_empty() {
            let at = if j == 0 { 0 } else { blocks.len() };
            blocks.insert(at, Block::Thinking(thinking));
        }
        blocks.push(Block::Call { id, name: call.name, input: message.arguments(j, call)? });
    }
    Ok(blocks)
}

/// What a user or a tool says.
fn contents<'a>(message: &Message<'a>, host: Host) -> Result<Vec<Block<'a>>, ApiError> {
    let mut blocks = Vec::new();
    for (j, part) in message.parts().iter().enumerate() {
        let unfit = |what: &str| Err(message.unfit(j, what));
        match part {
            Part::Text(text) | Part::Refusal(text) if blank(*text) => {}
            Part::Text(text) | Part::Refusal(text) => blocks.push(Block::Text(*text)),
            Part::ImageUrl { url, .. } => match media(*url, "image", None, host) {
                Some(block @ Block::Media("image", ..)) => blocks.push(block),
                _ => {
                    let form = if host == Host::Api { "an https URL or a data URI" } else { "a data URI" };
                    return unfit(&format!("this model takes images as {form} of image/jpeg, image/png, image/gif or image/webp"));
                }
            },
            Part::File { file_data: Some(data), filename, .. } => {
                match media(*data, "document", filename.filter(|name| !blank(*name)), host) {
                    Some(block) => blocks.push(block),
                    _ => return unfit("this model takes files as a data URI of application/pdf, text/plain or an image"),
                }
            }
            Part::File { .. } => return unfit("this model takes files as a data URI in `file_data`, not by `file_id`"),
            Part::InputAudio { .. } => return unfit("this model takes no audio"),
        }
    }
    Ok(blocks)
}

/// An image or a document; `None` where Anthropic takes no such thing. `kind` is what a web address stands for; the
/// address of a document can only be a PDF's, and only Anthropic's own API fetches anything.
/// <https://platform.claude.com/docs/en/build-with-claude/vision>
fn media<'a>(url: Text<'a>, kind: &'static str, title: Option<Text<'a>>, host: Host) -> Option<Block<'a>> {
    match Link::of(url) {
        Link::Data { media_type, data } => {
            let image = |media| Some(Block::Media("image", Source::Base64(media, data), None));
            match &*media_type {
                "image/jpeg" | "image/jpg" => image("image/jpeg"),
                "image/png" => image("image/png"),
                "image/gif" => image("image/gif"),
                "image/webp" => image("image/webp"),
                "application/pdf" => Some(Block::Media("document", Source::Base64("application/pdf", data), title)),
                text if text.starts_with("text/") => {
                    let bytes = STANDARD.decode(data.decode().as_bytes()).ok()?;
                    Some(Block::Media("document", Source::Plain(String::from_utf8(bytes).ok()?), title))
                }
                _ => None,
            }
        }
        Link::Web(url) if host == Host::Api => Some(Block::Media(kind, Source::Url(url), title)),
        _ => None,
    }
}

/// Whether there is nothing but white space in it: such a block is refused.
fn blank(text: Text<'_>) -> bool {
    let mut rest = match text {
        Text::Plain(plain) => return plain.trim().is_empty(),
        Text::Raw(raw) => raw.trim_start(),
    };
    while let Some(next) = ["\\n", "\\t", "\\r"].iter().find_map(|escape| rest.strip_prefix(escape)) {
        rest = next.trim_start();
    }
    rest.is_empty() || (rest.starts_with("\\u") && Text::Raw(rest).decode().trim().is_empty())
}
