//! Records below /run/user, which are their user's word: they may name what is that user's, and nothing else.

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::{Path, PathBuf};

use kit::engines::{Layout, PROMPT, Vessel, starttime};
use kit::in_each_layout;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::json;

use crate::bundles::{Runc, own_id};

in_each_layout! {
    a_users_record_of_roots_container_is_refused
    a_users_record_of_what_is_theirs_is_good
    a_users_record_that_is_no_file_is_an_error_and_not_waited_for
}

/// No user has this number.
const USER: u32 = 54_321;

/// A user's directory for state, with one record of runc's in it. It goes when it is dropped.
struct Theirs(PathBuf);

impl Theirs {
    #[track_caller]
    fn new(id: &str) -> Self {
        let theirs = Self(Path::new("/run/user").join(USER.to_string()));
        fs::create_dir_all(theirs.0.join("runc").join(id)).unwrap();
        theirs
    }

    fn file(&self, id: &str) -> PathBuf {
        self.0.join("runc").join(id).join("state.json")
    }

    /// Claims that a container is theirs, under this ID.
    #[track_caller]
    fn claim(&self, id: &str, vessel: &Vessel) {
        let path = vessel.cgroups[0].path.display();
        let record = json!({
            "id": id,
            "init_process_pid": vessel.pid,
            "init_process_start": starttime(vessel.pid).unwrap(),
            "cgroup_paths": {"freezer": format!("/sys/fs/cgroup/freezer{path}"), "": format!("/sys/fs/cgroup{path}")},
            "config": {},
        });
        fs::write(self.file(id), record.to_string()).unwrap();
    }
}

impl Drop for Theirs {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
        let _ = fs::remove_dir("/run/user"); // others are in it, then
    }
}

fn a_users_record_of_roots_container_is_refused(layout: Layout) {
    let runc = Runc::new(layout);
    let (web, id) = (runc.container("web"), own_id("evil"));
    let theirs = Theirs::new(&id);
    theirs.claim(&id, &web);
    for target in [id.clone(), format!("id:{id}")] {
        runc.iceaxe(["freeze", &target])
            .refuses(5, &[&format!("user {USER}"), "not theirs"]);
    }
    web.is_thawed();
    // It keeps nobody from the container itself.
    runc.iceaxe(["freeze", &web.id, "--json"]).is(0, "confirmed");
    runc.iceaxe(["thaw", &web.id, "--json"]).is(0, "confirmed");
    web.is_thawed();
}

fn a_users_record_of_what_is_theirs_is_good(layout: Layout) {
    let runc = Runc::new(layout);
    let (web, id) = (runc.container("web"), own_id("theirs"));
    let theirs = Theirs::new(&id);
    theirs.claim(&id, &web);
    // Theirs alone: what two records claim is nobody's.
    fs::remove_dir_all(runc.record(&web.id)).unwrap();
    for cgroup in &web.cgroups {
        chown(&cgroup.dir, Some(USER), None).unwrap();
    }
    let outright = format!("user:{USER}/{id}");
    for target in [id.clone(), format!("id:{id}")] {
        runc.iceaxe(["freeze", &target]).refuses(4, &[&outright]);
        runc.iceaxe(["freeze", &outright, "--json"]).is(0, "confirmed");
        web.is_frozen();
        runc.iceaxe(["thaw", &target, "--json"]).is(0, "confirmed");
        web.is_thawed();
    }
}

fn a_users_record_that_is_no_file_is_an_error_and_not_waited_for(layout: Layout) {
    let runc = Runc::new(layout);
    let (web, id) = (runc.container("web"), own_id("odd"));
    let theirs = Theirs::new(&id);
    let file = theirs.file(&id);
    mkfifo(&file, Mode::S_IRWXU).unwrap();
    let ended = runc.iceaxe(["thaw", &id]);
    assert!(ended.code() == Some(1) && ended.took < PROMPT, "{ended:?}");
    assert!(ended.err.contains("no regular file"), "{ended:?}");
    fs::remove_file(&file).unwrap();
    symlink("/etc/shadow", &file).unwrap();
    let ended = runc.iceaxe(["thaw", &id]);
    assert!(ended.code() == Some(1) && ended.took < PROMPT, "{ended:?}");
    assert!(ended.err.contains("symbolic link"), "{ended:?}");
    fs::remove_file(&file).unwrap();
    runc.iceaxe(["thaw", &id]).refuses(3, &["no such container"]);
    runc.iceaxe(["thaw", &web.id, "--json"]).is(0, "unchanged");
}
