//! Server-sent events, or JSON lines, inside of an AWS event stream: SageMaker passes on a container's body in
//! `PayloadPart`s that are cut anywhere, also inside of a character. Everything else in the stream (exceptions) is handed
//! out as it is.

use super::aws_event_stream::{AwsFramer, Take};
use super::lines::LineFramer;
use super::sse::SseFramer;
use crate::frame::Frame;
use crate::llm::failure::Fault;

/// Cuts such a body into frames. One for each stream.
#[derive(Debug, Default)]
pub struct AwsSseFramer {
    outer: AwsFramer,
    inner: Inner,
}

/// What the parts hold. A document begins with a brace, which nothing in a stream of events begins with.
#[derive(Debug, Default)]
struct Inner {
    begun: bool,
    events: SseFramer,
    lines: Option<LineFramer>,
}

impl Inner {
    fn push(&mut self, part: &[u8], each: Take<'_>) -> Result<(), Fault> {
        if !self.begun
            && let Some(first) = part.trim_ascii_start().first()
        {
            self.begun = true;
            self.lines = (*first == b'{').then(LineFramer::default);
        }
        match &mut self.lines {
            Some(lines) => lines.push(part, &mut |data| each(Frame::Sse { event: None, data })),
            None => self.events.push(part, &mut |event, data| each(Frame::Sse { event, data })),
        }
    }

    fn finish(&mut self, each: Take<'_>) -> Result<(), Fault> {
        match &mut self.lines {
            Some(lines) => lines.finish(&mut |data| each(Frame::Sse { event: None, data })),
            None => self.events.finish(&mut |event, data| each(Frame::Sse { event, data })),
        }
    }
}

impl AwsSseFramer {
    /// Takes the next bytes of the body and emits every frame that they complete; a line is an event without a type.
    ///
    /// # Errors
    /// As the framers inside; the framer is of no more use then.
    pub fn push(&mut self, bytes: &[u8], each: Take<'_>) -> Result<(), Fault> {
        let inner = &mut self.inner;
        self.outer.push(bytes, &mut |frame| match frame {
            Frame::Aws { message_type: "event", kind: "PayloadPart", payload, .. } => inner.push(payload, each),
            other => each(other),
        })
    }

    /// The body has ended; see [`SseFramer::finish`].
    ///
    /// # Errors
    /// [`Fault::Truncated`] inside of an AWS message, and as [`Self::push`].
    pub fn finish(&mut self, each: Take<'_>) -> Result<(), Fault> {
        self.outer.finish()?;
        self.inner.finish(each)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::aws_event_stream::write_message;

    #[test]
    fn events_are_found_wherever_parts_and_bytes_are_cut() {
        let body = "data: {\"text\":\"Zürich 🏔\"}\n\n: ping\r\n\r\nevent: x\ndata: b\n\ndata: [DONE]\n\n".as_bytes();
        for part in 1..body.len() {
            let mut bytes = Vec::new();
            for piece in body.chunks(part) {
                write_message(&mut bytes, &[(":event-type", "PayloadPart"), (":message-type", "event")], piece);
            }
            write_message(&mut bytes, &[(":exception-type", "ModelStreamError"), (":message-type", "exception")], b"{}");
            for step in [1, 7, bytes.len()] {
                let (mut framer, mut seen) = (AwsSseFramer::default(), Vec::new());
                let mut each = |frame: Frame<'_>| {
                    seen.push(match frame {
                        Frame::Sse { event, data } => format!("{} {data}", event.unwrap_or("-")),
                        Frame::Aws { kind, .. } => kind.to_owned(),
                    });
                    Ok(())
                };
                for piece in bytes.chunks(step) {
                    framer.push(piece, &mut each).unwrap();
                }
                framer.finish(&mut each).unwrap();
                assert_eq!(seen, ["- {\"text\":\"Zürich 🏔\"}", "x b", "- [DONE]", "ModelStreamError"], "parts of {part}, steps of {step}");
            }
        }
    }
}
