//! A changed file becomes the next generation, or changes nothing.

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

/// How often the files are looked at. Polling sees what notifications miss: a replaced file, a ConfigMap's switched
/// symbolic link, a network file system. A change is applied by the second look that finds it.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Most warnings about one configuration that are logged.
const MAX_WARNINGS: usize = 32;

/// Which state of a file was read: where it really is, when it changed, how long it is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mark(PathBuf, Option<(PathBuf, SystemTime, u64)>);

#[expect(clippy::disallowed_methods, reason = "called on a blocking thread")]
fn mark(path: &Path) -> Mark {
    let state = || {
        let real = path.canonicalize().ok()?;
        let meta = real.metadata().ok()?;
        Some((real, meta.modified().ok()?, meta.len()))
    };
    Mark(path.to_owned(), state())
}

/// What the watcher knows of the files.
#[derive(Default)]
struct Watch {
    /// The files as they were read.
    read: Vec<Mark>,
    /// The files as the last look found them changed; empty where it found no change.
    changed: Vec<Mark>,
}

impl Watch {
    /// Compares the files as they are now with those that were read. `true` when they have changed and two looks in a row
    /// found the same change: a file that is still being written is not read.
    fn look(&mut self, now: Vec<Mark>) -> bool {
        let settled = now == self.changed;
        self.changed = if now == self.read { Vec::new() } else { now };
        settled && !self.changed.is_empty()
    }

    /// The files are about to be read as they are now.
    fn reading(&mut self) {
        self.changed.clear();
        self.read = marks(&self.read);
    }

    /// A configuration of these files was read. One that was watched before keeps its mark of before the reading, so that
    /// a change during it is seen by the next look.
    fn loaded(&mut self, files: &[PathBuf]) {
        let before = |file: &PathBuf| self.read.iter().find(|mark| mark.0 == *file).cloned();
        self.read = files.iter().map(|file| before(file).unwrap_or_else(|| mark(file))).collect();
    }
}

fn marks(of: &[Mark]) -> Vec<Mark> {
    of.iter().map(|known| mark(&known.0)).collect()
}

/// Watches the configuration and every file that it names.
pub struct Reloader {
    path: PathBuf,
    watch: Arc<Mutex<Watch>>,
}

impl Reloader {
    /// A watcher of a configuration that was read from `path` and `files`.
    pub fn new(path: PathBuf, files: Vec<PathBuf>) -> Self {
        let watch = Watch { read: files.iter().map(|f| mark(f)).collect(), changed: Vec::new() };
        Self { path, watch: Arc::new(Mutex::new(watch)) }
    }

    /// Reloads if a file has changed and has not changed further since the last look.
    pub async fn look(&self, process: &Arc<Process>) {
        let watch = self.watch.clone();
        let changed = tokio::task::spawn_blocking(move || {
            let read = watch.lock().read.clone();
            let now = marks(&read);
            watch.lock().look(now)
        });
        if changed.await.unwrap_or(false) {
            self.reload(process).await;
        }
    }

    /// Reads the files and swaps the configuration in whole; a bad one changes nothing and is told.
    pub async fn reload(&self, process: &Arc<Process>) {
        let (path, watch) = (self.path.clone(), self.watch.clone());
        let old = process.live.load_full();
        let before = old.clone();
        let Ok(next) = tokio::task::spawn_blocking(move || next(&path, &watch, &before)).await else {
            log::error!("the reload failed; the configuration stays as it is");
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

fn next(path: &Path, watch: &Mutex<Watch>, old: &Live) -> Result<(Live, Vec<Problem>), Vec<String>> {
    // Marked before they are read: a file that stays bad is reported once, not with every look.
    watch.lock().reading();
    let errors =
        |problems: Vec<Problem>| problems.iter().filter(|p| p.severity == Severity::Error).map(ToString::to_string).collect::<Vec<_>>();
    let Loaded { snapshot, files, warnings } = config::load(path).map_err(errors)?;
    watch.lock().loaded(&files);
    let listeners = |s: &Snapshot| s.listen.iter().map(|l| (l.address.clone(), l.tls.is_some(), l.proxy_protocol)).collect::<Vec<_>>();
    let fixed = |s: &Snapshot| (listeners(s), s.admin, s.server.threads);
    if fixed(&snapshot) != fixed(&old.snapshot) {
        log::warn!("listeners, the admin address and threads stay as they are until the process is upgraded or restarted");
    }
    Live::new(snapshot, Some(old)).map(|live| (live, warnings)).map_err(|e| vec![e])
}

/// Logs the warnings about the configuration that is in force now, but not those that the one before had too. `/status` has
/// all of them.
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
    let mut told = process.reloads.lock();
    told.applied += 1;
    told.last_applied = Some(now);
    told.problems.clear();
}

fn rejected(process: &Process, live: &Live, problems: Vec<String>) {
    for problem in &problems {
        log::error!("configuration not changed: {problem}");
    }
    let now = system::wall_clock();
    live.metrics.reload(Reload::Rejected, now as f64 / 1e9);
    let mut told = process.reloads.lock();
    told.rejected += 1;
    told.last_rejected = Some(now);
    told.problems = problems;
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]
mod tests {
    use super::*;

    fn version(length: u64) -> Vec<Mark> {
        let file = PathBuf::from("/etc/tidegate.yaml");
        vec![Mark(file.clone(), Some((file, SystemTime::UNIX_EPOCH, length)))]
    }

    #[test]
    fn a_file_is_read_when_two_looks_in_a_row_find_the_same_change() {
        let mut watch = Watch { read: version(1), changed: Vec::new() };
        assert!(!watch.look(version(1)), "unchanged");
        assert!(!watch.look(version(2)) && !watch.look(version(3)), "still being written");
        assert!(watch.look(version(3)), "whole");
        assert!(!watch.look(version(4)) && !watch.look(version(1)) && !watch.look(version(1)), "taken back");
    }

    #[test]
    fn a_change_during_the_reading_is_found_by_the_next_looks() {
        let folder = tempdir();
        let file = folder.join("tidegate.yaml");
        std::fs::write(&file, "one").unwrap();
        let mut watch = Watch { read: vec![mark(&file)], changed: Vec::new() };
        watch.reading();
        std::fs::write(&file, "one and more").unwrap();
        watch.loaded(&[file.clone(), folder.join("key")]);
        let now = marks(&watch.read);
        assert!(!watch.look(now.clone()) && watch.look(now));
        std::fs::remove_dir_all(folder).unwrap();
    }

    fn tempdir() -> PathBuf {
        let folder = std::env::temp_dir().join(format!("tidegate-reload-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }
}
