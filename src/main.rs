//! The iceaxe command.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(iceaxe::cli::run(std::env::args_os()))
}
