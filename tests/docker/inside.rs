//! iceaxe in a container of its own, which has the host's root at /host: the way in where nothing can be installed on
//! the host. Its cgroup namespace is the host's or a private one, as docker has both.

use std::fs;
use std::process::Command;

use kit::engines::{BEATING, Ended, Layout, Program};
use kit::{Hierarchy, PATIENCE, has_keys, in_each_layout};

use crate::container::{Container, FORMS};
use crate::docker::Docker;

in_each_layout! {
    from_a_container_in_the_hosts_cgroup_namespace_all_is_as_outside
    from_a_container_in_a_private_cgroup_namespace_all_is_as_outside
    without_the_right_to_enter_the_hosts_cgroup_namespace_it_is_refused_and_said_how
    in_the_hosts_cgroup_namespace_no_right_is_needed_to_look
    another_pid_namespace_is_refused_and_said_how
    the_cgroups_that_a_container_sees_itself_are_no_hosts
    a_root_without_what_is_mounted_below_is_refused_and_said_how
    the_container_that_iceaxe_runs_in_is_never_frozen
    the_hosts_cgroups_and_proc_alone_are_enough_for_an_id
    a_data_root_that_is_a_link_leads_where_it_leads_for_the_host
    a_hierarchy_that_the_host_has_mounted_elsewhere_is_found
    the_first_process_of_a_pid_namespace_is_whose_cgroup_namespace_is_entered
    another_time_namespace_is_refused_and_said_how
}

/// Where the container has the host's root.
const ROOT: &str = "/host";

/// All rights that this machine can give. `--privileged` asks for every capability there is, which some machines that
/// are containers themselves have not.
pub(crate) fn all_rights() -> Vec<String> {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let bounds = status
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:"))
        .unwrap();
    let bounds = u64::from_str_radix(bounds.trim(), 16).unwrap();
    const SYS_RESOURCE: u64 = 1 << 24;
    let options: &[&str] = if bounds & SYS_RESOURCE != 0 {
        &["--privileged"]
    } else {
        &[
            "--cap-add=ALL",
            "--cap-drop=SYS_RESOURCE",
            "--security-opt=seccomp=unconfined",
            "--security-opt=apparmor=unconfined",
        ]
    };
    words(options)
}

fn words(options: &[&str]) -> Vec<String> {
    options.iter().map(|&option| option.to_owned()).collect()
}

/// What `docker run` needs for iceaxe to be in the container: the program, and what it is linked with.
fn program() -> Vec<String> {
    let iceaxe = kit::program("iceaxe");
    let listed = Command::new("ldd").arg(&iceaxe).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let libraries = listed.split_whitespace().filter(|word| word.starts_with('/'));
    let mut options = vec![format!("--volume={}:/bin/iceaxe:ro", iceaxe.display())];
    options.extend(libraries.map(|library| format!("--volume={library}:{library}:ro")));
    options
}

/// A container with iceaxe in it, made with these options.
#[track_caller]
fn tool<'d>(docker: &'d Docker, name: &str, options: &[Vec<String>]) -> Container<'d> {
    let options = [options.concat(), program()].concat();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    docker.container_with(name, &options, BEATING)
}

/// One with the host's root, in the host's PID namespace, and in a cgroup namespace of this kind.
#[track_caller]
fn tool_in<'d>(docker: &'d Docker, cgroupns: &str) -> Container<'d> {
    let options = [
        all_rights(),
        words(&["--pid=host", "--volume=/:/host"]),
        vec![format!("--cgroupns={cgroupns}")],
    ];
    let tool = tool(docker, "tool", &options);
    // Else there would be nothing to enter.
    let own = docker.docker(["exec", &tool.name, "readlink", "/proc/self/ns/cgroup"]);
    let is_hosts = own
        == fs::read_link("/proc/self/ns/cgroup")
            .unwrap()
            .display()
            .to_string();
    assert_eq!(is_hosts, cgroupns == "host", "{own}");
    tool
}

/// How an iceaxe command ends that is run in a container on the host at `root`.
#[track_caller]
fn inside(docker: &Docker, tool: &Container<'_>, root: &str, args: &[&str]) -> Ended {
    let before = ["exec", &tool.name, "iceaxe", "--root", root];
    docker.ended([&before, args].concat())
}

#[track_caller]
fn all_is_as_outside(docker: &Docker, cgroupns: &str) {
    let tool = tool_in(docker, cgroupns);
    let web = docker.container("web");
    for (form, target) in FORMS {
        let target = target(&web);
        let report = inside(docker, &tool, ROOT, &["freeze", &target, "--json"]).is(0, "confirmed");
        assert_eq!(report["id"], web.id.as_str(), "{form}: {report}");
        web.is_frozen();
        let report = inside(docker, &tool, ROOT, &["thaw", &target, "--json"]).is(0, "confirmed");
        assert_eq!(report["id"], web.id.as_str(), "{form}: {report}");
        web.is_thawed();
    }
    web.pause();
    let ended = inside(docker, &tool, ROOT, &["status", &web.name, "--json"]);
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    let status = ended.object();
    let found = ["id", "name", "believed", "effective"].map(|key| status[key].as_str().unwrap_or_default());
    assert_eq!(found, [&web.id, &web.name, "paused", "frozen"], "{status}");
    assert_eq!(status["pid"], web.pid, "{status}");
    for (told, cgroup) in status["cgroups"].as_array().unwrap().iter().zip(&web.cgroups) {
        assert_eq!(told["path"], cgroup.path.display().to_string(), "{status}");
        let dir = format!("{ROOT}{}", docker.seen(cgroup).display());
        assert_eq!(told["dir"], dir, "{status}");
    }
    let listed = inside(docker, &tool, ROOT, &["list", "--quiet"]).well();
    for container in [&web, &tool] {
        assert!(listed.lines().any(|line| line == container.id), "{listed}");
    }
    let rootfs = inside(docker, &tool, ROOT, &["path", "--rootfs", &web.name]).well();
    docker.docker(["exec", &tool.name, "test", "-x", &format!("{rootfs}/bin/busybox")]);
    inside(docker, &tool, ROOT, &["thaw", &web.name, "--json"]).is(0, "confirmed");
    web.is_thawed();
}

fn from_a_container_in_the_hosts_cgroup_namespace_all_is_as_outside(layout: Layout) {
    all_is_as_outside(&Docker::start(layout), "host");
}

fn from_a_container_in_a_private_cgroup_namespace_all_is_as_outside(layout: Layout) {
    all_is_as_outside(&Docker::in_default_places(layout), "private");
}

fn without_the_right_to_enter_the_hosts_cgroup_namespace_it_is_refused_and_said_how(layout: Layout) {
    let docker = Docker::start(layout);
    let web = docker.container("web");
    let options = ["--pid=host", "--cgroupns=private", "--volume=/:/host"];
    let rights = ["--cap-add=SYS_PTRACE", "--cap-drop=SYS_ADMIN"];
    let tool = tool(&docker, "tool", &[words(&options), words(&rights)]);
    for target in [&web.name, &web.id] {
        for verb in ["freeze", "thaw", "status"] {
            let how = [
                "cgroup namespace",
                "--privileged",
                "--cgroupns=host",
                "nsenter --target 1 --cgroup",
            ];
            inside(&docker, &tool, ROOT, &[verb, target]).refuses(5, &how);
        }
    }
    web.is_thawed();
}

fn in_the_hosts_cgroup_namespace_no_right_is_needed_to_look(layout: Layout) {
    let docker = Docker::start(layout);
    let web = docker.container("web");
    let options = ["--pid=host", "--cgroupns=host", "--volume=/:/host"];
    let tool = tool(&docker, "tool", &[words(&options)]);
    let ended = inside(&docker, &tool, ROOT, &["status", &web.id, "--json"]);
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    let status = ended.object();
    assert_eq!(
        (&status["id"], &status["requested"]),
        (&web.id.as_str().into(), &"thawed".into())
    );
}

fn another_pid_namespace_is_refused_and_said_how(layout: Layout) {
    let docker = Docker::start(layout);
    let web = docker.container("web");
    let options = [all_rights(), words(&["--cgroupns=host", "--volume=/:/host"])];
    let tool = tool(&docker, "tool", &options);
    for verb in ["freeze", "status"] {
        inside(&docker, &tool, ROOT, &[verb, &web.id]).refuses(5, &["PID namespace", "--pid=host"]);
    }
    web.is_thawed();
}

/// The /sys/fs/cgroup of the container itself, and no root of the host's.
fn the_cgroups_that_a_container_sees_itself_are_no_hosts(layout: Layout) {
    let docker = Docker::start(layout);
    let web = docker.container("web");
    // v2 is mounted anew for each container, and shows what its cgroup namespace is.
    let namespaces: &[&str] = match layout {
        Layout::AsFound => &["--cgroupns=private", "--cgroupns=host"],
        Layout::V2 => &["--cgroupns=private"],
    };
    for (at, namespace) in namespaces.iter().enumerate() {
        let name = format!("tool-{at}");
        let tool = tool(&docker, &name, &[all_rights(), words(&["--pid=host", namespace])]);
        for target in [&web.id, &format!("pid:{}", web.pid)] {
            inside(&docker, &tool, "/", &["freeze", target]).refuses(5, &[&tool.id, "--root DIR"]);
        }
        let listed = inside(&docker, &tool, "/", &["list"]);
        assert_eq!(listed.code(), Some(5), "{namespace}: {listed:?}");
    }
    web.is_thawed();
}

fn a_root_without_what_is_mounted_below_is_refused_and_said_how(layout: Layout) {
    let docker = Docker::start(layout);
    let web = docker.container("web");
    let options = ["--pid=host", "--volume=/:/host"];
    let tool = tool(&docker, "tool", &[all_rights(), words(&options)]);
    let bare = "mkdir -p /bare && mount --bind /host /bare";
    docker.docker(["exec", &tool.name, "sh", "-c", bare]);
    inside(&docker, &tool, "/bare", &["freeze", &web.id]).refuses(5, &["/bare/proc", "--rbind", "--volume"]);
    web.is_thawed();
}

fn the_container_that_iceaxe_runs_in_is_never_frozen(layout: Layout) {
    let docker = Docker::start(layout);
    for cgroupns in ["host", "private"] {
        let tool = tool_in(&docker, cgroupns);
        let ended = inside(&docker, &tool, ROOT, &["freeze", &tool.name, "--force", "--json"]);
        let report = ended.is(11, "refused");
        assert!(
            report["error"]
                .as_str()
                .is_some_and(|error| error.contains("iceaxe")),
            "{report}"
        );
        tool.is_thawed();
        docker.docker(["rm", "--force", &tool.name]);
    }
}

fn the_hosts_cgroups_and_proc_alone_are_enough_for_an_id(layout: Layout) {
    let docker = Docker::start(layout);
    let web = docker.container("web");
    let places = [
        "--volume=/sys/fs/cgroup:/h/sys/fs/cgroup",
        "--volume=/proc:/h/proc",
    ];
    let options = [
        all_rights(),
        words(&["--pid=host", "--cgroupns=private"]),
        words(&places),
    ];
    let tool = tool(&docker, "tool", &options);
    inside(&docker, &tool, "/h", &["freeze", &web.id, "--json"]).is(0, "confirmed");
    web.is_frozen();
    inside(&docker, &tool, "/h", &["thaw", &web.id, "--json"]).is(0, "confirmed");
    web.is_thawed();
}

/// As on a host whose administrator has moved it: the link leads to where only the host has something.
fn a_data_root_that_is_a_link_leads_where_it_leads_for_the_host(layout: Layout) {
    let docker = Docker::in_default_places(layout);
    let web = docker.container("web");
    docker.docker(["kill", &web.name]);
    docker.docker(["wait", &web.name]);
    let tool = tool_in(&docker, "private");
    let moved = "mkdir /host/run/moved; mount --bind /host/var/lib/docker /host/run/moved
        mount -t tmpfs lib /host/var/lib; ln -s /run/moved /host/var/lib/docker; test ! -e /run/moved";
    docker.docker(["exec", &tool.name, "sh", "-ec", moved]);
    // Nothing but the data root knows that one.
    for target in [&web.id, &web.name] {
        inside(&docker, &tool, ROOT, &["status", target]).refuses(3, &["known but not running"]);
    }
    let status = inside(&docker, &tool, ROOT, &["status", &tool.name, "--json"]).object();
    assert_eq!(
        (&status["id"], &status["believed"]),
        (&tool.id.as_str().into(), &"running".into())
    );
}

/// The host's root is mounted with its cgroup mounts at another place than usual.
fn a_hierarchy_that_the_host_has_mounted_elsewhere_is_found(layout: Layout) {
    let docker = Docker::start(layout);
    let cgroup = docker.own_cgroup(Hierarchy::V2);
    let root = docker.scratch().dir("root");
    let script = "mount --rbind / \"$0\"; cd \"$0\"
        umount --recursive --lazy sys/fs/cgroup
        mount -t tmpfs mnt mnt; mkdir mnt/elsewhere; mount -t cgroup2 none mnt/elsewhere
        exec \"$1\" --root \"$0\" status \"$2\" --json";
    let mut command = docker.command("unshare");
    command
        .args(["--mount", "--propagation", "private", "sh", "-ec", script])
        .arg(&root)
        .arg(kit::program("iceaxe"))
        .arg(cgroup.target());
    let ended = Program::start(&command).answer(PATIENCE).answered();
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    let status = ended.object();
    has_keys(&status, &["cgroups", "outside"]);
    let dir = root
        .join("mnt/elsewhere")
        .join(cgroup.path.strip_prefix("/").unwrap());
    assert_eq!(status["cgroups"][0]["dir"], dir.display().to_string(), "{status}");
}

/// A host in a PID namespace, with iceaxe in a cgroup namespace inside: what the kernel shows there as `/../ID` is found
/// by entering the namespace of that host's first process.
fn the_first_process_of_a_pid_namespace_is_whose_cgroup_namespace_is_entered(layout: Layout) {
    let docker = Docker::start(layout);
    let hierarchy = docker.freezes();
    let (own, parent) = (docker.own_cgroup(hierarchy), docker.own_cgroup(hierarchy));
    let id = "0123456789abcdef".repeat(4);
    let container = parent.child(&id);
    let script = "sleep 1000 & pid=$!; echo $pid > \"$1/cgroup.procs\"
        (echo 0 > \"$0/cgroup.procs\"
         unshare --cgroup sh -c 'cat /proc/1/cgroup >&2; exec \"$0\" status pid:$1 --json' \"$2\" $pid)
        kill $pid";
    let mut command = docker.command("unshare");
    command
        .args([
            "--pid",
            "--fork",
            "--kill-child",
            "--mount",
            "--mount-proc",
            "sh",
            "-ec",
            script,
        ])
        .arg(docker.seen(&own))
        .arg(docker.seen(&container))
        .arg(kit::program("iceaxe"));
    let ended = Program::start(&command).answer(PATIENCE).answered();
    assert!(
        ended.err.contains(":/.."),
        "the namespace hides something: {ended:?}"
    );
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    let status = ended.object();
    let told = (&status["id"], &status["cgroups"][0]["path"]);
    let path = container.path.display().to_string();
    assert_eq!(told, (&id.into(), &path.into()), "{status}");
}

fn another_time_namespace_is_refused_and_said_how(layout: Layout) {
    let docker = Docker::start(layout);
    let web = docker.container("web");
    let shifted = |args: &[&str]| {
        let mut command = docker.command("unshare");
        command.args(["--time", "--fork"]).args(args);
        command.arg(kit::program("iceaxe")).args(["freeze", &web.id]);
        Program::start(&command).answer(PATIENCE).answered()
    };
    shifted(&["--boottime", "1000"]).refuses(5, &["time namespace", "nsenter --target 1 --time"]);
    web.is_thawed();
    // One with the same clock tells the same times.
    shifted(&["--monotonic", "1000"]).well();
    web.is_frozen();
    web.iceaxe("thaw").is(0, "confirmed");
}
