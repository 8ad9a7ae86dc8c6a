//! The protocols that clients speak: each reads requests and writes answers and errors.

pub mod chat;
pub mod embeddings;
pub mod models;
