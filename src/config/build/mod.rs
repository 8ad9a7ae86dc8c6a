//! From the user's file to the [`Snapshot`], with every problem that shows only when things are put together.
//!
//! Each part goes on after a problem, so that one `tidegate check` shows them all; there is a snapshot only when there
//! were none.

mod base_url;
mod limit;
mod listen;
mod price;
mod provider;
mod proxy;
mod route;
pub(super) mod team;
mod tracing;

use super::file::{Cors as FileCors, File, LimitStore as FileLimitStore, Server as FileServer};
use super::key_files::{Applied, KeysDir};
use super::problem::Problem;
use super::snapshot::{Cors, Server, Snapshot, Trust};
use super::types::{AttributeEntry, Origin, STORE_URL, Store, Threads, TrustedPeer};
use crate::auth::tenants::Tenants;
use crate::limit::rule::LimitStore;
use crate::pem::{self, Certificates, Identity};
use crate::provider::Provider;
use crate::provider::price::PriceWord;
use crate::route::settings::{Route, Routes};
use crate::telemetry::attribute::{self, Attribute};
use crate::telemetry::log::Log;
use crate::yaml::problem::Position;
use crate::yaml::read::Reader;
use crate::yaml::value::{At, Named, SecretValue};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

/// Largest file with certificates, in bytes; a system's whole bundle has a quarter of a megabyte.
const MAX_PEM: u64 = 4 << 20;
/// Longest name of a provider, route, team or key, in bytes.
const MAX_NAME: usize = 256;

/// After so many problems no more time is spent on hints.
const MAX_HINTED: usize = 100;

/// What building collects.
pub struct Builder<'a> {
    /// What the reader of the file has collected so far.
    pub reader: Reader<'a>,
    /// The time, in seconds since the epoch.
    pub now: i64,
    /// The key files of the configuration that is in force.
    pub before: Option<&'a KeysDir>,
    /// What targets cost that have no `price`.
    pub default_price: PriceWord,
    /// Problems of key files. The main file is valid in spite of them.
    pub key_problems: Vec<Problem>,
    /// Whether a key file that is in force is not valid with this configuration.
    pub has_lost_keys: bool,
}

impl<'a> Builder<'a> {
    /// One that has collected nothing.
    pub fn new(reader: Reader<'a>, now: i64) -> Self {
        Self { reader, now, before: None, default_price: PriceWord::None, key_problems: Vec::new(), has_lost_keys: false }
    }
}

impl Builder<'_> {
    /// Makes the snapshot; what is missing from a broken one is among the problems.
    pub fn build(&mut self, mut file: File) -> Snapshot {
        let listen = self.listen(&file);
        if file.routes.known && file.routes.entries.is_empty() {
            let at = written(&file.written, "routes").unwrap_or(file.at);
            self.add(at, "`routes` is missing or empty; without a route there is nothing to serve");
        }
        self.default_price = file.price;
        let egress = self.egress(&file.server);
        let providers = self.providers(file.providers, &egress);
        let (by_name, mut routes) = self.routes(file.routes, &providers, file.server.keep_alive);
        self.issuers_teams(&file.auth, &file.teams, file.keys_dir.is_some());
        let mode = self.auth(file.auth, &egress);
        let tenants = self.tenants(mode, file.teams, &by_name);
        routes.list = by_name.into_values();
        let providers = providers.into_values();
        let tracing = file.tracing.and_then(|tracing| self.tracing(tracing, &egress));
        let (tenants, keys_dir) = self.key_files(file.keys_dir, tenants, &routes);
        Snapshot {
            digest: [0; 32], // of the text, which only its reader has
            seal_keys: self.seal_keys(std::mem::take(&mut file.server.seal_keys), &providers),
            secrets: Arc::new(provider::secrets(&providers, tracing.as_ref())),
            listen,
            admin: file.admin.address.value,
            server: server(file.server),
            providers,
            routes,
            tenants,
            keys_dir,
            limit_store: self.limit_store(file.limits),
            attributes: self.attributes(file.log.attributes),
            log: Log { format: file.log.format, level: file.log.level, access: file.log.access },
            tracing,
        }
    }

    fn attributes(&mut self, entries: Named<AttributeEntry>) -> Vec<Attribute> {
        let mut attributes = Vec::with_capacity(entries.entries.len());
        for (name, entry) in entries.entries {
            let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
            if name.value.is_empty() || name.value.len() > attribute::MAX_NAME || !name.value.bytes().all(is_plain) {
                let most = attribute::MAX_NAME;
                self.add(name.at, format!("the name of an attribute must have 1 to {most} lower-case letters, digits and `_`"));
            }
            if attributes.len() == attribute::MAX_ATTRIBUTES {
                self.add(name.at, format!("`attributes` has at most {} entries", attribute::MAX_ATTRIBUTES));
            }
            let Some(entry) = entry else { continue };
            let mut values: Vec<Arc<str>> = Vec::with_capacity(entry.values.len());
            for value in entry.values {
                let problem = match value.value.as_str() {
                    "" => "a value must not be empty",
                    known if known.len() > attribute::MAX_VALUE => "a value has at most 128 bytes",
                    known if known.chars().any(char::is_control) => "a value must have no control characters",
                    attribute::NONE | attribute::OTHER => "`none` and `other` count requests without the attribute and with another value",
                    known if values.iter().any(|other| **other == *known) => "duplicate value",
                    _ if values.len() == attribute::MAX_VALUES => "an attribute has at most 100 values",
                    known => {
                        values.push(known.into());
                        continue;
                    }
                };
                self.add(value.at, format!("`values`: {problem}"));
            }
            attributes.push(Attribute { name: name.value.into(), source: entry.from, values });
        }
        attributes
    }

    /// Adds the teams and keys of `keys_dir`. Key files are read only if the main file has no problems, because they refer to its
    /// routes; their own problems go to `key_problems`.
    fn key_files(&mut self, path: Option<At<PathBuf>>, own: Tenants, routes: &Routes) -> (Tenants, Option<KeysDir>) {
        let Some(At { at, value: path }) = path.filter(|_| self.reader.problems.count() == 0) else { return (own, None) };
        let before = self.before.filter(|dir| dir.path == path).map_or(&[][..], |dir| &dir.in_force);
        let own = Arc::new(own);
        match Applied::load(&path, own.clone(), &ByName::of_routes(routes), before, (self.reader.env, self.now)) {
            Ok(applied) => {
                self.key_problems = applied.problems;
                self.has_lost_keys = applied.lost;
                (applied.tenants, Some(applied.dir))
            }
            Err(why) => {
                self.add(at, format!("`keys_dir`: {why}"));
                (Arc::unwrap_or_clone(own), None)
            }
        }
    }

    /// Notes a problem.
    fn add(&mut self, at: Position, message: impl Into<String>) {
        self.reader.problems.add(at, message);
    }

    /// A certificate chain and the key to it.
    fn identity(&mut self, certificate: &At<PathBuf>, key: &At<PathBuf>) -> Option<Arc<Identity>> {
        let chain = self.pem(certificate, Certificates::parse);
        let private = self.pem(key, pem::key);
        match Identity::new(chain?, private?) {
            Ok(identity) => {
                if let Some(end) = identity.chain.end().and_then(|end| super::review::expiry(end, self.now)) {
                    self.reader.problems.warn(certificate.at, format!("the certificate {end}"));
                }
                Some(Arc::new(identity))
            }
            Err(what) => self.reader.useless(key.at, what),
        }
    }

    /// What is in a PEM file.
    fn pem<T>(&mut self, path: &At<PathBuf>, parse: impl FnOnce(&[u8]) -> Result<T, &'static str>) -> Option<T> {
        match parse(&self.reader.file_bytes(path, MAX_PEM)?) {
            Ok(found) => Some(found),
            Err(what) => self.reader.useless(path.at, what),
        }
    }

    /// The key that seals what providers want back, and those that open it too. Without one it is derived from what changes
    /// neither with a credential nor with a client's key: the names of the providers.
    fn seal_keys(&mut self, keys: Vec<At<SecretValue>>, providers: &[Arc<Provider>]) -> ([u8; 32], Vec<[u8; 32]>) {
        let mut all = Vec::with_capacity(keys.len());
        for At { at, value } in keys {
            let Some(secret) = self.reader.secret(&value) else { continue };
            if secret.expose().len() < MIN_SEAL_KEY {
                self.add(at, format!("a seal key needs {MIN_SEAL_KEY} characters or more; `openssl rand -hex 32` makes one"));
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
                Store::RedisFile(path) => self.reader.secret_file(&path).inspect(|url| {
                    if !crate::limit::redis::is_url(url.expose()) {
                        self.add(path.at, format!("the text in this file must be {STORE_URL}"));
                    }
                }),
            },
            on_failure: store.on_store_failure,
            timeout: store.store_timeout.0,
            lease: store.lease.map(|lease| lease.0),
        }
    }

    /// The closest of the names that exist, as the end of a message.
    fn did_you_mean<'a>(&self, name: &str, names: impl Iterator<Item = &'a str>) -> String {
        if self.reader.problems.count() > MAX_HINTED {
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
            self.add(name.at, format!("the name of a {what} has 1 to {MAX_NAME} bytes, without white space"));
        }
        Arc::from(text)
    }
}

/// Things by the user's name for them, in the order of the file. `None` stands for one whose section was wrong.
pub(in crate::config) struct ByName<T> {
    items: Vec<Option<T>>,
    index: HashMap<String, usize>,
    known: bool,
}

/// What a name stands for.
pub(super) enum Lookup<'a, T> {
    /// This.
    Item(&'a T),
    /// Something whose own section is wrong, which has been said.
    Wrong,
    /// Nothing.
    Nobody,
}

impl ByName<Arc<Route>> {
    /// The routes of a configuration.
    pub(in crate::config) fn of_routes(routes: &Routes) -> Self {
        let mut all = Self::new(true);
        for route in routes.iter() {
            route.aliases.iter().for_each(|alias| all.also(alias, route.index));
            all.push(route.name.to_string(), Some(Arc::clone(route)));
        }
        all
    }
}

impl<T> ByName<T> {
    /// Nothing yet. `known` is false where the names could not be read.
    fn new(known: bool) -> Self {
        Self { items: Vec::new(), index: HashMap::new(), known }
    }

    /// Another name of the item at this place, if none has it.
    fn also(&mut self, name: &str, index: usize) {
        self.index.entry(name.to_owned()).or_insert(index);
    }

    fn push(&mut self, name: String, item: Option<T>) {
        self.index.insert(name, self.items.len());
        self.items.push(item);
    }

    fn find(&self, name: &str) -> Lookup<'_, T> {
        let Some(index) = self.index.get(name) else { return if self.known { Lookup::Nobody } else { Lookup::Wrong } };
        match self.items.get(*index) {
            Some(Some(item)) => Lookup::Item(item),
            _ => Lookup::Wrong,
        }
    }

    fn values(&self) -> impl Iterator<Item = &T> {
        self.items.iter().flatten()
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
