//! The first process of a virtual machine: mounts what the tests need, runs `/t/kernel` with the words after `--` of
//! the kernel's command line, reports on the second serial port, and turns the machine off. The layout of the cgroup
//! mounts is the kernel parameter `cg`, which the kernel hands on as an environment variable.

use std::env;
use std::error::Error;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::termios::tcdrain;
use nix::sys::wait::{WaitStatus, wait};
use nix::unistd::Pid;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() {
    // Nobody is there to hear of an error here; without the closing line the run counts as failed.
    let _ = report();
    // Returning would make the kernel panic, which ends the machine too, as `panic=-1` is set.
    let _ = reboot(RebootMode::RB_AUTOBOOT);
}

fn report() -> Result<()> {
    attach("devtmpfs", "/dev", "")?;
    let mut serial = File::options().write(true).open("/dev/ttyS1")?;
    match run(&serial) {
        Ok(code) => writeln!(serial, "iceaxe-vm-exit {code}")?,
        Err(error) => writeln!(serial, "cannot run the tests in the virtual machine: {error}")?,
    }
    tcdrain(&serial)?;
    Ok(())
}

fn run(serial: &File) -> Result<i32> {
    attach("proc", "/proc", "")?;
    attach("sysfs", "/sys", "")?;
    attach("devpts", "/dev/pts", "mode=620,ptmxmode=666")?;
    attach("tmpfs", "/tmp", "mode=1777")?;
    attach("tmpfs", "/run", "mode=755")?;
    let layout = env::var("cg")?;
    match layout.as_str() {
        "v1" => mount_v1()?,
        "hybrid" => {
            mount_v1()?;
            fs::create_dir("/sys/fs/cgroup/unified")?;
            attach("cgroup2", "/sys/fs/cgroup/unified", "")?;
        }
        "v2" => attach("cgroup2", "/sys/fs/cgroup", "")?,
        other => return Err(format!("no layout {other:?}").into()),
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    writeln!(&mut &*serial, "Linux {} with cgroups {layout}", release.trim())?;
    let child = Command::new("/t/kernel")
        .args(env::args_os().skip(1))
        .env("PATH", "/t")
        .current_dir("/tmp")
        .stdin(Stdio::null())
        .stdout(serial.try_clone()?)
        .stderr(serial.try_clone()?)
        .spawn()?;
    let child = Pid::from_raw(i32::try_from(child.id())?);
    // Orphans come to the first process, which must wait for them.
    loop {
        match wait()? {
            WaitStatus::Exited(pid, code) if pid == child => return Ok(code),
            WaitStatus::Signaled(pid, signal, _) if pid == child => return Ok(128 + signal as i32),
            _ => {}
        }
    }
}

/// Every v1 hierarchy that the kernel has, each in its own directory. Some kernels list controllers that they can't
/// mount (6.12: memory, cpuset); only the freezer must be there.
fn mount_v1() -> Result<()> {
    attach("tmpfs", "/sys/fs/cgroup", "mode=755")?;
    for line in fs::read_to_string("/proc/cgroups")?
        .lines()
        .filter(|line| !line.starts_with('#'))
    {
        let Some(name) = line.split_whitespace().next() else {
            continue;
        };
        let dir = format!("/sys/fs/cgroup/{name}");
        fs::create_dir(&dir)?;
        match attach("cgroup", &dir, name) {
            Err(error) if name == "freezer" => return Err(error),
            Err(_) => fs::remove_dir(&dir)?,
            Ok(()) => {}
        }
    }
    fs::create_dir("/sys/fs/cgroup/systemd")?;
    attach("cgroup", "/sys/fs/cgroup/systemd", "none,name=systemd")
}

fn attach(kind: &str, dir: &str, options: &str) -> Result<()> {
    if !Path::new(dir).is_dir() {
        fs::create_dir(dir)?;
    }
    mount(Some(kind), dir, Some(kind), MsFlags::empty(), Some(options))
        .map_err(|errno| format!("mount {kind} at {dir}: {errno}").into())
}
