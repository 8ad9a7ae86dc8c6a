//! The binary: arguments to a command, nothing else.

fn main() {}
