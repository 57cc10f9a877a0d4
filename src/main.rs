//! The iceaxe command.

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use iceaxe::cli::{Streams, run};

fn main() -> ExitCode {
    let (mut out, mut err) = (io::stdout(), io::stderr());
    let is_terminal = out.is_terminal();
    ExitCode::from(run(
        std::env::args_os(),
        Streams::new(&mut out, &mut err, is_terminal),
    ))
}
