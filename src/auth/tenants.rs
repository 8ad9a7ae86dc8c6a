//! Configured teams and keys.

use crate::limit::rule::{Limit, RouteSet};
use crate::yaml::section::words;
use std::collections::HashMap;
use std::sync::Arc;

/// All teams and keys.
#[derive(Clone)]
pub struct Tenants {
    /// Whether requests need a key.
    pub mode: AuthMode,
    /// Teams by index.
    pub teams: Vec<Team>,
    /// Keys by index.
    pub keys: Vec<Key>,
    /// Index of a key by the SHA-256 of its text.
    pub digests: HashMap<[u8; 32], usize>,
}

words! {
    /// Whether requests need a key.
    AuthMode {
        /// Every request needs a key.
        Keys = "keys",
        /// No authentication: all routes are open, accounted to team and key `anonymous`.
        None = "none",
    }
}

/// A tenant.
#[derive(Clone)]
pub struct Team {
    /// Its name.
    pub name: Arc<str>,
    /// Allowed routes; `None` allows all.
    pub routes: Option<RouteSet>,
    /// Limits shared by its keys.
    pub limits: Vec<Limit>,
}

/// A client key.
#[derive(Clone)]
pub struct Key {
    /// Its id in the configuration and in logs.
    pub id: Arc<str>,
    /// Index of its team.
    pub team: usize,
    /// SHA-256 of the key's text.
    pub digest: [u8; 32],
    /// Expiry in seconds since the epoch.
    pub expires: Option<i64>,
    /// Whether it is disabled.
    pub disabled: bool,
    /// Allowed routes among those of the team; `None` allows all of them.
    pub routes: Option<RouteSet>,
    /// Its own limits.
    pub limits: Vec<Limit>,
}
