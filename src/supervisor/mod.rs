//! Work in a process of its own: the supervisor starts a worker and at times a command, hears what the worker says, keeps
//! their limits, and prints what the worker left to be said if it is heard of no more. It knows no container.

mod command;
mod link;
mod protocol;
mod streams;
mod worker;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

pub(crate) use command::{Announce, ChildCommand, News};
pub(crate) use link::{Answer, Link, Meanwhile, Say};
pub(crate) use protocol::{LastWords, Message};
pub use streams::Streams;
pub(crate) use worker::{Ended, apart, die_by, supervise};

/// As many open files as any work here needs: four for each of ten thousand containers, and some.
const FILES: u64 = 1 << 16;

/// The priority of what iceaxe does itself.
pub(crate) const MOST_URGENT: i32 = -20;

/// Lets this process open as many files as it may: who acts on many containers holds them open. With CAP_SYS_RESOURCE that
/// is more than its caller may. Where the limit stays, less is looked at.
pub(crate) fn raise_limit() {
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let more = most.max(FILES);
        let _ = setrlimit(Resource::RLIMIT_NOFILE, more, more)
            .or_else(|_| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    }
}
