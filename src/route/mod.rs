//! Maps a principal and a model name to a plan: the route and its targets in order. Pure: randomness, time and health
//! of targets are arguments.

pub mod r#match;
pub mod settings;

pub mod failures;
pub mod pick;
pub mod retry;

pub mod adjusted;
pub mod availability;
pub mod budget;
pub mod health;
pub mod latency;
pub mod models;
mod record;
