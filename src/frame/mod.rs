//! How a provider's stream of bytes is cut into frames: bytes in, frames out, bounded, wherever the bytes are cut.

pub mod aws_event_stream;
pub mod aws_sse;
pub mod sse;
