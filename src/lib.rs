//! Tidegate: an edge gateway for LLM traffic.

pub mod account;
pub mod admin;
pub mod chat;
pub mod config;
pub mod dialect;
pub mod error;
pub mod json;
pub mod limit;
pub mod provider;
pub mod telemetry;
