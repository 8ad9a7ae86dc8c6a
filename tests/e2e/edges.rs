//! The edges of HTTP on the client's side: what a client may do and seldom does.

use crate::harness::gateway::{Gateway, Setup};
use crate::harness::http1::{Conn, request};
use crate::harness::http2::{self, H2};
use crate::harness::sim::Sim;
use crate::harness::tls::{Certificates, connect};
use crate::harness::{chat, config, soon, streamed};
use http_body_util::Full;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// A gateway before the simulator.
pub async fn simulated(sim: &Sim, server: &str) -> Gateway {
    Gateway::start(&config(server, ("sim", &sim.provider()), "s/*", "")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_is_kept_longer_than_a_head_may_take() {
    let sim = Sim::start().await;
    let gateway = simulated(&sim, "header_timeout: 300ms").await;
    let mut conn = gateway.connect().await;
    for _ in 0..2 {
        assert_eq!(conn.get("/v1/models", &[]).await.status(), 200);
        tokio::time::sleep(Duration::from_millis(1500)).await;
    }
    assert_eq!(conn.get("/v1/models", &[]).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_come_before_their_turn_are_answered_in_turn() {
    let sim = Sim::start().await;
    let gateway = simulated(&sim, "").await;
    let ask = |model: &str| request("POST", "/v1/chat/completions", &[], Some(chat(model).to_string().as_bytes()));
    let mut conn = gateway.connect().await;
    let models = request("GET", "/v1/models", &[], None);
    conn.send(&[ask("s/one"), ask("s/two"), models.clone(), models].concat()).await.unwrap();
    for model in ["s/one", "s/two"] {
        let answer = conn.answer().await.unwrap();
        assert_eq!((answer.status(), answer.json()["model"].as_str()), (200, Some(model)));
    }
    for _ in 0..2 {
        assert_eq!(conn.answer().await.unwrap().json()["object"], "list");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_beyond_the_bound_and_methods_of_other_protocols_have_the_error_shape() {
    let sim = Sim::start().await;
    let gateway = simulated(&sim, "").await;
    let wide = "w".repeat(100_000);
    let answer = gateway.get("/v1/models", &[("x-wide", &wide)]).await;
    answer.error();
    assert_eq!(answer.status(), 431);
    let answer = gateway.send(b"CONNECT somewhere.example:443 HTTP/1.1\r\nhost: somewhere.example:443\r\n\r\n").await;
    answer.error();
    assert_eq!(answer.status(), 404);
    // No body follows the answer to a HEAD, or the next answer would not be readable.
    let mut conn = gateway.connect().await;
    for (path, status) in [("/v1/models", 200), ("/v1/models/s/m", 200), ("/v1/chat/completions", 405), ("/", 200), ("/x", 404)] {
        conn.send(&request("HEAD", path, &[], None)).await.unwrap();
        assert_eq!(conn.head().await.unwrap().status, status, "{path}");
        assert_eq!(conn.get("/v1/models", &[]).await.status(), 200);
        let h2 = H2::connect(gateway.listen).await;
        let head = http::Request::head(format!("http://gateway{path}")).body(Full::default()).unwrap();
        let answer = http2::whole(h2.send(head).await.unwrap()).await.unwrap();
        assert_eq!((answer.status(), answer.body.len()), (status, 0), "{path}");
        assert_eq!(answer.header("content-length") == "0", path == "/", "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_says_nothing_is_hung_up_on() {
    let (sim, certificates) = (Sim::start().await, Certificates::new());
    let gateway = Setup::new(&sim.config("header_timeout: 300ms", "")).tls(&certificates).start().await;
    let mut byte = [0];
    let mut plain = TcpStream::connect(gateway.listen).await.unwrap();
    assert!(matches!(soon("the end of a silent connection", plain.read(&mut byte)).await, Ok(0) | Err(_)));
    let mut no_handshake = TcpStream::connect(gateway.secure).await.unwrap();
    assert!(matches!(soon("the end of a handshake that does not begin", no_handshake.read(&mut byte)).await, Ok(0) | Err(_)));
    let mut short = Conn::connect(gateway.listen).await;
    short.send(b"GET / HTTP").await.unwrap();
    let answer = short.answer().await.unwrap();
    assert_eq!((answer.status(), answer.error().is_empty()), (408, false));
    assert!(short.closed().await.is_empty());
    let mut secure = connect(gateway.secure, &certificates.ca, &["h2"]).await.unwrap();
    let mut rest = Vec::new();
    let _ = soon("the end of a silent HTTP/2 connection", secure.read_to_end(&mut rest)).await;
    // One that does speak is served for longer than that.
    let client = H2::connect(gateway.listen).await;
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert_eq!(client.chat(&[], chat("r").to_string().into()).await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_is_left_at_last() {
    let sim = Sim::start().await;
    let gateway = simulated(&sim, "body_timeout: 500ms").await;
    let client = H2::connect(gateway.listen).await;
    let stream = client.chat(&[], streamed("s/m+chunks=20000").to_string().into()).await.unwrap();
    gateway.output.line("\"ended_by\":\"client\"").await;
    drop(stream);
    assert_eq!(gateway.metric("tidegate_in_flight_requests{route=\"s/*\"}").await, 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_client_reads_until_the_connection_ends() {
    let sim = Sim::start().await;
    let gateway = simulated(&sim, "").await;
    for body in [streamed("s/m"), chat("s/m")] {
        let body = body.to_string();
        let mut conn = gateway.connect().await;
        let head = format!("POST /v1/chat/completions HTTP/1.0\r\ncontent-length: {}\r\n\r\n", body.len());
        conn.send(&[head.as_bytes(), body.as_bytes()].concat()).await.unwrap();
        let text = String::from_utf8(conn.closed().await).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(" 200 ") && !head.contains("ransfer-"), "{head}");
        assert!(
            body.ends_with("data: [DONE]\n\n") && body.starts_with("data: {") || serde_json::from_str::<serde_json::Value>(body).is_ok(),
            "{body}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_body_of_unknown_length_costs_the_connection_only_where_it_has_not_come() {
    let sim = Sim::start().await;
    let gateway = simulated(&sim, "").await;
    let refused = "POST /v1/nothing HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut conn = gateway.connect().await;
    for _ in 0..2 {
        conn.send(format!("{refused}5\r\nhello\r\n0\r\n\r\n").as_bytes()).await.unwrap();
        assert_eq!(conn.answer().await.unwrap().status(), 404);
    }
    assert_eq!(conn.get("/v1/models", &[]).await.status(), 200);
    // One that goes on for long is let finish, so that the answer is read; then that was all.
    let mut conn = gateway.connect().await;
    conn.send(format!("{refused}5\r\nhello\r\n").as_bytes()).await.unwrap();
    let answer = conn.answer().await.unwrap();
    assert_eq!((answer.status(), answer.header("connection")), (404, "close"));
    let piece = [b"10000\r\n".to_vec(), vec![b'x'; 0x10000], b"\r\n".to_vec()].concat();
    for _ in 0..20 {
        conn.send(&piece).await.unwrap();
    }
    conn.send(b"0\r\n\r\n").await.unwrap();
    assert!(conn.closed().await.is_empty());
    // What is no chunk is told.
    for (path, status) in [("chat/completions", 400), ("nothing", 404)] {
        let mut conn = gateway.connect().await;
        let head = format!("POST /v1/{path} HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n");
        conn.send(head.as_bytes()).await.unwrap();
        let answer = conn.answer().await.unwrap();
        answer.error();
        assert_eq!(answer.status(), status);
        conn.closed().await; // what follows is no request
    }
}
