//! Ways to spoil an input: by bytes, by JSON values, by whole frames.

use crate::wire::{self, Message};
use fastrand::Rng;
use serde_json::{Map, Value, json};

/// Largest input that a mutation makes, about; a corpus entry may be larger.
const MAX_INPUT: usize = 64 << 10;

/// What an input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutator {
    /// Text or bytes of any form.
    Bytes,
    /// A JSON document.
    Json,
    /// Server-sent events with JSON in them.
    Sse,
    /// AWS messages with JSON in them.
    Aws,
    /// AWS messages that carry server-sent events.
    AwsSse,
}

/// Pieces that mean something to one of the readers.
const TOKENS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "\"",
    ",",
    ":",
    "\\",
    "null",
    "true",
    "false",
    "0",
    "-1",
    "1e999",
    "18446744073709551616",
    "-0.0",
    "\\u0000",
    "\\ud800",
    "\\udc00",
    "\\ud83d\\ude00",
    "\u{0}",
    "\u{feff}",
    "\r",
    "\n",
    "\r\n",
    "\n\n",
    "data:",
    "data: ",
    "event: error\n",
    "data: [DONE]\n\n",
    ": keep-alive\n\n",
    "id: 1\n",
    "\u{1f3d4}",
    "\u{2028}",
    "<think>",
    "</think>",
    "\"index\":",
    "\"tool_calls\":",
    "\"finish_reason\":\"stop\"",
    "\"choices\":[]",
    "\"error\":{\"message\":\"x\"}",
    "\"delta\":{",
    "\"content\":\"\"",
    "\"id\":\"\"",
    "--tg1-",
    "${",
    "}",
    "- ",
    ": ",
    "  ",
    "\t",
    "#",
    "&a",
    "*a",
    "|",
    ">",
    "!!",
    "---\n",
    "data:image/png;base64,",
    "https://",
    "[DONE]",
    "%2F",
    "..",
];

/// Values that sit on some edge.
fn interesting(rng: &mut Rng) -> Value {
    let numbers = [0, 1, -1, 2, 127, 128, 129, 255, 1024, 1025, 65536, i64::from(i32::MAX), i64::from(u32::MAX), i64::MAX, i64::MIN];
    let words = [
        "",
        " ",
        "stop",
        "length",
        "tool_calls",
        "function_call",
        "content_filter",
        "error",
        "abort",
        "tool_use",
        "end_turn",
        "max_tokens",
        "MAX_TOKENS",
        "SAFETY",
        "MALFORMED_FUNCTION_CALL",
        "assistant",
        "user",
        "system",
        "developer",
        "tool",
        "function",
        "auto",
        "required",
        "none",
        "text",
        "image_url",
        "file",
        "input_audio",
        "refusal",
        "thinking",
        "redacted_thinking",
        "text_delta",
        "input_json_delta",
        "thinking_delta",
        "signature_delta",
        "message_start",
        "message_stop",
        "content_block_start",
        "content_block_stop",
        "message_delta",
        "json_schema",
        "json_object",
        "low",
        "high",
        "minimal",
        "xhigh",
        "{}",
        "{\"a\":1}",
        "{\"choice\":\"a\"}",
        "null",
        "<think>a</think>b",
        "</think>",
        "<thi",
        "a\u{0}b",
        "\u{1f3d4}\"\\\n\r\u{2028}",
        "data:image/png;base64,AA==",
        "data:application/pdf;base64,AA==",
        "https://h/p.png",
        "gs://b/o",
        "call_1",
        "call_1--tg1-AAAA",
    ];
    match rng.u8(..12) {
        0 => Value::Null,
        1 => json!(rng.bool()),
        2..5 => json!(numbers[rng.usize(..numbers.len())]),
        5 => json!([0.5, -1.5, 1e300, 1e-300][rng.usize(..4)]),
        6..10 => json!(words[rng.usize(..words.len())]),
        10 => json!([]),
        _ => json!({}),
    }
}

impl Mutator {
    /// One input that is like some of the corpus.
    pub fn mutate(self, rng: &mut Rng, corpus: &[Vec<u8>]) -> Vec<u8> {
        let base = &corpus[rng.usize(..corpus.len())];
        let other = &corpus[rng.usize(..corpus.len())];
        let mut out = match self {
            Self::Bytes => bytes(rng, base, other),
            Self::Json if rng.u8(..) < 200 => json_text(rng, base, other),
            Self::Sse if rng.u8(..) < 220 => sse(rng, base, other),
            Self::Aws if rng.u8(..) < 230 => aws(rng, base, other, false),
            Self::AwsSse if rng.u8(..) < 230 => aws(rng, base, other, true),
            _ => bytes(rng, base, other),
        };
        if self != Self::Bytes && rng.u8(..) < 24 {
            out = bytes(rng, &out, other);
        }
        out.truncate(MAX_INPUT.max(base.len()));
        out
    }
}

fn range(rng: &mut Rng, length: usize) -> std::ops::Range<usize> {
    let start = rng.usize(..=length);
    let most = if rng.bool() { 8 } else { 256 };
    start..(start + rng.usize(..=most)).min(length)
}

/// Flips, overwrites, cuts, doubles, inserts, splices.
pub fn bytes(rng: &mut Rng, base: &[u8], other: &[u8]) -> Vec<u8> {
    let mut out = base.to_vec();
    for _ in 0..rng.usize(1..5) {
        let at = rng.usize(..=out.len());
        match rng.u8(..10) {
            0 => {
                if let Some(byte) = out.get_mut(at) {
                    *byte ^= 1 << rng.u8(..8);
                }
            }
            1 => {
                if let Some(byte) = out.get_mut(at) {
                    *byte = [0, 0xff, b'"', b'\\', b'\n', b'\r', b'{', 0x80, 0xc3, 0xed][rng.usize(..10)];
                }
            }
            2 => out.truncate(at),
            3 => {
                let range = range(rng, out.len());
                let again = out[range.clone()].to_vec();
                out.splice(range.end..range.end, again);
            }
            4 => {
                let range = range(rng, out.len());
                out.drain(range);
            }
            5..8 => {
                let token = TOKENS[rng.usize(..TOKENS.len())];
                out.splice(at..at, token.bytes());
            }
            8 => {
                let piece = other[range(rng, other.len())].to_vec();
                out.splice(at..at, piece);
            }
            _ => {
                let number = [0u32, 1, 12, 15, 16, 17, 0x7fff_ffff, u32::MAX][rng.usize(..8)].to_be_bytes();
                let end = (at + 4).min(out.len());
                out.splice(at..end, number);
            }
        }
    }
    out
}

/// How many values a document has, itself included.
fn size(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(members) => members.values().map(size).sum(),
        _ => 0,
    }
}

/// The value of this number, in the order of [`size`].
fn nth<'v>(value: &'v mut Value, number: &mut usize) -> Option<&'v mut Value> {
    if *number == 0 {
        return Some(value);
    }
    *number -= 1;
    match value {
        Value::Array(items) => items.iter_mut().find_map(|item| nth(item, number)),
        Value::Object(members) => members.values_mut().find_map(|member| nth(member, number)),
        _ => None,
    }
}

fn pick<'v>(rng: &mut Rng, root: &'v mut Value) -> Option<&'v mut Value> {
    let mut number = rng.usize(..size(root));
    nth(root, &mut number)
}

/// Changes some values of a document in place.
pub fn json_value(rng: &mut Rng, root: &mut Value, other: &mut Value) {
    for _ in 0..rng.usize(1..4) {
        let with = match rng.u8(..3) {
            0 => pick(rng, other).map(|value| value.clone()).unwrap_or_default(),
            _ => interesting(rng),
        };
        let again = pick(rng, root).map(|value| value.clone()).unwrap_or_default();
        let Some(place) = pick(rng, root) else { continue };
        match (rng.u8(..8), &mut *place) {
            (0..3, Value::Object(members)) if !members.is_empty() => {
                let key = members.keys().nth(rng.usize(..members.len())).cloned().unwrap_or_default();
                match rng.u8(..3) {
                    0 => drop(members.remove(&key)),
                    1 => drop(members.insert(key, with)),
                    _ => {
                        let value = members.remove(&key).unwrap_or_default();
                        let name = with.as_str().map_or_else(|| format!("{key}x"), str::to_owned);
                        members.insert(name, value);
                    }
                }
            }
            (0..3, Value::Array(items)) => {
                let at = rng.usize(..=items.len());
                match rng.u8(..4) {
                    0 if at < items.len() => drop(items.remove(at)),
                    1 if at < items.len() => {
                        let twice = items[at].clone();
                        items.insert(at, twice);
                    }
                    2 => items.reverse(),
                    _ => items.insert(at, with),
                }
            }
            (3, Value::String(text)) => {
                let at = (0..=rng.usize(..=text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
                match rng.bool() {
                    true => text.truncate(at),
                    false => text.insert_str(at, TOKENS[rng.usize(..TOKENS.len())]),
                }
            }
            (4, _) => *place = again,
            (5, _) => *place = json!([place.take()]),
            (6, _) => *place = Value::Object(Map::from_iter([("type".to_owned(), place.take())])),
            (_, _) => *place = with,
        }
    }
}

fn json_text(rng: &mut Rng, base: &[u8], other: &[u8]) -> Vec<u8> {
    let Ok(mut root) = serde_json::from_slice::<Value>(base) else { return bytes(rng, base, other) };
    let mut other = serde_json::from_slice::<Value>(other).unwrap_or_default();
    json_value(rng, &mut root, &mut other);
    let text = if rng.u8(..) < 30 { serde_json::to_vec_pretty(&root) } else { serde_json::to_vec(&root) };
    text.unwrap()
}

/// One to three changes to a list of frames.
fn frames<T: Clone>(rng: &mut Rng, list: &mut Vec<T>, other: &[T], change: impl Fn(&mut Rng, &mut T)) {
    for _ in 0..rng.usize(1..4) {
        let at = rng.usize(..=list.len());
        let to = rng.usize(..=list.len());
        match rng.u8(..8) {
            0 if at < list.len() => drop(list.remove(at)),
            1 if at < list.len() => list.insert(to, list[at].clone()),
            2 if at < list.len() && to < list.len() => list.swap(at, to),
            3 if !other.is_empty() => list.insert(at, other[rng.usize(..other.len())].clone()),
            4 if rng.u8(..) < 60 => list.truncate(at),
            _ => {
                if let Some(one) = list.get_mut(at) {
                    change(rng, one);
                }
            }
        }
    }
}

fn sse(rng: &mut Rng, base: &[u8], other: &[u8]) -> Vec<u8> {
    let (mut list, others) = (wire::events(base), wire::events(other));
    frames(rng, &mut list, &others, |rng, event| {
        let text = String::from_utf8_lossy(event).into_owned();
        match text.find("data:") {
            Some(at) if text.contains('{') && rng.u8(..) < 200 => {
                let (head, data) = text.split_at(at + 5);
                let spoilt = json_text(rng, data.as_bytes(), others.first().map_or(b"{}", Vec::as_slice));
                *event = [head.as_bytes(), &spoilt].concat();
            }
            _ => *event = bytes(rng, event, b": x\n"),
        }
    });
    let end: &[u8] = [b"\n\n" as &[u8], b"\r\n\r\n", b"\r\r"][rng.usize(0..12).saturating_sub(9)];
    let mut out = list.join(end);
    if rng.u8(..) < 240 {
        out.extend_from_slice(end);
    }
    out
}

fn aws(rng: &mut Rng, base: &[u8], other: &[u8], inner: bool) -> Vec<u8> {
    let (mut list, others) = (wire::split(base), wire::split(other));
    if inner && rng.u8(..) < 160 {
        // The inner stream is spoilt as a whole, and cut again anywhere.
        let payloads = |list: &[Message]| list.iter().flat_map(|message| message.payload.clone()).collect::<Vec<u8>>();
        let spoilt = sse(rng, &payloads(&list), &payloads(&others));
        list = crate::engine::pieces(rng, &spoilt).iter().map(|piece| Message::new("PayloadPart", piece)).collect();
        if rng.u8(..) < 160 {
            return wire::join(&list);
        }
    }
    frames(rng, &mut list, &others, |rng, message| match rng.u8(..8) {
        0 if !message.headers.is_empty() => {
            let at = rng.usize(..message.headers.len());
            let words = [
                "",
                "event",
                "exception",
                "error",
                "messageStop",
                "metadata",
                "contentBlockStart",
                "contentBlockDelta",
                "PayloadPart",
                "x",
            ];
            message.headers[at].1 = words[rng.usize(..words.len())].to_owned();
        }
        1 if !message.headers.is_empty() => {
            let at = rng.usize(..message.headers.len());
            message.headers.remove(at);
        }
        2 => message.headers.push((":error-message".into(), "said".into())),
        _ => message.payload = json_text(rng, &message.payload, others.first().map_or(b"{}", |other| &other.payload)),
    });
    wire::join(&list)
}
