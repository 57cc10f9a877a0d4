//! Cgroups that are called as a runtime calls a container's, made by whom nobody should believe: root in another
//! container, or a user. Nothing that iceaxe is told by its name may ever mean one of them.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::{Ended, Vessel, below};
use crate::{Cgroup, Hierarchy, eventually};

/// Makes what /vol/next lists, in each hierarchy whose word is given, below its own cgroup, and moves a process into
/// each, the first one of a PID namespace; what it made before goes. It says that it is done by removing the list. In
/// between it beats. It needs the right to mount.
const SCRIPT: &str = "set -e
mkdir -p /tmp/cg
mount -t tmpfs cg /tmp/cg
for hierarchy in HIERARCHIES; do
  mkdir /tmp/cg/$hierarchy
  case $hierarchy in
    v1) mount -t cgroup -o freezer none /tmp/cg/v1 ;;
    v2) mount -t cgroup2 none /tmp/cg/v2 ;;
  esac
done
while :; do
  echo >> /vol/beats
  sleep 0.01
  test -e /vol/next || continue
  for top in /tmp/cg/*; do
    find \"$top\" -mindepth 1 -type d | sort -r | while read -r dir; do
      until rmdir \"$dir\" 2> /dev/null; do
        for pid in $(cat \"$dir/cgroup.procs\"); do kill -9 $pid || true; done
      done
    done
  done
  MAKING
  rm /vol/next
done
";
/// Makes what a list lists below each of some directories.
const MAKING: &str = "while read -r name; do
  for top in TOPS; do mkdir -p \"$top/$name\"; done
  (
    for top in TOPS; do echo 0 > \"$top/$name/cgroup.procs\"; done
    exec PROGRAM
  ) &
done < LIST
while read -r name; do
  for top in TOPS; do
    until grep -q . \"$top/$name/cgroup.procs\"; do sleep 0.01; done
  done
done < LIST";

/// What a container runs that makes decoys in these hierarchies, for a shell of busybox.
pub fn script(hierarchies: &[Hierarchy]) -> String {
    let words: Vec<&str> = hierarchies.iter().map(|hierarchy| hierarchy.word()).collect();
    let making = making("/tmp/cg/*", "/vol/next", "unshare -p -f sleep 100000");
    SCRIPT
        .replace("HIERARCHIES", &words.join(" "))
        .replace("MAKING", &making)
}

/// The shell's commands that make what `list` lists below each directory of `tops`, with `program` in it.
pub fn making(tops: &str, list: &str, program: &str) -> String {
    MAKING
        .replace("TOPS", tops)
        .replace("LIST", list)
        .replace("PROGRAM", program)
}

/// A list of names as the scripts read it.
pub fn lines(names: &[String]) -> String {
    names.iter().map(|name| format!("{name}\n")).collect()
}

/// What a cgroup is called that a runtime makes for a container of this name, wherever it does.
pub fn called(name: &str) -> Vec<String> {
    let patterns = [
        ":youki:NAME",
        "youki-NAME.scope",
        "crun-NAME.scope",
        "runc-NAME.scope",
        "system.slice/runc-NAME.scope",
        "NAME",
        "lxc.payload.NAME",
        "lxc.payload.NAME-1",
        "lxc.payload.NAME-2",
        "lxc/NAME",
        "machine-NAME.scope",
        "machine.slice/machine-NAME.scope/payload",
        "machine.slice/systemd-nspawn@NAME.service/payload",
        "user.slice/user-1000.slice/user@1000.service/user.slice/crun-NAME.scope",
    ];
    patterns
        .iter()
        .map(|pattern| pattern.replace("NAME", name))
        .collect()
}

/// The same, each for a name of its own, which is returned with it and begins with this one.
pub fn each_called(name: &str) -> Vec<(String, String)> {
    let numbers = 0..called(name).len();
    let each = numbers.map(|number| {
        let name = format!("{name}.{number}");
        let cgroup = called(&name).swap_remove(number);
        (name, cgroup)
    });
    each.collect()
}

/// The same for an ID of 64 digits, for itself and for others that begin like it.
pub fn of_id(id: &str) -> Vec<String> {
    let kin = format!("{}{}", &id[..12], "0".repeat(52));
    let patterns = [
        "ID",
        "docker/ID",
        "docker-ID.scope",
        "system.slice/docker-ID.scope",
        "libpod-ID.scope/container",
        "machine.slice/libpod-ID.scope",
        "libpod_parent/libpod-ID",
        "kubepods/besteffort/pod3d6f1c2e-8a4b-4f6e-9c1d-0123456789ab/ID",
        "cri-containerd-ID.scope",
        "nerdctl-ID.scope",
    ];
    let each = [id, &kin].map(|id| patterns.map(|pattern| pattern.replace("ID", id)));
    each.into_iter().flatten().collect()
}

/// Decoys that are there, and the iceaxe that is to be deceived.
pub struct Decoys<'a> {
    iceaxe: &'a dyn Fn(&[&str]) -> Ended,
    names: Vec<String>,
    all: Vec<Cgroup>,
}

impl<'a> Decoys<'a> {
    /// Those of these names that are below these cgroups.
    #[track_caller]
    pub fn below(tops: &[Cgroup], names: &[String], iceaxe: &'a dyn Fn(&[&str]) -> Ended) -> Self {
        let all = tops
            .iter()
            .flat_map(|top| names.iter().map(move |name| below(top, name)));
        let decoys = Self {
            iceaxe,
            names: names.to_vec(),
            all: all.collect(),
        };
        assert!(!decoys.all.is_empty());
        decoys.are_left_alone("at first");
        decoys
    }

    /// Has a container that runs the script make these, and no others.
    #[track_caller]
    pub fn of(evil: &Vessel, names: &[String], iceaxe: &'a dyn Fn(&[&str]) -> Ended) -> Self {
        let list = evil.volume.join("next");
        fs::write(list.with_extension("new"), lines(names)).unwrap();
        fs::rename(list.with_extension("new"), &list).unwrap();
        eventually("they are made", || !list.exists());
        Self::below(&evil.cgroups, names, iceaxe)
    }

    /// Checks that nobody has frozen one or ended it.
    #[track_caller]
    pub fn are_left_alone(&self, when: &str) {
        for decoy in &self.all {
            assert!(!decoy.asks(), "{when}: {} is frozen", decoy.dir.display());
            let lives = !decoy.read("cgroup.procs").is_empty();
            assert!(lives, "{when}: who was in {} is dead", decoy.dir.display());
        }
    }

    #[track_caller]
    fn iceaxe(&self, args: &[&str]) -> Ended {
        let ended = (self.iceaxe)(args);
        self.are_left_alone(&format!("{args:?}, {ended:?}"));
        ended
    }

    /// Checks that a target means this container for every verb but kill.
    #[track_caller]
    pub fn are_not_meant_but(&self, target: &str, vessel: &Vessel) {
        let is_meant = |report: &Value| assert_eq!(report["id"], *vessel.id, "{target}: {report}");
        let status = self.iceaxe(&["status", target, "--json"]);
        assert_eq!(status.code(), Some(0), "{status:?}");
        is_meant(&status.object());
        is_meant(&self.iceaxe(&["freeze", target, "--json"]).is(0, "confirmed"));
        vessel.is_frozen();
        is_meant(&self.iceaxe(&["thaw", target, "--json"]).is(0, "confirmed"));
        vessel.is_thawed();
        let held = self.iceaxe(&["hold", target, "--", "true"]);
        assert_eq!(held.code(), Some(0), "{held:?}");
        vessel.is_thawed();
    }

    /// Checks the same for freeze and thaw alone.
    #[track_caller]
    pub fn are_not_frozen_but(&self, target: &str, vessel: &Vessel) {
        let is_meant = |report: &Value| assert_eq!(report["id"], *vessel.id, "{target}: {report}");
        is_meant(&self.iceaxe(&["freeze", target, "--json"]).is(0, "confirmed"));
        assert!(vessel.asks());
        is_meant(&self.iceaxe(&["thaw", target, "--json"]).is(0, "confirmed"));
        assert!(!vessel.asks());
    }

    /// Checks that `kill` ends this container and nobody else.
    #[track_caller]
    pub fn live_on_when_it_is_killed(&self, target: &str, vessel: &Vessel) {
        let report = self.iceaxe(&["kill", target, "--json"]).is(0, "confirmed");
        assert_eq!(report["id"], *vessel.id, "{target}: {report}");
        eventually("it is dead", || {
            !Path::new(&format!("/proc/{}", vessel.pid)).exists()
        });
    }

    /// Checks that a target means nothing for any verb: it is unknown, or the error says which cgroups are called so.
    #[track_caller]
    pub fn are_not_meant(&self, target: &str) {
        for words in [
            &["status", target][..],
            &["thaw", target],
            &["freeze", target],
            &["kill", target],
            &["hold", target, "--", "true"],
        ] {
            let ended = self.iceaxe(words);
            // What is told is the cgroup that bears the name, and not the level of its tasks.
            let is_told = |name: &String| {
                ended
                    .err
                    .contains(name.trim_end_matches("/payload").trim_end_matches("/container"))
            };
            let names_one = || self.names.iter().any(is_told);
            // Of a hold that can't begin.
            let code = match (words[0], ended.code()) {
                ("hold", Some(125)) => match names_one() {
                    true => Some(4),
                    false => Some(3),
                },
                (_, code) => code,
            };
            match code {
                Some(3) => {}
                Some(4) => assert!(names_one(), "{words:?} names no candidate: {ended:?}"),
                _ => panic!("{words:?}: {ended:?}"),
            }
        }
    }
}
