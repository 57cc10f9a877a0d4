//! A task that is not as was asked of its cgroup: what kind of trouble that is, what it waits for, and who keeps it
//! there, as far as the task itself shows it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::class::{Class, On, Party, class, is_in_userfault};
use super::sighting::Sighting;
use super::task::{Witness, frames, stack_from};
use crate::host::{Lock, Reader, status_field, text_of};

/// So many tasks that can't be looked at are told of by their names.
const MOST_UNSEEN: usize = 32;

/// A task that does not do what was asked of its cgroup, and where it is instead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holdout {
    /// Its process.
    pub pid: i32,
    /// The task.
    pub tid: i32,
    /// Its name.
    pub comm: String,
    /// The state letter.
    pub state: char,
    /// Where it waits, if the kernel says.
    pub wchan: Option<String>,
    /// What kind of trouble it is in.
    pub class: Class,
    /// The kernel stack, innermost function first; empty where it can't be read.
    pub stack: Vec<String>,
    /// What its uninterruptible sleep waits for; `None` where its stack does not tell.
    pub on: Option<On>,
    /// Who keeps it there: its tracer, its vfork child, the real-time task that has its CPU.
    pub by: Option<Party>,
    /// What its class means, in a sentence.
    pub meaning: String,
}

impl Witness<'_> {
    /// The kind of a task, from one look and no more.
    #[must_use]
    pub fn class(self, sighting: &Sighting) -> Class {
        class(sighting, self.place(sighting), &[] as &[&str])
    }

    /// Says of a task what helps to find out why it does not move.
    #[must_use]
    pub fn describe(self, sighting: &Sighting) -> Holdout {
        self.describe_all(&[sighting]).pop().unwrap_or_else(|| {
            // One that was asked for is told of.
            self.described(sighting, &[], &[])
        })
    }

    /// The same of several.
    #[must_use]
    pub fn describe_all(self, sightings: &[&Sighting]) -> Vec<Holdout> {
        let tids = sightings.iter().map(|task| task.tid);
        let read = |reader: Reader<'_>, tid| (text_of(reader, tid, "status"), text_of(reader, tid, "stack"));
        let texts: BTreeMap<i32, _> = self.proc.each(Lock::Exec, tids, None, read).into_iter().collect();
        let each = sightings.iter().map(|task| {
            // Without them it is told of by what the look at it showed.
            let texts = texts.get(&task.tid).and_then(|texts| texts.as_ref().ok());
            let (status, stack) = texts.map_or((&[][..], &[][..]), |(status, stack)| (status, stack));
            self.described(task, status, stack)
        });
        each.collect()
    }

    /// Says of tasks that could not be looked at what is known of them all the same; of many, of the first.
    #[must_use]
    pub(crate) fn describe_unseen(self, tids: &BTreeSet<i32>) -> Vec<Holdout> {
        let hanging = self.proc.hanging();
        let first = tids.iter().copied().take(MOST_UNSEEN);
        let read = |reader: Reader<'_>, tid| text_of(reader, tid, "status");
        let each = self.proc.each(Lock::None, first, None, read).into_iter();
        each.map(|(tid, status)| {
            let status = status.unwrap_or_default();
            let field = |name| status_field(&status, name);
            let class = match hanging.contains(&tid) {
                true => Class::Hung,
                false => Class::Unknown,
            };
            Holdout {
                pid: field("Tgid:").and_then(|pid| pid.parse().ok()).unwrap_or(tid),
                tid,
                comm: field("Name:").unwrap_or_default().to_owned(),
                state: field("State:")
                    .and_then(|state| state.chars().next())
                    .unwrap_or('?'),
                wchan: None,
                class,
                stack: Vec::new(),
                on: None,
                by: None,
                meaning: class.meaning().to_owned(),
            }
        })
        .collect()
    }

    fn described(self, sighting: &Sighting, status: &[u8], stack: &[u8]) -> Holdout {
        let stack: Vec<String> = frames(stack).map(str::to_owned).collect();
        let number = |field| status_field(status, field).and_then(|value| value.parse::<i32>().ok());
        let class = class(sighting, self.place(sighting), &stack);
        let on = match class {
            Class::Uninterruptible => On::of(&stack).or_else(|| On::of(sighting.site.as_slice())),
            _ => None,
        };
        let by = match class {
            // 0: nobody's tracee.
            _ if number("TracerPid:").is_some_and(|tracer| tracer > 0) && sighting.letter != 'R' => {
                number("TracerPid:")
            }
            Class::VforkParent => self.first_child(sighting.tid),
            _ => None,
        };
        Holdout {
            pid: number("Tgid:").unwrap_or(sighting.tid),
            tid: sighting.tid,
            comm: sighting.comm.clone(),
            state: sighting.letter,
            wchan: sighting.site.clone(),
            class,
            meaning: meaning(class, on),
            on,
            by: by.map(|pid| self.party(pid)),
            stack,
        }
    }

    /// Looks again whether a task that seemed only to run tries a page over and over.
    /// It is looked at from a CPU, where one is given.
    pub(crate) fn look_for_userfault(self, holdout: &mut Holdout, cpu: Option<i32>) {
        let tid = holdout.tid;
        let read = move |reader: Reader<'_>| stack_from(reader, tid, cpu);
        let text = self.proc.one(Lock::Exec, tid, read).unwrap_or_default();
        let stack: Vec<String> = frames(&text).map(str::to_owned).collect();
        if is_in_userfault(&stack) {
            holdout.stack = stack;
            holdout.reclass(Class::Userfault, None);
        }
    }

    /// Another task by its name.
    pub(crate) fn party(self, pid: i32) -> Party {
        Party {
            pid,
            comm: self.proc.comm_alive(pid),
        }
    }

    /// The first child of a task; `None` where it has none, or this kernel does not list them
    /// (CONFIG_PROC_CHILDREN).
    fn first_child(self, tid: i32) -> Option<i32> {
        let children = self.proc.text_of(tid, "children");
        let children = std::str::from_utf8(&children).ok()?;
        children.split_whitespace().next()?.parse().ok()
    }
}

fn meaning(class: Class, on: Option<On>) -> String {
    match on {
        Some(on) => format!(
            "it waits in the kernel for {}, which no freeze and no signal cuts short; it was never frozen, and no thaw \
             helps it",
            on.what()
        ),
        None => class.meaning().to_owned(),
    }
}

impl Holdout {
    /// Gives it a class that only its cgroup, or a second look, tells.
    pub(crate) fn reclass(&mut self, class: Class, by: Option<Party>) {
        self.class = class;
        self.meaning = class.meaning().to_owned();
        self.on = None;
        self.by = by.or(self.by.take());
    }
}
