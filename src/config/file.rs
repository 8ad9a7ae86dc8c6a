//! What a user may write: every key of the configuration, with its documentation and its default.
//!
//! The reader and the JSON Schema are both made from these lists. What a key means together with others is checked in
//! [`super::build`].

use super::snapshot::{ListenAddress, ResponseModel, StreamUsage};
use super::tls::{ClientCertificate, MinVersion};
use super::types::{
    Attempts, AttributeEntry, AttributeSource, BodySize, Connections, Count, Deadline, Digest, Failures, FileMode, Lease, MaxConnections,
    Origin, Percent, Period, Reason, RetriesPerSecond, Share, Store, StoreTimeout, ThinkTags, Threads, Timestamp, TrustedPeer, Unsupported,
    Weight,
};
use crate::auth::jwt::settings::Auth;
use crate::limit::rule::StoreFailure;
use crate::provider::HttpVersion;
use crate::provider::catalogue::Kind;
use crate::provider::price::{PriceSetting, PriceWord};
use crate::provider::protocol::{ProviderKeys, TargetKeys};
use crate::route::settings::Balance;
use crate::telemetry::log::LogFormat;
use crate::telemetry::spans::Compression;
use crate::yaml::json::Fields;
use crate::yaml::money::Money;
use crate::yaml::read::Read;
use crate::yaml::section::section;
use crate::yaml::value::{At, Named, SecretValue, Some1, Tokens};
use serde_json::{Value as Json, json};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

section! {
    /// Tidegate's configuration.
    File {
        /// Where clients connect: HTTP/1.1 and h2c, or TLS with HTTP/2 by ALPN. Default: 127.0.0.1:3000 without TLS.
        listen: Option<Some1<Listen>>,
        /// Where Prometheus and the orchestrator connect: /metrics, /healthz, /readyz, /status.
        admin: Admin = "{}",
        /// What holds for every connection.
        server: Server = "{}",
        /// The providers by name.
        providers: Named<(Provider, ProviderKeys)>,
        /// What a client may put into `model`, and where it goes. A name with one `*` is a pattern.
        routes: Named<Route>,
        /// `keys`: every request needs a key of a team. `none`: nobody is asked, every route is open. Or a mapping, for tokens of
        /// identity providers beside keys.
        auth: Auth = "keys",
        /// The teams by name, with their keys and limits.
        teams: Named<Team>,
        /// A directory with one YAML file per team, whose keys change without this file: every `*.yaml` in it has the keys of a team
        /// of `teams`, or a team of its own with `routes`, `limits`, `keys` and `users`. It is named after its team, unless it has `team`.
        keys_dir: Option<At<PathBuf>>,
        /// Where limits are counted.
        limits: LimitStore = "{}",
        /// What targets cost that have no `price`: what the price catalogue says of their models (`tidegate prices`), or nothing.
        price: PriceWord = "none",
        /// What goes to stdout.
        log: Log = "{}",
        /// Where spans of requests go, by OTLP over HTTP. Default: nowhere.
        tracing: Option<Tracing>,
    }

    /// A listener.
    Listen {
        /// Address and port; port 0 is any free one. Or a Unix socket, like unix:/run/tidegate/api.sock: a file that nobody
        /// listens on any more is replaced.
        address: At<ListenAddress>,
        /// Who may connect to a Unix socket: the mode of its file, in octal. Default: 0660, its owner and group.
        mode: Option<At<FileMode>>,
        /// Certificates, versions and clients' certificates.
        tls: Option<ListenTls>,
        /// Whether every connection begins with a header of the PROXY protocol, version 1 or 2, which has the client's address.
        /// Only from `server.trust_forwarded_for`; other connections are closed.
        proxy_protocol: At<bool> = "false",
    }

    /// How a listener speaks TLS.
    ListenTls {
        /// File with the PEM certificate chain.
        certificate: Option<At<PathBuf>>,
        /// File with the PEM key.
        key: Option<At<PathBuf>>,
        /// In place of `certificate` and `key`, several of them, chosen by the name that a client asks for. The names are those
        /// in the certificates (subjectAltName). A client that asks for none of them gets the first.
        certificates: Option<Some1<CertificateAndKey>>,
        /// The oldest version that is accepted.
        min_version: MinVersion = "1.2",
        /// PEM bundle of the authorities that sign clients' certificates.
        client_ca: Option<At<PathBuf>>,
        /// Whether a client needs a certificate, where there is `client_ca`. `optional`: one without is served too, and one
        /// that is shown must be good. Default: required.
        client_certificate: Option<At<ClientCertificate>>,
    }

    /// A certificate and its key.
    CertificateAndKey {
        /// File with the PEM certificate chain.
        certificate: At<PathBuf>,
        /// File with the PEM key.
        key: At<PathBuf>,
    }

    /// The admin listener.
    Admin {
        /// Address and port. It has no authentication: keep it on a private address.
        address: At<SocketAddr> = "127.0.0.1:9464",
    }

    /// What holds for every connection.
    Server {
        /// Worker threads; 0 is one per core.
        threads: Threads = "0",
        /// Most client connections at once, on all listeners together. One more is accepted, closed and counted. 0: as many as
        /// the limit of open files allows, which is (limit - 128) / 2.
        max_connections: MaxConnections = "0",
        /// Largest request body; a larger one is answered 413.
        max_body: BodySize = "32MiB",
        /// From the first byte of a request to the end of its headers.
        header_timeout: Deadline = "10s",
        /// For the whole body of a request, and for a client to take a piece of its answer.
        body_timeout: Deadline = "30s",
        /// After this long without a byte to the client of a stream, a heartbeat is sent, and again after each such silence.
        /// 0: never. A route may override it.
        keep_alive: Duration = "25s",
        /// Keys that seal what providers want back and clients carry, each of 16 characters or more: the first seals, all open. All
        /// nodes need the same. Without any, the key is derived from the names of the providers, which is no secret.
        seal_keys: Vec<At<SecretValue>> = "[]",
        /// How long a client connection without a request is kept. A load balancer's own idle timeout must be shorter.
        client_idle_timeout: Deadline = "75s",
        /// How long, after SIGTERM, everything is still accepted while `/readyz` is already 503.
        drain_delay: Duration = "0s",
        /// How long a drain waits for streams in flight.
        drain_timeout: Duration = "60s",
        /// How long SIGQUIT waits for a `run --upgrade` that serves, and `run --upgrade` for SIGQUIT. Without a successor in
        /// that time the process continues to serve.
        upgrade_timeout: Deadline = "30s",
        /// The socket by which `run --upgrade` gets the listeners of the process before it. Default: one of this
        /// configuration's own in a private directory below $RUNTIME_DIRECTORY, $XDG_RUNTIME_DIR or the one for temporary files.
        upgrade_socket: Option<PathBuf>,
        /// Where a stream's usage goes: on the chunk with the finish_reason, or on one more chunk without choices.
        stream_usage: StreamUsage = "merged",
        /// What answers have as `model`: what the client asked for, or the name of the model that answered.
        response_model: ResponseModel = "asked",
        /// Networks whose `x-forwarded-for` and PROXY protocol are believed; `unix` stands for Unix sockets.
        trust_forwarded_for: Vec<TrustedPeer> = "[]",
        /// Which web pages may use the API from a browser.
        cors: Cors = "{}",
        /// Whether HTTPS_PROXY, HTTP_PROXY and NO_PROXY of the environment (or in lower case, which comes first) hold for providers,
        /// for fetching their credentials and the keys of issuers, and for traces. This machine and link-local addresses are always reached directly.
        proxy_from_environment: bool = "false",
    }

    /// Which web pages may use the API from a browser.
    Cors {
        /// Their origins, like `https://app.example.com`, or `*` for all. Default: none.
        origins: Vec<Origin> = "[]",
        /// How long a browser may remember the answer to a preflight.
        max_age: Duration = "1h",
    }

    /// A provider: a dialect at a base URL with credentials.
    Provider {
        /// What it is.
        kind: At<&'static Kind>,
        /// What the provider's own SDK calls its base URL. Required for vllm, sglang and openai_compatible. A query, like
        /// `?api-version=2024-10-21`, is sent with every request. A Unix socket is `unix:/run/llm.sock`, with the base URL's path
        /// `unix:/run/llm.sock:/v1`.
        base_url: Option<At<String>>,
        /// Several servers that are one provider, instead of `base_url` (kinds that speak OpenAI): the one with the fewest
        /// requests in flight is asked, each has its own health, and under `sticky` a conversation stays at its own.
        base_urls: Option<At<Vec<At<String>>>>,
        /// The key, or `{ file: PATH }` with it. For bedrock a Bedrock API key; not for sagemaker and vertex.
        api_key: Option<At<SecretValue>>,
        /// A file with the key: the same as `api_key: { file: PATH }`.
        api_key_file: Option<At<PathBuf>>,
        /// Headers to add to every request; a value that is a secret may come from a file: `{ file: PATH }`.
        headers: Named<SecretValue>,
        /// Deadlines.
        timeouts: Timeouts = "{}",
        /// How the provider's certificate is checked.
        tls: Tls = "{}",
        /// The HTTP proxy on the way to the provider and to where its credentials are fetched, like
        /// http://user:password@proxy:3128 (https by CONNECT, http in absolute form), or `none`. Default: what
        /// `server.proxy_from_environment` says.
        proxy: Option<At<SecretValue>>,
        /// A file with the proxy's URL: the same as `proxy: { file: PATH }`.
        proxy_file: Option<At<PathBuf>>,
        /// Version of HTTP. `auto`: over TLS what the provider chooses, HTTP/2 where it can; HTTP/1.1 otherwise. `2` without
        /// TLS is HTTP/2 by prior knowledge.
        http: HttpVersion = "auto",
        /// Most requests in flight at once. Default: no bound.
        max_connections: Option<Connections>,
        /// Limits that everyone who uses the provider shares.
        limits: Vec<Limit>,
    }

    /// Deadlines of an attempt. A provider's defaults: connect 5s, first_byte 60s for streams and 600s for buffered requests,
    /// first_token 120s, between_bytes 60s, total none; a route's default to its providers'.
    Timeouts {
        /// For a connection, TLS included.
        connect: Option<Deadline>,
        /// From the request sent to the response headers; for a buffered request, to the first byte of the answer's body.
        first_byte: Option<Deadline>,
        /// From the request sent to the first content of a stream.
        first_token: Option<Deadline>,
        /// Between two reads of the answer.
        between_bytes: Option<Deadline>,
        /// For the whole attempt.
        total: Option<Deadline>,
    }

    /// How a provider's certificate is checked.
    Tls {
        /// PEM bundle that replaces the system's roots.
        ca_file: Option<At<PathBuf>>,
        /// Whether the certificate is checked at all.
        verify: bool = "true",
        /// Name to ask for and to check, where it is not the host.
        server_name: Option<String>,
        /// PEM certificate that the gateway shows; needs `client_key`.
        client_certificate: Option<At<PathBuf>>,
        /// PEM key to `client_certificate`.
        client_key: Option<At<PathBuf>>,
    }

    /// A route.
    Route {
        /// Tried first, by weight; the next on failure.
        targets: At<Some1<(Target, TargetKeys)>>,
        /// Tried in order when every target has failed or is cooling down.
        fallback: Vec<(Target, TargetKeys)>,
        /// Further names of the route, with the same limits and counters. A pattern has none.
        aliases: Vec<At<String>>,
        /// How a target is chosen. `weighted`: at random, by weight. `least_requests`: of two at random, the one with
        /// fewer requests in flight. `latency`: of two at random, the one that begins to answer sooner. `sticky`: the
        /// same one for the same episode_id, else the same `user`, else the same key.
        balance: Balance = "weighted",
        /// When a failure moves on to the next target.
        retry: Retry = "{}",
        /// When failures keep a target out. Where all targets are out, the best one is asked all the same.
        ejection: Ejection = "{}",
        /// Deadlines that override the provider's.
        timeouts: Timeouts = "{}",
        /// The heartbeat of its streams. Default: `server.keep_alive`.
        keep_alive: Option<Duration>,
        /// A system prompt that stands before the client's own.
        system: Option<String>,
        /// Defaults and overrides of request fields.
        params: Params = "{}",
        /// Limits that everyone who uses the route shares.
        limits: Vec<Limit>,
    }

    /// A provider and a model there.
    Target {
        /// Name of a provider.
        provider: At<String>,
        /// The model there; for sagemaker the endpoint's name. In a pattern route `*` is what the route's `*` matched.
        model: At<String>,
        /// Its share of the first tries; 0 is only reached when others have failed.
        weight: At<Weight> = "1",
        /// What it costs. `catalogue`: what Tidegate's price catalogue says of the model (`tidegate prices`). Default: `price` of the file.
        price: Option<At<PriceSetting>>,
        /// How many tokens the model takes, prompt and answer together. A request that is estimated at more than twice as
        /// many is not sent there, where another target takes more.
        context: Option<Tokens>,
        /// What the model is called in Anthropic's list of models.
        display_name: Option<String>,
        /// What happens to a `<think>` text inside the content: left where it is, or moved to reasoning_content.
        think_tags: ThinkTags = "keep",
    }

    /// When a failure moves on to the next target.
    Retry {
        /// Tries in all, the first one included. Default: the number of targets and fallbacks, at most 4.
        attempts: Option<Attempts>,
        /// Which failures move on. `credential`: 401, 402, 403 and an unpaid account; `not_found`: a 404 for the model;
        /// `context_length`: a prompt that is too long, once, to a target with another model; `content_filter` (not by default):
        /// a prompt or an answer that the provider's policy forbids. Of these four the same target is never asked again.
        on: Vec<Reason> = "[connect, timeout, rate_limited, server_error, credential, not_found, context_length]",
        /// The wait before the same target is asked again. Where only targets are left whose provider has asked for a pause,
        /// the one with the shortest is waited for, if that is at most `max`.
        backoff: Backoff = "{}",
        /// The most retries at providers that their request has already asked, of all of the route's, so that an outage is not
        /// multiplied. Once it is spent, only other providers are asked.
        budget: Budget = "{}",
    }

    /// The most retries at providers that their request has already asked, counted over ten seconds.
    Budget {
        /// A share of the route's requests.
        share: Share = "0.2",
        /// So many a second are always allowed.
        per_second: RetriesPerSecond = "10",
    }

    /// The wait before the same target is asked again; it doubles each time.
    Backoff {
        /// The first wait.
        initial: Duration = "100ms",
        /// The longest wait.
        max: Duration = "2s",
    }

    /// When failures keep a target out: failed connections, deadlines, 5xx and broken answers. A target whose credential or
    /// model is refused is out at once, whatever stands here, until a request finds it back after the cooldown.
    Ejection {
        /// So many failures; 0: never.
        failures: Failures = "5",
        /// That are at least this share of the target's attempts, or all of the last ones.
        share: Share = "0.5",
        /// Within this time.
        window: Deadline = "30s",
        /// For how long, until one request tries whether it is back.
        cooldown: Cooldown = "{}",
    }

    /// How long a target is kept out; it doubles each time that it was not back.
    Cooldown {
        /// The first time.
        initial: Deadline = "5s",
        /// The longest.
        max: Deadline = "30s",
    }

    /// Request fields that the route sets.
    Params {
        /// Used where the client gives none.
        defaults: Fields,
        /// Used whatever the client gives.
        overrides: Fields,
        /// What happens to a hint that a provider has no counterpart for: dropped and named in a header, or a 400.
        unsupported: Unsupported = "drop",
    }

    /// A limit: one of requests, tokens, concurrent and usd.
    Limit {
        /// Requests per period.
        requests: Option<At<Count>>,
        /// Prompt and completion tokens per period: reserved by a request's size and `max_tokens`, settled by what was used.
        /// An image, a file or a recording is reserved as 4 KiB of text at most.
        tokens: Option<At<Count>>,
        /// Requests in flight; has no period.
        concurrent: Option<At<Count>>,
        /// US dollars per period, by the `price` of targets; a target without one costs nothing.
        usd: Option<At<Money>>,
        /// The period, from 1s to 30d: requests and tokens refill smoothly in it, `usd` is renewed in full when it ends. `day`
        /// and `month`, by the calendar in UTC: whatever is counted is renewed in full when they end.
        per: Option<At<Period>>,
        /// How much may be used at once; not with `day` and `month`. Default: the amount itself.
        burst: Option<At<Money>>,
        /// The share of the limit, like 80%, that is warned of when it is used: with a line in the log and in
        /// tidegate_limit_warnings_total. Nothing is refused.
        warn: Option<Percent>,
        /// In a limit of a team or a key: the only routes whose requests it applies to, and which it counts together. Names and
        /// patterns as in `routes` of a team. Default: all.
        routes: Option<At<Vec<At<String>>>>,
    }

    /// A tenant.
    Team {
        /// Routes it may use: names and aliases of `routes`, and patterns with one `*`, which stand for the route of that name, else
        /// for all that they match. Default: all.
        routes: Option<Vec<At<String>>>,
        /// Limits that its keys share.
        limits: Vec<Limit>,
        /// Its keys; `tidegate key new --id ID` makes one.
        keys: Vec<ClientKey>,
        /// Those of its users who show tokens (`auth.jwt`) that have limits or routes of their own, or are refused. All others share
        /// the team's.
        users: Vec<User>,
    }

    /// A file of `keys_dir`.
    KeyFileTeam {
        /// The team that it is for. Default: the name of the file without `.yaml`.
        team: Option<At<String>>,
    }

    /// A client's key, known by its digest only.
    ClientKey {
        /// The name for it in logs.
        id: At<String>,
        /// SHA-256 of the key's text, 64 hexadecimal digits.
        sha256: At<Digest>,
        /// When it stops working (RFC 3339).
        expires: Option<Timestamp>,
        /// Whether it is refused.
        disabled: bool = "false",
        /// Narrows the team's routes. Default: all of the team's.
        routes: Option<Vec<At<String>>>,
        /// Its own limits.
        limits: Vec<Limit>,
    }

    /// A user who shows tokens.
    User {
        /// What the issuer's `key_claim` is in them.
        id: At<String>,
        /// Whether they are refused.
        disabled: bool = "false",
        /// Narrows the team's routes. Default: all of the team's.
        routes: Option<Vec<At<String>>>,
        /// The user's own limits.
        limits: Vec<Limit>,
    }

    /// Where limits are counted.
    LimitStore {
        /// `memory` counts per process; `redis://[[user]:password@]host[:port][/db]`, or `rediss://` for TLS, counts
        /// across all nodes. `redis-sentinel://host[:port],…/name` is the primary that Sentinels name,
        /// `redis-cluster://host[:port],…` a cluster, which gives availability, not scale. `{ file: PATH }` reads the URL
        /// from a file.
        store: Store = "memory",
        /// What a request gets while the shared store fails or is late: `local` counts in this process, `allow` does
        /// not count, `deny` answers 503.
        on_store_failure: StoreFailure = "local",
        /// How long a request waits for the shared store.
        store_timeout: StoreTimeout = "20ms",
        /// Takes requests and tokens from the shared store in advance, for this long, and decides in the process as long
        /// as they last. Default: every request asks the store.
        lease: Option<Lease>,
    }

    /// What goes to stdout.
    Log {
        /// One JSON object a line, the same as text (`key=value`), or a few words for a terminal (`short`).
        format: LogFormat = "json",
        /// Least severe level that is written.
        level: log::LevelFilter = "info",
        /// Whether every request gets a line.
        access: bool = "true",
        /// Headers and fields of requests that are put into the access log, by the name that they have there: at most 16, each
        /// value at most 128 bytes.
        attributes: Named<AttributeEntry>,
    }

    /// A header or a field, and the values that are label values.
    AttributeKeys {
        /// A header that carries no credentials, like x-agent-name, or one of the fields user, safety_identifier,
        /// prompt_cache_key, service_tier, reasoning_effort and metadata.NAME.
        from: AttributeSource,
        /// Values that are counted in metrics of their own; all others count as `other`. Default: no metrics.
        values: Vec<At<String>>,
    }

    /// Where spans of requests go: OTLP over HTTP, in protobuf.
    Tracing {
        /// The base URL of an OpenTelemetry collector, like http://127.0.0.1:4318; /v1/traces is appended.
        otlp: At<String>,
        /// The share of requests that are traced. A `traceparent` decides for itself, by its sampled flag, where the client is
        /// authenticated or `auth` is `none`.
        sample: Share = "1",
        /// Headers of every export; a value that is a secret may come from a file: `{ file: PATH }`.
        headers: Named<SecretValue>,
        /// `service.name` of the spans.
        service_name: At<String> = "tidegate",
        /// `gzip` compresses exports.
        compression: Compression = "none",
    }
}

/// The JSON Schema of the whole file.
pub fn schema() -> Json {
    let mut schema = File::schema();
    if let Some(object) = schema.as_object_mut() {
        object.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
        object.insert("title".to_owned(), json!("Tidegate configuration"));
    }
    schema
}
