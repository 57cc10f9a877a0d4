//! Threads that are elsewhere than their process.

use kit::{Hierarchy, Scene, freeze, tasks_add_up, thaw};

mod v1 {
    use super::{Hierarchy, Scene, freeze, tasks_add_up, thaw};

    /// v1 freezes threads, not processes: only one of three sits in the frozen cgroup.
    #[test]
    #[serial_test::serial]
    fn a_single_frozen_thread_is_seen_and_thawed() {
        let scene = Scene::new();
        let (home, away) = (scene.cgroup(Hierarchy::V1), scene.cgroup(Hierarchy::V1));
        let zoo = scene.zoo(&[&home], &["threads:3"]);
        let &[one, two, three] = zoo.tids(0) else {
            unreachable!()
        };
        away.admit_thread(three);
        assert_eq!(away.tids(), [three]);

        let report = freeze(&away).ends(0, "confirmed");
        tasks_add_up(&report, &[(&["frozen"], 1)]);
        kit::stands_still("the third thread", || zoo.beats_of(0, 2));
        for nth in [0, 1] {
            let before = zoo.beats_of(0, nth);
            kit::eventually("the others go on", || zoo.beats_of(0, nth) > before);
        }
        assert!(home.holds(one) && home.holds(two));
        // The others' cgroup is not frozen, whatever its process' third thread is.
        thaw(&home).ends(0, "unchanged");

        let report = thaw(&away).ends(0, "confirmed");
        assert_eq!(report["tasks"]["total"], 1, "{report}");
        zoo.goes_on(0);
    }
}

mod v2 {
    use super::{Hierarchy, Scene, freeze, tasks_add_up, thaw};

    /// In a threaded cgroup `cgroup.procs` can't be read at all.
    #[test]
    #[serial_test::serial]
    fn a_threaded_cgroup_is_frozen_and_thawed() {
        let scene = Scene::new();
        let domain = scene.cgroup(Hierarchy::V2);
        let threaded = domain.child("threaded");
        threaded.write("cgroup.type", "threaded");
        let zoo = scene.zoo(&[&domain], &["threads:3"]);
        // Not the leader, so that the process is elsewhere.
        let &tid = zoo.tids(0).iter().find(|&&tid| tid != leader(tid)).unwrap();
        let nth = zoo.tids(0).iter().position(|&other| other == tid).unwrap();
        threaded.admit_thread(tid);
        assert!(std::fs::read_to_string(threaded.file("cgroup.procs")).is_err());

        let report = freeze(&threaded).ends(0, "confirmed");
        tasks_add_up(&report, &[(&["frozen"], 1)]);
        kit::stands_still("the thread inside", || zoo.beats_of(0, nth));
        for other in (0..3).filter(|&other| other != nth) {
            let before = zoo.beats_of(0, other);
            kit::eventually("the others go on", || zoo.beats_of(0, other) > before);
        }
        let report = thaw(&threaded).ends(0, "confirmed");
        tasks_add_up(&report, &[(&["ran"], 1)]);
        zoo.goes_on(0);
    }

    fn leader(tid: i32) -> i32 {
        let status = std::fs::read_to_string(format!("/proc/{tid}/status")).unwrap();
        status
            .lines()
            .find_map(|line| line.strip_prefix("Tgid:"))
            .unwrap()
            .trim()
            .parse()
            .unwrap()
    }
}
