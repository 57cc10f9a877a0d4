//! From what was typed to containers: standard input is read, each target is resolved once, and what it could also
//! have meant is said.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use super::options::Nested;
use super::text;
use crate::cli::context::{Context, number, unheard, unresolved};
use crate::error::{Error, Result};
use crate::host::{Hierarchy, Host};
use crate::report::{Report, Verb};
use crate::resolver::target::Target;
use crate::resolver::{Container, Details, Nesting, Pending, Purpose, Resolver};
use crate::supervisor::{LastWords, Message};

/// How long resolving one may take: 2 s each for users' records, the sources of names, the records of who has the name,
/// and the candidates of an ambiguous one, and as much again on a busy host.
const RESOLVING: Duration = Duration::from_secs(16);

/// The most that is read of standard input: a hundred thousand IDs and more.
const MOST_INPUT: u64 = 16 << 20;

/// A container that was found.
pub(super) struct Held {
    pub(super) container: Container,
    /// What its engine has on record, where that was read on the way. It is there for all that were selected by
    /// conditions, and for nothing that was typed.
    pub(super) details: Option<Details>,
}

/// One target.
struct Entry {
    /// Its place in the order typed, or in which it was found.
    index: usize,
    /// As typed, or as it would be.
    typed: String,
    result: std::result::Result<Held, Report>,
}

/// Resolved or not, one entry per target.
pub(super) struct Targets {
    each: Vec<Entry>,
    /// The first number that no target has.
    free: usize,
    /// From this number on they were selected by their conditions rather than typed.
    selected: usize,
    /// Whether a source of names did not answer in time: what else is on that disk would not either.
    pub(super) late: bool,
}

impl Targets {
    /// Those that were resolved.
    pub(super) fn found(&self) -> Vec<(usize, &str, &Container)> {
        let each = self.each.iter();
        each.filter_map(|entry| {
            let held = entry.result.as_ref().ok()?;
            Some((entry.index, entry.typed.as_str(), &held.container))
        })
        .collect()
    }

    /// The reports on the others.
    pub(super) fn lost(&self) -> impl Iterator<Item = (usize, &Report)> {
        let each = self.each.iter();
        each.filter_map(|entry| Some((entry.index, entry.result.as_ref().err()?)))
    }

    /// What the engines have on record of those that were resolved, which begins to be read where it was not yet.
    pub(super) fn records(&self, host: &Host) -> Records<'_> {
        let held = self.each.iter().filter_map(|entry| entry.result.as_ref().ok());
        let unread = held.clone().filter(|held| held.details.is_none());
        let identities: Vec<_> = unread.map(|held| held.container.identity.clone()).collect();
        Records {
            known: held.map(|held| held.details.as_ref()).collect(),
            pending: Pending::start(host, identities),
        }
    }

    /// Whether the container of a number was selected by its conditions rather than typed.
    pub(super) fn is_selected(&self, index: usize) -> bool {
        index >= self.selected
    }

    /// Adds containers that are found already. What is to be said of each if nothing more is heard is said at once, as
    /// it was of what was typed.
    pub(super) fn add(&mut self, context: &Context<'_>, verb: Verb, all: Vec<(String, Held)>) {
        for (typed, held) in all {
            let index = self.free;
            self.free += 1;
            (context.say)(&Message::LastWords(
                number(index),
                unheard(context.options, verb, &typed),
            ));
            let result = match held.container.may_be_acted_on() {
                Ok(()) => Ok(held),
                Err(error) => Err(unresolved(verb, &typed, &error)),
            };
            self.each.push(Entry { index, typed, result });
        }
    }

    /// Sorts the targets by their keys. Targets with one key keep their order, and those that were not resolved come first.
    pub(super) fn sort_by<K: Ord + Default>(&mut self, mut key: impl FnMut(&str, &Held) -> K) {
        self.each.sort_by_cached_key(|entry| {
            let held = entry.result.as_ref().ok();
            held.map(|held| key(&entry.typed, held)).unwrap_or_default()
        });
    }
}

/// What the engines have on record of targets, one after the other.
pub(super) struct Records<'t> {
    known: VecDeque<Option<&'t Details>>,
    pending: Pending,
}

impl Records<'_> {
    /// The next one's; `None` where it would take longer than what is left of `limit`, which is for all of them.
    pub(super) fn next(&mut self, limit: Duration) -> Option<Details> {
        match self.known.pop_front()? {
            Some(known) => Some(known.clone()),
            None => self.pending.next(limit),
        }
    }
}

/// The targets as typed, `-` replaced by the lines of standard input.
pub(super) fn typed(verb: Verb, words: &[OsString]) -> Result<Vec<OsString>> {
    if verb == Verb::Hold && words.iter().any(|word| word == "-") {
        return Err(Error::Usage(
            "hold does not read targets from standard input: that is the command's".to_owned(),
        ));
    }
    let mut targets = Vec::new();
    for word in words {
        if word == "-" {
            let mut text = Vec::new();
            let failed = |why: String| Error::Usage(format!("cannot read standard input: {why}"));
            io::stdin()
                .take(MOST_INPUT + 1)
                .read_to_end(&mut text)
                .map_err(|error| failed(error.to_string()))?;
            if text.len() as u64 > MOST_INPUT {
                return Err(failed("it is larger than 16 MiB".to_owned()));
            }
            let before = targets.len();
            targets.extend(lines(&text));
            // Whoever was to write them may have failed: that is not all being well.
            if targets.len() == before {
                return Err(Error::Usage(format!(
                    "cannot {} -: standard input has no target on it",
                    text::act(verb)
                )));
            }
        } else {
            targets.push(word.clone());
        }
    }
    let mut seen = BTreeSet::new();
    targets.retain(|target| seen.insert(target.clone()));
    Ok(targets)
}

fn lines(text: &[u8]) -> impl Iterator<Item = OsString> {
    text.split(|&byte| byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty() && line[0] != b'#')
        .map(|line| OsString::from_vec(line.to_vec()))
}

/// Resolves each target; one container that was named twice is kept once. A pod's containers are a target each.
pub(super) fn resolve(
    context: &Context<'_>,
    (verb, purpose): (Verb, Purpose),
    typed: &[OsString],
    nested: Nested,
) -> Targets {
    let nesting = match nested {
        Nested { outer: true, .. } => Nesting::Outer,
        Nested { inner: true, .. } => Nesting::Inner,
        _ => Nesting::Refuse,
    };
    let read: Vec<Result<Target>> = typed.iter().map(|word| Target::parse(word)).collect();
    let resolver = Resolver::new(context.host, read.iter().flatten()).with_purpose(purpose);
    let mut seen = BTreeSet::new();
    let mut each: Vec<Entry> = Vec::new();
    let mut add = |index, typed: String, result| each.push(Entry { index, typed, result });
    let mut more = typed.len();
    for (index, (word, target)) in typed.iter().zip(&read).enumerate() {
        context.within(context.timeout(Duration::ZERO) + RESOLVING);
        let name = word.to_string_lossy().into_owned();
        let found = match target {
            Ok(target) => one(context, &resolver, target, nesting),
            Err(error) => {
                add(index, name.clone(), Err(unresolved(verb, &name, error)));
                continue;
            }
        };
        match found {
            Ok(mut containers) => {
                containers.retain(|(_, container)| seen.insert(container.freeze_point().id()));
                if containers.is_empty() {
                    // Named before in other words: that one is told of.
                    (context.say)(&Message::End(number(index), LastWords::default()));
                }
                let mut place = Some(index);
                for (part, container) in containers {
                    let index = place.take().unwrap_or_else(|| {
                        more += 1;
                        more - 1
                    });
                    let name = part.map_or_else(|| name.clone(), |part| format!("{name}/{part}"));
                    let details = None;
                    add(index, name, Ok(Held { container, details }));
                }
            }
            Err(error) => add(index, name.clone(), Err(unresolved(verb, &name, &error))),
        }
    }
    Targets {
        each,
        free: more,
        selected: more,
        late: resolver.is_late(),
    }
}

/// The cgroups that a target means, the topmost of its own in each hierarchy.
pub(super) fn cgroup(context: &Context<'_>, typed: &OsStr) -> Result<Vec<(Hierarchy, PathBuf)>> {
    let target = Target::parse(typed)?;
    if let Target::In(hierarchy, path) = target {
        return Ok(vec![(hierarchy, path)]);
    }
    context.within(RESOLVING);
    let resolver = Resolver::new(context.host, [&target]).with_purpose(Purpose::Look);
    let found = resolver.resolve(&target, Nesting::Refuse)?;
    let tops = found.iter().flat_map(|found| found.container.tops());
    Ok(tops.map(|top| (top.hierarchy(), top.path().to_owned())).collect())
}

/// The containers that a target means, each with its name in the pod where there are several.
fn one(
    context: &Context<'_>,
    resolver: &Resolver<'_>,
    target: &Target,
    nesting: Nesting,
) -> Result<Vec<(Option<String>, Container)>> {
    let found = resolver.resolve(target, nesting)?;
    for note in found.iter().flat_map(|found| &found.notes) {
        context.err(format!("iceaxe: note: {}\n", text::escaped(note)));
    }
    let are_several = found.len() > 1;
    let each = found.into_iter().map(|found| {
        let name = found.container.identity.name.clone().filter(|_| are_several);
        (name, found.container)
    });
    Ok(each.collect())
}

#[cfg(test)]
mod tests {
    use super::lines;

    #[test]
    fn blank_lines_and_comments_on_standard_input_are_skipped() {
        let read: Vec<_> = lines(b"web\n\n # why\n#x\n db \r\n\xff\n").collect();
        assert_eq!(read.len(), 3);
        assert_eq!(
            (read[0].to_str(), read[1].to_str(), read[2].to_str()),
            (Some("web"), Some("db"), None)
        );
    }
}
