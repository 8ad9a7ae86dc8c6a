//! YAML with positions: text to a tree, a tree to types, and every problem with its line.
//!
//! [`tree`] reads YAML and remembers positions, [`section`] makes types from lists of keys, [`read`] takes the tree apart with
//! them. All of them note problems and continue, so that a user sees them all.
#![expect(clippy::disallowed_types, reason = "the JSON Schema of the configuration is a document")]

pub mod env;
pub mod json;
pub mod money;
pub mod problem;
pub mod read;
pub mod referred;
pub mod section;
mod syntax;
pub mod tree;
pub mod value;
