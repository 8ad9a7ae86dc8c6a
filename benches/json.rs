//! How fast bytes are read before anything is done with them: the scan of a body, the splice, and the cutting of a
//! stream into events. `cargo bench --bench json`.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

use bytes::Bytes;
use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use std::borrow::Cow;
use tidegate::frame::sse::SseFramer;
use tidegate::json::envelope;
use tidegate::json::splice::Splice;
use tidegate::llm::envelope::Parsed;

const SIZES: [usize; 4] = [1 << 10, 64 << 10, 1 << 20, 5 << 20];
const TEXTS: [&str; 6] = ["ascii", "prose", "multilingual", "data_uri", "messages", "escaped"];

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
        _ => {
            let one = format!(r#"{{"role":"user","content":"{}"}},"#, fill("Some words, in a line.\\n", 480));
            return messages(fill(&one, size).trim_end_matches(','));
        }
    };
    let prefix = if text == "data_uri" { "data:image/png;base64," } else { "" };
    messages(&format!(r#"{{"role":"user","content":"{prefix}{}"}}"#, fill(unit, size)))
}

#[divan::bench(args = TEXTS, consts = SIZES)]
fn scan<const SIZE: usize>(bencher: Bencher<'_, '_>, text: &str) {
    let body = body(text, SIZE);
    bencher.counter(BytesCount::of_str(&body)).bench(|| envelope::text(black_box(body.as_bytes())).and_then(envelope::scan).unwrap());
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
        let found = envelope::text(black_box(&body)).and_then(envelope::scan).unwrap();
        let mut splice = Splice::new(&body, &found);
        splice.replace(&found.members[0], Cow::Borrowed(b"\"claude-sonnet-4-5\""));
        splice.insert("stream_options", Cow::Borrowed(b"{\"include_usage\":true}"));
        splice.finish()
    });
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
