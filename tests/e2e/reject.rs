//! What the parser refuses is answered, counted by its reason and logged with the client's address.

use crate::harness::gateway::{Gateway, Setup};
use crate::harness::http1::{Conn, request};
use crate::harness::sim::Sim;
use crate::harness::tls::{Certificates, connect};
use crate::harness::{chat, soon, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn gateway(server: &str) -> (Gateway, Sim, Certificates) {
    let (sim, certificates) = (Sim::start().await, Certificates::new());
    let gateway = Setup::new(&sim.config(server, "")).tls(&certificates).start().await;
    (gateway, sim, certificates)
}

async fn rejected(gateway: &Gateway, reason: &str) -> f64 {
    gateway.metric(&format!("tidegate_rejected_connections_total{{reason=\"{reason}\"}}")).await
}

/// Awaits that so many were counted.
async fn counted(gateway: &Gateway, reason: &str, count: f64) {
    until(reason, async || (rejected(gateway, reason).await == count).then_some(())).await;
}

/// The answer to a head that is no request.
async fn refused(conn: &mut Conn, status: u16, what: &str) {
    let answer = conn.answer().await.unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!((answer.status(), answer.error().is_empty()), (status, false), "{what}");
    assert_eq!((answer.header("server"), answer.header("connection")), ("", "close"), "{what}");
    assert_eq!(answer.header("x-request-id").len(), 36, "{what}");
    assert!(conn.closed().await.is_empty(), "{what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_is_refused_is_answered_counted_and_logged() {
    let (gateway, _sim, _certificates) = gateway("").await;
    let good = request("GET", "/v1/models", &[], None);
    let wide = format!("GET / HTTP/1.1\r\nhost: g\r\nx: {}", "w".repeat(80_000));
    let many = format!("GET / HTTP/1.1\r\nhost: g\r\n{}\r\n", "x: y\r\n".repeat(300));
    let cases = [
        ("GARBAGE\r\n\r\n", 400, "malformed"),
        ("GET / HTTP/1.1\r\nhost: g\r\nno colon\r\n\r\n", 400, "malformed"),
        ("POST / HTTP/1.1\r\nhost: g\r\ncontent-length: 1, 2\r\n\r\n", 400, "malformed"),
        ("POST / HTTP/1.0\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\n", 400, "malformed"),
        ("GET / HTTP/1.1\r\nhost: g\r\nx: y\r\n z\r\n\r\n", 400, "header_folding"),
        (many.as_str(), 431, "too_many_headers"),
        (wide.as_str(), 431, "headers_too_large"),
    ];
    for (number, (bytes, status, reason)) in cases.into_iter().enumerate() {
        let before = rejected(&gateway, reason).await;
        // Alone, after a request, and in the same piece as a request.
        for requests in 0..3 {
            let mut conn = gateway.connect().await;
            if requests == 1 {
                assert_eq!(conn.get("/v1/models", &[]).await.status(), 200);
            }
            let together = if requests == 2 { [&good[..], bytes.as_bytes()].concat() } else { bytes.as_bytes().to_vec() };
            let _ = conn.send(&together).await; // it may be answered before all is written
            if requests == 2 {
                assert_eq!(conn.answer().await.unwrap().status(), 200);
            }
            // The headers of a head that came with a request before it are not counted.
            let status = if requests == 2 && reason == "too_many_headers" { 400 } else { status };
            refused(&mut conn, status, &format!("case {number} after {requests}")).await;
        }
        let sum = ["malformed", "header_folding", "too_many_headers", "headers_too_large"];
        let mut all = 0.0;
        for reason in sum {
            all += rejected(&gateway, reason).await;
        }
        assert_eq!(all, 3.0 * (number + 1) as f64);
        assert!(rejected(&gateway, reason).await >= before + 2.0, "{reason}");
        let line = gateway.output.line(&format!("rejected, {reason}")).await;
        assert!(line.contains("connection from 127.0.0.1:") && line.contains(&format!("answered {status} with x-request-id")), "{line}");
    }
    assert_eq!(gateway.chat(&chat("r")).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_is_late_is_a_408_and_a_silent_connection_counts_for_nothing() {
    let (gateway, _sim, certificates) = gateway("header_timeout: 300ms").await;
    let mut silent = gateway.connect().await;
    assert!(silent.closed().await.is_empty());
    for (number, begin) in ["G", "GET / HTTP/1.1\r\nhost: g\r\n"].into_iter().enumerate() {
        let mut fresh = gateway.connect().await;
        fresh.send(begin.as_bytes()).await.unwrap();
        refused(&mut fresh, 408, begin).await;
        let mut reused = gateway.connect().await;
        assert_eq!(reused.get("/v1/models", &[]).await.status(), 200);
        reused.send(begin.as_bytes()).await.unwrap();
        refused(&mut reused, 408, begin).await;
        let mut secure = Conn::over(connect(gateway.secure, &certificates.ca, &[]).await.unwrap());
        secure.send(begin.as_bytes()).await.unwrap();
        refused(&mut secure, 408, begin).await;
        counted(&gateway, "header_timeout", 3.0 * (number + 1) as f64).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_within_a_head_is_counted_and_logged_once_a_second_as_a_warning() {
    let (gateway, _sim, certificates) = gateway("").await;
    let mut count = 0.0;
    for begin in ["G", "P", "GET / HTTP/1.1\r\nhost: g\r\n"] {
        for linger in [false, true] {
            let mut fresh = TcpStream::connect(gateway.listen).await.unwrap();
            fresh.write_all(begin.as_bytes()).await.unwrap();
            if linger {
                fresh.set_zero_linger().unwrap();
            } else {
                fresh.shutdown().await.unwrap();
            }
            drop(fresh);
            let mut reused = gateway.connect().await;
            assert_eq!(reused.get("/v1/models", &[]).await.status(), 200);
            reused.send(begin.as_bytes()).await.unwrap();
            drop(reused);
            count += 2.0;
        }
        let mut secure = Conn::over(connect(gateway.secure, &certificates.ca, &[]).await.unwrap());
        secure.send(begin.as_bytes()).await.unwrap();
        drop(secure);
        count += 1.0;
    }
    // One that sends nothing, or nothing more, counts for nothing, even where it resets its connection.
    let idle = TcpStream::connect(gateway.listen).await.unwrap();
    idle.set_zero_linger().unwrap();
    drop(idle);
    let mut reused = Conn::over(connect(gateway.secure, &certificates.ca, &[]).await.unwrap());
    assert_eq!(reused.get("/v1/models", &[]).await.status(), 200);
    reused.send(b"\r\n").await.unwrap();
    drop(reused);
    counted(&gateway, "incomplete", count).await;
    gateway.output.line("rejected, incomplete").await;
    assert_eq!(gateway.chat(&chat("r")).await.status(), 200);
    let text = gateway.output.text();
    assert!(!text.contains("\"level\":\"error\"") && (text.matches("rejected, incomplete").count() as f64) < count, "{text}");
    assert_eq!(rejected(&gateway, "incomplete").await, count);
}

/// An HTTP/2 frame of stream 1, or of the connection.
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream];
    bytes.extend(payload);
    bytes
}

/// An HTTP/2 connection whose settings have been acknowledged.
async fn http2(gateway: &Gateway) -> TcpStream {
    let (settings, ack) = (frame(4, 0, 0, &[]), frame(4, 1, 0, &[]));
    let mut conn = TcpStream::connect(gateway.listen).await.unwrap();
    conn.write_all(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &settings[..]].concat()).await.unwrap();
    let mut seen = Vec::new();
    while !seen.windows(ack.len()).any(|frame| frame == ack) {
        assert!(soon("the acknowledgement of the settings", conn.read_buf(&mut seen)).await.unwrap() > 0);
    }
    conn
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_block_that_never_ends_is_late_and_one_in_many_frames_is_too_large() {
    let (gateway, _sim, _certificates) = gateway("header_timeout: 300ms").await;
    let begin = frame(1, 1, 1, &[0x82, 0x86]); // :method GET, :scheme http, and more to come
    let mut seen = Vec::new();
    let mut conn = http2(&gateway).await;
    conn.write_all(&begin).await.unwrap();
    let (mut reader, mut writer) = conn.into_split();
    let drip = tokio::spawn(async move {
        let mut rest = frame(9, 4, 1, &[0; 255]).into_iter().cycle();
        while writer.write_all(&[rest.next().unwrap()]).await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    });
    let _ = soon("the end of the connection", reader.read_to_end(&mut seen)).await;
    counted(&gateway, "header_timeout", 1.0).await;
    soon("the end of the dripping", drip).await.unwrap();
    let mut conn = http2(&gateway).await;
    conn.write_all(&begin).await.unwrap();
    for _ in 0..6 {
        let _ = conn.write_all(&frame(9, 0, 1, &[])).await; // the last one may be too late
    }
    let _ = soon("the end of the connection", conn.read_to_end(&mut seen)).await;
    counted(&gateway, "headers_too_large", 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_only_looks_whether_a_tls_port_is_open_is_not_logged() {
    let (gateway, _sim, certificates) = gateway("").await;
    drop(TcpStream::connect(gateway.secure).await.unwrap());
    let reset = TcpStream::connect(gateway.secure).await.unwrap();
    reset.set_zero_linger().unwrap();
    drop(reset);
    // Connections are accepted in their order, so both have been looked at by then.
    assert!(connect(gateway.secure, &Certificates::new().ca, &["h2"]).await.is_err());
    let line = gateway.output.line("rejected, tls_handshake").await;
    assert!(line.contains("rejected, tls_handshake: received fatal alert"), "only the cause: {line}");
    assert!(!line.contains("more not logged") && gateway.output.text().matches("rejected, ").count() == 1, "{}", gateway.output.text());
    for reason in ["plain_on_tls_port", "malformed", "header_timeout"] {
        assert_eq!(rejected(&gateway, reason).await, 0.0, "{reason}");
    }
    assert!(connect(gateway.secure, &certificates.ca, &["h2"]).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_where_there_is_none_and_failed_handshakes_are_counted() {
    let (gateway, _sim, certificates) = gateway("header_timeout: 1s").await;
    assert!(connect(gateway.listen, &certificates.ca, &["h2"]).await.is_err());
    counted(&gateway, "tls_on_plain_port", 1.0).await;
    gateway.output.line("rejected, tls_on_plain_port").await;
    let mut plain = Conn::connect(gateway.secure).await;
    plain.send(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    refused(&mut plain, 400, "HTTP in the clear").await;
    counted(&gateway, "plain_on_tls_port", 1.0).await;
    // A client that does not trust the certificate, one that stops in the middle, and two that send nothing.
    assert!(connect(gateway.secure, &Certificates::new().ca, &["h2"]).await.is_err());
    counted(&gateway, "tls_handshake", 1.0).await;
    drop(TcpStream::connect(gateway.secure).await.unwrap());
    let mut silent = Conn::connect(gateway.secure).await;
    assert!(silent.closed().await.is_empty());
    let mut half = Conn::connect(gateway.secure).await;
    half.send(&[0x16, 3, 1, 0]).await.unwrap();
    half.closed().await;
    counted(&gateway, "tls_handshake", 2.0).await;
}
