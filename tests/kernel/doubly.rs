//! A container with a cgroup in each hierarchy: two freezers that know nothing of each other.

mod hybrid {
    use std::ffi::OsString;

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    use serial_test::serial;

    use kit::{
        Cgroup, Hierarchy, Scene, Zoo, bind, eventually, freeze, iceaxe, is_gone, status, tasks_add_up, thaw,
        with_own_mounts,
    };

    /// A container's two cgroups with tasks in both.
    fn container(scene: &Scene, kinds: &[&str]) -> (Cgroup, Cgroup, Zoo) {
        let (v1, v2) = (scene.cgroup(Hierarchy::V1), scene.cgroup(Hierarchy::V2));
        let zoo = scene.zoo(&[&v1, &v2], kinds);
        (v1, v2, zoo)
    }

    /// What was written, in order: file and value.
    fn writes(report: &serde_json::Value) -> Vec<(String, String)> {
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let list = report["writes"].as_array().unwrap();
        list.iter()
            .map(|write| (text(&write["file"]), text(&write["value"])))
            .collect()
    }

    fn write(cgroup: &Cgroup, value: &str) -> (String, String) {
        (cgroup.switch().to_str().unwrap().to_owned(), value.to_owned())
    }

    #[test]
    #[serial]
    fn a_request_that_cannot_be_read_keeps_the_other_one_from_no_thaw() {
        let scene = Scene::new();
        let (v1, v2, zoo) = container(&scene, &["doze"]);
        v1.freeze();
        let unreadable = tempfile::NamedTempFile::new().unwrap();
        with_own_mounts(|| {
            bind(unreadable.path(), &v2.dir.join("cgroup.freeze"));
            let report = thaw(&v1).ends(1, "error");
            assert_eq!(writes(&report), [write(&v1, "THAWED")], "{report}");
            let error = report["error"].as_str().unwrap();
            assert!(error.contains("cgroup.freeze"), "{error}");
        });
        assert!(!v1.asks());
        zoo.goes_on(0);
    }

    #[test]
    #[serial]
    fn a_freeze_writes_one_hierarchy_and_shows_both() {
        let scene = Scene::new();
        let (v1, v2, zoo) = container(&scene, &["doze", "pipe"]);
        let report = freeze(&v1).ends(0, "confirmed");
        assert_eq!(writes(&report), [write(&v1, "FROZEN")]);
        assert!(v1.asks() && !v2.asks());
        let cgroups = report["cgroups"].as_array().unwrap();
        let shown: Vec<_> = cgroups
            .iter()
            .map(|cgroup| (&cgroup["version"], &cgroup["path"]))
            .collect();
        assert_eq!(
            shown,
            [
                (&1.into(), &v1.path.to_str().unwrap().into()),
                (&2.into(), &v2.path.to_str().unwrap().into())
            ]
        );
        zoo.stands(0);
        thaw(&v1).ends(0, "confirmed");
        zoo.goes_on(0);
    }

    #[test]
    #[serial]
    fn frozen_by_v2_and_then_by_v1_it_is_thawed_in_both() {
        let scene = Scene::new();
        for kinds in [&["busy"][..], &["pipe"], &["sleep"], &["stopped"]] {
            let (v1, v2, zoo) = container(&scene, kinds);
            v2.freeze();
            v1.freeze();
            let seen = status(&v1);
            assert_eq!(
                (&seen["requested"], &seen["effective"]),
                (&"frozen".into(), &"frozen".into()),
                "{seen}"
            );
            zoo.stands(0);
            let report = thaw(&v1).ends(0, "confirmed");
            assert_eq!(
                writes(&report),
                [write(&v2, "0"), write(&v1, "THAWED")],
                "v2 first: {report}"
            );
            assert!(!v1.asks() && !v2.asks());
            let words: &[&str] = match kinds {
                ["stopped"] => &["restored", "unprovable"],
                _ => &["ran"],
            };
            tasks_add_up(&report, &[(words, 1)]);
        }
    }

    #[test]
    #[serial]
    fn frozen_by_v1_and_then_by_v2_it_is_thawed_in_both() {
        let scene = Scene::new();
        for kinds in [&["busy"][..], &["pipe"], &["stopped"]] {
            let (v1, v2, zoo) = container(&scene, kinds);
            v1.freeze();
            // Never met, as a task that v1 holds can't come into v2's trap; the request stands all the same.
            v2.ask();
            zoo.stands(0);
            let report = thaw(&v2).ends(0, "confirmed");
            assert_eq!(
                writes(&report),
                [write(&v2, "0"), write(&v1, "THAWED")],
                "v2 first: {report}"
            );
            assert!(!v1.asks() && !v2.asks());
            if kinds != ["stopped"] {
                tasks_add_up(&report, &[(&["ran"], 1)]);
            }
        }
    }

    #[test]
    #[serial]
    fn a_request_in_the_other_hierarchy_alone_is_found_and_cleared() {
        let scene = Scene::new();
        let (v1, v2, zoo) = container(&scene, &["doze"]);
        v2.freeze();
        let seen = status(&v1);
        assert_eq!(
            (&seen["requested"], &seen["effective"]),
            (&"frozen".into(), &"frozen".into()),
            "{seen}"
        );
        let report = thaw(&v1).ends(0, "confirmed");
        assert_eq!(writes(&report), [write(&v2, "0")]);
        zoo.goes_on(0);
        v1.freeze();
        let report = thaw(&v2).ends(0, "confirmed");
        assert_eq!(writes(&report), [write(&v1, "THAWED")]);
        zoo.goes_on(0);
    }

    #[test]
    #[serial]
    fn a_freeze_that_stands_in_the_other_hierarchy_is_proven_there() {
        let scene = Scene::new();
        let (v1, v2, zoo) = container(&scene, &["doze", "pipe"]);
        v2.freeze();
        let report = freeze(&v1).ends(0, "unchanged");
        tasks_add_up(&report, &[(&["frozen"], 2)]);
        assert_eq!(writes(&report), []);
        assert!(!v1.asks() && v2.asks());
        zoo.stands(0);
    }

    #[test]
    #[serial]
    fn a_frozen_cgroup_shared_with_others_is_reported_and_not_written() {
        let scene = Scene::new();
        let (v1, v2) = (scene.cgroup(Hierarchy::V1), scene.cgroup(Hierarchy::V2));
        let zoo = scene.zoo(&[&v1, &v2], &["doze"]);
        let stranger = scene.zoo(&[&v2], &["doze"]);
        v1.freeze();
        v2.ask();
        stranger.stands(0);
        let report = thaw(&v1).ends(8, "held");
        assert_eq!(writes(&report), [write(&v1, "THAWED")]);
        assert!(
            report["error"]
                .as_str()
                .unwrap()
                .contains(v2.path.to_str().unwrap()),
            "{report}"
        );
        assert!(v2.asks());
        zoo.stands(0);
        v2.thaw();
        zoo.goes_on(0);
    }

    #[test]
    #[serial]
    fn an_ancestor_in_the_other_hierarchy_is_named() {
        let scene = Scene::new();
        let (v1, above) = (scene.cgroup(Hierarchy::V1), scene.cgroup(Hierarchy::V2));
        let v2 = above.child("own");
        let zoo = scene.zoo(&[&v1, &v2], &["doze"]);
        above.freeze();
        let report = thaw(&v1).ends(8, "held");
        assert!(
            report["error"]
                .as_str()
                .unwrap()
                .contains(above.path.to_str().unwrap()),
            "{report}"
        );
        let frozen_by = &report["cgroups"][1]["frozen_by"];
        assert_eq!(
            *frozen_by,
            serde_json::json!([above.path.to_str().unwrap()]),
            "{report}"
        );
        zoo.stands(0);
        thaw(&v1).arg("--ancestors").ends(0, "confirmed");
        zoo.goes_on(0);
    }

    /// A cgroup of the same path in each hierarchy.
    fn namesakes(scene: &Scene) -> (Cgroup, Cgroup, OsString) {
        let v1 = scene.cgroup(Hierarchy::V1);
        let v2 = scene.cgroup_called(Hierarchy::V2, &v1);
        let mut target = OsString::from("cgroup:");
        target.push(&v1.path);
        (v1, v2, target)
    }

    #[test]
    #[serial]
    fn a_path_with_different_tasks_in_each_hierarchy_is_ambiguous() {
        let scene = Scene::new();
        let (v1, v2, target) = namesakes(&scene);
        let (one, other) = (scene.zoo(&[&v1], &["doze"]), scene.zoo(&[&v2], &["doze"]));
        for verb in ["freeze", "thaw"] {
            let report = iceaxe(verb).arg(&target).arg("--json").ends(4, "ambiguous");
            let hints = report["hints"].to_string();
            for cgroup in [&v1, &v2] {
                assert!(hints.contains(cgroup.target().to_str().unwrap()), "{report}");
            }
        }
        assert!(!v1.asks() && !v2.asks());
        one.goes_on(0);
        other.goes_on(0);
    }

    #[test]
    #[serial]
    fn a_path_with_the_same_tasks_in_each_hierarchy_is_one_container() {
        let scene = Scene::new();
        let (v1, v2, target) = namesakes(&scene);
        let zoo = scene.zoo(&[&v1, &v2], &["doze"]);
        iceaxe("freeze").arg(&target).arg("--json").ends(0, "confirmed");
        assert!(v1.asks() && !v2.asks(), "v1, as the runtimes do");
        v2.ask();
        iceaxe("thaw").arg(&target).arg("--json").ends(0, "confirmed");
        assert!(!v1.asks() && !v2.asks());
        zoo.goes_on(0);
    }

    /// An equal path proves nothing: a namesake without the container's tasks is not its cgroup.
    #[test]
    #[serial]
    fn a_namesake_of_strangers_is_not_thawed() {
        let scene = Scene::new();
        let (v1, v2, _) = namesakes(&scene);
        let zoo = scene.zoo(&[&v1], &["doze"]);
        let stranger = scene.zoo(&[&v2], &["doze"]);
        v1.freeze();
        v2.freeze();
        let report = thaw(&v1).ends(0, "confirmed");
        assert_eq!(writes(&report), [write(&v1, "THAWED")]);
        assert!(v2.asks());
        zoo.goes_on(0);
        stranger.stands(0);
    }

    #[test]
    #[serial]
    fn a_kill_through_v2_takes_effect_with_the_thaw_of_v1() {
        let scene = Scene::new();
        let (v1, _v2, zoo) = container(&scene, &["doze", "sleep"]);
        freeze(&v1).ends(0, "confirmed");
        for tid in zoo.all() {
            kill(Pid::from_raw(tid), Signal::SIGKILL).unwrap();
        }
        assert!(zoo.all().iter().all(|&tid| !is_gone(tid)));
        let report = thaw(&v1).ends(0, "confirmed");
        assert_eq!(report["tasks"]["total"], 2, "{report}");
        eventually("they are gone", || zoo.all().iter().all(|&tid| is_gone(tid)));
    }

    #[test]
    #[serial]
    fn a_rollback_leaves_the_other_hierarchys_request_alone() {
        let scene = Scene::new();
        let (v1, v2, zoo) = container(&scene, &["dstate", "doze"]);
        let report = freeze(&v1).timeout("700ms").ends(6, "rolled_back");
        assert!(!v1.asks() && !v2.asks(), "{report}");
        zoo.goes_on(1);
        v2.ask();
        freeze(&v1).timeout("700ms").ends(6, "rolled_back");
        assert!(!v1.asks() && v2.asks());
        zoo.stands(1);
    }

    #[test]
    #[serial]
    fn tasks_spread_below_one_cgroup_of_the_other_hierarchy_are_found() {
        let scene = Scene::new();
        let (v1, v2) = (scene.cgroup(Hierarchy::V1), scene.cgroup(Hierarchy::V2));
        let (one, other) = (v2.child("one"), v2.child("other"));
        let zoo = scene.zoo(&[&v1, &one], &["doze"]);
        let more = scene.zoo(&[&v1, &other], &["doze"]);
        v2.freeze();
        thaw(&v1).ends(0, "confirmed");
        assert!(!v2.asks());
        zoo.goes_on(0);
        more.goes_on(0);
    }

    #[test]
    #[serial]
    fn path_prints_where_a_freeze_would_write() {
        let scene = Scene::new();
        let (v1, v2, _zoo) = container(&scene, &["doze"]);
        let run = iceaxe("path").arg(v1.target()).run();
        assert_eq!(
            (run.code, run.out.trim_end()),
            (Some(0), v1.dir.to_str().unwrap()),
            "{run:?}"
        );
        let run = iceaxe("path").arg("--all").arg(v1.target()).run();
        assert_eq!(
            run.out.lines().collect::<Vec<_>>(),
            [v1.dir.to_str().unwrap(), v2.dir.to_str().unwrap()],
            "{run:?}"
        );
    }
}
