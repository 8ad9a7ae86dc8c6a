//! The binary: arguments to a command, nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    tidegate::cli::main()
}
