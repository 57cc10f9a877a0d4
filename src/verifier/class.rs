//! What kind of trouble a task is in, what an uninterruptible sleep waits for, and the words for both. Decided from one look
//! and a kernel stack; no file is read here.

use serde::{Deserialize, Serialize};

use super::place::Place;
use super::sighting::Sighting;

/// Another task that has to do with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Party {
    /// Its number.
    pub pid: i32,
    /// Its name; `None` where it can't be seen from here.
    pub comm: Option<String>,
}

/// What kind of trouble a task is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// A freezer has it, and some request for that stands.
    Frozen,
    /// A freezer has it, and no request stands.
    LeftBehind,
    /// A freezer has it whose hierarchy is not mounted.
    Unmounted,
    /// It is held by the freezer of the hierarchy that was not asked.
    FrozenElsewhere,
    /// In an uninterruptible sleep.
    Uninterruptible,
    /// It faults in a page that nobody delivers, inside of a system call, over and over.
    #[serde(rename = "userfaultfd")]
    Userfault,
    /// It loops in the kernel and never gets back to its own code.
    Spinning,
    /// It waits for its vfork child.
    VforkParent,
    /// Stopped by its tracer.
    Traced,
    /// Stopped by a signal.
    Stopped,
    /// A kernel thread.
    KernelThread,
    /// Its cgroup has used up its CPU quota.
    Throttled,
    /// It could run, and others have the CPU.
    Starved,
    /// It came after the request, or comes and goes.
    Arriving,
    /// On a CPU, or waiting for one.
    Running,
    /// In an ordinary sleep.
    Sleeping,
    /// It has left its program for good, and the kernel still clears it away.
    Exiting,
    /// Dead, and not awaited by its parent.
    Zombie,
    /// It does not answer: whoever reads its files waits with it.
    Hung,
    /// The kernel does not show where it is.
    Unknown,
}

impl Class {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Frozen => "frozen",
            Self::LeftBehind => "left-behind",
            Self::Unmounted => "unmounted",
            Self::FrozenElsewhere => "frozen-elsewhere",
            Self::Uninterruptible => "uninterruptible",
            Self::Userfault => "userfaultfd",
            Self::Spinning => "spinning",
            Self::VforkParent => "vfork-parent",
            Self::Traced => "traced",
            Self::Stopped => "stopped",
            Self::KernelThread => "kernel-thread",
            Self::Throttled => "throttled",
            Self::Starved => "starved",
            Self::Arriving => "arriving",
            Self::Running => "running",
            Self::Sleeping => "sleeping",
            Self::Exiting => "exiting",
            Self::Zombie => "zombie",
            Self::Hung => "hung",
            Self::Unknown => "unknown",
        }
    }

    /// What it means, in a sentence.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Frozen => "a freezer has it, and a request for that stands",
            Self::LeftBehind => {
                "no request stands and it still sits in the freezer: the kernel forgot to wake it"
            }
            Self::Unmounted => {
                "a freezer has it whose hierarchy is not mounted here: who asks for that can't be seen from here"
            }
            Self::FrozenElsewhere => {
                "the other hierarchy's freezer has it, and a task that one freezer has can't enter the other"
            }
            Self::Uninterruptible => {
                "it waits in the kernel for something that no freeze and no signal cuts short; it was never frozen, and \
                 no thaw helps it"
            }
            Self::Userfault => {
                "a system call of it needs a page that its userfaultfd does not deliver, and any signal, a freezer's too, \
                 makes it try again for ever and eat a CPU"
            }
            Self::Spinning => {
                "it loops in the kernel, eats a CPU and does not get back to its own code, where it would freeze"
            }
            Self::VforkParent => {
                "it waits until its vfork child runs a program or ends; that looks the same frozen and thawed"
            }
            Self::Traced => {
                "its tracer has stopped it; it stays so until the tracer lets it go on, thawed or not"
            }
            Self::Stopped => {
                "a signal has stopped it (SIGSTOP, SIGTSTP); it goes on with SIGCONT, thawed or not"
            }
            Self::KernelThread => "a kernel thread: v2 never freezes one, so that its cgroup can't settle",
            Self::Throttled => {
                "its cgroup has used up its CPU quota, and it needs a CPU to get into or out of the freezer"
            }
            Self::Starved => {
                "it could run, and gets no CPU, which it needs to get into or out of the freezer"
            }
            Self::Arriving => "it came after the request; new ones keep coming, so that it does not settle",
            Self::Running => {
                "it runs in the kernel, or waits for a CPU; it freezes when it is about to leave the kernel"
            }
            Self::Sleeping => "it sleeps, and was not woken by the freezer yet",
            Self::Exiting => {
                "it is on its way out, and no signal hurries it; the first process of a PID namespace waits there until \
                 each other one of it is dead and its parent has taken note"
            }
            Self::Zombie => "it is dead, and waits for its parent to take note",
            Self::Hung => {
                "it does not answer: whoever reads its files in /proc waits with it, in most cases for the server of a file \
                 system (FUSE, NFS) on which it closes a file in an exec; nothing can be proven of it"
            }
            Self::Unknown => "this kernel does not show, or the caller may not see, where it is",
        }
    }
}

/// What an uninterruptible sleep waits for, or which freezer holds a task whose hierarchy is not mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum On {
    /// An NFS server.
    Nfs,
    /// An SMB server.
    Cifs,
    /// A FUSE file system's server.
    Fuse,
    /// A pipe that another task holds locked.
    PipeLock,
    /// A page that a userfaultfd does not deliver.
    #[serde(rename = "userfaultfd")]
    Userfault,
    /// A block device, or what is written to one.
    Disk,
    /// Another task's lock in the kernel.
    Lock,
    /// The freezer of v1.
    V1,
    /// The freezer of v2.
    V2,
}

impl On {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Nfs => "nfs",
            Self::Cifs => "cifs",
            Self::Fuse => "fuse",
            Self::PipeLock => "pipe-lock",
            Self::Userfault => "userfaultfd",
            Self::Disk => "disk",
            Self::Lock => "lock",
            Self::V1 => "v1",
            Self::V2 => "v2",
        }
    }

    /// What the task waits for, as the end of a sentence.
    #[must_use]
    pub fn what(self) -> &'static str {
        match self {
            Self::Nfs => "an NFS server's answer",
            Self::Cifs => "an SMB server's answer",
            Self::Fuse => "the answer of a FUSE file system's server",
            Self::PipeLock => "a pipe that another task holds locked",
            Self::Userfault => "a page that a userfaultfd does not deliver",
            Self::Disk => "a disk",
            Self::Lock => "a lock that another task holds in the kernel",
            Self::V1 | Self::V2 => "a freezer whose hierarchy is not mounted",
        }
    }

    /// Told by the functions of a stack, innermost first. A file system whose server is elsewhere says more than the
    /// wait for a page inside of it, and any cause more than a lock.
    #[must_use]
    pub fn of(stack: &[impl AsRef<str>]) -> Option<Self> {
        const REMOTE: [(On, &[&str]); 4] = [
            (
                On::Nfs,
                &["nfs_", "nfs3_", "nfs4_", "rpc_", "__rpc_", "xprt_", "nlmclnt_"],
            ),
            (
                On::Cifs,
                &["cifs_", "smb2_", "smb3_", "SMB2_", "wait_for_response"],
            ),
            (On::Fuse, &["request_wait_answer", "fuse_", "__fuse_"]),
            (On::Userfault, &["handle_userfault"]),
        ];
        const LOCAL: [(On, &[&str]); 2] = [
            (
                On::PipeLock,
                &["pipe_", "anon_pipe_", "fifo_", "__pipe_", "splice_"],
            ),
            (
                On::Disk,
                &[
                    "io_schedule",
                    "bit_wait_io",
                    "blk_",
                    "__blk_",
                    "blkdev_",
                    "bdev_",
                    "submit_bio_wait",
                    "bio_wait",
                    "wait_on_buffer",
                    "__wait_on_buffer",
                    "folio_wait_",
                    "wait_on_page_",
                    "__lock_page",
                    "__folio_lock",
                    "balance_dirty_pages",
                    "rq_qos_wait",
                    "wbt_wait",
                    "jbd2_",
                    "ext4_",
                    "xfs_",
                    "xlog_",
                    "btrfs_",
                    "f2fs_",
                    "md_",
                    "dm_",
                    "loop_",
                ],
            ),
        ];
        const LOCKS: [(On, &[&str]); 1] = [(
            On::Lock,
            &[
                "__mutex_lock",
                "mutex_lock",
                "rwsem_",
                "down_",
                "__down_",
                "percpu_down_",
                "__percpu_down_",
                "__rt_mutex",
            ],
        )];
        let known = |table: &[(Self, &[&str])]| {
            stack.iter().find_map(|function| {
                let begins = |prefix: &&str| function.as_ref().starts_with(prefix);
                let row = table.iter().find(|(_, prefixes)| prefixes.iter().any(begins))?;
                Some(row.0)
            })
        };
        known(&REMOTE).or_else(|| known(&LOCAL)).or_else(|| known(&LOCKS))
    }
}

/// The kind of a task, given its place and, where it was read, its stack.
pub(super) fn class(sighting: &Sighting, place: Place, stack: &[impl AsRef<str>]) -> Class {
    if sighting.is_kernel_thread() {
        return Class::KernelThread;
    }
    match place {
        Place::Trap | Place::Refrigerator | Place::InPlace => Class::Frozen,
        Place::Vfork => Class::VforkParent,
        Place::Stopped => Class::Stopped,
        Place::Traced => Class::Traced,
        Place::Uninterruptible => Class::Uninterruptible,
        // A task that runs has the stack that it last slept with: it is the retry that runs.
        Place::Running if is_in_userfault(stack) => Class::Userfault,
        Place::Running | Place::Asleep | Place::FreezableSleep | Place::Unseen if sighting.is_exiting() => {
            Class::Exiting
        }
        Place::Running => Class::Running,
        Place::Asleep if is_in_userfault(stack) => Class::Userfault,
        Place::Asleep | Place::FreezableSleep => Class::Sleeping,
        Place::Dead => Class::Zombie,
        Place::Unseen => Class::Unknown,
    }
}

/// Whether a page fault inside of a system call waits for a userfaultfd: one in user mode has no system call further
/// out, and is broken off by a freezer like any sleep.
pub(super) fn is_in_userfault(stack: &[impl AsRef<str>]) -> bool {
    let mut functions = stack.iter().map(AsRef::as_ref);
    functions.any(|function| function == "handle_userfault")
        && functions.any(|function| {
            function.contains("copy_") || function.contains("syscall") || function.contains("_user")
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Kernel;

    const NEW: Kernel = Kernel { major: 6, minor: 18 };
    const ALL: [Class; 20] = [
        Class::Frozen,
        Class::LeftBehind,
        Class::Unmounted,
        Class::FrozenElsewhere,
        Class::Uninterruptible,
        Class::Userfault,
        Class::Spinning,
        Class::VforkParent,
        Class::Traced,
        Class::Stopped,
        Class::KernelThread,
        Class::Throttled,
        Class::Starved,
        Class::Arriving,
        Class::Running,
        Class::Sleeping,
        Class::Exiting,
        Class::Zombie,
        Class::Hung,
        Class::Unknown,
    ];

    /// Stacks as kernels showed them, innermost function first.
    #[test]
    fn what_an_uninterruptible_sleep_waits_for_is_told_by_its_stack() {
        for (stack, on) in [
            // A dead NFS server: reading, looking up, and waiting for pages, on 5.10 and later.
            (
                "rpc_wait_bit_killable __rpc_execute rpc_execute rpc_run_task nfs4_call_sync_sequence \
                 _nfs4_proc_getattr nfs4_proc_getattr __nfs_revalidate_inode nfs_getattr vfs_statx",
                Some(On::Nfs),
            ),
            (
                "nfs_wait_bit_killable nfs_wait_on_request nfs_wb_all nfs_file_flush filp_close",
                Some(On::Nfs),
            ),
            (
                "folio_wait_bit_common folio_wait_writeback nfs_wb_folio nfs_release_folio",
                Some(On::Nfs),
            ),
            (
                "request_wait_answer fuse_simple_request fuse_lookup_name fuse_lookup __lookup_slow",
                Some(On::Fuse),
            ),
            (
                "anon_pipe_write vfs_write ksys_write do_syscall_64",
                Some(On::PipeLock),
            ),
            (
                "__mutex_lock pipe_write new_sync_write vfs_write",
                Some(On::PipeLock),
            ),
            (
                "io_schedule bit_wait_io __wait_on_bit out_of_line_wait_on_bit __wait_on_buffer ext4_read_bh",
                Some(On::Disk),
            ),
            (
                "jbd2_log_wait_commit jbd2_complete_transaction ext4_fsync_journal ext4_sync_file do_fsync",
                Some(On::Disk),
            ),
            ("blk_mq_freeze_queue_wait del_gendisk sd_remove", Some(On::Disk)),
            (
                "xlog_wait_on_iclog xfs_log_force_seq xfs_file_fsync",
                Some(On::Disk),
            ),
            (
                "wait_for_response compound_send_recv cifs_send_recv SMB2_open",
                Some(On::Cifs),
            ),
            ("rwsem_down_write_slowpath down_write do_unlinkat", Some(On::Lock)),
            (
                "handle_userfault do_user_addr_fault exc_page_fault",
                Some(On::Userfault),
            ),
            ("do_coredump get_signal arch_do_signal_or_restart", None),
            ("", None),
        ] {
            let frames: Vec<&str> = stack.split_whitespace().collect();
            assert_eq!(On::of(&frames), on, "{stack}");
        }
    }

    #[test]
    fn a_task_that_retries_a_page_for_ever_is_no_ordinary_busy_one() {
        let sighting = |letter: char, site: Option<&str>| Sighting {
            tid: 7,
            start: 1,
            letter,
            flags: 0,
            comm: "x".to_owned(),
            site: site.map(str::to_owned),
            counters: None,
            killed: false,
        };
        let running = sighting('R', None);
        let place = super::super::place(&running, NEW);
        let of = |stack: &str| {
            let frames: Vec<&str> = stack.split_whitespace().collect();
            class(&running, place, &frames)
        };
        // Seen on 6.18: the stack that it last slept with.
        assert_eq!(
            of(
                "handle_userfault __handle_mm_fault exc_page_fault asm_exc_page_fault _copy_to_iter anon_pipe_read"
            ),
            Class::Userfault
        );
        assert_eq!(
            of("handle_userfault __handle_mm_fault exc_page_fault asm_exc_page_fault"),
            Class::Running
        );
        assert_eq!(of(""), Class::Running);
    }

    #[test]
    fn every_class_has_its_own_word_and_meaning() {
        for class in ALL {
            assert_eq!(serde_json::to_value(class).unwrap(), class.word());
            assert!(!class.meaning().is_empty());
        }
        for on in [
            On::Nfs,
            On::Cifs,
            On::Fuse,
            On::PipeLock,
            On::Userfault,
            On::Disk,
            On::Lock,
            On::V1,
            On::V2,
        ] {
            assert_eq!(serde_json::to_value(on).unwrap(), on.word());
        }
    }
}
