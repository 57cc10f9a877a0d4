//! Containers by the thousand: for each its cgroups, processes that wait, and, where that is asked for, its records.

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
pub(crate) struct Crowd {
    members: Vec<Member>,
    shape: Shape,
    dirs: Vec<PathBuf>,
    feeder: Child,
    ids: Option<ChildStdin>,
    pids: BufReader<ChildStdout>,
    _janitor: Janitor,
}

impl Crowd {
    /// None of them yet, below a cgroup that is called after `kind`. Each will have so many tasks. `data` is where docker's
    /// data root lies in truth, for those that will have records.
    pub(crate) fn open(
        layout: Layout,
        program: &Path,
        kind: &str,
        tasks: u32,
        data: Option<&Path>,
    ) -> Result<Self> {
        let parent = format!("/iceaxe-{kind}-{}", std::process::id());
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
            .args(["crowd", &tasks.to_string()])
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

    /// Makes more that have records, until there are `count`.
    pub(crate) fn grow(&mut self, count: usize) -> Result<()> {
        for number in self.members.len()..count {
            let id = id(number as u64);
            self.add(&id.clone(), id)?;
            let member = &self.members[number];
            self.shape
                .write(Path::new("/"), member)
                .map_err(|error| format!("cannot write the records of container {number}: {error}"))?;
        }
        Ok(())
    }

    /// Makes one with an ID, in cgroups that are called so.
    pub(crate) fn add(&mut self, cgroup: &str, id: String) -> Result<()> {
        let number = self.members.len();
        let failed = |error: std::io::Error| format!("container {number} did not start: {error}");
        let Some(ids) = &mut self.ids else {
            return Err("the processes' parent is gone".to_owned());
        };
        ids.write_all(format!("{cgroup}\n").as_bytes()).map_err(failed)?;
        let mut line = String::new();
        self.pids.read_line(&mut line).map_err(failed)?;
        let mut words = line.split_whitespace().map(str::to_owned);
        let (Some(start), pids) = (words.next(), words.collect::<Vec<_>>()) else {
            return Err(format!("container {number} did not start: {line:?}"));
        };
        self.members.push(Member {
            id,
            name: format!("shop-worker-{number:05}"),
            pids,
            start,
        });
        Ok(())
    }

    pub(crate) fn members(&self) -> &[Member] {
        &self.members
    }

    /// Where a freeze of this one is to be written.
    pub(crate) fn freeze_point(&self, member: &Member) -> PathBuf {
        self.dirs[0].join(&member.id)
    }
}

impl Crowd {
    /// Thaws all of them: what v1 holds can't end, and would be waited for.
    fn thaw(&self) {
        let below = self.dirs.iter().filter_map(|dir| std::fs::read_dir(dir).ok());
        for cgroup in below.flatten().flatten() {
            for (file, word) in [("freezer.state", "THAWED"), ("cgroup.freeze", "0")] {
                let file = cgroup.path().join(file);
                if file.exists() {
                    let _ = std::fs::write(file, word); // it was removed meanwhile, then
                }
            }
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.thaw();
        // The end of its input tells it to end all processes, and then itself.
        drop(self.ids.take());
        if let Err(error) = self.feeder.wait() {
            eprintln!("xtask: cannot wait for the processes' parent: {error}");
        }
    }
}

/// 64 hex digits that are a number's own, in no order (splitmix64, Steele and others 2014).
pub(crate) fn id(number: u64) -> String {
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
fn removal(dirs: &[PathBuf], data: Option<&Path>) -> String {
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
         {}",
        data.map(|data| format!("rm -rf '{}'", data.display()))
            .unwrap_or_default()
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
        let script = removal(&[PathBuf::from("/c/x")], Some(Path::new("/d")));
        let at = |what: &str| script.find(what).unwrap();
        assert!(
            at("echo THAWED") < at("kill -KILL") && at("echo 0") < at("kill -KILL"),
            "{script}"
        );
        assert!(script.ends_with("rm -rf '/d'"), "{script}");
    }
}
