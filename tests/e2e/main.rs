//! The gateway as its users and operators meet it: the real binary as a process of its own, a configuration in a file,
//! the simulator behind it, plain sockets and real tools in front.
//!
//! Nothing here is measured: what has to happen is awaited, and [`harness::PATIENCE`] only ends a hang. One crate with
//! modules, because linking costs more than running. `tests/README.md` says what is where.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed"
)]

mod browser;
mod connections;
mod deadlines;
mod drain;
mod edges;
mod egress;
mod endpoints;
mod failover;
mod failoverbench;
#[allow(dead_code, reason = "shared with the soak, which uses more of it")]
mod harness;
mod heartbeats;
mod hostile;
mod intake;
mod jwt;
mod keys;
mod kinds;
mod limits;
mod listeners;
mod log;
mod messages;
mod operator;
mod page;
mod prices;
mod process;
mod prometheus;
mod readme;
mod reasons;
mod refusals;
mod reject;
mod reload;
mod replicas;
mod responses;
mod responses_upstream;
mod retries;
mod sdk;
mod secrets;
mod secure;
mod streams;
mod targets;
mod traces;
mod upgrade;
mod upstreams;
