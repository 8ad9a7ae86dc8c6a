//! What operators see: metrics and one line per request. Neither ever holds a prompt, an answer or a key.

pub mod access;
mod family;
pub mod labels;
pub mod log;
pub mod metrics;
pub mod pages;
mod short;
pub mod throttle;
pub mod trace;
