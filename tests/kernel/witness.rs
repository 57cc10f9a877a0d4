//! A second opinion: the freezer of cgroups-rs, which shares nothing with iceaxe.

mod v1 {
    use cgroups_rs::FreezerState;
    use cgroups_rs::fs::freezer::FreezerController;
    use cgroups_rs::fs::hierarchies::V1;
    use serial_test::serial;

    use kit::{Cgroup, Hierarchy, Scene, eventually, freeze, status, thaw};

    fn as_cgroups_rs_has_it(cgroup: &Cgroup) -> cgroups_rs::fs::Cgroup {
        let path = cgroup.path.strip_prefix("/").unwrap();
        cgroups_rs::fs::Cgroup::load(Box::new(V1::new()), path)
    }

    #[test]
    #[serial]
    fn what_iceaxe_froze_and_thawed_cgroups_rs_finds_so() {
        let (_scene, cgroup, zoo) = Scene::of(Hierarchy::V1, &["doze", "pipe"]);
        let theirs = as_cgroups_rs_has_it(&cgroup);
        let freezer: &FreezerController = theirs.controller_of().unwrap();
        freeze(&cgroup).ends(0, "confirmed");
        assert!(matches!(freezer.state(), Ok(FreezerState::Frozen)));
        zoo.stands(0);
        thaw(&cgroup).ends(0, "confirmed");
        assert!(matches!(freezer.state(), Ok(FreezerState::Thawed)));
        zoo.goes_on(0);
    }

    #[test]
    #[serial]
    fn what_cgroups_rs_froze_iceaxe_finds_so_and_thaws() {
        let (_scene, cgroup, zoo) = Scene::of(Hierarchy::V1, &["doze", "pipe"]);
        let theirs = as_cgroups_rs_has_it(&cgroup);
        let freezer: &FreezerController = theirs.controller_of().unwrap();
        freezer.freeze().unwrap();
        eventually("it is frozen", || {
            matches!(freezer.state(), Ok(FreezerState::Frozen))
        });
        assert_eq!(status(&cgroup)["effective"], "frozen");
        thaw(&cgroup).ends(0, "confirmed");
        assert!(matches!(freezer.state(), Ok(FreezerState::Thawed)));
        zoo.goes_on(0);
    }
}
