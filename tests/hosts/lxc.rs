//! LXC: cgroups that are called by the container's name, or by what its configuration says.

use iceaxe::engine::status;
use iceaxe::host::Hierarchy;
use iceaxe::report::{Effective, Requested};
use iceaxe::resolver::Resolver;

use crate::kit::Layout::Hybrid;
use crate::kit::{MadeUp, host, process};
use crate::limits::broken;
use crate::scene::{Expected, Scene, ask, ask_to_look, container, told};

/// An LXC container that runs at `payload`, with its monitor, PID 10 below.
fn lxc(host: &MadeUp, name: &str, pid: i32, monitor: &str, payload: &str) {
    let init = process(pid, "init")
        .started(u64::try_from(pid).unwrap() * 5)
        .child_of(pid - 10);
    host.file(
        &format!("var/lib/lxc/{name}/config"),
        &format!("# of a test\nlxc.uts.name = {name}\nlxc.rootfs.path = dir:/r\n"),
    )
    .run(&process(pid - 10, "lxc-start").of_host(), &host.lines(monitor))
    .run(&init, &host.lines(payload));
}

fn at(name: &str, path: &str) -> Expected {
    container("lxc", "", &format!("v1:{path}"))
        .and(&format!("v2:{path}"))
        .without_id()
        .named(name)
}

/// Two containers where LXC puts them.
pub(crate) fn usual() -> Scene {
    let host = host(Hybrid);
    lxc(
        &host,
        "labr-lxc1",
        3000,
        "/lxc.monitor.labr-lxc1",
        "/lxc.payload.labr-lxc1",
    );
    lxc(
        &host,
        "labr naïve",
        3100,
        "/lxc.monitor.labr naïve",
        "/lxc.payload.labr naïve",
    );
    let (first, odd) = (
        at("labr-lxc1", "/lxc.payload.labr-lxc1"),
        at("labr naïve", "/lxc.payload.labr naïve"),
    );
    Scene::of(host)
        .all_mean(&["labr-lxc1", "name:labr-lxc1", "pid:3000"], &first)
        .all_mean(&["labr naïve", "name:labr naïve", "pid:3100"], &odd)
        .fails("pid:2990", "NotFound", &["/lxc.monitor.labr-lxc1"])
        .fails("labr-lxc", "NotFound", &["labr-lxc"])
}

/// F10: the plain cgroup is a left-over, and the container lives in the next one.
pub(crate) fn stale_cgroup() -> Scene {
    let host = host(Hybrid);
    lxc(
        &host,
        "labr-lxc2",
        3000,
        "/lxc.monitor.labr-lxc2",
        "/lxc.payload.labr-lxc2-1",
    );
    lxc(
        &host,
        "labr-lxc1",
        3100,
        "/lxc.monitor.labr-lxc1",
        "/lxc.payload.labr-lxc1",
    );
    for hierarchy in [Hierarchy::V1, Hierarchy::V2] {
        host.cgroup(hierarchy, "/lxc.payload.labr-lxc2");
    }
    let second = at("labr-lxc2", "/lxc.payload.labr-lxc2-1");
    Scene::of(host)
        .all_mean(&["labr-lxc2", "name:labr-lxc2"], &second)
        .means("labr-lxc1", &at("labr-lxc1", "/lxc.payload.labr-lxc1"))
}

/// F10: the same, with a container that is really called so.
pub(crate) fn stale_or_anothers() -> Scene {
    let host = host(Hybrid);
    for hierarchy in [Hierarchy::V1, Hierarchy::V2] {
        host.cgroup(hierarchy, "/lxc.payload.labr-lxc2");
    }
    for name in ["labr-lxc2", "labr-lxc2-1"] {
        host.file(
            &format!("var/lib/lxc/{name}/config"),
            &format!("lxc.uts.name = {name}\n"),
        );
    }
    host.run(&process(3000, "init"), &host.lines("/lxc.payload.labr-lxc2-1"));
    let one = at("labr-lxc2", "/lxc.payload.labr-lxc2-1");
    Scene::of(host).can_mean("labr-lxc2", &[&one], &["labr-lxc2-1"])
}

/// `lxc.cgroup.dir`.
pub(crate) fn configured_parent() -> Scene {
    let host = host(Hybrid);
    lxc(
        &host,
        "labr-lxc4",
        3000,
        "/labrdir/lxc.monitor.labr-lxc4",
        "/labrdir/lxc.payload.labr-lxc4",
    );
    host.file(
        "var/lib/lxc/labr-lxc4/config",
        "lxc.uts.name = labr-lxc4\nlxc.cgroup.dir = labrdir\n",
    );
    let fourth = at("labr-lxc4", "/labrdir/lxc.payload.labr-lxc4");
    Scene::of(host).all_mean(&["labr-lxc4", "pid:3000"], &fourth)
}

/// F11: the processes are one level below what LXC freezes.
pub(crate) fn inner() -> Scene {
    let host = host(Hybrid);
    lxc(&host, "labr-lxc3", 3000, "/labrlxc/mon", "/labrlxc/pay/ns");
    host.file(
        "var/lib/lxc/labr-lxc3/config",
        "lxc.uts.name = labr-lxc3\nlxc.cgroup.dir.container = labrlxc/pay\nlxc.cgroup.dir.monitor=labrlxc/mon\n\
         lxc.cgroup.dir.container.inner = ns\n",
    );
    // A request at the level below would hold them as well: it is its own, and not where a freeze writes.
    let third = at("labr-lxc3", "/labrlxc/pay")
        .and("v1:/labrlxc/pay/ns")
        .and("v2:/labrlxc/pay/ns");
    Scene::of(host).all_mean(&["labr-lxc3", "name:labr-lxc3"], &third)
}

#[test]
fn a_container_is_found_by_its_name_and_its_monitor_is_none() {
    usual().holds();
}

#[test]
fn a_left_over_cgroup_does_not_hide_the_living_one() {
    stale_cgroup().holds();
}

#[test]
fn a_name_that_is_also_anothers_second_cgroup_is_ambiguous() {
    stale_or_anothers().holds();
}

/// LXC's own one is stopped, and one of LXD's runs, which can't be told from its second cgroup.
#[test]
fn what_cannot_be_read_of_lxc_settles_not_whose_a_cgroup_is() {
    for unread in ["var/lib/lxd/containers", "var/lib/lxc/labr-lxc2-1"] {
        let host = host(Hybrid);
        host.file("var/lib/lxc/labr-lxc2/config", "lxc.uts.name = labr-lxc2\n");
        let path = "/lxc.payload.labr-lxc2-1";
        host.run(&process(3000, "init"), &host.lines(path));
        let looks = |typed: &str| ask_to_look(&host.open(), typed);
        // As long as all can be read it is LXC's.
        assert_eq!(looks("labr-lxc2").unwrap().len(), 1);
        broken(&host, unread);
        for typed in ["labr-lxc2", "name:labr-lxc2", "labr-lxc2-1"] {
            let told = match looks(typed) {
                Err(error) => told(&error),
                Ok(found) => panic!("{unread}: {typed} means {found:?}"),
            };
            assert!(told.contains(&format!("v1:{path}")), "{unread}: {typed}: {told}");
        }
        let opened = host.open();
        let everything = Resolver::new(&opened, []).everything();
        assert_eq!(everything.ids(), ["labr-lxc2-1"], "{unread}");
    }
}

#[test]
fn a_configured_parent_is_followed() {
    configured_parent().holds();
}

#[test]
fn a_container_with_an_inner_cgroup_is_frozen_above_it() {
    inner().holds();
}

#[test]
fn a_configuration_that_lost_its_end_does_not_mean_what_holds_the_monitor() {
    for end in ["labrlxc", "labrlxc/", "/", "labrlxc/.."] {
        let scene = inner();
        let config = format!("lxc.uts.name = labr-lxc3\nlxc.cgroup.dir.container = {end}\n");
        scene.host.file("var/lib/lxc/labr-lxc3/config", &config);
        Scene::of(scene.host).refuses("labr-lxc3").holds();
    }
}

#[test]
fn a_freeze_above_the_inner_cgroup_is_the_containers_own() {
    let scene = inner();
    let held = process(3000, "init")
        .started(15_000)
        .child_of(2990)
        .state('D', "__refrigerator");
    std::fs::remove_dir_all(scene.host.path("proc/3000")).unwrap();
    scene.host.run(&held, &scene.host.lines("/labrlxc/pay/ns"));
    scene.host.frozen(Hierarchy::V1, "/labrlxc/pay");
    let host = scene.host.open();
    let found = ask(&host, "labr-lxc3").unwrap();
    let (status, _) = status(&host, &found[0].container, None).unwrap();
    assert_eq!(status.requested, Some(Requested::Frozen));
    assert_eq!(status.effective, Some(Effective::Frozen));
    assert!(status.frozen_by.is_empty(), "{:?}", status.frozen_by);
}
