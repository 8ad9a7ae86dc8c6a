//! Scenarios S12, S15 and S16 of the public Failover Bench, under the configuration that `conf/failoverbench.yaml` has for
//! all sixteen. The bench's fake provider is played by the simulator, and a fault is the script behind a model's name.

use crate::harness::gateway::Gateway;
use crate::harness::sim::Sim;
use crate::harness::sse::Events;
use crate::harness::{streamed, until};

/// The documented configuration, with the provider at a simulator and cooldowns that a test can wait for.
async fn gateway(sim: &Sim) -> Gateway {
    let mut config = include_str!("../../conf/failoverbench.yaml").to_owned();
    let url = format!("http://{}/openai_compatible/v1", sim.address());
    for (from, to) in [("http://127.0.0.1:8401/v1", url.as_str()), ("{ initial: 5s, max: 10s }", "{ initial: 50ms, max: 100ms }")] {
        assert!(config.contains(from), "{from}");
        config = config.replace(from, to);
    }
    Gateway::start(&config).await
}

/// Requests at the provider for a model, whatever its script.
fn attempts(sim: &Sim, model: &str) -> usize {
    let is = |body: serde_json::Value| body["model"].as_str().is_some_and(|name| name.split('+').next() == Some(model));
    sim.seen().iter().filter(|seen| seen.body.json().is_some_and(is)).count()
}

/// Asks for a stream, which has to be whole and to have usage; the model that its chunks name.
async fn answered_by(gateway: &Gateway, model: &str) -> String {
    let conn = gateway.open(&streamed(model)).await;
    let story = Events::of(conn).await.all().await;
    assert!(story.done && !story.broken && story.finish == ["stop"] && story.usage.len() == 1, "{story:?}");
    let name = story.chunks[0]["model"].as_str().unwrap().to_owned();
    assert!(story.chunks.iter().all(|chunk| chunk["model"] == *name), "{story:?}");
    name
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s12_a_prompt_that_is_too_long_is_not_sent_to_the_same_model_again() {
    let sim = Sim::start().await;
    let gateway = gateway(&sim).await;
    assert_eq!(answered_by(&gateway, "fb-s12-context-length+error=context_length_exceeded").await, "fb-ok");
    assert_eq!((attempts(&sim, "fb-s12-context-length"), attempts(&sim, "fb-ok")), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s15_the_fallback_serves_while_the_primary_is_down_and_the_primary_once_it_is_back() {
    let sim = Sim::start().await;
    let gateway = gateway(&sim).await;
    let (down, model) = (6, "fb-s15-flap+fail-first=6+status=503");
    let mut requests = 0;
    until("the primary's answer", async || {
        requests += 1;
        let name = answered_by(&gateway, model).await;
        let tried = attempts(&sim, "fb-s15-flap");
        assert!(tried <= requests && (name == "fb-ok") == (tried <= down), "{name} after {tried} attempts");
        (name == model).then_some(())
    })
    .await;
    assert!(requests > down, "the circuit was open for some of {requests}");
    gateway.output.line("is available again after failures").await;
    assert_eq!((answered_by(&gateway, model).await.as_str(), attempts(&sim, "fb-s15-flap")), (model, down + 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s16_the_answer_names_the_fallback_and_only_its_tokens_are_counted() {
    let sim = Sim::start().await;
    let gateway = gateway(&sim).await;
    let model = "fb-s16-503-persistent+status=503";
    assert_eq!(answered_by(&gateway, model).await, "fb-ok");
    assert_eq!((attempts(&sim, "fb-s16-503-persistent"), attempts(&sim, "fb-ok")), (1, 1));
    let line = gateway.output.line("\"log\":\"access\"").await;
    for member in ["\"upstream_model\":\"fb-ok\"", "\"attempts\":2", "\"tokens_estimated\":false"] {
        assert!(line.contains(member), "{member} in {line}");
    }
    assert_eq!(gateway.metric("tidegate_upstream_attempts_total{operation=\"chat\",outcome=\"overloaded\",provider=\"wall\"}").await, 1.0);
}
