//! Where one process hands its listeners to the next one.

use async_trait::async_trait;
use pingora_core::server::{Fds, ListenFds, ShutdownWatch};
use pingora_core::services::Service;
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::fs::{DirBuilder, symlink_metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Longest path of a Unix socket in bytes, on Linux; Pingora panics beyond it.
const LONGEST: usize = 107;

/// The socket of the gateway that `configuration` describes. By default it is in a directory that nobody else may use,
/// for whoever can reach it while the next process waits could give it listeners of theirs; and it is named after the
/// configuration's path, so that two gateways on one host do not take each other's.
///
/// # Errors
/// Says why there can be no such socket.
pub fn socket(configured: Option<&Path>, configuration: Option<&Path>) -> Result<PathBuf, String> {
    let path = match configured {
        Some(path) => path.to_owned(),
        None => {
            let file = configuration.map(|file| std::path::absolute(file).unwrap_or_else(|_| file.to_owned())).unwrap_or_default();
            let directory = directory().map_err(|e| format!("no directory for the upgrade socket: {e}; set server.upgrade_socket"))?;
            directory.join(name(&file))
        }
    };
    match path.as_os_str().len() {
        0..=LONGEST => Ok(path),
        length => {
            Err(format!("the path of the upgrade socket has {length} bytes, at most {LONGEST} can be used; set server.upgrade_socket"))
        }
    }
}

fn name(configuration: &Path) -> String {
    let hash = Sha256::digest(configuration.as_os_str().as_bytes());
    let digits: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{digits}.sock")
}

fn directory() -> io::Result<PathBuf> {
    let given = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let base = given("RUNTIME_DIRECTORY").or_else(|| given("XDG_RUNTIME_DIR")).unwrap_or_else(std::env::temp_dir);
    let user = std::fs::metadata("/proc/self")?.uid();
    let directory = base.join(format!("tidegate-{user}"));
    private(&directory, user)?;
    Ok(directory)
}

/// Makes the directory, or holds an existing one to being the user's own.
fn private(directory: &Path, user: u32) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    let found = symlink_metadata(directory)?;
    if found.is_dir() && found.uid() == user && found.mode() & 0o077 == 0 {
        return Ok(());
    }
    Err(io::Error::other(format!("{} is open to others", directory.display())))
}

/// Waits a few seconds for the process before to send its listeners, and keeps those on `addresses`.
///
/// # Errors
/// Says why there are none.
pub fn inherit(socket: &Path, addresses: &HashSet<String>) -> Result<Fds, String> {
    let cannot = |e: io::Error| format!("cannot listen on the upgrade socket {}: {e}", socket.display());
    // What would make Pingora panic is tried first: an old socket in its way, a directory that takes no new one.
    match std::fs::remove_file(socket) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(cannot(e)),
        _ => {}
    }
    let trial = socket.with_extension("trial");
    std::fs::File::create(&trial).and_then(|_| std::fs::remove_file(&trial)).map_err(cannot)?;
    let mut listeners = Fds::new();
    listeners.get_from_sock(&*socket.to_string_lossy()).map_err(|_| {
        format!(
            "no process has handed its listeners over at {}; send SIGQUIT to the one that runs, or start without --upgrade",
            socket.display()
        )
    })?;
    listeners.close_unclaimed(addresses);
    Ok(listeners)
}

/// A service that begins with inherited listeners. Pingora would fetch them for it, but where there are none it ends the
/// process itself, with the exit code of a bad configuration.
pub struct Heir<S> {
    /// What listens.
    pub service: S,
    /// What it begins with.
    pub listeners: Option<Fds>,
}

#[async_trait]
impl<S: Service> Service for Heir<S> {
    async fn start_service(&mut self, fds: Option<ListenFds>, shutdown: ShutdownWatch, listeners_per_fd: usize) {
        if let (Some(table), Some(inherited)) = (&fds, self.listeners.take()) {
            *table.lock() = inherited;
        }
        self.service.start_service(fds, shutdown, listeners_per_fd).await;
    }

    fn name(&self) -> &str {
        self.service.name()
    }

    fn threads(&self) -> Option<usize> {
        self.service.threads()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs::{Permissions, create_dir, remove_dir_all, set_permissions};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn two_configurations_have_two_sockets_and_a_configured_one_is_taken() {
        assert_ne!(name(Path::new("/a.yaml")), name(Path::new("/b.yaml")));
        assert_eq!(socket(Some(Path::new("/run/x.sock")), None).unwrap(), Path::new("/run/x.sock"));
        assert!(socket(Some(Path::new(&"x".repeat(108))), None).unwrap_err().contains("server.upgrade_socket"));
    }

    #[test]
    fn where_nothing_can_listen_nothing_is_waited_for() {
        let base = std::env::temp_dir().join(format!("tidegate-inherit-{}", std::process::id()));
        create_dir(&base).unwrap();
        for socket in [base.join("missing/x.sock"), base.clone()] {
            let said = inherit(&socket, &HashSet::new()).err().unwrap();
            assert!(said.contains("cannot listen"), "{said}");
        }
        remove_dir_all(&base).unwrap();
    }

    #[test]
    fn a_directory_that_others_may_use_is_not_used() {
        let base = std::env::temp_dir().join(format!("tidegate-upgrade-{}", std::process::id()));
        create_dir(&base).unwrap();
        let user = symlink_metadata(&base).unwrap().uid();
        let own = base.join("own");
        assert!(private(&own, user).is_ok() && private(&own, user).is_ok());
        assert!(private(&own, user + 1).is_err());
        set_permissions(&own, Permissions::from_mode(0o755)).unwrap();
        assert!(private(&own, user).is_err());
        std::os::unix::fs::symlink(&base, base.join("link")).unwrap();
        assert!(private(&base.join("link"), user).is_err());
        remove_dir_all(&base).unwrap();
    }
}
