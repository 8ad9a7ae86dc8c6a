//! The default AWS credential chain: environment, profile files, web identity, container endpoint, instance metadata.
//! The first source that exists is used; its failure is reported rather than skipped.
//!
//! Implemented here because the official crate adds 64 packages and two minutes of compilation. Not supported: SSO and
//! `credential_process`, which are for interactive use.

use super::profile::Profile;
use super::{AwsCredentials, ToSign, hash, sign};
use crate::egress::Egress;
use crate::percent;
use crate::redact::{KnownSecrets, redact};
use crate::secret::Secret;
pub(super) use crate::sign::fresh::Reason;
use crate::sign::http::{Answer, send};
use crate::sign::{Env, read_secret, variable};
use crate::system;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Uri};
use serde::Deserialize;
use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Base of relative container URIs.
const CONTAINER_HOST: &str = "http://169.254.170.2";
/// Hosts from which credentials may be fetched over plain HTTP: the container agents of ECS and EKS, and localhost.
const PLAIN_HOSTS: [&str; 6] = ["169.254.170.2", "169.254.170.23", "[fd00:ec2::23]", "127.0.0.1", "localhost", "[::1]"];
/// The metadata service of EC2.
const METADATA_HOST: &str = "http://169.254.169.254";
/// Lifetime of a metadata session, in seconds.
const METADATA_SESSION: &str = "60";
/// Maximum number of chained roles, against cycles.
const MAX_ROLES: usize = 5;
/// Session name in AWS's audit logs.
const SESSION_NAME: &str = "tidegate";

/// Finds credentials. Roles are assumed with STS in `region`, through the proxy of `egress`; container and instance
/// metadata are fetched directly.
pub(super) async fn load(env: Env<'_>, region: &str, egress: &Egress) -> Result<AwsCredentials, Reason> {
    if let Some(found) = from_environment(env) {
        return found;
    }
    let sts = Sts::of(env, region, egress);
    if let Some(found) = from_profile(env, &sts).await {
        return found;
    }
    if let (Some(file), Some(role)) = (variable(env, "AWS_WEB_IDENTITY_TOKEN_FILE"), variable(env, "AWS_ROLE_ARN")) {
        let session = variable(env, "AWS_ROLE_SESSION_NAME");
        return sts.web_identity(Path::new(&file), &role, session.as_deref()).await;
    }
    if let Some(found) = from_container(env).await {
        return found;
    }
    if variable(env, "AWS_EC2_METADATA_DISABLED").is_some_and(|word| word.eq_ignore_ascii_case("true")) {
        return Err("no credentials in environment, profiles or container, and instance metadata is disabled".into());
    }
    from_instance(env).await
}

fn from_environment(env: Env<'_>) -> Option<Result<AwsCredentials, Reason>> {
    let (id, secret) = (variable(env, "AWS_ACCESS_KEY_ID")?, variable(env, "AWS_SECRET_ACCESS_KEY")?);
    let token = variable(env, "AWS_SESSION_TOKEN").map(Secret::new);
    Some(credentials(&id, Secret::new(secret), token.as_ref(), None))
}

async fn from_container(env: Env<'_>) -> Option<Result<AwsCredentials, Reason>> {
    let relative = variable(env, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI").map(|uri| format!("{CONTAINER_HOST}{uri}"));
    let uri = relative.or_else(|| variable(env, "AWS_CONTAINER_CREDENTIALS_FULL_URI"))?;
    Some(container(env, &uri).await)
}

async fn from_instance(env: Env<'_>) -> Result<AwsCredentials, Reason> {
    let host = variable(env, "AWS_EC2_METADATA_SERVICE_ENDPOINT");
    metadata(host.as_deref().unwrap_or(METADATA_HOST).trim_end_matches('/')).await.map_err(|why| format!("instance metadata: {why}").into())
}

/// Paths of the shared credentials file and the shared configuration file, by environment.
pub(super) fn profile_files(env: Env<'_>) -> [Option<PathBuf>; 2] {
    let home = || Some(PathBuf::from(variable(env, "HOME")?).join(".aws"));
    let file = |name: &str, default: &str| variable(env, name).map(PathBuf::from).or_else(|| Some(home()?.join(default)));
    [file("AWS_SHARED_CREDENTIALS_FILE", "credentials"), file("AWS_CONFIG_FILE", "config")]
}

/// Credentials of the profile; `None` if no profile has any. A role is assumed with the credentials of its source,
/// which may be a role too.
async fn from_profile(env: Env<'_>, sts: &Sts<'_>) -> Option<Result<AwsCredentials, Reason>> {
    let mut texts = Vec::new();
    for path in profile_files(env) {
        texts.push(match path {
            Some(path) if tokio::fs::metadata(&path).await.is_ok_and(|found| found.is_file()) => match read_secret(&path).await {
                Ok(text) => text,
                Err(why) => return Some(Err(why)),
            },
            _ => Secret::new(String::new()),
        });
    }
    let [credentials, config] = texts.as_slice() else { return None };
    let read = |name: &str| Profile::read(credentials.expose(), config.expose(), name);
    let chosen = variable(env, "AWS_PROFILE");
    let mut name = chosen.as_deref().unwrap_or("default").to_owned();
    let mut roles: Vec<Profile> = Vec::new();
    let first = loop {
        let profile = read(&name);
        let role = match (profile.get("role_arn"), keys(&profile)) {
            // A source profile with keys ends the chain, even if it also has a role.
            (_, Some(found)) if !roles.is_empty() => break found,
            (Some(role), _) => role,
            (None, Some(found)) => break found,
            (None, None) if roles.is_empty() && chosen.is_none() => return None,
            (None, None) => break Err(format!("profile `{name}` has no keys and no role that can be assumed").into()),
        };
        if let Some(file) = profile.get("web_identity_token_file") {
            break sts.web_identity(Path::new(file), role, profile.get("role_session_name")).await;
        }
        let source = profile.get("source_profile").filter(|source| *source != name).map(str::to_owned);
        let word = profile.get("credential_source").map(str::to_owned);
        roles.push(profile);
        match (source, word, roles.last().and_then(keys)) {
            (Some(_), ..) if roles.len() == MAX_ROLES => {
                break Err(format!("profile `{name}`: too many chained roles").into());
            }
            (Some(source), ..) => name = source,
            (None, Some(word), _) => break from_source(env, &word).await.map_err(|why| format!("profile `{name}`: {why}").into()),
            (None, None, Some(own)) => break own,
            (None, None, None) => {
                break Err(format!("profile `{name}`: its role has neither `source_profile` nor `credential_source`").into());
            }
        }
    };
    // The last role is assumed first; its credentials are used for the next.
    let mut found = first;
    while let (Ok(keys), Some(role)) = (&found, roles.pop()) {
        let arn = role.get("role_arn").unwrap_or_default();
        found = sts.assume(keys, arn, role.get("role_session_name"), role.get("external_id")).await;
    }
    Some(found)
}

/// Resolves a profile's `credential_source`.
async fn from_source(env: Env<'_>, word: &str) -> Result<AwsCredentials, Reason> {
    let missing = || Err(format!("`credential_source` {word} has no credentials").into());
    match word {
        "Environment" => from_environment(env).unwrap_or_else(missing),
        "EcsContainer" => from_container(env).await.unwrap_or_else(missing),
        "Ec2InstanceMetadata" => from_instance(env).await,
        _ => Err("`credential_source` must be Environment, EcsContainer or Ec2InstanceMetadata".into()),
    }
}

fn keys(profile: &Profile) -> Option<Result<AwsCredentials, Reason>> {
    let (id, secret) = (profile.get("aws_access_key_id")?, profile.get("aws_secret_access_key")?);
    let token = profile.get("aws_session_token").map(|token| Secret::new(token.to_owned()));
    Some(credentials(id, Secret::new(secret.to_owned()), token.as_ref(), None))
}

/// A client of the security token service.
struct Sts<'e> {
    endpoint: String,
    region: String,
    egress: &'e Egress,
}

impl<'e> Sts<'e> {
    fn of(env: Env<'_>, region: &str, egress: &'e Egress) -> Self {
        let suffix = if region.starts_with("cn-") { ".cn" } else { "" };
        let own = || format!("https://sts.{region}.amazonaws.com{suffix}");
        let endpoint = variable(env, "AWS_ENDPOINT_URL_STS").or_else(|| variable(env, "AWS_ENDPOINT_URL")).unwrap_or_else(own);
        Self { endpoint: endpoint.trim_end_matches('/').to_owned(), region: region.to_owned(), egress }
    }

    async fn web_identity(&self, file: &Path, role: &str, session: Option<&str>) -> Result<AwsCredentials, Reason> {
        let token = read_secret(file).await?;
        let _known = KnownSecrets::new([token.expose()]);
        let fields = [
            ("Action", "AssumeRoleWithWebIdentity"),
            ("RoleArn", role),
            ("RoleSessionName", session.unwrap_or(SESSION_NAME)),
            ("WebIdentityToken", token.expose().trim()),
        ];
        self.call(&fields, None).await
    }

    async fn assume(
        &self,
        keys: &AwsCredentials,
        role: &str,
        session: Option<&str>,
        external_id: Option<&str>,
    ) -> Result<AwsCredentials, Reason> {
        let mut fields = vec![("Action", "AssumeRole"), ("RoleArn", role), ("RoleSessionName", session.unwrap_or(SESSION_NAME))];
        fields.extend(external_id.map(|id| ("ExternalId", id)));
        self.call(&fields, Some(keys)).await
    }

    async fn call(&self, fields: &[(&str, &str)], keys: Option<&AwsCredentials>) -> Result<AwsCredentials, Reason> {
        let form = percent::form(&[&[("Version", "2011-06-15")], fields].concat());
        let uri: Uri = format!("{}/", self.endpoint).parse().map_err(|_| "the STS endpoint is not a valid URL")?;
        let kind = (http::header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        let mut headers: Vec<(HeaderName, HeaderValue)> = vec![kind];
        if let Some(keys) = keys {
            let authority =
                uri.authority().and_then(|a| HeaderValue::from_str(a.as_str()).ok()).ok_or("the STS endpoint is not a valid URL")?;
            let request = ToSign {
                method: "POST",
                authority: &authority,
                path_and_query: uri.path(),
                headers: &headers,
                body_hash: hash([form.as_bytes()]),
                region: &self.region,
                service: "sts",
                time: system::system_time(),
            };
            let signed = sign(&request, keys).map_err(|_| "the region is invalid")?;
            headers.extend(signed);
        }
        let mut request = Request::post(uri);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(Bytes::from(form)).map_err(|_| "the STS endpoint is not a valid URL")?;
        let answer = send(request, self.egress).await.map_err(|why| format!("STS: {why}"))?;
        let text = Secret::new(String::from_utf8_lossy(&answer.body).into_owned());
        let tag = |name: &str| between(text.expose(), name);
        if answer.status != 200 {
            let code = tag("Code").filter(|code| code.bytes().all(|b| b.is_ascii_alphanumeric())).unwrap_or("no code");
            return Err(format!("STS returned status {} ({})", answer.status, redact(code)).into());
        }
        let (Some(id), Some(secret), Some(token)) = (tag("AccessKeyId"), tag("SecretAccessKey"), tag("SessionToken")) else {
            return Err("the response of STS contains no credentials".into());
        };
        temporary(id, secret, Some(token), tag("Expiration"))
    }
}

/// Text of an XML element without attributes, children and entities.
fn between<'a>(xml: &'a str, tag: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{tag}>"))?;
    rest.split_once("</").map(|(text, _)| text.trim())
}

fn temporary(id: &str, secret: &str, token: Option<&str>, expires: Option<&str>) -> Result<AwsCredentials, Reason> {
    let token = token.map(|token| Secret::new(token.to_owned()));
    let expires = match expires {
        None => None,
        Some(text) => Some(text.parse::<jiff::Timestamp>().map_err(|_| "the expiry of the credentials is invalid")?.into()),
    };
    credentials(id, Secret::new(secret.to_owned()), token.as_ref(), expires)
}

/// Creates credentials and registers them for redaction.
fn credentials(id: &str, secret: Secret, token: Option<&Secret>, expires: Option<SystemTime>) -> Result<AwsCredentials, Reason> {
    Ok(AwsCredentials::new(id, secret, token, expires)?.known())
}

/// Response of container agents and instance metadata.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Wire<'a> {
    code: Option<Cow<'a, str>>,
    #[serde(borrow)]
    access_key_id: Cow<'a, str>,
    #[serde(borrow)]
    secret_access_key: Cow<'a, str>,
    token: Option<Cow<'a, str>>,
    expiration: Option<Cow<'a, str>>,
}

fn read(answer: &Answer) -> Result<AwsCredentials, Reason> {
    if answer.status != 200 {
        return Err(format!("status {}", answer.status).into());
    }
    // serde's message could quote a value.
    let wire: Wire<'_> = serde_json::from_slice(&answer.body).map_err(|_| "the response contains no credentials")?;
    if wire.code.is_some_and(|code| code != "Success") {
        return Err("the role has no credentials".into());
    }
    temporary(&wire.access_key_id, &wire.secret_access_key, wire.token.as_deref(), wire.expiration.as_deref())
}

async fn container(env: Env<'_>, uri: &str) -> Result<AwsCredentials, Reason> {
    let bad = || Reason::from("the container's credentials URI is not a valid URL");
    let parsed: Uri = uri.parse().map_err(|_| bad())?;
    let plain = parsed.host().is_some_and(|host| PLAIN_HOSTS.contains(&host));
    if parsed.scheme_str() != Some("https") && !plain {
        return Err("the container's credentials URI is neither https nor a local address".into());
    }
    let token = match variable(env, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
        Some(path) => Some(read_secret(Path::new(&path)).await?),
        None => variable(env, "AWS_CONTAINER_AUTHORIZATION_TOKEN").map(Secret::new),
    };
    let _known = KnownSecrets::new(token.iter().map(Secret::expose));
    let mut request = Request::get(parsed);
    if let Some(token) = &token {
        let mut value =
            HeaderValue::from_str(token.expose().trim()).map_err(|_| "the container's authorization token is not a valid header value")?;
        value.set_sensitive(true);
        request = request.header(http::header::AUTHORIZATION, value);
    }
    let answer = send(request.body(Bytes::new()).map_err(|_| bad())?, &Egress::Direct).await;
    answer.and_then(|answer| read(&answer)).map_err(|why| format!("the container's credentials: {why}").into())
}

/// IMDSv2: fetches a session, then the name of the role, then its credentials.
async fn metadata(host: &str) -> Result<AwsCredentials, Reason> {
    let bad = |_| Reason::from("its endpoint is not a valid URL");
    let session = Request::put(format!("{host}/latest/api/token")).header("x-aws-ec2-metadata-token-ttl-seconds", METADATA_SESSION);
    let session = send(session.body(Bytes::new()).map_err(bad)?, &Egress::Direct).await?;
    if session.status != 200 {
        return Err(format!("no session (status {})", session.status).into());
    }
    let session = HeaderValue::from_bytes(&session.body).map_err(|_| "the session token is not a valid header value")?;
    let get = async |path: &str| {
        let request = Request::get(format!("{host}/latest/meta-data/iam/security-credentials/{path}"));
        let request = request.header("x-aws-ec2-metadata-token", session.clone()).body(Bytes::new()).map_err(bad)?;
        send(request, &Egress::Direct).await
    };
    let role = get("").await?;
    let name = std::str::from_utf8(&role.body).unwrap_or_default().lines().next().unwrap_or_default().trim().to_owned();
    if role.status != 200 || name.is_empty() {
        return Err("the instance has no role".into());
    }
    read(&get(&name).await?)
}

#[cfg(test)]
#[path = "chain_tests.rs"]
mod tests;
