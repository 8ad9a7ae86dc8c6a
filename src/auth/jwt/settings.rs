//! The configuration of `auth`: whose tokens are accepted, and what their claims mean.

use super::keys::{Algorithm, KeySet};
use super::source::{Location, key_url};
use crate::egress::Egress;
use crate::units;
use crate::yaml::read::{Read, Reader, Schema};
use crate::yaml::section::section;
use crate::yaml::tree::{Node, Value};
use crate::yaml::value::{At, Some1, scalars};
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Largest clock skew: with a larger one the end of a token would mean little.
const MAX_SKEW: Duration = Duration::from_secs(300);
/// Longest issuer, audience or path of a claim, in bytes.
const MAX_TEXT: usize = 512;

/// What requests must show.
pub enum Auth {
    /// Nothing.
    None,
    /// A key of a team.
    Keys,
    /// A key or a token.
    Either(AuthSection),
}

impl Read for Auth {
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        if matches!(node.value, Value::Map(_)) {
            return AuthSection::read(node, cx).map(Self::Either);
        }
        let keys = cx.word(node, "a mapping with `keys` and `jwt`, or one of", [("keys", true), ("none", false)].into_iter())?;
        Some(if keys { Self::Keys } else { Self::None })
    }

    fn schema() -> Schema {
        json!({ "anyOf": [{ "type": "string", "enum": ["keys", "none"] }, AuthSection::schema()] })
    }
}

section! {
    /// What requests must show: a key of a team, or a token of an issuer.
    AuthSection {
        /// Whether the keys of teams are accepted.
        keys: bool = "true",
        /// Whose tokens (JWT) are accepted beside them.
        jwt: Vec<JwtIssuer>,
    }

    /// An issuer of tokens. Its keys are at `jwks_url`, in `jwks_file`, or where OpenID Connect discovery says: at `issuer` with
    /// `/.well-known/openid-configuration` behind it.
    JwtIssuer {
        /// What `iss` of its tokens is, character for character.
        issuer: At<String>,
        /// What `aud` of its tokens must have: a text, or a list of which one is enough.
        audience: At<Audiences>,
        /// The URL of its keys, a JSON Web Key Set. https, or http to this machine.
        jwks_url: Option<At<String>>,
        /// A file with its keys, for issuers that cannot be reached. A changed file is a changed configuration.
        jwks_file: Option<At<PathBuf>>,
        /// Algorithms of signatures that are accepted: RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA. A key is only
        /// used with those of its type.
        algorithms: Some1<Algorithm> = "[RS256, ES256]",
        /// How far the issuer's clock may be off, for `exp`, `nbf` and `iat`; at most 5m.
        clock_skew: Skew = "60s",
        /// The claim with the team's name: the name of a claim, or a path like `realm_access.team`. Where it is a list, exactly one
        /// of it must be a team.
        team_claim: At<String> = "team",
        /// The only teams that its tokens may name. Default: all, so that whoever can make its tokens is in any team.
        teams: Option<Some1<At<String>>>,
        /// The claim with the id of who asks, for the log and for `users` of the team. Text of at most 255 bytes.
        key_claim: At<String> = "sub",
        /// The claim with the routes that the token narrows its team's to: a list of names and patterns, or text with spaces between
        /// them, like `scope`. Those that are no routes are ignored. Default: all of the team's.
        routes_claim: Option<At<String>>,
    }
}

scalars! {
    /// How far an issuer's clock may be off.
    Skew(Duration), "a duration from 0s to 5m, like 60s", { "anyOf": [{ "type": "string" }, { "const": 0 }] }, |text| units::duration(text).filter(|d| *d <= MAX_SKEW);
}

/// One audience, or several.
pub struct Audiences(Vec<String>);

impl Read for Audiences {
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        if matches!(node.value, Value::List(_)) {
            return Some1::read(node, cx).map(|Some1(list)| Self(list));
        }
        String::read(node, cx).map(|one| Self(vec![one]))
    }

    fn schema() -> Schema {
        json!({ "anyOf": [String::schema(), Some1::<String>::schema()] })
    }
}

/// An issuer whose tokens are accepted.
pub struct Issuer {
    /// `iss`.
    pub name: Arc<str>,
    /// Any of these is in `aud`.
    pub audiences: Vec<String>,
    /// Where its keys are.
    pub keys: IssuerKeys,
    /// Accepted algorithms.
    pub algorithms: Vec<Algorithm>,
    /// Clock skew in seconds.
    pub skew: i64,
    /// The path of the claim with the team.
    pub team: Arc<str>,
    /// The only teams that its tokens may name; `None` for all.
    pub teams: Option<Vec<String>>,
    /// The path of the claim with the id.
    pub id: Arc<str>,
    /// The path of the claim with routes.
    pub routes: Option<Arc<str>>,
}

/// Where an issuer's keys are.
pub enum IssuerKeys {
    /// In a file, as it was read with the configuration.
    Fixed(KeySet),
    /// At a URL, through these proxies.
    Fetched(Location, Egress),
}

impl AuthSection {
    /// Checks the issuers and puts them together. Problems are noted.
    pub fn issuers(self, egress: &Egress, cx: &mut Reader<'_>) -> Arc<[Arc<Issuer>]> {
        if !self.keys && self.jwt.is_empty() && self.sound {
            cx.problems.add(
                self.at,
                "every request would be refused: `keys` is false, and `jwt` has no issuer; write `auth: none` for no authentication",
            );
        }
        let mut issuers: Vec<Arc<Issuer>> = Vec::with_capacity(self.jwt.len());
        for jwt in self.jwt {
            let at = jwt.issuer.at;
            let Some(issuer) = jwt.issuer(egress, cx) else { continue };
            if issuers.iter().any(|other| other.name == issuer.name) {
                cx.problems.add(at, "`issuer`: there is another entry for this issuer; `audience` takes a list");
            }
            issuers.push(Arc::new(issuer));
        }
        issuers.into()
    }
}

impl JwtIssuer {
    fn issuer(self, egress: &Egress, cx: &mut Reader<'_>) -> Option<Issuer> {
        for (name, text) in [
            ("issuer", Some(&self.issuer)),
            ("team_claim", Some(&self.team_claim)),
            ("key_claim", Some(&self.key_claim)),
            ("routes_claim", self.routes_claim.as_ref()),
        ] {
            if let Some(At { at, .. }) = text.filter(|text| !is_fine(&text.value)) {
                cx.problems.add(*at, format!("`{name}` must be text of 1 to {MAX_TEXT} bytes without control characters"));
            }
        }
        let At { at, value: Audiences(audiences) } = self.audience;
        if !audiences.iter().all(|audience| is_fine(audience)) {
            cx.problems.add(at, format!("`audience` must be text of 1 to {MAX_TEXT} bytes without control characters, or a list of such"));
        }
        let mut url = |at, name: &str, text: &str| match key_url(text) {
            Ok(url) => Some(url),
            Err(what) => {
                cx.problems.add(at, format!("`{name}` {what}"));
                None
            }
        };
        let keys = match (self.jwks_url, self.jwks_file) {
            (Some(_), Some(file)) => {
                cx.problems.add(file.at, "`jwks_url` and `jwks_file` exclude each other; write one of them");
                return None;
            }
            (Some(text), None) => IssuerKeys::Fetched(Location::KeySet(url(text.at, "jwks_url", &text.value)?), egress.clone()),
            (None, Some(path)) => match KeySet::parse(cx.file_text(&path)?.as_bytes()) {
                Ok(keys) => IssuerKeys::Fixed(keys),
                Err(what) => {
                    cx.problems.add(path.at, format!("the file of `jwks_file` {what}"));
                    return None;
                }
            },
            (None, None) => {
                let At { at, value } = &self.issuer;
                // "any terminating / MUST be removed before appending" (OpenID Connect Discovery, section 4.1).
                let text = format!("{}/.well-known/openid-configuration", value.trim_end_matches('/'));
                let url = url(*at, "issuer", &text);
                if url.is_none() && self.sound {
                    cx.problems.add(*at, "without `jwks_url` and `jwks_file` the keys of an issuer are looked up at its URL");
                }
                IssuerKeys::Fetched(Location::Discovery(url?), egress.clone())
            }
        };
        Some(Issuer {
            name: self.issuer.value.into(),
            audiences,
            keys,
            algorithms: self.algorithms.0,
            skew: i64::try_from(self.clock_skew.0.as_secs()).unwrap_or_default(),
            team: self.team_claim.value.into(),
            teams: self.teams.map(|Some1(teams)| teams.into_iter().map(|team| team.value).collect()),
            id: self.key_claim.value.into(),
            routes: self.routes_claim.map(|claim| claim.value.into()),
        })
    }
}

fn is_fine(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_TEXT && !text.chars().any(char::is_control)
}
