//! Two processes of an upgrade, played in one.

use super::*;
use crate::config::snapshot::ListenAddress;
use crate::dir::Dir;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

const LONG: Duration = Duration::from_secs(60);
const SOCKET: &str = "u.sock";

/// The sockets of a process with one listener, and its address.
fn sockets() -> (Sockets, SocketAddr) {
    let any = "127.0.0.1:0".parse().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let inherited = Inherited::from([(address.to_string(), listener.into())]);
    (Sockets::open([ListenAddress::Tcp(address)].iter(), any, Some(inherited)).unwrap(), address)
}

fn successor<T: Send + 'static>(
    path: PathBuf,
    does: impl FnOnce(Inherited, Predecessor) -> T + Send + 'static,
) -> std::thread::JoinHandle<T> {
    std::thread::spawn(move || {
        let (inherited, predecessor) = inherit(&path, LONG).unwrap();
        does(inherited, predecessor)
    })
}

#[tokio::test]
async fn the_listeners_are_released_once_the_successor_serves() {
    let room = Dir::new();
    let (sockets, address) = sockets();
    let successor = successor(room.join(SOCKET), |inherited, predecessor| {
        predecessor.confirm().unwrap();
        inherited
    });
    hand_over(&room.join(SOCKET), &sockets, LONG).await.unwrap();
    let inherited = successor.join().unwrap();
    drop(sockets);
    assert_eq!(inherited.len(), 2);
    assert!(
        inherited
            .get(&address.to_string())
            .is_some_and(|socket| { TcpListener::from(socket.try_clone().unwrap()).local_addr().unwrap() == address })
    );
    assert!(std::net::TcpStream::connect(address).is_ok(), "the listener is still open");
}

#[tokio::test]
async fn a_successor_that_ends_early_changes_nothing_and_the_next_one_is_served() {
    let room = Dir::new();
    let (sockets, _) = sockets();
    let path = room.join(SOCKET);
    let successors = std::thread::spawn(move || {
        drop(inherit(&path, LONG).unwrap());
        let (_, predecessor) = inherit(&path, LONG).unwrap();
        predecessor.confirm()
    });
    hand_over(&room.join(SOCKET), &sockets, LONG).await.unwrap();
    assert_eq!(successors.join().unwrap(), Ok(()));
}

#[tokio::test]
async fn without_a_successor_in_time_there_is_a_reason_and_one_that_is_late_has_to_end() {
    let room = Dir::new();
    let (sockets, _) = sockets();
    let short = Duration::from_millis(300);
    let alone = hand_over(&room.join(SOCKET), &sockets, short).await.unwrap_err();
    assert!(alone.contains("--upgrade"), "{alone}");
    let (late, is_late) = std::sync::mpsc::channel::<()>();
    let successor = successor(room.join(SOCKET), move |_, predecessor| {
        is_late.recv().unwrap();
        predecessor.confirm()
    });
    let problem = hand_over(&room.join(SOCKET), &sockets, Duration::from_secs(1)).await.unwrap_err();
    assert!(problem.contains("did not serve within 1s"), "{problem}");
    late.send(()).unwrap();
    assert!(successor.join().unwrap().unwrap_err().contains("continues"));
}

#[tokio::test]
async fn a_process_of_the_first_version_is_succeeded_without_a_confirmation() {
    let room = Dir::new();
    let (sockets, address) = sockets();
    let successor = successor(room.join(SOCKET), |inherited, predecessor| predecessor.confirm().map(|()| inherited.len()));
    let (path, table) = (room.join(SOCKET), sockets.for_pingora().unwrap());
    tokio::task::spawn_blocking(move || table.send_to_sock(&*path.to_string_lossy()).unwrap()).await.unwrap();
    assert_eq!(successor.join().unwrap(), Ok(1), "{address}");
}

#[test]
fn where_nothing_can_listen_nothing_is_waited_for() {
    let room = Dir::new();
    for socket in [room.join("missing/x.sock"), room.to_path_buf()] {
        let problem = inherit(&socket, LONG).err().unwrap();
        assert!(problem.contains("cannot listen"), "{problem}");
    }
}
