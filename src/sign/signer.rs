//! How each provider's requests prove who pays: one signer a provider, made with the snapshot.

use super::google::TokenSource;
use crate::error::ApiError;
use crate::provider::{Credential, Provider};
use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue};

/// The headers that sign a request: a key alone, or an AWS signature in four.
pub type Proof = smallvec::SmallVec<[(HeaderName, HeaderValue); 4]>;

/// Signs the requests of one provider.
pub enum Signer {
    /// Nothing to prove.
    Open,
    /// The same header on every request.
    Fixed(HeaderName, HeaderValue),
    /// A Google access token.
    Google(TokenSource),
}

impl Signer {
    /// The signer of a provider.
    ///
    /// # Errors
    /// Says which credential cannot be used, without showing it.
    pub fn new(provider: &Provider) -> Result<Self, String> {
        let header = |name: HeaderName, text: String| {
            let mut value = HeaderValue::from_str(&text)
                .map_err(|_| format!("provider `{}`: its key has characters that a header cannot carry", provider.name))?;
            value.set_sensitive(true);
            Ok(Self::Fixed(name, value))
        };
        match &provider.credential {
            Credential::None => Ok(Self::Open),
            Credential::Bearer(key) => header(AUTHORIZATION, format!("Bearer {}", key.expose())),
            Credential::Header(name, key) => header(name.clone(), key.expose().to_owned()),
            Credential::AwsKeys { .. } | Credential::AwsDefault => {
                Err(format!("provider `{}`: AWS signatures are not there yet", provider.name))
            }
            google => TokenSource::new(provider.name.clone(), google)
                .map(Self::Google)
                .ok_or_else(|| format!("provider `{}`: its credentials cannot be used", provider.name)),
        }
    }

    /// The proof for one request, over the exact bytes that are sent.
    ///
    /// # Errors
    /// 502 where a token cannot be had.
    pub async fn sign(&self, _path: &str, _body: &[u8]) -> Result<Proof, ApiError> {
        Ok(match self {
            Self::Open => Proof::new(),
            Self::Fixed(name, value) => smallvec::smallvec![(name.clone(), value.clone())],
            Self::Google(source) => smallvec::smallvec![(AUTHORIZATION, source.token().await?.header().clone())],
        })
    }

    /// Keeps what is fetched fresh; ends at once where there is nothing to fetch.
    pub async fn keep_fresh(&self) {
        if let Self::Google(source) = self {
            source.refresh_loop().await;
        }
    }
}
