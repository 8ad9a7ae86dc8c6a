//! From a principal and a model's name to a plan: which route, which targets, in which order.
//!
//! All of it is pure: randomness, time and the health of targets come in as arguments.

pub mod r#match;
pub mod near;
pub mod pick;
pub mod retry;

/// Prefixes that a client may put before a route's name; they mean nothing here.
pub const STRIPPED_PREFIXES: [&str; 2] = ["tensorzero::model_name::", "tensorzero::function_name::"];
pub mod health;
pub use r#match::{Found, STRIPPED_PREFIXES, find, resolve, usable};
pub use pick::Plan;
pub use retry::{Attempts, Failure, Next};
