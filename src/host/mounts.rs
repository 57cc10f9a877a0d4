//! Where a host's cgroup hierarchies are mounted, whether all of a hierarchy is, and which cgroup a directory is.

use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, fstat, major, minor};
use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, FsType, fstatfs};

use super::namespaces::freezing_lines;
use super::{Hierarchy, Host};
use crate::error::{Error, Result};

/// The inode of a whole hierarchy's root directory: kernfs counts from 1.
const WHOLE: u64 = 1;

/// How long the table of mounts may take where there is a hierarchy to work with already. It takes 0.1 ms for a few
/// dozen mounts, and a thaw waits for it.
const BESIDE: Duration = Duration::from_millis(100);
/// How long it may take where nothing can be done without it.
const ALONE: Duration = Duration::from_secs(2);

/// A mounted cgroup hierarchy.
#[derive(Debug, Clone)]
pub struct Mount {
    /// Which kind.
    pub hierarchy: Hierarchy,
    /// Where it is mounted.
    pub dir: PathBuf,
    pub(super) fd: Arc<OwnedFd>,
}

impl Mount {
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Whether its directory is that of the whole hierarchy, as far as its inode tells it: what is the whole of a nested
    /// host is a part of another's.
    fn is_whole(&self) -> bool {
        fstat(&self.fd).is_ok_and(|stat| stat.st_ino == WHOLE)
    }
}

/// The cgroup that a directory is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FoundCgroup {
    pub(crate) hierarchy: Hierarchy,
    /// The path in the hierarchy.
    pub(crate) path: PathBuf,
    /// Device and inode of the directory: whoever opens the path compares.
    pub(crate) identity: (u64, u64),
}

impl Host {
    /// Finds every hierarchy that freezes: in the usual places by `statfs` first. The table of mounts has several lines
    /// per container, and to read it takes a lock that a stuck mount holds (`namespace_sem`), so it is read only where
    /// those places lack a hierarchy that the kernel runs, and is not waited for without end.
    pub(super) fn find_mounts(&mut self) {
        self.mounts.clear();
        match self.mount_at(Path::new("/sys/fs/cgroup"), Hierarchy::V2) {
            Some(mount) => self.mounts.push(mount),
            None => {
                let v1 = self.mount_at(Path::new("/sys/fs/cgroup/freezer"), Hierarchy::V1);
                let v2 = self.mount_at(Path::new("/sys/fs/cgroup/unified"), Hierarchy::V2);
                self.mounts.extend(v1.into_iter().chain(v2));
            }
        }
        if !self.genuine {
            return;
        }
        let is_missing = |hierarchy: &Hierarchy| !self.mount(*hierarchy).is_some_and(Mount::is_whole);
        if ![Hierarchy::V1, Hierarchy::V2].iter().any(is_missing) {
            return;
        }
        let missing: Vec<Hierarchy> = self.listed().into_iter().filter(is_missing).collect();
        if missing.is_empty() {
            return;
        }
        let limit = if self.mounts.is_empty() { ALONE } else { BESIDE };
        let wanted = missing.clone();
        match self.in_time(limit, move |host| host.mounts_by_table(&wanted)) {
            Some(found) => {
                let is_other = |mount: &Mount| found.iter().all(|new| new.hierarchy != mount.hierarchy);
                self.mounts.retain(is_other);
                self.mounts.extend(found);
            }
            None => self.unlooked = Some(late(limit)),
        }
    }

    /// The hierarchies with a freezer that the kernel runs, mounted somewhere or not: /proc/self/cgroup has a line of each.
    fn listed(&self) -> Vec<Hierarchy> {
        let lines = self.read_proc("self/cgroup").unwrap_or_default(); // it is always there for ourselves
        let listed = freezing_lines(&lines).map(|(hierarchy, _)| hierarchy);
        let mut listed: Vec<Hierarchy> = listed.collect();
        listed.sort_unstable();
        listed.dedup();
        listed
    }

    /// Refuses a host without a freezer, on which nothing can be looked at: that is not the same as nothing being there.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] where no hierarchy that freezes is mounted, with what would have to be.
    pub fn check_freezer(&self) -> Result<()> {
        if !self.mounts.is_empty() {
            return Ok(());
        }
        let place = |usual: &str| self.path(usual).display().to_string();
        let ways = self.listed().into_iter().map(|hierarchy| match hierarchy {
            Hierarchy::V1 => format!(
                "mount -t cgroup -o freezer freezer {}",
                place("/sys/fs/cgroup/freezer")
            ),
            Hierarchy::V2 => format!("mount -t cgroup2 cgroup2 {}", place("/sys/fs/cgroup")),
        });
        let ways: Vec<String> = ways.collect();
        let whose = match self.root == Path::new("/") {
            true => "on this host".to_owned(),
            false => format!("below {}", self.root.display()),
        };
        let why = match (&self.unlooked, ways.is_empty()) {
            (Some(unlooked), _) => {
                format!("not in the usual places, and elsewhere can't be told: {unlooked}")
            }
            (None, true) => "this kernel runs none".to_owned(),
            (None, false) => format!("what freezes can be had with {}", ways.join(", or with ")),
        };
        Err(Error::Unsupported(format!(
            "no cgroup freezer is mounted {whose}: {why}"
        )))
    }

    /// Why it is not known whether a hierarchy that was not found is mounted somewhere; `None` where all is known.
    #[must_use]
    pub fn unlooked(&self) -> Option<&str> {
        self.unlooked.as_deref()
    }

    /// The mount at `path`, as the host's own programs say it.
    pub(super) fn mount_at(&self, path: &Path, hierarchy: Hierarchy) -> Option<Mount> {
        let fd = self.open_dir_inside(path).ok()?; // not there: this host has no such mount at this place
        let dir = self.root.join(path.strip_prefix("/").unwrap_or(path));
        let right = if self.genuine {
            is_cgroup(fd.as_fd(), hierarchy)
        } else {
            dir.join("cgroup.controllers").exists() == (hierarchy == Hierarchy::V2)
        };
        right.then_some(Mount {
            hierarchy,
            dir,
            fd: Arc::new(fd),
        })
    }

    /// The mounts of these whole hierarchies that the table has below the host's root, one of each: one that can be
    /// written before one that can't. The table has what another mount covers too, so each is opened and compared.
    fn mounts_by_table(&self, wanted: &[Hierarchy]) -> Vec<Mount> {
        // One that can't be read leaves the host without these, which every verb reports.
        let text = self.read_proc("self/mountinfo").unwrap_or_default();
        // It is this process's own, and has places as they are reached from here.
        let root = self.root.canonicalize().unwrap_or_else(|_| self.root.clone()); // it is open: it is there
        let lines: Vec<MountLine> = mount_lines(&text)
            .filter(|line| line.root == Path::new("/")) // a part of a hierarchy is not the hierarchy
            .collect();
        let (writable, others): (Vec<_>, Vec<_>) = lines.into_iter().partition(MountLine::is_writable);
        let mut found: Vec<Mount> = Vec::new();
        for line in writable.into_iter().chain(others) {
            let hierarchy = line.hierarchy().filter(|hierarchy| wanted.contains(hierarchy));
            let (Some(hierarchy), Ok(below)) = (hierarchy, line.dir.strip_prefix(&root)) else {
                continue; // another file system, or not the host's
            };
            if found.iter().all(|mount| mount.hierarchy != hierarchy)
                && let Some(mount) = self.mount_at(&Path::new("/").join(below), hierarchy)
                && device(mount.fd()).is_some_and(|device| device == line.device)
            {
                found.push(mount);
            }
        }
        found
    }

    /// A mount of a part of a hierarchy has other paths than the hierarchy itself. The table of mounts is read only where
    /// a mount's directory is not the whole's: a nested host's whole is a part of another.
    pub(super) fn check_mounts(&self) -> Result<()> {
        for mount in self.mounts.iter().filter(|mount| !mount.is_whole()) {
            let root = self
                .in_time(ALONE, {
                    let fd = mount.fd().as_raw_fd();
                    move |host| host.mounted_at(fd).map(|line| line.root)
                })
                .ok_or_else(|| {
                    Error::Unsupported(format!(
                        "whether {} shows all of its cgroup hierarchy can't be told: {}",
                        mount.dir.display(),
                        late(ALONE)
                    ))
                })?;
            if root.as_deref() != Some(Path::new("/")) {
                let shown = root.map_or_else(|| "a part".to_owned(), |root| root.display().to_string());
                return Err(Error::Unsupported(format!(
                    "{} shows only {shown} of its cgroup hierarchy: mount the host's root somewhere, with docker run \
                     --volume /:DIR, and say --root DIR",
                    mount.dir.display(),
                )));
            }
        }
        Ok(())
    }

    /// The mount that an open directory is on.
    fn mounted_at(&self, dir: i32) -> Option<MountLine> {
        let info = self.read_proc(&format!("self/fdinfo/{dir}"))?; // it is always there for ourselves
        let mut lines = info.split(|&byte| byte == b'\n');
        let id = lines.find_map(|line| line.strip_prefix(b"mnt_id:"))?.trim_ascii();
        let text = self.read_proc("self/mountinfo")?; // it is always there for ourselves
        mount_lines(&text).find(|line| line.id == id)
    }

    /// The cgroup that a directory is, by any mount of a hierarchy or of a part of it; `None` where the directory, or the
    /// nearest one above it that exists, is on no hierarchy that freezes. Path and table can hang: it is for a thread that
    /// can be left behind.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] where no such directory is there, below one that is on a hierarchy; what opening it says.
    pub(crate) fn cgroup_of_directory(&self, path: &Path) -> Result<Option<FoundCgroup>> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        for above in path.ancestors() {
            let fd = match open(above, flags, Mode::empty()) {
                Ok(fd) => fd,
                Err(Errno::ENOENT | Errno::ENOTDIR) => continue,
                Err(errno) => return Err(Error::io("open", above, errno.into())),
            };
            let on_it = |mount: &&Mount| {
                let device = |dir| fstat(dir).map(|stat| stat.st_dev);
                is_cgroup(fd.as_fd(), mount.hierarchy) && device(fd.as_fd()) == device(mount.fd())
            };
            let Some(mount) = self.mounts.iter().find(on_it) else {
                return Ok(None);
            };
            if above != path {
                return Err(Error::NotFound(format!("no cgroup {}", path.display())));
            }
            return self.located(&fd, mount.hierarchy, path).map(Some);
        }
        Ok(None)
    }

    /// Its path: that of the directory which is mounted, and the rest.
    fn located(&self, fd: &OwnedFd, hierarchy: Hierarchy, typed: &Path) -> Result<FoundCgroup> {
        let unknown = |why: &str| {
            Error::Unsupported(format!(
                "which cgroup {} is can't be told: {why}",
                typed.display()
            ))
        };
        let stat = fstat(fd).map_err(|errno| Error::io("stat", typed, errno.into()))?;
        let line = self
            .mounted_at(fd.as_raw_fd())
            .ok_or_else(|| unknown("its mount is not in /proc/self/mountinfo"))?;
        let reached = self
            .read_proc_link(&format!("self/fd/{}", fd.as_raw_fd()))
            .ok_or_else(|| unknown("/proc/self/fd does not show it"))?;
        let rest = reached
            .strip_prefix(&line.dir)
            .map_err(|_| unknown("its mount is not reached from here"))?;
        // Joined to nothing it would end in a slash.
        let path = match rest.as_os_str().is_empty() {
            true => line.root,
            false => line.root.join(rest),
        };
        Ok(FoundCgroup {
            hierarchy,
            path,
            identity: (stat.st_dev, stat.st_ino),
        })
    }

    /// Runs `work` in a thread with its own view of the host, and waits for it for so long. A thread that hangs stays
    /// behind; where none is to be had, the work is done here.
    fn in_time<T: Send + 'static>(
        &self,
        limit: Duration,
        work: impl Fn(&Self) -> T + Clone + Send + 'static,
    ) -> Option<T> {
        let (to, from) = mpsc::channel();
        let (there, again) = (self.another(), work.clone());
        let run = move || drop(to.send(again(&there))); // nobody waits any more
        let thread = thread::Builder::new().name("mounts".to_owned()).spawn(run).ok();
        match thread {
            Some(_) => from.recv_timeout(limit).ok(), // a thread that is gone without a word is no answer either
            None => Some(work(self)),
        }
    }
}

/// That the table of mounts could not be read in time.
fn late(limit: Duration) -> String {
    format!(
        "/proc/self/mountinfo gave no answer within {} ms",
        limit.as_millis()
    )
}

/// The device of an open directory's file system, as mountinfo writes it.
fn device(dir: BorrowedFd<'_>) -> Option<Vec<u8>> {
    let device = fstat(dir).ok()?.st_dev; // of an open directory it is always told
    Some(format!("{}:{}", major(device), minor(device)).into_bytes())
}

/// Whether `dir` is on a cgroup file system of that kind.
pub(crate) fn is_cgroup(dir: BorrowedFd<'_>, hierarchy: Hierarchy) -> bool {
    let magic: FsType = match hierarchy {
        Hierarchy::V1 => CGROUP_SUPER_MAGIC,
        Hierarchy::V2 => CGROUP2_SUPER_MAGIC,
    };
    fstatfs(dir).is_ok_and(|stat| stat.filesystem_type() == magic)
}

/// One line of a mountinfo text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MountLine {
    /// The number of the mount.
    pub(super) id: Vec<u8>,
    /// Major and minor number of the file system.
    pub(crate) device: Vec<u8>,
    /// Which directory of it is mounted.
    pub(crate) root: PathBuf,
    /// Where.
    pub(crate) dir: PathBuf,
    /// The options of the mount alone.
    here: Vec<u8>,
    pub(super) kind: Vec<u8>,
    /// The options of the file system.
    options: Vec<u8>,
}

impl MountLine {
    fn parse(line: &[u8]) -> Option<Self> {
        let words: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
        let dash = words.iter().position(|word| *word == b"-")?;
        Some(Self {
            id: words.first()?.to_vec(),
            device: words.get(2)?.to_vec(),
            root: unescape_octal(words.get(3)?),
            dir: unescape_octal(words.get(4)?),
            here: words.get(5)?.to_vec(),
            kind: words.get(dash + 1)?.to_vec(),
            options: words.get(dash + 3)?.to_vec(),
        })
    }

    /// Whether it is not mounted read-only.
    fn is_writable(&self) -> bool {
        self.here
            .split(|&byte| byte == b',')
            .all(|option| option != b"ro")
    }

    /// The hierarchy that can freeze, if it is one: v2 by its type, v1 by `freezer` among the super options.
    fn hierarchy(&self) -> Option<Hierarchy> {
        match self.kind.as_slice() {
            b"cgroup2" => Some(Hierarchy::V2),
            b"cgroup" => {
                let freezes = self
                    .options
                    .split(|&byte| byte == b',')
                    .any(|option| option == b"freezer");
                freezes.then_some(Hierarchy::V1)
            }
            _ => None,
        }
    }
}

impl MountLine {
    /// Whether it is a namespace, which is mounted so that it stays.
    pub(crate) fn is_namespace(&self) -> bool {
        self.kind == b"nsfs"
    }
}

/// The lines of a mountinfo text; those that can't be understood are left out.
pub(crate) fn mount_lines(text: &[u8]) -> impl Iterator<Item = MountLine> {
    text.split(|&byte| byte == b'\n').filter_map(MountLine::parse)
}

/// Undoes mountinfo's `\040` for a space, tab, newline or backslash.
fn unescape_octal(bytes: &[u8]) -> PathBuf {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits
            .filter(|_| byte == b'\\')
            .map(|digits| u8::from_str_radix(digits, 8))
        {
            Some(Ok(byte)) => {
                out.push(byte);
                rest = &rest[4..];
            }
            _ => {
                out.push(byte);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freezer_mounted_together_with_others_is_found() {
        let text = "30 25 0:26 / /sys/fs/cgroup/cpu\\040x,freezer rw - cgroup cgroup rw,cpu,freezer\n\
                    31 25 0:27 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n\
                    32 25 0:28 / /mnt/u rw - cgroup2 none rw,nsdelegate\n\
                    garbage\n";
        let found: Vec<_> = mount_lines(text.as_bytes())
            .filter_map(|line| Some((line.dir.clone(), line.hierarchy()?)))
            .collect();
        assert_eq!(
            found,
            [
                (PathBuf::from("/sys/fs/cgroup/cpu x,freezer"), Hierarchy::V1),
                (PathBuf::from("/mnt/u"), Hierarchy::V2)
            ]
        );
    }

    #[test]
    fn a_table_that_does_not_come_is_left_behind() {
        let host = Host::system().unwrap();
        let limit = Duration::from_millis(20);
        let began = std::time::Instant::now();
        assert_eq!(host.in_time(limit, |_| thread::park()), None);
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        assert_eq!(
            host.in_time(ALONE, |host| host.read_proc("self/mountinfo").is_some()),
            Some(true)
        );
    }

    proptest::proptest! {
        #[test]
        fn no_mountinfo_panics(text in "([0-9]{0,3} |0:2[0-9] |/[a-z\\\\0-9]{0,9} |- |cgroup2? |freezer,?|\n){0,40}") {
            for line in mount_lines(text.as_bytes()) {
                let _ = line.hierarchy(); // only that it returns
            }
        }

        #[test]
        fn an_escaped_path_comes_out_as_it_went_in(bytes in proptest::collection::vec(1_u8.., 0..40)) {
            let escaped: Vec<u8> = bytes.iter().flat_map(|&byte| match byte {
                b' ' | b'\t' | b'\n' | b'\\' => format!("\\{byte:03o}").into_bytes(),
                _ => vec![byte],
            }).collect();
            proptest::prop_assert_eq!(unescape_octal(&escaped), PathBuf::from(OsString::from_vec(bytes)));
        }
    }
}
