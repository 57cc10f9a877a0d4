//! Where the hierarchies are mounted: nowhere, in unusual places, several times, in parts.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use kit::{Cgroup, Hierarchy, Run, Scene, bind, freeze, iceaxe, mount_of, unmount_cgroups, with_own_mounts};
use nix::mount::{MsFlags, mount};
use serde_json::Value;

use crate::lease::{end, guard_of, records_of};

/// What `iceaxe path` prints of a target.
#[track_caller]
fn path(target: impl Into<OsString>) -> (Option<i32>, String) {
    let run = iceaxe("path").arg(target.into()).run();
    (run.code, run.out.trim_end().to_owned())
}

/// A directory typed behind `cgroup:`.
fn behind_the_word(dir: &Path) -> OsString {
    let mut target = OsString::from("cgroup:");
    target.push(dir);
    target
}

/// Checks that a verb refused, and said why.
#[track_caller]
fn is_refused(run: &Run, code: i32, why: &str) {
    assert_eq!(run.code, Some(code), "{run:?}");
    assert!(run.err.contains(why), "{run:?}");
}

/// What is said where no freezer is mounted.
const NONE: &str = "no cgroup freezer is mounted";

/// Each verb that looks at all of a host, with its options.
const ALL: [&[&str]; 16] = [
    &["list"],
    &["list", "--check"],
    &["list", "--prometheus"],
    &["list", "--quiet"],
    &["list", "--json", "--all-cgroups"],
    &["tree"],
    &["watch", "--timeout=0"],
    &["status", "--all"],
    &["explain", "--filter=name=web"],
    &["thaw", "--all"],
    &["thaw", "--filter=state=frozen"],
    &["freeze", "--all", "--force"],
    &["kill", "--filter=name=web"],
    &["resync", "--all", "--yes"],
    &["recover"],
    &["demo"],
];

mod any {
    use serial_test::serial;

    use super::*;

    #[test]
    #[serial]
    fn a_host_whose_freezer_is_not_mounted_is_not_one_without_containers() {
        with_own_mounts(|| {
            unmount_cgroups(&[]);
            for words in ALL {
                let command = words[1..]
                    .iter()
                    .fold(iceaxe(words[0]), |command, word| command.arg(word));
                let run = command.run();
                assert_eq!(run.out, "", "{words:?}: {run:?}");
                is_refused(&run, 5, NONE);
            }
            for target in ["web", "v1:/x", "cgroup:/x", "/sys/fs/cgroup/x", "pid:1"] {
                for verb in ["thaw", "freeze", "kill", "status", "explain", "resync", "watch"] {
                    let run = iceaxe(verb).arg(target).run();
                    is_refused(&run, 5, NONE);
                }
                iceaxe("thaw").arg(target).arg("--json").ends(5, "denied");
            }
            is_refused(&iceaxe("hold").arg("web").arg("--").arg("true").run(), 125, NONE);
        });
    }

    #[test]
    #[serial]
    fn a_root_without_cgroup_mounts_is_not_one_without_containers() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        with_own_mounts(|| {
            fs::create_dir(root.join("proc")).unwrap();
            bind(Path::new("/proc"), &root.join("proc"));
            for words in ALL {
                let command = iceaxe("--root").arg(root);
                let run = words
                    .iter()
                    .fold(command, |command, word| command.arg(word))
                    .run();
                is_refused(&run, 5, NONE);
                assert!(run.err.contains(root.to_str().unwrap()), "{run:?}");
            }
        });
    }

    /// A guard that sees no cgroup would promise a thaw that it can't do.
    #[test]
    #[serial]
    fn what_was_left_behind_and_cannot_be_reached_stays_on_record_and_is_given_no_guard() {
        let (_scene, cgroup, zoo) = Scene::of(Hierarchy::available(), &["doze"]);
        freeze(&cgroup).arg("--for=600s").ends(0, "confirmed");
        end(guard_of(&cgroup));
        let left = records_of(&cgroup);
        with_own_mounts(|| {
            unmount_cgroups(&[]);
            let run = iceaxe("recover").run();
            is_refused(&run, 5, "no cgroup v");
        });
        assert_eq!(records_of(&cgroup), left);
        zoo.stands(0);
        iceaxe("thaw")
            .arg(cgroup.target())
            .arg("--json")
            .ends(0, "confirmed");
        zoo.goes_on(0);
    }

    #[test]
    #[serial]
    fn a_hierarchy_is_found_wherever_it_is_mounted() {
        let (_scene, cgroup, zoo) = Scene::of(Hierarchy::available(), &["doze"]);
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = dir.path().join("a place");
        fs::create_dir(&elsewhere).unwrap();
        let usual = mount_of(cgroup.hierarchy);
        let there = |work: fn(&Cgroup, &Path)| {
            with_own_mounts(|| {
                bind(&usual, &elsewhere);
                unmount_cgroups(&[&elsewhere]);
                work(&cgroup, &elsewhere.join(cgroup.path.strip_prefix("/").unwrap()));
            });
        };
        there(|cgroup, dir| {
            let report = freeze(cgroup).ends(0, "confirmed");
            assert_eq!(report["cgroups"][0]["dir"], dir.to_str().unwrap(), "{report}");
        });
        zoo.stands(0);
        there(|_, dir| {
            iceaxe("thaw").arg(dir).arg("--json").ends(0, "confirmed");
        });
        zoo.goes_on(0);
    }

    #[test]
    #[serial]
    fn a_directory_below_any_mount_of_a_hierarchy_is_the_cgroup_that_it_shows() {
        let scene = Scene::new();
        let top = scene.cgroup(Hierarchy::available());
        let (own, other) = (top.child("own"), top.child("other"));
        let zoo = scene.zoo(&[&own], &["doze"]);
        let found = (Some(0), own.dir.to_str().unwrap().to_owned());
        let place = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let dir = place.path().join(name);
            fs::create_dir(&dir).unwrap();
            dir
        };
        let [second, part, itself, link] = ["second mount", "part", "itself", "link"].map(make);
        with_own_mounts(|| {
            let (kind, options) = match own.hierarchy {
                Hierarchy::V1 => ("cgroup", Some("freezer")),
                Hierarchy::V2 => ("cgroup2", None),
            };
            mount(Some("second"), &second, Some(kind), MsFlags::empty(), options).unwrap();
            bind(&top.dir, &part);
            bind(&own.dir, &itself);
            let linked = link.join("top");
            std::os::unix::fs::symlink(&part, &linked).unwrap();
            let below = second.join(own.path.strip_prefix("/").unwrap());
            for dir in [&below, &part.join("own"), &itself, &linked.join("own")] {
                assert_eq!(path(dir), found, "{}", dir.display());
                assert_eq!(path(behind_the_word(dir)), found, "{}", dir.display());
            }
            // The usual place is understood behind the word too.
            assert_eq!(path(behind_the_word(&own.dir)), found);
            // What is mounted over a part counts, and not what it covers.
            bind(&other.dir, &part.join("own"));
            assert_eq!(path(part.join("own")).1, other.dir.to_str().unwrap());
            let missing = path(second.join("iceaxe-test-nobody"));
            assert_eq!(missing.0, Some(3));
            // Two names of one are one.
            let run = iceaxe("freeze")
                .arg(&below)
                .arg(&itself)
                .arg(own.target())
                .arg("--json")
                .run();
            run.is(0, "confirmed");
            assert!(own.asks());
            let report = iceaxe("thaw").arg(&itself).arg("--json").ends(0, "confirmed");
            assert_eq!(
                report["cgroups"][0]["path"],
                own.path.to_str().unwrap(),
                "{report}"
            );
        });
        zoo.goes_on(0);
        let beside = path(place.path());
        assert_eq!(beside.0, Some(2));
    }
}

mod hybrid {
    use serial_test::serial;

    use super::*;

    /// A container with a cgroup of its own in both, frozen in the hierarchy that is mounted elsewhere.
    #[track_caller]
    fn is_found_elsewhere(moved: Hierarchy, kept: Hierarchy) {
        let scene = Scene::new();
        let id = format!("{:064x}", std::process::id());
        let name = format!("docker-{id}.scope");
        let own = [moved, kept].map(|hierarchy| scene.cgroup(hierarchy).child(&name));
        let zoo = scene.zoo(&own.each_ref(), &["doze"]);
        own[0].freeze();
        zoo.stands(0);
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = dir.path();
        with_own_mounts(|| {
            bind(&mount_of(moved), elsewhere);
            unmount_cgroups(&[elsewhere, &mount_of(kept)]);
            let run = iceaxe("explain").arg(&id).arg("--json").run();
            let told = &run.json()[0];
            assert_eq!(
                (&told["requested"], &told["effective"]),
                (&Value::from("frozen"), &Value::from("frozen")),
                "{run:?}"
            );
            let has_it = |cgroup: &Cgroup| {
                let all = told["cgroups"].as_array().unwrap();
                all.iter().any(|one| one["path"] == cgroup.path.to_str().unwrap())
            };
            assert!(own.iter().all(has_it), "{run:?}");
            assert!(!run.out.contains("the kernel forgot"), "{run:?}");
            iceaxe("thaw").arg(&id).arg("--json").ends(0, "confirmed");
        });
        zoo.goes_on(0);
    }

    /// What a freezer has that nobody can see is not the kernel's fault, and not thawed.
    #[track_caller]
    fn is_said_to_be_out_of_sight(unmounted: Hierarchy, kept: Hierarchy) {
        let scene = Scene::new();
        let own = [unmounted, kept].map(|hierarchy| scene.cgroup(hierarchy));
        let zoo = scene.zoo(&own.each_ref(), &["doze"]);
        own[0].freeze();
        zoo.stands(0);
        with_own_mounts(|| {
            unmount_cgroups(&[&mount_of(kept)]);
            let run = iceaxe("explain").arg(own[1].target()).arg("--json").run();
            let told = &run.json()[0];
            let holdout = &told["holdouts"][0];
            assert_eq!(
                (&holdout["class"], &holdout["on"]),
                (&Value::from("unmounted"), &Value::from(unmounted.word())),
                "{run:?}"
            );
            let command = told["ladder"][0]["command"].as_str().unwrap();
            assert!(command.starts_with("mount -t cgroup"), "{run:?}");
            let run = iceaxe("explain").arg(own[1].target()).run();
            assert!(
                run.out.contains("not mounted") && !run.out.contains("forgot"),
                "{run:?}"
            );
            iceaxe("thaw")
                .arg(own[1].target())
                .arg("--json")
                .timeout("200ms")
                .ends(9, "released");
        });
        zoo.stands(0);
        own[0].thaw();
        zoo.goes_on(0);
    }

    #[test]
    #[serial]
    fn what_v2_has_while_it_is_not_mounted_is_said_to_be_out_of_sight() {
        is_said_to_be_out_of_sight(Hierarchy::V2, Hierarchy::V1);
    }

    #[test]
    #[serial]
    fn what_v1_has_while_it_is_not_mounted_is_said_to_be_out_of_sight() {
        is_said_to_be_out_of_sight(Hierarchy::V1, Hierarchy::V2);
    }

    #[test]
    #[serial]
    fn v2_is_found_elsewhere_while_v1_is_in_its_place() {
        is_found_elsewhere(Hierarchy::V2, Hierarchy::V1);
    }

    #[test]
    #[serial]
    fn v1_is_found_elsewhere_while_v2_is_in_its_place() {
        is_found_elsewhere(Hierarchy::V1, Hierarchy::V2);
    }
}
