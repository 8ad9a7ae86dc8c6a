//! Streams: forwarded event by event, told when they break, ended with [DONE] only when they are whole, and let go of
//! when the client leaves.

use crate::harness::gateway::Gateway;
use crate::harness::http1::{Answer, Conn};
use crate::harness::http2::{self, H2};
use crate::harness::manual::Manual;
use crate::harness::sim::Sim;
use crate::harness::sse::{Events, Story};
use crate::harness::tls::Certificates;
use crate::harness::{chat, config, streamed, until};
use serde_json::Value;
use std::fmt::Write as _;
use tidegate::simulate::Ending;

/// Routes that let the client write the simulator's script, and one to an upstream that is played by hand.
async fn gateway(sim: &Sim, manual: &Manual, server: &str) -> Gateway {
    let mut config =
        format!("auth: none\nserver: {{ {server} }}\nproviders:\n  sim: {}\n  manual: {}\n", sim.provider(), manual.provider());
    config += "routes:\n  \"s/*\": { targets: [ { provider: sim, model: \"*\" } ], retry: { attempts: 1 } }\n";
    let hand = "targets: [ { provider: manual, model: m } ], retry: { attempts: 1 }";
    writeln!(config, "  hand: {{ {hand} }}\n  impatient: {{ {hand}, timeouts: {{ between_bytes: 300ms }} }}").unwrap();
    Gateway::start(&config).await
}

async fn events(gateway: &Gateway, h2: bool, body: &Value) -> Events {
    let (status, events) = if h2 {
        let response = H2::connect(gateway.listen).await.chat(&[], body.to_string().into()).await.unwrap();
        (response.status().as_u16(), Events::h2(response.into_body()))
    } else {
        let mut conn = gateway.open(body).await;
        (conn.head().await.unwrap().status, Events::h1(conn))
    };
    assert_eq!(status, 200);
    events
}

async fn story(gateway: &Gateway, h2: bool, body: &Value) -> Story {
    events(gateway, h2, body).await.all().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_is_forwarded_before_the_next_one_is_there() {
    let (sim, manual) = (Sim::start().await, Manual::start().await);
    let gateway = gateway(&sim, &manual, "").await;
    for h2 in [false, true] {
        let request = streamed("hand");
        let (mut exchange, mut events) = tokio::join!(manual.say("0"), events(&gateway, h2, &request));
        assert_eq!((&exchange.body["model"], &exchange.body["stream"]), (&Value::from("m"), &Value::from(true)));
        let mut story = Story::default();
        while story.content != "0" {
            story.take(&events.next().await.unwrap());
        }
        for n in 1..50 {
            // The upstream says the next word only now: whoever gathers words would wait forever.
            let word = format!(" {n}");
            exchange.say(&word).await;
            let before = story.content.clone();
            story.take(&events.next().await.unwrap());
            assert_eq!(story.content, before + &word, "{story:?}");
        }
        exchange.end().await;
        events.rest(&mut story).await;
        assert!(story.done && !events.broken && story.finish == ["stop"], "{story:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usage_is_merged_separate_or_withheld() {
    let (sim, manual) = (Sim::start().await, Manual::start().await);
    let places = |story: &Story| -> Vec<(bool, usize)> {
        let with = story.chunks.iter().filter(|c| c.get("usage").is_some_and(|u| !u.is_null()));
        with.map(|c| (c["choices"][0]["finish_reason"].is_string(), c["choices"].as_array().unwrap().len())).collect()
    };
    for (mode, expected) in [("merged", (true, 1)), ("separate", (false, 0))] {
        let gateway = gateway(&sim, &manual, &format!("stream_usage: {mode}")).await;
        let with = story(&gateway, false, &streamed("s/m")).await;
        assert!(with.done, "{with:?}");
        assert_eq!(places(&with), [expected], "{mode}");
        let usage = &with.usage[0];
        assert_eq!(usage["total_tokens"], usage["prompt_tokens"].as_u64().unwrap() + usage["completion_tokens"].as_u64().unwrap());
        let mut without = streamed("s/m");
        without.as_object_mut().unwrap().remove("stream_options");
        let without = story(&gateway, false, &without).await;
        assert_eq!((without.done, without.usage.len(), without.finish.len()), (true, 0, 1), "{mode}");
        assert_eq!(sim.request_for("m").await.body.json().unwrap()["stream_options"]["include_usage"], true, "asked for the accounts");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_chunk_of_a_stream_belongs_to_the_same_answer() {
    let (sim, manual) = (Sim::start().await, Manual::start().await);
    let gateway = gateway(&sim, &manual, "").await;
    for slice in ["", "+slice=1", "+slice=7", "+slice=64", "+reasoning"] {
        let story = story(&gateway, true, &streamed(&format!("s/m+chunks=20{slice}"))).await;
        assert!(story.done && story.finish == ["stop"] && story.chunks.len() > 20, "{slice}: {story:?}");
        for name in ["id", "episode_id", "created", "model"] {
            assert!(story.chunks.iter().all(|c| !c[name].is_null() && c[name] == story.chunks[0][name]), "{name}");
        }
        assert_eq!(story.chunks[0]["choices"][0]["delta"]["role"], "assistant");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_break_is_told_and_never_papered_over() {
    let (sim, manual) = (Sim::start().await, Manual::start().await);
    let gateway = gateway(&sim, &manual, "").await;
    for h2 in [false, true] {
        for (script, code) in [("cut-after=4", 502), ("error-after=4", 502), ("cut-after=4+slice=5", 502)] {
            let story = story(&gateway, h2, &streamed(&format!("s/m+chunks=20+{script}"))).await;
            let error = story.error.as_ref().unwrap_or_else(|| panic!("{script}, h2 {h2}: {story:?}"));
            assert_eq!(error["code"], code, "{script}: {error}");
            assert!(!story.content.is_empty() && !story.done && story.finish.is_empty() && !story.broken, "{script}, h2 {h2}: {story:?}");
        }
        // Silence in the middle is a break as well.
        let request = streamed("impatient");
        let (exchange, told) = tokio::join!(manual.say("one"), story(&gateway, h2, &request));
        assert_eq!((told.content.as_str(), told.done, told.broken), ("one", false, false), "{told:?}");
        assert_eq!(told.error.unwrap()["code"], 504);
        exchange.hung_up().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_ends_with_its_last_event_even_if_its_body_does_not() {
    let (sim, manual) = (Sim::start().await, Manual::start().await);
    let gateway = gateway(&sim, &manual, "").await;
    let answered = async || {
        let mut exchange = manual.say("one").await;
        exchange.done().await;
        exchange
    };
    let request = streamed("hand");
    for h2 in [false, true] {
        let (exchange, told) = tokio::join!(answered(), story(&gateway, h2, &request));
        assert_eq!((told.content.as_str(), told.done, told.broken), ("one", true, false), "{told:?}");
        exchange.hung_up().await;
    }
    let plain = chat("hand");
    let (exchange, answer) = tokio::join!(answered(), gateway.chat(&plain));
    assert_eq!(answer.content(), "one");
    exchange.hung_up().await;
    // A body that ends a moment later leaves the connection to the next request, and the client need not wait for it.
    let (mut exchange, mut events) = tokio::join!(answered(), events(&gateway, false, &request));
    while events.next().await.unwrap() != "[DONE]" {}
    drop(events);
    exchange.close().await;
    let complete = || gateway.output.text().matches("\"ended_by\":\"complete\"").count();
    until("the end of all four", async || (complete() == 4).then_some(())).await;
    let (answer, ()) = tokio::join!(gateway.chat(&plain), async {
        exchange.again().await;
        exchange.begin().await;
        exchange.say("two").await;
        exchange.end().await;
    });
    assert_eq!(answer.content(), "two");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_the_first_token_a_failure_is_a_status() {
    let (sim, manual) = (Sim::start().await, Manual::start().await);
    let gateway = gateway(&sim, &manual, "").await;
    let request = |model: &str, stream: bool| if stream { streamed(model) } else { chat(model) };
    for stream in [false, true] {
        for (script, status) in [
            ("status=500", 502),
            ("status=503", 503),
            ("status=429", 429),
            ("status=401", 502),
            ("status=400", 400),
            ("die-after-headers", 502),
            ("close", 502),
            ("json=garbage", 502),
            ("json=empty", 502),
            ("json=html", 502),
            ("error-after=0", 502),
        ] {
            let answer = gateway.chat(&request(&format!("s/m+{script}"), stream)).await;
            answer.error();
            assert_eq!(answer.status(), status, "{script}, stream {stream}: {}", answer.text());
            assert_eq!(answer.header("content-type"), "application/json");
            assert_eq!(answer.header("retry-after").is_empty(), status != 429);
            let h2 = H2::connect(gateway.listen).await;
            let response = h2.chat(&[], request(&format!("s/m+{script}"), stream).to_string().into()).await.unwrap();
            let answer: Answer = http2::whole(response).await.unwrap();
            answer.error();
            assert_eq!(answer.status(), status, "h2: {script}");
        }
    }
    let told = gateway.chat(&chat("s/m+status=429+retry-after=7")).await;
    assert_eq!((told.status(), told.header("retry-after")), (429, "7"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_takes_its_upstream_request_along() {
    let (sim, manual) = (Sim::start().await, Manual::start().await);
    let gateway = gateway(&sim, &manual, "").await;
    let mut left = 0;
    for h2 in [false, true] {
        // In the middle of a stream.
        let model = format!("m{h2}+chunks=10000+pace=20ms");
        let mut stream = events(&gateway, h2, &streamed(&format!("s/{model}"))).await;
        for _ in 0..4 {
            stream.next().await.unwrap();
        }
        drop(stream);
        assert_eq!(sim.ending(&model).await, Ending::ClientLeft, "in a stream, h2 {h2}");
        left += 1;
        // While nothing or only the head of an answer is there, buffered and streamed.
        for script in ["hang", "stall", "comment-stall"] {
            for stream in [false, true] {
                let model = format!("m{h2}{stream}+{script}");
                let name = format!("s/{model}");
                let body = if stream { streamed(&name) } else { chat(&name) };
                if h2 {
                    let client = H2::connect(gateway.listen).await;
                    let waiting = tokio::spawn(async move { client.chat(&[], body.to_string().into()).await.map(drop) });
                    sim.request_for(&model).await;
                    waiting.abort();
                } else {
                    let conn = gateway.open(&body).await;
                    sim.request_for(&model).await;
                    drop(conn);
                }
                assert_eq!(sim.ending(&model).await, Ending::ClientLeft, "{script}, stream {stream}, h2 {h2}");
                left += 1;
            }
        }
    }
    // All of them are told by the metrics, none is still in flight, and what had been said was accounted for.
    until("the count of disconnects", async || {
        let text = gateway.metrics().await;
        let series = text.lines().filter(|l| l.starts_with("tidegate_client_disconnects_total{"));
        let count: f64 = series.map(|l| l.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum();
        (count == f64::from(left)).then_some(())
    })
    .await;
    assert_eq!(gateway.metric("tidegate_in_flight_requests{route=\"s/*\"}").await, 0.0);
    let said =
        gateway.metric("gen_ai_client_token_usage_total{provider=\"sim\",route=\"s/*\",team=\"anonymous\",token_type=\"output\"}").await;
    assert!(said > 0.0, "{}", gateway.metrics().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_its_client_leaves_counts_for_what_was_sent_at_every_dialect() {
    let sim = Sim::start().await;
    let aws = "region: us-east-1, credentials: { access_key_id: AKIATIDEGATEDEMO, secret_access_key: demo-secret-access-key }";
    let kinds = [
        ("vllm", "vllm/v1", "api_key: sk-demo", "m"),
        ("openai", "openai/v1", "api_key: sk-demo", "gpt-4o-mini"),
        ("anthropic", "anthropic", "api_key: sk-ant-demo", "claude-sonnet-4-5"),
        ("google_ai_studio", "google_ai_studio", "api_key: AIzaDemo", "gemini-3-flash-preview"),
        ("mistral", "mistral/v1", "api_key: sk-demo", "mistral-large-latest"),
        ("bedrock", "bedrock", aws, "us.amazon.nova-pro-v1:0"),
        ("sagemaker", "sagemaker", aws, "demo-chat"),
    ];
    let (mut providers, mut routes) = (String::new(), String::new());
    for (kind, path, own, model) in kinds {
        writeln!(providers, "  {kind}: {{ kind: {kind}, base_url: \"http://{}/{path}\", {own} }}", sim.address()).unwrap();
        let script = "+bytes=60000+chunks=1000+pace=20ms";
        writeln!(routes, "  {kind}: {{ targets: [ {{ provider: {kind}, model: \"{model}{script}\" }} ] }}").unwrap();
    }
    let gateway = Gateway::start(&format!("auth: none\nproviders:\n{providers}routes:\n{routes}")).await;
    for (kind, ..) in kinds {
        let mut events = events(&gateway, false, &streamed(kind)).await;
        let mut story = Story::default();
        while story.content.len() < 1000 {
            story.take(&events.next().await.unwrap());
        }
        drop(events);
        let line = gateway.output.line(&format!("\"route\":\"{kind}\"")).await;
        let line: Value = serde_json::from_str(&line).unwrap();
        let number = |name: &str| line[name].as_u64().unwrap();
        assert_eq!((&line["ended_by"], &line["tokens_estimated"]), (&"client".into(), &true.into()), "{line}");
        let sent = story.content.len() as u64 / 4;
        assert!((sent..=15_000).contains(&number("tokens_out")) && (1..100).contains(&number("tokens_in")), "{sent} tokens sent: {line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http2_a_client_that_leaves_ends_its_own_stream_only() {
    let (sim, certificates) = (Sim::start().await, Certificates::new());
    let provider = certificates.provider(sim.address()).await;
    let gateway = Gateway::start(&config("", ("sim", &provider), "s/*", "retry: { attempts: 1 }")).await;
    // Both share a connection on both sides.
    let client = H2::connect(gateway.listen).await;
    let begin = async |model: &str| {
        let response = client.chat(&[], streamed(&format!("s/{model}")).to_string().into()).await.unwrap();
        let mut events = Events::h2(response.into_body());
        events.next().await.unwrap();
        events
    };
    let stays = begin("stays+chunks=60+pace=20ms").await;
    let leaves = begin("leaves+chunks=10000+pace=20ms").await;
    drop(leaves);
    assert_eq!(sim.ending("leaves+chunks=10000+pace=20ms").await, Ending::ClientLeft);
    let story = stays.all().await;
    assert!(story.done && !story.broken && story.finish == ["stop"], "{story:?}");
    assert_eq!(sim.ending("stays+chunks=60+pace=20ms").await, Ending::Answered);
    assert!(sim.seen().iter().all(|seen| seen.version == http::Version::HTTP_2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_is_kept_from_answer_to_answer() {
    let (sim, manual) = (Sim::start().await, Manual::start().await);
    let gateway = gateway(&sim, &manual, "").await;
    let mut conn: Conn = gateway.connect().await;
    for n in 0..30 {
        let script = ["m", "m+status=400", "m+status=503", "m+json=garbage"][n % 4];
        let name = format!("s/{script}");
        let body = if n % 3 == 0 { streamed(&name) } else { chat(&name) };
        conn.chat(&[], body.to_string().as_bytes()).await;
        let answer = conn.answer().await.unwrap_or_else(|e| panic!("request {n}, {script}: {e}"));
        assert_eq!(answer.status() == 200, script == "m");
    }
}
