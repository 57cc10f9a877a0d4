//! Damages the files of the made-up hosts one at a time and asks for what was promised of them. Whatever a runtime's
//! record says, the answer is the container that it would be without the damage, or an error; whatever the kernel's
//! files say, nothing panics and nothing takes long. `ICEAXE_FUZZ=1000000` makes it that many damages, and
//! `ICEAXE_FUZZ=4711..4712` does one over again.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, lchown, symlink};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Sender};
use std::sync::{Mutex, Once, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use iceaxe::Host;
use iceaxe::cgroup::Cgroup;
use iceaxe::resolver::{Container, Found};
use serde_json::Value;

use crate::kit::make_fifo;
use crate::mutation::{Dice, Words, damaged};
use crate::scene::{Expected, Meaning, Scene, ask, kind, parts, readable, told, written};
use crate::{ambiguity, docker, hostile, kube, limits, lxc, machine, others, podman, stale, users};

/// How many damages an ordinary run does: some seconds' worth.
const USUAL: usize = 4000;
/// How many targets are asked for after each.
const ASKED: usize = 3;
/// What no answer may take.
const LONG: Duration = Duration::from_secs(1);
/// When an answer that does not come is given up.
const HUNG: Duration = Duration::from_secs(60);
/// So many findings are enough for one run.
const ENOUGH: usize = 40;

/// The hosts, each with a name to tell it by.
fn scenes() -> Vec<(&'static str, Scene)> {
    let mut all = vec![
        ("docker hybrid", docker::hybrid_cgroupfs()),
        ("docker v2", docker::v2_cgroupfs()),
        ("docker systemd", docker::v2_systemd()),
        ("docker swarm", docker::swarm()),
        ("docker absolute parent", docker::absolute_parent()),
        ("docker relative parent", docker::relative_parent()),
        ("docker slice parent", docker::slice_parent()),
        ("docker nested in a payload", docker::nested_in_a_payload()),
        ("docker in another's cgroup", docker::in_anothers_cgroup()),
        ("runc colons", docker::colons()),
        ("podman pod", podman::pod_on_cgroupfs()),
        ("podman crun", podman::crun_on_systemd()),
        ("podman runc", podman::runc_on_systemd()),
        ("podman stores", podman::other_stores()),
        ("users", users::rootless()),
        ("users' evil", users::evil()),
        ("kube cgroupfs", kube::cgroupfs()),
        ("kube systemd", kube::systemd()),
        ("kube guaranteed", kube::guaranteed()),
        ("kube annotations", kube::by_annotations_alone()),
        ("kube cri-o", kube::crio()),
        ("kube cri-dockerd", kube::cri_dockerd()),
        ("kube long names", kube::long_names()),
        ("lxc", lxc::usual()),
        ("lxc stale", lxc::stale_cgroup()),
        ("lxc stale or another's", lxc::stale_or_anothers()),
        ("lxc parent", lxc::configured_parent()),
        ("lxc inner", lxc::inner()),
        ("machines", machine::registered()),
        ("machine kept unit", machine::kept_unit()),
        ("ctr", others::ctr()),
        ("one cgroup for two", others::one_cgroup_for_two()),
        ("nerdctl", others::nerdctl()),
        ("nerdctl systemd", others::nerdctl_on_systemd()),
        ("bare", others::bare()),
        ("youki", others::youki()),
        ("kata", others::kata()),
        ("dead", stale::dead()),
        ("number taken", stale::number_taken()),
        (
            "number taken by a container",
            stale::number_taken_by_a_container(),
        ),
        ("zombie", stale::zombie()),
        ("zombie v2", stale::zombie_on_v2()),
        ("before the boot", stale::before_the_boot()),
        ("after a reboot", stale::after_a_reboot()),
        ("moved away", stale::moved_away()),
        ("dead crun", stale::dead_crun()),
        ("two of one prefix", ambiguity::two_of_one_prefix()),
        ("one of two is dead", ambiguity::one_of_two_is_dead()),
        (
            "name that is a short ID",
            ambiguity::name_that_is_a_prefix("8d9621220cb4"),
        ),
        ("name that is a prefix", ambiguity::name_that_is_a_prefix("8d96")),
        ("name that is an ID", ambiguity::name_that_is_an_id()),
        ("digits", ambiguity::digits()),
        ("three namespaces", ambiguity::one_id_in_three_namespaces()),
        ("two data roots", ambiguity::two_data_roots()),
        (
            "two data roots, one dead",
            ambiguity::two_data_roots_and_one_is_dead(),
        ),
        ("found twice", ambiguity::found_twice()),
        ("one name twice", ambiguity::one_name_twice()),
        ("one path twice", ambiguity::one_path_twice()),
        ("docker in docker", ambiguity::docker_in_docker()),
        ("other namespace", limits::other_namespace()),
        ("protected", limits::protected()),
        ("without docker's records", limits::without_dockers_records()),
        ("without podman's store", limits::without_podmans_store()),
        ("without a root", limits::without_a_root()),
        ("odd names", hostile::names()),
        ("another's ID", hostile::anothers_id()),
        ("odd docker names", hostile::odd_docker_names()),
        ("torn youki", hostile::torn_youki()),
    ];
    all.extend(hostile::spoilt_states());
    all
}

/// What is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// What runtimes and engines write, which anything may have become of.
    Record,
    /// What the kernel says, which everything else is held against.
    Truth,
}

/// A host with what of it can be damaged.
struct Stage {
    name: &'static str,
    scene: Scene,
    host: Host,
    /// Files, links and, of the kernel's, the directories of cgroups.
    paths: Vec<PathBuf>,
    words: Words,
}

impl Stage {
    fn set(name: &'static str, scene: Scene, kind: Kind) -> Self {
        let root = scene.host.root().to_owned();
        let (mut records, mut truth) = (Vec::new(), Vec::new());
        for top in ["etc", "run", "srv", "var"] {
            collect(&root.join(top), &mut records, false);
        }
        for top in ["proc", "sys"] {
            collect(&root.join(top), &mut truth, true);
        }
        let words = words(&scene, &records);
        Self {
            name,
            host: scene.host.open(),
            paths: if kind == Kind::Record { records } else { truth },
            words,
            scene,
        }
    }
}

/// Everything below a directory, in an order that is the same everywhere.
fn collect(dir: &Path, paths: &mut Vec<PathBuf>, with_dirs: bool) {
    let Ok(entries) = fs::read_dir(dir) else {
        return; // this host has none
    };
    let mut entries: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_symlink() || !path.is_dir() {
            paths.push(path);
            continue;
        }
        if with_dirs {
            paths.push(path.clone());
        }
        collect(&path, paths, with_dirs);
    }
}

fn words(scene: &Scene, records: &[PathBuf]) -> Words {
    let mut ids = BTreeSet::new();
    let mut pids = BTreeSet::new();
    let mut starts = BTreeSet::new();
    let mut cgroups = BTreeSet::new();
    for entry in fs::read_dir(scene.host.path("proc")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Ok(stat) = fs::read_to_string(scene.host.path(&format!("proc/{name}/stat"))) else {
            continue; // no process
        };
        pids.insert(name);
        starts.extend(
            stat.rsplit(')')
                .next()
                .unwrap()
                .split_whitespace()
                .nth(19)
                .map(str::to_owned),
        );
    }
    let mut dirs = Vec::new();
    collect(&scene.host.path("sys/fs/cgroup"), &mut dirs, true);
    for dir in dirs.iter().filter(|dir| dir.is_dir()) {
        let below = dir
            .strip_prefix(scene.host.path("sys/fs/cgroup"))
            .unwrap()
            .to_str()
            .unwrap();
        let mount = ["freezer", "unified"]
            .iter()
            .find_map(|mount| below.strip_prefix(mount));
        cgroups.insert(match mount {
            Some(path) => path.to_owned(),
            None => format!("/{below}"),
        });
    }
    cgroups.remove("");
    let mut texts = Vec::new();
    for record in records.iter().filter(|record| !record.is_symlink()) {
        if let Some(text) = plain_text(record) {
            texts.push(text);
        }
        for part in record.iter().filter_map(OsStr::to_str) {
            if part.len() == 64 {
                ids.insert(part.to_owned());
            }
        }
    }
    for (_, meaning) in &scene.promises {
        for one in meaning.candidates() {
            ids.extend(one.id().map(str::to_owned));
        }
    }
    let each = [ids, pids, starts, cgroups]
        .into_iter()
        .filter(|words| !words.is_empty());
    let mut kinds: Vec<Vec<String>> = each.map(|words| words.into_iter().collect()).collect();
    // Long words first, so that none is found inside of a longer one.
    for kind in &mut kinds {
        kind.sort_by_key(|word| std::cmp::Reverse(word.len()));
    }
    Words { kinds, texts }
}

/// The text of a plain file of a size that is worked with.
fn plain_text(path: &Path) -> Option<Vec<u8>> {
    let metadata = fs::symlink_metadata(path).ok()?;
    (metadata.is_file() && metadata.len() < 1 << 20).then(|| fs::read(path).unwrap())
}

/// One damage, which is undone when it goes.
struct Damage {
    path: PathBuf,
    /// Where it was moved to, if it was.
    now: PathBuf,
    before: Option<Before>,
    what: String,
    text: Vec<u8>,
}

struct Before {
    text: Vec<u8>,
    modified: SystemTime,
    owner: u32,
}

impl Damage {
    fn new(stage: &Stage, kind: Kind, dice: &mut Dice) -> Option<Self> {
        let path = dice.pick(&stage.paths)?.clone();
        let renamed = path.is_symlink() || path.is_dir() || (is_name(&path) && dice.below(3) == 0);
        if renamed {
            return Self::rename(stage, path, dice);
        }
        let text = plain_text(&path)?;
        let metadata = fs::metadata(&path).unwrap();
        let before = Before {
            modified: metadata.modified().unwrap(),
            owner: metadata.uid(),
            text,
        };
        let (text, what) = match dice.below(24) {
            0 if kind == Kind::Record => (Vec::new(), replaced(&path, &stage.paths, dice)),
            _ => {
                let (text, what) = damaged(&before.text, &stage.words, dice);
                fs::write(&path, &text).unwrap();
                (text, what)
            }
        };
        lchown(&path, Some(before.owner), None).unwrap_or_default(); // there may be nothing any more
        // How old a record is counts. A FIFO in its place would be waited at.
        if path.symlink_metadata().is_ok_and(|metadata| metadata.is_file()) {
            let file = File::options().write(true).open(&path).unwrap();
            file.set_modified(before.modified).unwrap();
        }
        Some(Self {
            now: path.clone(),
            path,
            before: Some(before),
            what,
            text,
        })
    }

    fn rename(stage: &Stage, path: PathBuf, dice: &mut Dice) -> Option<Self> {
        let (name, what) = damaged(path.file_name()?.as_bytes(), &stage.words, dice);
        let name: Vec<u8> = name
            .into_iter()
            .filter(|byte| !matches!(byte, 0 | b'/'))
            .take(255)
            .collect();
        let now = path.with_file_name(OsString::from_vec(name.clone()));
        if matches!(name.as_slice(), b"" | b"." | b"..") || now.symlink_metadata().is_ok() {
            return None;
        }
        fs::rename(&path, &now).ok()?;
        Some(Self {
            path,
            now,
            before: None,
            what: format!("renamed: {what}"),
            text: name,
        })
    }
}

impl Damage {
    /// Whether nothing can tell any more what the record said: it is gone, or its names are what was damaged.
    fn is_lost(&self) -> bool {
        let gives_names = ["config.v2.json", "containers.json"]
            .iter()
            .any(|name| self.path.ends_with(name));
        gives_names || self.now.symlink_metadata().is_err()
    }

    /// Whether the record names exactly this path: then a runtime freezes its container there, of all its levels.
    fn says(&self, path: &str) -> bool {
        String::from_utf8_lossy(&self.text).contains(&format!("\"{path}\""))
    }
}

impl Drop for Damage {
    fn drop(&mut self) {
        let Some(before) = &self.before else {
            fs::rename(&self.now, &self.path).unwrap();
            return;
        };
        if !self.path.is_file() || self.path.is_symlink() {
            let removed = match self.path.symlink_metadata() {
                Ok(metadata) if metadata.is_dir() => fs::remove_dir(&self.path),
                Ok(_) => fs::remove_file(&self.path),
                Err(_) => Ok(()), // it is what was done to it
            };
            removed.unwrap();
        }
        fs::write(&self.path, &before.text).unwrap();
        lchown(&self.path, Some(before.owner), None).unwrap();
        let file = File::options().write(true).open(&self.path).unwrap();
        file.set_modified(before.modified).unwrap();
    }
}

/// Whether a file's name is what it says.
fn is_name(path: &Path) -> bool {
    let path = path.to_string_lossy();
    ["/names/", "/machines/"].iter().any(|part| path.contains(part))
}

/// Something else in a file's place.
fn replaced(path: &Path, others: &[PathBuf], dice: &mut Dice) -> String {
    fs::remove_file(path).unwrap();
    match dice.below(6) {
        0 => "removed".to_owned(),
        1 => {
            make_fifo(path);
            "a FIFO".to_owned()
        }
        2 => {
            fs::create_dir(path).unwrap();
            "a directory".to_owned()
        }
        3 => {
            let file = File::create(path).unwrap();
            file.set_len(20 << 20).unwrap();
            "20 MiB".to_owned()
        }
        4 => {
            symlink(path, path).unwrap();
            "a link to itself".to_owned()
        }
        _ => {
            let other = dice.pick(others).unwrap();
            symlink(other, path).unwrap();
            format!("a link to {}", other.display())
        }
    }
}

/// Why an answer is wrong, if it is.
fn wrong(host: &Host, damage: &Damage, typed: &str, meaning: &Meaning, found: &[Found]) -> Option<String> {
    let candidates = meaning.candidates();
    for one in found {
        let at = written(one.container.freeze_point());
        let Some(expected) = candidates.iter().find(|expected| expected.freeze_at() == at) else {
            let is_left = meaning.second_best().iter().any(|left| left.freeze_at() == at)
                && (damage.is_lost() || is_dead(host, typed));
            let is_level =
                candidates.iter().any(|expected| expected.is_own(&at)) && damage.says(parts(&at).1);
            if is_left
                || is_level
                || says_so(damage, typed, one)
                || is_as_good(host, &one.container, candidates)
            {
                continue;
            }
            return Some(format!("means {at}"));
        };
        // What the container's own tasks alone are in is its own.
        let tids = one.container.freeze_point().tids_below().unwrap();
        let is_its =
            |own: &Cgroup| expected.is_own(&written(own)) || own.tids_below().unwrap().is_subset(&tids);
        if let Some(strange) = one.container.own.iter().find(|own| !is_its(own)) {
            return Some(format!("takes {} for its own", written(strange)));
        }
    }
    None
}

/// Whether the record under that ID is now one of a process that has ended.
fn is_dead(host: &Host, id: &str) -> bool {
    ask(host, &format!("id:{id}")).is_err_and(|error| kind(&error) == "NotRunning")
}

/// Whether a container was found one level too high where nothing tells: the record says so, its process is there, and
/// no other task is.
fn is_as_good(host: &Host, container: &Container, candidates: &[Expected]) -> bool {
    let at = container.freeze_point();
    let tids = at.tids_below().unwrap();
    candidates.iter().any(|expected| {
        let (hierarchy, path) = parts(expected.freeze_at());
        let is_above = at.hierarchy() == hierarchy && Path::new(path).starts_with(at.path());
        let own = Cgroup::open(host, hierarchy, path.as_ref());
        is_above && !expected.is_own(&written(at)) && own.is_ok_and(|own| own.tids_below().unwrap() == tids)
    })
}

/// Whether the damaged record itself, read without any mercy, gives a container the name that was asked for: then it
/// is not damage but a rename.
fn says_so(damage: &Damage, typed: &str, found: &Found) -> bool {
    let identity = &found.container.identity;
    let name = typed
        .split_once(':')
        .map_or(typed, |(_, name)| name)
        .trim_start_matches('/');
    let Some(id) = identity.id.as_deref() else {
        return false;
    };
    let (path, text) = (
        damage.now.to_string_lossy(),
        String::from_utf8_lossy(&damage.text),
    );
    if path.contains("/names/") {
        return damage.now.file_name() == Some(OsStr::new(name)) && text.trim() == id
            || damage.before.is_none() && damage.text == name.as_bytes();
    }
    if path.contains("/log/containers/") {
        let link = name.replacen('/', "_", 2);
        let (pod, container) = name.rsplit_once('/').unwrap_or((name, ""));
        return text.contains(id)
            && (text.starts_with(&link)
                || text.starts_with(&pod.replace('/', "_")) && text.contains(container));
    }
    if name.contains('/') {
        return path.contains(id) && name.split('/').all(|part| text.contains(part));
    }
    if path.ends_with("config.v2.json") && !path.contains(id) {
        return false; // dockerd itself refuses another ID there
    }
    let Ok(json) = serde_json::from_str::<Value>(&text) else {
        return false;
    };
    let mut left = vec![&json];
    while let Some(value) = left.pop() {
        match value {
            Value::Array(values) => left.extend(values),
            Value::Object(object) => {
                left.extend(object.values());
                let is = |key: &str| object.get(key).and_then(Value::as_str) == Some(id);
                let names = object.get("names").and_then(Value::as_array);
                let called = names.is_some_and(|names| names.iter().any(|one| one == name))
                    || object
                        .get("Name")
                        .and_then(Value::as_str)
                        .is_some_and(|one| one.trim_start_matches('/') == name);
                if called && (is("id") || is("ID")) {
                    return true;
                }
            }
            _ => {}
        }
    }
    false
}

/// What panicked anywhere in this process, also in threads that nobody joins.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());
static HOOK: Once = Once::new();

fn panics() -> Vec<String> {
    std::mem::take(&mut *PANICS.lock().unwrap_or_else(PoisonError::into_inner))
}

fn note_panics() {
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            // A broken promise of a test panics too, in its own file.
            if info.location().is_some_and(|at| !at.file().starts_with("tests/")) {
                let mut panics = PANICS.lock().unwrap_or_else(PoisonError::into_inner);
                panics.push(info.to_string());
            }
            before(info);
        }));
    });
}

/// Tells a finding, so that it can be done over again.
fn finding(stage: &Stage, number: usize, damage: &Damage, typed: &str, what: &str) -> String {
    let shown = String::from_utf8_lossy(&damage.text[..damage.text.len().min(3000)])
        .escape_debug()
        .to_string();
    let text = format!(
        "{number} ({}): {typed} {what}\n  {} ({})\n  {shown}",
        stage.name,
        damage.now.display(),
        damage.what,
    );
    readable(&text, stage.scene.host.root())
}

/// Does one damage and asks; what is wrong is told.
fn one(stages: &[Stage], number: usize, kind: Kind, at: &Mutex<String>) -> Option<String> {
    let mut dice = Dice::new(u64::try_from(number).unwrap());
    let stage = dice.pick(stages)?;
    let damage = Damage::new(stage, kind, &mut dice)?;
    for _ in 0..ASKED {
        let (typed, meaning) = dice.pick(&stage.scene.promises)?;
        let asked = || {
            let began = Instant::now();
            let answer = catch_unwind(AssertUnwindSafe(|| ask(&stage.host, typed)));
            (answer, began.elapsed())
        };
        *at.lock().unwrap() = finding(stage, number, &damage, typed, "does not come back");
        let (answer, took) = asked();
        let tell = |what: &str| Some(finding(stage, number, &damage, typed, what));
        let panicked = panics();
        if !panicked.is_empty() {
            return tell(&format!("panics: {}", panicked.join(", ")));
        }
        // A machine may be busy once.
        if took > LONG && asked().1 > LONG && asked().1 > LONG {
            return tell(&format!("takes {took:?}"));
        }
        let Ok(answer) = answer else {
            return tell("panics");
        };
        if kind == Kind::Truth {
            continue; // what is true then, nobody knows
        }
        match &answer {
            Ok(found) => {
                if let Some(what) = wrong(&stage.host, &damage, typed, meaning, found) {
                    return tell(&what);
                }
            }
            Err(error) => {
                let told = told(error); // that it can be said is part of the promise
                assert!(!told.is_empty());
            }
        }
    }
    None
}

/// The numbers of the damages that are to be done.
fn wanted(usual: usize) -> Range<usize> {
    let Ok(text) = std::env::var("ICEAXE_FUZZ") else {
        return 0..usual;
    };
    let number = |text: &str| {
        text.parse()
            .expect("ICEAXE_FUZZ is a number, or two with .. between")
    };
    match text.split_once("..") {
        Some((from, to)) => number(from)..number(to),
        None => 0..number(&text),
    }
}

fn worker(kind: Kind, numbers: impl Iterator<Item = usize>, at: &Mutex<String>, to: &Sender<Option<String>>) {
    let stages: Vec<Stage> = scenes()
        .into_iter()
        .map(|(name, scene)| Stage::set(name, scene, kind))
        .collect();
    for number in numbers {
        if to.send(one(&stages, number, kind, at)).is_err() {
            return; // there was enough
        }
    }
}

/// Does all damages, on all CPUs, and tells what was wrong.
#[expect(clippy::print_stdout, reason = "a long run is to tell its rate")]
fn all(kind: Kind, numbers: Range<usize>) -> Vec<String> {
    note_panics();
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let (to, from) = mpsc::channel();
    let ats: Vec<_> = (0..workers)
        .map(|_| std::sync::Arc::new(Mutex::new(String::new())))
        .collect();
    for (first, at) in ats.iter().enumerate() {
        let (to, at, numbers) = (to.clone(), at.clone(), numbers.clone());
        thread::spawn(move || worker(kind, numbers.skip(first).step_by(workers), &at, &to));
    }
    drop(to);
    let (began, mut done, mut found) = (Instant::now(), 0_usize, Vec::new());
    let mut known = BTreeSet::new();
    while found.len() < ENOUGH {
        match from.recv_timeout(HUNG) {
            Ok(result) => {
                done += 1;
                // Once for each host, target and answer.
                let is_new = |text: &String| {
                    let line = text.lines().next().and_then(|line| line.split_once(' '));
                    known.insert(line.map(|(_, rest)| rest.to_owned()))
                };
                found.extend(result.filter(is_new));
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let hung = ats
                    .iter()
                    .map(|at| at.lock().unwrap_or_else(PoisonError::into_inner).clone());
                found.extend(hung);
                break;
            }
        }
    }
    assert!(done > 0 || !found.is_empty(), "no worker did anything");
    println!("{done} damages in {:?}", began.elapsed());
    found
}

#[test]
fn no_damaged_record_leads_to_another_container() {
    let found = all(Kind::Record, wanted(USUAL));
    assert!(
        found.is_empty(),
        "{} findings:\n{}",
        found.len(),
        found.join("\n\n")
    );
}

#[test]
fn no_damaged_file_of_the_kernel_panics_or_hangs() {
    let found = all(Kind::Truth, wanted(USUAL / 2));
    assert!(
        found.is_empty(),
        "{} findings:\n{}",
        found.len(),
        found.join("\n\n")
    );
}
