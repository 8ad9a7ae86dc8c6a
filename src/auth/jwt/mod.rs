//! Authenticates signed JSON Web Tokens (RFC 7515, RFC 7519) of identity providers, following RFC 8725.
//!
//! ```text
//!  text with two dots ── digest known? ──► principal                    no signature is checked
//!      │ no
//!      ▼
//!  head: algorithm allowed ─ claims: issuer configured ─ key by `kid`, fit for the algorithm ─ signature
//!      ─ exp, nbf, iat, aud ─ team ─ id ─ routes ──► principal, stored until `exp`
//! ```
//!
//! A token does not choose how it is verified: the configuration defines algorithms and key sources, a key its type. Tokens are
//! never logged and never part of an answer.

use super::tenants::{AuthMode, Tenants};
use super::{AuthFailure, Principal, Refusal};
use crate::limit::rule::{RouteSet, is_match};
use keys::{Algorithm, KeySet, NoKey};
use settings::{Issuer, IssuerKeys};
use source::{KeySource, KeyStatus};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use token::{Claims, Head, Parts, is_id};
use verdicts::{Digest, SETS, Verdict, Verdicts};

pub mod keys;
pub mod settings;
pub mod source;
pub mod token;
pub mod verdicts;

/// The identity in a token, without the team.
#[derive(Debug, PartialEq, Eq)]
pub struct Identity {
    /// The value of `key_claim`: 1 to 255 bytes without control characters.
    pub id: Box<str>,
    /// The routes that it may use among those of its team; `None` for all.
    pub routes: Option<RouteSet>,
}

/// Checks the tokens of one configuration's issuers.
pub struct Tokens {
    issuers: Vec<Trusted>,
    /// Index of a team by its name.
    teams: HashMap<Arc<str>, usize>,
    /// Index of the key of a team's user, by team and id.
    users: HashMap<(usize, Arc<str>), User>,
    /// Names and aliases of routes, and their indices.
    routes: Vec<(Arc<str>, usize)>,
    verdicts: Verdicts,
}

/// A user that a team names.
struct User {
    key: usize,
    disabled: bool,
}

/// An issuer with its keys.
struct Trusted {
    issuer: Arc<Issuer>,
    /// `None` where the keys are fixed.
    source: Option<Arc<KeySource>>,
}

impl Tokens {
    /// For the issuers of a configuration, if it has any. Fetched keys are taken over from `previous`, verdicts are not: teams and
    /// issuers may be others. `routes` are all names of routes with their indices.
    pub fn new(tenants: &Tenants, routes: impl Iterator<Item = (Arc<str>, usize)>, previous: Option<&Self>) -> Option<Self> {
        let AuthMode::Credential { issuers, .. } = &tenants.mode else { return None };
        if issuers.is_empty() {
            return None;
        }
        let before = || previous.into_iter().flat_map(|tokens| &tokens.issuers).filter_map(|trusted| trusted.source.as_ref());
        let trusted = issuers.iter().map(|issuer| {
            let source = match &issuer.keys {
                IssuerKeys::Fixed(_) => None,
                IssuerKeys::Fetched(location, egress) => {
                    let known = before().find(|source| source.is_for(&issuer.name, location, egress)).cloned();
                    let fresh = || Arc::new(KeySource::new(Arc::clone(&issuer.name), location.clone(), egress.clone()));
                    Some(known.unwrap_or_else(fresh))
                }
            };
            Trusted { issuer: Arc::clone(issuer), source }
        });
        let users = tenants.keys.iter().enumerate().filter(|(_, key)| key.digest.is_none());
        Some(Self {
            issuers: trusted.collect(),
            teams: tenants.named_teams().enumerate().map(|(index, team)| (Arc::clone(&team.name), index)).collect(),
            users: users.map(|(index, key)| ((key.team, Arc::clone(&key.id)), User { key: index, disabled: key.disabled })).collect(),
            routes: routes.collect(),
            verdicts: Verdicts::new(SETS),
        })
    }

    /// Where keys are fetched from.
    pub fn sources(&self) -> impl Iterator<Item = &Arc<KeySource>> {
        self.issuers.iter().filter_map(|trusted| trusted.source.as_ref())
    }

    /// State of the keys that are fetched.
    pub fn statuses(&self) -> Vec<KeyStatus> {
        self.sources().map(|source| source.status()).collect()
    }

    /// Whose token a text is, by its SHA-256 `digest`; `None` where it is no token. `now` is in seconds since the epoch.
    pub(super) fn principal(&self, text: &[u8], digest: &Digest, now: i64) -> Option<Result<Principal, Refusal>> {
        let parts = Parts::of(text)?;
        let version = |issuer: usize| self.issuers.get(issuer).map_or(0, Trusted::version);
        if let Some(principal) = self.verdicts.get(digest, now, version) {
            return Some(Ok(principal));
        }
        let head = parts.head()?;
        Some(self.check(parts, &head, now).map(|verdict| {
            let principal = verdict.principal.clone();
            self.verdicts.put(*digest, verdict, now);
            principal
        }))
    }

    fn check(&self, parts: Parts<'_>, head: &Head, now: i64) -> Result<Verdict, Refusal> {
        let json = parts.claims().ok_or(AuthFailure::TokenMalformed)?;
        let claims = Claims::read(&json).ok_or(AuthFailure::TokenMalformed)?;
        if head.crit.is_some() || !head.is_for_access() {
            return Err(AuthFailure::TokenMalformed.into());
        }
        // Only to select the issuer: nothing is believed before the signature is checked.
        let name = claims.text("iss").ok_or_else(|| Refusal::claim("iss"))?;
        let mut issuers = self.issuers.iter().enumerate();
        let (index, trusted) = issuers.find(|(_, trusted)| *trusted.issuer.name == *name).ok_or(AuthFailure::TokenIssuer)?;
        let issuer = &trusted.issuer;
        let algorithm = Algorithm::of(&head.alg).filter(|algorithm| issuer.algorithms.contains(algorithm));
        let algorithm = algorithm.ok_or(AuthFailure::TokenAlgorithm)?;
        let version = trusted.version();
        let keys = trusted.keys().ok_or_else(|| Refusal::awaits(AuthFailure::JwksUnavailable, trusted.source.clone()))?;
        // The key of a token that names none may be one that the set does not have yet, too.
        let newer = || trusted.source.clone().filter(|_| head.kid.is_none());
        let check = keys.find(head.kid.as_deref(), algorithm).map_err(|why| match why {
            NoKey::Unknown => Refusal::awaits(AuthFailure::TokenKey, trusted.source.clone()),
            NoKey::Ambiguous => AuthFailure::TokenKeyUnnamed.into(),
            NoKey::Unfit => Refusal::awaits(AuthFailure::TokenAlgorithm, newer()),
        })?;
        let signature = parts.signature().ok_or(AuthFailure::TokenMalformed)?;
        if !check.is_valid(parts.signed, &signature) {
            return Err(Refusal::awaits(AuthFailure::TokenSignature, newer()));
        }
        let until = valid_until(&claims, issuer.skew, now)?;
        let audiences = claims.texts("aud").ok_or_else(|| Refusal::claim("aud"))?;
        if !audiences.iter().any(|audience| issuer.audiences.iter().any(|own| own == audience)) {
            return Err(AuthFailure::TokenAudience.into());
        }
        Ok(Verdict { principal: self.identify(&claims, issuer)?, until, issuer: index, version })
    }

    /// Team, id and routes of a token that is valid.
    fn identify(&self, claims: &Claims<'_>, issuer: &Issuer) -> Result<Principal, Refusal> {
        let names = claims.texts(&issuer.team).ok_or_else(|| Refusal::claim(&issuer.team))?;
        let is_of = |name: &str| issuer.teams.as_ref().is_none_or(|teams| teams.iter().any(|own| *own == name));
        let mut teams = names.iter().filter(|name| is_of(name)).filter_map(|name| self.teams.get(name.as_ref()).copied());
        let team = teams.next().ok_or_else(|| Refusal::team(&issuer.team))?;
        if teams.any(|other| other != team) {
            return Err(Refusal::team(&issuer.team));
        }
        let id = claims.text(&issuer.id).filter(|id| is_id(id)).ok_or_else(|| Refusal::claim(&issuer.id))?;
        let routes = match &issuer.routes {
            Some(claim) => Some(self.route_set(&claims.texts(claim).ok_or_else(|| Refusal::claim(claim))?)),
            None => None,
        };
        let id: Arc<str> = id.into();
        let user = self.users.get(&(team, Arc::clone(&id)));
        if user.is_some_and(|user| user.disabled) {
            return Err(AuthFailure::Disabled.into());
        }
        let identity = Identity { id: (&*id).into(), routes };
        Ok(Principal { team, key: user.map(|user| user.key), identity: Some(Arc::new(identity)) })
    }

    /// The routes that names and patterns stand for. Others are ignored: an identity provider knows those of other gateways, too.
    fn route_set(&self, names: &[Cow<'_, str>]) -> RouteSet {
        let mut set = vec![false; self.routes.iter().map(|(_, route)| route + 1).max().unwrap_or_default()];
        for name in names.iter().flat_map(|text| text.split_ascii_whitespace()) {
            for (_, route) in self.routes.iter().filter(|(known, _)| **known == *name || is_match(name, known)) {
                set.get_mut(*route).into_iter().for_each(|slot| *slot = true);
            }
        }
        RouteSet(set)
    }
}

impl Trusted {
    fn version(&self) -> u64 {
        self.source.as_ref().map_or(0, |source| source.version())
    }

    fn keys(&self) -> Option<KeySet> {
        match &self.issuer.keys {
            IssuerKeys::Fixed(keys) => Some(keys.clone()),
            IssuerKeys::Fetched(..) => self.source.as_ref()?.keys(),
        }
    }
}

/// Until when a token is valid: `exp` and the clock skew. `exp` must be there.
fn valid_until(claims: &Claims<'_>, skew: i64, now: i64) -> Result<i64, Refusal> {
    let time = |name: &'static str| claims.time(name).map_err(|_| Refusal::claim(name));
    let until = time("exp")?.ok_or_else(|| Refusal::claim("exp"))?.saturating_add(skew);
    if now >= until {
        return Err(AuthFailure::TokenExpired.into());
    }
    for name in ["nbf", "iat"] {
        if time(name)?.is_some_and(|begin| now.saturating_add(skew) < begin) {
            return Err(AuthFailure::TokenEarly.into());
        }
    }
    Ok(until)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
