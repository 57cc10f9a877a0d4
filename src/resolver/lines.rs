//! A process's `/proc/PID/cgroup`: one line per hierarchy, `N:CONTROLLERS:PATH`. The path is not escaped and may hold
//! colons and spaces; only the first two colons separate.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::error::{Error, Result};
use crate::host::{ENTER_CGROUP_NAMESPACE, Hierarchy, Host, Lock, Reader};

/// The lines of one process or task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lines(Vec<u8>);

impl Lines {
    /// The path in the hierarchy that has `controller`.
    pub(crate) fn controller(&self, controller: &str) -> Option<&Path> {
        self.find(|controllers| {
            controllers
                .split(|&byte| byte == b',')
                .any(|name| name == controller.as_bytes())
        })
    }

    /// The path in v2.
    pub(crate) fn unified(&self) -> Option<&Path> {
        self.0
            .split(|&byte| byte == b'\n')
            .find_map(|line| line.strip_prefix(b"0::"))
            .map(path)
    }

    /// The path in a hierarchy that freezes.
    pub(crate) fn path(&self, hierarchy: Hierarchy) -> Option<&Path> {
        match hierarchy {
            Hierarchy::V1 => self.controller("freezer"),
            Hierarchy::V2 => self.unified(),
        }
    }

    fn find(&self, fits: impl Fn(&[u8]) -> bool) -> Option<&Path> {
        self.0.split(|&byte| byte == b'\n').find_map(|line| {
            let mut parts = line.splitn(3, |&byte| byte == b':');
            let (number, controllers, rest) = (parts.next()?, parts.next()?, parts.next()?);
            (number != b"0" && fits(controllers)).then(|| path(rest))
        })
    }
}

fn path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// Reads the lines of a process; `None` if it is gone or can't be read.
pub(crate) fn cgroup_lines(host: &Host, pid: i32) -> Option<Lines> {
    read(host, pid, format!("{pid}/cgroup"))
}

/// Reads the lines of one task, which on v1 can be elsewhere than its process.
pub(crate) fn task_lines(host: &Host, tid: i32) -> Option<Lines> {
    read(host, tid, format!("{tid}/task/{tid}/cgroup"))
}

/// Reads the lines of several tasks.
pub(super) fn lines_of_tasks(host: &Host, tids: impl IntoIterator<Item = i32>) -> Vec<(i32, Option<Lines>)> {
    let read = |reader: Reader<'_>, tid| reader.piece(&format!("{tid}/task/{tid}/cgroup"));
    let all = host.proc().each(Lock::None, tids, None, read).into_iter();
    all.map(|(tid, text)| (tid, text.flatten().ok().flatten().map(Lines))) // as below
        .collect()
}

fn read(host: &Host, tid: i32, path: String) -> Option<Lines> {
    let text = host
        .proc()
        .one(Lock::None, tid, move |reader| reader.piece(&path));
    text.flatten().ok()?.map(Lines) // it does not answer, or may not be read
}

/// Reads the lines of this process itself; `None` where they can't be read.
pub(crate) fn cgroup_lines_of_self(host: &Host) -> Option<Lines> {
    host.read_proc_piece("self/cgroup").map(Lines)
}

/// Refuses a path that leads out of this process's own cgroup namespace: the missing names are not in the text, so it
/// can't be joined to any mount (`cgroup_show_path()`, kernel/cgroup/cgroup.c).
pub(crate) fn within_namespace(path: &Path) -> Result<&Path> {
    if path.starts_with("/..") {
        return Err(Error::Unsupported(format!(
            "the kernel shows its cgroup as {}, outside of the cgroup namespace that iceaxe runs in: {ENTER_CGROUP_NAMESPACE}",
            path.display()
        )));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_the_freezers_line_counts() {
        let lines = Lines(
            b"9:name=systemd:/x\n6:cpu,freezer:/a:b c\n4:memory:/m/labrrel\n0::/u (deleted)\n".to_vec(),
        );
        assert_eq!(lines.path(Hierarchy::V1), Some(Path::new("/a:b c")));
        assert_eq!(lines.path(Hierarchy::V2), Some(Path::new("/u (deleted)")));
        assert_eq!(lines.controller("memory"), Some(Path::new("/m/labrrel")));
        assert_eq!(Lines(b"5:name=freezer:/x\n".to_vec()).path(Hierarchy::V1), None);
        assert_eq!(Lines(Vec::new()).path(Hierarchy::V2), None);
    }

    #[test]
    fn a_path_out_of_the_namespace_is_refused() {
        assert!(within_namespace(Path::new("/../8d96")).is_err());
        assert!(within_namespace(Path::new("/..x")).is_ok());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let lines = Lines(text);
            let _ = (lines.path(Hierarchy::V1), lines.path(Hierarchy::V2)); // only that they return
        }
    }
}
