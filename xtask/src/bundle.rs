//! A real runc container with idle tasks in it, for as long as it is wanted.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::Result;
use crate::command::{find, limited, target_dir};
use crate::janitor::Janitor;
use crate::layout::Layout;

/// How many tasks are in it.
pub(crate) const TASKS: usize = 10;
/// Each command of runc takes some 30 ms.
const LIMIT: Duration = Duration::from_secs(30);

/// A running container. It is removed when it is dropped, or when this program ends.
#[derive(Debug)]
pub(crate) struct Container {
    id: String,
    dir: PathBuf,
    version: &'static str,
    _janitor: Janitor,
}

impl Container {
    /// Starts one below the machine's usual runc state, where every tool looks for it.
    pub(crate) fn start(layout: Layout) -> Result<Self> {
        let id = id(std::process::id());
        let cgroup = format!("/iceaxe-bench-{}", std::process::id());
        let bundle = target_dir()
            .join("bench")
            .join(format!("bundle-{}", std::process::id()));
        let busybox = find("busybox").ok_or("no busybox")?;
        let bin = bundle.join("rootfs/bin");
        let (mount, version, freezer) = match layout {
            Layout::V2 => ("/sys/fs/cgroup", "v2", "cgroup.freeze"),
            Layout::V1 | Layout::Hybrid => ("/sys/fs/cgroup/freezer", "v1", "freezer.state"),
        };
        let dir = PathBuf::from(format!("{mount}{cgroup}"));
        let janitor = Janitor::hire(&removal(&id, &dir, freezer, &bundle))?;
        let write = || {
            fs::create_dir_all(&bin)?;
            fs::create_dir_all(bundle.join("rootfs/proc"))?;
            fs::copy(busybox, bin.join("busybox"))?;
            fs::write(bundle.join("config.json"), config(&cgroup))
        };
        write().map_err(|error| format!("cannot write {}: {error}", bundle.display()))?;
        let container = Self {
            id,
            dir,
            version,
            _janitor: janitor,
        };
        container.run(&bundle)?;
        container.await_tasks()?;
        Ok(container)
    }

    /// How iceaxe is told of it.
    pub(crate) fn target(&self) -> String {
        format!("id:{}", self.id)
    }

    /// The directory that its freezer is driven by.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The kind of that directory, `v1` or `v2`.
    pub(crate) fn version(&self) -> &'static str {
        self.version
    }

    /// Its runc command `verb`.
    pub(crate) fn runc(&self, verb: &str) -> Command {
        let mut command = Command::new(find("runc").unwrap_or_else(|| "runc".into()));
        command.args([verb, &self.id]);
        command
    }

    /// Its tasks keep the standard output and error they are given, so these are no pipes, which would not close.
    fn run(&self, bundle: &Path) -> Result<()> {
        let log = bundle.join("runc.log");
        let mut command = limited(LIMIT, find("runc").unwrap_or_else(|| "runc".into()));
        command
            .arg("--log")
            .arg(&log)
            .args(["run", "--detach", "--bundle"])
            .arg(bundle)
            .arg(&self.id);
        match command.stdout(Stdio::null()).stderr(Stdio::null()).status() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!(
                "runc run: {status}: {}",
                fs::read_to_string(&log).unwrap_or_default().trim()
            )),
            Err(error) => Err(format!("cannot run runc: {error}")),
        }
    }

    fn await_tasks(&self) -> Result<()> {
        let start = std::time::Instant::now();
        loop {
            let tasks = fs::read_to_string(self.dir.join("cgroup.procs"))
                .unwrap_or_default()
                .lines()
                .count();
            if tasks == TASKS {
                return Ok(());
            }
            if start.elapsed() > LIMIT {
                return Err(format!("{tasks} tasks in {}, not {TASKS}", self.dir.display()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The script that removes the container and its bundle. It thaws first, as what v1 holds can't be killed, and again as
/// long as the cgroup is there: a freeze that was under way may still come after a thaw.
fn removal(id: &str, cgroup: &Path, freezer: &str, bundle: &Path) -> String {
    let word = if freezer == "freezer.state" { "THAWED" } else { "0" };
    let (cgroup, bundle) = (cgroup.display(), bundle.display());
    format!(
        "for try in $(seq 100); do
             [ ! -e {cgroup} ] || echo {word} >{cgroup}/{freezer}
             runc delete --force {id}
             [ -e {cgroup} ] || break
             sleep 0.1
         done
         rm -r '{bundle}'"
    )
}

/// A full ID that no other run at the same time has.
fn id(number: u32) -> String {
    format!("{number:064x}")
}

/// A bundle's configuration: a shell that starts sleepers and becomes one.
fn config(cgroup: &str) -> String {
    let script = format!(
        "for i in $(seq {}); do sleep 86400 & done; exec sleep 86400",
        TASKS - 1
    );
    format!(
        r#"{{"ociVersion":"1.0.2",
"process":{{"terminal":false,"user":{{"uid":0,"gid":0}},"args":["/bin/busybox","sh","-c","{script}"],
"env":["PATH=/bin"],"cwd":"/","noNewPrivileges":true}},
"root":{{"path":"rootfs","readonly":true}},
"mounts":[{{"destination":"/proc","type":"proc","source":"proc"}}],
"linux":{{"cgroupsPath":"{cgroup}","namespaces":[{{"type":"pid"}},{{"type":"mount"}},{{"type":"ipc"}},{{"type":"uts"}}]}}}}"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_a_full_one() {
        let id = id(4711);
        assert!(
            id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()),
            "{id}"
        );
    }

    #[test]
    fn a_container_is_thawed_before_it_is_removed() {
        for (freezer, word) in [("freezer.state", "THAWED"), ("cgroup.freeze", "0")] {
            let script = removal("1", Path::new("/x"), freezer, Path::new("/b"));
            let thaw = script.find(&format!("echo {word} >/x/{freezer}\n")).unwrap();
            assert!(thaw < script.find("runc delete").unwrap(), "{script}");
        }
    }

    #[test]
    fn the_configuration_nests_properly() {
        let config = config("/x");
        assert_eq!(config.matches('{').count(), config.matches('}').count());
        assert_eq!(config.matches('[').count(), config.matches(']').count());
        assert_eq!(config.matches('"').count() % 2, 0);
    }
}
