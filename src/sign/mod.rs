//! How a request proves who pays.

pub mod aws;
