//! What one look at a task showed: plain values, read by a [`super::Witness`].

use crate::host::PF_EXITING;

/// `PF_KTHREAD` of include/linux/sched.h: a kernel thread. v2 never freezes one.
pub(super) const PF_KTHREAD: u32 = 0x0020_0000;

/// What grows whenever a task gets a CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Nanoseconds on a CPU (`/proc/TID/schedstat`, first field); 0 where the kernel does not count.
    pub on_cpu_ns: u64,
    /// Times it was put on a CPU (third field); where the kernel does not count them, context switches.
    pub timeslices: u64,
}

impl Counters {
    /// How often it was put on a CPU since `earlier`; at least 1 where it only went on running. Counts that have shrunk are
    /// another thread's, which took the number and the start time of its process's first one by an exec
    /// (`de_thread()`, fs/exec.c): it was on a CPU to do so, and how often can't be told.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        if self.timeslices < earlier.timeslices || self.on_cpu_ns < earlier.on_cpu_ns {
            return u64::MAX;
        }
        let slices = self.timeslices - earlier.timeslices;
        slices.max(u64::from(self.on_cpu_ns > earlier.on_cpu_ns))
    }
}

/// What one look at a task showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// The task.
    pub tid: i32,
    /// When it started, in clock ticks since boot: with the TID, who it is.
    pub start: u64,
    /// The state letter.
    pub letter: char,
    /// The kernel's `PF_` flags.
    pub flags: u32,
    /// Its name, which the task itself chooses.
    pub comm: String,
    /// Where it waits in the kernel: `wchan`, or the top frame of its stack where this kernel has no wchan. `None`
    /// where the kernel shows neither, or where the task does not wait.
    pub site: Option<String>,
    /// `None` where the kernel has none.
    pub counters: Option<Counters>,
    /// Whether a signal waits that ends it: the kernel turns any such signal into SIGKILL for each thread
    /// (`complete_signal()`, kernel/signal.c), but for those that dump core.
    pub killed: bool,
}

impl Sighting {
    /// Whether it is a kernel thread.
    #[must_use]
    pub fn is_kernel_thread(&self) -> bool {
        self.flags & PF_KTHREAD != 0
    }

    /// Whether it is ending, or dead: it never gets back to its program. Its cgroup lists it no more when it is about to
    /// be dead (`cgroup_exit()`, kernel/cgroup/cgroup.c, since Linux 5.2), and the first process of a PID namespace
    /// waits after that for all others of it to be buried (`zap_pid_ns_processes()`, kernel/pid_namespace.c).
    #[must_use]
    pub fn is_exiting(&self) -> bool {
        self.flags & PF_EXITING != 0
    }
}
