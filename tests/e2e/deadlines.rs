//! The client's `x-request-timeout`: what ends with it, and whom that is not held against.

use crate::harness::gateway::Gateway;
use crate::harness::http1::request;
use crate::harness::manual::Manual;
use crate::harness::sim::Sim;
use crate::harness::sse::Events;
use crate::harness::{chat, config, streamed};
use serde_json::{Value, json};

/// Short enough not to be waited for long.
const SHORT: (&str, &str) = ("x-request-timeout", "0.3");

/// A route `hand` to an upstream that is played by hand and that one failure ejects, with more of the route's settings.
async fn by_hand(manual: &Manual, provider: &str, route: &str) -> Gateway {
    let provider = manual.provider().replace(" }", &format!(", {provider} }}"));
    Gateway::start(&config("", ("manual", &provider), "hand", &format!("ejection: {{ failures: 1 }}, {route}"))).await
}

/// The access log's line of a request that met its deadline, and the target's state.
async fn outcome(gateway: &Gateway) -> (Value, f64) {
    let line = serde_json::from_str(&gateway.output.line("\"reason\":\"deadline\"").await).unwrap();
    (line, gateway.metric("tidegate_target_state{route=\"hand\",target=\"manual/m\"}").await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_is_no_time_is_a_400_that_names_the_header() {
    let sim = Sim::start().await;
    let gateway = Gateway::start(&sim.config("", "")).await;
    let name = SHORT.0;
    for bad in ["", "0", "0.0", "-1", "+1", "1e3", "inf", "NaN", "1.5.2", ".", "ten", "10s", "1,5", "00000000000000001"] {
        let answer = gateway.chat_as(&[(name, bad)], &chat("r")).await;
        assert!(answer.status() == 400 && answer.error().contains(name), "`{bad}`: {}", answer.text());
    }
    let twice = gateway.chat_as(&[(name, "5"), (name, "6")], &chat("r")).await;
    assert_eq!(twice.status(), 400);
    assert_eq!(sim.count(), 0);
    for good in ["30", "60.5", ".5", "9999999999999999"] {
        assert_eq!(gateway.chat_as(&[(name, good)], &chat("r")).await.status(), 200, "{good}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_provider_is_left_at_the_deadline_and_not_ejected_for_it() {
    let manual = Manual::start().await;
    let gateway = by_hand(&manual, "http: auto", "retry: { attempts: 3 }").await;
    let messages = json!({ "model": "hand", "max_tokens": 9, "messages": [{ "role": "user", "content": "hi" }] });
    for (path, body) in [("/v1/chat/completions", chat("hand")), ("/v1/messages", messages)] {
        let mut conn = gateway.connect().await;
        conn.send(&request("POST", path, &[SHORT], Some(body.to_string().as_bytes()))).await.unwrap();
        manual.accept().await.hung_up().await;
        let answer = conn.answer().await.unwrap();
        let error = &answer.json()["error"];
        assert_eq!((answer.status(), error["type"].as_str()), (504, Some("timeout_error")), "{path}");
        assert!(error["message"].as_str().unwrap().contains(SHORT.0), "{error}");
        assert_eq!(answer.header("x-tidegate-attempts"), "1", "no other attempt has any time");
    }
    let (line, state) = outcome(&gateway).await;
    assert_eq!((&line["ended_by"], &line["tokens_estimated"], state), (&"gateway".into(), &true.into(), 1.0), "{line}");
    assert!(line["tokens_in"].as_u64().unwrap() > 0, "the provider has read the prompt: {line}");
    let attempts = "tidegate_upstream_attempts_total{operation=\"chat\",outcome=\"deadline\",provider=\"manual\"}";
    assert_eq!(gateway.metric(attempts).await, 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_takes_too_long_is_not_held_against_the_provider() {
    let manual = Manual::start().await;
    // A server that never answers the TLS handshake.
    let provider = manual.provider().replace("http:", "https:");
    let route = "ejection: { failures: 1 }, retry: { attempts: 2 }";
    let gateway = Gateway::start(&config("", ("manual", &provider), "hand", route)).await;
    let request = chat("hand");
    let (answer, _held) = tokio::join!(gateway.chat_as(&[SHORT], &request), manual.connection());
    assert_eq!((answer.status(), answer.header("x-tidegate-attempts")), (504, "1"), "{}", answer.text());
    assert_eq!(outcome(&gateway).await.1, 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_attempts_together_have_the_one_time() {
    let (manual, sim) = (Manual::start().await, Sim::start().await);
    let gateway = Gateway::start(&format!(
        "auth: none\nproviders: {{ manual: {}, sim: {} }}\nroutes: {{ hand: {{ targets: [ {{ provider: sim, model: \"m+status=503\" }} ], \
         fallback: [ {{ provider: manual, model: m }} ], retry: {{ attempts: 9 }} }} }}\n",
        manual.provider(),
        sim.provider()
    ))
    .await;
    let mut conn = gateway.open_as(&[SHORT], &chat("hand")).await;
    manual.accept().await.hung_up().await;
    let answer = conn.answer().await.unwrap();
    assert_eq!((answer.status(), answer.header("x-tidegate-attempts")), (504, "2"), "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_has_begun_ends_with_the_error_event() {
    let manual = Manual::start().await;
    let gateway = by_hand(&manual, "http: auto", "retry: { attempts: 3 }").await;
    let conn = gateway.open_as(&[("x-request-timeout", "4")], &streamed("hand")).await;
    let exchange = manual.say("one").await;
    let story = Events::of(conn).await.all().await;
    let error = story.error.as_ref().map(|error| (error["code"].clone(), error["type"].clone()));
    assert_eq!((story.content.as_str(), error), ("one", Some((504.into(), "timeout_error".into()))));
    assert!(!story.done && story.finish.is_empty(), "{story:?}");
    exchange.hung_up().await;
    assert_eq!(outcome(&gateway).await.1, 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_that_would_outlast_the_time_is_not_begun() {
    let sim = Sim::start().await;
    let gateway = Gateway::start(&format!(
        "auth: none\nproviders: {{ sim: {} }}\nroutes: {{ r: {{ targets: [ {{ provider: sim, model: \"m+status=503\" }} ], \
         retry: {{ attempts: 3, backoff: {{ initial: 1h, max: 1h }} }} }} }}\n",
        sim.provider()
    ))
    .await;
    let answer = gateway.chat_as(&[("x-request-timeout", "600")], &chat("r")).await;
    assert_eq!((answer.status(), answer.header("x-tidegate-attempts"), sim.count()), (503, "1", 1), "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_routes_own_total_caps_the_clients_time() {
    let manual = Manual::start().await;
    let gateway = by_hand(&manual, "http: auto", "retry: { attempts: 5 }, timeouts: { total: 300ms }").await;
    let mut conn = gateway.open_as(&[("x-request-timeout", "3600")], &chat("hand")).await;
    manual.accept().await.hung_up().await;
    let answer = conn.answer().await.unwrap();
    assert_eq!((answer.status(), answer.header("x-tidegate-attempts")), (504, "1"), "{}", answer.text());
    assert!(answer.error().contains("did not complete its answer in time"), "it is not the client's time: {}", answer.text());
    assert!(gateway.output.line("\"status\":504").await.contains("\"reason\":\"timeout\""));
    let state = gateway.metric("tidegate_target_state{route=\"hand\",target=\"manual/m\"}").await;
    assert_eq!(state, 0.0, "a target that hangs is ejected, whatever time its client allows");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_is_not_to_blame_for_the_time_that_an_earlier_one_took() {
    let (first, second) = (Manual::start().await, Manual::start().await);
    let gateway = Gateway::start(&format!(
        "auth: none\nproviders: {{ first: {}, second: {} }}\nroutes: {{ r: {{ targets: [ {{ provider: first, model: m }} ], \
         fallback: [ {{ provider: second, model: m }} ], ejection: {{ failures: 1 }}, timeouts: {{ total: 1s }} }} }}",
        first.provider(),
        second.provider()
    ))
    .await;
    let mut conn = gateway.open_as(&[("x-request-timeout", "3600")], &chat("r")).await;
    let mut failing = first.accept().await;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    failing.close().await;
    second.accept().await.hung_up().await;
    let answer = conn.answer().await.unwrap();
    assert_eq!((answer.status(), answer.header("x-tidegate-attempts")), (504, "2"), "{}", answer.text());
    assert!(gateway.output.line("\"status\":504").await.contains("\"reason\":\"deadline\""));
    assert_eq!(gateway.metric("tidegate_target_state{route=\"r\",target=\"second/m\"}").await, 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_comes_too_slowly_ends_with_the_time() {
    let manual = Manual::start().await;
    let gateway = by_hand(&manual, "http: auto", "retry: { attempts: 1 }").await;
    let mut conn = gateway.connect().await;
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\ncontent-length: 100\r\nx-request-timeout: 0.3\r\n\r\n{";
    conn.send(head.as_bytes()).await.unwrap();
    let answer = conn.answer().await.unwrap();
    assert_eq!(answer.status(), 504, "{}", answer.text());
    assert!(answer.error().contains("x-request-timeout"));
    assert!(gateway.output.line("\"status\":504").await.contains("\"reason\":\"deadline\""));
}
