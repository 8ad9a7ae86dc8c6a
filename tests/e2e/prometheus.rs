//! The metrics as Prometheus itself sees them, and the rules that are shipped for it.

use crate::harness::dir::Dir;
use crate::harness::gateway::{Gateway, free_address};
use crate::harness::http1::{Conn, request};
use crate::harness::sim::Sim;
use crate::harness::{chat, soon, streamed, until};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

async fn gateway(sim: &Sim) -> Gateway {
    let config = format!(
        "auth: none\nproviders: {{ sim: {} }}\nroutes: {{ \"r/*\": {{ targets: [ {{ provider: sim, model: \"*\", price: {{ input: 1, output: 2 }} }} ], \
         limits: [ {{ requests: 1000, per: 1m }} ], retry: {{ attempts: 1 }} }} }}\n",
        sim.provider()
    );
    let gateway = Gateway::start(&config).await;
    for body in [chat("r/m"), streamed("r/m"), chat("r/m+status=500"), chat("none"), streamed("r/m+cut-after=4")] {
        gateway.chat(&body).await;
    }
    gateway
}

/// The first series of an instant query's answer.
async fn query(address: SocketAddr, expression: &str) -> Option<Value> {
    series(address, expression).await?.into_iter().next()
}

/// All series of an instant query's answer; `None` where there is no answer.
async fn series(address: SocketAddr, expression: &str) -> Option<Vec<Value>> {
    let stream = tokio::net::TcpStream::connect(address).await.ok()?;
    let mut conn = Conn::over(stream);
    let encoded: String = expression.bytes().map(|b| format!("%{b:02x}")).collect();
    conn.send(&request("GET", &format!("/api/v1/query?query={encoded}"), &[], None)).await.ok()?;
    let answer = conn.answer().await.ok()?;
    serde_json::from_slice::<Value>(&answer.body).ok()?["data"]["result"].as_array().cloned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_prometheus_scrapes_the_admin_listener() {
    let sim = Sim::start().await;
    let gateway = gateway(&sim).await;
    let dir = Dir::new();
    let (_prometheus, address) = prometheus(&gateway, &dir);
    for (expression, value) in [
        ("up{job=\"tidegate\"}", "1"),
        ("sum(tidegate_requests_total{route=\"r/*\",status=\"200\"})", "3"),
        ("sum(tidegate_requests_total{route=\"r/*\",status=\"502\"})", "1"),
        ("tidegate_target_state", "1"),
        ("sum(gen_ai_server_time_to_first_token_seconds_count)", "2"),
    ] {
        until(expression, async || (query(address, expression).await?["value"][1] == value).then_some(())).await;
    }
    until("a recorded series", async || query(address, "{__name__=~\"route:.*\"}").await.map(drop)).await;
}

/// Most lines of a panel.
const LINES: usize = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_panel_of_a_healthy_gateway_shows_something_and_few_lines() {
    let sim = Sim::start().await;
    let of_30 = |one: &dyn Fn(usize) -> String| (0..30).map(one).collect::<String>();
    let gateway = Gateway::start(&format!(
        "auth: none\nproviders:\n{}routes:\n{}",
        of_30(&|n| format!("  p{n}: {}\n", sim.provider())),
        of_30(&|n| format!(
            "  r{n}: {{ targets: [ {{ provider: p{n}, model: m, price: {{ input: 1, output: 2 }} }} ], limits: [ {{ requests: 100000, per: 1m }} ] }}\n"
        )),
    ))
    .await;
    let dir = Dir::new();
    let (_prometheus, address) = prometheus(&gateway, &dir);
    let dashboard = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/grafana.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let mut panels = 0;
    for panel in dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row") {
        panels += 1;
        let expressions: Vec<_> = panel["targets"]
            .as_array()
            .unwrap()
            .iter()
            .map(|target| {
                let text = target["expr"].as_str().unwrap();
                ["$route", "$team", "$provider"]
                    .iter()
                    .fold(text.to_owned(), |text, name| text.replace(name, ".*"))
                    .replace("$__rate_interval", "1m")
                    .replace("$__range", "1m")
            })
            .collect();
        until(&format!("a value in {}", panel["title"]), async || {
            assert_eq!(gateway.chat(&streamed("r0")).await.status(), 200);
            let mut values = Vec::new();
            for expression in &expressions {
                let found = series(address, expression).await?;
                values.extend(found.iter().map(|one| one["value"][1].as_str().unwrap().parse::<f64>().unwrap()));
            }
            assert!(values.len() <= LINES, "{} has {} lines", panel["title"], values.len());
            values.iter().any(|value| value.is_finite()).then_some(())
        })
        .await;
    }
    assert!(panels > 30);
}

/// A Prometheus with the shipped files, in a hurry, and its address.
fn prometheus(gateway: &Gateway, dir: &Dir) -> (Child, SocketAddr) {
    let shipped = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus.yaml")).unwrap();
    assert!(shipped.contains("127.0.0.1:9464") && shipped.contains("scrape_interval: 15s") && shipped.contains("scrape_timeout: 5s"));
    let hurried = shipped
        .replace("127.0.0.1:9464", &gateway.admin.to_string())
        .replace("15s", "1s")
        .replace("scrape_timeout: 5s", "scrape_timeout: 1s");
    let config = dir.write("prometheus.yaml", &hurried);
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/rules.yaml"), dir.join("rules.yaml")).unwrap();
    let address = free_address();
    let child = Command::new("prometheus")
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
        .arg(format!("--web.listen-address={address}"))
        .arg("--log.level=error")
        .current_dir(dir.join(""))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("prometheus is installed (Debian: apt-get install prometheus)");
    (child, address)
}

async fn promtool(arguments: &[&str], input: &str) -> String {
    let mut child = Command::new("promtool")
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed (Debian: apt-get install prometheus)");
    child.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
    let output = soon("promtool", child.wait_with_output()).await.unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "promtool {arguments:?}: {text}");
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promtool_finds_nothing_to_say_about_the_metrics() {
    let sim = Sim::start().await;
    let said = promtool(&["check", "metrics"], &gateway(&sim).await.metrics().await).await;
    assert!(said.trim().is_empty(), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shipped_rules_do_what_their_tests_say() {
    promtool(&["check", "config", "deploy/prometheus.yaml"], "").await;
    promtool(&["check", "rules", "deploy/rules.yaml"], "").await;
    promtool(&["test", "rules", "deploy/rules_test.yaml"], "").await;
}
