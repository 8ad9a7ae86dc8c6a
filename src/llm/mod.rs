//! The neutral centre: what a request asks and what an answer says, whichever protocol spells it.

pub mod adjustments;
pub mod envelope;
pub mod field;
pub mod settings;
pub mod validate;

pub mod constraint;
pub mod embeddings;
pub mod endpoint;
pub mod media;
pub mod messages;
pub mod path;
pub mod request;
pub mod responses;
pub mod strict;
pub mod vector;

pub mod event;
pub mod finish;
pub mod order;
pub mod usage;

pub mod failure;
pub mod state;
