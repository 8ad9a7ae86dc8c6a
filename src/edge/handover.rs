//! How an upgrade hands the listeners over, at the socket of [`super::upgrade`].
//!
//! The successor listens there, and the process that serves connects, whichever comes first. Then:
//!
//! ```text
//! old: the sockets' names, separated by spaces, and a line feed; the sockets beside them (SCM_RIGHTS)
//! new: serving       it accepts connections
//! old: released      it drains now; or, once its time is over:
//! old: withdrawn     it continues to serve, and the successor has to end
//! ```
//!
//! The old process serves until it has read `serving`. A successor that ends before that costs nothing: the old one offers
//! its sockets to the next one until its time is over. Tidegate 0.1.0 sends the names without a line feed, closes the
//! connection and drains whatever happens; its successor has nothing to confirm.

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

/// Sockets that one message can carry, on Linux.
const MAX_SOCKETS: usize = 253;
/// Bytes of their names, with a good share for IPv6 addresses.
const MAX_NAMES: usize = 16 << 10;
/// Longest word in bytes, with its line feed.
const MAX_WORD: usize = 16;
/// Between two looks for the other process.
const AGAIN: Duration = Duration::from_millis(20);
/// How long the other process may take for one step; each is a matter of microseconds.
const STEP: Duration = Duration::from_secs(5);

const SERVING: &[u8] = b"serving\n";
const RELEASED: &[u8] = b"released\n";
const WITHDRAWN: &[u8] = b"withdrawn\n";

/// Hands the sockets over to a successor that serves, at most `time` from now. The caller may drop this at any moment.
///
/// # Errors
/// Why no successor serves. Then this process still has to.
pub async fn hand_over(path: &Path, sockets: &Sockets, time: Duration) -> Result<(), String> {
    let until = tokio::time::Instant::now() + time;
    let mut problem = format!("no process was started with --upgrade within {time:?}");
    loop {
        match Offer::make(path, sockets).await {
            Ok(mut offer) => match tokio::time::timeout_at(until, offer.confirmed()).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(e)) => problem = format!("the successor ended before it served: {e}"),
                Err(_) => {
                    offer.withdraw();
                    return Err(format!("the successor did not serve within {time:?}"));
                }
            },
            Err(e) if is_absent(&e) => {}
            Err(e) => problem = format!("the listeners could not be sent to {}: {e}", path.display()),
        }
        if tokio::time::timeout_at(until, tokio::time::sleep(AGAIN)).await.is_err() {
            return Err(problem);
        }
    }
}

/// Whether no successor listens yet, or no more.
fn is_absent(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

/// Sockets that a successor has, and has not confirmed.
struct Offer(tokio::net::UnixStream);

impl Offer {
    async fn make(path: &Path, sockets: &Sockets) -> io::Result<Self> {
        let stream = tokio::net::UnixStream::connect(path).await?;
        check_peer(stream.as_fd())?;
        let (names, fds): (Vec<&str>, Vec<BorrowedFd<'_>>) = sockets.all().unzip();
        let names = names.join(" ") + "\n";
        if fds.len() > MAX_SOCKETS || names.len() > MAX_NAMES {
            return Err(io::Error::other(format!("{} sockets are too many", fds.len())));
        }
        // Nothing has been written to this connection, so its buffer has room for all of it.
        let sent = stream.async_io(Interest::WRITABLE, || Ok(send(stream.as_fd(), names.as_bytes(), &fds)?)).await?;
        if sent == names.len() { Ok(Self(stream)) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    async fn confirmed(&mut self) -> io::Result<()> {
        let mut word: Vec<u8> = Vec::with_capacity(MAX_WORD);
        while word.len() < SERVING.len() {
            self.0.readable().await?;
            let mut piece = [0; MAX_WORD];
            match self.0.try_read(&mut piece) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => word.extend(piece.iter().take(read)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
        if word != SERVING {
            return Err(io::Error::other("an unknown word"));
        }
        self.word(RELEASED);
        Ok(())
    }

    fn withdraw(self) {
        self.word(WITHDRAWN);
    }

    /// The buffer has room, as the successor reads the names before it answers; and it may be gone.
    fn word(&self, word: &[u8]) {
        if let Err(e) = self.0.try_write(word) {
            log::warn!("the successor cannot be reached: {e}");
        }
    }
}

fn send(stream: BorrowedFd<'_>, names: &[u8], fds: &[BorrowedFd<'_>]) -> rustix::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(rustix::io::Errno::INVAL);
    }
    sendmsg(stream, &[IoSlice::new(names)], &mut control, SendFlags::NOSIGNAL)
}

/// The process whose sockets this one has.
pub struct Predecessor {
    stream: UnixStream,
    /// Whether it waits for a confirmation.
    waits: bool,
}

/// Waits at most `time` for the process that serves, and receives its sockets.
///
/// # Errors
/// Why there are none.
#[expect(clippy::disallowed_methods, reason = "this process serves nothing yet")]
pub fn inherit(path: &Path, time: Duration) -> Result<(Inherited, Predecessor), String> {
    let cannot = |e: io::Error| format!("cannot listen on the upgrade socket {}: {e}", path.display());
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(cannot(e)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(cannot)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(cannot)?;
    listener.set_nonblocking(true).map_err(cannot)?;
    log::info!("waiting for the process that serves at {}; send it SIGQUIT", path.display());
    let until = system::now() + time;
    let stream = loop {
        match listener.accept() {
            Ok((stream, _)) => match check_peer(stream.as_fd()) {
                Ok(()) => break stream,
                Err(e) => log::warn!("a connection to the upgrade socket was refused: {e}"),
            },
            Err(e) if e.kind() != io::ErrorKind::WouldBlock => return Err(cannot(e)),
            Err(_) if system::now() >= until => {
                return Err(format!(
                    "no process has handed its listeners over at {}; send SIGQUIT to the one that runs, or start without --upgrade",
                    path.display()
                ));
            }
            Err(_) => std::thread::sleep(AGAIN),
        }
    };
    drop(std::fs::remove_file(path)); // the next upgrade replaces what is left
    receive(stream).map_err(|e| format!("the listeners were not received: {e}"))
}

fn receive(mut stream: UnixStream) -> io::Result<(Inherited, Predecessor)> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(STEP))?;
    stream.set_write_timeout(Some(STEP))?;
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
    let mut waits = names.ends_with(b"\n");
    while !waits {
        let mut piece = [0; 1024];
        let read = stream.read(&mut piece)?;
        names.extend(piece.iter().take(read));
        waits = names.ends_with(b"\n");
        if read == 0 {
            break;
        }
        if names.len() > MAX_NAMES {
            return Err(io::Error::other("the names of the sockets are too long"));
        }
    }
    let names = std::str::from_utf8(&names).map_err(io::Error::other)?;
    let names: Vec<&str> = names.split_ascii_whitespace().collect();
    if names.len() != fds.len() || fds.is_empty() {
        return Err(io::Error::other(format!("{} names for {} sockets", names.len(), fds.len())));
    }
    let sockets = names.into_iter().map(str::to_owned).zip(fds).collect();
    Ok((sockets, Predecessor { stream, waits }))
}

impl Predecessor {
    /// Confirms that this process serves.
    ///
    /// # Errors
    /// When the process before has withdrawn its sockets and continues to serve; then this one must not.
    pub fn confirm(mut self) -> Result<(), String> {
        if !self.waits {
            return Ok(());
        }
        drop(self.stream.write_all(SERVING)); // the other side may be closed, with a word still to be read
        match read_word(&mut self.stream).as_deref() {
            Ok(RELEASED) => Ok(()),
            Ok(WITHDRAWN) => Err("this process served too late; the one before continues (server.upgrade_timeout)".to_owned()),
            // It has ended, so that only this one can serve.
            Ok(_) | Err(_) => {
                log::warn!("the process before ended in the middle of the upgrade");
                Ok(())
            }
        }
    }
}

/// A word with its line feed; what there is of it where the connection ends before.
fn read_word(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut word = Vec::with_capacity(MAX_WORD);
    while !word.ends_with(b"\n") && word.len() < MAX_WORD {
        let mut byte = [0];
        if stream.read(&mut byte)? == 0 {
            break;
        }
        word.extend(byte);
    }
    Ok(word)
}

/// Only the same user and root can take part in an upgrade.
fn check_peer(stream: BorrowedFd<'_>) -> io::Result<()> {
    let peer = sockopt::socket_peercred(stream)?.uid.as_raw();
    let own = super::upgrade::user();
    if peer == own || peer == 0 {
        return Ok(());
    }
    Err(io::Error::other(format!("its user {peer} is not the user {own} of this process")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "handover_tests.rs"]
mod tests;
