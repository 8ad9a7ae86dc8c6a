//! From a principal and a model's name to a plan: which route, which targets, in which order.
//!
//! All of it is pure: randomness, time and the health of targets come in as arguments.

pub mod r#match;
pub mod settings;

pub mod failures;
pub mod pick;
pub mod refused;
pub mod retry;

pub mod health;
pub mod latency;
pub mod models;
mod record;
pub mod standing;
