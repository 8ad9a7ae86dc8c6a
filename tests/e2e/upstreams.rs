//! What a provider may send and seldom does, and what becomes of an attempt whose client leaves.

use crate::edges::simulated;
use crate::harness::gateway::Gateway;
use crate::harness::http1::Conn;
use crate::harness::http2::H2;
use crate::harness::manual::{Exchange, Manual, whole};
use crate::harness::sim::Sim;
use crate::harness::sse::Events;
use crate::harness::{COMPLETION, chat, config, soon, streamed, until};
use bytes::Bytes;
use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

/// A gateway before an upstream that is played by hand.
async fn by_hand(manual: &Manual, retry: &str) -> Gateway {
    Gateway::start(&manual.config("", &format!("retry: {{ {retry} }}"))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_without_a_body_is_what_its_status_says() {
    let manual = Manual::start().await;
    let gateway = by_hand(&manual, "attempts: 1").await;
    for (head, status, wait) in [
        ("429 Too Many Requests\r\nretry-after: 7", 429, "7"),
        ("401 Unauthorized", 502, ""),
        ("503 Service Unavailable", 503, ""),
        ("302 Found\r\nlocation: http://elsewhere.example/", 502, ""),
        ("204 No Content", 502, ""),
        ("200 OK", 502, ""),
    ] {
        let mut conn = gateway.open(&chat("hand")).await;
        let mut exchange = manual.accept().await;
        let length = if head.starts_with("204") { "" } else { "content-length: 0\r\n" };
        exchange.write(format!("HTTP/1.1 {head}\r\nconnection: close\r\n{length}\r\n").as_bytes()).await;
        let answer = conn.answer().await.unwrap();
        answer.error();
        assert_eq!((answer.status(), answer.header("retry-after")), (status, wait), "{head}: {}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_blames_the_clients_own_field_and_says_when_to_come_back() {
    let manual = Manual::start().await;
    let gateway = by_hand(&manual, "attempts: 1").await;
    let blame = r#"{"error":{"message":"bad pattern","type":"BadRequestError","param":"structured_outputs","code":400}}"#;
    let date = "retry-after: Fri, 31 Dec 2100 23:59:59 GMT\r\n"; // and no `date` to compare it with
    for (status, header, body, param, wait) in [(400, "", blame, "guided_regex", ""), (429, date, "{}", "", "86400")] {
        let mut request = chat("hand");
        request["guided_regex"] = "a(".into();
        let mut conn = gateway.open(&request).await;
        let mut exchange = manual.accept().await;
        let head = format!("HTTP/1.1 {status} No\r\nconnection: close\r\n{header}content-length: {}\r\n\r\n", body.len());
        exchange.write((head + body).as_bytes()).await;
        let answer = conn.answer().await.unwrap();
        assert_eq!((answer.status(), answer.header("retry-after")), (status, wait), "{}", answer.text());
        assert_eq!(answer.json()["error"]["param"].as_str().unwrap_or_default(), param, "{}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_provider_may_send_besides_its_answer() {
    let manual = Manual::start().await;
    let gateway = by_hand(&manual, "attempts: 1").await;
    let whole = whole("200 OK", COMPLETION);
    let early = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n";
    let chunked = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\ntrailer: x\r\n\r\n{:x}\r\n{COMPLETION}\r\n0\r\nx: 1\r\n\r\n",
        COMPLETION.len()
    );
    let unbounded = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n{COMPLETION}");
    let coded = whole.replacen("content-type", "content-encoding: gzip\r\ncontent-type", 1).replace("{\"id\"", "\u{1f}\u{8b}\"id\"");
    let wide = whole.replacen("content-type", &format!("x-wide: {}\r\ncontent-type", "w".repeat(100_000)), 1);
    for (sent, status) in [(format!("{early}{whole}"), 200), (chunked, 200), (unbounded, 200), (wide, 200), (coded, 502)] {
        let mut conn = gateway.open(&chat("hand")).await;
        let mut exchange = manual.accept().await;
        exchange.write(sent.as_bytes()).await;
        drop(exchange);
        let answer = conn.answer().await.unwrap();
        assert_eq!(answer.status(), status, "{sent:.200}: {}", answer.text());
        assert!(!answer.head.headers.iter().any(|(name, _)| ["x-wide", "link", "trailer", "content-encoding"].contains(&&**name)));
    }
}

/// A client's connection and a provider's that have served a request; the latter waits in the gateway's pool.
async fn served(gateway: &Gateway, manual: &Manual) -> (Conn, Exchange) {
    let mut conn = gateway.open(&chat("hand")).await;
    let mut exchange = manual.accept().await;
    exchange.json("200 OK", COMPLETION).await;
    assert_eq!(conn.answer().await.unwrap().status(), 200);
    (conn, exchange)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_breaks_its_connections_is_not_asked_for_ever() {
    let manual = Manual::start().await;
    let gateway = by_hand(&manual, "attempts: 1").await;
    let mut clients = Vec::new();
    for _ in 0..6 {
        let conn = gateway.open(&chat("hand")).await;
        clients.push((conn, manual.accept().await));
    }
    let mut breaking = Vec::new();
    let mut conns = Vec::new();
    for (mut conn, mut exchange) in clients {
        exchange.json("200 OK", COMPLETION).await;
        assert_eq!(conn.answer().await.unwrap().status(), 200);
        breaking.push(tokio::spawn(exchange.reset_after_the_head()));
        conns.push(conn);
    }
    let conn = conns.last_mut().unwrap();
    conn.chat(&[], chat("hand").to_string().as_bytes()).await;
    assert_eq!(conn.answer().await.unwrap().status(), 502);
    // The first one and three more.
    let broken = || breaking.iter().filter(|task| task.is_finished()).count();
    until("the broken connections", async || (broken() >= 4).then_some(())).await;
    assert_eq!(broken(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooled_connection_that_closes_under_a_body_is_no_attempt() {
    let manual = Manual::start().await;
    let gateway = by_hand(&manual, "attempts: 1").await;
    let (mut conn, exchange) = served(&gateway, &manual).await;
    let mut request = chat("hand");
    request["messages"][0]["content"] = "more than a socket holds ".repeat(400_000).into();
    let body = request.to_string();
    let ((), mut exchange, ()) = tokio::join!(exchange.reset_after_the_head(), manual.accept(), conn.chat(&[], body.as_bytes()));
    assert_eq!(exchange.body["messages"], request["messages"]);
    exchange.json("200 OK", COMPLETION).await;
    assert_eq!(conn.answer().await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooled_connection_that_closes_within_an_answer_is_an_attempt() {
    for begun in ["HTTP/1.1 103 Early Hints\r\n\r\n", "HTTP/1.1 200 O"] {
        let manual = Manual::start().await;
        let gateway = by_hand(&manual, "attempts: 1").await;
        let (mut conn, mut exchange) = served(&gateway, &manual).await;
        conn.chat(&[], chat("hand").to_string().as_bytes()).await;
        exchange.again().await;
        exchange.write(begun.as_bytes()).await;
        drop(exchange);
        let answer = conn.answer().await.unwrap();
        assert_eq!(answer.status(), 502, "{begun}: {}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_asked_for_a_client_that_left_during_the_wait() {
    let manual = Manual::start().await;
    let gateway = by_hand(&manual, "attempts: 2, backoff: { initial: 500ms, max: 500ms }").await;
    let conn = gateway.open(&chat("hand")).await;
    let mut exchange = manual.accept().await;
    exchange.write(b"HTTP/1.1 500 Oops\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}").await;
    exchange.hung_up().await; // the attempt has failed
    drop(conn);
    let asked = tokio::spawn(async move { matches!(manual.connection().await.read(&mut [0]).await, Ok(1)) });
    gateway.output.line("\"ended_by\":\"client\"").await;
    tokio::time::sleep(Duration::from_millis(50)).await; // what was sent before has arrived by now
    assert!(!asked.is_finished() || !asked.await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_buffered_answer_that_nobody_waits_for_is_accounted() {
    let sim = Sim::start().await;
    let gateway = simulated(&sim, "").await;
    let conn = gateway.open(&chat("s/m+hang")).await;
    sim.request_for("m+hang").await;
    drop(conn);
    let series = "gen_ai_client_token_usage_total{provider=\"sim\",route=\"s/*\",team=\"anonymous\",token_type=\"input\"}";
    until("the prompt's tokens", async || (gateway.metric(series).await > 0.0).then_some(())).await;
    let attempts = "tidegate_upstream_attempts_total{operation=\"chat\",outcome=\"cancelled\",provider=\"sim\"}";
    assert_eq!(gateway.metric(attempts).await, 1.0);
    // A stream that is left counts as an attempt that was left, once.
    let mut conn = gateway.open(&streamed("s/n+chunks=10000+pace=20ms")).await;
    assert_eq!(conn.head().await.unwrap().status, 200);
    drop(conn);
    until("the second attempt", async || (gateway.metric(attempts).await == 2.0).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_pauses_is_not_taken_for_a_provider_that_does() {
    let manual = Manual::start().await;
    let provider = manual.provider().replace(" }", ", timeouts: { between_bytes: 300ms } }");
    let gateway = Gateway::start(&config("", ("manual", &provider), "hand", "")).await;
    let client = H2::connect(gateway.listen).await;
    let waiting = tokio::spawn(async move { (client.chat(&[], streamed("hand").to_string().into()).await.unwrap(), client) });
    let mut exchange = manual.accept().await;
    tokio::spawn(async move {
        exchange.begin().await;
        for _ in 0..200 {
            exchange.say(&"words ".repeat(5000)).await; // in all, more than the client's window
        }
        exchange.end().await;
    });
    let (answer, _client) = waiting.await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let story = Events::h2(answer.into_body()).all().await;
    assert!(story.done && !story.broken, "{:?}", story.error);
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_compressed_unasked_is_decoded_or_named() {
    let manual = Manual::start().await;
    let gateway = by_hand(&manual, "attempts: 1").await;
    let refusal = r#"{"error":{"message":"max_tokens is too large"}}"#;
    for (status, coding, body, says) in [
        ("200 OK", "GZIP", gzip(COMPLETION), "choices"),
        ("400 Bad Request", "gzip", gzip(refusal), "max_tokens is too large"),
        ("200 OK", "compress", gzip(COMPLETION), "content-encoding `compress`"),
        ("200 OK", "br", gzip(COMPLETION), "content-encoding `br`"),
        ("400 Bad Request", "compress", gzip(refusal), "the provider answered with status 400"),
    ] {
        let mut conn = gateway.open(&chat("hand")).await;
        let mut exchange = manual.accept().await;
        let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-encoding: {coding}\r\n");
        exchange.write(format!("{head}content-length: {}\r\n\r\n", body.len()).as_bytes()).await;
        exchange.write(&body).await;
        let answer = conn.answer().await.unwrap();
        assert!(answer.text().contains(says), "{status} {coding}: {}", answer.text());
        let expected = if status.starts_with("400") {
            400
        } else if says == "choices" {
            200
        } else {
            502
        };
        assert_eq!(answer.status(), expected, "{status} {coding}: {}", answer.text());
    }
    let mut events = String::new();
    for text in ["one ", "two"] {
        events += &format!(
            "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":null}}]}}\n\n"
        );
    }
    events += "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    let conn = gateway.open(&streamed("hand")).await;
    let mut exchange = manual.accept().await;
    exchange.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\ncontent-encoding: gzip\r\n\r\n").await;
    for piece in gzip(&events).chunks(9) {
        exchange.write(piece).await;
    }
    drop(exchange);
    let story = Events::of(conn).await.all().await;
    assert!(story.done && story.content == "one two", "{story:?}");
}

/// An HTTP/2 server that accepts a stream's first 16 KiB and then neither reads nor answers. Returns its address; each request's
/// end is sent.
async fn without_window() -> (SocketAddr, tokio::sync::mpsc::UnboundedReceiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (ended, ends) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let ended = ended.clone();
            tokio::spawn(async move {
                let mut connection = h2::server::Builder::new().initial_window_size(16 << 10).handshake::<_, Bytes>(stream).await.unwrap();
                while let Some(Ok((request, respond))) = connection.accept().await {
                    let ended = ended.clone();
                    tokio::spawn(async move {
                        let (mut body, _held) = (request.into_body(), respond);
                        while let Some(Ok(_)) = body.data().await {}
                        let _ = ended.send(()); // the test may be over
                    });
                }
            });
        }
    });
    (address, ends)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_an_http2_provider_does_not_read_ends_with_its_deadline() {
    let (address, mut ends) = without_window().await;
    let gateway = Gateway::start(&format!(
        "auth: none\nproviders: {{ p: {{ kind: vllm, http: \"2\", base_url: \"http://{address}/v1\" }} }}\nroutes:\n  \
         short: {{ targets: [ {{ provider: p, model: m }} ], retry: {{ attempts: 1 }}, timeouts: {{ first_byte: 300ms, between_bytes: 300ms }} }}\n  \
         long: {{ targets: [ {{ provider: p, model: m }} ], retry: {{ attempts: 1 }} }}\n"
    ))
    .await;
    for (route, header, said) in
        [("short", ("x-none", ""), "did not answer in time"), ("long", ("x-request-timeout", "0.3"), "`x-request-timeout`")]
    {
        let mut request = chat(route);
        request["messages"][0]["content"] = "x".repeat(200 << 10).into();
        let answer = gateway.chat_as(&[header], &request).await;
        assert_eq!((answer.status(), answer.header("x-tidegate-attempts")), (504, "1"), "{route}: {}", answer.text());
        assert!(answer.error().contains(said), "{route}: {}", answer.text());
        gateway.at_rest(route).await;
        soon("the stream's end", ends.recv()).await.unwrap();
    }
}
