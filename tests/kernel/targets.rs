//! Targets as they come: several, from standard input, hostile, and with names that no container should have.

mod any {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use nix::mount::{MsFlags, mount};
    use serial_test::serial;

    use kit::{Hierarchy, Scene, freeze, iceaxe, thaw, with_own_mounts};

    #[test]
    #[serial]
    fn any_name_that_a_cgroup_can_have_is_taken_as_it_is() {
        let scene = Scene::new();
        let top = scene.cgroup(Hierarchy::available());
        let long = "x".repeat(255);
        let names: [&[u8]; 9] = [
            b"a b:c",
            b"v1:x",
            b"machine-a\\x2db",
            b"\xff\xfe",
            b"gone (deleted)",
            b"-n",
            b"tab\tand\x1b[31mcolour",
            "naïve 木".as_bytes(),
            long.as_bytes(),
        ];
        for name in names {
            let cgroup = top.child(OsStr::from_bytes(name));
            let zoo = scene.zoo(&[&cgroup], &["doze"]);
            freeze(&cgroup).ends(0, "confirmed");
            assert!(cgroup.asks(), "{cgroup:?}");
            zoo.stands(0);
            let report = thaw(&cgroup).ends(0, "confirmed");
            assert_eq!(report["tasks"]["total"], 1, "{report}");
            zoo.goes_on(0);
            // The same by its directory.
            let report = iceaxe("freeze")
                .arg(&cgroup.dir)
                .arg("--json")
                .ends(0, "confirmed");
            assert_eq!(report["tasks"]["total"], 1, "{report}");
            thaw(&cgroup).ends(0, "confirmed");
        }
    }

    #[test]
    #[serial]
    fn a_cgroup_that_no_engine_made_has_nobody_to_be_brought_in_step_with() {
        let (_scene, cgroup, zoo) = Scene::of(Hierarchy::available(), &["doze"]);
        let resync = || iceaxe("resync").arg(cgroup.target()).arg("--json").arg("--yes");
        resync().ends(5, "denied");
        zoo.goes_on(0);
        cgroup.freeze();
        let report = resync().ends(5, "denied");
        let error = report["error"].as_str().unwrap();
        assert!(error.contains("no engine is known to have made"), "{error}");
        assert!(cgroup.asks());
        zoo.stands(0);
    }

    /// In a mount namespace of its own, something is mounted where the cgroup is.
    #[test]
    #[serial]
    fn what_is_mounted_over_a_cgroup_is_taken_for_what_it_is() {
        let scene = Scene::new();
        let top = scene.cgroup(Hierarchy::available());
        let own = top.child("own");
        let dir = &own.dir;
        let path = |kind: &str, flags: MsFlags| {
            with_own_mounts(|| {
                mount(Some(dir), dir, Some(kind), flags, None::<&str>).unwrap();
                iceaxe("path").arg(own.target()).run()
            })
        };
        let refused = path("tmpfs", MsFlags::empty());
        assert_eq!(refused.code, Some(5), "{refused:?}");
        assert!(
            refused.err.contains("is not on a cgroup file system"),
            "{refused:?}"
        );
        // The same cgroup once more.
        let found = path("none", MsFlags::MS_BIND);
        assert_eq!(
            (found.code, found.out.trim()),
            (Some(0), own.dir.to_str().unwrap()),
            "{found:?}"
        );
    }

    #[test]
    #[serial]
    fn what_can_mean_nothing_is_a_usage_error_and_touches_nothing() {
        let (_scene, cgroup, zoo) = Scene::of(Hierarchy::available(), &["doze"]);
        let word = cgroup.hierarchy.word();
        let path = cgroup.path.to_str().unwrap();
        let long = "x".repeat(256);
        let too_long = format!("{word}:{}", "/x".repeat(2100));
        for target in [
            "",
            &format!("{word}:{path}/../{}", &path[1..]),
            &format!("{word}:{path}/."),
            &format!("{word}:/{path}"),
            &format!("{word}:{}", &path[1..]),
            &format!("{word}:"),
            &format!("{word}:{path}\n"),
            &format!("{word}:{path}/{long}"),
            &too_long,
            &format!("{}/../x", cgroup.dir.display()),
            "/etc/passwd/x",
            "pid:0",
            "pid:-1",
            "pid:99999999999999999999",
            "name:a/b",
            "id:../x",
            "a/b/c/d",
            "a/",
        ] {
            for verb in ["freeze", "thaw", "status"] {
                let run = iceaxe(verb).arg(target).arg("--json").run();
                assert_eq!(run.code, Some(2), "{verb} {target:?}: {run:?}");
            }
        }
        assert!(!cgroup.asks());
        zoo.goes_on(0);
    }

    #[test]
    #[serial]
    fn what_is_not_there_is_not_found() {
        let word = Hierarchy::available().word();
        for target in [
            &format!("{word}:/iceaxe-test-nobody"),
            "pid:4194304",
            "id:iceaxe-test-nobody",
        ] {
            for verb in ["freeze", "thaw"] {
                iceaxe(verb).arg(target).arg("--json").ends(3, "not_found");
            }
        }
    }

    #[test]
    #[serial]
    fn who_is_not_there_disturbs_nobody_who_is_frozen() {
        let (_scene, cgroup, zoo) = Scene::of(Hierarchy::available(), &["doze"]);
        freeze(&cgroup).ends(0, "confirmed");
        let missing = format!("{}-not", cgroup.target().into_string().unwrap());
        for verb in ["freeze", "thaw"] {
            iceaxe(verb).arg(&missing).arg("--json").ends(3, "not_found");
            assert!(cgroup.asks(), "after {verb}");
            zoo.stands(0);
        }
        thaw(&cgroup).ends(0, "confirmed");
        zoo.goes_on(0);
    }

    #[test]
    #[serial]
    fn targets_are_read_from_standard_input() {
        let scene = Scene::new();
        let cgroups = [0, 1].map(|_| scene.cgroup(Hierarchy::available()));
        let zoo = cgroups.each_ref().map(|cgroup| scene.zoo(&[cgroup], &["doze"]));
        let targets = cgroups
            .each_ref()
            .map(|cgroup| cgroup.target().into_string().unwrap());
        let lines = format!(
            "# two of them\n\n{}\n  {}  \n{}\n",
            targets[0], targets[1], targets[0]
        );
        for (verb, asks) in [("freeze", true), ("thaw", false)] {
            let run = iceaxe(verb).arg("-").arg("--json").input(&lines).run();
            assert_eq!(run.code, Some(0), "{run:?}");
            let reports = run.json();
            let named: Vec<&str> = reports
                .iter()
                .map(|report| report["target"].as_str().unwrap())
                .collect();
            assert_eq!(named, targets, "{run:?}");
            assert!(cgroups.iter().all(|cgroup| cgroup.asks() == asks));
        }
        zoo.iter().for_each(|zoo| zoo.goes_on(0));
    }

    /// Whoever was to print the targets may have failed: `docker ps -q | iceaxe thaw -`.
    #[test]
    #[serial]
    fn standard_input_without_a_target_is_no_success() {
        let (_scene, cgroup, zoo) = Scene::of(Hierarchy::available(), &["doze"]);
        let verbs = [
            "thaw", "freeze", "kill", "status", "explain", "resync", "path", "watch",
        ];
        for (verb, input) in verbs.iter().flat_map(|verb| [(verb, ""), (verb, "\n # none\n")]) {
            let run = iceaxe(verb).arg("-").input(input).run();
            assert_eq!((run.code, run.out.as_str()), (Some(2), ""), "{verb}: {run:?}");
            assert!(
                run.err.contains("standard input has no target"),
                "{verb}: {run:?}"
            );
        }
        // What is named beside it is not touched either.
        let run = iceaxe("freeze").arg(cgroup.target()).arg("-").run();
        assert_eq!(run.code, Some(2), "{run:?}");
        assert!(!cgroup.asks());
        zoo.goes_on(0);
    }

    #[test]
    #[serial]
    fn a_target_named_twice_is_acted_on_once() {
        let scene = Scene::new();
        let cgroup = scene.cgroup(Hierarchy::available());
        // By its path and by its directory it is the same one.
        let run = freeze(&cgroup).arg(cgroup.target()).arg(&cgroup.dir).run();
        run.is(0, "confirmed");
    }

    #[test]
    #[serial]
    fn several_with_one_end_end_so_and_with_different_ends_as_12() {
        let scene = Scene::new();
        let cgroups = [0, 1].map(|_| scene.cgroup(Hierarchy::available()));
        let missing = format!("{}:/iceaxe-test-nobody", cgroups[0].hierarchy.word());
        let run = freeze(&cgroups[0]).arg(cgroups[1].target()).run();
        assert_eq!(run.code, Some(0), "{run:?}");
        assert!(run.json().iter().all(|report| report["exit"] == 0), "{run:?}");
        assert_eq!(run.json().len(), 2, "{run:?}");

        let run = thaw(&cgroups[0]).arg(&missing).arg(cgroups[1].target()).run();
        assert_eq!(run.code, Some(12), "{run:?}");
        let mut ends: Vec<u64> = run
            .json()
            .iter()
            .map(|report| report["exit"].as_u64().unwrap())
            .collect();
        ends.sort_unstable();
        assert_eq!(ends, [0, 0, 3], "{run:?}");
        assert!(!cgroups.iter().any(|cgroup| cgroup.asks()));

        let run = thaw(&cgroups[0]).arg(cgroups[1].target()).run();
        assert_eq!(run.code, Some(0), "{run:?}");
        let run = iceaxe("thaw")
            .arg(&missing)
            .arg(format!("{missing}-too"))
            .arg("--json")
            .run();
        assert_eq!(run.code, Some(3), "{run:?}");
    }

    #[test]
    #[serial]
    fn thirty_are_frozen_and_thawed_at_once() {
        let scene = Scene::new();
        let cgroups: Vec<_> = (0..30).map(|_| scene.cgroup(Hierarchy::available())).collect();
        let zoos: Vec<_> = cgroups
            .iter()
            .take(6)
            .map(|cgroup| scene.zoo(&[cgroup], &["doze"]))
            .collect();
        let lines: Vec<String> = cgroups
            .iter()
            .map(|cgroup| cgroup.target().into_string().unwrap())
            .collect();
        for (verb, asks) in [("freeze", true), ("thaw", false)] {
            let run = iceaxe(verb)
                .arg("-")
                .arg("--timeout=30s")
                .arg("--json")
                .input(lines.join("\n"))
                .run();
            assert_eq!(run.code, Some(0), "{run:?}");
            assert_eq!(run.json().len(), 30, "{run:?}");
            assert!(cgroups.iter().all(|cgroup| cgroup.asks() == asks));
        }
        zoos.iter().for_each(|zoo| zoo.goes_on(0));
    }

    #[test]
    #[serial]
    fn wrong_usage_is_exit_2() {
        for args in [
            &["freeze"][..],
            &["thaw"],
            &["frozen"],
            &["freeze", "--timeout", "soon", "x"],
            &["freeze", "x", "--force=all-of-it"],
        ] {
            let run = args[1..]
                .iter()
                .fold(iceaxe(args[0]), |command, arg| command.arg(arg))
                .run();
            assert_eq!((run.code, run.out.as_str()), (Some(2), ""), "{args:?}: {run:?}");
            assert!(!run.err.is_empty(), "{args:?}");
        }
    }
}
