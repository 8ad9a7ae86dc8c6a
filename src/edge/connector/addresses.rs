//! Resolves the addresses of a provider and balances attempts over them.
//!
//! Attempts use the addresses round-robin. An address that fails to connect is skipped for [`COOLDOWN`], and the attempt connects
//! to another one. A failed connect also triggers a lookup, at most once per [`LOOKUP_GAP`].

use arc_swap::ArcSwap;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Interval of lookups.
pub const RESOLVE_INTERVAL: Duration = Duration::from_secs(30);
/// Timeout of a lookup.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Minimum interval between lookups triggered by failed connects.
const LOOKUP_GAP: Duration = Duration::from_secs(1);
/// How long an address that failed to connect is skipped. Then one attempt probes it.
const COOLDOWN: Duration = Duration::from_secs(10);
/// How long a spare connection is kept for its attempt.
const SPARE_TIMEOUT: Duration = Duration::from_secs(1);

/// The addresses of one provider. Shared by configuration generations in which host and port are the same.
pub struct Addresses {
    /// Name of the provider.
    provider: Arc<str>,
    host: Arc<str>,
    port: u16,
    source: ArcSwap<Source>,
    list: ArcSwap<Vec<Address>>,
    /// Incremented by each attempt, which starts at `turn % list.len()`.
    turn: AtomicUsize,
    lookup: Mutex<Option<Lookup>>,
    /// A connection to another address than the requested one, which connected first.
    spare: Mutex<Option<Spare>>,
    /// Epoch of [`State::skip_until`].
    epoch: Instant,
}

/// Source of the addresses.
enum Source {
    /// The host is an IP address.
    Literal,
    /// The system's resolver.
    System,
    #[cfg(test)]
    Fixed(Vec<SocketAddr>),
}

#[derive(Clone)]
struct Address {
    socket: SocketAddr,
    state: Arc<State>,
}

/// State of an address, kept while lookups return it.
#[derive(Default)]
struct State {
    /// Incremented to retire all earlier connections.
    generation: AtomicU32,
    /// Milliseconds since [`Addresses::epoch`]; 0 if available.
    skip_until: AtomicU64,
}

struct Lookup {
    since: Instant,
    /// Resolves when the list has been updated.
    done: Shared<BoxFuture<'static, ()>>,
}

struct Spare {
    address: SocketAddr,
    stream: TcpStream,
    since: Instant,
}

/// The address selected for an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Picked {
    /// The address.
    pub address: SocketAddr,
    /// Generation of the connections that the attempt may use.
    pub generation: u32,
    /// Whether the attempt probes a failed address.
    probe: bool,
}

/// The addresses of one attempt.
#[derive(Debug, Default)]
pub struct Dial {
    /// The selected one.
    pub current: Option<Picked>,
    failed: Vec<SocketAddr>,
}

impl Addresses {
    /// The addresses of `host`, an IP address or a name to look up.
    pub fn new(provider: Arc<str>, host: Arc<str>, port: u16) -> Self {
        let literal = host.parse().ok().map(|ip: IpAddr| SocketAddr::new(ip, port));
        let list = literal.map(|socket| Address { socket, state: Arc::default() }).into_iter().collect();
        let source = if literal.is_some() { Source::Literal } else { Source::System };
        Self {
            provider,
            host,
            port,
            source: ArcSwap::from_pointee(source),
            list: ArcSwap::from_pointee(list),
            turn: AtomicUsize::new(0),
            lookup: Mutex::new(None),
            spare: Mutex::new(None),
            epoch: Instant::now(),
        }
    }

    /// Whether the host is a name.
    pub fn is_named(&self) -> bool {
        !matches!(**self.source.load(), Source::Literal)
    }

    /// Looks the name up. Keeps the list on failure.
    async fn resolve(&self) {
        let Self { provider, host, .. } = self;
        match tokio::time::timeout(RESOLVE_TIMEOUT, self.look_up()).await {
            Ok(Ok(found)) => self.update(found),
            Ok(Err(e)) => log::warn!("provider {provider}: cannot resolve {host}: {e}"),
            Err(_) => log::warn!("provider {provider}: resolving {host} timed out after {RESOLVE_TIMEOUT:?}"),
        }
    }

    async fn look_up(&self) -> std::io::Result<Vec<SocketAddr>> {
        #[cfg(test)]
        if let Source::Fixed(list) = &**self.source.load() {
            return Ok(list.clone());
        }
        Ok(tokio::net::lookup_host((&*self.host, self.port)).await?.collect())
    }

    /// Starts a lookup, unless one is running or started less than [`LOOKUP_GAP`] ago. The future resolves with the last lookup.
    #[expect(clippy::disallowed_methods, reason = "a lookup is bounded by the resolver's timeout")]
    pub fn refresh(self: &Arc<Self>) -> impl Future<Output = ()> + use<> {
        let mut lookup = self.lookup.lock();
        if let Some(last) = lookup.as_ref()
            && (last.done.peek().is_none() || last.since.elapsed() < LOOKUP_GAP)
        {
            return last.done.clone();
        }
        let this = self.clone();
        let done = async move { this.resolve().await }.boxed().shared();
        *lookup = Some(Lookup { since: Instant::now(), done: done.clone() });
        tokio::spawn(done.clone()); // runs even if the caller does not await it
        done
    }

    /// Replaces the list. An empty one is ignored; known addresses keep their state.
    pub(in crate::edge) fn update(&self, found: Vec<SocketAddr>) {
        let list = self.list.load();
        if found.is_empty() || list.iter().map(|address| &address.socket).eq(&found) {
            return;
        }
        let state = |socket| list.iter().find(|old| old.socket == socket).map(|old| old.state.clone()).unwrap_or_default();
        self.list.store(Arc::new(found.into_iter().map(|socket| Address { socket, state: state(socket) }).collect()));
    }

    /// Sets the result of later lookups.
    #[cfg(test)]
    pub(in crate::edge) fn set_source(&self, list: Vec<SocketAddr>) {
        self.source.store(Arc::new(Source::Fixed(list)));
    }

    /// Selects the next address that the attempt has not tried. Looks the name up if there is none.
    pub async fn dial(self: &Arc<Self>, dial: &mut Dial) -> Option<Picked> {
        dial.current = self.pick(&dial.failed);
        if dial.current.is_none() && self.is_named() {
            self.refresh().await;
            dial.current = self.pick(&dial.failed);
        }
        dial.current
    }

    fn pick(&self, tried: &[SocketAddr]) -> Option<Picked> {
        let list = self.list.load();
        let picked = |address: &Address, probe| {
            let generation = address.state.generation.load(Ordering::Relaxed);
            Some(Picked { address: address.socket, generation, probe })
        };
        if let ([only], []) = (list.as_slice(), tried) {
            return picked(only, false);
        }
        let spare = if tried.is_empty() { None } else { self.spare.lock().as_ref().map(|spare| spare.address) };
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % list.len().max(1);
        let (before, from) = list.split_at_checked(turn)?;
        let untried = || from.iter().chain(before).filter(|address| !tried.contains(&address.socket));
        if let Some(spare) = untried().find(|address| Some(address.socket) == spare) {
            return picked(spare, true);
        }
        for address in untried() {
            match address.state.skip_until.load(Ordering::Relaxed) {
                0 => return picked(address, false),
                until if until <= self.now() => {
                    // One attempt probes the address; others skip it meanwhile.
                    let claim = address.state.skip_until.compare_exchange(until, self.cooldown_end(), Ordering::Relaxed, Ordering::Relaxed);
                    if claim.is_ok() {
                        return picked(address, true);
                    }
                }
                _ => {}
            }
        }
        picked(untried().next()?, true)
    }

    /// An untried address to race against a slow connect, preferably of the other family (RFC 8305, section 5).
    pub fn alternative(&self, tried: &[SocketAddr]) -> Option<SocketAddr> {
        let list = self.list.load();
        let usable =
            |address: &&Address| !tried.contains(&address.socket) && address.state.skip_until.load(Ordering::Relaxed) <= self.now();
        let other_family = |address: &&Address| tried.last().is_some_and(|last| last.is_ipv4() != address.socket.is_ipv4());
        let mut all = list.iter().filter(usable);
        let found = list.iter().filter(usable).find(other_family).or_else(|| all.next());
        found.map(|address| address.socket)
    }

    /// Records that the attempt has a connection.
    pub fn connected(&self, dial: &Dial) {
        if let Some(Picked { address, probe: true, .. }) = dial.current {
            self.set_skip(address, 0);
        }
    }

    /// Records that the attempt could not connect, and starts a lookup. Returns whether there may be another address.
    pub fn failed(self: &Arc<Self>, dial: &mut Dial) -> bool {
        let Some(Picked { address, .. }) = dial.current.take() else { return false };
        self.skip(address);
        dial.failed.push(address);
        let named = self.is_named();
        if named {
            drop(self.refresh());
        }
        named || self.list.load().iter().any(|other| !dial.failed.contains(&other.socket))
    }

    /// Skips an address for [`COOLDOWN`].
    pub fn skip(&self, address: SocketAddr) {
        self.set_skip(address, self.cooldown_end());
    }

    fn set_skip(&self, address: SocketAddr, until: u64) {
        if let Some(address) = self.list.load().iter().find(|a| a.socket == address) {
            address.state.skip_until.store(until, Ordering::Relaxed);
        }
    }

    /// An address with its current generation.
    pub fn current(&self, address: SocketAddr) -> Picked {
        let list = self.list.load();
        let known = list.iter().find(|a| a.socket == address);
        Picked { address, generation: known.map_or(0, |a| a.state.generation.load(Ordering::Relaxed)), probe: false }
    }

    /// Retires the connections of `picked`'s generation. `false` if another attempt already did.
    pub fn retire(&self, picked: Picked) -> bool {
        let list = self.list.load();
        let Some(address) = list.iter().find(|a| a.socket == picked.address) else { return false };
        let next = picked.generation.wrapping_add(1);
        address.state.generation.compare_exchange(picked.generation, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Stores a connection to `address` for the next attempt at it.
    pub fn put_spare(&self, address: SocketAddr, stream: TcpStream) {
        let spare = Spare { address, stream, since: Instant::now() };
        let _closed = self.spare.lock().replace(spare); // closed after the lock is released
    }

    /// Takes the stored connection to `address`, unless it has expired.
    pub fn take_spare(&self, address: SocketAddr) -> Option<TcpStream> {
        let spare = self.spare.lock().take_if(|spare| spare.address == address)?;
        (spare.since.elapsed() < SPARE_TIMEOUT).then_some(spare.stream)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The end of a cooldown that starts now.
    fn cooldown_end(&self) -> u64 {
        u64::try_from((self.epoch.elapsed() + COOLDOWN).as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(last: impl IntoIterator<Item = u8>) -> Vec<SocketAddr> {
        last.into_iter().map(|n| SocketAddr::from(([127, 0, 0, n], 80))).collect()
    }

    fn addresses(count: u8) -> Arc<Addresses> {
        let addresses = Arc::new(Addresses::new("p".into(), "upstream.invalid".into(), 80));
        addresses.set_source(list(1..=count));
        addresses.update(list(1..=count));
        addresses
    }

    /// The last number of the address.
    async fn dial(addresses: &Arc<Addresses>, dial: &mut Dial) -> Option<u8> {
        addresses.dial(dial).await.map(|picked| match picked.address {
            SocketAddr::V4(v4) => v4.ip().octets()[3],
            SocketAddr::V6(v6) => panic!("{v6}"),
        })
    }

    /// What attempts connect to, one after the other.
    async fn round(addresses: &Arc<Addresses>, count: usize) -> Vec<u8> {
        let mut all = Vec::new();
        for _ in 0..count {
            all.push(dial(addresses, &mut Dial::default()).await.unwrap());
        }
        all
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_take_the_addresses_in_turn() {
        let addresses = addresses(3);
        assert_eq!(round(&addresses, 6).await, [1, 2, 3, 1, 2, 3]);
        addresses.update(list(2..=4));
        let mut after = round(&addresses, 3).await;
        after.sort_unstable();
        assert_eq!(after, [2, 3, 4], "a new address has its share");
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_tries_each_address_once_and_one_that_failed_rests() {
        let addresses = addresses(3);
        let mut one = Dial::default();
        for number in [1, 2] {
            assert_eq!(dial(&addresses, &mut one).await, Some(number));
            assert!(addresses.failed(&mut one));
        }
        assert_eq!(round(&addresses, 3).await, [3, 3, 3]);
        // When all have failed, they are tried all the same, by attempts that have not done so.
        assert_eq!(dial(&addresses, &mut one).await, Some(3));
        addresses.failed(&mut one);
        assert_eq!(dial(&addresses, &mut one).await, None);
        assert!(dial(&addresses, &mut Dial::default()).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn after_the_rest_one_attempt_finds_an_address_back() {
        let addresses = addresses(2);
        let mut one = Dial::default();
        assert_eq!(dial(&addresses, &mut one).await, Some(1));
        addresses.failed(&mut one);
        tokio::time::advance(COOLDOWN).await;
        let mut probes = Vec::new();
        for _ in 0..4 {
            let mut probe = Dial::default();
            if dial(&addresses, &mut probe).await == Some(1) {
                probes.push(probe);
            }
        }
        assert_eq!(probes.len(), 1);
        addresses.connected(&probes[0]);
        let mut both = round(&addresses, 2).await;
        both.sort_unstable();
        assert_eq!(both, [1, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_connect_looks_the_name_up_at_most_once_a_second() {
        let addresses = addresses(1);
        let mut attempt = Dial::default();
        dial(&addresses, &mut attempt).await;
        addresses.set_source(list([7]));
        assert!(addresses.failed(&mut attempt));
        assert_eq!(dial(&addresses, &mut attempt).await, Some(7), "the same attempt goes where the name points to now");
        addresses.set_source(list([8]));
        addresses.failed(&mut attempt);
        assert_eq!(dial(&addresses, &mut attempt).await, None);
        tokio::time::advance(LOOKUP_GAP).await;
        assert_eq!(dial(&addresses, &mut attempt).await, Some(8));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_connect_races_the_other_family_first() {
        let addresses = addresses(2);
        let mut all = list([1, 2]);
        all.insert(2, "[::1]:80".parse().unwrap());
        addresses.update(all.clone());
        assert_eq!(addresses.alternative(&all[..1]), Some(all[2]));
        assert_eq!(addresses.alternative(&[all[0], all[2]]), Some(all[1]));
        assert_eq!(addresses.alternative(&all), None);
        addresses.skip(all[2]);
        assert_eq!(addresses.alternative(&all[..1]), Some(all[1]));
    }

    #[tokio::test(start_paused = true)]
    async fn connections_of_an_address_are_retired_once_for_all_that_used_them() {
        let addresses = addresses(1);
        let mut dial = Dial::default();
        let first = addresses.dial(&mut dial).await.unwrap();
        assert!(addresses.retire(first) && !addresses.retire(first));
        let second = addresses.dial(&mut dial).await.unwrap();
        assert_eq!(second.generation, first.generation + 1);
        addresses.update(list([9, 1]));
        assert_eq!(addresses.current(first.address), second, "a look-up changes nothing in that");
    }

    #[tokio::test]
    async fn a_numeric_host_is_its_only_address() {
        let addresses = Arc::new(Addresses::new("p".into(), "::1".into(), 443));
        let mut dial = Dial::default();
        assert!(!addresses.is_named() && !addresses.failed(&mut dial));
        assert_eq!(addresses.dial(&mut dial).await.unwrap().address, "[::1]:443".parse().unwrap());
        assert!(!addresses.failed(&mut dial));
        assert!(addresses.dial(&mut dial).await.is_none());
    }
}
