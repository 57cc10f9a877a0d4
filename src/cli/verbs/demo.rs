//! `demo`: a throw-away container of iceaxe's own, frozen and thawed in each hierarchy that the host has, with the
//! proof as a table. Needs root and nothing else, and leaves nothing behind, however it ends.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, raise};

use super::Run;
use crate::cli::context::{Context, joined, json, unresolved};
use crate::cli::text;
use crate::engine::{self, FreezeOptions, Step, ThawOptions};
use crate::error::{Error, Result};
use crate::host::{Hierarchy, Host};
use crate::patience::Patience;
use crate::report::Verb;
use crate::resolver::{self, Container, Nesting, target::Target};
use crate::verifier::{Place, Proof, Sighting, Witness};

// It has no options of its own.
#[derive(Debug, Args)]
pub(crate) struct Demo {}

// What the container of a demo runs.
#[derive(Debug, Args)]
pub(crate) struct DemoTask {
    /// What to do all day.
    pub(crate) kind: String,
}

impl Run for Demo {
    fn run(&self, context: &Context<'_>, _: &[OsString]) -> u8 {
        run(context)
    }
}

impl Run for DemoTask {
    /// Done before there is a worker: see [`task`].
    fn run(&self, _: &Context<'_>, _: &[OsString]) -> u8 {
        2
    }
}

/// What the processes of the container do.
const KINDS: [&str; 5] = ["busy", "sleeper", "reader", "threads", "stopped"];
/// The tasks of a threaded one: its leader and these.
const THREADS: usize = 3;
/// How long the processes may take to begin.
const BEGIN: Duration = Duration::from_secs(5);
/// How long a freeze or a thaw may take.
const LIMIT: Duration = Duration::from_secs(10);
/// How long the processes may take to end.
const END: Duration = Duration::from_secs(5);

/// Runs `demo`.
fn run(context: &Context<'_>) -> u8 {
    if context.options.dry_run {
        context.narrate("would make a throw-away container, freeze it, thaw it, and remove it\n".to_owned());
        return 0;
    }
    context.within(BEGIN + END + (LIMIT * 4));
    let shown = Stage::set(context.host).and_then(|stage| {
        stage.begin(context)?;
        context.narrate(format!(
            "made a throw-away container {} ({}): {} processes, {} tasks\n",
            stage.name,
            stage.places(),
            stage.processes.len(),
            stage.tasks(context.host).len()
        ));
        let hierarchies: Vec<Hierarchy> = stage.cgroups.iter().map(|(hierarchy, _)| *hierarchy).collect();
        let mut codes = Vec::new();
        for hierarchy in hierarchies {
            codes.extend(stage.play(context, hierarchy)?);
        }
        stage.clear()?;
        Ok(joined(codes))
    });
    match shown {
        Ok(code) => {
            context.narrate("removed it again\n".to_owned());
            code
        }
        Err(_) if context.is_cancelled() => {
            context.narrate("interrupted; removed it again\n".to_owned());
            1
        }
        Err(error) => {
            let report = unresolved(Verb::Demo, "the container", &error);
            context.err(text::trouble(&report));
            report.exit()
        }
    }
}

impl Context<'_> {
    /// Says what is going on, to a person.
    fn narrate(&self, text: String) {
        if !self.options.json && !self.options.quiet {
            self.out(text);
        }
    }
}

/// The container. Dropping it removes every trace.
struct Stage {
    name: String,
    cgroups: Vec<(Hierarchy, PathBuf)>,
    processes: Vec<(&'static str, Child)>,
}

impl Stage {
    fn set(host: &Host) -> Result<Self> {
        let name = format!("/iceaxe-demo-{}", std::process::id());
        let mut stage = Self {
            name,
            cgroups: Vec::new(),
            processes: Vec::new(),
        };
        for mount in [Hierarchy::V1, Hierarchy::V2]
            .into_iter()
            .filter_map(|hierarchy| host.mount(hierarchy))
        {
            let dir = mount.dir.join(&stage.name[1..]);
            fs::create_dir(&dir).map_err(|cause| Error::io("create", &dir, cause))?;
            stage.cgroups.push((mount.hierarchy, dir));
        }
        for kind in KINDS {
            let child = stage.start(kind)?;
            stage.processes.push((kind, child));
        }
        Ok(stage)
    }

    /// Starts a process that waits until it is where it belongs.
    fn start(&self, kind: &'static str) -> Result<Child> {
        let own = PathBuf::from("/proc/self/exe");
        let mut child = Command::new(&own)
            .args(["demo-task", kind])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|cause| Error::io("run", &own, cause))?;
        let placed = self.cgroups.iter().try_for_each(|(_, dir)| {
            let file = dir.join("cgroup.procs");
            fs::write(&file, child.id().to_string()).map_err(|cause| Error::io("write to", &file, cause))
        });
        if let Err(error) = placed {
            end(&mut child);
            return Err(error);
        }
        Ok(child)
    }

    /// Lets the processes begin, and waits until each does what it is there for.
    fn begin(&self, context: &Context<'_>) -> Result<()> {
        for (kind, child) in &self.processes {
            let Some(mut stdin) = child.stdin.as_ref() else {
                continue;
            };
            stdin
                .write_all(b"go")
                .map_err(|cause| Error::io("start", &PathBuf::from(kind), cause))?;
        }
        let clock = Patience::of(BEGIN).start();
        let witness = Witness::new(context.host);
        loop {
            let tasks = self.tasks(context.host);
            let at_work = |task: &Sighting| match self.kind(task) {
                Some("stopped") => task.letter == 'T',
                Some("busy") => task.letter == 'R',
                Some(_) => witness.place(task) != Place::Running,
                None => false,
            };
            if tasks.len() == KINDS.len() + THREADS && tasks.values().all(at_work) {
                return Ok(());
            }
            if clock.is_over() || context.is_cancelled() {
                return Err(Error::NotRunning(format!(
                    "{} of {} tasks began",
                    tasks.len(),
                    KINDS.len() + THREADS
                )));
            }
            clock.pause(Duration::from_millis(1), &[]);
        }
    }

    fn places(&self) -> String {
        let places: Vec<String> = self.cgroups.iter().map(|(_, dir)| text::path(dir)).collect();
        places.join(", ")
    }

    fn tasks(&self, host: &Host) -> BTreeMap<i32, Sighting> {
        let witness = Witness::new(host);
        let each = self.processes.iter().flat_map(|(_, child)| {
            let dir = host.proc_dir().join(format!("{}/task", child.id()));
            let entries = fs::read_dir(dir).into_iter().flatten().flatten(); // ended: it has no tasks
            entries
                .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
                .collect::<Vec<i32>>()
        });
        witness.look_at_all(each).seen
    }

    /// What a task is there for. Each process is called after it, and its threads too.
    fn kind(&self, task: &Sighting) -> Option<&'static str> {
        KINDS.into_iter().find(|kind| task.comm == *kind)
    }

    /// Freezes, shows, thaws, proves.
    fn play(&self, context: &Context<'_>, hierarchy: Hierarchy) -> Result<Vec<u8>> {
        let host = context.host;
        let target = Target::In(hierarchy, PathBuf::from(&self.name));
        let typed = format!("v{}:{}", hierarchy.version(), self.name);
        let container = resolver::resolve(host, &target, Nesting::Refuse)?.container;
        let set: [(&str, &Container); 1] = [(&typed, &container)];
        context.narrate(format!("\n$ iceaxe freeze {typed}\n"));
        let froze = engine::freeze(
            host,
            &set,
            &FreezeOptions::default(),
            context.patience(LIMIT),
            &mut |_, _, _| {},
        );
        self.tell(context, &froze);
        let frozen = self.tasks(host);
        context.narrate(format!("\n$ iceaxe thaw --trace {typed}\n"));
        let mut steps = String::new();
        let mut proven: BTreeMap<i32, (Proof, u64)> = BTreeMap::new();
        let since = Instant::now();
        let thawed = engine::thaw(
            host,
            &set,
            ThawOptions::default(),
            context.patience(LIMIT),
            &mut |_, _, step| {
                let us = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
                match step {
                    Step::Task { tid, proof } => drop(proven.insert(*tid, (*proof, us))),
                    other => {
                        steps += &text::step(&typed, us, other)
                            .map(|line| line + "\n")
                            .unwrap_or_default()
                    }
                }
            },
        );
        self.tell(context, &thawed);
        context.narrate(steps + "\n" + &self.table(&frozen, &self.tasks(host), &proven));
        Ok(froze.iter().chain(&thawed).map(|report| report.exit()).collect())
    }

    fn tell(&self, context: &Context<'_>, reports: &[crate::report::Report]) {
        for report in reports {
            if context.options.json {
                context.out(json(report));
            }
            context.narrate(text::verdict(report).map(|line| line + "\n").unwrap_or_default());
            context.err(text::trouble(report));
        }
    }

    fn table(
        &self,
        frozen: &BTreeMap<i32, Sighting>,
        now: &BTreeMap<i32, Sighting>,
        proven: &BTreeMap<i32, (Proof, u64)>,
    ) -> String {
        let place = |task: Option<&Sighting>| {
            task.map_or_else(
                || "-".to_owned(),
                |task| format!("{} {}", task.letter, task.site.as_deref().unwrap_or("-")),
            )
        };
        let rows: Vec<[String; 6]> = frozen
            .values()
            .map(|task| {
                let (proof, us) = proven.get(&task.tid).copied().unwrap_or((Proof::Unknown, 0));
                [
                    task.tid.to_string(),
                    self.kind(task).unwrap_or("-").to_owned(),
                    place(Some(task)),
                    place(now.get(&task.tid)),
                    proof.word().to_owned(),
                    text::duration(us),
                ]
            })
            .collect();
        text::table(["TASK", "WHAT", "FROZEN", "NOW", "PROOF", "AFTER"], &rows)
    }

    /// Removes every trace, and says what could not be removed.
    fn clear(mut self) -> Result<()> {
        self.remove()
    }

    fn remove(&mut self) -> Result<()> {
        for (hierarchy, dir) in &self.cgroups {
            let (file, value) = match hierarchy {
                Hierarchy::V1 => ("freezer.state", "THAWED"),
                Hierarchy::V2 => ("cgroup.freeze", "0"),
            };
            // A frozen process of v1 does not die; where this fails, removing the cgroup does and says so.
            let _ = fs::write(dir.join(file), value);
        }
        self.processes.iter_mut().for_each(|(_, child)| end(child));
        self.processes.clear();
        let clock = Patience::of(END).start();
        let mut failed = Ok(());
        self.cgroups.retain(|(_, dir)| {
            loop {
                match fs::remove_dir(dir) {
                    Ok(()) => return false,
                    // Its last task is on its way out.
                    Err(cause) if cause.raw_os_error() == Some(libc::EBUSY) && !clock.is_over() => {
                        clock.pause(Duration::from_millis(1), &[]);
                    }
                    Err(cause) => {
                        failed = Err(Error::io("remove", dir, cause));
                        return true;
                    }
                }
            }
        });
        failed
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // On the way out with an error, which is the one to tell.
        let _ = self.remove();
    }
}

/// Ends a process of the container for good. It is thawed, or the kill is delivered when it is.
fn end(child: &mut Child) {
    // It may have ended by itself; either way it is collected.
    let _ = child.kill();
    let _ = child.wait();
}

/// What a process of the container does. Ends with the demo, whatever ends that.
pub(in crate::cli) fn task(kind: &str) -> u8 {
    // Set before the parent is asked for: one that is gone by then has closed standard input.
    let _ = set_pdeathsig(Signal::SIGKILL);
    let mut go = [0; 2];
    if io::stdin().read_exact(&mut go).is_err() {
        return 1;
    }
    // The table is told by the name; without it the demo says that the tasks did not begin.
    let _ = fs::write("/proc/self/comm", kind);
    let long = Duration::from_secs(3600);
    match kind {
        "busy" => loop {
            std::hint::spin_loop();
        },
        "sleeper" => thread::sleep(long),
        // Nothing comes: the demo only closes it.
        "reader" => drop(io::stdin().read(&mut go)),
        "threads" => {
            for _ in 0..THREADS {
                // One that can't be had is missed by the demo.
                let _ = thread::Builder::new()
                    .name(kind.to_owned())
                    .spawn(move || thread::sleep(long));
            }
            thread::sleep(long);
        }
        // A stop that fails ends the process, which the demo notices.
        "stopped" => drop(raise(Signal::SIGSTOP)),
        _ => return 2,
    }
    0
}
