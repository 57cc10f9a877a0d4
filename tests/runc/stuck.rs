//! Half frozen containers, which runc itself can't undo.

use kit::engines::{HANGS, Layout, Vessel, is_in_v1_and_v2};
use kit::{Cgroup, Scene, Zoo, in_each_layout};

use crate::bundles::Runc;

in_each_layout! {
    a_freeze_that_waits_for_an_uninterruptible_task_is_undone_where_runc_hangs
    a_freeze_that_waits_for_an_uninterruptible_task_is_rolled_back
}

/// A task in a container's cgroups that sleeps and can't be interrupted, as one that waits for a dead server does.
#[track_caller]
fn uninterruptible(scene: &Scene, vessel: &Vessel) -> Zoo {
    let cgroups: Vec<&Cgroup> = vessel.cgroups.iter().collect();
    scene.zoo(&cgroups, &["dstate"])
}

fn a_freeze_that_waits_for_an_uninterruptible_task_is_undone_where_runc_hangs(layout: Layout) {
    let runc = Runc::new(layout);
    let web = runc.container("web");
    let scene = Scene::new();
    let zoo = uninterruptible(&scene, &web);
    web.cgroups[0].ask();
    web.stands();
    assert!(!web.cgroups[0].is_frozen());
    for command in ["resume", "state"] {
        assert!(runc.asked([command, &web.id], HANGS).hung(), "runc {command}");
    }
    assert!(web.asks());
    let status = runc.status(&web.id);
    assert_eq!(
        (&status["requested"], &status["effective"]),
        (&"frozen".into(), &"freezing".into()),
        "{status}"
    );
    assert_eq!(status["tasks"]["holdouts"], 1, "{status}");
    let report = runc
        .iceaxe(["thaw", &web.id, "--json", "--timeout", "300ms"])
        .is(9, "released");
    assert_eq!(report["holdouts"].as_array().map(Vec::len), Some(1), "{report}");
    assert_eq!(report["holdouts"][0]["tid"], zoo.tid(0), "{report}");
    web.is_thawed();
    runc.ended(["state", &web.id]).well();
    zoo.release(0);
    zoo.goes_on(0);
    runc.iceaxe(["thaw", &web.id, "--json"]).is(0, "unchanged");
}

fn a_freeze_that_waits_for_an_uninterruptible_task_is_rolled_back(layout: Layout) {
    let runc = Runc::new(layout);
    let web = runc.container("web");
    let scene = Scene::new();
    let zoo = uninterruptible(&scene, &web);
    let report = runc
        .iceaxe(["freeze", &web.id, "--json", "--timeout", "300ms"])
        .is(6, "rolled_back");
    assert_eq!(report["holdouts"][0]["tid"], zoo.tid(0), "{report}");
    web.is_thawed();
    assert_eq!(runc.says(&web), "running");
    zoo.release(0);
    zoo.goes_on(0);
    runc.iceaxe(["freeze", &web.id, "--json"]).is(0, "confirmed");
    web.is_frozen();
    zoo.stands(0);
    runc.iceaxe(["thaw", &web.id, "--json"]).is(0, "confirmed");
    web.is_thawed();
}

mod hybrid {
    //! For a machine with both hierarchies.

    use super::*;

    #[test]
    fn a_freeze_in_v2_alone_is_cleared_where_runc_is_blind() {
        let runc = Runc::new(Layout::AsFound);
        let web = runc.container("web");
        assert!(
            is_in_v1_and_v2(&web.cgroups),
            "this test is for a hybrid machine: {web:?}"
        );
        web.cgroups[1].freeze();
        web.stands();
        assert_eq!(runc.says(&web), "running");
        runc.ended(["resume", &web.id]).failed("not paused");
        web.stands();
        // Not even by a detour.
        runc.ended(["pause", &web.id]).well();
        runc.ended(["resume", &web.id]).well();
        web.stands();
        let status = runc.status(&web.id);
        assert_eq!(
            (&status["requested"], &status["effective"]),
            (&"frozen".into(), &"frozen".into()),
            "{status}"
        );
        runc.iceaxe(["thaw", &web.id, "--json"]).is(0, "confirmed");
        web.is_thawed();
        assert_eq!(runc.says(&web), "running");
    }
}
