//! A changed file becomes the next generation, or changes nothing.

use super::live::Live;
use super::serve::Process;
use crate::config::snapshot::Snapshot;
use crate::config::{self, Loaded};
use crate::telemetry::labels::Reload;
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How often the files are looked at. Polling sees what notifications miss: a replaced file, a ConfigMap's switched
/// symbolic link, a network file system.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Which state of a file was read: where it really is, when it changed, how long it is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mark(PathBuf, Option<(PathBuf, SystemTime, u64)>);

fn mark(path: &Path) -> Mark {
    let state = || {
        let real = path.canonicalize().ok()?;
        let meta = real.metadata().ok()?;
        Some((real, meta.modified().ok()?, meta.len()))
    };
    Mark(path.to_owned(), state())
}

/// Watches the configuration and every file that it names.
pub struct Reloader {
    path: PathBuf,
    seen: Arc<Mutex<Vec<Mark>>>,
}

impl Reloader {
    /// A watcher of a configuration that was read from `path` and `files`.
    pub fn new(path: PathBuf, files: Vec<PathBuf>) -> Self {
        let seen = files.iter().map(|f| mark(f)).collect();
        Self { path, seen: Arc::new(Mutex::new(seen)) }
    }

    /// Reloads if a file has changed.
    pub async fn look(&self, process: &Arc<Process>) {
        let seen = self.seen.clone();
        let changed = tokio::task::spawn_blocking(move || {
            let seen = seen.lock().clone();
            seen.iter().any(|m| mark(&m.0) != *m)
        });
        if changed.await.unwrap_or(false) {
            self.reload(process).await;
        }
    }

    /// Reads the files and swaps the configuration in whole; a bad one changes nothing and is told.
    pub async fn reload(&self, process: &Arc<Process>) {
        let (path, seen) = (self.path.clone(), self.seen.clone());
        let old = process.live.load_full();
        let before = old.clone();
        let Ok(next) = tokio::task::spawn_blocking(move || next(&path, &seen, &before)).await else {
            log::error!("the reload failed; the configuration stays as it is");
            return;
        };
        match next {
            Err(problems) => rejected(process, &old, problems),
            Ok(live) => {
                for signer in live.expiring_signers() {
                    signer.warm_up().await;
                }
                crate::telemetry::log::configure(&live.snapshot.log);
                applied(process, &live);
                log::info!(
                    "configuration {} is in force: {} routes, {} keys",
                    live.generation,
                    live.snapshot.routes.len(),
                    live.snapshot.keys.len()
                );
                process.live.store(Arc::new(live));
            }
        }
    }
}

fn next(path: &Path, seen: &Mutex<Vec<Mark>>, old: &Live) -> Result<Live, Vec<String>> {
    // What is seen now is what is judged now: a file that stays bad is told once, not every second.
    let again: Vec<Mark> = seen.lock().iter().map(|m| mark(&m.0)).collect();
    *seen.lock() = again;
    let Loaded { snapshot, files } = config::load(path).map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    *seen.lock() = files.iter().map(|f| mark(f)).collect();
    let listeners = |s: &Snapshot| s.listen.iter().map(|l| (l.address, l.tls.is_some())).collect::<Vec<_>>();
    let fixed = |s: &Snapshot| (listeners(s), s.admin, s.server.threads);
    if fixed(&snapshot) != fixed(&old.snapshot) {
        log::warn!("listeners, the admin address and threads stay as they are until the process is upgraded or restarted");
    }
    Live::new(snapshot, Some(old)).map_err(|e| vec![e])
}

fn applied(process: &Process, live: &Live) {
    let now = live.now();
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
    let now = live.now();
    live.metrics.reload(Reload::Rejected, now as f64 / 1e9);
    let mut told = process.reloads.lock();
    told.rejected += 1;
    told.last_rejected = Some(now);
    told.problems = problems;
}
