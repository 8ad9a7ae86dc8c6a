//! Providers and targets: which dialect is spoken where, and with whose credentials.

use crate::account::Price;
use crate::egress::Egress;
use crate::egress::proxy::Proxy;
use crate::limit::rule::LimitRule;
use crate::pem::{Certificates, Identity};
use crate::secret::Secret;
use http::{HeaderName, HeaderValue};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use timeouts::Timeouts;

pub mod catalogue;
pub mod timeouts;

/// What the user writes as `kind`: an entry of the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A server that speaks OpenAI, by its name in the catalogue. What it does otherwise than OpenAI is data there.
    OpenAi(&'static str),
    /// Anthropic's Messages API.
    Anthropic,
    /// AWS Bedrock.
    Bedrock,
    /// AWS SageMaker.
    SageMaker,
    /// GCP Vertex AI.
    Vertex,
    /// Google AI Studio (the Gemini API).
    GoogleAiStudio,
    /// Mistral AI.
    Mistral,
}

impl Kind {
    /// Those that have a dialect of their own.
    const FOREIGN: [Self; 6] = [Self::Anthropic, Self::Bedrock, Self::SageMaker, Self::Vertex, Self::GoogleAiStudio, Self::Mistral];

    /// All of them, in the order of their names.
    pub fn all() -> impl Iterator<Item = Self> {
        catalogue::names().map(|name| Self::FOREIGN.into_iter().find(|kind| kind.name() == name).unwrap_or(Self::OpenAi(name)))
    }

    /// The kind of this name.
    pub fn of(name: &str) -> Option<Self> {
        Self::all().find(|kind| kind.name() == name)
    }

    /// The user's word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OpenAi(name) => name,
            Self::Anthropic => "anthropic",
            Self::Bedrock => "bedrock",
            Self::SageMaker => "sagemaker",
            Self::Vertex => "vertex",
            Self::GoogleAiStudio => "google_ai_studio",
            Self::Mistral => "mistral",
        }
    }
}

/// A provider of the configuration: a dialect at a base URL with credentials. Where several servers are one provider, each
/// replica is one, with the same index and name.
#[derive(Clone)]
pub struct Provider {
    /// Its position in the snapshot.
    pub index: usize,
    /// The user's name for it.
    pub name: Arc<str>,
    /// What it is.
    pub kind: Kind,
    /// Where it is.
    pub base: BaseUrl,
    /// Its number among the endpoints of all providers: one each, or one for each replica.
    pub endpoint: usize,
    /// Its name, with the base URL where it has replicas; what health and metrics of targets go by.
    pub endpoint_name: Arc<str>,
    /// The further replicas of the first one.
    pub replicas: Vec<Arc<Provider>>,
    /// How a request proves who pays.
    pub credential: Credential,
    /// Headers that the operator adds to every request.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Its deadlines; a route may override them.
    pub timeouts: Timeouts,
    /// How its certificate is checked.
    pub tls: TlsOptions,
    /// The proxies of its connections and of those that fetch its credentials.
    pub egress: Egress,
    /// Which version of HTTP it is asked with.
    pub http: HttpVersion,
    /// What only some kinds have.
    pub settings: Settings,
    /// How the OpenAI dialect differs here.
    pub quirks: catalogue::Quirks,
    /// Most requests in flight at once; `None` is no bound.
    pub max_connections: Option<u32>,
    /// Shared by everyone who uses the provider.
    pub limits: Vec<LimitRule>,
}

impl Provider {
    /// It and its further replicas.
    pub fn endpoints(self: &Arc<Self>) -> impl Iterator<Item = &Arc<Self>> {
        std::iter::once(self).chain(&self.replicas)
    }

    /// The proxy that its requests go through.
    pub fn proxy(&self) -> Option<&Arc<Proxy>> {
        let base = &self.base;
        if base.socket.is_some() { None } else { self.egress.proxy_for(base.tls, &base.host, base.port) }
    }

    /// The proxy that its requests are given to in absolute form (RFC 9112, section 3.2.2). `None` where they go directly or
    /// through a tunnel, as HTTP/2 without TLS does too: a proxy would not pass it on.
    pub fn forward_proxy(&self) -> Option<&Arc<Proxy>> {
        self.proxy().filter(|_| !self.base.tls && self.http != HttpVersion::Http2)
    }
}

/// How a provider's certificate is checked.
#[derive(Clone, PartialEq, Eq)]
pub struct TlsOptions {
    /// What replaces the system's roots.
    pub ca: Option<Certificates>,
    /// Whether the certificate is checked at all.
    pub verify: bool,
    /// Name to ask for and to check, where it is not the host.
    pub server_name: Option<Arc<str>>,
    /// What the gateway shows.
    pub client: Option<Arc<Identity>>,
}

/// Which version of HTTP a provider is asked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpVersion {
    /// Over TLS the one that the provider chooses by ALPN, HTTP/2 preferred; HTTP/1.1 otherwise.
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, without TLS by prior knowledge.
    Http2,
}

/// A base URL, taken apart once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl {
    /// Whether to use TLS.
    pub tls: bool,
    /// The Unix socket to connect to in place of host and port.
    pub socket: Option<Arc<Path>>,
    /// Host name or address, without brackets or port.
    pub host: Arc<str>,
    /// Port.
    pub port: u16,
    /// What goes into `host`: host, and the port where it is not the scheme's own.
    pub authority: HeaderValue,
    /// Path prefix without a trailing slash; may be empty.
    pub prefix: Arc<str>,
    /// Query without the question mark, sent with every request; may be empty.
    pub query: Arc<str>,
}

impl BaseUrl {
    /// The request target for a path below it, which may have a query of its own.
    pub fn path_and_query(&self, path: &str) -> String {
        if self.query.is_empty() {
            return [&*self.prefix, path].concat();
        }
        let separator = if path.contains('?') { "&" } else { "?" };
        [&*self.prefix, path, separator, &*self.query].concat()
    }

    /// Values of the query that may be credentials: all but those of versions.
    pub fn query_secrets(&self) -> impl Iterator<Item = &str> {
        let pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(name, _)| !name.ends_with("version")).map(|(_, value)| value)
    }
}

/// The query is not shown: it may hold a credential.
impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let query = if self.query.is_empty() { "" } else { "?…" };
        let Some(socket) = &self.socket else {
            let scheme = if self.tls { "https" } else { "http" };
            return write!(f, "{scheme}://{}{}{query}", self.authority.to_str().unwrap_or_default(), self.prefix);
        };
        let separator = if self.prefix.is_empty() { "" } else { ":" };
        write!(f, "unix:{}{separator}{}{query}", socket.display(), self.prefix)
    }
}

/// How a request proves who pays.
#[derive(Clone)]
pub enum Credential {
    /// Nothing to prove (a self-hosted server).
    None,
    /// `authorization: Bearer KEY`.
    Bearer(Secret),
    /// The key in a header of the provider's own (`x-api-key`, `x-goog-api-key`).
    Header(HeaderName, Secret),
    /// AWS signature with keys from the configuration.
    AwsKeys {
        /// Access key id.
        access_key_id: Secret,
        /// Secret access key.
        secret_access_key: Secret,
        /// Session token of temporary credentials.
        session_token: Option<Secret>,
    },
    /// AWS signature with keys of the default chain (environment, profile, web identity, container, IMDS).
    AwsDefault,
    /// A Google access token, given as it is.
    GoogleToken(Secret),
    /// Google access tokens of a credentials file (service account or authorized user).
    GoogleFile(PathBuf),
    /// Google application default credentials, then the metadata server.
    GoogleDefault,
}

impl Credential {
    /// The secrets that it holds itself, if any.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let all = match self {
            Self::Bearer(key) | Self::Header(_, key) | Self::GoogleToken(key) => [Some(key), None, None],
            Self::AwsKeys { access_key_id, secret_access_key, session_token } => {
                [Some(access_key_id), Some(secret_access_key), session_token.as_ref()]
            }
            Self::None | Self::AwsDefault | Self::GoogleFile(_) | Self::GoogleDefault => [None; 3],
        };
        all.into_iter().flatten()
    }
}

/// What only some kinds have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settings {
    /// The kinds that speak OpenAI, Mistral and Google AI Studio: nothing more.
    Plain,
    /// Anthropic's Messages API.
    Anthropic {
        /// `anthropic-version`; default `2023-06-01`.
        version: String,
        /// `anthropic-beta` values.
        beta: Vec<String>,
        /// `max_tokens` where the client gives none; default 4096.
        default_max_tokens: u32,
    },
    /// Bedrock and SageMaker.
    Aws {
        /// AWS region, part of the signature.
        region: String,
    },
    /// Vertex AI.
    Vertex {
        /// Google Cloud project.
        project: String,
        /// Location, or `global`.
        location: String,
    },
}

/// A provider and a model there. Where the provider has replicas, each of them is a target.
#[derive(Clone)]
pub struct Target {
    /// Its number among all targets of the snapshot, for health and metrics.
    pub index: usize,
    /// Where it is.
    pub provider: Arc<Provider>,
    /// How many targets, from this one on, are the replicas of one; 0 for all of them but the first.
    pub replicas: u16,
    /// The model there.
    pub model: ModelName,
    /// Its share under `weighted`; 0 for a target that is only reached by fail-over.
    pub weight: u32,
    /// What it costs; absent where nobody said.
    pub price: Option<Price>,
    /// How many tokens the model takes; `None` where nobody said.
    pub context: Option<u32>,
    /// What the model is called in Anthropic's list of models.
    pub display_name: Option<Box<str>>,
    /// Overrides the provider's `default_max_tokens`.
    pub default_max_tokens: Option<u32>,
    /// How Claude models are held to a JSON schema.
    pub structured_output: StructuredOutput,
    /// What a SageMaker endpoint's container speaks.
    pub format: SageMakerFormat,
    /// `X-Amzn-SageMaker-Inference-Component`.
    pub inference_component: Option<String>,
    /// Whether a `<think>` text inside the content is moved to `reasoning_content`.
    pub split_think_tags: bool,
}

/// How Claude models are held to a JSON schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StructuredOutput {
    /// The provider's JSON-schema output.
    #[default]
    Native,
    /// A forced tool whose arguments become the content.
    Tool,
}

/// What a SageMaker endpoint's container speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SageMakerFormat {
    /// OpenAI chat completions (LMI, vLLM, SGLang, TGI 3).
    #[default]
    OpenAiChat,
    /// TGI's `generate`.
    Tgi,
    /// JumpStart's old Llama-2 chat.
    Llama2Chat,
    /// JumpStart's Hugging Face embeddings.
    HfEmbedding,
    /// The TEI container.
    TeiEmbedding,
}

/// The upstream's name for the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelName {
    /// Always this one.
    Fixed(Arc<str>),
    /// `*` in it stands for what the route's `*` matched.
    Pattern(Arc<str>),
}
