//! What is refused in `listen`.

use super::Mistake;

/// What replaces what in a good file, and the place and a part of the message.
pub const MISTAKES: &[Mistake] = &[
    ("address: 127.0.0.1:0\n", "address: 127.0.0.1:0\n  - address: 1.1.1.1:1\n  - address: 1.1.1.1:1\n", "4:14", "listened on twice"),
    ("address: 127.0.0.1:0\n", "address: 127.0.0.1:0\n    tls: { certificate: /none, key: TLS/key.pem }\n", "3:25", "cannot read the file"),
    ("address: 127.0.0.1:0\n", "address: 127.0.0.1:0\n    tls: { certificate: TLS, key: TLS/key.pem }\n", "3:25", "cannot read the file"),
    (
        "address: 127.0.0.1:0\n",
        "address: 127.0.0.1:0\n    tls: { certificate: TLS/key.pem, key: TLS/key.pem }\n",
        "3:25",
        "no PEM certificate",
    ),
    (
        "address: 127.0.0.1:0\n",
        "address: 127.0.0.1:0\n    tls: { key: TLS/certificate.pem, certificate: TLS/certificate.pem }\n",
        "3:17",
        "no PEM private key",
    ),
    (
        "address: 127.0.0.1:0\n",
        "address: 127.0.0.1:0\n    tls: { key: TLS/other.pem, certificate: TLS/certificate.pem }\n",
        "3:17",
        "another certificate",
    ),
    ("address: 127.0.0.1:0\n", "address: 127.0.0.1:0\n    tls: { certificate: TLS/certificate.pem }\n", "3:10", "`key` is missing"),
    ("address: 127.0.0.1:0\n", "address: 127.0.0.1:0\n    tls: { min_version: 1.3 }\n", "3:10", "`certificate` is missing"),
    ("address: 127.0.0.1:0\n", "address: 127.0.0.1:0\n    tls: { min_version: 1.1 }\n", "3:25", "1.2, 1.3"),
    ("address: 127.0.0.1:0\n", "address: 127.0.0.1:0\n    tls: { certificates: [] }\n", "3:26", "at least one"),
    (
        "address: 127.0.0.1:0\n",
        "address: 127.0.0.1:0\n    tls: { key: TLS/key.pem, certificates: [ { certificate: TLS/certificate.pem, key: TLS/key.pem } ] }\n",
        "3:17",
        "in place of `certificate` and `key`",
    ),
    (
        "address: 127.0.0.1:0\n",
        "address: 127.0.0.1:0\n    tls: { client_certificate: optional, certificate: TLS/certificate.pem, key: TLS/key.pem }\n",
        "3:32",
        "needs `client_ca`",
    ),
    (
        "address: 127.0.0.1:0\n",
        "address: 127.0.0.1:0\n    tls: { client_ca: TLS/key.pem, certificate: TLS/certificate.pem, key: TLS/key.pem }\n",
        "3:23",
        "no PEM certificate",
    ),
    ("address: 127.0.0.1:0\n", "address: unix:run/x.sock\n", "2:14", "absolute path"),
    ("address: 127.0.0.1:0\n", "address: \"unix:/run/a b\"\n", "2:14", "without spaces"),
    ("address: 127.0.0.1:0\n", "address: unix:/run/x\n    mode: rw\n", "3:11", "octal"),
    ("address: 127.0.0.1:0\n", "address: unix:/run/x\n    mode: 0680\n", "3:11", "octal"),
    ("address: 127.0.0.1:0\n", "address: 127.0.0.1:0\n    mode: 0600\n", "3:11", "Unix socket's file"),
    ("address: 127.0.0.1:0\n", "address: unix:/run/x\n  - address: unix:/run/x\n", "3:14", "listened on twice"),
    ("address: 127.0.0.1:0\n", "address: 127.0.0.1:0\n    proxy_protocol: true\n", "3:21", "trust_forwarded_for"),
];
