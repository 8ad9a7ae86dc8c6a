//! What operators see: metrics and one line per request. Neither ever holds a prompt, an answer or a key.

mod family;
pub mod labels;
pub mod log;
pub mod metrics;
pub mod redact;
pub mod trace;
