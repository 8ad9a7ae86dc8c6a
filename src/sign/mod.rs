//! Proofs: what makes a request ours to a provider, and what makes a returned state ours to us.

pub mod aws;
pub mod fresh;
pub mod google;
pub mod http;
pub mod signer;
