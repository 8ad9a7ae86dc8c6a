//! The neutral centre: what a request asks and what an answer says, whichever protocol spells it.

pub mod envelope;
pub mod field;
pub mod settings;
pub mod validate;

pub mod cache;
pub mod constraint;
pub mod data;
pub mod embeddings;
pub mod link;
pub mod message;
pub mod strict;
pub mod tool;
pub mod vector;

pub mod event;
pub mod finish;
pub mod order;
pub mod usage;

pub mod failure;
pub mod state;
