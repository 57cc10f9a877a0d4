//! Runs another program for at most so long: what it says is kept up to a size, and one that does not end is killed
//! with all that it started, and not waited for beyond that.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn};
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{AccessFlags, Pid, access, pipe2};

use crate::patience::{Patience, Woke};

/// Between two looks whether it has ended; a container can be frozen meanwhile.
const FIRST_PAUSE: Duration = Duration::from_micros(200);
const LONGEST_PAUSE: Duration = Duration::from_millis(2);
/// How long one that was killed is waited for. It may be in a sleep that no signal ends.
const BURIAL: Duration = Duration::from_millis(100);
/// The most that is kept of what it says: a listing of thousands of containers, and a few lines of complaint.
const MOST_OUT: usize = 1 << 20;
const MOST_ERR: usize = 4096;

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// With this exit code.
    Exited(i32),
    /// By this signal, which was not sent from here.
    Signalled(i32),
    /// It did not in time, and was killed.
    Late,
    /// Somebody gave up, and it was killed.
    BrokenOff,
    /// It could not be started, or nobody can tell any more how it ended.
    Unknown(String),
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) end: End,
    /// What it said on its standard output and its standard error.
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) took: Duration,
}

/// Where an executable is, as a shell finds it in the absolute directories of `path`.
pub(crate) fn find(name: &str, path: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(path)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(name))
        .find(|file| file.is_file() && access(file, AccessFlags::X_OK).is_ok())
}

/// Runs `program` with this process's environment, with nothing to read, and in a process group of its own. `each` is
/// called every so often until it has ended.
pub(crate) fn run(
    program: &Path,
    words: &[OsString],
    patience: Patience<'_>,
    each: &mut dyn FnMut(),
) -> Done {
    let clock = patience.start();
    let begun = Instant::now();
    let mut done = Done {
        end: End::BrokenOff,
        out: String::new(),
        err: String::new(),
        took: Duration::ZERO,
    };
    if clock.is_cancelled() {
        return done;
    }
    let (pid, pipes) = match start(program, words) {
        Ok(started) => started,
        Err(errno) => {
            done.end = End::Unknown(format!("it could not be started: {}", errno.desc()));
            return done;
        }
    };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut pause = FIRST_PAUSE;
    let end = loop {
        each();
        drain(&pipes[0], &mut out, MOST_OUT);
        drain(&pipes[1], &mut err, MOST_ERR);
        if let Some(end) = ended(pid) {
            break end;
        }
        let late = clock.is_over();
        if late || clock.pause(pause, &[]) == Woke::Cancelled {
            kill(pid);
            break if late { End::Late } else { End::BrokenOff };
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    };
    // What it said last. What it left behind may hold the pipes open, and is not waited for.
    drain(&pipes[0], &mut out, MOST_OUT);
    drain(&pipes[1], &mut err, MOST_ERR);
    Done {
        end,
        out: String::from_utf8_lossy(&out).into_owned(),
        err: String::from_utf8_lossy(&err).into_owned(),
        took: begun.elapsed(),
    }
}

/// Its number, and where its standard output and its standard error come out.
fn start(program: &Path, words: &[OsString]) -> nix::Result<(Pid, [OwnedFd; 2])> {
    let pipe = || {
        let (from, to) = pipe2(OFlag::O_CLOEXEC)?;
        fcntl(&from, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok::<_, Errno>((from, to))
    };
    let ((out, to_out), (err, to_err)) = (pipe()?, pipe()?);
    let mut files = PosixSpawnFileActions::init()?;
    let nothing = open("/dev/null", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    files.add_dup2(nothing.as_raw_fd(), 0)?;
    files.add_dup2(to_out.as_raw_fd(), 1)?;
    files.add_dup2(to_err.as_raw_fd(), 2)?;
    let mut attributes = PosixSpawnAttr::init()?;
    attributes.set_flags(
        PosixSpawnFlags::POSIX_SPAWN_SETPGROUP
            | PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK
            | PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF,
    )?;
    attributes.set_pgroup(Pid::from_raw(0))?;
    // What is blocked or ignored here is this program's own affair.
    attributes.set_sigmask(&SigSet::empty())?;
    attributes.set_sigdefault(&SigSet::from(Signal::SIGPIPE))?;
    let text = |word: Vec<u8>| CString::new(word).map_err(|_| Errno::EINVAL);
    let words = std::iter::once(program.as_os_str().as_bytes().to_vec())
        .chain(words.iter().map(|word| word.as_bytes().to_vec()))
        .map(text)
        .collect::<nix::Result<Vec<_>>>()?;
    let environment = std::env::vars_os()
        .map(|(key, value)| text([key.into_vec(), value.into_vec()].join(&b'=')))
        .collect::<nix::Result<Vec<_>>>()?;
    let pid = posix_spawn(program, &files, &attributes, &words, &environment)?;
    Ok((pid, [out, err]))
}

/// How it ended, if it has.
fn ended(pid: Pid) -> Option<End> {
    match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::Exited(_, code)) => Some(End::Exited(code)),
        Ok(WaitStatus::Signaled(_, signal, _)) => Some(End::Signalled(signal as i32)),
        Ok(_) | Err(Errno::EINTR) => None,
        Err(errno) => Some(End::Unknown(format!(
            "how it ended is not known: {}",
            errno.desc()
        ))),
    }
}

/// Kills it with its process group. It was not waited for yet, so that the number is still its own.
fn kill(pid: Pid) {
    // It has ended meanwhile, then.
    let _ = killpg(pid, Signal::SIGKILL);
    let clock = Patience::of(BURIAL).start();
    while ended(pid).is_none() && !clock.is_over() {
        clock.pause(FIRST_PAUSE, &[]);
    }
}

/// Takes what can be read just now; what is more than `most` is read and let go, so that nobody waits for a full pipe.
fn drain(from: &OwnedFd, kept: &mut Vec<u8>, most: usize) {
    let mut buffer = [0; 4096];
    loop {
        match nix::unistd::read(from, &mut buffer) {
            Ok(0) => return,
            Ok(count) => {
                let room = most.saturating_sub(kept.len()).min(count);
                kept.extend(&buffer[..room]);
            }
            Err(Errno::EINTR) => {}
            Err(_) => return, // there is nothing now
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, limit: Duration) -> Done {
        let words = ["-c", script].map(OsString::from);
        run(Path::new("/bin/sh"), &words, Patience::of(limit), &mut || {})
    }

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn what_a_program_says_and_how_it_ends_is_told() {
        let done = sh("echo yes; echo no >&2; exit 3", LONG);
        assert_eq!(
            (&*done.out, &*done.err, done.end),
            ("yes\n", "no\n", End::Exited(3))
        );
        assert_eq!(sh("kill -TERM $$", LONG).end, End::Signalled(15));
        let none = run(Path::new("/no/such/program"), &[], Patience::of(LONG), &mut || {});
        assert!(matches!(none.end, End::Unknown(_)), "{none:?}");
    }

    #[test]
    fn what_does_not_end_is_killed_with_all_that_it_started() {
        let done = sh("sleep 1000 & echo $!; wait", Duration::from_millis(200));
        assert_eq!(done.end, End::Late);
        assert!(done.took < Duration::from_secs(5), "{done:?}");
        // It is nobody's child here, and may be a zombie until somebody has collected it.
        let stat = format!("/proc/{}/stat", done.out.trim());
        let clock = Patience::of(LONG).start();
        while std::fs::read_to_string(&stat).is_ok_and(|text| !text.contains(") Z ")) {
            assert!(!clock.is_over(), "{stat} lives");
            clock.pause(FIRST_PAUSE, &[]);
        }
    }

    #[test]
    fn what_it_leaves_behind_holds_nobody_up_and_what_floods_is_cut() {
        let done = sh("sleep 1000 & echo $!", LONG);
        assert!(done.end == End::Exited(0) && done.took < LONG, "{done:?}");
        let left: i32 = done.out.trim().parse().unwrap();
        nix::sys::signal::kill(Pid::from_raw(left), Signal::SIGKILL).unwrap();
        let flood = sh(
            "i=0; while test $i -lt 300; do echo 0123456789012345678901234567890123456789 >&2; i=$((i+1)); done",
            LONG,
        );
        assert_eq!((flood.end, flood.err.len()), (End::Exited(0), MOST_ERR));
    }

    #[test]
    fn it_is_broken_off_when_somebody_gives_up() {
        let (from, to) = pipe2(OFlag::O_CLOEXEC).unwrap();
        drop(to);
        let patience = Patience::of(LONG).unless(std::os::fd::AsFd::as_fd(&from));
        let words = ["-c", "sleep 1000"].map(OsString::from);
        let done = run(Path::new("/bin/sh"), &words, patience, &mut || {});
        assert!(done.end == End::BrokenOff && done.took < LONG, "{done:?}");
    }

    #[test]
    fn a_program_is_looked_for_in_whole_directories_alone() {
        assert_eq!(
            find("sh", OsStr::new("bin:/nowhere:/bin")).as_deref(),
            Some(Path::new("/bin/sh"))
        );
        assert_eq!(find("sh", OsStr::new("bin:../bin:.")), None);
        assert_eq!(find("tmp", OsStr::new("/")), None);
    }
}
