//! The retry budget of a route.

use crate::harness::chat;
use crate::harness::gateway::Gateway;
use crate::harness::sim::Sim;
use std::fmt::Write as _;
use tidegate::simulate::seen::sha256_hex;

/// The routes `alone`, with one target that always fails, and `two`, with a second provider that does not.
fn config(sim: &Sim, budget: &str) -> String {
    let retry = format!("retry: {{ attempts: 3, backoff: {{ initial: 1ms, max: 1ms }}, {budget} }}, ejection: {{ failures: 0 }}");
    let bad = "{ provider: sim, model: \"m+status=503\" }";
    let mut text = format!("auth: none\nproviders: {{ sim: {0}, other: {0} }}\nroutes:\n", sim.provider());
    writeln!(text, "  alone: {{ targets: [ {bad} ], {retry} }}").unwrap();
    writeln!(text, "  two: {{ targets: [ {bad}, {{ provider: sim, model: \"n+status=503\", weight: 0 }} ], fallback: [ {{ provider: other, model: m }} ], {retry} }}").unwrap();
    text
}

async fn refused(gateway: &Gateway, route: &str) -> f64 {
    gateway.metric(&format!("tidegate_retries_over_budget_total{{route=\"{route}\"}}")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_budget_a_provider_is_asked_once_and_the_next_one_all_the_same() {
    let sim = Sim::start().await;
    let gateway = Gateway::start(&config(&sim, "budget: { share: 0, per_second: 0 }")).await;
    let answer = gateway.chat(&chat("alone")).await;
    assert_eq!((answer.status(), answer.header("x-tidegate-attempts"), sim.count()), (503, "1", 1), "{}", answer.text());
    assert!(gateway.output.line("\"route\":\"alone\"").await.contains("sim/m+status=503 (retry_budget)"));
    assert_eq!(refused(&gateway, "alone").await, 1.0);
    let answer = gateway.chat(&chat("two")).await;
    assert_eq!((answer.status(), answer.header("x-tidegate-attempts")), (200, "2"), "the other model is at the same provider");
    assert_eq!(refused(&gateway, "two").await, 1.0);
    assert!(gateway.output.line("\"route\":\"two\"").await.contains("sim/n+status=503 (retry_budget)"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_is_not_multiplied_and_a_reload_keeps_what_was_spent() {
    let sim = Sim::start().await;
    let text = config(&sim, "budget: { share: 0.25, per_second: 1 }");
    let gateway = Gateway::start(&text).await;
    let ask = async |times: usize| {
        for _ in 0..times {
            assert_eq!(gateway.chat(&chat("alone")).await.status(), 503);
        }
    };
    ask(40).await;
    let asked = sim.count();
    // The test may be slow: of each ten seconds' requests at most a quarter is asked again, or ten.
    assert!((50..80).contains(&asked), "{asked} requests for 40");
    assert!(refused(&gateway, "alone").await >= 1.0);
    gateway.signal("HUP").await;
    gateway.reloaded(1).await;
    let before = refused(&gateway, "alone").await;
    ask(3).await;
    assert!(refused(&gateway, "alone").await > before, "the spent budget is remembered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_that_is_not_made_is_not_spent() {
    let sim = Sim::start().await;
    let text = config(&sim, "budget: { share: 0.5, per_second: 0 }").replacen("initial: 1ms, max: 1ms", "initial: 1h, max: 1h", 1);
    let gateway = Gateway::start(&text).await;
    // Of the first request there may be no retry, and of two or three one, which none of them has the time for.
    for _ in 0..3 {
        let answer = gateway.chat_as(&[("x-request-timeout", "60")], &chat("alone")).await;
        assert_eq!((answer.status(), answer.header("x-tidegate-attempts")), (503, "1"), "{}", answer.text());
    }
    assert_eq!((refused(&gateway, "alone").await, sim.count()), (1.0, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_limits_refuse_are_no_traffic() {
    let sim = Sim::start().await;
    let team = |name: &str, limits: &str| {
        format!("  {name}: {{ {limits} keys: [ {{ id: {name}, sha256: \"{}\" }} ] }}\n", sha256_hex(name.as_bytes()))
    };
    let teams = format!("teams:\n{}{}", team("few", "limits: [ { requests: 1, per: 30d } ],"), team("many", ""));
    let text = config(&sim, "budget: { share: 0.5, per_second: 0 }").replace("auth: none\n", "") + &teams;
    let gateway = Gateway::start(&text).await;
    let ask = async |key: &str| gateway.chat_as(&[("authorization", &format!("Bearer {key}"))], &chat("alone")).await.status();
    assert_eq!(ask("few").await, 503);
    for _ in 0..20 {
        assert_eq!(ask("few").await, 429);
    }
    for _ in 0..3 {
        assert_eq!(ask("many").await, 503);
    }
    assert!(sim.count() <= 6, "of four requests at most two are asked again: {}", sim.count());
}
