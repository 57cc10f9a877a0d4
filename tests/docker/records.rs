//! Records that are torn, huge, or no files at all: nothing hangs, nothing is followed, and what needs no record works.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use kit::engines::{Layout, PROMPT};
use kit::{Cgroup, eventually, in_each_layout};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::container::Container;
use crate::docker::Docker;

in_each_layout! {
    damaged_names_make_a_name_uncertain_and_an_id_works
    a_damaged_runtime_record_makes_a_name_uncertain_and_an_id_works
    a_damaged_runtime_record_in_the_usual_place_keeps_nobody_from_thawing
    damaged_default_places_keep_no_id_from_thawing
    a_record_of_a_process_that_started_at_another_time_is_no_match
    a_record_of_a_process_that_is_gone_is_no_match
    a_process_that_was_moved_away_from_its_recorded_cgroup_is_not_acted_on
}

/// A damage: a word for it, and how it is done to a file.
type Damage = (&'static str, fn(&Path));

const DAMAGES: [Damage; 7] = [
    ("torn", |file| {
        let text = fs::read_to_string(file).unwrap();
        fs::write(file, &text[..text.len() / 2]).unwrap();
    }),
    ("empty", |file| drop(File::create(file).unwrap())),
    ("fifo", |file| {
        fs::remove_file(file).unwrap();
        mkfifo(file, Mode::S_IRWXU).unwrap();
    }),
    ("link", |file| {
        let target = file.with_extension("elsewhere");
        fs::rename(file, &target).unwrap();
        symlink(target, file).unwrap();
    }),
    ("directory", |file| {
        fs::remove_file(file).unwrap();
        fs::create_dir(file).unwrap();
    }),
    // 20 MB of what would be JSON.
    ("huge", |file| {
        fs::write(file, format!("{{\"x\":\"{}\"}}", "x".repeat(20 << 20))).unwrap()
    }),
    ("deep", |file| fs::write(file, "[".repeat(1 << 20)).unwrap()),
];

/// A file that is damaged, and whole again when this goes.
struct Damaged {
    file: PathBuf,
    text: Vec<u8>,
}

impl Damaged {
    #[track_caller]
    fn new(file: PathBuf, (_, how): Damage) -> Self {
        let text = fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        how(&file);
        Self { file, text }
    }
}

impl Drop for Damaged {
    fn drop(&mut self) {
        if self.file.is_dir() {
            fs::remove_dir(&self.file).unwrap();
        } else {
            fs::remove_file(&self.file).unwrap();
        }
        fs::write(&self.file, &self.text).unwrap();
    }
}

/// A container, paused, with nobody left who would repair its records.
#[track_caller]
fn unattended(docker: &Docker) -> Container<'_> {
    let web = docker.container("web");
    web.pause();
    docker.kill_dockerd();
    docker.kill_containerd();
    web
}

/// Thaws it by `target` and freezes it again by hand.
#[track_caller]
fn thaws(docker: &Docker, web: &Container<'_>, target: &str, what: &str) {
    let ended = docker.iceaxe(["thaw", target, "--json"]);
    assert!(ended.took < PROMPT, "{what}: {ended:?}");
    let report = ended.is(0, "confirmed");
    assert_eq!(report["id"], web.id.as_str(), "{what}: {report}");
    web.is_thawed();
    web.cgroups[0].freeze();
}

#[track_caller]
fn ids_thaw(docker: &Docker, web: &Container<'_>, what: &str) {
    for target in [
        web.id.clone(),
        format!("id:{}", web.id),
        format!("id:{}", web.short()),
        format!("pid:{}", web.pid),
    ] {
        thaws(docker, web, &target, what);
    }
}

fn damaged_names_make_a_name_uncertain_and_an_id_works(layout: Layout) {
    let docker = Docker::start(layout);
    let web = unattended(&docker);
    for damage in DAMAGES {
        let _damaged = Damaged::new(docker.data_of(&web.id).join("config.v2.json"), damage);
        for target in [&web.name, &format!("name:{}", web.name), "nobody-has-this-name"] {
            let ended = docker.iceaxe(["thaw", target]);
            assert!(ended.took < PROMPT, "{}: {ended:?}", damage.0);
            assert_eq!(ended.code(), Some(4), "{} {target}: {ended:?}", damage.0);
        }
        assert!(web.asks(), "{}", damage.0);
        ids_thaw(&docker, &web, damage.0);
        let listed = docker.iceaxe(["list", "--json"]);
        assert!(
            listed.took < PROMPT && listed.out.contains(&web.id),
            "{}: {listed:?}",
            damage.0
        );
    }
    thaws(&docker, &web, &web.name, "whole again");
}

/// The runtime's record alone tells where a docker of no configuration has its names.
fn a_damaged_runtime_record_makes_a_name_uncertain_and_an_id_works(layout: Layout) {
    let docker = Docker::start(layout);
    let web = unattended(&docker);
    for damage in DAMAGES {
        let _damaged = Damaged::new(docker.record_of(&web.id).join("state.json"), damage);
        ids_thaw(&docker, &web, damage.0);
        let ended = docker.iceaxe(["thaw", &web.name]);
        assert_eq!(ended.code(), Some(4), "{}: {ended:?}", damage.0);
    }
    thaws(&docker, &web, &web.name, "whole again");
}

fn a_damaged_runtime_record_in_the_usual_place_keeps_nobody_from_thawing(layout: Layout) {
    let docker = Docker::in_default_places(layout);
    let web = unattended(&docker);
    for damage in DAMAGES {
        let _damaged = Damaged::new(docker.record_of(&web.id).join("state.json"), damage);
        ids_thaw(&docker, &web, damage.0);
        thaws(&docker, &web, &web.name, damage.0);
    }
}

fn damaged_default_places_keep_no_id_from_thawing(layout: Layout) {
    let docker = Docker::in_default_places(layout);
    let web = unattended(&docker);
    for damage in DAMAGES {
        let _record = Damaged::new(docker.record_of(&web.id).join("state.json"), damage);
        let _config = Damaged::new(docker.data_of(&web.id).join("config.v2.json"), damage);
        ids_thaw(&docker, &web, damage.0);
    }
    ids_thaw(&docker, &web, "whole again");
}

/// Replaces a number in the record of a container.
#[track_caller]
fn edit(docker: &Docker, web: &Container<'_>, key: &str, change: impl FnOnce(u64) -> u64) {
    let file = docker.record_of(&web.id).join("state.json");
    let text = fs::read_to_string(&file).unwrap();
    let (before, after) = text.split_once(&format!("\"{key}\":")).unwrap();
    let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap();
    let number = change(after[..digits].parse().unwrap());
    fs::write(&file, format!("{before}\"{key}\":{number}{}", &after[digits..])).unwrap();
}

/// Checks that no form of it is acted on.
#[track_caller]
fn is_no_match(docker: &Docker, web: &Container<'_>) {
    for verb in ["thaw", "freeze"] {
        for target in [&web.name, &web.id, web.short(), &format!("id:{}", web.id)] {
            docker
                .iceaxe([verb, target])
                .refuses(3, &["known but not running"]);
        }
    }
    web.is_frozen();
}

fn a_record_of_a_process_that_started_at_another_time_is_no_match(layout: Layout) {
    let docker = Docker::in_default_places(layout);
    let web = unattended(&docker);
    edit(&docker, &web, "init_process_start", |ticks| ticks - 1);
    is_no_match(&docker, &web);
}

fn a_record_of_a_process_that_is_gone_is_no_match(layout: Layout) {
    let docker = Docker::in_default_places(layout);
    let web = unattended(&docker);
    // No process has this number: it is above every limit.
    edit(&docker, &web, "init_process_pid", |_| 1 << 30);
    is_no_match(&docker, &web);
}

fn a_process_that_was_moved_away_from_its_recorded_cgroup_is_not_acted_on(layout: Layout) {
    let docker = Docker::in_default_places(layout);
    let web = docker.container("web");
    let elsewhere: Vec<Cgroup> = web
        .cgroups
        .iter()
        .map(|cgroup| docker.own_cgroup(cgroup.hierarchy))
        .collect();
    // Somebody stays, or there would be nothing left to be mistaken for the container.
    docker.docker(["exec", "--detach", &web.name, "sleep", "1000"]);
    eventually("somebody else is in it", || web.cgroups[0].tids().len() > 2);
    elsewhere.iter().for_each(|cgroup| cgroup.admit(web.pid));
    for target in [&web.name, &web.id] {
        let ended = docker.iceaxe(["freeze", target]);
        assert!([Some(3), Some(4)].contains(&ended.code()), "{ended:?}");
        assert!(
            ended.err.contains(&elsewhere[0].path.display().to_string()),
            "it says where it is: {ended:?}"
        );
    }
    assert!(elsewhere.iter().chain(&web.cgroups).all(|cgroup| !cgroup.asks()));
    web.goes_on();
}
