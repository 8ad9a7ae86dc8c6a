//! The only place that names Pingora: listeners, the proxy's hooks, the session they work on.

pub mod admin;
pub mod serve;
pub mod signals;

pub mod handover;
pub mod sockets;
pub mod upgrade;

pub mod downstream;
pub mod head;
pub mod inspect;
pub mod proxy_header;
pub mod reject;
pub mod timer;

pub mod proxy;

pub mod call;
mod conversation;
pub mod exchange;
mod upstream_head;

pub mod intake;

pub mod admission;

pub mod cors;

pub mod replay;
pub mod shared;

pub mod connector;
pub mod upstream_request;

pub mod failure;
pub mod outage;
pub mod passed_head;
pub mod respond;
pub mod response_headers;

pub mod summary;

pub mod descriptors;
pub mod drain;
mod large;
pub mod live;
pub mod reload;

#[cfg(test)]
#[cfg(feature = "simulator")]
mod tests;
