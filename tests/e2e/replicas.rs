//! Several servers that are one provider.

use crate::harness::gateway::{Gateway, free_port};
use crate::harness::sim::Sim;
use crate::harness::{chat, config};

fn url(sim: &Sim) -> String {
    format!("\"http://{}/vllm/v1\"", sim.address())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_share_the_requests_and_one_that_is_down_is_left_out_by_itself() {
    let (one, two) = (Sim::start().await, Sim::start().await);
    let down = format!("\"http://127.0.0.1:{}/v1\"", free_port());
    let limits = "limits: [ { requests: 1000, per: 1h } ]";
    let pool = format!("{{ kind: vllm, base_urls: [{}, {}, {down}], {limits} }}", url(&one), url(&two));
    let route = "ejection: { failures: 1, cooldown: { initial: 1h, max: 1h } }";
    let gateway = Gateway::start(&config("", ("pool", &pool), "r", route)).await;
    for _ in 0..60 {
        let answer = gateway.chat(&chat("r")).await;
        assert_eq!((answer.status(), answer.header("x-tidegate-provider")), (200, "pool"));
    }
    assert!(one.count() > 10 && two.count() > 10 && one.count() + two.count() == 60, "{} {}", one.count(), two.count());
    let status = gateway.page("/status").await.json();
    let healthy: Vec<_> = status["routes"][0]["targets"].as_array().unwrap().iter().map(|target| target["healthy"] == true).collect();
    assert_eq!(healthy, [true, true, false], "{status}");
    assert!(status["routes"][0]["targets"][2]["target"].as_str().unwrap().starts_with("pool@http://127.0.0.1:"), "{status}");
    let line = gateway.output.line("is ejected").await;
    assert!(line.contains("at provider `pool@http://127.0.0.1:"), "{line}");
    assert_eq!(gateway.metric("tidegate_upstream_attempts_total{operation=\"chat\",outcome=\"success\",provider=\"pool\"}").await, 60.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sticky_conversation_stays_at_its_replica() {
    let sims = [Sim::start().await, Sim::start().await, Sim::start().await];
    let urls = sims.each_ref().map(url).join(", ");
    let pool = format!("{{ kind: vllm, base_urls: [{urls}] }}");
    let gateway = Gateway::start(&config("", ("pool", &pool), "r", "balance: sticky")).await;
    for number in 0..12 {
        let before = sims.each_ref().map(Sim::count);
        let mut request = chat("r");
        request["messages"][0]["content"] = format!("conversation {number}").into();
        for _ in 0..5 {
            assert_eq!(gateway.chat(&request).await.status(), 200);
        }
        let served = sims.iter().zip(before).filter(|(sim, before)| sim.count() == before + 5).count();
        assert_eq!(served, 1, "conversation {number}");
    }
    assert!(sims.iter().filter(|sim| sim.count() > 0).count() > 1);
}
