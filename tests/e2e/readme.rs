//! The README as a new user follows it: the demo, then block after block as it is written but for the addresses, and
//! what each is said to print.

use crate::harness::dir::Dir;
use crate::harness::gateway::{BINARY, Output, free_address, free_port};
use crate::harness::http1::Conn;
use crate::harness::{LOOK, soon};
use crate::sdk;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

const README: &str = include_str!("../../README.md");
/// A part of a shown output that differs each time, or is left out.
const LEFT_OUT: char = '…';

/// A fenced block.
#[derive(Clone, Copy)]
struct Block {
    language: &'static str,
    text: &'static str,
    /// The paragraph before it.
    above: &'static str,
}

/// The blocks of a section.
fn blocks(section: &str) -> Vec<Block> {
    let (_, rest) = README.split_once(&format!("\n## {section}\n")).unwrap_or_else(|| panic!("no section {section}"));
    let mut rest = rest.split("\n## ").next().unwrap();
    let mut found = Vec::new();
    while let Some((before, after)) = rest.split_once("```") {
        let (text, next) = after.split_once("\n```").unwrap();
        let (language, text) = text.split_once('\n').unwrap();
        found.push(Block { language, text, above: before.trim().rsplit("\n\n").next().unwrap_or_default() });
        rest = next;
    }
    assert!(!found.is_empty(), "{section}");
    found
}

/// Whether an output is what the README shows: its parts in their order, however lines are broken.
fn is_shown(output: &str, shown: &str) -> bool {
    let dense = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
    let output = dense(output);
    let mut rest = output.as_str();
    dense(shown).split(LEFT_OUT).all(|part| match rest.find(part) {
        Some(at) => {
            rest = &rest[at + part.len()..];
            true
        }
        None => false,
    })
}

#[test]
fn an_output_is_compared_by_its_parts_in_their_order() {
    assert!(is_shown("{\"id\":7,\n \"ok\": true}", "{\"id\":…, \"ok\":true}"));
    assert!(!is_shown("b a", "a…b") && !is_shown("a", "a…a"));
}

/// The demo on free ports.
struct Demo {
    _child: Child,
    output: Output,
    /// What the README's addresses are here.
    addresses: Vec<(&'static str, SocketAddr)>,
    dir: Dir,
}

impl Demo {
    async fn start() -> Self {
        let names = ["127.0.0.1:3000", "127.0.0.1:9464", "127.0.0.1:3001", "127.0.0.1:3010", "127.0.0.1:9465"];
        let addresses: Vec<_> = names.iter().map(|name| (*name, free_address())).collect();
        let [listen, admin, simulator] = [0, 1, 2].map(|i| addresses[i].1.to_string());
        let child = Command::new(BINARY)
            .args(["demo", "--fast", "--listen", &listen, "--admin", &admin])
            .env("TIDEGATE_DEMO_SIMULATOR", &simulator)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let mut child = child.unwrap();
        let output = Output::of(&mut child);
        let demo = Self { _child: child, output, addresses, dir: Dir::new() };
        demo.output.line("Stop with Ctrl-C").await;
        demo
    }

    /// A text of the README with the addresses of this demo.
    fn here(&self, text: &str) -> String {
        self.addresses.iter().fold(text.to_owned(), |text, (name, address)| text.replace(name, &address.to_string()))
    }

    fn address(&self, name: &str) -> SocketAddr {
        self.addresses.iter().find(|(known, _)| *known == name).unwrap().1
    }

    fn shell(&self, block: &Block) -> Command {
        let folder = Path::new(BINARY).parent().unwrap().display().to_string();
        let mut shell = Command::new("bash");
        shell.args(["-euo", "pipefail", "-c", &self.here(block.text)]).current_dir(self.dir.join("."));
        shell.env("PATH", format!("{folder}:{}", std::env::var("PATH").unwrap())).stdin(Stdio::null()).kill_on_drop(true);
        shell
    }

    /// Runs the blocks of a section that are for a shell, and compares what they print with the block after them.
    async fn follow(&self, section: &str) {
        let all = blocks(section);
        for (i, block) in all.iter().enumerate().filter(|(_, block)| block.language == "sh") {
            let output = soon(block.text, self.shell(block).output()).await.unwrap();
            let printed = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success(), "{}\n{printed}\n{}", block.text, String::from_utf8_lossy(&output.stderr));
            assert!(printed.ends_with('\n'), "a prompt would stand behind the answer of {}", block.text);
            if let Some(shown) = all.get(i + 1).filter(|next| next.language.is_empty()) {
                assert!(
                    is_shown(&printed, &self.here(shown.text)),
                    "{}\nprints\n{printed}\nand is said to print\n{}",
                    block.text,
                    shown.text
                );
            }
        }
    }

    /// Writes the block below the paragraph that names a file, and returns its name here.
    fn file(&self, name: &str, folder: &Path) -> String {
        let all = blocks("First requests");
        let block = all.iter().find(|block| block.above.contains(&format!("`{name}`")));
        let own = format!("{}-{name}", std::process::id());
        std::fs::write(folder.join(&own), self.here(block.unwrap().text)).unwrap();
        own
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_user_gets_from_the_first_answer_to_fail_over_by_the_readme_alone() {
    let demo = Demo::start().await;
    demo.follow("First requests").await;
    demo.follow("Images, audio and other endpoints").await;
    demo.follow("Fail-over").await;
    demo.follow("Limits").await;
    demo.follow("Running it").await;
    demo.output.line("\"attempts\":2").await; // not on a terminal: JSON
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_user_puts_an_own_provider_behind_the_gateway() {
    let demo = Demo::start().await;
    let all = blocks("Your own provider");
    let serves = all.iter().position(|block| block.text.starts_with("tidegate run")).unwrap();
    let check = soon("the check", demo.shell(&all[0]).output()).await.unwrap();
    let printed = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(check.status.success() && is_shown(&printed, all[1].text), "{printed}{}", String::from_utf8_lossy(&check.stderr));
    let _gateway = demo.shell(&all[serves]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    soon("the gateway's start", async {
        while TcpStream::connect(demo.address("127.0.0.1:3010")).await.is_err() {
            tokio::time::sleep(LOOK).await;
        }
    })
    .await;
    for pair in all[serves + 1..].chunks(2) {
        let output = soon(pair[0].text, demo.shell(&pair[0]).output()).await.unwrap();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && is_shown(&printed, pair[1].text), "{}\nprints\n{printed}", pair[0].text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_files_of_the_readme_run_as_they_are_written() {
    let demo = Demo::start().await;
    let said = "You said: Hello there\n";
    let fetch = demo.file("fetch.mjs", &demo.dir.join("."));
    let output = sdk::run("node", &[&fetch], &demo.dir.join(".")).await;
    assert!(output.status.success() && sdk::text(&output).ends_with(said), "{}", sdk::text(&output));
    let dir = sdk::cache("python");
    if let Some(python) = sdk::python(&dir).await {
        let answer = demo.file("answer.py", &dir);
        let output = sdk::run(&python, &[&answer], &dir).await;
        std::fs::remove_file(dir.join(answer)).unwrap();
        assert!(output.status.success() && sdk::text(&output).ends_with(said), "{}", sdk::text(&output));
    }
    let dir = sdk::cache("node");
    if sdk::node(&dir).await {
        let stream = demo.file("stream.mjs", &dir);
        let output = sdk::run("node", &[&stream], &dir).await;
        std::fs::remove_file(dir.join(stream)).unwrap();
        assert!(output.status.success() && sdk::text(&output).ends_with(said), "{}", sdk::text(&output));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_header_of_an_answer_is_in_the_reference() {
    const REFERENCE: &str = include_str!("../../conf/reference.md");
    let demo = Demo::start().await;
    let page = ("origin", "https://app.example");
    for (key, model, status) in
        [("tg-limited", "limited", 200), ("tg-demo", "budget", 200), ("tg-demo", "budget", 402), ("no", "limited", 401)]
    {
        for stream in [false, true] {
            if stream && status == 200 && model == "budget" {
                continue; // it is spent by the whole answer
            }
            let mut conn = Conn::connect(demo.address("127.0.0.1:3000")).await;
            let body =
                serde_json::json!({ "model": model, "stream": stream, "seed": 1, "messages": [{ "role": "user", "content": "Hello" }] });
            let bearer = format!("Bearer {key}");
            conn.chat(&[page, ("authorization", bearer.as_str()), ("x-request-id", "r-1")], body.to_string().as_bytes()).await;
            let answer = conn.answer().await.unwrap();
            assert_eq!(answer.status(), status, "{}", answer.text());
            assert_eq!(answer.header("access-control-allow-origin"), "*");
            for (name, _) in &answer.head.headers {
                assert!(REFERENCE.contains(&format!("| `{name}` |")), "{name}");
            }
        }
    }
}

#[test]
fn an_address_in_use_is_named_and_no_other_is_taken() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().to_string();
    let free = || format!("127.0.0.1:{}", free_port());
    for flag in ["--listen", "--admin", "--simulator"] {
        let mut command = std::process::Command::new(BINARY);
        command.arg("demo");
        for other in ["--listen", "--admin", "--simulator"] {
            command.args([other, &if other == flag { taken.clone() } else { free() }]);
        }
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.contains(&format!("cannot listen on {taken}")) && said.contains(flag) && !said.contains("Ctrl-C"), "{said}");
    }
    let output = std::process::Command::new(BINARY).args(["demo", "--listen", "127.0.0.1:0"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}
