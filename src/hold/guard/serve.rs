//! The guard itself: what it answers for, what wakes it, and how it thaws.

use std::ffi::CString;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::command::Command;
use super::{Answer, Word, gone};
use crate::cgroup::Cgroup;
use crate::engine;
use crate::error::{Error, Result};
use crate::freezer;
use crate::hold::{Release, may_be_frozen, release_all};
use crate::host::{Filesystem, Hierarchy, Host};
use crate::patience::Patience;
use crate::store::{DiskRecordFile, EARLY_US, HoldRecord, Process, RecordFile, Store, boottime_us};
use crate::supervisor::{MOST_URGENT, raise_limit};

/// How long the guard's thaw waits for the proof.
const PROOF: Duration = Duration::from_secs(5);
/// How long the guard waits for a file system to be thawed: a disk that hangs must keep no container frozen. The thaw goes on.
const DISK: Duration = Duration::from_millis(150);
/// How long a worker whose iceaxe is killed has to thaw what it holds, which takes it some milliseconds.
const ORPHANED_US: u64 = 200_000;
/// How soon it tries again where it could not thaw.
const AGAIN_US: u64 = 1_000_000;
/// How soon it tries again to thaw a file system for the first time; each time after that it waits twice as long as before.
const DISKS_SOON_US: u64 = 500_000;
/// The longest that it waits for that.
const DISKS_AGAIN_US: u64 = 60_000_000;

/// One that it answers for.
struct Kept {
    record: HoldRecord,
    entry: Option<RecordFile>,
    is_watched: bool,
    /// CLOCK_BOOTTIME in microseconds at which it is to be thawed.
    due_us: Option<u64>,
}

impl Kept {
    /// When it is to be thawed. What is over before its freeze is waits for that: a thaw that comes before the write is none.
    /// A freeze that hangs is overdue some time.
    fn due(&self, is_frozen: bool) -> Option<u64> {
        let grace = if is_frozen { 0 } else { EARLY_US };
        self.due_us.map(|due| due.saturating_add(grace))
    }
}

/// When that is to be thawed, where nothing else happens.
fn due_us(record: &HoldRecord) -> Option<u64> {
    let grace = record.kind.grace_us();
    record.until_us.map(|until| until.saturating_add(grace))
}

struct Guard {
    host: Host,
    store: Option<Store>,
    kept: Vec<Kept>,
    /// Each with where it is on file.
    filesystems: Vec<(Filesystem, Option<DiskRecordFile>)>,
    /// CLOCK_BOOTTIME in microseconds at which those that could not be thawed are tried again.
    disks_due_us: Option<u64>,
    /// How long it waits for that in microseconds, the next time.
    disks_pause_us: u64,
    /// Whether all of it is frozen.
    is_frozen: bool,
    /// Whether it is to stay so.
    is_committed: bool,
    /// The process that was started.
    poster: Option<Process>,
    /// Whether that has ended.
    has_lost_poster: bool,
    /// The command of a hold, which ends with that process.
    command: Option<Command>,
    notices: Option<Inotify>,
}

/// Is the guard until nothing is left to be guarded; `poster` is the number of the process that an operator started.
pub(crate) fn serve(root: &Path, poster: i32, inbox: OwnedFd, mut outbox: File) -> Result<()> {
    // It only says what it is: the records say that it is one.
    let _ = CString::new(engine::GUARD).map(|name| nix::sys::prctl::set_name(&name));
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
    let started = Process::find(&host, poster);
    let note = settle_down(&host);
    let process = Process::this(&host);
    answer(&mut outbox, process, note)?;
    let mut guard = Guard {
        store: None,
        host,
        kept: Vec::new(),
        filesystems: Vec::new(),
        disks_due_us: None,
        disks_pause_us: DISKS_SOON_US,
        is_frozen: false,
        is_committed: false,
        poster: started,
        has_lost_poster: false,
        command: None,
        // Without notices a lease that was ended by a thaw is noticed at its end.
        notices: Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).ok(),
    };
    // Where the kernel has no pidfds, or it is gone already, the end of its line tells.
    let mut poster = super::command::pidfd(poster);
    let mut inbox = Some(inbox);
    let mut text = Vec::new();
    while inbox.is_some()
        || !guard.kept.is_empty()
        || !guard.filesystems.is_empty()
        || guard.command.as_ref().is_some_and(Command::is_ending)
    {
        guard.set(&timer);
        let wakers = Wakers {
            inbox: inbox.as_ref(),
            signals: &signals,
            timer: &timer,
            notices: guard.notices.as_ref(),
            poster: poster.as_ref(),
            command: guard.command.as_ref().and_then(Command::fd),
        };
        match wakers.wait() {
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
                        guard.end_command();
                    }
                    Some(Ok(count)) => text.extend_from_slice(&buffer[..count]),
                }
                while let Some(end) = text.iter().position(|&byte| byte == b'\n') {
                    let line: Vec<u8> = text.drain(..=end).collect();
                    // No answer says that it was not understood.
                    if let Ok(word) = serde_json::from_slice(&line)
                        && let Some(note) = guard.hear(word)
                    {
                        answer(&mut outbox, None, note)?;
                    }
                }
            }
            Stir::Signal => {
                guard.thaw_filesystems();
                guard.release(&|_| true);
            }
            Stir::Time => guard.look_at_times(),
            Stir::Records => guard.look_again(),
            Stir::Poster => {
                poster = None;
                guard.poster_ended();
            }
            Stir::Command => {
                let host = &guard.host;
                guard.command.take_if(|command| command.look(host));
            }
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stir {
    Inbox,
    Signal,
    Time,
    Records,
    /// The process that was started has ended.
    Poster,
    /// The command that it is to end has.
    Command,
}

/// All that wakes the guard.
struct Wakers<'w> {
    inbox: Option<&'w OwnedFd>,
    signals: &'w SignalFd,
    timer: &'w TimerFd,
    notices: Option<&'w Inotify>,
    poster: Option<&'w OwnedFd>,
    command: Option<BorrowedFd<'w>>,
}

impl Wakers<'_> {
    /// Waits for one of them. What was said is heard before anything else: it may be the last word of who has ended.
    fn wait(&self) -> Stir {
        let all = [
            (Stir::Inbox, self.inbox.map(AsFd::as_fd)),
            (Stir::Signal, Some(self.signals.as_fd())),
            (Stir::Time, Some(self.timer.as_fd())),
            (Stir::Poster, self.poster.map(AsFd::as_fd)),
            (Stir::Command, self.command),
            (Stir::Records, self.notices.map(AsFd::as_fd)),
        ];
        loop {
            let there = all.iter().filter_map(|(stir, fd)| Some((*stir, (*fd)?)));
            let mut fds: Vec<PollFd<'_>> = there
                .clone()
                .map(|(_, fd)| PollFd::new(fd, PollFlags::POLLIN))
                .collect();
            if poll(&mut fds, PollTimeout::NONE).is_err() {
                continue;
            }
            let mut stirred = there
                .zip(&fds)
                .filter(|(_, fd)| fd.any().unwrap_or(false))
                .map(|((stir, _), _)| stir);
            let Some(stir) = stirred.next() else { continue };
            match stir {
                Stir::Signal => drop(self.signals.read_signal()), // which one makes no difference
                Stir::Time => drop(self.timer.wait()),            // it has expired
                // Each record is looked at again.
                Stir::Records => drop(self.notices.map(Inotify::read_events)),
                Stir::Inbox | Stir::Poster | Stir::Command => {}
            }
            return stir;
        }
    }
}

impl Guard {
    /// Does as it is told; what is to be answered, if anything is.
    #[expect(clippy::option_option, reason = "an answer may have nothing to say")]
    fn hear(&mut self, word: Word) -> Option<Option<String>> {
        match word {
            Word::Keep(kept) => self.keep(kept.0, kept.1),
            Word::Filesystem(pid, number, path, entry) => {
                let opened = Filesystem::of_process(&self.host, pid, number, &path);
                let opened = opened.map(|filesystem| self.filesystems.push((filesystem, *entry)));
                return Some(opened.err().map(|error| error.to_string()));
            }
            Word::Filesystems(count) => {
                self.filesystems.truncate(count);
                return None;
            }
            Word::ThawFilesystems => {
                self.thaw_filesystems();
                return None;
            }
            Word::Frozen => {
                self.is_frozen = true;
                return None;
            }
            Word::Commit => {
                (self.is_frozen, self.is_committed) = (true, true);
                // The process that was started may have ended before this was heard.
                self.kept
                    .iter_mut()
                    .for_each(|kept| kept.due_us = due_us(&kept.record));
            }
            Word::Dismiss => {
                self.kept.clear();
                self.is_committed = true;
                return None;
            }
            Word::Command(pid) => {
                // It may be that its iceaxe was killed while this was on its way.
                let poster = self.poster;
                self.command = poster.and_then(|poster| Command::of(&self.host, pid, poster));
                if self.has_lost_poster {
                    self.end_command();
                }
                return None;
            }
            Word::CommandEnded => {
                self.command = None;
                return None;
            }
        }
        Some(None)
    }

    /// The process that was started is gone, and did not say that its command had ended. Its worker thaws what it holds,
    /// unless it is stopped or hangs.
    fn poster_ended(&mut self) {
        self.has_lost_poster = true;
        self.end_command();
        if !self.is_committed && self.is_frozen {
            let latest = boottime_us() + ORPHANED_US;
            for kept in &mut self.kept {
                kept.due_us = Some(kept.due_us.map_or(latest, |due| due.min(latest)));
            }
        }
    }

    fn end_command(&mut self) {
        if let Some(command) = &mut self.command {
            command.end(&self.host);
        }
        let host = &self.host;
        self.command.take_if(|command| command.look(host));
    }

    /// Does what is due.
    fn look_at_times(&mut self) {
        let (now, is_frozen) = (boottime_us(), self.is_frozen);
        if self.disks_due_us.is_some_and(|due| due <= now) {
            self.thaw_filesystems();
        }
        self.release(&|kept| kept.due(is_frozen).is_some_and(|due| due <= now));
        if self
            .command
            .as_ref()
            .and_then(Command::due)
            .is_some_and(|due| due <= now)
        {
            self.end_command();
        }
    }

    fn keep(&mut self, record: HoldRecord, entry: Option<RecordFile>) {
        let mut kept = Kept {
            due_us: due_us(&record),
            is_watched: false,
            record,
            entry,
        };
        self.open_ledger(kept.entry.is_some());
        (self.is_frozen, self.is_committed) = (false, false); // until that is said of this one too
        // Alone: a notice brings a look at each, and there may be hundreds.
        if self.stands(&mut kept) {
            self.kept.push(kept);
        }
    }

    /// Opens the records, where something is on record and they could not be opened before. Without them what is known here
    /// is done.
    fn open_ledger(&mut self, is_needed: bool) {
        if is_needed && self.store.is_none() {
            self.store = Store::open(&self.host).ok().flatten(); // as said
        }
    }

    /// Takes on what is on record with this guard's name and it was not told of: who wrote it was killed in between.
    fn adopt(&mut self, process: Option<Process>) {
        // Without a record that can be read there is nothing to be taken on.
        let (Ok(Some(store)), Some(process)) = (Store::open(&self.host), process) else {
            return;
        };
        let entries = store.entries().map(|(entries, _)| entries).unwrap_or_default(); // as above
        for entry in entries
            .into_iter()
            .filter(|entry| entry.record.owners.contains(&process))
        {
            let is_known = |kept: &Kept| kept.entry.as_ref().is_some_and(|known| known.is_same(&entry));
            if !self.kept.iter().any(is_known) {
                self.kept.push(Kept {
                    due_us: None,
                    is_watched: true,
                    record: entry.record.clone(),
                    entry: Some(entry),
                });
            }
        }
        // A file system is frozen only when this guard has answered: one that it was not told of is not.
        for entry in store.disks().map(|(disks, _)| disks).unwrap_or_default() {
            let is_known = self
                .filesystems
                .iter()
                .any(|(_, known)| known.as_ref() == Some(&entry));
            if entry.disk.owners.contains(&process) && !is_known {
                let _ = store.remove_disk(&entry); // recover does else
            }
        }
        self.store.get_or_insert(store);
    }

    /// Lets go of what somebody has ended, and watches the records of the others.
    fn look_again(&mut self) {
        let mut kept = std::mem::take(&mut self.kept);
        kept.retain_mut(|kept| self.stands(kept));
        self.kept = kept;
    }

    /// Whether nobody has ended that one. Its record is watched from then on.
    fn stands(&self, kept: &mut Kept) -> bool {
        let (Some(store), Some(entry)) = (&self.store, kept.entry.clone()) else {
            return true;
        };
        if !kept.is_watched {
            // It is watched first and looked at then, so that nothing happens between the two. The watch is on the file,
            // whatever it is called, and goes with it.
            let flags = AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF;
            let add = |notices: &Inotify| notices.add_watch(&store.file(&entry), flags).is_ok();
            kept.is_watched = self.notices.as_ref().is_some_and(add);
        }
        match store.again(&entry) {
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
            .filter_map(|kept| kept.due(self.is_frozen))
            .chain(self.disks_due_us)
            .chain(self.command.as_ref().and_then(Command::due))
            .min();
        let at = next.map(|us| TimeSpec::from_duration(Duration::from_micros(us.max(1))));
        // A timer that is there can be set.
        let _ = match at {
            Some(at) => timer.set(Expiration::OneShot(at), TimerSetTimeFlags::TFD_TIMER_ABSTIME),
            None => timer.unset(),
        };
    }

    /// Thaws the file systems. One that does not answer is tried again, less and less often: each try leaves a thread
    /// behind.
    fn thaw_filesystems(&mut self) {
        self.open_ledger(self.filesystems.iter().any(|(_, entry)| entry.is_some()));
        let store = self.store.as_ref();
        self.filesystems.retain(|(filesystem, entry)| {
            let is_left = filesystem.thaw(DISK).is_err();
            if let (Some(store), Some(entry), false) = (store, entry, is_left) {
                let _ = store.remove_disk(entry); // to thaw it once more does no harm
            }
            is_left
        });
        let pause = self.disks_pause_us;
        self.disks_due_us = (!self.filesystems.is_empty()).then(|| boottime_us() + pause);
        self.disks_pause_us = (pause * 2).min(DISKS_AGAIN_US);
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
        let leaving: Vec<Release<'_>> = over
            .iter()
            .rev() // in reverse order of the freeze
            .map(|kept| Release {
                record: &kept.record,
                container: None,
                entry: kept.entry.as_ref(),
            })
            .collect();
        let reports = release_all(
            &self.host,
            self.store.as_ref(),
            &leaving,
            Patience::of(PROOF),
            &mut |_, _, _| {},
        );
        let failed: Vec<bool> = reports.iter().rev().map(may_be_frozen).collect();
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
        && let Err(error) = join(host, Hierarchy::V2, Some(engine::GUARDS))
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
    let enter = || {
        let child = root.make_child(leaf)?;
        // It is the guards' own, and one that somebody froze by hand would hold this one in before it says a word. A kernel
        // without the file freezes nobody.
        if child.requested().unwrap_or(false) {
            freezer::thaw(&child)?;
        }
        child.write("cgroup.procs", "0")
    };
    loop {
        match enter() {
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
            .and_then(|()| root.remove_child(engine::GUARDS));
    }
}
