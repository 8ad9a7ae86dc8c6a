//! Obtains an access token from a Google credentials file, by OAuth 2, or from the metadata server.

use crate::egress::Egress;
use crate::percent;
use crate::redact::{KnownSecrets, redact};
use crate::secret::Secret;
use crate::sign::fresh::Reason;
use crate::sign::http::{Answer, send};
use crate::sign::{Env, read_secret, variable};
use crate::system;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::Request;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Scope of the token; Vertex has no narrower one.
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// Default token endpoint. Also the audience of assertions: Google's libraries use it regardless of the file's
/// `token_uri`.
const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";
/// Lifetime of an assertion in seconds, the maximum that the server accepts.
const ASSERTION_LIFETIME: u64 = 3600;
/// Maximum length of an OAuth error code in messages.
const MAX_WORD: usize = 64;

/// A token and its lifetime.
pub(super) struct Grant {
    pub(super) token: Secret,
    /// Counted from now.
    pub(super) lifetime: Duration,
}

/// Application default credentials: the file in `GOOGLE_APPLICATION_CREDENTIALS`, gcloud's own file, then the metadata
/// server, which is reached directly, regardless of `egress`.
pub(super) async fn from_environment(env: Env<'_>, egress: &Egress) -> Result<Grant, Reason> {
    if let Some(path) = default_file(env) {
        return from_file(&path, egress).await;
    }
    let host = variable(env, "GCE_METADATA_HOST").unwrap_or_else(|| "metadata.google.internal".to_owned());
    let uri = format!("http://{host}/computeMetadata/v1/instance/service-accounts/default/token?scopes={SCOPE}");
    let request = Request::get(uri).header("metadata-flavor", "Google").body(Bytes::new());
    let request = request.map_err(|_| "GCE_METADATA_HOST is not a host")?;
    read(send(request, &Egress::Direct).await.map_err(|e| format!("the metadata server: {e}"))?)
}

/// The file in `GOOGLE_APPLICATION_CREDENTIALS`, else gcloud's own, if it exists.
#[expect(clippy::disallowed_methods, reason = "one look at a local file when a token is fetched")]
pub(super) fn default_file(env: Env<'_>) -> Option<PathBuf> {
    if let Some(path) = variable(env, "GOOGLE_APPLICATION_CREDENTIALS") {
        return Some(path.into());
    }
    let folder =
        variable(env, "CLOUDSDK_CONFIG").map(PathBuf::from).or_else(|| Some(PathBuf::from(variable(env, "HOME")?).join(".config/gcloud")));
    folder.map(|folder| folder.join("application_default_credentials.json")).filter(|file| file.is_file())
}

#[derive(serde::Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum File {
    ServiceAccount {
        client_email: String,
        private_key: String,
        #[serde(default)]
        private_key_id: Option<String>,
        #[serde(default)]
        token_uri: Option<String>,
    },
    AuthorizedUser {
        client_id: String,
        client_secret: String,
        refresh_token: String,
        #[serde(default)]
        token_uri: Option<String>,
    },
    #[serde(other)]
    Other,
}

/// Whether a credentials file can be used.
///
/// # Errors
/// What is wrong with it, without secrets.
pub fn check(text: &Secret) -> Result<(), Reason> {
    request(text, 0).map(drop)
}

/// A token from a credentials file, which is read each time because it may be rotated.
pub(super) async fn from_file(path: &Path, egress: &Egress) -> Result<Grant, Reason> {
    let shown = path.display();
    let text = read_secret(path).await?;
    let now = system::unix_time().as_secs();
    let (request, _known) = request(&text, now).map_err(|what| format!("{shown}: {what}"))?;
    read(send(request, egress).await.map_err(|e| format!("the token server: {e}"))?)
}

/// The token request for a credentials file, and the secrets in it.
fn request(text: &Secret, now: u64) -> Result<(Request<Bytes>, KnownSecrets), Reason> {
    // serde's message could quote a value, so only the position is reported.
    let file =
        serde_json::from_str(text.expose()).map_err(|e| format!("not a credentials file (line {}, column {})", e.line(), e.column()))?;
    let (uri, form, known) = match file {
        File::ServiceAccount { client_email, private_key, private_key_id, token_uri } => {
            let key = Secret::new(private_key);
            let jwt = assertion(&client_email, private_key_id.as_deref(), &key, now)?;
            let form = percent::form(&[("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"), ("assertion", &jwt)]);
            (token_uri, form, KnownSecrets::new([&*jwt]))
        }
        File::AuthorizedUser { client_id, client_secret, refresh_token, token_uri } => (
            token_uri,
            percent::form(&[
                ("grant_type", "refresh_token"),
                ("client_id", &client_id),
                ("client_secret", &client_secret),
                ("refresh_token", &refresh_token),
            ]),
            KnownSecrets::new([&*client_secret, &*refresh_token]),
        ),
        File::Other => return Err("unsupported credential type; expected service_account or authorized_user".into()),
    };
    let request = Request::post(uri.as_deref().unwrap_or(TOKEN_URI))
        .header(http::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Bytes::from(form));
    match request {
        Ok(request) if matches!(request.uri().scheme_str(), Some("http" | "https")) => Ok((request, known)),
        _ => Err("`token_uri` is not a valid URL".into()),
    }
}

/// A signed assertion (RFC 7523) for a service account.
fn assertion(email: &str, key_id: Option<&str>, key: &Secret, now: u64) -> Result<String, Reason> {
    let head = match key_id {
        Some(id) => serde_json::json!({"alg": "RS256", "typ": "JWT", "kid": id}),
        None => serde_json::json!({"alg": "RS256", "typ": "JWT"}),
    };
    let claims = serde_json::json!({"iss": email, "scope": SCOPE, "aud": TOKEN_URI, "iat": now, "exp": now + ASSERTION_LIFETIME});
    let mut jwt = URL_SAFE_NO_PAD.encode(head.to_string());
    jwt.push('.');
    URL_SAFE_NO_PAD.encode_string(claims.to_string(), &mut jwt);
    let der = PrivatePkcs8KeyDer::from_pem_slice(key.expose().as_bytes()).map_err(|_| "`private_key` is not PKCS#8 PEM")?;
    let pair = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).map_err(|_| "`private_key` is not an RSA key")?;
    let mut signature = vec![0; pair.public().modulus_len()];
    pair.sign(&RSA_PKCS1_SHA256, &ring::rand::SystemRandom::new(), jwt.as_bytes(), &mut signature)
        .map_err(|_| "signing with `private_key` failed")?;
    jwt.push('.');
    URL_SAFE_NO_PAD.encode_string(&signature, &mut jwt);
    Ok(jwt)
}

/// Parses a token response. An error is reported by status and OAuth error code only.
fn read(answer: Answer) -> Result<Grant, Reason> {
    #[derive(serde::Deserialize)]
    struct Granted {
        access_token: String,
        expires_in: u64,
    }
    #[derive(serde::Deserialize)]
    struct Refused {
        error: String,
    }
    if answer.status == 200 {
        let granted: Granted = serde_json::from_slice(&answer.body).map_err(|_| "the token server's response contains no token")?;
        let token = Secret::new(granted.access_token);
        return Ok(Grant { token, lifetime: Duration::from_secs(granted.expires_in.min(24 * 3600)) });
    }
    let word = serde_json::from_slice::<Refused>(&answer.body).map(|r| r.error).unwrap_or_default();
    let known = word.len() <= MAX_WORD && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    Err(format!("the token server returned {} {}", answer.status, if known { redact(&word) } else { "".into() }).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_shows_its_word_and_nothing_else() {
        let said = |body: &'static str| {
            read(Answer { status: 400, headers: http::HeaderMap::new(), body: Bytes::from_static(body.as_bytes()) }).err().unwrap()
        };
        assert!(said(r#"{"error":"invalid_grant","error_description":"the-secret"}"#).ends_with("400 invalid_grant"));
        assert!(!said(r#"{"error":"ya29.TOKEN"}"#).contains("ya29"));
        assert!(said("<html>").contains("400"));
    }

    #[test]
    fn a_bad_key_is_told_without_the_key() {
        let e = assertion("a@b", None, &Secret::new("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n".into()), 0);
        assert_eq!(e.err().unwrap(), "`private_key` is not an RSA key");
    }
}
