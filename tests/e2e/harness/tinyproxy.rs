//! A real egress proxy (Debian's `tinyproxy`) that asks for an account and refuses one domain.

use super::dir::Dir;
use super::gateway::free_address;
use super::{accepts, silent, until};
use std::net::SocketAddr;
use tokio::net::TcpStream;
use tokio::process::Child;

/// The password of the proxy's only user, `gate`.
pub const PASSWORD: &str = "correct-horse-battery";
/// The domain to which the proxy makes no connection.
pub const DENIED: &str = "denied.invalid";

/// A running proxy; it ends when this is dropped.
pub struct Tinyproxy {
    child: Child,
    address: SocketAddr,
    dir: Dir,
}

impl Tinyproxy {
    /// Starts one and waits until it accepts connections.
    pub async fn start() -> Self {
        let address = free_address();
        let dir = Dir::new();
        let filter = dir.write("filter", &format!("^{}$\n", DENIED.replace('.', "\\.")));
        let config = format!(
            "Port {}\nListen {}\nTimeout 600\nLogFile \"{}\"\nLogLevel Connect\nMaxClients 100\nBasicAuth gate {PASSWORD}\nFilter \"{}\"\n",
            address.port(),
            address.ip(),
            dir.join("log").display(),
            filter.display()
        );
        let config = dir.write("tinyproxy.conf", &config);
        let child = silent("tinyproxy").args(["-d", "-c"]).arg(config).spawn().expect("tinyproxy is installed (apt: tinyproxy)");
        accepts("tinyproxy", address).await;
        Self { child, address, dir }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL with its account, the password percent-encoded in part.
    pub fn url(&self) -> String {
        format!("http://gate:{}@{}", PASSWORD.replacen('-', "%2D", 1), self.address)
    }

    /// How many requests for this it has had so far, like `CONNECT host:port` or `POST http://host:port/path`.
    pub fn requests(&self, what: &str) -> usize {
        let log = std::fs::read_to_string(self.dir.join("log")).unwrap();
        log.lines().filter(|line| line.contains("Request (") && line.contains(&format!(": {what} HTTP/1."))).count()
    }

    /// Ends it.
    pub async fn stop(mut self) -> SocketAddr {
        self.child.kill().await.unwrap();
        until("the proxy's end", async || TcpStream::connect(self.address).await.is_err().then_some(())).await;
        self.address
    }
}
