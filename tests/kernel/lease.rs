//! A freeze for a time: it comes back, whoever is killed.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use kit::{Cgroup, Hierarchy, Iceaxe, Running, Scene, eventually, freeze, iceaxe, status, thaw};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Where the records are.
pub(crate) const RECORDS: &str = "/run/iceaxe";

/// The records of one cgroup, and the processes that each names: who asked, and last the guard.
pub(crate) fn records_of(cgroup: &Cgroup) -> Vec<Value> {
    let path = cgroup.path.to_str().unwrap();
    let files = fs::read_dir(RECORDS).into_iter().flatten().flatten();
    let texts = files.filter_map(|file| fs::read(file.path()).ok());
    let records = texts.filter_map(|text| serde_json::from_slice::<Value>(&text).ok());
    records
        .filter(|record| record["standing"]["path"] == path)
        .collect()
}

#[track_caller]
pub(crate) fn guard_of(cgroup: &Cgroup) -> i32 {
    let records = records_of(cgroup);
    assert_eq!(records.len(), 1, "{records:?}");
    let owners = records[0]["owners"].as_array().unwrap();
    i32::try_from(owners.last().unwrap()["pid"].as_i64().unwrap()).unwrap()
}

/// Whether a process is there and has not ended: who collects it may take its time.
pub(crate) fn is_there(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default(); // it is gone, then
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}

pub(crate) fn end(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    eventually("it has ended", || !is_there(pid));
}

fn lease(cgroup: &Cgroup, lasting: &str) -> Iceaxe {
    freeze(cgroup).arg("--for").arg(lasting)
}

fn a_lease_ends_at_its_time_and_leaves_nothing(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["doze"]);
    let began = Instant::now();
    lease(&cgroup, "1s").ends(0, "confirmed");
    let guard = guard_of(&cgroup);
    assert!(cgroup.asks());
    let told = status(&cgroup);
    let holder = &told["holders"][0];
    assert_eq!(holder["kind"], "lease", "{told}");
    assert_eq!(holder["answered_for"], true, "{told}");
    assert!(holder["left_us"].as_u64().unwrap() <= 1_000_000, "{told}");
    assert!(told["frozen_for_us"].as_u64().is_some(), "{told}");
    eventually("it thaws", || !cgroup.asks());
    let lasted = began.elapsed();
    assert!(
        lasted >= Duration::from_secs(1) && lasted < Duration::from_secs(2),
        "{lasted:?}"
    );
    zoo.goes_on(0);
    eventually("nothing is left", || {
        records_of(&cgroup).is_empty() && !is_there(guard)
    });
}

fn a_lease_that_is_over_before_its_freeze_is_comes_back_too(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let cgroups = [0, 1].map(|_| scene.cgroup(hierarchy));
    let zoos = cgroups.each_ref().map(|cgroup| scene.zoo(&[cgroup], &["doze"]));
    for lasting in ["0", "1ms"] {
        let run = lease(&cgroups[0], lasting).arg(cgroups[1].target()).run();
        assert_eq!(run.code, Some(0), "{run:?}");
        eventually("nothing is left", || {
            cgroups
                .iter()
                .all(|cgroup| !cgroup.asks() && records_of(cgroup).is_empty())
        });
        zoos.iter().for_each(|zoo| zoo.goes_on(0));
    }
}

/// Starts a freeze of that cgroup whose first process is stopped before anything is frozen: another freeze has the lock for as
/// long as that takes.
#[track_caller]
pub(crate) fn stopped_early(
    scene: &Scene,
    hierarchy: Hierarchy,
    cgroup: &Cgroup,
    command: Iceaxe,
) -> Running {
    let other = scene.cgroup(hierarchy);
    let _never_settles = scene.zoo(&[&other], &["dstate"]);
    let first = freeze(cgroup).arg(other.target()).start();
    eventually("another freeze has the lock", || cgroup.asks() && other.asks());
    let running = command.start();
    // A child that makes the guard comes and goes before the worker is there.
    let has_lock = |pid: i32| {
        let files = fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten()
            .flatten();
        files
            .filter_map(|fd| fs::read_link(fd.path()).ok())
            .any(|file| file.ends_with(".lock"))
    };
    eventually("its worker waits for the lock", || {
        running.children().into_iter().any(has_lock)
    });
    running.signal(Signal::SIGSTOP);
    first.signal(Signal::SIGTERM);
    let run = first.end();
    assert_eq!(run.signal, Some(Signal::SIGTERM as i32), "{run:?}");
    eventually("its worker freezes", || cgroup.asks());
    running
}

/// Waits for the end of what is frozen until then; how late that was.
#[track_caller]
pub(crate) fn lateness(cgroup: &Cgroup, until_us: u64) -> Duration {
    eventually("it is thawed", || !cgroup.asks());
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).unwrap();
    Duration::from(now).saturating_sub(Duration::from_micros(until_us))
}

fn a_lease_whose_iceaxe_is_stopped_on_the_way_ends_at_its_time(hierarchy: Hierarchy) {
    let (scene, cgroup, zoo) = Scene::of(hierarchy, &["doze"]);
    let running = stopped_early(&scene, hierarchy, &cgroup, lease(&cgroup, "500ms"));
    let until = records_of(&cgroup)[0]["until_us"].as_u64().unwrap();
    let late = lateness(&cgroup, until);
    assert!(late < Duration::from_secs(1), "{late:?}");
    zoo.goes_on(0);
    running.signal(Signal::SIGCONT);
    running.end();
    eventually("nothing is left", || records_of(&cgroup).is_empty());
    assert!(!cgroup.asks());
}

/// Nobody reads what iceaxe has to say: the process that says it waits for that.
fn a_lease_that_can_not_be_told_ends_at_its_time(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["doze"]);
    let (reader, mut writer) = std::io::pipe().unwrap();
    let room = nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_GETPIPE_SZ).unwrap();
    writer
        .write_all(&vec![b' '; usize::try_from(room).unwrap()])
        .unwrap();
    let running = lease(&cgroup, "500ms").into_pipe(writer).start();
    eventually("it is frozen", || cgroup.asks());
    let until = records_of(&cgroup)[0]["until_us"].as_u64().unwrap();
    let late = lateness(&cgroup, until);
    assert!(late < Duration::from_secs(1), "{late:?}");
    zoo.goes_on(0);
    // By then its worker does not wait any more.
    let worker = running.worker();
    eventually("the worker has ended", || !is_there(worker));
    let said = std::io::read_to_string(reader).unwrap();
    assert!(said.contains("confirmed"), "{said}");
    let run = running.end();
    assert!(
        run.err
            .contains("its time was over before its freeze could be told"),
        "{run:?}"
    );
    assert!(records_of(&cgroup).is_empty() && !cgroup.asks());
}

fn a_lease_that_is_asked_for_again_is_renewed(hierarchy: Hierarchy) {
    let (_scene, cgroup, _zoo) = Scene::of(hierarchy, &["doze"]);
    lease(&cgroup, "2s").ends(0, "confirmed");
    let first = guard_of(&cgroup);
    let began = Instant::now();
    lease(&cgroup, "4s").ends(0, "unchanged");
    eventually("the first guard goes", || !is_there(first));
    eventually("it thaws", || !cgroup.asks());
    assert!(began.elapsed() >= Duration::from_secs(4), "{:?}", began.elapsed());
    eventually("nothing is left", || records_of(&cgroup).is_empty());
}

fn a_thaw_ends_a_lease_and_its_guard(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["doze"]);
    lease(&cgroup, "10m").ends(0, "confirmed");
    let guard = guard_of(&cgroup);
    let report = thaw(&cgroup).ends(0, "confirmed");
    assert!(report["hints"].to_string().contains("lease"), "{report}");
    assert!(report["frozen_for_us"].as_u64().is_some(), "{report}");
    zoo.goes_on(0);
    eventually("nothing is left", || {
        records_of(&cgroup).is_empty() && !is_there(guard)
    });
}

fn a_guard_that_is_told_to_end_thaws_first(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["doze"]);
    lease(&cgroup, "10m").ends(0, "confirmed");
    let guard = guard_of(&cgroup);
    // A terminal that is closed is why there is a guard.
    kill(Pid::from_raw(guard), Signal::SIGHUP).unwrap();
    kill(Pid::from_raw(guard), Signal::SIGTERM).unwrap();
    eventually("it thaws and goes", || !cgroup.asks() && !is_there(guard));
    zoo.goes_on(0);
    assert!(records_of(&cgroup).is_empty());
}

fn a_guard_that_is_killed_is_made_up_for_by_recover(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["doze"]);
    let began = Instant::now();
    lease(&cgroup, "2s").ends(0, "confirmed");
    end(guard_of(&cgroup));
    let told = iceaxe("status").arg(cgroup.target()).run();
    assert!(told.err.contains("iceaxe recover"), "{told:?}");
    let run = iceaxe("recover").run();
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(is_there(guard_of(&cgroup)) && cgroup.asks(), "{run:?}");
    eventually("it thaws", || !cgroup.asks());
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    zoo.goes_on(0);
    eventually("nothing is left", || records_of(&cgroup).is_empty());
}

fn a_lease_that_ran_out_unguarded_is_ended_by_recover(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["doze"]);
    lease(&cgroup, "1s").ends(0, "confirmed");
    end(guard_of(&cgroup));
    eventually("its time is over", || {
        status(&cgroup)["holders"][0]["left_us"] == 0
    });
    assert!(cgroup.asks());
    let planned = iceaxe("recover").arg("--dry-run").run();
    assert!(
        planned.out.contains("would be thawed") && cgroup.asks(),
        "{planned:?}"
    );
    let run = iceaxe("recover").arg("--json").run();
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(!cgroup.asks() && records_of(&cgroup).is_empty(), "{run:?}");
    zoo.goes_on(0);
}

fn a_freeze_whose_processes_are_all_killed_is_put_back_by_recover(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let cgroup = scene.cgroup(hierarchy);
    // It never settles: it is killed half-way.
    let zoo = scene.zoo(&[&cgroup], &["dstate", "doze"]);
    let freezing = freeze(&cgroup).start();
    let worker = freezing.worker();
    eventually("it is asked for", || cgroup.asks());
    // The worker first would let its parent put it back, and the other way round.
    kill(Pid::from_raw(freezing.pid()), Signal::SIGSTOP).unwrap();
    kill(Pid::from_raw(worker), Signal::SIGSTOP).unwrap();
    // Whose parent dies goes on, if it is stopped (`kill_orphaned_pgrp()`, kernel/exit.c).
    kill(Pid::from_raw(worker), Signal::SIGKILL).unwrap();
    kill(Pid::from_raw(freezing.pid()), Signal::SIGKILL).unwrap();
    freezing.end();
    eventually("both have ended", || !is_there(worker));
    assert!(cgroup.asks());
    assert_eq!(records_of(&cgroup).len(), 1);
    let run = iceaxe("recover").arg("--timeout=200ms").run();
    assert!(!cgroup.asks(), "{run:?}");
    assert!(records_of(&cgroup).is_empty(), "{run:?}");
    zoo.goes_on(1);
}

fn a_lease_over_an_operators_freeze_leaves_it_frozen(hierarchy: Hierarchy) {
    let (_scene, cgroup, _zoo) = Scene::of(hierarchy, &["doze"]);
    freeze(&cgroup).ends(0, "confirmed");
    lease(&cgroup, "300ms").ends(0, "unchanged");
    eventually("the lease is over", || records_of(&cgroup).len() == 1);
    assert!(cgroup.asks());
    assert_eq!(records_of(&cgroup)[0]["kind"], "freeze");
    thaw(&cgroup).ends(0, "confirmed");
    assert!(records_of(&cgroup).is_empty());
}

fn what_others_froze_before_stays_frozen_after_a_lease(hierarchy: Hierarchy) {
    let (_scene, cgroup, _zoo) = Scene::of(hierarchy, &["doze"]);
    cgroup.freeze();
    lease(&cgroup, "300ms").ends(0, "unchanged");
    eventually("the lease is over", || records_of(&cgroup).is_empty());
    assert!(cgroup.asks());
}

fn another_container_of_the_same_path_is_left_alone(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let parent = scene.cgroup(hierarchy);
    let first = parent.child("again");
    lease(&first, "1s").ends(0, "confirmed");
    let guard = guard_of(&first);
    fs::remove_dir(&first.dir).unwrap();
    let second = parent.child("again");
    second.freeze();
    eventually("the guard goes", || !is_there(guard));
    assert!(second.asks());
}

fn where_no_record_can_be_made_a_lease_is_refused(hierarchy: Hierarchy) {
    let (_scene, cgroup, _zoo) = Scene::of(hierarchy, &["doze"]);
    let elsewhere = kit::without_records();
    let run = lease(&cgroup, "1s").arg("--root").arg(elsewhere.root()).run();
    let report = run.is(5, "denied");
    assert!(report["error"].to_string().contains("--no-record"), "{report}");
    assert!(!cgroup.asks());
    let began = Instant::now();
    let command = lease(&cgroup, "1s").arg("--no-record");
    let run = command.arg("--root").arg(elsewhere.root()).run();
    run.is(0, "confirmed");
    assert!(cgroup.asks());
    eventually("it thaws", || !cgroup.asks());
    assert!(began.elapsed() < Duration::from_secs(2));
    // A freeze without an end is done, and said to have none.
    let run = freeze(&cgroup).arg("--root").arg(elsewhere.root()).run();
    run.is(0, "confirmed");
    assert!(run.err.contains("no record"), "{run:?}");
}

fn where_records_could_be_made_before_it_is_the_same(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let cgroups = [0, 1, 2].map(|_| scene.cgroup(hierarchy));
    let elsewhere = kit::with_room("64k");
    fs::create_dir(elsewhere.records()).unwrap();
    elsewhere.set_read_only();
    let run = lease(&cgroups[0], "1s").arg("--root").arg(elsewhere.root()).run();
    let report = run.is(5, "denied");
    assert!(report["error"].to_string().contains("--no-record"), "{report}");
    assert!(!cgroups[0].asks());
    let command = iceaxe("freeze").arg("--root").arg(elsewhere.root());
    let run = cgroups
        .iter()
        .fold(command, |command, cgroup| command.arg(cgroup.target()))
        .run();
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(run.err.matches("no record").count(), 1, "{run:?}");
    assert!(cgroups.iter().all(Cgroup::asks));
}

fn a_full_disk_refuses_a_lease_and_not_a_freeze(hierarchy: Hierarchy) {
    use std::io::Write;
    let scene = Scene::new();
    let cgroup = scene.cgroup(hierarchy);
    let elsewhere = kit::with_room("16k");
    fs::create_dir(elsewhere.records()).unwrap();
    let mut filler = fs::File::create(elsewhere.records().join("filler")).unwrap();
    while filler.write_all(&[0; 512]).is_ok() {}
    let run = lease(&cgroup, "1s").arg("--root").arg(elsewhere.root()).run();
    run.is(5, "denied");
    assert!(!cgroup.asks(), "{run:?}");
    let run = freeze(&cgroup).arg("--root").arg(elsewhere.root()).run();
    run.is(0, "confirmed");
    assert!(run.err.contains("no record"), "{run:?}");
    let run = thaw(&cgroup).arg("--root").arg(elsewhere.root()).run();
    run.is(0, "confirmed");
    let command = lease(&cgroup, "300ms").arg("--no-record");
    command.arg("--root").arg(elsewhere.root()).ends(0, "confirmed");
    eventually("it thaws", || !cgroup.asks());
}

fn two_that_freeze_one_container_go_one_after_the_other(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["dstate", "doze"]);
    let first = freeze(&cgroup).start();
    eventually("the first has asked", || cgroup.asks());
    let run = freeze(&cgroup).timeout("200ms").run();
    let report = run.is(6, "rolled_back");
    let worker = first.worker().to_string();
    assert!(report["error"].as_str().unwrap().contains(&worker), "{report}");
    // A thaw waits for nobody.
    thaw(&cgroup).timeout("100ms").run();
    assert!(!cgroup.asks());
    first.signal(Signal::SIGTERM);
    first.end();
    zoo.goes_on(1);
}

fn a_guard_that_is_stopped_is_made_up_for(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["doze"]);
    lease(&cgroup, "2s").ends(0, "confirmed"); // on a slow machine the guard is to be stopped before that
    let guard = guard_of(&cgroup);
    kill(Pid::from_raw(guard), Signal::SIGSTOP).unwrap();
    eventually("it is overdue", || {
        status(&cgroup)["holders"][0]["answered_for"] == false
    });
    let run = iceaxe("recover").run();
    assert!(run.code == Some(0) && !cgroup.asks(), "{run:?}");
    zoo.goes_on(0);
    kill(Pid::from_raw(guard), Signal::SIGCONT).unwrap();
    eventually("the guard goes", || !is_there(guard));
    assert!(records_of(&cgroup).is_empty());
}

fn two_recover_at_once_end_the_same(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["doze"]);
    lease(&cgroup, "1s").ends(0, "confirmed");
    end(guard_of(&cgroup));
    let both = [0, 1].map(|_| iceaxe("recover").start());
    for run in both.map(kit::Running::end) {
        assert_eq!(run.code, Some(0), "{run:?}");
    }
    eventually("it thaws", || !cgroup.asks());
    zoo.goes_on(0);
    eventually("nothing is left", || records_of(&cgroup).is_empty());
}

/// A lease whose guard was killed, and that is over.
#[track_caller]
fn left_behind(cgroup: &Cgroup) {
    lease(cgroup, "2s").ends(0, "confirmed"); // on a slow machine the guard is to be killed before that
    end(guard_of(cgroup));
    eventually("nobody answers for it", || {
        let holder = &status(cgroup)["holders"][0];
        holder["answered_for"] == false && holder["left_us"] == 0
    });
    assert!(cgroup.asks());
}

fn what_was_left_behind_is_taken_over_by_a_lease(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["doze"]);
    left_behind(&cgroup);
    let run = lease(&cgroup, "500ms").run();
    run.is(0, "unchanged");
    assert!(run.err.contains("was left frozen by a lease"), "{run:?}");
    eventually("it thaws", || !cgroup.asks());
    zoo.goes_on(0);
    eventually("nothing is left", || records_of(&cgroup).is_empty());
}

fn what_was_left_behind_stays_where_an_operator_freezes_it(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["doze"]);
    left_behind(&cgroup);
    freeze(&cgroup).ends(0, "unchanged");
    let run = iceaxe("recover").run();
    assert_eq!(run.code, Some(0), "{run:?}");
    zoo.stands(0);
    assert_eq!(records_of(&cgroup)[0]["kind"], "freeze");
    thaw(&cgroup).ends(0, "confirmed");
    assert!(records_of(&cgroup).is_empty());
}

fn a_record_of_another_schema_is_left_alone_and_said(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let cgroup = scene.cgroup(hierarchy);
    freeze(&cgroup).ends(0, "confirmed");
    let files = fs::read_dir(RECORDS).unwrap().flatten().map(|file| file.path());
    let own = |path: &PathBuf| {
        fs::read_to_string(path).is_ok_and(|text| text.contains(cgroup.path.to_str().unwrap()))
    };
    let file = files.into_iter().find(own).unwrap();
    let text = fs::read_to_string(&file).unwrap();
    let other = text.replace("\"schema\":1", "\"schema\":2");
    fs::write(&file, other.replace("\"kind\":\"freeze\"", "\"kind\":\"lease\"")).unwrap();
    let run = iceaxe("recover").run();
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.err.contains("has the schema 2") && cgroup.asks(), "{run:?}");
    fs::write(&file, text).unwrap();
    thaw(&cgroup).ends(0, "confirmed");
}

fn a_list_shows_who_holds_what_and_for_how_long(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let cgroup = scene.cgroup(hierarchy);
    lease(&cgroup, "60s").ends(0, "confirmed");
    let guard = guard_of(&cgroup);
    let list = iceaxe("list")
        .arg("--all-cgroups")
        .arg("--format={dir} {held-by}")
        .run();
    let line = list
        .out
        .lines()
        .find_map(|line| line.strip_prefix(cgroup.dir.to_str().unwrap()));
    let line = line.unwrap_or_else(|| panic!("{list:?}")).trim_start_matches('/');
    let left = line.strip_prefix(&format!(" lease:{guard}:"));
    assert!(left.is_some_and(|left| left.ends_with('s')), "{list:?}");
    assert_eq!(status(&cgroup)["holders"][0]["by"], guard);
    thaw(&cgroup).ends(0, "confirmed");
}

/// Who prints is killed at each point of its way.
fn a_lease_of_many_comes_back_whenever_iceaxe_is_killed(hierarchy: Hierarchy) {
    const ROUNDS: u32 = 120;
    let scene = Scene::new();
    let cgroups: Vec<Cgroup> = (0..40).map(|_| scene.cgroup(hierarchy)).collect();
    let leased = || {
        let command = iceaxe("freeze").arg("--for=50ms");
        let command = cgroups
            .iter()
            .fold(command, |command, cgroup| command.arg(cgroup.target()));
        command.start()
    };
    let began = Instant::now();
    assert_eq!(leased().end().code, Some(0));
    let takes = began.elapsed();
    for round in 0..ROUNDS {
        let running = leased();
        sleep(takes * round / ROUNDS);
        running.signal(Signal::SIGKILL);
        running.end();
        eventually("all come back", || !cgroups.iter().any(Cgroup::asks));
        eventually("nothing is left", || {
            cgroups.iter().all(|cgroup| records_of(cgroup).is_empty())
        });
    }
}

on_each_hierarchy!(
    a_lease_whose_iceaxe_is_stopped_on_the_way_ends_at_its_time,
    a_lease_that_can_not_be_told_ends_at_its_time,
    where_records_could_be_made_before_it_is_the_same,
    what_was_left_behind_is_taken_over_by_a_lease,
    what_was_left_behind_stays_where_an_operator_freezes_it,
    a_record_of_another_schema_is_left_alone_and_said,
    a_list_shows_who_holds_what_and_for_how_long,
    a_lease_of_many_comes_back_whenever_iceaxe_is_killed,
    a_full_disk_refuses_a_lease_and_not_a_freeze,
    a_lease_ends_at_its_time_and_leaves_nothing,
    a_lease_that_is_over_before_its_freeze_is_comes_back_too,
    a_lease_that_is_asked_for_again_is_renewed,
    a_thaw_ends_a_lease_and_its_guard,
    a_guard_that_is_told_to_end_thaws_first,
    a_guard_that_is_killed_is_made_up_for_by_recover,
    a_lease_that_ran_out_unguarded_is_ended_by_recover,
    a_freeze_whose_processes_are_all_killed_is_put_back_by_recover,
    a_lease_over_an_operators_freeze_leaves_it_frozen,
    what_others_froze_before_stays_frozen_after_a_lease,
    another_container_of_the_same_path_is_left_alone,
    two_that_freeze_one_container_go_one_after_the_other,
    a_guard_that_is_stopped_is_made_up_for,
    two_recover_at_once_end_the_same,
    where_no_record_can_be_made_a_lease_is_refused,
);
