//! Files whose content decides something: whether it has changed, and changes that nobody sees half of.

use crate::system;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, fchown};
use std::path::{Path, PathBuf};

/// A digest of what stands in these files now, a missing one included; two readings differ exactly when a file changed.
#[expect(clippy::disallowed_methods, reason = "called while a configuration is read, before it is served or on a blocking thread")]
pub fn fingerprint(files: &[PathBuf]) -> [u8; 32] {
    use sha2::{Digest, Sha256};
    let mut all = Sha256::new();
    for path in files {
        match std::fs::read(path) {
            Ok(bytes) => all.update(Sha256::digest(&bytes)),
            Err(_) => all.update([0; 32]),
        }
    }
    all.finalize().into()
}

/// The text of a file; `None` where it is larger than `most` bytes.
///
/// # Errors
/// Of the file system, or where the content is no UTF-8.
#[expect(clippy::disallowed_methods, reason = "called by commands, before a configuration is served, or on a blocking thread")]
pub fn read_text(path: &Path, most: u64) -> io::Result<Option<String>> {
    let mut text = String::new();
    let size = File::open(path)?.take(most + 1).read_to_string(&mut text)?;
    Ok((size as u64 <= most).then_some(text))
}

/// Released when dropped, and by the system when the process ends.
pub struct Lock(#[expect(dead_code, reason = "held")] File);

/// Waits for a lock that one process has at a time: an advisory lock on this file, which is made where there is none and stays.
///
/// # Errors
/// Of the file system.
#[expect(clippy::disallowed_methods, reason = "called by commands, not while serving")]
pub fn lock(path: &Path) -> io::Result<Lock> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
    file.lock()?;
    Ok(Lock(file))
}

/// Replaces a file, or makes it: the new content is written beside it, synced and renamed over it, so that a reader, and the disk
/// after a crash, has the old or the new one. Mode and, where this process may, owner stay; a symbolic link stays one.
///
/// # Errors
/// Of the file system; the file is as it was.
#[expect(clippy::disallowed_methods, reason = "called by commands, not while serving")]
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let path = match path.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
        real => real?,
    };
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{:016x}.tmp", system::random()));
    let temporary = dir.join(name);
    let written = write_new(&temporary, content, std::fs::metadata(&path).ok().as_ref()).and_then(|()| std::fs::rename(&temporary, &path));
    if written.is_err() {
        let _gone = std::fs::remove_file(&temporary);
    }
    written?;
    // The rename, too; not every file system can.
    let _best_effort = File::open(dir).and_then(|dir| dir.sync_all());
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "called by commands, not while serving")]
fn write_new(path: &Path, content: &[u8], like: Option<&std::fs::Metadata>) -> io::Result<()> {
    let mut file = OpenOptions::new().create_new(true).write(true).open(path)?;
    if let Some(like) = like {
        // The owner first: a change of it takes bits of the mode away.
        let _may_not = fchown(&file, Some(like.uid()), Some(like.gid()));
        file.set_permissions(like.permissions())?;
    }
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dir::Dir;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn a_replaced_file_keeps_its_mode_and_a_link_stays_one() {
        let dir = Dir::new();
        let (file, link) = (dir.join("real.yaml"), dir.join("link.yaml"));
        replace(&file, b"one").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        symlink("real.yaml", &link).unwrap();
        replace(&link, b"two").unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"two");
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o640);
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert!(replace(&dir, b"not a directory").is_err());
        let mut names: Vec<_> = std::fs::read_dir(&*dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["link.yaml", "real.yaml"], "nothing is left beside them");
    }

    #[test]
    fn a_text_is_read_up_to_its_bound() {
        let dir = Dir::new();
        let path = dir.write("text", "four");
        assert_eq!(read_text(&path, 4).unwrap().as_deref(), Some("four"));
        assert_eq!(read_text(&path, 3).unwrap(), None);
    }

    #[test]
    fn a_lock_is_had_by_one_at_a_time() {
        let dir = Dir::new();
        let path = dir.join("lock");
        let first = lock(&path).unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        let second = std::thread::spawn({
            let path = path.clone();
            move || {
                let lock = lock(&path).unwrap();
                sender.send(()).unwrap();
                drop(lock);
            }
        });
        assert!(File::open(&path).unwrap().try_lock().is_err());
        assert!(receiver.try_recv().is_err());
        drop(first);
        second.join().unwrap();
        assert_eq!(receiver.try_recv(), Ok(()));
    }
}
