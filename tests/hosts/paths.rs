//! Every way in which a runtime is known to name a container's cgroup, a row each. A row is a host with one process in
//! such a cgroup: it is found by the process and, where the path bears an ID, by that, with no record but the one that
//! the row has.

use crate::kit::Layout::{self, Hybrid, V1, V2};
use crate::kit::{MadeUp, host, process};
use crate::records::youki_state;
use crate::scene::{Scene, container, readable};

/// The process of each row.
const PID: i32 = 5000;

/// A row.
struct Row {
    /// Who makes such cgroups, and how.
    what: &'static str,
    /// The runtime that must be told; empty where the path leaves it open.
    runtime: &'static str,
    layout: Layout,
    /// The process's path, the same in each hierarchy; or its lines with `|` between.
    lines: &'static str,
    /// The runtime's record, as `<kind> <root> <ID>`; empty where it has none or none is wanted.
    record: &'static str,
    /// Where a freeze writes, then what else is the container's own, then with a `~` what it shares; `=` is the path
    /// of `lines` in each hierarchy of the layout. Or the kind of an error and words that it says.
    answer: &'static str,
}

const fn row(
    what: &'static str,
    runtime: &'static str,
    layout: Layout,
    lines: &'static str,
    answer: &'static str,
) -> Row {
    Row {
        what,
        runtime,
        layout,
        lines,
        record: "",
        answer,
    }
}

const fn on_record(record: &'static str, row: Row) -> Row {
    Row { record, ..row }
}

#[rustfmt::skip]
const ROWS: &[Row] = &[
    row("1 docker, cgroupfs, v1", "docker", V1, "/docker/ID1", "="),
    row("1 docker, cgroupfs, hybrid", "docker", Hybrid, "/docker/ID1", "="),
    row("2 docker, cgroupfs, v2", "docker", V2, "/docker/ID1", "="),
    row("3 docker, systemd, v2", "docker", V2, "/system.slice/docker-ID1.scope", "="),
    row("4 docker, systemd, v1", "docker", V1, "/system.slice/docker-ID1.scope", "="),
    row("4 docker, systemd, hybrid", "docker", Hybrid, "/system.slice/docker-ID1.scope", "="),
    row("5 docker --cgroup-parent /abs, v1", "", V1, "/labrparent/ID1", "="),
    row("5 docker --cgroup-parent /abs, v2", "", V2, "/labrparent/ID1", "="),
    row("6 docker --cgroup-parent rel, hybrid", "", Hybrid,
        "6:freezer:/labrrel/ID1 | 4:memory:/outer/7ccd/labrrel/ID1 | 0::/labrrel/ID1", "v1:/labrrel/ID1 v2:/labrrel/ID1"),
    row("7 docker --cgroup-parent rel, v2", "", V2, "/labrk3rel/ID1", "="),
    row("8 docker --cgroup-parent a-b.slice", "docker", V2, "/labrtop.slice/labrtop-sub.slice/docker-ID1.scope", "="),
    row("9 docker --cgroup-parent /docker/OTHER", "docker", Hybrid, "/docker/ID2/ID1", "Ambiguous ID1 ID2"),
    row("10 docker rootless, systemd", "docker", V2,
        "/user.slice/user-1555.slice/user@1555.service/user.slice/docker-ID1.scope", "="),
    row("11 docker rootless without systemd", "", V2, "/user.slice/user-1555.slice/session-3.scope", "NotFound session-3.scope"),
    row("13 ctr, default", "containerd", Hybrid, "/default/ID1", "="),
    row("13 ctr, k8s.io", "containerd", V2, "/k8s.io/ID1", "="),
    row("13 ctr, moby", "", V2, "/moby/ID1", "="),
    on_record("runc run/containerd/runc/default labr-c",
        row("13 ctr, an ID of its own", "containerd", Hybrid, "/default/labr-c", "=")),
    on_record("runc run/containerd/runc/default labr-c",
        row("14 ctr --cgroup /a/b", "containerd", Hybrid, "/a/b", "=")),
    on_record("runc run/containerd/runc/default labr-c",
        row("14 ctr --cgroup rel", "containerd", Hybrid,
            "6:freezer:/rel | 4:memory:/outer/7ccd/rel | 0::/outer/7ccd/rel", "v1:/rel v2:/outer/7ccd/rel")),
    row("15 podman, cgroupfs, v1", "podman", V1, "/libpod_parent/libpod-ID1", "="),
    row("15 podman, cgroupfs, hybrid", "podman", Hybrid, "/libpod_parent/libpod-ID1", "="),
    row("15 podman, cgroupfs, v2", "podman", V2, "/libpod_parent/libpod-ID1", "="),
    row("15 podman's conmon, v1", "", V1, "/libpod_parent/conmon", "NotFound /libpod_parent/conmon"),
    row("16 podman pod, cgroupfs", "podman", Hybrid, "/libpod_parent/PODID/libpod-ID1", "="),
    row("16 podman pod's conmon", "", Hybrid, "/libpod_parent/PODID/conmon", "NotFound /conmon"),
    row("17 podman, systemd, runc, v2", "podman", V2, "/machine.slice/libpod-ID1.scope", "="),
    row("17 podman, systemd, runc, v1", "podman", V1, "/machine.slice/libpod-ID1.scope", "="),
    row("17 podman's conmon, systemd", "", V2, "/machine.slice/libpod-conmon-ID1.scope", "NotFound libpod-conmon"),
    row("18 podman, systemd, crun", "podman", V2, "/machine.slice/libpod-ID1.scope/container",
        "v2:/machine.slice/libpod-ID1.scope/container v2:/machine.slice/libpod-ID1.scope"),
    row("19 podman rootless, runc", "podman", V2,
        "/user.slice/user-1555.slice/user@1555.service/user.slice/libpod-ID1.scope", "="),
    row("19 podman rootless, crun", "podman", V2,
        "/user.slice/user-1555.slice/user@1555.service/user.slice/libpod-ID1.scope/container",
        "v2:/user.slice/user-1555.slice/user@1555.service/user.slice/libpod-ID1.scope/container \
         v2:/user.slice/user-1555.slice/user@1555.service/user.slice/libpod-ID1.scope"),
    row("20 podman pod, systemd", "podman", V2,
        "/machine.slice/machine-libpod_pod_PODID.slice/libpod-ID1.scope", "="),
    row("21 podman --cgroups=disabled", "", V2, "/", "Unsupported root"),
    row("22 podman --cgroups=split", "podman", V2, "/system.slice/web.service/libpod-payload-ID1", "="),
    row("23 podman --cgroup-parent /x", "podman", Hybrid, "/x/libpod-ID1", "="),
    row("23 podman --cgroup-parent x.slice", "podman", V2, "/x.slice/libpod-ID1.scope/container",
        "v2:/x.slice/libpod-ID1.scope/container v2:/x.slice/libpod-ID1.scope"),
    on_record("runc run/runc labr-r", row("24 runc, cgroupsPath /a/b", "runc", Hybrid, "/a/b", "=")),
    on_record("runc run/runc labr-r",
        row("25 runc, no cgroupsPath, hybrid", "runc", Hybrid,
            "6:freezer:/labr-r | 4:memory:/process_api/labr-r | 0::/labr-r", "v1:/labr-r v2:/labr-r")),
    on_record("runc run/runc labr-r", row("25 runc, no cgroupsPath, v2", "runc", V2, "/own/labr-r", "=")),
    on_record("runc run/runc labr-r", row("26 runc --systemd-cgroup", "runc", V2, "/system.slice/labr-n.scope", "=")),
    row("26 runc --systemd-cgroup, no cgroupsPath", "runc", V2, "/system.slice/runc-labr-r.scope", "="),
    on_record("runc run/runc labr-r",
        row("27 runc, colons without systemd", "runc", Hybrid, "/system.slice:labr:labr-sysd", "=")),
    on_record("crun run/crun labr-u", row("28 crun, absolute", "crun", V1, "/abs", "=")),
    on_record("crun run/crun labr-u", row("28 crun, relative", "crun", V2, "/rel", "=")),
    on_record("crun run/crun labr-u", row("28 crun, none", "crun", V2, "/labr-u", "=")),
    row("30 crun --systemd-cgroup", "crun", V2, "/system.slice/crun-labr-u.scope/container",
        "v2:/system.slice/crun-labr-u.scope/container v2:/system.slice/crun-labr-u.scope"),
    row("31 lxc, hybrid", "lxc", Hybrid, "/lxc.payload.labr-l", "="),
    row("31 lxc, v2", "lxc", V2, "/lxc.payload.labr-l", "="),
    row("31 lxc's monitor", "", V2, "/lxc.monitor.labr-l", "NotFound lxc.monitor"),
    row("32 lxc, a stale cgroup beside", "lxc", V1, "/lxc.payload.labr-l-1", "="),
    row("33 lxc.cgroup.dir", "lxc", Hybrid, "/D/lxc.payload.labr-l", "="),
    row("35 lxd, another project", "lxc", V2, "/lxc.payload.project_labr-l", "="),
    row("35 lxd, its init's own units", "lxc", V2, "/lxc.payload.labr-l/init.scope", "v2:/lxc.payload.labr-l"),
    row("36 nspawn --keep-unit, hybrid", "", Hybrid, "6:freezer:/ | 0::/payload", "NotFound v2:/payload"),
    row("37 nspawn, machined", "machine", V2, r"/machine.slice/machine-labr\x2dm.scope/payload",
        r"v2:/machine.slice/machine-labr\x2dm.scope v2:/machine.slice/machine-labr\x2dm.scope/payload"),
    row("38 systemd-nspawn@.service", "machine", V2, "/machine.slice/systemd-nspawn@labr-m.service/payload",
        "v2:/machine.slice/systemd-nspawn@labr-m.service v2:/machine.slice/systemd-nspawn@labr-m.service/payload"),
    row("39 kubelet, cgroupfs, guaranteed", "", Hybrid, "/kubepods/podPOD-UID/ID1", "="),
    row("39 kubelet, cgroupfs, burstable", "", V1, "/kubepods/burstable/podPOD-UID/ID1", "="),
    row("39 kubelet, cgroupfs, best effort", "", V2, "/kubepods/besteffort/podPOD-UID/ID1", "="),
    row("40 kubelet, systemd, burstable", "containerd", V2,
        "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podPOD_UID.slice/cri-containerd-ID1.scope", "="),
    row("40 kubelet, systemd, guaranteed", "containerd", V1,
        "/kubepods.slice/kubepods-podPOD_UID.slice/cri-containerd-ID1.scope", "="),
    row("41 CRI-O, systemd, runc", "cri-o", V2,
        "/kubepods.slice/kubepods-podPOD_UID.slice/crio-ID1.scope", "="),
    row("41 CRI-O, systemd, crun", "cri-o", V2,
        "/kubepods.slice/kubepods-podPOD_UID.slice/crio-ID1.scope/container",
        "v2:/kubepods.slice/kubepods-podPOD_UID.slice/crio-ID1.scope/container \
         v2:/kubepods.slice/kubepods-podPOD_UID.slice/crio-ID1.scope"),
    row("41 CRI-O, cgroupfs", "cri-o", Hybrid, "/kubepods/burstable/podPOD-UID/crio-ID1", "="),
    row("41 CRI-O's conmon", "", V2, "/kubepods.slice/crio-conmon-ID1.scope", "NotFound crio-conmon"),
    row("43 cri-dockerd, cgroupfs", "", V1, "/kubepods/burstable/podPOD-UID/ID1", "="),
    row("43 cri-dockerd, systemd", "docker", V2, "/kubepods.slice/kubepods-podPOD_UID.slice/docker-ID1.scope", "="),
    row("44 nerdctl, cgroupfs", "containerd", Hybrid, "/default/ID1", "="),
    row("44 nerdctl, systemd", "", V2, "/system.slice/nerdctl-ID1.scope", "="),
    row("45 kind", "containerd", V2,
        "/payload/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/cri-containerd-ID1.scope", "="),
    row("45 kind in a container", "containerd", V2,
        "/docker/ID2/kubelet.slice/kubelet-kubepods.slice/cri-containerd-ID1.scope", "Ambiguous ID1 ID2"),
    row("46 docker in docker", "docker", V1, "/docker/ID2/docker/ID1", "Ambiguous ID1 ID2"),
    row("47 Kata, one cgroup", "", V2, "/kubepods/burstable/podPOD-UID/kata_ID1", "Unsupported Kata"),
    row("47 Kata, its overhead", "", Hybrid, "/kata_overhead/ID1", "Unsupported Kata"),
    row("48 youki, systemd", "youki", V2, "/system.slice/youki-labr-y.scope", "="),
    on_record("youki run/youki labr-y", row("48 youki, cgroupfs", "youki", V2, "/:youki:labr-y", "=")),
    row("a shim, systemd", "", V2, "/system.slice/containerd.service", "NotFound containerd.service"),
    row("a shim, no systemd", "", Hybrid, "/", "Unsupported root"),
];

impl Row {
    fn scene(&self) -> Scene {
        let host = host(self.layout);
        let one = process(PID, "sleep");
        let lines: Vec<String> = match self.lines.starts_with('/') {
            true => host.lines(self.lines),
            false => self.lines.split(" | ").map(str::to_owned).collect(),
        };
        host.run(&one, &lines);
        let record: Vec<&str> = self.record.split(' ').collect();
        self.put_record(&host, &record, &lines);
        let target = format!("pid:{PID}");
        let (first, rest) = self.answer.split_once(' ').unwrap_or((self.answer, ""));
        let words: Vec<&str> = rest.split_whitespace().collect();
        match first {
            "NotFound" => return Scene::of(host).fails(&target, "NotFound", &words),
            "Ambiguous" => return Scene::of(host).fails(&target, "Ambiguous", &words),
            "Unsupported" => return Scene::of(host).fails(&target, "Unsupported", &words),
            _ => {}
        }
        let everywhere: Vec<String> = match self.layout {
            V1 => vec![format!("v1:{}", self.lines)],
            Hybrid => vec![format!("v1:{}", self.lines), format!("v2:{}", self.lines)],
            V2 => vec![format!("v2:{}", self.lines)],
        };
        let places: Vec<String> = match first {
            "=" => everywhere,
            _ => self.answer.split_whitespace().map(str::to_owned).collect(),
        };
        let on_record = record.get(2).copied();
        let id = on_record.or_else(|| places[0].contains("ID1").then_some("ID1"));
        let mut expected = container(self.runtime, id.unwrap_or_default(), &places[0]);
        for place in &places[1..] {
            expected = match place.strip_prefix('~') {
                Some(shared) => expected.in_shared(shared),
                None => expected.and(place),
            };
        }
        if self.runtime.is_empty() {
            expected = expected.of_whichever_runtime();
        }
        match id {
            Some(id) => Scene::of(host).all_mean(&[&target, &format!("id:{id}")], &expected),
            None => Scene::of(host).means(&target, &expected.without_id()),
        }
    }

    fn put_record(&self, host: &MadeUp, record: &[&str], lines: &[String]) {
        let one = process(PID, "sleep");
        match *record {
            ["runc", root, id] => {
                let paths: Vec<(String, String)> = lines
                    .iter()
                    .filter_map(|line| match line.split_once(":freezer:") {
                        Some((_, path)) if self.layout != V2 => {
                            Some(("freezer".to_owned(), format!("/sys/fs/cgroup/freezer{path}")))
                        }
                        _ => line.strip_prefix("0::").map(|path| {
                            let mount = if self.layout == V2 { "" } else { "/unified" };
                            (String::new(), format!("/sys/fs/cgroup{mount}{path}"))
                        }),
                    })
                    .collect();
                let state = crate::records::runc_state(id, &one, &paths, &[]);
                host.file(&format!("{root}/{id}/state.json"), &state);
            }
            ["crun", root, id] => {
                let status = crate::records::crun_status(id, &one, self.lines, "");
                host.file(&format!("{root}/{id}/status"), &status);
            }
            ["youki", root, id] => {
                let config = format!(r#"{{"cgroup_path":"{}"}}"#, self.lines);
                host.file(&format!("{root}/{id}/state.json"), &youki_state(id, PID))
                    .file(&format!("{root}/{id}/youki_config.json"), &config);
            }
            _ => assert_eq!(self.record, "", "no such record"),
        }
    }
}

#[test]
fn every_runtimes_cgroups_are_told_by_their_paths() {
    let mut broken = Vec::new();
    for row in ROWS {
        let scene = row.scene();
        for said in scene.broken() {
            broken.push(format!("{}: {}", row.what, readable(&said, scene.host.root())));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn each_row_of_the_table_is_there() {
    let numbers: std::collections::BTreeSet<u32> = ROWS
        .iter()
        .filter_map(|row| row.what.split(' ').next()?.parse().ok())
        .collect();
    // 12 differs by its name alone, 34 needs a configuration and 42 has no process: they have tests of their own.
    // 29 is a refusal of crun's.
    let missing: Vec<u32> = (1..=48).filter(|number| !numbers.contains(number)).collect();
    assert_eq!(missing, [12, 29, 34, 42]);
}
