//! The iceaxe command.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::process::ExitCode;

use iceaxe::cli::{Streams, run};

fn main() -> ExitCode {
    let (mut out, mut err) = (io::stdout(), io::stderr());
    let is_terminal = out.is_terminal();
    let stdout = io::stdout();
    ExitCode::from(run(
        std::env::args_os(),
        Streams::new(&mut out, &mut err, is_terminal).to(stdout.as_fd()),
    ))
}
