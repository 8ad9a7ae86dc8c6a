//! The only place that names Pingora: listeners, the proxy's hooks, the session they work on.

pub mod replay;
pub mod stage;
