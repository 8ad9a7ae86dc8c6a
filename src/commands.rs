//! The commands that serve a configuration; [`crate::cli`] calls them with what it has read and checked.

use crate::config::Loaded;
use crate::edge::serve::{self, Ended, OnServing};
use crate::telemetry::log;
use std::path::PathBuf;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All went well.
    Fine = 0,
    /// The configuration is wrong.
    BadConfiguration = 1,
    /// The arguments are wrong.
    BadUsage = 2,
    /// An address could not be bound, or something else was missing at the start.
    CouldNotStart = 3,
}

/// Serves a configuration until it is told to stop. `source` is the file to read again on a reload. `upgrade` takes the
/// listeners over from the process that holds them.
pub fn run(loaded: Loaded, source: PathBuf, upgrade: bool) -> Exit {
    serve_until_end(loaded, Some(source), upgrade, Box::new(|| {}))
}

/// [`run`] with a call of `on_serving` once requests are accepted, and without reloads where there is no `source`.
pub fn serve_until_end(loaded: Loaded, source: Option<PathBuf>, upgrade: bool, on_serving: OnServing) -> Exit {
    if log::install(&loaded.snapshot.log).is_err() {
        return could_not_start("the log is installed already");
    }
    let ended = serve::run(loaded, source, upgrade, on_serving);
    log::flush();
    match ended {
        Ended::Well => Exit::Fine,
        Ended::CouldNotStart(why) => could_not_start(&why),
    }
}

/// Prints why the process cannot serve.
pub fn could_not_start(why: &str) -> Exit {
    eprintln!("tidegate: {why}");
    Exit::CouldNotStart
}
