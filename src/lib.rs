//! Tidegate: an edge gateway for LLM traffic.

pub mod auth;
pub mod chat;
pub mod cli;
pub mod commands;
pub mod config;
pub mod dialect;
pub mod error;
pub mod json;
pub mod provider;
pub mod route;
