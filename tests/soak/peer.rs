//! A TLS front of the simulator whose HTTP/2 connections die in every way in which they die in the field.

use crate::harness::tls::Certificates;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// How long a connection that has died silently stays open.
const SILENCE: Duration = Duration::from_secs(15);

/// What becomes of its connections.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    /// They work.
    Serve,
    /// The present ones are reset; new ones work.
    Reset,
    /// The present ones answer nothing more while TCP stays up; new ones work.
    Freeze,
    /// As before, and new ones answer nothing before TLS is done.
    NoTls,
    /// As before, and new ones complete TLS and then answer nothing.
    NoSettings,
}

/// See the module.
pub struct Peer {
    /// Where it listens.
    pub address: SocketAddr,
    /// The authority and certificate.
    pub certificates: Certificates,
    /// Each new value counts for the connections of that time.
    mode: watch::Sender<Mode>,
}

impl Peer {
    /// Starts one in front of the simulator at `to`.
    pub async fn start(to: SocketAddr) -> Arc<Self> {
        let certificates = Certificates::new();
        let acceptor = certificates.acceptor(&["h2"]);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mode, modes) = watch::channel(Mode::Serve);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(connection(stream, to, acceptor.clone(), modes.clone()));
            }
        });
        Arc::new(Self { address, certificates, mode })
    }
}

async fn connection(stream: TcpStream, to: SocketAddr, acceptor: TlsAcceptor, mut modes: watch::Receiver<Mode>) {
    let mode = *modes.borrow_and_update();
    if mode == Mode::NoTls {
        return tokio::time::sleep(SILENCE).await;
    }
    let Ok(mut outer) = acceptor.accept(stream).await else { return };
    if mode == Mode::NoSettings {
        return tokio::time::sleep(SILENCE).await;
    }
    let Ok(mut inner) = TcpStream::connect(to).await else { return };
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut outer, &mut inner) => return,
        changed = modes.wait_for(|mode| *mode != Mode::Serve) => if changed.is_err() { return },
    }
    if *modes.borrow() == Mode::Reset {
        let _ = outer.get_ref().0.set_zero_linger(); // closing it normally is a death as well
        return;
    }
    // What the gateway sends is read and lost; nothing comes back.
    let _ = tokio::time::timeout(SILENCE, async { while outer.read(&mut [0; 4096]).await.is_ok_and(|n| n > 0) {} }).await;
}

/// Deaths at random until the task is aborted.
pub async fn deaths(peer: Arc<Peer>, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    loop {
        tokio::time::sleep(Duration::from_millis(random.u64(800..2500))).await;
        let (mode, lasts) = match random.u8(0..4) {
            0 => (Mode::Reset, 0),
            1 => (Mode::Freeze, 0),
            2 => (Mode::NoTls, 700),
            _ => (Mode::NoSettings, 700),
        };
        peer.mode.send_replace(mode);
        tokio::time::sleep(Duration::from_millis(lasts + 10)).await;
        peer.mode.send_replace(Mode::Serve);
    }
}
