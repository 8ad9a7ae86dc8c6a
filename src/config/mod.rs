//! From the user's YAML to the immutable [`snapshot::Snapshot`] that requests run on.
//!
//! [`file`](mod@file) says what a user may write, [`build`] puts the parts together, [`review`] warns of what is valid and
//! probably not meant. All of them note problems and continue, so that a user sees them all.
#![expect(clippy::disallowed_types, reason = "the JSON Schema of the configuration is a document")]

use crate::files;
use crate::system;
use crate::yaml::env::Env;
use crate::yaml::problem::Severity;
use crate::yaml::read::{Read, Reader};
use crate::yaml::tree;
use key_files::KeysDir;
use problem::Problem;
use sha2::{Digest, Sha256};
use snapshot::Snapshot;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

pub mod build;
pub mod excerpt;
pub mod file;
pub mod key_edit;
pub mod key_files;
pub mod key_store;
pub mod problem;
pub mod render;
mod review;
pub mod snapshot;
pub mod tls;
pub mod types;

/// Largest configuration file in bytes.
const MAX_FILE: u64 = 64 << 20;

/// What to do where a configuration is missing.
const NAME_IT: &str = "; name the configuration with --config FILE or $TIDEGATE_CONFIG";

/// A valid configuration and where it came from.
pub struct Loaded {
    /// What requests run on.
    pub snapshot: Snapshot,
    /// Every file that was read or is referred to, the configuration itself first; for the watcher.
    pub files: Vec<PathBuf>,
    /// What is valid and probably not meant.
    pub warnings: Vec<Problem>,
    /// What is wrong with files of `keys_dir`, which are not in force as they are.
    pub key_problems: Vec<Problem>,
}

/// An invalid configuration.
#[derive(Debug)]
pub struct Rejected {
    /// Every problem, sorted by position.
    pub problems: Vec<Problem>,
    /// The files of [`Loaded::files`] that were named before reading stopped. They are watched: a missing one may be created later.
    pub files: Vec<PathBuf>,
}

/// Reads a configuration file with the variables of the process. Paths in it are relative to the working directory.
///
/// # Errors
/// Every problem, sorted by position.
pub fn load(path: &Path) -> Result<Loaded, Vec<Problem>> {
    let demo = if cfg!(feature = "simulator") { ", or try `tidegate demo`" } else { "" };
    load_with(path, None, &format!("{NAME_IT}{demo}")).map_err(|rejected| rejected.problems)
}

/// The same where key files are in force already.
///
/// # Errors
/// Also the problems of key files that were in force, and are not valid with this configuration.
pub fn load_after(path: &Path, before: Option<&KeysDir>) -> Result<Loaded, Rejected> {
    load_with(path, before, "")
}

/// `missing`: what to do where there is no such file.
fn load_with(path: &Path, before: Option<&KeysDir>, missing: &str) -> Result<Loaded, Rejected> {
    let name = path.display().to_string();
    let mut loaded = match read_text(path, missing) {
        Ok(text) => parse_after(&text, &name, &system::env, (system::unix_seconds(), before)),
        Err(what) => Err(Rejected { problems: vec![Problem::unreadable(&name, what)], files: Vec::new() }),
    };
    match &mut loaded {
        Ok(Loaded { files, .. }) | Err(Rejected { files, .. }) => files.insert(0, path.to_owned()),
    }
    loaded
}

fn read_text(path: &Path, missing: &str) -> Result<String, String> {
    let text = files::read_text(path, MAX_FILE).map_err(|error| match error.kind() {
        ErrorKind::NotFound => format!("there is no such file{missing}"),
        _ => format!("cannot read the configuration: {error}"),
    })?;
    text.ok_or_else(|| format!("the configuration is larger than {MAX_FILE} bytes"))
}

/// Reads a configuration from its text.
///
/// # Errors
/// Every problem, sorted by position.
pub fn parse(text: &str, file_name: &str, env: Env<'_>) -> Result<Loaded, Vec<Problem>> {
    parse_after(text, file_name, env, (system::unix_seconds(), None)).map_err(|rejected| rejected.problems)
}

/// The same at another time, in seconds since the epoch, for warnings of what expires, and where key files are in force already.
fn parse_after(text: &str, file_name: &str, env: Env<'_>, (now, before): (i64, Option<&KeysDir>)) -> Result<Loaded, Rejected> {
    let mut reader = Reader::new(env);
    let node = tree::parse(text, &mut reader.problems);
    let file = node.as_ref().and_then(|node| file::File::read(node, &mut reader));
    let mut builder = build::Builder { before, ..build::Builder::new(reader, now) };
    let snapshot = file.map(|file| builder.build(file));
    let (key_problems, mut warnings): (Vec<_>, Vec<_>) =
        builder.key_problems.into_iter().partition(|problem| problem.severity == Severity::Error);
    let files = std::mem::take(&mut builder.reader.files);
    if builder.has_lost_keys {
        return Err(Rejected { problems: key_problems, files });
    }
    match (node, snapshot) {
        (Some(node), Some(snapshot)) if builder.reader.problems.count() == 0 => {
            review::review(&node, &snapshot, now, &mut builder.reader.problems);
            warnings.splice(0..0, Problem::list(builder.reader.problems, file_name, text));
            let snapshot = Snapshot { digest: Sha256::digest(text).into(), ..snapshot };
            Ok(Loaded { snapshot, files, warnings, key_problems })
        }
        _ => Err(Rejected { problems: Problem::list(builder.reader.problems, file_name, text), files }),
    }
}

#[cfg(test)]
mod tests;
