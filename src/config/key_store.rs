//! What `tidegate key` reads and writes: the key files of a directory, and the teams of the main file beside them.
//!
//! A change is made under a lock, so that two commands at once do not lose each other's key, and replaces a file as a whole, so
//! that nobody reads half of one. Of the file's text only the key changes ([`key_edit`]).

use super::build::team::ANONYMOUS;
use super::file::Team;
use super::key_files::{self, SUFFIX};
use super::problem::Problem;
use super::{NAME_IT, key_edit, read_text};
use crate::files;
use crate::system;
use crate::yaml::read::{Read as _, Reader};
use crate::yaml::tree;
use crate::yaml::value::{At, Named};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The name of the lock in the directory.
const LOCK: &str = ".lock";

/// The directory, and the main file beside it.
pub struct KeyStore {
    /// `None` where the configuration has none.
    dir: Option<PathBuf>,
    main: PathBuf,
    /// Teams of the main file; none where it cannot be read.
    teams: Vec<(String, Team)>,
}

/// A key and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its id.
    pub id: String,
    /// Its team.
    pub team: String,
    /// When it expires, in seconds since the epoch.
    pub expires: Option<i64>,
    /// Whether it is disabled.
    pub disabled: bool,
    /// The file that has it.
    pub file: PathBuf,
}

/// A key to write.
pub struct NewKey<'a> {
    /// Its team.
    pub team: &'a str,
    /// Its id.
    pub id: &'a str,
    /// SHA-256 of its text, in hexadecimal.
    pub digest: &'a str,
    /// When it expires, as RFC 3339 has it.
    pub expires: Option<String>,
}

/// A key file as it is.
struct Content {
    path: PathBuf,
    text: Arc<str>,
    team: Result<(String, Team), Vec<Problem>>,
}

impl KeyStore {
    /// The directory `keys_dir` of a configuration, or another one. Nothing else of the configuration needs to be valid.
    ///
    /// # Errors
    /// Why the configuration cannot be read, where no directory is given.
    pub fn open(main: &Path, dir: Option<PathBuf>) -> Result<Self, String> {
        let mut reader = Reader::new(&system::env);
        let root = match read_text(main, NAME_IT) {
            Ok(text) => tree::parse(&text, &mut reader.problems),
            Err(_) if dir.is_some() => None,
            Err(why) => return Err(format!("{}: {why}", main.display())),
        };
        let written = root.as_ref().and_then(|root| root.get("keys_dir")).and_then(|node| PathBuf::read(node, &mut reader));
        let dir = dir.or(written);
        let named = root.as_ref().and_then(|root| root.get("teams")).and_then(|node| Named::<Team>::read(node, &mut reader));
        let teams = named.into_iter().flat_map(|named| named.entries).filter_map(|(At { value, .. }, team)| Some((value, team?))).collect();
        Ok(Self { dir, main: main.to_owned(), teams })
    }

    fn dir(&self) -> Result<&Path, String> {
        let missing = || format!("{} has no `keys_dir`; add it, or name the directory with --keys-dir", self.main.display());
        self.dir.as_deref().ok_or_else(missing)
    }

    fn contents(&self) -> Result<Vec<Content>, String> {
        let content = |(path, text): key_files::Found| {
            let name = path.display().to_string();
            let text = match text {
                Ok(text) => text,
                Err(why) => return Content { team: Err(vec![Problem::unreadable(&name, why)]), text: Arc::default(), path },
            };
            let mut reader = Reader::new(&system::env);
            let node = tree::parse(&text, &mut reader.problems);
            let parsed = node.as_ref().and_then(|node| key_files::parse(node, &path, &mut reader));
            let team = match parsed.filter(|_| reader.problems.count() == 0) {
                Some((name, team)) => Ok((name.value, team)),
                None => Err(Problem::list(reader.problems, &name, &text)),
            };
            Content { path, text, team }
        };
        let files = self.dir.as_deref().map(key_files::read).transpose()?;
        Ok(files.into_iter().flatten().map(content).collect())
    }

    /// All keys, those of the main file first, and what is wrong with files that cannot be listed.
    ///
    /// # Errors
    /// Why the directory cannot be read.
    pub fn list(&self) -> Result<(Vec<Listed>, Vec<Problem>), String> {
        let contents = self.contents()?;
        let mut keys = Vec::new();
        let mut add = |team: &str, of: &Team, file: &Path| {
            keys.extend(of.keys.iter().map(|key| Listed {
                id: key.id.value.clone(),
                team: team.to_owned(),
                expires: key.expires.as_ref().map(|time| time.0),
                disabled: key.disabled,
                file: file.to_owned(),
            }));
        };
        self.teams.iter().for_each(|(name, team)| add(name, team, &self.main));
        let mut problems = Vec::new();
        for content in contents {
            match content.team {
                Ok((name, team)) => add(&name, &team, &content.path),
                Err(found) => problems.extend(found),
            }
        }
        Ok((keys, problems))
    }

    /// Adds a key to its team's file, which is made where there is none. Returns the file, and whether neither it nor the main file
    /// had the team.
    ///
    /// # Errors
    /// What stands in the way; nothing is written.
    pub fn add(&self, key: &NewKey<'_>) -> Result<(PathBuf, bool), String> {
        if key.team.is_empty() || key.team == ANONYMOUS || key.team.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(format!("`{}` cannot be the name of a team", key.team.escape_debug()));
        }
        let _lock = self.lock()?;
        let (keys, _) = self.list()?;
        if let Some(other) = keys.iter().find(|other| other.id == key.id) {
            return Err(format!("there is a key `{}` in {}; give the new one another --id", key.id, other.file.display()));
        }
        let contents = self.contents()?;
        let named = contents.iter().find(|content| content.team.as_ref().is_ok_and(|(name, _)| name == key.team));
        let path = self.dir()?.join(format!("{}{SUFFIX}", key.team));
        let (path, text) = match (named, contents.iter().find(|content| content.path == path)) {
            (Some(content), _) => (content.path.clone(), &*content.text),
            (None, Some(content)) => return Err(not_for(content, key.team)),
            (None, None) if key.team.contains('/') || key.team.starts_with('.') => {
                return Err(format!("no file can be named after the team `{}`; make one with `team: {}` first", key.team, key.team));
            }
            (None, None) => (path, ""),
        };
        // Quoted, because YAML would read an id of digits as a number.
        let expires = key.expires.as_ref().map_or_else(String::new, |time| format!(", expires: {time}"));
        let entry = format!("{{ id: \"{}\", sha256: \"{}\"{expires} }}", key.id, key.digest);
        let changed = key_edit::with_key(text, key.id, &entry).map_err(|why| format!("{}: {why}", path.display()))?;
        self.write(&path, &changed)?;
        let is_new = named.is_none() && !self.teams.iter().any(|(name, _)| name == key.team);
        Ok((path, is_new))
    }

    /// Disables a key. Returns its file.
    ///
    /// # Errors
    /// Where the key is instead, or what stands in the way.
    pub fn disable(&self, id: &str) -> Result<PathBuf, String> {
        let _lock = self.dir.is_some().then(|| self.lock()).transpose()?;
        for Content { path, text, .. } in self.contents()? {
            // A file that is wrong elsewhere may have it, too.
            match key_edit::with_disabled(&text, id) {
                Ok(None) => {}
                Ok(Some(changed)) => {
                    self.write(&path, &changed)?;
                    return Ok(path);
                }
                Err(why) if text.contains(id) => return Err(format!("{}: {why}", path.display())),
                Err(_) => {}
            }
        }
        if self.teams.iter().any(|(_, team)| team.keys.iter().any(|key| key.id.value == id)) {
            return Err(format!("the key `{id}` is in {}; write `disabled: true` there", self.main.display()));
        }
        Err(format!("there is no key `{id}` in {}; `tidegate key list` shows those that are", self.dir()?.display()))
    }

    fn lock(&self) -> Result<files::Lock, String> {
        let dir = self.dir()?;
        files::lock(&dir.join(LOCK)).map_err(|error| format!("cannot write to {}: {error}", dir.display()))
    }

    fn write(&self, path: &Path, text: &str) -> Result<(), String> {
        files::replace(path, text.as_bytes()).map_err(|error| format!("cannot write {}: {error}", path.display()))
    }
}

/// Why a file that is named after a team cannot take its key.
fn not_for(content: &Content, team: &str) -> String {
    match &content.team {
        Ok((other, _)) => format!("{} is for the team `{other}`; make another file with `team: {team}` first", content.path.display()),
        Err(problems) => {
            let first = problems.first().map_or_else(|| format!("{} cannot be read", content.path.display()), ToString::to_string);
            format!("{first}; mend the file first")
        }
    }
}
