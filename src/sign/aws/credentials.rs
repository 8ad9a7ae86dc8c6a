//! AWS keys at hand when a request is signed: those of the configuration, or those of the default chain, which are
//! fetched once for everyone and renewed before they end.

use super::AwsCredentials;
use super::chain::{self, Reason};
use crate::config::secret::Secret;
use crate::error::ApiError;
use crate::provider::Credential;
use crate::sign::fresh::{Fresh, Source};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Temporary keys are renewed this long before they end: "We make new credentials available at least five minutes
/// before the expiration of the old credentials" (instance metadata).
pub const REFRESH_BEFORE: Duration = Duration::from_secs(5 * 60);

/// One provider's keys.
pub struct CredentialSource {
    provider: Arc<str>,
    keys: Keys,
}

enum Keys {
    Given(Arc<AwsCredentials>),
    Chain(Fresh<Chain>),
}

struct Chain {
    provider: Arc<str>,
    region: String,
}

impl Source for Chain {
    type Value = AwsCredentials;

    async fn fetch(&self) -> Result<AwsCredentials, Reason> {
        let found = chain::load(&|name| std::env::var(name).ok(), &self.region).await;
        if let Err(why) = &found {
            log::error!("provider {}: no AWS credentials: {why}", self.provider);
        }
        found
    }

    fn expires(value: &AwsCredentials) -> Option<SystemTime> {
        value.expires
    }
}

impl CredentialSource {
    /// The keys of a provider's credential; `None` where it is not signed for AWS (a Bedrock API key is a plain bearer).
    ///
    /// # Errors
    /// Which of the configured texts cannot be sent; never the text.
    pub fn new(provider: Arc<str>, credential: &Credential, region: &str) -> Result<Option<Self>, &'static str> {
        let keys = match credential {
            Credential::AwsKeys { access_key_id, secret_access_key, session_token } => Keys::Given(Arc::new(AwsCredentials::new(
                access_key_id.expose(),
                Secret::new(secret_access_key.expose().to_owned()),
                session_token.as_ref(),
                None,
            )?)),
            Credential::AwsDefault => {
                Keys::Chain(Fresh::new(Chain { provider: Arc::clone(&provider), region: region.to_owned() }, REFRESH_BEFORE))
            }
            _ => return Ok(None),
        };
        Ok(Some(Self { provider, keys }))
    }

    /// The current keys. Does not wait when there are fresh ones; else waits for the one fetch that all share.
    ///
    /// # Errors
    /// A 502 that names the provider and no secret.
    pub async fn current(&self) -> Result<Arc<AwsCredentials>, ApiError> {
        match &self.keys {
            Keys::Given(keys) => Ok(Arc::clone(keys)),
            Keys::Chain(fresh) => fresh.get().await.map_err(|_| {
                ApiError::upstream(format!(
                    "The gateway has no valid AWS credentials for provider `{}`. Try again later or ask the operator.",
                    self.provider
                ))
            }),
        }
    }

    /// Keeps the keys fresh, and fetches the first ones. Never ends; the caller drops it to stop.
    pub async fn refresh_loop(&self) {
        match &self.keys {
            Keys::Given(_) => std::future::pending().await,
            Keys::Chain(fresh) => fresh.refresh_loop().await,
        }
    }
}
