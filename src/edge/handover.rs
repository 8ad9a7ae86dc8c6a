//! Hands the listeners over to a new process, over the socket of [`super::upgrade`].
//!
//! The new process listens on it and the old one connects; they can be started in either order. Then:
//!
//! ```text
//! old: the sockets' names, separated by spaces, and a line feed, with the sockets as ancillary data (SCM_RIGHTS)
//! new: serving       it accepts connections
//! old: released      it drains now; or, after a timeout:
//! old: withdrawn     it continues to serve, and the new process must exit
//! ```
//!
//! The old process serves until it reads `serving`. If a new process exits before that, the old one offers its sockets to the next
//! one until the timeout. Tidegate 0.1.0 sends the names without a line feed, closes the connection and drains in any case; a
//! new process then sends no confirmation.

use super::sockets::{Inherited, Sockets};
use crate::system;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recvmsg, sendmsg, sockopt,
};
use std::fs::Permissions;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;
use tokio::io::Interest;

/// Maximum number of sockets in one message, on Linux.
const MAX_SOCKETS: usize = 253;
/// Maximum length of their names, in bytes.
const MAX_NAMES: usize = 16 << 10;
/// Maximum length of a message after that, in bytes.
const MAX_MESSAGE: usize = 16;
/// Interval between attempts to reach the other process.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);
/// Timeout of one step of the exchange.
const STEP_TIMEOUT: Duration = Duration::from_secs(5);

const SERVING: &[u8] = b"serving\n";
const RELEASED: &[u8] = b"released\n";
const WITHDRAWN: &[u8] = b"withdrawn\n";

/// Hands the sockets over to a new process, within `timeout`. Cancel-safe.
///
/// # Errors
/// Why no new process serves. This process must continue.
pub async fn hand_over(path: &Path, sockets: &Sockets, timeout: Duration) -> Result<(), String> {
    let until = tokio::time::Instant::now() + timeout;
    let mut problem = format!("no process was started with --upgrade within {timeout:?}");
    loop {
        match Offer::send(path, sockets).await {
            Ok(mut offer) => match tokio::time::timeout_at(until, offer.confirmed()).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(e)) => problem = format!("the new process exited before it served: {e}"),
                Err(_) => {
                    offer.reply(WITHDRAWN);
                    return Err(format!("the new process did not serve within {timeout:?}"));
                }
            },
            Err(e) if is_absent(&e) => {}
            Err(e) => problem = format!("cannot send the listeners to {}: {e}", path.display()),
        }
        if tokio::time::timeout_at(until, tokio::time::sleep(RETRY_INTERVAL)).await.is_err() {
            return Err(problem);
        }
    }
}

/// Whether no new process is listening.
fn is_absent(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

/// Sockets that were sent to a new process, which has not confirmed yet.
struct Offer(tokio::net::UnixStream);

impl Offer {
    async fn send(path: &Path, sockets: &Sockets) -> io::Result<Self> {
        let stream = tokio::net::UnixStream::connect(path).await?;
        check_peer(stream.as_fd())?;
        let (names, fds): (Vec<&str>, Vec<BorrowedFd<'_>>) = sockets.all().unzip();
        let names = names.join(" ") + "\n";
        if fds.len() > MAX_SOCKETS || names.len() > MAX_NAMES {
            return Err(io::Error::other(format!("{} sockets are too many", fds.len())));
        }
        // The connection is new, so its buffer has room.
        let sent = stream.async_io(Interest::WRITABLE, || Ok(send_sockets(stream.as_fd(), names.as_bytes(), &fds)?)).await?;
        if sent == names.len() { Ok(Self(stream)) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    async fn confirmed(&mut self) -> io::Result<()> {
        let mut message: Vec<u8> = Vec::with_capacity(MAX_MESSAGE);
        while message.len() < SERVING.len() {
            self.0.readable().await?;
            let mut piece = [0; MAX_MESSAGE];
            match self.0.try_read(&mut piece) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => message.extend(piece.iter().take(read)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
        if message != SERVING {
            return Err(io::Error::other("unexpected message"));
        }
        self.reply(RELEASED);
        Ok(())
    }

    /// Does not block: the new process has read the names, so the buffer has room.
    fn reply(&self, message: &[u8]) {
        if let Err(e) = self.0.try_write(message) {
            log::warn!("cannot reach the new process: {e}");
        }
    }
}

fn send_sockets(stream: BorrowedFd<'_>, names: &[u8], fds: &[BorrowedFd<'_>]) -> rustix::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(rustix::io::Errno::INVAL);
    }
    sendmsg(stream, &[IoSlice::new(names)], &mut control, SendFlags::NOSIGNAL)
}

/// The previous process, whose sockets this one has received.
pub struct Predecessor {
    stream: UnixStream,
    /// Whether it expects a confirmation.
    expects_confirmation: bool,
}

/// Receives the sockets of the running process, within `timeout`.
///
/// # Errors
/// Why that failed.
#[expect(clippy::disallowed_methods, reason = "called before requests are served")]
pub fn inherit(path: &Path, timeout: Duration) -> Result<(Inherited, Predecessor), String> {
    let cannot = |e: io::Error| format!("cannot listen on the upgrade socket {}: {e}", path.display());
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(cannot(e)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(cannot)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(cannot)?;
    listener.set_nonblocking(true).map_err(cannot)?;
    log::info!("waiting at {} for the running process; send it SIGQUIT", path.display());
    let until = system::now() + timeout;
    let stream = loop {
        match listener.accept() {
            Ok((stream, _)) => match check_peer(stream.as_fd()) {
                Ok(()) => break stream,
                Err(e) => log::warn!("rejected a connection to the upgrade socket: {e}"),
            },
            Err(e) if e.kind() != io::ErrorKind::WouldBlock => return Err(cannot(e)),
            Err(_) if system::now() >= until => {
                return Err(format!(
                    "no process handed its listeners over at {}; send SIGQUIT to the running one, or start without --upgrade",
                    path.display()
                ));
            }
            Err(_) => std::thread::sleep(RETRY_INTERVAL),
        }
    };
    drop(std::fs::remove_file(path)); // a leftover is replaced by the next upgrade
    receive(stream).map_err(|e| format!("cannot receive the listeners: {e}"))
}

fn receive(mut stream: UnixStream) -> io::Result<(Inherited, Predecessor)> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(STEP_TIMEOUT))?;
    stream.set_write_timeout(Some(STEP_TIMEOUT))?;
    let mut names = vec![0; MAX_NAMES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let read = recvmsg(&stream, &mut [IoSliceMut::new(&mut names)], &mut control, RecvFlags::CMSG_CLOEXEC)?.bytes;
    let messages = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    let fds: Vec<OwnedFd> = messages.flatten().collect();
    names.truncate(read);
    let mut expects_confirmation = names.ends_with(b"\n");
    while !expects_confirmation {
        let mut piece = [0; 1024];
        let read = stream.read(&mut piece)?;
        names.extend(piece.iter().take(read));
        expects_confirmation = names.ends_with(b"\n");
        if read == 0 {
            break;
        }
        if names.len() > MAX_NAMES {
            return Err(io::Error::other("the socket names are too long"));
        }
    }
    let names = std::str::from_utf8(&names).map_err(io::Error::other)?;
    let names: Vec<&str> = names.split_ascii_whitespace().collect();
    if names.len() != fds.len() || fds.is_empty() {
        return Err(io::Error::other(format!("{} names for {} sockets", names.len(), fds.len())));
    }
    let sockets = names.into_iter().map(str::to_owned).zip(fds).collect();
    Ok((sockets, Predecessor { stream, expects_confirmation }))
}

impl Predecessor {
    /// Confirms that this process serves.
    ///
    /// # Errors
    /// If the previous process has withdrawn its sockets and continues to serve. This one must not serve.
    pub fn confirm(mut self) -> Result<(), String> {
        if !self.expects_confirmation {
            return Ok(());
        }
        drop(self.stream.write_all(SERVING)); // fails if the other side is closed; its last message can still be read
        match read_message(&mut self.stream).as_deref() {
            Ok(RELEASED) => Ok(()),
            Ok(WITHDRAWN) => Err("this process served too late; the previous one continues (server.upgrade_timeout)".to_owned()),
            // It has exited, so only this one can serve.
            Ok(_) | Err(_) => {
                log::warn!("the previous process exited during the upgrade");
                Ok(())
            }
        }
    }
}

/// A message with its line feed; shorter if the connection is closed before.
fn read_message(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut message = Vec::with_capacity(MAX_MESSAGE);
    while !message.ends_with(b"\n") && message.len() < MAX_MESSAGE {
        let mut byte = [0];
        if stream.read(&mut byte)? == 0 {
            break;
        }
        message.extend(byte);
    }
    Ok(message)
}

/// Only the same user and root can take part in an upgrade.
fn check_peer(stream: BorrowedFd<'_>) -> io::Result<()> {
    let peer = sockopt::socket_peercred(stream)?.uid.as_raw();
    let own = rustix::process::geteuid().as_raw();
    if peer == own || peer == 0 {
        return Ok(());
    }
    Err(io::Error::other(format!("the peer's user {peer} is not this process's user {own}")))
}

#[cfg(test)]
#[path = "handover_tests.rs"]
mod tests;
