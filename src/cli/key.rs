//! `tidegate key`: makes, lists and disables clients' keys.

use super::{ConfigFile, print_problems};
use crate::auth::key;
use crate::commands::{Exit, print};
use crate::config::key_store::{KeyStore, Listed, NewKey};
use crate::system;
use crate::terminal;
use clap::{Args, Subcommand};
use std::fmt::Write as _;
use std::path::PathBuf;

#[derive(Subcommand)]
pub(super) enum KeyCommand {
    /// Make a key and print it, once
    ///
    /// With --team its SHA-256 is written into the team's file in `keys_dir`, and is in force within a second on every node that
    /// sees the directory. Without, the entry for the configuration is printed, too.
    New {
        /// The team that gets it
        #[arg(long, value_name = "TEAM", required_unless_present = "id")]
        team: Option<String>,
        /// Id of the key, shown in logs [default: the team's name and eight random digits]
        #[arg(long, value_parser = key_id)]
        id: Option<String>,
        /// When it stops working, like 2027-01-01T00:00:00Z
        #[arg(long, value_name = "TIME", requires = "team", value_parser = time)]
        expires: Option<jiff::Timestamp>,
        #[command(flatten)]
        place: Place,
    },
    /// Print all keys of the configuration and of `keys_dir`, with their teams and files
    List {
        /// Only those of one team
        #[arg(long, value_name = "TEAM")]
        team: Option<String>,
        #[command(flatten)]
        place: Place,
    },
    /// Disable a key of `keys_dir`: it is refused within a second on every node that sees the directory
    Disable {
        /// Its id
        id: String,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Args)]
pub(super) struct Place {
    #[command(flatten)]
    file: ConfigFile,
    /// The directory of key files [default: `keys_dir` of the configuration]
    #[arg(long, value_name = "DIR")]
    keys_dir: Option<PathBuf>,
}

/// An id is written into YAML and logs.
fn key_id(id: &str) -> Result<String, &'static str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@' | '/');
    if id.starts_with(|c: char| c.is_ascii_alphanumeric()) && id.len() <= 256 && id.chars().all(allowed) {
        return Ok(id.to_owned());
    }
    Err("an id starts with a letter or a digit and contains only letters, digits and the characters - _ . @ /, at most 256 in all")
}

fn time(text: &str) -> Result<jiff::Timestamp, &'static str> {
    text.parse().map_err(|_| "expected a time like 2027-01-01T00:00:00Z")
}

pub(super) fn run(command: KeyCommand) -> Exit {
    let done = match command {
        KeyCommand::New { team: Some(team), id, expires, place } => new(&team, id, expires, place),
        KeyCommand::New { team: None, id, .. } => made().map(|key| print(&key_text(&id.unwrap_or_default(), &key))),
        KeyCommand::List { team, place } => list(team.as_deref(), place),
        KeyCommand::Disable { id, place } => place.open().and_then(|store| store.disable(&id)).map(|file| {
            terminal::message(format_args!("the key `{id}` is disabled in {}", file.display()));
            Exit::Fine
        }),
    };
    done.unwrap_or_else(|why| {
        terminal::message(why);
        Exit::BadConfiguration
    })
}

impl Place {
    fn open(self) -> Result<KeyStore, String> {
        KeyStore::open(&self.file.config, self.keys_dir)
    }
}

fn made() -> Result<String, String> {
    let mut bits = [0u8; 32];
    system::fill_secret(&mut bits).map_err(|error| format!("cannot get random numbers from the operating system: {error}"))?;
    Ok(key::of_bits(bits))
}

fn new(team: &str, id: Option<String>, expires: Option<jiff::Timestamp>, place: Place) -> Result<Exit, String> {
    if expires.is_some_and(|time| time.as_second() <= system::unix_seconds()) {
        return Err("--expires: this time is past".to_owned());
    }
    let id = match id {
        Some(id) => id,
        None => key_id(&format!("{team}-{:08x}", system::random() as u32)).map_err(|why| format!("name the key with --id: {why}"))?,
    };
    let (store, key) = (place.open()?, made()?);
    let expires = expires.map(|time| format!("{time:.0}"));
    let (file, is_new) = store.add(&NewKey { team, id: &id, digest: &key::digest(&key), expires })?;
    // The key alone goes to stdout, for scripts.
    if let Err(error) = terminal::write(&format!("{key}\n")) {
        let lost = format!("the key `{id}` could not be printed and is lost: {error}");
        terminal::message(format_args!("{lost}; `tidegate key disable {id}` disables its entry in {}", file.display()));
        return Ok(Exit::OutputLost);
    }
    terminal::message(format_args!("the key `{id}` of the team `{team}` is in {}; it is not shown again", file.display()));
    if is_new {
        let message = "it may use all routes without limits, unless the file gets `routes` and `limits`";
        terminal::message(format_args!("the team `{team}` is new: {message}"));
    }
    Ok(Exit::Fine)
}

/// The key on its own line, then the entry for a team's `keys`.
fn key_text(id: &str, key: &str) -> String {
    // Quoted, because YAML would read an id of digits as a number.
    format!("{key}\n\n- {{ id: \"{id}\", sha256: \"{}\" }}\n", key::digest(key))
}

fn list(team: Option<&str>, place: Place) -> Result<Exit, String> {
    let (keys, problems) = place.open()?.list()?;
    let printed = print(&table(keys.iter().filter(|key| team.is_none_or(|team| team == key.team)), system::unix_seconds()));
    print_problems(&problems);
    Ok(if problems.is_empty() { printed } else { Exit::BadConfiguration })
}

/// One line per key, under a heading.
fn table<'a>(keys: impl Iterator<Item = &'a Listed>, now: i64) -> String {
    let row = |key: &Listed| {
        let state = match key.expires {
            _ if key.disabled => "disabled",
            Some(end) if end <= now => "expired",
            _ => "active",
        };
        let expires = key.expires.and_then(|end| jiff::Timestamp::from_second(end).ok()).map_or("never".to_owned(), |end| end.to_string());
        [key.id.clone(), key.team.clone(), state.to_owned(), expires, key.file.display().to_string()]
    };
    let rows: Vec<_> = std::iter::once(["ID", "TEAM", "STATE", "EXPIRES", "FILE"].map(str::to_owned)).chain(keys.map(row)).collect();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..4).map(width).chain([0]).collect();
    let mut text = String::new();
    for row in &rows {
        let line = row.iter().zip(&widths).fold(String::new(), |line, (cell, width)| format!("{line}{cell:width$}  "));
        let _infallible = writeln!(text, "{}", line.trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn the_printed_entry_lets_the_printed_key_in() {
        let text = key_text("42", "tg-abc");
        let (key, entry) = text.split_once("\n\n").unwrap();
        let yaml = format!(
            "providers: {{ p: {{ kind: vllm, base_url: \"http://h/v1\" }} }}\nroutes: {{ r: {{ targets: [ {{ provider: p, model: m }} ] }} }}\nteams:\n  t:\n    keys:\n      {entry}"
        );
        let snapshot = config::parse(&yaml, "t", &|_| None).unwrap_or_else(|problems| panic!("{problems:?}")).snapshot;
        let mut headers = http::HeaderMap::new();
        headers.insert("x-api-key", key.parse().unwrap());
        let principal = crate::auth::authenticate(&snapshot.tenants, None, &headers, 0).unwrap();
        assert_eq!(principal.id(&snapshot.tenants), "42");
    }

    #[test]
    fn keys_are_listed_in_columns_with_their_state() {
        let key =
            |id: &str, expires, disabled| Listed { id: id.into(), team: "search".into(), expires, disabled, file: "k/search.yaml".into() };
        let keys = [
            key("a", None, false),
            key("longer-id", Some(1_800_000_000), false),
            key("b", Some(1_700_000_000), false),
            key("c", None, true),
        ];
        let text = table(keys.iter(), 1_750_000_000);
        let wanted = "ID         TEAM    STATE     EXPIRES               FILE\n\
                      a          search  active    never                 k/search.yaml\n\
                      longer-id  search  active    2027-01-15T08:00:00Z  k/search.yaml\n\
                      b          search  expired   2023-11-14T22:13:20Z  k/search.yaml\n\
                      c          search  disabled  never                 k/search.yaml\n";
        assert_eq!(text, wanted);
    }
}
