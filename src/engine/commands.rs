//! An engine's own command line: what makes it say what it believes of a container, and what makes it unpause one. It
//! is there for a resync and for nothing else: every other verb works with no engine at all.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::host::program;
use crate::resolver::{Believed, Details, Identity, Runtime, Trust};

/// Who keeps an idea of its own of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manager {
    Docker,
    Podman,
    Containerd,
    Lxc,
    /// Nobody: its runtime asks the kernel each time.
    Nobody,
}

impl Manager {
    /// Who keeps `identity`'s; none that is known is an error.
    pub(super) fn of(identity: &Identity, details: Option<&Details>) -> Result<Self> {
        let manager = match identity.runtime {
            Some(Runtime::Docker) => Self::Docker,
            Some(Runtime::Podman) => Self::Podman,
            Some(Runtime::Containerd) => Self::Containerd,
            Some(Runtime::Lxc) => Self::Lxc,
            Some(Runtime::Runc | Runtime::Crun | Runtime::Youki) => Self::Nobody,
            // Of those that keep a belief on disk docker alone gives its cgroups no name of its own.
            None if details.is_some_and(|details| details.believed.is_some()) => Self::Docker,
            other => {
                return Err(Error::Unsupported(format!(
                    "{} is nothing whose belief could be asked for or set right: docker, podman, containerd and LXC are",
                    other.map_or_else(
                        || "what no engine is known to have made".to_owned(),
                        |name| format!("a container of {name}'s")
                    )
                )));
            }
        };
        // To ask root's engine about an ID that a container or a user has given would speak of another container.
        if identity.trust != Trust::Full {
            return Err(Error::Unsupported(
                "only what root's own engines have made can be brought back in step: this is in a container's or a \
                 user's cgroups"
                    .to_owned(),
            ));
        }
        Ok(manager)
    }

    /// What it is called.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Containerd => "containerd",
            Self::Lxc => "lxc",
            Self::Nobody => "its runtime",
        }
    }
}

/// How an engine is spoken to about one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Commands {
    pub(super) manager: Manager,
    /// Asks for what it believes.
    pub(super) ask: Command,
    /// Has it unpaused.
    pub(super) unpause: Command,
    /// Whether the latter works on what is thawed already.
    pub(super) unpauses_what_is_thawed: bool,
    /// The row of the answer, where that is a table of all.
    row: Option<String>,
}

/// A program with its words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) program: PathBuf,
    pub(super) words: Vec<OsString>,
}

impl Command {
    fn new<S: AsRef<OsStr>>(program: &Path, words: impl IntoIterator<Item = S>) -> Self {
        Self {
            program: program.to_owned(),
            words: words.into_iter().map(|word| word.as_ref().to_owned()).collect(),
        }
    }

    /// As plain words. What is not UTF-8 in a path is replaced.
    pub(super) fn shown(&self) -> Vec<String> {
        let program = self.program.as_os_str();
        let all = std::iter::once(program).chain(self.words.iter().map(OsString::as_os_str));
        all.map(|word| word.to_string_lossy().into_owned()).collect()
    }
}

impl Commands {
    /// The commands for a container of `manager`'s, their programs found in `path`.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`]: a program, or what has to be known of the container, is missing.
    pub(super) fn of(
        manager: Manager,
        identity: &Identity,
        details: Option<&Details>,
        path: &OsStr,
    ) -> Result<Self> {
        let missing = |what: &str| Error::Unsupported(what.to_owned());
        let find = |name: &str| {
            program::find(name, path).ok_or_else(|| {
                missing(&format!(
                    "no {name} in PATH, by which {} is spoken to",
                    manager.name()
                ))
            })
        };
        let id = identity
            .id
            .as_deref()
            .ok_or_else(|| missing("nothing tells its ID"))?;
        let as_docker = |program: PathBuf, scope: &[String]| {
            let with = |words: &[&str]| {
                let words = scope.iter().map(String::as_str).chain(words.iter().copied());
                Command::new(&program, words)
            };
            (
                with(&["inspect", "--type=container", "--format={{.State.Status}}", id]),
                with(&["unpause", id]),
            )
        };
        let mut row = None;
        let (ask, unpause) = match manager {
            Manager::Docker => as_docker(find("docker")?, &[]),
            Manager::Podman => as_docker(find("podman")?, &[]),
            Manager::Containerd => {
                let scope = [format!(
                    "--namespace={}",
                    namespace(identity)
                        .ok_or_else(|| missing("nothing tells which of containerd's namespaces it is in"))?
                )];
                match (find("ctr"), program::find("nerdctl", path)) {
                    (Ok(ctr), _) => {
                        row = Some(id.to_owned());
                        (
                            Command::new(&ctr, [&scope[0], "tasks", "list"]),
                            Command::new(&ctr, [&scope[0], "tasks", "resume", id]),
                        )
                    }
                    (Err(_), Some(nerdctl)) => as_docker(nerdctl, &scope),
                    (Err(error), None) => return Err(error),
                }
            }
            Manager::Lxc => {
                let root = details
                    .and_then(|details| details.bundle.as_deref()?.parent())
                    .ok_or_else(|| {
                        missing("LXC has no configuration of it: LXD's and Incus's are resumed by their own")
                    })?;
                let mut at = OsString::from("--lxcpath=");
                at.push(root);
                let name = OsString::from(format!("--name={id}"));
                let words = [name.as_os_str(), at.as_os_str()];
                let info = words
                    .into_iter()
                    .chain(["--state", "--no-humanize"].map(OsStr::new));
                (
                    Command::new(&find("lxc-info")?, info),
                    Command::new(&find("lxc-unfreeze")?, words),
                )
            }
            Manager::Nobody => return Err(missing("its runtime asks the kernel each time")),
        };
        Ok(Self {
            manager,
            ask,
            unpause,
            // LXC's monitor does what it is told wherever it remembers it otherwise.
            unpauses_what_is_thawed: manager == Manager::Lxc
                || details.is_some_and(|details| details.unpauses_what_is_thawed),
            row,
        })
    }

    /// Whether one answer is about many containers.
    pub(super) fn is_for_many(&self) -> bool {
        self.row.is_some()
    }

    /// What an answer says that it believes.
    pub(super) fn believed(&self, answer: &str) -> Option<Believed> {
        let word = match &self.row {
            Some(id) => {
                let mut rows = answer.lines().map(str::split_whitespace);
                rows.find_map(|mut words| (words.next() == Some(id)).then(|| words.nth(1))?)?
            }
            None => answer.trim(),
        };
        match word.to_ascii_lowercase().as_str() {
            "paused" | "frozen" => Some(Believed::Paused),
            "running" | "up" => Some(Believed::Running),
            "restarting" => Some(Believed::Restarting),
            "exited" | "stopped" | "dead" | "created" | "removing" | "configured" => Some(Believed::Exited),
            _ => None,
        }
    }
}

/// The namespace of containerd's that its record is in, `…/runc/<namespace>/<id>`.
fn namespace(identity: &Identity) -> Option<&str> {
    identity.record.as_deref()?.parent()?.file_name()?.to_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const ID: &str = "5978aaee22d5c9cb58aed1e3dca9eba2a5fc5ff4abbdb1bd34e1ee4b4c4ea26d";

    fn with_programs(names: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            let file = dir.path().join(name);
            std::fs::write(&file, "#!/bin/sh\n").unwrap();
            std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        dir
    }

    fn identity(runtime: Runtime, id: &str, record: &str) -> Identity {
        Identity {
            id: Some(id.to_owned()),
            runtime: Some(runtime),
            record: (!record.is_empty()).then(|| PathBuf::from(record)),
            trust: Trust::Full,
            ..Identity::default()
        }
    }

    /// The words of the command that unpauses, without the directory of its program.
    fn unpause(
        programs: &[&str],
        identity: &Identity,
        details: &Details,
    ) -> std::result::Result<String, String> {
        let dir = with_programs(programs);
        let manager = Manager::of(identity, Some(details)).map_err(|error| error.to_string())?;
        let commands = Commands::of(manager, identity, Some(details), dir.path().as_os_str())
            .map_err(|error| error.to_string())?;
        let prefix = format!("{}/", dir.path().display());
        Ok(commands.unpause.shown().join(" ").replace(&prefix, ""))
    }

    #[test]
    fn each_engine_is_told_in_its_own_words() {
        let none = Details::default();
        let record = "/run/containerd/runc/k8s.io/web";
        let lxc = Details {
            bundle: Some(PathBuf::from("/srv/lxc/web")),
            ..Details::default()
        };
        for (programs, who, details, words) in [
            (
                &["docker"][..],
                identity(Runtime::Docker, ID, ""),
                &none,
                format!("docker unpause {ID}"),
            ),
            (
                &["podman"],
                identity(Runtime::Podman, ID, ""),
                &none,
                format!("podman unpause {ID}"),
            ),
            (
                &["ctr", "nerdctl"],
                identity(Runtime::Containerd, "web", record),
                &none,
                "ctr --namespace=k8s.io tasks resume web".to_owned(),
            ),
            (
                &["nerdctl"],
                identity(Runtime::Containerd, "web", record),
                &none,
                "nerdctl --namespace=k8s.io unpause web".to_owned(),
            ),
            (
                &["lxc-info", "lxc-unfreeze"],
                identity(Runtime::Lxc, "web", ""),
                &lxc,
                "lxc-unfreeze --name=web --lxcpath=/srv/lxc".to_owned(),
            ),
        ] {
            assert_eq!(unpause(programs, &who, details), Ok(words), "{who:?}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let none = Details::default();
        for (who, word) in [
            (identity(Runtime::Docker, ID, ""), "no docker in PATH"),
            (identity(Runtime::Podman, ID, ""), "no podman in PATH"),
            (
                identity(Runtime::Containerd, "web", "/run/containerd/runc/k8s.io/web"),
                "no ctr in PATH",
            ),
            (identity(Runtime::Containerd, "web", ""), "namespaces"),
            (identity(Runtime::Lxc, "web", ""), "Incus"),
            (identity(Runtime::Machine, "web", ""), "a container of machine's"),
            (identity(Runtime::Runc, "web", ""), "asks the kernel"),
        ] {
            let error = unpause(&[], &who, &none).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn an_answer_is_understood_or_is_none() {
        let dir = with_programs(&["docker", "ctr"]);
        let commands = |who: &Identity| {
            let manager = Manager::of(who, None).unwrap();
            Commands::of(manager, who, None, dir.path().as_os_str()).unwrap()
        };
        let docker = commands(&identity(Runtime::Docker, ID, ""));
        for (answer, believed) in [
            ("paused\n", Some(Believed::Paused)),
            ("running\n", Some(Believed::Running)),
            ("FROZEN\n", Some(Believed::Paused)),
            ("restarting\n", Some(Believed::Restarting)),
            ("exited\n", Some(Believed::Exited)),
            ("", None),
            ("paused running\n", None),
        ] {
            assert_eq!(docker.believed(answer), believed, "{answer:?}");
        }
        let ctr = commands(&identity(
            Runtime::Containerd,
            "web",
            "/run/containerd/runc/default/web",
        ));
        for (answer, believed) in [
            (
                "TASK  PID  STATUS\nweb-1  7  RUNNING\nweb  8  PAUSED\n",
                Some(Believed::Paused),
            ),
            ("TASK  PID  STATUS\nweb  8  RUNNING\n", Some(Believed::Running)),
            ("TASK  PID  STATUS\nweb-1  7  PAUSED\n", None),
            ("web\n", None),
            ("", None),
        ] {
            assert_eq!(ctr.believed(answer), believed, "{answer:?}");
        }
    }
}
