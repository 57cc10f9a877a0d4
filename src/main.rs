//! The iceaxe command.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::process::ExitCode;

use iceaxe::cli::{Streams, run};

fn main() -> ExitCode {
    let (mut out, mut err) = (io::stdout(), io::stderr());
    let is_terminal = out.is_terminal();
    let shows_progress = err.is_terminal();
    let stdout = io::stdout();
    let mut streams = Streams::new(&mut out, &mut err, is_terminal).to(stdout.as_fd());
    streams.shows_progress = shows_progress;
    ExitCode::from(run(std::env::args_os(), streams))
}
