//! What operators see: metrics and one line per request. Neither ever holds a prompt, an answer or a key.

//ACCESS
mod family;
pub mod labels;
//LOG
pub mod metrics;
//REDACT
