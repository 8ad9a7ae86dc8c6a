//! Runs the serving commands; [`crate::cli`] passes the loaded configuration.

use crate::config::Loaded;
use crate::edge::serve::{self, OnServing};
use crate::telemetry::log;
use crate::terminal;
use std::io::ErrorKind;
use std::path::PathBuf;

/// The exit status of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Success.
    Fine = 0,
    /// The configuration is invalid.
    BadConfiguration = 1,
    /// The arguments are invalid.
    BadUsage = 2,
    /// An address could not be bound, or start-up failed otherwise.
    CouldNotStart = 3,
    /// The output could not be written.
    OutputLost = 4,
}

/// Serves a configuration until the process is stopped. Reloads read `source`. `upgrade` takes over the listeners of
/// the running process.
pub fn run(loaded: Loaded, source: PathBuf, upgrade: bool) -> Exit {
    serve_until_end(loaded, Some(source), upgrade, Box::new(|| {}))
}

/// [`run`], which also calls `on_serving` once requests are accepted. Without `source` there are no reloads.
pub fn serve_until_end(loaded: Loaded, source: Option<PathBuf>, upgrade: bool, on_serving: OnServing) -> Exit {
    if log::install(&loaded.snapshot.log).is_err() {
        return could_not_start("the log is installed already");
    }
    let ended = serve::run(loaded, source, upgrade, on_serving);
    log::flush();
    match ended {
        Ok(()) => Exit::Fine,
        Err(why) => could_not_start(&why),
    }
}

/// Prints why the process cannot start.
pub fn could_not_start(why: &str) -> Exit {
    terminal::message(why);
    Exit::CouldNotStart
}

/// Prints the output of a command. A reader that wants no more of it is no failure.
pub fn print(text: &str) -> Exit {
    match terminal::write(text) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            terminal::message(format_args!("cannot write the output: {error}"));
            Exit::OutputLost
        }
        _ => Exit::Fine,
    }
}
