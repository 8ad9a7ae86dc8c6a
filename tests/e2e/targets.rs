//! Who is asked: what is known of targets, and what becomes of a request whose target may not be asked.

use crate::harness::gateway::{Gateway, Setup, free_port};
use crate::harness::http1::Answer;
use crate::harness::manual::Manual;
use crate::harness::sim::Sim;
use crate::harness::{chat, config};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_alone_shows_as_ejected_and_is_asked_all_the_same() {
    let sim = Sim::start().await;
    let route = "retry: { attempts: 2, backoff: { initial: 1ms, max: 1ms } }, ejection: { failures: 3, window: 1h }";
    let gateway = Gateway::start(&config("", ("sim", &sim.provider()), "s/*", route)).await;
    let state = "tidegate_target_state{route=\"s/*\",target=\"sim/*\"}";
    assert_eq!(gateway.metric(state).await, 1.0);
    for _ in 0..3 {
        let answer = gateway.chat(&chat("s/m+status=500")).await;
        assert_eq!((answer.status(), answer.header("x-tidegate-attempts")), (502, "2"));
    }
    assert_eq!((sim.count(), gateway.metric(state).await), (6, 0.0));
    assert_eq!(gateway.chat(&chat("s/m")).await.status(), 200);
    assert_eq!(gateway.metric(state).await, 1.0);
}

/// Who answered, after how many attempts.
fn by(answer: &Answer) -> (u16, &str, &str) {
    (answer.status(), answer.header("x-tidegate-provider"), answer.header("x-tidegate-attempts"))
}

/// A pattern with a fallback, an equal one without, and a fixed model that is one of the pattern's.
async fn patterns(sim: &Sim, ejection: &str) -> Gateway {
    let target = |model: &str| format!("targets: [ {{ provider: sim, model: \"{model}\" }} ], retry: {{ attempts: 2 }}, {ejection}");
    let good = "fallback: [ { provider: good, model: m } ]";
    let (pattern, fixed) = (target("*"), target("b+status=429+retry-after=600"));
    Gateway::start(&format!(
        "auth: none\nproviders: {{ sim: {0}, good: {0} }}\nroutes: {{ \"o/*\": {{ {pattern}, {good} }}, \"x/*\": {{ {pattern}, {good} }}, \
         fixed: {{ {fixed}, {good} }} }}\n",
        sim.provider()
    ))
    .await
}

/// What `/status` has of the first route's first target.
async fn first_target(gateway: &Gateway) -> serde_json::Value {
    gateway.page("/status").await.json()["routes"][0]["targets"][0].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_429_for_one_model_of_a_pattern_leaves_the_others() {
    let sim = Sim::start().await;
    let gateway = patterns(&sim, "ejection: {}").await;
    assert_eq!(by(&gateway.chat(&chat("o/b+status=429+retry-after=600")).await), (200, "good", "2"));
    assert_eq!(by(&gateway.chat(&chat("o/other")).await), (200, "sim", "1"));
    // The model rests at this provider, whatever the route.
    for route in ["o/b+status=429+retry-after=600", "x/b+status=429+retry-after=600", "fixed"] {
        assert_eq!(by(&gateway.chat(&chat(route)).await), (200, "good", "1"), "{route}");
    }
    let target = first_target(&gateway).await;
    let models = &target["models"];
    assert_eq!((&target["healthy"], &models["known"], &models["out"]), (&true.into(), &2.into(), &1.into()), "{target}");
    assert_eq!(models["listed"][0]["model"], "b+status=429+retry-after=600");
    assert!(models["listed"][0]["resting_for_ms"].as_u64().unwrap() > 60_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_of_one_model_of_a_pattern_eject_that_model_only() {
    let sim = Sim::start().await;
    let gateway = patterns(&sim, "ejection: { failures: 6, window: 1h, cooldown: { initial: 1h, max: 1h } }").await;
    for _ in 0..6 {
        assert_eq!(by(&gateway.chat(&chat("o/bad+status=500")).await), (200, "good", "2"));
    }
    let state = "tidegate_target_state{route=\"o/*\",target=\"sim/*\"}";
    assert_eq!(gateway.metric(state).await, 0.0, "all known models are ejected");
    assert_eq!(by(&gateway.chat(&chat("o/bad+status=500")).await), (200, "good", "1"));
    assert_eq!(by(&gateway.chat(&chat("o/other")).await), (200, "sim", "1"));
    assert_eq!(gateway.metric(state).await, 1.0);
    assert!(first_target(&gateway).await["models"]["listed"][0]["ejected_for_ms"].as_u64().unwrap() > 60_000);
    // As before, a reload keeps what is known.
    gateway.signal("HUP").await;
    gateway.reloaded(1).await;
    assert_eq!(by(&gateway.chat(&chat("x/bad+status=500")).await), (200, "good", "1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pattern_knows_a_bounded_number_of_models() {
    let sim = Sim::start().await;
    let gateway = patterns(&sim, "ejection: {}").await;
    let name = |i: usize| format!("o/m{i}+status=429+retry-after=600");
    for i in 0..300 {
        assert_eq!(by(&gateway.chat(&chat(&name(i))).await), (200, "good", "2"));
    }
    let models = first_target(&gateway).await["models"].clone();
    assert_eq!((&models["known"], &models["out"], models["listed"].as_array().unwrap().len()), (&256.into(), &256.into(), 32));
    assert_eq!(by(&gateway.chat(&chat(&name(299))).await), (200, "good", "1"));
    assert_eq!(by(&gateway.chat(&chat(&name(0))).await), (200, "good", "2"), "evicted: it is asked again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_without_a_free_connection_is_passed_over() {
    let (sim, manual) = (Sim::start().await, Manual::start().await);
    let narrow = manual.provider().replace(" }", ", max_connections: 1 }");
    let (hand, good) = ("provider: hand, model: m", "fallback: [ { provider: sim, model: good } ]");
    let gateway = Gateway::start(&format!(
        "auth: none\nproviders: {{ hand: {narrow}, sim: {} }}\nroutes:\n           once: {{ targets: [ {{ {hand} }} ], {good}, retry: {{ attempts: 1, on: [connect] }} }}\n           twice: {{ targets: [ {{ provider: sim, model: \"bad+status=500\" }}, {{ {hand}, weight: 0 }} ], {good} }}\n           alone: {{ targets: [ {{ {hand} }} ], retry: {{ attempts: 9 }} }}\n",
        sim.provider()
    ))
    .await;
    let _conn = gateway.open(&chat("once")).await;
    let held = manual.accept().await;
    assert_eq!(by(&gateway.chat(&chat("once")).await), (200, "sim", "1"));
    assert_eq!(by(&gateway.chat(&chat("twice")).await), (200, "sim", "2"));
    let line = gateway.output.line("\"attempts\":2").await;
    assert!(line.contains("\"status\":200") && line.contains("\"reason\":null"), "what failed was made good: {line}");
    let answer = gateway.chat(&chat("alone")).await;
    assert_eq!((by(&answer), answer.json()["error"]["type"].as_str()), ((503, "", "0"), Some("overloaded_error")));
    assert_eq!(gateway.metric("tidegate_upstream_attempts_total{operation=\"chat\",outcome=\"limited\",provider=\"hand\"}").await, 3.0);
    drop(held);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_at_its_limit_is_passed_over_and_counts_what_it_lets_in() {
    let sim = Sim::start().await;
    let provider = |more: &str| sim.provider().replace(" }", &format!(", limits: [ {more} ] }}"));
    let claude = format!("{{ kind: anthropic, api_key: sk-ant-test, base_url: \"http://{}/anthropic\"", sim.address());
    let target = |provider: &str| format!("targets: [ {{ provider: {provider}, model: m, price: {{ input: 1, output: 1 }} }} ]");
    let good = "fallback: [ { provider: good, model: m } ]";
    let gateway = Gateway::start(&format!(
        "auth: none\nproviders: {{ good: {}, few: {}, poor: {}, claude: {claude}, limits: [ {{ requests: 1, per: 30d }} ] }} }}\nroutes:\n  \
         alone: {{ {} }}\n  few: {{ {}, {good} }}\n  poor: {{ {}, {good} }}\n  claude: {{ {}, {good} }}\n",
        sim.provider(),
        provider("{ requests: 1, per: 30d }"),
        provider("{ usd: 0.000001, per: 30d }"),
        target("few"),
        target("few"),
        target("poor"),
        target("claude"),
    ))
    .await;
    let answer = gateway.chat(&chat("alone")).await;
    assert_eq!(by(&answer), (200, "few", "1"));
    let remaining = |answer: &Answer| answer.header("x-ratelimit-remaining-requests").to_owned();
    assert_eq!(remaining(&answer), "0", "the provider's limits are told as well");
    let answer = gateway.chat(&chat("alone")).await;
    assert_eq!((by(&answer), remaining(&answer).as_str()), ((429, "", "0"), "0"));
    assert!(answer.header("retry-after").parse::<u64>().unwrap() > 3600);
    gateway.output.line("\"reason\":\"limited\"").await;
    let decisions =
        |decision: &str| format!("tidegate_limit_decisions_total{{decision=\"{decision}\",dimension=\"requests\",scope=\"provider\"}}");
    assert_eq!((gateway.metric(&decisions("admitted")).await, gateway.metric(&decisions("refused")).await), (1.0, 1.0));
    let answer = gateway.chat(&chat("few")).await;
    assert_eq!((by(&answer), remaining(&answer).as_str()), ((200, "good", "1"), ""), "another one's limit is not told");
    // A spent budget is no end either.
    assert_eq!(by(&gateway.chat(&chat("poor")).await), (200, "poor", "1"));
    assert_eq!(by(&gateway.chat(&chat("poor")).await), (200, "good", "1"));
    // What a provider is never asked for, it does not count.
    let mut two = chat("claude");
    two["n"] = 2.into();
    assert_eq!(by(&gateway.chat(&two).await), (200, "good", "1"));
    assert_eq!(by(&gateway.chat(&chat("claude")).await), (200, "claude", "1"));
    assert_eq!(by(&gateway.chat(&two).await), (200, "good", "1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_cannot_serve_a_request_is_passed_over() {
    let sim = Sim::start().await;
    let claude = format!("{{ kind: anthropic, api_key: sk-ant-test, base_url: \"http://{}/anthropic\" }}", sim.address());
    let down = format!("{{ kind: vllm, base_url: \"http://127.0.0.1:{}/v1\" }}", free_port());
    let (c, s, d) = ("{ provider: claude, model: c }", "{ provider: sim, model: m }", "{ provider: down, model: d }");
    let gateway = Gateway::start(&format!(
        "auth: none\nproviders: {{ claude: {claude}, sim: {}, down: {down} }}\nroutes:\n  both: {{ targets: [ {c}, {s} ] }}\n  \
         first: {{ targets: [ {c} ], fallback: [ {s} ] }}\n  none: {{ targets: [ {c}, {c} ] }}\n  gone: {{ targets: [ {c} ], fallback: [ {d} ] }}\n  \
         bad: {{ targets: [ {c} ], fallback: [ {{ provider: sim, model: \"m+status=400\" }} ] }}\n",
        sim.provider()
    ))
    .await;
    let two = |route: &str| {
        let mut request = chat(route);
        request["n"] = 2.into();
        request
    };
    for _ in 0..20 {
        assert_eq!(by(&gateway.chat(&two("both")).await), (200, "sim", "1"));
    }
    assert_eq!(by(&gateway.chat(&two("first")).await), (200, "sim", "1"));
    let line = gateway.output.line("\"passed_over\"").await;
    assert!(line.contains("\"passed_over\":\"claude/c (n)\",\"attempts\":1,\"status\":200"), "{line}");
    let answer = gateway.chat(&two("none")).await;
    assert_eq!((by(&answer), answer.json()["error"]["param"].as_str()), ((400, "", "0"), Some("n")));
    // A target that could have served it is down: that is what the client gets.
    let answer = gateway.chat(&two("gone")).await;
    assert_eq!((answer.status(), answer.header("x-tidegate-attempts")), (502, "2"), "{}", answer.text());
    let line = gateway.output.line("\"status\":502").await;
    assert!(line.contains("\"reason\":\"connect\"") && line.contains("claude/c (n)"), "{line}");
    assert_eq!(gateway.chat(&two("bad")).await.status(), 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_failures_the_client_gets_the_most_useful_one() {
    let sim = Sim::start().await;
    let targets = |statuses: &[&str]| {
        let target = |script: &&str| format!("{{ provider: sim, model: \"m+status={script}\" }}");
        let all: Vec<String> = statuses.iter().map(target).collect();
        format!("{{ targets: [ {} ], fallback: [ {} ], ejection: {{ failures: 0 }} }}", all[0], all[1..].join(", "))
    };
    let cases = [(&["503", "500"][..], 503), (&["429+retry-after=2", "504", "500"], 429), (&["500", "504"], 504), (&["500", "400"], 400)];
    let routes: Vec<String> = cases.iter().enumerate().map(|(i, (statuses, _))| format!("  r{i}: {}\n", targets(statuses))).collect();
    let gateway = Gateway::start(&format!("auth: none\nproviders: {{ sim: {} }}\nroutes:\n{}", sim.provider(), routes.concat())).await;
    for (i, (statuses, told)) in cases.iter().enumerate() {
        let answer = gateway.chat(&chat(&format!("r{i}"))).await;
        let attempts = statuses.len().to_string();
        assert_eq!((answer.status(), answer.header("x-tidegate-attempts")), (*told, attempts.as_str()), "{statuses:?}");
    }
    let line = gateway.output.line("\"status\":429").await;
    assert!(line.contains("\"reason\":\"rate_limited\""), "{line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_no_credential_is_to_be_had_for_gives_way_to_the_next() {
    let sim = Sim::start().await;
    let setup = Setup::new("");
    let user = serde_json::json!({
        "type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r",
        "token_uri": format!("http://127.0.0.1:{}/token", free_port()),
    });
    let file = setup.dir.write("user.json", &user.to_string());
    let config = format!(
        "auth: none\nproviders: {{ google: {{ kind: vertex, project: p, location: l, base_url: \"http://{}/vertex\", credentials_file: {} }}, \
         sim: {} }}\nroutes:\n  alone: {{ targets: [ {{ provider: google, model: m }} ] }}\n  \
         both: {{ targets: [ {{ provider: google, model: m }} ], fallback: [ {{ provider: sim, model: m }} ] }}\n",
        sim.address(),
        file.display(),
        sim.provider()
    );
    let gateway = setup.config(&config).start().await;
    assert_eq!(by(&gateway.chat(&chat("both")).await), (200, "sim", "2"));
    let answer = gateway.chat(&chat("alone")).await;
    assert_eq!((answer.status(), answer.error().contains("credential")), (502, true));
    assert_eq!(
        gateway.metric("tidegate_upstream_attempts_total{operation=\"chat\",outcome=\"credential\",provider=\"google\"}").await,
        2.0
    );
}
