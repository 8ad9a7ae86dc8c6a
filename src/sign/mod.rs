//! Authenticates requests to providers, and seals provider state that clients return.

pub mod aws;
pub mod credential;
pub mod fresh;
pub mod google;
pub mod http;
pub mod signer;
