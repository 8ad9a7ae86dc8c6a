//! The conversation: OpenAI's messages become `systemInstruction` and `contents`.
//!
//! Gemini knows two speakers, `user` and `model`; neighbours of the same speaker are one content. Results of calls are
//! found by position and the function's name, so they stand in the order of their calls.

use crate::dialect::shared::open_calls::{Answers, OpenCalls};
use crate::error::ApiError;
use crate::json::text::Text;
use crate::json::write::Writer;
use crate::llm::media::{DataUri, Encoding, Link, Source};
use crate::llm::request::{Block, CallId, Content, Request, Role, ToolCall, Turn};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// Where a request goes.
pub(super) struct Place<'a> {
    /// Vertex or AI Studio.
    pub(super) vertex: bool,
    /// The model without its publisher.
    pub(super) model: &'a str,
    /// What the gateway itself instructs the model to do.
    pub(super) instruction: Option<&'a str>,
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
pub(super) fn write(w: &mut Writer, request: &Request<'_>, place: &Place<'_>) -> Result<(), ApiError> {
    let list = request.turns();
    let instructions = instructions(&list, place)?;
    let apart = takes_instructions(place.model);
    if apart && !instructions.is_empty() {
        w.key("systemInstruction").object().key("parts").array();
        for text in &instructions {
            w.object().key("text").text(*text).end_object();
        }
        w.end_array().end_object();
    }
    w.key("contents").array();
    let mut turns = Turns { w, place, speaker: None };
    for text in instructions.iter().filter(|_| !apart) {
        turns.part(USER).key("text").text(*text).end_object();
    }
    let mut calls = Calls::default();
    let mut rest = list.as_slice();
    while let Some((turn, after)) = rest.split_first() {
        rest = after;
        match turn.role() {
            Role::System => {}
            Role::User => turns.user(turn)?,
            Role::Assistant => {
                // Several messages may be one turn of the model's, and the results that follow answer all of its calls.
                if turns.speaker != Some(MODEL) {
                    calls.step = calls.all.len();
                }
                let before = calls.all.len();
                calls.add(turn);
                turns.assistant(turn, calls.all.get(before..).unwrap_or_default())?;
            }
            Role::Tool => {
                let more = after.iter().position(|turn| turn.role() != Role::Tool).unwrap_or(after.len());
                let (results, others) = after.split_at_checked(more).unwrap_or((&[], after));
                rest = others;
                turns.results(std::iter::once(turn).chain(results), &mut calls)?;
            }
        }
    }
    // Instructions stand apart: alone, or behind the model's last content, they are answered behind a blank turn, and so is a
    // user's turn with nothing in it.
    let prefilled = list.last().is_some_and(|turn| turn.role() == Role::Assistant);
    if turns.speaker.is_none() || (!prefilled && turns.speaker == Some(MODEL)) {
        turns.blank();
    }
    turns.close();
    w.end_array();
    Ok(())
}

/// All instructions.
fn instructions<'a>(turns: &[Turn<'_, 'a>], place: &Place<'a>) -> Result<Vec<Text<'a>>, ApiError> {
    let mut texts: Vec<Text<'a>> = Vec::new();
    for turn in turns.iter().filter(|turn| turn.role() == Role::System) {
        texts.extend(turn.texts()?.into_iter().map(|(text, _)| text));
    }
    texts.extend(place.instruction.map(Text::Plain));
    Ok(texts)
}

/// Whether a model takes instructions apart from what the user says: "Developer instruction is not enabled for
/// models/gemma-3-27b-it", and the same of all Gemma before 4 and of Gemini 2.0's models that make images. They stand in front of the
/// user's words then, as Gemma's own template has them.
/// <https://ai.google.dev/gemma/docs/core/prompt-structure#system-instructions>
fn takes_instructions(model: &str) -> bool {
    let Some(version) = model.strip_prefix("gemma-") else {
        return !(model.starts_with("gemini-2.0-") && model.contains("image-generation"));
    };
    let digits = version.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = version.split_at_checked(digits).unwrap_or((version, ""));
    // The first Gemma has its size in this place: `gemma-7b-it`.
    !(rest.starts_with('b') || matches!(number, "1" | "2" | "3"))
}

/// The calls so far.
#[derive(Default)]
struct Calls<'r, 'a> {
    /// Each with the id that it has at Gemini.
    all: Vec<(&'r ToolCall<'a>, Option<&'r str>)>,
    open: OpenCalls<'r>,
    /// How many of them there were before the model's last step.
    step: usize,
}

impl<'r, 'a> Calls<'r, 'a> {
    fn add(&mut self, turn: &Turn<'r, 'a>) {
        // Of calls side by side only the first has a signature.
        let proven = turn.calls().any(|(call, _)| call.id.state.as_deref().is_some_and(is_geminis));
        for (call, _) in turn.calls() {
            self.open.add(&call.id.id, self.step);
            self.all.push((call, own_id(&call.id, proven)));
        }
    }
}

/// Writes the parts of one speaker after the other.
struct Turns<'w, 'p> {
    w: &'w mut Writer,
    place: &'p Place<'p>,
    speaker: Option<&'static str>,
}

impl Turns<'_, '_> {
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

    fn user(&mut self, turn: &Turn<'_, '_>) -> Result<(), ApiError> {
        for block in turn.blocks {
            match &block.content {
                Content::Text(text) | Content::Refusal(text) if text.is_empty() => {}
                Content::Text(text) | Content::Refusal(text) => {
                    self.part(USER).key("text").text(*text).end_object();
                }
                Content::Image { source, .. } => self.link(block, *source, "image/jpeg")?,
                Content::File { source: Some(source), .. } => self.link(block, *source, "application/pdf")?,
                Content::File { .. } => {
                    return Err(block.at.refused("a file must come as `file_data`, a data URI; `file_id` belongs to another provider"));
                }
                Content::Audio { data, format } => {
                    let media_type = Cow::Owned(format!("audio/{}", format.decode()));
                    self.inline(USER, block, DataUri { media_type, charset: None, encoding: Encoding::Base64, data: *data })?;
                }
                Content::Reasoning(_) | Content::Call(_) | Content::Generated(_) => {}
            }
        }
        Ok(())
    }

    fn inline(&mut self, speaker: &'static str, block: &Block<'_>, uri: DataUri<'_>) -> Result<(), ApiError> {
        let data = uri.read().map_err(|what| block.at.refused(what))?;
        let media_type = match &*data.media_type {
            "image/jpg" => "image/jpeg",
            "" => "text/plain", // RFC 2397: "If <mediatype> is omitted, it defaults to text/plain"
            other => other,
        };
        self.part(speaker).key("inlineData").object().key("mimeType").string(media_type);
        self.w.key("data").text(data.base64.text()).end_object().end_object();
        Ok(())
    }

    /// An image or a file: its bytes, or where Google itself can fetch it.
    fn link(&mut self, block: &Block<'_>, source: Source<'_>, media_type: &str) -> Result<(), ApiError> {
        let vertex = self.place.vertex;
        let known = |address: Text<'_>| address.decode().starts_with(FILES) || is_video(&address.decode());
        let address = match source.link() {
            Link::Data(uri) => return self.inline(USER, block, uri),
            Link::GoogleStorage(address) if vertex => address,
            Link::Web(address) if vertex || known(address) => address,
            Link::Web(_) => {
                return Err(block
                    .at
                    .refused("the gateway fetches nothing, and neither does this model's provider; send the bytes as a data URI"));
            }
            Link::GoogleStorage(_) | Link::S3(_) | Link::Other => {
                return Err(block.at.refused("this model takes data URIs (`data:TYPE;base64,…`) and, on Vertex AI, gs: and https: URLs"));
            }
        };
        let guessed = guess(&address.decode()).unwrap_or(media_type);
        self.part(USER).key("fileData").object().key("mimeType").string(guessed);
        self.w.key("fileUri").text(address).end_object().end_object();
        Ok(())
    }

    /// A turn of the model's, and its calls with the ids that they have at Gemini.
    fn assistant(&mut self, turn: &Turn<'_, '_>, calls: &[(&ToolCall<'_>, Option<&str>)]) -> Result<(), ApiError> {
        for (text, _) in turn.texts()? {
            self.part(MODEL).key("text").text(text).end_object();
        }
        for block in turn.blocks {
            let Content::Generated(url) = &block.content else { continue };
            if let Link::Data(uri) = Link::of(*url) {
                self.inline(MODEL, block, uri)?;
            }
        }
        for (j, ((call, at), (_, id))) in turn.calls().zip(calls).enumerate() {
            let arguments = call.object(at)?;
            let own = signature_of(call);
            // The first call of a step must have one; a history that another model wrote has none.
            let stand_in = (j == 0 && super::encode::wants_signatures(self.place.model)).then_some(Cow::Borrowed(UNKNOWN_SIGNATURE));
            let w = self.part(MODEL).key("functionCall").object().optional_text("id", id.map(Text::Plain));
            write_name(w.key("name"), call.name);
            w.key("args").raw(&arguments).end_object();
            w.optional_text("thoughtSignature", own.or(stand_in).as_deref().map(Text::Plain)).end_object();
        }
        Ok(())
    }

    /// The results that follow an assistant turn, in the order of its `calls`. A second result of a call is left out.
    fn results<'r, 'a: 'r>(&mut self, results: impl Iterator<Item = &'r Turn<'r, 'a>>, calls: &mut Calls<'r, 'a>) -> Result<(), ApiError> {
        let mut found = Vec::new();
        for turn in results {
            let number = match calls.open.take(turn.answers()) {
                Answers::Call(number) => number,
                Answers::Nothing => continue,
                Answers::Unknown => {
                    return Err(turn.at().member("tool_call_id").refused_as("answers no call of an earlier assistant message"));
                }
            };
            // A result may come late: behind those of the last step.
            let at = if number >= calls.step { number } else { usize::MAX };
            found.extend(calls.all.get(number).map(|(call, id)| (at, *call, *id, turn)));
        }
        found.sort_by_key(|(at, ..)| *at);
        for (_, called, id, turn) in found {
            let w = self.part(USER).key("functionResponse").object().optional_text("id", id.map(Text::Plain));
            write_name(w.key("name"), called.name);
            w.key("response");
            response(w, turn);
            w.end_object().end_object();
            for block in turn.blocks {
                match &block.content {
                    Content::Image { source, .. } => self.link(block, *source, "image/jpeg")?,
                    Content::File { source: Some(source), .. } => self.link(block, *source, "application/pdf")?,
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// What a call gave: a JSON object as it is, anything else as `{"result": TEXT}`, of one that failed `{"error": TEXT}`.
/// <https://ai.google.dev/api/caching#FunctionResponse>
fn response(w: &mut Writer, turn: &Turn<'_, '_>) {
    let texts: Vec<Text<'_>> = turn
        .blocks
        .iter()
        .filter_map(|block| match block.content {
            Content::Text(text) | Content::Refusal(text) if !text.is_empty() => Some(text),
            _ => None,
        })
        .collect();
    if let ([text], false) = (texts.as_slice(), turn.failed())
        && text.may_be_object()
    {
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
        pieces.push(text);
    }
    w.object().key(if turn.failed() { "error" } else { "result" }).texts(&pieces).end_object();
}

fn is_video(url: &str) -> bool {
    VIDEOS.iter().any(|site| url.starts_with(site))
}

/// The media type by a URL's host or extension.
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

/// Writes a name as Gemini takes it.
pub(super) fn write_name(w: &mut Writer, name: Text<'_>) {
    if shifts(&name.decode()) {
        w.texts(&[Text::Plain("_"), name]);
    } else {
        w.text(name);
    }
}

/// The client's name for a function that Gemini calls; `None` where it is the same.
pub(super) fn original_name(name: &str) -> Option<&str> {
    name.strip_prefix('_').filter(|name| shifts(name))
}

/// Whether there is an underscore to be put before a name: one that begins with a digit, a hyphen or a dot, whatever number of
/// underscores it has already.
fn shifts(name: &str) -> bool {
    name.trim_start_matches('_').starts_with(|c: char| matches!(c, '-' | '.') || c.is_ascii_digit())
}

/// Starts the state of a signature, so that another provider's state is never sent to Gemini, nor this one elsewhere:
/// states of other dialects are text, and no UTF-8 text begins with this byte.
const TAG: &[u8] = b"\xffgemini:";
/// Starts that of a signature that decoding and encoding would not give back as it is spelled; it is kept as a text.
const VERBATIM: &[u8] = b"\xffgemini=";
/// What Gemini accepts in the place of a signature that does not exist: a history that another model has written.
const UNKNOWN_SIGNATURE: &str = "skip_thought_signature_validator";

/// The state of a call with this signature; `None` where it has none.
pub(super) fn state(signature: Option<Text<'_>>) -> Option<Vec<u8>> {
    let signature = signature.filter(|text| !text.is_empty())?.decode();
    let mut state = TAG.to_vec();
    let is_base64 = STANDARD.decode_vec(signature.as_bytes(), &mut state).is_ok();
    Some(if is_base64 { state } else { [VERBATIM, signature.as_bytes()].concat() })
}

/// How ids begin that are made here, or by others than Gemini.
const MADE: [&str; 2] = ["call_", "toolu_"];
/// Least length of the id of an answer, which follows in those that are made here.
const ANSWER_ID: usize = 16;
/// Lengths of ids that are taken for Gemini's own.
const OWN: std::ops::RangeInclusive<usize> = 8..=32;

/// Whether Gemini has made a state.
fn is_geminis(state: &[u8]) -> bool {
    state.starts_with(TAG) || state.starts_with(VERBATIM)
}

/// The id under which Gemini made a call, to be written beside the call and its result. `None` for an id that another
/// provider or the gateway made: their calls have none at Gemini. `proven`: Gemini has made the call.
fn own_id<'r>(call: &'r CallId<'_>, proven: bool) -> Option<&'r str> {
    let id = &*call.id;
    let made_here = || {
        let rest = MADE.iter().find_map(|start| id.strip_prefix(start)).and_then(|rest| rest.split_once('_'));
        rest.is_some_and(|(answer, _)| answer.len() >= ANSWER_ID && answer.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    // Without a proof: Gemini's are short and of letters and digits; all others have a prefix, which ends in an underscore or
    // a hyphen.
    let is_likely = || call.state.is_none() && OWN.contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric());
    let own = if proven { !id.is_empty() && !made_here() } else { is_likely() };
    own.then_some(id)
}

/// The signature that a call of the history brings back: in its id, or where Google's own OpenAI endpoint puts it.
fn signature_of<'a>(call: &ToolCall<'a>) -> Option<Cow<'a, str>> {
    #[derive(Deserialize)]
    struct Extra<'a> {
        #[serde(borrow)]
        google: Google<'a>,
    }
    #[derive(Deserialize)]
    struct Google<'a> {
        #[serde(borrow)]
        thought_signature: Cow<'a, str>,
    }
    if let Some(state) = &call.id.state {
        let encoded = state.strip_prefix(TAG).map(|signature| STANDARD.encode(signature));
        let verbatim = || String::from_utf8(state.strip_prefix(VERBATIM)?.to_vec()).ok();
        return encoded.or_else(verbatim).map(Cow::Owned);
    }
    let extra: Extra<'a> = serde_json::from_str(call.extra?).ok()?;
    Some(extra.google.thought_signature).filter(|signature| !signature.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_comes_back_and_no_two_become_one() {
        let mut all = std::collections::HashSet::new();
        for name in ["3d-render", "_3d-render", "__3d-render", "-x", "_-x", ".x", "_x", "__", "_", "x-3", "get_time", "7", "_7"] {
            let mut w = Writer::default();
            write_name(&mut w, Text::Plain(name));
            let sent: String = serde_json::from_slice(&w.finish()).unwrap();
            assert!(sent.starts_with(|c: char| c == '_' || c.is_ascii_alphabetic()), "{sent}");
            assert_eq!(original_name(&sent).unwrap_or(&sent), name);
            assert!(all.insert(sent));
        }
        let mut w = Writer::default();
        write_name(&mut w, Text::Raw("\\u0033d"));
        assert_eq!(w.finish(), b"\"_\\u0033d\"");
        assert_eq!(original_name("3d"), None, "a name that was never sent");
    }
}
