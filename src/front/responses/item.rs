//! One output item: its content and its events.

use super::custom::{Input, of_other_form};
use super::response::{DONE, Response, Status};
use crate::front::write::append;
use crate::hex;
use crate::json::depth::Depth;
use crate::json::text::Text;
use crate::json::write::Writer;
use crate::llm::request::NO_ARGUMENTS;
use crate::llm::usage::Usage;
use sha2::{Digest, Sha256};

/// Longest id of a call, in bytes: OpenAI takes no longer one back.
const MAX_CALL_ID: usize = 64;

/// Writes events; none for an answer in one piece.
pub(super) struct Events {
    pub(super) response: Response,
    pub(super) out: Option<Vec<u8>>,
}

/// An output item.
pub(super) struct Item {
    /// Its number.
    pub(super) at: usize,
    id: String,
    pub(super) kind: Kind,
    /// The item's final JSON, once it is over.
    pub(super) done: Option<Vec<u8>>,
}

/// Texts are the insides of JSON strings.
pub(super) enum Kind {
    /// Text and refusals.
    Message(Vec<Part>),
    /// The model's reasoning.
    Reasoning(Reasoning),
    /// A call of a tool.
    Call(Call),
}

#[derive(Default)]
pub(super) struct Part {
    pub(super) refusal: bool,
    pub(super) text: Vec<u8>,
    /// Elements of a JSON array.
    pub(super) logprobs: Vec<u8>,
    pub(super) annotations: Vec<String>,
}

#[derive(Default)]
pub(super) struct Reasoning {
    pub(super) text: Vec<u8>,
    /// Whether it is shown as a summary.
    pub(super) summary: bool,
    /// The provider's state for the call after it.
    pub(super) state: Vec<u8>,
    /// The same, sealed; once it is over.
    pub(super) sealed: String,
}

pub(super) struct Call {
    /// The order's number of it.
    pub(super) number: u32,
    pub(super) id: String,
    pub(super) name: Box<str>,
    pub(super) namespace: Option<Box<str>>,
    pub(super) form: Form,
    /// The arguments or the input that the client has been sent.
    text: Vec<u8>,
    /// Arguments in which the input of a custom tool has not been found yet.
    held: String,
    depth: Depth,
    /// Whether the provider has marked its end.
    pub(super) is_ended: bool,
}

pub(super) enum Form {
    Function,
    /// A custom tool that a function stands for.
    Custom(Input),
    /// A custom tool of the provider's own.
    Direct,
}

impl Events {
    fn event(&mut self, kind: &str, item: &Item, members: impl FnOnce(&mut Writer)) {
        let Some(out) = &mut self.out else { return };
        self.response.event(kind, out, |w| {
            w.key("item_id").string(&item.id).key("output_index").integer(item.at as u64);
            members(w);
        });
    }

    fn item(&mut self, kind: &str, at: usize, json: &[u8]) {
        let Some(out) = &mut self.out else { return };
        self.response.begin(out);
        self.response.event(kind, out, |w| {
            w.key("output_index").integer(at as u64).key("item").raw(std::str::from_utf8(json).unwrap_or("null"));
        });
    }

    /// The last events of a stream.
    pub(super) fn end(&mut self, status: Status<'_>, output: &[&[u8]], usage: Option<&Usage>) {
        let Some(out) = &mut self.out else { return };
        self.response.begin(out);
        let kind = if matches!(status, Status::Incomplete(_)) { "response.incomplete" } else { "response.completed" };
        self.response.whole(kind, status, output, usage, out);
        out.extend_from_slice(DONE);
    }
}

impl Item {
    /// An item of the answer of this id.
    pub(super) fn begin(at: usize, answer_id: &str, kind: Kind, events: &mut Events) -> Self {
        let prefix = match &kind {
            Kind::Message(_) => "msg",
            Kind::Reasoning(_) => "rs",
            Kind::Call(call) => call.names().0,
        };
        let item = Self { at, id: format!("{prefix}_{answer_id}{at:04x}"), kind, done: None };
        events.item("response.output_item.added", at, &item.json("in_progress"));
        item
    }

    /// Whether it is over where another one begins.
    pub(super) fn ends_before_another(&self) -> bool {
        match &self.kind {
            Kind::Message(_) | Kind::Reasoning(_) => true,
            Kind::Call(call) => call.is_ended || call.is_whole(),
        }
    }

    /// Begins a part of a message.
    pub(super) fn begin_part(&mut self, refusal: bool, events: &mut Events) {
        let part = Part { refusal, ..Part::default() };
        let Kind::Message(parts) = &self.kind else { return };
        let index = parts.len() as u64;
        events.event("response.content_part.added", self, |w| {
            w.key("content_index").integer(index).key("part");
            part.write(w);
        });
        if let Kind::Message(parts) = &mut self.kind {
            parts.push(part);
        }
    }

    /// Ends the last part of a message, if there is one.
    pub(super) fn end_part(&self, events: &mut Events) {
        let Kind::Message(parts) = &self.kind else { return };
        let (Some(part), index) = (parts.last(), parts.len().saturating_sub(1) as u64) else { return };
        let (kind, member) = if part.refusal { ("response.refusal.done", "refusal") } else { ("response.output_text.done", "text") };
        events.event(kind, self, |w| {
            w.key("content_index").integer(index).key(member).text(inside(&part.text));
            if !part.refusal {
                w.key("logprobs").array().elements(inside(&part.logprobs).spelled()).end_array();
            }
        });
        events.event("response.content_part.done", self, |w| {
            w.key("content_index").integer(index).key("part");
            part.write(w);
        });
    }

    /// Begins the only part of a reasoning's summary.
    pub(super) fn begin_summary(&self, events: &mut Events) {
        events.event("response.reasoning_summary_part.added", self, |w| {
            write_text("summary_text", b"", w.key("summary_index").integer(0).key("part"));
        });
    }

    /// Writes a delta of the last part, and its log probabilities.
    pub(super) fn delta(&self, delta: &[u8], logprobs: &[u8], events: &mut Events) {
        let (kind, index, number) = match &self.kind {
            Kind::Message(parts) if parts.last().is_some_and(|part| part.refusal) => {
                ("response.refusal.delta", "content_index", parts.len() - 1)
            }
            Kind::Message(parts) => ("response.output_text.delta", "content_index", parts.len().saturating_sub(1)),
            Kind::Reasoning(Reasoning { summary: true, .. }) => ("response.reasoning_summary_text.delta", "summary_index", 0),
            Kind::Reasoning(_) => ("response.reasoning_text.delta", "content_index", 0),
            Kind::Call(_) => return,
        };
        events.event(kind, self, |w| {
            w.key(index).integer(number as u64).key("delta").text(inside(delta));
            if kind == "response.output_text.delta" {
                w.key("logprobs").array().elements(inside(logprobs).spelled()).end_array();
            }
        });
    }

    /// Adds a source to the last part.
    pub(super) fn annotate(&mut self, annotation: String, events: &mut Events) {
        let Kind::Message(parts) = &self.kind else { return };
        let (Some(part), index) = (parts.last(), parts.len().saturating_sub(1) as u64) else { return };
        let number = part.annotations.len() as u64;
        events.event("response.output_text.annotation.added", self, |w| {
            w.key("content_index").integer(index).key("annotation_index").integer(number).key("annotation").raw(&annotation);
        });
        if let Kind::Message(parts) = &mut self.kind
            && let Some(part) = parts.last_mut()
        {
            part.annotations.push(annotation);
        }
    }

    /// Appends to a call's arguments.
    pub(super) fn push_arguments(&mut self, fragment: Text<'_>, events: &mut Events) {
        let Kind::Call(call) = &mut self.kind else { return };
        let is_none = matches!(call.form, Form::Function) && call.text.is_empty() && fragment.decode().trim() == NO_ARGUMENTS;
        let fragment = if is_none { Text::Plain("{}") } else { fragment };
        call.depth.read(fragment);
        match &mut call.form {
            Form::Function | Form::Direct => self.send(fragment, events),
            Form::Custom(input) => {
                let plain = fragment.decode();
                if !input.is_found() {
                    call.held.push_str(&plain);
                }
                let more = input.read(&plain);
                self.send(Text::Plain(&more), events);
            }
        }
    }

    /// Sends a part of a call's arguments or input.
    fn send(&mut self, text: Text<'_>, events: &mut Events) {
        let Kind::Call(call) = &mut self.kind else { return };
        if text.is_empty() {
            return;
        }
        append(&mut call.text, text);
        let kind = call.names().2;
        events.event(kind, self, |w| {
            w.key("delta").text(text);
        });
    }

    /// The answer has ended. A call that is `cut` off is incomplete and gets no `output_item.done`, because clients make the
    /// calls that are done.
    pub(super) fn end(&mut self, cut: bool, events: &mut Events) {
        match &self.kind {
            Kind::Call(call) if cut && !call.is_whole() => self.done = Some(self.json("incomplete")),
            Kind::Message(_) if cut => self.close("incomplete", events),
            _ => self.close("completed", events),
        }
    }

    /// Ends an item that is whole.
    pub(super) fn close(&mut self, status: &str, events: &mut Events) {
        self.complete_call(events);
        match &self.kind {
            Kind::Message(_) => self.end_part(events),
            Kind::Reasoning(reasoning) if reasoning.text.is_empty() => {}
            Kind::Reasoning(reasoning) if reasoning.summary => {
                events.event("response.reasoning_summary_text.done", self, |w| {
                    w.key("summary_index").integer(0).key("text").text(inside(&reasoning.text));
                });
                events.event("response.reasoning_summary_part.done", self, |w| {
                    write_text("summary_text", &reasoning.text, w.key("summary_index").integer(0).key("part"));
                });
            }
            Kind::Reasoning(reasoning) => events.event("response.reasoning_text.done", self, |w| {
                w.key("content_index").integer(0).key("text").text(inside(&reasoning.text));
            }),
            Kind::Call(call) => {
                let (.., kind, member) = call.names();
                events.event(kind, self, |w| {
                    w.key(member).text(inside(&call.text));
                });
            }
        }
        let json = self.json(status);
        events.item("response.output_item.done", self.at, &json);
        self.done = Some(json);
    }

    /// Sends what is missing of a whole call's arguments or input.
    fn complete_call(&mut self, events: &mut Events) {
        let Kind::Call(call) = &mut self.kind else { return };
        match &call.form {
            Form::Function if call.text.is_empty() => self.send(Text::Plain("{}"), events),
            Form::Custom(input) if !input.is_found() => {
                let input = of_other_form(&std::mem::take(&mut call.held));
                self.send(Text::Plain(&input), events);
            }
            _ => {}
        }
    }

    /// The item as it stands.
    fn json(&self, status: &str) -> Vec<u8> {
        let mut w = Writer::default();
        w.object().key("id").string(&self.id).key("type");
        match &self.kind {
            Kind::Message(parts) => {
                w.string("message").key("status").string(status).key("role").string("assistant").key("content").array();
                parts.iter().for_each(|part| part.write(&mut w));
                w.end_array();
            }
            Kind::Reasoning(reasoning) => reasoning.write(&mut w),
            Kind::Call(call) => {
                let (_, kind, _, _, member) = call.names();
                w.string(kind).key("status").string(status).key("call_id").string(&call.id).key("name").string(&call.name);
                if let Some(namespace) = &call.namespace {
                    w.key("namespace").string(namespace);
                }
                w.key(member).text(inside(&call.text));
            }
        }
        w.end_object();
        w.finish()
    }
}

impl Reasoning {
    /// Writes the members behind `type`.
    fn write(&self, w: &mut Writer) {
        w.string("reasoning").key("summary").array();
        if self.summary && !self.text.is_empty() {
            write_text("summary_text", &self.text, w);
        }
        w.end_array();
        if !self.summary && !self.text.is_empty() {
            write_text("reasoning_text", &self.text, w.key("content").array());
            w.end_array();
        }
        if !self.sealed.is_empty() {
            w.key("encrypted_content").string(&self.sealed);
        }
    }
}

impl Call {
    pub(super) fn new(number: u32, id: &str, name: &str, form: Form) -> Self {
        let id = if id.len() <= MAX_CALL_ID { id.to_owned() } else { digest(id) };
        let (text, held, depth) = (Vec::new(), String::new(), Depth::default());
        Self { number, id, name: name.into(), namespace: None, form, text, held, depth, is_ended: false }
    }

    /// Whether nothing of it is missing. The input of a provider's own custom tool is any text, whose end only the provider
    /// knows.
    pub(super) fn is_whole(&self) -> bool {
        if matches!(self.form, Form::Direct) { self.is_ended } else { self.depth.is_whole() }
    }

    /// The protocol's names: the prefix of the item's id, its type, the delta event, the done event, and the member.
    const fn names(&self) -> (&'static str, &'static str, &'static str, &'static str, &'static str) {
        match self.form {
            Form::Function => {
                ("fc", "function_call", "response.function_call_arguments.delta", "response.function_call_arguments.done", "arguments")
            }
            Form::Custom(_) | Form::Direct => {
                ("ctc", "custom_tool_call", "response.custom_tool_call_input.delta", "response.custom_tool_call_input.done", "input")
            }
        }
    }
}

/// A short id in place of one that is too long.
fn digest(id: &str) -> String {
    let digest = hex::encode(Sha256::digest(id.as_bytes()).iter().take(16));
    format!("call_{digest}")
}

impl Part {
    fn write(&self, w: &mut Writer) {
        if self.refusal {
            w.object().key("type").string("refusal").key("refusal").text(inside(&self.text)).end_object();
            return;
        }
        w.object().key("type").string("output_text").key("text").text(inside(&self.text)).key("annotations").array();
        for json in &self.annotations {
            w.raw(json);
        }
        w.end_array().key("logprobs").array().elements(inside(&self.logprobs).spelled()).end_array().end_object();
    }
}

fn write_text(kind: &str, text: &[u8], w: &mut Writer) {
    w.object().key("type").string(kind).key("text").text(inside(text)).end_object();
}

fn inside(bytes: &[u8]) -> Text<'_> {
    Text::Raw(std::str::from_utf8(bytes).unwrap_or_default())
}
