//! Disks that never answer and lists without end, where engines of root's or of a user's keep their records: they cost a
//! name its certainty and an ID nothing, neither time nor memory.

use std::fs;
use std::os::unix::fs::chown;
use std::thread;
use std::time::{Duration, Instant};

use kit::engines::{Ended, PROMPT, Program, Vessel};
use kit::{PATIENCE, eventually};

use crate::boot::{Boot, Layout};
use crate::user::User;
use crate::{docker, in_each_layout, in_layout, lxc, podman};

in_each_layout! {
    an_exec_root_that_never_answers_delays_no_whole_id
    users_records_that_never_answer_delay_no_whole_id_of_roots
}
in_layout! { v2_alone V2:
    while_dockers_records_never_answer_a_name_is_good_for_a_thaw_and_not_for_a_freeze
    a_users_list_that_is_linked_often_costs_no_memory
}

/// How long a thaw's write may take with all that it takes to start one in there. On an idle machine it is 30 ms.
const CLEARED: Duration = Duration::from_millis(500);
/// How long the whole of it may take.
const ANSWERED: Duration = Duration::from_secs(1);
/// A user with an engine.
const USER: u32 = 54_321;

/// Mounts a FUSE file system whose server reads no request. It answers nobody until the handle goes, and then everybody
/// with an error.
#[track_caller]
fn silence(boot: &Boot, dir: &str) -> Program {
    fs::create_dir_all(boot.file(dir)).unwrap();
    let script = "test -e /dev/fuse || mknod /dev/fuse c 10 229
        exec 3<> /dev/fuse
        mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0 silent \"$0\"
        exec sleep 100000";
    let server = boot.start_command(["sh", "-ec", script, dir]);
    eventually("it is mounted", || {
        let mounts = fs::read_to_string(boot.file("/proc/1/mountinfo")).unwrap();
        mounts.contains(&format!(" {dir} "))
    });
    server
}

/// A user's store of podman's, made for one who looks logged in.
#[track_caller]
fn store(boot: &Boot) -> String {
    let user = User::known(boot, USER);
    let store = format!("{}/.local/share/containers/storage", user.home);
    for dir in [&store, &format!("/run/user/{USER}")] {
        fs::create_dir_all(boot.file(dir)).unwrap();
        chown(boot.file(dir), Some(USER), Some(USER)).unwrap();
    }
    store
}

/// A container of docker's.
#[track_caller]
fn web(boot: &Boot) -> Vessel {
    docker::start(boot);
    docker::containers(boot, &["web"]).remove(0)
}

/// Freezes it by hand and checks how soon a thaw by this target has written, and answers.
#[track_caller]
fn thaws_at_once(boot: &Boot, target: &str, vessel: &Vessel) {
    vessel.cgroups[0].freeze();
    let began = Instant::now();
    let thaw = boot.start_command(["iceaxe", "thaw", target, "--json"]);
    eventually("its request is cleared", || !vessel.asks());
    let cleared = began.elapsed();
    let ended = thaw.answer(PATIENCE).answered();
    let answered = began.elapsed();
    let report = ended.is(0, "confirmed");
    assert_eq!(report["id"], *vessel.id, "{report}");
    assert!(cleared < CLEARED, "cleared after {cleared:?}: {ended:?}");
    assert!(answered < ANSWERED, "answered after {answered:?}: {ended:?}");
    vessel.is_thawed();
}

/// Checks that no verb that is given its whole ID is held up, and no list is.
#[track_caller]
fn is_at_hand(boot: &Boot, vessel: &Vessel) {
    for _ in 0..3 {
        thaws_at_once(boot, &vessel.id, vessel);
    }
    for words in [
        &["freeze", &vessel.id][..],
        &["thaw", &vessel.id],
        &["hold", &vessel.id, "--", "true"],
        &["path", &vessel.id],
        &["status", &vessel.id],
        &["explain", &vessel.id],
        &["resync", "--dry-run", &vessel.id],
    ] {
        let ended = boot.iceaxe(words);
        assert_eq!(ended.code(), Some(0), "{words:?}: {ended:?}");
        assert!(ended.took < ANSWERED, "{words:?}: {ended:?}");
    }
    vessel.is_thawed();
    let listed = boot.iceaxe(&["list", "--json"]);
    assert!(listed.took < PROMPT, "{listed:?}");
    assert!(listed.out.contains(&vessel.id), "{listed:?}");
}

fn an_exec_root_that_never_answers_delays_no_whole_id(layout: Layout) {
    let boot = Boot::start(layout);
    let web = web(&boot);
    let daemon = boot.file("/etc/docker/daemon.json");
    fs::write(daemon, "{\"exec-root\": \"/srv/exec\"}").unwrap();
    let _silent = silence(&boot, "/srv/exec");
    is_at_hand(&boot, &web);
}

fn users_records_that_never_answer_delay_no_whole_id_of_roots(layout: Layout) {
    let boot = Boot::start(layout);
    let each = [web(&boot), podman::container(&boot, "crun", "front")];
    let _store = silence(&boot, &store(&boot));
    each.iter().for_each(|vessel| is_at_hand(&boot, vessel));
    let _records = silence(&boot, &format!("/run/user/{USER}/runc"));
    each.iter().for_each(|vessel| is_at_hand(&boot, vessel));
}

/// How a verb ends where a source that could make its target mean something else is silent; none waits for it twice.
#[track_caller]
fn ended(boot: &Boot, words: &[&str]) -> Ended {
    let ended = boot.iceaxe(words);
    assert!(ended.took < PROMPT, "{words:?}: {ended:?}");
    ended
}

fn while_dockers_records_never_answer_a_name_is_good_for_a_thaw_and_not_for_a_freeze(layout: Layout) {
    let boot = Boot::start(layout);
    let web = web(&boot);
    let front = podman::container(&boot, "runc", "front");
    let mail = lxc::container(&boot, "mail");
    let _silent = silence(&boot, "/var/lib/docker");
    for (target, vessel) in [("front", &front), ("mail", &mail), (&web.id[..12], &web)] {
        vessel.cgroups[0].freeze();
        for words in [
            ["status", target],
            ["explain", target],
            ["path", target],
            ["thaw", target],
        ] {
            let ended = ended(&boot, &words);
            assert_eq!(ended.code(), Some(0), "{words:?}: {ended:?}");
            let is_noted = ended.err.contains("note: ") && ended.err.contains("docker");
            assert!(is_noted, "{words:?}: {ended:?}");
        }
        vessel.is_thawed();
        let refused = [&["freeze", target][..], &["kill", target], &["resync", target]];
        for words in refused {
            let ended = ended(&boot, words);
            let id = format!("id:{}", vessel.id);
            ended.refuses(4, &["not certain", "docker", "hint: ", &id]);
        }
        let held = ended(&boot, &["hold", target, "--", "true"]);
        assert!(matches!(held.code(), Some(4 | 125)), "{held:?}");
        assert!(!boot.asking().contains(&boot.seen(&vessel.cgroups[0])));
        vessel.is_thawed();
    }
    // What only that source could say, and what could be a name of its, or the ID of what it knows as stopped.
    for target in ["web", &web.id[..9], "nobody", &"0".repeat(64)] {
        for verb in ["thaw", "freeze"] {
            ended(&boot, &[verb, target]).refuses(4, &["not certain", "docker"]);
        }
    }
}

/// A list that is as long as one may be, in as many directories as an engine could have drivers, and a record of docker's as
/// long for as many containers; the user has a container that runs. Who reads it is left behind by a hold and goes on while
/// its command runs.
fn a_users_list_that_is_linked_often_costs_no_memory(layout: Layout) {
    const MOST: u64 = 128 << 10; // KiB
    let boot = Boot::start(layout);
    let front = podman::container(&boot, "crun", "front");
    let user = User::log_in(&boot, USER);
    let theirs = user.container(&boot, "theirs");
    let share = boot.file(&user.home).join(".local/share");
    let (store, docker) = (share.join("containers/storage"), share.join("docker/containers"));
    let long = "x".repeat((16 << 20) - 256);
    fs::write(
        store.join("list"),
        format!("[{{\"id\":\"0\",\"names\":[\"{long}\"]}}]"),
    )
    .unwrap();
    let config = format!("{{\"ID\":\"0\",\"Name\":\"/nobody\",\"Config\":{{\"Image\":\"{long}\"}}}}");
    fs::create_dir_all(&docker).unwrap();
    fs::write(docker.join("record"), config).unwrap();
    for number in 0..200 {
        let dir = store.join(format!("{number}-containers"));
        fs::create_dir(&dir).unwrap();
        fs::hard_link(store.join("list"), dir.join("containers.json")).unwrap();
        let dir = docker.join(format!("{number:064x}"));
        fs::create_dir(&dir).unwrap();
        fs::hard_link(docker.join("record"), dir.join("config.v2.json")).unwrap();
    }
    for words in [
        &["hold", &front.id, "--", "sleep", "2"][..],
        &["hold", &theirs.id, "--", "sleep", "2"],
        &["status", &front.id],
        &["status", "front"],
        &["status", &theirs.id],
        &["status", "nobody"],
        &["list"],
    ] {
        let command = [&["iceaxe"], words].concat();
        let began = Instant::now();
        let (mut program, mut peak) = (boot.start_command(command), 0);
        while program.is_running() {
            peak = peak.max(peak_of_iceaxe(&boot));
            thread::sleep(Duration::from_millis(1));
        }
        let ended = program.answer(PATIENCE).answered();
        assert!(peak > 0 && peak < MOST, "{peak} KiB: {words:?}: {ended:?}");
        let limit = PROMPT + Duration::from_secs(2); // the command's own
        assert!(began.elapsed() < limit, "{words:?}: {ended:?}");
        // A list says that it is not whole.
        let codes: &[i32] = match words {
            ["list"] => &[0, 1],
            [_, "nobody"] => &[3, 4],
            _ => &[0],
        };
        let is_one = ended.code().is_some_and(|code| codes.contains(&code));
        assert!(is_one, "{words:?}: {ended:?}");
    }
    let status = boot.status("front");
    assert_eq!(status["id"], *front.id, "{status}");
}

/// The most memory that any iceaxe in there has had so far, in KiB.
fn peak_of_iceaxe(boot: &Boot) -> u64 {
    let entries = fs::read_dir(boot.file("/proc")).unwrap().flatten();
    let peaks = entries.filter_map(|entry| {
        let status = fs::read_to_string(entry.path().join("status")).ok()?; // no process, or gone
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
        (field("Name:")?.trim() == "iceaxe").then_some(())?;
        field("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok()
    });
    peaks.max().unwrap_or(0)
}
