//! AWS keys at hand when a request is signed: those of the configuration, or those of the default chain, which are
//! fetched once for everyone and renewed before they end.

use super::AwsCredentials;
use super::chain::{self, Reason};
use crate::egress::Egress;
use crate::files::fingerprint;
use crate::sign::fresh::Source;
use std::time::{Duration, SystemTime};

/// Temporary keys are renewed this long before they end: "We make new credentials available at least five minutes
/// before the expiration of the old credentials" (instance metadata).
pub const REFRESH_BEFORE: Duration = Duration::from_secs(5 * 60);

/// The default chain of one region.
#[derive(PartialEq, Eq)]
pub struct Chain {
    region: String,
    /// What stood in the profile files when the configuration was read: a change means other keys.
    files: [u8; 32],
    egress: Egress,
}

impl Chain {
    /// The chain as files and environment are now; STS is asked through the proxy that `egress` names. Reads the profile files.
    pub fn new(region: String, egress: Egress) -> Self {
        let files = chain::profile_files(&|name| std::env::var(name).ok()).map(Option::unwrap_or_default);
        Self { region, files: fingerprint(&files), egress }
    }
}

impl Source for Chain {
    type Value = AwsCredentials;

    async fn fetch(&self) -> Result<AwsCredentials, Reason> {
        let found = chain::load(&|name| std::env::var(name).ok(), &self.region, &self.egress).await;
        if let Err(why) = &found {
            log::error!("no AWS credentials for region {}: {why}", self.region);
        }
        found
    }

    fn expires(value: &AwsCredentials) -> Option<SystemTime> {
        value.expires
    }
}
