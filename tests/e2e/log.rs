//! The log where stdout is a full disk or a pipe that nobody reads: lines are whole, and the lost ones are counted.

use crate::harness::gateway::{Gateway, Setup};
use crate::harness::sim::Sim;
use crate::harness::{self, chat, until};
use serde_json::Value;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Command;

fn config(sim: &Sim) -> String {
    harness::config("", ("sim", &sim.provider()), "r/*", "")
}

/// Upstream models of the access lines, in their order; every line has to be a JSON object of its own.
fn models(text: &str) -> Vec<String> {
    let line = |line: &str| serde_json::from_str::<Value>(line).unwrap_or_else(|e| panic!("{e}: {line:?}"));
    text.lines().map(line).filter(|line| line["log"] == "access").map(|line| line["upstream_model"].as_str().unwrap().to_owned()).collect()
}

async fn lost(gateway: &Gateway) -> usize {
    gateway.metric("tidegate_log_lines_dropped_total").await as usize
}

/// A file system of its own; unmounted when dropped.
struct Disk(PathBuf);

impl Disk {
    /// `None` where this user may not mount.
    fn mount(at: PathBuf, kilobytes: usize) -> Option<Self> {
        std::fs::create_dir(&at).unwrap();
        let size = format!("size={kilobytes}k");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tidegate-test"]).arg(&at).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(at))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_loses_whole_lines_counts_them_and_goes_on_with_a_fresh_one() {
    let sim = Sim::start().await;
    let setup = Setup::new(&config(&sim));
    let Some(disk) = Disk::mount(setup.dir.join("disk"), 64) else {
        println!("a tmpfs cannot be mounted here: nothing is tested");
        return;
    };
    let path = disk.0.join("log");
    let gateway = setup.stdout(File::options().create(true).append(true).open(&path).unwrap()).start().await;
    let ask = async |name: &str| assert_eq!(gateway.chat(&chat(&format!("r/{name}"))).await.status(), 200);
    ask("first").await;
    let written = async |name: &str| {
        let model = format!("\"upstream_model\":\"{name}\"");
        until(name, async || std::fs::read_to_string(&path).unwrap().contains(&model).then_some(())).await;
    };
    written("first").await;
    // What is left is too little for a hundred lines, and ends within one of them.
    let ballast = disk.0.join("ballast");
    std::fs::write(&ballast, vec![0; 48 << 10]).unwrap();
    for n in 0..100 {
        ask(&format!("m{n}")).await;
    }
    until("a lost line", async || (lost(&gateway).await > 0).then_some(())).await;
    std::fs::remove_file(&ballast).unwrap();
    ask("last").await;
    written("last").await;
    let text = until("a whole last line", async || Some(std::fs::read_to_string(&path).unwrap()).filter(|text| text.ends_with('\n'))).await;
    let models = models(&text);
    assert_eq!(models.len() + lost(&gateway).await, 102, "{models:?}");
    assert_eq!(models.last().map(String::as_str), Some("last"));
    drop(disk); // before the folder that it is mounted in
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_pipe_loses_lines_counts_them_and_a_new_reader_gets_whole_ones() {
    let sim = Sim::start().await;
    let setup = Setup::new(&config(&sim));
    let pipe = setup.dir.join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let reader = open_both_ways(&pipe);
    let gateway = setup.stdout(File::options().write(true).open(&pipe).unwrap()).start().await;
    let ask = async |name: &str| assert_eq!(gateway.chat(&chat(&format!("r/{name}"))).await.status(), 200);
    ask("first").await;
    assert_eq!(lost(&gateway).await, 0);
    drop(reader);
    for n in 0..3 {
        ask(&format!("m{n}")).await;
    }
    until("three lost lines", async || (lost(&gateway).await >= 3).then_some(())).await;
    let mut reader = tokio::io::BufReader::new(tokio::net::unix::pipe::OpenOptions::new().open_receiver(&pipe).unwrap());
    let before = lost(&gateway).await;
    ask("last").await;
    let mut text = String::new();
    while !text.contains("\"upstream_model\":\"last\"") {
        use tokio::io::AsyncBufReadExt;
        crate::harness::soon("a line", reader.read_line(&mut text)).await.unwrap();
    }
    assert_eq!(models(&text).last().map(String::as_str), Some("last"));
    assert_eq!(lost(&gateway).await, before);
}

/// A reader that does not wait for a writer, and is one itself.
fn open_both_ways(pipe: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(pipe).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attributes_of_requests_are_in_the_log_and_only_listed_values_in_metrics() {
    let sim = Sim::start().await;
    let attributes = "{ agent: x-agent-name, user: metadata.user_id, tier: { from: x-tier, values: [paid] } }";
    let gateway = Setup::new(&config(&sim)).attributes(attributes).start().await;
    let mut body = chat("r/one");
    body["metadata"] = serde_json::json!({ "user_id": "u\n1" });
    let headers = [("x-agent-name", "crawler"), ("x-tier", "paid")];
    assert_eq!(gateway.chat_as(&headers, &body).await.status(), 200);
    let line: Value = serde_json::from_str(&gateway.output.line("\"upstream_model\":\"one\"").await).unwrap();
    assert_eq!(line["attributes"], serde_json::json!({ "agent": "crawler", "user": "u\n1", "tier": "paid" }));
    assert_eq!(gateway.chat_as(&[("x-tier", "gold")], &chat("r/two")).await.status(), 200);
    let line: Value = serde_json::from_str(&gateway.output.line("\"upstream_model\":\"two\"").await).unwrap();
    assert_eq!(line["attributes"], serde_json::json!({ "tier": "gold" }));
    assert!(sim.seen().iter().all(|seen| !seen.headers.iter().any(|(name, _)| name.as_str() == "x-tier")), "headers stay here");
    let count =
        async |value: &str| gateway.metric(&format!("tidegate_attributed_requests_total{{attribute=\"tier\",value=\"{value}\"}}")).await;
    assert_eq!((count("paid").await, count("other").await), (1.0, 1.0));
    assert!(!gateway.metrics().await.contains("crawler"));
}
