//! Root in one container, or a user of the host, makes cgroups that are called as the runtimes call others' containers,
//! and files that look like an engine's. docker's containers are meant by their names and IDs all the same, and nobody is
//! meant where docker has none.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Command;

use kit::engines::decoys::{self, Decoys};
use kit::engines::{self, Ended, Layout, PROMPT, Program};
use kit::{Cgroup, Hierarchy, PATIENCE, in_each_layout};

use crate::container::Container;
use crate::docker::Docker;
use crate::inside::all_rights;

in_each_layout! {
    what_a_privileged_container_calls_its_cgroups_takes_no_name_and_no_id
    what_a_privileged_container_calls_its_cgroups_is_no_container
    what_bears_a_stopped_containers_id_is_not_that_container
    a_process_in_a_decoy_leads_to_no_other_container
    a_filter_by_name_means_no_decoy
    what_a_container_has_mounted_gives_no_names
    seven_hundred_decoys_spoil_no_name_and_no_id
    what_a_user_calls_cgroups_of_theirs_takes_no_name_and_no_id
    what_a_user_calls_cgroups_of_theirs_is_no_container
    an_id_that_a_users_cgroup_alone_bears_is_found_and_a_note_says_so
    an_id_that_is_in_a_container_alone_is_found_and_a_note_says_so
}

/// The user who makes some of them. No account has this number.
const USER: u32 = 54_321;

/// Where containers have cgroups in this layout.
fn hierarchies(layout: Layout) -> &'static [Hierarchy] {
    match (layout, Hierarchy::available()) {
        (Layout::V2, _) | (_, Hierarchy::V2) => &[Hierarchy::V2],
        _ => &[Hierarchy::V1, Hierarchy::V2],
    }
}

/// A container with all rights over its own cgroups that makes decoys when it is told to.
#[track_caller]
fn evil(docker: &Docker) -> Container<'_> {
    evil_with(docker, &[], "")
}

/// The same with further options, which does something first.
#[track_caller]
fn evil_with<'d>(docker: &'d Docker, options: &[&str], before: &str) -> Container<'d> {
    let rights = all_rights();
    let mut all = vec!["--cgroupns=private"];
    all.extend(rights.iter().map(String::as_str));
    all.extend(options);
    let script = decoys::script(hierarchies(docker.layout()));
    docker.container_with("evil", &all, &format!("{before}\n{script}"))
}

fn what_a_privileged_container_calls_its_cgroups_takes_no_name_and_no_id(layout: Layout) {
    let docker = Docker::start(layout);
    let web = docker.container("web");
    let evil = evil(&docker);
    let iceaxe = |args: &[&str]| docker.iceaxe(args);
    let names = decoys::called(&web.name);
    for name in &names {
        let decoy = Decoys::of(&evil, std::slice::from_ref(name), &iceaxe);
        decoy.are_not_frozen_but(&web.name, &web);
    }
    let decoys = Decoys::of(&evil, &[names, decoys::of_id(&web.id)].concat(), &iceaxe);
    is_meant_by_each_form(&decoys, &web);
    docker.kill_dockerd();
    docker.kill_containerd();
    decoys.live_on_when_it_is_killed(&web.name, &web);
}

/// Checks that a container is meant by its name, its ID and whatever its ID begins with.
#[track_caller]
fn is_meant_by_each_form(decoys: &Decoys<'_>, web: &Container<'_>) {
    for target in [
        &web.name,
        &format!("name:{}", web.name),
        &web.id,
        &format!("id:{}", web.id),
        web.short(),
        &web.id[..9],
    ] {
        decoys.are_not_meant_but(target, web);
    }
}

fn what_a_privileged_container_calls_its_cgroups_is_no_container(layout: Layout) {
    let docker = Docker::start(layout);
    let evil = evil(&docker);
    let iceaxe = |args: &[&str]| docker.iceaxe(args);
    let name = docker.name("web");
    let each = decoys::each_called(&name);
    let alone: Vec<String> = each.iter().map(|(_, cgroup)| cgroup.clone()).collect();
    let decoys = Decoys::of(&evil, &[alone, decoys::called(&name)].concat(), &iceaxe);
    let names = each.iter().map(|(name, _)| name).chain([&name]);
    for target in names.flat_map(|name| [name.clone(), format!("name:{name}"), format!("id:{name}")]) {
        decoys.are_not_meant(&target);
    }
    evil.is_thawed();
}

/// docker knows its name and its ID, and that it does not run.
fn what_bears_a_stopped_containers_id_is_not_that_container(layout: Layout) {
    let docker = Docker::in_default_places(layout);
    let [web, other] = &docker.containers(["web", "other"])[..] else {
        unreachable!()
    };
    docker.docker(["kill", &web.name]);
    docker.docker(["wait", &web.name]);
    let evil = evil(&docker);
    let iceaxe = |args: &[&str]| docker.iceaxe(args);
    for name in decoys::of_id(&web.id) {
        let decoy = Decoys::of(&evil, &[name], &iceaxe);
        for target in [&web.name, &format!("name:{}", web.name), &web.id, web.short()] {
            decoy.are_not_meant(target);
        }
        let listed = docker.iceaxe(["list", "--json"]);
        assert!(!listed.out.contains(&web.name), "{listed:?}");
    }
    other.is_thawed();
}

/// It bears the ID of a container that runs, and is none.
fn a_process_in_a_decoy_leads_to_no_other_container(layout: Layout) {
    let docker = Docker::start(layout);
    let web = docker.container("web");
    let evil = evil(&docker);
    let iceaxe = |args: &[&str]| docker.iceaxe(args);
    let name = format!("docker-{}.scope", web.id);
    Decoys::of(&evil, std::slice::from_ref(&name), &iceaxe);
    let decoy = engines::below(&evil.cgroups[0], &name);
    let target = format!("pid:{}", decoy.tids()[0]);
    for nesting in ["--inner", "--outer"] {
        let ended = docker.iceaxe(["freeze", &target, nesting, "--json"]);
        web.is_thawed();
        let frozen = [&decoy, &evil.cgroups[0]].map(|cgroup| cgroup.asks());
        let is_said = match ended.code() {
            Some(0) => frozen == [nesting == "--inner", nesting == "--outer"],
            Some(3 | 4) => frozen == [false; 2],
            _ => false,
        };
        assert!(is_said, "{frozen:?}: {ended:?}");
        [&decoy, &evil.cgroups[0]].iter().for_each(|cgroup| cgroup.thaw());
    }
}

fn a_filter_by_name_means_no_decoy(layout: Layout) {
    let docker = Docker::start(layout);
    let web = docker.container("web");
    let evil = evil(&docker);
    let iceaxe = |args: &[&str]| docker.iceaxe(args);
    let names = [decoys::called(&web.name), decoys::of_id(&web.id)].concat();
    let decoys = Decoys::of(&evil, &names, &iceaxe);
    let filter = format!("name={}", web.name);
    let listed = docker.iceaxe(["list", "--json", "--filter", &filter]).well();
    assert!(
        listed.lines().count() == 1 && listed.contains(&web.id),
        "{listed}"
    );
    for verb in ["freeze", "thaw"] {
        docker
            .iceaxe([verb, "--filter", &filter, "--json"])
            .is(0, "confirmed");
        decoys.are_left_alone(verb);
    }
    web.is_thawed();
}

/// It mounts a file of its own where docker's are, beside a record of its own making by which another container is
/// called as a stopped one is.
fn what_a_container_has_mounted_gives_no_names(layout: Layout) {
    let docker = Docker::start(layout);
    let [web, other] = &docker.containers(["web", "other"])[..] else {
        unreachable!()
    };
    docker.docker(["kill", &web.name]);
    docker.docker(["wait", &web.name]);
    let id = "0123456789abcdef".repeat(4);
    let record = fs::read_to_string(docker.data_of(&other.id).join("config.v2.json")).unwrap();
    let record = record.replace(&format!("/{}\"", other.name), &format!("/{}\"", web.name));
    assert!(record.contains(&web.name), "{record}");
    let theirs = docker.scratch().dir(format!("volumes/{}", docker.name("theirs")));
    for (container, file, text) in [(&id, "hostname", ""), (&other.id, "config.v2.json", &*record)] {
        let dir = theirs.join("d/containers").join(container);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(file), text).unwrap();
    }
    let before = format!(
        "set -e; cp -r /theirs/d /vol/d; touch /tmp/hostname
         umount /etc/hostname /etc/hosts /etc/resolv.conf
         mount --bind /vol/d/containers/{id}/hostname /tmp/hostname"
    );
    let evil = evil_with(
        &docker,
        &[&format!("--volume={}:/theirs:ro", theirs.display())],
        &before,
    );
    let iceaxe = |args: &[&str]| docker.iceaxe(args);
    Decoys::of(&evil, &[id], &iceaxe);
    for verb in ["freeze", "thaw", "status", "kill"] {
        docker
            .iceaxe([verb, &web.name])
            .refuses(3, &["known but not running"]);
    }
    other.is_thawed();
    evil.is_thawed();
}

/// So many that to look at each took longer than names are waited for.
fn seven_hundred_decoys_spoil_no_name_and_no_id(layout: Layout) {
    const EACH: usize = 350;
    let docker = Docker::start(layout);
    let web = docker.container("web");
    let of_ids = (0..EACH).map(|number| format!("p{number}/{number:064x}"));
    let of_names = (0..EACH).map(|number| format!("p{number}/lxc.payload.{}", web.name));
    let names: Vec<String> = of_ids.chain(of_names).collect();
    let evil = evil(&docker);
    let iceaxe = |args: &[&str]| docker.iceaxe(args);
    let decoys = Decoys::of(&evil, &names, &iceaxe);
    decoys.are_not_meant_but(&web.name, &web);
    for target in [&web.name, &evil.name, &web.id, web.short()] {
        let ended = docker.iceaxe(["status", target, "--json"]);
        assert_eq!(ended.code(), Some(0), "{ended:?}");
        assert!(ended.took < PROMPT, "{ended:?}");
    }
    docker
        .iceaxe(["thaw", &docker.name("nobody")])
        .refuses(3, &["no such container"]);
}

/// How a user comes to be able to make cgroups in one.
#[derive(Debug, Clone, Copy)]
enum Access {
    /// It was given to them.
    Owner,
    /// They are in the group that may write.
    Group,
    /// Everybody may write.
    Others,
}

/// What a user has made, in a cgroup of each hierarchy that they may write to.
struct Users {
    /// Above their cgroups, and root's.
    tops: Vec<Cgroup>,
}

impl Users {
    /// Makes decoys of these names as the user, who is put there by root as by a login.
    #[track_caller]
    fn make(docker: &Docker, access: Access, names: &[String]) -> Self {
        let tops: Vec<Cgroup> = docker
            .own_cgroups(hierarchies(docker.layout()))
            .iter()
            .map(|top| top.child("u54321"))
            .collect();
        for top in &tops {
            for file in ["", "cgroup.procs", "tasks", "cgroup.threads"].map(|name| top.file(name)) {
                if file.exists() {
                    give(&file, access);
                }
            }
        }
        // They may look at what is in a directory of root's.
        fs::set_permissions(docker.scratch().path(), Permissions::from_mode(0o755)).unwrap();
        let list = docker.scratch().file("list", &decoys::lines(names));
        let dirs: Vec<String> = tops.iter().map(|top| top.dir.display().to_string()).collect();
        let program = "unshare --user --map-root-user --pid --fork sleep 100000";
        let script = decoys::making(&dirs.join(" "), list.to_str().unwrap(), program);
        let enter = "for dir; do echo 0 > \"$dir/cgroup.procs\"; done";
        let user = format!("setpriv --reuid={USER} --regid={USER} --clear-groups");
        let mut command = Command::new("sh");
        command
            .args(["-ec", &format!("{enter}\nexec {user} sh -ec \"$0\""), &script])
            .args(&dirs);
        Program::start(&command).answer(PATIENCE).answered().well();
        Self { tops }
    }
}

impl Drop for Users {
    fn drop(&mut self) {
        let paths = self.tops.iter().map(|top| top.path.clone()).collect();
        engines::thaw_all(&paths);
        engines::end_all(&paths);
    }
}

#[track_caller]
fn give(file: &std::path::Path, access: Access) {
    let bits = if file.is_dir() { 0o111 } else { 0 };
    match access {
        Access::Owner => chown(file, Some(USER), Some(USER)).unwrap(),
        Access::Group => {
            chown(file, None, Some(USER)).unwrap();
            fs::set_permissions(file, Permissions::from_mode(0o664 | bits)).unwrap();
        }
        Access::Others => fs::set_permissions(file, Permissions::from_mode(0o666 | bits)).unwrap(),
    }
}

fn what_a_user_calls_cgroups_of_theirs_takes_no_name_and_no_id(layout: Layout) {
    let docker = Docker::start(layout);
    let web = docker.container("web");
    let iceaxe = |args: &[&str]| docker.iceaxe(args);
    for name in decoys::called(&web.name) {
        let users = Users::make(&docker, Access::Owner, std::slice::from_ref(&name));
        Decoys::below(&users.tops, &[name], &iceaxe).are_not_frozen_but(&web.name, &web);
    }
    let names = [decoys::called(&web.name), decoys::of_id(&web.id)].concat();
    for access in [Access::Owner, Access::Group, Access::Others] {
        let users = Users::make(&docker, access, &names);
        let decoys = Decoys::below(&users.tops, &names, &iceaxe);
        is_meant_by_each_form(&decoys, &web);
    }
}

fn what_a_user_calls_cgroups_of_theirs_is_no_container(layout: Layout) {
    let docker = Docker::start(layout);
    let name = docker.name("web");
    let each = decoys::each_called(&name);
    let cgroups: Vec<String> = each.iter().map(|(_, cgroup)| cgroup.clone()).collect();
    let iceaxe = |args: &[&str]| docker.iceaxe(args);
    for access in [Access::Owner, Access::Group, Access::Others] {
        let users = Users::make(&docker, access, &cgroups);
        let decoys = Decoys::below(&users.tops, &cgroups, &iceaxe);
        for (name, _) in &each {
            decoys.are_not_meant(name);
        }
    }
}

const IDS: [&str; 2] = [
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210",
];

/// Cgroups of which one alone bears the first ID, and two the second one.
fn bearers() -> [String; 3] {
    [
        format!("docker/{}", IDS[0]),
        format!("docker/{}", IDS[1]),
        format!("libpod-{}", IDS[1]),
    ]
}

/// Checks that the first ID means the cgroup that bears it, if it is whole, and that nothing else means any.
#[track_caller]
fn the_whole_id_alone_is_found(docker: &Docker, tops: &[Cgroup]) {
    let borne: Vec<Cgroup> = tops
        .iter()
        .map(|top| engines::below(top, &bearers()[0]))
        .collect();
    let path = borne[0].path.display().to_string();
    let is_noted = |ended: &Ended| {
        assert_eq!(ended.code(), Some(0), "{ended:?}");
        assert!(
            ended.err.contains("note: ") && ended.err.contains(&path),
            "{ended:?}"
        );
    };
    for target in [IDS[0], &format!("id:{}", IDS[0])] {
        is_noted(&docker.iceaxe(["status", target, "--json"]));
        is_noted(&docker.iceaxe(["freeze", target, "--json"]));
        assert!(borne[0].asks() && borne[0].is_frozen());
        is_noted(&docker.iceaxe(["thaw", target, "--json"]));
        assert!(borne.iter().all(|cgroup| !cgroup.asks()));
    }
    for target in [&IDS[0][..12], &IDS[0][..20], IDS[1], &IDS[1][..12]] {
        for verb in ["freeze", "thaw"] {
            let ended = docker.iceaxe([verb, target]);
            assert!(matches!(ended.code(), Some(3 | 4)), "{verb} {target}: {ended:?}");
        }
    }
}

fn an_id_that_a_users_cgroup_alone_bears_is_found_and_a_note_says_so(layout: Layout) {
    let docker = Docker::start(layout);
    let web = docker.container("web");
    let users = Users::make(&docker, Access::Owner, &bearers());
    the_whole_id_alone_is_found(&docker, &users.tops);
    web.is_thawed();
}

/// As with a node of kind's. Who is in there itself finds it by its beginning as well.
fn an_id_that_is_in_a_container_alone_is_found_and_a_note_says_so(layout: Layout) {
    let docker = Docker::start(layout);
    let node = evil(&docker);
    let iceaxe = |args: &[&str]| docker.iceaxe(args);
    Decoys::of(&node, &bearers(), &iceaxe);
    the_whole_id_alone_is_found(&docker, &node.cgroups);
    let inside = |target: &str| docker.iceaxe_in(&node.cgroups, ["status", target]);
    for target in [IDS[0], &IDS[0][..12]] {
        let ended = inside(target);
        assert_eq!(ended.code(), Some(0), "{ended:?}");
        assert!(ended.out.contains(&IDS[0][..12]), "{ended:?}");
    }
    // Of the second one a cgroup is where docker has them in there.
    assert_eq!(inside(IDS[1]).code(), Some(0));
    node.is_thawed();
}
