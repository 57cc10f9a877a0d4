//! A hold that freezes a file system besides, on one of its own: who writes to it waits, and it is thawed whoever is killed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kit::engines::{Scratch, turn};
use kit::{Cgroup, Hierarchy, Iceaxe, Running, Scene, eventually, iceaxe, is_gone};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// How long a writer is watched that is to wait.
const STILL: Duration = Duration::from_millis(200);

/// A mounted ext4 of its own. When it goes, also by a panic, it is thawed and unmounted.
struct Disk {
    scratch: Scratch,
}

impl Disk {
    #[track_caller]
    fn new() -> Self {
        Self::on(None)
    }

    /// One whose blocks are a file of another one, whose freeze it hangs by.
    #[track_caller]
    fn on(below: Option<&Self>) -> Self {
        let disk = Self {
            scratch: Scratch::new(),
        };
        let image = match below {
            Some(below) => below.dir().join("image"),
            None => disk.scratch.join("image"),
        };
        fs::write(&image, "").unwrap();
        fs::File::options()
            .write(true)
            .open(&image)
            .unwrap()
            .set_len(16 << 20)
            .unwrap();
        let dir = disk.scratch.dir("mount");
        ran("mkfs.ext4", &["-q", image.to_str().unwrap()]);
        ran(
            "mount",
            &["-o", "loop", image.to_str().unwrap(), dir.to_str().unwrap()],
        );
        disk
    }

    fn dir(&self) -> PathBuf {
        self.scratch.join("mount")
    }

    fn is_mounted(&self) -> bool {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let is_it = |line: &str| line.split(' ').nth(1) == self.dir().to_str();
        mounts.lines().any(is_it)
    }

    /// Its device, while it is mounted: `/dev/loop0`.
    #[track_caller]
    fn device(&self) -> String {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let dir = self.dir().to_str().unwrap().to_owned();
        let line = mounts
            .lines()
            .find(|line| line.split(' ').nth(1) == Some(dir.as_str()));
        line.unwrap().split(' ').next().unwrap().to_owned()
    }

    /// Freezes it as somebody else does.
    #[track_caller]
    fn freeze(&self) {
        ran("fsfreeze", &["--freeze", self.dir().to_str().unwrap()]);
    }

    #[track_caller]
    fn thaw(&self) {
        ran("fsfreeze", &["--unfreeze", self.dir().to_str().unwrap()]);
    }

    /// Somebody who writes to it from now on, until it is done.
    fn writer(&self) -> Arc<AtomicBool> {
        let (path, done) = (self.dir().join("written"), Arc::new(AtomicBool::new(false)));
        let is_done = Arc::clone(&done);
        thread::spawn(move || {
            fs::write(path, "x").unwrap();
            is_done.store(true, Ordering::SeqCst);
        });
        done
    }

    #[track_caller]
    fn is_thawed(&self) {
        let done = self.writer();
        eventually("it can be written to", || done.load(Ordering::SeqCst));
    }

    /// Checks that a writer waits, who is returned.
    #[track_caller]
    fn is_frozen(&self) -> Arc<AtomicBool> {
        let done = self.writer();
        let began = Instant::now();
        while began.elapsed() < STILL {
            assert!(!done.load(Ordering::SeqCst), "it was written to");
            thread::sleep(Duration::from_millis(1));
        }
        done
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // It is not frozen where the test went well. Who waits for it must end before it is unmounted.
        let began = Instant::now();
        while self.is_mounted() && began.elapsed() < Duration::from_secs(5) {
            for (program, option) in [("fsfreeze", Some("--unfreeze")), ("umount", None)] {
                let _ = Command::new(program).args(option).arg(self.dir()).output(); // as said
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

#[track_caller]
fn ran(program: &str, args: &[&str]) {
    let ended = Command::new(program).args(args).output().unwrap();
    assert!(ended.status.success(), "{program} {args:?}: {ended:?}");
}

/// `iceaxe hold --fsfreeze DISK CGROUP`, without its command.
fn hold(cgroup: &Cgroup, disk: &Disk) -> Iceaxe {
    let command = iceaxe("hold").arg("--timeout=30s").arg(cgroup.target());
    command.arg("--fsfreeze").arg(disk.dir())
}

/// The command's process, once it is called what it does: from then on it ends with its parent.
#[track_caller]
fn command_of(running: &Running) -> i32 {
    let is_it = |pid: &i32| {
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default(); // it has just ended, then
        comm.trim() == "sleeper"
    };
    let mut command = None;
    eventually("the command runs", || {
        command = running.children().into_iter().find(is_it);
        command.is_some()
    });
    command.unwrap()
}

/// Held for something that goes on until it is ended; the command's process.
#[track_caller]
fn held(cgroup: &Cgroup, disk: &Disk) -> (Running, i32) {
    let command = hold(cgroup, disk).arg("--sync").arg(disk.dir());
    let command = command.arg("--").itself().arg("demo-task").arg("sleeper");
    let running = command.input("go").start();
    let command = command_of(&running);
    assert!(cgroup.asks());
    (running, command)
}

/// The guard, as the record of a cgroup names it.
#[track_caller]
fn guard_of(cgroup: &Cgroup) -> i32 {
    let files = fs::read_dir("/run/iceaxe").unwrap().flatten();
    let texts = files.filter_map(|file| fs::read(file.path()).ok());
    let mut records = texts.filter_map(|text| serde_json::from_slice::<Value>(&text).ok());
    let record = records.find(|record| record["standing"]["path"] == cgroup.path.to_str().unwrap());
    let record = record.expect("it is on record");
    let guard = record["owners"].as_array().unwrap().last().unwrap();
    i32::try_from(guard["pid"].as_i64().unwrap()).unwrap()
}

/// Kills all of them so that none of them sees another one go.
#[track_caller]
fn all_killed(pids: &[i32]) {
    for signal in [Signal::SIGSTOP, Signal::SIGKILL] {
        for &pid in pids {
            kill(Pid::from_raw(pid), signal).unwrap();
        }
    }
}

#[test]
fn a_writer_waits_while_the_command_runs_and_goes_on_then() {
    let (_turn, scene, disk) = (turn(), Scene::new(), Disk::new());
    let cgroup = scene.cgroup(Hierarchy::available());
    let zoo = scene.zoo(&[&cgroup], &["doze"]);
    let (running, _) = held(&cgroup, &disk);
    let writer = disk.is_frozen();
    zoo.stands(0);
    running.signal(Signal::SIGTERM);
    let run = running.end();
    assert_eq!(run.code, Some(143), "{run:?}");
    eventually("who waited has written", || writer.load(Ordering::SeqCst));
    disk.is_thawed();
    assert!(!cgroup.asks(), "{run:?}");
    zoo.goes_on(0);
}

#[test]
fn it_is_thawed_before_a_command_that_waits_for_it_is_ended() {
    let (_turn, scene, disk) = (turn(), Scene::new(), Disk::new());
    let cgroup = scene.cgroup(Hierarchy::available());
    // It is told to end and can't, as it waits; what it writes is there once it no longer does.
    let file = disk.dir().join("by the command");
    let command = hold(&cgroup, &disk).arg("--max=300ms").arg("--");
    let run = command.arg("dd").arg("if=/dev/zero").arg("count=1");
    let run = run.arg(format!("of={}", file.display())).run();
    assert_eq!(run.code, Some(124), "{run:?}");
    assert!(run.took < Duration::from_secs(3), "{run:?}");
    assert!(!cgroup.asks(), "{run:?}");
    disk.is_thawed();
}

#[test]
fn it_is_thawed_when_iceaxe_is_killed() {
    let (_turn, scene, disk) = (turn(), Scene::new(), Disk::new());
    let cgroup = scene.cgroup(Hierarchy::available());
    let (running, command) = held(&cgroup, &disk);
    let writer = disk.is_frozen();
    running.signal(Signal::SIGKILL);
    eventually("who waited has written", || writer.load(Ordering::SeqCst));
    eventually("the container is thawed", || !cgroup.asks());
    eventually("the command has ended", || is_gone(command));
    disk.is_thawed();
}

#[test]
fn it_is_thawed_when_the_worker_is_killed() {
    let (_turn, scene, disk) = (turn(), Scene::new(), Disk::new());
    let cgroup = scene.cgroup(Hierarchy::available());
    let (running, _) = held(&cgroup, &disk);
    let writer = disk.is_frozen();
    kill(Pid::from_raw(running.worker()), Signal::SIGKILL).unwrap();
    // The command may be who waits for it.
    eventually("who waited has written", || writer.load(Ordering::SeqCst));
    running.signal(Signal::SIGTERM);
    let run = running.end();
    assert_eq!(run.code, Some(123), "{run:?}");
    assert!(!cgroup.asks(), "{run:?}");
    disk.is_thawed();
}

#[test]
fn the_guard_thaws_it_when_iceaxe_and_its_worker_are_killed() {
    let (_turn, scene, disk) = (turn(), Scene::new(), Disk::new());
    let cgroup = scene.cgroup(Hierarchy::available());
    let (running, _) = held(&cgroup, &disk);
    let writer = disk.is_frozen();
    let guard = guard_of(&cgroup);
    all_killed(&[running.pid(), running.worker()]);
    eventually("who waited has written", || writer.load(Ordering::SeqCst));
    eventually("the container is thawed", || !cgroup.asks());
    eventually("the guard goes", || is_gone(guard));
    disk.is_thawed();
}

#[test]
fn a_disk_that_hangs_keeps_no_container_frozen() {
    let (_turn, scene) = (turn(), Scene::new());
    let below = Disk::new();
    // Its superblock is written by its thaw.
    let disk = Disk::on(Some(&below));
    let cgroup = scene.cgroup(Hierarchy::available());
    let zoo = scene.zoo(&[&cgroup], &["doze"]);
    let (running, _) = held(&cgroup, &disk);
    let (writer, guard) = (disk.is_frozen(), guard_of(&cgroup));
    below.freeze();
    let began = Instant::now();
    all_killed(&[running.pid(), running.worker()]);
    eventually("the container is thawed", || !cgroup.asks());
    let took = began.elapsed();
    below.thaw();
    assert!(took < Duration::from_secs(2), "{took:?}");
    zoo.goes_on(0);
    eventually("who waited has written", || writer.load(Ordering::SeqCst));
    eventually("the guard goes", || is_gone(guard));
}

#[test]
fn where_all_are_killed_recover_thaws_it() {
    let (_turn, scene, disk) = (turn(), Scene::new(), Disk::new());
    let cgroup = scene.cgroup(Hierarchy::available());
    let (running, command) = held(&cgroup, &disk);
    let pids = [running.worker(), guard_of(&cgroup), running.pid()];
    all_killed(&pids);
    running.end();
    eventually("all have ended", || {
        pids.iter().chain([&command]).all(|pid| is_gone(*pid))
    });
    let writer = disk.is_frozen();
    assert!(cgroup.asks());
    let run = iceaxe("recover").run();
    assert_eq!(run.code, Some(0), "{run:?}");
    eventually("who waited has written", || writer.load(Ordering::SeqCst));
    assert!(!cgroup.asks(), "{run:?}");
    disk.is_thawed();
}

/// A hold of a file system by a link, which is moved to another one that somebody else has frozen.
#[track_caller]
fn held_by_a_moved_link(cgroup: &Cgroup, [ours, theirs]: [&Disk; 2]) -> (Running, i32) {
    let link = ours.scratch.join("link");
    symlink(ours.dir(), &link).unwrap();
    let command = iceaxe("hold").arg(cgroup.target()).arg("--fsfreeze").arg(&link);
    let command = command.arg("--").itself().arg("demo-task").arg("sleeper");
    let running = command.input("go").start();
    let command = command_of(&running);
    fs::remove_file(&link).unwrap();
    symlink(theirs.dir(), &link).unwrap();
    theirs.freeze();
    (running, command)
}

#[test]
fn a_link_that_was_moved_leads_recover_to_no_other_file_system() {
    let (_turn, scene) = (turn(), Scene::new());
    let [ours, theirs] = [Disk::new(), Disk::new()];
    let cgroup = scene.cgroup(Hierarchy::available());
    let (running, command) = held_by_a_moved_link(&cgroup, [&ours, &theirs]);
    let pids = [running.worker(), guard_of(&cgroup), running.pid()];
    all_killed(&pids);
    running.end();
    eventually("all have ended", || {
        pids.iter().chain([&command]).all(|pid| is_gone(*pid))
    });
    let writers = [ours.is_frozen(), theirs.is_frozen()];
    let status = iceaxe("status").arg(cgroup.target()).run();
    assert!(
        status.err.contains("was left frozen: iceaxe recover"),
        "{status:?}"
    );
    let run = iceaxe("recover").run();
    assert_eq!(run.code, Some(0), "{run:?}");
    eventually("ours is thawed", || writers[0].load(Ordering::SeqCst));
    assert!(!writers[1].load(Ordering::SeqCst), "theirs is thawed: {run:?}");
    assert!(!cgroup.asks(), "{run:?}");
    theirs.thaw();
    eventually("who waited has written", || writers[1].load(Ordering::SeqCst));
}

#[test]
fn a_link_that_was_moved_leads_nobody_else_to_another_one() {
    for is_guarded in [true, false] {
        let (_turn, scene) = (turn(), Scene::new());
        let [ours, theirs] = [Disk::new(), Disk::new()];
        let cgroup = scene.cgroup(Hierarchy::available());
        let (running, _) = held_by_a_moved_link(&cgroup, [&ours, &theirs]);
        let writers = [ours.is_frozen(), theirs.is_frozen()];
        let guard = guard_of(&cgroup);
        if !is_guarded {
            kill(Pid::from_raw(guard), Signal::SIGKILL).unwrap();
            eventually("the guard has ended", || is_gone(guard));
        }
        kill(Pid::from_raw(running.worker()), Signal::SIGKILL).unwrap();
        eventually("ours is thawed", || writers[0].load(Ordering::SeqCst));
        running.signal(Signal::SIGTERM);
        running.end();
        eventually("the guard goes", || is_gone(guard));
        assert!(!writers[1].load(Ordering::SeqCst), "theirs is thawed");
        assert!(!cgroup.asks());
        theirs.thaw();
        eventually("who waited has written", || writers[1].load(Ordering::SeqCst));
    }
}

/// Its last mount goes, and another one is at its place; the kernel keeps it frozen.
#[test]
fn a_file_system_that_cannot_be_reached_stays_on_record() {
    let (_turn, scene) = (turn(), Scene::new());
    let [ours, theirs] = [Disk::new(), Disk::new()];
    let cgroup = scene.cgroup(Hierarchy::available());
    let (running, command) = held(&cgroup, &ours);
    let pids = [running.worker(), guard_of(&cgroup), running.pid()];
    all_killed(&pids);
    running.end();
    eventually("all have ended", || {
        pids.iter().chain([&command]).all(|pid| is_gone(*pid))
    });
    let (dir, device) = (ours.dir(), ours.device());
    let dir = dir.to_str().unwrap();
    // Below another mount it is still there, and can't be reached.
    ran("mount", &["--bind", theirs.dir().to_str().unwrap(), dir]);
    theirs.freeze();
    for _ in 0..2 {
        let run = iceaxe("recover").run();
        assert_eq!(
            run.code.filter(|code| [7, 12].contains(code)),
            run.code,
            "{run:?}"
        );
        assert!(run.err.contains("no mount of the file system of"), "{run:?}");
        assert!(!cgroup.asks(), "{run:?}");
    }
    let writer = theirs.is_frozen();
    theirs.thaw();
    eventually("who waited has written", || writer.load(Ordering::SeqCst));
    ran("umount", &[dir]);
    ran("umount", &["--lazy", dir]);
    let elsewhere = ours.scratch.dir("elsewhere");
    let run = iceaxe("recover").run();
    assert!(run.err.contains("no mount of the file system of"), "{run:?}");
    ran("mount", &[&device, elsewhere.to_str().unwrap()]);
    let planned = iceaxe("recover").arg("--dry-run").run();
    assert!(planned.out.contains("would be thawed"), "{planned:?}");
    let run = iceaxe("recover").run();
    assert_eq!(run.code, Some(0), "{run:?}");
    fs::write(elsewhere.join("file"), "x").unwrap();
    ran("umount", &[elsewhere.to_str().unwrap()]);
    let run = iceaxe("recover").run();
    assert!(run.err.contains("nothing was left behind"), "{run:?}");
}

#[test]
fn what_iceaxe_cannot_do_without_is_not_frozen() {
    let (_turn, scene, disk) = (turn(), Scene::new(), Disk::new());
    let cgroup = scene.cgroup(Hierarchy::available());
    let command = iceaxe("hold").arg(cgroup.target()).arg("--fsfreeze=/");
    let run = command.arg("--").itself().arg("--version").run();
    assert_eq!((run.code, run.out.as_str()), (Some(125), ""), "{run:?}");
    assert!(run.err.contains("that of the root"), "{run:?}");
    assert!(!cgroup.asks(), "{run:?}");
    for (stream, name) in [("1", "output"), ("2", "error"), ("0", "input")] {
        let file = disk.dir().join(format!("stream-{stream}"));
        fs::write(&file, "").unwrap();
        let script = format!("exec \"$@\" {stream}<>'{}'", file.display());
        let command = hold(&cgroup, &disk).through(&["sh", "-c", &script, "sh"]);
        let run = command.arg("--").itself().arg("--version").run();
        assert_eq!(run.code, Some(125), "{run:?}");
        let said = run.err + &fs::read_to_string(&file).unwrap();
        assert!(
            said.contains(&format!("that of iceaxe's standard {name}")),
            "{said}"
        );
        assert!(!cgroup.asks(), "{said}");
    }
    disk.is_thawed();
}

/// Without the limit of a hold, it is the one who asked it to end that waits.
#[test]
fn it_is_thawed_where_a_command_that_waits_for_it_is_asked_to_end() {
    let (_turn, scene, disk) = (turn(), Scene::new(), Disk::new());
    let cgroup = scene.cgroup(Hierarchy::available());
    let file = disk.dir().join("by the command");
    let command = hold(&cgroup, &disk).arg("--").arg("dd").arg("if=/dev/zero");
    let running = command
        .arg("count=1")
        .arg(format!("of={}", file.display()))
        .start();
    eventually("the command waits", || {
        let children = running.children();
        children.into_iter().any(|pid| {
            let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            comm.trim() == "dd" && stat.contains(") D ")
        })
    });
    running.signal(Signal::SIGTERM);
    let run = running.end();
    assert_eq!(run.code, Some(143), "{run:?}");
    assert!(run.err.contains("thawed before COMMAND has ended"), "{run:?}");
    disk.is_thawed();
    assert!(!cgroup.asks(), "{run:?}");
}

/// The guard has another working directory.
#[test]
fn a_path_means_what_it_means_to_who_typed_it() {
    let (_turn, scene, disk) = (turn(), Scene::new(), Disk::new());
    let cgroup = scene.cgroup(Hierarchy::available());
    let script = format!("cd '{}' && exec \"$@\"", disk.dir().display());
    let command = iceaxe("hold")
        .arg(cgroup.target())
        .through(&["sh", "-c", &script, "sh"]);
    let command = command.arg("--fsfreeze=.").arg("--").itself();
    let running = command.arg("demo-task").arg("sleeper").input("go").start();
    command_of(&running);
    let pids = [running.worker(), running.pid()];
    let writer = disk.is_frozen();
    all_killed(&pids);
    running.end();
    eventually("the guard thaws it", || writer.load(Ordering::SeqCst));
    eventually("the guard goes", || !cgroup.asks());
}

#[test]
fn one_that_is_named_twice_is_frozen_once_and_a_file_is_as_good() {
    let (_turn, scene, disk) = (turn(), Scene::new(), Disk::new());
    let cgroup = scene.cgroup(Hierarchy::available());
    let file = disk.dir().join("file");
    fs::write(&file, "").unwrap();
    let command = hold(&cgroup, &disk)
        .arg("--fsfreeze")
        .arg(disk.dir())
        .arg("--sync")
        .arg(&file);
    let run = command.arg("--").itself().arg("--version").run();
    assert_eq!(run.code, Some(0), "{run:?}");
    disk.is_thawed();
    for odd in ["/dev/null", "/nonexistent"] {
        let command = iceaxe("hold").arg(cgroup.target()).arg("--sync").arg(odd);
        let run = command.arg("--").itself().arg("--version").run();
        assert_eq!((run.code, run.out.as_str()), (Some(125), ""), "{run:?}");
    }
}

#[test]
fn a_dry_run_refuses_what_the_real_one_does() {
    let (_turn, scene, disk) = (turn(), Scene::new(), Disk::new());
    let cgroup = scene.cgroup(Hierarchy::available());
    let planned = |path: &str| {
        let command = iceaxe("hold").arg("--dry-run").arg(cgroup.target());
        let command = command.arg("--fsfreeze").arg(path).arg("--");
        command.itself().arg("--version").run()
    };
    let run = planned("/");
    assert_eq!(run.code, Some(125), "{run:?}");
    let run = planned(disk.dir().to_str().unwrap());
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.err.contains("would freeze the file system of"), "{run:?}");
    disk.is_thawed();
}

/// A thaw ends the hold, and its record with it; the file systems are the command's still.
#[test]
fn the_guard_thaws_it_where_the_containers_were_thawed_before() {
    let (_turn, scene, disk) = (turn(), Scene::new(), Disk::new());
    let cgroup = scene.cgroup(Hierarchy::available());
    let (running, _) = held(&cgroup, &disk);
    let thawed = iceaxe("thaw").arg(cgroup.target()).run();
    assert_eq!(thawed.code, Some(0), "{thawed:?}");
    let writer = disk.is_frozen();
    all_killed(&[running.worker(), running.pid()]);
    running.end();
    eventually("who waited has written", || writer.load(Ordering::SeqCst));
    disk.is_thawed();
}

#[test]
fn what_somebody_else_froze_stays_frozen() {
    let (_turn, scene) = (turn(), Scene::new());
    let [ours, theirs] = [Disk::new(), Disk::new()];
    let cgroup = scene.cgroup(Hierarchy::available());
    let zoo = scene.zoo(&[&cgroup], &["doze"]);
    theirs.freeze();
    let command = hold(&cgroup, &ours).arg("--fsfreeze").arg(theirs.dir());
    let run = command.arg("--").itself().arg("--version").run();
    assert_eq!((run.code, run.out.as_str()), (Some(125), ""), "{run:?}");
    assert!(run.err.contains("busy"), "{run:?}");
    ours.is_thawed();
    assert!(!cgroup.asks(), "{run:?}");
    zoo.goes_on(0);
    let writer = theirs.is_frozen();
    theirs.thaw();
    eventually("who waited has written", || writer.load(Ordering::SeqCst));
}
