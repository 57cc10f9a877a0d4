//! Reading with a time limit: a file that may lie on a disk that hangs, or where a user can have mounted anything, is read
//! in a thread of its own, which is waited for only so long. A thread that hangs stays behind.

use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::host::Host;

/// How long one source may take before what it knows counts as uncertain.
pub(super) const BUDGET: Duration = Duration::from_secs(2);

/// How long each source is waited for at least.
const LEAST: Duration = Duration::from_millis(250);

/// Enough for a walk of the deepest tree.
const STACK: usize = 4 << 20;

/// The answer of a thread that reads.
#[derive(Debug)]
pub(super) struct Awaited<T> {
    done: Option<Receiver<()>>,
    answer: Arc<Mutex<Option<T>>>,
    since: Instant,
}

impl<T> Awaited<T> {
    /// Waits for the answer until [`BUDGET`] is spent; `None` where that was not enough, or no thread could be had.
    pub(super) fn wait(&self) -> Option<T> {
        self.wait_for(BUDGET)
    }

    /// Waits for the answer until `limit` has passed since the read began; `None` where that was not enough, or no thread
    /// could be had.
    pub(super) fn wait_for(&self, limit: Duration) -> Option<T> {
        // Time that the caller was busy elsewhere does not count against the read.
        let left = limit.saturating_sub(self.since.elapsed()).max(LEAST);
        self.done.as_ref()?.recv_timeout(left).ok()?; // a thread that is gone without a word is no answer either
        self.answer.lock().ok()?.take()
    }
}

/// Runs `work` in a thread of its own with its own view of the host.
pub(super) fn with_timeout<T: Send + 'static>(
    host: &Host,
    work: impl FnOnce(&Host) -> T + Send + 'static,
) -> Awaited<T> {
    let since = Instant::now();
    let answer = Arc::new(Mutex::new(None));
    let there = Arc::clone(&answer);
    let work = Box::new(move |host: &Host| {
        let read = work(host);
        if let Ok(mut answer) = there.lock() {
            *answer = Some(read);
        }
    });
    Awaited {
        done: start(host, work),
        answer,
        since,
    }
}

/// Starts the thread, which says when it is done; `None` where none can be had.
fn start(host: &Host, work: Box<dyn FnOnce(&Host) + Send>) -> Option<Receiver<()>> {
    let (to, from) = mpsc::channel();
    let run = move |host: &Host| {
        work(host);
        let _ = to.send(()); // nobody waits any more
    };
    detach(host, run).then_some(from)
}

/// Runs `work` in a thread that nobody waits for, with its own view of the host; false where no thread can be had.
pub(super) fn detach(host: &Host, work: impl FnOnce(&Host) + Send + 'static) -> bool {
    let host = host.another();
    let thread = thread::Builder::new()
        .name("records".to_owned())
        .stack_size(STACK);
    thread.spawn(move || work(&host)).is_ok()
}

/// A source of records by the words that errors have for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source(pub(super) &'static str);

impl Source {
    /// The error that the source could not be read in time.
    pub(super) fn late(self) -> Error {
        Error::Io {
            act: "read".to_owned(),
            path: self.0.into(),
            cause: std::io::Error::new(
                std::io::ErrorKind::TimedOut,
                format!("no answer within {} s", BUDGET.as_secs()),
            ),
        }
    }
}
