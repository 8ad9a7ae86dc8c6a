//! Path of the upgrade socket.

use crate::config::types::MAX_SOCKET_PATH;
use crate::hex;
use crate::system;
use rustix::process::geteuid;
use sha2::{Digest, Sha256};
use std::fs::{DirBuilder, symlink_metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Path of the upgrade socket. By default it is in a directory that only this user can access, because a process that connects
/// could send its own listeners. Its name is derived from the configuration's path, so that each gateway on a host has its own.
///
/// # Errors
/// If there is no private directory, or the path is too long.
pub fn socket(configured: Option<&Path>, configuration: Option<&Path>) -> Result<PathBuf, String> {
    let path = match configured {
        Some(path) => path.to_owned(),
        None => {
            let file = configuration.map(|file| std::path::absolute(file).unwrap_or_else(|_| file.to_owned())).unwrap_or_default();
            let directory =
                directory().map_err(|e| format!("no private directory for the upgrade socket: {e}; set server.upgrade_socket"))?;
            directory.join(name(&file))
        }
    };
    match path.as_os_str().len() {
        0..=MAX_SOCKET_PATH => Ok(path),
        length => {
            Err(format!("the path of the upgrade socket has {length} bytes, the maximum is {MAX_SOCKET_PATH}; set server.upgrade_socket"))
        }
    }
}

fn name(configuration: &Path) -> String {
    let hash = Sha256::digest(configuration.as_os_str().as_bytes());
    let digits = hex::encode(hash.iter().take(8));
    format!("{digits}.sock")
}

fn directory() -> io::Result<PathBuf> {
    let variable = |name| system::env_os(name).map(PathBuf::from);
    let base = variable("RUNTIME_DIRECTORY").or_else(|| variable("XDG_RUNTIME_DIR")).unwrap_or_else(std::env::temp_dir);
    let user = geteuid().as_raw();
    let directory = base.join(format!("tidegate-{user}"));
    ensure_private(&directory, user)?;
    Ok(directory)
}

/// Creates the directory, or checks that it belongs to the user and only the user can access it.
#[expect(clippy::disallowed_methods, reason = "called before requests are served")]
fn ensure_private(directory: &Path, user: u32) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    let found = symlink_metadata(directory)?;
    if found.is_dir() && found.uid() == user && found.mode() & 0o077 == 0 {
        return Ok(());
    }
    Err(io::Error::other(format!("other users have access to {}", directory.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dir::Dir;
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn two_configurations_have_two_sockets_and_a_configured_one_is_taken() {
        assert_ne!(name(Path::new("/a.yaml")), name(Path::new("/b.yaml")));
        assert_eq!(socket(Some(Path::new("/run/x.sock")), None).unwrap(), Path::new("/run/x.sock"));
        assert!(socket(Some(Path::new(&"x".repeat(108))), None).unwrap_err().contains("server.upgrade_socket"));
    }

    #[test]
    fn a_directory_that_others_may_use_is_not_used() {
        let base = Dir::new();
        let user = symlink_metadata(&*base).unwrap().uid();
        let own = base.join("own");
        assert!(ensure_private(&own, user).is_ok() && ensure_private(&own, user).is_ok());
        assert!(ensure_private(&own, user + 1).is_err());
        set_permissions(&own, Permissions::from_mode(0o755)).unwrap();
        assert!(ensure_private(&own, user).is_err());
        std::os::unix::fs::symlink(&*base, base.join("link")).unwrap();
        assert!(ensure_private(&base.join("link"), user).is_err());
    }
}
