//! What must hold of everything that a client is given, whatever the provider said.

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use tidegate::front::chat::chunk::UsagePlace;

/// A member's name. A half of a surrogate pair, which grammar allows and no string can hold, becomes what it is.
struct Name(String);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Name;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a name")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Name, E> {
                Ok(Name(bytes.iter().map(|b| char::from(*b)).collect()))
            }
        }
        reader.deserialize_bytes(Bytes)
    }
}

/// The members of an object, in their order.
pub type Members = Vec<(String, Box<RawValue>)>;

/// An object's members, whatever they are.
pub fn read_members(json: &str) -> serde_json::Result<Members> {
    struct Each;
    impl<'de> Visitor<'de> for Each {
        type Value = Members;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
            let mut out = Members::new();
            while let Some((Name(key), value)) = map.next_entry()? {
                out.push((key, value));
            }
            Ok(out)
        }
    }
    let mut reader = serde_json::Deserializer::from_str(json);
    let out = reader.deserialize_map(Each)?;
    reader.end()?;
    Ok(out)
}

/// An object's members, each of which is there once.
fn members(json: &str) -> Members {
    let all = read_members(json).unwrap_or_else(|e| panic!("{e}: {json}"));
    let mut names: Vec<_> = all.iter().map(|(name, _)| name).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "a member is there twice: {json}");
    all
}

fn items(json: &str) -> Vec<Box<RawValue>> {
    serde_json::from_str(json).unwrap_or_else(|e| panic!("{e}: {json}"))
}

fn number(json: &str) -> usize {
    json.parse().unwrap_or_else(|_| panic!("{json} is no index"))
}

/// The inside of a string as it is spelled.
fn inside(json: &str) -> &str {
    json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or_else(|| panic!("{json} is no string"))
}

/// Bytes are one JSON document, to any depth.
pub fn is_json(bytes: &[u8]) {
    if let Err(e) = serde_json::from_slice::<IgnoredAny>(bytes) {
        panic!("{e}: {}", String::from_utf8_lossy(bytes));
    }
    assert!(std::str::from_utf8(bytes).is_ok(), "not UTF-8: {}", String::from_utf8_lossy(bytes));
}

/// An object whose own members are all different.
pub fn is_object(bytes: &[u8]) {
    is_json(bytes);
    members(std::str::from_utf8(bytes).unwrap());
}

/// What one choice said, strings as they are spelled.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Said {
    content: String,
    reasoning: String,
    refusal: String,
    /// Type, id, name, and arguments or input.
    calls: Vec<[String; 4]>,
    finish: Option<String>,
}

/// What an answer said, by choice.
pub type Told = BTreeMap<usize, Said>;

fn finished(said: &Said) {
    let finish = said.finish.as_deref().expect("a choice has no finish reason");
    assert!(["stop", "length", "tool_calls", "content_filter"].contains(&finish), "{finish}");
    if finish != "length" {
        assert!(said.calls.iter().all(|[kind, _, _, arguments]| kind == "custom" || !arguments.is_empty()), "a call has no arguments");
    }
    assert!(finish != "stop" || said.calls.is_empty(), "calls end with `stop`");
}

fn usage(json: &str) {
    let all: serde_json::Value = serde_json::from_str(json).unwrap();
    let count = |key: &str| u128::from(all[key].as_u64().unwrap_or_else(|| panic!("{key} of {json}")));
    assert_eq!(count("total_tokens"), (count("prompt_tokens") + count("completion_tokens")).min(u128::from(u64::MAX)));
}

/// Server-sent chunks of an answer that is `complete` or broke off.
pub fn stream(bytes: &[u8], complete: bool, place: UsagePlace) -> Told {
    let text = std::str::from_utf8(bytes).expect("the stream is not UTF-8");
    let mut told = Told::new();
    if text.is_empty() {
        assert!(!complete, "a complete answer of nothing");
        return told;
    }
    let events: Vec<&str> = text.strip_suffix("\n\n").expect("the last event has no end").split("\n\n").collect();
    let mut done = false;
    for event in &events {
        assert!(!done, "{event} after the end");
        let data = event.strip_prefix("data: ").unwrap_or_else(|| panic!("{event} is no event"));
        assert!(!data.contains(['\n', '\r']), "a line break inside of {data}");
        match data {
            "[DONE]" => done = true,
            chunk => one_chunk(chunk, &mut told, place),
        }
    }
    assert_eq!(done, complete, "whether [DONE] was said");
    if complete {
        told.values().for_each(finished);
        assert!(!told.is_empty(), "no choices");
    } else {
        assert!(told.values().all(|said| said.finish.is_none()), "a finish reason in an answer that broke off");
    }
    told
}

fn one_chunk(chunk: &str, told: &mut Told, place: UsagePlace) {
    let (mut last, mut counted, mut none) = (false, None, true);
    for (key, value) in members(chunk) {
        match key.as_str() {
            "object" => assert_eq!(value.get(), "\"chat.completion.chunk\""),
            "choices" => {
                for choice in items(value.get()) {
                    none = false;
                    last |= delta(choice.get(), told);
                }
            }
            "usage" => counted = Some(value.get().to_owned()),
            _ => {}
        }
    }
    match (place, counted.as_deref()) {
        (UsagePlace::Withheld, counted) => assert_eq!(counted, None),
        (UsagePlace::Merged, None) => assert!(!none),
        (UsagePlace::Merged, Some(counted)) => {
            assert!(last, "usage before the end");
            usage(counted);
        }
        (UsagePlace::Separate, Some("null")) => assert!(!none),
        (UsagePlace::Separate, Some(counted)) => {
            assert!(none, "usage beside choices");
            assert!(told.values().all(|said| said.finish.is_some()), "usage before the end");
            usage(counted);
        }
        (UsagePlace::Separate, None) => panic!("a chunk without usage"),
    }
}

/// Takes in one choice of a chunk; whether it ended.
fn delta(choice: &str, told: &mut Told) -> bool {
    let parts: BTreeMap<String, Box<RawValue>> = members(choice).into_iter().collect();
    let index = number(parts["index"].get());
    let first = !told.contains_key(&index);
    let said = told.entry(index).or_default();
    assert!(said.finish.is_none(), "choice {index} goes on after its end");
    let mut role = false;
    for (key, value) in members(parts["delta"].get()) {
        match key.as_str() {
            "role" => role = true,
            "content" => said.content.push_str(inside(value.get())),
            "reasoning_content" => said.reasoning.push_str(inside(value.get())),
            "refusal" => said.refusal.push_str(inside(value.get())),
            "tool_calls" => {
                let mut before = None;
                for call in items(value.get()) {
                    let index = call_delta(call.get(), said);
                    assert!(before < Some(index), "calls of one chunk are out of order");
                    before = Some(index);
                }
            }
            _ => {}
        }
    }
    assert_eq!(role, first, "the role belongs into the first chunk of choice {index}");
    let finish = parts["finish_reason"].get();
    said.finish = (finish != "null").then(|| inside(finish).to_owned());
    said.finish.is_some()
}

fn call_delta(call: &str, said: &mut Said) -> usize {
    let parts: BTreeMap<String, Box<RawValue>> = members(call).into_iter().collect();
    let (kind, function, text) = called(&parts);
    let index = number(parts["index"].get());
    if index == said.calls.len() {
        assert_eq!(inside(parts["type"].get()), kind);
        let (id, name) = (inside(parts["id"].get()), inside(function["name"].get()));
        assert!(!id.is_empty(), "a call without an id");
        said.calls.push([kind, id, name, ""].map(str::to_owned));
    } else {
        assert!(index < said.calls.len(), "call {index} comes before its predecessors");
        assert!(!parts.contains_key("id") && !function.contains_key("name"), "id and name twice");
    }
    said.calls[index][3].push_str(inside(function[text].get()));
    index
}

/// The type of a call, what is called, and the member of it that grows.
fn called(call: &BTreeMap<String, Box<RawValue>>) -> (&'static str, BTreeMap<String, Box<RawValue>>, &'static str) {
    let (kind, text) = if call.contains_key("custom") { ("custom", "input") } else { ("function", "arguments") };
    (kind, members(call[kind].get()).into_iter().collect(), text)
}

/// One completion.
pub fn completion(bytes: &[u8]) -> Told {
    is_json(bytes);
    let mut told = Told::new();
    for (key, value) in members(std::str::from_utf8(bytes).unwrap()) {
        match key.as_str() {
            "object" => assert_eq!(value.get(), "\"chat.completion\""),
            "usage" => usage(value.get()),
            "choices" => {
                for choice in items(value.get()) {
                    let parts: BTreeMap<String, Box<RawValue>> = members(choice.get()).into_iter().collect();
                    let said = message(parts["message"].get(), inside(parts["finish_reason"].get()));
                    finished(&said);
                    assert!(told.insert(number(parts["index"].get()), said).is_none(), "a choice is there twice");
                }
            }
            _ => {}
        }
    }
    assert!(!told.is_empty(), "no choices");
    told
}

fn message(message: &str, finish: &str) -> Said {
    let mut said = Said { finish: Some(finish.to_owned()), ..Said::default() };
    for (key, value) in members(message) {
        let text = |value: &RawValue| if value.get() == "null" { String::new() } else { inside(value.get()).to_owned() };
        match key.as_str() {
            "content" => said.content = text(&value),
            "reasoning_content" => said.reasoning = text(&value),
            "refusal" => said.refusal = text(&value),
            "tool_calls" => {
                for call in items(value.get()) {
                    let parts: BTreeMap<String, Box<RawValue>> = members(call.get()).into_iter().collect();
                    let (_, function, text) = called(&parts);
                    let all = [&parts["type"], &parts["id"], &function["name"], &function[text]];
                    said.calls.push(all.map(|part| inside(part.get()).to_owned()));
                }
            }
            _ => {}
        }
    }
    said
}

/// The blocks of a message: type, and text, thinking or name with the arguments. Arguments that are cut off are `{}`.
pub type Blocks = Vec<[String; 2]>;

fn decoded(spelled: &str) -> String {
    tidegate::json::text::Text::Raw(spelled).decode().into_owned()
}

fn block(kind: &str, name: &str, text: &str) -> [String; 2] {
    if kind != "tool_use" {
        return [kind.to_owned(), text.to_owned()];
    }
    let whole = text.trim().starts_with('{') && serde_json::from_str::<&RawValue>(text).is_ok();
    let input = if whole { text.trim() } else { "{}" };
    [format!("{kind} {name}"), tidegate::json::surrogate::repaired(input).into_owned()]
}

/// Anthropic's events of an answer that is `complete` or broke off: each with its name, one block open at a time.
pub fn events(bytes: &[u8], complete: bool) -> Blocks {
    let text = std::str::from_utf8(bytes).expect("the stream is not UTF-8");
    let (mut blocks, mut open, mut started, mut stopped, mut ended) = (Blocks::new(), None, 0, 0, false);
    for event in text.split_terminator("\n\n") {
        let (name, data) =
            event.strip_prefix("event: ").and_then(|rest| rest.split_once("\ndata: ")).expect("an event with a name and data");
        assert!(!ended && !data.contains(['\n', '\r']), "{event}");
        is_json(data.as_bytes());
        let members: BTreeMap<String, Box<RawValue>> = members(data).into_iter().collect();
        assert_eq!(inside(members["type"].get()), name);
        let of = |outer: &str, key: &str| {
            let all: BTreeMap<String, Box<RawValue>> =
                members.get(outer).map(|raw| self::members(raw.get()).into_iter().collect()).unwrap_or_default();
            all.get(key).map(|raw| inside(raw.get()).to_owned())
        };
        match name {
            "message_start" => started += 1,
            "content_block_start" => {
                assert!(open.is_none() && stopped == 0 && number(members["index"].get()) == blocks.len(), "{event}");
                let call = of("content_block", "name").unwrap_or_default();
                open = Some((of("content_block", "type").unwrap(), call, String::new()));
                blocks.push([String::new(), String::new()]);
            }
            "content_block_delta" => {
                let (_, _, text) = open.as_mut().expect("a delta of an open block");
                assert_eq!(number(members["index"].get()) + 1, blocks.len());
                for key in ["text", "thinking", "partial_json"] {
                    text.push_str(&of("delta", key).unwrap_or_default());
                }
            }
            "content_block_stop" => {
                let (kind, name, text) = open.take().expect("an open block");
                *blocks.last_mut().unwrap() = block(&kind, &name, &decoded(&text));
            }
            "message_delta" => {
                assert!(open.is_none(), "{event}");
                stopped += 1;
            }
            "message_stop" => ended = true,
            other => panic!("{other}"),
        }
        assert_eq!(started, 1, "{event}");
    }
    assert_eq!((ended, stopped), (complete, usize::from(complete)));
    blocks
}

/// A whole message.
pub fn whole_message(bytes: &[u8]) -> Blocks {
    is_object(bytes);
    let all: BTreeMap<String, Box<RawValue>> = members(std::str::from_utf8(bytes).unwrap()).into_iter().collect();
    assert_ne!(all["stop_reason"].get(), "null");
    let read = |raw: &RawValue| {
        let all: BTreeMap<String, Box<RawValue>> = members(raw.get()).into_iter().collect();
        let kind = inside(all["type"].get());
        match kind {
            "tool_use" => block(kind, inside(all["name"].get()), all["input"].get()),
            _ => block(kind, "", &decoded(inside(all[kind].get()))),
        }
    };
    items(all["content"].get()).iter().map(|raw| read(raw)).collect()
}

/// A stream of OpenAI's responses; returns the output of its last event, which is empty where the answer is not complete.
pub fn response_events(bytes: &[u8], complete: bool) -> String {
    let text = std::str::from_utf8(bytes).expect("the stream is not UTF-8");
    let (mut next, mut said, mut done, mut output) = (0, Vec::new(), BTreeMap::new(), None);
    let (events, end) = text.rsplit_once("data: [DONE]\n\n").unwrap_or((text, "none"));
    assert_eq!((end.is_empty(), end.is_empty() || !text.contains("[DONE]\n\n")), (complete, true));
    for event in events.split_terminator("\n\n") {
        let (name, data) =
            event.strip_prefix("event: ").and_then(|rest| rest.split_once("\ndata: ")).expect("an event with a name and data");
        assert!(output.is_none() && !data.contains(['\n', '\r']), "{event}");
        let members: BTreeMap<String, Box<RawValue>> = members(data).into_iter().collect();
        assert_eq!((inside(members["type"].get()), number(members["sequence_number"].get())), (name, next), "{event}");
        next += 1;
        let index = members.get("output_index").map(|raw| number(raw.get()));
        let (name, last) = name.strip_prefix("response.").and_then(|rest| rest.rsplit_once('.')).unwrap_or((name, ""));
        match (name, last) {
            ("response.created" | "response.in_progress", "") => assert!(next <= 2, "{event}"),
            ("response.completed" | "response.incomplete", "") => {
                let whole: BTreeMap<String, Box<RawValue>> = self::members(members["response"].get()).into_iter().collect();
                output = Some(whole["output"].get().to_owned());
            }
            ("output_item", "added") => {
                assert_eq!(index, Some(said.len()), "{event}");
                said.push(String::new());
            }
            ("output_item", "done") => assert!(done.insert(index.unwrap(), members["item"].get().to_owned()).is_none(), "{event}"),
            ("content_part" | "reasoning_summary_part", _) => assert!(!done.contains_key(&index.unwrap()), "{event}"),
            (_, "delta") => said[index.unwrap()].push_str(inside(members["delta"].get())),
            ("output_text.annotation", "added") => {}
            (_, "done") => {
                let text = ["text", "arguments", "input", "refusal"].iter().find_map(|key| members.get(*key)).unwrap();
                assert_eq!(std::mem::take(&mut said[index.unwrap()]), inside(text.get()), "{event}");
            }
            _ => panic!("{event}"),
        }
    }
    assert_eq!(output.is_some(), complete);
    let Some(output) = output else { return String::new() };
    let all = items(&output);
    assert_eq!(all.len(), said.len());
    for (at, item) in done {
        assert_eq!(all[at].get(), item, "what was done is not what is said at the end");
    }
    output
}

/// A whole response; returns its output.
pub fn whole_response(bytes: &[u8]) -> String {
    is_object(bytes);
    let all: BTreeMap<String, Box<RawValue>> = members(std::str::from_utf8(bytes).unwrap()).into_iter().collect();
    assert!(matches!(inside(all["status"].get()), "completed" | "incomplete"));
    all["output"].get().to_owned()
}
