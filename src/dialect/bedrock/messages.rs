//! The conversation as Converse wants it: two speakers that take turns, tool results inside user turns, instructions
//! apart. Pictures and documents go through as the base64 text that the client sent.

use crate::chat::event::Text;
use crate::chat::link::Link;
use crate::chat::message::{Message, Part, Role};
use crate::chat::request::ChatRequest;
use crate::dialect::anthropic::replay;
use crate::error::ApiError;
use crate::json::write::Writer;
use crate::sign::seal::Seal;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest;

/// Longest `toolUseId`, by the service model.
const MAX_ID: usize = 64;
/// Longest document name, by the service's own rule.
const MAX_NAME: usize = 200;
/// Stands beside a document that came without a word: the service wants a text there.
const BESIDE_DOCUMENT: &str = "See the attached document.";

/// What was found while the messages were written.
pub(super) struct Said<'a> {
    /// Instructions, the route's first.
    pub(super) system: Vec<Text<'a>>,
    /// Whether there is a tool call or a result: the protocol then wants tools to be declared.
    pub(super) calls_tools: bool,
    /// Whether the model would go on after tool calls whose thinking is not known: Claude cannot think then.
    pub(super) unsigned_loop: bool,
}

/// Writes `messages`.
///
/// # Errors
/// A 400 that names the message or the part that the protocol cannot carry.
pub(super) fn write<'a>(w: &mut Writer, request: &ChatRequest<'a>, list: &[Message<'a>]) -> Result<Said<'a>, ApiError> {
    let system = request.system.map(Text::Plain).filter(|text| !blank(*text)).into_iter().collect();
    let mut said = Said { system, calls_tools: false, unsigned_loop: false };
    w.key("messages").array();
    let mut turns = Turns { w, speaker: None, text: false, document: false, names: Vec::new(), seal: request.seal };
    for message in list {
        match message.role {
            Role::System => said.system.extend(message.texts()?.into_iter().filter(|text| !blank(*text))),
            Role::User => {
                said.unsigned_loop = false;
                turns.user(message)?;
            }
            Role::Tool => {
                said.calls_tools = true;
                turns.result(message)?;
            }
            Role::Assistant => {
                let signed = turns.assistant(message)?;
                if !message.tool_calls.is_empty() {
                    said.calls_tools = true;
                    said.unsigned_loop |= !signed;
                }
            }
        }
    }
    let empty = turns.speaker.is_none();
    turns.close();
    w.end_array();
    if empty {
        return Err(ApiError::field("messages", "`messages` must hold a message of the user that is not empty"));
    }
    Ok(said)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Speaker {
    User,
    Assistant,
}

/// Writes blocks and opens and closes turns around them, so that neighbours of one speaker become one turn.
struct Turns<'w, 'r> {
    w: &'w mut Writer,
    speaker: Option<Speaker>,
    /// The open turn has a text.
    text: bool,
    /// The open turn has a document.
    document: bool,
    /// Document names so far: the service refuses a name that comes twice.
    names: Vec<String>,
    seal: Option<&'r Seal>,
}

impl Turns<'_, '_> {
    /// Begins a block of this speaker's.
    fn block(&mut self, speaker: Speaker) -> &mut Writer {
        if self.speaker != Some(speaker) {
            self.close();
            self.speaker = Some(speaker);
            let role = if speaker == Speaker::User { "user" } else { "assistant" };
            self.w.object().key("role").string(role).key("content").array();
        }
        self.w.object()
    }

    fn close(&mut self) {
        if self.speaker.is_none() {
            return;
        }
        if self.document && !self.text {
            self.w.object().key("text").string(BESIDE_DOCUMENT).end_object();
        }
        (self.speaker, self.text, self.document) = (None, false, false);
        self.w.end_array().end_object();
    }

    fn say(&mut self, speaker: Speaker, text: Text<'_>) {
        if !blank(text) {
            self.block(speaker).key("text").text(text).end_object();
            self.text = true;
        }
    }

    fn user(&mut self, message: &Message<'_>) -> Result<(), ApiError> {
        for (j, part) in message.parts().iter().enumerate() {
            match *part {
                Part::Text(text) | Part::Refusal(text) => self.say(Speaker::User, text),
                Part::InputAudio { data, format } => {
                    let w = self.block(Speaker::User).key("audio").object().key("format").text(format);
                    w.key("source").object().key("bytes").text(data).end_object().end_object().end_object();
                }
                other => {
                    let block = media(message, j, &other)?;
                    self.block(Speaker::User);
                    self.media(&block);
                    self.w.end_object();
                    self.document |= block.name.is_some();
                }
            }
        }
        Ok(())
    }

    /// The inside of an image or document block.
    fn media(&mut self, media: &Media<'_>) {
        let name = media.name.as_ref().map(|name| self.fresh_name(name));
        self.w.key(if name.is_some() { "document" } else { "image" }).object().key("format").string(media.format);
        if let Some(name) = name {
            self.w.key("name").string(&name);
        }
        self.w.key("source").object().key("bytes").text(media.data).end_object().end_object();
    }

    fn fresh_name(&mut self, name: &str) -> String {
        let mut fresh = name.to_owned();
        let mut n = 1;
        while self.names.contains(&fresh) {
            n += 1;
            fresh = format!("{name} ({n})");
        }
        self.names.push(fresh.clone());
        fresh
    }

    fn result(&mut self, message: &Message<'_>) -> Result<(), ApiError> {
        let (id, _) = self.id(message.tool_call_id.unwrap_or(Text::Plain("")));
        self.block(Speaker::User).key("toolResult").object().key("toolUseId").string(&id).key("content").array();
        for (j, part) in message.parts().iter().enumerate() {
            match *part {
                Part::Text(text) | Part::Refusal(text) if !blank(text) => {
                    self.w.object().key("text").text(text).end_object();
                }
                Part::Text(_) | Part::Refusal(_) => {}
                other => {
                    let block = media(message, j, &other)?;
                    self.w.object();
                    self.media(&block);
                    self.w.end_object();
                }
            }
        }
        self.w.end_array().end_object().end_object();
        Ok(())
    }

    /// Whether the turn's thinking came back with its calls.
    fn assistant(&mut self, message: &Message<'_>) -> Result<bool, ApiError> {
        let ids: Vec<_> = message.tool_calls.iter().map(|call| self.id(call.id)).collect();
        let thoughts = ids.iter().map(|(_, state)| thoughts(state)).find(|list| !list.is_empty()).unwrap_or_default();
        // Thinking stands first, as it was thought.
        for thought in &thoughts {
            self.thought(thought);
        }
        for text in message.texts()? {
            self.say(Speaker::Assistant, text);
        }
        for (j, (call, (id, _))) in message.tool_calls.iter().zip(&ids).enumerate() {
            let input = message.arguments(j, call)?;
            let w = self.block(Speaker::Assistant).key("toolUse").object().key("toolUseId").string(id);
            w.key("name").text(call.name).key("input").raw(&input).end_object().end_object();
        }
        Ok(!thoughts.is_empty())
    }

    fn thought(&mut self, thought: &Thought<'_>) {
        let w = self.block(Speaker::Assistant).key("reasoningContent").object();
        if let Some(data) = thought.data {
            // The service's JSON writes a blob as base64, and this blob is a text that happens to be base64 itself.
            w.key("redactedContent").string(&STANDARD.encode(data.decode().as_bytes()));
        } else {
            let nothing = Text::Raw("");
            w.key("reasoningText").object().key("text").text(thought.thinking.unwrap_or(nothing));
            w.key("signature").text(thought.signature.unwrap_or(nothing)).end_object();
        }
        w.end_object().end_object();
    }

    /// The provider's id behind the client's, and the thinking that was sealed into it. An id that is too long for the
    /// service becomes its hash, the same wherever it stands.
    fn id(&self, id: Text<'_>) -> (String, String) {
        let (id, blocks) = replay::open(self.seal, id);
        let state = format!("[{blocks}]");
        if id.len() <= MAX_ID {
            return (id, state);
        }
        let hash = digest::digest(&digest::SHA256, id.as_bytes());
        (hash.as_ref().iter().take(MAX_ID / 2).map(|b| format!("{b:02x}")).collect(), state)
    }
}

/// A thinking block in Anthropic's own form, in which it is kept whichever cloud it came from: the signatures hold
/// everywhere.
#[derive(serde::Deserialize)]
struct Thought<'a> {
    #[serde(borrow, default)]
    thinking: Option<Text<'a>>,
    #[serde(borrow, default)]
    signature: Option<Text<'a>>,
    #[serde(borrow, default)]
    data: Option<Text<'a>>,
}

/// The thinking of a sealed state, an array; none where the state is another dialect's.
fn thoughts(state: &str) -> Vec<Thought<'_>> {
    let mut list: Vec<Thought<'_>> = serde_json::from_str(state).unwrap_or_default();
    list.retain(|thought| thought.signature.is_some() || thought.data.is_some());
    list
}

struct Media<'a> {
    format: &'static str,
    /// The document's name; `None` for an image.
    name: Option<String>,
    data: Text<'a>,
}

fn media<'a>(message: &Message<'_>, j: usize, part: &Part<'a>) -> Result<Media<'a>, ApiError> {
    match *part {
        Part::ImageUrl { url, .. } => match Link::of(url) {
            Link::Data { media_type, data } => {
                let format = match &*media_type {
                    "image/png" => "png",
                    "image/jpeg" | "image/jpg" => "jpeg",
                    "image/gif" => "gif",
                    "image/webp" => "webp",
                    _ => return Err(message.unfit(j, "this model takes images as PNG, JPEG, GIF or WebP")),
                };
                Ok(Media { format, name: None, data })
            }
            _ => Err(message
                .unfit(j, "this model's provider takes no image URL and the gateway fetches nothing; send the image as a base64 data URI")),
        },
        Part::File { file_data: Some(url), filename, .. } => {
            let filename = filename.map(|name| name.decode().into_owned()).unwrap_or_default();
            let Link::Data { media_type, data } = Link::of(url) else {
                return Err(message.unfit(j, "this model takes a file as a base64 data URI in `file_data`"));
            };
            let Some(format) = document_format(&media_type, &filename) else {
                return Err(message.unfit(j, "this model takes files as PDF, CSV, Word, Excel, HTML, Markdown or plain text"));
            };
            Ok(Media { format, name: Some(document_name(&filename)), data })
        }
        Part::File { .. } => Err(message.unfit(j, "a `file_id` is known to another provider only; send the file in `file_data`")),
        _ => Err(message.unfit(j, "this kind of content cannot stand here")),
    }
}

fn document_format(media_type: &str, filename: &str) -> Option<&'static str> {
    Some(match media_type {
        "application/pdf" => "pdf",
        "text/csv" => "csv",
        "application/msword" => "doc",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document" => "docx",
        "application/vnd.ms-excel" => "xls",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet" => "xlsx",
        "text/html" => "html",
        "text/markdown" => "md",
        "text/plain" => "txt",
        "application/octet-stream" | "" => {
            let (_, extension) = filename.rsplit_once('.')?;
            let known = ["pdf", "csv", "doc", "docx", "xls", "xlsx", "html", "md", "txt"];
            known.into_iter().find(|known| extension.eq_ignore_ascii_case(known))?
        }
        _ => return None,
    })
}

/// Document names have letters, digits, single spaces, hyphens and brackets only; the extension is said by `format`.
fn document_name(filename: &str) -> String {
    let stem = filename.rsplit_once('.').map_or(filename, |(stem, _)| stem);
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '(' | ')' | '[' | ']');
    let plain: String = stem.chars().map(|c| if fits(c) { c } else { ' ' }).take(MAX_NAME / 2).collect();
    let words: Vec<&str> = plain.split(' ').filter(|word| !word.is_empty()).collect();
    if words.is_empty() { "document".to_owned() } else { words.join(" ") }
}

/// Whether there is nothing but white space: the service refuses such texts.
fn blank(text: Text<'_>) -> bool {
    let (Text::Raw(all) | Text::Plain(all)) = text;
    // Only a text that begins like white space is worth undoing its escapes for.
    all.is_empty() || all.starts_with(|c: char| c == '\\' || c.is_whitespace()) && text.decode().trim().is_empty()
}
