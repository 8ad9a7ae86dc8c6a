//! A changed configuration takes over whole, a bad one not at all, and nothing in flight notices.

use crate::harness::gateway::{Gateway, Setup};
use crate::harness::manual::Manual;
use crate::harness::sim::Sim;
use crate::harness::sse::{Events, Story};
use crate::harness::{self, chat, streamed, until};
use std::os::unix::fs::symlink;

fn config(sim: &Sim, route: &str) -> String {
    harness::config("", ("sim", &sim.provider()), route, "")
}

/// Awaits the moment from which only this route is there.
async fn only_route(gateway: &Gateway, name: &str) {
    until(&format!("the route {name}"), async || {
        let list = gateway.get("/v1/models", &[]).await.json();
        let ids: Vec<_> = list["data"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap()).collect();
        (ids == [name]).then_some(())
    })
    .await;
    assert_eq!(gateway.chat(&chat(name)).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_written_file_a_replaced_file_and_a_switched_link() {
    let sim = Sim::start().await;
    let gateway = Setup::new(&config(&sim, "one")).linked().start().await;
    only_route(&gateway, "one").await;
    // In place, with a signal.
    gateway.reload(&config(&sim, "two")).await;
    only_route(&gateway, "two").await;
    // As a ConfigMap does it: a new directory, and the link to it renamed over the old one. Nobody sends a signal.
    std::fs::create_dir(gateway.dir.join("v2")).unwrap();
    gateway.dir.write("v2/tidegate.yaml", &gateway.text(&config(&sim, "three")));
    symlink("v2", gateway.dir.join("..data_tmp")).unwrap();
    std::fs::rename(gateway.dir.join("..data_tmp"), gateway.dir.join("..data")).unwrap();
    only_route(&gateway, "three").await;
    // As an editor does it: a new file renamed over the old one, here over the link itself.
    let new = gateway.dir.write("new.yaml", &gateway.text(&config(&sim, "four")));
    std::fs::rename(new, &gateway.path).unwrap();
    only_route(&gateway, "four").await;
    assert!(gateway.metric("tidegate_config_reloads_total{result=\"applied\"}").await >= 3.0);
    assert_eq!(gateway.metric("tidegate_config_reloads_total{result=\"rejected\"}").await, 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_file_changes_nothing_and_shows() {
    let sim = Sim::start().await;
    let gateway = Gateway::start(&config(&sim, "one")).await;
    gateway.reload(&config(&sim, "two").replace("model:", "modle:").replace("kind: vllm", "kind: vlm")).await;
    let status = until("the rejection in /status", async || {
        let status = gateway.page("/status").await.json();
        (status["reloads"]["rejected"].as_u64() > Some(0)).then_some(status)
    })
    .await;
    let problems = status["reloads"]["problems"].to_string();
    assert!(problems.contains("modle") && problems.contains("vlm") && problems.contains("tidegate.yaml:"), "{problems}");
    assert!(gateway.metric("tidegate_config_reloads_total{result=\"rejected\"}").await >= 1.0);
    gateway.output.line("modle").await;
    only_route(&gateway, "one").await;
    assert_eq!(gateway.metric("tidegate_config_rejected").await, 1.0);
    std::fs::remove_file(&gateway.path).unwrap();
    gateway.signal("HUP").await;
    only_route(&gateway, "one").await;
    gateway.reload(&config(&sim, "three")).await;
    only_route(&gateway, "three").await;
    assert_eq!(gateway.page("/status").await.json()["reloads"]["problems"].as_array().unwrap().len(), 0);
    assert_eq!(gateway.metric("tidegate_config_rejected").await, 0.0);
    gateway.output.line("is in force: 1 route, 0 keys").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_in_flight_ends_as_it_began() {
    let (sim, manual) = (Sim::start().await, Manual::start().await);
    let gateway = Gateway::start(&manual.config("", "")).await;
    let conn = gateway.open(&streamed("hand")).await;
    let mut exchange = manual.say("before").await;
    let mut events = Events::of(conn).await;
    let mut story = Story::default();
    story.take(&events.next().await.unwrap());
    gateway.reload(&config(&sim, "new")).await;
    only_route(&gateway, "new").await;
    assert_eq!(gateway.chat(&chat("hand")).await.status(), 404);
    exchange.say(" and after").await;
    exchange.end().await;
    events.rest(&mut story).await;
    assert_eq!((story.content.as_str(), story.done, events.broken), ("before and after", true, false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_during_reloads_are_served_by_one_of_the_two() {
    let sim = Sim::start().await;
    let text = |model: &str| config(&sim, "r").replace("\"m\"", model);
    let gateway = Gateway::start(&text("a0")).await;
    let asking = async {
        let mut conn = gateway.connect().await;
        let mut models = std::collections::BTreeSet::new();
        while !models.contains("a5") {
            conn.chat(&[], chat("r").to_string().as_bytes()).await;
            let answer = conn.answer().await.unwrap();
            let model = answer.header("x-tidegate-upstream-model").to_owned();
            assert!(answer.content().contains(&format!("Hello from {model}!")), "{}", answer.text());
            models.insert(model);
        }
    };
    let reloading = async {
        for n in 1..=5 {
            gateway.reload(&text(&format!("a{n}"))).await;
            gateway.reloaded(n).await;
        }
    };
    tokio::join!(crate::harness::soon("the last configuration", asking), reloading);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_survive_and_a_new_key_file_is_used() {
    let sim = Sim::start().await;
    let setup = Setup::new("");
    let key_file = setup.dir.write("provider.key", "sk-first\n");
    let text = |note: &str| {
        format!(
            "auth: none\nproviders: {{ p: {{ kind: openai, base_url: \"http://{}/openai/v1\", api_key_file: {} }} }}\n\
             routes:\n  few: {{ targets: [ {{ provider: p, model: m }} ], limits: [ {{ requests: 2, per: 30d }} ] }}\n  \
             {note}: {{ targets: [ {{ provider: p, model: m }} ] }}\n",
            sim.address(),
            key_file.display()
        )
    };
    let gateway = setup.config(&text("before")).start().await;
    let asked_with = async || {
        assert_eq!(gateway.chat(&chat("before")).await.status(), 200);
        sim.seen().last().unwrap().headers["authorization"].to_str().unwrap().to_owned()
    };
    assert_eq!(asked_with().await, "Bearer sk-first");
    // The secret alone changes, the way a secret is rotated: a new file over the old one.
    let new = gateway.dir.write("provider.new", "sk-second\n");
    std::fs::rename(new, &key_file).unwrap();
    until("the new key", async || (asked_with().await == "Bearer sk-second").then_some(())).await;
    assert_eq!(gateway.chat(&chat("few")).await.status(), 200);
    assert_eq!(gateway.chat(&chat("few")).await.status(), 200);
    assert_eq!(gateway.chat(&chat("few")).await.status(), 429);
    gateway.reload(&text("after")).await;
    until("the reload", async || (gateway.chat(&chat("after")).await.status() == 200).then_some(())).await;
    assert_eq!(gateway.chat(&chat("few")).await.status(), 429, "a reload is no way around a limit");
    assert!(!gateway.output.text().contains("sk-"), "a key in the log");
    assert!(!gateway.page("/status").await.text().contains("sk-"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_warning_is_logged_once_and_shown_while_it_holds() {
    let sim = Sim::start().await;
    let odd = |route: &str, lease: &str| config(&sim, route) + &format!("limits: {{ lease: {lease} }}\n");
    let gateway = Gateway::start(&odd("one", "100ms")).await;
    gateway.output.line("`lease` has no effect").await;
    // The same in another place of another configuration, then none, then again.
    for (route, text, logged, shown) in [
        ("two", format!("\n\n{}", odd("two", "200ms")), 1, 1),
        ("three", config(&sim, "three"), 1, 0),
        ("four", odd("four", "100ms"), 2, 1),
    ] {
        gateway.reload(&text).await;
        only_route(&gateway, route).await;
        let status = gateway.page("/status").await.json();
        assert_eq!(status["reloads"]["warnings"].as_array().unwrap().len(), shown, "{route}");
        until("the log", async || (gateway.output.text().matches("`lease` has no effect").count() == logged).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_comes_after_its_configuration_is_found() {
    let sim = Sim::start().await;
    let gateway = Gateway::start(&config(&sim, "one")).await;
    let key_file = gateway.dir.join("provider.key");
    let provider = format!("{{ kind: openai, base_url: \"http://{}/openai/v1\", api_key_file: {} }}", sim.address(), key_file.display());
    std::fs::write(&gateway.path, gateway.text(&config(&sim, "two").replace(&sim.provider(), &provider))).unwrap();
    until("the rejection", async || (gateway.metric("tidegate_config_reloads_total{result=\"rejected\"}").await >= 1.0).then_some(()))
        .await;
    only_route(&gateway, "one").await;
    gateway.dir.write("provider.key", "sk-late\n");
    only_route(&gateway, "two").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_need_a_restart_are_warned_of_until_they_are_what_the_process_has() {
    let sim = Sim::start().await;
    let gateway = Gateway::start(&config(&sim, "r")).await;
    for (generation, server) in [(2, "threads: 3"), (3, "")] {
        gateway.reload(&harness::config(server, ("sim", &sim.provider()), "r", "")).await;
        gateway.output.line(&format!("configuration {generation} is in force")).await;
    }
    assert_eq!(gateway.output.text().matches("take effect after an upgrade or restart").count(), 1, "{}", gateway.output.text());
}
