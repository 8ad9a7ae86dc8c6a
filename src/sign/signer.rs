//! How each provider's requests prove who pays: one signer a provider, made with the snapshot.

use super::aws::credentials::{self, Chain};
use super::aws::{self, AwsCredentials, ToSign};
use super::credential::Credential;
use super::fresh::{Fresh, Source};
use super::google;
use crate::egress::Egress;
use crate::error::{ApiError, ErrorKind};
use crate::redact::KnownSecrets;
use crate::system;
use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue};
use ring::digest::Digest;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// The headers that prove it: a key alone, or an AWS signature in four.
pub type Proof = smallvec::SmallVec<[(HeaderName, HeaderValue); 4]>;

/// Longest that a start or a reload waits for first tokens; requests wait for them themselves after that.
pub const WARM_UP: Duration = Duration::from_secs(3);

/// Signs the requests of one provider.
pub struct Signer {
    provider: Arc<str>,
    means: Means,
    /// Whether another signer of the same configuration keeps its credentials fresh.
    follows: bool,
    /// Keeps a key of the environment out of errors and logs; keys of the configuration are known with it.
    _known: Option<KnownSecrets>,
}

enum Means {
    /// Nothing to prove.
    Open,
    /// The same header on every request.
    Fixed((HeaderName, HeaderValue)),
    /// A Google access token.
    Google(Arc<Fresh<google::Origin>>),
    /// A signature over the request.
    Aws { keys: Keys, authority: HeaderValue, region: String, service: &'static str },
}

enum Keys {
    /// Those of the configuration.
    Given(Arc<AwsCredentials>),
    /// Those of the default chain.
    Fetched(Arc<Fresh<Chain>>),
}

/// Whose requests are signed.
pub struct Payer<'a> {
    /// The provider's name.
    pub provider: &'a Arc<str>,
    /// How it is proved who pays.
    pub credential: &'a Credential,
    /// The `host` of its requests.
    pub authority: &'a HeaderValue,
    /// The proxies on the way to where credentials are fetched.
    pub egress: &'a Egress,
}

/// Signers that there are already: what they have fetched is used where it comes from the same place.
#[derive(Clone, Copy, Default)]
pub struct Existing<'a> {
    /// Those of the same configuration.
    pub siblings: &'a [Arc<Signer>],
    /// Those of the configuration before.
    pub previous: &'a [Arc<Signer>],
}

impl Existing<'_> {
    /// A value of this source that is kept already, else a new one; and whether a sibling keeps it.
    fn fetched<S: Source>(self, source: S, early: Duration, kept: fn(&Means) -> Option<&Arc<Fresh<S>>>) -> (Arc<Fresh<S>>, bool) {
        let find = |signers: &[Arc<Signer>]| {
            let mut all = signers.iter().filter_map(|signer| kept(&signer.means));
            all.find(|fresh| *fresh.source() == source).cloned()
        };
        match find(self.siblings) {
            Some(fresh) => (fresh, true),
            None => (find(self.previous).unwrap_or_else(|| Arc::new(Fresh::new(source, early))), false),
        }
    }
}

impl Signer {
    /// The signer of a provider. May read the files that its credentials come from.
    ///
    /// # Errors
    /// Says which credential cannot be used, without showing it.
    pub fn new(payer: &Payer<'_>, existing: Existing<'_>) -> Result<Self, String> {
        Self::with(payer, existing, system::env)
    }

    fn with(payer: &Payer<'_>, existing: Existing<'_>, env: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let (name, egress) = (payer.provider, payer.egress);
        let header = |header: HeaderName, text: String| {
            let mut value = HeaderValue::from_str(&text)
                .map_err(|_| format!("provider `{name}`: its key has characters that a header cannot carry"))?;
            value.set_sensitive(true);
            Ok::<_, String>(Means::Fixed((header, value)))
        };
        let bearer = |key: &str| header(AUTHORIZATION, format!("Bearer {key}"));
        let mut known = None;
        let (means, follows) = match payer.credential {
            Credential::None => (Means::Open, false),
            Credential::Bearer(key) => (bearer(key.expose())?, false),
            Credential::Header(name, key) => (header(name.clone(), key.expose().to_owned())?, false),
            Credential::Google(file) => {
                let origin = google::Origin::new(file.clone(), egress.clone());
                let (fresh, follows) = existing
                    .fetched(origin, google::REFRESH_BEFORE, |means| if let Means::Google(fresh) = means { Some(fresh) } else { None });
                (Means::Google(fresh), follows)
            }
            Credential::Aws { keys, region, service, key_variable } => {
                let aws = |keys| Means::Aws { keys, authority: payer.authority.clone(), region: region.clone(), service };
                let found = key_variable.and_then(env).filter(|key| !key.is_empty());
                match (keys, found) {
                    (Some(keys), _) => {
                        let (id, secret, token) =
                            (keys.access_key_id.expose(), keys.secret_access_key.clone(), keys.session_token.as_ref());
                        let keys = AwsCredentials::new(id, secret, token, None).map_err(|e| format!("provider `{name}`: {e}"))?;
                        (aws(Keys::Given(Arc::new(keys))), false)
                    }
                    (None, Some(key)) => {
                        known = Some(KnownSecrets::new([&*key]));
                        (bearer(&key)?, false)
                    }
                    (None, None) => {
                        let chain = Chain::new(region.clone(), egress.clone());
                        let (fresh, follows) = existing.fetched(chain, credentials::REFRESH_BEFORE, |means| match means {
                            Means::Aws { keys: Keys::Fetched(fresh), .. } => Some(fresh),
                            _ => None,
                        });
                        (aws(Keys::Fetched(fresh)), follows)
                    }
                }
            }
        };
        Ok(Self { provider: name.clone(), means, follows, _known: known })
    }

    /// The header that is the same on every request, where that is all there is to prove.
    pub fn fixed(&self) -> Option<&(HeaderName, HeaderValue)> {
        match &self.means {
            Means::Fixed(header) => Some(header),
            _ => None,
        }
    }

    /// What proves it for one `POST` beside [`Signer::fixed`], over the exact bytes that are sent. `headers` are sent exactly as they
    /// are given here. `body_hash` is [`aws::hash`] of the body, awaited only if it is signed.
    ///
    /// # Errors
    /// 502 where there are no credentials to be had, and that of `body_hash`.
    pub async fn sign(
        &self,
        path_and_query: &str,
        headers: &[(HeaderName, HeaderValue)],
        body_hash: impl Future<Output = Result<Digest, ApiError>> + Send,
    ) -> Result<Proof, ApiError> {
        Ok(match &self.means {
            // A fixed key is among the headers that every request has.
            Means::Open | Means::Fixed(_) => Proof::new(),
            Means::Google(tokens) => {
                let token = tokens.get().await.map_err(|_| self.lacks("access token"))?;
                smallvec::smallvec![(AUTHORIZATION, token.header().clone())]
            }
            Means::Aws { keys, authority, region, service } => {
                let keys = match keys {
                    Keys::Given(keys) => keys.clone(),
                    Keys::Fetched(fresh) => fresh.get().await.map_err(|_| self.lacks("AWS credentials"))?,
                };
                let body_hash = body_hash.await?;
                let time = system::system_time();
                let request = ToSign { method: "POST", authority, path_and_query, headers, body_hash, region, service, time };
                let proof = aws::sign(&request, &keys).map_err(|e| {
                    log::error!("provider `{}`: its request cannot be signed: {e}", self.provider);
                    ApiError::new(500, ErrorKind::Internal, "The gateway failed; its log has more under the request id.")
                })?;
                Proof::from_vec(proof)
            }
        })
    }

    fn lacks(&self, what: &str) -> ApiError {
        ApiError::upstream(format!(
            "The gateway has no valid credential for provider `{}`: its {what} could not be fetched. Try again later or ask the operator.",
            self.provider
        ))
    }

    /// Whether each request gets a proof of its own.
    pub fn expires(&self) -> bool {
        matches!(self.means, Means::Google(_) | Means::Aws { .. })
    }

    /// Whether it has to keep what it signs with fresh, and no other signer does.
    pub fn renews(&self) -> bool {
        self.expires() && !self.follows
    }

    /// Fetches what is not there yet; gives up quietly, because a request will try again.
    pub async fn warm_up(&self) {
        let fetch = async {
            match &self.means {
                Means::Google(tokens) => drop(tokens.get().await),
                Means::Aws { keys: Keys::Fetched(fresh), .. } => drop(fresh.get().await),
                _ => {}
            }
        };
        let _ = tokio::time::timeout(WARM_UP, fetch).await;
    }

    /// Keeps what is fetched fresh. Does not end where there is something to fetch; drop it to stop.
    pub async fn keep_fresh(&self) {
        match &self.means {
            Means::Google(tokens) => tokens.refresh_loop().await,
            Means::Aws { keys: Keys::Fetched(fresh), .. } => fresh.refresh_loop().await,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::dir::Dir;
    use crate::provider::Provider;

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
            let signer = |provider: &Arc<Provider>| {
                Signer::with(&provider.payer(), Existing::default(), |name| {
                    (name == "AWS_BEARER_TOKEN_BEDROCK").then_some(env).flatten().map(str::to_owned)
                })
                .unwrap()
            };
            let value = |signer: Signer| signer.fixed().map(|(_, value)| value.to_str().unwrap().to_owned());
            snapshot.providers.iter().map(|provider| value(signer(provider))).collect()
        };
        assert_eq!(fixed(Some("ABSK-1")), [Some("Bearer ABSK-1".to_owned()), None, None]);
        assert_eq!(fixed(Some("")), [None, None, None]);
        assert_eq!(fixed(None), [None, None, None]);
    }
    #[tokio::test]
    async fn a_credential_that_cannot_be_fetched_is_a_502_that_names_the_provider() {
        let folder = Dir::new();
        let account = r#"{"type":"authorized_user","client_id":"i","client_secret":"s","refresh_token":"r"}"#;
        let file = folder.write("account.json", account);
        let text = format!(
            "providers: {{ vertex: {{ kind: vertex, project: p, location: us, credentials_file: \"{}\" }} }}\n\
             routes: {{ r: {{ targets: [ {{ provider: vertex, model: m }} ] }} }}\nauth: none\n",
            file.display()
        );
        let snapshot = config::parse(&text, "conf", &|_| None).unwrap_or_else(|problems| panic!("{problems:#?}")).snapshot;
        let signer = Signer::with(&snapshot.providers[0].payer(), Existing::default(), |_| None).unwrap();
        drop(folder);
        let unused = async { panic!("a token does not depend on the body") };
        let error = signer.sign("/", &[], unused).await.err().unwrap();
        assert_eq!((error.status, error.kind.name()), (502, "upstream_error"));
        assert!(error.message.contains("`vertex`: its access token could not be fetched"), "{}", error.message);
    }

    #[test]
    fn what_was_fetched_is_shared_by_where_it_comes_from() {
        let folder = Dir::new();
        let account =
            |secret: &str| format!(r#"{{"type":"authorized_user","client_id":"i","client_secret":"{secret}","refresh_token":"r"}}"#);
        let [one, two] = ["one.json", "two.json"].map(|name| folder.write(name, &account("s")));
        let text = |name: &str, more: &str| {
            let (one, two) = (one.display(), two.display());
            format!(
                r#"
providers:
  {name}: {{ kind: vertex, project: p, location: global, credentials_file: "{one}" }}
  b: {{ kind: vertex, project: q, location: us, credentials_file: "{one}" }}
  c: {{ kind: vertex, project: p, location: global, credentials_file: "{two}" {more} }}
  d: {{ kind: bedrock, region: us-east-1 }}
  e: {{ kind: sagemaker, region: us-east-1 }}
  f: {{ kind: sagemaker, region: eu-west-1 }}
routes: {{ r: {{ targets: [ {{ provider: b, model: m }} ] }} }}
auth: none
"#
            )
        };
        let signers = |text: &str, previous: &[Arc<Signer>]| {
            let snapshot = config::parse(text, "conf", &|_| None).unwrap_or_else(|problems| panic!("{problems:#?}")).snapshot;
            let mut signers: Vec<Arc<Signer>> = Vec::new();
            for provider in &snapshot.providers {
                let signer = Signer::with(&provider.payer(), Existing { siblings: &signers, previous }, |_| None).unwrap();
                signers.push(Arc::new(signer));
            }
            signers
        };
        let place = |signer: &Arc<Signer>| match &signer.means {
            Means::Google(fresh) => Arc::as_ptr(fresh).cast::<()>(),
            Means::Aws { keys: Keys::Fetched(fresh), .. } => Arc::as_ptr(fresh).cast::<()>(),
            _ => panic!("nothing is fetched"),
        };
        let places = |signers: &[Arc<Signer>]| signers.iter().map(place).collect::<Vec<_>>();
        let renews = |signers: &[Arc<Signer>]| signers.iter().map(|signer| signer.renews()).collect::<Vec<_>>();

        let first = signers(&text("a", ""), &[]);
        let at = places(&first);
        assert_eq!(renews(&first), [true, false, true, true, false, true], "each source is renewed once");
        assert!(at[0] == at[1] && at[0] != at[2] && at[3] == at[4] && at[4] != at[5]);
        // A reload that changes names and everything else keeps the values.
        let second = signers(&text("renamed", ", timeouts: { connect: 1s }"), &first);
        assert_eq!(places(&second), at);
        assert_eq!(renews(&second), renews(&first));
        // Another account in the file has other tokens.
        std::fs::write(&two, account("rotated")).unwrap();
        let third = places(&signers(&text("a", ""), &second));
        assert!(third[2] != at[2] && third[..2] == at[..2] && third[3..] == at[3..]);
    }
}
