//! Upgrades: successors that are missing, bad or die; both orders; several in a row.

use crate::edges::simulated;
use crate::harness::dir::Dir;
use crate::harness::gateway::{Gateway, Setup, free_address};
use crate::harness::http1::{Conn, request};
use crate::harness::load::Load;
use crate::harness::manual::Manual;
use crate::harness::nginx::Nginx;
use crate::harness::sim::Sim;
use crate::harness::sse::Events;
use crate::harness::{chat, soon, streamed, until};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::{AsyncBufReadExt, BufReader};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_loses_no_request_and_no_stream() {
    let manual = Manual::start().await;
    let mut old = Gateway::start(&manual.config("", "")).await;
    let mut conn = old.open(&streamed("hand")).await;
    let mut exchange = manual.say("one").await;
    assert_eq!(conn.head().await.unwrap().status, 200);
    let (listen, admin, stop) = (old.listen, old.admin, Arc::new(AtomicBool::new(false)));
    let stopped = stop.clone();
    let load = tokio::spawn(async move {
        let mut served = 0;
        while !stopped.load(Ordering::Relaxed) {
            let answer = Conn::connect(listen).await.get("/v1/models", &[("connection", "close")]).await;
            assert_eq!(answer.status(), 200);
            let ready = Conn::connect(admin).await.get("/readyz", &[("connection", "close")]).await;
            assert_eq!(ready.status(), 200);
            served += 1;
        }
        served
    });
    let (mut new, output) = old.successor();
    old.signal("QUIT").await;
    output.line("\"serving\"").await;
    exchange.say(" two").await;
    old.output.line("draining").await;
    // The admin listener is the new process's, while the old one still has a stream to finish.
    assert_eq!(old.page("/readyz").await.status(), 200);
    assert!(old.lives());
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

/// What a gateway without a successor still does.
async fn serves(gateway: &mut Gateway) {
    assert!(gateway.lives());
    assert_eq!(gateway.page("/readyz").await.status(), 200);
    assert_eq!(gateway.get("/v1/models", &[]).await.status(), 200);
}

/// Awaits a failed upgrade for a reason with these words.
async fn failed(gateway: &Gateway, reason: &str) {
    until(&format!("an upgrade that failed: {reason}"), async || {
        let upgrade = gateway.page("/status").await.json()["upgrade"].clone();
        (upgrade["state"] == "failed" && upgrade["problem"].as_str().unwrap().contains(reason)).then_some(())
    })
    .await;
    gateway.output.line(reason).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_without_a_successor_that_serves_changes_nothing() {
    let sim = Sim::start().await;
    let setup = Setup::new("");
    let socket = setup.dir.join("u.sock");
    let config = |timeout: &str| sim.config(&format!("upgrade_socket: {}, upgrade_timeout: {timeout}", socket.display()), "");
    let mut gateway = setup.config(&config("2s")).start().await;
    assert_eq!(gateway.page("/status").await.json()["upgrade"]["state"], "none");
    let mut kept = gateway.connect().await;
    assert_eq!(kept.get("/v1/models", &[]).await.status(), 200);

    // A successor with a bad file.
    let bad = gateway.dir.write("bad.yaml", &gateway.text("servr: {}\n"));
    let code =
        std::process::Command::new(crate::harness::gateway::BINARY).args(["run", "--upgrade", "--config"]).arg(bad).status().unwrap();
    assert_eq!(code.code(), Some(1));
    gateway.signal("QUIT").await;
    until("a waiting upgrade", async || (gateway.page("/status").await.json()["upgrade"]["state"] == "waiting").then_some(())).await;
    serves(&mut gateway).await;
    failed(&gateway, "no process was started with --upgrade").await;
    serves(&mut gateway).await;

    // A successor that dies after it has taken the sockets.
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    gateway.signal("QUIT").await;
    let (stream, _) = soon("the sockets", listener.accept()).await.unwrap();
    let mut names = String::new();
    let mut stream = BufReader::new(stream);
    soon("their names", stream.read_line(&mut names)).await.unwrap();
    assert!(names.contains(&gateway.listen.to_string()) && names.contains(&format!("admin:{}", gateway.admin)), "{names}");
    drop((stream, listener));
    failed(&gateway, "exited before it served").await;
    serves(&mut gateway).await;

    // A good one, on the connection of the client that has been there since.
    assert_eq!(kept.get("/v1/models", &[]).await.status(), 200);
    gateway.reload(&config("60s")).await;
    gateway.output.line("configuration 2 is in force").await;
    gateway.signal("QUIT").await;
    let (child, output) = gateway.successor();
    output.line("\"serving\"").await;
    let (mut old, lines) = gateway.continue_with((child, output));
    kept.send(&request("GET", "/v1/models", &[], None)).await.unwrap();
    let answer = kept.answer().await.unwrap_or_else(|e| panic!("{e}:\n{}", lines.text()));
    assert_eq!(answer.header("connection"), "close");
    assert_eq!(soon("the end of the old process", old.wait()).await.unwrap().code(), Some(0));
    serves(&mut gateway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_upgrades_in_a_row_behind_nginx_lose_no_post() {
    let sim = Sim::start().await;
    let mut gateway = simulated(&sim, "upgrade_timeout: 60s").await;
    let front = free_address();
    let http = format!(
        "keepalive_requests 1000000;\nproxy_next_upstream off;\nproxy_http_version 1.1;\nproxy_set_header connection \"\";\n\
         upstream gateway {{ server {}; keepalive 16; }}\nserver {{ listen {front}; location / {{ proxy_pass http://gateway; }} }}",
        gateway.listen
    );
    let _nginx = Nginx::start(Dir::new(), &http, front).await;
    let load = Load::start(front, "s/m");
    for new_first in [false, true, false] {
        load.served(200).await;
        let (child, output) = if new_first {
            let successor = gateway.successor();
            // It waits at the socket, whose name is the configuration's.
            successor.1.line("for the running process").await;
            gateway.signal("QUIT").await;
            successor
        } else {
            gateway.signal("QUIT").await;
            gateway.output.line("waiting").await;
            gateway.successor()
        };
        output.line("\"serving\"").await;
        let (mut old, lines) = gateway.continue_with((child, output));
        assert_eq!(soon("the end of the old process", old.wait()).await.unwrap().code(), Some(0));
        assert!(lines.text().contains("the new process serves"), "{}", lines.text());
    }
    load.served(200).await;
    assert_eq!(load.end().await, Vec::<String>::new());
    assert_eq!(gateway.chat(&chat("s/m")).await.status(), 200);
}
