//! The host once more below another directory, with a /run of its own: read-only, or of a certain size.

use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;

/// The host's file system below a directory, until it is dropped.
#[derive(Debug)]
pub(crate) struct Elsewhere {
    dir: TempDir,
}

/// Where no record can be made.
#[track_caller]
pub(crate) fn without_records() -> Elsewhere {
    Elsewhere::with_run(MsFlags::MS_RDONLY, "mode=755")
}

/// Where records have so much room.
#[track_caller]
pub(crate) fn with_room(size: &str) -> Elsewhere {
    Elsewhere::with_run(MsFlags::empty(), &format!("mode=755,size={size}"))
}

impl Elsewhere {
    #[track_caller]
    fn with_run(flags: MsFlags, options: &str) -> Self {
        let elsewhere = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        let none = None::<&str>;
        let root = elsewhere.root();
        mount(Some("/"), root, none, MsFlags::MS_BIND | MsFlags::MS_REC, none).unwrap();
        // What is mounted below from here on is mounted there alone.
        mount(none, root, none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none).unwrap();
        let run = root.join("run");
        mount(Some("iceaxe-test"), &run, Some("tmpfs"), flags, Some(options)).unwrap();
        elsewhere
    }

    /// From now on nothing can be written there.
    #[track_caller]
    pub(crate) fn set_read_only(&self) {
        let none = None::<&str>;
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(none, &self.root().join("run"), none, flags, none).unwrap();
    }

    /// Where that host's root is.
    pub(crate) fn root(&self) -> &Path {
        self.dir.path()
    }

    /// Where its records are.
    pub(crate) fn records(&self) -> PathBuf {
        self.root().join("run/iceaxe")
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        // The directory's own removal tells if it is still mounted.
        let _ = umount2(self.root(), MntFlags::MNT_DETACH);
    }
}
