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

pub mod upstream;

pub mod addresses;
mod connections;
pub mod via;

pub mod http1;
pub mod idle;
mod stream;
