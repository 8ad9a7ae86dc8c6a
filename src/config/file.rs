//! What a user may write: every key of the configuration, with its documentation and its default.
//!
//! The reader and the JSON Schema are both made from these lists. What a key means together with others is checked in
//! [`super::build`].

use super::json::Fields;
use super::problem::Position;
use super::read::{At, Named, Read, Reader, Some1, section, words};
use super::snapshot::{AuthMode, StoreFailure, StreamUsage};
use super::tree::Node;
use super::units::{self, BadMoney};
use crate::config::secret::Secret;
use crate::provider::{GuidedStyle, Kind, SageMakerFormat, StructuredOutput};
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
        providers: Named<Provider>,
        /// What a client may put into `model`, and where it goes. A name with one `*` is a pattern.
        routes: Named<Route>,
        /// `keys`: every request needs a key of a team. `none`: nobody is asked, every route is open.
        auth: AuthMode = "keys",
        /// The teams by name, with their keys and limits.
        teams: Named<Team>,
        /// Where limits are counted.
        limits: LimitStore = "{}",
        /// What goes to stdout.
        log: Log = "{}",
    }
}

section! {
    /// A listener.
    Listen {
        /// Address and port; port 0 is any free one.
        address: At<SocketAddr>,
        /// Certificate and key.
        tls: Option<ListenTls>,
    }
}

section! {
    /// A listener's certificate and key.
    ListenTls {
        /// File with the PEM certificate chain.
        certificate: At<PathBuf>,
        /// File with the PEM key.
        key: At<PathBuf>,
    }
}

section! {
    /// The admin listener.
    Admin {
        /// Address and port. It has no authentication: keep it on a private address.
        address: At<SocketAddr> = "127.0.0.1:9464",
    }
}

section! {
    /// What holds for every connection.
    Server {
        /// Worker threads; 0 is one per core.
        threads: Threads = "0",
        /// Largest request body; a larger one is answered 413.
        max_body: BodySize = "32MiB",
        /// From the first byte of a request to the end of its headers.
        header_timeout: Deadline = "10s",
        /// For the whole body of a request.
        body_timeout: Deadline = "30s",
        /// How long a drain waits for streams in flight.
        drain_timeout: Duration = "60s",
        /// Where a stream's usage goes: on the chunk with the finish_reason, or on one more chunk without choices.
        stream_usage: StreamUsage = "merged",
        /// Networks whose `x-forwarded-for` is believed.
        trust_forwarded_for: Vec<ipnet::IpNet> = "[]",
    }
}

section! {
    /// A provider: a dialect at a base URL with credentials.
    Provider {
        /// What it is.
        kind: At<Kind>,
        /// What the provider's own SDK calls its base URL. Required for vllm and openai_compatible.
        base_url: Option<At<String>>,
        /// The key. For bedrock a Bedrock API key; not for sagemaker and vertex.
        api_key: Option<At<SecretText>>,
        /// A file with the key, instead of `api_key`.
        api_key_file: Option<At<PathBuf>>,
        /// AWS region (bedrock, sagemaker).
        region: Option<At<String>>,
        /// AWS keys (bedrock, sagemaker). Default: the AWS credential chain.
        credentials: Option<At<AwsCredentials>>,
        /// Google Cloud project (vertex).
        project: Option<At<String>>,
        /// Google Cloud location, or `global` (vertex).
        location: Option<At<String>>,
        /// A service account's or authorized user's file (vertex).
        credentials_file: Option<At<PathBuf>>,
        /// A Google access token as it is (vertex).
        access_token: Option<At<SecretText>>,
        /// The header `anthropic-version` (anthropic). Default: 2023-06-01.
        version: Option<At<String>>,
        /// Values of the header `anthropic-beta` (anthropic).
        beta: Option<At<Vec<String>>>,
        /// `max_tokens` where the client gives none (anthropic). Default: 4096.
        default_max_tokens: Option<At<Tokens>>,
        /// How the server takes a decoding constraint (vllm, openai_compatible). Default for vllm: structured_outputs.
        guided: Option<At<GuidedStyle>>,
        /// Headers to add to every request.
        headers: Named<SecretText>,
        /// Deadlines.
        timeouts: Timeouts = "{}",
        /// How the provider's certificate is checked.
        tls: Tls = "{}",
        /// Most requests in flight at once. Default: no bound.
        max_connections: Option<Connections>,
        /// Limits that everyone who uses the provider shares.
        limits: Vec<Limit>,
    }
}

section! {
    /// AWS keys.
    AwsCredentials {
        /// Access key id.
        access_key_id: SecretText,
        /// Secret access key.
        secret_access_key: SecretText,
        /// Session token of temporary credentials.
        session_token: Option<SecretText>,
    }
}

section! {
    /// Deadlines of an attempt. A provider's defaults: connect 5s, first_byte 60s, first_token 120s, between_bytes 60s,
    /// total none; a route's default to its providers'.
    Timeouts {
        /// For a connection, TLS included.
        connect: Option<Deadline>,
        /// From the request sent to the response headers.
        first_byte: Option<Deadline>,
        /// From the request sent to the first content.
        first_token: Option<Deadline>,
        /// Between two reads of the answer.
        between_bytes: Option<Deadline>,
        /// For the whole attempt.
        total: Option<Deadline>,
    }
}

section! {
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
}

section! {
    /// A route.
    Route {
        /// Tried first, by weight; the next on failure.
        targets: At<Some1<Target>>,
        /// Tried in order when every target has failed or is cooling down.
        fallback: Vec<Target>,
        /// How a target is chosen.
        balance: Balance = "weighted",
        /// When a failure moves on to the next target.
        retry: Retry = "{}",
        /// Deadlines that override the provider's.
        timeouts: Timeouts = "{}",
        /// A system prompt that stands before the client's own.
        system: Option<String>,
        /// Defaults and overrides of request fields.
        params: Params = "{}",
        /// Limits that everyone who uses the route shares.
        limits: Vec<Limit>,
    }
}

section! {
    /// A provider and a model there.
    Target {
        /// Name of a provider.
        provider: At<String>,
        /// The model there; for sagemaker the endpoint's name. In a pattern route `*` is what the route's `*` matched.
        model: At<String>,
        /// Its share of the first tries; 0 is only reached when others have failed.
        weight: At<Weight> = "1",
        /// What it costs, in USD per million tokens.
        price: Option<Price>,
        /// Overrides the provider's `default_max_tokens` (anthropic, bedrock, sagemaker, vertex).
        default_max_tokens: Option<At<Tokens>>,
        /// How a Claude model is held to a JSON schema (anthropic, bedrock, vertex). Default: native.
        structured_output: Option<At<StructuredOutput>>,
        /// What the endpoint's container speaks (sagemaker). Default: openai_chat.
        format: Option<At<SageMakerFormat>>,
        /// The inference component to ask (sagemaker).
        inference_component: Option<At<String>>,
        /// What happens to a `<think>` text inside the content: left where it is, or moved to reasoning_content.
        think_tags: ThinkTags = "keep",
    }
}

section! {
    /// Prices in USD per million tokens, exact to a millionth of a dollar.
    Price {
        /// Uncached input.
        input: Money,
        /// Output.
        output: Money,
        /// Input read from a cache. Default: the price of input.
        cached_input: Option<Money>,
        /// Input written to a cache. Default: the price of input.
        cache_write: Option<Money>,
    }
}

section! {
    /// When a failure moves on to the next target.
    Retry {
        /// Tries in all, the first one included.
        attempts: Attempts = "2",
        /// Which failures are tried again.
        on: Vec<Reason> = "[connect, timeout, rate_limited, server_error]",
        /// The wait before the same target is asked again.
        backoff: Backoff = "{}",
    }
}

section! {
    /// The wait before the same target is asked again; it doubles each time.
    Backoff {
        /// The first wait.
        initial: Duration = "100ms",
        /// The longest wait.
        max: Duration = "2s",
    }
}

section! {
    /// Request fields that the route sets.
    Params {
        /// Used where the client gives none.
        defaults: Fields,
        /// Used whatever the client gives.
        overrides: Fields,
        /// What happens to a hint that a provider has no counterpart for: dropped and named in a header, or a 400.
        unsupported: Unsupported = "drop",
    }
}

section! {
    /// A limit: one of requests, tokens, concurrent and usd.
    Limit {
        /// Requests per period.
        requests: Option<At<Count>>,
        /// Prompt and completion tokens per period.
        tokens: Option<At<Count>>,
        /// Requests in flight; has no period.
        concurrent: Option<At<Count>>,
        /// US dollars per period.
        usd: Option<At<Money>>,
        /// The period, from 1s to 30d.
        per: Option<At<Period>>,
        /// How much may be used at once. Default: the amount itself.
        burst: Option<At<Money>>,
    }
}

section! {
    /// A tenant.
    Team {
        /// Routes it may use, as they are named under `routes`. Default: all.
        routes: Option<Vec<At<String>>>,
        /// Limits that its keys share.
        limits: Vec<Limit>,
        /// Its keys; `tidegate key new --id ID` makes one.
        keys: Vec<ClientKey>,
    }
}

section! {
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
}

section! {
    /// Where limits are counted.
    LimitStore {
        /// `memory` counts per process; `redis://[[user]:password@]host[:port][/db]`, or `rediss://` for TLS, counts
        /// across all nodes.
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
}

section! {
    /// What goes to stdout.
    Log {
        /// One JSON object a line, or text.
        format: LogFormat = "json",
        /// Least severe level that is written.
        level: log::LevelFilter = "info",
        /// Whether every request gets a line.
        access: bool = "true",
    }
}

/// How a target is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// At random, by weight.
    Weighted,
}

/// What a retry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No connection could be made.
    Connect,
    /// A deadline passed before the first token.
    Timeout,
    /// 429.
    RateLimited,
    /// 408, 5xx, a broken answer.
    ServerError,
}

/// What happens to a hint without a counterpart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsupported {
    /// Left out and named.
    Drop,
    /// A 400.
    Reject,
}

/// What happens to a `<think>` text inside the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThinkTags {
    /// Left alone.
    Keep,
    /// Moved to `reasoning_content`.
    Split,
}

/// Where limits are counted.
#[derive(Clone)]
pub enum Store {
    /// In the process.
    Memory,
    /// In a Redis.
    Redis(Secret),
}

impl Read for Store {
    /// Messages never repeat the value: it may hold a password.
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        let what = "`memory`, or a URL like redis://127.0.0.1:6379 or rediss://user:${REDIS_PASSWORD}@redis.internal:6380/0";
        let text = zeroize::Zeroizing::new(cx.text(node, what)?);
        match text.trim() {
            "memory" => Some(Self::Memory),
            url if crate::limit::redis::is_url(url) => Some(Self::Redis(Secret::new(url.to_owned()))),
            _ => {
                cx.must_be(node.at, what);
                None
            }
        }
    }

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^(memory|rediss?://.+|.*\\$\\{.+)$" })
    }
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object.
    Json,
    /// Text.
    Text,
}

words!(Kind, "a provider kind" {
    OpenAi = "openai",
    Anthropic = "anthropic",
    Bedrock = "bedrock",
    SageMaker = "sagemaker",
    Vertex = "vertex",
    GoogleAiStudio = "google_ai_studio",
    Mistral = "mistral",
    Together = "together",
    DeepSeek = "deepseek",
    Fireworks = "fireworks",
    Hyperbolic = "hyperbolic",
    Xai = "xai",
    Vllm = "vllm",
    OpenAiCompatible = "openai_compatible",
});
words!(StreamUsage, "one of" { Merged = "merged", Separate = "separate" });
words!(AuthMode, "one of" { Keys = "keys", None = "none" });
words!(GuidedStyle, "one of" { StructuredOutputs = "structured_outputs", Legacy = "legacy", SgLang = "sglang" });
words!(StructuredOutput, "one of" { Native = "native", Tool = "tool" });
words!(SageMakerFormat, "one of" {
    OpenAiChat = "openai_chat",
    Tgi = "tgi",
    Llama2Chat = "llama2_chat",
    HfEmbedding = "hf_embedding",
    TeiEmbedding = "tei_embedding",
});
words!(Balance, "a way to balance in this version" { Weighted = "weighted" });
words!(Reason, "one of" { Connect = "connect", Timeout = "timeout", RateLimited = "rate_limited", ServerError = "server_error" });
words!(Unsupported, "one of" { Drop = "drop", Reject = "reject" });
words!(ThinkTags, "one of" { Keep = "keep", Split = "split" });
words!(StoreFailure, "one of" { Local = "local", Allow = "allow", Deny = "deny" });
words!(LogFormat, "one of" { Json = "json", Text = "text" });
words!(log::LevelFilter, "a level" { Off = "off", Error = "error", Warn = "warn", Info = "info", Debug = "debug", Trace = "trace" });

/// A value that is text in the file: its Rust type, what messages call it, its schema, and how it is read.
macro_rules! scalars {
    ($($(#[$doc:meta])* $name:ident($inner:ty), $what:literal, $schema:tt, $parse:expr;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name(pub $inner);

        scalars!(@read $name, $what, $schema, |text| { let parse: fn(&str) -> Option<$inner> = $parse; parse(text).map($name) });
    )+};
    (@read $name:ty, $what:literal, $schema:tt, $parse:expr) => {
        impl Read for $name {
            fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
                cx.parsed(node, $what, $parse)
            }

            fn schema() -> Json {
                json!($schema)
            }
        }
    };
}

scalars! {
    /// Worker threads.
    Threads(usize), "a number of threads from 0 to 1024", { "type": "integer", "minimum": 0, "maximum": 1024 }, |text| within(text, 0, 1024).map(|n| n as usize);
    /// Largest body, in bytes.
    BodySize(usize), "a size from 1KiB to 1GiB, like 32MiB", { "type": ["string", "integer"] },
        |text| units::size(text).filter(|n| (1 << 10..=1 << 30).contains(n)).map(|n| n as usize);
    /// More than no time at all.
    Deadline(Duration), "a duration of more than 0 and at most 30d, like 500ms, 10s or 1m30s", { "type": "string" },
        |text| units::duration(text).filter(|d| !d.is_zero());
    /// The period of a limit.
    Period(Duration), "a period from 1s to 30d, like 1m or 1d", { "type": "string" },
        |text| units::duration(text).filter(|d| *d >= Duration::from_secs(1));
    /// How long a request waits for the shared store.
    StoreTimeout(Duration), "a duration from 1ms to 10s, like 20ms", { "type": "string" },
        |text| units::duration(text).filter(|d| (Duration::from_millis(1)..=Duration::from_secs(10)).contains(d));
    /// How long a lease lasts.
    Lease(Duration), "a duration from 10ms to 10s, like 100ms", { "type": "string" },
        |text| units::duration(text).filter(|d| (Duration::from_millis(10)..=Duration::from_secs(10)).contains(d));
    /// `max_tokens`.
    Tokens(u32), "a number of tokens from 1 to 10000000", { "type": "integer", "minimum": 1, "maximum": 10_000_000 },
        |text| within(text, 1, 10_000_000).map(|n| n as u32);
    /// Requests in flight at a provider.
    Connections(u32), "a whole number from 1 to 1000000", { "type": "integer", "minimum": 1, "maximum": 1_000_000 },
        |text| within(text, 1, 1_000_000).map(|n| n as u32);
    /// A target's share.
    Weight(u32), "a whole number from 0 to 1000000", { "type": "integer", "minimum": 0, "maximum": 1_000_000 },
        |text| within(text, 0, 1_000_000).map(|n| n as u32);
    /// Tries in all.
    Attempts(u32), "a whole number from 1 to 16", { "type": "integer", "minimum": 1, "maximum": 16 }, |text| within(text, 1, 16).map(|n| n as u32);
    /// An amount of a limit.
    Count(u64), "a whole number from 1 to 1000000000000000", { "type": "integer", "minimum": 1, "maximum": 1_000_000_000_000_000u64 },
        |text| within(text, 1, MAX_COUNT);
    /// Seconds since the epoch.
    Timestamp(i64), "a time like 2027-01-01T00:00:00Z", { "type": "string", "format": "date-time" },
        |text| text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second);
}

scalars!(@read SocketAddr, "an address and a port, like 127.0.0.1:3000 or [::]:3000", { "type": "string" }, |text| text.parse().ok());
scalars!(@read Duration, "a duration of at most 30d, like 500ms, 10s or 1m30s", { "type": "string" }, units::duration);
scalars!(@read ipnet::IpNet, "a network like 10.0.0.0/8", { "type": "string" }, |text| {
    text.parse().ok().or_else(|| text.parse::<std::net::IpAddr>().ok().map(ipnet::IpNet::from))
});

/// Largest amount of a limit, so that its arithmetic stays far from overflow.
pub const MAX_COUNT: u64 = 1_000_000_000_000_000;

fn within(text: &str, from: u64, to: u64) -> Option<u64> {
    text.parse().ok().filter(|n| (from..=to).contains(n))
}

/// A decimal number, in millionths.
#[derive(Clone, Copy, Debug)]
pub struct Money(pub u64);

impl Read for Money {
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        let what = "an amount from 0 to 1000000000, like 0.25";
        match units::money(cx.text(node, what)?.trim()) {
            Ok(micro) => Some(Self(micro)),
            Err(BadMoney::NotANumber) => {
                cx.wrong(node, what);
                None
            }
            Err(BadMoney::TooFine) => {
                cx.wrong(node, "exact to a millionth: at most six decimals");
                None
            }
        }
    }

    fn schema() -> Json {
        json!({ "type": "number", "minimum": 0, "maximum": 1_000_000_000 })
    }
}

/// A credential; messages never repeat it.
#[derive(Clone)]
pub struct SecretText(pub Secret);

impl Read for SecretText {
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        let text = cx.text(node, "text")?;
        secret(text).map_err(|what| cx.must_be(node.at, what)).ok()
    }

    fn schema() -> Json {
        json!({ "type": "string" })
    }
}

/// A credential without white space around it.
///
/// # Errors
/// What it must be.
pub fn secret(text: String) -> Result<SecretText, &'static str> {
    let text = zeroize::Zeroizing::new(text);
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Err("set; it is empty");
    }
    if trimmed.chars().any(|c| c.is_control()) {
        return Err("one line without control characters");
    }
    Ok(SecretText(Secret::new(trimmed.to_owned())))
}

/// A SHA-256 digest. Messages never repeat it: someone may have written the key itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest(pub [u8; 32]);

impl Read for Digest {
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        let what = "the SHA-256 of a key, 64 hexadecimal digits (`tidegate key new` prints it)";
        let digest = digest(cx.text(node, what)?.trim());
        if digest.is_none() {
            cx.must_be(node.at, what);
        }
        digest.map(Self)
    }

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^[0-9a-fA-F]{64}$" })
    }
}

fn digest(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 {
        return None;
    }
    let mut digest = [0u8; 32];
    for (slot, pair) in digest.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |i: usize| pair.get(i).and_then(|b| char::from(*b).to_digit(16));
        *slot = (digit(0)? * 16 + digit(1)?) as u8;
    }
    Some(digest)
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

/// A place for values that no file gave.
pub const NOWHERE: Position = Position::START;
