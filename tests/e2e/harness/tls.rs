//! Certificates of the tests' own, a TLS front for the simulator, and TLS clients.

use super::dir::Dir;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use tokio_rustls::rustls::{ALL_VERSIONS, ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Connections of a TLS front.
#[derive(Default)]
pub struct Count {
    accepted: AtomicUsize,
    closed: AtomicUsize,
}

impl Count {
    /// All so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Those that are open.
    pub fn open(&self) -> usize {
        self.accepted() - self.closed.load(Ordering::Relaxed)
    }
}

struct Closed(Arc<Count>);

impl Drop for Closed {
    fn drop(&mut self) {
        self.0.closed.fetch_add(1, Ordering::Relaxed);
    }
}

/// An authority and a certificate for `localhost`.
pub struct Certificates {
    pub ca: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
    dir: Dir,
}

fn openssl(arguments: &[&str]) {
    let made = Command::new("openssl").args(arguments).output().expect("openssl is installed");
    assert!(made.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&made.stderr));
}

const NEW: [&str; 5] = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];

impl Certificates {
    /// Makes them.
    pub fn new() -> Self {
        let dir = Dir::new();
        let path = |name: &str| dir.join(name).display().to_string();
        let (ca, ca_key) = (path("ca.pem"), path("ca.key"));
        openssl(&[&NEW[..], &["-nodes", "-x509", "-days", "2", "-subj", "/CN=ca of the tests", "-keyout", &ca_key, "-out", &ca]].concat());
        let new = Self { ca: ca.into(), certificate: dir.join("tls.pem"), key: dir.join("tls.key"), dir };
        new.issue("tls", "subjectAltName=DNS:localhost,IP:127.0.0.1");
        new
    }

    /// Signs one more certificate with this extension; its file and the one of its key are named after `name`.
    pub fn issue(&self, name: &str, extension: &str) -> (PathBuf, PathBuf) {
        let path = |name: String| self.dir.join(&name).display().to_string();
        let (key, ask, certificate) = (path(format!("{name}.key")), path(format!("{name}.csr")), path(format!("{name}.pem")));
        let (ca, ca_key) = (self.ca.display().to_string(), path("ca.key".to_owned()));
        openssl(&[&NEW[..], &["-nodes", "-subj", &format!("/CN={name}"), "-keyout", &key, "-out", &ask]].concat());
        let extensions = self.dir.write(&format!("{name}.ext"), extension).display().to_string();
        let sign = ["x509", "-req", "-in", &ask, "-CA", &ca, "-CAkey", &ca_key, "-CAcreateserial", "-days", "2"];
        openssl(&[&sign[..], &["-extfile", &extensions, "-out", &certificate]].concat());
        (certificate.into(), key.into())
    }

    /// Where their files are.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// Accepts TLS with these protocols.
    pub fn acceptor(&self, alpn: &[&str]) -> TlsAcceptor {
        let chain = CertificateDer::pem_file_iter(&self.certificate).unwrap().map(Result::unwrap).collect();
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, PrivateKeyDer::from_pem_file(&self.key).unwrap())
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }

    /// Terminates TLS in front of `to`, HTTP/2 by ALPN; returns where.
    pub async fn front(&self, to: SocketAddr) -> SocketAddr {
        self.counted_front(to).await.0
    }

    /// The same, with a count of its connections.
    pub async fn counted_front(&self, to: SocketAddr) -> (SocketAddr, Arc<Count>) {
        let acceptor = self.acceptor(&["h2", "http/1.1"]);
        let count = Arc::<Count>::default();
        let counting = count.clone();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, count) = (acceptor.clone(), counting.clone());
                count.accepted.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    let _closed = Closed(count);
                    let (Ok(mut outer), Ok(mut inner)) = tokio::join!(acceptor.accept(stream), TcpStream::connect(to)) else { return };
                    let _ = tokio::io::copy_bidirectional(&mut outer, &mut inner).await; // one side's end is the other's
                });
            }
        });
        (address, count)
    }

    /// The configuration of a provider that the simulator at `to` plays over TLS.
    pub async fn provider(&self, to: SocketAddr) -> String {
        let front = self.front(to).await;
        let ca = self.ca.display();
        format!("{{ kind: vllm, base_url: \"https://{front}/vllm/v1\", tls: {{ ca_file: {ca}, server_name: localhost }} }}")
    }
}

/// A TLS connection that trusts `ca` only and offers `alpn`.
pub async fn connect(address: SocketAddr, ca: &Path, alpn: &[&str]) -> std::io::Result<TlsStream<TcpStream>> {
    Client { alpn, ..Client::local(ca) }.connect(address).await
}

/// How a client speaks TLS.
#[derive(Clone, Copy)]
pub struct Client<'a> {
    /// The only authority that it trusts.
    pub ca: &'a Path,
    /// The protocols that it offers.
    pub alpn: &'a [&'a str],
    /// The server that it asks for.
    pub name: &'a str,
    /// The versions of TLS that it offers.
    pub versions: &'static [&'static SupportedProtocolVersion],
    /// Its own certificate and key.
    pub identity: Option<(&'a Path, &'a Path)>,
}

impl<'a> Client<'a> {
    /// Asks for `localhost`, with nothing of its own.
    pub fn local(ca: &'a Path) -> Self {
        Self { ca, alpn: &[], name: "localhost", versions: ALL_VERSIONS, identity: None }
    }

    /// Connects; with TLS 1.3 the server may still refuse the certificate afterwards.
    pub async fn connect(&self, address: SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
        self.over(TcpStream::connect(address).await?).await
    }

    /// Speaks TLS over a connection.
    pub async fn over(&self, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        let chain = |file: &Path| CertificateDer::pem_file_iter(file).unwrap().map(Result::unwrap).collect::<Vec<_>>();
        let mut roots = RootCertStore::empty();
        chain(self.ca).into_iter().for_each(|authority| roots.add(authority).unwrap());
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(self.versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match self.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                builder.with_client_auth_cert(chain(certificate), PrivateKeyDer::from_pem_file(key).unwrap()).unwrap()
            }
        };
        config.alpn_protocols = self.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(self.name.to_owned()).unwrap(), stream).await
    }
}
