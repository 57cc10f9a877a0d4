//! `resync`: docker believes that a container is paused which runs, or the reverse, and is brought back in step by its
//! own command line, whatever that does. Where a test needs docker's command line to fail, to hang or to be late, one
//! that does so stands before the real one in PATH.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use kit::engines::{Ended, HANGS, Layout, Program, find};
use kit::{PATIENCE, eventually, in_each_layout, is_gone, parent_of};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::container::Container;
use crate::docker::Docker;

in_each_layout! {
    resync_brings_docker_back_in_step_after_a_thaw_behind_its_back
    the_reverse_is_healed_by_a_thaw
    resync_thaws_by_hand_when_the_engine_fails
    resync_thaws_by_hand_when_the_engine_does_not_answer
    plan_writes_nothing
    interrupted_it_leaves_the_container_thawed
    resync_brings_containerd_back_in_step_by_its_own_command_line
}

/// Docker's command line as iceaxe finds it.
struct Cli<'d> {
    docker: &'d Docker,
    dir: PathBuf,
}

impl<'d> Cli<'d> {
    /// One that notes what it is told, and does this instead of `unpause`: `"$real"` is the real one, `$dir` a directory
    /// for notes.
    #[track_caller]
    fn that(docker: &'d Docker, unpauses: &str) -> Self {
        let dir = docker.scratch().dir("cli");
        let script = format!(
            "#!/bin/sh\nreal={}\ndir={}\necho \"$1\" >> $dir/told\nif test \"$1\" != unpause; then exec \"$real\" \
             \"$@\"; fi\n{unpauses}\n",
            find("docker").display(),
            dir.display()
        );
        let file = docker.scratch().file("cli/docker", &script);
        fs::set_permissions(file, Permissions::from_mode(0o755)).unwrap();
        Self { docker, dir }
    }

    /// One that is the real one, and notes what it is told.
    #[track_caller]
    fn real(docker: &'d Docker) -> Self {
        Self::that(docker, "exec \"$real\" \"$@\"")
    }

    fn path(&self) -> String {
        format!("{}:{}", self.dir.display(), std::env::var("PATH").unwrap())
    }

    /// A resync at work.
    #[track_caller]
    fn start(&self, args: &[&str]) -> Program {
        Program::start(&self.docker.resync(&self.path(), args))
    }

    #[track_caller]
    fn resync(&self, args: &[&str]) -> Ended {
        self.start(args).answer(PATIENCE).answered()
    }

    /// What it was told so far.
    fn told(&self) -> Vec<String> {
        let text = fs::read_to_string(self.dir.join("told")).unwrap_or_default(); // nothing yet
        text.lines().map(str::to_owned).collect()
    }

    /// The process that noted its number, if one did.
    fn noted(&self) -> Option<i32> {
        let text = fs::read_to_string(self.dir.join("pid")).ok()?;
        text.trim().parse().ok()
    }
}

/// A container that docker paused and iceaxe thawed.
#[track_caller]
fn out_of_step<'d>(docker: &'d Docker, name: &str) -> Container<'d> {
    let web = docker.container(name);
    web.pause();
    thaw(&web);
    web
}

#[track_caller]
fn thaw(web: &Container<'_>) {
    let run = web.iceaxe("thaw");
    run.is(0, "confirmed");
    assert!(
        run.err.contains(&format!("iceaxe resync {}", web.name)),
        "{run:?}"
    );
    web.is_seen("paused", "thawed");
}

/// What was written, as plain values.
fn values(report: &Value) -> Vec<&str> {
    let writes = report["writes"].as_array().unwrap().iter();
    writes.map(|write| write["value"].as_str().unwrap()).collect()
}

fn froze_and_thawed(layout: Layout) -> [&'static str; 2] {
    match layout {
        Layout::AsFound if kit::Hierarchy::available() == kit::Hierarchy::V1 => ["FROZEN", "THAWED"],
        _ => ["1", "0"],
    }
}

/// Checks that docker can do again what it could not.
#[track_caller]
fn is_in_step(docker: &Docker, web: &Container<'_>) {
    web.is_thawed();
    web.is_seen("running", "thawed");
    assert_eq!(docker.inspect(&web.name, "{{.State.Status}}"), "running");
    docker.docker(["exec", &web.name, "true"]);
    web.pause();
    web.is_seen("paused", "frozen");
    docker.docker(["unpause", &web.name]);
    web.is_thawed();
}

fn resync_brings_docker_back_in_step_after_a_thaw_behind_its_back(layout: Layout) {
    let docker = Docker::start(layout);
    let web = out_of_step(&docker, "web");
    let cli = Cli::real(&docker);
    let run = cli.resync(&[&web.name, "--yes", "--json"]);
    let report = run.is(0, "confirmed");
    // Frozen by iceaxe, thawed by docker.
    assert_eq!(values(&report), [froze_and_thawed(layout)[0]], "{report}");
    assert_eq!(report["verb"], "resync");
    assert_eq!(
        report["before"],
        json!({"requested": "thawed", "effective": "thawed"})
    );
    assert_eq!(
        report["after"],
        json!({"requested": "thawed", "effective": "thawed"})
    );
    let resync = &report["resync"];
    assert_eq!(
        (
            &resync["engine"],
            &resync["believed_before"],
            &resync["believed_after"],
            &resync["exit"]
        ),
        (&json!("docker"), &json!("paused"), &json!("running"), &json!(0)),
        "{report}"
    );
    let command = json!([cli.dir.join("docker"), "unpause", web.id]);
    assert_eq!(resync["command"], command, "{report}");
    let frozen = report["frozen_for_us"].as_u64().unwrap();
    assert!((1..2_000_000).contains(&frozen), "{report}");
    assert!(run.err.contains("plan: ") && run.err.contains("EINTR"), "{run:?}");
    assert_eq!(cli.told().iter().filter(|word| *word == "unpause").count(), 1);
    is_in_step(&docker, &web);
    // And for people.
    web.pause();
    thaw(&web);
    let said = cli.resync(&[&web.name, "--yes"]).well();
    assert!(
        said.contains("is back in step: docker unpaused it, frozen for "),
        "{said}"
    );
    assert!(said.contains(" ms: "), "{said}");
    // What is in step is left alone, and needs no yes.
    let report = cli.resync(&[&web.name, "--json"]).is(0, "unchanged");
    assert_eq!(values(&report), [""; 0], "{report}");
    web.pause();
    cli.resync(&[&web.name, "--json"]).is(0, "unchanged");
    web.is_frozen();
}

fn the_reverse_is_healed_by_a_thaw(layout: Layout) {
    let docker = Docker::start(layout);
    let web = docker.container("web");
    let cli = Cli::real(&docker);
    web.iceaxe("freeze").is(0, "confirmed");
    web.is_seen("running", "frozen");
    let report = cli.resync(&[&web.name, "--json"]).is(11, "refused");
    assert_eq!(values(&report), [""; 0], "{report}");
    web.is_frozen();
    let report = cli.resync(&[&web.name, "--yes", "--json"]).is(0, "confirmed");
    assert_eq!(values(&report), [froze_and_thawed(layout)[1]], "{report}");
    assert_eq!(report["before"]["requested"], "frozen", "{report}");
    assert_eq!(report["resync"]["believed_before"], "running", "{report}");
    assert_eq!(report["resync"]["command"], Value::Null, "{report}");
    assert!(!cli.told().contains(&"unpause".to_owned()), "{:?}", cli.told());
    web.is_thawed();
    web.is_seen("running", "thawed");
    // No docker is needed for it.
    web.iceaxe("freeze").is(0, "confirmed");
    docker.kill_dockerd();
    cli.resync(&[&web.name, "--yes", "--json"]).is(0, "confirmed");
    web.is_thawed();
}

fn resync_thaws_by_hand_when_the_engine_fails(layout: Layout) {
    let docker = Docker::start(layout);
    let web = out_of_step(&docker, "web");
    let cli = Cli::that(&docker, "printf 'no such\\033[2J thing\\n' >&2; exit 3");
    let report = cli.resync(&[&web.name, "--yes", "--json"]).is(10, "unhealthy");
    assert_eq!(values(&report), froze_and_thawed(layout), "{report}");
    assert_eq!(report["resync"]["exit"], 3, "{report}");
    assert_eq!(report["resync"]["believed_after"], "paused", "{report}");
    assert!(report["frozen_for_us"].as_u64().is_some(), "{report}");
    let error = report["error"].as_str().unwrap();
    for words in [
        "ended with 3",
        "\"no such\\u{1b}[2J thing\"",
        "thawed by hand",
        "still believes",
    ] {
        assert!(error.contains(words), "without {words}: {error}");
    }
    web.is_thawed();
    web.is_seen("paused", "thawed");
    // One that says that all is well and does nothing.
    let cli = Cli::that(&docker, "exit 0");
    let report = cli.resync(&[&web.name, "--yes", "--json"]).is(10, "unhealthy");
    assert_eq!(values(&report), froze_and_thawed(layout), "{report}");
    web.is_thawed();
    let cli = Cli::real(&docker);
    cli.resync(&[&web.name, "--yes", "--json"]).is(0, "confirmed");
    is_in_step(&docker, &web);
}

fn resync_thaws_by_hand_when_the_engine_does_not_answer(layout: Layout) {
    let docker = Docker::start(layout);
    let web = out_of_step(&docker, "web");
    let stops = format!(
        "echo $$ > $dir/pid\nkill -STOP {}\n\"$real\" \"$@\"",
        docker.dockerd()
    );
    let cli = Cli::that(&docker, &stops);
    let report = cli.resync(&[&web.name, "--yes", "--json"]).is(10, "unhealthy");
    assert_eq!(values(&report), froze_and_thawed(layout), "{report}");
    assert_eq!(report["resync"]["exit"], Value::Null, "{report}");
    // docker's record on disk tells it, dockerd being stopped.
    assert_eq!(report["resync"]["believed_after"], "paused", "{report}");
    let error = report["error"].as_str().unwrap();
    assert!(
        error.contains("did not answer within 2000 ms, and was killed"),
        "{error}"
    );
    let frozen = report["frozen_for_us"].as_u64().unwrap();
    assert!((1_900_000..2_900_000).contains(&frozen), "{report}");
    web.is_thawed();
    let pid = cli.noted().unwrap();
    eventually("docker's command line is gone", || is_gone(pid));
    // One that hangs from the beginning is not frozen for.
    let run = cli.resync(&[&web.name, "--yes", "--json", "--timeout=500ms"]);
    let report = run.is(10, "unhealthy");
    assert_eq!(values(&report), [""; 0], "{report}");
    assert_eq!(report["frozen_for_us"], Value::Null, "{report}");
    assert!(
        report["error"].as_str().unwrap().contains("nothing was written"),
        "{report}"
    );
    assert!(run.took < HANGS, "{run:?}");
    web.is_thawed();
    // The unpause that waited may run now, and finds nothing to do.
    docker.unwedge();
    web.is_thawed();
    let cli = Cli::real(&docker);
    cli.resync(&[&web.name, "--yes", "--json"]).is(0, "confirmed");
    is_in_step(&docker, &web);
}

fn plan_writes_nothing(layout: Layout) {
    let docker = Docker::start(layout);
    let web = out_of_step(&docker, "web");
    let cli = Cli::real(&docker);
    for option in ["--plan", "--dry-run"] {
        let report = cli.resync(&[&web.name, option, "--json"]).is(0, "planned");
        assert_eq!(values(&report), [""; 0], "{report}");
        assert_eq!(report["resync"]["freezes"], true, "{report}");
        let said = cli.resync(&[&web.name, option, "--yes"]).well();
        let command = format!("{}/docker unpause {}", cli.dir.display(), web.id);
        assert!(said.contains("EINTR") && said.ends_with(&command), "{said}");
    }
    assert!(
        cli.told().iter().all(|word| word == "inspect"),
        "{:?}",
        cli.told()
    );
    web.is_thawed();
    web.is_seen("paused", "thawed");
}

#[test]
fn without_a_terminal_it_needs_yes() {
    let docker = Docker::start(Layout::AsFound);
    let web = out_of_step(&docker, "web");
    let cli = Cli::real(&docker);
    let run = cli.resync(&[&web.name, "--json"]);
    let report = run.is(11, "refused");
    assert_eq!(values(&report), [""; 0], "{report}");
    assert!(run.err.contains("plan: ") && run.err.contains("--yes"), "{run:?}");
    assert!(
        cli.told().iter().all(|word| word == "inspect"),
        "{:?}",
        cli.told()
    );
    web.is_thawed();
    web.is_seen("paused", "thawed");
}

#[test]
fn at_a_terminal_it_asks_and_takes_nothing_but_yes_for_yes() {
    let docker = Docker::start(Layout::AsFound);
    let web = out_of_step(&docker, "web");
    let cli = Cli::real(&docker);
    let asked = |answer: &str| {
        let resync = docker.resync(&cli.path(), &[&web.name]);
        let words = std::iter::once(resync.get_program()).chain(resync.get_args());
        let words: Vec<String> = words
            .map(|word| format!("'{}'", word.to_str().unwrap()))
            .collect();
        let mut script = docker.command("sh");
        docker.be_meant(&mut script);
        // The answer is there before the question, as a terminal keeps it.
        script
            .args([
                "-c",
                "printf \"$0\" | script --quiet --return --command \"$1\" /dev/null",
            ])
            .args([answer, &words.join(" ")]);
        Program::start(&script).answer(PATIENCE).answered()
    };
    for answer in ["n\\n", "\\n", "yesterday\\n", "\\004"] {
        let ended = asked(answer);
        assert_eq!(ended.code(), Some(11), "{answer}: {ended:?}");
        assert!(ended.out.contains("Freeze 1 container for a moment"), "{ended:?}");
        web.is_seen("paused", "thawed");
    }
    assert!(
        cli.told().iter().all(|word| word == "inspect"),
        "{:?}",
        cli.told()
    );
    let ended = asked("y\\n");
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    assert!(ended.out.contains("is back in step"), "{ended:?}");
    is_in_step(&docker, &web);
}

fn interrupted_it_leaves_the_container_thawed(layout: Layout) {
    let docker = Docker::start(layout);
    let web = out_of_step(&docker, "web");
    let cli = Cli::that(&docker, "echo $$ > $dir/pid; exec sleep 1000");
    let started = |limit: &str| {
        let resync = cli.start(&[&web.name, "--yes", "--json", limit]);
        eventually("docker's command line is at work", || cli.noted().is_some());
        web.is_frozen();
        let pid = cli.noted().unwrap();
        fs::remove_file(cli.dir.join("pid")).unwrap();
        (resync, pid)
    };
    let worker = |resync: &Program| {
        let pids = fs::read_dir("/proc").unwrap().flatten();
        let mut pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.find(|&pid| parent_of(pid) == Some(resync.pid())).unwrap()
    };
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let (resync, engines) = started("--timeout=60s");
        resync.signal(signal);
        let ended = resync.answer(PATIENCE).answered();
        assert_eq!(ended.code(), None, "{ended:?}");
        let report = ended.object();
        assert_eq!(report["outcome"], "rolled_back", "{report}");
        assert_eq!(values(&report), froze_and_thawed(layout), "{report}");
        web.is_thawed();
        eventually("docker's command line is gone", || is_gone(engines));
    }
    // The process that does the work is killed: the other one puts back.
    let (resync, engines) = started("--timeout=60s");
    kill(Pid::from_raw(worker(&resync)), Signal::SIGKILL).unwrap();
    let ended = resync.answer(PATIENCE).answered();
    ended.is(6, "rolled_back");
    web.is_thawed();
    kill(Pid::from_raw(engines), Signal::SIGKILL).unwrap();
    // And the reverse.
    let (mut resync, engines) = started("--timeout=60s");
    resync.kill();
    eventually("it is thawed", || !web.asks());
    web.is_thawed();
    eventually("docker's command line is gone", || is_gone(engines));
    web.is_seen("paused", "thawed");
}

/// containerd keeps what it believes in its shims' memory alone: it is asked.
fn resync_brings_containerd_back_in_step_by_its_own_command_line(layout: Layout) {
    let docker = Docker::in_default_places(layout);
    let web = docker.container_without_docker("web");
    let beside = docker.container_without_docker("beside");
    let path = std::env::var("PATH").unwrap();
    let resync = |args: &[&str]| {
        let command = docker.resync(&path, &[&["--json"], args].concat());
        Program::start(&command).answer(PATIENCE).answered()
    };
    resync(&[&web.id]).is(0, "unchanged");
    docker.ctr(["tasks", "pause", &web.id]).well();
    web.is_frozen();
    resync(&[&web.id]).is(0, "unchanged");
    docker.iceaxe(["thaw", &web.id, "--json"]).is(0, "confirmed");
    docker.ctr(["tasks", "resume", &web.id]).failed("not paused");
    // One answer for all of a namespace; who is well is not spoken of.
    let ours = format!("--filter=id={}", web.id);
    for args in [
        &[web.id.as_str(), "--plan"][..],
        &["--all", "--plan"],
        &[&ours, "--plan"],
    ] {
        let report = resync(args).is(0, "planned");
        assert_eq!(report["id"], web.id.as_str(), "{report}");
    }
    web.is_thawed();
    let report = resync(&["--all", "--yes"]).is(0, "confirmed");
    assert_eq!(values(&report), [froze_and_thawed(layout)[0]], "{report}");
    let resync_of = &report["resync"];
    assert_eq!(
        (
            &resync_of["engine"],
            &resync_of["believed_before"],
            &resync_of["believed_after"]
        ),
        (&json!("containerd"), &json!("paused"), &json!("running")),
        "{report}"
    );
    let words = resync_of["command"].as_array().unwrap();
    assert_eq!(
        words[1..],
        ["--namespace=default", "tasks", "resume", &web.id].map(|word| json!(word))
    );
    web.is_thawed();
    beside.is_thawed();
    docker.ctr(["tasks", "pause", &web.id]).well();
    web.is_frozen();
    docker.ctr(["tasks", "resume", &web.id]).well();
    web.is_thawed();
    // And the reverse.
    docker.iceaxe(["freeze", &web.id, "--json"]).is(0, "confirmed");
    let report = resync(&[&web.id, "--yes"]).is(0, "confirmed");
    assert_eq!(report["resync"]["believed_before"], "running", "{report}");
    web.is_thawed();
}

#[test]
fn what_is_frozen_by_an_ancestor_alone_is_told_and_left() {
    let (docker, _) = Docker::with_a_parent(Layout::AsFound);
    let web = out_of_step(&docker, "web");
    let beside = docker.container("beside");
    let parent = kit::engines::above(&web.cgroups[0]);
    parent.freeze();
    web.stands();
    let cli = Cli::real(&docker);
    for container in [&web, &beside] {
        let report = cli.resync(&[&container.name, "--yes", "--json"]).is(8, "held");
        assert_eq!(values(&report), [""; 0], "{report}");
        let error = report["error"].as_str().unwrap();
        assert!(error.contains(parent.path.to_str().unwrap()), "{error}");
    }
    assert!(parent.is_frozen());
    parent.thaw();
    cli.resync(&[&web.name, "--yes", "--json"]).is(0, "confirmed");
    is_in_step(&docker, &web);
}

#[test]
fn all_means_those_that_are_out_of_step() {
    let docker = Docker::start(Layout::AsFound);
    let containers = docker.containers(["well", "paused", "thawed", "frozen"]);
    let [well, paused, thawed, frozen] = &containers[..] else {
        panic!("four containers");
    };
    paused.pause();
    thawed.pause();
    thaw(thawed);
    frozen.iceaxe("freeze").is(0, "confirmed");
    let cli = Cli::real(&docker);
    // Other engines of the machine are nobody's business here.
    let ours = format!("--filter=name=*-{}", std::process::id());
    let run = cli.resync(&["--all", &ours, "--yes", "--json"]);
    assert_eq!(run.code(), Some(0), "{run:?}");
    let reports = run.out.lines().map(|line| serde_json::from_str(line).unwrap());
    let reports: Vec<Value> = reports.collect();
    let mut names: Vec<&str> = reports
        .iter()
        .map(|report| report["name"].as_str().unwrap())
        .collect();
    names.sort_unstable();
    assert_eq!(names, [frozen.name.as_str(), thawed.name.as_str()], "{run:?}");
    well.is_seen("running", "thawed");
    paused.is_seen("paused", "frozen");
    thawed.is_seen("running", "thawed");
    frozen.is_seen("running", "thawed");
    let run = cli.resync(&["--all", &ours, "--yes", "--json"]);
    assert_eq!((run.code(), &*run.out), (Some(0), ""), "{run:?}");
    assert!(run.err.contains("out of step"), "{run:?}");
}

#[test]
fn a_pause_that_was_queued_while_dockerd_was_stopped_is_in_step_when_it_has_run() {
    let docker = Docker::start(Layout::AsFound);
    let web = docker.container("web");
    let cli = Cli::real(&docker);
    docker.wedge();
    let pause = docker.client(["pause", &web.name]);
    // Its record says that all is well, and nobody needs to be asked.
    cli.resync(&[&web.name, "--yes", "--json"]).is(0, "unchanged");
    docker.unwedge();
    pause.answer(HANGS).answered().well();
    cli.resync(&[&web.name, "--yes", "--json"]).is(0, "unchanged");
    web.is_frozen();
    thaw(&web);
    cli.resync(&[&web.name, "--yes", "--json"]).is(0, "confirmed");
    is_in_step(&docker, &web);
}

/// docker freezes first and writes it down then.
#[test]
fn a_pause_that_is_under_way_is_not_undone() {
    let docker = Docker::start(Layout::AsFound);
    let web = docker.container("web");
    web.iceaxe("freeze").is(0, "confirmed");
    let cli = Cli::real(&docker);
    fs::write(cli.dir.join("docker"), "#!/bin/sh\necho paused\n").unwrap();
    web.is_seen("running", "frozen");
    let report = cli.resync(&[&web.name, "--yes", "--json"]).is(0, "unchanged");
    assert_eq!(report["resync"]["believed_before"], "paused", "{report}");
    web.is_frozen();
}

/// The queue is emptied at the worst time: when the unpause has just been done.
#[test]
fn a_pause_that_runs_in_the_midst_of_it_ends_thawed_and_is_told() {
    let docker = Docker::start(Layout::AsFound);
    let web = out_of_step(&docker, "web");
    let cli = Cli::that(&docker, "\"$real\" \"$@\" && exec \"$real\" pause \"$2\"");
    let report = cli.resync(&[&web.name, "--yes", "--json"]).is(10, "unhealthy");
    let error = report["error"].as_str().unwrap();
    for words in ["ended well", "thawed by hand", "still believes"] {
        assert!(error.contains(words), "without {words}: {error}");
    }
    web.is_thawed();
    let cli = Cli::real(&docker);
    cli.resync(&[&web.name, "--yes", "--json"]).is(0, "confirmed");
    is_in_step(&docker, &web);
}

#[test]
fn without_dockers_command_line_or_with_another_dockerds_it_is_left_alone() {
    let docker = Docker::start(Layout::AsFound);
    let web = out_of_step(&docker, "web");
    let untouched = |command: &std::process::Command, exit: i32, outcome: &str, words: &str| {
        let report = Program::start(command)
            .answer(PATIENCE)
            .answered()
            .is(exit, outcome);
        assert_eq!(values(&report), [""; 0], "{report}");
        let error = report["error"].as_str().unwrap();
        assert!(error.contains(words), "{error}");
        web.is_thawed();
        web.is_seen("paused", "thawed");
    };
    let args = ["--yes", "--json", &web.name];
    untouched(
        &docker.resync("/nowhere:.", &args),
        5,
        "denied",
        "no docker in PATH",
    );
    let root = [&args[..], &["--root", "/proc/self/root"]].concat();
    untouched(&docker.resync("/nowhere", &root), 5, "denied", "run iceaxe there");
    let other = docker.another();
    let path = std::env::var("PATH").unwrap();
    untouched(&other.resync(&path, &args), 10, "unhealthy", "No such");
}

/// A limit that no answer is waited for longer than, and no freeze.
#[test]
fn the_limit_holds_for_each_step() {
    let docker = Docker::start(Layout::AsFound);
    let web = out_of_step(&docker, "web");
    let cli = Cli::that(&docker, "exec sleep 1000");
    let run = cli.resync(&[&web.name, "--yes", "--json", "--timeout=400ms"]);
    let report = run.is(10, "unhealthy");
    let frozen = report["frozen_for_us"].as_u64().unwrap();
    assert!((400_000..1_000_000).contains(&frozen), "{report}");
    assert!(run.took < Duration::from_secs(3), "{run:?}");
    web.is_thawed();
}
