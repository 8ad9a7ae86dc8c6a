//! Teams and their keys, as they are configured.

use crate::limit::rule::LimitRule;
use std::collections::HashMap;
use std::sync::Arc;

/// Who may ask.
pub struct Tenants {
    /// Whether keys are asked for.
    pub mode: AuthMode,
    /// By index.
    pub teams: Vec<Team>,
    /// By index.
    pub keys: Vec<Key>,
    /// Finds a key by the SHA-256 of its text.
    pub digests: HashMap<[u8; 32], usize>,
}

/// Whether keys are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMode {
    /// Every request needs a key.
    Keys,
    /// Nobody is asked; all routes are open, accounted under team and key `anonymous`.
    None,
}

/// A tenant.
pub struct Team {
    /// Its name.
    pub name: Arc<str>,
    /// Routes it may use; `None` is all.
    pub routes: Option<RouteSet>,
    /// Shared by its keys.
    pub limits: Vec<LimitRule>,
}

/// A client key.
pub struct Key {
    /// The user's name for it; what logs show.
    pub id: Arc<str>,
    /// Its team's index.
    pub team: usize,
    /// SHA-256 of the key's text.
    pub digest: [u8; 32],
    /// Seconds since the epoch after which it is refused.
    pub expires: Option<i64>,
    /// Whether it is refused.
    pub disabled: bool,
    /// Narrows the team's routes; `None` is all of them.
    pub routes: Option<RouteSet>,
    /// Its own.
    pub limits: Vec<LimitRule>,
}

/// A set of routes, by index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteSet(pub Vec<bool>);

impl RouteSet {
    /// Whether it holds the route.
    pub fn has(&self, route: usize) -> bool {
        self.0.get(route).copied().unwrap_or(false)
    }
}
