//! systemd-nspawn's machines, registered with machined.

use crate::kit::Layout::{Hybrid, V2};
use crate::kit::{MadeUp, host, process};
use crate::records::machine;
use crate::scene::{Expected, Scene, container};

/// A machine in the unit, with its supervisor, PID 2 below.
fn nspawn(host: &MadeUp, name: &str, pid: i32, unit: &str) -> Expected {
    let path = format!("/machine.slice/{unit}");
    let init = process(pid, "systemd")
        .started(u64::try_from(pid).unwrap() * 9)
        .child_of(pid - 2);
    host.run(
        &process(pid - 2, "systemd-nspawn").of_host(),
        &host.lines(&format!("{path}/supervisor")),
    )
    .run(&init, &host.lines(&format!("{path}/payload/init.scope")))
    .file(&format!("run/systemd/machines/{name}"), &machine(name, unit, pid))
    .link(&format!("run/systemd/machines/unit:{unit}"), name);
    container("machine", "", &format!("v2:{path}/payload"))
        .and(&format!("v2:{path}"))
        .without_id()
        .named(name)
}

/// F12.
pub(crate) fn registered() -> Scene {
    let host = host(V2);
    let first = nspawn(&host, "labr-m1", 772, r"machine-labr\x2dm1.scope");
    let second = nspawn(&host, "labrm2", 882, "machine-labrm2.scope");
    let service = nspawn(&host, "labr-m3", 992, "systemd-nspawn@labr-m3.service");
    Scene::of(host)
        .all_mean(&["labr-m1", "name:labr-m1", "pid:772"], &first)
        .all_mean(&["labrm2", "pid:882"], &second)
        .all_mean(&["labr-m3", "pid:992"], &service)
        .fails(r"labr\x2dm1", "NotFound", &["x2dm1"])
        .fails(
            "unit:machine-labrm2.scope",
            "NotFound",
            &["unit:machine-labrm2.scope"],
        )
}

/// F12 on a hybrid host, where nspawn from a shell has no cgroup of v1.
pub(crate) fn kept_unit() -> Scene {
    let host = host(Hybrid);
    let lines = |path: &str| ["6:freezer:/".to_owned(), format!("0::{path}")];
    host.run(
        &process(770, "systemd-nspawn").of_host(),
        &lines("/payload/supervisor"),
    )
    .run(
        &process(772, "sleep").child_of(770).started(6948),
        &lines("/payload"),
    );
    let cgroup = container("", "", "v2:/payload")
        .of_whichever_runtime()
        .without_id()
        .in_shared("v1:/");
    Scene::of(host)
        .all_mean(&["v2:/payload", "cgroup:/payload"], &cgroup)
        .fails("pid:772", "NotFound", &["v2:/payload"])
        .fails("labr-m1", "NotFound", &["labr-m1"])
}

#[test]
fn a_machine_is_found_by_its_name_and_frozen_beside_its_supervisor() {
    registered().holds();
}

#[test]
fn a_machine_that_nobody_registered_is_a_cgroup() {
    kept_unit().holds();
}
