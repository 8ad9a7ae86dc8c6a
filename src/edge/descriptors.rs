//! The limit of open file descriptors: every connection needs one, on either side.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit of open files to the hard one, which needs no privilege, and logs the result. Service managers start
/// processes with a soft limit of 1024 because of `select(2)`, which the gateway does not use.
pub fn raise() {
    let limit = getrlimit(Resource::Nofile);
    let (before, most) = (shown(limit.current), shown(limit.maximum));
    if limit.current == limit.maximum {
        return log::info!("open files: limit {before}");
    }
    match setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        Ok(()) => log::info!("open files: limit raised from {before} to {most}"),
        Err(e) => log::warn!("open files: limit {before}; it cannot be raised to {most}: {e}"),
    }
}

/// Descriptors that are neither a client's nor a provider's connection: the admin listener's connections
/// ([`crate::edge::admin`]), listeners, the log, files, name servers, the limit store.
const OTHERS: u64 = 128;

/// Client connections for which there are descriptors: each may need one more to a provider.
pub fn client_connections() -> usize {
    getrlimit(Resource::Nofile).current.map_or(usize::MAX, connections)
}

fn connections(limit: u64) -> usize {
    usize::try_from(limit.saturating_sub(OTHERS) / 2).unwrap_or(usize::MAX).max(1)
}

/// `None` is no limit.
fn shown(limit: Option<u64>) -> String {
    limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_descriptors_beyond_the_reserve_are_for_clients() {
        assert_eq!([0, 128, 129, 131, 1024, 4000].map(connections), [1, 1, 1, 1, 448, 1936]);
    }
}
