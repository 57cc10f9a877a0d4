//! A number that is another task's by now: a task is known by its number and the time when it began.

use std::fs;
use std::path::PathBuf;

use kit::{
    Cgroup, Hierarchy, Running, Scene, Zoo, eventually, freeze, mount_of, stop_in_its_pause, tasks_add_up,
    thaw,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn send(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

/// Stops iceaxe while it waits, and ends the task in D that it waits for, so that its number is nobody's. Returns whom
/// to let go on.
fn end_meanwhile(running: &Running, cgroup: &Cgroup, zoo: &Zoo) -> i32 {
    let worker = running.worker();
    stop_in_its_pause(worker);
    let pid = zoo.tid(0);
    // What v1 holds can't die.
    fs::write(mount_of(cgroup.hierarchy).join("cgroup.procs"), pid.to_string()).unwrap();
    send(pid, Signal::SIGKILL);
    zoo.release(0);
    let dir = PathBuf::from(format!("/proc/{pid}"));
    eventually("its parent has taken note", || !dir.exists());
    worker
}

fn who_has_the_number_of_a_task_that_was_to_be_thawed_is_new(hierarchy: Hierarchy) {
    let (scene, cgroup, old) = Scene::of(hierarchy, &["dstate"]);
    cgroup.ask();
    let running = thaw(&cgroup).start();
    eventually("it asks no more", || !cgroup.asks());
    let worker = end_meanwhile(&running, &cgroup, &old);
    let pid = old.tid(0);
    let young = scene.zoo_with(&[&cgroup], &["--pid", &pid.to_string()], &["doze"]);
    assert_eq!(young.tid(0), pid);
    send(worker, Signal::SIGCONT);
    let report = running.end().is(0, "confirmed");
    tasks_add_up(&report, &[(&["new"], 1)]);
    young.goes_on(0);
}

fn who_has_the_number_of_a_task_that_was_to_be_frozen_is_new(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let (cgroup, elsewhere) = (scene.cgroup(hierarchy), scene.cgroup(hierarchy));
    let old = scene.zoo(&[&cgroup], &["dstate"]);
    let running = freeze(&cgroup).start();
    eventually("it asks", || cgroup.asks());
    let worker = end_meanwhile(&running, &cgroup, &old);
    let pid = old.tid(0);
    let young = scene.zoo_with(&[&elsewhere], &["--pid", &pid.to_string()], &["doze"]);
    cgroup.admit(pid);
    young.stands(0);
    send(worker, Signal::SIGCONT);
    let report = running.end().is(0, "confirmed");
    tasks_add_up(&report, &[(&["new"], 1)]);
    young.stands(0);
    thaw(&cgroup).ends(0, "confirmed");
    young.goes_on(0);
}

on_each_hierarchy! {
    who_has_the_number_of_a_task_that_was_to_be_thawed_is_new,
    who_has_the_number_of_a_task_that_was_to_be_frozen_is_new,
}
