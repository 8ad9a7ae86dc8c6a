//! What operators rely on beside the API: reasons, ids, lists of models, signals, limits of the system, the clock.

use crate::harness::gateway::{Gateway, Setup};
use crate::harness::http1::request;
use crate::harness::sim::Sim;
use crate::harness::{chat, until};
use serde_json::Value;

fn config(sim: &Sim) -> String {
    format!(
        "auth: none\nserver: {{ max_body: 1KiB }}\nproviders: {{ sim: {} }}\n\
         routes: {{ r: {{ targets: [ {{ provider: sim, model: m }} ] }}, \
         \"s/*\": {{ targets: [ {{ provider: sim, model: \"*\" }} ], retry: {{ attempts: 1 }} }} }}\n",
        sim.provider()
    )
}

fn access_lines(gateway: &Gateway) -> Vec<Value> {
    let text = gateway.output.text();
    text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).filter(|line| line["log"] == "access").collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_refused_or_failed_request_has_a_reason_in_the_log() {
    let sim = Sim::start().await;
    let gateway = Gateway::start(&config(&sim)).await;
    let json = |text: &str| request("POST", "/v1/chat/completions", &[], Some(text.as_bytes()));
    let good = chat("r").to_string();
    for (bytes, status, reason) in [
        (request("GET", "/nowhere", &[], None), 404, "not_found"),
        (request("GET", "/v1/chat/completions", &[], None), 405, "method_not_allowed"),
        (request("POST", "/v1/chat/completions", &[], None), 411, "length_required"),
        (request("POST", "/v1/chat/completions", &[("content-encoding", "gzip")], Some(good.as_bytes())), 415, "encoded_body"),
        (json(&"x".repeat(2000)), 413, "body_too_large"),
        (json("{"), 400, "invalid_request"),
        (json(&chat("nobody").to_string()), 404, "not_found"),
        (json(&chat("s/m+status=400").to_string()), 400, "bad_request"),
        (json(&chat("s/m+status=500").to_string()), 502, "server_error"),
    ] {
        let answer = gateway.send(&bytes).await;
        assert_eq!(answer.status(), status, "{}", answer.text());
        let id = answer.header("x-request-id").to_owned();
        let line = until("its line", async || access_lines(&gateway).into_iter().find(|line| line["request_id"] == id.as_str())).await;
        assert_eq!(line["reason"], reason, "{line}");
    }
    let conn = gateway.open(&chat("s/m+stall")).await;
    sim.request_for("m+stall").await;
    drop(conn);
    let line = until("its line", async || access_lines(&gateway).into_iter().find(|line| line["status"] == 499)).await;
    assert_eq!(line["reason"], "cancelled", "{line}");
    assert_eq!(gateway.chat(&chat("r")).await.status(), 200);
    let line = until("its line", async || access_lines(&gateway).into_iter().find(|line| line["status"] == 200)).await;
    assert!(line["reason"].is_null(), "{line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_access_line_has_the_endpoint_the_limit_and_the_targets_that_were_tried() {
    let sim = Sim::start().await;
    let (bad, good) = ("{ provider: sim, model: \"m+status=500\" }", "{ provider: sim, model: good }");
    let gateway = Gateway::start(&format!(
        "auth: none\nproviders: {{ sim: {} }}\nroutes:\n  both: {{ targets: [ {bad} ], fallback: [ {good} ] }}\n  \
         one: {{ targets: [ {good} ], limits: [ {{ requests: 1, per: 30d }} ] }}\n",
        sim.provider()
    ))
    .await;
    let line = async |bytes: Vec<u8>| {
        let id = gateway.send(&bytes).await.header("x-request-id").to_owned();
        until("its line", async || access_lines(&gateway).into_iter().find(|line| line["request_id"] == id.as_str())).await
    };
    let ask = |model: &str| request("POST", "/v1/chat/completions", &[], Some(chat(model).to_string().as_bytes()));
    let get = |path: &str| request("GET", path, &[], None);
    let rare = ["model", "tried", "limit_scope", "limit_dimension"];
    let has = |line: &Value| rare.iter().filter(|name| line.get(**name).is_some()).copied().collect::<Vec<_>>();

    let plain = line(ask("one")).await;
    assert_eq!((plain["endpoint"].as_str(), has(&plain)), (Some("chat"), vec![]), "{plain}");
    let refused = line(ask("one")).await;
    let limit = (refused["limit_scope"].as_str(), refused["limit_dimension"].as_str());
    assert_eq!((limit, refused["reason"].as_str()), ((Some("route"), Some("requests")), Some("limited")), "{refused}");
    let second = line(ask("both")).await;
    assert_eq!((second["tried"].as_str(), has(&second)), (Some("sim/m+status=500 (server_error), sim/good (success)"), vec!["tried"]));

    let long = format!("no\u{9b}such\n{}", "x".repeat(5000));
    let unknown = line(ask(&long)).await;
    assert_eq!((unknown["model"].as_str(), unknown["status"].as_u64()), (Some(&long[..128]), Some(404)));
    assert_eq!(line(ask("sk-0123456789abcdefghij")).await["model"], "[redacted]");
    let listed = line(get("/v1/models/nobody")).await;
    assert_eq!((listed["endpoint"].as_str(), listed["model"].as_str()), (Some("models"), Some("nobody")));
    assert_eq!(line(request("POST", "/v1/embeddings", &[], Some(b"{"))).await["endpoint"], "embeddings");
    assert!(line(get("/nowhere")).await["endpoint"].is_null());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_s_own_request_id_is_logged_and_echoed_beside_the_gateway_s() {
    let sim = Sim::start().await;
    let gateway = Gateway::start(&config(&sim)).await;
    let long = "a".repeat(129);
    for (path, body) in [("/v1/chat/completions", Some(chat("r").to_string())), ("/v1/models", None), ("/nowhere", None)] {
        let method = if body.is_some() { "POST" } else { "GET" };
        for (id, kept) in
            [("req-1.A_b:c/d+e=f@g", true), (&long[1..], true), (&long, false), ("two words", false), ("\"", false), ("", false)]
        {
            let answer = gateway.send(&request(method, path, &[("x-request-id", id)], body.as_ref().map(|b| b.as_bytes()))).await;
            let own = answer.header("x-request-id").to_owned();
            assert!(own != id && own.len() == 36, "{own}");
            assert_eq!(answer.head.get("x-client-request-id"), kept.then_some(id), "{path}");
            let line = until("its line", async || access_lines(&gateway).into_iter().find(|line| line["request_id"] == own.as_str())).await;
            assert_eq!(line["client_request_id"].as_str(), kept.then_some(id), "{line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pattern_is_no_model_and_is_listed_apart() {
    let sim = Sim::start().await;
    let gateway = Gateway::start(&config(&sim)).await;
    let list = gateway.get("/v1/models", &[]).await.json();
    let ids: Vec<_> = list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!((ids, &list["patterns"]), (vec!["r"], &serde_json::json!(["s/*"])));
    assert_eq!(gateway.get("/v1/models/s/m", &[]).await.status(), 200);
    for id in ["s/*", "s%2F%2A", "s/"] {
        let answer = gateway.get(&format!("/v1/models/{id}"), &[]).await;
        assert_eq!(answer.status(), 404);
        assert!(!answer.error().contains("Did you mean"), "{}", answer.text());
    }
    assert_eq!(gateway.chat(&chat("s/*")).await.status(), 404);
    assert_eq!(sim.count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signals_without_a_meaning_do_not_end_the_process() {
    let sim = Sim::start().await;
    let mut gateway = Gateway::start(&config(&sim)).await;
    for name in ["USR1", "USR2", "PIPE"] {
        gateway.signal(name).await;
        assert_eq!(gateway.chat(&chat("r")).await.status(), 200, "{name}");
    }
    assert!(gateway.lives());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limit_of_open_files_is_raised_to_the_hard_one_and_logged() {
    let sim = Sim::start().await;
    let gateway = Setup::new(&config(&sim)).through(&["prlimit", "--nofile=200:4000"]).start().await;
    gateway.output.line("open files: limit raised from 200 to 4000").await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", gateway.pid())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(line.split_whitespace().nth(3), Some("4000"), "{line}");
}

/// The library of Debian's `faketime`, which lets a test set the wall clock of one process.
fn faketime() -> Option<String> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"));
    folders.into_iter().find(|path| path.exists()).map(|path| path.display().to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_the_status_and_the_day_of_a_budget_follow_a_step_of_the_clock() {
    let Some(library) = faketime() else {
        println!("Debian's `faketime` is not installed: nothing is tested");
        return;
    };
    let sim = Sim::start().await;
    let target = "{ provider: sim, model: m, price: { input: 1, output: 1 } }";
    let config = format!(
        "auth: none\nproviders: {{ sim: {} }}\nroutes:\n  money: {{ targets: [ {target} ], limits: [ {{ usd: 0.00001, per: 1d }} ] }}\n  \
         once: {{ targets: [ {target} ], limits: [ {{ requests: 1, per: 30d }} ] }}\n",
        sim.provider()
    );
    let setup = Setup::new(&config);
    let clock = setup.dir.write("clock", "+0d");
    let setup = setup.variable("LD_PRELOAD", &library).variable("FAKETIME_TIMESTAMP_FILE", &clock.display().to_string());
    let gateway = setup.variable("FAKETIME_NO_CACHE", "1").variable("FAKETIME_DONT_FAKE_MONOTONIC", "1").start().await;
    let time = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let ask = async |route: &str| gateway.chat(&chat(route)).await.status();
    assert_eq!((ask("money").await, ask("once").await), (200, 200));
    assert_eq!((ask("money").await, ask("once").await), (402, 429));
    let before = until("a line", async || access_lines(&gateway).first().map(|line| time(&line["time"]))).await;
    std::fs::write(&clock, "+2d").unwrap();
    until("a new day", async || (ask("money").await == 200).then_some(())).await;
    assert_eq!(ask("once").await, 429, "what refills smoothly has not gained two days");
    let days = |moment: jiff::Timestamp| (moment.duration_since(before).as_hours() + 1) / 24;
    until("a line of that day", async || access_lines(&gateway).last().is_some_and(|line| days(time(&line["time"])) == 2).then_some(()))
        .await;
    gateway.signal("HUP").await;
    let reloaded = until("the reload", async || {
        let status = gateway.page("/status").await.json();
        status["reloads"]["last_applied"].is_string().then_some(status)
    })
    .await;
    assert_eq!(days(time(&reloaded["reloads"]["last_applied"])), 2, "{reloaded}");
    assert!(reloaded["uptime_seconds"].as_u64() < Some(3600), "{reloaded}");
    let gauge = gateway.metric("tidegate_config_last_reload_timestamp_seconds{result=\"applied\"}").await;
    assert_eq!(days(jiff::Timestamp::from_second(gauge as i64).unwrap()), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_duration_of_a_request_ends_with_its_answer_however_long_its_body_is_awaited() {
    let sim = Sim::start().await;
    let gateway = Gateway::start(&config(&sim)).await;
    for (length, connection) in [(10, "keep-alive"), (1_000_000, "close")] {
        let mut conn = gateway.connect().await;
        let head = format!("POST /nowhere HTTP/1.1\r\nhost: g\r\ncontent-length: {length}\r\n\r\n");
        conn.send(head.as_bytes()).await.unwrap();
        let answer = conn.answer().await.unwrap();
        assert_eq!((answer.status(), answer.header("connection")), (404, connection), "{length}");
        let id = answer.header("x-request-id").to_owned();
        tokio::time::sleep(std::time::Duration::from_millis(1200)).await;
        drop(conn);
        let line = until("its line", async || access_lines(&gateway).into_iter().find(|line| line["request_id"] == id.as_str())).await;
        assert!(line["duration_ms"].as_f64().unwrap() < 1000.0, "{line}");
    }
}
