//! Names that any program may give and files that any program may write.

use std::fs::{self, File};

use crate::kit::Layout::{Hybrid, V2};
use crate::kit::{MadeUp, host, process};
use crate::records::youki_state;
use crate::scene::{Expected, Scene, container};

const ODD: [&str; 9] = [
    "x y",
    "naïve",
    "a:b",
    "a*b",
    "x (deleted)",
    r"m\x2dn.scope",
    "-n",
    "\u{1b}[31mred",
    "\u{202e}rtl",
];

/// F19: cgroups of any name, each runc's.
pub(crate) fn names() -> Scene {
    let host = host(Hybrid);
    let mut promised = Vec::new();
    for (number, name) in ODD.iter().enumerate() {
        let pid = 6000 + i32::try_from(number).unwrap();
        let id = format!("odd{number}");
        host.runc(
            "run/runc",
            &id,
            &process(pid, "a) R (b").started(number as u64),
            &format!("/{name}"),
            &[],
        );
        let one = container("runc", &id, &format!("v1:/{name}")).and(&format!("v2:/{name}"));
        promised.push((id, pid, name, one));
    }
    // The twin of the one that is called as if it were removed.
    host.cgroup(iceaxe::host::Hierarchy::V1, "/x");
    promised
        .into_iter()
        .fold(Scene::of(host), |scene, (id, pid, name, one)| {
            let plain = one.clone().of_whichever_runtime().without_id();
            scene
                .all_mean(&[&id, &format!("pid:{pid}")], &one)
                .all_mean(&[&format!("v1:/{name}"), &format!("cgroup:/{name}")], &plain)
        })
}

fn docker(id: &str) -> Expected {
    container("docker", id, &format!("v1:/docker/{id}")).and(&format!("v2:/docker/{id}"))
}

/// Two containers of docker, of which the first one's record is spoilt by `spoil`, which gets its path.
fn spoilt(record: &str, spoil: &dyn Fn(&MadeUp, &str)) -> Scene {
    let host = host(Hybrid);
    host.docker("ID1", "labr-d1", &process(21794, "sleep"), "/docker/ID1");
    host.docker(
        "ID2",
        "labr-d2",
        &process(21900, "nginx").started(88_004),
        "/docker/ID2",
    );
    spoil(&host, record);
    Scene::of(host)
        .means("ID2", &docker("ID2"))
        .means("pid:21794", &docker("ID1"))
}

const STATE: &str = "run/docker/runtime-runc/moby/ID1/state.json";
const CONFIG: &str = "var/lib/docker/containers/ID1/config.v2.json";

fn changed(from: &'static str, to: &'static str) -> impl Fn(&MadeUp, &str) {
    move |host, record| {
        let text = fs::read_to_string(host.path(record)).unwrap();
        let from = crate::kit::spelled(from);
        assert!(text.contains(&from), "{from} is not in {text}");
        host.file(record, &text.replace(&from, to));
    }
}

/// Spoils the record at a path.
type Spoil = Box<dyn Fn(&MadeUp, &str)>;

/// F19: each way to spoil runc's record leaves the cgroup's own name, which is certain.
pub(crate) fn spoilt_states() -> Vec<(&'static str, Scene)> {
    let large = |host: &MadeUp, record: &str| {
        File::options()
            .write(true)
            .open(host.path(record))
            .unwrap()
            .set_len(20 << 20)
            .unwrap();
    };
    let fifo = |host: &MadeUp, record: &str| {
        fs::remove_file(host.path(record)).unwrap();
        host.fifo(record);
    };
    let linked = |host: &MadeUp, record: &str| {
        fs::rename(host.path(record), host.path("run/elsewhere")).unwrap();
        host.link(record, host.path("run/elsewhere").to_str().unwrap());
    };
    let directory = |host: &MadeUp, record: &str| {
        fs::remove_file(host.path(record)).unwrap();
        host.dir(record);
    };
    let each: [(&str, Spoil); 9] = [
        ("20 MiB", Box::new(large)),
        ("a FIFO", Box::new(fifo)),
        ("a link", Box::new(linked)),
        ("a directory", Box::new(directory)),
        ("a control byte", Box::new(changed("\"id\":\"", "\"id\":\"\u{1}"))),
        (
            "a key twice",
            Box::new(changed(
                "\"init_process_pid\":",
                "\"init_process_pid\":1,\"init_process_pid\":",
            )),
        ),
        (
            "another's ID",
            Box::new(changed("\"id\":\"ID1\"", "\"id\":\"ID2\"")),
        ),
        (
            "cut short",
            Box::new(|host: &MadeUp, record: &str| {
                let text = fs::read_to_string(host.path(record)).unwrap();
                host.file(record, &text[..text.len() / 2]);
            }),
        ),
        (
            "a huge number",
            Box::new(changed(
                "\"init_process_pid\":",
                "\"init_process_pid\":99999999999999999999",
            )),
        ),
    ];
    let scene = |spoil: &dyn Fn(&MadeUp, &str)| spoilt(STATE, spoil).means("ID1", &docker("ID1"));
    each.iter().map(|(what, spoil)| (*what, scene(spoil))).collect()
}

/// F19: docker's record names another container.
pub(crate) fn anothers_id() -> Scene {
    spoilt(CONFIG, &changed("\"ID\":\"ID1\"", "\"ID\":\"ID2\""))
        .means("ID1", &docker("ID1"))
        .refuses("labr-d1")
        .means_at_most("labr-d2", &docker("ID2").named("labr-d2"))
}

/// F19: a name without its slash, and one with control bytes.
pub(crate) fn odd_docker_names() -> Scene {
    let host = host(Hybrid);
    host.docker("ID1", "labr-d1", &process(21794, "sleep"), "/docker/ID1");
    host.docker(
        "ID2",
        "we\u{1b}[31mb",
        &process(21900, "sleep").started(2),
        "/docker/ID2",
    );
    changed("\"/labr-d1\"", "\"labr-d1\"")(&host, CONFIG);
    Scene::of(host)
        .means("labr-d1", &docker("ID1").named("labr-d1"))
        .means("we\u{1b}[31mb", &docker("ID2").named("we\u{1b}[31mb"))
        .fails("web", "NotFound", &["web"])
        .fails("none\u{1b}", "NotFound", &["none\\u{1b}"]) // escaped on the way to a screen
}

/// F19: youki writes in place, so that its record can be met cut short.
pub(crate) fn torn_youki() -> Scene {
    let host = host(V2);
    let path = "/system.slice/youki-labr-y2.scope";
    host.run(&process(4601, "sleep"), &host.lines(path));
    let text = youki_state("labr-y2", 4601);
    host.file("run/youki/labr-y2/state.json", &text[..text.len() / 3]);
    let second = container("youki", "labr-y2", &format!("v2:{path}"));
    Scene::of(host)
        .means_at_most("labr-y2", &second)
        .means_at_most("id:labr-y2", &second)
        .means("pid:4601", &second)
}

#[test]
fn a_cgroup_may_have_any_name() {
    names().holds();
}

#[test]
fn a_spoilt_record_leaves_the_whole_id_and_no_other_container() {
    for (what, scene) in spoilt_states() {
        println!("{what}");
        scene.holds();
    }
}

/// Two containers of docker and one of podman's pod, each with its name.
fn three() -> MadeUp {
    let host = host(Hybrid);
    host.docker("ID1", "labr-d1", &process(21794, "sleep"), "/docker/ID1");
    host.docker(
        "ID2",
        "labr-d2",
        &process(21900, "nginx").started(88_004),
        "/docker/ID2",
    );
    let path = "/libpod_parent/PODID/libpod-ID3";
    host.runc("run/runc", "ID3", &process(7000, "sleep").started(3), path, &[]);
    host.podman_names(&[("ID3", "labr-pm")]);
    host
}

#[test]
fn a_record_whose_path_lost_its_end_does_not_mean_the_parent() {
    let podmans = container("podman", "ID3", "v1:/libpod_parent/PODID/libpod-ID3")
        .and("v2:/libpod_parent/PODID/libpod-ID3");
    let root = "run/runc/ID3/state.json";
    for (record, from, to, target, expected) in [
        (
            STATE,
            "/docker/ID1\"",
            "/docker\"",
            "labr-d1",
            docker("ID1").named("labr-d1"),
        ),
        (STATE, "/docker/ID1\"", "/docker\"", "ID1", docker("ID1")),
        (
            STATE,
            "/freezer/docker/ID1\"",
            "/freezer/docker\"",
            "8d96",
            docker("ID1"),
        ),
        (
            STATE,
            "/unified/docker/ID1\"",
            "/unified/docker\"",
            "8d96",
            docker("ID1"),
        ),
        (STATE, "/docker/ID1\"", "/\"", "ID1", docker("ID1")),
        (root, "/PODID/libpod-ID3\"", "/PODID\"", "ID3", podmans.clone()),
        (
            root,
            "/PODID/libpod-ID3\"",
            "\"",
            "labr-pm",
            podmans.named("labr-pm"),
        ),
    ] {
        let host = three();
        changed(from, to)(&host, record);
        Scene::of(host)
            .means_at_most(target, &expected)
            .means("pid:21900", &docker("ID2"))
            .fails("id:PODID", "NotFound", &["PODID"])
            .holds();
    }
}

#[test]
fn a_record_that_is_anothers_but_for_its_id_means_none() {
    for is_known in [true, false] {
        let host = three();
        let text = fs::read_to_string(host.path(STATE)).unwrap();
        let text = text.replace(
            &crate::kit::spelled("\"id\":\"ID1\""),
            &crate::kit::spelled("\"id\":\"ID2\""),
        );
        host.file("run/docker/runtime-runc/moby/ID2/state.json", &text);
        if !is_known {
            fs::remove_file(host.path(STATE)).unwrap();
        }
        Scene::of(host)
            .means_at_most("ID2", &docker("ID2"))
            .means_at_most("labr-d2", &docker("ID2").named("labr-d2"))
            .means("pid:21794", &docker("ID1"))
            .means("pid:21900", &docker("ID2"))
            .holds();
    }
}

#[test]
fn a_record_that_names_a_services_cgroup_gives_its_processes_to_no_container() {
    let host = three();
    host.run(
        &process(800, "cron").of_host(),
        &host.lines("/system.slice/cron.service"),
    );
    changed("/docker/ID1\"", "/system.slice/cron.service\"")(&host, STATE);
    Scene::of(host)
        .fails("pid:800", "NotFound", &["cron.service"])
        .means_at_most("ID1", &docker("ID1"))
        .means("pid:21794", &docker("ID1"))
        .holds();
}

#[test]
fn what_a_spoilt_record_says_of_an_id_is_not_given_to_a_name() {
    let record = "run/runc/db/state.json";
    let elsewhere =
        |host: &MadeUp| changed("/sys/fs/cgroup/freezer/db", "/sys/fs/cgroup/freezer/x")(host, record);
    let torn = |host: &MadeUp| {
        let text = fs::read_to_string(host.path(record)).unwrap();
        host.file(record, &text[..text.len() - 9]);
    };
    // Without the key that tells runc's from youki's.
    let keyless = |host: &MadeUp| changed("\"init_process_pid\"", "\"init_process_bid\"")(host, record);
    let spoils: [&dyn Fn(&MadeUp); 3] = [&elsewhere, &torn, &keyless];
    for spoil in spoils {
        let host = host(Hybrid);
        host.docker("ID2", "db", &process(21900, "sleep").started(2), "/docker/ID2");
        host.runc("run/runc", "db", &process(7001, "sleep").started(4), "/db", &[]);
        spoil(&host);
        Scene::of(host)
            .refuses("db")
            .means("name:db", &docker("ID2").named("db"))
            .holds();
    }
}

#[test]
fn a_record_under_anothers_id_is_no_name() {
    anothers_id().holds();
}

#[test]
fn odd_names_are_names_and_are_escaped() {
    odd_docker_names().holds();
}

#[test]
fn a_torn_record_of_youki_means_no_other() {
    torn_youki().holds();
}
