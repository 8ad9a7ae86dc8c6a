//! Watches the configuration files and applies changes: as a whole, or not at all.

use super::live::Live;
use super::serve::Process;
use crate::config::problem::Problem;
use crate::config::snapshot::Snapshot;
use crate::config::{self, Loaded};
use crate::system;
use crate::telemetry::labels::Reload;
use crate::yaml::problem::Severity;
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Poll interval. Polling detects what notifications miss: replaced files, the symbolic links of a ConfigMap, network file
/// systems. A change is applied by the second poll that finds it.
pub const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Maximum number of warnings logged per configuration.
const MAX_WARNINGS: usize = 32;

/// A file's path, and its canonical path, modification time and size; `None` if it cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct FileState(PathBuf, Option<(PathBuf, SystemTime, u64)>);

#[expect(clippy::disallowed_methods, reason = "called on a blocking thread")]
fn file_state(path: &Path) -> FileState {
    let state = || {
        let real = path.canonicalize().ok()?;
        let meta = real.metadata().ok()?;
        Some((real, meta.modified().ok()?, meta.len()))
    };
    FileState(path.to_owned(), state())
}

/// Detects changes of the files.
#[derive(Default)]
struct FileWatch {
    /// The files when they were read.
    read: Vec<FileState>,
    /// The files at the last poll; empty if they had not changed.
    changed: Vec<FileState>,
}

impl FileWatch {
    /// Returns whether to reload: two consecutive polls found the same change, so that no file is still being written.
    fn poll(&mut self, now: Vec<FileState>) -> bool {
        let settled = now == self.changed;
        self.changed = if now == self.read { Vec::new() } else { now };
        settled && !self.changed.is_empty()
    }

    /// Call before the files are read.
    fn before_read(&mut self) {
        self.changed.clear();
        self.read = file_states(&self.read);
    }

    /// Sets the files to watch after they were read. Known ones keep their state from before the read, so that a change during
    /// the read is found.
    fn after_read(&mut self, files: &[PathBuf]) {
        let before = |file: &PathBuf| self.read.iter().find(|state| state.0 == *file).cloned();
        self.read = files.iter().map(|file| before(file).unwrap_or_else(|| file_state(file))).collect();
    }
}

fn file_states(of: &[FileState]) -> Vec<FileState> {
    of.iter().map(|known| file_state(&known.0)).collect()
}

/// Watches the configuration and all files that it names.
pub struct Reloader {
    path: PathBuf,
    watch: Arc<Mutex<FileWatch>>,
}

impl Reloader {
    /// Watches a configuration that was read from `path` and `files`.
    pub fn new(path: PathBuf, files: Vec<PathBuf>) -> Self {
        let watch = FileWatch { read: files.iter().map(|f| file_state(f)).collect(), changed: Vec::new() };
        Self { path, watch: Arc::new(Mutex::new(watch)) }
    }

    /// Reloads if a file has changed and has not changed further since the last poll.
    pub async fn poll(&self, process: &Arc<Process>) {
        let watch = self.watch.clone();
        let changed = tokio::task::spawn_blocking(move || {
            let read = watch.lock().read.clone();
            let now = file_states(&read);
            watch.lock().poll(now)
        });
        if changed.await.unwrap_or(false) {
            self.reload(process).await;
        }
    }

    /// Reads the files and applies the configuration, or logs why it is invalid.
    pub async fn reload(&self, process: &Arc<Process>) {
        let (path, watch) = (self.path.clone(), self.watch.clone());
        let old = process.live.load_full();
        let before = old.clone();
        let Ok(next) = tokio::task::spawn_blocking(move || next(&path, &watch, &before)).await else {
            log::error!("the reload failed; the configuration is unchanged");
            return;
        };
        match next {
            Err(problems) => rejected(process, &old, problems),
            Ok((live, warnings)) => {
                for signer in live.expiring_signers() {
                    signer.warm_up().await;
                }
                crate::telemetry::log::configure(&live.snapshot.log);
                applied(process, &live);
                process.check_max_connections(&live.snapshot.server);
                warn(process, &warnings);
                log::info!(
                    "configuration {} is in force: {} routes, {} keys",
                    live.generation,
                    live.snapshot.routes.len(),
                    live.snapshot.tenants.digests.len() // the anonymous key has no digest
                );
                process.live.store(Arc::new(live));
            }
        }
    }
}

fn next(path: &Path, watch: &Mutex<FileWatch>, old: &Live) -> Result<(Live, Vec<Problem>), Vec<String>> {
    // Before the read: an invalid file is reported once, not on every poll.
    watch.lock().before_read();
    let errors =
        |problems: Vec<Problem>| problems.iter().filter(|p| p.severity == Severity::Error).map(ToString::to_string).collect::<Vec<_>>();
    let Loaded { snapshot, files, warnings } = config::load(path).map_err(errors)?;
    watch.lock().after_read(&files);
    let listeners = |s: &Snapshot| s.listen.iter().map(|l| (l.address.clone(), l.tls.is_some(), l.proxy_protocol)).collect::<Vec<_>>();
    let fixed = |s: &Snapshot| (listeners(s), s.admin, s.server.threads);
    if fixed(&snapshot) != fixed(&old.snapshot) {
        log::warn!("changes of listeners, the admin address and threads take effect after an upgrade or restart");
    }
    Live::new(snapshot, Some(old)).map(|live| (live, warnings)).map_err(|e| vec![e])
}

/// Logs the warnings of the new configuration that the previous one did not have. `/status` lists all.
pub fn warn(process: &Process, warnings: &[Problem]) {
    let mut reloads = process.reloads.lock();
    let before = std::mem::take(&mut reloads.warnings);
    reloads.warnings = warnings.iter().map(|warning| (warning.message.clone(), warning.to_string())).collect();
    drop(reloads);
    let new: Vec<_> = warnings.iter().filter(|warning| !before.iter().any(|(message, _)| *message == warning.message)).collect();
    for warning in new.iter().take(MAX_WARNINGS) {
        log::warn!("{warning}");
    }
    if let Some(more) = new.len().checked_sub(MAX_WARNINGS).filter(|more| *more > 0) {
        log::warn!("{more} more warnings about the configuration; `tidegate check` prints all");
    }
}

fn applied(process: &Process, live: &Live) {
    let now = system::wall_clock();
    live.metrics.reload(Reload::Applied, now as f64 / 1e9);
    let mut reloads = process.reloads.lock();
    reloads.applied += 1;
    reloads.last_applied = Some(now);
    reloads.problems.clear();
}

fn rejected(process: &Process, live: &Live, problems: Vec<String>) {
    for problem in &problems {
        log::error!("configuration not changed: {problem}");
    }
    let now = system::wall_clock();
    live.metrics.reload(Reload::Rejected, now as f64 / 1e9);
    let mut reloads = process.reloads.lock();
    reloads.rejected += 1;
    reloads.last_rejected = Some(now);
    reloads.problems = problems;
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]
mod tests {
    use super::*;

    fn version(length: u64) -> Vec<FileState> {
        let file = PathBuf::from("/etc/tidegate.yaml");
        vec![FileState(file.clone(), Some((file, SystemTime::UNIX_EPOCH, length)))]
    }

    #[test]
    fn a_file_is_read_when_two_polls_in_a_row_find_the_same_change() {
        let mut watch = FileWatch { read: version(1), changed: Vec::new() };
        assert!(!watch.poll(version(1)), "unchanged");
        assert!(!watch.poll(version(2)) && !watch.poll(version(3)), "still being written");
        assert!(watch.poll(version(3)), "whole");
        assert!(!watch.poll(version(4)) && !watch.poll(version(1)) && !watch.poll(version(1)), "taken back");
    }

    #[test]
    fn a_change_during_the_read_is_found_by_the_next_polls() {
        let folder = tempdir();
        let file = folder.join("tidegate.yaml");
        std::fs::write(&file, "one").unwrap();
        let mut watch = FileWatch { read: vec![file_state(&file)], changed: Vec::new() };
        watch.before_read();
        std::fs::write(&file, "one and more").unwrap();
        watch.after_read(&[file.clone(), folder.join("key")]);
        let now = file_states(&watch.read);
        assert!(!watch.poll(now.clone()) && watch.poll(now));
        std::fs::remove_dir_all(folder).unwrap();
    }

    fn tempdir() -> PathBuf {
        let folder = std::env::temp_dir().join(format!("tidegate-reload-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }
}
