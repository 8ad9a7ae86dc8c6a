//! Heartbeats of silent streams, with fail-over still open, and streams behind a real nginx with its stock settings.
//!
//! Times are scaled: nginx waits a second and a half where it would wait for a minute.

use crate::harness::dir::Dir;
use crate::harness::gateway::{Gateway, free_address};
use crate::harness::http1::{Conn, Head};
use crate::harness::http2::H2;
use crate::harness::manual::{Exchange, Manual};
use crate::harness::nginx::Nginx;
use crate::harness::sim::Sim;
use crate::harness::sse::{Events, Story};
use crate::harness::{chat, streamed, until};
use serde_json::{Value, json};
use std::net::SocketAddr;

/// A route `hand` to an upstream that is played by hand, with these settings of its own.
async fn gateway(manual: &Manual, server: &str, route: &str) -> Gateway {
    Gateway::start(&manual.config(server, &format!("retry: {{ attempts: 1 }}, {route}"))).await
}

/// Sends a request and reads the head of its answer.
async fn open(address: SocketAddr, body: &Value) -> (Head, Events) {
    let mut conn = Conn::connect(address).await;
    conn.chat(&[], body.to_string().as_bytes()).await;
    let head = conn.head().await.unwrap();
    (head, Events::h1(conn))
}

/// nginx with its stock settings in front of a gateway, whose silence it bears for 1.5 s.
async fn nginx(gateway: &Gateway) -> (Nginx, SocketAddr) {
    let address = free_address();
    let http = format!(
        "server {{ listen {address}; location / {{ proxy_http_version 1.1; proxy_set_header Connection \"\"; \
         proxy_read_timeout 1500ms; proxy_pass http://{}; }} }}",
        gateway.listen
    );
    (Nginx::start(Dir::new(), &http, address).await, address)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_target_is_replaced_behind_a_proxy_that_bears_less_silence() {
    let (sim, manual) = (Sim::start().await, Manual::start().await);
    let config = |keep_alive: &str| {
        format!(
            "auth: none\nserver: {{ keep_alive: {keep_alive} }}\nproviders:\n  silent: {}\n  sim: {}\nroutes:\n  r:\n    \
             targets: [ {{ provider: silent, model: m }} ]\n    fallback: [ {{ provider: sim, model: m }} ]\n    \
             timeouts: {{ first_byte: 3s, first_token: 3s }}\n",
            manual.provider(),
            sim.provider()
        )
    };
    for (keep_alive, h2) in [("100ms", false), ("100ms", true), ("0s", false)] {
        let gateway = Gateway::start(&config(keep_alive)).await;
        let (_nginx, address) = nginx(&gateway).await;
        let body = streamed("r");
        if h2 {
            let response = H2::connect(gateway.listen).await.chat(&[], body.to_string().into()).await.unwrap();
            let (status, mut events) = (response.status(), Events::h2(response.into_body()));
            events.comment().await;
            let story = events.all().await;
            assert!(status == 200 && story.done && story.finish == ["stop"], "{story:?}");
            continue;
        }
        let (head, mut events) = open(address, &body).await;
        if keep_alive == "0s" {
            assert_eq!(head.status, 504, "without heartbeats nginx gives up");
            continue;
        }
        assert_eq!((head.status, head.get("content-type")), (200, Some("text/event-stream; charset=utf-8")));
        assert!(head.get("x-request-id").is_some() && head.get("x-tidegate-provider").is_none(), "{head:?}");
        events.comment().await;
        let story = events.all().await;
        assert!(story.done && !story.broken && story.content.contains("hello there"), "{story:?}");
        assert_eq!((story.finish.len(), story.usage.len()), (1, 1));
        let line: Value = serde_json::from_str(&gateway.output.line("\"provider\":\"sim\"").await).unwrap();
        assert_eq!((&line["attempts"], &line["status"]), (&Value::from(2), &Value::from(200)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_within_an_answer_gets_heartbeats() {
    let manual = Manual::start().await;
    // The route's own word counts.
    let gateway = gateway(&manual, "keep_alive: 30d", "keep_alive: 50ms").await;
    let request = streamed("hand");
    let answer = manual.say("one");
    let (mut exchange, (_, mut events)) = tokio::join!(answer, open(gateway.listen, &request));
    let mut story = Story::default();
    for text in ["one", "onetwo"] {
        while story.content != text {
            story.take(&events.next().await.unwrap());
        }
        events.comment().await;
        events.comment().await;
        exchange.say("two").await;
    }
    exchange.end().await;
    let rest = events.all().await;
    assert!(rest.done && rest.content == "two", "{rest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_heartbeat_a_failure_comes_as_the_error_event() {
    const REFUSAL: &[u8] = b"HTTP/1.1 503 Busy\r\ncontent-length: 33\r\n\r\n{\"error\":{\"message\":\"come later\"}}";
    let manual = Manual::start().await;
    let gateway = gateway(&manual, "keep_alive: 50ms", "limits: [ { requests: 100, per: 1m } ]").await;
    let refuse = async |mut exchange: Exchange| exchange.write(REFUSAL).await;
    let hang_up = async |exchange: Exchange| drop(exchange);
    for refused in [true, false] {
        let request = streamed("hand");
        let (exchange, (head, mut events)) = tokio::join!(manual.accept(), open(gateway.listen, &request));
        assert_eq!((head.status, head.get("x-ratelimit-limit-requests")), (200, Some("100")));
        events.comment().await;
        if refused {
            refuse(exchange).await
        } else {
            hang_up(exchange).await
        }
        let story = events.all().await;
        assert!(!story.done && !story.broken && story.chunks.is_empty() && story.finish.is_empty(), "{story:?}");
        let error = story.error.unwrap();
        assert_eq!(error["code"], if refused { 503 } else { 502 }, "{error}");
        assert_eq!(error["type"], if refused { "overloaded_error" } else { "upstream_error" });
    }
    // Content instead of a heartbeat.
    let request = streamed("hand");
    let break_off = async {
        let mut exchange = manual.accept().await;
        exchange.begin().await;
        exchange.say("one").await;
    };
    let ((), (_, events)) = tokio::join!(break_off, open(gateway.listen, &request));
    assert!(events.all().await.error.is_some());
    for (status, count) in [(503, 1), (502, 2)] {
        let series = format!("tidegate_failed_streams_total{{operation=\"chat\",provider=\"manual\",route=\"hand\",status=\"{status}\",");
        let is_counted = |line: &str| line.starts_with(&series) && line.ends_with(&format!(" {count}"));
        until("the count of both", async || gateway.metrics().await.lines().any(is_counted).then_some(())).await;
    }
    let history = gateway.page("/status/history").await.json();
    assert_eq!((&history["routes"][0]["requests"], &history["routes"][0]["errors_5xx"]), (&json!([3]), &json!([3])), "{history}");
    gateway.at_rest("hand").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_buffered_request_gets_none_and_a_client_that_leaves_after_one_is_noticed() {
    let manual = Manual::start().await;
    let gateway = gateway(&manual, "keep_alive: 50ms", "").await;
    let mut buffered = gateway.open(&chat("hand")).await;
    let mut slow = manual.accept().await;
    // Heartbeats of another request show that time enough has passed.
    let request = streamed("hand");
    let (silent, (_, mut events)) = tokio::join!(manual.accept(), open(gateway.listen, &request));
    for _ in 0..4 {
        events.comment().await;
    }
    drop(events);
    silent.hung_up().await;
    const ANSWER: &str = r#"{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"late"}}]}"#;
    slow.json("200 OK", ANSWER).await;
    let answer = buffered.answer().await.unwrap();
    assert_eq!((answer.content().as_str(), answer.header("x-tidegate-provider")), ("late", "manual"));
    assert!(gateway.output.line("\"ended_by\":\"client\"").await.contains("\"status\":499"), "nothing had been answered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_pass_a_stock_nginx_one_by_one() {
    let manual = Manual::start().await;
    let gateway = gateway(&manual, "", "").await;
    let (_nginx, address) = nginx(&gateway).await;
    let request = streamed("hand");
    let answer = manual.say("0");
    let (mut exchange, (head, mut events)) = tokio::join!(answer, open(address, &request));
    assert_eq!(head.get("cache-control"), Some("no-cache"));
    let mut story = Story::default();
    for number in 1..6 {
        while !story.content.ends_with(&(number - 1).to_string()) {
            story.take(&events.next().await.unwrap());
        }
        exchange.say(&number.to_string()).await; // the next one exists only now
    }
    exchange.end().await;
    assert!(events.all().await.done);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_answer_may_take_longer_than_a_stream_may_be_silent() {
    let manual = Manual::start().await;
    // `first_token` and `between_bytes` are about streams; a buffered answer has until `first_byte`.
    let gateway = gateway(&manual, "keep_alive: 0s", "timeouts: { first_token: 300ms, between_bytes: 300ms }").await;
    let mut buffered = gateway.open(&chat("hand")).await;
    let mut slow = manual.accept().await;
    slow.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n").await;
    // A stream with the same deadlines shows that they have passed.
    let request = streamed("hand");
    let (_silent, (head, _)) = tokio::join!(manual.accept(), open(gateway.listen, &request));
    assert_eq!(head.status, 504);
    const ANSWER: &str = r#"{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"at last"}}]}"#;
    slow.write(format!("{:x}\r\n{ANSWER}\r\n0\r\n\r\n", ANSWER.len()).as_bytes()).await;
    assert_eq!(buffered.answer().await.unwrap().content(), "at last");
}
