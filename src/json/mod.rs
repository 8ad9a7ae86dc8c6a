//! JSON operations on bytes, without building a document. Imports nothing of the crate.
//!
//! [`walk`] is the scanner: it checks the grammar and yields raw slices. [`utf8`] and [`envelope`] check a whole body
//! once and record its top-level members; [`splice`] edits them in place; [`mod@write`] escapes and writes. Code that needs
//! values applies `serde_json` to small slices.

pub mod depth;
pub mod envelope;
pub mod error_path;
mod escape;
mod grammar;
mod key;
#[cfg(test)]
mod properties;
mod run;
pub mod slices;
pub mod splice;
pub mod surrogate;
pub mod text;
pub mod utf8;
pub mod walk;
pub mod write;
