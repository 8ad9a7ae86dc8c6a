//! How fast bodies go through: the scan of a request, the splice, its translation, the cutting of a stream into events, and
//! answers. `cargo bench --bench json`.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

use bytes::Bytes;
use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use std::borrow::Cow;
use std::sync::Arc;
use tidegate::config;
use tidegate::frame::Framing;
use tidegate::frame::sse::SseFramer;
use tidegate::front::chat::chunk::UsagePlace;
use tidegate::front::chat::head::Head;
use tidegate::json::envelope;
use tidegate::json::splice::Splice;
use tidegate::json::utf8;
use tidegate::llm::envelope::{ChatRequest, Parsed};
use tidegate::llm::settings::Params;
use tidegate::operation::{Beside, Operation};
use tidegate::provider::Target;
use tidegate::relay::{Form, Relay};
use uuid::Uuid;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc; // as in the program

const SIZES: [usize; 4] = [1 << 10, 64 << 10, 1 << 20, 5 << 20];
const TEXTS: [&str; 7] = ["ascii", "prose", "multilingual", "data_uri", "messages", "escaped", "agent"];
/// Bodies that are hard on one part of the scan.
const HOSTILE: [&str; 4] = ["backslashes", "braces", "short_strings", "multibyte"];

fn main() {
    divan::main();
}

fn fill(unit: &str, size: usize) -> String {
    unit.repeat(size / unit.len() + 1)
}

fn messages(list: &str) -> String {
    format!(r#"{{"model":"gpt-4o","messages":[{list}],"temperature":0.70,"stream":true}}"#)
}

fn body(text: &str, size: usize) -> String {
    let unit = match text {
        "ascii" => "The quick brown fox jumps over the lazy dog. ",
        "prose" => r#"He said: \"The tide is out.\"\nThen he went home,\nwhere the \"old\" lamp burned.\n\n"#,
        "multilingual" => "Der Fluß fließt. 潮の満ち引きは月による。Прилив и отлив. 🌊 مدّ وجزر. ",
        "data_uri" => "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg",
        "escaped" => r"\u6f6e\u306e\u6e80\u3061 ",
        "agent" => return agent(size),
        "backslashes" => r"\\\n\\\\\t",
        "braces" => return format!(r#"{{"model":"m","messages":[],"x":[{}1]}}"#, fill("[{}],{},", size)),
        "short_strings" => return format!(r#"{{"model":"m","messages":[],"x":[{}1]}}"#, fill(r#""a","","b","#, size)),
        "multibyte" => "潮の満ち引き",
        _ => {
            let one = format!(r#"{{"role":"user","content":"{}"}},"#, fill("Some words, in a line.\\n", 480));
            return messages(fill(&one, size).trim_end_matches(','));
        }
    };
    let prefix = if text == "data_uri" { "data:image/png;base64," } else { "" };
    messages(&format!(r#"{{"role":"user","content":"{prefix}{}"}}"#, fill(unit, size)))
}

/// What a coding agent sends: instructions, turns of calls and their results, twenty tools. Source code has an escape every few
/// bytes.
fn agent(size: usize) -> String {
    let file = fill(CODE, 3000);
    let turn = |n: usize| {
        format!(
            r#"{{"role":"assistant","content":"I read file {n}.","tool_calls":[{{"id":"call_{n}","type":"function","function":{{"name":"read_{}","arguments":"{{\"path\":\"src/{n}.rs\"}}"}}}}]}},{{"role":"tool","tool_call_id":"call_{n}","content":"{file}"}}"#,
            n % 20
        )
    };
    let tool = |n: usize| {
        format!(
            r#"{{"type":"function","function":{{"name":"read_{n}","description":"{}","parameters":{{"type":"object","properties":{{"path":{{"type":"string"}},"offset":{{"type":"integer","minimum":0}}}},"required":["path"],"additionalProperties":false}}}}}}"#,
            fill("Reads a file of the workspace. ", 400)
        )
    };
    let rules = fill("Keep to the rules of the house. ", 4000);
    let turns = (0..size / 3200).map(turn).map(|turn| format!(",{turn}")).collect::<String>();
    let tools = (0..20).map(tool).collect::<Vec<_>>().join(",");
    format!(
        r#"{{"model":"gpt-4o","max_tokens":4096,"messages":[{{"role":"system","content":"{rules}"}},{{"role":"user","content":"Mend the test."}}{turns}],"tools":[{tools}],"stream":true}}"#
    )
}

#[divan::bench(args = TEXTS, consts = SIZES)]
fn scan<const SIZE: usize>(bencher: Bencher<'_, '_>, text: &str) {
    let body = body(text, SIZE);
    bencher.counter(BytesCount::of_str(&body)).bench(|| utf8::text(black_box(body.as_bytes())).and_then(envelope::scan).unwrap());
}

#[divan::bench(args = HOSTILE)]
fn scan_hostile(bencher: Bencher<'_, '_>, text: &str) {
    let body = body(text, 1 << 20);
    bencher.counter(BytesCount::of_str(&body)).bench(|| utf8::text(black_box(body.as_bytes())).and_then(envelope::scan).unwrap());
}

#[divan::bench(args = TEXTS, consts = SIZES)]
fn parse<const SIZE: usize>(bencher: Bencher<'_, '_>, text: &str) {
    let body = Bytes::from(body(text, SIZE));
    bencher.counter(BytesCount::new(body.len())).bench(|| Parsed::parse(black_box(body.clone())).unwrap());
}

#[divan::bench(args = TEXTS, consts = SIZES)]
fn scan_and_splice<const SIZE: usize>(bencher: Bencher<'_, '_>, text: &str) {
    let body = Bytes::from(body(text, SIZE));
    bencher.counter(BytesCount::new(body.len())).bench(|| {
        let found = utf8::text(black_box(&body)).and_then(envelope::scan).unwrap();
        let mut splice = Splice::new(&body, &found);
        splice.replace(&found.members[0], Cow::Borrowed(b"\"claude-sonnet-4-5\""));
        splice.insert("stream_options", Cow::Borrowed(b"{\"include_usage\":true}"));
        splice.finish()
    });
}

const KINDS: [&str; 5] = ["openai", "anthropic", "bedrock", "google_ai_studio", "mistral"];

/// A target of this kind, and its model.
fn target(kind: &str) -> (Arc<Target>, &'static str) {
    let (provider, model) = match kind {
        "bedrock" => ("kind: bedrock, region: us-east-1, api_key: k".to_owned(), "us.amazon.nova-pro-v1:0"),
        kind => (format!("kind: {kind}, api_key: k"), if kind == "anthropic" { "claude-sonnet-4-5" } else { "m" }),
    };
    let yaml = format!(
        "auth: none\nproviders: {{ p: {{ {provider} }} }}\nroutes: {{ r: {{ targets: [ {{ provider: p, model: \"{model}\" }} ] }} }}"
    );
    (config::parse(&yaml, "bench", &|_| None).ok().unwrap().snapshot.routes[0].targets[0].clone(), model)
}

/// An agent's body on its way to a provider, beside its parse.
#[divan::bench(args = KINDS)]
fn encode_agent(bencher: Bencher<'_, '_>, kind: &str) {
    let (target, model) = target(kind);
    let (body, params) = (Bytes::from(agent(100 << 10)), Params::default());
    let parsed = Parsed::parse(body.clone()).unwrap();
    bencher.counter(BytesCount::new(body.len())).bench(|| {
        let request = ChatRequest { parsed: black_box(&parsed), params: &params, system: None, model, seal: None };
        Operation::Chat.encode(&request, &Beside::Nothing, &target).unwrap().body
    });
}

const CODE: &str = r#"pub fn rise(tide: &str) {\n\tlet name = \"high \u2192 \"; // the water comes\n\tprintln!(\"{name}{tide}\");\n}\n"#;

/// A provider's answer, whole, or a piece of its stream.
fn answer(kind: &str, text: &str) -> String {
    match kind {
        "anthropic" => format!(
            r#"{{"type":"message","role":"assistant","content":[{{"type":"text","text":"{text}"}}],"stop_reason":"end_turn","usage":{{"input_tokens":9,"output_tokens":9}}}}"#
        ),
        "bedrock" => format!(
            r#"{{"output":{{"message":{{"role":"assistant","content":[{{"text":"{text}"}}]}}}},"stopReason":"end_turn","usage":{{"inputTokens":9,"outputTokens":9,"totalTokens":18}}}}"#
        ),
        "google_ai_studio" => format!(
            r#"{{"candidates":[{{"content":{{"role":"model","parts":[{{"text":"{text}"}}]}},"finishReason":"STOP"}}],"usageMetadata":{{"promptTokenCount":9,"candidatesTokenCount":9,"totalTokenCount":18}}}}"#
        ),
        _ => format!(
            r#"{{"id":"c","object":"chat.completion","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":9,"completion_tokens":9,"total_tokens":18}}}}"#
        ),
    }
}

/// Reads and writes an answer that comes in pieces.
fn relay<'p>(
    bencher: Bencher<'_, '_>,
    kind: &str,
    form: &Form,
    framing: Option<Framing>,
    pieces: impl Iterator<Item = &'p [u8]> + Clone + Sync,
) {
    let (target, model) = target(kind);
    let (body, params) = (Bytes::from(agent(0)), Params::default());
    let parsed = Parsed::parse(body).unwrap();
    let decoder = || {
        let request = ChatRequest { parsed: &parsed, params: &params, system: None, model, seal: None };
        Operation::Chat.encode(&request, &Beside::Nothing, &target).unwrap().decoder
    };
    bencher.with_inputs(decoder).bench_values(|decoder| {
        let mut relay = Relay::new(framing, decoder, Head::new(Uuid::nil(), Uuid::nil(), 0, "m"), form.clone(), None);
        let written = black_box(pieces.clone()).map(|piece| relay.push(piece)).map(|(bytes, result)| result.map(|()| bytes.len()).unwrap());
        let written = written.sum::<usize>();
        let (bytes, result) = relay.end();
        result.unwrap();
        written + bytes.len()
    });
}

/// A whole answer of one MiB, in the reads of a socket.
#[divan::bench(args = KINDS)]
fn answer_whole(bencher: Bencher<'_, '_>, kind: &str) {
    let body = answer(kind, &fill(CODE, 1 << 20));
    relay(bencher.counter(BytesCount::of_str(&body)), kind, &Form::Completion, None, body.as_bytes().chunks(64 << 10));
}

/// A stream of OpenAI's chunks of 64 KiB, each one read.
#[divan::bench]
fn answer_large_chunks(bencher: Bencher<'_, '_>) {
    let chunk = format!(
        "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{}\"}}}}]}}\n\n",
        fill(CODE, 64 << 10)
    );
    let end = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    let pieces = std::iter::repeat_n(chunk.as_bytes(), 16).chain([end.as_bytes()]);
    let form = Form::Chunks(UsagePlace::Withheld);
    relay(bencher.counter(BytesCount::new(16 * chunk.len())), "openai", &form, Some(Framing::Sse), pieces);
}

/// A stream of a thousand short chunks, as most are, each read and written.
#[divan::bench(args = ["openai", "anthropic"])]
fn answer_small_chunks(bencher: Bencher<'_, '_>, kind: &str) {
    const CHUNKS: usize = 1000;
    let (start, chunk, end) = match kind {
        "anthropic" => (
            concat!(
                "event: message_start\n",
                r#"data: {"type":"message_start","message":{"id":"m","role":"assistant","content":[],"usage":{"input_tokens":9,"output_tokens":1}}}"#,
                "\n\nevent: content_block_start\n",
                r#"data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
                "\n\n"
            ),
            concat!(
                "event: content_block_delta\n",
                r#"data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" the tide"}}"#,
                "\n\n"
            ),
            concat!(
                r#"data: {"type":"content_block_stop","index":0}"#,
                "\n\n",
                r#"data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":9}}"#,
                "\n\n",
                r#"data: {"type":"message_stop"}"#,
                "\n\n"
            ),
        ),
        _ => (
            "",
            concat!(
                r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"gpt-4o-mini","#,
                r#""service_tier":"default","system_fingerprint":"fp","choices":[{"index":0,"delta":{"content":" the tide"},"#,
                r#""logprobs":null,"finish_reason":null}],"usage":null}"#,
                "\n\n"
            ),
            "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n",
        ),
    };
    let chunks = std::iter::repeat_n(chunk.as_bytes(), CHUNKS);
    let pieces = std::iter::once(start.as_bytes()).chain(chunks).chain([end.as_bytes()]);
    let form = Form::Chunks(UsagePlace::Withheld);
    relay(bencher.counter(ItemsCount::new(CHUNKS)), kind, &form, Some(Framing::Sse), pieces);
}

/// The same stream in chunks of this many bytes: whole events, the usual read, and cut everywhere.
#[divan::bench(args = [usize::MAX, 16 << 10, 700, 60], consts = SIZES)]
fn sse<const SIZE: usize>(bencher: Bencher<'_, '_>, chunk: usize) {
    let event = concat!(
        r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"gpt-4o","#,
        r#""choices":[{"index":0,"delta":{"content":" tide"},"logprobs":null,"finish_reason":null}]}"#,
        "\n\n"
    );
    let stream = fill(event, SIZE);
    bencher.counter(BytesCount::of_str(&stream)).bench(|| {
        let mut framer = SseFramer::new();
        let mut seen = 0;
        for piece in black_box(stream.as_bytes()).chunks(chunk) {
            let taken = framer.push(piece, &mut |_, data| {
                seen += data.len();
                Ok(())
            });
            taken.unwrap();
        }
        seen
    });
}

/// One event of one line that is as large as it gets, in the reads of a socket.
#[divan::bench(consts = SIZES)]
fn sse_one_large_event<const SIZE: usize>(bencher: Bencher<'_, '_>) {
    let stream = format!("data: {}\n\n", fill("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ", SIZE));
    bencher.counter(BytesCount::of_str(&stream)).bench(|| {
        let mut framer = SseFramer::new();
        let mut seen = 0;
        for piece in black_box(stream.as_bytes()).chunks(16 << 10) {
            let taken = framer.push(piece, &mut |_, data| {
                seen += data.len();
                Ok(())
            });
            taken.unwrap();
        }
        seen
    });
}
