//! The limit of open file descriptors. Each client and upstream connection uses one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit to the hard limit, which needs no privilege, and logs the result. The usual soft limit of 1024 exists
/// for `select(2)`, which the gateway does not use.
pub fn raise() {
    let limit = getrlimit(Resource::Nofile);
    let (before, max) = (shown(limit.current), shown(limit.maximum));
    if limit.current == limit.maximum {
        return log::info!("open files: limit {before}");
    }
    match setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        Ok(()) => log::info!("open files: limit raised from {before} to {max}"),
        Err(e) => log::warn!("open files: limit {before}; cannot be raised to {max}: {e}"),
    }
}

/// Descriptors reserved for other uses: admin connections ([`crate::edge::admin`]), listeners, the log, files, name servers, the
/// limit store.
const RESERVED: u64 = 128;

/// Maximum number of client connections, each with an upstream connection.
pub fn client_connections() -> usize {
    getrlimit(Resource::Nofile).current.map_or(usize::MAX, connections)
}

fn connections(limit: u64) -> usize {
    usize::try_from(limit.saturating_sub(RESERVED) / 2).unwrap_or(usize::MAX).max(1)
}

/// `None` means no limit.
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
