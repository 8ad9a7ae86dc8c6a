//! How each provider's requests prove who pays: one signer a provider, made with the snapshot.

use super::aws::credentials::CredentialSource;
use super::aws::{self, ToSign};
use super::google::TokenSource;
use crate::error::{ApiError, ErrorKind};
use crate::provider::{Credential, Kind, Provider, Settings};
use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The headers that prove it: a key alone, or an AWS signature in four.
pub type Proof = smallvec::SmallVec<[(HeaderName, HeaderValue); 4]>;

/// Longest that a start or a reload waits for first tokens; requests wait for them themselves after that.
pub const WARM_UP: Duration = Duration::from_secs(3);

/// Signs the requests of one provider.
pub struct Signer {
    provider: Arc<str>,
    means: Means,
}

enum Means {
    /// Nothing to prove.
    Open,
    /// The same header on every request.
    Fixed((HeaderName, HeaderValue)),
    /// A Google access token.
    Google(TokenSource),
    /// A signature over the request.
    Aws { keys: CredentialSource, authority: HeaderValue, region: String, service: &'static str },
}

impl Signer {
    /// The signer of a provider.
    ///
    /// # Errors
    /// Says which credential cannot be used, without showing it.
    pub fn new(provider: &Provider) -> Result<Self, String> {
        let name = &provider.name;
        let header = |header: HeaderName, text: String| {
            let mut value = HeaderValue::from_str(&text)
                .map_err(|_| format!("provider `{name}`: its key has characters that a header cannot carry"))?;
            value.set_sensitive(true);
            Ok::<_, String>(Means::Fixed((header, value)))
        };
        let means = match &provider.credential {
            Credential::None => Means::Open,
            Credential::Bearer(key) => header(AUTHORIZATION, format!("Bearer {}", key.expose()))?,
            Credential::Header(name, key) => header(name.clone(), key.expose().to_owned())?,
            Credential::AwsKeys { .. } | Credential::AwsDefault => {
                let Settings::Aws { region } = &provider.settings else { return Err(format!("provider `{name}` has no region")) };
                let keys =
                    CredentialSource::new(name.clone(), &provider.credential, region).map_err(|e| format!("provider `{name}`: {e}"))?;
                let keys = keys.ok_or_else(|| format!("provider `{name}` has no AWS credentials"))?;
                let service = if provider.kind == Kind::SageMaker { "sagemaker" } else { "bedrock" };
                Means::Aws { keys, authority: provider.base.authority.clone(), region: region.clone(), service }
            }
            google => Means::Google(
                TokenSource::new(name.clone(), google).ok_or_else(|| format!("provider `{name}`: its credentials cannot be used"))?,
            ),
        };
        Ok(Self { provider: name.clone(), means })
    }

    /// The header that is the same on every request, where that is all there is to prove.
    pub fn fixed(&self) -> Option<&(HeaderName, HeaderValue)> {
        match &self.means {
            Means::Fixed(header) => Some(header),
            _ => None,
        }
    }

    /// What proves it for one `POST` beside [`Signer::fixed`], over the exact bytes that are sent. `headers` are sent exactly as they are given here.
    ///
    /// # Errors
    /// 502 where there are no credentials to be had.
    pub async fn sign(&self, path_and_query: &str, headers: &[(HeaderName, HeaderValue)], body: &[u8]) -> Result<Proof, ApiError> {
        Ok(match &self.means {
            // A fixed key is among the headers that every request has.
            Means::Open | Means::Fixed(_) => Proof::new(),
            Means::Google(source) => smallvec::smallvec![(AUTHORIZATION, source.token().await?.header().clone())],
            Means::Aws { keys, authority, region, service } => {
                let keys = keys.current().await?;
                let request = ToSign { method: "POST", authority, path_and_query, headers, body, region, service, time: SystemTime::now() };
                let proof = aws::sign(&request, &keys).map_err(|e| {
                    log::error!("provider `{}`: its request cannot be signed: {e}", self.provider);
                    ApiError::new(500, ErrorKind::Internal, "The gateway failed; its log has more under the request id.")
                })?;
                Proof::from_vec(proof)
            }
        })
    }

    /// Whether what it signs with is fetched and expires.
    pub fn expires(&self) -> bool {
        matches!(self.means, Means::Google(_) | Means::Aws { .. })
    }

    /// Fetches what is not there yet; gives up quietly, because a request will try again.
    pub async fn warm_up(&self) {
        let fetch = async {
            match &self.means {
                Means::Google(source) => drop(source.token().await),
                Means::Aws { keys, .. } => drop(keys.current().await),
                Means::Open | Means::Fixed(_) => {}
            }
        };
        let _ = tokio::time::timeout(WARM_UP, fetch).await;
    }

    /// Keeps what is fetched fresh. Does not end where there is something to fetch; drop it to stop.
    pub async fn keep_fresh(&self) {
        match &self.means {
            Means::Google(source) => source.refresh_loop().await,
            Means::Aws { keys, .. } => keys.refresh_loop().await,
            Means::Open | Means::Fixed(_) => {}
        }
    }
}
