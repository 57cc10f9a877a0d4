//! Where a task is, told from one look at it: in a freezer's hold, in a wait of its own, on a CPU. Each kernel shows
//! it in its own way, and what a kernel does not show is [`Place::Unseen`], never a guess.

use super::sighting::Sighting;
use crate::host::{Hierarchy, Kernel};

/// `PF_FROZEN` up to Linux 6.0: in the v1 refrigerator. The bit means other things later.
const PF_FROZEN: u32 = 0x0001_0000;
/// `PF_FREEZER_SKIP` up to Linux 6.0: asleep in a way that the v1 freezer counts as frozen without touching it.
const PF_FREEZER_SKIP: u32 = 0x4000_0000;

/// Where a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// In the v2 freezer's trap: `do_freezer_trap()`, inlined into `get_signal()` on some builds.
    Trap,
    /// In the v1 freezer's `__refrigerator()`.
    Refrigerator,
    /// Asleep, and turned frozen by v1 where it slept (Linux 6.1 and later).
    InPlace,
    /// Asleep in a way that v1 counts as frozen, whether or not it is (up to Linux 6.0): nothing tells which.
    FreezableSleep,
    /// Waits for a vfork child to exec or exit; looks the same before, during and after a freeze.
    Vfork,
    /// Stopped by a signal.
    Stopped,
    /// Stopped by its tracer.
    Traced,
    /// In an uninterruptible sleep; whether of its own or of v1's making, one look can't tell.
    Uninterruptible,
    /// On a CPU, or waiting for one.
    Running,
    /// In an ordinary wait of its own.
    Asleep,
    /// A zombie, or dead.
    Dead,
    /// It waits, and this kernel does not show where.
    Unseen,
}

impl Place {
    /// Whether a freezer has it for certain.
    #[must_use]
    pub fn is_frozen(self) -> bool {
        self.frozen_by().is_some()
    }

    /// The hierarchy whose freezer has it for certain.
    #[must_use]
    pub fn frozen_by(self) -> Option<Hierarchy> {
        match self {
            Self::Trap => Some(Hierarchy::V2),
            Self::Refrigerator | Self::InPlace => Some(Hierarchy::V1),
            _ => None,
        }
    }
}

/// Says where a task is.
#[must_use]
pub fn place(sighting: &Sighting, kernel: Kernel) -> Place {
    let site = sighting.site.as_deref().map(function);
    if matches!(sighting.letter, 'Z' | 'X' | 'x') {
        return Place::Dead;
    }
    // The task clears the flag itself when it runs: one that only waits for a CPU has it still.
    if kernel.has_frozen_flag() && sighting.flags & PF_FROZEN != 0 && sighting.letter != 'R' {
        return Place::Refrigerator;
    }
    // A stopped task sleeps in get_signal() too where do_signal_stop() is inlined: its letter tells.
    match sighting.letter {
        'T' => return Place::Stopped,
        't' => return Place::Traced,
        _ => {}
    }
    match (sighting.letter, site) {
        (_, Some("get_signal" | "do_freezer_trap" | "cgroup_freezer_trap")) => Place::Trap,
        (_, Some("__refrigerator" | "refrigerator")) => Place::Refrigerator,
        ('D', Some(site)) if is_vfork(site) => Place::Vfork,
        ('D', Some(site)) if is_freezable(site) && !kernel.has_frozen_flag() => Place::InPlace,
        ('D', _) => Place::Uninterruptible,
        // Linux 6.1 to 6.12 (f5d39b020809 without f718faf3940e) show a frozen task as R; one that really can run
        // waits nowhere.
        ('R', Some(_)) if !kernel.has_frozen_flag() => Place::InPlace,
        ('R', _) => Place::Running,
        (_, _) if kernel.has_frozen_flag() && sighting.flags & PF_FREEZER_SKIP != 0 => Place::FreezableSleep,
        (_, Some(_)) => Place::Asleep,
        (_, None) => Place::Unseen,
    }
}

/// The name of a function as it is in the source: gcc calls a part of one `ptrace_stop.part.0`, and a version of one
/// `.isra.0` or `.constprop.0`.
fn function(site: &str) -> &str {
    site.split_once('.').map_or(site, |(name, _)| name)
}

/// Where vfork parents wait: `wait_for_vfork_done()`, inlined into what called it.
fn is_vfork(site: &str) -> bool {
    matches!(
        site,
        "kernel_clone"
            | "_do_fork"
            | "do_fork"
            | "wait_for_vfork_done"
            | "__do_sys_vfork"
            | "__x64_sys_vfork"
    )
}

/// The waits marked `TASK_FREEZABLE` that v1 freezes in place since Linux 6.1, by the names that their inlining
/// gives them. Others marked so end up in the refrigerator, as their wait is broken off by the freezer's signal.
fn is_freezable(site: &str) -> bool {
    site.starts_with("futex_")
        || site.starts_with("unix_stream_")
        || is_syscall_entry(site)
        || matches!(
            site,
            "hrtimer_nanosleep"
                | "hrtimer_nanosleep_restart"
                | "do_nanosleep"
                | "do_sigtimedwait"
                | "sigtimedwait"
                | "do_signal_stop"
                | "ptrace_stop"
                | "do_coredump"
                | "vfs_coredump"
        )
}

/// A sleep that shows as the system call's entry itself: one that was begun again after a signal, whose own frame is
/// gone by a tail call (seen on 6.18 for nanosleep after a v2 freeze). Uninterruptible sleeps happen further down.
fn is_syscall_entry(site: &str) -> bool {
    site.starts_with("__x64_sys_")
        || site.starts_with("__arm64_sys_")
        || matches!(
            site,
            "do_syscall_64" | "x64_sys_call" | "invoke_syscall" | "el0_svc_common" | "do_el0_svc"
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Kernel = Kernel { major: 5, minor: 10 };
    const NEW: Kernel = Kernel { major: 6, minor: 18 };

    #[track_caller]
    fn check(kernel: Kernel, letter: char, flags: u32, site: Option<&str>, expected: Place) {
        let sighting = Sighting {
            tid: 7,
            start: 1,
            letter,
            flags,
            comm: "x".to_owned(),
            site: site.map(str::to_owned),
            counters: None,
            killed: false,
        };
        assert_eq!(place(&sighting, kernel), expected);
    }

    #[test]
    fn frozen_places_are_told_from_own_waits() {
        check(NEW, 'S', 0, Some("get_signal"), Place::Trap);
        check(NEW, 'D', 0, Some("get_signal"), Place::Trap); // frozen by v2 first, then by v1
        check(NEW, 'D', 0, Some("__refrigerator"), Place::Refrigerator);
        check(NEW, 'R', 0, Some("__refrigerator"), Place::Refrigerator); // 6.1 to 6.12
        check(NEW, 'R', 0, Some("hrtimer_nanosleep"), Place::InPlace); // 6.1 to 6.12
        check(NEW, 'D', 0, Some("hrtimer_nanosleep"), Place::InPlace);
        check(NEW, 'D', 0, Some("do_signal_stop"), Place::InPlace);
        check(NEW, 'D', 0, Some("do_syscall_64"), Place::InPlace);
        check(NEW, 'D', 0, Some("__x64_sys_vfork"), Place::Vfork);
        check(NEW, 'D', 0, Some("anon_pipe_write"), Place::Uninterruptible);
        check(NEW, 'D', 0, Some("ptrace_stop.part.0"), Place::InPlace); // gcc's name for it on 6.1
        check(NEW, 'D', 0, Some("kernel_clone"), Place::Vfork);
        check(NEW, 'S', 0, Some("anon_pipe_read"), Place::Asleep);
        check(NEW, 'R', 0, None, Place::Running);
        check(NEW, 'T', 0, Some("get_signal"), Place::Stopped);
        check(NEW, 't', 0, Some("ptrace_stop"), Place::Traced);
        check(NEW, 'Z', 0, None, Place::Dead);
    }

    #[test]
    fn what_the_kernel_hides_is_unseen() {
        check(NEW, 'S', 0, None, Place::Unseen);
        check(OLD, 'S', 0, None, Place::Unseen);
    }

    #[test]
    fn the_flag_decides_up_to_6_0_and_means_nothing_later() {
        check(OLD, 'D', PF_FROZEN, None, Place::Refrigerator);
        check(OLD, 'R', PF_FROZEN, None, Place::Running); // thawed, and still to run
        check(NEW, 'S', PF_FROZEN, Some("pipe_read"), Place::Asleep);
        check(
            OLD,
            'S',
            PF_FREEZER_SKIP,
            Some("futex_wait_queue_me"),
            Place::FreezableSleep,
        );
        check(OLD, 'D', 0, Some("hrtimer_nanosleep"), Place::Uninterruptible);
    }
}
