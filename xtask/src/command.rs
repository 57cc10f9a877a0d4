//! Running other programs: what they print is shown as it comes, kept, and never waited for without a limit.

use std::env;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;

/// The exit code of `timeout` when it ended the program.
const TIMED_OUT: i32 = 124;
/// How long the last lines of a program that has ended may take. A task that it left behind, frozen even, keeps its
/// output open for ever.
const LAST_LINES: Duration = Duration::from_secs(2);

/// The directory of the workspace.
pub(crate) fn workspace() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own)
}

/// The directory that holds everything built and fetched.
pub(crate) fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), |dir| workspace().join(dir))
}

/// `program`, ended after `limit`. It stays in the terminal's process group, so that Ctrl-C ends it too.
pub(crate) fn limited(limit: Duration, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("timeout");
    command
        .args(["--foreground", "--kill-after=10", &limit.as_secs().to_string()])
        .arg(program);
    command.current_dir(workspace()).stdin(Stdio::null());
    command
}

/// Cargo, in the workspace, ended after `limit`.
pub(crate) fn cargo(limit: Duration, words: &[&str]) -> Command {
    let mut command = limited(limit, env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(words);
    command
}

/// Where `program` is: in the PATH, or where Debian keeps programs for root.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|path| path.is_file())
}

/// Whether this is root.
pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    // Without a /proc nothing else will work either.
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// A command as a person would type it, without its time limit; whole scripts are left out.
pub(crate) fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words = words.map(OsStr::to_string_lossy);
    let words: Vec<_> = words
        .map(|word| if word.contains('\n') { "...".into() } else { word })
        .collect();
    match &words[..] {
        [timeout, _, _, _, rest @ ..] if timeout == "timeout" => rest.join(" "),
        all => all.join(" "),
    }
}

/// Runs `command` and returns its standard output; its standard error is part of the error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let shown = line(command);
    let output = command
        .output()
        .map_err(|error| format!("cannot run {shown}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let error = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "{shown}: {}: {}",
        ending(output.status.code()),
        error.trim()
    ))
}

/// Runs `command` with its output on ours.
pub(crate) fn shown(command: &mut Command) -> Result<()> {
    let shown = line(command);
    println!("+ {shown}");
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{shown}: {}", ending(status.code()))),
        Err(error) => Err(format!("cannot run {shown}: {error}")),
    }
}

/// A line that a program printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) text: String,
    /// When it came, from the program's start on.
    pub(crate) at: Duration,
}

/// Runs `command`, shows each line of its standard output as it comes, and returns how it ended and the lines.
pub(crate) fn echoed(command: &mut Command) -> Result<(Result<()>, Vec<Line>)> {
    let failed = |error: std::io::Error, shown: &str| format!("cannot run {shown}: {error}");
    let shown = line(command);
    let start = Instant::now();
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed(error, &shown))?;
    let (sender, receiver) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        thread::spawn(move || {
            for line in BufReader::new(stdout)
                .split(b'\n')
                .map_while(std::result::Result::ok)
            {
                let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
    }
    let mut lines = Vec::new();
    let mut ended = None;
    loop {
        match receiver.recv_timeout(Duration::from_millis(100)) {
            Ok(text) => {
                println!("{text}");
                let at = start.elapsed();
                lines.push(Line { text, at });
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                let status = child.try_wait().map_err(|error| failed(error, &shown))?;
                if status.is_some() && ended.get_or_insert_with(Instant::now).elapsed() > LAST_LINES {
                    println!("(it has ended, but something it started still holds its output)");
                    break;
                }
            }
        }
    }
    let status = child.wait().map_err(|error| failed(error, &shown))?;
    let end = if status.success() {
        Ok(())
    } else {
        Err(ending(status.code()))
    };
    Ok((end, lines))
}

fn ending(code: Option<i32>) -> String {
    match code {
        Some(TIMED_OUT) => "did not end in time".to_owned(),
        Some(code) => format!("exit code {code}"),
        None => "ended by a signal".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_does_not_end_is_ended() {
        let (end, lines) =
            echoed(limited(Duration::from_secs(1), "sh").args(["-c", "echo on; exec sleep 60"])).unwrap();
        assert_eq!(end, Err("did not end in time".to_owned()));
        assert_eq!(lines[0].text, "on");
    }

    #[test]
    fn output_held_open_by_an_orphan_is_not_waited_for() {
        let start = Instant::now();
        let mut command = limited(Duration::from_secs(20), "sh");
        let (end, lines) = echoed(command.args(["-c", "sleep 8 & echo done"])).unwrap();
        assert_eq!((end, lines[0].text.as_str()), (Ok(()), "done"));
        assert!(
            start.elapsed() < Duration::from_secs(7),
            "waited {:?}",
            start.elapsed()
        );
    }

    #[test]
    fn a_failing_program_is_named_with_its_error() {
        let mut command = limited(Duration::from_secs(5), "sh");
        let error = output(command.args(["-c", "echo why >&2; exit 3"])).unwrap_err();
        assert_eq!(error, "sh -c echo why >&2; exit 3: exit code 3: why");
    }
}
