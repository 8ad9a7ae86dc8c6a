//! Batches decoded again.
use super::*;
use crate::account::Ledger;
use crate::limit::Scope;
use crate::limit::rule::Dimension;
use crate::llm::finish::FinishWord;
use crate::provider::Target;
use crate::telemetry::access::AccessLine;
use crate::telemetry::spans::record::{AttemptSpans, Http, Origin};
use crate::telemetry::trace::Trace;
use http::HeaderValue;
use std::collections::BTreeMap;
use std::sync::Arc;

const CONFIG: &str = "
providers:
  one: { kind: bedrock, region: eu-west-1, api_key: k }
  two: { kind: vllm, base_url: \"http://10.0.0.7:8000/v1\" }
routes: { r: { targets: [ { provider: one, model: claude }, { provider: two, model: qwen } ] } }
auth: none
";

/// The targets of [`CONFIG`].
fn targets() -> Vec<Arc<Target>> {
    let loaded = crate::config::parse(CONFIG, "t.yaml", &|_| None).unwrap_or_else(|problems| panic!("{problems:?}"));
    loaded.snapshot.routes.first().unwrap().targets.clone()
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A request that arrived in the 100th second of the epoch.
fn finished(ledger: Ledger, mut attempts: AttemptSpans, change: impl FnOnce(&mut AccessLine<'_>)) -> FinishedRequest {
    let trace = Trace { trace_id: 1, parent_id: 2, span_id: 3, flags: 1 };
    let mut line = AccessLine { reason: "", limit: None, sticky_by: "", passed_over: "", ..AccessLine::example(&ledger) };
    change(&mut line);
    let http = Http { method: "POST", scheme: "http", version: "1.1" };
    let (operation, model) = (Some(Operation::Messages), Some("fast"));
    let trace_state = Some(HeaderValue::from_static("a=1"));
    FinishedRequest::new(&line, Origin { trace, trace_state, arrived: seconds(100), http, operation, model }, attempts.take().unwrap())
}

/// The spans of one request, decoded again.
fn exported(request: FinishedRequest) -> Vec<Span> {
    let body = batch(&resource("gateway", Uuid::nil()), &[request]);
    let mut decoded = ExportRequest::decode(&*body).unwrap();
    let resource = &decoded.resource_spans[0].resource.as_ref().unwrap().attributes;
    let name = |value: &KeyValue| (value.key.clone(), value.value.clone());
    assert_eq!(name(&resource[0]), ("service.name".into(), Some(string("gateway"))));
    let mut scopes = decoded.resource_spans.remove(0).scope_spans;
    assert_eq!(scopes[0].scope.as_ref().unwrap().name, "tidegate");
    scopes.remove(0).spans
}

fn attributes(span: &Span) -> BTreeMap<&str, String> {
    let shown = |value: &AnyValue| match value.value.as_ref().unwrap() {
        Value::String(text) => text.clone(),
        Value::Bool(flag) => flag.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Double(number) => number.to_string(),
        Value::Array(list) => format!("{:?}", list.values.iter().map(|v| v.value.clone().unwrap()).collect::<Vec<_>>()),
    };
    let all: BTreeMap<_, _> = span.attributes.iter().map(|pair| (pair.key.as_str(), shown(pair.value.as_ref().unwrap()))).collect();
    assert_eq!(all.len(), span.attributes.len(), "keys are unique: {:?}", span.attributes);
    all
}

#[test]
fn a_retried_stream_is_a_span_with_two_below_it() {
    let targets = targets();
    let usage = Usage { prompt: 50, completion: 9, cached: 20, cache_write: 5, reasoning: 4, ..Usage::default() };
    let finish = [FinishWord::Stop, FinishWord::Length].into_iter().collect();
    let ledger = Ledger {
        status: 200,
        stream: true,
        attempts: 2,
        usage,
        finish,
        micro_usd: 1_500,
        ttft: Some(Duration::from_millis(3_250)),
        duration: seconds(6),
        overhead: Duration::from_micros(90),
        ended_by: EndedBy::Complete,
        upstream_id: Some("msg_1".into()),
        ..Ledger::new()
    };
    let mut attempts = AttemptSpans::traced();
    attempts.begin(&targets[0], "claude", || (0, seconds(1)));
    assert_eq!(attempts.current_id(), Some(1), "an id is never 0");
    attempts.set_status(429);
    attempts.end(Outcome::RateLimited, || seconds(2));
    assert_eq!(attempts.current_id(), None);
    attempts.begin(&targets[1], "qwen", || (8, seconds(3)));
    attempts.set_status(200);
    attempts.set_used(&ledger);
    attempts.end(Outcome::Success, || seconds(5));
    attempts.end(Outcome::Broken, || seconds(6)); // what ended is over

    let spans = exported(finished(ledger, attempts, |_| {}));
    let [request, first, second] = &spans[..] else { panic!("{spans:?}") };
    for span in &spans {
        assert_eq!((&span.trace_id[..], span.trace_state.as_str()), (&1u128.to_be_bytes()[..], "a=1"));
    }
    let second_of = |span: &Span| (span.start_time_unix_nano / 1_000_000_000, span.end_time_unix_nano / 1_000_000_000);
    let identity = |span: &Span| (span.name.clone(), span.kind(), span.span_id[7], span.parent_span_id.clone(), span.flags);
    assert_eq!(identity(request), ("chat fast".into(), SpanKind::Server, 3, 2u64.to_be_bytes().into(), 0x301));
    assert_eq!(identity(first), ("chat claude".into(), SpanKind::Client, 1, 3u64.to_be_bytes().into(), 0x101));
    assert_eq!(identity(second), ("chat qwen".into(), SpanKind::Client, 8, 3u64.to_be_bytes().into(), 0x101));
    assert_eq!([second_of(request), second_of(first), second_of(second)], [(100, 106), (101, 102), (103, 105)]);
    let code = |span: &Span| span.status.as_ref().map_or(StatusCode::Unset, Status::code);
    assert_eq!([code(request), code(first), code(second)], [StatusCode::Unset, StatusCode::Error, StatusCode::Unset]);

    let of = attributes(request);
    for (name, value) in [
        ("http.request.method", "POST"),
        ("http.route", "/v1/messages"),
        ("http.response.status_code", "200"),
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", "vllm"),
        ("gen_ai.request.model", "fast"),
        ("gen_ai.response.model", "Qwen/Qwen3-4B"),
        ("gen_ai.request.stream", "true"),
        ("gen_ai.response.time_to_first_chunk", "3.25"),
        ("gen_ai.usage.input_tokens", "50"),
        ("gen_ai.usage.output_tokens", "9"),
        ("gen_ai.usage.cache_read.input_tokens", "20"),
        ("gen_ai.usage.cache_creation.input_tokens", "5"),
        ("gen_ai.usage.reasoning.output_tokens", "4"),
        ("gen_ai.response.finish_reasons", r#"[String("stop"), String("length")]"#),
        ("tidegate.attempt.count", "2"),
        ("tidegate.team", "search"),
        ("tidegate.key.id", "search-prod"),
        ("tidegate.auth", "key"),
        ("tidegate.route", "chat"),
        ("tidegate.cost_usd", "0.0015"),
        ("tidegate.ended_by", "complete"),
        ("tidegate.attributes.agent", "crawler"),
    ] {
        assert_eq!(of.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(!of.contains_key("error.type") && !of.contains_key("tidegate.reason"));

    let of = attributes(first);
    for (name, value) in [
        ("gen_ai.provider.name", "aws.bedrock"),
        ("http.response.status_code", "429"),
        ("error.type", "rate_limited"),
        ("tidegate.provider", "one"),
        ("tidegate.target", "one/claude"),
        ("tidegate.attempt.number", "1"),
    ] {
        assert_eq!(of.get(name).map(String::as_str), Some(value), "{name}");
    }
    let absent = ["tidegate.attempt.retry_reason", "gen_ai.usage.input_tokens", "gen_ai.response.time_to_first_chunk"];
    assert!(absent.iter().all(|name| !of.contains_key(name)), "{of:?}");

    let of = attributes(second);
    for (name, value) in [
        ("server.address", "10.0.0.7"),
        ("server.port", "8000"),
        ("gen_ai.response.time_to_first_chunk", "0.25"),
        ("gen_ai.response.id", "msg_1"),
        ("gen_ai.usage.input_tokens", "50"),
        ("tidegate.attempt.number", "2"),
        ("tidegate.attempt.retry_reason", "rate_limited"),
    ] {
        assert_eq!(of.get(name).map(String::as_str), Some(value), "{name}");
    }
}

#[test]
fn of_a_request_that_is_not_traced_nothing_is_kept() {
    let mut attempts = AttemptSpans::default();
    attempts.begin(&targets()[0], "claude", || panic!("no id is made, and no clock is read"));
    attempts.end(Outcome::Success, || panic!("no clock is read"));
    assert!(attempts.current_id().is_none() && attempts.take().is_none());
}

#[test]
fn a_limits_refusal_is_no_error_of_the_server_and_names_the_limit() {
    let ledger = Ledger { status: 429, ..Ledger::new() };
    let spans = exported(finished(ledger, AttemptSpans::traced(), |line| {
        line.reason = "limited";
        line.limit = Some((Scope::Team, Dimension::Tokens));
    }));
    let [request] = &spans[..] else { panic!("{spans:?}") };
    let of = attributes(request);
    assert_eq!((of["tidegate.limit.scope"].as_str(), of["tidegate.limit.dimension"].as_str()), ("team", "tokens"));
    assert_eq!((of["tidegate.reason"].as_str(), of["http.response.status_code"].as_str()), ("limited", "429"));
    assert!(request.status.is_none() && !of.contains_key("error.type") && !of.contains_key("gen_ai.usage.input_tokens"));
}

#[test]
fn what_fails_is_an_error_whatever_its_status() {
    for (status, ended_by, reason, error) in [
        (200, EndedBy::Complete, "", None),
        (200, EndedBy::Client, "", None),
        (499, EndedBy::Client, "cancelled", None),
        (404, EndedBy::Gateway, "not_found", None),
        (200, EndedBy::Upstream, "truncated", Some("truncated")),
        (200, EndedBy::Gateway, "drained", Some("drained")),
        (502, EndedBy::Upstream, "connect", Some("connect")),
        (500, EndedBy::Gateway, "", Some("500")),
    ] {
        let spans = exported(finished(Ledger { status, ended_by, ..Ledger::new() }, AttemptSpans::traced(), |line| line.reason = reason));
        let is_error = spans[0].status.as_ref().is_some_and(|status| status.code() == StatusCode::Error);
        assert_eq!((is_error, attributes(&spans[0]).get("error.type").map(String::as_str)), (error.is_some(), error), "{status} {reason}");
    }
}

#[test]
fn an_unknown_model_names_no_span_and_long_names_are_cut() {
    let unknown = exported(finished(Ledger { status: 404, ..Ledger::new() }, AttemptSpans::traced(), |line| line.route = ""));
    assert_eq!((unknown[0].name.as_str(), attributes(&unknown[0])["gen_ai.request.model"].as_str()), ("chat", "fast"));
    let mut attempts = AttemptSpans::traced();
    attempts.begin(&targets()[1], &"é".repeat(1000), || (5, seconds(0)));
    let spans = exported(finished(Ledger { duration: seconds(4), ..Ledger::new() }, attempts, |_| {}));
    assert_eq!(spans[1].name, format!("chat {}", "é".repeat(128)));
    // One that did not end ends with its request.
    assert_eq!(spans[1].end_time_unix_nano, spans[0].end_time_unix_nano);
}

#[test]
fn a_request_that_asks_for_no_model_is_named_after_its_method() {
    let mut request = finished(Ledger { status: 200, ended_by: EndedBy::Complete, ..Ledger::new() }, AttemptSpans::traced(), |_| {});
    (request.operation, request.trace.parent_id, request.http.method) = (None, 0, "GET");
    let spans = exported(request);
    assert_eq!((spans[0].name.as_str(), spans[0].parent_span_id.len(), spans[0].flags), ("GET", 0, 0x101));
}

#[test]
fn kinds_with_a_word_of_their_own_exist() {
    let kinds: Vec<_> = crate::provider::catalogue::kinds().iter().map(|kind| provider_name(&kind.name)).collect();
    for word in
        ["openai", "anthropic", "azure.ai.openai", "aws.bedrock", "gcp.gemini", "gcp.vertex_ai", "mistral_ai", "moonshot_ai", "x_ai"]
    {
        assert!(kinds.contains(&word), "{word}");
    }
    let own = ["azure_openai", "azure_openai_deployments", "bedrock", "google_ai_studio", "mistral", "moonshot", "vertex", "xai"];
    assert!(own.iter().all(|kind| !kinds.contains(kind)), "{kinds:?}");
}
