//! Pool of idle HTTP/1.1 connections.
//!
//! Pingora's pool starts a task for every returned connection, and the next request has to wait until that task releases it. Here
//! idle connections are a list: a connection is checked when it is taken, and [`IdlePool::sweep`] closes expired and closed ones.

use super::stream::Http1Stream;
use futures::FutureExt;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::time::Instant;

/// Interval of [`IdlePool::sweep`].
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// See the module. Connections are closed outside the lock.
#[derive(Debug)]
pub struct IdlePool {
    idle: Mutex<Idle>,
    /// Maximum number of connections.
    capacity: usize,
}

#[derive(Debug, Default)]
struct Idle {
    /// By key of the peer; longest idle first.
    connections: HashMap<u64, VecDeque<IdleConnection>>,
    count: usize,
}

#[derive(Debug)]
struct IdleConnection {
    stream: Http1Stream,
    since: Instant,
    until: Instant,
}

impl IdlePool {
    /// An empty pool for up to `capacity` connections.
    pub fn new(capacity: usize) -> Self {
        Self { idle: Mutex::default(), capacity }
    }

    /// The most recently used open connection to `peer`. Its idle timeout is not checked.
    pub fn take(&self, peer: u64) -> Option<Http1Stream> {
        let mut closed = Vec::new(); // declared before the lock, so dropped after it
        let mut idle = self.idle.lock();
        loop {
            let mut last = idle.connections.get_mut(&peer)?.pop_back()?;
            idle.count -= 1;
            if is_quiet(&mut last.stream) {
                return Some(last.stream);
            }
            closed.push(last);
        }
    }

    /// Stores a connection to `peer` for `idle_timeout`, or closes it if it is retired. If the pool is full, closes the longest
    /// idle connection.
    pub fn put(&self, peer: u64, stream: Http1Stream, idle_timeout: Duration) {
        if stream.connection.is_retired() {
            return;
        }
        let since = Instant::now();
        let _closed; // as in `take`
        let mut idle = self.idle.lock();
        idle.connections.entry(peer).or_default().push_back(IdleConnection { stream, since, until: since + idle_timeout });
        if idle.count < self.capacity {
            idle.count += 1;
            return;
        }
        let oldest = idle.connections.values_mut().min_by_key(|all| all.front().map_or(since, |front| front.since));
        _closed = oldest.and_then(VecDeque::pop_front);
    }

    /// Closes connections that are expired, retired, or closed by their server.
    pub fn sweep(&self) {
        let now = Instant::now();
        let mut closed = Vec::new();
        let mut idle = self.idle.lock();
        idle.connections.retain(|_, all| {
            for mut one in std::mem::take(all) {
                let stays = one.until > now && !one.stream.connection.is_retired() && is_quiet(&mut one.stream);
                if stays { all.push_back(one) } else { closed.push(one) }
            }
            !all.is_empty()
        });
        idle.count -= closed.len();
    }
}

/// Whether a connection is open and no bytes were received on it: a server sends nothing before a request.
fn is_quiet(stream: &mut Http1Stream) -> bool {
    // Outside tokio's cooperative budget: without budget, any read would be pending.
    tokio::task::unconstrained(stream.stream.read(&mut [0])).now_or_never().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

    const IDLE_TIMEOUT: Duration = Duration::from_secs(9);

    fn stream() -> (Http1Stream, DuplexStream) {
        let (near, far) = duplex(64);
        (Http1Stream::new(Box::new(near), Arc::default()), far)
    }

    #[tokio::test]
    async fn the_connection_that_was_used_last_is_taken_first_and_only_to_its_own_peer() {
        let pool = IdlePool::new(4);
        let mut far = [(1, b'a'), (1, b'b'), (2, b'c')].map(|(peer, name)| {
            let (stream, far) = stream();
            pool.put(peer, stream, IDLE_TIMEOUT);
            (far, name)
        });
        for (peer, name) in [(1, Some(b'b')), (2, Some(b'c')), (2, None), (1, Some(b'a')), (1, None)] {
            let taken = pool.take(peer);
            assert_eq!(taken.is_some(), name.is_some());
            let Some((mut stream, name)) = taken.zip(name) else { continue };
            stream.stream.write_all(&[name]).await.unwrap();
            let (far, _) = far.iter_mut().find(|(_, n)| *n == name).unwrap();
            assert_eq!(far.read_u8().await.unwrap(), name);
        }
    }

    #[tokio::test]
    async fn what_has_been_closed_or_has_spoken_is_not_taken() {
        let pool = IdlePool::new(4);
        let (open, _far) = stream();
        let (closed, far) = stream();
        let (loud, mut speaks) = stream();
        for stream in [open, closed, loud] {
            pool.put(1, stream, IDLE_TIMEOUT);
        }
        drop(far);
        speaks.write_all(b"!").await.unwrap();
        assert!(pool.take(1).is_some());
        assert!(pool.take(1).is_none());
        assert_eq!(pool.idle.lock().count, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sweep_closes_what_has_waited_too_long_and_what_is_closed() {
        let pool = IdlePool::new(4);
        let ends: Vec<_> = [(1, 5), (1, 20), (1, 20), (2, 5)]
            .map(|(peer, seconds)| {
                let (stream, far) = stream();
                pool.put(peer, stream, Duration::from_secs(seconds));
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
        let pool = IdlePool::new(2);
        let mut ends = Vec::new();
        for peer in [1, 1, 2, 3] {
            let (stream, far) = stream();
            pool.put(peer, stream, IDLE_TIMEOUT);
            ends.push(far);
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        let open: Vec<_> = ends.iter_mut().map(|end| end.read(&mut [0]).now_or_never().is_none()).collect();
        assert_eq!(open, [false, false, true, true]);
        assert!(pool.take(1).is_none() && pool.take(2).is_some() && pool.take(3).is_some());
    }
}
