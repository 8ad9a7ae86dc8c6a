//! The commands that serve; [`crate::cli`] calls them with what it has read and checked.

use crate::cli::Exit;
use crate::config::Loaded;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Serves a configuration until it is told to stop. `source` is the file to read again on a reload; `None` for the
/// demo configuration, which has none.
pub fn run(_loaded: Loaded, _source: Option<PathBuf>) -> Exit {
    eprintln!("tidegate: this build cannot serve yet");
    Exit::CouldNotStart
}

/// Serves the demo configuration, its providers played by the simulator at `simulator`.
pub fn demo(loaded: Loaded, _simulator: SocketAddr) -> Exit {
    run(loaded, None)
}

/// Serves the provider simulator alone.
pub fn simulate(_listen: SocketAddr) -> Exit {
    eprintln!("tidegate: this build has no simulator yet");
    Exit::CouldNotStart
}
