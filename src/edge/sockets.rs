//! The listening sockets of the process. Each is bound once, or inherited from the process before; Pingora and the admin
//! listener work on copies, and an upgrade sends the originals.

use pingora_core::server::Fds;
use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd};
use std::time::{Duration, Instant};

/// How long a successor waits for the admin address where the process before does not hand it over (0.1.0).
const ADMIN_WAIT: Duration = Duration::from_secs(5);

/// Sockets that another process has sent, by their names.
pub type Inherited = HashMap<String, TcpListener>;

/// See the module.
pub struct Sockets {
    /// For clients, by the address as it is configured.
    clients: Vec<(String, TcpListener)>,
    admin: (String, TcpListener),
}

impl Sockets {
    /// Takes over what is inherited, and binds the rest. What is inherited and not configured any more is closed.
    ///
    /// # Errors
    /// Which address cannot be listened on, and why.
    pub fn open(clients: impl Iterator<Item = SocketAddr>, admin: SocketAddr, inherited: Option<Inherited>) -> Result<Self, String> {
        let wait = if inherited.is_some() { ADMIN_WAIT } else { Duration::ZERO };
        let mut inherited = inherited.unwrap_or_default();
        let mut socket = |name: &str, address: SocketAddr, wait| match inherited.remove(name).filter(|s| listens_on(s, address)) {
            Some(socket) => Ok(socket),
            None => bind(address, wait),
        };
        let clients = clients.map(|address| {
            let name = address.to_string();
            let socket = socket(&name, address, Duration::ZERO).map_err(|e| format!("cannot listen on {address}: {e}"))?;
            Ok((name, socket))
        });
        let clients = clients.collect::<Result<_, String>>()?;
        let name = format!("admin:{admin}");
        let socket = socket(&name, admin, wait).map_err(|e| format!("cannot listen on {admin} (admin): {e}"))?;
        Ok(Self { clients, admin: (name, socket) })
    }

    /// Copies for Pingora, which looks for them by the configured addresses.
    ///
    /// # Errors
    /// When the process has no more file descriptors.
    pub fn for_pingora(&self) -> io::Result<Fds> {
        let mut table = Fds::new();
        for (name, socket) in &self.clients {
            table.add(name.clone(), socket.try_clone()?.into_raw_fd());
        }
        Ok(table)
    }

    /// A copy for the admin listener.
    ///
    /// # Errors
    /// When the process has no more file descriptors.
    pub fn for_admin(&self) -> io::Result<TcpListener> {
        self.admin.1.try_clone()
    }

    /// Every socket with its name. Names hold no spaces.
    pub fn all(&self) -> impl Iterator<Item = (&str, BorrowedFd<'_>)> {
        self.clients.iter().chain([&self.admin]).map(|(name, socket)| (name.as_str(), socket.as_fd()))
    }
}

/// Whether this really is the socket of that address; port 0 is any.
fn listens_on(socket: &TcpListener, address: SocketAddr) -> bool {
    address.port() == 0 || socket.local_addr().is_ok_and(|local| local == address)
}

fn bind(address: SocketAddr, wait: Duration) -> io::Result<TcpListener> {
    const AGAIN: Duration = Duration::from_millis(10);
    let until = Instant::now() + wait;
    loop {
        match TcpListener::bind(address) {
            Err(e) if e.kind() == io::ErrorKind::AddrInUse && Instant::now() < until => std::thread::sleep(AGAIN),
            bound => {
                let socket = bound?;
                socket.set_nonblocking(true)?;
                return Ok(socket);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_taken_over_only_for_the_address_that_it_listens_on() {
        let (wanted, other) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let (address, admin) = (wanted.local_addr().unwrap(), "127.0.0.1:0".parse().unwrap());
        let sent = |socket: &TcpListener| Some(Inherited::from([(address.to_string(), socket.try_clone().unwrap())]));
        let taken = Sockets::open([address].into_iter(), admin, sent(&wanted)).unwrap();
        assert_eq!(taken.all().map(|(name, _)| name.to_owned()).collect::<Vec<_>>(), [address.to_string(), "admin:127.0.0.1:0".to_owned()]);
        let refused = Sockets::open([address].into_iter(), admin, sent(&other)).err().unwrap();
        assert!(refused.contains(&address.to_string()), "{refused}");
    }
}
