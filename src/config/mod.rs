//! From the user's YAML to the immutable [`snapshot::Snapshot`] that requests run on.

pub mod secret;
pub mod snapshot;
