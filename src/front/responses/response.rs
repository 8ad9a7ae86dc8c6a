//! The response object, and the events that say it as a whole.
//!
//! There is one [`Response`] for a request, whichever target answers. Its events are numbered without gaps, also where
//! heartbeats precede an answer or another target answers, so all writers of a stream share one count.

use super::error::{Wire, failed_code};
use crate::error::ApiError;
use crate::front::chat::head::Head;
use crate::front::write::{event, nullable};
use crate::json::walk;
use crate::json::write::Writer;
use crate::llm::envelope::Parsed;
use crate::llm::responses::Functions;
use crate::llm::usage::Usage;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use uuid::Uuid;

/// See the module. Cheap to clone; clones count their events together.
#[derive(Clone, Debug, Default)]
pub struct Response {
    identity: Arc<Identity>,
    /// How many events have been written.
    count: Arc<AtomicU64>,
    /// The provider's id, where its own events have been passed.
    id: Option<Arc<str>>,
    /// The name of the target's model, where it is shown instead of the client's.
    model: Option<Arc<str>>,
}

/// What is the same in every event.
#[derive(Debug, Default)]
struct Identity {
    id: Uuid,
    created: u64,
    model: Box<str>,
    /// The members that repeat the request, as the inside of an object.
    echo: Box<str>,
    /// The defaults of these members, for a heartbeat where `echo` is too long.
    brief: Option<Box<str>>,
    functions: Arc<Functions>,
    summarises: bool,
    /// Returns the time, in seconds since the epoch.
    clock: Option<fn() -> u64>,
}

/// How far a response is.
#[derive(Clone, Copy)]
pub(super) enum Status<'a> {
    InProgress,
    Completed,
    /// It ended early, for this reason.
    Incomplete(&'static str),
    Failed(&'a ApiError),
}

impl Response {
    /// The response to a request. `clock` returns the time, in seconds since the epoch.
    pub fn new(head: &Head, parsed: &Parsed, functions: Functions, clock: fn() -> u64) -> Self {
        let (id, created, model) = (head.id, head.created, &head.model);
        let (text, summarises) = (echo(Some(parsed)), super::summarises(parsed));
        let brief = (text.len() > MAX_BRIEF).then(|| echo(None).into());
        let identity = Identity {
            id,
            created,
            model: model.clone(),
            echo: text.into(),
            brief,
            functions: functions.into(),
            summarises,
            clock: Some(clock),
        };
        Self { identity: Arc::new(identity), count: Arc::default(), id: None, model: None }
    }

    /// The same after `count` events of the provider's own, under its id.
    #[must_use]
    pub fn after(&self, id: Option<&str>, count: u64) -> Self {
        self.count.fetch_max(count, Ordering::Relaxed);
        Self { id: id.map(Arc::from), ..self.clone() }
    }

    /// The same under the name of the model that answers.
    #[must_use]
    pub fn of_model(&self, model: &str) -> Self {
        Self { model: Some(model.into()), ..self.clone() }
    }

    /// The functions that stand for the request's other tools.
    pub fn functions(&self) -> &Arc<Functions> {
        &self.identity.functions
    }

    /// Whether reasoning is shown as a summary.
    pub(super) fn summarises(&self) -> bool {
        self.identity.summarises
    }

    /// How many events have been written.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Uncounts the events after the first `count`, which are not sent.
    pub(super) fn rewind(&self, count: u64) {
        self.count.store(count, Ordering::Relaxed);
    }

    /// Whether the client has been sent any event.
    pub fn has_begun(&self) -> bool {
        self.count() > 0
    }

    /// What is written into a silent stream: the first events of a response, later `response.in_progress`. Short, because it is
    /// repeated and a client's window may be small: a long echo is left to the events of the answer.
    pub fn heartbeat(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let echo = self.identity.brief.as_deref().unwrap_or(&self.identity.echo);
        if !self.has_begun() {
            self.progress("response.created", echo, &mut out);
        }
        self.progress("response.in_progress", echo, &mut out);
        out
    }

    /// The events that every response begins with, unless they have been written.
    pub(super) fn begin(&self, out: &mut Vec<u8>) {
        if !self.has_begun() {
            self.progress("response.created", &self.identity.echo, out);
            self.progress("response.in_progress", &self.identity.echo, out);
        }
    }

    fn progress(&self, kind: &str, echo: &str, out: &mut Vec<u8>) {
        self.event(kind, out, |w| self.write_as(Status::InProgress, &[], None, echo, w.key("response")));
    }

    /// An event that has the whole response.
    pub(super) fn whole(&self, kind: &str, status: Status<'_>, output: &[&[u8]], usage: Option<&Usage>, out: &mut Vec<u8>) {
        self.event(kind, out, |w| self.write(status, output, usage, w.key("response")));
    }

    /// The events that end a stream which cannot be completed: the error, and a response that keeps the items that are whole.
    pub fn failure(&self, error: &ApiError, output: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        self.begin(&mut out);
        self.event("error", &mut out, |w| {
            w.key("code").string(failed_code(error)).key("message").string(&error.message);
            nullable(error.param.as_deref(), w.key("param"));
            // OpenAI's own form is flat, that of Open Responses is nested; clients read either.
            w.key("error").raw(&serde_json::to_string(&Wire::of(error)).unwrap_or_default());
        });
        self.whole("response.failed", Status::Failed(error), output, None, &mut out);
        out.extend_from_slice(DONE);
        out
    }

    /// An event of this type. `members` writes what follows its number.
    pub(super) fn event(&self, kind: &str, out: &mut Vec<u8>, members: impl FnOnce(&mut Writer)) {
        event(out, kind, |w| members(w.key("sequence_number").integer(self.count.fetch_add(1, Ordering::Relaxed))));
    }

    /// The response object.
    pub(super) fn write(&self, status: Status<'_>, output: &[&[u8]], usage: Option<&Usage>, w: &mut Writer) {
        self.write_as(status, output, usage, &self.identity.echo, w);
    }

    fn write_as(&self, status: Status<'_>, output: &[&[u8]], usage: Option<&Usage>, echo: &str, w: &mut Writer) {
        let Identity { id, created, model, clock, .. } = &*self.identity;
        let own = || format!("resp_{}", id.simple());
        w.object().key("id").string(&self.id.as_deref().map_or_else(own, str::to_owned)).key("object").string("response");
        w.key("created_at").integer(*created).key("completed_at");
        match status {
            Status::Completed => w.integer(clock.map_or(0, |clock| clock()).max(*created)),
            _ => w.raw("null"),
        };
        w.key("status").string(match status {
            Status::InProgress => "in_progress",
            Status::Completed => "completed",
            Status::Incomplete(_) => "incomplete",
            Status::Failed(_) => "failed",
        });
        w.key("incomplete_details");
        match status {
            Status::Incomplete(reason) => w.object().key("reason").string(reason).end_object(),
            _ => w.raw("null"),
        };
        w.key("error");
        match status {
            Status::Failed(error) => w.object().key("code").string(failed_code(error)).key("message").string(&error.message).end_object(),
            _ => w.raw("null"),
        };
        w.key("model").string(self.model.as_deref().unwrap_or(model)).key("output").array();
        for item in output {
            w.raw(std::str::from_utf8(item).unwrap_or("null"));
        }
        w.end_array().key("usage");
        match usage {
            Some(usage) => write_usage(usage, w),
            None => {
                w.raw("null");
            }
        }
        if !echo.is_empty() {
            w.members(echo);
        }
        w.end_object();
    }
}

fn write_usage(usage: &Usage, w: &mut Writer) {
    w.object().key("input_tokens").integer(usage.prompt);
    w.key("input_tokens_details").object().key("cached_tokens").integer(usage.cached);
    w.key("cache_write_tokens").integer(usage.cache_write).end_object();
    w.key("output_tokens").integer(usage.completion);
    w.key("output_tokens_details").object().key("reasoning_tokens").integer(usage.reasoning).end_object();
    w.key("total_tokens").integer(usage.total()).end_object();
}

/// The members that repeat the request, as the inside of an object. Those that the protocol requires have defaults.
fn echo(parsed: Option<&Parsed>) -> String {
    let mut w = Writer::default();
    w.object();
    for (name, without) in ECHO {
        let raw = parsed.and_then(|parsed| parsed.raw_named(name)).unwrap_or(without);
        w.key(name);
        match name {
            "reasoning" => completed(raw, &[("effort", "null"), ("summary", "null")], &mut w),
            "text" => completed(raw, &[("format", r#"{"type":"text"}"#)], &mut w),
            "tools" => tools(raw, &mut w),
            _ => {
                w.raw(raw);
            }
        }
    }
    // Nothing is stored, whatever was asked.
    w.key("store").flag(false).key("background").flag(false).key("previous_response_id").raw("null");
    w.end_object();
    let object = String::from_utf8(w.finish()).unwrap_or_default();
    // A line break, which can only stand between tokens, would end an event's line.
    object.get(1..object.len().saturating_sub(1)).unwrap_or_default().replace(['\n', '\r'], " ")
}

/// The members of a request that its response repeats, with OpenAI's defaults.
const ECHO: [(&str, &str); 19] = [
    ("instructions", "null"),
    ("max_output_tokens", "null"),
    ("max_tool_calls", "null"),
    ("metadata", "{}"),
    ("parallel_tool_calls", "true"),
    ("prompt_cache_key", "null"),
    ("reasoning", "{}"),
    ("safety_identifier", "null"),
    ("service_tier", "\"default\""),
    ("temperature", "1.0"),
    ("text", "{}"),
    ("tool_choice", "\"auto\""),
    ("tools", "[]"),
    ("top_logprobs", "0"),
    ("top_p", "1.0"),
    ("truncation", "\"disabled\""),
    ("user", "null"),
    // Not of this API, but required by Open Responses.
    ("presence_penalty", "0.0"),
    ("frequency_penalty", "0.0"),
];

/// The tools; a function has every member that the protocol requires.
fn tools(raw: &str, w: &mut Writer) {
    w.array();
    if let Ok(mut list) = walk::inner_elements(raw) {
        while let Ok(Some(tool)) = list.next() {
            let function = walk::inner_members(tool).is_ok_and(|mut members| {
                std::iter::from_fn(|| members.next().ok().flatten()).any(|(key, value)| key.is("type") && value == "\"function\"")
            });
            if function {
                completed(tool, &[("description", "null"), ("parameters", "null"), ("strict", "null")], w);
            } else {
                w.raw(tool);
            }
        }
    }
    w.end_array();
}

/// An object with these members where it has none of their names.
fn completed(raw: &str, wanted: &[(&str, &str)], w: &mut Writer) {
    let mut there = Vec::new();
    w.object();
    if let Ok(mut members) = walk::inner_members(raw) {
        while let Ok(Some((key, value))) = members.next() {
            let key = key.decode();
            w.key(&key).raw(value);
            there.push(key);
        }
    }
    for (name, value) in wanted.iter().filter(|(name, _)| !there.iter().any(|key| key == name)) {
        w.key(name).raw(value);
    }
    w.end_object();
}

/// Most bytes of the request that a heartbeat repeats.
const MAX_BRIEF: usize = 1 << 10;
/// The end of a stream.
pub(super) const DONE: &[u8] = b"data: [DONE]\n\n";

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn written(members: &str) -> Value {
        let body = format!("{{\"model\":\"r\",\"input\":\"x\"{members}}}");
        let parsed = crate::front::responses::parse(body.into()).unwrap();
        let response = Response::new(&Head::new(Uuid::nil(), Uuid::nil(), 5, "r"), &parsed, Functions::default(), || 4);
        let mut w = Writer::default();
        response.write(Status::Completed, &[b"{}"], None, &mut w);
        let text = String::from_utf8(w.finish()).unwrap();
        assert!(!text.contains(['\n', '\r']), "{text}");
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn what_was_asked_is_said_back_and_what_was_not_has_openais_default() {
        let bare = written("");
        assert_eq!(bare["reasoning"], json!({"effort": null, "summary": null}));
        assert_eq!((&bare["text"], &bare["tools"]), (&json!({"format": {"type": "text"}}), &json!([])));
        assert_eq!((&bare["store"], &bare["metadata"], &bare["completed_at"]), (&json!(false), &json!({}), &json!(5)));
        let tools = "[ {\"type\":\"function\",\n\"name\":\"f\"},\r\n{\"type\":\"custom\",\"name\":\"p\"} ]";
        let asked = written(&format!(
            r#","store":true,"instructions":"Be\n","reasoning":{{"effort":"low"}},"text":{{"verbosity":"low"}},"tools":{tools}"#
        ));
        assert_eq!((&asked["store"], &asked["instructions"]), (&json!(false), &json!("Be\n")));
        assert_eq!(asked["reasoning"], json!({"effort": "low", "summary": null}));
        assert_eq!(asked["text"], json!({"verbosity": "low", "format": {"type": "text"}}));
        assert_eq!(asked["tools"][0], json!({"type": "function", "name": "f", "description": null, "parameters": null, "strict": null}));
        assert_eq!(asked["tools"][1], json!({"type": "custom", "name": "p"}));
    }

    #[test]
    fn a_heartbeat_is_short_whatever_was_asked() {
        let body = format!(r#"{{"model":"r","input":"x","instructions":"{}"}}"#, "i".repeat(MAX_BRIEF));
        let parsed = crate::front::responses::parse(body.into()).unwrap();
        let response = Response::new(&Head::new(Uuid::nil(), Uuid::nil(), 5, "r"), &parsed, Functions::default(), || 4);
        let heartbeat = String::from_utf8([response.heartbeat(), response.heartbeat()].concat()).unwrap();
        let events: Vec<Value> =
            heartbeat.lines().filter_map(|line| line.strip_prefix("data: ")).map(|data| serde_json::from_str(data).unwrap()).collect();
        assert_eq!((events.len(), heartbeat.len() < 3 * (1 << 10)), (3, true), "{heartbeat}");
        assert_eq!(events[2]["response"]["instructions"], Value::Null);
        let mut w = Writer::default();
        response.write(Status::InProgress, &[], None, &mut w);
        let whole: Value = serde_json::from_slice(&w.finish()).unwrap();
        assert_eq!(
            whole.as_object().unwrap().keys().collect::<Vec<_>>(),
            events[0]["response"].as_object().unwrap().keys().collect::<Vec<_>>()
        );
    }

    #[test]
    fn all_that_write_into_a_stream_share_one_count() {
        let response = Response::default();
        let number = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().matches("sequence_number").count();
        assert_eq!((number(response.heartbeat()), number(response.clone().heartbeat())), (2, 1));
        let failure = String::from_utf8(response.after(Some("resp_up"), 9).failure(&ApiError::upstream("m"), &[])).unwrap();
        assert!(failure.contains("\"sequence_number\":9,") && failure.contains("\"id\":\"resp_up\""), "{failure}");
        assert!(failure.ends_with("data: [DONE]\n\n"));
    }
}
