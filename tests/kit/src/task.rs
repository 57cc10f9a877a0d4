//! Tasks as /proc shows them, read plainly.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::eventually;

fn fields(pid: i32) -> Option<Vec<String>> {
    let text = fs::read(format!("/proc/{pid}/task/{pid}/stat")).ok()?;
    let text = String::from_utf8_lossy(&text);
    let after = text.rsplit_once(") ")?.1;
    Some(after.split(' ').map(str::to_owned).collect())
}

/// The state letter; `None` if it is gone.
pub fn letter(tid: i32) -> Option<char> {
    fields(tid)?.first()?.chars().next()
}

/// Whether it has ended, collected by its parent or not.
pub fn is_gone(tid: i32) -> bool {
    matches!(letter(tid), None | Some('Z' | 'X'))
}

/// Where it waits in the kernel, as far as this kernel tells; for messages only.
pub fn wchan(tid: i32) -> String {
    fs::read_to_string(format!("/proc/{tid}/task/{tid}/wchan")).unwrap_or_default()
}

/// By `status`, which a process that hangs in an exec shows too.
pub fn parent_of(pid: i32) -> Option<i32> {
    let text = fs::read(format!("/proc/{pid}/status")).ok()?;
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    line.trim().parse().ok()
}

/// Stops a process while it pauses in a `ppoll`. Anywhere else it could be half-way through a look at the tasks, with a
/// file open of one that ends meanwhile.
#[track_caller]
pub fn stop_in_its_pause(pid: i32) {
    let send = |signal| kill(Pid::from_raw(pid), signal).unwrap();
    eventually("it is stopped while it pauses", || {
        send(Signal::SIGSTOP);
        eventually("it is stopped", || letter(pid) == Some('T'));
        let call = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap();
        let pauses = call.split(' ').next() == Some(libc::SYS_ppoll.to_string().as_str());
        if !pauses {
            send(Signal::SIGCONT);
        }
        pauses
    });
}

/// How often it was put on a CPU.
pub fn timeslices(tid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{tid}/task/{tid}/schedstat")).unwrap();
    text.split_whitespace().nth(2).unwrap().parse().unwrap()
}

/// The signals that wait for it, as a mask: of the task and of its process.
pub fn pending_signals(tid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{tid}/status")).unwrap();
    let mask = |field: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    };
    mask("SigPnd:") | mask("ShdPnd:")
}

/// A kernel thread that may be moved between cgroups and has nothing to do. It must never be frozen all the same.
#[track_caller]
pub fn find_kernel_thread() -> i32 {
    let pids = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let is_harmless = |pid: &i32| {
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        // Flags, the ninth field of stat: PF_KTHREAD, and not PF_NO_SETAFFINITY, which forbids the move.
        let flags: u32 = fields(*pid)
            .and_then(|fields| fields.get(6)?.parse().ok())
            .unwrap_or(0);
        comm.trim() == "oom_reaper" && flags & 0x0020_0000 != 0 && flags & 0x0400_0000 == 0
    };
    pids.into_iter()
        .find(is_harmless)
        .expect("the kernel has an oom_reaper")
}
