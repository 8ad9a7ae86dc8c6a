//! Why a request moves on to the next target: refused credentials, unknown models, prompts that are too long or forbidden.

use crate::harness::gateway::Gateway;
use crate::harness::http1::Answer;
use crate::harness::manual::Manual;
use crate::harness::sim::Sim;
use crate::harness::{chat, streamed};
use serde_json::{Value, json};

/// Routes whose first target does what its script says, with a good one behind it; `more` is of all of them.
async fn gateway(sim: &Sim, routes: &[(&str, &str)], more: &str) -> Gateway {
    let route = |(name, target): &(&str, &str)| {
        format!("  {name}: {{ targets: [ {target} ], fallback: [ {{ provider: good, model: spare }} ]{more} }}\n")
    };
    let routes: String = routes.iter().map(route).collect();
    Gateway::start(&format!("auth: none\nproviders: {{ sim: {0}, good: {0} }}\nroutes:\n{routes}", sim.provider())).await
}

fn target(script: &str) -> String {
    format!("{{ provider: sim, model: \"m+{script}\" }}")
}

/// Who answered, after how many attempts.
fn by(answer: &Answer) -> (u16, &str, &str) {
    (answer.status(), answer.header("x-tidegate-provider"), answer.header("x-tidegate-attempts"))
}

/// How often a model was asked for at the simulator.
fn asked(sim: &Sim, model: &str) -> usize {
    sim.seen().iter().filter(|seen| seen.body.json().is_some_and(|body| body["model"] == model)).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_credential_or_model_is_set_aside_and_logged_once() {
    let sim = Sim::start().await;
    let scripts = ["status=401", "status=402", "status=403", "status=404", "error=insufficient_quota"];
    let targets = scripts.map(target);
    let names = ["a", "b", "c", "d", "e"];
    let routes: Vec<_> = names.into_iter().zip(targets.iter().map(String::as_str)).collect();
    let hour = ", ejection: { cooldown: { initial: 1h, max: 1h } }";
    let gateway = gateway(&sim, &routes, hour).await;
    for (name, script) in names.into_iter().zip(scripts) {
        assert_eq!(by(&gateway.chat(&chat(name)).await), (200, "good", "2"), "{script}");
        for _ in 0..10 {
            assert_eq!(by(&gateway.chat(&chat(name)).await), (200, "good", "1"), "{script}");
        }
        assert_eq!(asked(&sim, &format!("m+{script}")), 1);
        let line = gateway.output.line(&format!("route `{name}`")).await;
        assert!(line.contains("is ejected") && line.contains("\"level\":\"error\""), "{line}");
        let state = format!("tidegate_target_state{{route=\"{name}\",target=\"sim/m+{script}\"}}");
        assert_eq!(gateway.metric(&state).await, 0.0);
    }
    let lines = gateway.output.text().lines().filter(|line| line.contains("\"level\":\"error\"")).count();
    assert_eq!(lines, scripts.len(), "{}", gateway.output.text());
    let status = gateway.page("/status").await.json();
    let reason = |route: usize| status["routes"][route]["targets"][0]["reason"].clone();
    assert_eq!((reason(0), reason(3)), ("credential".into(), "not_found".into()), "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_alone_with_a_refused_credential_is_asked_all_the_same_and_a_request_finds_it_back() {
    let sim = Sim::start().await;
    let config = format!(
        "auth: none\nproviders: {{ sim: {} }}\nroutes: {{ r: {{ targets: [ {} ] }} }}\n",
        sim.provider(),
        target("fail-first=3+status=401")
    );
    let gateway = Gateway::start(&config).await;
    for _ in 0..3 {
        assert_eq!(by(&gateway.chat(&chat("r")).await), (502, "sim", "1"));
    }
    assert_eq!(by(&gateway.chat(&chat("r")).await), (200, "sim", "1"));
    gateway.output.line("is available again after a rejected credential").await;
    let lines = gateway.output.text().lines().filter(|line| line.contains("is ejected")).count();
    assert_eq!(lines, 1, "{}", gateway.output.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prompt_that_is_too_long_goes_to_another_model_and_the_first_refusal_stands_if_all_refuse() {
    let sim = Sim::start().await;
    let long = target("error=context_length_exceeded");
    let gateway = gateway(&sim, &[("one", &long), ("same", &format!("{long}, {long}"))], "").await;
    for body in [chat("one"), streamed("one"), chat("same")] {
        let answer = gateway.chat(&body).await;
        assert_eq!(by(&answer), (200, "good", "2"));
    }
    assert_eq!(asked(&sim, "m+error=context_length_exceeded"), 3);
    assert_eq!(gateway.metric("tidegate_target_state{route=\"one\",target=\"sim/m+error=context_length_exceeded\"}").await, 1.0);
    let all = Gateway::start(&format!(
        "auth: none\nproviders: {{ sim: {} }}\nroutes: {{ r: {{ targets: [ {} ], fallback: [ {} ] }} }}\n",
        sim.provider(),
        long,
        "{ provider: sim, model: \"n+error=context_length_exceeded\" }, { provider: sim, model: spare }"
    ))
    .await;
    let answer = all.chat(&chat("r")).await;
    assert_eq!((answer.status(), answer.header("x-tidegate-attempts")), (400, "2"));
    assert_eq!(answer.header("x-tidegate-upstream-model"), "m+error=context_length_exceeded", "the one whose error this is");
    assert!(answer.error().contains("maximum context length"), "{}", answer.error());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prompt_far_beyond_a_targets_context_is_not_sent_there() {
    let sim = Sim::start().await;
    let gateway = gateway(&sim, &[("r", "{ provider: sim, model: small, context: 1000 }")], "").await;
    assert_eq!(by(&gateway.chat(&chat("r")).await), (200, "sim", "1"));
    let mut long = chat("r");
    long["messages"][0]["content"] = "wave ".repeat(4000).into();
    assert_eq!(by(&gateway.chat(&long).await), (200, "good", "1"));
    gateway.output.line("\"passed_over\":\"sim/small (context)\"").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_policy_forbids_moves_on_only_where_the_route_says_so() {
    let sim = Sim::start().await;
    let (refused, withheld) = (target("error=content_policy_violation"), target("finish=content_filter+bytes=0"));
    let by_default = gateway(&sim, &[("refused", &refused), ("withheld", &withheld)], "").await;
    let answer = by_default.chat(&chat("refused")).await;
    assert_eq!((by(&answer), answer.error().contains("content policy")), ((400, "sim", "1"), true));
    let answer = by_default.chat(&chat("withheld")).await;
    assert_eq!((by(&answer), &answer.json()["choices"][0]["finish_reason"]), ((200, "sim", "1"), &"content_filter".into()));
    let on = ", retry: { on: [content_filter] }";
    let moves = gateway(&sim, &[("refused", &refused), ("withheld", &withheld)], on).await;
    for route in ["refused", "withheld"] {
        assert_eq!(by(&moves.chat(&chat(route)).await), (200, "good", "2"), "{route}");
        assert_eq!(by(&moves.chat(&streamed(route)).await), (200, "good", "2"), "{route}");
    }
    // Where nobody else is left, the empty answer is the client's.
    let alone = format!("auth: none\nproviders: {{ sim: {} }}\nroutes: {{ r: {{ targets: [ {withheld} ]{on} }} }}\n", sim.provider());
    let answer = Gateway::start(&alone).await.chat(&chat("r")).await;
    assert_eq!((by(&answer), &answer.json()["choices"][0]["finish_reason"]), ((200, "sim", "1"), &"content_filter".into()));
}

/// Sends a request, and plays the upstream's response to it.
async fn exchange(gateway: &Gateway, manual: &Manual, path: &str, status: u16, body: Value) -> u16 {
    let request = match path {
        "/v1/embeddings" => json!({ "model": "r", "input": "x" }),
        _ => chat("r"),
    };
    let (answer, ()) = tokio::join!(gateway.post(path, &[], &request), async {
        let body = body.to_string();
        let head =
            format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
        manual.accept().await.write(format!("{head}{body}").as_bytes()).await;
    });
    answer.status()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_chats_is_not_ejected_for_an_endpoint_that_it_lacks_or_fails_at() {
    let manual = Manual::start().await;
    let gateway = Gateway::start(&format!(
        "auth: none\nproviders: {{ p: {} }}\nroutes: {{ r: {{ targets: [ {{ provider: p, model: m }} ], retry: {{ attempts: 1 }}, \
         ejection: {{ failures: 1 }} }} }}\n",
        manual.provider()
    ))
    .await;
    let is_available = async || gateway.metric("tidegate_target_state{route=\"r\",target=\"p/m\"}").await == 1.0;
    assert_eq!(exchange(&gateway, &manual, "/v1/embeddings", 404, json!({"detail": "Not Found"})).await, 404);
    assert!(is_available().await, "a path that the server lacks");
    let answer = json!({"choices": [{"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}]});
    assert_eq!(exchange(&gateway, &manual, "/v1/chat/completions", 200, answer).await, 200);
    for status in [404, 401, 500, 405, 500] {
        exchange(&gateway, &manual, "/v1/embeddings", status, json!({"error": {"message": "no such model"}})).await;
        assert!(is_available().await, "{status}");
    }
    assert_eq!(exchange(&gateway, &manual, "/v1/chat/completions", 500, json!({"error": {"message": "died"}})).await, 502);
    assert!(!is_available().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_only_embeds_is_judged_by_that() {
    let sim = Sim::start().await;
    let gateway = gateway(&sim, &[("r", &target("status=500"))], ", ejection: { failures: 1 }").await;
    assert_eq!(gateway.post("/v1/embeddings", &[], &json!({ "model": "r", "input": "x" })).await.status(), 200);
    assert_eq!(gateway.metric("tidegate_target_state{route=\"r\",target=\"sim/m+status=500\"}").await, 0.0);
}
