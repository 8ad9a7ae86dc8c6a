//! Ten thousand requests that are wrong in every way, with good neighbours among them: each is answered in the error
//! shape or by hanging up; nobody else is harmed.

use crate::harness::gateway::Gateway;
use crate::harness::http1::{Answer, Conn, error_message, request};
use crate::harness::http2::{self, H2};
use crate::harness::sim::Sim;
use crate::harness::sse::Events;
use crate::harness::{chat, streamed};
use fastrand::Rng;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::io::AsyncWriteExt;

/// Requests in all, by so many clients at once.
const REQUESTS: usize = 10_000;
const CLIENTS: usize = 8;

const GOOD: &str = r#"{"model":"r","messages":[{"role":"system","content":"be brief"},{"role":"user","content":[{"type":"text","text":"hi é 👋"}]}],"temperature":0.5,"max_tokens":20,"stop":["x"],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"a":{"type":"string"}}}}}],"tool_choice":"auto","n":1,"stream":false,"metadata":{"a":"b"},"response_format":{"type":"text"},"seed":7}"#;

/// Members that are wrong, each in a good request in place of the same name.
const WRONG_MEMBERS: [&str; 34] = [
    r#""messages":"hi""#,
    r#""messages":{}"#,
    r#""messages":[]"#,
    r#""messages":[1]"#,
    r#""messages":[null]"#,
    r#""messages":[{}]"#,
    r#""messages":[{"role":"user"}]"#,
    r#""messages":[{"role":"nobody","content":"x"}]"#,
    r#""messages":[{"role":7,"content":"x"}]"#,
    r#""messages":[{"role":"user","content":7}]"#,
    r#""messages":[{"role":"user","content":[{"type":"telepathy"}]}]"#,
    r#""messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":7}}]}]"#,
    r#""messages":[{"role":"tool","content":"x"}]"#,
    r#""model":7"#,
    r#""model":null"#,
    r#""model":"""#,
    r#""model":"no-such-route""#,
    r#""model":"r\u0000""#,
    r#""model":{"host":"evil.example"}"#,
    r#""temperature":"hot""#,
    r#""temperature":1e999"#,
    r#""temperature":-0"#,
    r#""max_tokens":-1"#,
    r#""max_tokens":1.5"#,
    r#""max_tokens":99999999999999999999999999"#,
    r#""n":0"#,
    r#""n":4294967296"#,
    r#""stream":"yes""#,
    r#""stream_options":{"include_usage":true}"#,
    r#""tools":{}"#,
    r#""tools":[{"type":"function"}]"#,
    r#""tool_choice":{"type":"function","function":{"name":"no such tool"}}"#,
    r#""response_format":{"type":"json_schema","json_schema":{"schema":7}}"#,
    r#""episode_id":"not-a-uuid""#,
];

/// What can be wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Mutated,
    Cut,
    Member,
    MissingMember,
    Duplicate,
    Deep,
    Noise,
    Spelling,
    Header,
    Framing,
    Chunks,
    RequestLine,
    ShortBody,
}

const KINDS: [Kind; 13] = [
    Kind::Mutated,
    Kind::Cut,
    Kind::Member,
    Kind::MissingMember,
    Kind::Duplicate,
    Kind::Deep,
    Kind::Noise,
    Kind::Spelling,
    Kind::Header,
    Kind::Framing,
    Kind::Chunks,
    Kind::RequestLine,
    Kind::ShortBody,
];

fn pick<'a, T: ?Sized>(rng: &mut Rng, list: &[&'a T]) -> &'a T {
    list[rng.usize(..list.len())]
}

/// The body of a request whose framing is good.
fn body(kind: Kind, rng: &mut Rng) -> Vec<u8> {
    let mut good = GOOD.as_bytes().to_vec();
    match kind {
        Kind::Mutated => {
            for _ in 0..rng.usize(1..6) {
                let at = rng.usize(..good.len());
                match rng.u8(..4) {
                    0 => good[at] = rng.u8(..),
                    1 => drop(good.remove(at)),
                    2 => good.insert(at, pick(rng, &[b"\"", b"{", b"}", b"[", b"]", b",", b":", b"\\", b"\0", b"\xff", b"9"])[0]),
                    _ => {
                        let (from, length) = (rng.usize(..good.len()), rng.usize(..40));
                        let copy: Vec<u8> = good.iter().skip(from).take(length).copied().collect();
                        good.splice(at..at, copy);
                    }
                }
            }
        }
        Kind::Cut => good.truncate(rng.usize(..good.len())),
        Kind::Member => {
            let member = pick(rng, &WRONG_MEMBERS);
            let name = member.split(':').next().unwrap();
            let mut json: serde_json::Map<String, serde_json::Value> = serde_json::from_str(GOOD).unwrap();
            json.remove(name.trim_matches('"'));
            let rest = serde_json::to_string(&json).unwrap();
            good = format!("{{{member},{}", &rest[1..]).into_bytes();
        }
        Kind::MissingMember => {
            good = pick(rng, &["{}", r#"{"model":"r"}"#, r#"{"messages":[{"role":"user","content":"x"}]}"#, r#"{"stream":true}"#])
                .as_bytes()
                .to_vec();
        }
        Kind::Duplicate => {
            let twice =
                pick(rng, &[r#""model":"r","#, r#""mod\u0065l":"other","#, r#""stream":true,"#, r#""messages":[],"#, r#""max_tokens":1,"#]);
            good.splice(1..1, twice.bytes());
        }
        Kind::Deep => {
            let depth = rng.usize(100..60_000);
            let open = pick(rng, &["[", "{\"a\":", "[[{\"b\":"]).repeat(depth);
            let close = if rng.bool() { String::new() } else { "]".repeat(depth) };
            let (before, after) = if rng.bool() { ("{\"model\":\"r\",\"messages\":", "}") } else { ("", "") };
            good = format!("{before}{open}{close}{after}").into_bytes();
        }
        Kind::Noise => good = (0..rng.usize(..2000)).map(|_| rng.u8(..)).collect(),
        Kind::Spelling => {
            let odd = [
                "\u{feff}{}",
                "null",
                "[]",
                "\"text\"",
                "7",
                "",
                " ",
                "{\"model\":\"\\ud800\"}",
                "{\"model\":'r'}",
                "{\"model\":\"r\",}",
                "{\"model\":\"r\"}{}",
                "{\"model\":NaN}",
                "{\"model\":01}",
                "{\"model\":\"a\nb\"}",
                "{\"\\u0000\":1}",
                "// {}",
            ];
            good = pick(rng, &odd).as_bytes().to_vec();
            if rng.u8(..4) == 0 {
                good.extend_from_slice(b"\xc3\x28");
            }
        }
        _ => {}
    }
    good
}

/// The bytes of a request, and whether more of it would have to come.
fn bytes(kind: Kind, rng: &mut Rng) -> (Vec<u8>, bool) {
    let chat = |headers: &[(&str, &str)]| request("POST", "/v1/chat/completions", headers, Some(GOOD.as_bytes()));
    let raw = |text: &str| text.as_bytes().to_vec();
    match kind {
        Kind::Header => {
            let long = "x".repeat(rng.usize(10_000..200_000));
            let many: String = (0..rng.usize(100..2000)).map(|n| format!("x-{n}: y\r\n")).collect();
            let bytes = match rng.u8(..9) {
                0 => chat(&[("x-long", &long)]),
                1 => chat(&[(&long, "x")]),
                2 => raw(&format!("POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\n{many}content-length: 2\r\n\r\n{{}}")),
                3 => chat(&[("authorization", "Bearer \u{7f}\u{1}"), ("traceparent", "00-zz-zz-zz")]),
                4 => chat(&[("episode-id", "not-a-uuid")]),
                5 => raw("POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nx-nul: a\0b\r\ncontent-length: 2\r\n\r\n{}"),
                6 => raw("POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\n folded: x\r\ncontent-length: 2\r\n\r\n{}"),
                7 => raw("POST /v1/chat/completions HTTP/1.1\r\nhost : g\r\nno colon\r\ncontent-length: 2\r\n\r\n{}"),
                _ => {
                    chat(&[("content-encoding", "gzip"), ("connection", "upgrade"), ("upgrade", "websocket"), ("x-forwarded-for", "::::")])
                }
            };
            (bytes, false)
        }
        Kind::Framing => {
            let headers = [
                "content-length: 2\r\ntransfer-encoding: chunked\r\n",
                "content-length: 2\r\ncontent-length: 3\r\n",
                "content-length: 2, 2\r\n",
                "content-length: +2\r\n",
                "content-length: 0x2\r\n",
                "content-length: 18446744073709551616\r\n",
                "content-length: 999999999\r\n",
                "transfer-encoding: gzip\r\n",
                "transfer-encoding: gzip, chunked\r\n",
                "transfer-encoding: chunked, chunked\r\n",
                "transfer-encoding: xchunked\r\n",
                "transfer-encoding:\x0bchunked\r\n",
                "",
            ];
            (raw(&format!("POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\n{}\r\n{{}}", pick(rng, &headers))), true)
        }
        Kind::Chunks => {
            let chunks = [
                "zz\r\n{}\r\n0\r\n\r\n",
                "-2\r\n{}\r\n0\r\n\r\n",
                "2\r\n{}XX0\r\n\r\n",
                "2\n{}\n0\n\n",
                "fffffffffffffffff\r\n{}",
                "ffffffffffffffff\r\n{}",
                "2;ext=\"\r\n{}\r\n0\r\n\r\n",
                "2\r\n{}\r\n",
                "2\r\n{}\r\n0\r\n",
                "0\r\nx: y\r\n\r\n",
                "\r\n\r\n",
                "2\r\n{}\r\n0\r\nbad trailer\r\n\r\n",
                "1\r\n{\r\n1\r\n}\r\n0\r\n\r\n",
            ];
            (
                raw(&format!("POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\n{}", pick(rng, &chunks))),
                true,
            )
        }
        Kind::RequestLine => {
            let long = format!("GET /v1/models/{} HTTP/1.1\r\nhost: g\r\n\r\n", "a".repeat(rng.usize(1000..100_000)));
            let lines = [
                "GARBAGE\r\n\r\n",
                "\r\n\r\n",
                "GET\r\n\r\n",
                "GET / HTTP/9.9\r\n\r\n",
                "GET /v1/models HTTP/1.1\r\n\r\n",
                "GET /v1/models HTTP/1.0\r\n\r\n",
                "POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\n\r\n",
                "get /v1/models HTTP/1.1\r\nhost: g\r\n\r\n",
                "GET /v1/models/%00%ff..%2f HTTP/1.1\r\nhost: g\r\n\r\n",
                "GET http://evil.example/v1/models HTTP/1.1\r\nhost: g\r\n\r\n",
                "CONNECT evil.example:443 HTTP/1.1\r\nhost: g\r\n\r\n",
                "OPTIONS * HTTP/1.1\r\nhost: g\r\n\r\n",
                "TRACE / HTTP/1.1\r\nhost: g\r\n\r\n",
                "HEAD /v1/chat/completions HTTP/1.1\r\nhost: g\r\nconnection: close\r\n\r\n",
                "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnonsense that is no frame",
                "\x16\x03\x01\x02\x00\x01\x00\x01\u{7f}",
                "GET /v1/models?x=\0 HTTP/1.1\r\nhost: g\r\n\r\n",
                &long,
            ];
            (raw(pick(rng, &lines)), true)
        }
        Kind::ShortBody => {
            let mut bytes = chat(&[]);
            bytes.truncate(bytes.len() - rng.usize(1..GOOD.len()));
            (bytes, true)
        }
        _ => {
            let body = body(kind, rng);
            (request("POST", "/v1/chat/completions", &[], Some(&body)), false)
        }
    }
}

/// What a client may be told.
fn judge(kind: Kind, sent: &[u8], answer: &Answer) -> &'static str {
    let show = || format!("{kind:?}: {:?} -> {} {}", String::from_utf8_lossy(&sent[..sent.len().min(600)]), answer.status(), answer.text());
    match answer.status() {
        200 => {
            assert!(
                answer.json()["object"] == "chat.completion" || answer.json()["object"] == "list" || answer.text().starts_with("data: "),
                "{}",
                show()
            );
            "good after all"
        }
        400..500 if error_message(answer.status(), &answer.body).is_some() => "refused",
        // The simulator refuses some of what is passed on; the gateway's own failures would be a 500.
        502..=504 if error_message(answer.status(), &answer.body).is_some() => "failed upstream",
        _ => panic!("{}", show()),
    }
}

async fn client(gateway: &Gateway, seed: u64, next: &AtomicUsize) -> BTreeMap<&'static str, usize> {
    let mut rng = Rng::with_seed(seed);
    let mut told = BTreeMap::new();
    let mut conn: Option<Conn> = None;
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= REQUESTS {
            return told;
        }
        let kind = KINDS[number % KINDS.len()];
        let (sent, open_ended) = bytes(kind, &mut rng);
        // One connection takes many requests, as long as it stays open.
        let mut current = match conn.take() {
            Some(conn) => conn,
            None => gateway.connect().await,
        };
        let _ = current.send(&sent).await; // it may be hung up on in the middle
        if open_ended {
            let _ = current.writer.shutdown().await;
        }
        let head = sent.starts_with(b"HEAD");
        let outcome = match if head { Err(std::io::ErrorKind::Other.into()) } else { current.answer().await } {
            Ok(answer) => {
                let what = judge(kind, &sent, &answer);
                let kept = !answer.header("connection").eq_ignore_ascii_case("close") && !open_ended;
                conn = kept.then_some(current);
                what
            }
            Err(_) => "hung up on",
        };
        *told.entry(outcome).or_default() += 1;
    }
}

/// A client with nothing to be ashamed of.
async fn neighbour(gateway: &Gateway, over: &AtomicBool, h2: bool) -> usize {
    let mut served = 0;
    let mut conn = gateway.connect().await;
    let shared = H2::connect(gateway.listen).await;
    while !over.load(Ordering::Relaxed) {
        let body = streamed("r");
        let events = if h2 {
            let whole = http2::whole(shared.chat(&[], chat("r").to_string().into()).await.unwrap()).await.unwrap();
            assert!(whole.content().contains("hello there"));
            Events::h2(shared.chat(&[], body.to_string().into()).await.unwrap().into_body())
        } else {
            conn.chat(&[], chat("r").to_string().as_bytes()).await;
            assert!(conn.answer().await.unwrap().content().contains("hello there"));
            Events::of(gateway.open(&body).await).await
        };
        let story = events.all().await;
        assert!(story.done && !story.broken && story.content.contains("hello there"), "{story:?}");
        served += 2;
    }
    served
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_of_them_and_nobody_else_notices() {
    let sim = Sim::start().await;
    let config = sim.config("body_timeout: 1s, header_timeout: 1s", "retry: { attempts: 1 }");
    let mut gateway = Gateway::start(&config).await;
    let (next, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let clients = async {
        let all = futures::future::join_all((0..CLIENTS as u64).map(|seed| client(&gateway, seed, &next))).await;
        over.store(true, Ordering::Relaxed);
        all
    };
    let (told, by_h1, by_h2) = tokio::join!(clients, neighbour(&gateway, &over, false), neighbour(&gateway, &over, true));
    let mut sum = BTreeMap::new();
    told.into_iter().flatten().for_each(|(what, count)| *sum.entry(what).or_insert(0) += count);
    println!("{sum:?}; the neighbours: {by_h1} and {by_h2}");
    assert_eq!(sum.values().sum::<usize>(), REQUESTS);
    assert!(sum["refused"] > REQUESTS / 3 && by_h1 > 0 && by_h2 > 0, "{sum:?}");
    assert!(gateway.lives());
    assert_eq!(gateway.chat(&chat("r")).await.status(), 200);
    assert!(gateway.metrics().await.contains("tidegate_requests_total{"));
    assert!(!gateway.output.text().contains("panicked"), "{}", gateway.output.text());
}
