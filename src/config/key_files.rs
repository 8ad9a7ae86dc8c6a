//! `keys_dir`: a directory with one YAML file per team, whose keys come and go without the main file.
//!
//! If a file is invalid, its previous content stays in force, and other files are not affected. If two files contradict each
//! other, the later one is invalid; at start-up, the one whose name is later. Deleting a file revokes its keys; a directory that
//! cannot be read revokes nothing.

use super::build::team::Draft;
use super::build::{Builder, ByName};
use super::file::{KeyFileTeam, Team};
use super::problem::Problem;
use super::snapshot::Snapshot;
use crate::auth::tenants::Tenants;
use crate::files;
use crate::route::settings::Route;
use crate::yaml::env::Env;
use crate::yaml::problem::{Position, Problems, Severity};
use crate::yaml::read::{Read as _, Reader};
use crate::yaml::tree::{self, Node};
use crate::yaml::value::At;
use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// How the names of key files end.
pub const SUFFIX: &str = ".yaml";
/// Largest key file, in bytes.
const MAX_FILE: u64 = 16 << 20;
/// Most files of a directory.
const MAX_FILES: usize = 10_000;

/// The directory, and what of it is in force.
#[derive(Clone)]
pub struct KeysDir {
    /// Its path.
    pub path: PathBuf,
    /// Files with the content that is in force, sorted by path.
    pub in_force: Vec<KeyFile>,
    /// The teams and keys of the main file alone.
    own: Arc<Tenants>,
}

/// A file with a content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFile {
    /// Its path.
    pub path: PathBuf,
    /// Its text.
    pub text: Arc<str>,
}

/// A file as it was found: its path, and its text, or why that cannot be read.
pub type Found = (PathBuf, Result<Arc<str>, String>);

/// A file's path, and its inode, modification time and size; `None` if it is not there.
pub type State = (PathBuf, Option<(u64, SystemTime, u64)>);

/// The paths of the key files, sorted. Names that begin with a dot are not looked at: editors, and `tidegate key`, write there.
#[expect(clippy::disallowed_methods, reason = "called by commands, before a configuration is served, or on a blocking thread")]
fn paths(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        if name.ends_with(SUFFIX) && !name.starts_with('.') {
            paths.push(path);
        }
    }
    if paths.len() > MAX_FILES {
        return Err(io::Error::other(format!("there are more than {MAX_FILES} files")));
    }
    paths.sort();
    Ok(paths)
}

/// What tells whether a file has changed. The first one is the directory, whose state says only whether it can be read.
#[expect(clippy::disallowed_methods, reason = "called on a blocking thread")]
pub fn states(dir: &Path) -> Vec<State> {
    let Ok(paths) = paths(dir) else { return vec![(dir.to_owned(), None)] };
    let readable = (dir.to_owned(), Some((0, SystemTime::UNIX_EPOCH, 0)));
    let state = |path: &PathBuf| {
        let meta = std::fs::metadata(path).ok()?;
        Some((meta.ino(), meta.modified().ok()?, meta.len()))
    };
    std::iter::once(readable).chain(paths.into_iter().map(|path| (path.clone(), state(&path)))).collect()
}

/// The files of a directory, sorted by name.
///
/// # Errors
/// Why the directory cannot be read.
pub fn read(dir: &Path) -> Result<Vec<Found>, String> {
    let paths = paths(dir).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!("there is no directory `{}`; create it, or leave `keys_dir` out", dir.display()),
        _ => format!("cannot read the directory `{}`: {error}", dir.display()),
    })?;
    // One that is deleted meanwhile was never there.
    let found = |path: PathBuf| match read_file(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => Some((path, Err(format!("cannot read the key file: {error}")))),
        Ok(text) => Some((path, Ok(text.into()))),
    };
    Ok(paths.into_iter().filter_map(found).collect())
}

fn read_file(path: &Path) -> io::Result<String> {
    files::read_text(path, MAX_FILE)?.ok_or_else(|| io::Error::other(format!("it is larger than {MAX_FILE} bytes")))
}

/// A key file taken apart.
pub fn parse(node: &Node, path: &Path, reader: &mut Reader<'_>) -> Option<(At<String>, Team)> {
    let (own, team) = <(KeyFileTeam, Team)>::read(node, reader)?;
    let name = own.team.unwrap_or_else(|| At { at: Position::START, value: default_team(path) });
    Some((name, team))
}

/// The team of a file that names none.
pub fn default_team(path: &Path) -> String {
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    name.strip_suffix(SUFFIX).unwrap_or(name).to_owned()
}

/// What has become of the files.
pub(super) struct Applied {
    /// All teams and keys, those of the main file first.
    pub tenants: Tenants,
    /// What is in force.
    pub dir: KeysDir,
    /// Why files are not in force as they are, and warnings of those that are.
    pub problems: Vec<Problem>,
    /// Whether something that was in force is not any more, although its file is there.
    pub lost: bool,
}

impl Applied {
    /// Adds the files of `dir` to the teams and keys of the main file. `before` is what was in force of the same directory.
    ///
    /// # Errors
    /// Why the directory cannot be read, where nothing of it was in force before.
    pub fn load(
        path: &Path,
        own: Arc<Tenants>,
        routes: &ByName<Arc<Route>>,
        before: &[KeyFile],
        (env, now): (Env<'_>, i64),
    ) -> Result<Self, String> {
        let (found, unreadable) = match read(path) {
            Ok(found) => (found, None),
            Err(why) if before.is_empty() => return Err(why),
            Err(why) => (before.iter().map(|file| (file.path.clone(), Ok(file.text.clone()))).collect(), Some(why)),
        };
        let mut applied = Self::of(path, own, routes, (found, before), (env, now));
        applied.problems.extend(unreadable.map(|why| Problem::unreadable(&path.display().to_string(), why)));
        Ok(applied)
    }

    fn of(
        path: &Path,
        own: Arc<Tenants>,
        routes: &ByName<Arc<Route>>,
        (found, before): (Vec<Found>, &[KeyFile]),
        (env, now): (Env<'_>, i64),
    ) -> Self {
        let mut alone = Assembly { draft: Draft::of(&own), routes, env, now };
        let (mut settled, mut fresh, mut problems) = (Vec::new(), Vec::new(), Vec::new());
        for (path, text) in found {
            let old = before.iter().find(|known| known.path == path).cloned();
            let checked = match text {
                Ok(text) if old.as_ref().is_some_and(|old| old.text == text) => {
                    settled.extend(old);
                    continue;
                }
                Ok(text) => {
                    let file = KeyFile { path, text };
                    alone.check(&file).map(|()| file)
                }
                Err(why) => Err(vec![Problem::unreadable(&path.display().to_string(), why)]),
            };
            match checked {
                Ok(file) => fresh.push((file, old)),
                Err(found) => {
                    problems.extend(found);
                    settled.extend(old);
                }
            }
        }
        let mut all = Assembly { draft: Draft::of(&own), routes, env, now };
        let (mut in_force, mut lost) = (Vec::new(), false);
        for file in settled {
            match all.add(&file) {
                Ok(warnings) => {
                    problems.extend(warnings);
                    in_force.push(file);
                }
                Err(found) => {
                    problems.extend(found);
                    lost = true;
                }
            }
        }
        for (file, old) in fresh {
            match (all.add(&file), old) {
                (Ok(warnings), _) => {
                    problems.extend(warnings);
                    in_force.push(file);
                }
                (Err(found), old) => {
                    problems.extend(found);
                    let stays = old.as_ref().is_some_and(|old| all.add(old).is_ok());
                    lost |= old.is_some() && !stays;
                    in_force.extend(old.filter(|_| stays));
                }
            }
        }
        in_force.sort_by(|a, b| a.path.cmp(&b.path));
        let tenants = all.draft.finish();
        Self { tenants, dir: KeysDir { path: path.to_owned(), in_force, own }, problems, lost }
    }

    /// The errors among the problems.
    pub fn errors(&self) -> Vec<Problem> {
        self.problems.iter().filter(|problem| problem.severity == Severity::Error).cloned().collect()
    }
}

impl KeysDir {
    /// Reads the directory again, for the configuration that has it; `before` is what was in force. `None` where nothing in
    /// this configuration changes.
    pub fn reread(&self, snapshot: &Snapshot, before: &[KeyFile], env: Env<'_>, now: i64) -> (Option<Snapshot>, Vec<Problem>) {
        let routes = ByName::of_routes(&snapshot.routes);
        let applied = match Applied::load(&self.path, self.own.clone(), &routes, before, (env, now)) {
            Ok(applied) => applied,
            Err(why) => return (None, vec![Problem::unreadable(&self.path.display().to_string(), why)]),
        };
        let errors = applied.errors();
        let changed = applied.dir.in_force != self.in_force;
        (changed.then(|| Snapshot { tenants: applied.tenants, keys_dir: Some(applied.dir), ..snapshot.clone() }), errors)
    }
}

/// Teams and keys while files are added to them.
struct Assembly<'a> {
    draft: Draft,
    routes: &'a ByName<Arc<Route>>,
    env: Env<'a>,
    now: i64,
}

impl Assembly<'_> {
    /// Adds a file, or nothing of it. Returns warnings.
    fn add(&mut self, file: &KeyFile) -> Result<Vec<Problem>, Vec<Problem>> {
        let before = self.draft.mark();
        let mut builder = Builder::new(Reader::new(self.env), self.now);
        let node = tree::parse(&file.text, &mut builder.reader.problems);
        let parsed = node.as_ref().filter(|node| !node.is_null()).and_then(|node| parse(node, &file.path, &mut builder.reader));
        match parsed {
            Some((name, team)) => builder.key_file(&name, team, (&file.path, self.routes), &mut self.draft),
            None if builder.reader.problems.count() == 0 => {
                builder.reader.problems.add(Position::START, "the file is empty; delete it, or write `keys: []` for a team without keys");
            }
            None => {}
        }
        let mut problems = builder.reader.problems;
        let failed = problems.count() > 0;
        if failed {
            self.draft.roll_back(before);
        } else if let Some(node) = &node {
            self.warn_of_expiry(before, node, &mut problems);
        }
        let list = Problem::list(problems, &file.path.display().to_string(), &file.text);
        if failed { Err(list) } else { Ok(list) }
    }

    /// What is wrong with a file on its own, beside the main file.
    fn check(&mut self, file: &KeyFile) -> Result<(), Vec<Problem>> {
        let before = self.draft.mark();
        self.add(file).map(|_| self.draft.roll_back(before))
    }

    fn warn_of_expiry(&self, (_, first): (usize, usize), node: &Node, problems: &mut Problems) {
        let nodes = node.get("keys").map_or(&[][..], Node::items);
        for (key, node) in self.draft.keys().skip(first).zip(nodes) {
            let end = key.expires.filter(|_| !key.disabled).and_then(|end| super::review::expiry(end, self.now));
            if let Some(end) = end {
                problems.warn(node.get("expires").map_or(node.at, |node| node.at), format!("the key `{}` {end}", key.id));
            }
        }
    }
}

#[cfg(test)]
#[path = "tests/key_files.rs"]
mod tests;
