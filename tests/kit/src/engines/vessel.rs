//! A container of any engine that shows by a heartbeat whether it runs, seen by plain files alone.

use std::fs;
use std::path::PathBuf;

use super::of_process;
use crate::{Cgroup, eventually, stands_still};

/// Adds a byte to a file a hundred times a second.
pub const BEATING: &str = "while :; do echo >> /vol/beats; sleep 0.01; done";

/// One container.
#[derive(Debug)]
pub struct Vessel {
    /// Its name where its engine has names, else its ID.
    pub name: String,
    pub id: String,
    /// Its first process.
    pub pid: i32,
    /// Its own cgroup in each hierarchy where it has one: the first is the one that its engine freezes.
    pub cgroups: Vec<Cgroup>,
    /// What it sees as /vol.
    pub volume: PathBuf,
}

impl Vessel {
    /// The container whose first process is `pid`.
    #[track_caller]
    pub fn new(name: &str, id: String, pid: i32, volume: PathBuf) -> Self {
        let cgroups = of_process(pid);
        assert!(!cgroups.is_empty(), "an engine makes a cgroup for each container");
        Self {
            name: name.to_owned(),
            id,
            pid,
            cgroups,
            volume,
        }
    }

    fn beats(&self) -> u64 {
        fs::metadata(self.volume.join("beats"))
            .map(|meta| meta.len())
            .unwrap_or(0) // not begun yet
    }

    /// Waits until it has beaten again.
    #[track_caller]
    pub fn goes_on(&self) {
        let before = self.beats();
        eventually(&format!("{} beats", self.name), || self.beats() > before + 1);
    }

    /// Watches for a while that it does not beat.
    #[track_caller]
    pub fn stands(&self) {
        stands_still(&self.name, || self.beats());
    }

    /// Whether a request of its own stands in any hierarchy, in the kernel's words.
    #[track_caller]
    pub fn asks(&self) -> bool {
        self.cgroups.iter().any(Cgroup::asks)
    }

    /// Checks by plain reads that nothing of its own asks for a freeze, and that it beats.
    #[track_caller]
    pub fn is_thawed(&self) {
        assert!(!self.asks(), "a request of {} stands", self.name);
        self.goes_on();
    }

    /// Checks by plain reads that it is frozen.
    #[track_caller]
    pub fn is_frozen(&self) {
        let frozen = self
            .cgroups
            .iter()
            .any(|cgroup| cgroup.asks() && cgroup.is_frozen());
        assert!(frozen, "{} is not frozen", self.name);
        self.stands();
    }
}
