//! What a frozen program notices, and what those hear who watch its cgroup.

use std::time::{Duration, Instant};

use kit::{Hierarchy, Scene, eventually, freeze, is_gone, letter, thaw};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Frozen for so long where its length matters: far more than a task's turn is ever late here.
const WHILE: Duration = Duration::from_millis(500);

fn a_clock_inside_misses_what_lay_between_freeze_and_thaw(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["clock"]);
    let asked = Instant::now();
    freeze(&cgroup).ends(0, "confirmed");
    let frozen = Instant::now();
    eventually("a while is over", || frozen.elapsed() > WHILE);
    zoo.stands(0);
    let held = frozen.elapsed();
    thaw(&cgroup).ends(0, "confirmed");
    zoo.goes_on(0);
    let missed = Duration::from_micros(zoo.word(0));
    assert!(
        (held..=asked.elapsed()).contains(&missed),
        "it missed {missed:?} and was held for {held:?}"
    );
}

/// The only calls that notice a freeze are those that a signal would break off too. Who tries again and again until it
/// is frozen, as runc does, breaks them off each time.
fn a_freeze_breaks_a_wait_off_only_once(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["epoll"]);
    let mut broken_off = 0;
    for _ in 0..5 {
        let report = freeze(&cgroup).ends(0, "confirmed");
        // One more for each time that it had to let go and ask again, which it says.
        broken_off += 1 + report["pulses"].as_u64().unwrap();
        freeze(&cgroup).ends(0, "unchanged");
        thaw(&cgroup).ends(0, "confirmed");
        thaw(&cgroup).ends(0, "unchanged");
        eventually("it waits again", || zoo.word(0) >= broken_off);
        assert_eq!(zoo.word(0), broken_off);
    }
    zoo.answers(0);
    assert_eq!(zoo.beats(0), 1);
}

/// Its time runs on while it is stopped and frozen; that it is over changes nothing before it is continued.
fn a_task_stopped_and_frozen_past_its_sleep_ends_when_it_is_continued(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let cgroup = scene.cgroup(hierarchy);
    let began = Instant::now();
    // Long enough to be stopped in time on a slow machine.
    let zoo = scene.zoo(&[&cgroup], &["nap:3000"]);
    let send = |signal| kill(Pid::from_raw(zoo.tid(0)), signal).unwrap();
    send(Signal::SIGSTOP);
    eventually("it is stopped", || letter(zoo.tid(0)) == Some('T'));
    freeze(&cgroup).ends(0, "confirmed");
    eventually("its time is over", || {
        began.elapsed() > Duration::from_millis(3500)
    });
    thaw(&cgroup).ends(0, "confirmed");
    assert_eq!(letter(zoo.tid(0)), Some('T'));
    send(Signal::SIGCONT);
    eventually("it has ended", || is_gone(zoo.tid(0)));
}

on_each_hierarchy! {
    a_clock_inside_misses_what_lay_between_freeze_and_thaw,
    a_freeze_breaks_a_wait_off_only_once,
    a_task_stopped_and_frozen_past_its_sleep_ends_when_it_is_continued,
}

mod watched {
    mod v2 {
        use std::fs::File;
        use std::io::{Read, Seek};
        use std::os::fd::AsFd;

        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

        use super::super::{Hierarchy, Scene, freeze, thaw};
        use kit::PATIENCE;

        /// v1 tells nobody.
        #[test]
        #[serial_test::serial]
        fn who_watches_the_cgroup_is_told_of_each_freeze_and_thaw() {
            let (_scene, cgroup, zoo) = Scene::of(Hierarchy::V2, &["doze"]);
            let mut events = File::open(cgroup.file("cgroup.events")).unwrap();
            let mut says = move |wanted: &str| {
                let mut text = String::new();
                events.rewind().unwrap();
                events.read_to_string(&mut text).unwrap();
                assert!(text.contains(wanted), "{text:?}");
            };
            let watched = File::open(cgroup.file("cgroup.events")).unwrap();
            let told = |watched: &File| {
                let mut fds = [PollFd::new(watched.as_fd(), PollFlags::POLLPRI)];
                let limit = PollTimeout::try_from(PATIENCE).unwrap();
                poll(&mut fds, limit).unwrap()
            };
            let read = |mut watched: &File| {
                watched.rewind().unwrap();
                std::io::copy(&mut watched, &mut std::io::sink()).unwrap();
            };
            says("frozen 0");
            for _ in 0..3 {
                read(&watched);
                freeze(&cgroup).ends(0, "confirmed");
                assert_eq!(told(&watched), 1);
                says("frozen 1");
                zoo.stands(0);
                read(&watched);
                thaw(&cgroup).ends(0, "confirmed");
                assert_eq!(told(&watched), 1);
                says("frozen 0");
                zoo.goes_on(0);
            }
        }
    }
}
