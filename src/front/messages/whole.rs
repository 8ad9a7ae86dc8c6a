//! Writes an answer as one message.

use super::blocks::{Form, Kind};
use super::usage;
use crate::front::chat::head::Head;
use crate::front::write::nullable;
use crate::json::surrogate;
use crate::json::text::Text;
use crate::json::write::Writer;
use crate::llm::usage::Usage;
use serde_json::value::RawValue;

/// A message in the making.
pub struct Message {
    head: Head,
    /// The blocks that are complete.
    content: Vec<Vec<u8>>,
    /// The text of the open block; of a call its arguments.
    open: String,
    /// Its stop reason, its stop sequence and its usage.
    end: Option<(&'static str, Option<Box<str>>, Usage)>,
}

impl Message {
    /// No blocks yet.
    pub fn new(head: Head) -> Self {
        Self { head, content: Vec::new(), open: String::new(), end: None }
    }

    /// The whole message.
    pub fn finish(&self) -> Vec<u8> {
        let mut w = Writer::with_capacity(self.content.iter().map(Vec::len).sum::<usize>() + 512);
        w.object();
        write_head(&self.head, &mut w);
        w.key("content").array();
        for block in &self.content {
            w.raw(std::str::from_utf8(block).unwrap_or("null"));
        }
        w.end_array();
        if let Some((reason, sequence, used)) = &self.end {
            write_stop(Some((reason, sequence.as_deref())), &mut w);
            usage::write(used, w.key("usage"));
        }
        w.end_object();
        w.finish()
    }
}

/// Writes the members that are known before the answer.
pub(super) fn write_head(head: &Head, w: &mut Writer) {
    w.key("id").string(&format!("msg_{}", head.id.simple())).key("type").string("message").key("role").string("assistant");
    w.key("model").string(&head.model);
}

/// Writes the members that say how it ended, where it has.
pub(super) fn write_stop(stop: Option<(&'static str, Option<&str>)>, w: &mut Writer) {
    nullable(stop.map(|(reason, _)| reason), w.key("stop_reason"));
    nullable(stop.and_then(|(_, sequence)| sequence), w.key("stop_sequence"));
}

impl Form for Message {
    fn begin(&mut self, _usage: &Usage) {}

    fn start(&mut self, _kind: &Kind) {
        self.open.clear();
    }

    fn piece(&mut self, _kind: &Kind, text: Text<'_>) {
        self.open.push_str(&text.decode());
    }

    fn stop(&mut self, kind: &Kind, signature: Option<&str>) {
        let open = std::mem::take(&mut self.open);
        let mut w = Writer::with_capacity(open.len() + 64);
        w.object().key("type");
        match kind {
            Kind::Text => w.string("text").key("text").string(&open),
            Kind::Thinking => w.string("thinking").key("thinking").string(&open).key("signature").string(signature.unwrap_or_default()),
            Kind::Call { id, name, .. } => {
                // Half of an input, which the provider has cut off, cannot be written.
                let is_whole = open.trim().starts_with('{') && serde_json::from_str::<&RawValue>(&open).is_ok();
                let input = if is_whole { open.trim() } else { "{}" };
                w.string("tool_use").key("id").string(id).key("name").string(name).key("input").raw(&surrogate::repaired(input))
            }
        };
        w.end_object();
        self.content.push(w.finish());
    }

    fn end(&mut self, (reason, sequence): (&'static str, Option<&str>), used: &Usage) {
        self.end = Some((reason, sequence.map(Into::into), *used));
    }
}
