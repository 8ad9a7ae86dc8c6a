//! The addresses of a provider, looked up in the background, and which of them is dialled.
//!
//! Everybody dials the same one, so that pooled connections are found again. When it cannot be connected to, the next one
//! takes its place for everybody; an attempt that has not dialled that one yet does so at once.

use arc_swap::ArcSwap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How often the addresses of a provider that is named by a host are looked up again.
pub const RESOLVE_EVERY: Duration = Duration::from_secs(30);
/// Longest look-up that a request waits for, when there are no addresses yet.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// See the module.
pub struct Addresses {
    /// Name of the provider.
    provider: Arc<str>,
    host: Arc<str>,
    port: u16,
    list: ArcSwap<Vec<SocketAddr>>,
    /// Counts on with every one that cannot be connected to; its rest by their number is the one that is dialled.
    turn: AtomicUsize,
}

/// What one attempt has dialled: the first turn and the last one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dialled(Option<(usize, usize)>);

impl Addresses {
    /// Where `host` is; a look-up where it is a name.
    pub fn new(provider: Arc<str>, host: Arc<str>, port: u16) -> Self {
        let list = host.parse().map(|ip: IpAddr| vec![SocketAddr::new(ip, port)]).unwrap_or_default();
        Self { provider, host, port, list: ArcSwap::from_pointee(list), turn: AtomicUsize::new(0) }
    }

    /// Whether they come from a look-up.
    pub fn is_named(&self) -> bool {
        self.host.parse::<IpAddr>().is_err()
    }

    /// Looks them up again; keeps the old ones when that fails.
    pub async fn resolve(&self) {
        let Self { provider, host, .. } = self;
        match tokio::time::timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host((&**host, self.port))).await {
            Ok(Ok(found)) => self.found(found.collect()),
            Ok(Err(e)) => log::warn!("provider {provider}: cannot resolve {host}: {e}"),
            Err(_) => log::warn!("provider {provider}: resolving {host} takes longer than {RESOLVE_TIMEOUT:?}"),
        }
    }

    pub(super) fn found(&self, list: Vec<SocketAddr>) {
        if !list.is_empty() && **self.list.load() != list {
            self.list.store(Arc::new(list));
        }
    }

    /// The address that an attempt connects to, looked up first where there is none yet.
    pub async fn dial(&self, dialled: &mut Dialled) -> Option<SocketAddr> {
        if self.list.load().is_empty() {
            self.resolve().await;
        }
        let list = self.list.load();
        let turn = self.turn.load(Ordering::Relaxed);
        dialled.0 = Some((dialled.0.map_or(turn, |(first, _)| first), turn));
        list.get(turn.checked_rem(list.len())?).copied()
    }

    /// The address that was dialled last cannot be connected to. Whether the attempt has another one to dial.
    pub fn failed(&self, dialled: Dialled) -> bool {
        let Some((first, last)) = dialled.0 else { return false };
        // Of many who found out, one moves on for all of them.
        let next = match self.turn.compare_exchange(last, last.wrapping_add(1), Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => last.wrapping_add(1),
            Err(next) => next,
        };
        next.wrapping_sub(first) < self.list.load().len()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]
mod tests {
    use super::*;

    fn addresses(count: u8) -> Addresses {
        let addresses = Addresses::new("p".into(), "upstream.invalid".into(), 80);
        addresses.found((1..=count).map(|n| SocketAddr::from(([127, 0, 0, n], 80))).collect());
        addresses
    }

    /// The last number of the address.
    async fn dial(addresses: &Addresses, dialled: &mut Dialled) -> u8 {
        match addresses.dial(dialled).await.unwrap() {
            SocketAddr::V4(v4) => v4.ip().octets()[3],
            SocketAddr::V6(v6) => panic!("{v6}"),
        }
    }

    #[tokio::test]
    async fn an_attempt_dials_each_address_once_and_the_next_one_begins_where_it_ended() {
        let addresses = addresses(3);
        let mut one = Dialled::default();
        for (number, more) in [(1, true), (2, true), (3, false)] {
            assert_eq!(dial(&addresses, &mut one).await, number);
            assert_eq!(addresses.failed(one), more);
        }
        let mut two = Dialled::default();
        assert_eq!((dial(&addresses, &mut two).await, addresses.failed(two)), (1, true));
        assert_eq!(dial(&addresses, &mut Dialled::default()).await, 2);
    }

    #[tokio::test]
    async fn those_who_fail_together_move_on_by_one() {
        let addresses = addresses(2);
        let (mut one, mut two) = (Dialled::default(), Dialled::default());
        assert_eq!((dial(&addresses, &mut one).await, dial(&addresses, &mut two).await), (1, 1));
        assert!(addresses.failed(one) && addresses.failed(two));
        assert_eq!((dial(&addresses, &mut one).await, dial(&addresses, &mut two).await), (2, 2));
    }

    #[tokio::test]
    async fn a_numeric_host_is_its_only_address() {
        let addresses = Addresses::new("p".into(), "::1".into(), 443);
        let mut dialled = Dialled::default();
        assert!(!addresses.is_named() && !addresses.failed(dialled));
        assert_eq!(addresses.dial(&mut dialled).await, Some("[::1]:443".parse().unwrap()));
        assert!(!addresses.failed(dialled));
    }
}
