//! Framings: how a streamed body is cut into messages, bounded and without input or output of their own.

pub mod aws_event_stream;
