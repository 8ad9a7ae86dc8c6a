//! Transport of connections to a provider: direct, through an egress proxy, or over a Unix socket.

use crate::egress::authority;
use crate::egress::proxy::Proxy;
use crate::egress::tunnel::{self, TunnelError};
use crate::provider::Provider;
use crate::system;
use crate::telemetry::throttle::Throttle;
use pingora_core::{Error, ErrorType, Result};
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpStream;

/// Connecting to the egress proxy failed.
pub const PROXY_UNREACHABLE: ErrorType = ErrorType::Custom("egress proxy unreachable");
/// The egress proxy opened no tunnel; the cause is a [`TunnelError`].
pub const PROXY_REFUSED: ErrorType = ErrorType::Custom("egress proxy refused");

/// Log rate limits.
static REFUSED: Throttle = Throttle::new();
static UNREACHABLE: Throttle = Throttle::new();

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Via {
    /// TCP to an address of the provider.
    Direct,
    /// TCP to a proxy, which receives requests in absolute form.
    Forward(Arc<Proxy>),
    /// A tunnel through a proxy.
    Tunnel {
        /// The proxy.
        proxy: Arc<Proxy>,
        /// Target of the tunnel, `host:port`.
        authority: Box<str>,
    },
    /// The provider's Unix socket.
    Socket(Arc<Path>),
}

impl Via {
    /// The transport of a provider's connections.
    pub fn of(provider: &Provider) -> Self {
        let base = &provider.base;
        match (&base.socket, provider.proxy(), provider.forward_proxy()) {
            (Some(socket), ..) => Self::Socket(socket.clone()),
            (None, _, Some(proxy)) => Self::Forward(proxy.clone()),
            (None, Some(proxy), None) => Self::Tunnel { proxy: proxy.clone(), authority: authority(&base.host, base.port).into() },
            (None, None, None) => Self::Direct,
        }
    }

    /// Host and port of the TCP connection; a placeholder for a Unix socket.
    pub fn endpoint(&self, provider: &Provider) -> (Arc<str>, u16) {
        match self {
            Self::Direct => (provider.base.host.clone(), provider.base.port),
            Self::Forward(proxy) | Self::Tunnel { proxy, .. } => (proxy.host().into(), proxy.port()),
            Self::Socket(_) => (Ipv4Addr::UNSPECIFIED.to_string().into(), 0),
        }
    }

    fn proxy(&self) -> Option<&Proxy> {
        match self {
            Self::Forward(proxy) | Self::Tunnel { proxy, .. } => Some(proxy),
            Self::Direct | Self::Socket(_) => None,
        }
    }

    /// Opens the tunnel, if any, on a new connection.
    ///
    /// # Errors
    /// [`PROXY_REFUSED`].
    pub async fn complete(&self, stream: &mut TcpStream) -> Result<()> {
        let Self::Tunnel { proxy, authority } = self else { return Ok(()) };
        tunnel::open(stream, proxy, authority).await.map_err(|error: TunnelError| {
            if let Some(more) = REFUSED.admit(system::now()) {
                log::warn!("no tunnel to {authority}: the egress proxy {proxy} {error}{more}");
            }
            Error::because(PROXY_REFUSED, "no tunnel", error)
        })
    }

    /// The error for a failed connect to `place`; logs a failure of the egress proxy.
    pub fn failed(&self, place: impl std::fmt::Display, error: io::Error) -> Box<Error> {
        if let Some(proxy) = self.proxy() {
            if let Some(more) = UNREACHABLE.admit(system::now()) {
                let (proxy, place) = (proxy.to_string(), place.to_string());
                let at = if proxy.ends_with(&place) { String::new() } else { format!(" at {place}") };
                log::warn!("cannot connect to the egress proxy {proxy}{at}: {error}{more}");
            }
            return Error::because(PROXY_UNREACHABLE, "no connection to the egress proxy", error);
        }
        let kind = match error.kind() {
            io::ErrorKind::ConnectionRefused => ErrorType::ConnectRefused,
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => ErrorType::ConnectNoRoute,
            _ => ErrorType::ConnectError,
        };
        Error::because(kind, format!("connecting to {place}"), error)
    }
}
