//! Connections to providers: how they are made, shared between requests and closed.
//!
//! ```text
//! upstream         used by the hooks: the peer of an attempt, the result of its connection, max_connections
//!  ├ addresses     name resolution and balancing; failed addresses are skipped for a while
//!  └ connections   connects, through `via`; closes retired connections
//! http1            connector for providers that only speak HTTP/1.1
//!  ├ idle          pool of idle connections
//!  └ stream        writes the head of a request together with its body
//! ```
//!
//! Pingora pools connections that may speak HTTP/2. The others are pooled in [`idle`], which costs less; benches/README.md has
//! the figures. To remove [`http1`], use `ALPN::H1` in [`upstream::Upstream::peer`] and let Pingora pool all.
//!
//! | hook | calls |
//! | --- | --- |
//! | `upstream_peer` | [`peer`](upstream::Upstream::peer) |
//! | `connected_to_upstream` | [`connected`](upstream::Upstream::connected) |
//! | `upstream_response_body_filter`, at the end | [`set_answered`](upstream::AttemptConnection::set_answered) |
//! | `fail_to_connect` | [`connect_failed`](upstream::Upstream::connect_failed) |
//! | `error_while_proxy` | [`release`](upstream::AttemptConnection::release), [`retire`](upstream::Upstream::retire) |

/// Delegates the id and digests of a stream to the one in its field `stream`, an `Option`.
macro_rules! delegate_digests {
    ($type:ty, $stream:ident => $get:expr) => {
        impl UniqueID for $type {
            fn id(&self) -> UniqueIDType {
                self.stream.as_ref().map_or(-1, |$stream| $get.id())
            }
        }

        impl GetTimingDigest for $type {
            fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
                self.stream.as_ref().map(|$stream| $get.get_timing_digest()).unwrap_or_default()
            }

            fn get_read_pending_time(&self) -> Duration {
                self.stream.as_ref().map(|$stream| $get.get_read_pending_time()).unwrap_or_default()
            }

            fn get_write_pending_time(&self) -> Duration {
                self.stream.as_ref().map(|$stream| $get.get_write_pending_time()).unwrap_or_default()
            }
        }

        impl GetProxyDigest for $type {
            fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
                self.stream.as_ref().and_then(|$stream| $get.get_proxy_digest())
            }

            fn set_proxy_digest(&mut self, digest: ProxyDigest) {
                if let Some($stream) = &mut self.stream {
                    $get.set_proxy_digest(digest);
                }
            }
        }

        impl GetSocketDigest for $type {
            fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
                self.stream.as_ref().and_then(|$stream| $get.get_socket_digest())
            }

            fn set_socket_digest(&mut self, digest: SocketDigest) {
                if let Some($stream) = &mut self.stream {
                    $get.set_socket_digest(digest);
                }
            }
        }
    };
}
pub(in crate::edge) use delegate_digests;

pub mod upstream;

pub mod addresses;
mod connections;
pub mod via;

pub mod http1;
pub mod idle;
mod stream;
