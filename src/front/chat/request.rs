//! Reads a chat completion into the neutral request, in one walk over its messages.

use super::tools;
use crate::error::ApiError;
use crate::front::asks::{neutral, passed};
use crate::front::read::{self, cache, elements, flag, inner_members, optional, raw_members, required, text, walked_members};
use crate::json::text::Text;
use crate::json::walk::Cursor;
use crate::llm::envelope::ChatRequest;
use crate::llm::field::Field;
use crate::llm::media::Source;
use crate::llm::request::{Ask, Block, CallId, Content, Path, Request, Role, ToolCall};
use crate::llm::state::{self, Seal};
use std::borrow::Cow;

/// The fields that a neutral request has no place for, and that OpenAI's other protocol has too.
const PASSED: [Field; 7] = [
    Field::Store,
    Field::Verbosity,
    Field::PromptCacheKey,
    Field::PromptCacheRetention,
    Field::PromptCacheOptions,
    Field::SafetyIdentifier,
    Field::Moderation,
];

impl Ask for ChatRequest<'_> {
    fn model(&self) -> &str {
        self.model
    }

    fn stream(&self) -> bool {
        self.parsed.stream()
    }

    fn request(&self) -> Result<Request<'_>, ApiError> {
        read(self).map(Request::adjusted)
    }

    fn chat(&self) -> Option<&ChatRequest<'_>> {
        Some(self)
    }
}

/// The request of one attempt.
///
/// # Errors
/// A 400 that names the message, the part or the field that cannot be read.
pub fn read<'a>(chat: &ChatRequest<'a>) -> Result<Request<'a>, ApiError> {
    let mut request = neutral(chat)?;
    request.passed = passed(chat, &PASSED);
    request.params.extend(chat.unknown());
    if let Some(raw) = chat.parsed.raw(Field::StreamOptions) {
        let at = Path::top(Field::StreamOptions.name());
        let [usage] = raw_members(&mut Cursor::inside(raw), at, ["include_usage"])?;
        flag(usage, at.member("include_usage"))?;
    }
    request.tools = tools::read(chat)?;
    request.tool_choice = tools::choice(chat, &request.tools)?;
    messages(chat, &mut request)?;
    Ok(request)
}

fn messages<'a>(chat: &ChatRequest<'a>, request: &mut Request<'a>) -> Result<(), ApiError> {
    let raw = chat.raw(Field::Messages).ok_or_else(|| ApiError::field(Field::Messages.name(), "`messages` is missing"))?;
    let mut cursor = Cursor::inside(raw);
    elements(&mut cursor, Path::top(Field::Messages.name()), |cursor, index| {
        message(cursor, Path::element(Field::Messages.name(), index), request, chat.seal)
    })
}

/// Reads one message into blocks and a turn. The parts of its content are read in the walk over its members.
fn message<'a>(cursor: &mut Cursor<'a>, at: Path, request: &mut Request<'a>, seal: Option<&Seal>) -> Result<(), ApiError> {
    const NAMES: [&str; 10] = [
        "role",
        "content",
        "name",
        "tool_calls",
        "tool_call_id",
        "reasoning_content",
        "refusal",
        "images",
        "cache_control",
        "function_call",
    ];
    let start = request.blocks.len();
    let found = walked_members(cursor, at, NAMES, |cursor, name| {
        let is_parts = name == "content" && cursor.at_array();
        if is_parts {
            parts(cursor, at, request)?;
        }
        Ok(is_parts)
    })?;
    let [raw_role, content, name, raw_calls, call_id, reasoning, refusal, raw_images, mark, function_call] = found;
    let is_value = |raw: &&str| *raw != "null";
    if function_call.filter(is_value).is_some() {
        return Err(tools::legacy(at.member("function_call").to_string()));
    }
    if let Some(raw) = content.filter(|raw| !raw.starts_with('['))
        && let Some(text) = text(raw, at.member("content"), "a string or an array of parts")?
    {
        request.blocks.push(Block::text(text, at.member("content").inner(0)));
    }
    let role = role(raw_role, at.member("role"))?;
    // On the message it means the same as on its last part.
    if let (Some(mark), Some(last)) = (mark.and_then(cache), request.blocks.get_mut(start..).and_then(<[_]>::last_mut)) {
        last.cache.get_or_insert(mark);
    }
    let (refusal_at, reasoning_at) = (at.member("refusal"), at.member("reasoning_content"));
    request.blocks.extend(optional(refusal, refusal_at)?.map(|text| Block::new(Content::Refusal(text), refusal_at)));
    request.blocks.extend(optional(reasoning, reasoning_at)?.map(|text| Block::new(Content::Reasoning(text), reasoning_at)));
    let answers = match (role, optional(call_id, at.member("tool_call_id"))?) {
        (Role::Tool, Some(id)) if !id.is_empty() => Some(opened(seal, id)),
        (Role::Tool, _) => return Err(at.member("tool_call_id").refused_as("must say which call this answers")),
        _ => None,
    };
    if role == Role::Assistant {
        if let Some(raw) = raw_images.filter(is_value) {
            images(raw, at.member("images"), request)?;
        }
        if let Some(raw) = raw_calls.filter(is_value) {
            calls(raw, at.member("tool_calls"), request, seal)?;
        }
    }
    request.end_turn(role, optional(name, at.member("name"))?, answers, at, start);
    Ok(())
}

fn role(value: Option<&str>, at: Path) -> Result<Role, ApiError> {
    Ok(match &*required(value, at)?.decode() {
        "system" | "developer" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        "function" => return Err(tools::legacy(at.to_string())),
        _ => return Err(at.must_be("system, developer, user, assistant or tool")),
    })
}

/// The content of a message, an array of parts.
fn parts<'a>(cursor: &mut Cursor<'a>, at: Path, request: &mut Request<'a>) -> Result<(), ApiError> {
    elements(cursor, at.member("content"), |cursor, number| {
        request.blocks.push(part(cursor, at.member("content").inner(number))?);
        Ok(())
    })
}

fn part<'a>(cursor: &mut Cursor<'a>, at: Path) -> Result<Block<'a>, ApiError> {
    const NAMES: [&str; 7] = ["type", "text", "refusal", "image_url", "file", "input_audio", "cache_control"];
    let [kind, text, refusal, image, file, audio, mark] = raw_members(cursor, at, NAMES)?;
    let needed = |value: Option<&'a str>, leaf| required(value, at.leaf(leaf));
    let optional = |value: Option<&'a str>, leaf| optional(value, at.leaf(leaf));
    let kind = needed(kind, "type")?;
    let content = match &*kind.decode() {
        "text" => Content::Text(needed(text, "text")?),
        "refusal" => Content::Refusal(needed(refusal, "refusal")?),
        "image_url" => {
            let [url, detail] = inner_members(image, at.leaf("image_url"), ["url", "detail"])?;
            Content::Image { source: Source::Url(needed(url, "image_url.url")?), detail: optional(detail, "image_url.detail")? }
        }
        "file" => {
            let [data, name, id] = inner_members(file, at.leaf("file"), ["file_data", "filename", "file_id"])?;
            let source = optional(data, "file.file_data")?.map(Source::Url);
            Content::File { source, name: optional(name, "file.filename")?, id: optional(id, "file.file_id")? }
        }
        "input_audio" => read::audio(audio, at)?,
        _ => return Err(at.leaf("type").must_be("text, image_url, file, input_audio or refusal")),
    };
    Ok(Block { content, cache: mark.and_then(cache), at })
}

/// The images of an assistant's turn, `[{"image_url": {"url": …}}]`, as the answer's writer has them.
fn images<'a>(raw: &'a str, at: Path, request: &mut Request<'a>) -> Result<(), ApiError> {
    #[derive(serde::Deserialize)]
    struct Image<'a> {
        #[serde(borrow)]
        image_url: Address<'a>,
    }
    #[derive(serde::Deserialize)]
    struct Address<'a> {
        #[serde(borrow)]
        url: Text<'a>,
    }
    let list: Vec<Image<'a>> = serde_json::from_str(raw).map_err(|e| crate::llm::validate::unreadable(&at.to_string(), raw, &e))?;
    request.blocks.extend(list.into_iter().map(|image| Block::new(Content::Generated(image.image_url.url), at)));
    Ok(())
}

fn calls<'a>(raw: &'a str, at: Path, request: &mut Request<'a>, seal: Option<&Seal>) -> Result<(), ApiError> {
    let mut cursor = Cursor::inside(raw);
    elements(&mut cursor, at, |cursor, number| {
        let at = at.inner(number);
        let [id, kind, function, extra] = raw_members(cursor, at, ["id", "type", "function", "extra_content"])?;
        if optional(kind, at.leaf("type"))?.is_some_and(|kind| kind.decode() != "function") {
            return Err(at.leaf("type").must_be("function"));
        }
        let [name, arguments] = inner_members(function, at.leaf("function"), ["name", "arguments"])?;
        let call = ToolCall {
            id: opened(seal, required(id, at.leaf("id"))?),
            name: required(name, at.leaf("function.name"))?,
            arguments: optional(arguments, at.leaf("function.arguments"))?.unwrap_or(Text::Raw("")),
            custom: None,
            extra: extra.filter(|value| *value != "null"),
        };
        request.blocks.push(Block::new(Content::Call(call), at.leaf("function.arguments")));
        Ok(())
    })
}

/// A call's id as its provider made it, and the state that was sealed behind it.
fn opened<'a>(seal: Option<&Seal>, id: Text<'a>) -> CallId<'a> {
    let shown = id.decode();
    let Some((before, _)) = shown.split_once(state::MARK) else { return CallId { id: shown, state: None } };
    match seal.and_then(|seal| seal.open(&shown)) {
        Some((id, state)) => CallId { id: Cow::Owned(id), state: Some(state).filter(|state| !state.is_empty()) },
        // A state that nobody can open any more, of kilobytes, is of no use to the provider.
        None if before.is_empty() => CallId { id: shown, state: None },
        None => CallId { id: Cow::Owned(before.to_owned()), state: None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::request::CacheMark;

    /// Reads one message as the fourth of a request, and looks at its turn.
    fn message<T>(json: &str, look: impl FnOnce(&crate::llm::request::Turn<'_, '_>) -> T) -> Result<T, ApiError> {
        let mut request = Request::default();
        super::message(&mut Cursor::new(json), Path::element("messages", 3), &mut request, None)?;
        Ok(look(&request.turns()[0]))
    }

    #[test]
    fn texts_keep_their_spelling() {
        let read = |json| {
            message(json, |turn| {
                let texts: Vec<_> = turn.texts().unwrap().into_iter().map(|(text, _)| format!("{text:?}")).collect();
                (turn.role(), texts)
            })
        };
        let developer = r#"{"role":"developer","content":[{"type":"text","text":"a\n\u00fc"},{"type":"text","text":""}]}"#;
        assert_eq!(read(developer).unwrap(), (Role::System, vec![format!("{:?}", Text::Raw(r"a\n\u00fc"))]));
        let refusal = r#"{"role":"assistant","content":null,"refusal":"no"}"#;
        assert_eq!(read(refusal).unwrap(), (Role::Assistant, vec![format!("{:?}", Text::Raw("no"))]));
    }

    #[test]
    fn a_member_is_known_however_its_name_is_spelled() {
        let json = r#"{"r\u006fle":"user","content":[{"ty\u0070e":"text","text":"x"}]}"#;
        assert_eq!(message(json, |turn| turn.texts().unwrap().len()).unwrap(), 1);
    }

    #[test]
    fn a_mark_on_the_message_is_one_on_its_last_part() {
        let json = r#"{"cache_control":{"type":"ephemeral","ttl":"1h"},"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}"#;
        let marks = message(json, |turn| turn.blocks.iter().map(|block| block.cache).collect::<Vec<_>>()).unwrap();
        assert_eq!(marks, [None, Some(CacheMark::Hour)]);
    }

    #[test]
    fn a_call_has_an_object_of_arguments() {
        let read = |arguments: &str| {
            let json = format!(
                r#"{{"role":"assistant","tool_calls":[{{"id":"c","type":"function","function":{{"name":"f","arguments":{arguments}}}}}]}}"#
            );
            let object = |turn: &crate::llm::request::Turn<'_, '_>| {
                let (call, at) = turn.calls().next().unwrap();
                call.object(at).map(|json| json.into_owned())
            };
            message(&json, object).and_then(|read| read).map_err(|e| e.param)
        };
        assert_eq!(read(r#""""#).unwrap(), "{}");
        assert_eq!(read("null").unwrap(), "{}");
        assert_eq!(read(r#""{\"a\": 1.0}""#).unwrap(), r#"{"a": 1.0}"#);
        for wrong in [r#""[1]""#, r#""{\"a\":""#, "\"text\"", "{}"] {
            assert_eq!(read(wrong).unwrap_err().unwrap(), "messages[3].tool_calls[0].function.arguments", "{wrong}");
        }
    }

    #[test]
    fn a_state_comes_apart_from_its_id_and_is_dropped_where_nobody_can_open_it() {
        let seal = Seal::new(std::sync::Arc::new(state::Sealer::new(&[7; 32]).unwrap()), "search".into(), "p".into());
        let id = seal.seal("toolu_1", b"state");
        assert_eq!(opened(Some(&seal), Text::Plain(&id)), CallId { id: "toolu_1".into(), state: Some(b"state".to_vec()) });
        assert_eq!(opened(None, Text::Plain(&id)), CallId { id: "toolu_1".into(), state: None });
        assert_eq!(opened(Some(&seal), Text::Raw("call_1")), CallId { id: "call_1".into(), state: None });
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
            assert_eq!(message(json, |_| ()).unwrap_err().param.as_deref(), Some(param), "{json}");
        }
    }
}
