//! The conversation as foreign dialects read it: messages, content parts and tool calls, borrowed from the client's
//! bytes. Nothing long is copied: texts keep their JSON spelling, data URIs are only split ([`super::link`]), and
//! every error says which message and which part is to blame. The tools are in [`super::tool`].

use crate::error::ApiError;
use crate::json::surrogate;
use crate::json::text::{Text, raw_text};
use crate::llm::cache::Cache;
use crate::llm::envelope::ChatRequest;
use crate::llm::field::Field;
use crate::llm::validate;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `system` or `developer`: instructions.
    System,
    /// `user`.
    User,
    /// `assistant`.
    Assistant,
    /// `tool`: what a tool call gave.
    Tool,
}

/// One message.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    /// Its position in `messages`, for errors.
    pub index: usize,
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: Content<'a>,
    /// The speaker's name.
    pub name: Option<Text<'a>>,
    /// The calls of an assistant turn.
    pub tool_calls: Vec<ToolCall<'a>>,
    /// Which call a `tool` message answers; always there for that role.
    pub tool_call_id: Option<Text<'a>>,
    /// Thinking that the client sends back.
    pub reasoning_content: Option<Text<'a>>,
    /// A refusal that the client sends back.
    pub refusal: Option<Text<'a>>,
    /// Images of an answer that the client sends back, as [`crate::llm::event::SPEAKING`] has them.
    images: Option<&'a RawValue>,
    /// Which parts end something to be kept, by their positions.
    caches: Vec<(usize, Cache)>,
}

/// What a message says.
#[derive(Clone, Debug)]
pub enum Content<'a> {
    /// Nothing.
    None,
    /// A string.
    Text(Text<'a>),
    /// Parts.
    Parts(Vec<Part<'a>>),
}

/// One part of a message.
#[expect(missing_docs, reason = "the fields are OpenAI's")]
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Part<'a> {
    /// `text`.
    Text(Text<'a>),
    /// `image_url`.
    ImageUrl { url: Text<'a>, detail: Option<Text<'a>> },
    /// `file`.
    File { file_data: Option<Text<'a>>, filename: Option<Text<'a>>, file_id: Option<Text<'a>> },
    /// `input_audio`: base64 data and `wav` or `mp3`.
    InputAudio { data: Text<'a>, format: Text<'a> },
    /// `refusal`.
    Refusal(Text<'a>),
}

/// A tool call of an assistant turn.
#[derive(Clone, Copy, Debug)]
pub struct ToolCall<'a> {
    /// Its id, as the client spells it.
    pub id: Text<'a>,
    /// The function's name.
    pub name: Text<'a>,
    /// The text of a JSON document; may be empty.
    pub arguments: Text<'a>,
    /// What a provider's own clients send beside a call.
    pub extra_content: Option<&'a RawValue>,
}

/// Reads the messages of a request.
///
/// # Errors
/// A 400 that names the message or the part: wrong types, unknown roles and parts, calls without an id.
pub fn read<'a>(request: &ChatRequest<'a>) -> Result<Vec<Message<'a>>, ApiError> {
    let list = request.messages()?;
    if list.is_empty() {
        return Err(ApiError::field(Field::Messages.name(), "`messages` must hold at least one message"));
    }
    list.into_iter().enumerate().map(|(index, raw)| Message::read(index, raw)).collect()
}

#[derive(Deserialize)]
struct WireMessage<'a> {
    #[serde(borrow, default)]
    role: Option<&'a RawValue>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    name: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tool_calls: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tool_call_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    reasoning_content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    refusal: Option<&'a RawValue>,
    #[serde(borrow, default)]
    function_call: Option<&'a RawValue>,
    #[serde(borrow, default)]
    images: Option<&'a RawValue>,
    #[serde(borrow, default)]
    cache_control: Option<&'a RawValue>,
}

impl<'a> Message<'a> {
    fn read(index: usize, raw: &'a RawValue) -> Result<Self, ApiError> {
        let at = |rest: &str| format!("messages[{index}]{rest}");
        let wire: WireMessage<'a> = parse(raw, || at(""))?;
        if wire.function_call.is_some() {
            return Err(legacy(at(".function_call")));
        }
        let role =
            optional(wire.role, || at(".role"))?.ok_or_else(|| ApiError::field(at(".role"), format!("`{}` is missing", at(".role"))))?;
        let role = match &*role.decode() {
            "system" | "developer" => Role::System,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "tool" => Role::Tool,
            "function" => return Err(legacy(at(".role"))),
            _ => {
                let message = format!("`{}` must be system, developer, user, assistant or tool", at(".role"));
                return Err(ApiError::field(at(".role"), message));
            }
        };
        let tool_call_id = optional(wire.tool_call_id, || at(".tool_call_id"))?;
        if role == Role::Tool && tool_call_id.is_none_or(Text::is_empty) {
            return Err(ApiError::field(at(".tool_call_id"), format!("`{}` must say which call this answers", at(".tool_call_id"))));
        }
        let tool_calls = match wire.tool_calls {
            Some(list) if role == Role::Assistant => parse::<Vec<&'a RawValue>>(list, || at(".tool_calls"))?
                .into_iter()
                .enumerate()
                .map(|(j, raw)| ToolCall::read(index, j, raw))
                .collect::<Result<_, _>>()?,
            _ => Vec::new(),
        };
        let mut caches = Vec::new();
        let content = Content::read(index, wire.content, &mut caches)?;
        // On the message it means the same as on its last part.
        let last = match &content {
            Content::None => None,
            Content::Text(_) => Some(0),
            Content::Parts(parts) => parts.len().checked_sub(1),
        };
        if let (Some(cache), Some(last)) = (wire.cache_control.and_then(Cache::read), last)
            && caches.iter().all(|(part, _)| *part != last)
        {
            caches.push((last, cache));
        }
        Ok(Self {
            index,
            role,
            content,
            name: optional(wire.name, || at(".name"))?,
            tool_calls,
            tool_call_id,
            reasoning_content: optional(wire.reasoning_content, || at(".reasoning_content"))?,
            refusal: optional(wire.refusal, || at(".refusal"))?,
            images: wire.images,
            caches,
        })
    }

    /// Whether the prompt shall be kept up to and with this part.
    pub fn cache(&self, part: usize) -> Option<Cache> {
        self.caches.iter().find(|(number, _)| *number == part).map(|(_, cache)| *cache)
    }

    /// The addresses of an assistant turn's images, `images[].image_url.url`.
    ///
    /// # Errors
    /// A 400 that names `images` where they have another form.
    pub fn images(&self) -> Result<Vec<Text<'a>>, ApiError> {
        #[derive(Deserialize)]
        struct Wire<'a> {
            #[serde(borrow)]
            image_url: WireImage<'a>,
        }
        let Some(raw) = self.images else { return Ok(Vec::new()) };
        let list: Option<Vec<Wire<'a>>> = parse(raw, || format!("{}.images", self.path()))?;
        Ok(list.unwrap_or_default().into_iter().map(|image| image.image_url.url).collect())
    }

    /// The message's own path, `messages[3]`.
    pub fn path(&self) -> String {
        format!("messages[{}]", self.index)
    }

    /// A 400 that blames one part: this target cannot take it here.
    pub fn unfit(&self, part: usize, what: &str) -> ApiError {
        let param = format!("messages[{}].content[{part}]", self.index);
        ApiError::field(param.clone(), format!("`{param}`: {what}"))
    }

    /// The parts of the message, a plain text being one part.
    pub fn parts(&self) -> Cow<'_, [Part<'a>]> {
        match &self.content {
            Content::None => Cow::Borrowed(&[]),
            Content::Text(text) => Cow::Owned(vec![Part::Text(*text)]),
            Content::Parts(parts) => Cow::Borrowed(parts),
        }
    }

    /// The texts of a message that may hold nothing else (instructions, assistant turns, most tool results), empty
    /// ones left out; a refusal is text here.
    ///
    /// # Errors
    /// A 400 that names the first part of another kind.
    pub fn texts(&self) -> Result<Vec<Text<'a>>, ApiError> {
        Ok(self.cached_texts()?.into_iter().map(|(text, _)| text).collect())
    }

    /// The same, with what shall be kept.
    ///
    /// # Errors
    /// As [`Self::texts`].
    pub fn cached_texts(&self) -> Result<Vec<(Text<'a>, Option<Cache>)>, ApiError> {
        let mut texts = Vec::new();
        for (j, part) in self.parts().iter().enumerate() {
            match part {
                Part::Text(text) | Part::Refusal(text) => texts.push((*text, self.cache(j))),
                _ => return Err(self.unfit(j, "only text can stand in a message of this role")),
            }
        }
        texts.extend(self.refusal.map(|text| (text, None)));
        texts.retain(|(text, _)| !text.is_empty());
        Ok(texts)
    }

    /// The arguments of call `j` as a JSON object, its escapes undone once; `{}` for an empty text. A half of a surrogate
    /// pair, which streams cut inside of an emoji leave in histories and providers refuse, is replaced.
    ///
    /// # Errors
    /// A 400 that names the arguments where they are no JSON object.
    pub fn arguments(&self, j: usize, call: &ToolCall<'a>) -> Result<Cow<'a, str>, ApiError> {
        let json = call.arguments.decode();
        if json.trim().is_empty() {
            return Ok(Cow::Borrowed("{}"));
        }
        if json.trim_start().starts_with('{') && serde_json::from_str::<&RawValue>(&json).is_ok() {
            return Ok(match surrogate::repaired(&json) {
                Cow::Owned(repaired) => Cow::Owned(repaired),
                Cow::Borrowed(_) => json,
            });
        }
        let param = format!("messages[{}].tool_calls[{j}].function.arguments", self.index);
        Err(ApiError::field(param.clone(), format!("`{param}` must be the text of a JSON object")))
    }
}

impl<'a> Content<'a> {
    fn read(index: usize, raw: Option<&'a RawValue>, caches: &mut Vec<(usize, Cache)>) -> Result<Self, ApiError> {
        let at = || format!("messages[{index}].content");
        let Some(raw) = raw else { return Ok(Self::None) };
        if let Some(text) = raw_text(raw) {
            return Ok(Self::Text(text));
        }
        if !raw.get().starts_with('[') {
            return Err(ApiError::field(at(), format!("`{}` must be a string or an array of parts", at())));
        }
        let list: Vec<&'a RawValue> = parse(raw, at)?;
        list.into_iter().enumerate().map(|(j, raw)| Part::read(index, j, raw, caches)).collect::<Result<_, _>>().map(Self::Parts)
    }
}

#[derive(Deserialize)]
struct WirePart<'a> {
    #[serde(borrow, default)]
    r#type: Option<&'a RawValue>,
    #[serde(borrow, default)]
    text: Option<&'a RawValue>,
    #[serde(borrow, default)]
    refusal: Option<&'a RawValue>,
    #[serde(borrow, default)]
    image_url: Option<&'a RawValue>,
    #[serde(borrow, default)]
    file: Option<&'a RawValue>,
    #[serde(borrow, default)]
    input_audio: Option<&'a RawValue>,
    #[serde(borrow, default)]
    cache_control: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct WireImage<'a> {
    #[serde(borrow)]
    url: Text<'a>,
    #[serde(borrow, default)]
    detail: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct WireFile<'a> {
    #[serde(borrow, default)]
    file_data: Option<Text<'a>>,
    #[serde(borrow, default)]
    filename: Option<Text<'a>>,
    #[serde(borrow, default)]
    file_id: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct WireAudio<'a> {
    #[serde(borrow)]
    data: Text<'a>,
    #[serde(borrow)]
    format: Text<'a>,
}

impl<'a> Part<'a> {
    fn read(index: usize, j: usize, raw: &'a RawValue, caches: &mut Vec<(usize, Cache)>) -> Result<Self, ApiError> {
        let at = |rest: &str| format!("messages[{index}].content[{j}]{rest}");
        let wire: WirePart<'a> = parse(raw, || at(""))?;
        caches.extend(wire.cache_control.and_then(Cache::read).map(|cache| (j, cache)));
        let kind = required(wire.r#type, || at(".type"))?;
        Ok(match &*kind.decode() {
            "text" => Self::Text(required(wire.text, || at(".text"))?),
            "refusal" => Self::Refusal(required(wire.refusal, || at(".refusal"))?),
            "image_url" => {
                let image: WireImage<'a> = parse(present(wire.image_url, || at(".image_url"))?, || at(".image_url"))?;
                Self::ImageUrl { url: image.url, detail: image.detail }
            }
            "file" => {
                let file: WireFile<'a> = parse(present(wire.file, || at(".file"))?, || at(".file"))?;
                Self::File { file_data: file.file_data, filename: file.filename, file_id: file.file_id }
            }
            "input_audio" => {
                let audio: WireAudio<'a> = parse(present(wire.input_audio, || at(".input_audio"))?, || at(".input_audio"))?;
                Self::InputAudio { data: audio.data, format: audio.format }
            }
            _ => {
                let message = format!("`{}` must be text, image_url, file, input_audio or refusal", at(".type"));
                return Err(ApiError::field(at(".type"), message));
            }
        })
    }
}

#[derive(Deserialize)]
struct WireCall<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    r#type: Option<&'a RawValue>,
    #[serde(borrow, default)]
    function: Option<&'a RawValue>,
    #[serde(borrow, default)]
    extra_content: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct WireCallee<'a> {
    #[serde(borrow, default)]
    name: Option<&'a RawValue>,
    #[serde(borrow, default)]
    arguments: Option<&'a RawValue>,
}

impl<'a> ToolCall<'a> {
    fn read(index: usize, j: usize, raw: &'a RawValue) -> Result<Self, ApiError> {
        let at = |rest: &str| format!("messages[{index}].tool_calls[{j}]{rest}");
        let wire: WireCall<'a> = parse(raw, || at(""))?;
        if optional(wire.r#type, || at(".type"))?.is_some_and(|kind| kind.decode() != "function") {
            return Err(ApiError::field(at(".type"), format!("`{}` must be function", at(".type"))));
        }
        let callee: WireCallee<'a> = parse(present(wire.function, || at(".function"))?, || at(".function"))?;
        Ok(Self {
            id: required(wire.id, || at(".id"))?,
            name: required(callee.name, || at(".function.name"))?,
            arguments: optional(callee.arguments, || at(".function.arguments"))?.unwrap_or(Text::Raw("")),
            extra_content: wire.extra_content,
        })
    }
}

/// A raw value as a type; the error names the place.
pub(super) fn parse<'a, T: Deserialize<'a>>(raw: &'a RawValue, at: impl Fn() -> String) -> Result<T, ApiError> {
    serde_json::from_str(raw.get()).map_err(|e| validate::unreadable(&at(), raw.get(), &e))
}

/// A value that must be there.
pub(super) fn present(raw: Option<&RawValue>, at: impl Fn() -> String) -> Result<&RawValue, ApiError> {
    raw.ok_or_else(|| ApiError::field(at(), format!("`{}` is missing", at())))
}

/// A string where there is a value at all.
pub(super) fn optional<'a>(raw: Option<&'a RawValue>, at: impl Fn() -> String) -> Result<Option<Text<'a>>, ApiError> {
    let Some(raw) = raw else { return Ok(None) };
    raw_text(raw).map(Some).ok_or_else(|| ApiError::field(at(), format!("`{}` must be a string", at())))
}

/// A string that must be there.
pub(super) fn required<'a>(raw: Option<&'a RawValue>, at: impl Fn() -> String) -> Result<Text<'a>, ApiError> {
    optional(Some(present(raw, &at)?), at)?.ok_or_else(|| ApiError::invalid("a value is missing"))
}

/// The 400 for the calls of before `tools`.
pub(super) fn legacy(param: String) -> ApiError {
    let message = format!("`{param}` belongs to the old function calls; use `tools`, `tool_choice` and role `tool` with this model");
    ApiError::field(param, message)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]
mod tests {
    use super::*;

    fn message(json: &str) -> Result<Message<'_>, ApiError> {
        Message::read(3, serde_json::from_str(json).unwrap())
    }

    #[test]
    fn texts_keep_their_spelling() {
        let m = message(r#"{"role":"developer","content":[{"type":"text","text":"a\n\u00fc"},{"type":"text","text":""}]}"#).unwrap();
        assert_eq!((m.role, m.texts().unwrap()), (Role::System, vec![Text::Raw(r"a\n\u00fc")]));
        let m = message(r#"{"role":"assistant","content":null,"refusal":"no"}"#).unwrap();
        assert_eq!(m.texts().unwrap(), vec![Text::Raw("no")]);
    }

    #[test]
    fn a_call_has_an_object_of_arguments() {
        let read = |arguments: &str| {
            let json = format!(
                r#"{{"role":"assistant","tool_calls":[{{"id":"c","type":"function","function":{{"name":"f","arguments":{arguments}}}}}]}}"#
            );
            let m = message(&json).map_err(|e| e.param)?;
            m.arguments(0, &m.tool_calls[0]).map(|json| json.into_owned()).map_err(|e| e.param)
        };
        assert_eq!(read(r#""""#).unwrap(), "{}");
        assert_eq!(read("null").unwrap(), "{}");
        assert_eq!(read(r#""{\"a\": 1.0}""#).unwrap(), r#"{"a": 1.0}"#);
        for wrong in [r#""[1]""#, r#""{\"a\":""#, "\"text\"", "{}"] {
            assert_eq!(read(wrong).unwrap_err().unwrap(), "messages[3].tool_calls[0].function.arguments", "{wrong}");
        }
    }

    #[test]
    fn errors_name_the_place() {
        for (json, param) in [
            (r#"{"content":"x"}"#, "messages[3].role"),
            (r#"{"role":"robot","content":"x"}"#, "messages[3].role"),
            (r#"{"role":"function","name":"f","content":"x"}"#, "messages[3].role"),
            (r#"{"role":"user","content":7}"#, "messages[3].content"),
            (r#"{"role":"user","content":[{"type":"text","text":"x"},{"type":"video"}]}"#, "messages[3].content[1].type"),
            (r#"{"role":"user","content":[{"text":"x"}]}"#, "messages[3].content[0].type"),
            (r#"{"role":"user","content":[{"type":"text"}]}"#, "messages[3].content[0].text"),
            (r#"{"role":"user","content":[{"type":"image_url","image_url":{}}]}"#, "messages[3].content[0].image_url.url"),
            (r#"{"role":"tool","content":"x"}"#, "messages[3].tool_call_id"),
            (r#"{"role":"assistant","tool_calls":[{"function":{"name":"f"}}]}"#, "messages[3].tool_calls[0].id"),
            (r#"{"role":"assistant","tool_calls":[{"id":"c","type":"custom","custom":{}}]}"#, "messages[3].tool_calls[0].type"),
            (r#"{"role":"user","role":"assistant","content":"x"}"#, "messages[3].role"),
        ] {
            assert_eq!(message(json).unwrap_err().param.as_deref(), Some(param), "{json}");
        }
    }
}
