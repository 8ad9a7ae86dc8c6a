//! Connections to providers: how they are made, shared between requests and closed.
//!
//! ```text
//! upstream         what the hooks use: the peer of an attempt, what became of its connection, max_connections
//!  ├ addresses     name resolution; attempts take the addresses in turn, failed ones rest
//!  └ connections   connects, through `via`; closes what is retired
//! http1            the connector for providers that speak HTTP/1.1 only
//!  ├ idle          its connections between requests
//!  └ stream        writes the head of a request together with its body
//! ```
//!
//! Pingora pools the connections that may speak HTTP/2. The others wait in [`idle`], which costs less; benches/README.md has
//! the figures. To do without [`http1`], let [`upstream::Upstream::peer`] choose `ALPN::H1` and have Pingora pool them all.
//!
//! | hook | calls |
//! | --- | --- |
//! | `upstream_peer` | [`peer`](upstream::Upstream::peer) |
//! | `connected_to_upstream` | [`connected`](upstream::Upstream::connected) |
//! | `upstream_response_body_filter`, at the end | [`set_answered`](upstream::AttemptConnection::set_answered) |
//! | `fail_to_connect` | [`connect_failed`](upstream::Upstream::connect_failed) |
//! | `error_while_proxy` | [`release`](upstream::AttemptConnection::release), [`retire`](upstream::Upstream::retire) |

pub mod upstream;

pub mod addresses;
mod connections;
pub mod via;

pub mod http1;
pub mod idle;
mod stream;
