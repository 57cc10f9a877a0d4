//! The guard itself: what it answers for, what wakes it, and how it thaws.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::{Answer, Word, gone};
use crate::cgroup::Cgroup;
use crate::cli::{MOST_URGENT, raise_limit};
use crate::engine::{self, Leaving};
use crate::error::{Error, Result};
use crate::host::{Filesystem, Hierarchy, Host};
use crate::ledger::{Entry, Kind, Ledger, Pledge, Process, boottime_us};
use crate::patience::Patience;

/// How long the guard's thaw waits for the proof.
const PROOF: Duration = Duration::from_secs(5);
/// How soon it tries again where it could not thaw.
const AGAIN_US: u64 = 1_000_000;
/// The same of a file system.
const DISKS_AGAIN_US: u64 = 60_000_000;
/// The cgroup of the guards, at the top.
const LEAF: &str = "iceaxe";

/// One that it answers for.
struct Kept {
    pledge: Pledge,
    entry: Option<Entry>,
    is_watched: bool,
    /// CLOCK_BOOTTIME in microseconds at which it is to be thawed.
    due_us: Option<u64>,
}

impl Kept {
    /// When it is to be thawed. A lease that is over before its freeze is waits for that: a thaw that comes before the write
    /// is none. One whose freeze hangs is overdue some time.
    fn due(&self, is_committed: bool) -> Option<u64> {
        let is_early = self.pledge.kind == Kind::Lease && !is_committed;
        let grace = if is_early { Kind::Hold.grace_us() } else { 0 };
        self.due_us.map(|due| due.saturating_add(grace))
    }
}

struct Guard {
    host: Host,
    ledger: Option<Ledger>,
    kept: Vec<Kept>,
    filesystems: Vec<Filesystem>,
    /// CLOCK_BOOTTIME in microseconds at which those that could not be thawed are tried again.
    disks_due_us: Option<u64>,
    is_committed: bool,
    notices: Option<Inotify>,
}

/// Is the guard until nothing is left to be guarded.
pub(super) fn serve(root: &Path, inbox: OwnedFd, mut outbox: File) -> Result<()> {
    raise_limit(); // what was frozen with many files open is thawed with as many
    let mut set = SigSet::empty();
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT]
        .into_iter()
        .for_each(|signal| set.add(signal));
    // Blocking signals that exist can't fail.
    let _ = set.thread_block();
    set.remove(Signal::SIGHUP); // a terminal that is closed is why there is a guard
    let failed = |errno: Errno| Error::io("watch", root, errno.into());
    let signals =
        SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(failed)?;
    let timer = TimerFd::new(
        ClockId::CLOCK_BOOTTIME,
        TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK,
    );
    let timer = timer.map_err(failed)?;
    let host = Host::enter(root)?;
    let note = settle_down(&host);
    let process = Process::this(&host);
    answer(&mut outbox, process, note)?;
    let mut guard = Guard {
        ledger: None,
        host,
        kept: Vec::new(),
        filesystems: Vec::new(),
        disks_due_us: None,
        is_committed: false,
        // Without notices a lease that was ended by a thaw is noticed at its end.
        notices: Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).ok(),
    };
    let mut inbox = Some(inbox);
    let mut text = Vec::new();
    while inbox.is_some() || !guard.kept.is_empty() || !guard.filesystems.is_empty() {
        guard.set(&timer);
        match wait(inbox.as_ref(), &signals, &timer, guard.notices.as_ref()) {
            Stir::Inbox => {
                let mut buffer = [0; 4096];
                let count = inbox.as_ref().map(|fd| nix::unistd::read(fd, &mut buffer));
                match count {
                    Some(Ok(0) | Err(_)) | None => {
                        inbox = None;
                        guard.thaw_filesystems();
                        // Those who were to say that all is well did not.
                        if !guard.is_committed {
                            guard.adopt(process);
                            guard.release(&|_| true);
                            guard.is_committed = true;
                        }
                    }
                    Some(Ok(count)) => text.extend_from_slice(&buffer[..count]),
                }
                while let Some(end) = text.iter().position(|&byte| byte == b'\n') {
                    let line: Vec<u8> = text.drain(..=end).collect();
                    match serde_json::from_slice(&line) {
                        Ok(Word::Keep(kept)) => guard.keep(kept.0, kept.1),
                        Ok(Word::Filesystem(path)) => {
                            let note = guard.keep_filesystem(&path).err().map(|error| error.to_string());
                            answer(&mut outbox, None, note)?;
                            continue;
                        }
                        Ok(Word::Filesystems(count)) => {
                            guard.filesystems.truncate(count);
                            continue;
                        }
                        Ok(Word::Commit) => guard.is_committed = true,
                        Ok(Word::Dismiss) => {
                            guard.kept.clear();
                            guard.is_committed = true;
                            continue;
                        }
                        Err(_) => continue, // no answer says that it was not understood
                    }
                    answer(&mut outbox, None, None)?;
                }
            }
            Stir::Signal => {
                guard.thaw_filesystems();
                guard.release(&|_| true);
            }
            Stir::Time => {
                let (now, is_committed) = (boottime_us(), guard.is_committed);
                if guard.disks_due_us.is_some_and(|due| due <= now) {
                    guard.thaw_filesystems();
                }
                guard.release(&|kept| kept.due(is_committed).is_some_and(|due| due <= now));
            }
            Stir::Records => guard.look_again(),
        }
    }
    leave(&guard.host);
    Ok(())
}

fn answer(outbox: &mut File, process: Option<Process>, note: Option<String>) -> Result<()> {
    let text = serde_json::to_string(&Answer { process, note }).map_err(|error| gone(&error.into()))?;
    // Nobody listens any more: their end is seen on the other line.
    let _ = outbox.write_all((text + "\n").as_bytes());
    Ok(())
}

/// What woke the guard.
enum Stir {
    Inbox,
    Signal,
    Time,
    Records,
}

fn wait(inbox: Option<&OwnedFd>, signals: &SignalFd, timer: &TimerFd, notices: Option<&Inotify>) -> Stir {
    loop {
        let mut fds = vec![
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(timer.as_fd(), PollFlags::POLLIN),
        ];
        fds.extend(notices.map(|notices| PollFd::new(notices.as_fd(), PollFlags::POLLIN)));
        fds.extend(inbox.map(|inbox| PollFd::new(inbox.as_fd(), PollFlags::POLLIN)));
        if poll(&mut fds, PollTimeout::NONE).is_err() {
            continue;
        }
        let stirred: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        if inbox.is_some() && stirred.last() == Some(&true) {
            return Stir::Inbox;
        }
        if stirred[0] {
            let _ = signals.read_signal(); // which one makes no difference
            return Stir::Signal;
        }
        if stirred[1] {
            let _ = timer.wait(); // it has expired
            return Stir::Time;
        }
        if let Some(notices) = notices {
            let _ = notices.read_events(); // each record is looked at again
            return Stir::Records;
        }
    }
}

impl Guard {
    fn keep(&mut self, pledge: Pledge, entry: Option<Entry>) {
        let grace = pledge.kind.grace_us();
        let mut kept = Kept {
            due_us: pledge.until_us.map(|until| until.saturating_add(grace)),
            is_watched: false,
            pledge,
            entry,
        };
        self.open_ledger(kept.entry.is_some());
        self.is_committed = false; // until that is said of this one too
        // Alone: a notice brings a look at each, and there may be hundreds.
        if self.stands(&mut kept) {
            self.kept.push(kept);
        }
    }

    /// Opens the records, where something is on record and they could not be opened before. Without them what is known here
    /// is done.
    fn open_ledger(&mut self, is_needed: bool) {
        if is_needed && self.ledger.is_none() {
            self.ledger = Ledger::open(&self.host).ok().flatten(); // as said
        }
    }

    /// Takes on what is on record with this guard's name and it was not told of: who wrote it was killed in between.
    fn adopt(&mut self, process: Option<Process>) {
        // Without a record that can be read there is nothing to be taken on.
        let (Ok(Some(ledger)), Some(process)) = (Ledger::open(&self.host), process) else {
            return;
        };
        let entries = ledger.entries().map(|(entries, _)| entries).unwrap_or_default(); // as above
        for entry in entries
            .into_iter()
            .filter(|entry| entry.pledge.owners.contains(&process))
        {
            let is_known = |kept: &Kept| kept.entry.as_ref().is_some_and(|known| known.is_same(&entry));
            if !self.kept.iter().any(is_known) {
                self.kept.push(Kept {
                    due_us: None,
                    is_watched: true,
                    pledge: entry.pledge.clone(),
                    entry: Some(entry),
                });
            }
        }
        self.ledger.get_or_insert(ledger);
    }

    fn keep_filesystem(&mut self, path: &Path) -> Result<()> {
        self.filesystems.push(Filesystem::open(&self.host, path)?);
        Ok(())
    }

    /// Lets go of what somebody has ended, and watches the records of the others.
    fn look_again(&mut self) {
        let mut kept = std::mem::take(&mut self.kept);
        kept.retain_mut(|kept| self.stands(kept));
        self.kept = kept;
    }

    /// Whether nobody has ended that one. Its record is watched from then on.
    fn stands(&self, kept: &mut Kept) -> bool {
        let (Some(ledger), Some(entry)) = (&self.ledger, kept.entry.clone()) else {
            return true;
        };
        if !kept.is_watched {
            // It is watched first and looked at then, so that nothing happens between the two. The watch is on the file,
            // whatever it is called, and goes with it.
            let flags = AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF;
            let add = |notices: &Inotify| notices.add_watch(&ledger.file(&entry), flags).is_ok();
            kept.is_watched = self.notices.as_ref().is_some_and(add);
        }
        match ledger.again(&entry) {
            Ok(Some(now)) => kept.entry = Some(now),
            Ok(None) => return false,
            Err(_) => {} // it is looked at again when it is over
        }
        true
    }

    /// Sets the timer to the next end.
    fn set(&self, timer: &TimerFd) {
        let next = self
            .kept
            .iter()
            .filter_map(|kept| kept.due(self.is_committed))
            .chain(self.disks_due_us)
            .min();
        let at = next.map(|us| TimeSpec::from_duration(Duration::from_micros(us.max(1))));
        // A timer that is there can be set.
        let _ = match at {
            Some(at) => timer.set(Expiration::OneShot(at), TimerSetTimeFlags::TFD_TIMER_ABSTIME),
            None => timer.unset(),
        };
    }

    /// Thaws the file systems. One that does not answer is tried again, but not soon: each try leaves a thread behind.
    fn thaw_filesystems(&mut self) {
        self.filesystems
            .retain(|filesystem| filesystem.thaw(PROOF).is_err());
        self.disks_due_us = (!self.filesystems.is_empty()).then(|| boottime_us() + DISKS_AGAIN_US);
    }

    /// Thaws those. What can't be thawed is tried again, as long as it is there.
    fn release(&mut self, is_over: &dyn Fn(&Kept) -> bool) {
        if self.kept.iter().any(is_over) {
            // Before anything else: who waits for one of them can't be thawed for good.
            if self.disks_due_us.is_none() {
                self.thaw_filesystems();
            }
        }
        self.open_ledger(self.kept.iter().any(|kept| kept.entry.is_some()));
        let (over, rest): (Vec<Kept>, Vec<Kept>) = self.kept.drain(..).partition(is_over);
        self.kept = rest;
        let look = |mut kept: Kept| self.stands(&mut kept).then_some(kept);
        let over: Vec<Kept> = over.into_iter().filter_map(look).collect();
        let leaving: Vec<Leaving<'_>> = over
            .iter()
            .rev() // in reverse order of the freeze
            .map(|kept| Leaving {
                pledge: &kept.pledge,
                container: None,
                entry: kept.entry.as_ref(),
            })
            .collect();
        let reports = engine::part(
            &self.host,
            self.ledger.as_ref(),
            &leaving,
            Patience::of(PROOF),
            &mut |_, _, _| {},
        );
        let failed: Vec<bool> = reports.iter().rev().map(engine::may_be_frozen).collect();
        drop(leaving);
        for (mut kept, _) in over.into_iter().zip(failed).filter(|(_, failed)| *failed) {
            kept.due_us = Some(boottime_us() + AGAIN_US);
            self.kept.push(kept);
        }
    }
}

/// Goes where no freeze of the caller's or the container's cgroup reaches it, and where it is the last to be killed. What it
/// could not do is returned in words.
fn settle_down(host: &Host) -> Option<String> {
    let _ = nix::unistd::chdir("/"); // else it only keeps a mount busy
    // Without the right to it, it is killed and scheduled as others are.
    let _ = std::fs::write(host.proc_dir().join("self/oom_score_adj"), "-1000");
    let _ = rustix::process::setpriority_process(None, MOST_URGENT);
    let mut notes = Vec::new();
    if host.mount(Hierarchy::V1).is_some()
        && let Err(error) = join(host, Hierarchy::V1, None)
    {
        notes.push(format!("the guard stays in its v1 cgroup: {error}"));
    }
    // systemd removes what it did not make, and reckons with nobody else there. On v1 it has a hierarchy of its own.
    if host.path("/run/systemd/system").is_dir() {
        notes.push("the guard stays in the caller's cgroup, as systemd owns those: if that session's or unit's processes are killed, it ends and thaws".to_owned());
    } else if host.mount(Hierarchy::V2).is_some()
        && let Err(error) = join(host, Hierarchy::V2, Some(LEAF))
    {
        notes.push(format!("the guard stays in its v2 cgroup: {error}"));
    }
    (!notes.is_empty()).then(|| notes.join("; "))
}

/// Goes into the root of a hierarchy, or into a cgroup right below it, which is made.
fn join(host: &Host, hierarchy: Hierarchy, leaf: Option<&str>) -> Result<()> {
    let root = Cgroup::open(host, hierarchy, Path::new("/"))?;
    let Some(leaf) = leaf else {
        return root.write("cgroup.procs", "0");
    };
    loop {
        match root
            .make_child(leaf)
            .and_then(|child| child.write("cgroup.procs", "0"))
        {
            Err(Error::Gone(_)) => {} // the last guard in it just left
            other => return other,
        }
    }
}

/// Leaves the guards' cgroup, which goes with the last one.
fn leave(host: &Host) {
    if let Ok(root) = Cgroup::open(host, Hierarchy::V2, Path::new("/"))
        && !host.path("/run/systemd/system").is_dir()
    {
        // The next guard goes in, or takes it away, where one of these fails.
        let _ = root
            .write("cgroup.procs", "0")
            .and_then(|()| root.remove_child(LEAF));
    }
}
