//! The AWS default chain as a [`Source`] of cached credentials.

use super::AwsCredentials;
use super::chain::{self, Reason};
use crate::egress::Egress;
use crate::files::fingerprint;
use crate::sign::fresh::Source;
use crate::system;
use std::time::{Duration, SystemTime};

/// Temporary credentials are renewed this long before expiry: "We make new credentials available at least five minutes
/// before the expiration of the old credentials" (instance metadata).
pub const REFRESH_BEFORE: Duration = Duration::from_secs(5 * 60);

/// The default chain for one region.
#[derive(PartialEq, Eq)]
pub struct Chain {
    region: String,
    /// Hash of the profile files when the configuration was read; a change invalidates cached credentials.
    files: [u8; 32],
    egress: Egress,
}

impl Chain {
    /// Reads the profile files. STS is called through the proxy of `egress`.
    pub fn new(region: String, egress: Egress) -> Self {
        let files = chain::profile_files(&system::env).map(Option::unwrap_or_default);
        Self { region, files: fingerprint(&files), egress }
    }
}

impl Source for Chain {
    type Value = AwsCredentials;

    async fn fetch(&self) -> Result<AwsCredentials, Reason> {
        let found = chain::load(&system::env, &self.region, &self.egress).await;
        if let Err(why) = &found {
            log::error!("no AWS credentials for region {}: {why}", self.region);
        }
        found
    }

    fn expires(value: &AwsCredentials) -> Option<SystemTime> {
        value.expires
    }
}
