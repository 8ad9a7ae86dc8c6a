//! Keys that come and go in `keys_dir` while the gateway runs, and the commands that write there.

use crate::harness::gateway::{BINARY, Gateway, Setup};
use crate::harness::sim::Sim;
use crate::harness::{chat, until};
use std::path::{Path, PathBuf};
use std::process::Command;
use tidegate::simulate::seen::sha256_hex;

/// Exit code, stdout and stderr of a command.
fn tidegate(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(BINARY).args(arguments).env_remove("TIDEGATE_CONFIG").output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn entry(id: &str, more: &str) -> String {
    format!("{{ id: {id}, sha256: \"{}\"{more} }}", sha256_hex(format!("tg-{id}").as_bytes()))
}

async fn status(gateway: &Gateway, key: &str) -> u16 {
    gateway.chat_as(&[("authorization", &format!("Bearer {key}"))], &chat("r")).await.status()
}

/// Awaits the moment from which a key is answered like this.
async fn becomes(gateway: &Gateway, key: &str, wanted: u16) {
    until(&format!("{wanted} for {key}"), async || (status(gateway, key).await == wanted).then_some(())).await;
}

fn config(sim: &Sim, keys_dir: &Path, more: &str) -> String {
    let target = "targets: [ { provider: sim, model: m } ]";
    format!(
        "keys_dir: {}\nproviders: {{ sim: {} }}\nroutes:\n  r: {{ {target} }}\n{more}\
         teams:\n  red: {{ routes: [r], keys: [ {} ] }}\n",
        keys_dir.display(),
        sim.provider(),
        entry("main", "")
    )
}

/// A gateway with these key files.
async fn gateway(sim: &Sim, files: &[(&str, String)]) -> (Gateway, PathBuf) {
    let setup = Setup::new("");
    let dir = setup.dir.join("keys.d");
    std::fs::create_dir(&dir).unwrap();
    for (name, text) in files {
        std::fs::write(dir.join(name), text).unwrap();
    }
    (setup.config(&config(sim, &dir, "  other: { targets: [ { provider: sim, model: m } ] }\n")).start().await, dir)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_made_used_listed_and_disabled_while_the_gateway_runs() {
    let sim = Sim::start().await;
    let (gateway, dir) = gateway(&sim, &[]).await;
    let main = gateway.path.display().to_string();
    let new = |more: &[&str]| tidegate(&[&["key", "new", "--config", &main], more].concat());
    let (code, key, said) = new(&["--team", "red", "--id", "red-1", "--expires", "2100-01-01T00:00:00Z"]);
    assert_eq!((code, key.lines().count()), (Some(0), 1), "{said}");
    let key = key.trim();
    let file = dir.join("red.yaml");
    let written = std::fs::read_to_string(&file).unwrap();
    assert!(key.starts_with("tg-") && !written.contains(key) && !said.contains(key), "{written}");
    assert!(written.contains(&sha256_hex(key.as_bytes())) && written.contains("2100-01-01T00:00:00Z"), "{written}");
    becomes(&gateway, key, 200).await;
    assert_eq!(gateway.chat_as(&[("x-api-key", key)], &chat("other")).await.status(), 403, "its team's routes");
    let beside = [("authorization", "Bearer sk-ant-oat01-foreign"), ("x-api-key", key)];
    assert_eq!(gateway.chat_as(&beside, &chat("r")).await.status(), 200, "beside a login at another service");
    assert!(!format!("{:?}", sim.seen()).contains("foreign"), "which no provider gets");
    // By hand, beside comments, which stay.
    std::fs::write(&file, format!("# of the red team\n{written}  - {} # by hand\n", entry("by-hand", ""))).unwrap();
    becomes(&gateway, "tg-by-hand", 200).await;
    let (code, _, said) = tidegate(&["key", "disable", "red-1", "--config", &main]);
    assert_eq!(code, Some(0), "{said}");
    becomes(&gateway, key, 401).await;
    gateway.output.line("\"reason\":\"disabled\"").await;
    assert_eq!(status(&gateway, "tg-by-hand").await, 200);
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("# of the red team\n") && text.contains("# by hand"), "{text}");
    // A team that is not in the main file, and an id of the command's own.
    let (code, blue, said) = new(&["--team", "blue"]);
    assert!(code == Some(0) && said.contains("`blue` is new"), "{said}");
    becomes(&gateway, blue.trim(), 200).await;
    let (code, listed, _) = tidegate(&["key", "list", "--config", &main]);
    let rows: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().take(3).collect()).collect();
    assert!(
        code == Some(0) && rows.contains(&vec!["red-1", "red", "disabled"]) && rows.contains(&vec!["main", "red", "active"]),
        "{listed}"
    );
    assert!(rows.iter().any(|row| row[0].starts_with("blue-") && row[1..] == ["blue", "active"]), "{listed}");
    assert_eq!(tidegate(&["key", "list", "--team", "blue", "--config", &main]).1.lines().count(), 2);
    // What cannot be done is said, and changes nothing.
    let before = std::fs::read_to_string(&file).unwrap();
    for (arguments, word) in [
        (&["key", "new", "--team", "red", "--id", "red-1"][..], "there is a key `red-1`"),
        (&["key", "new", "--team", "red", "--id", "main"], "give the new one another --id"),
        (&["key", "new", "--team", "red", "--expires", "2001-01-01T00:00:00Z"], "past"),
        (&["key", "new", "--team", "../red", "--id", "x"], "no file can be named after"),
        (&["key", "new", "--team", "a b", "--id", "x"], "cannot be the name of a team"),
        (&["key", "disable", "nobody"], "there is no key `nobody`"),
        (&["key", "disable", "main"], "write `disabled: true` there"),
    ] {
        let (code, out, said) = tidegate(&[arguments, &["--config", &main]].concat());
        assert!(code == Some(1) && out.is_empty() && said.contains(word), "{arguments:?}: {code:?} {out} {said}");
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
    assert!(!gateway.output.text().contains(key), "a key in the log");
    assert!(std::fs::read_dir(&dir).unwrap().all(|entry| !entry.unwrap().file_name().to_string_lossy().ends_with(".tmp")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_at_once_do_not_lose_each_others_keys() {
    let sim = Sim::start().await;
    let (gateway, dir) = gateway(&sim, &[]).await;
    let dir = dir.display().to_string();
    let made: Vec<_> = (0..12)
        .map(|n| {
            let dir = dir.clone();
            let arguments = move || {
                let id = format!("k{n}");
                tidegate(&["key", "new", "--team", "red", "--id", &id, "--keys-dir", &dir, "--config", "/nowhere.yaml"])
            };
            std::thread::spawn(arguments)
        })
        .collect();
    for thread in made {
        let (code, key, said) = thread.join().unwrap();
        assert_eq!(code, Some(0), "{said}");
        becomes(&gateway, key.trim(), 200).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_file_is_told_and_changes_nothing_but_itself() {
    let sim = Sim::start().await;
    let keys = |all: &[String]| format!("keys: [ {} ]\n", all.join(", "));
    let limited = entry("limited", ", limits: [ { requests: 3, per: 30d } ]");
    let files = [("red.yaml", keys(&[entry("r1", "")])), ("blue.yaml", keys(&[entry("b1", ""), limited.clone()]))];
    let (gateway, dir) = gateway(&sim, &files).await;
    for key in ["tg-main", "tg-r1", "tg-b1", "tg-limited"] {
        assert_eq!(status(&gateway, key).await, 200, "{key}");
    }
    assert_eq!(gateway.metric("tidegate_key_file_problems").await, 0.0);
    std::fs::write(dir.join("red.yaml"), "keys:\n  - { id: r1, sah256: x }\n").unwrap();
    let told = until("the problem in /status", async || {
        let status = gateway.page("/status").await.json();
        status["key_files"]["problems"].as_array().unwrap().first().cloned()
    })
    .await;
    assert!(told.as_str().unwrap().contains("red.yaml:2:"), "{told}");
    gateway.output.line("key file not in force as it is").await;
    assert!(gateway.metric("tidegate_key_file_problems").await >= 1.0);
    let (code, _, said) = tidegate(&["check", "--config", &gateway.path.display().to_string()]);
    assert!(code == Some(1) && said.contains("red.yaml:2:") && said.contains("sah256"), "{said}");
    // The others go on, and so does what was in force of it; also through a reload of the main file.
    std::fs::write(dir.join("blue.yaml"), keys(&[entry("b2", ""), limited])).unwrap();
    becomes(&gateway, "tg-b2", 200).await;
    becomes(&gateway, "tg-b1", 401).await;
    gateway.reload(&config(&sim, &dir, "  third: { targets: [ { provider: sim, model: m } ] }\n")).await;
    until("the new route", async || {
        let answer = gateway.get("/v1/models", &[("x-api-key", "tg-b2")]).await.json();
        answer.to_string().contains("third").then_some(())
    })
    .await;
    assert_eq!((status(&gateway, "tg-r1").await, status(&gateway, "tg-main").await), (200, 200));
    // Counters have survived all of this: two are left of three.
    for wanted in [200, 200, 429] {
        assert_eq!(status(&gateway, "tg-limited").await, wanted);
    }
    std::fs::write(dir.join("red.yaml"), keys(&[entry("r2", "")])).unwrap();
    becomes(&gateway, "tg-r2", 200).await;
    assert_eq!(status(&gateway, "tg-r1").await, 401);
    assert_eq!(gateway.page("/status").await.json()["key_files"]["problems"].as_array().unwrap().len(), 0);
    assert_eq!(gateway.metric("tidegate_key_file_problems").await, 0.0);
    // Files that are gone take their keys along, the last one too.
    std::fs::remove_file(dir.join("blue.yaml")).unwrap();
    becomes(&gateway, "tg-b2", 401).await;
    std::fs::remove_file(dir.join("red.yaml")).unwrap();
    becomes(&gateway, "tg-r2", 401).await;
    assert_eq!(status(&gateway, "tg-main").await, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_does_without_a_bad_file_and_a_directory_that_is_away_revokes_nothing() {
    let sim = Sim::start().await;
    let blue = format!("routes: [other]\nkeys: [ {} ]\n", entry("b1", ""));
    let (gateway, dir) = gateway(&sim, &[("red.yaml", "keys: [ {".to_owned()), ("blue.yaml", blue)]).await;
    gateway.output.line("key file not in force as it is").await;
    let other = async || gateway.chat_as(&[("x-api-key", "tg-b1")], &chat("other")).await.status();
    assert_eq!((other().await, status(&gateway, "tg-r1").await, status(&gateway, "tg-main").await), (200, 401, 200));
    // A main file without the route of a key file is not taken.
    gateway.reload(&config(&sim, &dir, "")).await;
    let problems = until("the rejection", async || {
        let status = gateway.page("/status").await.json();
        (status["reloads"]["rejected"].as_u64() > Some(0)).then(|| status["reloads"]["problems"].to_string())
    })
    .await;
    assert!(problems.contains("blue.yaml:1:10") && problems.contains("there is no route `other`"), "{problems}");
    assert_eq!(other().await, 200);
    let away = dir.with_extension("away");
    std::fs::rename(&dir, &away).unwrap();
    gateway.output.line("there is no directory").await;
    assert_eq!(other().await, 200);
    std::fs::write(away.join("red.yaml"), format!("keys: [ {} ]\n", entry("r1", ""))).unwrap();
    std::fs::rename(&away, &dir).unwrap();
    becomes(&gateway, "tg-r1", 200).await;
    assert_eq!(other().await, 200);
}

#[test]
fn a_directory_that_is_not_there_is_an_error_with_its_place() {
    let dir = crate::harness::dir::Dir::new();
    let rest = "providers: { p: { kind: vllm, base_url: \"http://127.0.0.1:1/v1\" } }\nroutes: { r: { targets: [ { provider: p, model: m } ] } }\n";
    let file = dir.write("t.yaml", &format!("keys_dir: {}\n{rest}", dir.join("nothing").display())).display().to_string();
    let (code, _, said) = tidegate(&["check", "--config", &file]);
    assert!(code == Some(1) && said.contains("t.yaml:1:11") && said.contains("there is no directory"), "{said}");
    let without = dir.write("w.yaml", rest).display().to_string();
    let (code, _, said) = tidegate(&["key", "new", "--team", "t", "--config", &without]);
    assert!(code == Some(1) && said.contains("has no `keys_dir`"), "{said}");
    let (code, listed, said) = tidegate(&["key", "list", "--config", &without]);
    assert!(code == Some(0) && listed.starts_with("ID") && said.is_empty(), "{listed}{said}");
}

#[test]
fn a_key_that_cannot_be_printed_is_said_to_be_lost() {
    let dir = crate::harness::dir::Dir::new();
    let run = |arguments: &str| {
        let command = format!("{} {arguments}", env!("CARGO_BIN_EXE_tidegate"));
        let output = std::process::Command::new("sh").args(["-c", &command]).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = run(&format!("key new --team x --id y --keys-dir {} >/dev/full", dir.display()));
    assert!(code == Some(4) && said.contains("the key `y` could not be printed and is lost") && said.contains("key disable y"), "{said}");
    let (code, said) = run("schema >/dev/full");
    assert!(code == Some(4) && said.contains("cannot write the output"), "{said}");
    // A reader that has gone is no failure, wherever the output goes; `false` starts no later than the pipe is written.
    let log = dir.write("log", "no line of an access log\n").display().to_string();
    let (code, said) =
        run(&format!("schema | true; {} report {log} 2>&1 | (exec 0<&-; sleep 0.2); echo done >&2", env!("CARGO_BIN_EXE_tidegate")));
    assert!(code == Some(0) && said == "done\n", "{said}");
}
