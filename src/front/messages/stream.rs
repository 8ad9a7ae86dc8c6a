//! Writes an answer as Anthropic's server-sent events.
//! <https://platform.claude.com/docs/en/build-with-claude/streaming>

use super::blocks::{Form, Kind};
use super::usage;
use crate::front::chat::head::Head;
use crate::json::text::Text;
use crate::json::write::Writer;
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

    /// Writes an event of this type. `members` writes what follows the type.
    fn event(&mut self, name: &str, members: impl FnOnce(&mut Writer)) {
        self.out.reserve(EVENT);
        for piece in ["event: ", name, "\ndata: "] {
            self.out.extend_from_slice(piece.as_bytes());
        }
        let mut w = Writer::appending(std::mem::take(&mut self.out));
        w.object().key("type").string(name);
        members(&mut w);
        w.end_object();
        self.out = w.finish();
        self.out.extend_from_slice(b"\n\n");
    }

    fn delta(&mut self, kind: &str, member: &str, text: Text<'_>) {
        let index = self.index;
        self.event("content_block_delta", |w| {
            w.key("index").integer(index).key("delta").object().key("type").string(kind).key(member).text(text).end_object();
        });
    }
}

/// Room for most events.
const EVENT: usize = 192;

impl Form for Events {
    fn begin(&mut self, used: &Usage) {
        let head = self.head.clone();
        self.event("message_start", |w| {
            w.key("message").object();
            super::whole::write_head(&head, w);
            w.key("content").array().end_array();
            super::whole::write_end(None, used, w);
            w.end_object();
        });
    }

    fn start(&mut self, kind: &Kind) {
        let index = self.index;
        self.event("content_block_start", |w| {
            w.key("index").integer(index).key("content_block").object().key("type");
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
        let index = self.index;
        self.event("content_block_stop", |w| {
            w.key("index").integer(index);
        });
        self.index += 1;
    }

    fn end(&mut self, (reason, sequence): (&'static str, Option<&str>), used: &Usage) {
        self.event("message_delta", |w| {
            w.key("delta").object().key("stop_reason").string(reason).key("stop_sequence");
            match sequence {
                Some(sequence) => w.string(sequence),
                None => w.raw("null"),
            };
            w.end_object().key("usage");
            usage::write(used, w);
        });
        self.event("message_stop", |_| {});
    }
}
