//! The listening sockets of the process, bound or inherited from the previous process. Pingora and the admin listener use
//! duplicates; an upgrade sends the originals.
#![expect(clippy::disallowed_methods, reason = "sockets are opened before requests are served")]

use crate::config::snapshot::ListenAddress;
use crate::system;
use pingora_core::server::Fds;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::collections::HashMap;
use std::fs::{Permissions, set_permissions, symlink_metadata};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

/// How long to wait for the admin address if the previous process does not hand it over (0.1.0).
const ADMIN_WAIT: Duration = Duration::from_secs(5);
/// Accept backlog of a Unix socket; Pingora sets its own afterwards.
const BACKLOG: i32 = 1024;

/// Sockets received from another process, by name.
pub type Inherited = HashMap<String, OwnedFd>;

/// See the module.
pub struct Sockets {
    clients: Vec<ClientSocket>,
    admin: (String, TcpListener),
}

/// A socket for client connections.
struct ClientSocket {
    /// The configured address.
    name: String,
    /// Pingora's key of the socket.
    key: String,
    socket: OwnedFd,
}

impl Sockets {
    /// Uses inherited sockets and binds the rest. Closes inherited ones that are no longer configured.
    ///
    /// # Errors
    /// Which address cannot be bound, and why.
    pub fn open<'a>(
        clients: impl Iterator<Item = &'a ListenAddress>,
        admin: SocketAddr,
        inherited: Option<Inherited>,
    ) -> Result<Self, String> {
        let wait = if inherited.is_some() { ADMIN_WAIT } else { Duration::ZERO };
        let mut inherited = inherited.unwrap_or_default();
        let clients = clients.map(|address| {
            let name = address.to_string();
            let inherited = inherited.remove(&name);
            let (key, socket) = match address {
                ListenAddress::Tcp(address) => (name.clone(), tcp(*address, inherited, Duration::ZERO).map(OwnedFd::from)),
                ListenAddress::Unix { path, mode } => (path.display().to_string(), unix(path, *mode, inherited)),
            };
            let socket = socket.map_err(|e| format!("cannot listen on {name}: {e}"))?;
            Ok(ClientSocket { name, key, socket })
        });
        let clients = clients.collect::<Result<_, String>>()?;
        let name = format!("admin:{admin}");
        let socket = tcp(admin, inherited.remove(&name), wait).map_err(|e| format!("cannot listen on {admin} (admin): {e}"))?;
        Ok(Self { clients, admin: (name, socket) })
    }

    /// Duplicates for Pingora, by address or path.
    ///
    /// # Errors
    /// If the process is out of file descriptors.
    pub fn for_pingora(&self) -> io::Result<Fds> {
        let mut table = Fds::new();
        for client in &self.clients {
            table.add(client.key.clone(), client.socket.try_clone()?.into_raw_fd());
        }
        Ok(table)
    }

    /// A duplicate for the admin listener.
    ///
    /// # Errors
    /// If the process is out of file descriptors.
    pub fn for_admin(&self) -> io::Result<TcpListener> {
        self.admin.1.try_clone()
    }

    /// All sockets with their names, which contain no spaces.
    pub fn all(&self) -> impl Iterator<Item = (&str, BorrowedFd<'_>)> {
        let clients = self.clients.iter().map(|client| (client.name.as_str(), client.socket.as_fd()));
        clients.chain([(self.admin.0.as_str(), self.admin.1.as_fd())])
    }
}

/// The inherited socket if it is bound to that address, else a new one. Port 0 matches any.
fn tcp(address: SocketAddr, inherited: Option<OwnedFd>, wait: Duration) -> io::Result<TcpListener> {
    let inherited = inherited.map(TcpListener::from);
    let matches = |socket: &TcpListener| socket.local_addr().is_ok_and(|local| address.port() == 0 || local == address);
    inherited.filter(matches).map_or_else(|| bind(address, wait), Ok)
}

fn bind(address: SocketAddr, wait: Duration) -> io::Result<TcpListener> {
    const RETRY_INTERVAL: Duration = Duration::from_millis(10);
    let until = system::now() + wait;
    loop {
        match TcpListener::bind(address) {
            Err(e) if e.kind() == io::ErrorKind::AddrInUse && system::now() < until => std::thread::sleep(RETRY_INTERVAL),
            bound => {
                let socket = bound?;
                socket.set_nonblocking(true)?;
                return Ok(socket);
            }
        }
    }
}

/// The inherited socket if its file still exists, else a new one.
fn unix(path: &Path, mode: u32, inherited: Option<OwnedFd>) -> io::Result<OwnedFd> {
    let matches = |socket: &UnixListener| {
        let named = socket.local_addr().is_ok_and(|local| local.as_pathname() == Some(path));
        named && symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
    };
    match inherited.map(UnixListener::from).filter(matches) {
        Some(socket) => {
            set_permissions(path, Permissions::from_mode(mode))?;
            Ok(socket.into())
        }
        None => bind_unix(path, mode),
    }
}

/// Binds a socket. Its file has the mode before connections are possible.
fn bind_unix(path: &Path, mode: u32) -> io::Result<OwnedFd> {
    remove_stale(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    set_permissions(path, Permissions::from_mode(mode))?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Removes a stale socket file, left behind by a process that has exited.
fn remove_stale(path: &Path) -> io::Result<()> {
    match symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::other("the file exists and is not a socket"));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process is listening")),
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        Err(e) => Err(io::Error::new(e.kind(), format!("cannot determine whether another process is listening: {e}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dir::Dir;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_socket_is_taken_over_only_for_the_address_that_it_listens_on() {
        let (wanted, other) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let (address, admin) = (wanted.local_addr().unwrap(), "127.0.0.1:0".parse().unwrap());
        let sent = |socket: &TcpListener| Some(Inherited::from([(address.to_string(), socket.try_clone().unwrap().into())]));
        let clients = [ListenAddress::Tcp(address)];
        let taken = Sockets::open(clients.iter(), admin, sent(&wanted)).unwrap();
        assert_eq!(taken.all().map(|(name, _)| name.to_owned()).collect::<Vec<_>>(), [address.to_string(), "admin:127.0.0.1:0".to_owned()]);
        let refused = Sockets::open(clients.iter(), admin, sent(&other)).err().unwrap();
        assert!(refused.contains(&address.to_string()), "{refused}");
    }

    #[test]
    fn a_unix_socket_replaces_one_that_nobody_listens_on_and_nothing_else() {
        let folder = Dir::new();
        let path = folder.join("s");
        let listens = unix(&path, 0o600, None).unwrap();
        assert_eq!(symlink_metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(unix(&path, 0o600, None).unwrap_err().to_string().contains("another process is listening"));
        let kept = symlink_metadata(&path).unwrap().ino();
        let inherited = unix(&path, 0o666, Some(listens)).unwrap();
        let found = symlink_metadata(&path).unwrap();
        assert_eq!((found.mode() & 0o777, found.ino()), (0o666, kept));
        drop(inherited);
        let replaced = unix(&path, 0o660, None).unwrap();
        assert!(UnixStream::connect(&path).is_ok());
        // One whose file has gone cannot be reached any more.
        std::fs::remove_file(&path).unwrap();
        drop(unix(&path, 0o660, Some(replaced)).unwrap());
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "precious").unwrap();
        assert!(unix(&path, 0o660, None).unwrap_err().to_string().contains("not a socket"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }
}
