//! From a principal and a model's name to a plan.

pub mod near;

/// Prefixes that a client may put before a route's name; they mean nothing here.
pub const STRIPPED_PREFIXES: [&str; 2] = ["tensorzero::model_name::", "tensorzero::function_name::"];
pub mod health;
