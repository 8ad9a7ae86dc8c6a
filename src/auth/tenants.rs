//! Configured teams and keys.

use super::jwt::settings::Issuer;
use crate::limit::rule::{Limit, RouteSet};
use std::collections::HashMap;
use std::sync::Arc;

/// All teams and keys.
#[derive(Clone)]
pub struct Tenants {
    /// What requests must show.
    pub mode: AuthMode,
    /// Teams by index; the last one is that of requests that show nothing.
    pub teams: Vec<Team>,
    /// Keys by index; the last one is that of requests that show nothing.
    pub keys: Vec<Key>,
    /// Index of a key by the SHA-256 of its text.
    pub digests: HashMap<[u8; 32], usize>,
}

impl Tenants {
    /// The teams of the configuration.
    pub fn named_teams(&self) -> impl Iterator<Item = &Team> {
        self.teams.split_last().map_or(&[][..], |(_, named)| named).iter()
    }
}

/// What requests must show.
#[derive(Clone)]
pub enum AuthMode {
    /// Nothing: all routes are open, accounted to team and key `anonymous`.
    None,
    /// A key of a team or a token of an issuer.
    Credential {
        /// Whether keys are accepted.
        keys: bool,
        /// Whose tokens are accepted.
        issuers: Arc<[Arc<Issuer>]>,
    },
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

/// A client key, or a user who shows tokens.
#[derive(Clone)]
pub struct Key {
    /// Its id in the configuration and in logs.
    pub id: Arc<str>,
    /// The name under which its limits are known, in metrics, `/limits` and the limit store: the id of a key, `team/id` of a user.
    pub name: Arc<str>,
    /// Index of its team.
    pub team: usize,
    /// SHA-256 of the key's text; `None` for a user, and for requests that show nothing.
    pub digest: Option<[u8; 32]>,
    /// Expiry in seconds since the epoch.
    pub expires: Option<i64>,
    /// Whether it is disabled.
    pub disabled: bool,
    /// Allowed routes among those of the team; `None` allows all of them.
    pub routes: Option<RouteSet>,
    /// Its own limits.
    pub limits: Vec<Limit>,
}
