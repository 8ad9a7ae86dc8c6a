//! The credential of a provider, as configured.

use super::google;
use crate::secret::Secret;
use crate::yaml::read::Reader;
use crate::yaml::section::section;
use crate::yaml::value::{At, SecretValue};
use http::HeaderName;
use std::path::PathBuf;

/// The credential of a request.
#[derive(Clone)]
pub enum Credential {
    /// Nothing to prove (a self-hosted server).
    None,
    /// `authorization: Bearer KEY`: an API key, or a Google access token that is given as it is.
    Bearer(Secret),
    /// The key in a header of the provider's own (`x-api-key`, `x-goog-api-key`).
    Header(HeaderName, Secret),
    /// AWS signature.
    Aws {
        /// Keys from the configuration; `None`: those of the default chain (environment, profile, web identity, container,
        /// IMDS).
        keys: Option<AwsSecrets>,
        /// AWS region.
        region: String,
        /// The service's name in signatures.
        service: &'static str,
        /// A variable of the environment with an API key, which comes before the default chain.
        key_variable: Option<&'static str>,
    },
    /// Google access tokens, of a credentials file (service account or authorized user), or `None`: of the application
    /// default credentials, then of the metadata server.
    Google(Option<PathBuf>),
}

/// AWS keys from the configuration.
#[derive(Clone)]
pub struct AwsSecrets {
    /// Access key id.
    pub access_key_id: Secret,
    /// Secret access key.
    pub secret_access_key: Secret,
    /// Session token of temporary credentials.
    pub session_token: Option<Secret>,
}

impl Credential {
    /// The secrets that it holds itself, if any.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let all = match self {
            Self::Bearer(key) | Self::Header(_, key) => [Some(key), None, None],
            Self::Aws { keys: Some(keys), .. } => [Some(&keys.access_key_id), Some(&keys.secret_access_key), keys.session_token.as_ref()],
            Self::None | Self::Aws { keys: None, .. } | Self::Google(_) => [None; 3],
        };
        all.into_iter().flatten()
    }
}

section! {
    /// Keys of providers whose requests AWS signs.
    AwsKeys {
        /// AWS region (bedrock, sagemaker).
        region: Option<At<String>>,
        /// AWS keys (bedrock, sagemaker). Default: the AWS credential chain.
        credentials: Option<At<KeyPair>>,
    }

    /// AWS keys.
    KeyPair {
        /// Access key id.
        access_key_id: SecretValue,
        /// Secret access key.
        secret_access_key: SecretValue,
        /// Session token of temporary credentials.
        session_token: Option<SecretValue>,
    }
}

impl AwsKeys {
    /// The keys of the configuration, which exclude an API key.
    pub fn own(&self, api_key: Option<&Secret>, cx: &mut Reader<'_>) -> Option<AwsSecrets> {
        let At { at, value } = self.credentials.as_ref()?;
        if api_key.is_some() {
            cx.problems.add(*at, "`credentials` and `api_key` exclude each other; write one of them");
        }
        let access_key_id = cx.secret(&value.access_key_id);
        let secret_access_key = cx.secret(&value.secret_access_key);
        let session_token = value.session_token.as_ref().and_then(|token| cx.secret(token));
        Some(AwsSecrets { access_key_id: access_key_id?, secret_access_key: secret_access_key?, session_token })
    }
}

section! {
    /// Keys of providers that accept Google's access tokens.
    GoogleKeys {
        /// A service account's or authorized user's file (vertex).
        credentials_file: Option<At<PathBuf>>,
        /// An access token as it is, sent as `authorization: Bearer` (vertex; azure_openai, azure_openai_deployments in place
        /// of `api_key`).
        access_token: Option<At<SecretValue>>,
    }
}

impl GoogleKeys {
    /// What tokens come from. A credentials file is read again for every token; here it only has to be one that tokens can be
    /// had with.
    pub fn credential(&self, cx: &mut Reader<'_>) -> Credential {
        if let (Some(_), Some(token)) = (&self.credentials_file, &self.access_token) {
            cx.problems.add(token.at, "`access_token` and `credentials_file` exclude each other; write one of them");
        }
        let token = self.access_token.as_ref().and_then(|token| cx.secret(&token.value));
        match &self.credentials_file {
            Some(path) => {
                if let Some(Err(what)) = cx.file_text(path).map(|text| google::check(&Secret::new(text))) {
                    cx.problems.add(path.at, what);
                }
                Credential::Google(Some(path.value.clone()))
            }
            None => token.map_or(Credential::Google(None), Credential::Bearer),
        }
    }
}
