//! How a request proves who pays.

pub mod google;
pub mod http;
