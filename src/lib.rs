//! Tidegate: an edge gateway for LLM traffic.

pub mod account;
pub mod admin;
pub mod auth;
pub mod chat;
pub mod cli;
pub mod commands;
pub mod config;
pub mod dialect;
pub mod edge;
pub mod embed;
pub mod error;
pub mod explain;
pub mod frame;
pub mod json;
pub mod limit;
pub mod operation;
pub mod percent;
pub mod provider;
pub mod relay;
pub mod route;
pub mod sign;
pub mod simulate;
pub mod telemetry;
