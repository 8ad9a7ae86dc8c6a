//! The process: how it stops, refuses to start, and its exit codes.

use crate::harness::dir::Dir;
use crate::harness::gateway::{BINARY, Gateway, free_port};
use crate::harness::manual::Manual;
use crate::harness::streamed;
use std::process::{Command, Output};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_process_ends_when_told_and_a_busy_one_when_interrupted() {
    let manual = Manual::start().await;
    let mut idle = Gateway::start(&manual.config("", "")).await;
    let _kept = idle.get("/v1/models", &[]).await;
    idle.signal("TERM").await;
    assert_eq!(idle.exit().await.code(), Some(0));
    let mut busy = Gateway::start(&manual.config("", "")).await;
    let mut conn = busy.open(&streamed("hand")).await;
    let exchange = manual.say("one").await;
    assert_eq!(conn.head().await.unwrap().status, 200);
    busy.signal("INT").await;
    assert_eq!(busy.exit().await.code(), Some(0));
    exchange.hung_up().await;
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
    let odd = dir.write("odd.yaml", &format!("{rest}limits: {{ lease: 100ms }}\n")).display().to_string();
    let free = format!("127.0.0.1:{}", free_port());
    let listen =
        dir.write("listen.yaml", &format!("listen: [ {{ address: {held} }} ]\nadmin: {{ address: {free} }}\n{rest}")).display().to_string();
    let admin =
        dir.write("admin.yaml", &format!("listen: [ {{ address: {free} }} ]\nadmin: {{ address: {held} }}\n{rest}")).display().to_string();
    let tls = format!("listen: [ {{ address: {free}, tls: {{ certificate: {good}, key: {good} }} }} ]\n");
    let junk = dir.write("junk.yaml", &(tls + rest)).display().to_string();
    let socket = dir.join("u.sock").display().to_string();
    let alone = dir.write(
        "alone.yaml",
        &format!("server: {{ upgrade_socket: {socket}, upgrade_timeout: 1s }}\nlisten: [ {{ address: {free} }} ]\n{rest}"),
    );
    let alone = alone.display().to_string();
    let missing = dir.join("missing.yaml").display().to_string();
    assert_ne!(taken, held);
    for (arguments, code, said) in [
        (&["check", "--config", &good][..], 0, &["r", "p", "ok: 1 route, 1 provider, 0 teams, 0 keys, listening on 127.0.0.1:3000\n"][..]),
        (&["check", "--strict", "--config", &good], 0, &["ok: 1 route"]),
        (
            &["check", "--config", &odd],
            0,
            &["odd.yaml:4:18: warning: ", "  4 | limits: { lease: 100ms }\n    |                  ^\n", "1 warning\n", "ok: 1 route"],
        ),
        (&["check", "--strict", "--config", &odd], 1, &["odd.yaml:4:", "1 warning\ntidegate: `--strict`"]),
        (&["--version"], 0, &["tidegate "]),
        (&["--help"], 0, &["Exit codes"]),
        (&["schema"], 0, &["\"routes\""]),
        (&["key", "new", "--id", "me"], 0, &["tg-", "sha256"]),
        // Every problem, each with its place.
        (&["check", "--config", &bad], 1, &["bad.yaml:3:", "bad.yaml:4:1: error: ", "servr", "`q`", "2 errors\n"]),
        (&["run", "--config", &bad], 1, &["servr"]),
        (&["check", "--config", &junk], 1, &["junk.yaml:1:", "PEM certificate", "PEM private key"]),
        (&["run", "--config", &junk], 1, &["PEM certificate"]),
        (&["check", "--config", &missing], 1, &["missing.yaml: error: there is no such file", "tidegate demo", "1 error\n"]),
        (&["frobnicate"], 2, &["frobnicate"]),
        (&["run", "--port", "1"], 2, &["--port"]),
        (&["run", "--config", &listen], 3, &[&held]),
        (&["run", "--config", &admin], 3, &[&held]),
        (&["simulate", "--listen", &held], 3, &[&held]),
        // Nobody is there to take over from.
        (&["run", "--config", &alone, "--upgrade"], 3, &["no process handed its listeners over"]),
    ] {
        let output = run(arguments);
        let text = String::from_utf8_lossy(&[output.stderr, output.stdout].concat()).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        assert!(said.iter().all(|part| text.contains(part)) && !text.contains("panicked"), "{arguments:?}: {text}");
    }
}
