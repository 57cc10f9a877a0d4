//! A cgroup of its own with tasks that beat, by plain files: what is done to it and seen of it does not go by iceaxe.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;
use crate::janitor::Janitor;
use crate::lab::{MEMORY, removal, request};
use crate::layout::Layout;

/// A heartbeat in the file that the test program writes: task, beats, and two words of no use. The first is nobody's.
const SLOT: u64 = 32;
/// How long tasks may take to beat again: very many share few CPUs.
const AWAKE: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(1);

static MADE: AtomicU32 = AtomicU32::new(0);

/// A cgroup with tasks. When it is dropped, or when this program ends, the tasks end and it is removed.
#[derive(Debug)]
pub(crate) struct Pen {
    version: &'static str,
    name: String,
    dir: PathBuf,
    zoo: Child,
    tasks: usize,
    beats: File,
    _janitor: Janitor,
}

impl Pen {
    /// Makes it in a hierarchy of `layout` and starts a task of each of `kinds` in it.
    pub(crate) fn open(layout: Layout, version: &'static str, zoo: &Path, kinds: &[&str]) -> Result<Self> {
        let number = MADE.fetch_add(1, Ordering::SeqCst);
        let name = format!("iceaxe-soak-{}-{number}", std::process::id());
        let dir = layout.top(version).join(&name);
        let path = Path::new(MEMORY).join(&name);
        let script = removal(&[(version, dir.clone())]);
        let janitor = Janitor::hire(&format!("rm -f {}\n{script}", path.display()))?;
        let cannot = |what: &Path, error| format!("cannot create {}: {error}", what.display());
        fs::create_dir(&dir).map_err(|error| cannot(&dir, error))?;
        let beats = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(|error| cannot(&path, error))?;
        let mut command = Command::new(zoo);
        command
            .arg("--in")
            .arg(&dir)
            .arg("--beats")
            .arg(&path)
            .args(kinds);
        let mut zoo = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot run the zoo: {error}"))?;
        let stdout = zoo.stdout.take().ok_or("a program without an output")?;
        let mut pen = Self {
            version,
            name,
            dir,
            zoo,
            tasks: 0,
            beats,
            _janitor: janitor,
        };
        for line in BufReader::new(stdout).lines() {
            match line
                .map_err(|error| format!("cannot read from the zoo: {error}"))?
                .as_str()
            {
                "ready" => return Ok(pen),
                task if task.starts_with("task ") => pen.tasks += 1,
                other => return Err(format!("the tasks did not come: {other:?}")),
            }
        }
        Err("the tasks did not come".to_owned())
    }

    /// As iceaxe's targets are written.
    pub(crate) fn target(&self) -> String {
        format!("{}:/{}", self.version, self.name)
    }

    /// What the names of all records of it begin with.
    pub(crate) fn records(&self) -> Result<String> {
        let of = fs::metadata(&self.dir).map_err(|error| format!("{}: {error}", self.dir.display()))?;
        Ok(format!("{:x}-{:x}.", of.dev(), of.ino()))
    }

    /// Whether it asks for a freeze itself.
    pub(crate) fn asks(&self) -> Result<bool> {
        let file = self.dir.join(match self.version {
            "v1" => "freezer.self_freezing",
            _ => "cgroup.freeze",
        });
        let text =
            fs::read_to_string(&file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
        Ok(text.trim_end() != "0")
    }

    /// Freezes it by hand.
    pub(crate) fn freeze(&self) -> Result<()> {
        let (file, _) = request(self.version);
        let value = if self.version == "v1" { "FROZEN" } else { "1" };
        fs::write(self.dir.join(file), value)
            .map_err(|error| format!("cannot freeze {}: {error}", self.target()))
    }

    /// Thaws it by hand.
    pub(crate) fn thaw(&self) -> Result<()> {
        let (file, value) = request(self.version);
        fs::write(self.dir.join(file), value)
            .map_err(|error| format!("cannot thaw {}: {error}", self.target()))
    }

    /// Waits until each task has beaten again.
    pub(crate) fn goes_on(&self) -> Result<()> {
        let before = self.all_beats()?;
        let start = Instant::now();
        while self
            .all_beats()?
            .iter()
            .zip(&before)
            .any(|(now, then)| now == then)
        {
            if start.elapsed() > AWAKE {
                return Err(format!("the tasks of {} do not run again", self.target()));
            }
            thread::sleep(SHORT);
        }
        Ok(())
    }

    fn all_beats(&self) -> Result<Vec<u64>> {
        let of = |task: usize| {
            let mut bytes = [0; 8];
            let at = (task as u64 + 1) * SLOT + 8;
            let read = self.beats.read_exact_at(&mut bytes, at);
            read.map(|()| u64::from_ne_bytes(bytes))
                .map_err(|error| format!("cannot read a heartbeat: {error}"))
        };
        (0..self.tasks).map(of).collect()
    }
}

impl Drop for Pen {
    fn drop(&mut self) {
        let _ = self.thaw(); // the zoo thaws it again before its tasks end
        drop(self.zoo.stdin.take());
        if let Err(error) = self.zoo.wait() {
            eprintln!("xtask: cannot wait for the tasks: {error}");
        }
    }
}

/// Sends signals through a shell that is there already, so that they come at once.
#[derive(Debug)]
pub(crate) struct Sender {
    shell: Child,
    to: ChildStdin,
    from: ChildStdout,
}

impl Sender {
    pub(crate) fn new() -> Result<Self> {
        let mut shell = Command::new("sh")
            .args([
                "-c",
                "while read -r signal pids; do kill -s $signal $pids; echo; done 2>/dev/null",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot run sh: {error}"))?;
        let (to, from) = (shell.stdin.take(), shell.stdout.take());
        let (to, from) = to.zip(from).ok_or("a shell without a pipe")?;
        Ok(Self { shell, to, from })
    }

    /// Sends it; one that is gone needs none.
    pub(crate) fn send(&mut self, signal: &str, pids: &[u32]) -> Result<()> {
        if pids.is_empty() {
            return Ok(());
        }
        let words: Vec<String> = pids.iter().map(u32::to_string).collect();
        let said = writeln!(self.to, "{signal} {}", words.join(" "));
        said.and_then(|()| self.from.read_exact(&mut [0]))
            .map_err(|error| format!("cannot send SIG{signal}: {error}"))
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        // It would end with its input, too.
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}
