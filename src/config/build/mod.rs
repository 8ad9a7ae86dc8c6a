//! From the user's file to the [`Snapshot`], with every problem that shows only when things are put together.
//!
//! Each part goes on after a problem, so that one `tidegate check` shows them all; there is a snapshot only when there
//! were none.

mod base_url;
mod limit;
mod listen;
mod provider;
mod proxy;
mod route;
mod team;

use super::file::{Cors as FileCors, File, LimitStore as FileLimitStore, Server as FileServer};
use super::snapshot::{Cors, Server, Snapshot, Trust};
use super::types::{Origin, STORE_URL, SecretValue, Store, Threads, TrustedPeer, secret};
use crate::config::excerpt::shown_path;
use crate::limit::rule::LimitStore;
use crate::pem::{self, Certificates, Identity};
use crate::provider::Provider;
use crate::secret::Secret;
use crate::telemetry::log::Log;
use crate::yaml::env::Env;
use crate::yaml::problem::{Position, Problems};
use crate::yaml::read::At;
use std::collections::HashMap;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Largest file with a key or a credential, in bytes.
const MAX_REFERRED: u64 = 64 * 1024;
/// Largest file with certificates, in bytes; a system's whole bundle has a quarter of a megabyte.
const MAX_PEM: u64 = 4 << 20;
/// Longest name of a provider, route, team or key, in bytes.
const MAX_NAME: usize = 256;

/// After so many problems no more time is spent on hints.
const MAX_HINTED: usize = 100;

/// What building collects.
pub struct Builder {
    /// What was wrong.
    pub problems: Problems,
    /// Every file that the configuration refers to, each once.
    pub files: Vec<PathBuf>,
    /// The time, in seconds since the epoch.
    pub now: i64,
}

impl Builder {
    /// Makes the snapshot; what is missing from a broken one stands in `problems`.
    pub fn build(&mut self, mut file: File, env: Env<'_>) -> Snapshot {
        let listen = self.listen(&file);
        if file.routes.known && file.routes.entries.is_empty() {
            let at = written(&file.written, "routes").unwrap_or(file.at);
            self.problems.add(at, "`routes` is missing or empty; without a route there is nothing to serve");
        }
        let egress = self.egress(&file.server, env);
        let providers = self.providers(file.providers, &egress);
        let (by_name, mut routes) = self.routes(file.routes, &providers, file.server.keep_alive);
        let tenants = self.tenants(file.auth, file.teams, &by_name);
        routes.list = by_name.into_values();
        let providers = providers.into_values();
        Snapshot {
            seal_keys: self.seal_keys(std::mem::take(&mut file.server.seal_keys), &providers),
            secrets: provider::secrets(&providers),
            listen,
            admin: file.admin.address.value,
            server: server(file.server),
            providers,
            routes,
            tenants,
            limit_store: self.limit_store(file.limits),
            log: Log { format: file.log.format, level: file.log.level, access: file.log.access },
        }
    }

    /// A certificate chain and the key to it.
    fn identity(&mut self, certificate: &At<PathBuf>, key: &At<PathBuf>) -> Option<Arc<Identity>> {
        let chain = self.pem(certificate, Certificates::parse);
        let private = self.pem(key, pem::key);
        match Identity::new(chain?, private?) {
            Ok(identity) => {
                if let Some(end) = identity.chain.end().and_then(|end| super::review::expiry(end, self.now)) {
                    self.problems.warn(certificate.at, format!("the certificate {end}"));
                }
                Some(Arc::new(identity))
            }
            Err(what) => self.useless(key, what),
        }
    }

    /// What is in a PEM file.
    fn pem<T>(&mut self, path: &At<PathBuf>, parse: impl FnOnce(&[u8]) -> Result<T, &'static str>) -> Option<T> {
        match parse(&self.file_bytes(path, MAX_PEM)?) {
            Ok(found) => Some(found),
            Err(what) => self.useless(path, what),
        }
    }

    fn useless<T>(&mut self, path: &At<PathBuf>, what: &str) -> Option<T> {
        self.problems.add(path.at, format!("the file {what}"));
        None
    }

    /// The text of a small file.
    fn file_text(&mut self, path: &At<PathBuf>) -> Option<String> {
        match String::from_utf8(self.file_bytes(path, MAX_REFERRED)?) {
            Ok(text) => Some(text),
            Err(_) => self.useless(path, "is no UTF-8 text"),
        }
    }

    /// A secret, which may be in a file of its own.
    fn secret(&mut self, value: SecretValue) -> Option<Secret> {
        match value {
            SecretValue::Text(secret) => Some(secret),
            SecretValue::File(path) => self.secret_file(&path),
        }
    }

    fn secret_file(&mut self, path: &At<PathBuf>) -> Option<Secret> {
        match secret(self.file_text(path)?) {
            Ok(secret) => Some(secret),
            Err(what) => {
                self.problems.add(path.at, format!("the secret in this file must be {what}"));
                None
            }
        }
    }

    /// The key that seals what providers want back, and those that open it too. Without one it is derived from what changes
    /// neither with a credential nor with a client's key: the names of the providers.
    fn seal_keys(&mut self, keys: Vec<At<SecretValue>>, providers: &[Arc<Provider>]) -> ([u8; 32], Vec<[u8; 32]>) {
        let mut all = Vec::with_capacity(keys.len());
        for At { at, value } in keys {
            let Some(secret) = self.secret(value) else { continue };
            if secret.expose().len() < MIN_SEAL_KEY {
                self.problems.add(at, format!("a seal key needs {MIN_SEAL_KEY} characters or more; `openssl rand -hex 32` makes one"));
            }
            all.push(key_of(b"tidegate seal key", std::iter::once(secret.expose())));
        }
        if all.is_empty() {
            all.push(key_of(b"tidegate seal 2", providers.iter().map(|provider| &*provider.name)));
        }
        (all.remove(0), all)
    }

    fn limit_store(&mut self, store: FileLimitStore) -> LimitStore {
        LimitStore {
            redis: match store.store {
                Store::Memory => None,
                Store::Redis(url) => Some(url),
                Store::RedisFile(path) => self.secret_file(&path).inspect(|url| {
                    if !crate::limit::redis::is_url(url.expose()) {
                        self.problems.add(path.at, format!("the text in this file must be {STORE_URL}"));
                    }
                }),
            },
            on_failure: store.on_store_failure,
            timeout: store.store_timeout.0,
            lease: store.lease.map(|lease| lease.0),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "a configuration is read before it is served, or on a blocking thread")]
    fn file_bytes(&mut self, path: &At<PathBuf>, most: u64) -> Option<Vec<u8>> {
        self.refer(&path.value);
        let mut bytes = Vec::new();
        let read = std::fs::File::open(&path.value).and_then(|file| file.take(most + 1).read_to_end(&mut bytes));
        match read {
            Ok(size) if size as u64 <= most => return Some(bytes),
            Ok(_) => self.problems.add(path.at, format!("the file is larger than {most} bytes")),
            Err(error) => {
                let shown = shown_path(&path.value).map_or_else(|| "the file".to_owned(), |path| format!("the file `{path}`"));
                let why = match error.kind() {
                    ErrorKind::NotFound if path.value.is_relative() => {
                        "there is none; paths are relative to the working directory".to_owned()
                    }
                    ErrorKind::NotFound => "there is none".to_owned(),
                    _ => error.to_string(),
                };
                self.problems.add(path.at, format!("cannot read {shown}: {why}"));
            }
        }
        None
    }

    fn refer(&mut self, path: &Path) {
        if !self.files.iter().any(|known| known == path) {
            self.files.push(path.to_owned());
        }
    }

    /// The closest of the names that exist, as the end of a message.
    fn did_you_mean<'a>(&self, name: &str, names: impl Iterator<Item = &'a str>) -> String {
        if self.problems.count() > MAX_HINTED {
            return String::new();
        }
        match crate::near::nearest(name, names, 1).first() {
            Some(close) => format!("; did you mean `{close}`?"),
            None => String::new(),
        }
    }

    /// Checks a name that goes into headers, metrics and logs.
    fn name(&mut self, what: &str, name: &At<String>) -> Arc<str> {
        let text = name.value.as_str();
        if text.is_empty() || text.len() > MAX_NAME || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            self.problems.add(name.at, format!("the name of a {what} has 1 to {MAX_NAME} bytes, without white space"));
        }
        Arc::from(text)
    }
}

/// Things by the user's name for them, in the order of the file. `None` stands for one whose section was wrong.
pub(super) struct ByName<T> {
    items: Vec<Option<T>>,
    index: HashMap<String, usize>,
    known: bool,
}

/// What a name stands for.
pub(super) enum Lookup<'a, T> {
    /// This, with its place in the file's order.
    Item(usize, &'a T),
    /// Something whose own section is wrong, which has been said.
    Wrong,
    /// Nothing.
    Nobody,
}

impl<T> ByName<T> {
    /// Nothing yet. `known` is false where the names could not be read.
    fn new(known: bool) -> Self {
        Self { items: Vec::new(), index: HashMap::new(), known }
    }

    fn push(&mut self, name: String, item: Option<T>) {
        self.index.insert(name, self.items.len());
        self.items.push(item);
    }

    fn find(&self, name: &str) -> Lookup<'_, T> {
        let Some(index) = self.index.get(name) else { return if self.known { Lookup::Nobody } else { Lookup::Wrong } };
        match self.items.get(*index) {
            Some(Some(item)) => Lookup::Item(*index, item),
            _ => Lookup::Wrong,
        }
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.index.keys().map(String::as_str)
    }

    fn into_values(self) -> Vec<T> {
        self.items.into_iter().flatten().collect()
    }
}

fn server(server: FileServer) -> Server {
    let threads = match server.threads {
        Threads(0) => std::thread::available_parallelism().map_or(1, usize::from),
        Threads(threads) => threads,
    };
    Server {
        threads,
        max_connections: Some(server.max_connections.0).filter(|most| *most > 0),
        max_body: server.max_body.0,
        header_timeout: server.header_timeout.0,
        body_timeout: server.body_timeout.0,
        client_idle_timeout: server.client_idle_timeout.0,
        drain_delay: server.drain_delay,
        drain_timeout: server.drain_timeout,
        upgrade_timeout: server.upgrade_timeout.0,
        upgrade_socket: server.upgrade_socket,
        stream_usage: server.stream_usage,
        response_model: server.response_model,
        trust_forwarded_for: Trust {
            unix: server.trust_forwarded_for.contains(&TrustedPeer::Unix),
            networks: server.trust_forwarded_for.into_iter().filter_map(TrustedPeer::network).collect(),
        },
        cors: cors(server.cors),
    }
}

fn cors(cors: FileCors) -> Option<Cors> {
    let origins: Vec<String> = cors.origins.into_iter().map(|Origin(origin)| origin).collect();
    let any = origins.iter().any(|origin| origin == "*");
    (!origins.is_empty()).then_some(Cors { origins, any, max_age: cors.max_age })
}

/// Where a key of a section was written.
fn written(keys: &[(&'static str, Position)], name: &str) -> Option<Position> {
    keys.iter().find(|(key, _)| *key == name).map(|(_, at)| *at)
}

/// A key out of a text.
fn key_of(label: &[u8], parts: impl Iterator<Item = impl AsRef<[u8]>>) -> [u8; 32] {
    use sha2::{Digest as _, Sha256};
    let mut all = Sha256::new_with_prefix(label);
    for part in parts {
        all.update((part.as_ref().len() as u64).to_be_bytes());
        all.update(part);
    }
    all.finalize().into()
}

/// Fewest bytes of a seal key.
const MIN_SEAL_KEY: usize = 16;
