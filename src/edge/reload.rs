//! Watches the configuration files and applies changes: as a whole, or not at all. Key files ([`key_files`]) are watched beside
//! them, and applied each on its own.

use super::live::Live;
use super::serve::Process;
use crate::config::problem::Problem;
use crate::config::snapshot::{Listen, ListenAddress, Server, Snapshot};
use crate::config::{self, Loaded, Rejected, key_files};
use crate::system;
use crate::telemetry::labels::Reload;
use crate::units;
use crate::yaml::problem::Severity;
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// Poll interval. Polling detects what notifications miss: replaced files, the symbolic links of a ConfigMap, network file
/// systems. A change is applied by the second poll that finds it.
pub const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The same for `keys_dir`, so that a key is revoked within a second.
pub const KEYS_POLL_INTERVAL: Duration = Duration::from_millis(250);

/// After so many polls in a row that found different changes, key files are applied as they are: a file that is written again and
/// again must not hold up the end of a key in another one.
const MAX_UNSETTLED: u32 = 3;

/// After so long a configuration that could not be applied is tried again although no file has changed: what it needs may be
/// available by then.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

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

/// Detects changes of files by their states.
struct FileWatch<S> {
    /// The files when they were read.
    read: Vec<S>,
    /// The files at the last poll; empty if they had not changed.
    changed: Vec<S>,
}

impl<S: PartialEq> FileWatch<S> {
    fn new(read: Vec<S>) -> Self {
        Self { read, changed: Vec::new() }
    }

    /// Returns whether to reload: two consecutive polls found the same change, so that no file is still being written.
    fn poll(&mut self, now: Vec<S>) -> bool {
        let settled = now == self.changed;
        self.changed = if now == self.read { Vec::new() } else { now };
        settled && !self.changed.is_empty()
    }
}

/// A [`FileWatch`] that does not wait for ever.
struct ImpatientWatch<S> {
    files: FileWatch<S>,
    /// How many polls in a row have found changes that were not applied.
    unsettled: u32,
}

impl<S: Clone + PartialEq> ImpatientWatch<S> {
    fn new(read: Vec<S>) -> Self {
        Self { files: FileWatch::new(read), unsettled: 0 }
    }

    /// Returns whether to read the files now; these states are then those that were read.
    fn poll(&mut self, now: Vec<S>) -> bool {
        let settled = self.files.poll(now.clone());
        self.unsettled = if self.files.changed.is_empty() { 0 } else { self.unsettled + 1 };
        let due = settled || self.unsettled >= MAX_UNSETTLED;
        if due {
            *self = Self::new(now);
        }
        due
    }
}

impl FileWatch<FileState> {
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

/// Watches the configuration, all files that it names, and the key files.
pub struct Reloader {
    path: PathBuf,
    watch: Arc<Mutex<FileWatch<FileState>>>,
    /// When to try again.
    retry_at: Mutex<Option<Instant>>,
    keys: Arc<Keys>,
}

/// A configuration that was read, and its problems: warnings, and those of key files.
type Next = (Live, Vec<Problem>, Vec<Problem>);

/// Why a configuration is not applied.
struct Failed {
    problems: Vec<String>,
    /// Whether it may be applied later, as it is.
    retry: bool,
}

/// The watch of key files.
struct Keys {
    watch: Mutex<ImpatientWatch<key_files::State>>,
    /// Held while a generation is made from the one in force and put in its place, so that none is lost.
    publishing: Mutex<()>,
}

impl Reloader {
    /// Watches a configuration that was read from `path` and `files`.
    pub fn new(path: PathBuf, files: Vec<PathBuf>) -> Self {
        let watch = FileWatch::new(files.iter().map(|f| file_state(f)).collect());
        // Nothing is known of the key files: the first polls read them again, and find what is in force.
        let keys = Keys { watch: Mutex::new(ImpatientWatch::new(Vec::new())), publishing: Mutex::new(()) };
        Self { path, watch: Arc::new(Mutex::new(watch)), retry_at: Mutex::default(), keys: Arc::new(keys) }
    }

    /// Applies changed key files, once they have not changed further since the last poll.
    pub async fn poll_keys(&self, process: &Arc<Process>) {
        if process.live.load().snapshot.keys_dir.is_none() {
            return;
        }
        let (keys, process) = (self.keys.clone(), process.clone());
        if tokio::task::spawn_blocking(move || keys.poll(&process)).await.is_err() {
            log::error!("reading the key files failed; the keys are unchanged");
        }
    }

    /// Reloads if a file has changed and has not changed further since the last poll.
    pub async fn poll(&self, process: &Arc<Process>) {
        let watch = self.watch.clone();
        let changed = tokio::task::spawn_blocking(move || {
            let read = watch.lock().read.clone();
            let now = file_states(&read);
            watch.lock().poll(now)
        });
        let is_due = self.retry_at.lock().is_some_and(|at| at <= Instant::now());
        if changed.await.unwrap_or(false) {
            self.reload(process).await;
        } else if is_due {
            self.attempt(process, true).await;
        }
    }

    /// Reads the files and applies the configuration, or logs why it is invalid.
    pub async fn reload(&self, process: &Arc<Process>) {
        self.attempt(process, false).await;
    }

    /// [`Self::reload`]; `again`: of a configuration whose problems are known.
    async fn attempt(&self, process: &Arc<Process>, again: bool) {
        let (path, watch) = (self.path.clone(), self.watch.clone());
        let old = process.live.load_full();
        let (before, same) = (old.clone(), process.clone());
        let Ok(next) = tokio::task::spawn_blocking(move || next(&path, &watch, &before, &same.fixed)).await else {
            log::error!("the reload failed; the configuration is unchanged");
            return;
        };
        *self.retry_at.lock() = next.as_ref().err().filter(|failed| failed.retry).map(|_| Instant::now() + RETRY_INTERVAL);
        match next {
            Err(failed) => rejected(process, &old, failed.problems, again),
            Ok((live, warnings, key_problems)) => {
                tell(process, key_problems);
                for signer in live.expiring_signers() {
                    signer.warm_up().await;
                }
                let (keys, process) = (self.keys.clone(), process.clone());
                let published = tokio::task::spawn_blocking(move || {
                    let _one_at_a_time = keys.publishing.lock();
                    let current = process.live.load_full();
                    let live = if Arc::ptr_eq(&current, &old) {
                        live
                    } else {
                        let (live, problems) = with_keys(live, &current);
                        tell(&process, problems);
                        live
                    };
                    crate::telemetry::log::configure(&live.snapshot.log);
                    applied(&process, &live);
                    process.check_max_connections(&live.snapshot.server);
                    warn(&process, &warnings);
                    let routes = units::count(live.snapshot.routes.len(), "route");
                    let keys = units::count(live.snapshot.tenants.digests.len(), "key"); // the anonymous key has no digest
                    log::info!("configuration {} is in force: {routes}, {keys}", live.generation);
                    process.live.store(Arc::new(live));
                });
                if published.await.is_err() {
                    log::error!("the reload failed; the configuration is unchanged");
                }
            }
        }
    }
}

impl Keys {
    fn poll(&self, process: &Process) {
        let Some(path) = process.live.load().snapshot.keys_dir.as_ref().map(|dir| dir.path.clone()) else { return };
        let now = key_files::states(&path);
        if !self.watch.lock().poll(now) {
            return;
        }
        let _one_at_a_time = self.publishing.lock();
        let old = process.live.load_full();
        let Some(dir) = old.snapshot.keys_dir.as_ref().filter(|dir| dir.path == path) else { return };
        let (snapshot, problems) = dir.reread(&old.snapshot, &dir.in_force, &system::env, system::unix_seconds());
        tell(process, problems);
        let Some(snapshot) = snapshot else { return };
        match Live::new(snapshot, Some(&old)) {
            Ok(live) => {
                log::info!("the key files have changed: {} in force", units::count(live.snapshot.tenants.digests.len(), "key"));
                process.live.store(Arc::new(live));
            }
            Err(why) => log::error!("keys not changed: {why}"),
        }
    }
}

/// A generation that is not in force yet, with the key files as they are now, and their problems. They have changed while it was
/// made, so that `current` is in force, which was made later.
fn with_keys(live: Live, current: &Live) -> (Live, Vec<Problem>) {
    let (changed, problems) = match &live.snapshot.keys_dir {
        None => (None, Vec::new()),
        Some(dir) => {
            let same_dir = current.snapshot.keys_dir.as_ref().filter(|other| other.path == dir.path);
            let in_force = same_dir.map_or(&dir.in_force, |other| &other.in_force);
            dir.reread(&live.snapshot, in_force, &system::env, system::unix_seconds())
        }
    };
    // Made again even if it has these keys already: the limits' meters have the amounts of the generation that was made last.
    let snapshot = changed.unwrap_or_else(|| live.snapshot.clone());
    match Live::new(snapshot, Some(&live)) {
        Ok(newer) => (newer, problems),
        Err(why) => {
            log::error!("keys not changed: {why}");
            (live, problems)
        }
    }
}

/// Logs the problems of key files that were not told before; `/status` has all.
pub fn tell(process: &Process, problems: Vec<Problem>) {
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let before = std::mem::replace(&mut process.reloads.lock().key_problems, problems.clone());
    for problem in problems.iter().filter(|problem| !before.contains(problem)).take(MAX_WARNINGS) {
        log::error!("key file not in force as it is: {problem}");
    }
}

/// What a reload does not change: the listeners, each with whether it has TLS and PROXY headers, the admin address, and threads.
#[derive(Debug, PartialEq)]
pub struct Fixed(Vec<(ListenAddress, bool, bool)>, SocketAddr, usize, Option<PathBuf>);

impl Fixed {
    /// That of a configuration.
    pub fn of(snapshot: &Snapshot) -> Self {
        let listener = |listen: &Listen| (listen.address.clone(), listen.tls.is_some(), listen.proxy_protocol);
        let Server { threads, upgrade_socket, .. } = &snapshot.server;
        Self(snapshot.listen.iter().map(listener).collect(), snapshot.admin, *threads, upgrade_socket.clone())
    }
}

fn next(path: &Path, watch: &Mutex<FileWatch<FileState>>, old: &Live, in_force: &Fixed) -> Result<Next, Failed> {
    // Before the read: an invalid file is reported once, not on every poll.
    watch.lock().before_read();
    let loaded = config::load_after(path, old.snapshot.keys_dir.as_ref());
    let (Ok(Loaded { files, .. }) | Err(Rejected { files, .. })) = &loaded;
    watch.lock().after_read(files);
    let Loaded { snapshot, warnings, key_problems, .. } = loaded.map_err(|rejected| {
        let errors = rejected.problems.iter().filter(|problem| problem.severity == Severity::Error);
        Failed { problems: errors.map(ToString::to_string).collect(), retry: false }
    })?;
    let fixed = Fixed::of(&snapshot);
    if fixed != Fixed::of(&old.snapshot) && fixed != *in_force {
        log::warn!("changes of listeners, the admin address, threads and the upgrade socket take effect after an upgrade or restart");
    }
    let live = Live::new(snapshot, Some(old)).map_err(|why| Failed { problems: vec![why], retry: true })?;
    Ok((live, warnings, key_problems))
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
        log::warn!("{} about the configuration; `tidegate check` prints all", units::count(more, "more warning"));
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

fn rejected(process: &Process, live: &Live, problems: Vec<String>, again: bool) {
    if again && process.reloads.lock().problems == problems {
        return;
    }
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
mod tests {
    use super::*;
    use crate::dir::Dir;

    fn version(length: u64) -> Vec<FileState> {
        let file = PathBuf::from("/etc/tidegate.yaml");
        vec![FileState(file.clone(), Some((file, SystemTime::UNIX_EPOCH, length)))]
    }

    #[test]
    fn a_file_is_read_when_two_polls_in_a_row_find_the_same_change() {
        let mut watch = FileWatch::new(version(1));
        assert!(!watch.poll(version(1)), "unchanged");
        assert!(!watch.poll(version(2)) && !watch.poll(version(3)), "still being written");
        assert!(watch.poll(version(3)), "whole");
        assert!(!watch.poll(version(4)) && !watch.poll(version(1)) && !watch.poll(version(1)), "taken back");
    }

    #[test]
    fn files_that_change_at_every_poll_are_read_all_the_same() {
        let mut watch = ImpatientWatch::new(vec![1]);
        let due: Vec<_> = [1, 2, 2, 2, 3, 4, 5, 6, 6, 6].into_iter().map(|state| watch.poll(vec![state])).collect();
        assert_eq!(due, [false, false, true, false, false, false, true, false, true, false]);
    }

    #[test]
    fn a_change_during_the_read_is_found_by_the_next_polls() {
        let folder = Dir::new();
        let file = folder.write("tidegate.yaml", "one");
        let mut watch = FileWatch::new(vec![file_state(&file)]);
        watch.before_read();
        std::fs::write(&file, "one and more").unwrap();
        watch.after_read(&[file.clone(), folder.join("key")]);
        let now = file_states(&watch.read);
        assert!(!watch.poll(now.clone()) && watch.poll(now));
    }

    #[test]
    fn a_limit_has_the_amount_of_the_configuration_that_is_applied_last() {
        let config = |amount: u32| {
            let text = format!(
                "auth: none\nproviders: {{ p: {{ kind: vllm, base_url: \"http://127.0.0.1:1/v1\" }} }}\n\
                 routes: {{ r: {{ targets: [ {{ provider: p, model: m }} ], limits: [ {{ requests: {amount}, per: 1h }} ] }} }}\n"
            );
            config::parse(&text, "t", &|_| None).unwrap_or_else(|problems| panic!("{problems:?}")).snapshot
        };
        let old = Live::new(config(10), None).unwrap();
        let next = Live::new(config(20), Some(&old)).unwrap();
        // Key files change meanwhile.
        let keys = Live::new(old.snapshot.clone(), Some(&old)).unwrap();
        let (applied, _) = with_keys(next, &keys);
        let amounts: Vec<u64> = applied.limiter.statuses(applied.now()).map(|(_, status)| status.limit).collect();
        assert_eq!(amounts, [20]);
    }
}
