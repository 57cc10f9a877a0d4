//! Cgroups with the zoo's tasks in them, by the tests' kit: what is done to them and seen of them does not go by iceaxe.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::ops::Deref;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use kit::{Cgroup, Hierarchy, Scene, Zoo, memory_file};

use crate::Result;
use crate::janitor::Janitor;
use crate::verdict::Pulse;

/// A pulse in the file that the zoo writes: born, last beat, beats, and a word of no use; the task's number says which
/// record is its own.
const RECORD: u64 = 32;
/// How long tasks may take to beat again: very many share few CPUs.
pub(crate) const AWAKE: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(1);

/// One cgroup with tasks. When it is dropped, or when this program ends, the tasks end and it is removed.
#[derive(Debug)]
pub(crate) struct Workload {
    cgroup: Cgroup,
    zoo: Zoo,
    kinds: usize,
    _scene: Scene,
    _janitor: Janitor,
}

impl Workload {
    /// Makes it and starts a task of each of `kinds` in it.
    pub(crate) fn open(hierarchy: Hierarchy, zoo: &Path, kinds: &[&str]) -> Result<Self> {
        let scene = Scene::with_zoo(zoo);
        let cgroup = scene.cgroup(hierarchy);
        let janitor = Janitor::hire(&removal(std::slice::from_ref(&cgroup)))?;
        Ok(Self {
            zoo: scene.zoo(&[&cgroup], kinds),
            kinds: kinds.len(),
            cgroup,
            _scene: scene,
            _janitor: janitor,
        })
    }

    /// What the names of all records of it begin with.
    pub(crate) fn records(&self) -> Result<String> {
        let dir = &self.cgroup.dir;
        let of = fs::metadata(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        Ok(format!("{:x}-{:x}.", of.dev(), of.ino()))
    }

    /// Waits until each task has beaten again.
    pub(crate) fn goes_on(&self) -> Result<()> {
        let before = self.all_beats();
        let start = Instant::now();
        while self
            .all_beats()
            .iter()
            .zip(&before)
            .any(|(now, then)| now == then)
        {
            if start.elapsed() > AWAKE {
                return Err(format!(
                    "the tasks of {} do not run again",
                    self.target().display()
                ));
            }
            thread::sleep(SHORT);
        }
        Ok(())
    }

    fn all_beats(&self) -> Vec<u64> {
        let of = |kind| (0..self.zoo.tids(kind).len()).map(move |nth| self.zoo.beats_of(kind, nth));
        (0..self.kinds).flat_map(of).collect()
    }
}

impl Deref for Workload {
    type Target = Cgroup;

    fn deref(&self) -> &Cgroup {
        &self.cgroup
    }
}

/// A cgroup in each hierarchy of the machine with the same tasks in all, visitors from outside, and the pulse of each
/// task. When it is dropped, or when this program ends, the tasks end and the cgroups are removed.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) cgroups: Vec<Cgroup>,
    pulses: File,
    visitors: Child,
    _scene: Scene,
    _janitor: Janitor,
}

impl Bench {
    /// Makes the cgroups, starts a task of each of `kinds` in all of them, and sends visitors.
    pub(crate) fn open(hierarchies: &[Hierarchy], zoo: &Path, kinds: &[&str]) -> Result<Self> {
        let scene = Scene::with_zoo(zoo);
        let mut cgroups = vec![scene.cgroup(hierarchies[0])];
        for hierarchy in &hierarchies[1..] {
            cgroups.push(scene.cgroup_called(*hierarchy, &cgroups[0]));
        }
        let janitor = Janitor::hire(&removal(&cgroups))?;
        let file = memory_file();
        let cannot = |error| format!("cannot use {}: {error}", file.path().display());
        let pulses = file.reopen().map_err(cannot)?;
        let path = file.path().to_string_lossy();
        scene.zoo_with(&cgroups.iter().collect::<Vec<_>>(), &["--pulses", &path], kinds);
        let mut visitors = Command::new(zoo);
        for cgroup in &cgroups {
            visitors.arg("--in").arg(&cgroup.dir);
        }
        visitors.args(["--pulses", &path, "visit"]);
        let visitors = visitors.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let visitors = visitors.map_err(|error| format!("cannot run {}: {error}", zoo.display()))?;
        Ok(Self {
            cgroups,
            pulses,
            visitors,
            _scene: scene,
            _janitor: janitor,
        })
    }

    /// Who is in any of the cgroups now.
    pub(crate) fn tids(&self) -> BTreeSet<i32> {
        self.cgroups.iter().flat_map(Cgroup::tids).collect()
    }

    /// The pulse of a task.
    pub(crate) fn pulse(&self, tid: i32) -> Result<Pulse> {
        let mut record = [0; 24];
        self.pulses
            .read_exact_at(&mut record, u64::from(tid.unsigned_abs()) * RECORD)
            .map_err(|error| format!("cannot read the pulse of {tid}: {error}"))?;
        Ok(Pulse::of(&record))
    }

    /// Ends the visits; returns how many there were.
    pub(crate) fn shut_the_door(&mut self) -> Result<u64> {
        drop(self.visitors.stdin.take());
        let mut line = String::new();
        let from = self.visitors.stdout.take().ok_or("nobody sends visitors")?;
        let read = BufReader::new(from).read_line(&mut line);
        read.map_err(|error| format!("cannot read from the zoo: {error}"))?;
        let visits = line
            .trim_end()
            .strip_prefix("visits ")
            .and_then(|number| number.parse().ok());
        visits.ok_or_else(|| format!("the visitors did not come: {line:?}"))
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.cgroups.iter().for_each(Cgroup::thaw);
        drop(self.visitors.stdin.take());
        if let Err(error) = self.visitors.wait() {
            eprintln!("xtask: cannot wait for the visitors: {error}");
        }
    }
}

/// The script that removes the cgroups. It tries for as long as tasks may take to die, and thaws everything each time: a
/// task dies in no hierarchy before it is thawed in all, and a freeze that was under way may still come after a thaw.
fn removal(cgroups: &[Cgroup]) -> String {
    let mut remove = String::new();
    for cgroup in cgroups {
        let (dir, switch, value) = (cgroup.dir.display(), cgroup.switch(), cgroup.thawed_word());
        let switch = switch.display();
        remove += &format!("[ ! -e {dir} ] || {{ echo {value} >{switch}; rmdir {dir} || left=1; }}\n");
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
