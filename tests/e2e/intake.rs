//! What arrives before a request is a request: framing, sizes, deadlines, methods, paths.

use crate::harness::chat;
use crate::harness::gateway::Gateway;
use crate::harness::http1::{Conn, request};
use crate::harness::http2::{self, H2};
use crate::harness::sim::Sim;
use crate::harness::soon;
use bytes::Bytes;
use tokio::io::AsyncWriteExt;

const MAX_BODY: usize = 64 << 10;

async fn gateway(server: &str) -> (Gateway, Sim) {
    let sim = Sim::start().await;
    (Gateway::start(&sim.config(&format!("max_body: 64KiB, {server}"), "")).await, sim)
}

fn good() -> Vec<u8> {
    chat("r").to_string().into_bytes()
}

/// The connection still serves.
async fn still_serves(conn: &mut Conn) {
    conn.chat(&[], &good()).await;
    assert_eq!(conn.answer().await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_asks_first_is_told_to_go_on() {
    let (gateway, _sim) = gateway("").await;
    let mut conn = gateway.connect().await;
    for _ in 0..3 {
        let whole = request("POST", "/v1/chat/completions", &[("expect", "100-continue")], Some(&good()));
        let (head, body) = whole.split_at(whole.len() - good().len());
        conn.send(head).await.unwrap();
        assert_eq!(conn.head().await.unwrap().status, 100);
        conn.send(body).await.unwrap();
        assert_eq!(conn.answer().await.unwrap().status(), 200);
    }
    still_serves(&mut conn).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_beyond_the_bound_is_refused_however_it_is_framed() {
    let (gateway, sim) = gateway("").await;
    let large = vec![b' '; MAX_BODY + 1];
    // A length that says so: the answer needs no body.
    let answer = gateway.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\ncontent-length: 65537\r\n\r\n").await;
    assert_eq!((answer.status(), answer.error().contains("65536")), (413, true));
    // The same, asked first: no interim answer.
    let mut conn = gateway.connect().await;
    conn.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nexpect: 100-continue\r\ncontent-length: 99999999\r\n\r\n").await.unwrap();
    assert_eq!(conn.head().await.unwrap().status, 413);
    // The same with all of the body.
    let mut conn = gateway.connect().await;
    conn.chat(&[], &large).await;
    assert_eq!(conn.answer().await.unwrap().status(), 413);
    // Chunks that add up.
    let mut conn = gateway.connect().await;
    conn.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
    for piece in large.chunks(4096) {
        conn.send(format!("{:x}\r\n", piece.len()).as_bytes()).await.unwrap();
        conn.send(piece).await.unwrap();
        conn.send(b"\r\n").await.unwrap();
    }
    let answer = conn.answer().await.unwrap();
    assert_eq!((answer.status(), answer.error().is_empty()), (413, false));
    // HTTP/2, where hyper sends the length, and the largest body that is not too large.
    let h2 = H2::connect(gateway.listen).await;
    let answer = http2::whole(h2.chat(&[], large.clone().into()).await.unwrap()).await.unwrap();
    assert_eq!((answer.status(), answer.error().is_empty()), (413, false));
    let mut fits = good();
    fits.resize(MAX_BODY, b' ');
    let answer = http2::whole(h2.chat(&[], fits.clone().into()).await.unwrap()).await.unwrap();
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let mut conn = gateway.connect().await;
    conn.chat(&[], &fits).await;
    assert_eq!(conn.answer().await.unwrap().status(), 200);
    assert_eq!(sim.count(), 2, "nothing that was refused went on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_length_that_lies_harms_its_own_connection_only() {
    let (gateway, sim) = gateway("").await;
    // Less than announced, then the end: nobody is left to answer.
    let mut conn = gateway.connect().await;
    conn.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\ncontent-length: 500\r\n\r\n{\"model\"").await.unwrap();
    conn.writer.shutdown().await.unwrap();
    conn.closed().await;
    // More than announced: the rest is no request.
    let mut conn = gateway.connect().await;
    let body = good();
    let mut bytes = request("POST", "/v1/chat/completions", &[], Some(&body));
    bytes.extend_from_slice(b"and more that is no request\r\n\r\n");
    conn.send(&bytes).await.unwrap();
    assert_eq!(conn.answer().await.unwrap().status(), 200);
    conn.closed().await;
    // Lengths that are none, or two.
    for lengths in [
        "content-length: 12x\r\n",
        "content-length: -1\r\n",
        "content-length: 5\r\ncontent-length: 6\r\n",
        "content-length: 99999999999999999999999999\r\n",
    ] {
        let mut conn = gateway.connect().await;
        conn.send(format!("POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\n{lengths}\r\n{{}}").as_bytes()).await.unwrap();
        conn.writer.shutdown().await.unwrap();
        if let Ok(answer) = conn.answer().await {
            assert!((400..500).contains(&answer.status()), "{lengths}: {}", answer.status());
        }
    }
    still_serves(&mut gateway.connect().await).await;
    assert_eq!(sim.count(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_body_is_a_408_and_so_is_a_slow_head() {
    let (gateway, _sim) = gateway("body_timeout: 300ms, header_timeout: 1s").await;
    for part in [&b""[..], b"{\"model\""] {
        let mut conn = gateway.connect().await;
        conn.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\ncontent-length: 100\r\n\r\n").await.unwrap();
        conn.send(part).await.unwrap();
        let answer = conn.answer().await.unwrap();
        assert_eq!((answer.status(), answer.error().is_empty()), (408, false));
    }
    // A body that never stops coming, one byte at a time, is slow as well.
    let conn = gateway.connect().await;
    let (mut reader, mut writer) = (conn.reader, conn.writer);
    let drip = tokio::spawn(async move {
        let head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\n";
        writer.write_all(head).await.unwrap();
        while writer.write_all(b"1\r\n \r\n").await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    });
    assert_eq!(reader.answer().await.unwrap().status(), 408);
    drip.abort();
    // A head that never ends.
    let conn = gateway.connect().await;
    let (mut reader, mut writer) = (conn.reader, conn.writer);
    let drip = tokio::spawn(async move {
        writer.write_all(b"POST /v1/chat/completions HTTP/1.1\r\n").await.unwrap();
        while writer.write_all(b"x-more: 1\r\n").await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    });
    assert_eq!(reader.answer().await.unwrap().status(), 408);
    soon("the end of the dripping", drip).await.unwrap();
    // And the same after a request that was good.
    let mut conn = gateway.connect().await;
    still_serves(&mut conn).await;
    still_serves(&mut conn).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_be_read_in_two_ways_is_not_read() {
    let (gateway, sim) = gateway("").await;
    let body = chat("r").to_string();
    for head in [
        format!("content-length: {}\r\ntransfer-encoding: chunked\r\n", body.len()),
        "transfer-encoding: chunked\r\ncontent-length: 3\r\n".to_owned(),
    ] {
        let mut conn = gateway.connect().await;
        let text = format!("POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\n{head}\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
        conn.send(text.as_bytes()).await.unwrap();
        let answer = conn.answer().await.unwrap();
        assert_eq!(answer.status(), 400, "{head}");
        conn.closed().await; // what follows could be anybody's
    }
    let length = body.len();
    for (head, names) in [
        (format!("host: g\r\ncontent-length: {length}, {length}\r\n"), "Content-Length"),
        (format!("host: g\r\ncontent-length: {length}\r\ncontent-length: {length}\r\n"), "Content-Length"),
        ("host: g\r\ntransfer-encoding: gzip, chunked\r\n".to_owned(), "Transfer-Encoding"),
        ("host: g\r\ntransfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n".to_owned(), "Transfer-Encoding"),
        (format!("content-length: {length}\r\n"), "Host"),
        (format!("host: \r\ncontent-length: {length}\r\n"), "Host"),
    ] {
        let answer = gateway.send(format!("POST /v1/chat/completions HTTP/1.1\r\n{head}\r\n{body}").as_bytes()).await;
        assert_eq!((answer.status(), answer.error().contains(names)), (400, true), "{head}");
    }
    let mut conn = gateway.connect().await;
    conn.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\n\r\n").await.unwrap();
    let answer = conn.answer().await.unwrap();
    assert_eq!((answer.status(), answer.error().contains("Content-Length")), (411, true));
    still_serves(&mut conn).await;
    let h2 = H2::connect(gateway.listen).await;
    let answer = http2::whole(h2.chat(&[], Bytes::new()).await.unwrap()).await.unwrap();
    assert_eq!((answer.status(), answer.error().contains("object")), (400, true));
    for coding in ["gzip", "br", "zstd", "gzip, identity"] {
        let answer = gateway.chat_as(&[("content-encoding", coding)], &chat("r")).await;
        assert_eq!((answer.status(), answer.error().contains("Content-Encoding")), (415, true));
    }
    assert_eq!(sim.count(), 1);
    assert_eq!(gateway.chat_as(&[("content-encoding", "identity")], &chat("r")).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paths_and_methods_that_are_not_there() {
    let (gateway, _sim) = gateway("").await;
    let mut conn = gateway.connect().await;
    for (method, path, status, allow) in [
        ("GET", "/", 404, ""),
        ("POST", "/v1/edits", 404, ""),
        ("POST", "/v1/chat/completions/", 404, ""),
        ("GET", "/metrics", 404, ""),
        ("GET", "/status", 404, ""),
        ("GET", "/v1/models/", 404, ""),
        ("GET", "/v1/models/no-such-route", 404, ""),
        ("GET", "/v1/chat/completions", 405, "POST"),
        ("DELETE", "/v1/chat/completions", 405, "POST"),
        ("POST", "/v1/models", 405, "GET, HEAD"),
        ("PUT", "/v1/models/r", 405, "GET, HEAD"),
    ] {
        let body = if method == "GET" { None } else { Some(&b"{}"[..]) };
        conn.send(&request(method, path, &[], body)).await.unwrap();
        let answer = conn.answer().await.unwrap();
        assert!(allow.is_empty() || answer.error() == format!("Use {} here.", allow.replace(", ", " or ")), "{}", answer.error());
        assert_eq!((answer.status(), answer.header("allow")), (status, allow), "{method} {path}");
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(answer.header("x-request-id").len(), 36);
    }
    still_serves(&mut conn).await;
    // The admin listener has its own pages and nothing else.
    for path in ["/v1/models", "/v1/chat/completions"] {
        assert_eq!(gateway.page(path).await.status(), 404);
    }
    let mut admin = Conn::connect(gateway.admin).await;
    admin.send(b"GET /status HTTP/1.1\r\nhost: evil.example\r\n\r\n").await.unwrap();
    assert_eq!(admin.answer().await.unwrap().status(), 421, "a name that leads to this machine");
    admin.send(&request("POST", "/status", &[], Some(b"{}"))).await.unwrap();
    let refusal = admin.answer().await.unwrap();
    assert_eq!((refusal.status(), refusal.header("allow"), refusal.text().as_str()), (405, "GET, HEAD", ""));
    for path in ["/healthz", "/readyz", "/status", "/metrics"] {
        assert_eq!(gateway.page(path).await.status(), 200);
    }
}
