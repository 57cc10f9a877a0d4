//! A cgroup in each hierarchy of the machine, with the test program's tasks in it (`tests/zoo`), and their heartbeats.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::Result;
use crate::janitor::Janitor;
use crate::layout::Layout;

/// A heartbeat's record in the file that the test program writes: the task, its beats, and two words of no use here.
const RECORD: usize = 32;

/// Cgroups with tasks. When it is dropped, or when this program ends, the tasks end and the cgroups are removed.
#[derive(Debug)]
pub(crate) struct Lab {
    name: String,
    dirs: Vec<(&'static str, PathBuf)>,
    keeper: Option<Child>,
    beats: PathBuf,
    _janitor: Janitor,
}

impl Lab {
    /// Makes the cgroups of `layout` and starts a task of each of `kinds` in them.
    pub(crate) fn open(layout: Layout, zoo: &Path, beats: &Path, kinds: &[&str]) -> Result<Self> {
        // The same in each hierarchy.
        let name = format!("iceaxe-soak-{}", std::process::id());
        let v1 = ("v1", Path::new("/sys/fs/cgroup/freezer").join(&name));
        let dirs = match layout {
            Layout::V1 => vec![v1],
            Layout::Hybrid => vec![v1, ("v2", Path::new("/sys/fs/cgroup/unified").join(&name))],
            Layout::V2 => vec![("v2", Path::new("/sys/fs/cgroup").join(&name))],
        };
        let janitor = Janitor::hire(&removal(&dirs))?;
        let mut lab = Self {
            name,
            dirs,
            keeper: None,
            beats: beats.to_owned(),
            _janitor: janitor,
        };
        for (_, dir) in &lab.dirs {
            fs::create_dir(dir).map_err(|error| format!("cannot create {}: {error}", dir.display()))?;
        }
        File::create(beats).map_err(|error| format!("cannot create {}: {error}", beats.display()))?;
        lab.start(zoo, kinds)?;
        Ok(lab)
    }

    /// The hierarchies, as iceaxe's targets name them: `v1`, `v2`.
    pub(crate) fn targets(&self) -> Vec<String> {
        self.dirs
            .iter()
            .map(|(version, _)| format!("{version}:/{}", self.name))
            .collect()
    }

    /// The heartbeats of all tasks so far, by record.
    pub(crate) fn beats(&self) -> Result<Vec<u64>> {
        let bytes = fs::read(&self.beats)
            .map_err(|error| format!("cannot read {}: {error}", self.beats.display()))?;
        Ok(beats(&bytes))
    }

    /// Writes the thaw into every cgroup, as far as it is there.
    pub(crate) fn thaw(&self) {
        for (version, dir) in &self.dirs {
            let (file, value) = request(version);
            let _ = fs::write(dir.join(file), value); // there is none, then
        }
    }

    fn start(&mut self, zoo: &Path, kinds: &[&str]) -> Result<()> {
        let mut command = Command::new(zoo);
        for (_, dir) in &self.dirs {
            command.arg("--in").arg(dir);
        }
        command.arg("--beats").arg(&self.beats).args(kinds);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut keeper = command
            .spawn()
            .map_err(|error| format!("cannot run {}: {error}", zoo.display()))?;
        let stdout = keeper.stdout.take();
        self.keeper = Some(keeper);
        // It has a time limit of its own for every kind.
        for line in stdout
            .into_iter()
            .flat_map(|stdout| BufReader::new(stdout).lines())
        {
            match line.as_deref() {
                Ok("ready") => return Ok(()),
                Ok(task) if task.starts_with("task ") => {}
                Ok(other) => return Err(format!("the tasks did not come: {other}")),
                Err(error) => return Err(format!("the tasks did not come: {error}")),
            }
        }
        Err("the tasks did not come".to_owned())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.thaw();
        if let Some(mut keeper) = self.keeper.take() {
            // The end of its input tells it to end its tasks, and then itself.
            drop(keeper.stdin.take());
            if let Err(error) = keeper.wait() {
                eprintln!("xtask: cannot wait for the tasks: {error}");
            }
        }
    }
}

/// The script that removes the cgroups. It tries for as long as tasks may take to die, and thaws everything each time: a
/// task dies in no hierarchy before it is thawed in all, and a freeze that was under way may still come after a thaw.
fn removal(dirs: &[(&str, PathBuf)]) -> String {
    let mut remove = String::new();
    for (version, dir) in dirs {
        let (file, value) = request(version);
        let dir = dir.display();
        remove += &format!("[ ! -e {dir} ] || {{ echo {value} >{dir}/{file}; rmdir {dir} || left=1; }}\n");
    }
    format!(
        "for try in $(seq 300); do
             left=
             {{ {remove} }} 2>/dev/null
             [ -n \"$left\" ] || exit 0
             sleep 0.1
         done
         echo 'cgroups are left' >&2"
    )
}

/// The file that takes the request of a hierarchy, and what thaws.
fn request(version: &str) -> (&'static str, &'static str) {
    if version == "v1" {
        ("freezer.state", "THAWED")
    } else {
        ("cgroup.freeze", "0")
    }
}

/// The second number of each record, but for the first record, which is about the file itself.
fn beats(bytes: &[u8]) -> Vec<u64> {
    let second = |record: &[u8]| {
        record
            .get(8..16)
            .and_then(|word| word.try_into().ok())
            .map(u64::from_ne_bytes)
    };
    bytes.chunks_exact(RECORD).skip(1).filter_map(second).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heartbeats_are_the_second_words_after_the_first_record() {
        let words: [u64; 12] = [0, 2, 0, 0, 41, 7, 0, 0, 42, 9, 1, 1];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        assert_eq!(beats(&bytes), [7, 9]);
    }
}
