//! A container of a test's dockerd.

use std::ops::Deref;
use std::path::PathBuf;

use kit::engines::{Ended, Vessel};

use crate::docker::Docker;

/// One container.
#[derive(Debug)]
pub(crate) struct Container<'d> {
    docker: &'d Docker,
    vessel: Vessel,
}

/// What is typed for a container: a word for the form, and the form.
pub(crate) type Form = (&'static str, fn(&Container<'_>) -> String);

/// Each form of a target that means a docker container.
pub(crate) const FORMS: [Form; 7] = [
    ("name", |container| container.name.clone()),
    ("short-id", |container| container.short().to_owned()),
    ("full-id", |container| container.id.clone()),
    ("prefix", |container| container.id[..9].to_owned()),
    ("pid", |container| format!("pid:{}", container.pid)),
    ("id-outright", |container| format!("id:{}", container.id)),
    ("name-outright", |container| format!("name:{}", container.name)),
];

impl Deref for Container<'_> {
    type Target = Vessel;

    fn deref(&self) -> &Vessel {
        &self.vessel
    }
}

impl<'d> Container<'d> {
    #[track_caller]
    pub(crate) fn of(docker: &'d Docker, name: &str, id: String, volume: PathBuf) -> Self {
        let pid = docker.inspect(&id, "{{.State.Pid}}").parse().unwrap();
        let vessel = Vessel::new(name, id, pid, volume);
        let own = vessel
            .cgroups
            .iter()
            .all(|cgroup| cgroup.path.ends_with(&vessel.id));
        assert!(
            own,
            "its process is gone, and the number is another's: {vessel:?}"
        );
        Self { docker, vessel }
    }

    /// Its ID as `docker ps` prints it.
    pub(crate) fn short(&self) -> &str {
        &self.id[..12]
    }

    #[track_caller]
    pub(crate) fn pause(&self) {
        self.docker.docker(["pause", &self.name]);
        assert!(self.cgroups[0].is_frozen(), "docker pause freezes {}", self.name);
        self.stands();
    }

    /// How `iceaxe VERB NAME --json` ends.
    #[track_caller]
    pub(crate) fn iceaxe(&self, verb: &str) -> Ended {
        self.docker.iceaxe([verb, &self.name, "--json"])
    }

    /// Checks what its engine believes beside what is so.
    #[track_caller]
    pub(crate) fn is_seen(&self, believed: &str, effective: &str) {
        let status = self.docker.status(&self.name);
        let found = (&status["believed"], &status["effective"], &status["agree"]);
        let agree = (believed == "paused") == (effective == "frozen");
        assert_eq!(
            found,
            (&believed.into(), &effective.into(), &agree.into()),
            "{status}"
        );
        let who = (&status["id"], &status["name"]);
        assert_eq!(
            who,
            (&self.id.as_str().into(), &self.name.as_str().into()),
            "{status}"
        );
    }
}
