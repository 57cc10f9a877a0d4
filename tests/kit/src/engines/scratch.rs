//! A directory of a test's own, removed with whatever is still mounted in it.

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, umount2};
use tempfile::TempDir;

/// It goes when it is dropped.
#[derive(Debug)]
pub struct Scratch(TempDir);

impl Scratch {
    /// Not below the usual directory for temporary files, which can lie anywhere: the path of a socket has 107 bytes
    /// at most.
    #[expect(clippy::new_without_default, reason = "it makes a directory")]
    #[track_caller]
    pub fn new() -> Self {
        Self(
            tempfile::Builder::new()
                .prefix("iceaxe-test-")
                .tempdir_in("/var/tmp")
                .unwrap(),
        )
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path().join(name)
    }

    /// A directory in it, made where it is not there yet.
    #[track_caller]
    pub fn dir(&self, name: impl AsRef<Path>) -> PathBuf {
        let dir = self.join(name);
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    /// A file in it.
    #[track_caller]
    pub fn file(&self, name: impl AsRef<Path>, text: &str) -> PathBuf {
        let file = self.join(name);
        fs::write(&file, text).unwrap();
        file
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is mounted last may lie in what was mounted before.
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        for line in mounts.lines().rev() {
            let dir = line.split(' ').nth(4).unwrap_or_default();
            if Path::new(dir).starts_with(self.path()) {
                // A mount that goes with its parent is gone, then.
                let _ = umount2(dir, MntFlags::MNT_DETACH);
            }
        }
    }
}
