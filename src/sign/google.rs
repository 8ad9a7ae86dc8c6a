//! Google access tokens, of a credentials file or of application default credentials.

use super::fresh::{Reason, Source};
use crate::egress::Egress;
use crate::files::fingerprint;
use crate::redact::KnownSecrets;
use crate::secret::Secret;
use http::HeaderValue;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

mod grant;

pub use grant::check;

/// A token is renewed this long before it expires. The metadata server gives out its cached token until about five
/// minutes before the end, so that asking much earlier would bring the same one.
pub const REFRESH_BEFORE: Duration = Duration::from_secs(225);

/// An access token, ready to be sent.
pub struct Token {
    header: HeaderValue,
    expires: SystemTime,
    /// Keeps it out of errors and logs.
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

/// Where tokens come from.
#[derive(PartialEq, Eq)]
pub struct Origin {
    /// A credentials file; `None` for application default credentials.
    file: Option<PathBuf>,
    /// What stood in the file when the configuration was read: a change means other tokens.
    content: [u8; 32],
    egress: Egress,
}

impl Origin {
    /// The tokens of a credentials file, or with `None` of application default credentials, fetched through the proxy that
    /// `egress` names. Reads the file.
    pub fn new(file: Option<PathBuf>, egress: Egress) -> Self {
        let read = file.clone().or_else(|| grant::default_file(&|name| std::env::var(name).ok()));
        Self { file, content: fingerprint(read.as_slice()), egress }
    }
}

impl Source for Origin {
    type Value = Token;

    async fn fetch(&self) -> Result<Token, Reason> {
        let granted = match &self.file {
            Some(path) => grant::from_file(path, &self.egress).await,
            None => grant::from_environment(&|name| std::env::var(name).ok(), &self.egress).await,
        };
        let token = granted.and_then(|grant| {
            let expires = SystemTime::now() + grant.lifetime;
            Token::new(&grant.token, expires).ok_or_else(|| "the token server's token is no header value".into())
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
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]
mod tests;
