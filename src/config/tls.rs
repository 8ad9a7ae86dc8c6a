//! How a listener speaks TLS: its certificates by server name, the versions, and the certificates of clients. It is made with
//! the configuration, so that a rotated file is a reload like any other.

use crate::pem::{Certificates, Identity};
use crate::yaml::section::words;
use std::collections::HashMap;
use std::sync::Arc;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::server::{ClientHello, NoClientAuth, ResolvesServerCert, ServerConfig, WebPkiClientVerifier};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{ALL_VERSIONS, SupportedProtocolVersion, version};

/// The oldest version of TLS that is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MinVersion {
    /// TLS 1.2 and 1.3.
    Tls12,
    /// TLS 1.3 only.
    Tls13,
}

impl MinVersion {
    fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        static TLS_1_3: &[&SupportedProtocolVersion] = &[&version::TLS13];
        match self {
            Self::Tls12 => ALL_VERSIONS,
            Self::Tls13 => TLS_1_3,
        }
    }
}

words! {
    /// Whether a client has to show a certificate.
    ClientCertificate {
        /// A connection without one is refused.
        Required = "required",
        /// A connection without one is served; one that is shown has to be good.
        Optional = "optional",
    }
}

/// HTTP/2 and HTTP/1.1 by ALPN, with the first of `identities` for clients that ask for no name, or for an unknown one.
/// `clients` are the authorities of clients' certificates, and whether a client needs one.
///
/// # Errors
/// Why the authorities cannot be used.
pub fn server(
    identities: &[Arc<Identity>],
    clients: Option<(&Certificates, ClientCertificate)>,
    min_version: MinVersion,
) -> Result<Arc<ServerConfig>, String> {
    let provider = Arc::new(default_provider());
    let verifier: Arc<dyn ClientCertVerifier> = match clients {
        None => Arc::new(NoClientAuth),
        Some((authorities, client)) => {
            let roots = Arc::new(authorities.roots()?);
            let builder = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
            let builder = if client == ClientCertificate::Optional { builder.allow_unauthenticated() } else { builder };
            builder.build().map_err(|e| e.to_string())?
        }
    };
    let builder =
        ServerConfig::builder_with_provider(provider).with_protocol_versions(min_version.versions()).map_err(|e| e.to_string())?;
    let mut config = builder.with_client_cert_verifier(verifier).with_cert_resolver(Arc::new(ByName::new(identities)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Certificates by the names in them. Several may have the same name, with keys of different kinds.
#[derive(Debug)]
struct ByName {
    first: Option<Arc<CertifiedKey>>,
    names: HashMap<String, Vec<Arc<CertifiedKey>>>,
}

impl ByName {
    fn new(identities: &[Arc<Identity>]) -> Self {
        let mut names: HashMap<String, Vec<_>> = HashMap::new();
        for identity in identities {
            for name in identity.chain.names() {
                names.entry(name).or_default().push(identity.certified.clone());
            }
        }
        Self { first: identities.first().map(|identity| identity.certified.clone()), names }
    }

    /// Those for a name: its own before those with a wildcard in the place of its first label (RFC 6125, section 6.4.3).
    fn named(&self, name: &str) -> Option<&Vec<Arc<CertifiedKey>>> {
        let name = name.to_ascii_lowercase();
        let wildcard = || self.names.get(&format!("*.{}", name.split_once('.')?.1));
        self.names.get(&name).or_else(wildcard)
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|name| self.named(name));
        let Some(named) = named else { return self.first.clone() };
        let usable = named.iter().find(|one| one.key.choose_scheme(hello.signature_schemes()).is_some());
        usable.or(named.first()).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pem;

    #[test]
    fn a_name_has_its_own_certificate_before_a_wildcard() {
        let pem = include_bytes!("../../tests/fixtures/tls/certificate.pem");
        let key = pem::key(include_bytes!("../../tests/fixtures/tls/key.pem")).unwrap();
        let identity = Identity::new(Certificates::parse(pem).unwrap(), key).unwrap();
        let (own, wild) = (Arc::new(CertifiedKey::clone(&identity.certified)), identity.certified.clone());
        let names = [("a.example.com", &own), ("*.example.com", &wild)].map(|(name, key)| (name.to_owned(), vec![key.clone()]));
        let certificates = ByName { first: None, names: names.into() };
        let shown = |name: &str| certificates.named(name).and_then(|named| named.first());
        assert!(shown("A.example.com").is_some_and(|key| Arc::ptr_eq(key, &own)));
        assert!(shown("b.example.com").is_some_and(|key| Arc::ptr_eq(key, &wild)));
        for other in ["example.com", "a.b.example.com", "localhost", ""] {
            assert!(shown(other).is_none(), "{other}");
        }
    }
}
