//! What several providers' models have in common: turns, tools, thinking, schemas, refusals.

pub mod count;
pub mod params;

pub mod adjust;
pub mod blame;
pub mod refusal;

pub mod claude;
pub(super) mod media;
pub(super) mod names;
pub(super) mod open_calls;
pub(super) mod toolbox;
pub(super) mod turns;

pub mod schema;

pub(super) mod blocks;
pub(super) mod thinking_state;

pub mod embeddings;
pub(super) mod fence;
pub mod rewrite;
pub mod think;
pub mod unwrap;

pub(super) mod ids;
pub(super) mod sealed;

#[cfg(test)]
mod embeddings_tests;
#[cfg(test)]
pub(super) mod testing;
