//! Limits counted in a real Redis: by several nodes at once, through its failures, and by whole gateways.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used, clippy::print_stdout)]

#[path = "../shared/dir.rs"]
mod dir;
#[path = "../shared/redis.rs"]
mod redis;
mod support;

mod arithmetic;
mod failures;
mod gateways;
mod leases;
mod refusals;
mod shared;
mod topology;
mod windows;
