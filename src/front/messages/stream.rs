//! Writes an answer as Anthropic's server-sent events.
//! <https://platform.claude.com/docs/en/build-with-claude/streaming>

use super::blocks::{Form, Kind};
use super::usage;
use super::whole::{write_head, write_stop};
use crate::front::chat::head::Head;
use crate::front::write::event;
use crate::json::text::Text;
use crate::llm::usage::Usage;

/// The events that have not been taken yet.
pub struct Events {
    head: Head,
    out: Vec<u8>,
    /// The number of the open block, or of the next one.
    index: u64,
}

impl Events {
    /// No events yet.
    pub fn new(head: Head) -> Self {
        Self { head, out: Vec::new(), index: 0 }
    }

    /// What has been written since the last call.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    fn delta(&mut self, kind: &str, member: &str, text: Text<'_>) {
        event(&mut self.out, "content_block_delta", |w| {
            w.key("index").integer(self.index).key("delta").object().key("type").string(kind).key(member).text(text).end_object();
        });
    }
}

impl Form for Events {
    fn begin(&mut self, used: &Usage) {
        event(&mut self.out, "message_start", |w| {
            w.key("message").object();
            write_head(&self.head, w);
            w.key("content").array().end_array();
            write_stop(None, w);
            usage::write(used, w.key("usage"));
            w.end_object();
        });
    }

    fn start(&mut self, kind: &Kind) {
        event(&mut self.out, "content_block_start", |w| {
            w.key("index").integer(self.index).key("content_block").object().key("type");
            match kind {
                Kind::Text => w.string("text").key("text").string(""),
                Kind::Thinking => w.string("thinking").key("thinking").string("").key("signature").string(""),
                Kind::Call { id, name, .. } => {
                    w.string("tool_use").key("id").string(id).key("name").string(name).key("input").object().end_object()
                }
            };
            w.end_object();
        });
    }

    fn piece(&mut self, kind: &Kind, text: Text<'_>) {
        match kind {
            Kind::Text => self.delta("text_delta", "text", text),
            Kind::Thinking => self.delta("thinking_delta", "thinking", text),
            Kind::Call { .. } => self.delta("input_json_delta", "partial_json", text),
        }
    }

    fn stop(&mut self, _kind: &Kind, signature: Option<&str>) {
        if let Some(signature) = signature {
            self.delta("signature_delta", "signature", Text::Plain(signature));
        }
        event(&mut self.out, "content_block_stop", |w| {
            w.key("index").integer(self.index);
        });
        self.index += 1;
    }

    fn end(&mut self, stop: (&'static str, Option<&str>), used: &Usage) {
        event(&mut self.out, "message_delta", |w| {
            write_stop(Some(stop), w.key("delta").object());
            usage::write(used, w.end_object().key("usage"));
        });
        event(&mut self.out, "message_stop", |_| {});
    }
}
