//! The layouts of cgroup mounts: which one this machine has, and how another one is shown to a single program, by
//! mounting it in a mount namespace of its own. The cgroups themselves stay the machine's.

use std::fmt;
use std::path::Path;
use std::process::Command;
use std::str::FromStr;
use std::time::Duration;

use kit::Hierarchy;

use crate::Result;
use crate::command::{self, limited};

/// The kernel tests that need FUSE, which the kernels of the virtual machines do not have built in.
pub(crate) const HUNG: &str = "hung::";

/// How the freezer hierarchies are mounted below /sys/fs/cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// The v1 freezer alone, at `freezer`.
    V1,
    /// The v1 freezer at `freezer` and the v2 hierarchy at `unified`.
    Hybrid,
    /// The v2 hierarchy alone, at the top.
    V2,
}

impl Layout {
    /// The filters that the runner of the kernel tests is given: the modules that the layout is for.
    pub(crate) fn filters(self) -> &'static [&'static str] {
        match self {
            Self::V1 => &["v1::", "any::"],
            Self::V2 => &["v2::", "any::"],
            Self::Hybrid => &["hybrid::"],
        }
    }

    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::V1, Self::Hybrid, Self::V2];

    /// The one this machine has, if it is one of them.
    pub(crate) fn of_machine() -> Option<Self> {
        Self::of_mounts(&std::fs::read_to_string("/proc/self/mounts").ok()?)
    }

    /// The one this machine has, or why there is none.
    pub(crate) fn found() -> Result<Self> {
        Self::of_machine()
            .ok_or_else(|| "/sys/fs/cgroup has neither of the freezers at its usual place".to_owned())
    }

    /// Those that a machine with this one can't make inside of cgroups of its own.
    pub(crate) fn lacks(self) -> Vec<Self> {
        let makes = |layout: &Self| self == Self::Hybrid || self == *layout;
        Self::ALL.into_iter().filter(|layout| !makes(layout)).collect()
    }

    /// Its hierarchies.
    pub(crate) fn hierarchies(self) -> &'static [Hierarchy] {
        match self {
            Self::V1 => &[Hierarchy::V1],
            Self::Hybrid => &[Hierarchy::V1, Hierarchy::V2],
            Self::V2 => &[Hierarchy::V2],
        }
    }

    fn of_mounts(mounts: &str) -> Option<Self> {
        let is = |dir: &str, kind: &str, option: &str| {
            mounts.lines().any(|line| {
                let fields: Vec<&str> = line.split(' ').collect();
                matches!(fields[..], [_, at, of, options, ..] if at == dir && of == kind
                    && options.split(',').any(|word| word == option))
            })
        };
        let v1 = is("/sys/fs/cgroup/freezer", "cgroup", "freezer");
        match (
            v1,
            is("/sys/fs/cgroup/unified", "cgroup2", "rw"),
            is("/sys/fs/cgroup", "cgroup2", "rw"),
        ) {
            (false, false, true) => Some(Self::V2),
            (true, true, false) => Some(Self::Hybrid),
            (true, false, false) => Some(Self::V1),
            _ => None,
        }
    }

    /// The mounts that make it, each failing command ending the shell. With v1 goes the CPU controller's hierarchy where
    /// it can be had: never taken from v2, and not where the machine has it in one hierarchy with another.
    fn script(self) -> &'static str {
        match self {
            Self::V1 => {
                "mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup
                 mkdir /sys/fs/cgroup/freezer
                 mount -t cgroup -o freezer freezer /sys/fs/cgroup/freezer
                 if grep -q '^cpu[[:space:]]*[1-9]' /proc/cgroups; then
                     mkdir /sys/fs/cgroup/cpu
                     mount -t cgroup -o cpu cpu /sys/fs/cgroup/cpu || rmdir /sys/fs/cgroup/cpu
                 fi"
            }
            Self::Hybrid => {
                "mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup
                 mkdir /sys/fs/cgroup/freezer /sys/fs/cgroup/unified
                 mount -t cgroup -o freezer freezer /sys/fs/cgroup/freezer
                 mount -t cgroup2 unified /sys/fs/cgroup/unified
                 if grep -q '^cpu[[:space:]]*[1-9]' /proc/cgroups; then
                     mkdir /sys/fs/cgroup/cpu
                     mount -t cgroup -o cpu cpu /sys/fs/cgroup/cpu || rmdir /sys/fs/cgroup/cpu
                 fi"
            }
            Self::V2 => "mount -t cgroup2 unified /sys/fs/cgroup",
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 => "v1",
            Self::Hybrid => "hybrid",
            Self::V2 => "v2",
        })
    }
}

impl FromStr for Layout {
    type Err = String;

    fn from_str(word: &str) -> Result<Self> {
        let known = Self::ALL.into_iter().find(|layout| layout.to_string() == word);
        known.ok_or_else(|| format!("no layout {word:?}: there are v1, hybrid, v2"))
    }
}

/// How a program gets to see a layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum View {
    /// The machine's own mounts are it.
    AsFound,
    /// It is mounted for that program alone.
    Made(Layout),
}

impl View {
    /// The way to `layout`, tried out, or why there is none.
    pub(crate) fn of(layout: Layout) -> Result<Self> {
        let found = Layout::of_machine();
        if found == Some(layout) {
            return Ok(Self::AsFound);
        }
        let view = Self::Made(layout);
        let here = found.map_or_else(|| "other".to_owned(), |found| found.to_string());
        match command::output(&mut view.run(Duration::from_secs(20), Path::new("true"))) {
            Ok(_) => Ok(view),
            Err(error) => Err(format!(
                "the machine's cgroup mounts are {here}, and {layout} can't be mounted: {error}"
            )),
        }
    }

    /// Whether the v1 hierarchy of the CPU controller is in it.
    pub(crate) fn has_cpu(self) -> bool {
        let mut mountpoint = self.run(Duration::from_secs(20), Path::new("mountpoint"));
        command::output(mountpoint.args(["-q", "/sys/fs/cgroup/cpu"])).is_ok()
    }

    /// `program` in this view, ended after `limit`.
    pub(crate) fn run(self, limit: Duration, program: &Path) -> Command {
        let Self::Made(layout) = self else {
            return limited(limit, program);
        };
        // Taken away and not only covered: mountinfo lists covered mounts too.
        let script = format!(
            "if mountpoint -q /sys/fs/cgroup; then umount --recursive --lazy /sys/fs/cgroup; fi
             {}
             exec \"$@\"",
            layout.script()
        );
        let mut command = limited(limit, "unshare");
        command
            .args(["--mount", "--propagation", "private", "sh", "-ec", &script, "sh"])
            .arg(program);
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_told_by_their_mounts() {
        const FREEZER: &str = "cgroup /sys/fs/cgroup/freezer cgroup rw,relatime,freezer 0 0\n";
        const UNIFIED: &str = "cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0\n";
        const TOP: &str = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,nsdelegate 0 0\n";
        for (mounts, layout) in [
            (FREEZER.to_owned(), Some(Layout::V1)),
            (FREEZER.to_owned() + UNIFIED, Some(Layout::Hybrid)),
            (TOP.to_owned(), Some(Layout::V2)),
            (TOP.to_owned() + FREEZER, None),
            ("tmpfs /sys/fs/cgroup tmpfs rw 0 0\n".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(Layout::of_mounts(&mounts), layout, "{mounts}");
        }
    }

    #[test]
    fn a_hybrid_machine_makes_every_layout_and_another_its_own() {
        assert_eq!(Layout::Hybrid.lacks(), []);
        assert_eq!(Layout::V1.lacks(), [Layout::Hybrid, Layout::V2]);
        assert_eq!(Layout::V2.lacks(), [Layout::V1, Layout::Hybrid]);
    }

    #[test]
    fn layouts_are_called_as_they_are_printed() {
        for layout in Layout::ALL {
            assert_eq!(layout.to_string().parse(), Ok(layout));
        }
        assert!("v3".parse::<Layout>().is_err());
    }
}
