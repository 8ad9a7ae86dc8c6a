//! Tidegate: an edge gateway for LLM traffic.

pub mod chat;
pub mod config;
pub mod dialect;
pub mod edge;
pub mod error;
pub mod frame;
pub mod json;
pub mod percent;
pub mod provider;
pub mod relay;
pub mod sign;
