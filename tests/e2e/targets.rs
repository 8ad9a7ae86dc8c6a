//! Who is asked: what is known of targets, and what becomes of a request whose target may not be asked.

use crate::harness::chat;
use crate::harness::gateway::Gateway;
use crate::harness::sim::Sim;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_alone_shows_as_ejected_and_is_asked_all_the_same() {
    let sim = Sim::start().await;
    let gateway = Gateway::start(&format!(
        "auth: none\nproviders: {{ sim: {} }}\nroutes: {{ \"s/*\": {{ targets: [ {{ provider: sim, model: \"*\" }} ], \
         retry: {{ attempts: 2, backoff: {{ initial: 1ms, max: 1ms }} }}, ejection: {{ failures: 3, window: 1h }} }} }}\n",
        sim.provider()
    ))
    .await;
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
