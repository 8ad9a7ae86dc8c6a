//! JSON without a document: the few operations that the hot path needs, on bytes.
//!
//! [`walk`] is the scanner: it checks the grammar and hands out raw slices. [`envelope`] checks a whole body once and
//! remembers where its top-level members are; [`splice`] makes a new body out of the old bytes and a few edits;
//! [`mod@write`] escapes text. Everything that wants real values uses `serde_json` on the small spans that these give.

pub mod envelope;
mod key;
pub mod place;
#[cfg(test)]
mod properties;
mod run;
pub mod splice;
pub mod surrogate;
pub mod text;
pub mod walk;
pub mod write;
