//! YAML with positions: text to a tree, a tree to types, and every problem with its line.
//!
//! [`tree`] reads YAML and remembers positions, [`read`] takes the tree apart with types that [`read::section!`] makes, and
//! both note problems and continue, so that a user sees them all.
#![expect(clippy::disallowed_types, reason = "the JSON Schema of the configuration is a document")]

pub mod env;
pub mod json;
pub mod problem;
pub mod read;
mod syntax;
pub mod tree;
