//! What commands write to the terminal. Unlike `println!` and `eprintln!`, nothing here panics where the reader is gone.

use crate::system;
use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};

/// Writes to stdout.
///
/// # Errors
/// Of the file or pipe behind it.
pub fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
}

/// Writes a message under the program's name to stderr.
pub fn message(text: impl Display) {
    write_error(&format!("tidegate: {text}\n"));
}

/// Writes to stderr. An error has nowhere to go.
pub fn write_error(text: &str) {
    let _gone = io::stderr().write_all(text.as_bytes());
}

/// Whether stdout is a terminal.
pub fn is_interactive() -> bool {
    io::stdout().is_terminal()
}

/// Whether to use colour on stderr: on a terminal other than `dumb`, without `NO_COLOR` (<https://no-color.org>).
pub fn is_coloured() -> bool {
    io::stderr().is_terminal() && system::env_os("NO_COLOR").is_none() && system::env_os("TERM").is_none_or(|term| term != "dumb")
}
