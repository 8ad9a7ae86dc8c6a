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

/// `None` is no limit.
fn shown(limit: Option<u64>) -> String {
    limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string())
}
