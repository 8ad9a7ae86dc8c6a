//! The drain: what is still accepted, answered and closed, and when; rolling restarts.

use crate::edges::simulated;
use crate::harness::gateway::Gateway;
use crate::harness::http1::request;
use crate::harness::http2::H2;
use crate::harness::load::Load;
use crate::harness::manual::Manual;
use crate::harness::nginx::Nginx;
use crate::harness::sim::Sim;
use crate::harness::sse::{Events, Story};
use crate::harness::{chat, dir::Dir, gateway::free_address, streamed, until};
use bytes::Bytes;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_lets_streams_finish() {
    let manual = Manual::start().await;
    let mut gateway = Gateway::start(&manual.config("", "")).await;
    let conn = gateway.open(&streamed("hand")).await;
    let mut exchange = manual.say("one").await;
    let mut events = Events::of(conn).await;
    let mut story = Story::default();
    story.take(&events.next().await.unwrap());
    assert_eq!(gateway.page("/readyz").await.status(), 200);
    gateway.signal("TERM").await;
    until("readiness to end", async || (gateway.page("/readyz").await.status() == 503).then_some(())).await;
    assert_eq!(gateway.page("/healthz").await.status(), 200);
    exchange.say(" two").await;
    story.take(&events.next().await.unwrap());
    assert_eq!(story.content, "one two");
    assert!(gateway.lives());
    exchange.end().await;
    events.rest(&mut story).await;
    assert!(story.done && !events.broken);
    assert_eq!(gateway.exit().await.code(), Some(0));
    gateway.output.line("\"ended_by\":\"complete\"").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_can_be_interrupted() {
    let manual = Manual::start().await;
    let mut gateway = Gateway::start(&manual.config("", "")).await;
    let _conn = gateway.open(&streamed("hand")).await;
    let exchange = manual.accept().await;
    gateway.signal("TERM").await;
    gateway.output.line("draining").await;
    gateway.signal("INT").await;
    assert_eq!(gateway.exit().await.code(), Some(0));
    exchange.hung_up().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_outlasts_a_drain_is_told_and_accounted() {
    let manual = Manual::start().await;
    let mut gateway = Gateway::start(&manual.config("", "")).await;
    // The time that counts is the one in force when the drain begins.
    for (count, time) in ["1h", "200ms"].into_iter().enumerate() {
        gateway.reload(&manual.config(&format!("drain_timeout: {time}"), "")).await;
        gateway.reloaded(count + 1).await;
    }
    let mut plain = gateway.open(&streamed("hand")).await;
    let _first = manual.say("one").await;
    assert_eq!(plain.head().await.unwrap().status, 200);
    let client = H2::connect(gateway.listen).await;
    let (response, _second) = tokio::join!(client.chat(&[], streamed("hand").to_string().into()), manual.say("one"));
    let mut waiting = gateway.open(&chat("hand")).await;
    let _third = manual.accept().await;
    gateway.signal("TERM").await;
    for events in [Events::h1(plain), Events::h2(response.unwrap().into_body())] {
        let story = events.all().await;
        assert_eq!((story.content.as_str(), story.done, story.broken, story.finish.len()), ("one", false, false, 0));
        let error = story.error.unwrap();
        assert_eq!((error["code"].as_u64(), error["type"].as_str()), (Some(503), Some("overloaded_error")));
    }
    let answer = waiting.answer().await.unwrap();
    assert_eq!((answer.status(), answer.error().contains("going away")), (503, true));
    assert_eq!(gateway.exit().await.code(), Some(0));
    gateway.output.line("\"message\":\"drained\"").await;
    gateway.output.line("drain timeout after 200ms: aborting 3 requests").await;
    let lines = gateway.output.text();
    let lines: Vec<_> = lines.lines().filter(|line| line.contains("\"ended_by\":\"gateway\"")).collect();
    let told = lines.iter().filter(|line| line.contains("\"tokens_estimated\":true")).count();
    assert_eq!((lines.len(), told), (3, 2), "{lines:?}");
}

async fn is_not_ready(gateway: &Gateway) {
    until("readiness to end", async || (gateway.page("/readyz").await.status() == 503).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_accepted_until_the_delay_is_over() {
    let sim = Sim::start().await;
    let mut gateway = simulated(&sim, "drain_delay: 1h").await;
    let mut kept = gateway.connect().await;
    kept.get("/v1/models", &[]).await;
    gateway.signal("TERM").await;
    is_not_ready(&gateway).await;
    assert_eq!(gateway.page("/healthz").await.status(), 200);
    for conn in [&mut kept, &mut gateway.connect().await] {
        let body = chat("s/m").to_string();
        conn.chat(&[], body.as_bytes()).await;
        let answer = conn.answer().await.unwrap();
        assert_eq!((answer.status(), answer.header("connection")), (200, "keep-alive"));
    }
    gateway.signal("INT").await;
    assert_eq!(gateway.exit().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_connection_is_answered_once_more_and_an_idle_one_closed_after_a_grace() {
    let manual = Manual::start().await;
    let mut gateway = Gateway::start(&manual.config("", "")).await;
    let mut conns = Vec::new();
    for _ in 0..3 {
        let mut conn = gateway.connect().await;
        assert_eq!(conn.get("/v1/models", &[]).await.header("connection"), "keep-alive");
        conns.push(conn);
    }
    let [mut asking, mut halved, mut idle] = <[_; 3]>::try_from(conns).ok().unwrap();
    let mut waiting = gateway.open(&streamed("hand")).await;
    let mut exchange = manual.accept().await;
    let h2 = H2::connect(gateway.listen).await;
    let models = || http::Request::get("http://gateway/v1/models").body(http_body_util::Full::<Bytes>::default()).unwrap();
    assert_eq!(h2.send(models()).await.unwrap().status(), 200);
    let bytes = request("GET", "/v1/models", &[], None);
    let (first, rest) = bytes.split_at(9);
    halved.send(first).await.unwrap();
    gateway.signal("TERM").await;
    gateway.output.line("draining").await;
    until("the listener to close", async || tokio::net::TcpStream::connect(gateway.listen).await.is_err().then_some(())).await;
    let answer = asking.get("/v1/models", &[]).await;
    assert_eq!((answer.status(), answer.header("connection")), (200, "close"));
    assert!(asking.closed().await.is_empty());
    // The grace of the connection without a byte is over before the other half comes.
    assert!(idle.closed().await.is_empty());
    halved.send(rest).await.unwrap();
    let answer = halved.answer().await.unwrap();
    assert_eq!((answer.status(), answer.header("connection")), (200, "close"));
    until("GOAWAY", async || h2.is_closed().then_some(())).await;
    // The head of an answer to a request from before the drain says the same.
    exchange.begin().await;
    exchange.say("one").await;
    let head = waiting.head().await.unwrap();
    assert_eq!((head.status, head.get("connection")), (200, Some("close")));
    assert!(gateway.lives());
    exchange.end().await;
    let story = Events::h1(waiting).all().await;
    assert_eq!((story.content.as_str(), story.done), ("one", true));
    assert_eq!(gateway.exit().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_without_a_request_is_closed_after_the_idle_timeout() {
    let sim = Sim::start().await;
    let gateway = simulated(&sim, "client_idle_timeout: 300ms").await;
    let mut conn = gateway.connect().await;
    assert_eq!(conn.get("/v1/models", &[]).await.status(), 200);
    assert!(conn.closed().await.is_empty());
    let h2 = H2::connect(gateway.listen).await;
    until("the end of an idle HTTP/2 connection", async || h2.is_closed().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_behind_nginx_loses_no_post() {
    let sim = Sim::start().await;
    let mut gateways = [simulated(&sim, "drain_delay: 2s").await, simulated(&sim, "drain_delay: 2s").await];
    let dir = Dir::new();
    let front = free_address();
    let [a, b] = [gateways[0].listen, gateways[1].listen];
    // A balancer whose probes are files: it sends nothing to a server that is not ready, and repeats nothing.
    let (out_a, out_b) = (dir.join("a"), dir.join("b"));
    let http = format!(
        "keepalive_requests 1000000;\nproxy_next_upstream off;\nproxy_http_version 1.1;\nproxy_set_header connection \"\";\n\
         upstream both {{ server {a}; server {b}; keepalive 16; }}\n\
         upstream only_a {{ server {a}; keepalive 16; }}\nupstream only_b {{ server {b}; keepalive 16; }}\n\
         server {{ listen {front}; location / {{ set $pool both; if (-f {}) {{ set $pool only_b; }} if (-f {}) {{ set $pool only_a; }} \
         proxy_pass http://$pool; }} }}",
        out_a.display(),
        out_b.display()
    );
    let _nginx = Nginx::start(dir, &http, front).await;
    let load = Load::start(front, "s/m");
    for (gateway, out) in gateways.iter_mut().zip([&out_a, &out_b]) {
        load.served(200).await;
        gateway.signal("TERM").await;
        is_not_ready(gateway).await;
        std::fs::write(out, "").unwrap();
        gateway.start_again().await;
        std::fs::remove_file(out).unwrap();
    }
    load.served(200).await;
    assert_eq!(load.end().await, Vec::<String>::new());
}
