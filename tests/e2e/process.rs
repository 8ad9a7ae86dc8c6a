//! The process: how it drains, stops, refuses to start, and what its exit code says.

use crate::harness::dir::Dir;
use crate::harness::gateway::{BINARY, Gateway, free_port};
use crate::harness::http1::Conn;
use crate::harness::http2::H2;
use crate::harness::manual::Manual;
use crate::harness::sse::{Events, Story};
use crate::harness::{chat, streamed, until};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

async fn gateway(manual: &Manual) -> Gateway {
    let config = format!(
        "auth: none\nproviders: {{ manual: {} }}\nroutes: {{ hand: {{ targets: [ {{ provider: manual, model: m }} ] }} }}\n",
        manual.provider()
    );
    Gateway::start(&config).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_lets_streams_finish() {
    let manual = Manual::start().await;
    let mut gateway = gateway(&manual).await;
    let mut conn = gateway.connect().await;
    conn.chat(&[], streamed("hand").to_string().as_bytes()).await;
    let mut exchange = manual.accept().await;
    exchange.begin().await;
    exchange.say("one").await;
    assert_eq!(conn.head().await.unwrap().status, 200);
    let mut events = Events::h1(conn);
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
    while let Some(event) = events.next().await {
        story.take(&event);
    }
    assert!(story.done && !events.broken);
    assert_eq!(gateway.exit().await.code(), Some(0));
    gateway.output.line("\"ended_by\":\"complete\"").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_process_ends_when_told_and_a_busy_one_when_interrupted() {
    let manual = Manual::start().await;
    let mut idle = gateway(&manual).await;
    let _kept = idle.get("/v1/models", &[]).await;
    idle.signal("TERM").await;
    assert_eq!(idle.exit().await.code(), Some(0));
    let mut busy = gateway(&manual).await;
    let mut conn = busy.connect().await;
    conn.chat(&[], streamed("hand").to_string().as_bytes()).await;
    let mut exchange = manual.accept().await;
    exchange.begin().await;
    exchange.say("one").await;
    assert_eq!(conn.head().await.unwrap().status, 200);
    busy.signal("INT").await;
    assert_eq!(busy.exit().await.code(), Some(0));
    exchange.hung_up().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_loses_no_request_and_no_stream() {
    let manual = Manual::start().await;
    let mut old = gateway(&manual).await;
    let mut conn = old.connect().await;
    conn.chat(&[], streamed("hand").to_string().as_bytes()).await;
    let mut exchange = manual.accept().await;
    exchange.begin().await;
    exchange.say("one").await;
    assert_eq!(conn.head().await.unwrap().status, 200);
    let (listen, stop) = (old.listen, Arc::new(AtomicBool::new(false)));
    let stopped = stop.clone();
    let load = tokio::spawn(async move {
        let mut served = 0;
        while !stopped.load(Ordering::Relaxed) {
            let answer = Conn::connect(listen).await.get("/v1/models", &[("connection", "close")]).await;
            assert_eq!(answer.status(), 200);
            served += 1;
        }
        served
    });
    let (mut new, output) = old.successor();
    old.signal("QUIT").await;
    output.line("\"serving\"").await;
    exchange.say(" two").await;
    // The admin address is the new process's, while the old one still has a stream to finish.
    until("the successor's readiness", async || (old.page("/readyz").await.status() == 200).then_some(())).await;
    assert!(old.lives());
    old.output.line("draining").await;
    exchange.end().await;
    let story = Events::h1(conn).all().await;
    assert_eq!((story.content.as_str(), story.done, story.broken), ("one two", true, false));
    assert_eq!(old.exit().await.code(), Some(0));
    let more = old.get("/v1/models", &[]).await;
    assert_eq!(more.status(), 200);
    stop.store(true, Ordering::Relaxed);
    assert!(load.await.unwrap() > 0);
    new.kill().await.unwrap();
    assert!(!output.text().contains("panicked"), "{}", output.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_can_be_interrupted() {
    let manual = Manual::start().await;
    let mut gateway = gateway(&manual).await;
    let mut conn = gateway.connect().await;
    conn.chat(&[], streamed("hand").to_string().as_bytes()).await;
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
    let mut gateway = gateway(&manual).await;
    // The time that counts is the one in force when the drain begins.
    for (count, time) in ["1h", "200ms"].into_iter().enumerate() {
        let text = std::fs::read_to_string(&gateway.path).unwrap();
        let rest = text.split_once("auth:").unwrap().1;
        std::fs::write(&gateway.path, gateway.text(&format!("server: {{ drain_timeout: {time} }}\nauth:{rest}"))).unwrap();
        gateway.signal("HUP").await;
        until("the reload", async || {
            (gateway.metric("tidegate_config_reloads_total{result=\"applied\"}").await > count as f64).then_some(())
        })
        .await;
    }
    let begin = async || {
        let mut exchange = manual.accept().await;
        exchange.begin().await;
        exchange.say("one").await;
        exchange
    };
    let mut plain = gateway.connect().await;
    plain.chat(&[], streamed("hand").to_string().as_bytes()).await;
    let _first = begin().await;
    assert_eq!(plain.head().await.unwrap().status, 200);
    let client = H2::connect(gateway.listen).await;
    let (response, _second) = tokio::join!(client.chat(&[], streamed("hand").to_string().into()), begin());
    let mut waiting = gateway.connect().await;
    waiting.chat(&[], chat("hand").to_string().as_bytes()).await;
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
    let lines = gateway.output.text();
    let lines: Vec<_> = lines.lines().filter(|line| line.contains("\"ended_by\":\"gateway\"")).collect();
    let told = lines.iter().filter(|line| line.contains("\"tokens_estimated\":true")).count();
    assert_eq!((lines.len(), told), (3, 2), "{lines:?}");
}

fn run(arguments: &[&str]) -> Output {
    Command::new(BINARY).args(arguments).env_remove("TIDEGATE_CONFIG").output().unwrap()
}

#[test]
fn exit_codes_and_what_is_said_with_them() {
    let dir = Dir::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let rest = "auth: none\nproviders: { p: { kind: vllm, base_url: \"http://127.0.0.1:1/v1\" } }\nroutes: { r: { targets: [ { provider: p, model: m } ] } }\n";
    let _keep = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let held = _keep.local_addr().unwrap().to_string();
    let good = dir.write("good.yaml", rest).display().to_string();
    let bad = dir.write("bad.yaml", &format!("{}servr: {{}}\n", rest.replace("provider: p", "provider: q"))).display().to_string();
    let free = format!("127.0.0.1:{}", free_port());
    let listen =
        dir.write("listen.yaml", &format!("listen: [ {{ address: {held} }} ]\nadmin: {{ address: {free} }}\n{rest}")).display().to_string();
    let admin =
        dir.write("admin.yaml", &format!("listen: [ {{ address: {free} }} ]\nadmin: {{ address: {held} }}\n{rest}")).display().to_string();
    let tls = format!("listen: [ {{ address: {free}, tls: {{ certificate: {good}, key: {good} }} }} ]\n");
    let junk = dir.write("junk.yaml", &(tls + rest)).display().to_string();
    let socket = dir.join("u.sock").display().to_string();
    let alone = dir.write("alone.yaml", &format!("server: {{ upgrade_socket: {socket} }}\nlisten: [ {{ address: {free} }} ]\n{rest}"));
    let alone = alone.display().to_string();
    let missing = dir.join("missing.yaml").display().to_string();
    assert_ne!(taken, held);
    for (arguments, code, said) in [
        (&["check", "--config", &good][..], 0, &["r", "p"][..]),
        (&["--version"], 0, &["tidegate "]),
        (&["--help"], 0, &["Exit codes"]),
        (&["schema"], 0, &["\"routes\""]),
        (&["key", "new", "--id", "me"], 0, &["tg-", "sha256"]),
        // Every problem, each with its place.
        (&["check", "--config", &bad], 1, &["bad.yaml:3:", "bad.yaml:4:1", "servr", "`q`"]),
        (&["run", "--config", &bad], 1, &["servr"]),
        (&["check", "--config", &junk], 1, &["junk.yaml:1:", "PEM certificate", "PEM private key"]),
        (&["run", "--config", &junk], 1, &["PEM certificate"]),
        (&["check", "--config", &missing], 1, &["missing.yaml"]),
        (&["frobnicate"], 2, &["frobnicate"]),
        (&["run", "--port", "1"], 2, &["--port"]),
        (&["run", "--config", &listen], 3, &[&held]),
        (&["run", "--config", &admin], 3, &[&held]),
        (&["simulate", "--listen", &held], 3, &[&held]),
        // Nobody is there to take over from.
        (&["run", "--config", &alone, "--upgrade"], 3, &["no process has handed its listeners over"]),
    ] {
        let output = run(arguments);
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        assert!(said.iter().all(|part| text.contains(part)) && !text.contains("panicked"), "{arguments:?}: {text}");
    }
}
