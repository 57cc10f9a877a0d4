//! What the suites on real engines share: a directory and namespaces to run them in, foreign programs under a time
//! limit, a root file system, and the cgroups that an engine made, read and cleared by plain files. An engine's
//! default places are never touched: it runs in places of its own, or where the machine's are out of sight.

mod cgroups;
pub mod decoys;
mod program;
mod room;
mod rootfs;
mod scratch;
mod vessel;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use cgroups::{above, below, cgroups_in, end_all, is_in_v1_and_v2, of_process, thaw_all};
pub use program::{Asked, Ended, Program, starttime};
pub use room::{Layout, Places, Room};
pub use rootfs::{busybox, fill};
pub use scratch::Scratch;
pub use vessel::{BEATING, Vessel};

/// How long a program is given that is expected to hang. A healthy `docker unpause` takes some 20 ms.
pub const HANGS: Duration = Duration::from_secs(2);
/// How long no answer of iceaxe may take, whatever the records are like: its sources of names have 2 s.
pub const PROMPT: Duration = Duration::from_secs(3);

static TURN: Mutex<()> = Mutex::new(());

/// One test at a time: engines are heavy, and a test that looks at the whole host must not see another's half-made
/// containers.
pub fn turn() -> MutexGuard<'static, ()> {
    // A test that failed has cleaned up all the same.
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where an executable is, as a shell finds it.
#[track_caller]
pub fn find(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|file| Path::is_file(file));
    found.unwrap_or_else(|| panic!("there is no {name} in PATH"))
}

/// Makes each function a test in this module, which calls it with this value.
#[macro_export]
macro_rules! promises {
    ($module:ident = $value:expr => $($name:ident)*) => {
        mod $module {
            $(
                #[test]
                fn $name() {
                    super::$name($value);
                }
            )*
        }
    };
}

/// Makes each function a test in both layouts: that of this machine, and v2 alone.
#[macro_export]
macro_rules! in_each_layout {
    ($($name:ident)*) => {
        $crate::promises! { as_found = $crate::engines::Layout::AsFound => $($name)* }
        $crate::promises! { v2 = $crate::engines::Layout::V2 => $($name)* }
    };
}
