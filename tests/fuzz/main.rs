//! Bounded fuzzing on a stable compiler: mutated bytes for everything that reads what clients, providers and operators
//! send, and for everything that writes from it. The same inputs on every run; `README.md` here says how to run more of
//! them and how to repeat a failure.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used, clippy::print_stderr)]

mod answers;
mod corpus;
mod engine;
mod frames;
mod laws;
mod mutate;
mod passed;
mod requests;
mod rest;
#[path = "../shared/targets.rs"]
mod targets;
mod wire;
