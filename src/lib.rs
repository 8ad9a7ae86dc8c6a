//! Tidegate: an edge gateway for LLM traffic.

pub mod auth;
pub mod account;
pub mod chat;
pub mod cli;
pub mod commands;
pub mod config;
pub mod dialect;
pub mod edge;
pub mod error;
pub mod frame;
pub mod json;
pub mod limit;
pub mod provider;
pub mod relay;
pub mod sign;
pub mod route;
pub mod admin;
pub mod telemetry;
pub mod simulate;
