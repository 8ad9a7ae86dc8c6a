//! From finished requests to OTLP's messages.
//!
//! A request is a span of kind SERVER, an attempt one of kind CLIENT below it; both are named `{operation} {model}`, as the
//! conventions for generative AI say, and a request that asks for no model after its method.

use super::names::{ATTRIBUTES, SpanAttribute as A};
use super::otlp::{
    AnyValue, ArrayValue, ExportRequest, InstrumentationScope, KeyValue, PARENT_KNOWN, PARENT_REMOTE, Resource, ResourceSpans, ScopeSpans,
    Span, SpanKind, Status, StatusCode, Value,
};
use super::record::{AttemptSpan, FinishedRequest};
use crate::account::EndedBy;
use crate::llm::endpoint::Endpoint;
use crate::llm::finish::FinishReasons;
use crate::llm::usage::Usage;
use crate::operation::Operation;
use crate::telemetry::labels::Outcome;
use prost::Message;
use std::time::Duration;
use uuid::Uuid;

/// What sends the spans (OpenTelemetry's resource conventions, `service.*`).
pub fn resource(service_name: &str, instance: Uuid) -> Resource {
    let text = |key: &str, value: &str| KeyValue { key: key.to_owned(), value: Some(string(value)) };
    let attributes = vec![
        text("service.name", service_name),
        text("service.version", env!("CARGO_PKG_VERSION")),
        text("service.instance.id", &instance.to_string()),
    ];
    Resource { attributes }
}

/// The body of an export.
pub fn batch(resource: &Resource, requests: &[FinishedRequest]) -> Vec<u8> {
    let scope = InstrumentationScope { name: env!("CARGO_PKG_NAME").to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
    let spans = requests.iter().flat_map(spans).collect();
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans }];
    ExportRequest { resource_spans: vec![ResourceSpans { resource: Some(resource.clone()), scope_spans }] }.encode_to_vec()
}

/// The request's span and those of its attempts.
fn spans(request: &FinishedRequest) -> Vec<Span> {
    let mut all = Vec::with_capacity(request.spans());
    all.push(request_span(request));
    let mut before = None;
    for (number, attempt) in (1..).zip(&request.attempts) {
        let is_last = usize::try_from(number) == Ok(request.attempts.len());
        all.push(attempt_span(request, attempt, number, before, is_last));
        before = attempt.ended.map(|(_, outcome)| outcome);
    }
    all
}

fn request_span(request: &FinishedRequest) -> Span {
    let (ledger, trace) = (&request.ledger, &request.trace);
    let error = is_failed(request);
    let mut a = Attributes::default();
    a.text(A::Method, request.http.method);
    a.text(A::Scheme, request.http.scheme);
    a.text(A::ProtocolVersion, request.http.version);
    a.count(A::Status, u64::from(ledger.status));
    if let Some(operation) = request.operation {
        let path = path(operation);
        a.text(A::Route, &path);
        a.text(A::Path, &path);
        a.text(A::Operation, operation_name(operation));
        a.text(A::RequestModel, &request.model);
    }
    if let Some(attempt) = request.attempts.last() {
        a.text(A::Provider, provider_name(&attempt.target.provider.kind.name));
        a.text(A::TidegateProvider, &attempt.target.provider.name);
    }
    if request.attempts.last().is_some_and(|attempt| matches!(attempt.ended, Some((_, Outcome::Success)))) {
        a.text(A::ResponseModel, &request.upstream_model);
    }
    a.truth(A::Stream, ledger.stream);
    if request.attempts.iter().any(|attempt| attempt.used.is_some()) {
        a.usage(&ledger.usage, ledger.estimated, &ledger.finish);
    }
    if let Some(time) = ledger.ttft.filter(|_| ledger.stream) {
        a.double(A::FirstChunk, time.as_secs_f64());
    }
    if error {
        let status = ledger.status.to_string();
        a.text(A::ErrorType, if request.reason.is_empty() { &status } else { request.reason });
    }
    a.text(A::RequestId, &request.request_id);
    a.text(A::EpisodeId, &request.episode_id);
    a.text(A::Endpoint, request.endpoint);
    a.text(A::Team, &request.team);
    a.text(A::Key, &request.key);
    a.text(A::Auth, request.auth);
    a.text(A::TidegateRoute, &request.route);
    a.count(A::AttemptCount, u64::from(ledger.attempts));
    a.text(A::PassedOver, &request.passed_over);
    a.text(A::StickyBy, request.sticky_by);
    a.text(A::Reason, request.reason);
    a.text(A::EndedBy, ledger.ended_by.name());
    if let Some((scope, dimension)) = request.limit {
        a.text(A::LimitScope, scope.name());
        a.text(A::LimitDimension, dimension.name());
    }
    if ledger.micro_usd > 0 {
        a.double(A::Cost, ledger.micro_usd as f64 / 1e6);
    }
    if !ledger.overhead.is_zero() {
        a.double(A::Overhead, ledger.overhead.as_secs_f64());
    }
    for (name, value) in &request.attributes {
        a.0.push(KeyValue { key: [ATTRIBUTES, name].concat(), value: Some(string(value)) });
    }
    let remote = if trace.parent_id == 0 { 0 } else { PARENT_REMOTE };
    let name = match request.operation {
        // A name that no route has may be any text: too many names of spans.
        Some(operation) => name(operation, if request.route.is_empty() { "" } else { &request.model }),
        None => request.http.method.to_owned(),
    };
    Span {
        parent_span_id: if trace.parent_id == 0 { Vec::new() } else { trace.parent_id.to_be_bytes().into() },
        flags: u32::from(trace.flags) | PARENT_KNOWN | remote,
        ..span(request, (trace.span_id, SpanKind::Server, name), (Duration::ZERO, ledger.duration), (a, error))
    }
}

/// `before`: how the attempt before it ended. `is_last`: what the client was sent came from it.
fn attempt_span(request: &FinishedRequest, attempt: &AttemptSpan, number: u64, before: Option<Outcome>, is_last: bool) -> Span {
    let (ledger, provider) = (&request.ledger, &attempt.target.provider);
    let ended = attempt.ended.map_or(ledger.duration, |(at, _)| at);
    let error = attempt.ended.map(|(_, outcome)| outcome).filter(|outcome| *outcome != Outcome::Success);
    let mut a = Attributes::default();
    if let Some(operation) = request.operation {
        a.text(A::Operation, operation_name(operation));
    }
    a.text(A::Provider, provider_name(&provider.kind.name));
    a.text(A::RequestModel, &attempt.model);
    a.truth(A::Stream, ledger.stream);
    match &provider.base.socket {
        Some(socket) => a.text(A::ServerAddress, &socket.to_string_lossy()),
        None => {
            a.text(A::ServerAddress, &provider.base.host);
            a.count(A::ServerPort, u64::from(provider.base.port));
        }
    }
    a.count(A::Status, u64::from(attempt.status.unwrap_or_default()));
    if let Some(used) = &attempt.used {
        a.usage(&used.usage, used.estimated, &used.finish);
        a.text(A::ResponseId, used.id.as_deref().unwrap_or_default());
    }
    if let Some(time) = ledger.ttft.filter(|_| ledger.stream && is_last).and_then(|ttft| ttft.checked_sub(attempt.began)) {
        a.double(A::FirstChunk, time.as_secs_f64());
    }
    a.text(A::ErrorType, error.map_or("", Outcome::name));
    a.text(A::TidegateRoute, &request.route);
    a.text(A::Team, &request.team);
    a.text(A::TidegateProvider, &provider.name);
    a.text(A::Target, &format!("{}/{}", provider.endpoint_name, attempt.model));
    a.count(A::AttemptNumber, number);
    a.text(A::RetryReason, before.map_or("", Outcome::name));
    let name = request.operation.map_or_else(String::new, |operation| name(operation, &attempt.model));
    Span {
        parent_span_id: request.trace.span_id.to_be_bytes().into(),
        flags: u32::from(request.trace.flags) | PARENT_KNOWN,
        ..span(request, (attempt.id, SpanKind::Client, name), (attempt.began, ended), (a, error.is_some()))
    }
}

/// A span without its parent. Times are counted from the request's arrival.
fn span(
    request: &FinishedRequest,
    (id, kind, name): (u64, SpanKind, String),
    (began, ended): (Duration, Duration),
    (attributes, error): (Attributes, bool),
) -> Span {
    let at = |time: Duration| u64::try_from((request.arrived + time).as_nanos()).unwrap_or(u64::MAX);
    let trace_state = request.trace_state.as_ref().and_then(|state| state.to_str().ok()).unwrap_or_default();
    Span {
        trace_id: request.trace.trace_id.to_be_bytes().into(),
        span_id: id.to_be_bytes().into(),
        trace_state: trace_state.to_owned(),
        name,
        kind: kind.into(),
        start_time_unix_nano: at(began),
        end_time_unix_nano: at(ended.max(began)),
        attributes: attributes.0,
        status: error.then(|| Status { code: StatusCode::Error.into() }),
        ..Span::default()
    }
}

/// Whether the request's span is an error.
///
/// Semantic conventions for HTTP spans, "Status": "For HTTP status codes in the 4xx range span status MUST be left unset in case
/// of SpanKind.SERVER", in the 5xx range it is an error. So is a response that broke off behind its status.
fn is_failed(request: &FinishedRequest) -> bool {
    let ledger = &request.ledger;
    ledger.status >= 500 || ledger.status < 400 && matches!(ledger.ended_by, EndedBy::Upstream | EndedBy::Gateway)
}

fn name(operation: Operation, model: &str) -> String {
    let operation = operation_name(operation);
    if model.is_empty() { operation.to_owned() } else { format!("{operation} {model}") }
}

/// `gen_ai.operation.name`.
const fn operation_name(operation: Operation) -> &'static str {
    match operation {
        Operation::Chat | Operation::Messages | Operation::Responses => "chat",
        Operation::Passed(Endpoint::Completions) => "text_completion",
        Operation::Embeddings | Operation::CountTokens | Operation::Passed(_) => operation.name(),
    }
}

fn path(operation: Operation) -> String {
    match operation {
        Operation::Chat => "/v1/chat/completions".to_owned(),
        Operation::Embeddings => "/v1/embeddings".to_owned(),
        Operation::Messages => "/v1/messages".to_owned(),
        Operation::CountTokens => "/v1/messages/count_tokens".to_owned(),
        Operation::Responses => "/v1/responses".to_owned(),
        Operation::Passed(endpoint) => format!("/v1{}", endpoint.path()),
    }
}

/// `gen_ai.provider.name` of a kind: OpenTelemetry's word where it has one, else the kind's own.
fn provider_name(kind: &str) -> &str {
    match kind {
        "azure_openai" | "azure_openai_deployments" => "azure.ai.openai",
        "bedrock" => "aws.bedrock",
        "google_ai_studio" => "gcp.gemini",
        "mistral" => "mistral_ai",
        "moonshot" => "moonshot_ai",
        "vertex" => "gcp.vertex_ai",
        "xai" => "x_ai",
        kind => kind,
    }
}

fn string(value: &str) -> AnyValue {
    AnyValue { value: Some(Value::String(value.to_owned())) }
}

/// The attributes of a span.
#[derive(Default)]
struct Attributes(Vec<KeyValue>);

impl Attributes {
    fn push(&mut self, attribute: A, value: Value) {
        self.0.push(KeyValue { key: attribute.name().to_owned(), value: Some(AnyValue { value: Some(value) }) });
    }

    /// Omitted if empty.
    fn text(&mut self, attribute: A, value: &str) {
        if !value.is_empty() {
            self.push(attribute, Value::String(value.to_owned()));
        }
    }

    /// Omitted if zero.
    fn count(&mut self, attribute: A, value: u64) {
        if value > 0 {
            self.push(attribute, Value::Int(i64::try_from(value).unwrap_or(i64::MAX)));
        }
    }

    /// Omitted if false.
    fn truth(&mut self, attribute: A, value: bool) {
        if value {
            self.push(attribute, Value::Bool(true));
        }
    }

    fn double(&mut self, attribute: A, value: f64) {
        self.push(attribute, Value::Double(value));
    }

    fn usage(&mut self, usage: &Usage, estimated: bool, finish: &FinishReasons) {
        let counts = [(A::InputTokens, usage.prompt), (A::OutputTokens, usage.completion)];
        counts.into_iter().for_each(|(attribute, count)| self.push(attribute, Value::Int(i64::try_from(count).unwrap_or(i64::MAX))));
        self.count(A::CacheRead, usage.cached);
        self.count(A::CacheWrite, usage.cache_write);
        self.count(A::Reasoning, usage.reasoning);
        self.truth(A::TokensEstimated, estimated);
        let values: Vec<_> = finish.words().map(|word| string(word.name())).collect();
        if !values.is_empty() {
            self.push(A::FinishReasons, Value::Array(ArrayValue { values }));
        }
    }
}

#[cfg(test)]
#[path = "encode_tests.rs"]
mod tests;
