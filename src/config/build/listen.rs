//! The listeners.

use super::Builder;
use crate::config::file::{CertificateAndKey, File, Listen as FileListen, ListenTls};
use crate::config::snapshot::{Listen, ListenAddress};
use crate::config::tls::{self, ClientCertificate};
use crate::config::types::TrustedPeer;
use crate::pem::{Certificates, Identity};
use crate::yaml::value::{At, Some1};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio_rustls::rustls::ServerConfig;

impl Builder<'_> {
    pub(super) fn listen(&mut self, file: &File) -> Vec<Listen> {
        let default = || vec![Listen { address: ListenAddress::Tcp((Ipv4Addr::LOCALHOST, 3000).into()), tls: None, proxy_protocol: false }];
        let listeners: Vec<Listen> = match &file.listen {
            None => default(),
            Some(list) => list.0.iter().map(|listen| self.listener(listen, &file.server.trust_forwarded_for)).collect(),
        };
        let is_any_port = |address: &SocketAddr| address.port() == 0;
        let mut seen = vec![file.admin.address.value.to_string()];
        seen.extend(file.server.upgrade_socket.iter().map(|path| format!("unix:{}", path.display())));
        let places = file.listen.iter().flat_map(|list| &list.0).map(|listen| listen.address.at);
        for (listen, at) in listeners.iter().zip(places.chain(std::iter::repeat(file.admin.at))) {
            let name = listen.address.to_string();
            let fixed = !matches!(&listen.address, ListenAddress::Tcp(address) if is_any_port(address));
            if fixed && seen.contains(&name) {
                self.add(at, format!("`{name}` is listened on twice (`listen`, `admin` and `upgrade_socket` together)"));
            }
            seen.push(name);
        }
        listeners
    }

    fn listener(&mut self, listen: &FileListen, trust: &[TrustedPeer]) -> Listen {
        let mut address = listen.address.value.clone();
        match (&mut address, &listen.mode) {
            (ListenAddress::Unix { mode, .. }, Some(written)) => *mode = written.value.0,
            (ListenAddress::Tcp(_), Some(written)) => self.add(written.at, "`mode` is for a Unix socket's file; leave it out"),
            (_, None) => {}
        }
        if listen.proxy_protocol.value {
            let is_unix = matches!(address, ListenAddress::Unix { .. });
            let example = if is_unix { "unix" } else { "10.0.0.0/8" };
            if !trust.iter().any(|peer| is_unix == (*peer == TrustedPeer::Unix)) {
                let message = format!(
                    "`proxy_protocol` is accepted from `server.trust_forwarded_for` only, which has nobody who can connect here; list \
                     the load balancers there, like {example}"
                );
                self.add(listen.proxy_protocol.at, message);
            }
        }
        Listen { address, tls: listen.tls.as_ref().and_then(|tls| self.listen_tls(tls)), proxy_protocol: listen.proxy_protocol.value }
    }

    fn listen_tls(&mut self, tls: &ListenTls) -> Option<Arc<ServerConfig>> {
        let identities = self.identities(tls);
        let authorities = tls.client_ca.as_ref().map(|file| self.pem(file, Certificates::authorities));
        let clients = match (&authorities, &tls.client_certificate) {
            (Some(authorities), client) => {
                let client = client.as_ref().map_or(ClientCertificate::Required, |client| client.value);
                Some((authorities.as_ref()?, client))
            }
            (None, Some(At { at, .. })) => {
                self.add(*at, "`client_certificate` needs `client_ca`, the authorities that sign clients' certificates");
                None
            }
            (None, None) => None,
        };
        match tls::server(&identities?, clients, tls.min_version) {
            Ok(config) => Some(config),
            Err(what) => {
                self.add(tls.at, format!("`tls` cannot be used: {what}"));
                None
            }
        }
    }

    /// The certificates with their keys; the first is for clients that ask for no name of the others.
    fn identities(&mut self, tls: &ListenTls) -> Option<Vec<Arc<Identity>>> {
        match (&tls.certificate, &tls.key, &tls.certificates) {
            (Some(certificate), Some(key), None) => Some(vec![self.identity(certificate, key)?]),
            (None, None, Some(Some1(list))) => {
                let all: Vec<_> = list.iter().enumerate().map(|(number, pair)| self.named_identity(pair, number > 0)).collect();
                all.into_iter().collect()
            }
            (Some(At { at, .. }), _, Some(_)) | (_, Some(At { at, .. }), Some(_)) => {
                let message = "`certificates` stands in place of `certificate` and `key`; write these as its first entry";
                self.add(*at, message);
                None
            }
            (Some(_), None, None) => self.missing(tls, "key"),
            (None, _, None) => self.missing(tls, "certificate"),
        }
    }

    fn named_identity(&mut self, pair: &CertificateAndKey, needs_name: bool) -> Option<Arc<Identity>> {
        let identity = self.identity(&pair.certificate, &pair.key)?;
        if needs_name && identity.chain.names().is_empty() {
            let what = "has no DNS name (subjectAltName) that a client could ask for; only the first certificate needs none";
            return self.reader.useless(pair.certificate.at, what);
        }
        Some(identity)
    }

    /// Nothing is added where the section is not sound: what is missing may be what was wrong.
    fn missing<T>(&mut self, tls: &ListenTls, key: &str) -> Option<T> {
        if tls.sound {
            self.add(tls.at, format!("`{key}` is missing; `tls` needs `certificate` and `key`, or `certificates`"));
        }
        None
    }
}
