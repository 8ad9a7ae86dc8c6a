//! Providers: which keys a kind has, where it is by default, and how a request proves who pays.

use super::base_url::{base_url, default_base, without_endpoint};
use super::{Builder, ByName, written};
use crate::config::file::{self, AwsCredentials};
use crate::config::types::{Deadline, SecretValue};
use crate::egress::Egress;
use crate::pem::{Certificates, Identity};
use crate::provider::catalogue::{ApiKey, entry, quirks};
use crate::provider::timeouts::{TimeoutOverrides, Timeouts};
use crate::provider::{BaseUrl, Credential, HttpVersion, Kind, Provider, Settings, TlsOptions};
use crate::redact::KnownSecrets;
use crate::secret::Secret;
use crate::sign::google::check;
use crate::yaml::problem::Position;
use crate::yaml::read::{At, Named};
use crate::yaml::tree::shown_key;
use http::{HeaderName, HeaderValue};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Keys that only some kinds have, and which these are.
pub(super) type OwnKeys = [(&'static str, fn(Kind) -> bool)];

/// Keys of a provider that only some kinds have.
const OWN_KEYS: &OwnKeys = &[
    ("api_key", |kind| entry(kind).api_key != ApiKey::None),
    ("api_key_file", |kind| entry(kind).api_key != ApiKey::None),
    ("region", |kind| matches!(kind, Kind::Bedrock | Kind::SageMaker)),
    ("credentials", |kind| matches!(kind, Kind::Bedrock | Kind::SageMaker)),
    ("project", |kind| kind == Kind::Vertex),
    ("location", |kind| kind == Kind::Vertex),
    ("credentials_file", |kind| kind == Kind::Vertex),
    ("access_token", |kind| kind == Kind::Vertex),
    ("version", |kind| kind == Kind::Anthropic),
    ("beta", |kind| kind == Kind::Anthropic),
    ("default_max_tokens", |kind| kind == Kind::Anthropic),
    ("guided", |kind| entry(kind).self_hosted()),
    ("base_urls", speaks_openai),
    ("inject_stream_options", speaks_openai),
    ("reasoning_field", speaks_openai),
    ("returns", speaks_openai),
];

/// Headers that belong to the gateway: framing, connection and content. An operator's `headers` may not hold them.
const OWN_HEADERS: &[&str] = &[
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Headers whose values are no secrets: providers name them in errors that clients need.
const OPEN_HEADERS: &[&str] = &["accept", "accept-language", "anthropic-beta", "anthropic-version", "openai-beta", "user-agent"];

/// The secrets of providers: their credentials, the values of an operator's own headers, and the accounts at proxies.
pub(super) fn secrets(providers: &[Arc<Provider>]) -> KnownSecrets {
    KnownSecrets::new(providers.iter().flat_map(|provider| {
        let headers = provider.headers.iter().filter(|(name, _)| !OPEN_HEADERS.contains(&name.as_str()));
        let accounts = provider.egress.proxies().filter_map(|proxy| proxy.authorization());
        let values = headers.map(|(_, value)| value).chain(accounts).filter_map(|value| value.to_str().ok());
        provider.credential.secrets().map(Secret::expose).chain(values).chain(provider.base.query_secrets())
    }))
}

/// A provider with its replicas, whose first endpoint has this number. One server alone is a provider like any other.
fn pool(mut first: Provider, more: Vec<BaseUrl>, endpoint: usize) -> Arc<Provider> {
    first.endpoint = endpoint;
    if !more.is_empty() {
        first.endpoint_name = format!("{}@{}", first.name, first.base).into();
    }
    let replica = |(number, base): (usize, BaseUrl)| {
        let endpoint_name = format!("{}@{base}", first.name).into();
        Arc::new(Provider { endpoint: number, endpoint_name, base, ..first.clone() })
    };
    let replicas = (endpoint + 1..).zip(more).map(replica).collect();
    Arc::new(Provider { replicas, ..first })
}

impl Builder {
    pub(super) fn providers(&mut self, providers: Named<file::Provider>, egress: &Egress) -> ByName<Arc<Provider>> {
        let mut all = ByName::new(providers.known);
        let mut endpoints = 0;
        for (index, (name, provider)) in providers.entries.into_iter().enumerate() {
            let arc = self.name("provider", &name);
            if !name.value.bytes().all(|b| b.is_ascii_graphic()) {
                self.problems.add(name.at, "the name of a provider is ASCII, because it is sent in `x-tidegate-provider`");
            }
            let provider = provider.and_then(|provider| self.provider(index, arc, provider, egress));
            let provider = provider.map(|(first, more)| pool(first, more, endpoints));
            endpoints += provider.as_ref().map_or(1, |provider| provider.endpoints().count());
            all.push(name.value, provider);
        }
        all
    }

    /// The provider, and the base URLs of its further replicas.
    fn provider(
        &mut self,
        index: usize,
        name: Arc<str>,
        mut provider: file::Provider,
        egress: &Egress,
    ) -> Option<(Provider, Vec<BaseUrl>)> {
        let kind = provider.kind.value;
        self.foreign_keys("provider", kind, &provider.written, OWN_KEYS);
        let settings = self.settings(kind, &mut provider);
        let credential = self.credential(kind, &mut provider);
        let mut bases = match &provider.base_urls {
            Some(_) => self.replicas(&provider),
            None => self.base_url(kind, &provider, settings.as_ref()).into_iter().collect(),
        };
        let egress = self.proxy(&provider).unwrap_or_else(|| egress.clone());
        let headers = self.headers(provider.headers);
        let mut quirks = quirks(kind, provider.guided.map(|guided| guided.value));
        quirks.usage_option = provider.inject_stream_options.map_or(quirks.usage_option, |inject| inject.value);
        quirks.reasoning_field = provider.reasoning_field.map_or(quirks.reasoning_field, |field| field.value);
        if let Some(returns) = provider.returns {
            quirks.returns = returns.value;
        }
        let limits = self.limits(provider.limits);
        if bases.iter().any(|base| base.socket.is_some()) && provider.http == HttpVersion::Http2 {
            let at = written(&provider.written, "http").unwrap_or(provider.at);
            self.problems.add(at, "`http: 2` is not possible over a Unix socket, which is asked with HTTP/1.1; leave `http` out");
        }
        let tls = self.tls(provider.tls);
        let base = (!bases.is_empty()).then(|| bases.remove(0))?;
        let provider = Provider {
            index,
            endpoint_name: name.clone(),
            endpoint: 0,
            replicas: Vec::new(),
            name,
            kind,
            base,
            credential: credential?,
            headers,
            timeouts: timeouts(&provider.timeouts),
            tls,
            egress,
            http: provider.http,
            settings: settings?,
            quirks,
            max_connections: provider.max_connections.map(|connections| connections.0),
            limits,
        };
        Some((provider, bases))
    }

    /// Notes keys that belong to other kinds.
    pub(super) fn foreign_keys(&mut self, what: &str, kind: Kind, keys: &[(&'static str, Position)], own: &OwnKeys) {
        for (key, at) in keys {
            let Some((_, has)) = own.iter().find(|(name, _)| name == key) else { continue };
            if !has(kind) {
                let kinds = Kind::all().filter(|kind| has(*kind)).map(Kind::name).collect::<Vec<_>>().join(", ");
                self.problems.add(*at, format!("`{key}` is no key of a {what} of kind {}; it belongs to {kinds}", kind.name()));
            }
        }
    }

    fn settings(&mut self, kind: Kind, provider: &mut file::Provider) -> Option<Settings> {
        Some(match kind {
            Kind::Anthropic => Settings::Anthropic {
                version: provider.version.take().map_or_else(|| "2023-06-01".to_owned(), |version| version.value),
                beta: provider.beta.take().map_or_else(Vec::new, |beta| beta.value),
                default_max_tokens: provider.default_max_tokens.take().map_or(4096, |tokens| tokens.value.0),
            },
            Kind::Bedrock | Kind::SageMaker => Settings::Aws { region: self.host_part("region", provider, provider.region.as_ref())? },
            Kind::Vertex => {
                let project = self.host_part("project", provider, provider.project.as_ref());
                let location = self.host_part("location", provider, provider.location.as_ref());
                Settings::Vertex { project: project?, location: location? }
            }
            Kind::OpenAi(_) | Kind::GoogleAiStudio | Kind::Mistral => Settings::Plain,
        })
    }

    /// A required name that becomes part of a host or a path.
    fn host_part(&mut self, key: &'static str, provider: &file::Provider, value: Option<&At<String>>) -> Option<String> {
        let Some(value) = value else {
            if written(&provider.written, key).is_none() {
                let message = format!("`{key}` is missing: a provider of kind {} needs it", provider.kind.value.name());
                self.problems.add(provider.at, message);
            }
            return None;
        };
        // A project may be of the old form `example.com:name`.
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || (key == "project" && matches!(b, b'.' | b':' | b'_'));
        if value.value.is_empty() || !value.value.bytes().all(allowed) {
            self.problems.add(value.at, format!("`{key}` is a name of letters, digits and `-`"));
            return None;
        }
        Some(value.value.clone())
    }

    fn credential(&mut self, kind: Kind, provider: &mut file::Provider) -> Option<Credential> {
        let before = self.problems.count();
        let key = self.api_key(provider);
        if self.problems.count() > before {
            return None;
        }
        let entry = entry(kind);
        let credential = match kind {
            Kind::Bedrock | Kind::SageMaker => {
                if let (Some(_), Some(credentials)) = (&key, &provider.credentials) {
                    self.problems.add(credentials.at, "`credentials` and `api_key` exclude each other; write one of them");
                }
                let keys = provider.credentials.take().and_then(|credentials| self.aws(credentials.value));
                Some(keys.or_else(|| key.map(Credential::Bearer)).unwrap_or(Credential::AwsDefault))
            }
            Kind::Vertex => {
                if let (Some(_), Some(token)) = (&provider.credentials_file, &provider.access_token) {
                    self.problems.add(token.at, "`access_token` and `credentials_file` exclude each other; write one of them");
                }
                let file = provider.credentials_file.take().map(|path| self.google_file(path));
                let token = provider.access_token.take().and_then(|token| self.secret(token.value)).map(Credential::GoogleToken);
                Some(file.or(token).unwrap_or(Credential::GoogleDefault))
            }
            _ => match (key, &entry.key_header) {
                (Some(key), Some(header)) => Some(Credential::Header(header.clone(), key)),
                (Some(key), None) => Some(Credential::Bearer(key)),
                (None, _) => (entry.api_key == ApiKey::Optional).then_some(Credential::None),
            },
        };
        let wrong = ["api_key", "api_key_file"].iter().any(|key| written(&provider.written, key).is_some());
        if credential.is_none() && !wrong {
            let message = format!("`api_key` is missing: a provider of kind {} needs it, or `api_key_file`", kind.name());
            self.problems.add(provider.at, message);
        }
        credential
    }

    fn aws(&mut self, credentials: AwsCredentials) -> Option<Credential> {
        let access_key_id = self.secret(credentials.access_key_id);
        let secret_access_key = self.secret(credentials.secret_access_key);
        let session_token = credentials.session_token.and_then(|token| self.secret(token));
        Some(Credential::AwsKeys { access_key_id: access_key_id?, secret_access_key: secret_access_key?, session_token })
    }

    /// The file is read again for every token; here it only has to be one that tokens can be had with.
    fn google_file(&mut self, path: At<PathBuf>) -> Credential {
        if let Some(Err(what)) = self.file_text(&path).map(|text| check(&Secret::new(text))) {
            self.problems.add(path.at, what);
        }
        Credential::GoogleFile(path.value)
    }

    fn api_key(&mut self, provider: &mut file::Provider) -> Option<Secret> {
        if let (Some(_), Some(path)) = (&provider.api_key, &provider.api_key_file) {
            self.problems.add(path.at, "`api_key` and `api_key_file` exclude each other; write one of them");
            return None;
        }
        if let Some(path) = provider.api_key_file.take() {
            return self.secret_file(&path);
        }
        provider.api_key.take().and_then(|key| self.secret(key.value))
    }

    /// The servers of `base_urls`; none without it.
    fn replicas(&mut self, provider: &file::Provider) -> Vec<BaseUrl> {
        let Some(urls) = &provider.base_urls else { return Vec::new() };
        if let Some(url) = &provider.base_url {
            self.problems.add(url.at, "`base_url` and `base_urls` exclude each other");
        }
        if urls.value.is_empty() {
            self.problems.add(urls.at, "`base_urls` must have at least one URL, like http://10.0.0.7:8000/v1");
        }
        let mut bases: Vec<BaseUrl> = Vec::new();
        for url in &urls.value {
            let Some(base) = self.parsed_base("base_urls", url) else { continue };
            if bases.contains(&base) {
                self.problems.add(url.at, "`base_urls`: this server is listed twice");
            }
            bases.push(base);
        }
        bases
    }

    fn parsed_base(&mut self, key: &str, url: &At<String>) -> Option<BaseUrl> {
        let problem = match (without_endpoint(&url.value), base_url(&url.value)) {
            (Some(base), Ok(_)) => format!("`{key}` must not include the path of an endpoint, which Tidegate appends; write `{base}`"),
            (_, Err(what)) => format!("`{key}` {what}"),
            (None, Ok(base)) => return Some(base),
        };
        self.problems.add(url.at, problem);
        None
    }

    fn base_url(&mut self, kind: Kind, provider: &file::Provider, settings: Option<&Settings>) -> Option<BaseUrl> {
        if let Some(url) = &provider.base_url {
            return self.parsed_base("base_url", url);
        }
        if entry(kind).self_hosted() {
            if written(&provider.written, "base_url").is_none() {
                let message = format!("`base_url` is missing: a provider of kind {} needs it, like http://10.0.0.7:8000/v1", kind.name());
                self.problems.add(provider.at, message);
            }
            return None;
        }
        base_url(&default_base(kind, settings?)).ok()
    }

    fn headers(&mut self, headers: Named<SecretValue>) -> Vec<(HeaderName, HeaderValue)> {
        let mut list = Vec::new();
        for (name, value) in headers.entries {
            let Ok(header) = HeaderName::from_bytes(name.value.as_bytes()) else {
                self.problems.add(name.at, format!("`{}` is no name of a header", shown_key(&name.value, value.is_none())));
                continue;
            };
            if OWN_HEADERS.contains(&header.as_str()) {
                self.problems.add(name.at, format!("the header `{header}` is the gateway's own and cannot be set"));
            }
            if list.iter().any(|(known, _)| *known == header) {
                self.problems.add(name.at, format!("duplicate header `{header}`"));
            }
            let Some(value) = value.and_then(|value| self.secret(value)) else { continue };
            match HeaderValue::from_str(value.expose()) {
                Ok(mut value) => {
                    value.set_sensitive(true);
                    list.push((header, value));
                }
                Err(_) => self.problems.add(name.at, format!("the value of the header `{header}` must be ASCII text")),
            }
        }
        list
    }

    fn tls(&mut self, tls: file::Tls) -> TlsOptions {
        let client = match (&tls.client_certificate, &tls.client_key) {
            (Some(certificate), Some(key)) => self.identity(certificate, key),
            (Some(At { at, .. }), None) => self.lone(*at, tls.sound, "client_certificate", "client_key"),
            (None, Some(At { at, .. })) => self.lone(*at, tls.sound, "client_key", "client_certificate"),
            (None, None) => None,
        };
        let ca = tls.ca_file.as_ref().and_then(|path| self.pem(path, Certificates::authorities));
        TlsOptions { ca, verify: tls.verify, server_name: tls.server_name.map(Arc::from), client }
    }

    fn lone(&mut self, at: Position, sound: bool, key: &str, other: &str) -> Option<Arc<Identity>> {
        if sound {
            self.problems.add(at, format!("`{key}` needs `{other}`"));
        }
        None
    }
}

fn speaks_openai(kind: Kind) -> bool {
    matches!(kind, Kind::OpenAi(_) | Kind::SageMaker | Kind::Vertex)
}

/// What the user said of deadlines; the rest is left to others.
pub(super) fn overrides(timeouts: &file::Timeouts) -> TimeoutOverrides {
    let of = |deadline: &Option<Deadline>| deadline.map(|deadline| deadline.0);
    TimeoutOverrides {
        connect: of(&timeouts.connect),
        first_byte: of(&timeouts.first_byte),
        first_token: of(&timeouts.first_token),
        between_bytes: of(&timeouts.between_bytes),
        total: of(&timeouts.total),
    }
}

fn timeouts(timeouts: &file::Timeouts) -> Timeouts {
    let given = overrides(timeouts);
    Timeouts {
        connect: given.connect.unwrap_or(Duration::from_secs(5)),
        first_byte: given.first_byte,
        first_token: given.first_token.unwrap_or(Duration::from_secs(120)),
        between_bytes: given.between_bytes.unwrap_or(Duration::from_secs(60)),
        total: given.total,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_of_a_kind_are_keys_of_a_provider() {
        for (key, _) in OWN_KEYS {
            assert!(file::Provider::KEYS.contains(key), "{key}");
        }
    }
}
