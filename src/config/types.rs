//! The types of single values in the file: words of a closed set, bounded numbers, times, money, secrets.

use super::file::AttributeKeys;
use super::snapshot::ListenAddress;
use super::tls::MinVersion;
use crate::provider::HttpVersion;
use crate::provider::catalogue::{Kind, kinds};
use crate::route::health::MAX_FAILURES;
use crate::secret::Secret;
use crate::telemetry::attribute::Source;
use crate::units;
use crate::yaml::read::{Read, Reader};
use crate::yaml::section::words;
use crate::yaml::tree::{Node, Value};
use crate::yaml::value::{At, SecretFile, scalars, within};
use serde_json::{Value as Json, json};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

words! {
    /// What a retry is for.
    Reason {
        /// No connection could be made.
        Connect = "connect",
        /// A deadline passed before the first token.
        Timeout = "timeout",
        /// 429.
        RateLimited = "rate_limited",
        /// 408, 5xx, a broken answer.
        ServerError = "server_error",
        /// 401, 402, 403, `insufficient_quota`: a credential that is refused or unpaid, or that cannot be had.
        Credential = "credential",
        /// 404: a model that is gone.
        NotFound = "not_found",
        /// A prompt that is too long for the model.
        ContextLength = "context_length",
        /// A prompt or an answer that the provider's policy forbids.
        ContentFilter = "content_filter",
    }

    /// What happens to a hint without a counterpart.
    Unsupported {
        /// Left out and named.
        Drop = "drop",
        /// A 400.
        Reject = "reject",
    }

    /// What happens to a `<think>` text inside the content.
    ThinkTags {
        /// Left alone.
        Keep = "keep",
        /// Moved to `reasoning_content`.
        Split = "split",
    }
}

/// Where limits are counted.
#[derive(Clone)]
pub enum Store {
    /// In the process.
    Memory,
    /// In a Redis.
    Redis(Secret),
    /// In a Redis whose URL is in this file.
    RedisFile(At<PathBuf>),
}

/// What a shared store is named by.
pub const STORE_URL: &str = "`memory`, or a URL like redis://127.0.0.1:6379, rediss://user:${REDIS_PASSWORD}@redis.internal:6380/0, \
    redis-sentinel://10.0.0.1,10.0.0.2/mymaster or redis-cluster://10.0.0.1:7000,10.0.0.2:7000";

impl Read for Store {
    /// Messages never repeat the value: it may hold a password.
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        if matches!(node.value, Value::Map(_)) {
            return SecretFile::read(node, cx).map(|secret| Self::RedisFile(secret.file));
        }
        let text = zeroize::Zeroizing::new(cx.text(node, STORE_URL)?);
        match text.trim() {
            "memory" => Some(Self::Memory),
            url if crate::limit::redis::is_url(url) => Some(Self::Redis(Secret::new(url.to_owned()))),
            _ => {
                cx.must_be(node.at, STORE_URL);
                None
            }
        }
    }

    fn schema() -> Json {
        let text = json!({ "type": "string", "pattern": "^(memory|rediss?(-sentinel|-cluster)?://.+|.*\\$\\{.+)$" });
        json!({ "anyOf": [text, SecretFile::schema()] })
    }
}

scalars!(
    AttributeSource,
    "a header that carries no credentials, like x-agent-name, or one of the fields user, safety_identifier, prompt_cache_key, \
        service_tier, reasoning_effort and metadata.NAME",
    { "type": "string" },
    |text| Source::of(text).map(AttributeSource)
);

/// Where the value of an attribute comes from.
#[derive(Clone, Debug)]
pub struct AttributeSource(pub Source);

/// An attribute: its source alone, or a section.
pub struct AttributeEntry {
    /// Where its value comes from.
    pub from: Source,
    /// Values that are label values.
    pub values: Vec<At<String>>,
}

impl Read for AttributeEntry {
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        if matches!(node.value, Value::Map(_)) {
            let keys = AttributeKeys::read(node, cx)?;
            return Some(Self { from: keys.from.0, values: keys.values });
        }
        AttributeSource::read(node, cx).map(|from| Self { from: from.0, values: Vec::new() })
    }

    fn schema() -> Json {
        json!({ "anyOf": [AttributeSource::schema(), AttributeKeys::schema()] })
    }
}

/// Names by which people know a kind, in lower case with `_` between words. Services that speak OpenAI and have no kind of
/// their own are `openai_compatible`.
const OTHER_KINDS: [(&str, &str); 29] = [
    ("claude", "anthropic"),
    ("gpt", "openai"),
    ("chatgpt", "openai"),
    ("aws", "bedrock"),
    ("aws_bedrock", "bedrock"),
    ("amazon_bedrock", "bedrock"),
    ("aws_sagemaker", "sagemaker"),
    ("google", "google_ai_studio"),
    ("gemini", "google_ai_studio"),
    ("google_gemini", "google_ai_studio"),
    ("ai_studio", "google_ai_studio"),
    ("gcp", "vertex"),
    ("vertex_ai", "vertex"),
    ("google_vertex", "vertex"),
    ("gcp_vertex", "vertex"),
    ("grok", "xai"),
    ("together_ai", "together"),
    ("fireworks_ai", "fireworks"),
    ("azure", "azure_openai"),
    ("lmstudio", "lm_studio"),
    ("nim", "nvidia_nim"),
    ("nvidia", "nvidia_nim"),
    ("kimi", "moonshot"),
    ("glm", "zhipu"),
    ("zai", "zhipu"),
    ("qwen", "dashscope"),
    ("alibaba", "dashscope"),
    ("github", "github_models"),
    ("litellm", "openai_compatible"),
];

/// The kinds are the catalogue's, so an entry there is all that a new one needs.
impl Read for &'static Kind {
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        cx.word_or(node, "a provider kind", kinds().iter().map(|kind| (kind.name.as_str(), kind)), &OTHER_KINDS)
    }

    fn schema() -> Json {
        json!({ "type": "string", "enum": kinds().iter().map(|kind| &kind.name).collect::<Vec<_>>() })
    }
}

impl Read for HttpVersion {
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        cx.word(node, "one of", [("auto", Self::Auto), ("1.1", Self::Http1), ("2", Self::Http2)].into_iter())
    }

    /// A version need not be quoted.
    fn schema() -> Json {
        json!({ "enum": ["auto", "1.1", "2", 1.1, 2] })
    }
}

impl Read for MinVersion {
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        cx.word(node, "one of", [("1.2", Self::Tls12), ("1.3", Self::Tls13)].into_iter())
    }

    /// A version need not be quoted.
    fn schema() -> Json {
        json!({ "enum": ["1.2", "1.3", 1.2, 1.3] })
    }
}

/// The levels of the log, by the order of `log::LevelFilter`.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

impl Read for log::LevelFilter {
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        cx.word(node, "a level", LEVELS.into_iter().zip(Self::iter()))
    }

    fn schema() -> Json {
        json!({ "type": "string", "enum": LEVELS })
    }
}

/// How long a limit's period is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Per {
    /// So long.
    Time(Duration),
    /// A day of the calendar, in UTC.
    Day,
    /// A month of the calendar, in UTC.
    Month,
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
    /// A share of a limit, in percent.
    Percent(u8), "a share from 1% to 100%, like 80%", { "type": "string", "pattern": "^([1-9][0-9]?|100)%$" },
        |text| text.strip_suffix('%').and_then(|number| within(number, 1, 100)).map(|n| n as u8);
    /// The period of a limit.
    Period(Per), "a period from 1s to 30d, like 1m or 1d, or `day` or `month`", { "type": "string" }, |text| match text {
        "day" => Some(Per::Day),
        "month" => Some(Per::Month),
        _ => units::duration(text).filter(|d| *d >= Duration::from_secs(1)).map(Per::Time),
    };
    /// How long a request waits for the shared store.
    StoreTimeout(Duration), "a duration from 1ms to 10s, like 20ms", { "type": "string" },
        |text| units::duration(text).filter(|d| (Duration::from_millis(1)..=Duration::from_secs(10)).contains(d));
    /// How long a lease lasts.
    Lease(Duration), "a duration from 10ms to 10s, like 100ms", { "type": "string" },
        |text| units::duration(text).filter(|d| (Duration::from_millis(10)..=Duration::from_secs(10)).contains(d));
    /// Requests in flight at a provider.
    Connections(u32), "a whole number from 1 to 1000000", { "type": "integer", "minimum": 1, "maximum": 1_000_000 },
        |text| within(text, 1, 1_000_000).map(|n| n as u32);
    /// Client connections; 0 for what the descriptors allow.
    MaxConnections(usize), "a whole number from 0 to 10000000", { "type": "integer", "minimum": 0, "maximum": 10_000_000 },
        |text| within(text, 0, 10_000_000).map(|n| n as usize);
    /// A target's share.
    Weight(u32), "a whole number from 0 to 1000000", { "type": "integer", "minimum": 0, "maximum": 1_000_000 },
        |text| within(text, 0, 1_000_000).map(|n| n as u32);
    /// Tries in all.
    Attempts(u32), "a whole number from 1 to 16", { "type": "integer", "minimum": 1, "maximum": 16 }, |text| within(text, 1, 16).map(|n| n as u32);
    /// Failures that eject a target.
    Failures(u32), "a whole number from 0 to 64", { "type": "integer", "minimum": 0, "maximum": 64 },
        |text| within(text, 0, MAX_FAILURES as u64).map(|n| n as u32);
    /// Retries a second.
    RetriesPerSecond(u32), "a whole number from 0 to 1000", { "type": "integer", "minimum": 0, "maximum": 1000 },
        |text| within(text, 0, 1000).map(|n| n as u32);
    /// A share, in millionths.
    Share(u32), "a share from 0 to 1, like 0.5", { "type": "number", "minimum": 0, "maximum": 1 },
        |text| units::money(text).ok().filter(|millionths| *millionths <= 1_000_000).map(|millionths| millionths as u32);
    /// An amount of a limit.
    Count(u64), "a whole number from 1 to 1000000000000000", { "type": "integer", "minimum": 1, "maximum": 1_000_000_000_000_000u64 },
        |text| within(text, 1, MAX_COUNT);
    /// Seconds since the epoch.
    Timestamp(i64), "a time like 2027-01-01T00:00:00Z", { "type": "string", "format": "date-time" },
        |text| text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second);
}

scalars!(SocketAddr, "an address and a port, like 127.0.0.1:3000 or [::]:3000", { "type": "string" }, |text| text.parse().ok());
scalars!(Duration, "a duration of at most 30d, like 500ms, 10s or 1m30s", { "anyOf": [{ "type": "string" }, { "const": 0 }] }, units::duration);
/// Longest path of a Unix socket, in bytes: `sun_path` of Linux without its final zero.
pub const MAX_SOCKET_PATH: usize = 107;

scalars!(
    ListenAddress,
    "an address and a port, like 127.0.0.1:3000 or [::]:3000, or a Unix socket's absolute path of at most 107 bytes without \
        spaces, like unix:/run/tidegate/api.sock",
    { "type": "string" },
    |text| match text.strip_prefix("unix:") {
        Some(path) => socket_path(path),
        None => text.parse().ok().map(ListenAddress::Tcp),
    }
);

fn socket_path(path: &str) -> Option<ListenAddress> {
    // An upgrade separates the names of sockets by spaces.
    let plain = path.len() <= MAX_SOCKET_PATH && !path.contains(|c: char| c.is_whitespace() || c.is_control());
    let names_a_file = path.starts_with('/') && !path.ends_with('/');
    (plain && names_a_file).then(|| ListenAddress::Unix { path: path.into(), mode: DEFAULT_SOCKET_MODE })
}

/// The owner and the group of a Unix socket may connect.
pub const DEFAULT_SOCKET_MODE: u32 = 0o660;

/// The mode of a file: three octal digits, with or without a 0 (or 0o) before them.
#[derive(Clone, Copy, Debug)]
pub struct FileMode(pub u32);

scalars!(FileMode, "a file's mode in octal, like 0660", { "type": ["string", "integer"] }, |text| {
    let digits = text.strip_prefix("0o").or(text.strip_prefix('0')).unwrap_or(text);
    let octal = digits.len() == 3 && digits.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
    octal.then(|| u32::from_str_radix(digits, 8).ok()).flatten().map(FileMode)
});

/// Whose word for a client's address is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustedPeer {
    /// Peers with an address in the network.
    Network(ipnet::IpNet),
    /// Peers at a Unix socket.
    Unix,
}

impl TrustedPeer {
    /// The network, if it is one.
    pub fn network(self) -> Option<ipnet::IpNet> {
        match self {
            Self::Network(network) => Some(network),
            Self::Unix => None,
        }
    }
}

scalars!(TrustedPeer, "a network like 10.0.0.0/8, or `unix`", { "type": "string" }, |text| match text {
    "unix" => Some(TrustedPeer::Unix),
    _ => network(text).map(TrustedPeer::Network),
});

fn network(text: &str) -> Option<ipnet::IpNet> {
    text.parse().ok().or_else(|| text.parse::<std::net::IpAddr>().ok().map(ipnet::IpNet::from)).map(canonical)
}

/// An IPv4 network that was written as the part of IPv6 that stands for it.
fn canonical(net: ipnet::IpNet) -> ipnet::IpNet {
    let ipnet::IpNet::V6(v6) = net else { return net };
    let mapped = v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96));
    mapped.and_then(|(address, prefix)| ipnet::Ipv4Net::new(address, prefix).ok()).map_or(net, ipnet::IpNet::V4)
}

/// The origin of web pages as browsers send it (RFC 6454 section 6.2), or `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(pub String);

scalars!(
    Origin,
    "an origin like https://app.example.com or http://localhost:8080, without a path, or `*`",
    { "type": "string" },
    |text| if text == "*" { Some(Origin("*".to_owned())) } else { origin(text) }
);

/// Scheme, host in lower case, and the port where it is not the scheme's own; any scheme, because extensions of browsers have
/// theirs.
fn origin(text: &str) -> Option<Origin> {
    let (scheme, authority) = text.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let authority: http::uri::Authority = authority.parse().ok().filter(|_| !authority.contains('@'))?;
    let own = match scheme.as_str() {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    };
    let host = authority.host().to_ascii_lowercase();
    let bare = authority.as_str().len() == authority.host().len();
    let named = !host.is_empty() && !host.contains('*') && scheme.starts_with(|c: char| c.is_ascii_alphabetic());
    named.then_some(())?;
    Some(Origin(match authority.port_u16() {
        None if bare => format!("{scheme}://{host}"),
        None => return None,
        port if port == own => format!("{scheme}://{host}"),
        Some(port) => format!("{scheme}://{host}:{port}"),
    }))
}

/// Largest amount of a limit, so that its arithmetic stays far from overflow.
pub const MAX_COUNT: u64 = 1_000_000_000_000_000;

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
