//! What is refused in `listen`.

use super::Mistake;

/// A listener with these keys of `tls`.
macro_rules! tls {
    ($keys:literal, $place:literal, $message:literal) => {
        ("address: 127.0.0.1:0\n", concat!("address: 127.0.0.1:0\n    tls: { ", $keys, " }\n"), $place, $message)
    };
}

/// What replaces what in a good file, and the place and a part of the message.
pub const MISTAKES: &[Mistake] = &[
    ("address: 127.0.0.1:0\n", "address: 127.0.0.1:0\n  - address: 1.1.1.1:1\n  - address: 1.1.1.1:1\n", "4:14", "listened on twice"),
    tls!("certificate: /none, key: TLS/key.pem", "3:25", "cannot read the file"),
    tls!("certificate: TLS, key: TLS/key.pem", "3:25", "cannot read the file"),
    tls!("certificate: TLS/key.pem, key: TLS/key.pem", "3:25", "no PEM certificate"),
    tls!("key: TLS/certificate.pem, certificate: TLS/certificate.pem", "3:17", "no PEM private key"),
    tls!("key: TLS/other.pem, certificate: TLS/certificate.pem", "3:17", "another certificate"),
    tls!("certificate: TLS/certificate.pem", "3:10", "`key` is missing"),
    tls!("min_version: 1.3", "3:10", "`certificate` is missing"),
    tls!("min_version: 1.1", "3:25", "1.2, 1.3"),
    tls!("certificates: []", "3:26", "at least one"),
    tls!(
        "key: TLS/key.pem, certificates: [ { certificate: TLS/certificate.pem, key: TLS/key.pem } ]",
        "3:17",
        "in place of `certificate` and `key`"
    ),
    tls!("client_certificate: optional, certificate: TLS/certificate.pem, key: TLS/key.pem", "3:32", "needs `client_ca`"),
    tls!("client_ca: TLS/key.pem, certificate: TLS/certificate.pem, key: TLS/key.pem", "3:23", "no PEM certificate"),
    ("address: 127.0.0.1:0\n", "address: unix:run/x.sock\n", "2:14", "absolute path"),
    ("address: 127.0.0.1:0\n", "address: \"unix:/run/a b\"\n", "2:14", "without spaces"),
    ("address: 127.0.0.1:0\n", "address: unix:/run/x\n    mode: rw\n", "3:11", "octal"),
    ("address: 127.0.0.1:0\n", "address: unix:/run/x\n    mode: 0680\n", "3:11", "octal"),
    ("address: 127.0.0.1:0\n", "address: 127.0.0.1:0\n    mode: 0600\n", "3:11", "Unix socket's file"),
    ("address: 127.0.0.1:0\n", "address: unix:/run/x\n  - address: unix:/run/x\n", "3:14", "listened on twice"),
    ("address: 127.0.0.1:0\n", "address: 127.0.0.1:0\n    proxy_protocol: true\n", "3:21", "trust_forwarded_for"),
];
