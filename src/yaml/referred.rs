//! Files that a file refers to: certificates, secrets, credentials.

use super::problem::Position;
use super::read::Reader;
use super::value::{At, SecretValue, secret};
use crate::secret::Secret;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

/// Largest file with a key or a credential, in bytes.
const MAX_TEXT: u64 = 64 * 1024;

impl Reader<'_> {
    /// A secret, which may be in a file of its own.
    pub fn secret(&mut self, value: &SecretValue) -> Option<Secret> {
        match value {
            SecretValue::Text(secret) => Some(secret.clone()),
            SecretValue::File(path) => self.secret_file(path),
        }
    }

    /// The secret in a file.
    pub fn secret_file(&mut self, path: &At<PathBuf>) -> Option<Secret> {
        match secret(self.file_text(path)?) {
            Ok(secret) => Some(secret),
            Err(what) => {
                self.problems.add(path.at, format!("the secret in this file must be {what}"));
                None
            }
        }
    }

    /// The text of a small file.
    pub fn file_text(&mut self, path: &At<PathBuf>) -> Option<String> {
        match String::from_utf8(self.file_bytes(path, MAX_TEXT)?) {
            Ok(text) => Some(text),
            Err(_) => self.useless(path.at, "is no UTF-8 text"),
        }
    }

    /// What is in a file of at most so many bytes.
    #[expect(clippy::disallowed_methods, reason = "a configuration is read before it is served, or on a blocking thread")]
    pub fn file_bytes(&mut self, path: &At<PathBuf>, most: u64) -> Option<Vec<u8>> {
        if !self.files.contains(&path.value) {
            self.files.push(path.value.clone());
        }
        let mut bytes = Vec::new();
        let read = std::fs::File::open(&path.value).and_then(|file| file.take(most + 1).read_to_end(&mut bytes));
        match read {
            Ok(size) if size as u64 <= most => return Some(bytes),
            Ok(_) => self.problems.add(path.at, format!("the file is larger than {most} bytes")),
            Err(error) => {
                let shown = shown_path(&path.value).map_or_else(|| "the file".to_owned(), |path| format!("the file `{path}`"));
                let why = match error.kind() {
                    ErrorKind::NotFound if path.value.is_relative() => {
                        "there is none; paths are relative to the working directory".to_owned()
                    }
                    ErrorKind::NotFound => "there is none".to_owned(),
                    _ => error.to_string(),
                };
                self.problems.add(path.at, format!("cannot read {shown}: {why}"));
            }
        }
        None
    }

    /// Notes what is wrong with a file that is named at this place.
    pub fn useless<T>(&mut self, at: Position, what: &str) -> Option<T> {
        self.problems.add(at, format!("the file {what}"));
        None
    }
}

/// A path of a file, where a text looks like one: someone may have written a key where its file belongs.
pub fn shown_path(path: &Path) -> Option<&str> {
    let text = path.to_str().filter(|text| !text.chars().any(char::is_control))?;
    let rooted =
        ["/", "./", "../"].iter().any(|start| text.starts_with(start)) && text.trim_matches(['/', '.']).contains(['/', '.', '_', '-']);
    let named = ["pem", "crt", "cer", "key", "json", "txt"].iter().any(|end| path.extension().is_some_and(|extension| extension == *end));
    (rooted || named || text.starts_with("/dev/")).then_some(text)
}
