//! A cgroup in each hierarchy of the machine, with the test program's tasks in it (`tests/zoo`), visitors from outside, and
//! the pulse of each task.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::Result;
use crate::janitor::Janitor;
use crate::layout::Layout;
use crate::verdict::Pulse;

/// A pulse in the file that the test program writes: born, last beat, beats, and a word of no use; the task's number says
/// which one is its own.
const RECORD: u64 = 32;
/// In memory: a file on a disk would make tasks wait for it, which no freezer can end.
pub(crate) const MEMORY: &str = "/dev/shm";

/// Cgroups with tasks. When it is dropped, or when this program ends, the tasks end and the cgroups are removed.
#[derive(Debug)]
pub(crate) struct Lab {
    name: String,
    dirs: Vec<(&'static str, PathBuf)>,
    /// The keeper of the tasks, and who sends the visitors. Each ends at the end of its input.
    programs: Vec<(Child, BufReader<ChildStdout>)>,
    pulses: File,
    _janitor: Janitor,
}

impl Lab {
    /// Makes the cgroups of `layout`, starts a task of each of `kinds` in all of them, and sends visitors.
    pub(crate) fn open(layout: Layout, zoo: &Path, kinds: &[&str]) -> Result<Self> {
        // The same in each hierarchy.
        let name = format!("iceaxe-soak-{}", std::process::id());
        let versions = Self::versions(layout).iter();
        let dirs: Vec<_> = versions
            .map(|version| (*version, layout.top(version).join(&name)))
            .collect();
        let path = Path::new(MEMORY).join(&name);
        let janitor = Janitor::hire(&format!("rm -f {}\n{}", path.display(), removal(&dirs)))?;
        for (_, dir) in &dirs {
            fs::create_dir(dir).map_err(|error| format!("cannot create {}: {error}", dir.display()))?;
        }
        let mut options = File::options();
        options.read(true).write(true).create_new(true);
        let pulses = options
            .open(&path)
            .map_err(|error| format!("cannot create {}: {error}", path.display()))?;
        let mut lab = Self {
            name,
            dirs,
            programs: Vec::new(),
            pulses,
            _janitor: janitor,
        };
        lab.start(zoo, &path, kinds)?;
        // It has a time limit of its own for every kind.
        loop {
            match lab.heard(0)?.as_str() {
                "ready" => break,
                task if task.starts_with("task ") => {}
                other => return Err(format!("the tasks did not come: {other:?}")),
            }
        }
        lab.start(zoo, &path, &["visit"])?;
        Ok(lab)
    }

    /// The hierarchies of a layout, as iceaxe's targets name them.
    pub(crate) fn versions(layout: Layout) -> &'static [&'static str] {
        match layout {
            Layout::V1 => &["v1"],
            Layout::Hybrid => &["v1", "v2"],
            Layout::V2 => &["v2"],
        }
    }

    /// Its cgroup in a hierarchy, as iceaxe's targets are written.
    pub(crate) fn target(&self, version: &str) -> String {
        format!("{version}:/{}", self.name)
    }

    /// Who is in any of the cgroups now.
    pub(crate) fn tids(&self) -> Result<BTreeSet<u32>> {
        let mut tids = BTreeSet::new();
        for (version, dir) in &self.dirs {
            let file = dir.join(if *version == "v1" {
                "tasks"
            } else {
                "cgroup.threads"
            });
            let text = fs::read_to_string(&file)
                .map_err(|error| format!("cannot read {}: {error}", file.display()))?;
            tids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
        }
        Ok(tids)
    }

    /// Whether any of the cgroups asks for a freeze.
    pub(crate) fn asks(&self) -> Result<bool> {
        for (version, dir) in &self.dirs {
            let file = dir.join(if *version == "v1" {
                "freezer.self_freezing"
            } else {
                "cgroup.freeze"
            });
            let text = fs::read_to_string(&file)
                .map_err(|error| format!("cannot read {}: {error}", file.display()))?;
            if text.trim_end() != "0" {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The pulse of a task.
    pub(crate) fn pulse(&self, tid: u32) -> Result<Pulse> {
        let mut record = [0; 24];
        self.pulses
            .read_exact_at(&mut record, u64::from(tid) * RECORD)
            .map_err(|error| format!("cannot read the pulse of {tid}: {error}"))?;
        Ok(Pulse::of(&record))
    }

    /// Writes the thaw into every cgroup, as far as it is there.
    pub(crate) fn thaw(&self) {
        for (version, dir) in &self.dirs {
            let (file, value) = request(version);
            let _ = fs::write(dir.join(file), value); // there is none, then
        }
    }

    /// Ends the visits; returns how many there were.
    pub(crate) fn shut_the_door(&mut self) -> Result<u64> {
        let (visitors, _) = self.programs.get_mut(1).ok_or("nobody sends visitors")?;
        drop(visitors.stdin.take());
        let line = self.heard(1)?;
        let visits = line
            .strip_prefix("visits ")
            .and_then(|number| number.parse().ok());
        visits.ok_or_else(|| format!("the visitors did not come: {line:?}"))
    }

    fn start(&mut self, zoo: &Path, pulses: &Path, words: &[&str]) -> Result<()> {
        let mut command = Command::new(zoo);
        for (_, dir) in &self.dirs {
            command.arg("--in").arg(dir);
        }
        command.arg("--pulses").arg(pulses).args(words);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut program = command
            .spawn()
            .map_err(|error| format!("cannot run {}: {error}", zoo.display()))?;
        let stdout = program.stdout.take().ok_or("a program without an output")?;
        self.programs.push((program, BufReader::new(stdout)));
        Ok(())
    }

    /// The next line of a program, which says `error` before it ends by one.
    fn heard(&mut self, program: usize) -> Result<String> {
        let mut line = String::new();
        let (_, stdout) = self.programs.get_mut(program).ok_or("no such program")?;
        stdout
            .read_line(&mut line)
            .map_err(|error| format!("cannot read from the zoo: {error}"))?;
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.thaw();
        for (program, _) in self.programs.iter_mut().rev() {
            drop(program.stdin.take());
            if let Err(error) = program.wait() {
                eprintln!("xtask: cannot wait for the tasks: {error}");
            }
        }
    }
}

/// The script that removes the cgroups. It tries for as long as tasks may take to die, and thaws everything each time: a
/// task dies in no hierarchy before it is thawed in all, and a freeze that was under way may still come after a thaw.
pub(crate) fn removal(dirs: &[(&str, PathBuf)]) -> String {
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
pub(crate) fn request(version: &str) -> (&'static str, &'static str) {
    if version == "v1" {
        ("freezer.state", "THAWED")
    } else {
        ("cgroup.freeze", "0")
    }
}
