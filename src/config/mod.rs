//! From the user's YAML to the immutable [`snapshot::Snapshot`] that requests run on.
//!
//! [`file`](mod@file) says what a user may write, [`build`] puts the parts together, [`review`] warns of what is valid and
//! probably not meant. All of them note problems and continue, so that a user sees them all.
#![expect(clippy::disallowed_types, reason = "the JSON Schema of the configuration is a document")]

use crate::system;
use crate::yaml::env::Env;
use crate::yaml::read::{Read, Reader};
use crate::yaml::tree;
use problem::Problem;
use snapshot::Snapshot;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

pub mod build;
pub mod excerpt;
pub mod file;
pub mod problem;
pub mod render;
mod review;
pub mod snapshot;
pub mod tls;
pub mod types;

/// Largest configuration file in bytes.
const MAX_FILE: u64 = 64 << 20;

/// A valid configuration and where it came from.
pub struct Loaded {
    /// What requests run on.
    pub snapshot: Snapshot,
    /// Every file that was read or is referred to, the configuration itself first; for the watcher.
    pub files: Vec<PathBuf>,
    /// What is valid and probably not meant.
    pub warnings: Vec<Problem>,
}

/// Reads a configuration file with the variables of the process. Paths in it are relative to the working directory.
///
/// # Errors
/// Every problem, sorted by position.
pub fn load(path: &Path) -> Result<Loaded, Vec<Problem>> {
    let name = path.display().to_string();
    let text = read_text(path).map_err(|what| vec![Problem::unreadable(&name, what)])?;
    let mut loaded = parse(&text, &name, &system::env)?;
    loaded.files.insert(0, path.to_owned());
    Ok(loaded)
}

#[expect(clippy::disallowed_methods, reason = "a configuration is read before it is served, or on a blocking thread")]
fn read_text(path: &Path) -> Result<String, String> {
    use std::io::Read as _;
    let file = std::fs::File::open(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            let demo = if cfg!(feature = "simulator") { ", or try `tidegate demo`" } else { "" };
            format!("there is no such file; name the configuration with --config FILE or $TIDEGATE_CONFIG{demo}")
        }
        _ => format!("cannot read the configuration: {error}"),
    })?;
    let mut text = String::new();
    let size = file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(|error| format!("cannot read the configuration: {error}"))?;
    if size as u64 > MAX_FILE {
        return Err(format!("the configuration is larger than {MAX_FILE} bytes"));
    }
    Ok(text)
}

/// Reads a configuration from its text.
///
/// # Errors
/// Every problem, sorted by position.
pub fn parse(text: &str, file_name: &str, env: Env<'_>) -> Result<Loaded, Vec<Problem>> {
    parse_at(text, file_name, env, i64::try_from(system::unix_time().as_secs()).unwrap_or(i64::MAX))
}

/// The same at another time, in seconds since the epoch, for warnings of what expires.
fn parse_at(text: &str, file_name: &str, env: Env<'_>, now: i64) -> Result<Loaded, Vec<Problem>> {
    let mut reader = Reader::new(env);
    let node = tree::parse(text, &mut reader.problems);
    let file = node.as_ref().and_then(|node| file::File::read(node, &mut reader));
    let mut builder = build::Builder { reader, now };
    let snapshot = file.map(|file| builder.build(file));
    match (node, snapshot) {
        (Some(node), Some(snapshot)) if builder.reader.problems.count() == 0 => {
            review::review(&node, &snapshot, now, &mut builder.reader.problems);
            Ok(Loaded { snapshot, files: builder.reader.files, warnings: Problem::list(builder.reader.problems, file_name, text) })
        }
        _ => Err(Problem::list(builder.reader.problems, file_name, text)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests;
