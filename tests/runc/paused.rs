//! What runc does with a container that iceaxe froze: what it refuses, what it waits with, and what it must not undo.

use std::fs;
use std::io::Write;
use std::path::Path;

use kit::engines::{HANGS, Layout, above, below};
use kit::{Cgroup, Hierarchy, eventually, in_each_layout, is_gone, mount_of};

use crate::bundles::{Runc, own_id};

in_each_layout! {
    runc_starts_nothing_in_what_iceaxe_froze_until_it_is_thawed
    what_runc_starts_in_spite_of_a_freeze_goes_on_with_the_thaw
    runc_makes_no_container_in_a_cgroup_that_iceaxe_froze
    an_update_by_runc_leaves_it_frozen
    runc_asks_the_kernel_and_is_always_in_step
    runc_deletes_what_iceaxe_froze
    runc_deletes_what_has_frozen_cgroups_inside
    what_runc_killed_while_it_was_frozen_is_gone_after_the_thaw
    iceaxe_kills_what_runc_paused
    a_container_below_a_frozen_cgroup_is_told_so_where_runc_says_that_it_runs
}

fn runc_starts_nothing_in_what_iceaxe_froze_until_it_is_thawed(layout: Layout) {
    let runc = Runc::new(layout);
    let web = runc.container("web");
    runc.iceaxe(["freeze", &web.id, "--json"]).is(0, "confirmed");
    let exec = runc.ended(["exec", &web.id, "true"]);
    exec.failed("cannot exec in a paused container");
    assert_eq!(exec.code(), Some(255), "{exec:?}");
    web.is_frozen();
    runc.iceaxe(["thaw", &web.id, "--json"]).is(0, "confirmed");
    runc.ended(["exec", &web.id, "true"]).well();
    web.is_thawed();
}

fn what_runc_starts_in_spite_of_a_freeze_goes_on_with_the_thaw(layout: Layout) {
    let runc = Runc::new(layout);
    let web = runc.container("web");
    runc.iceaxe(["freeze", &web.id, "--json"]).is(0, "confirmed");
    let mut exec = runc.started(["exec", "--ignore-paused", &web.id, "true"]);
    assert!(!exec.ends_within(HANGS));
    web.is_frozen();
    runc.iceaxe(["thaw", &web.id, "--json"]).is(0, "confirmed");
    exec.answer(HANGS).answered().well();
    web.is_thawed();
}

fn runc_makes_no_container_in_a_cgroup_that_iceaxe_froze(layout: Layout) {
    let runc = Runc::new(layout);
    let id = own_id("web");
    let path = format!("/{id}");
    let hierarchy = match layout {
        Layout::AsFound => Hierarchy::available(),
        Layout::V2 => Hierarchy::V2,
    };
    runc.cleared_away(&path);
    let cgroup = Cgroup {
        hierarchy,
        dir: mount_of(hierarchy).join(&id),
        path: Path::new(&path).to_owned(),
    };
    fs::create_dir(&cgroup.dir).unwrap();
    let target = cgroup.target();
    let target = target.to_str().unwrap();
    runc.iceaxe(["freeze", target, "--json"]).is(0, "confirmed");
    runc.attempt(&id, &path, &[])
        .failed("container's cgroup unexpectedly frozen");
    assert!(cgroup.is_frozen());
    runc.iceaxe(["thaw", target, "--json"]).is(0, "confirmed");
    runc.container_at(&id, &path).is_thawed();
}

fn an_update_by_runc_leaves_it_frozen(layout: Layout) {
    let runc = Runc::new(layout);
    let web = runc.container("web");
    runc.iceaxe(["freeze", &web.id, "--json"]).is(0, "confirmed");
    // It sets everything again, the freezer too; v2 may have no controller here to change anything of.
    let mut resources = tempfile::NamedTempFile::new().unwrap();
    resources.write_all(b"{}").unwrap();
    let update = [
        "update",
        "--resources",
        resources.path().to_str().unwrap(),
        &web.id,
    ];
    for _ in 0..2 {
        runc.ended(update).well();
        web.is_frozen();
        assert_eq!(runc.says(&web), "paused");
    }
    runc.iceaxe(["thaw", &web.id, "--json"]).is(0, "confirmed");
    runc.ended(update).well();
    web.is_thawed();
}

fn runc_asks_the_kernel_and_is_always_in_step(layout: Layout) {
    let runc = Runc::new(layout);
    let web = runc.container("web");
    let is_left_alone = || {
        let report = runc
            .iceaxe(["resync", &web.id, "--yes", "--json"])
            .is(0, "unchanged");
        assert_eq!(report["writes"], serde_json::json!([]), "{report}");
    };
    is_left_alone();
    web.is_thawed();
    runc.iceaxe(["freeze", &web.id, "--json"]).is(0, "confirmed");
    assert_eq!(runc.says(&web), "paused");
    is_left_alone();
    web.is_frozen();
    runc.ended(["resume", &web.id]).well();
    web.is_thawed();
}

fn runc_deletes_what_iceaxe_froze(layout: Layout) {
    let runc = Runc::new(layout);
    let [web, beside] = ["web", "beside"].map(|name| runc.container(name));
    for vessel in [&web, &beside] {
        runc.iceaxe(["freeze", &vessel.id, "--json"]).is(0, "confirmed");
    }
    runc.ended(["delete", "--force", &web.id]).well();
    eventually("its process is gone", || is_gone(web.pid));
    eventually("its cgroups are gone", || {
        web.cgroups.iter().all(|cgroup| !cgroup.dir.exists())
    });
    for verb in ["status", "thaw"] {
        runc.iceaxe([verb, &web.id]).refuses(3, &["no such container"]);
    }
    beside.is_frozen();
}

fn runc_deletes_what_has_frozen_cgroups_inside(layout: Layout) {
    let runc = Runc::new(layout);
    let web = runc.container("web");
    let inner = below(&web.cgroups[0], "inner");
    fs::create_dir(&inner.dir).unwrap();
    let target = inner.target();
    runc.iceaxe(["freeze", target.to_str().unwrap(), "--json"])
        .is(0, "confirmed");
    runc.iceaxe(["freeze", &web.id, "--json"]).is(0, "confirmed");
    runc.ended(["delete", "--force", &web.id]).well();
    eventually("its process is gone", || is_gone(web.pid));
    eventually("its cgroups are gone", || {
        web.cgroups.iter().all(|cgroup| !cgroup.dir.exists())
    });
}

fn what_runc_killed_while_it_was_frozen_is_gone_after_the_thaw(layout: Layout) {
    let runc = Runc::new(layout);
    let web = runc.container("web");
    runc.iceaxe(["freeze", &web.id, "--json"]).is(0, "confirmed");
    runc.ended(["kill", &web.id, "KILL"]).well();
    // runc thaws what it kills where that is needed; who comes to thaw it finds it on its way or gone.
    let code = runc.iceaxe(["thaw", &web.id, "--json"]).code();
    assert!(matches!(code, Some(0 | 3)), "{code:?}");
    eventually("it is gone", || is_gone(web.pid));
    assert!(!web.cgroups[0].dir.exists() || web.cgroups[0].tids().is_empty());
}

/// crun's own kill leaves it paused on v1 and says that all is well.
fn iceaxe_kills_what_runc_paused(layout: Layout) {
    let runc = Runc::new(layout);
    let [web, beside] = ["web", "beside"].map(|name| runc.container(name));
    for vessel in [&web, &beside] {
        runc.ended(["pause", &vessel.id]).well();
    }
    let report = runc.iceaxe(["kill", &web.id, "--json"]).is(0, "confirmed");
    assert!(is_gone(web.pid), "{report}");
    assert_eq!(runc.says(&web), "stopped");
    beside.is_frozen();
    runc.ended(["delete", &web.id]).well();
    runc.iceaxe(["thaw", &beside.id, "--json"]).is(0, "confirmed");
    beside.is_thawed();
}

/// A paused pod of Kubernetes; runc reports only what the container's own cgroup asks for.
fn a_container_below_a_frozen_cgroup_is_told_so_where_runc_says_that_it_runs(layout: Layout) {
    let runc = Runc::new(layout);
    let (id, parent) = (own_id("web"), own_id("pod"));
    let web = runc.container_at(&id, &format!("/{parent}/{id}"));
    let pod = above(&web.cgroups[0]);
    pod.freeze();
    web.stands();
    assert_eq!(runc.says(&web), "running");
    runc.ended(["resume", &web.id]).failed("not paused");
    let status = runc.status(&web.id);
    assert_eq!(
        (&status["requested"], &status["effective"], &status["frozen_by"]),
        (
            &"thawed".into(),
            &"frozen".into(),
            &serde_json::json!([format!("/{parent}")])
        ),
        "{status}"
    );
    runc.iceaxe(["thaw", &web.id, "--json"]).is(8, "held");
    web.stands();
    runc.iceaxe(["thaw", &web.id, "--ancestors", "--json"])
        .is(0, "confirmed");
    assert!(!pod.asks());
    web.is_thawed();
}
