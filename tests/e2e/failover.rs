//! The next target takes over without the client noticing: every size, protocol and way to fail, with the bytes that
//! arrive at the second target compared by their hash.

use crate::harness::gateway::{Gateway, free_port};
use crate::harness::http1::Conn;
use crate::harness::http2::{self, H2};
use crate::harness::sim::Sim;
use crate::harness::sse::Events;
use crate::harness::tls::Certificates;
use bytes::Bytes;
use http::Version;
use std::fmt::Write as _;
use tidegate::simulate::seen::sha256_hex;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Client {
    Length,
    Chunked,
    H2c,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Upstream {
    H1,
    H2Tls,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Status503,
    Refused,
    DieAfterHeaders,
    Stall,
    CommentStall,
}

#[derive(Clone, Copy, Debug)]
struct Case {
    number: usize,
    size: usize,
    client: Client,
    upstream: Upstream,
    fault: Fault,
    stream: bool,
}

const CLIENTS: [Client; 3] = [Client::Length, Client::Chunked, Client::H2c];
const UPSTREAMS: [Upstream; 2] = [Upstream::H1, Upstream::H2Tls];
const FAULTS: [Fault; 5] = [Fault::Status503, Fault::Refused, Fault::DieAfterHeaders, Fault::Stall, Fault::CommentStall];

impl Case {
    /// All of them: sizes by client, upstream and fault; a large body in one of the two modes only.
    fn all(sizes: &[usize], modes: &[bool]) -> Vec<Self> {
        let mut all = Vec::new();
        for &size in sizes {
            for client in CLIENTS {
                for upstream in UPSTREAMS {
                    for fault in FAULTS {
                        let turn = [all.len() % 2 == 1];
                        for &stream in if modes.is_empty() { &turn } else { modes } {
                            all.push(Self { number: all.len(), size, client, upstream, fault, stream });
                        }
                    }
                }
            }
        }
        all
    }

    /// The route of this case: its first target fails, its second is good. Without ejection, for cases share their targets.
    fn route(&self) -> String {
        let side = match self.upstream {
            Upstream::H1 => "plain",
            Upstream::H2Tls => "secure",
        };
        let (bad, trouble) = match self.fault {
            Fault::Status503 => (side, "status=503"),
            Fault::Refused => (["refused", "refused-tls"][usize::from(self.upstream == Upstream::H2Tls)], "status=503"),
            Fault::DieAfterHeaders => (side, "die-after-headers"),
            Fault::Stall => (side, "stall"),
            Fault::CommentStall => (side, "comment-stall"),
        };
        // Only what is meant to stall is hurried: reading a large body may take the simulator its time.
        let hurry = if matches!(self.fault, Fault::Stall | Fault::CommentStall) { "hurried-" } else { "" };
        format!(
            "  case-{}:\n    targets: [ {{ provider: {hurry}{bad}, model: \"bad+{trouble}\" }} ]\n    \
             fallback: [ {{ provider: good-{side}, model: good }} ]\n    \
             ejection: {{ failures: 0 }}\n",
            self.number
        )
    }

    /// The client's body, exactly as long as the case says, and what must arrive at the second target.
    fn bodies(&self) -> (Bytes, String, String) {
        let build = |model: &str, filling: &str| {
            let stream = if self.stream { r#","stream":true,"stream_options":{"include_usage":true}"# } else { "" };
            format!(
                r#"{{ "model" : "{model}","messages":[{{"role":"system","content":"{filling}"}},{{"role":"user","content":"Say {}"}}],"unknown":1e2{stream}}}"#,
                self.number
            )
        };
        let route = format!("case-{}", self.number);
        let filling = "wave ".repeat(self.size / 5 + 1);
        let room = self.size - build(&route, "").len();
        let body = build(&route, &filling[..room]);
        assert_eq!(body.len(), self.size);
        let spliced = |model: &str| sha256_hex(build(model, &filling[..room]).as_bytes());
        (body.into(), spliced("good"), spliced(self.route().split('"').nth(1).unwrap()))
    }
}

fn chunked(body: &[u8]) -> Vec<u8> {
    let mut out = b"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for chunk in body.chunks(100_003) {
        out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

/// Asks, reads the whole answer and returns its attempts and content.
async fn ask(gateway: &Gateway, case: &Case, body: Bytes) -> (String, String) {
    let (head, rest) = match case.client {
        Client::H2c => {
            let response = H2::connect(gateway.listen).await.chat(&[], body).await.unwrap();
            let head = http2::head(&response);
            if case.stream && head.status == 200 {
                (head, Ok(Events::h2(response.into_body())))
            } else {
                (head, Err(http2::whole(response).await.unwrap()))
            }
        }
        Client::Length | Client::Chunked => {
            let mut conn = Conn::connect(gateway.listen).await;
            if case.client == Client::Chunked {
                conn.send(&chunked(&body)).await.unwrap();
            } else {
                conn.chat(&[], &body).await;
            }
            if case.stream {
                let head = conn.head().await.unwrap();
                (head, Ok(Events::h1(conn)))
            } else {
                let answer = conn.answer().await.unwrap();
                (answer.head.clone(), Err(answer))
            }
        }
    };
    let attempts = head.get("x-tidegate-attempts").unwrap_or_default().to_owned();
    let content = match rest {
        Err(answer) => answer.content(),
        Ok(events) => {
            assert_eq!(head.status, 200, "{case:?}");
            let story = events.all().await;
            assert!(story.done && !story.broken && story.finish == ["stop"] && story.usage.len() == 1, "{case:?}: {story:?}");
            story.content
        }
    };
    (attempts, content)
}

/// Runs cases, `at_once` of them at a time, against one gateway.
async fn run(cases: Vec<Case>, at_once: usize) {
    let (good, bad, certificates) = (Sim::start().await, Sim::start().await, Certificates::new());
    let mut config = "auth: none\nproviders:\n".to_owned();
    let refused = format!("127.0.0.1:{}", free_port());
    let (plain, secure) = (bad.provider(), certificates.provider(bad.address()).await);
    let hurried = |provider: &str| {
        let times = "first_byte: 300ms, first_token: 300ms, between_bytes: 300ms";
        provider.strip_suffix(" }").map(|p| format!("{p}, timeouts: {{ {times} }} }}")).unwrap()
    };
    for (name, provider) in [
        ("hurried-plain", hurried(&plain)),
        ("hurried-secure", hurried(&secure)),
        ("plain", plain),
        ("secure", secure),
        ("good-plain", good.provider()),
        ("good-secure", certificates.provider(good.address()).await),
        ("refused", format!("{{ kind: vllm, base_url: \"http://{refused}/v1\" }}")),
        ("refused-tls", format!("{{ kind: vllm, base_url: \"https://{refused}/v1\" }}")),
    ] {
        writeln!(config, "  {name}: {provider}").unwrap();
    }
    config += "routes:\n";
    cases.iter().for_each(|case| config += &case.route());
    let gateway = Gateway::start(&config).await;
    let count = cases.len();
    let cases = tokio::sync::Mutex::new(cases.into_iter());
    let work = async || {
        loop {
            let Some(case) = cases.lock().await.next() else { return };
            let (body, at_good, at_bad) = case.bodies();
            let (attempts, content) = ask(&gateway, &case, body).await;
            assert_eq!(attempts, "2", "{case:?}");
            assert!(content.starts_with("Hello from good!"), "{case:?}: {content}");
            let version = if case.upstream == Upstream::H1 { Version::HTTP_11 } else { Version::HTTP_2 };
            let arrived = |sim: &Sim, hash: &str| sim.seen().iter().filter(|s| s.body.sha256() == hash && s.version == version).count();
            assert_eq!(arrived(&good, &at_good), 1, "{case:?}: not what should have arrived at the second target");
            match case.fault {
                Fault::Refused => assert_eq!(arrived(&bad, &at_bad), 0, "{case:?}"),
                // A large body may still be on its way there when the deadline passes.
                Fault::Stall | Fault::CommentStall if case.size > 1 << 20 => {}
                _ => assert_eq!(arrived(&bad, &at_bad), 1, "{case:?}: not what should have arrived at the first target"),
            }
        }
    };
    futures::future::join_all((0..at_once).map(|_| work())).await;
    println!("{count} cases passed");
    assert_eq!(good.count(), count);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_bodies_around_pingoras_own_buffer() {
    run(Case::all(&[1 << 10, (64 << 10) - 1, 64 << 10, (64 << 10) + 1], &[false, true]), 8).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies() {
    run(Case::all(&[5 << 20], &[]), 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_near_the_bound() {
    // Each pair of protocols with faults of its own, two of the five: reading JSON takes its time without optimisation.
    let all = Case::all(&[30 << 20], &[]).into_iter();
    run(all.filter(|c| c.number / FAULTS.len() % 3 == c.number % FAULTS.len() % 3).collect(), 2).await;
}
