//! The time that a cgroup was frozen: what iceaxe tells of it and what the kernel counts, which agree.

mod v2 {
    use std::fs;
    use std::time::{Duration, Instant};

    use serial_test::serial;

    use kit::{Cgroup, Hierarchy, Scene, eventually, freeze, kernel, stands_still, status, thaw};

    /// Far more than the kernel's and iceaxe's own time for a freeze on any machine.
    const WHILE: Duration = Duration::from_millis(300);

    /// How long the kernel counts it as frozen, all its freezes together. Before Linux 6.18 it does not.
    fn counted(cgroup: &Cgroup) -> Option<u64> {
        let text = fs::read_to_string(cgroup.file("cgroup.stat.local"));
        assert_eq!(text.is_ok(), kernel() >= (6, 18), "{text:?}");
        let text = text.ok()?; // it has none, which is as expected
        let count = text.lines().find_map(|line| line.strip_prefix("frozen_usec "));
        Some(count.unwrap().parse().unwrap())
    }

    #[track_caller]
    fn grows(cgroup: &Cgroup) {
        if let Some(before) = counted(cgroup) {
            eventually("the kernel's count grows", || counted(cgroup) > Some(before));
        }
    }

    #[track_caller]
    fn rests(cgroup: &Cgroup) {
        stands_still("the kernel's count", || counted(cgroup).unwrap_or(0));
    }

    #[test]
    #[serial]
    fn the_time_frozen_is_what_lies_between_freeze_and_thaw() {
        let (_scene, cgroup, zoo) = Scene::of(Hierarchy::V2, &["doze"]);
        assert!(status(&cgroup)["frozen_for_us"].is_null());
        assert_eq!(counted(&cgroup).unwrap_or(0), 0);
        let mut total = Duration::ZERO..Duration::ZERO;
        for _ in 0..2 {
            let asked = Instant::now();
            freeze(&cgroup).ends(0, "confirmed");
            let frozen = Instant::now();
            eventually("a while is over", || frozen.elapsed() > WHILE);
            zoo.stands(0);
            grows(&cgroup);
            let held = frozen.elapsed();
            let seen = status(&cgroup);
            // Null where nobody can tell which freeze it is of.
            let told = seen["frozen_for_us"].as_u64().map(Duration::from_micros);
            let fits = told.map_or(seen["frozen_for_us"].is_null(), |told| {
                (held..=asked.elapsed()).contains(&told)
            });
            assert!(fits, "held for {held:?}: {seen}");
            freeze(&cgroup).ends(0, "unchanged");
            total.start += frozen.elapsed();
            thaw(&cgroup).ends(0, "confirmed");
            total.end += asked.elapsed();
            rests(&cgroup);
            thaw(&cgroup).ends(0, "unchanged");
            let count = counted(&cgroup).map(Duration::from_micros);
            assert!(
                count.is_none_or(|count| total.contains(&count)),
                "{count:?} in {total:?}"
            );
            assert!(status(&cgroup)["frozen_for_us"].is_null());
        }
    }

    /// With a request of its own or an ancestor's, and not with a descendant's; a thaw that is no success ends nothing.
    #[test]
    #[serial]
    fn the_time_runs_as_long_as_iceaxe_calls_it_frozen() {
        let scene = Scene::new();
        let parent = scene.cgroup(Hierarchy::V2);
        let child = parent.child("child");
        let zoo = scene.zoo(&[&child], &["doze"]);
        freeze(&child).ends(0, "confirmed");
        grows(&child);
        rests(&parent);
        freeze(&parent).ends(0, "confirmed");
        grows(&parent);
        thaw(&child).ends(8, "held");
        grows(&child);
        zoo.stands(0);
        thaw(&parent).ends(0, "confirmed");
        rests(&parent);
        rests(&child);
        zoo.goes_on(0);
    }

    #[test]
    #[serial]
    fn the_time_is_the_cgroups_and_not_its_tasks() {
        let scene = Scene::new();
        let (frozen, running) = (scene.cgroup(Hierarchy::V2), scene.cgroup(Hierarchy::V2));
        let zoo = scene.zoo(&[&running], &["doze"]);
        freeze(&frozen).ends(0, "confirmed");
        grows(&frozen);
        frozen.admit(zoo.tid(0));
        grows(&frozen);
        running.admit(zoo.tid(0));
        zoo.goes_on(0);
        grows(&frozen);
        rests(&running);
        thaw(&frozen).ends(0, "confirmed");
        rests(&frozen);
    }
}
