//! Records that outlived their containers, or are not what they seem.

use std::fs::{self, File};
use std::os::unix::fs::symlink;

use kit::engines::{Layout, Vessel};
use kit::{eventually, in_each_layout, is_gone};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use serde_json::{Value, json};

use crate::bundles::{Runc, own_id};

in_each_layout! {
    a_record_of_a_dead_process_is_known_but_not_running
    a_record_whose_process_number_is_anothers_now_is_no_match
    what_a_crashed_runc_left_behind_hides_nobody
    a_record_that_is_no_file_is_not_waited_for_or_followed
}

/// Changes a record as runc wrote it.
#[track_caller]
fn edit(runc: &Runc, vessel: &Vessel, change: impl FnOnce(&mut Value)) {
    let file = runc.record(&vessel.id).join("state.json");
    let mut state = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    change(&mut state);
    fs::write(&file, state.to_string()).unwrap();
}

#[track_caller]
fn is_no_match(runc: &Runc, vessel: &Vessel) {
    for verb in ["thaw", "freeze", "status", "path"] {
        for target in [&vessel.id, &format!("id:{}", vessel.id)] {
            runc.iceaxe([verb, target]).refuses(3, &["known but not running"]);
        }
    }
    let listed = runc.iceaxe(["list", "--quiet"]).well();
    assert!(!listed.contains(&vessel.id), "{listed}");
}

fn a_record_of_a_dead_process_is_known_but_not_running(layout: Layout) {
    let runc = Runc::new(layout);
    let web = runc.container("web");
    kill(Pid::from_raw(web.pid), Signal::SIGKILL).unwrap();
    eventually("it is dead", || is_gone(web.pid));
    assert!(runc.record(&web.id).join("state.json").exists());
    is_no_match(&runc, &web);
    assert!(!web.asks());
}

fn a_record_whose_process_number_is_anothers_now_is_no_match(layout: Layout) {
    let runc = Runc::new(layout);
    let web = runc.container("web");
    runc.ended(["pause", &web.id]).well();
    // The same number, started a tick before: as after the numbers came round.
    edit(&runc, &web, |state| {
        let started = state["init_process_start"].as_u64().unwrap();
        state["init_process_start"] = json!(started - 1);
    });
    is_no_match(&runc, &web);
    web.is_frozen();
}

fn what_a_crashed_runc_left_behind_hides_nobody(layout: Layout) {
    let runc = Runc::new(layout);
    let web = runc.container("web");
    let state = fs::read(runc.record(&web.id).join("state.json")).unwrap();
    // As runc writes: a file beside the record that is renamed when it is whole.
    fs::write(
        runc.record(&web.id).join("state-2914623"),
        &state[..state.len() / 2],
    )
    .unwrap();
    // One whose record was not written, and one whose record is empty.
    let (none, empty) = (runc.container("none"), runc.container("empty"));
    fs::remove_file(runc.record(&none.id).join("state.json")).unwrap();
    File::create(runc.record(&empty.id).join("state.json")).unwrap();
    runc.iceaxe(["freeze", &web.id, "--json"]).is(0, "confirmed");
    web.is_frozen();
    let listed = runc.iceaxe(["list", "--quiet"]);
    assert!(listed.out.lines().any(|line| line == web.id), "{listed:?}");
    // What could not be read is said.
    assert_eq!(listed.code(), Some(1), "{listed:?}");
    assert!(listed.err.contains(&empty.id), "{listed:?}");
    runc.iceaxe(["thaw", &web.id, "--json"]).is(0, "confirmed");
    web.is_thawed();
    // Its cgroup alone is no proof.
    let path = format!("{}:/{}", none.cgroups[0].hierarchy.word(), none.id);
    runc.iceaxe(["freeze", &none.id]).refuses(4, &[&path]);
    none.is_thawed();
}

fn a_record_that_is_no_file_is_not_waited_for_or_followed(layout: Layout) {
    let runc = Runc::new(layout);
    let (web, other) = (
        runc.container("web"),
        runc.container_at(&own_id("other"), &format!("/{}", own_id("else"))),
    );
    let file = runc.record(&web.id).join("state.json");
    let state = fs::read(&file).unwrap();
    runc.ended(["pause", &web.id]).well();
    runc.ended(["pause", &other.id]).well();
    let damages: [&dyn Fn(); 4] = [
        &|| mkfifo(&file, Mode::S_IRWXU).unwrap(),
        &|| symlink(runc.record(&other.id).join("state.json"), &file).unwrap(),
        &|| symlink("/dev/zero", &file).unwrap(),
        &|| File::create(&file).unwrap().set_len(20 << 20).unwrap(),
    ];
    for damage in damages {
        fs::remove_file(&file).unwrap();
        damage();
        let ended = runc.iceaxe(["thaw", &web.id]);
        assert!(matches!(ended.code(), Some(1 | 3 | 4)), "{ended:?}");
        ended.refuses(ended.code().unwrap(), &["state.json"]);
        web.is_frozen();
        other.is_frozen();
        // What needs no record works.
        let target = format!("cgroup:{}", web.cgroups[0].path.display());
        runc.iceaxe(["thaw", &target, "--json"]).is(0, "confirmed");
        web.is_thawed();
        other.is_frozen();
        web.cgroups[0].freeze();
    }
    fs::remove_file(&file).unwrap();
    fs::write(&file, state).unwrap();
    runc.iceaxe(["thaw", &web.id, "--json"]).is(0, "confirmed");
    web.is_thawed();
}
