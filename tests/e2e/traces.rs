//! Spans as a collector receives them: decoded with OpenTelemetry's own classes, directly and through a real collector.
//!
//! The classes and the collector come from PyPI, once, as the client libraries do. At its end the gateway exports what is left,
//! so that most tests stop it instead of waiting for a batch.

use crate::harness::gateway::{Gateway, Setup};
use crate::harness::http1::Answer;
use crate::harness::otlp::{Collector, Receiver};
use crate::harness::sim::Sim;
use crate::harness::sse::Events;
use crate::harness::{chat, streamed, until};
use crate::sdk::{cache, python_with};
use serde_json::Value;
use std::path::PathBuf;
use tidegate::simulate::seen::sha256_hex;

const PROTO: &str = "opentelemetry-proto>=1.30";
const ROTEL: &str = "rotel>=0.0.1a15";

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331";

/// A Python with the classes; `None` where they cannot be had.
async fn python() -> Option<String> {
    python_with(&cache("python-otlp"), "opentelemetry.proto.collector.trace.v1.trace_service_pb2", PROTO).await
}

/// The folder of the collector; `None` where it cannot be had.
async fn rotel() -> Option<PathBuf> {
    let dir = cache("python-rotel");
    python_with(&dir, "rotel", ROTEL).await.map(|_| dir)
}

/// Routes to the simulator, with a key `tg-good` and one that may ask once.
fn config(sim: &Sim, tracing: &str) -> String {
    let key = |id: &str, more: &str| format!("{{ id: {id}, sha256: \"{}\"{more} }}", sha256_hex(format!("tg-{id}").as_bytes()));
    format!(
        "providers: {{ sim: {} }}\nroutes:\n  \"s/*\": {{ targets: [ {{ provider: sim, model: \"*\", price: {{ input: 1, output: 2 }} }} ], \
         retry: {{ attempts: 2, backoff: {{ initial: 1ms }} }} }}\n\
         teams: {{ red: {{ keys: [ {}, {} ] }} }}\n{tracing}\n",
        sim.provider(),
        key("good", ""),
        key("once", ", limits: [ { requests: 1, per: 30d } ]"),
    )
}

fn tracing(receiver: &Receiver, more: &str) -> String {
    format!("tracing: {{ otlp: \"http://{}\"{more} }}", receiver.address)
}

async fn ask(gateway: &Gateway, key: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
    let bearer = format!("Bearer tg-{key}");
    gateway.chat_as(&[&[("authorization", bearer.as_str())], headers].concat(), body).await
}

/// Stops the gateway, which exports what is left.
async fn stop(gateway: &mut Gateway) {
    gateway.signal("TERM").await;
    assert_eq!(gateway.exit().await.code(), Some(0));
}

/// The request's span of this client's model, and its attempts in their order.
fn of(spans: &[Value], model: &str) -> (Value, Vec<Value>) {
    let is = |span: &&Value| span["kind"] == "SPAN_KIND_SERVER" && span["attributes"]["gen_ai.request.model"] == model;
    let found: Vec<_> = spans.iter().filter(is).collect();
    let [request] = found[..] else { panic!("{} spans of {model} in {spans:#?}", found.len()) };
    let mut attempts: Vec<_> = spans.iter().filter(|span| span["parent"] == request["span_id"]).cloned().collect();
    attempts.sort_by_key(|span| span["attributes"]["tidegate.attempt.number"].as_u64());
    for attempt in &attempts {
        assert_eq!((&attempt["kind"], &attempt["trace_id"]), (&Value::from("SPAN_KIND_CLIENT"), &request["trace_id"]));
        let time = |span: &Value, edge: &str| span[edge].as_u64().unwrap();
        assert!(time(request, "start") <= time(attempt, "start") && time(attempt, "start") <= time(attempt, "end"), "{attempt}");
        assert!(time(attempt, "end") <= time(request, "end"), "{attempt} {request}");
    }
    (request.clone(), attempts)
}

fn has(span: &Value, attributes: &[(&str, Value)]) {
    for (name, value) in attributes {
        assert_eq!(&span["attributes"][name], value, "{name} of {span:#}");
    }
}

fn lacks(span: &Value, names: &[&str]) {
    names.iter().for_each(|name| assert!(span["attributes"].get(name).is_none(), "{name} of {span:#}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_is_a_span_and_every_attempt_one_below_it() {
    let Some(python) = python().await else { return };
    let (sim, receiver) = (Sim::start().await, Receiver::start(&python, &[]).await);
    let tracing = tracing(&receiver, ", headers: { x-tenant: s3cr3t-of-the-collector }");
    let mut gateway = Setup::new(&config(&sim, &tracing)).attributes("{ agent: x-agent-name }").start().await;

    let whole = ask(&gateway, "good", &[], &chat("s/whole")).await;
    assert_eq!(whole.status(), 200);
    let conn = gateway.open_as(&[("authorization", "Bearer tg-good")], &streamed("s/stream")).await;
    let story = Events::of(conn).await.all().await;
    assert_eq!(ask(&gateway, "good", &[], &chat("s/again+once+status=503")).await.status(), 200);
    assert_eq!(ask(&gateway, "good", &[], &chat("s/down+status=500")).await.status(), 502);
    let state = ("tracestate", "vendor=1");
    let parent = format!("{PARENT}-01");
    assert_eq!(
        ask(&gateway, "good", &[("traceparent", &parent), state, ("x-agent-name", "crawler")], &chat("s/child")).await.status(),
        200
    );
    let unsampled = format!("{PARENT}-00");
    assert_eq!(ask(&gateway, "good", &[("traceparent", &unsampled), state], &chat("s/unsampled")).await.status(), 200);
    assert_eq!(ask(&gateway, "once", &[], &chat("s/first")).await.status(), 200);
    let limited = ask(&gateway, "once", &[], &chat("s/limited")).await;
    assert_eq!(limited.status(), 429);
    assert_eq!(ask(&gateway, "wrong", &[], &chat("s/nobody")).await.status(), 401);
    let conn = gateway.open_as(&[("authorization", "Bearer tg-good")], &streamed("s/left+chunks=1000+pace=20ms")).await;
    let mut events = Events::of(conn).await;
    events.next().await.unwrap();
    drop(events);
    gateway.output.line("\"ended_by\":\"client\"").await;
    stop(&mut gateway).await;

    let spans = receiver.spans();
    let (request, attempts) = of(&spans, "s/whole");
    let [attempt] = &attempts[..] else { panic!("{attempts:#?}") };
    let usage = &whole.json()["usage"];
    assert_eq!((&request["name"], &attempt["name"]), (&"chat s/whole".into(), &"chat whole".into()));
    assert_eq!((&request["parent"], &request["flags"]), (&"".into(), &0x103.into()));
    let resource = &request["resource"];
    assert_eq!((&resource["service.name"], &resource["service.version"]), (&"tidegate".into(), &env!("CARGO_PKG_VERSION").into()));
    assert_eq!(resource["service.instance.id"].as_str().unwrap().len(), 36);
    let log = gateway.output.line("\"upstream_model\":\"whole\"").await;
    assert!(log.contains(&format!("\"trace_id\":{}", request["trace_id"])), "{log}");
    has(
        &request,
        &[
            ("http.request.method", "POST".into()),
            ("http.route", "/v1/chat/completions".into()),
            ("http.response.status_code", 200.into()),
            ("url.scheme", "http".into()),
            ("network.protocol.version", "1.1".into()),
            ("gen_ai.operation.name", "chat".into()),
            ("gen_ai.provider.name", "vllm".into()),
            ("gen_ai.response.model", "whole".into()),
            ("gen_ai.response.finish_reasons", serde_json::json!(["stop"])),
            ("gen_ai.usage.input_tokens", usage["prompt_tokens"].clone()),
            ("gen_ai.usage.output_tokens", usage["completion_tokens"].clone()),
            ("tidegate.request.id", whole.header("x-request-id").into()),
            ("tidegate.endpoint", "chat".into()),
            ("tidegate.team", "red".into()),
            ("tidegate.key.id", "good".into()),
            ("tidegate.route", "s/*".into()),
            ("tidegate.provider", "sim".into()),
            ("tidegate.attempt.count", 1.into()),
            ("tidegate.ended_by", "complete".into()),
        ],
    );
    assert!(request["attributes"]["tidegate.cost_usd"].as_f64().unwrap() > 0.0);
    lacks(&request, &["error.type", "gen_ai.request.stream", "gen_ai.response.time_to_first_chunk", "tidegate.reason"]);
    has(
        attempt,
        &[
            ("gen_ai.request.model", "whole".into()),
            ("server.address", "127.0.0.1".into()),
            ("server.port", sim.address().port().into()),
            ("http.response.status_code", 200.into()),
            ("gen_ai.response.finish_reasons", serde_json::json!(["stop"])),
            ("gen_ai.usage.output_tokens", usage["completion_tokens"].clone()),
            ("tidegate.target", "sim/whole".into()),
            ("tidegate.attempt.number", 1.into()),
        ],
    );
    lacks(attempt, &["error.type", "tidegate.attempt.retry_reason"]);

    let (request, attempts) = of(&spans, "s/stream");
    for span in [&request, &attempts[0]] {
        has(span, &[("gen_ai.request.stream", true.into()), ("gen_ai.response.finish_reasons", serde_json::json!(["stop"]))]);
        let first = span["attributes"]["gen_ai.response.time_to_first_chunk"].as_f64().unwrap();
        let lasted = (span["end"].as_u64().unwrap() - span["start"].as_u64().unwrap()) as f64 / 1e9;
        assert!(first > 0.0 && first <= lasted, "{span:#}");
        assert!(span["attributes"]["gen_ai.usage.output_tokens"].as_u64().unwrap() > 0);
    }

    let (request, attempts) = of(&spans, "s/again+once+status=503");
    has(&request, &[("tidegate.attempt.count", 2.into()), ("http.response.status_code", 200.into())]);
    assert_eq!((attempts.len(), &request["status"], &attempts[0]["status"], &attempts[1]["status"]), (2, &0.into(), &2.into(), &0.into()));
    has(&attempts[0], &[("http.response.status_code", 503.into()), ("error.type", "overloaded".into())]);
    has(&attempts[1], &[("tidegate.attempt.number", 2.into()), ("tidegate.attempt.retry_reason", "overloaded".into())]);
    lacks(&attempts[0], &["gen_ai.usage.input_tokens"]);

    let (request, attempts) = of(&spans, "s/down+status=500");
    assert_eq!((attempts.len(), &request["status"]), (2, &2.into()));
    has(
        &request,
        &[("http.response.status_code", 502.into()), ("error.type", "server_error".into()), ("tidegate.reason", "server_error".into())],
    );
    lacks(&request, &["gen_ai.response.model", "gen_ai.usage.input_tokens"]);

    let (request, attempts) = of(&spans, "s/child");
    assert_eq!((&request["trace_id"], &request["parent"]), (&PARENT[3..35].into(), &PARENT[36..].into()));
    assert_eq!((&request["flags"], &request["trace_state"]), (&0x301.into(), &"vendor=1".into()));
    has(&request, &[("tidegate.attributes.agent", "crawler".into())]);
    let sent = sim.request_for("child").await;
    let header = |seen: &tidegate::simulate::Seen, name: &str| seen.headers[name].to_str().unwrap().to_owned();
    let expected = format!("{}-{}-01", &PARENT[..35], attempts[0]["span_id"].as_str().unwrap());
    assert_eq!((header(&sent, "traceparent"), header(&sent, "tracestate")), (expected, "vendor=1".to_owned()));
    // Not sampled: as without tracing.
    let sent = sim.request_for("unsampled").await;
    assert!(header(&sent, "traceparent").starts_with(&PARENT[..35]) && header(&sent, "traceparent").ends_with("-00"));
    assert!(!spans.iter().any(|span| span["attributes"]["gen_ai.request.model"] == "s/unsampled"));

    let limits = |model: &str| spans.iter().filter(|span| span["attributes"]["tidegate.limit.scope"] == model).cloned().collect::<Vec<_>>();
    let [refused] = &limits("key")[..] else { panic!("{:#?}", limits("key")) };
    has(
        refused,
        &[
            ("tidegate.limit.dimension", "requests".into()),
            ("tidegate.reason", "limited".into()),
            ("http.response.status_code", 429.into()),
            ("tidegate.request.id", limited.header("x-request-id").into()),
            ("tidegate.ended_by", "gateway".into()),
        ],
    );
    assert_eq!(refused["status"], 0);
    lacks(refused, &["error.type", "tidegate.provider"]);
    let [stranger] = &spans.iter().filter(|span| span["attributes"]["http.response.status_code"] == 401).collect::<Vec<_>>()[..] else {
        panic!("{spans:#?}")
    };
    assert_eq!(stranger["name"], "chat");

    let (request, attempts) = of(&spans, "s/left+chunks=1000+pace=20ms");
    has(
        &request,
        &[("tidegate.ended_by", "client".into()), ("http.response.status_code", 200.into()), ("tidegate.tokens_estimated", true.into())],
    );
    has(&attempts[0], &[("error.type", "cancelled".into())]);

    // Nothing that was said is in an export, and no key.
    let exports = receiver.exports();
    assert!(!exports.is_empty());
    let said = [
        whole.content(),
        story.content.clone(),
        "hello there".into(),
        "tg-good".into(),
        "tg-wrong".into(),
        "s3cr3t-of-the-collector".into(),
    ];
    for export in &exports {
        assert_eq!((&export["path"], &export["headers"]["x-tenant"]), (&"/v1/traces".into(), &"s3cr3t-of-the-collector".into()));
        assert_eq!(export["headers"]["content-type"], "application/x-protobuf");
        let body = hex(export["body"].as_str().unwrap());
        for text in &said {
            assert!(text.len() > 5 && memchr::memmem::find(&body, text.as_bytes()).is_none(), "{text}");
        }
        assert!(memchr::memmem::find(&body, b"s/whole").is_some() || exports.len() > 1);
    }
    assert!(!gateway.output.text().contains("s3cr3t-of-the-collector"));
}

/// Names of the gateway's threads.
fn threads(gateway: &Gateway) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", gateway.pid())).unwrap().filter_map(Result::ok);
    tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok()).map(|name| name.trim().to_owned()).collect()
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_forwards_every_span_as_it_was_sent() {
    let (Some(python), Some(rotel)) = (python().await, rotel().await) else { return };
    let (sim, receiver) = (Sim::start().await, Receiver::start(&python, &[]).await);
    let collector = Collector::start(&rotel, &receiver).await;
    for compression in ["none", "gzip"] {
        let tracing =
            format!("tracing: {{ otlp: \"http://{}/\", service_name: edge-{compression}, compression: {compression} }}", collector.address);
        let mut gateway = Gateway::start(&config(&sim, &tracing)).await;
        let name = format!("s/{compression}+once+status=503");
        assert_eq!(ask(&gateway, "good", &[], &streamed(&name)).await.status(), 200);
        stop(&mut gateway).await;
        let service = format!("edge-{compression}");
        let spans = until("the forwarded spans", async || {
            let spans: Vec<_> = receiver.spans().into_iter().filter(|span| span["resource"]["service.name"] == service.as_str()).collect();
            (spans.len() >= 3).then_some(spans)
        })
        .await;
        let (request, attempts) = of(&spans, &name);
        has(&request, &[("gen_ai.response.finish_reasons", serde_json::json!(["stop"])), ("tidegate.attempt.count", 2.into())]);
        assert_eq!((&attempts[0]["status"], &request["status"], &request["flags"]), (&2.into(), &0.into(), &0x103.into()));
        assert!(request["attributes"]["gen_ai.response.time_to_first_chunk"].as_f64().unwrap() > 0.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_collector_does_not_accept_is_counted_and_requests_do_not_notice() {
    let Some(python) = python().await else { return };
    let (sim, receiver) = (Sim::start().await, Receiver::start(&python, &["503", "partial", "400"]).await);
    let gateway = Gateway::start(&config(&sim, &tracing(&receiver, ""))).await;
    let exported = "tidegate_spans_exported_total";
    let rejected = "tidegate_spans_dropped_total{reason=\"rejected\"}";
    assert_eq!((gateway.metric(exported).await, gateway.metric(rejected).await), (0.0, 0.0));
    // A 503, then the same batch again: one of its two spans is rejected.
    assert_eq!(ask(&gateway, "good", &[], &chat("s/one")).await.status(), 200);
    until("the second try", async || (gateway.metric(rejected).await == 1.0).then_some(())).await;
    assert_eq!(gateway.metric(exported).await, 1.0);
    let exports = receiver.exports();
    assert_eq!((exports.len(), &exports[0]["body"]), (2, &exports[1]["body"]));
    gateway.output.line("status 503").await;
    // Refused as a whole: not tried again.
    assert_eq!(ask(&gateway, "good", &[], &chat("s/two")).await.status(), 200);
    until("the refusal", async || (gateway.metric(rejected).await == 3.0).then_some(())).await;
    // Away: the requests go on.
    drop(receiver);
    for number in 0..20 {
        assert_eq!(ask(&gateway, "good", &[], &chat(&format!("s/away{number}"))).await.status(), 200);
    }
    let unavailable = "tidegate_spans_dropped_total{reason=\"unavailable\"}";
    until("the last try", async || (gateway.metric(unavailable).await > 0.0).then_some(())).await;
    assert_eq!(ask(&gateway, "good", &[], &chat("s/still")).await.status(), 200);
    assert!(gateway.page("/readyz").await.status() == 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_begins_ends_and_moves_tracing() {
    let Some(python) = python().await else { return };
    let (sim, first, second) = (Sim::start().await, Receiver::start(&python, &[]).await, Receiver::start(&python, &[]).await);
    let mut gateway = Gateway::start(&config(&sim, "")).await;
    let mut generation = 1;
    let mut reload = async |gateway: &Gateway, tracing: &str| {
        generation += 1;
        gateway.reload(&config(&sim, tracing)).await;
        gateway.output.line(&format!("configuration {generation} is in force")).await;
    };
    assert_eq!(ask(&gateway, "good", &[], &chat("s/before")).await.status(), 200);
    reload(&gateway, &tracing(&first, "")).await;
    assert_eq!(ask(&gateway, "good", &[], &chat("s/first")).await.status(), 200);
    reload(&gateway, &tracing(&second, "")).await;
    // What the first tracer still had is exported all the same.
    let spans = first.all(2).await;
    of(&spans, "s/first");
    assert_eq!(spans.len(), 2);
    assert_eq!(ask(&gateway, "good", &[], &chat("s/second")).await.status(), 200);
    reload(&gateway, "").await;
    of(&second.all(2).await, "s/second");
    assert_eq!(ask(&gateway, "good", &[], &chat("s/after")).await.status(), 200);
    until("the end of both threads", async || (!threads(&gateway).contains(&"traces".to_owned())).then_some(())).await;
    reload(&gateway, &tracing(&second, ", sample: 0")).await;
    assert_eq!(ask(&gateway, "good", &[], &chat("s/none")).await.status(), 200);
    let sampled = format!("{PARENT}-01");
    assert_eq!(ask(&gateway, "good", &[("traceparent", &sampled)], &chat("s/asked")).await.status(), 200);
    assert_eq!(gateway.get("/v1/models", &[("authorization", "Bearer tg-good"), ("traceparent", &sampled)]).await.status(), 200);
    // Who is not known cannot ask to be traced.
    assert_eq!(ask(&gateway, "wrong", &[("traceparent", &sampled)], &chat("s/stranger")).await.status(), 401);
    stop(&mut gateway).await;
    let spans = second.spans();
    assert_eq!(spans.len(), 5, "{spans:#?}");
    of(&spans, "s/asked");
    let list: Vec<_> = spans.iter().filter(|span| span["name"] == "GET").collect();
    has(list[0], &[("tidegate.endpoint", "models".into()), ("tidegate.team", "red".into())]);
    assert_eq!(first.spans().len(), 2);
}
