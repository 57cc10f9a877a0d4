//! What is printed, for people and for programs.

mod any {
    use std::path::PathBuf;

    use serde_json::Value;
    use serial_test::serial;

    use kit::{Cgroup, Hierarchy, Scene, freeze, has_keys, iceaxe, status, thaw};

    const STATES: [&str; 2] = ["requested", "effective"];

    /// Checks a report of a thaw or a freeze against what users rely on: every field is there, null where it can't be told.
    #[track_caller]
    fn has_all_fields(report: &Value) {
        let keys = [
            "schema",
            "verb",
            "target",
            "id",
            "name",
            "runtime",
            "outcome",
            "exit",
            "before",
            "after",
            "cgroups",
            "tasks",
            "proofs",
            "holdouts",
            "frozen_for_us",
            "settle_us",
            "verify_us",
            "verified_at_us",
            "writes",
            "hints",
            "error",
        ];
        has_keys(report, &keys);
        assert_eq!(report["schema"], 1);
        has_keys(&report["before"], &STATES);
        has_keys(&report["after"], &STATES);
        for cgroup in report["cgroups"].as_array().unwrap() {
            has_keys(
                cgroup,
                &["version", "path", "dir", "before", "after", "frozen_by"],
            );
            has_keys(&cgroup["before"], &STATES);
            has_keys(&cgroup["after"], &STATES);
        }
        for write in report["writes"].as_array().unwrap() {
            has_keys(write, &["file", "value"]);
        }
        for holdout in report["holdouts"].as_array().unwrap() {
            has_keys(
                holdout,
                &["pid", "tid", "comm", "state", "wchan", "class", "stack"],
            );
        }
        if !report["tasks"].is_null() {
            let words: &[&str] = if report["verb"] == "freeze" {
                &[
                    "total",
                    "frozen",
                    "unprovable",
                    "unknown",
                    "exited",
                    "new",
                    "holdouts",
                ]
            } else {
                &[
                    "total",
                    "ran",
                    "restored",
                    "woken",
                    "released",
                    "unprovable",
                    "unknown",
                    "exited",
                    "new",
                    "holdouts",
                ]
            };
            has_keys(&report["tasks"], words);
        }
    }

    #[test]
    #[serial]
    fn every_field_is_in_the_json_of_every_end() {
        let (_scene, cgroup, zoo) = Scene::of(Hierarchy::available(), &["dstate", "doze"]);
        let report = freeze(&cgroup).timeout("700ms").ends(6, "rolled_back");
        has_all_fields(&report);
        assert!(!report["holdouts"].as_array().unwrap().is_empty());
        zoo.release(0);
        zoo.goes_on(0);
        for report in [
            freeze(&cgroup).arg("-n").ends(0, "planned"),
            freeze(&cgroup).ends(0, "confirmed"),
            freeze(&cgroup).ends(0, "unchanged"),
            thaw(&cgroup).arg("-n").ends(0, "planned"),
            thaw(&cgroup).ends(0, "confirmed"),
            thaw(&cgroup).ends(0, "unchanged"),
            iceaxe("thaw")
                .arg("pid:4194304")
                .arg("--json")
                .ends(3, "not_found"),
            iceaxe("freeze").arg("v1:x").arg("--json").ends(2, "error"),
            iceaxe("freeze")
                .arg(format!("{}:/", cgroup.hierarchy.word()))
                .arg("--json")
                .ends(11, "refused"),
        ] {
            has_all_fields(&report);
        }
    }

    /// LXC takes any name, and its cgroups are called by them.
    #[test]
    #[serial]
    fn each_line_of_a_quiet_list_means_the_container_again_and_does_nothing_else() {
        let scene = Scene::new();
        let hierarchy = Hierarchy::available();
        let own = |name: &str| format!("iceaxe-test-{}{name}", std::process::id());
        let names = [
            own(""),
            format!("--rescue={}", own("")),
            format!("--{}", own("")),
            format!("-{}", own("")),
            format!("#{}", own("")),
            format!(" {} ", own("")),
            format!("pid:{}", own("")),
            own("\u{202e}gnp."),
            own("$(a) 'b\" \\c"),
        ];
        let cgroups = names.map(|name| {
            let path = PathBuf::from(format!("/lxc.payload.{name}"));
            let namesake = Cgroup {
                hierarchy,
                dir: path.clone(),
                path,
            };
            scene.cgroup_called(hierarchy, &namesake)
        });
        let _zoos = cgroups.each_ref().map(|cgroup| scene.zoo(&[cgroup], &["doze"]));
        let asking = scene.cgroup(hierarchy).child(" x\ty\u{1b}[2J ");
        asking.ask();
        let run = iceaxe("list").arg("-q").arg("--all-cgroups").run();
        assert_eq!(run.code, Some(0), "{run:?}");
        let is_ours = |line: &&str| line.contains(&own(""));
        let lines: Vec<&str> = run.out.lines().filter(is_ours).collect();
        assert_eq!(lines.len(), cgroups.len() + 1, "{run:?}");
        for line in &lines {
            assert!(!line.starts_with(['-', '#']), "{line:?}");
            let harmless = |c: char| c.is_ascii_alphanumeric() || "/_.:+-@,=%".contains(c);
            assert!(line.chars().all(harmless), "{line:?}");
        }
        let mut paths: Vec<&str> = cgroups
            .iter()
            .chain([&asking])
            .map(|cgroup| cgroup.path.to_str().unwrap())
            .collect();
        paths.sort_unstable();
        // As words of a command line, and as lines of standard input.
        let words = lines
            .iter()
            .fold(iceaxe("status").arg("--json"), |command, line| command.arg(line));
        let input = iceaxe("status").arg("--json").arg("-").input(lines.join("\n"));
        for command in [words, input] {
            let run = command.run();
            assert_eq!(run.code, Some(0), "{run:?}");
            let found = run.json();
            let mut found: Vec<_> = found
                .iter()
                .map(|one| one["cgroups"][0]["path"].as_str().unwrap())
                .collect();
            found.sort_unstable();
            assert_eq!(found, paths, "{run:?}");
        }
    }

    #[test]
    #[serial]
    fn what_is_measured_is_measured_and_the_rest_is_null() {
        let (_scene, cgroup, _zoo) = Scene::of(Hierarchy::available(), &["doze"]);
        for report in [
            freeze(&cgroup).ends(0, "confirmed"),
            thaw(&cgroup).ends(0, "confirmed"),
        ] {
            for field in ["settle_us", "verify_us", "verified_at_us"] {
                assert!(report[field].is_u64(), "{field}: {report}");
            }
            for field in ["id", "name", "runtime", "error"] {
                assert!(report[field].is_null(), "{field}: {report}");
            }
            // It is on record since when it was frozen.
            assert_eq!(
                report["frozen_for_us"].is_u64(),
                report["verb"] == "thaw",
                "{report}"
            );
        }
    }

    #[test]
    #[serial]
    fn what_is_proven_of_each_task_is_told_to_who_asks_for_more() {
        let (_scene, cgroup, zoo) = Scene::of(Hierarchy::available(), &["doze", "stopped", "dstate"]);
        let words = |report: &Value, words: [&str; 3]| {
            let tasks = zoo.all().into_iter().map(|tid| tid.to_string());
            let proofs: serde_json::Map<_, _> = tasks.zip(words.map(Value::from)).collect();
            assert_eq!(report["proofs"], Value::Object(proofs), "{report}");
        };
        let report = freeze(&cgroup).arg("-v").timeout("700ms").ends(6, "rolled_back");
        words(&report, ["frozen", "frozen", "holdout"]);
        zoo.release(2);
        zoo.goes_on(2);
        words(&freeze(&cgroup).arg("-v").ends(0, "confirmed"), ["frozen"; 3]);
        let report = thaw(&cgroup).arg("-v").ends(0, "confirmed");
        for (tid, word) in report["proofs"].as_object().unwrap() {
            assert!(
                matches!(word.as_str(), Some("ran" | "restored" | "unprovable")),
                "{tid}: {report}"
            );
        }
        assert_eq!(report["proofs"].as_object().unwrap().len(), 3, "{report}");
        // They can be thousands.
        for report in [
            freeze(&cgroup).ends(0, "confirmed"),
            thaw(&cgroup).ends(0, "confirmed"),
            thaw(&cgroup).arg("-v").arg("-n").ends(0, "planned"),
        ] {
            assert!(report["proofs"].is_null(), "{report}");
        }
    }

    #[test]
    #[serial]
    fn every_field_is_in_the_json_of_a_status() {
        let (_scene, cgroup, _zoo) = Scene::of(Hierarchy::available(), &["doze", "stopped"]);
        let seen = status(&cgroup);
        let keys = [
            "schema",
            "id",
            "name",
            "runtime",
            "pid",
            "image",
            "labels",
            "requested",
            "effective",
            "believed",
            "agree",
            "frozen_by",
            "frozen_for_us",
            "cgroups",
            "tasks",
            "memory",
        ];
        has_keys(&seen, &keys);
        let run = iceaxe("status").arg("--json").arg("v2:/no-such-cgroup").run();
        let untold = run.is(run.code.unwrap(), run.json()[0]["outcome"].as_str().unwrap());
        assert_ne!(run.code, Some(0), "{run:?}");
        keys.iter()
            .for_each(|key| assert!(untold.get(key).is_some(), "{key}: {run:?}"));
        has_keys(
            &seen["tasks"],
            &["total", "frozen", "running", "unprovable", "unknown", "holdouts"],
        );
        for cgroup in seen["cgroups"].as_array().unwrap() {
            has_keys(
                cgroup,
                &["version", "path", "dir", "requested", "effective", "frozen_by"],
            );
        }
        for field in ["id", "name", "runtime", "believed", "agree"] {
            assert!(seen[field].is_null(), "{field}: {seen}");
        }
        assert_eq!(
            (&seen["requested"], &seen["effective"]),
            (&"thawed".into(), &"thawed".into()),
            "{seen}"
        );
        assert_eq!(seen["tasks"]["total"], 2, "{seen}");
    }

    #[test]
    #[serial]
    fn quiet_prints_the_targets_that_got_there_as_typed() {
        let scene = Scene::new();
        let cgroup = scene.cgroup(Hierarchy::available());
        let typed = cgroup.target().into_string().unwrap();
        let dir = format!("{}/", cgroup.dir.display());
        for (verb, target) in [("freeze", &typed), ("thaw", &dir), ("thaw", &typed)] {
            let run = iceaxe(verb).arg("-q").arg(target).run();
            assert_eq!(
                (run.code, run.out, run.err),
                (Some(0), format!("{target}\n"), String::new())
            );
        }
        let run = iceaxe("thaw")
            .arg("-q")
            .arg(&typed)
            .arg(format!("{typed}-not"))
            .run();
        assert_eq!((run.code, run.out), (Some(12), format!("{typed}\n")));
        assert!(run.err.starts_with("iceaxe: cannot thaw "), "{}", run.err);
    }

    #[test]
    #[serial]
    fn people_are_told_the_verdict_first() {
        let (_scene, cgroup, zoo) = Scene::of(Hierarchy::available(), &["busy", "busy"]);
        let target = cgroup.target().into_string().unwrap();
        let run = iceaxe("freeze").arg(&target).run();
        assert!(
            run.out
                .starts_with(&format!("froze {target}: 2 tasks: 2 frozen; ")),
            "{run:?}"
        );
        let run = iceaxe("thaw").arg(&target).arg("--timeout=30s").run();
        assert!(
            run.out.starts_with(&format!("thawed {target}: 2 tasks: 2 ran; ")),
            "{run:?}"
        );
        assert_eq!((run.out.lines().count(), run.err.as_str()), (1, ""), "{run:?}");
        zoo.goes_on(0);
    }

    #[test]
    #[serial]
    fn verbose_says_what_was_written_where() {
        let scene = Scene::new();
        let cgroup = scene.cgroup(Hierarchy::available());
        let run = iceaxe("freeze").arg("-v").arg(cgroup.target()).run();
        let line = format!("wrote {} to {}", cgroup.frozen_word(), cgroup.switch().display());
        assert!(run.out.contains(&line), "{run:?}");
        let run = iceaxe("thaw").arg("-v").arg(cgroup.target()).run();
        let line = format!("wrote {} to {}", cgroup.thawed_word(), cgroup.switch().display());
        assert!(run.out.contains(&line), "{run:?}");
    }

    #[test]
    #[serial]
    fn a_trace_has_every_step_and_every_task() {
        let (_scene, cgroup, zoo) = Scene::of(Hierarchy::available(), &["busy", "pipe"]);
        let run = iceaxe("freeze").arg("--trace").arg(cgroup.target()).run();
        for step in ["writing ", "write returned", "settled", "verdict"] {
            assert!(run.err.contains(step), "{step}: {run:?}");
        }
        let run = iceaxe("thaw").arg("--trace").arg(cgroup.target()).run();
        for step in ["writing ", "write returned", "released", "verdict"] {
            assert!(run.err.contains(step), "{step}: {run:?}");
        }
        for tid in zoo.all() {
            assert!(run.err.contains(&format!("task {tid} ran")), "{tid}: {run:?}");
        }
    }

    #[test]
    #[serial]
    fn a_dry_run_writes_nothing_and_says_what_it_would() {
        let (_scene, cgroup, zoo) = Scene::of(Hierarchy::available(), &["doze"]);
        let writes = |value: &str| serde_json::json!([{"file": cgroup.switch(), "value": value}]);
        let report = freeze(&cgroup).arg("--dry-run").ends(0, "planned");
        assert_eq!(report["writes"], writes(cgroup.frozen_word()), "{report}");
        assert!(!cgroup.asks());
        zoo.goes_on(0);
        cgroup.freeze();
        let report = thaw(&cgroup).arg("-n").ends(0, "planned");
        assert_eq!(report["writes"], writes(cgroup.thawed_word()), "{report}");
        assert!(cgroup.asks());
        zoo.stands(0);
        let report = freeze(&cgroup).arg("-n").ends(0, "planned");
        assert_eq!(report["writes"], serde_json::json!([]), "{report}");
    }

    /// The rules are the same in a dry run: it says beforehand what would be refused.
    #[test]
    #[serial]
    fn a_dry_run_is_refused_what_is_refused() {
        let scene = Scene::new();
        let cgroup = scene.cgroup(Hierarchy::available()).child("a.slice");
        freeze(&cgroup).arg("-n").ends(11, "refused");
        freeze(&cgroup).arg("-n").arg("--force").ends(0, "planned");
        assert!(!cgroup.asks());
    }

    #[test]
    #[serial]
    fn a_task_called_over_two_lines_forges_no_line() {
        let scene = Scene::new();
        let cgroup = scene.cgroup(Hierarchy::available());
        let _zoo = scene.zoo_with(&[&cgroup], &["--comm", "x\nhint: no"], &["dstate"]);
        let run = iceaxe("freeze").arg(cgroup.target()).arg("--timeout=300ms").run();
        assert_eq!(run.code, Some(6), "{run:?}");
        assert!(
            run.err.lines().all(|line| !line.starts_with("hint: no")),
            "{run:?}"
        );
        assert!(run.err.contains("x\\u{a}hint: no"), "{run:?}");
    }

    #[test]
    #[serial]
    fn a_closed_standard_output_changes_nothing_about_the_work() {
        let (_scene, cgroup, zoo) = Scene::of(Hierarchy::available(), &["dstate", "doze"]);
        let run = freeze(&cgroup).timeout("700ms").unheard().run();
        assert_eq!((run.code, run.signal), (Some(6), None), "{run:?}");
        assert!(!cgroup.asks());
        zoo.goes_on(1);
        zoo.release(0);
        zoo.goes_on(0);
        cgroup.freeze();
        let run = thaw(&cgroup).unheard().run();
        assert_eq!((run.code, run.signal), (Some(0), None), "{run:?}");
        assert!(!cgroup.asks());
        zoo.goes_on(1);
    }

    #[test]
    #[serial]
    fn an_error_has_its_form() {
        let (_scene, cgroup, zoo) = Scene::of(Hierarchy::available(), &["dstate"]);
        let target = cgroup.target().into_string().unwrap();
        let run = iceaxe("freeze").arg(&target).arg("--timeout=500ms").run();
        let first = run.err.lines().next().unwrap();
        assert!(
            first.starts_with(&format!("iceaxe: cannot freeze {target}: ")),
            "{run:?}"
        );
        assert!(!first.ends_with('.'), "{run:?}");
        assert!(run.err.contains(&format!("task {} zoo", zoo.tid(0))), "{run:?}");
    }

    /// What a container calls itself is escaped on the way to a screen, and plain in JSON.
    #[test]
    #[serial]
    fn a_hostile_comm_does_not_reach_the_screen() {
        let scene = Scene::new();
        let cgroup = scene.cgroup(Hierarchy::available());
        let _zoo = scene.zoo_with(&[&cgroup], &["--comm", "a\u{1b}[2J) R\n0"], &["dstate"]);
        let run = iceaxe("freeze").arg(cgroup.target()).arg("--timeout=500ms").run();
        assert_eq!(run.code, Some(6), "{run:?}");
        assert!(
            !run.err.contains('\u{1b}') && !run.out.contains('\u{1b}'),
            "{run:?}"
        );
        let report = freeze(&cgroup).timeout("500ms").ends(6, "rolled_back");
        assert_eq!(report["holdouts"][0]["comm"], "a\u{1b}[2J) R\n0", "{report}");
        assert_eq!(report["holdouts"][0]["state"], "D", "{report}");
    }
}
