//! The processes of a host as its /proc shows them: the one place that reads files of other processes there.
//!
//! Any such read can hang, that of `stat` too: it waits for a lock that the process holds, for as long as a file system's
//! server does not answer in an exec, or for ever. So each is done in a thread that can be left behind. The waiting side
//! sees which task a thread is at, leaves it there after 20 ms, and goes on with another thread that knows that task; what
//! hangs costs whoever asked for it those 20 ms, once, as long as it hangs, and less where many hang.
//!
//! What reads much is best done in such a thread as a whole ([`Proc::aside`], [`Proc::watched`]): there each read is a
//! plain one, and where a task hangs the whole is done again without that task. After [`FEW`] of them each read there is
//! done in a thread of its own, which costs some microseconds and ends for certain.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::signal::kill;
use nix::sys::stat::Mode;
use nix::sys::uio::pread;
use nix::unistd::{Pid, gettid};

use super::files::{read_piece, read_whole};
use super::stat::{Stat, parse_stat};

/// How long the files of one task may keep a thread, where few tasks hang.
const PATIENCE: Duration = Duration::from_millis(20);
/// Beyond so many that hang the time for each gets shorter as they get more, so that five hundred of them cost some 1.5 s and
/// not ten: a container may have any number, and no other one is to be left unseen for that.
const FEW: usize = 16;
/// But not below this: a process that is well holds its lock for some microseconds.
const SHORTEST: Duration = Duration::from_micros(500);
/// Between two looks at a thread that takes longer.
const TICK: Duration = Duration::from_millis(5);
/// The CPU time, in the kernel's hundredths of a second, after which a read that runs all the time counts as hanging: the
/// look-up of a dead task can loop for 42 s (Linux 6.18). One that only waits for its turn on a CPU does not hang.
const BUSY: u64 = 2;
/// So many threads are left behind by what needs the same lock, each of which keeps some 40 KiB. What would need more is
/// not read, unless it is of a set: each set is bounded by itself, and so the tasks of a container are always looked at.
const MOST_LEFT: usize = 512;
/// Where so many tasks of one set hang, those after them are not looked at: each would cost 20 ms and a thread, and a
/// container can have any number.
const MOST_OF_A_SET: usize = 8;
/// Enough for whatever is done aside, a walk of the deepest tree too; it is address space and no memory.
const STACK: usize = 4 << 20;

/// `stat` has 52 numbers and a name, some 400 bytes; `status` some 1,500, a stack at most 64 frames.
pub(crate) const SHORT: usize = 1024;
pub(crate) const LONG: usize = 16 * 1024;

/// Which of its locks a process can keep a reader of its files waiting for.
///
/// # Kernel
///
/// `exec_update_lock` of include/linux/sched/signal.h is held from `exec_mmap()` to `setup_new_exec()`, fs/exec.c, and
/// with it the flush of each file that is closed by the exec; `namespace_sem` is in fs/namespace.c.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lock {
    /// None that is known: `status`, `cgroup`, `schedstat`, `children`.
    None,
    /// That of an exec: `stat`, `wchan`, `stack`, and links, those in `ns` too.
    Exec,
    /// That of all mounts: `mountinfo`.
    Mounts,
}

impl Lock {
    const ALL: [Self; 3] = [Self::None, Self::Exec, Self::Mounts];
}

/// The processes of a host. Copies of it know the same of who hangs.
#[derive(Debug, Clone)]
pub(crate) struct Proc(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dir: OwnedFd,
    /// Whether the numbers in there are those that this process would send signals to.
    asks_by_number: bool,
    /// The tasks whose files a thread was left behind with, and is still.
    hanging: Mutex<BTreeSet<(Lock, i32)>>,
    /// How many they are, to be asked without that lock.
    hang: AtomicUsize,
    /// How many threads were left behind, those that have returned since too.
    left: AtomicUsize,
    idle: Mutex<Idle>,
}

/// The threads that have nothing to do, and the process that they are of: a child that was forked has none of them.
#[derive(Debug, Default)]
struct Idle {
    pid: u32,
    helpers: Vec<Helper>,
}

type Job = Box<dyn FnOnce() + Send>;

/// A thread for reads, by the waiting side's end.
#[derive(Debug)]
struct Helper {
    to: Sender<Job>,
    post: Arc<Post>,
}

/// What a thread that can be left behind is at, for whoever waits for it.
#[derive(Debug, Default)]
struct Post {
    /// Its own number.
    thread: AtomicI32,
    /// What it reads, as of [`packed`]; 0 for nothing.
    at: AtomicU64,
    /// Since when, in microseconds.
    since: AtomicU64,
    /// Whether nobody waits for it any more.
    is_left: AtomicBool,
}

thread_local! {
    /// That of this thread, where it can be left behind.
    static POST: RefCell<Option<Arc<Post>>> = const { RefCell::new(None) };
}

fn post() -> Option<Arc<Post>> {
    POST.with_borrow(Option::clone)
}

fn packed(lock: Lock, tid: i32) -> u64 {
    u64::from(tid.unsigned_abs()) << 2 | (lock as u64 + 1)
}

fn unpacked(at: u64) -> Option<(Lock, i32)> {
    let lock = Lock::ALL.into_iter().find(|&lock| lock as u64 + 1 == at & 3)?;
    Some((lock, i32::try_from(at >> 2).ok()?))
}

/// Microseconds of this process's life.
fn now() -> u64 {
    static BEGIN: OnceLock<Instant> = OnceLock::new();
    u64::try_from(BEGIN.get_or_init(Instant::now).elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// What a lock guards is whole at any time: nothing panics while it is held.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// That a task's files were not read, as a thread hangs with them, or too many do with others'.
fn unanswered(tid: i32) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("task {tid} does not answer"))
}

impl Proc {
    pub(super) fn new(dir: OwnedFd, asks_by_number: bool) -> Self {
        Self(Arc::new(Inner {
            dir,
            asks_by_number,
            hanging: Mutex::default(),
            hang: AtomicUsize::new(0),
            left: AtomicUsize::new(0),
            idle: Mutex::default(),
        }))
    }

    pub(super) fn dir(&self) -> BorrowedFd<'_> {
        self.0.dir.as_fd()
    }

    /// The tasks that do not answer, whatever was asked of them.
    pub(crate) fn hanging(&self) -> BTreeSet<i32> {
        locked(&self.0.hanging).iter().map(|&(_, tid)| tid).collect()
    }

    /// Reads files of one task.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub(crate) fn one<T: Send + 'static>(
        &self,
        lock: Lock,
        tid: i32,
        read: impl Fn(Reader<'_>) -> T + Send + Sync + 'static,
    ) -> io::Result<T> {
        let this = self.clone();
        self.aside(move || match this.leaves_too_many(lock) {
            true => Err(unanswered(tid)),
            false => this.here(lock, tid, &read),
        })
    }

    /// Reads files of each task of a set, in this order, until `limit` is over: those that it was not the turn of are left
    /// out. One that does not answer is an error.
    pub(crate) fn each<T: Send + 'static>(
        &self,
        lock: Lock,
        tids: impl IntoIterator<Item = i32>,
        limit: Option<Duration>,
        read: impl Fn(Reader<'_>, i32) -> T + Send + Sync + 'static,
    ) -> Vec<(i32, io::Result<T>)> {
        let set = Arc::new(Set {
            tids: tids.into_iter().collect(),
            found: Mutex::default(),
            until: limit.map(|limit| Instant::now() + limit),
            is_over: AtomicBool::new(false),
        });
        if set.tids.is_empty() {
            return Vec::new();
        }
        let work = {
            let (this, set) = (self.clone(), Arc::clone(&set));
            Arc::new(move || this.read_set(lock, &set, &read))
        };
        // Where no thread is to be had it is done here. What came in time is in the set.
        if self.run(set.until, Arc::clone(&work)).is_none() {
            unwatched(&*work);
        }
        set.is_over.store(true, Ordering::SeqCst);
        std::mem::take(&mut *locked(&set.found))
    }

    fn read_set<T>(&self, lock: Lock, set: &Set<T>, read: &dyn Fn(Reader<'_>, i32) -> T) {
        let (mut at, mut silent) = {
            let found = locked(&set.found);
            (
                found.len(),
                found.iter().filter(|(_, result)| result.is_err()).count(),
            )
        };
        while let Some(&tid) = set.tids.get(at)
            && !self.is_left()
            && !set.is_over()
        {
            let result = match silent < MOST_OF_A_SET {
                true => self.here(lock, tid, &|reader| read(reader, tid)),
                false => Err(unanswered(tid)),
            };
            // Another thread goes on where this one was left.
            if self.is_left() {
                return;
            }
            silent += usize::from(result.is_err());
            let mut found = locked(&set.found);
            if found.len() == at {
                found.push((tid, result));
            }
            at += 1;
        }
    }

    /// Does something that reads files of processes and changes nothing, in a thread that can be left behind: where a task
    /// hangs it is done again from the beginning, without that task. Where no thread is to be had it is done here.
    pub(crate) fn aside<T: Send + 'static>(&self, work: impl Fn() -> T + Send + Sync + 'static) -> T {
        let work = Arc::new(work);
        match self.run(None, Arc::clone(&work)) {
            Some(answer) => answer,
            None => unwatched(&*work),
        }
    }

    /// Whether this thread can be left behind.
    pub(crate) fn is_aside(&self) -> bool {
        post().is_some()
    }

    /// Whether this thread was left behind: another one does what it was to do.
    pub(crate) fn is_left(&self) -> bool {
        post().is_some_and(|post| post.is_left.load(Ordering::SeqCst))
    }

    /// Does `work` in a thread that can be left behind, until a moment; `None` when that is over, and where there is no thread.
    fn run<T, W>(&self, until: Option<Instant>, work: Arc<W>) -> Option<T>
    where
        T: Send + 'static,
        W: Fn() -> T + Send + Sync + 'static,
    {
        // What hangs for a moment each time would have the whole done again without end.
        if post().is_some() && self.0.left.load(Ordering::SeqCst) < FEW {
            return Some(work());
        }
        loop {
            let helper = self.helper()?;
            let (to, from) = mpsc::channel();
            let its = Arc::clone(&work);
            let job = move || drop(to.send(its())); // nobody waits for it any more
            helper.to.send(Box::new(job)).ok()?; // it ended, which only a panic makes it do
            let mut vigil = Vigil::over(&helper.post);
            let mut pause = self.patience();
            loop {
                let left = until.map(|until| until.saturating_duration_since(Instant::now()));
                match from.recv_timeout(left.map_or(pause, |left| left.min(pause))) {
                    Ok(answer) => {
                        locked(&self.0.idle).helpers.push(helper);
                        return Some(answer);
                    }
                    Err(RecvTimeoutError::Disconnected) => return None, // it panicked
                    // It ends by itself when it has no more to do.
                    Err(RecvTimeoutError::Timeout) if left.is_some_and(|left| left <= pause) => return None,
                    Err(RecvTimeoutError::Timeout) if vigil.finds_it_stuck(self) => break,
                    Err(RecvTimeoutError::Timeout) => pause = pause.min(TICK),
                }
            }
        }
    }

    /// A thread that has nothing to do; `None` where none is to be had.
    fn helper(&self) -> Option<Helper> {
        let pid = std::process::id();
        {
            let mut idle = locked(&self.0.idle);
            if idle.pid != pid {
                *idle = Idle {
                    pid,
                    helpers: Vec::new(),
                };
            }
            if let Some(helper) = idle.helpers.pop() {
                return Some(helper);
            }
        }
        let (to, jobs) = mpsc::channel::<Job>();
        let post = start(move |post| {
            for job in jobs {
                job();
                if post.is_left.load(Ordering::SeqCst) {
                    return;
                }
            }
        });
        Some(Helper {
            to,
            post: post.ok()?, // none is to be had
        })
    }

    /// Starts a thread that can be left behind. Whoever starts it looks after it.
    ///
    /// # Errors
    ///
    /// None is to be had.
    pub(crate) fn watched(&self, work: impl FnOnce() + Send + 'static) -> io::Result<Vigil> {
        start(move |_| work()).map(|post| Vigil::over(&post))
    }

    /// Reads files of a task in this thread, which can be left behind.
    fn here<T>(&self, lock: Lock, tid: i32, read: &dyn Fn(Reader<'_>) -> T) -> io::Result<T> {
        let reader = Reader { proc: self };
        let Some(post) = post() else {
            return Ok(read(reader)); // nobody comes here from another thread
        };
        if post.at.load(Ordering::SeqCst) != 0 {
            return Ok(read(reader)); // a part of what is being read already
        }
        if self.hang() > 0 && locked(&self.0.hanging).contains(&(lock, tid)) {
            return Err(unanswered(tid));
        }
        post.since.store(now(), Ordering::SeqCst);
        post.at.store(packed(lock, tid), Ordering::SeqCst);
        let result = read(reader);
        post.at.store(0, Ordering::SeqCst);
        if post.is_left.load(Ordering::SeqCst) {
            self.forgive(lock, tid);
        }
        Ok(result)
    }

    /// How many tasks hang.
    fn hang(&self) -> usize {
        self.0.hang.load(Ordering::SeqCst)
    }

    /// Whether as many threads as may be are left behind by what needs that lock.
    fn leaves_too_many(&self, lock: Lock) -> bool {
        let of_this =
            |hanging: &BTreeSet<(Lock, i32)>| hanging.range((lock, i32::MIN)..=(lock, i32::MAX)).count();
        self.hang() >= MOST_LEFT && of_this(&locked(&self.0.hanging)) >= MOST_LEFT
    }

    /// How long the files of one task may keep a thread.
    fn patience(&self) -> Duration {
        let times = self.hang().max(FEW) / FEW;
        (PATIENCE / u32::try_from(times).unwrap_or(u32::MAX)).max(SHORTEST)
    }

    fn hold_against(&self, lock: Lock, tid: i32) {
        self.0.left.fetch_add(1, Ordering::SeqCst);
        let mut hanging = locked(&self.0.hanging);
        hanging.insert((lock, tid));
        self.0.hang.store(hanging.len(), Ordering::SeqCst);
    }

    fn forgive(&self, lock: Lock, tid: i32) {
        let mut hanging = locked(&self.0.hanging);
        hanging.remove(&(lock, tid));
        self.0.hang.store(hanging.len(), Ordering::SeqCst);
    }

    /// The state of one of this process's own threads, and its CPU time.
    fn own_thread(&self, thread: i32) -> Option<(char, u64)> {
        let stat = self.own(&format!("self/task/{thread}/stat"))?;
        Some((stat.state, stat.utime + stat.stime))
    }

    /// The `stat` of this process: it is in no exec, so that nothing keeps it from being read.
    pub(crate) fn own_stat(&self) -> Option<Stat> {
        self.own("self/stat")
    }

    fn own(&self, path: &str) -> Option<Stat> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let file = openat(self.dir(), path, flags, Mode::empty()).ok()?; // it has just ended
        parse_stat(read_open(&file, &mut [0; SHORT]).ok()??).ok() // as above
    }
}

/// Tasks whose files are read one after the other.
struct Set<T> {
    tids: Vec<i32>,
    /// What was found, in their order.
    found: Mutex<Vec<(i32, io::Result<T>)>>,
    /// Until when they are read.
    until: Option<Instant>,
    /// Whether nobody waits for more.
    is_over: AtomicBool,
}

impl<T> Set<T> {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst) || self.until.is_some_and(|until| Instant::now() >= until)
    }
}

fn start(work: impl FnOnce(&Post) + Send + 'static) -> io::Result<Arc<Post>> {
    let post = Arc::new(Post::default());
    let its = Arc::clone(&post);
    let thread = thread::Builder::new().name("look".to_owned()).stack_size(STACK);
    thread.spawn(move || {
        its.thread.store(gettid().as_raw(), Ordering::SeqCst);
        POST.set(Some(Arc::clone(&its)));
        work(&its);
    })?;
    Ok(post)
}

/// Does in this thread what is to be done in one that can be left behind.
fn unwatched<T>(work: &dyn Fn() -> T) -> T {
    let before = POST.replace(Some(Arc::default()));
    let result = work();
    POST.set(before);
    result
}

/// A look after a thread that can be left behind.
#[derive(Debug)]
pub(crate) struct Vigil {
    post: Arc<Post>,
    /// A read that took long while its thread could run: since when it is at it, and its CPU time then.
    slow: Option<(u64, u64)>,
}

impl Vigil {
    fn over(post: &Arc<Post>) -> Self {
        Self {
            post: Arc::clone(post),
            slow: None,
        }
    }

    /// Whether the thread hangs with a task's files. It is left behind then, and that task is known.
    pub(crate) fn finds_it_stuck(&mut self, proc: &Proc) -> bool {
        let at = self.post.at.load(Ordering::SeqCst);
        let since = self.post.since.load(Ordering::SeqCst);
        let Some((lock, tid)) = unpacked(at) else {
            return false; // it reads nothing
        };
        if u128::from(now().saturating_sub(since)) < proc.patience().as_micros() {
            return false;
        }
        if let Some(('R', ticks)) = proc.own_thread(self.post.thread.load(Ordering::SeqCst)) {
            let before = self.slow.filter(|(then, _)| *then == since);
            let (_, before) = *self.slow.insert(before.unwrap_or((since, ticks)));
            if ticks < before + BUSY {
                return false; // it waits for a CPU, as all do on a busy host
            }
        }
        self.post.is_left.store(true, Ordering::SeqCst);
        proc.hold_against(lock, tid);
        // It may have returned just now, and not have known that it is to say so.
        if self.post.at.load(Ordering::SeqCst) != at {
            proc.forgive(lock, tid);
        }
        true
    }
}

/// A thread that can be left behind, at /proc.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'p> {
    proc: &'p Proc,
}

impl Reader<'_> {
    /// The directory of a task; `None` if it is gone.
    ///
    /// A dead task is not looked for by its path where there is another way: the name may still be in the kernel's cache,
    /// and a look-up that finds it there waits in a busy loop until whoever collects the task has removed what is below.
    /// Among tasks that come and go as fast as they can that took up to 42 s (Linux 6.18).
    ///
    /// # Kernel
    ///
    /// `d_invalidate()`, `shrink_dcache_parent()` in fs/dcache.c, `proc_flush_pid()` in fs/proc/base.c.
    pub(crate) fn task(self, tid: i32) -> io::Result<Option<TaskDir>> {
        if self.proc.0.asks_by_number && kill(Pid::from_raw(tid), None) == Err(Errno::ESRCH) {
            return Ok(None);
        }
        // task/TID below: the `stat` of /proc/TID alone adds up all threads of its process, at each read.
        let path = format!("{tid}/task/{tid}");
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        present(openat(self.proc.dir(), path.as_str(), flags, Mode::empty())).map(|fd| fd.map(TaskDir))
    }

    /// The text of a file by its path; `None` if its process is gone.
    pub(crate) fn whole(self, path: &str) -> io::Result<Option<Vec<u8>>> {
        self.open(path)?
            .map(|fd| read_whole(&fd, None, u64::MAX))
            .transpose()
    }

    /// The text of a file that the kernel makes as one piece; `None` if its process is gone.
    pub(crate) fn piece(self, path: &str) -> io::Result<Option<Vec<u8>>> {
        self.open(path)?.map(|fd| read_piece(&fd)).transpose()
    }

    fn open(self, path: &str) -> io::Result<Option<OwnedFd>> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        present(openat(self.proc.dir(), path, flags, Mode::empty()))
    }

    /// Where a link leads; `None` if its process is gone.
    pub(crate) fn link(self, path: &str) -> io::Result<Option<PathBuf>> {
        present(readlinkat(self.proc.dir(), path)).map(|target| target.map(PathBuf::from))
    }

    /// The numbers among the names in a directory; none where it is gone.
    pub(crate) fn numbers(self, path: &str) -> io::Result<Vec<i32>> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let Some(mut listing) = present(Dir::openat(self.proc.dir(), path, flags, Mode::empty()))? else {
            return Ok(Vec::new());
        };
        let mut numbers = Vec::new();
        for entry in listing.iter() {
            match entry {
                Ok(entry) => {
                    let name = entry.file_name().to_str().ok(); // no number
                    numbers.extend(name.and_then(|name| name.parse::<i32>().ok()));
                }
                // The process ended while its tasks were listed.
                Err(Errno::ENOENT | Errno::ESRCH) => break,
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(numbers)
    }
}

/// The directory of a task, held open.
#[derive(Debug)]
pub(crate) struct TaskDir(OwnedFd);

impl TaskDir {
    /// Opens one of its files; `None` if the task is gone (`ESRCH`, `ENOENT`).
    pub(crate) fn open(&self, name: &str) -> io::Result<Option<OwnedFd>> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        present(openat(&self.0, name, flags, Mode::empty()))
    }

    /// Reads one of its files; `None` if the task is gone.
    pub(crate) fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let size = if matches!(name, "status" | "stack") {
            LONG
        } else {
            SHORT
        };
        match self.open(name)? {
            Some(file) => Ok(read_open(&file, &mut vec![0; size])?.map(<[u8]>::to_owned)),
            None => Ok(None),
        }
    }

    /// Reads one of its files that is short, into `buffer`; nothing where the task is gone or it can't be read, which is
    /// missing evidence.
    pub(crate) fn read_short<'b>(&self, name: &str, buffer: &'b mut [u8; SHORT]) -> &'b [u8] {
        let file = self.open(name).ok().flatten();
        let text = file.and_then(|file| read_open(&file, buffer).ok().flatten());
        text.unwrap_or_default()
    }
}

/// Reads an open file of a task from its start. One read returns the whole of each: these files are made anew at each
/// read from their start, and are short.
pub(crate) fn read_open<'b>(file: &OwnedFd, buffer: &'b mut [u8]) -> io::Result<Option<&'b [u8]>> {
    loop {
        match pread(file, buffer, 0) {
            Ok(count) => return Ok(Some(&buffer[..count])),
            Err(Errno::ESRCH) => return Ok(None),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// What is not there any more is nothing, and no error.
fn present<T>(result: nix::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Errno::ENOENT | Errno::ESRCH) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// More than are waited for in full.
    const MANY: i32 = 3 * FEW as i32;

    fn proc() -> Proc {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Proc::new(
            openat(nix::fcntl::AT_FDCWD, "/proc", flags, Mode::empty()).unwrap(),
            false,
        )
    }

    /// Each hangs anew whenever it is asked after the last time was over, so that they are never all known at once.
    #[test]
    fn what_hangs_for_moments_does_not_keep_a_survey_from_its_end() {
        let proc = proc();
        let (begun, its) = (Arc::new(AtomicUsize::new(0)), proc.clone());
        let counted = Arc::clone(&begun);
        let slow = |_: Reader<'_>| thread::sleep(3 * PATIENCE);
        let silent = proc.aside(move || {
            counted.fetch_add(1, Ordering::SeqCst);
            (1..=MANY)
                .filter(|&tid| its.one(Lock::Exec, tid, slow).is_err())
                .count()
        });
        // One that is well beside them is read still.
        assert_eq!(proc.one(Lock::Exec, 0, |_| 7).unwrap(), 7);
        assert!(
            silent > 0 && begun.load(Ordering::SeqCst) <= FEW + 1,
            "{silent}, {begun:?}"
        );
    }

    #[test]
    fn a_set_is_read_however_many_others_hang() {
        let proc = proc();
        for tid in 1..=i32::try_from(MOST_LEFT).unwrap() {
            proc.hold_against(Lock::Exec, tid);
        }
        assert!(proc.one(Lock::Exec, 0, |_| ()).is_err());
        let read = proc.each(Lock::Exec, [1, 0], None, |_, tid| tid);
        assert!(read[0].1.is_err());
        assert_eq!(*read[1].1.as_ref().unwrap(), 0);
    }
}
