//! Connections that speak HTTP/1.1 and wait for their next request.
//!
//! Pingora's own pool begins a task for every connection that it is given back, and the next request has to wait for that
//! task to let go of it. Here a connection lies in a list, is looked at when it is taken, and all of them are looked at from
//! time to time, so that none that has been closed is kept; benches/README.md has what that saves.

use super::wire::Wire;
use futures::FutureExt;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::time::Instant;

/// How often [`Pool::sweep`] is due while the process serves: how long a connection that its server has closed may take up
/// a socket.
pub const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// See the module. The lock is held for a look at connections, never for closing them.
#[derive(Debug)]
pub struct Pool {
    idle: Mutex<Idle>,
    /// Connections that are kept at most.
    room: usize,
}

#[derive(Debug, Default)]
struct Idle {
    /// By what they are connected to; the one that has waited longest first.
    connections: HashMap<u64, VecDeque<Waiting>>,
    count: usize,
}

#[derive(Debug)]
struct Waiting {
    wire: Wire,
    since: Instant,
    until: Instant,
}

impl Pool {
    /// One with `room` for that many connections.
    pub fn new(room: usize) -> Self {
        Self { idle: Mutex::default(), room }
    }

    /// The connection to `peer` that was used last, if one waits. One that has waited too long, and is still open, serves
    /// as well as any.
    pub fn take(&self, peer: u64) -> Option<Wire> {
        let mut closed = Vec::new(); // declared before the lock, so that they are closed behind it
        let mut idle = self.idle.lock();
        loop {
            let mut waiting = idle.connections.get_mut(&peer)?.pop_back()?;
            idle.count -= 1;
            if is_quiet(&mut waiting.wire) {
                return Some(waiting.wire);
            }
            closed.push(waiting);
        }
    }

    /// Keeps a connection to `peer` for `patience`, or closes it where it is retired. Where there is no room the one that has
    /// waited longest is closed.
    pub fn keep(&self, peer: u64, wire: Wire, patience: Duration) {
        if wire.is_retired() {
            return;
        }
        let since = Instant::now();
        let _closed; // as in `take`
        let mut idle = self.idle.lock();
        idle.connections.entry(peer).or_default().push_back(Waiting { wire, since, until: since + patience });
        if idle.count < self.room {
            idle.count += 1;
            return;
        }
        let oldest = idle.connections.values_mut().min_by_key(|all| all.front().map_or(since, |waiting| waiting.since));
        _closed = oldest.and_then(VecDeque::pop_front);
    }

    /// Closes what has waited too long, what is retired and what its server has closed.
    pub fn sweep(&self) {
        let now = Instant::now();
        let mut closed = Vec::new();
        let mut idle = self.idle.lock();
        idle.connections.retain(|_, all| {
            for mut waiting in std::mem::take(all) {
                let stays = waiting.until > now && !waiting.wire.is_retired() && is_quiet(&mut waiting.wire);
                if stays { all.push_back(waiting) } else { closed.push(waiting) }
            }
            !all.is_empty()
        });
        idle.count -= closed.len();
    }
}

/// Whether a connection is open and nothing has come on it: its server has nothing to say before it is asked.
fn is_quiet(wire: &mut Wire) -> bool {
    // Beside the scheduler's budget, which would have an open connection look like one with nothing to read.
    tokio::task::unconstrained(wire.stream_mut().read(&mut [0])).now_or_never().is_none()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

    const PATIENCE: Duration = Duration::from_secs(9);

    fn wire() -> (Wire, DuplexStream) {
        let (near, far) = duplex(64);
        (Wire::new(Box::new(near)), far)
    }

    #[tokio::test]
    async fn the_connection_that_was_used_last_is_taken_first_and_only_to_its_own_peer() {
        let pool = Pool::new(4);
        let mut far = [(1, b'a'), (1, b'b'), (2, b'c')].map(|(peer, name)| {
            let (wire, far) = wire();
            pool.keep(peer, wire, PATIENCE);
            (far, name)
        });
        for (peer, name) in [(1, Some(b'b')), (2, Some(b'c')), (2, None), (1, Some(b'a')), (1, None)] {
            let taken = pool.take(peer);
            assert_eq!(taken.is_some(), name.is_some());
            let Some((mut wire, name)) = taken.zip(name) else { continue };
            wire.stream_mut().write_all(&[name]).await.unwrap();
            let (far, _) = far.iter_mut().find(|(_, n)| *n == name).unwrap();
            assert_eq!(far.read_u8().await.unwrap(), name);
        }
    }

    #[tokio::test]
    async fn what_has_been_closed_or_has_spoken_is_not_taken() {
        let pool = Pool::new(4);
        let (open, _far) = wire();
        let (closed, far) = wire();
        let (loud, mut speaks) = wire();
        for wire in [open, closed, loud] {
            pool.keep(1, wire, PATIENCE);
        }
        drop(far);
        speaks.write_all(b"!").await.unwrap();
        assert!(pool.take(1).is_some());
        assert!(pool.take(1).is_none());
        assert_eq!(pool.idle.lock().count, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sweep_closes_what_has_waited_too_long_and_what_is_closed() {
        let pool = Pool::new(4);
        let ends: Vec<_> = [(1, 5), (1, 20), (1, 20), (2, 5)]
            .map(|(peer, seconds)| {
                let (wire, far) = wire();
                pool.keep(peer, wire, Duration::from_secs(seconds));
                far
            })
            .into();
        let [mut first, second, mut third, mut fourth] = <[_; 4]>::try_from(ends).unwrap();
        drop(second);
        tokio::time::advance(Duration::from_secs(6)).await;
        pool.sweep();
        for end in [&mut first, &mut fourth] {
            assert_eq!(end.read(&mut [0]).await.unwrap(), 0);
        }
        assert!(third.read(&mut [0]).now_or_never().is_none());
        assert_eq!(pool.idle.lock().connections.values().map(VecDeque::len).collect::<Vec<_>>(), [1]);
    }

    #[tokio::test(start_paused = true)]
    async fn where_there_is_no_room_the_one_that_has_waited_longest_is_closed_whatever_it_is_connected_to() {
        let pool = Pool::new(2);
        let mut ends = Vec::new();
        for peer in [1, 1, 2, 3] {
            let (wire, far) = wire();
            pool.keep(peer, wire, PATIENCE);
            ends.push(far);
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        let open: Vec<_> = ends.iter_mut().map(|end| end.read(&mut [0]).now_or_never().is_none()).collect();
        assert_eq!(open, [false, false, true, true]);
        assert!(pool.take(1).is_none() && pool.take(2).is_some() && pool.take(3).is_some());
    }
}
