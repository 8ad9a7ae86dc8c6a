//! Metrics, logs, spans and admin pages. None contains prompts, answers or keys.

pub mod access;
pub mod attribute;
pub mod failures;
mod families;
mod family;
pub mod history;
pub mod labels;
pub mod log;
pub mod metrics;
mod page;
pub mod pages;
pub mod record;
mod short;
pub mod spans;
pub mod throttle;
pub mod trace;
