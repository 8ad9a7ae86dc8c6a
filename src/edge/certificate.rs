//! The certificate that a listener shows: the one of the configuration in force, so that a reload rotates it.

use super::live::Live;
use arc_swap::ArcSwap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;

/// See the module.
pub struct Shown {
    live: Arc<ArcSwap<Live>>,
    address: SocketAddr,
    /// For a listener that the configuration in force has no certificate for, because only an upgrade can remove it.
    first: Arc<CertifiedKey>,
}

impl Shown {
    /// What the listener at `address` shows, beginning with `first`.
    pub fn new(live: Arc<ArcSwap<Live>>, address: SocketAddr, first: Arc<CertifiedKey>) -> Self {
        Self { live, address, first }
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let live = self.live.load();
        let identity = live.snapshot.listen.iter().find(|l| l.address == self.address).and_then(|l| l.tls.as_ref());
        Some(identity.map_or(&self.first, |identity| &identity.certified).clone())
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown").field("address", &self.address).finish_non_exhaustive()
    }
}
