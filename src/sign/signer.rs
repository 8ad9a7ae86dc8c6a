//! How each provider's requests prove who pays: one signer a provider, made with the snapshot.

use super::aws::credentials::CredentialSource;
use super::aws::{self, ToSign};
use super::google::TokenSource;
use crate::config::secret::Secret;
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

/// Where AWS's own tools look for a Bedrock API key, before any keys that sign.
/// <https://docs.aws.amazon.com/bedrock/latest/userguide/api-keys-use.html>
const BEDROCK_KEY: &str = "AWS_BEARER_TOKEN_BEDROCK";

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
        Self::with(provider, |name| std::env::var(name).ok())
    }

    fn with(provider: &Provider, env: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let name = &provider.name;
        let header = |header: HeaderName, text: String| {
            let mut value = HeaderValue::from_str(&text)
                .map_err(|_| format!("provider `{name}`: its key has characters that a header cannot carry"))?;
            value.set_sensitive(true);
            Ok::<_, String>(Means::Fixed((header, value)))
        };
        let bedrock = || env(BEDROCK_KEY).filter(|key| !key.is_empty() && provider.kind == Kind::Bedrock);
        let found = matches!(provider.credential, Credential::AwsDefault).then(bedrock).flatten();
        let credential = found.map(|key| Credential::Bearer(Secret::new(key)));
        let means = match credential.as_ref().unwrap_or(&provider.credential) {
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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn a_bedrock_key_of_the_environment_comes_before_keys_that_sign() {
        let text = r#"
providers:
  a: { kind: bedrock, region: us-east-1 }
  b: { kind: bedrock, region: us-east-1, credentials: { access_key_id: AKIA, secret_access_key: s } }
  c: { kind: sagemaker, region: us-east-1 }
routes: { r: { targets: [ { provider: a, model: m }, { provider: b, model: m }, { provider: c, model: m } ] } }
auth: none
"#;
        let snapshot = config::parse(text, "conf", &|_| None).unwrap_or_else(|problems| panic!("{problems:#?}")).snapshot;
        let fixed = |env: Option<&str>| -> Vec<Option<String>> {
            let signer =
                |provider| Signer::with(provider, |name| (name == BEDROCK_KEY).then_some(env).flatten().map(str::to_owned)).unwrap();
            let value = |signer: Signer| signer.fixed().map(|(_, value)| value.to_str().unwrap().to_owned());
            snapshot.providers.iter().map(|provider| value(signer(provider))).collect()
        };
        assert_eq!(fixed(Some("ABSK-1")), [Some("Bearer ABSK-1".to_owned()), None, None]);
        assert_eq!(fixed(Some("")), [None, None, None]);
        assert_eq!(fixed(None), [None, None, None]);
    }
}
