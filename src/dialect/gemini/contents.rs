//! The conversation: OpenAI's messages become `systemInstruction` and `contents`.
//!
//! Gemini knows two speakers, `user` and `model`; neighbours of the same speaker are one content. Results of calls are
//! found by position and the function's name, so they stand in the order of their calls.

use super::{name, signature};
use crate::error::ApiError;
use crate::json::text::Text;
use crate::json::write::Writer;
use crate::llm::data::Data;
use crate::llm::envelope::ChatRequest;
use crate::llm::link::{Encoding, Link};
use crate::llm::message::{Message, Part, Role, ToolCall};
use crate::provider::Kind;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// Where a request goes.
pub(super) struct Place<'a> {
    /// Vertex or AI Studio.
    pub(super) kind: Kind,
    /// The model without its publisher.
    pub(super) model: &'a str,
}

/// The two speakers.
const USER: &str = "user";
const MODEL: &str = "model";
/// Where files of AI Studio's own Files API are; they and videos are the only links that it takes.
const FILES: &str = "https://generativelanguage.googleapis.com/";
/// Where videos are that Google's models watch by their address.
/// <https://ai.google.dev/gemini-api/docs/video-understanding#youtube>
const VIDEOS: [&str; 4] = ["https://www.youtube.com/", "https://youtube.com/", "https://m.youtube.com/", "https://youtu.be/"];

/// Writes `systemInstruction` and `contents`.
pub(super) fn write(w: &mut Writer, request: &ChatRequest<'_>, messages: &[Message<'_>], place: &Place<'_>) -> Result<(), ApiError> {
    system(w, request, messages)?;
    w.key("contents").array();
    let mut turns = Turns { w, place, request, speaker: None };
    let mut calls: Vec<ToolCall<'_>> = Vec::new();
    let mut rest = messages;
    while let Some((message, after)) = rest.split_first() {
        rest = after;
        match message.role {
            Role::System => {}
            Role::User => turns.user(message)?,
            Role::Assistant => {
                // Several messages may be one turn of the model's, and the results that follow answer all of its calls.
                if turns.speaker != Some(MODEL) {
                    calls.clear();
                }
                calls.extend_from_slice(&message.tool_calls);
                turns.assistant(message)?;
            }
            Role::Tool => {
                let more = after.iter().position(|m| m.role != Role::Tool).unwrap_or(after.len());
                let (results, others) = after.split_at_checked(more).unwrap_or((&[], after));
                rest = others;
                turns.results(std::iter::once(message).chain(results), &calls, messages)?;
            }
        }
    }
    // Instructions stand apart: alone, or behind the model's last content, they are answered behind a blank turn.
    let instructed = messages.last().is_some_and(|message| message.role == Role::System);
    if turns.speaker.is_none() || (instructed && turns.speaker == Some(MODEL)) {
        turns.blank();
    }
    turns.close();
    w.end_array();
    Ok(())
}

/// The route's own prompt, then every system and developer text.
fn system(w: &mut Writer, request: &ChatRequest<'_>, messages: &[Message<'_>]) -> Result<(), ApiError> {
    let mut texts: Vec<Text<'_>> = request.system.map(Text::Plain).into_iter().filter(|t| !t.is_empty()).collect();
    for message in messages.iter().filter(|m| m.role == Role::System) {
        texts.extend(message.texts()?);
    }
    if texts.is_empty() {
        return Ok(());
    }
    w.key("systemInstruction").object().key("parts").array();
    for text in texts {
        w.object().key("text").text(text).end_object();
    }
    w.end_array().end_object();
    Ok(())
}

/// Writes the parts of one speaker after the other.
struct Turns<'w, 'p, 'a> {
    w: &'w mut Writer,
    place: &'p Place<'p>,
    request: &'p ChatRequest<'a>,
    speaker: Option<&'static str>,
}

impl Turns<'_, '_, '_> {
    /// A user turn that says nothing: Gemini wants one at the beginning, also where there are instructions alone.
    fn blank(&mut self) {
        self.part(USER).key("text").string(" ").end_object();
    }

    /// Begins a part (an object) of this speaker's.
    fn part(&mut self, speaker: &'static str) -> &mut Writer {
        if self.speaker.is_none() && speaker == MODEL {
            self.blank();
        }
        if self.speaker != Some(speaker) {
            self.close();
            self.speaker = Some(speaker);
            self.w.object().key("role").string(speaker).key("parts").array();
        }
        self.w.object()
    }

    fn close(&mut self) {
        if self.speaker.is_some() {
            self.w.end_array().end_object();
        }
    }

    fn user(&mut self, message: &Message<'_>) -> Result<(), ApiError> {
        for (j, part) in message.parts().iter().enumerate() {
            match part {
                Part::Text(text) | Part::Refusal(text) if text.is_empty() => {}
                Part::Text(text) | Part::Refusal(text) => {
                    self.part(USER).key("text").text(*text).end_object();
                }
                Part::ImageUrl { url, .. } => self.link(message, j, *url, "image/jpeg")?,
                Part::File { file_data: Some(data), .. } => self.link(message, j, *data, "application/pdf")?,
                Part::File { .. } => {
                    return Err(message.unfit(j, "a file must come as `file_data`, a data URI; `file_id` belongs to another provider"));
                }
                Part::InputAudio { data, format } => {
                    let label = Cow::Owned(format!("audio/{}", format.decode()));
                    let audio = Data::read(label, None, Encoding::Base64, *data).map_err(|what| message.unfit(j, what))?;
                    self.inline(USER, &audio);
                }
            }
        }
        Ok(())
    }

    fn inline(&mut self, speaker: &'static str, data: &Data<'_>) {
        let media_type = match &*data.media_type {
            "image/jpg" => "image/jpeg",
            "" => "text/plain", // RFC 2397: "If <mediatype> is omitted, it defaults to text/plain"
            other => other,
        };
        self.part(speaker).key("inlineData").object().key("mimeType").string(media_type);
        self.w.key("data").text(data.base64.text()).end_object().end_object();
    }

    /// An image or a file: its bytes, or where Google itself can fetch it.
    fn link(&mut self, message: &Message<'_>, j: usize, url: Text<'_>, media_type: &str) -> Result<(), ApiError> {
        let vertex = self.place.kind == Kind::Vertex;
        let known = |address: Text<'_>| address.decode().starts_with(FILES) || is_video(&address.decode());
        let address = match Link::of(url) {
            Link::Data { media_type, charset, encoding, data } => {
                let data = Data::read(media_type, charset, encoding, data).map_err(|what| message.unfit(j, what))?;
                self.inline(USER, &data);
                return Ok(());
            }
            Link::GoogleStorage(address) if vertex => address,
            Link::Web(address) if vertex || known(address) => address,
            Link::Web(_) => {
                return Err(
                    message.unfit(j, "the gateway fetches nothing, and neither does this model's provider; send the bytes as a data URI")
                );
            }
            Link::GoogleStorage(_) | Link::S3(_) | Link::Other => {
                return Err(message.unfit(j, "this model takes data URIs (`data:TYPE;base64,…`) and, on Vertex AI, gs: and https: URLs"));
            }
        };
        let guessed = guess(&address.decode()).unwrap_or(media_type);
        self.part(USER).key("fileData").object().key("mimeType").string(guessed);
        self.w.key("fileUri").text(address).end_object().end_object();
        Ok(())
    }

    fn assistant(&mut self, message: &Message<'_>) -> Result<(), ApiError> {
        for text in message.texts()? {
            self.part(MODEL).key("text").text(text).end_object();
        }
        for image in message.images()? {
            let Link::Data { media_type, charset, encoding, data } = Link::of(image) else { continue };
            let data = Data::read(media_type, charset, encoding, data).map_err(|what| {
                let param = format!("{}.images", message.path());
                ApiError::field(param.clone(), format!("`{param}`: {what}"))
            })?;
            self.inline(MODEL, &data);
        }
        for (j, call) in message.tool_calls.iter().enumerate() {
            let arguments = message.arguments(j, call)?;
            let own = signature::of(self.request.seal, call);
            // The first call of a step must have one; a history that another model wrote has none.
            let stand_in = (j == 0 && super::config::wants_signatures(self.place.model)).then_some(Cow::Borrowed(signature::UNKNOWN));
            let id = signature::own_id(self.request.seal, call.id);
            let w = self.part(MODEL).key("functionCall").object();
            if let Some(id) = &id {
                w.key("id").string(id);
            }
            name::write(w.key("name"), call.name);
            w.key("args").raw(&arguments).end_object();
            if let Some(signature) = own.or(stand_in) {
                self.w.key("thoughtSignature").string(&signature);
            }
            self.w.end_object();
        }
        Ok(())
    }

    /// The results that follow an assistant turn, in the order of its `calls`.
    fn results<'m>(
        &mut self,
        results: impl Iterator<Item = &'m Message<'m>>,
        calls: &[ToolCall<'_>],
        messages: &[Message<'_>],
    ) -> Result<(), ApiError> {
        let mut found = Vec::new();
        for message in results {
            let id = message.tool_call_id.unwrap_or(Text::Raw(""));
            let here = calls.iter().position(|call| crate::llm::tool::same_name(call.id, id));
            // A result may come late; any earlier turn knows the name too, the nearest one best.
            let before = || messages.get(..message.index).unwrap_or_default().iter().rev().flat_map(|m| &m.tool_calls);
            let name = here.and_then(|at| calls.get(at)).or_else(|| before().find(|call| crate::llm::tool::same_name(call.id, id)));
            let Some(call) = name else {
                let param = format!("{}.tool_call_id", message.path());
                return Err(ApiError::field(param.clone(), format!("`{param}` answers no call of an earlier assistant message")));
            };
            found.push((here.unwrap_or(usize::MAX), *call, message));
        }
        found.sort_by_key(|(at, ..)| *at);
        for (_, called, message) in found {
            let id = signature::own_id(self.request.seal, called.id);
            let w = self.part(USER).key("functionResponse").object();
            if let Some(id) = &id {
                w.key("id").string(id);
            }
            name::write(w.key("name"), called.name);
            w.key("response");
            response(w, &message.texts()?);
            w.end_object().end_object();
        }
        Ok(())
    }
}

/// What a call gave: a JSON object as it is, anything else as `{"result": TEXT}`.
fn response(w: &mut Writer, texts: &[Text<'_>]) {
    if let [text] = texts {
        let json = text.decode();
        if json.trim_start().starts_with('{') && serde_json::from_str::<&RawValue>(&json).is_ok() {
            w.raw(json.trim());
            return;
        }
    }
    let mut pieces = Vec::with_capacity(texts.len() * 2);
    for text in texts {
        if !pieces.is_empty() {
            pieces.push(Text::Plain("\n"));
        }
        pieces.push(*text);
    }
    w.object().key("result").texts(&pieces).end_object();
}

fn is_video(url: &str) -> bool {
    VIDEOS.iter().any(|site| url.starts_with(site))
}

/// The media type that a URL's place or ending tells.
fn guess(url: &str) -> Option<&'static str> {
    if is_video(url) {
        return Some("video/mp4");
    }
    let path = url.split(['?', '#']).next()?;
    let ending = path.rsplit('/').next()?.rsplit_once('.')?.1;
    Some(match ending.to_ascii_lowercase().as_str() {
        "jpg" | "jpeg" => "image/jpeg",
        "png" => "image/png",
        "webp" => "image/webp",
        "gif" => "image/gif",
        "heic" => "image/heic",
        "heif" => "image/heif",
        "pdf" => "application/pdf",
        "txt" => "text/plain",
        "mp3" => "audio/mp3",
        "wav" => "audio/wav",
        "mp4" => "video/mp4",
        "webm" => "video/webm",
        "mov" => "video/quicktime",
        _ => return None,
    })
}
