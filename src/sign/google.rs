//! Google access tokens from a credentials file or application default credentials.

use super::fresh::{Reason, Source};
use crate::egress::Egress;
use crate::files::fingerprint;
use crate::redact::KnownSecrets;
use crate::secret::Secret;
use crate::system;
use http::HeaderValue;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

mod grant;

pub use grant::check;

/// A token is renewed this long before it expires. The metadata server returns its cached token until about five
/// minutes before expiry, so fetching much earlier is useless.
pub const REFRESH_BEFORE: Duration = Duration::from_secs(225);

/// An access token.
pub struct Token {
    header: HeaderValue,
    expires: SystemTime,
    /// Redacts it from errors and logs.
    _known: KnownSecrets,
}

impl Token {
    fn new(token: &Secret, expires: SystemTime) -> Option<Self> {
        let mut header = HeaderValue::from_str(&format!("Bearer {}", token.expose())).ok()?;
        header.set_sensitive(true);
        Some(Self { header, expires, _known: KnownSecrets::new([token.expose()]) })
    }

    /// The value of `authorization`; marked as sensitive.
    pub fn header(&self) -> &HeaderValue {
        &self.header
    }
}

/// The source of tokens.
#[derive(PartialEq, Eq)]
pub struct Origin {
    /// The credentials file; `None` for application default credentials.
    file: Option<PathBuf>,
    /// Hash of the file when the configuration was read; a change invalidates cached tokens.
    content: [u8; 32],
    egress: Egress,
}

impl Origin {
    /// A source for a credentials file, or with `None` for application default credentials, fetched through the proxy
    /// of `egress`. Reads the file.
    pub fn new(file: Option<PathBuf>, egress: Egress) -> Self {
        let read = file.clone().or_else(|| grant::default_file(&system::env));
        Self { file, content: fingerprint(read.as_slice()), egress }
    }
}

impl Source for Origin {
    type Value = Token;

    async fn fetch(&self) -> Result<Token, Reason> {
        let granted = match &self.file {
            Some(path) => grant::from_file(path, &self.egress).await,
            None => grant::from_environment(&system::env, &self.egress).await,
        };
        let token = granted.and_then(|grant| {
            let expires = system::system_time() + grant.lifetime;
            Token::new(&grant.token, expires).ok_or_else(|| "the token server returned an invalid token".into())
        });
        if let Err(why) = &token {
            log::error!("no Google access token: {why}");
        }
        token
    }

    fn expires(token: &Token) -> Option<SystemTime> {
        Some(token.expires)
    }
}

#[cfg(test)]
mod tests;
