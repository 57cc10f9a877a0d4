//! The system calls that have no safe form, each behind a function that can't be misused within this program.
#![expect(
    unsafe_code,
    reason = "fork, mmap, futex, ptrace, clone and userfaultfd have no safe form"
)]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{ForkResult, Pid};

/// Where one task writes what it does. Shared with whoever maps or reads the file: four words of 8 bytes.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Slot {
    /// The task; 0 until it is there.
    pub(crate) tid: AtomicU64,
    /// Grows while the task runs. The task counts in memory of its own and only copies the count here.
    pub(crate) beats: AtomicU64,
    /// What a task of that kind has to say besides: a child's PID, signals caught.
    pub(crate) word: AtomicU64,
    /// What it waits on: 0 until it is poked.
    pub(crate) futex: AtomicU32,
    reserved: u32,
}

/// A type of which any bytes are a value, and which any number of processes may write at once.
trait Shared {}
impl Shared for Slot {}
impl Shared for Pulse {}

fn map<T: Shared>(file: Option<&File>, count: usize) -> io::Result<&'static [T]> {
    let len = count * size_of::<T>();
    let (flags, fd) = match file {
        Some(file) => {
            file.set_len(len as u64)?;
            (libc::MAP_SHARED, file.as_raw_fd())
        }
        None => (libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1),
    };
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping at a place of the kernel's choice touches no memory that is in use.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), len, prot, flags, fd, 0) };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the mapping is `len` long, zeroed or a file of that length, never unmapped, and what is `Shared` has only
    // atomics, for which every bit pattern is valid.
    Ok(unsafe { std::slice::from_raw_parts(at.cast(), count) })
}

/// When a task was born and when it beat last, in the slot of its own number: as long as it is there nobody else has
/// that number, so that tasks may come and go at any rate and need no lock. Four words of 8 bytes, times in microseconds
/// of CLOCK_MONOTONIC.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Pulse {
    born: AtomicU64,
    last: AtomicU64,
    beats: AtomicU64,
    reserved: AtomicU64,
}

static PULSES: OnceLock<&'static [Pulse]> = OnceLock::new();

/// Has every task of this program write its pulse to `file` from now on.
pub(crate) fn take_pulses(file: &File, highest_pid: usize) -> io::Result<()> {
    let pulses = map(Some(file), highest_pid + 1)?;
    PULSES
        .set(pulses)
        .map_err(|_| io::Error::other("there is a file of pulses already"))
}

/// Whether pulses are written.
pub(crate) fn takes_pulses() -> bool {
    PULSES.get().is_some()
}

/// The number of the caller.
pub(crate) fn own_tid() -> u64 {
    u64::from(nix::unistd::gettid().as_raw().unsigned_abs())
}

fn pulse_of(tid: u64) -> Option<&'static Pulse> {
    PULSES.get()?.get(usize::try_from(tid).ok()?)
}

/// Takes over the pulse of the caller's number from whoever had it before.
pub(crate) fn be_born() {
    if let Some(pulse) = pulse_of(own_tid()) {
        pulse.beats.store(0, Ordering::SeqCst);
        pulse.last.store(0, Ordering::SeqCst);
        pulse.born.store(monotonic_us(), Ordering::SeqCst);
    }
}

/// One beat of the caller, whose number is `tid`.
pub(crate) fn beat(tid: u64) {
    if let Some(pulse) = pulse_of(tid) {
        pulse.last.store(monotonic_us(), Ordering::SeqCst);
        pulse.beats.fetch_add(1, Ordering::SeqCst);
    }
}

/// How often a task has beaten; always 0 where no pulses are taken.
pub(crate) fn beats_of(tid: u64) -> u64 {
    pulse_of(tid).map_or(0, |pulse| pulse.beats.load(Ordering::SeqCst))
}

fn monotonic_us() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).ok(); // it always exists on Linux
    now.and_then(|now| u64::try_from(now.tv_sec() * 1_000_000 + now.tv_nsec() / 1000).ok())
        .unwrap_or(0)
}

/// Slots in a heartbeat file; the first counts those that are taken.
const SLOTS: usize = 1024;

/// The heartbeat file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Beats(&'static [Slot]);

impl Beats {
    /// Maps `file`, or memory that only this program and its children see.
    pub(crate) fn map(file: Option<&File>) -> io::Result<Self> {
        map(file, SLOTS).map(Self)
    }

    /// How many slots are taken.
    pub(crate) fn taken(self) -> usize {
        usize::try_from(self.0[0].beats.load(Ordering::SeqCst)).unwrap_or(usize::MAX)
    }

    /// The slot number `index`, from 1.
    pub(crate) fn slot(self, index: usize) -> &'static Slot {
        &self.0[index.min(SLOTS - 1)]
    }

    /// Takes the next slot for the calling task.
    pub(crate) fn take(self) -> &'static Slot {
        let index = self.0[0].beats.fetch_add(1, Ordering::SeqCst) + 1;
        let slot = self.slot(usize::try_from(index).unwrap_or(SLOTS - 1));
        be_born();
        slot.tid.store(own_tid(), Ordering::SeqCst);
        slot
    }
}

/// Forks; `None` in the child.
pub(crate) fn fork() -> nix::Result<Option<Pid>> {
    // SAFETY: the child may do anything where the parent has one thread, and glibc's allocator, the only lock that the
    // keeper's second thread could hold, is usable after fork in any case.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Some(child)),
        ForkResult::Child => Ok(None),
    }
}

/// Forks as vfork does to the parent: it waits, in the kernel, until the child is gone. The child has memory of its own.
pub(crate) fn vfork() -> io::Result<Option<Pid>> {
    let flags = libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: without CLONE_VM and without a stack this is fork, with the same conditions as above.
    match unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        pid => Ok(i32::try_from(pid).ok().map(Pid::from_raw)),
    }
}

/// Forks a child with this PID, which nobody may have; `None` in the child.
pub(crate) fn fork_as(pid: i32) -> io::Result<Option<Pid>> {
    // The fields of `struct clone_args` up to `set_tid_size`: the signal at its end is the fifth, the PIDs are the ninth.
    let mut args = [0_u64; 10];
    args[4] = libc::SIGCHLD as u64;
    args[8] = (&raw const pid) as u64;
    args[9] = 1;
    // SAFETY: without CLONE_VM and without a stack this is fork, with the same conditions as above; the kernel reads the
    // arguments and the one PID, which live during the call.
    match unsafe { libc::syscall(libc::SYS_clone3, args.as_ptr(), size_of_val(&args)) } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        pid => Ok(i32::try_from(pid).ok().map(Pid::from_raw)),
    }
}

/// Ends the calling thread alone, though it be the first of its process.
pub(crate) fn exit_thread() -> ! {
    loop {
        // SAFETY: nothing of this thread's is used any more: its stack stays mapped.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    }
}

/// Ends the process without running anything of it, as is proper in a forked child.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: it does not return and touches no memory.
    unsafe { libc::_exit(code) }
}

/// Waits while `futex` is 0, in a process that need not be the waker's.
pub(crate) fn futex_wait(futex: &AtomicU32) {
    let none = std::ptr::null::<libc::timespec>();
    // SAFETY: the address is valid for the whole run of the program; the kernel only reads it.
    unsafe { libc::syscall(libc::SYS_futex, futex.as_ptr(), libc::FUTEX_WAIT, 0, none) };
}

/// Wakes who waits on `futex`.
pub(crate) fn futex_wake(futex: &AtomicU32) {
    futex.store(1, Ordering::SeqCst);
    // SAFETY: the address is valid for the whole run of the program; the kernel does not write it.
    unsafe { libc::syscall(libc::SYS_futex, futex.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
}

/// Makes the caller's process a tracee of its parent.
pub(crate) fn trace_me() -> io::Result<()> {
    ptrace(libc::PTRACE_TRACEME, 0, 0)
}

/// Becomes the tracer of `pid` and stops it.
pub(crate) fn seize(pid: Pid) -> io::Result<()> {
    ptrace(libc::PTRACE_SEIZE, pid.as_raw(), 0)?;
    ptrace(libc::PTRACE_INTERRUPT, pid.as_raw(), 0)
}

/// Lets a tracee go.
pub(crate) fn detach(pid: Pid) -> io::Result<()> {
    ptrace(libc::PTRACE_DETACH, pid.as_raw(), 0)
}

/// Asks what stopped a tracee, which works only while it is stopped.
pub(crate) fn siginfo(pid: Pid) -> io::Result<()> {
    let mut info = [0_u8; size_of::<libc::siginfo_t>()];
    ptrace(libc::PTRACE_GETSIGINFO, pid.as_raw(), info.as_mut_ptr() as usize)
}

fn ptrace(request: libc::c_uint, pid: i32, data: usize) -> io::Result<()> {
    // SAFETY: the only request with an address is GETSIGINFO, whose buffer is as long as the kernel writes.
    match unsafe { libc::ptrace(request, pid, 0_usize, data) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Has a signal ignored, also by what the caller becomes.
pub(crate) fn ignore(which: Signal) -> io::Result<()> {
    // SAFETY: to ignore is no handler of ours.
    unsafe { signal(which, SigHandler::SigIgn) }?;
    Ok(())
}

/// Capabilities of include/uapi/linux/capability.h.
pub(crate) const CAP_DAC_OVERRIDE: libc::c_ulong = 1;
pub(crate) const CAP_DAC_READ_SEARCH: libc::c_ulong = 2;
pub(crate) const CAP_SYS_RESOURCE: libc::c_ulong = 24;

/// Gives up capabilities, from the next program on.
pub(crate) fn give_up(all: &[libc::c_ulong]) -> io::Result<()> {
    for &capability in all {
        // SAFETY: the call has no pointers.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } == -1 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

static CAUGHT: AtomicU64 = AtomicU64::new(0);

extern "C" fn count(_: i32) {
    CAUGHT.fetch_add(1, Ordering::SeqCst);
}

/// Counts `caught` from now on.
pub(crate) fn count_signal(caught: Signal) -> nix::Result<()> {
    // SAFETY: the handler only adds to an atomic, which is safe in a signal handler.
    unsafe { signal(caught, SigHandler::Handler(count)) }.map(drop)
}

/// How many signals were counted.
pub(crate) fn caught() -> u64 {
    CAUGHT.load(Ordering::SeqCst)
}

/// Gives the caller a real-time class above every ordinary task.
pub(crate) fn become_fifo() -> io::Result<()> {
    let param = libc::sched_param { sched_priority: 10 };
    // SAFETY: the parameter lives during the call.
    match unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const param) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// An epoll instance that watches `fd` for input.
pub(crate) fn epoll_of(fd: &OwnedFd) -> io::Result<OwnedFd> {
    // SAFETY: the call has no pointers.
    let epoll = match unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) } {
        -1 => return Err(io::Error::last_os_error()),
        // SAFETY: a new descriptor that nobody else owns.
        epoll => unsafe { OwnedFd::from_raw_fd(epoll) },
    };
    let mut event = libc::epoll_event {
        events: libc::EPOLLIN as u32,
        u64: 0,
    };
    // SAFETY: the event lives during the call.
    match unsafe {
        libc::epoll_ctl(
            epoll.as_raw_fd(),
            libc::EPOLL_CTL_ADD,
            fd.as_raw_fd(),
            &raw mut event,
        )
    } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(epoll),
    }
}

/// Waits for an event; says whether there is one. A freeze breaks this wait off with EINTR, which is peculiar to it.
pub(crate) fn epoll_wait(epoll: &OwnedFd) -> io::Result<bool> {
    let mut event = libc::epoll_event { events: 0, u64: 0 };
    // SAFETY: there is room for the one event that is asked for.
    match unsafe { libc::epoll_wait(epoll.as_raw_fd(), &raw mut event, 1, -1) } {
        -1 => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => Ok(false),
            error => Err(error),
        },
        events => Ok(events == 1),
    }
}

/// The first ioctl of include/uapi/linux/userfaultfd.h and its version.
const UFFDIO_API: u64 = 0xc018_aa3f;
const UFFD_API: u64 = 0xaa;
const UFFDIO_REGISTER: u64 = 0xc020_aa00;
const UFFDIO_ZEROPAGE: u64 = 0xc020_aa04;
const MODE_MISSING: u64 = 1;
const PAGE: usize = 4096;

/// A page of memory that nobody can touch before it is released: whoever does sleeps in the fault. A read of a pipe into
/// it sleeps there with the pipe's lock held, and whoever writes to the pipe waits for the lock uninterruptibly.
#[derive(Debug)]
pub(crate) struct Trap {
    fd: OwnedFd,
    at: usize,
    /// Kept open, or the writer would be told that nobody reads.
    from: OwnedFd,
}

impl Trap {
    /// A trap for a read of `from`.
    pub(crate) fn set(from: OwnedFd) -> io::Result<Self> {
        // SAFETY: the call has no pointers.
        let fd = match unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) } {
            -1 => return Err(io::Error::last_os_error()),
            // SAFETY: a new descriptor that nobody else owns.
            fd => unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).unwrap_or(-1)) },
        };
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping at a place of the kernel's choice touches no memory that is in use.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), PAGE, prot, flags, -1, 0) };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let trap = Self {
            fd,
            at: at as usize,
            from,
        };
        trap.ioctl(UFFDIO_API, [UFFD_API, 0, 0, 0])?;
        trap.ioctl(UFFDIO_REGISTER, [trap.at as u64, PAGE as u64, MODE_MISSING, 0])?;
        Ok(trap)
    }

    /// Reads a byte of the pipe into the page: does not come back before the page is released.
    pub(crate) fn sink(&self) {
        read_at(self.at, &self.from);
    }

    /// The same in a thread of its own.
    pub(crate) fn spring(&self) -> io::Result<()> {
        let (at, from) = (self.at, self.from.try_clone()?);
        std::thread::spawn(move || {
            // Or it would be told of a child's end and not the one who asks for it.
            let blocked = SigSet::all().thread_block();
            blocked.map(|()| read_at(at, &from))
        });
        Ok(())
    }

    /// Lets everybody go who sleeps in the page's fault.
    pub(crate) fn release(&self) -> io::Result<()> {
        self.ioctl(UFFDIO_ZEROPAGE, [self.at as u64, PAGE as u64, 0, 0])
    }

    fn ioctl(&self, request: u64, mut words: [u64; 4]) -> io::Result<()> {
        // SAFETY: the longest of the three structures is four words.
        match unsafe { libc::ioctl(self.fd.as_raw_fd(), request as libc::Ioctl, words.as_mut_ptr()) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }
}

fn read_at(at: usize, from: &OwnedFd) {
    // SAFETY: only a trap's page comes here, which is mapped for the whole run of the program and used by nobody else.
    unsafe { libc::read(from.as_raw_fd(), at as *mut libc::c_void, 1) };
}
