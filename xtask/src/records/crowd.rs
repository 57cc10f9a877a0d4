//! Containers by the thousand: for each its cgroups, one process that waits, and its records.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::shape::{Member, Shape};
use crate::Result;
use crate::janitor::Janitor;
use crate::layout::Layout;

/// Where v1 counts memory, which a list tells of each container.
const MEMORY: &str = "/sys/fs/cgroup/memory";

/// The containers. When it is dropped, or when this program ends, their processes end and all of it is removed.
#[derive(Debug)]
pub(super) struct Crowd {
    members: Vec<Member>,
    shape: Shape,
    dirs: Vec<PathBuf>,
    feeder: Child,
    ids: Option<ChildStdin>,
    pids: BufReader<ChildStdout>,
    _janitor: Janitor,
}

impl Crowd {
    /// None of them yet. `data` is where docker's data root lies in truth.
    pub(super) fn open(layout: Layout, program: &Path, data: &Path) -> Result<Self> {
        let parent = format!("/iceaxe-records-{}", std::process::id());
        let mounts: &[&str] = match layout {
            Layout::V1 => &["/sys/fs/cgroup/freezer", MEMORY],
            Layout::Hybrid => &["/sys/fs/cgroup/freezer", "/sys/fs/cgroup/unified", MEMORY],
            Layout::V2 => &["/sys/fs/cgroup"],
        };
        let dirs: Vec<PathBuf> = mounts
            .iter()
            .filter(|mount| Path::new(mount).is_dir())
            .map(|mount| PathBuf::from(format!("{mount}{parent}")))
            .collect();
        let janitor = Janitor::hire(&removal(&dirs, data))?;
        for dir in &dirs {
            std::fs::create_dir(dir).map_err(|error| format!("cannot create {}: {error}", dir.display()))?;
        }
        let mut feeder = Command::new(program)
            .arg("crowd")
            .args(&dirs)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot run {}: {error}", program.display()))?;
        let (Some(ids), Some(pids)) = (feeder.stdin.take(), feeder.stdout.take()) else {
            return Err("no pipes to the processes' parent".to_owned());
        };
        Ok(Self {
            members: Vec::new(),
            shape: Shape::new(layout, &parent),
            dirs,
            feeder,
            ids: Some(ids),
            pids: BufReader::new(pids),
            _janitor: janitor,
        })
    }

    /// Makes more, until there are `count`.
    pub(super) fn grow(&mut self, count: usize) -> Result<()> {
        for number in self.members.len()..count {
            let id = id(number as u64);
            let failed = |error: std::io::Error| format!("container {number} did not start: {error}");
            let Some(ids) = &mut self.ids else {
                return Err("the processes' parent is gone".to_owned());
            };
            ids.write_all(format!("{id}\n").as_bytes()).map_err(failed)?;
            let mut line = String::new();
            self.pids.read_line(&mut line).map_err(failed)?;
            let (pid, start) = line
                .trim()
                .split_once(' ')
                .ok_or_else(|| format!("container {number} did not start: {line:?}"))?;
            let member = Member {
                id,
                name: format!("shop-worker-{number:05}"),
                pid: pid.to_owned(),
                start: start.to_owned(),
            };
            self.shape
                .write(Path::new("/"), &member)
                .map_err(|error| format!("cannot write the records of container {number}: {error}"))?;
            self.members.push(member);
        }
        Ok(())
    }

    pub(super) fn members(&self) -> &[Member] {
        &self.members
    }

    /// Where a freeze of this one is to be written.
    pub(super) fn freeze_point(&self, member: &Member) -> PathBuf {
        self.dirs[0].join(&member.id)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        // The end of its input tells it to end all processes, and then itself.
        drop(self.ids.take());
        if let Err(error) = self.feeder.wait() {
            eprintln!("xtask: cannot wait for the processes' parent: {error}");
        }
    }
}

/// 64 hex digits that are a number's own, in no order (splitmix64, Steele and others 2014).
fn id(number: u64) -> String {
    let mut state = number.wrapping_mul(4);
    let mut word = || {
        state = state.wrapping_add(1);
        let mut word = state.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    };
    (0..4).map(|_| format!("{:016x}", word())).collect()
}

/// The script that removes the cgroups and the data root. It thaws and kills for as long as tasks may take to die, as
/// what v1 holds can't be killed, and a freeze that was under way may still come after a thaw.
fn removal(dirs: &[PathBuf], data: &Path) -> String {
    let mut remove = String::new();
    for dir in dirs {
        let dir = dir.display();
        remove += &format!(
            "if [ -e {dir} ] && ! find {dir} -depth -type d -delete; then
                 left=1
                 find {dir} -name freezer.state | while read -r file; do echo THAWED >$file; done
                 find {dir} -name cgroup.freeze | while read -r file; do echo 0 >$file; done
                 find {dir} -name cgroup.procs -exec cat {{}} + | xargs -r kill -KILL
             fi\n"
        );
    }
    format!(
        "for try in $(seq 300); do
             left=
             {{ {remove} }} 2>/dev/null
             [ -n \"$left\" ] || break
             sleep 0.1
         done
         [ -z \"$left\" ] || echo 'cgroups are left' >&2
         rm -rf '{}'",
        data.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_full_ones_and_each_is_another() {
        let ids: std::collections::BTreeSet<String> = (0..1000).map(id).collect();
        assert_eq!(ids.len(), 1000);
        for id in &ids {
            assert!(
                id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()),
                "{id}"
            );
        }
        let words: std::collections::BTreeSet<&str> = ids
            .iter()
            .flat_map(|id| [&id[..16], &id[16..32], &id[32..48], &id[48..]])
            .collect();
        assert_eq!(words.len(), 4000, "a beginning is one ID's");
    }

    #[test]
    fn what_can_not_be_removed_is_thawed_before_it_is_killed() {
        let script = removal(&[PathBuf::from("/c/x")], Path::new("/d"));
        let at = |what: &str| script.find(what).unwrap();
        assert!(
            at("echo THAWED") < at("kill -KILL") && at("echo 0") < at("kill -KILL"),
            "{script}"
        );
        assert!(script.ends_with("rm -rf '/d'"), "{script}");
    }
}
