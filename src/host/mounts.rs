//! Where a host's cgroup hierarchies are mounted, and whether all of a hierarchy is.

use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use nix::sys::stat::fstat;
use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, FsType, fstatfs};

use super::namespaces::freezing_lines;
use super::{Hierarchy, Host};
use crate::error::{Error, Result};

/// The inode of a whole hierarchy's root directory: kernfs counts from 1.
const WHOLE: u64 = 1;

/// A mounted cgroup hierarchy.
#[derive(Debug)]
pub struct Mount {
    /// Which kind.
    pub hierarchy: Hierarchy,
    /// Where it is mounted.
    pub dir: PathBuf,
    pub(super) fd: OwnedFd,
}

impl Mount {
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Host {
    /// The usual places by `statfs` first: /proc/self/mountinfo has several lines per container and takes a lock
    /// that a stuck mount holds (`namespace_sem`), so it is read only where those places have no freezer of v1 though
    /// the kernel runs one, or none at all.
    pub(super) fn find_mounts(&self) -> Vec<Mount> {
        let mut mounts = Vec::new();
        match self.mount_at(Path::new("/sys/fs/cgroup"), Hierarchy::V2) {
            Some(mount) => mounts.push(mount),
            None => {
                mounts.extend(self.mount_at(Path::new("/sys/fs/cgroup/freezer"), Hierarchy::V1));
                mounts.extend(self.mount_at(Path::new("/sys/fs/cgroup/unified"), Hierarchy::V2));
            }
        }
        let lacks_v1 = mounts.iter().all(|mount| mount.hierarchy != Hierarchy::V1);
        if self.genuine && (mounts.is_empty() || (lacks_v1 && self.runs_v1_freezer())) {
            for (dir, hierarchy) in self.mounts_by_mountinfo() {
                if mounts.iter().all(|mount: &Mount| mount.hierarchy != hierarchy) {
                    mounts.extend(self.mount_at(&dir, hierarchy));
                }
            }
        }
        mounts
    }

    /// Whether a v1 hierarchy has the freezer, mounted somewhere or not: /proc/self/cgroup has a line of it.
    pub(super) fn runs_v1_freezer(&self) -> bool {
        let lines = self.read_proc("self/cgroup").unwrap_or_default(); // it is always there for ourselves
        freezing_lines(&lines).any(|(hierarchy, _)| hierarchy == Hierarchy::V1)
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
        right.then_some(Mount { hierarchy, dir, fd })
    }

    pub(super) fn mounts_by_mountinfo(&self) -> Vec<(PathBuf, Hierarchy)> {
        // A mountinfo that can't be read leaves the host without a freezer, which every verb reports.
        let text = self.read_proc("self/mountinfo").unwrap_or_default();
        // It is this process's own, and has places as they are reached from here.
        let root = self.root.canonicalize().unwrap_or_else(|_| self.root.clone()); // it is open: it is there
        mount_lines(&text)
            .filter(|line| line.root == Path::new("/")) // a part of a hierarchy is not the hierarchy
            .filter_map(|line| {
                let below = line.dir.strip_prefix(&root).ok()?; // not the host's
                Some((Path::new("/").join(below), line.hierarchy()?))
            })
            .collect()
    }

    /// A mount of a part of a hierarchy has other paths than the hierarchy itself. mountinfo is read only where a
    /// mount's directory is not the whole's: a nested host's whole is a part of another.
    pub(super) fn check_mounts(&self) -> Result<()> {
        for mount in &self.mounts {
            if fstat(&mount.fd).is_ok_and(|stat| stat.st_ino == WHOLE) {
                continue;
            }
            let root = self.mounted_root(mount.fd());
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

    /// Which directory of its file system is mounted where an open directory is.
    pub(super) fn mounted_root(&self, dir: BorrowedFd<'_>) -> Option<PathBuf> {
        let info = self.read_proc(&format!("self/fdinfo/{}", dir.as_raw_fd()))?; // it is always there for ourselves
        let mut lines = info.split(|&byte| byte == b'\n');
        let id = lines.find_map(|line| line.strip_prefix(b"mnt_id:"))?.trim_ascii();
        let text = self.read_proc("self/mountinfo")?; // as above
        mount_lines(&text)
            .find(|line| line.id == id)
            .map(|line| line.root)
    }
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
    id: Vec<u8>,
    /// Major and minor number of the file system.
    pub(crate) device: Vec<u8>,
    /// Which directory of it is mounted.
    pub(crate) root: PathBuf,
    /// Where.
    pub(crate) dir: PathBuf,
    kind: Vec<u8>,
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
            kind: words.get(dash + 1)?.to_vec(),
            options: words.get(dash + 3)?.to_vec(),
        })
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
