//! How a provider's stream of bytes is cut into frames: bytes in, frames out, bounded, wherever the bytes are cut.

use crate::llm::failure::Fault;
use http::HeaderMap;
use http::header::CONTENT_TYPE;

pub mod aws_event_stream;
pub mod aws_invoke;
pub mod aws_sse;
pub mod coding;
pub mod lines;
pub mod sse;

/// How a streamed body is cut into frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Server-sent events.
    Sse,
    /// AWS event stream, one frame a message.
    AwsEventStream,
    /// AWS event stream whose `PayloadPart`s carry the bytes of an inner stream, SSE or JSON lines, cut anywhere.
    AwsSse,
    /// AWS event stream whose `chunk`s carry one JSON document each, in base64.
    AwsInvoke,
}

impl Framing {
    /// How a body is cut that was expected to be cut so, by the label of the response: some servers answer a stream request
    /// in one piece. `None`: it is whole.
    pub fn labelled(self, headers: &HeaderMap, stream: bool) -> Option<Self> {
        let label = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        match label {
            _ if label.starts_with("text/event-stream") => Some(Self::Sse),
            _ if label.starts_with("application/vnd.amazon.eventstream") => {
                Some(if self == Self::Sse { Self::AwsEventStream } else { self })
            }
            _ if label.starts_with("application/json") || !stream => None,
            _ => Some(self),
        }
    }
}

/// One frame of a streamed answer.
#[derive(Clone, Copy, Debug)]
pub enum Frame<'a> {
    /// A server-sent event: its `event:` field and its data lines joined by a line feed. Or a line of JSON.
    Sse {
        /// The `event` field, where there was one.
        event: Option<&'a str>,
        /// The data.
        data: &'a str,
    },
    /// An AWS event-stream message.
    Aws {
        /// `:message-type`: `event`, `exception` or `error`.
        message_type: &'a str,
        /// `:event-type`, `:exception-type` or `:error-code`.
        kind: &'a str,
        /// `:error-message`, where there was one.
        error_message: &'a str,
        /// The payload.
        payload: &'a [u8],
    },
}

/// Cuts one stream, in whichever way its protocol wants.
#[derive(Debug)]
pub enum Framer {
    /// Server-sent events.
    Sse(sse::SseFramer),
    /// AWS messages.
    Aws(aws_event_stream::AwsFramer),
    /// Server-sent events or JSON lines inside of AWS messages.
    AwsSse(aws_sse::AwsSseFramer),
    /// JSON documents inside of AWS messages.
    AwsInvoke(aws_invoke::AwsInvokeFramer),
}

impl Framer {
    /// A framer at the beginning of a stream.
    pub fn new(framing: Framing) -> Self {
        match framing {
            Framing::Sse => Self::Sse(sse::SseFramer::new()),
            Framing::AwsEventStream => Self::Aws(aws_event_stream::AwsFramer::default()),
            Framing::AwsSse => Self::AwsSse(aws_sse::AwsSseFramer::default()),
            Framing::AwsInvoke => Self::AwsInvoke(aws_invoke::AwsInvokeFramer::default()),
        }
    }

    /// Takes the next bytes and emits every frame that they complete.
    ///
    /// # Errors
    /// [`Fault::Broken`] for what is not the protocol, and whatever `each` returns.
    pub fn push(&mut self, bytes: &[u8], each: &mut dyn FnMut(Frame<'_>) -> Result<(), Fault>) -> Result<(), Fault> {
        match self {
            Self::Sse(framer) => framer.push(bytes, &mut |event, data| each(Frame::Sse { event, data })),
            Self::Aws(framer) => framer.push(bytes, each),
            Self::AwsSse(framer) => framer.push(bytes, each),
            Self::AwsInvoke(framer) => framer.push(bytes, each),
        }
    }

    /// The stream has ended.
    ///
    /// # Errors
    /// [`Fault::Truncated`] inside a frame, and whatever `each` returns.
    pub fn finish(&mut self, each: &mut dyn FnMut(Frame<'_>) -> Result<(), Fault>) -> Result<(), Fault> {
        match self {
            Self::Sse(framer) => framer.finish(&mut |event, data| each(Frame::Sse { event, data })),
            Self::Aws(framer) => framer.finish(),
            Self::AwsSse(framer) => framer.finish(each),
            Self::AwsInvoke(framer) => framer.finish(),
        }
    }
}
