//! A container with things in it that a freeze must not touch: a number in memory, an open file that was deleted, a
//! lock, a TCP connection. They are compared before, while it is frozen, and after; from outside by the kernel's
//! files, and from inside by what the container itself tells.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;

use kit::engines::{HANGS, Layout, starttime};
use kit::{eventually, in_each_layout, stands_still};
use nix::fcntl::{Flock, FlockArg};

use crate::container::Container;
use crate::docker::Docker;

in_each_layout! {
    nothing_changes_in_a_container_but_the_time
}

/// What stands in the deleted file.
const SECRET: &str = "nobody-else-has-this";
/// Port 7000, as the kernel prints it.
const PORT: &str = "1B58";

/// Descriptor 6 never ends and never says anything; 7 is the deleted file, 8 the locked one, 9 leads to the client's
/// end of the connection. Each round tells the number, what the deleted file holds, and whether the lock is still
/// held, as somebody else who tries to take it finds out; and it sends the number through the connection.
const SCRIPT: &str = "
set -e
mkfifo /tmp/silence /tmp/in
exec 6<>/tmp/silence
echo SECRET > /tmp/secret; exec 7</tmp/secret; rm /tmp/secret
exec 8>/vol/lock; flock -x -n 8
nc -l -p 7000 <&6 >/vol/heard &
until cat /proc/net/tcp /proc/net/tcp6 | grep -q ':1B58 0*:0000 0A'; do sleep 0.01; done
nc 127.0.0.1 7000 </tmp/in >/dev/null &
exec 9>/tmp/in
n=0
while :; do
    n=$((n + 1))
    echo $n >&9
    if flock -x -n /vol/lock true; then lock=free; else lock=held; fi
    echo $n $(cat /proc/$$/fd/7) $lock >> /vol/told
    echo >> /vol/beats
    sleep 0.01
done";

/// Everything that must stay as it is, as the kernel shows it from outside.
#[derive(Debug, PartialEq, Eq)]
struct Belongings {
    /// The lasting processes with their start times.
    processes: Vec<(i32, Option<u64>, String)>,
    /// The deleted file: device, inode, links, its text, and the descriptor's position.
    deleted: (u64, u64, u64, String, String),
    /// Who holds the lock.
    locks: Vec<String>,
    /// Both ends of the connection: addresses, state, inode.
    connection: Vec<Vec<String>>,
}

impl Belongings {
    #[track_caller]
    fn of(container: &Container<'_>) -> Self {
        let at = |path: &str| format!("/proc/{}/{path}", container.pid);
        let deleted = fs::metadata(at("fd/7")).unwrap();
        let position = fs::read_to_string(at("fdinfo/7")).unwrap();
        let lock = fs::metadata(container.volume.join("lock")).unwrap().ino();
        let locks = fs::read_to_string("/proc/locks").unwrap();
        let locks = locks.lines().filter(|line| line.contains(&format!(":{lock} ")));
        // Without the number in front, which counts all locks of the machine.
        let locks = locks
            .map(|line| line.split_once(": ").unwrap().1.to_owned())
            .collect();
        // busybox listens at an IPv6 socket where there are any.
        let connection = ["net/tcp", "net/tcp6"]
            .map(|file| fs::read_to_string(at(file)).unwrap_or_default())
            .concat();
        let mut connection: Vec<Vec<String>> = connection
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<&str>>())
            .filter(|fields| fields[1].ends_with(PORT) || fields[2].ends_with(PORT))
            .map(|fields| [1, 2, 3, 9].map(|at| fields[at].to_owned()).to_vec())
            .collect();
        connection.sort();
        Self {
            processes: processes(container),
            deleted: (
                deleted.dev(),
                deleted.ino(),
                deleted.nlink(),
                fs::read_to_string(at("fd/7")).unwrap(),
                position.lines().next().unwrap().to_owned(),
            ),
            locks,
            connection,
        }
    }

    /// Checks that they are what the script makes, so that nothing is compared with nothing.
    #[track_caller]
    fn are_whole(&self) {
        let comms: Vec<&str> = self.processes.iter().map(|(_, _, comm)| comm.as_str()).collect();
        assert_eq!(comms, ["sh", "nc", "nc"], "{self:?}");
        assert_eq!((self.deleted.2, self.deleted.3.trim()), (0, SECRET), "{self:?}");
        assert_eq!(self.deleted.4, "pos:\t0", "{self:?}");
        assert_eq!(self.locks.len(), 1, "{self:?}");
        let states: Vec<&str> = self.connection.iter().map(|end| end[2].as_str()).collect();
        assert_eq!(states, ["01", "01"], "both ends are established: {self:?}");
    }
}

/// The shell and both ends of the connection; not the programs that each round starts.
fn processes(container: &Container<'_>) -> Vec<(i32, Option<u64>, String)> {
    let pids = container.cgroups[0].tids().into_iter();
    let named = pids.filter_map(|pid| Some((pid, fs::read_to_string(format!("/proc/{pid}/comm")).ok()?)));
    let lasting = named.filter(|(pid, comm)| comm == "nc\n" || *pid == container.pid);
    let mut all: Vec<_> = lasting
        .map(|(pid, comm)| (pid, starttime(pid), comm.trim().to_owned()))
        .collect();
    all.sort_by_key(|(pid, started, _)| (*started, *pid));
    all
}

/// Whether somebody outside can take the lock.
#[track_caller]
fn is_locked(container: &Container<'_>) -> bool {
    let file = File::open(container.volume.join("lock")).unwrap();
    Flock::lock(file, FlockArg::LockExclusiveNonblock).is_err()
}

fn lines(container: &Container<'_>, file: &str) -> Vec<String> {
    let file = container.volume.join(file);
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    // The last one may be half written.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(str::to_owned).collect()
}

fn nothing_changes_in_a_container_but_the_time(layout: Layout) {
    let docker = Docker::start(layout);
    let web = docker.container_with("web", &[], &SCRIPT.replace("SECRET", SECRET));
    eventually("its connection carries something", || {
        fs::metadata(web.volume.join("heard")).is_ok_and(|it| it.len() > 9)
    });
    let before = Belongings::of(&web);
    before.are_whole();
    assert!(is_locked(&web));

    web.pause();
    docker.wedge();
    assert!(docker.client(["unpause", &web.name]).answer(HANGS).hung());
    assert_eq!(Belongings::of(&web), before);
    assert!(is_locked(&web));
    let (told, heard) = (lines(&web, "told").len(), lines(&web, "heard").len());
    stands_still("what it tells", || lines(&web, "told").len() as u64);

    web.iceaxe("thaw").is(0, "confirmed");
    web.is_thawed();
    eventually("it tells and hears more", || {
        lines(&web, "told").len() > told + 3 && lines(&web, "heard").len() > heard + 3
    });
    assert_eq!(Belongings::of(&web), before);
    assert!(is_locked(&web));
    // The number in memory went on from where it was, each went through the connection once, the file was always
    // there, and the lock never was free.
    for (at, line) in lines(&web, "told").iter().enumerate() {
        assert_eq!(*line, format!("{} {SECRET} held", at + 1));
    }
    for (at, line) in lines(&web, "heard").iter().enumerate() {
        assert_eq!(*line, (at + 1).to_string());
    }
}
