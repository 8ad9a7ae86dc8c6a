//! Puts the events of an answer into output items, and writes them as a stream or in one piece.
//! <https://platform.openai.com/docs/api-reference/responses-streaming>
//!
//! Items may be open side by side here. A message and reasoning end where another item begins. A call ends where its provider
//! marks the end or another item begins, if its arguments are a whole JSON value then; else with the answer. Clients act on
//! `output_item.done`, so a call that is cut off has none, and providers mark the end of such a call as well.

use super::custom::Input;
use super::item::{Call, Events, Form, Item, Kind, Reasoning};
use super::response::{Response, Status};
use crate::error::ApiError;
use crate::front::sealed;
use crate::front::write::append;
use crate::json::text::Text;
use crate::json::walk;
use crate::json::write::Writer as Json;
use crate::llm::event::{Block, Citation, Event, Finish, RawBlock, Sink, ToolForm};
use crate::llm::order::Writer;
use crate::llm::state::Seal;
use crate::llm::usage::Usage;
use crate::redact::cut;
use std::borrow::Cow;

/// Most bytes of an answer, which is kept because its last event repeats all of it.
pub const MAX_ANSWER: usize = 64 << 20;

/// One answer.
pub struct Items {
    events: Events,
    /// How many events the client had been sent before it.
    first: u64,
    items: Vec<Item>,
    /// The indices of the items that are not over, in their order.
    open: Vec<usize>,
    /// The indices of the calls by their number, which [`crate::llm::order`] counts from 0.
    calls: Vec<usize>,
    /// What the frame that is being read adds to the last item, and its log probabilities.
    delta: (Vec<u8>, Vec<u8>),
    /// Unique for the answer.
    answer_id: Box<str>,
    seal: Option<Seal>,
    usage: Option<Usage>,
    finish: Option<Finish>,
    fault: Option<Cow<'static, str>>,
    /// Bytes so far.
    size: usize,
}

impl Items {
    /// An answer of this id, as a stream or in one piece.
    pub fn new(response: Response, answer_id: &str, stream: bool, seal: Option<Seal>) -> Self {
        Self {
            first: response.count(),
            events: Events { response, out: stream.then(Vec::new) },
            items: Vec::new(),
            open: Vec::new(),
            calls: Vec::new(),
            delta: (Vec::new(), Vec::new()),
            answer_id: answer_id.into(),
            seal,
            usage: None,
            finish: None,
            fault: None,
            size: 0,
        }
    }

    /// The events since the last call.
    pub fn take(&mut self) -> Vec<u8> {
        self.events.out.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Why the answer cannot be written, where it cannot.
    pub fn fault(&mut self) -> Option<Cow<'static, str>> {
        self.fault.take()
    }

    /// The events that end a stream which cannot be completed.
    pub fn failure(&self, error: &ApiError) -> Vec<u8> {
        self.events.response.failure(error, &output(&self.items))
    }

    /// Another answer takes the place of this one, of which the client has been sent nothing.
    pub fn discard(&self) {
        self.events.response.rewind(self.first);
    }

    /// The answer is complete. Returns it where it is wanted in one piece.
    pub fn finish(&mut self) -> Vec<u8> {
        let status = match self.finish {
            Some(Finish::Length | Finish::ContextWindow) => Status::Incomplete("max_output_tokens"),
            Some(Finish::ContentFilter | Finish::Refusal(_)) => Status::Incomplete("content_filter"),
            _ => Status::Completed,
        };
        let cut = matches!(status, Status::Incomplete(_));
        self.flush();
        for index in std::mem::take(&mut self.open) {
            let Some(item) = self.items.get_mut(index) else { continue };
            item.seal(self.seal.as_ref());
            item.end(cut, &mut self.events);
        }
        let (output, usage) = (output(&self.items), self.usage.as_ref());
        if self.events.out.is_some() {
            self.events.end(status, &output, usage);
            return Vec::new();
        }
        let mut w = Json::with_capacity(self.size + ROOM);
        self.events.response.write(status, &output, usage, &mut w);
        w.finish()
    }

    /// Begins an item, and ends those before it that are over.
    fn push(&mut self, kind: Kind) {
        self.flush();
        self.close(Item::ends_before_another);
        self.open.push(self.items.len());
        self.items.push(Item::begin(self.items.len(), &self.answer_id, kind, &mut self.events));
        self.grow(ITEM);
    }

    /// Ends the open items that are `over`.
    fn close(&mut self, over: impl Fn(&Item) -> bool) {
        let Self { items, open, seal, events, .. } = self;
        open.retain(|index| {
            let Some(item) = items.get_mut(*index).filter(|item| over(item)) else { return true };
            item.seal(seal.as_ref());
            item.close("completed", events);
            false
        });
    }

    /// The last item, if it is open.
    fn last(&mut self) -> Option<&mut Item> {
        self.items.last_mut().filter(|item| item.done.is_none())
    }

    /// Appends to the open message a text or a refusal.
    fn push_text(&mut self, refusal: bool, text: Text<'_>) {
        if !matches!(self.last(), Some(Item { kind: Kind::Message(_), .. })) {
            self.push(Kind::Message(Vec::new()));
        }
        if !matches!(self.last(), Some(Item { kind: Kind::Message(parts), .. }) if parts.last().is_some_and(|part| part.refusal == refusal))
        {
            self.flush();
            if let Some(item) = self.items.last_mut() {
                item.end_part(&mut self.events);
                item.begin_part(refusal, &mut self.events);
            }
        }
        if let Some(Item { kind: Kind::Message(parts), .. }) = self.last()
            && let Some(part) = parts.last_mut()
        {
            append(&mut part.text, text);
        }
        append(&mut self.delta.0, text);
        self.grow(text.spelled().len());
    }

    /// The open reasoning, or a new one.
    fn reasoning(&mut self) -> Option<&mut Reasoning> {
        if !matches!(self.last(), Some(Item { kind: Kind::Reasoning(_), .. })) {
            let summary = self.events.response.summarises();
            self.push(Kind::Reasoning(Reasoning { summary, ..Reasoning::default() }));
        }
        if let Some(Item { kind: Kind::Reasoning(reasoning), .. }) = self.last() { Some(reasoning) } else { None }
    }

    /// Appends to the open reasoning.
    fn push_reasoning(&mut self, text: Text<'_>) {
        let Some(reasoning) = self.reasoning() else { return };
        let begins = reasoning.text.is_empty() && reasoning.summary;
        append(&mut reasoning.text, text);
        if begins && let Some(item) = self.items.last() {
            item.begin_summary(&mut self.events);
        }
        append(&mut self.delta.0, text);
        self.grow(text.spelled().len());
    }

    fn start_call(&mut self, number: u32, id: Option<Text<'_>>, name: Text<'_>, form: ToolForm<'_>, state: Option<&[u8]>) {
        if let Some(state) = state
            && let Some(reasoning) = self.reasoning()
        {
            reasoning.state = state.to_vec();
        }
        let name = name.decode();
        let function = self.events.response.functions().named(&name);
        let form = match form {
            ToolForm::Custom => Form::Direct,
            _ if function.is_some_and(|function| function.custom.is_some()) => Form::Custom(Input::default()),
            _ => Form::Function,
        };
        let id = id.map_or_else(|| format!("call_{}_{number}", self.answer_id).into(), Text::decode);
        let mut call = Call::new(number, &id, function.map_or(&name, |function| &function.tool), form);
        call.namespace = function.and_then(|function| function.namespace.clone());
        self.calls.push(self.items.len());
        self.push(Kind::Call(call));
    }

    fn call(&mut self, number: u32) -> Option<(&mut Item, &mut Events)> {
        let item = self.items.get_mut(*self.calls.get(number as usize)?)?;
        Some((item, &mut self.events))
    }

    /// The provider marks the end of a call.
    fn end_call(&mut self, number: u32) {
        if let Some((Item { kind: Kind::Call(call), .. }, _)) = self.call(number) {
            call.is_ended = true;
            self.close(|item| matches!(&item.kind, Kind::Call(call) if call.number == number && call.is_whole()));
        }
    }

    /// Appends to a call's arguments.
    fn push_arguments(&mut self, number: u32, fragment: Text<'_>) {
        let Some((item, events)) = self.call(number) else { return };
        if item.done.is_none() {
            item.push_arguments(fragment, events);
        } else if !fragment.decode().trim().is_empty() {
            self.fault = Some("the answer has arguments of a tool call after its end".into());
        }
        self.grow(fragment.spelled().len());
    }

    /// Log probabilities of the last tokens: chat's object, whose `content` has the elements that this protocol has.
    fn push_logprobs(&mut self, json: &str) {
        let Ok(mut members) = walk::inner_members(json) else { return };
        while let Ok(Some((key, value))) = members.next() {
            let elements = value.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).map(str::trim);
            let (Some(elements), true) = (elements.filter(|elements| !elements.is_empty()), key.is("content")) else { continue };
            let Some(Item { kind: Kind::Message(parts), done: None, .. }) = self.items.last_mut() else { return };
            let Some(part) = parts.last_mut() else { return };
            for list in [&mut part.logprobs, &mut self.delta.1] {
                if !list.is_empty() {
                    list.push(b',');
                }
                // A line break, which can only stand between tokens, would end an event's line.
                list.extend(elements.bytes().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }));
            }
            self.grow(elements.len());
        }
    }

    /// Sources of the last text that have an address; others have no place in this protocol.
    fn push_citations(&mut self, list: &[Citation<'_>]) {
        self.flush();
        for citation in list {
            let Some(url) = citation.url else { continue };
            let mut w = Json::default();
            w.object().key("type").string("url_citation").key("url").text(url).key("title").text(citation.title.unwrap_or(url));
            w.key("start_index").integer(citation.span.0).key("end_index").integer(citation.span.1).end_object();
            let annotation = String::from_utf8(w.finish()).unwrap_or_default();
            self.grow(annotation.len());
            if let Some(item) = self.items.last_mut().filter(|item| item.done.is_none()) {
                item.annotate(annotation, &mut self.events);
            }
        }
    }

    fn grow(&mut self, bytes: usize) {
        self.size += bytes;
        if self.size > MAX_ANSWER {
            self.fault = Some("the answer is too large".into());
        }
    }

    fn unsupported(&mut self, what: &str) {
        self.fault.get_or_insert_with(|| format!("the answer has {what}, which a response cannot hold").into());
    }
}

/// The items that are over, in their order.
fn output(items: &[Item]) -> Vec<&[u8]> {
    items.iter().filter_map(|item| item.done.as_deref()).collect()
}

impl Item {
    /// Seals what the provider wants back, before the item is over.
    fn seal(&mut self, seal: Option<&Seal>) {
        if let Kind::Reasoning(reasoning) = &mut self.kind {
            reasoning.sealed = sealed::seal(seal, &reasoning.state);
        }
    }
}

impl Sink for Items {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Content { choice: 0, text } => self.push_text(false, text),
            Event::Refusal { choice: 0, text } => self.push_text(true, text),
            Event::Reasoning { choice: 0, text } => self.push_reasoning(text),
            Event::ToolStart { choice: 0, call, id, name, form, state } => self.start_call(call, id, name, form, state),
            Event::ToolArguments { choice: 0, call, fragment } => self.push_arguments(call, fragment),
            Event::BlockEnd { choice: 0, block: Block::Call(number) } => self.end_call(number),
            Event::Logprobs { choice: 0, json } => self.push_logprobs(json),
            Event::Citations { choice: 0, list } => self.push_citations(list),
            Event::Usage(usage) => self.usage = Some(usage),
            Event::Finish { choice: 0, reason } => self.finish = Some(reason),
            Event::Image { .. } => self.unsupported("an image"),
            Event::Audio { .. } => self.unsupported("sound"),
            Event::Extra { content: true, key, .. } => {
                self.unsupported(&format!("a member `{}`", cut(key)));
            }
            _ => {} // no part of a response
        }
    }
}

impl Writer for Items {
    /// Writes what the frame has added to the last item.
    fn flush(&mut self) {
        let (delta, logprobs) = &mut self.delta;
        if let Some(item) = self.items.last().filter(|_| !delta.is_empty() || !logprobs.is_empty()) {
            item.delta(delta, logprobs, &mut self.events);
        }
        delta.clear();
        logprobs.clear();
    }

    fn refusal(&self, block: &RawBlock<'_>) -> Option<String> {
        Some(format!("the answer has a block `{}`, which a response cannot hold", cut(block.name)))
    }
}

/// What an item needs beside its texts, in bytes.
const ITEM: usize = 512;
/// Room for the members of a response beside its output.
const ROOM: usize = 4 << 10;

#[cfg(test)]
#[path = "items_tests.rs"]
mod tests;
