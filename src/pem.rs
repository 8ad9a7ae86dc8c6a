//! Certificates and keys out of PEM files. They are read with the configuration, so that what cannot be used is told
//! before anything depends on it, and a rotated file is a reload like any other.

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::Arc;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{Error, RootCertStore};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// One certificate or more, in the order of their file. All of them can be parsed, on which Pingora depends.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificates(Vec<CertificateDer<'static>>);

impl Certificates {
    /// The certificates in a PEM file.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn parse(pem: &[u8]) -> Result<Self, &'static str> {
        let all: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|_| "is not PEM")?;
        if all.is_empty() {
            return Err("has no PEM certificate");
        }
        let parses = |one: &CertificateDer<'_>| matches!(X509Certificate::from_der(one), Ok((rest, _)) if rest.is_empty());
        if all.iter().all(parses) { Ok(Self(all)) } else { Err("has a certificate that cannot be parsed") }
    }

    /// The same where each of them may vouch for others.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn authorities(pem: &[u8]) -> Result<Self, &'static str> {
        let all = Self::parse(pem)?;
        all.roots().map(|_| all)
    }

    /// A store in which each of them is a root.
    ///
    /// # Errors
    /// Where one of them cannot be one.
    pub fn roots(&self) -> Result<RootCertStore, &'static str> {
        let mut roots = RootCertStore::empty();
        match self.0.iter().try_for_each(|one| roots.add(one.clone())) {
            Ok(()) => Ok(roots),
            Err(_) => Err("has a certificate that cannot be an authority"),
        }
    }

    /// The host names that the first certificate is for, in lower case: the DNS names of its subjectAltName.
    pub fn names(&self) -> Vec<String> {
        let Some(Ok((_, first))) = self.0.first().map(|first| X509Certificate::from_der(first)) else { return Vec::new() };
        let Ok(Some(names)) = first.subject_alternative_name() else { return Vec::new() };
        let name = |name: &GeneralName<'_>| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        };
        names.value.general_names.iter().filter_map(name).collect()
    }

    /// When the first of them is not valid any more, in seconds since the epoch.
    pub fn end(&self) -> Option<i64> {
        let end = |one: &CertificateDer<'_>| Some(X509Certificate::from_der(one).ok()?.1.validity().not_after.timestamp());
        self.0.iter().filter_map(end).min()
    }

    /// The bytes of each.
    pub fn der(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(AsRef::as_ref)
    }
}

/// The private key in a PEM file.
///
/// # Errors
/// What is wrong with the file.
pub fn key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, &'static str> {
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| {
        // PKCS #8 (RFC 7468 section 11), and the older form of RFC 1421 section 4.6.1.1.
        let encrypted = ["BEGIN ENCRYPTED PRIVATE KEY", "Proc-Type: 4,ENCRYPTED"];
        match String::from_utf8_lossy(pem) {
            text if encrypted.iter().any(|mark| text.contains(mark)) => {
                "has an encrypted private key, and Tidegate asks for no passphrase; decrypt it with `openssl pkey -in FILE -out FILE`"
            }
            _ => "has no PEM private key",
        }
    })?;
    match default_provider().key_provider.load_private_key(key.clone_key()) {
        Ok(_) => Ok(key),
        Err(_) => Err("has a private key of a kind that cannot be used"),
    }
}

/// Who one side of a TLS connection says it is, and the proof.
pub struct Identity {
    /// The chain, its own certificate first.
    pub chain: Certificates,
    /// The key to the first certificate.
    pub key: PrivateKeyDer<'static>,
    /// Both, ready to sign.
    pub certified: Arc<CertifiedKey>,
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.chain == other.chain && self.key == other.key
    }
}

impl Eq for Identity {}

impl Identity {
    /// Puts a chain and its key together.
    ///
    /// # Errors
    /// What is wrong with the key's file.
    pub fn new(chain: Certificates, key: PrivateKeyDer<'static>) -> Result<Self, &'static str> {
        match CertifiedKey::from_der(chain.0.clone(), key.clone_key(), &default_provider()) {
            Ok(certified) => Ok(Self { chain, key, certified: Arc::new(certified) }),
            Err(Error::InconsistentKeys(_)) => Err("has the key of another certificate"),
            Err(_) => Err("has a key whose certificate cannot be used"),
        }
    }
}
