//! Providers: which keys a kind has, where it is by default, and how a request proves who pays.

use super::base_url::{base_url, without_endpoint};
use super::{Builder, ByName, written};
use crate::config::file;
use crate::config::types::Deadline;
use crate::dialect::Setup;
use crate::egress::Egress;
use crate::pem::{Certificates, Identity};
use crate::provider::catalogue::{ApiKey, Kind, kinds};
use crate::provider::protocol::{Protocol, ProviderKeys};
use crate::provider::timeouts::{TimeoutOverrides, Timeouts};
use crate::provider::{BaseUrl, HttpVersion, Provider, TlsOptions};
use crate::redact::KnownSecrets;
use crate::secret::Secret;
use crate::sign::credential::Credential;
use crate::telemetry::spans::Tracing;
use crate::yaml::problem::Position;
use crate::yaml::tree::shown_key;
use crate::yaml::value::{At, Named, SecretValue};
use http::{HeaderName, HeaderValue};
use std::sync::Arc;
use std::time::Duration;

/// Whether a provider of a kind has a key that others lack.
fn has_key(kind: &Kind, key: &str) -> bool {
    match key {
        "api_key" | "api_key_file" => kind.entry.api_key != ApiKey::None,
        "base_urls" => ProviderKeys::belongs("inject_stream_options", kind.entry.protocol), // the kinds that speak OpenAI
        "guided" => kind.self_hosted(),
        "access_token" => kind.entry.access_token,
        "resource" | "api_version" | "workspace" => kind.entry.base_url.as_ref().is_some_and(|url| url.contains(&key.to_ascii_uppercase())),
        _ => ProviderKeys::belongs(key, kind.entry.protocol),
    }
}

/// Keys that only some kinds have, beside those of the protocols.
const OWN_KEYS: [&str; 3] = ["api_key", "api_key_file", "base_urls"];

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

/// The secrets of providers: their credentials, the values of an operator's own headers, and the accounts at proxies. Those of
/// exports, too.
pub(super) fn secrets(providers: &[Arc<Provider>], tracing: Option<&Tracing>) -> KnownSecrets {
    let exports = tracing.into_iter().flat_map(|tracing| &tracing.headers).filter_map(|(_, value)| value.to_str().ok());
    KnownSecrets::new(exports.chain(providers.iter().flat_map(|provider| {
        let headers = provider.headers.iter().filter(|(name, _)| !OPEN_HEADERS.contains(&name.as_str()));
        let accounts = provider.egress.proxies().filter_map(|proxy| proxy.authorization());
        let values = headers.map(|(_, value)| value).chain(accounts).filter_map(|value| value.to_str().ok());
        provider.credential.secrets().map(Secret::expose).chain(values).chain(provider.base.query_secrets())
    })))
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

impl Builder<'_> {
    pub(super) fn providers(&mut self, providers: Named<(file::Provider, ProviderKeys)>, egress: &Egress) -> ByName<Arc<Provider>> {
        let mut all = ByName::new(providers.known);
        let mut endpoints = 0;
        for (index, (name, provider)) in providers.entries.into_iter().enumerate() {
            let arc = self.name("provider", &name);
            if !name.value.bytes().all(|b| b.is_ascii_graphic()) {
                self.add(name.at, "the name of a provider is ASCII, because it is sent in `x-tidegate-provider`");
            }
            let provider = provider.and_then(|(provider, keys)| self.provider(index, arc, provider, &keys, egress));
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
        keys: &ProviderKeys,
        egress: &Egress,
    ) -> Option<(Provider, Vec<BaseUrl>)> {
        let kind = provider.kind.value;
        let own = provider.written.iter().filter(|(key, _)| OWN_KEYS.contains(key)).chain(&keys.written);
        self.foreign_keys("provider", kind, own, has_key);
        let before = self.reader.problems.count();
        let api_key = self.api_key(&mut provider);
        let key_is_sound = self.reader.problems.count() == before;
        let kind_base_url = kind.entry.base_url.as_deref().unwrap_or_default();
        let mut setup = Setup {
            kind: &kind.name,
            quirks: kind.quirks(keys.openai.0.guided.map(|server| server.0)),
            api_key,
            kind_base_url,
            base_url: needed(kind_base_url, &provider).to_owned(),
            credential: None,
        };
        let protocol = Protocol::configure(kind.entry.protocol, &mut setup, keys, &mut self.reader);
        let credential = setup.credential.or_else(|| self.api_key_credential(kind, setup.api_key, key_is_sound, &provider));
        let mut bases: Vec<BaseUrl> = match &provider.base_urls {
            Some(_) => self.replicas(&provider),
            None => self.base_url(kind, &provider, &setup.base_url).into_iter().collect(),
        };
        if let Some(query) = setup.base_url.strip_prefix('?') {
            bases.iter_mut().filter(|base| base.query.is_empty()).for_each(|base| base.query = query.into());
        }
        let egress = self.proxy(&provider).unwrap_or_else(|| egress.clone());
        let headers = self.headers(provider.headers);
        let limits = self.limits(provider.limits);
        if bases.iter().any(|base| base.socket.is_some()) && provider.http == HttpVersion::Http2 {
            let at = written(&provider.written, "http").unwrap_or(provider.at);
            self.add(at, "`http: 2` is not possible over a Unix socket, which is asked with HTTP/1.1; leave `http` out");
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
            protocol: protocol?,
            base,
            credential: credential?,
            headers,
            timeouts: timeouts(&provider.timeouts),
            tls,
            egress,
            http: provider.http,
            max_connections: provider.max_connections.map(|connections| connections.0),
            limits,
        };
        Some((provider, bases))
    }

    /// Notes keys that belong to other kinds.
    pub(super) fn foreign_keys<'k>(
        &mut self,
        what: &str,
        kind: &Kind,
        written: impl Iterator<Item = &'k (&'static str, Position)>,
        has: fn(&Kind, &str) -> bool,
    ) {
        for (key, at) in written.filter(|(key, _)| !has(kind, key)) {
            let others = kinds().iter().filter(|kind| has(kind, key)).map(|kind| kind.name.as_str());
            let others = others.collect::<Vec<_>>().join(", ");
            self.add(*at, format!("`{key}` is no key of a {what} of kind {}; it belongs to {others}", kind.name));
        }
    }

    /// How an API key is sent. Without one nothing is proved, where the kind allows it.
    fn api_key_credential(&mut self, kind: &Kind, key: Option<Secret>, is_sound: bool, provider: &file::Provider) -> Option<Credential> {
        match (key, &kind.entry.key_header) {
            _ if !is_sound || kind.entry.api_key == ApiKey::None => return None,
            (Some(key), Some(header)) => return Some(Credential::Header(header.clone(), key)),
            (Some(key), None) => return Some(Credential::Bearer(key)),
            (None, _) if kind.entry.api_key == ApiKey::Optional => return Some(Credential::None),
            (None, _) => {}
        }
        if !["api_key", "api_key_file"].iter().any(|key| written(&provider.written, key).is_some()) {
            let token = if kind.entry.access_token { ", or `access_token`" } else { "" };
            let message = format!("`api_key` is missing: a provider of kind {} needs it, or `api_key_file`{token}", kind.name);
            self.add(provider.at, message);
        }
        None
    }

    fn api_key(&mut self, provider: &mut file::Provider) -> Option<Secret> {
        if let (Some(_), Some(path)) = (&provider.api_key, &provider.api_key_file) {
            self.add(path.at, "`api_key` and `api_key_file` exclude each other; write one of them");
            return None;
        }
        if let Some(path) = provider.api_key_file.take() {
            return self.reader.secret_file(&path);
        }
        provider.api_key.take().and_then(|key| self.reader.secret(&key.value))
    }

    /// The servers of `base_urls`; none without it.
    fn replicas(&mut self, provider: &file::Provider) -> Vec<BaseUrl> {
        let Some(urls) = &provider.base_urls else { return Vec::new() };
        if let Some(url) = &provider.base_url {
            self.add(url.at, "`base_url` and `base_urls` exclude each other");
        }
        if urls.value.is_empty() {
            self.add(urls.at, "`base_urls` must have at least one URL, like http://10.0.0.7:8000/v1");
        }
        let mut bases: Vec<BaseUrl> = Vec::new();
        for url in &urls.value {
            let Some(base) = self.parsed_base("base_urls", url) else { continue };
            if bases.contains(&base) {
                self.add(url.at, "`base_urls`: this server is listed twice");
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
        self.add(url.at, problem);
        None
    }

    fn base_url(&mut self, kind: &Kind, provider: &file::Provider, default: &str) -> Option<BaseUrl> {
        if let Some(url) = &provider.base_url {
            return self.parsed_base("base_url", url);
        }
        if kind.self_hosted() {
            if written(&provider.written, "base_url").is_none() {
                let message = format!("`base_url` is missing: a provider of kind {} needs it, like http://10.0.0.7:8000/v1", kind.name);
                self.add(provider.at, message);
            }
            return None;
        }
        base_url(default).ok()
    }

    /// Headers of the operator's own.
    pub(super) fn headers(&mut self, headers: Named<SecretValue>) -> Vec<(HeaderName, HeaderValue)> {
        let mut list = Vec::new();
        for (name, value) in headers.entries {
            let Ok(header) = HeaderName::from_bytes(name.value.as_bytes()) else {
                self.add(name.at, format!("`{}` is no name of a header", shown_key(&name.value, value.is_none())));
                continue;
            };
            if OWN_HEADERS.contains(&header.as_str()) {
                self.add(name.at, format!("the header `{header}` is the gateway's own and cannot be set"));
            }
            if list.iter().any(|(known, _)| *known == header) {
                self.add(name.at, format!("duplicate header `{header}`"));
            }
            let Some(value) = value.and_then(|value| self.reader.secret(&value)) else { continue };
            match HeaderValue::from_str(value.expose()) {
                Ok(mut value) => {
                    value.set_sensitive(true);
                    list.push((header, value));
                }
                Err(_) => self.add(name.at, format!("the value of the header `{header}` must be ASCII text")),
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
            self.add(at, format!("`{key}` needs `{other}`"));
        }
        None
    }
}

/// The part of a kind's base URL that a provider uses: all of it without a `base_url` of its own; its query if the provider's own
/// URL has none; otherwise nothing.
fn needed<'k>(kinds: &'k str, provider: &file::Provider) -> &'k str {
    let own: Vec<&At<String>> = provider.base_url.iter().chain(provider.base_urls.iter().flat_map(|urls| &urls.value)).collect();
    match kinds.find('?').and_then(|at| kinds.split_at_checked(at)) {
        _ if own.is_empty() => kinds,
        Some((_, query)) if own.iter().any(|url| !url.value.contains('?')) => query,
        _ => "",
    }
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
