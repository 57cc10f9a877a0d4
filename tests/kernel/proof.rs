//! The word for each kind of task, per hierarchy and kernel.

use kit::{
    Hierarchy, Scene, Zoo, eventually, freeze, freezes_in_place, kernel, letter, status, tasks_add_up, thaw,
    wchan,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The words of a task that sleeps briefly, again and again.
fn dozing(hierarchy: Hierarchy) -> &'static [&'static str] {
    match hierarchy {
        Hierarchy::V2 => &["ran"],
        Hierarchy::V1 if freezes_in_place() => &["ran", "restored"],
        Hierarchy::V1 => &["ran", "unprovable"],
    }
}

/// The words of a sleeper that v1 freezes where it is. It gets no turn by that, except on kernels between the two here.
fn in_place(hierarchy: Hierarchy) -> &'static [&'static str] {
    match hierarchy {
        Hierarchy::V2 => &["ran"],
        Hierarchy::V1 if kernel() >= (6, 12) => &["restored"],
        Hierarchy::V1 if freezes_in_place() => &["ran", "restored"],
        // It was not touched, and looks the same whatever was asked.
        Hierarchy::V1 => &["unprovable"],
    }
}

/// The words of a stopped or traced task: only in-place freezing shows in its letter.
fn halted(hierarchy: Hierarchy) -> &'static [&'static str] {
    match hierarchy {
        Hierarchy::V1 if freezes_in_place() => &["restored"],
        _ => &["unprovable"],
    }
}

/// Freezes and thaws one kind; each time every task must be accounted for, by one of the words of its group.
fn check(hierarchy: Hierarchy, kind: &str, words: &[(&[&str], u64)]) -> (Scene, Zoo) {
    let (scene, cgroup, zoo) = Scene::of(hierarchy, &[kind]);
    let total: u64 = words.iter().map(|(_, count)| count).sum();

    let report = freeze(&cgroup).ends(0, "confirmed");
    tasks_add_up(&report, &[(&["frozen"], total)]);
    assert!(cgroup.asks() && cgroup.is_frozen());
    zoo.stands(0);
    let seen = status(&cgroup);
    let places: Vec<_> = zoo
        .all()
        .into_iter()
        .map(|tid| (letter(tid), wchan(tid)))
        .collect();
    assert_eq!(
        (&seen["requested"], &seen["effective"]),
        (&"frozen".into(), &"frozen".into()),
        "{seen} {places:?}"
    );
    assert_eq!(seen["tasks"]["total"], total, "{seen}");

    let report = thaw(&cgroup).ends(0, "confirmed");
    tasks_add_up(&report, words);
    assert!(!cgroup.asks());
    assert_eq!(status(&cgroup)["effective"], "thawed");
    (scene, zoo)
}

fn a_busy_task_is_proven_to_have_run(hierarchy: Hierarchy) {
    let (_scene, zoo) = check(hierarchy, "busy", &[(&["ran"], 1)]);
    zoo.goes_on(0);
}

fn a_dozing_task_is_proven_thawed(hierarchy: Hierarchy) {
    let (_scene, zoo) = check(hierarchy, "doze", &[(dozing(hierarchy), 1)]);
    zoo.goes_on(0);
}

fn a_long_sleeper_is_proven_thawed(hierarchy: Hierarchy) {
    let (_scene, zoo) = check(hierarchy, "sleep", &[(in_place(hierarchy), 1)]);
    assert_eq!(letter(zoo.tid(0)), Some('S'));
}

/// One that waits for something gets it after the thaw, and answers.
fn check_waiting(hierarchy: Hierarchy, kind: &str, words: &[&str]) {
    let (_scene, zoo) = check(hierarchy, kind, &[(words, 1)]);
    assert_eq!(zoo.beats(0), 0, "nobody gave it anything yet");
    zoo.answers(0);
    assert_eq!(zoo.beats(0), 1);
}

fn a_futex_waiter_is_proven_thawed(hierarchy: Hierarchy) {
    check_waiting(hierarchy, "futex", in_place(hierarchy));
}

fn a_socket_reader_is_proven_thawed(hierarchy: Hierarchy) {
    let words = match hierarchy {
        // Frozen in place on all kernels, with a turn on those before the freezer's own state.
        Hierarchy::V1 if !freezes_in_place() => &["ran", "unprovable"],
        hierarchy => in_place(hierarchy),
    };
    check_waiting(hierarchy, "socket", words);
}

fn a_pipe_reader_is_proven_to_have_run(hierarchy: Hierarchy) {
    check_waiting(hierarchy, "pipe", &["ran"]);
}

fn a_poller_is_proven_to_have_run(hierarchy: Hierarchy) {
    check_waiting(hierarchy, "poll", &["ran"]);
}

fn an_epoll_waiter_is_proven_to_have_run(hierarchy: Hierarchy) {
    check_waiting(hierarchy, "epoll", &["ran"]);
}

fn each_thread_is_proven_thawed(hierarchy: Hierarchy) {
    let (_scene, zoo) = check(hierarchy, "threads:9", &[(dozing(hierarchy), 9)]);
    zoo.goes_on(0);
}

/// The kernel hands out a page of a list at a time.
fn every_task_is_seen_where_the_list_takes_several_reads(hierarchy: Hierarchy) {
    let many = ["sleep"; 1000];
    let (_scene, own, _zoo) = Scene::of(hierarchy, &many);
    let name = match hierarchy {
        Hierarchy::V1 => "tasks",
        Hierarchy::V2 => "cgroup.threads",
    };
    assert!(own.read(name).len() > 4096, "one read has it all");
    assert_eq!(status(&own)["tasks"]["total"], many.len());
}

fn live_threads_of_a_dead_leader_are_proven_thawed(hierarchy: Hierarchy) {
    let (_scene, zoo) = check(hierarchy, "dead-leader:3", &[(dozing(hierarchy), 3)]);
    zoo.goes_on(0);
}

fn a_stopped_task_stays_stopped(hierarchy: Hierarchy) {
    let (_scene, zoo) = check(hierarchy, "stopped", &[(halted(hierarchy), 1)]);
    assert_eq!(letter(zoo.tid(0)), Some('T'));
    zoo.stands(0);
    kill(Pid::from_raw(zoo.tid(0)), Signal::SIGCONT).unwrap();
    zoo.goes_on(0);
}

fn a_traced_task_stays_its_tracers(hierarchy: Hierarchy) {
    let (_scene, zoo) = check(hierarchy, "traced", &[(halted(hierarchy), 1)]);
    assert_eq!(letter(zoo.tid(0)), Some('t'));
    zoo.siginfo(0);
    zoo.detach(0);
    zoo.goes_on(0);
}

fn a_vfork_parent_is_unprovable_and_its_child_is_not(hierarchy: Hierarchy) {
    // Up to 6.0 the dozing child can be unprovable too, which no group may share.
    let words: &[(&[&str], u64)] = match hierarchy {
        Hierarchy::V1 if !freezes_in_place() => &[(&["unprovable", "ran"], 2)],
        hierarchy => &[(&["unprovable"], 1), (dozing(hierarchy), 1)],
    };
    let (_scene, zoo) = check(hierarchy, "vfork", words);
    let before = zoo.beats_of(0, 1);
    eventually("the child goes on", || zoo.beats_of(0, 1) > before);
}

fn a_zombie_holds_nothing_up(hierarchy: Hierarchy) {
    let (_scene, zoo) = check(hierarchy, "zombie", &[(dozing(hierarchy), 1)]);
    zoo.goes_on(0);
    assert_eq!(letter(i32::try_from(zoo.word(0)).unwrap()), Some('Z'));
}

on_each_hierarchy! {
    a_busy_task_is_proven_to_have_run,
    a_dozing_task_is_proven_thawed,
    a_long_sleeper_is_proven_thawed,
    a_futex_waiter_is_proven_thawed,
    a_socket_reader_is_proven_thawed,
    a_pipe_reader_is_proven_to_have_run,
    a_poller_is_proven_to_have_run,
    an_epoll_waiter_is_proven_to_have_run,
    each_thread_is_proven_thawed,
    every_task_is_seen_where_the_list_takes_several_reads,
    live_threads_of_a_dead_leader_are_proven_thawed,
    a_stopped_task_stays_stopped,
    a_traced_task_stays_its_tracers,
    a_vfork_parent_is_unprovable_and_its_child_is_not,
    a_zombie_holds_nothing_up,
}
