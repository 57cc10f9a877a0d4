//! The namespaces that a host's paths and numbers are read in, checked before anything else is, and where it is asked
//! for entered.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, openat};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::Mode;
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use super::{Hierarchy, Host};
use crate::error::{Error, Result};

/// What to do where tasks are in another PID namespace.
pub(crate) const ENTER_PID_NAMESPACE: &str =
    "run iceaxe in the host's, with nsenter --target 1 --pid --mount, or docker run --pid=host";

/// What to do where the kernel shows cgroups outside of the caller's cgroup namespace.
pub(crate) const ENTER_CGROUP_NAMESPACE: &str =
    "run iceaxe in the host's, with nsenter --target 1 --cgroup, or docker run --cgroupns=host";

impl Host {
    /// A bind mount of a host's root that leaves out what is mounted below shows an empty directory.
    pub(super) fn check_proc(&self) -> Result<()> {
        if fstatfs(self.proc.dir()).is_ok_and(|stat| stat.filesystem_type() == PROC_SUPER_MAGIC) {
            return Ok(());
        }
        Err(Error::Unsupported(format!(
            "{} is no proc file system: mount the host's root with all that is mounted below it, as docker run \
             --volume /:DIR and mount --rbind do",
            self.proc_dir.display()
        )))
    }

    /// Cgroups list their tasks by their numbers in the reader's PID namespace, and /proc has them by those of its own.
    /// Where the two differ, no task could be told from another.
    pub(super) fn check_pid_namespace(&self) -> Result<()> {
        let here = self.read_proc_link("self");
        if here.as_deref() == Some(Path::new(&std::process::id().to_string())) {
            return Ok(());
        }
        Err(Error::Unsupported(format!(
            "{} is of another PID namespace than iceaxe: {ENTER_PID_NAMESPACE}",
            self.proc_dir.display()
        )))
    }

    /// A process's start time, with its number who it is, is shown by the reader's clock. What a runtime has on record
    /// was read by that of its host.
    ///
    /// # Kernel
    ///
    /// `do_task_stat()`, fs/proc/array.c, adds the reader's offset (`timens_add_boottime_ns()`), since Linux 5.5.
    /// `timens_offsets` is everybody's to read; the links in `ns` are not.
    pub(super) fn check_time_namespace(&self) -> Result<()> {
        let here = self
            .read_proc("self/timens_offsets")
            .and_then(|text| boot_offset(&text));
        let there = self
            .read_proc("1/timens_offsets")
            .and_then(|text| boot_offset(&text));
        match (here, there) {
            (Some(here), Some(there)) if here != there => Err(Error::Unsupported(format!(
                "iceaxe is in another time namespace than the first process of {}: processes could not be told by \
                 when they started: run iceaxe in the host's, with nsenter --target 1 --time",
                self.proc_dir.display()
            ))),
            _ => Ok(()), // a kernel without them has one clock
        }
    }

    /// Moves this thread to where the host's paths can be read, if it is not there; says whether it had to.
    pub(super) fn enter_cgroup_namespace(&self) -> Result<bool> {
        let Some(shown) = self.shown_outside() else {
            return Ok(false);
        };
        let first = self.proc_dir.join("1/ns/cgroup");
        let mut refused = None;
        // A first process that is closed to the caller, by a capability that it has more or by a security module, need
        // not be asked: the second of the first PID namespace is the kernel's own, and is in no other namespace.
        for pid in if self.sees_every_task() {
            &["1", "2"][..]
        } else {
            &["1"]
        } {
            match self.enter_cgroup_namespace_of(pid) {
                Ok(()) if self.shown_outside().is_none() => return Ok(true),
                Ok(()) => {}
                Err(errno) => drop(refused.get_or_insert(errno)),
            }
        }
        let why = refused.map_or_else(
            || format!("{} shows no more", first.display()),
            |errno| format!("{} can't be entered: {}", first.display(), errno.desc()),
        );
        Err(Error::Unsupported(format!(
            "the kernel shows the host's cgroups as {}, outside of the cgroup namespace that iceaxe runs in, and {why}: \
             give iceaxe the capabilities for that, as docker run --privileged does, or {ENTER_CGROUP_NAMESPACE}",
            shown.display()
        )))
    }

    pub(super) fn enter_cgroup_namespace_of(&self, pid: &str) -> nix::Result<()> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let namespace = openat(
            self.proc.dir(),
            format!("{pid}/ns/cgroup").as_str(),
            flags,
            Mode::empty(),
        )?;
        setns(namespace, CloneFlags::CLONE_NEWCGROUP)
    }

    /// The path of this process's or of the first one's cgroup in a hierarchy that freezes, if it leads out of this
    /// thread's cgroup namespace.
    pub(super) fn shown_outside(&self) -> Option<PathBuf> {
        ["self", "1"].into_iter().find_map(|pid| {
            let lines = self.read_proc(&format!("{pid}/cgroup"))?; // it may not be read: nothing is shown
            let outside = freezing_lines(&lines).find(|(_, path)| path.starts_with("/.."));
            outside.map(|(_, path)| path.to_owned())
        })
    }

    /// Whether every task of this kernel has a number here: in the first PID namespace, whose inode the kernel fixes
    /// (`PROC_PID_INIT_INO`, include/linux/proc_ns.h).
    pub(crate) fn sees_every_task(&self) -> bool {
        let first = Path::new("pid:[4026531836]");
        let is_first = || self.read_proc_link("self/ns/pid").as_deref() == Some(first);
        !self.genuine || *self.every_task.get_or_init(is_first)
    }
}

/// The lines of a `/proc/PID/cgroup` that are of hierarchies that freeze, with their paths.
pub(super) fn freezing_lines(text: &[u8]) -> impl Iterator<Item = (Hierarchy, &Path)> {
    text.split(|&byte| byte == b'\n').filter_map(|line| {
        let mut fields = line.splitn(3, |&byte| byte == b':');
        let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let hierarchy = if number == b"0" {
            Hierarchy::V2
        } else if controllers
            .split(|&byte| byte == b',')
            .any(|name| name == b"freezer")
        {
            Hierarchy::V1
        } else {
            return None;
        };
        Some((hierarchy, Path::new(OsStr::from_bytes(path))))
    })
}

/// The seconds and nanoseconds of `boottime` in a `/proc/PID/timens_offsets`.
fn boot_offset(text: &[u8]) -> Option<Vec<Vec<u8>>> {
    let line = text
        .split(|&byte| byte == b'\n')
        .find_map(|line| line.strip_prefix(b"boottime"))?;
    let words = line
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty());
    Some(words.map(<[u8]>::to_vec).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_of_hierarchies_that_freeze_count() {
        let text = b"9:name=freezer:/x\n6:cpu,freezer:/a:b c\n4:memory:/../m\n0::/../u (deleted)\n";
        let lines: Vec<_> = freezing_lines(text).collect();
        assert_eq!(
            lines,
            [
                (Hierarchy::V1, Path::new("/a:b c")),
                (Hierarchy::V2, Path::new("/../u (deleted)"))
            ]
        );
    }

    #[test]
    fn the_offset_of_boot_time_is_read_whatever_its_spaces() {
        let text = b"monotonic           7         0\nboottime        86400       250\n";
        assert_eq!(boot_offset(text), Some(vec![b"86400".to_vec(), b"250".to_vec()]));
        assert_eq!(boot_offset(b"boottime 86400 250"), boot_offset(text));
        assert_ne!(boot_offset(b"boottime 86400 0"), boot_offset(text));
        assert_eq!(boot_offset(b""), None);
    }
}
