//! A made-up host with what targets mean on it, and the one place that asks the resolver.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt;
use std::path::Path;

use iceaxe::cgroup::Cgroup;
use iceaxe::host::Hierarchy;
use iceaxe::resolver::target::Target;
use iceaxe::resolver::{Found, Nesting, Purpose, Resolver};
use iceaxe::{Error, Host};

use crate::kit::{MadeUp, spelled};

/// What the resolver says of a target that is to be frozen, which may end in ` --outer` or ` --inner` as on the command line.
pub(crate) fn ask(host: &Host, typed: &str) -> iceaxe::Result<Vec<Found>> {
    ask_for(host, typed, Purpose::Freeze)
}

/// What the resolver says of a target that is to be thawed, or looked at.
pub(crate) fn ask_to_look(host: &Host, typed: &str) -> iceaxe::Result<Vec<Found>> {
    ask_for(host, typed, Purpose::Look)
}

fn ask_for(host: &Host, typed: &str, purpose: Purpose) -> iceaxe::Result<Vec<Found>> {
    let (target, nesting) = match typed.rsplit_once(" --") {
        Some((target, "outer")) => (target, Nesting::Outer),
        Some((target, "inner")) => (target, Nesting::Inner),
        _ => (typed, Nesting::Refuse),
    };
    let target = Target::parse(OsStr::new(target))?;
    Resolver::new(host, [&target])
        .with_purpose(purpose)
        .resolve(&target, nesting)
}

/// The cgroup's place, in the form that a target is written in.
pub(crate) fn written(cgroup: &Cgroup) -> String {
    format!("v{}:{}", cgroup.hierarchy().version(), cgroup.path().display())
}

/// What a container is expected to be.
#[derive(Debug, Clone)]
pub(crate) struct Expected {
    runtime: Option<String>,
    id: Option<String>,
    name: Option<String>,
    freeze_at: String,
    own: BTreeSet<String>,
    shared: BTreeSet<String>,
    is_sandbox: bool,
}

/// A container of `runtime` with this ID, frozen at `place`, `v1:/docker/ID1`, which is its only cgroup.
pub(crate) fn container(runtime: &str, id: &str, place: &str) -> Expected {
    Expected {
        runtime: Some(runtime.to_owned()),
        id: Some(spelled(id)),
        name: None,
        freeze_at: spelled(place),
        own: BTreeSet::from([spelled(place)]),
        shared: BTreeSet::new(),
        is_sandbox: false,
    }
}

impl Expected {
    /// It has this cgroup too.
    pub(crate) fn and(mut self, place: &str) -> Self {
        self.own.insert(spelled(place));
        self
    }

    /// Its tasks are in this cgroup, which others use too.
    pub(crate) fn in_shared(mut self, place: &str) -> Self {
        self.shared.insert(spelled(place));
        self
    }

    /// It was found by this name.
    pub(crate) fn named(&self, name: &str) -> Self {
        let name = Some(spelled(name));
        Self { name, ..self.clone() }
    }

    /// Who its runtime is can't be told.
    pub(crate) fn of_whichever_runtime(self) -> Self {
        Self {
            runtime: None,
            ..self
        }
    }

    /// Known by its name alone.
    pub(crate) fn without_id(self) -> Self {
        Self { id: None, ..self }
    }

    pub(crate) fn sandbox(self) -> Self {
        Self {
            is_sandbox: true,
            ..self
        }
    }

    /// Where a freeze is to write.
    pub(crate) fn freeze_at(&self) -> &str {
        &self.freeze_at
    }

    /// Its ID.
    pub(crate) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Whether a place is its own.
    pub(crate) fn is_own(&self, place: &str) -> bool {
        self.own.contains(place)
    }

    /// What of `found` is not as expected.
    fn differs(&self, found: &Found) -> Option<String> {
        let container = &found.container;
        let identity = &container.identity;
        let places = |cgroups: &[Cgroup]| cgroups.iter().map(written).collect::<BTreeSet<_>>();
        let mut wrong = Vec::new();
        let mut check = |what: &str, found: &dyn fmt::Debug, expected: &dyn fmt::Debug, same: bool| {
            if !same {
                wrong.push(format!("{what} is {found:?} and not {expected:?}"));
            }
        };
        let at = written(container.freeze_point());
        check("the freeze point", &at, &self.freeze_at, at == self.freeze_at);
        let own = places(&container.own);
        check("its own", &own, &self.own, own == self.own);
        let shared = places(&container.shared);
        check("shared", &shared, &self.shared, shared == self.shared);
        let runtime = identity.runtime.map(|runtime| runtime.to_string());
        for (what, found, expected) in [
            ("the runtime", &runtime, &self.runtime),
            ("the ID", &identity.id, &self.id),
            ("the name", &identity.name, &self.name),
        ] {
            check(what, found, expected, expected.is_none() || found == expected);
        }
        let (is, should) = (identity.is_sandbox, self.is_sandbox);
        check("whether it is a sandbox", &is, &should, is == should);
        (!wrong.is_empty()).then(|| wrong.join(", "))
    }
}

/// What a target means.
#[derive(Debug, Clone)]
pub(crate) enum Meaning {
    /// These containers, with these words in the notes. Where the record that gives them the name is lost, it can only be
    /// one of the last.
    Is(Vec<Expected>, Vec<String>, Vec<Expected>),
    /// This one, or an error: more can't be asked for.
    AtMost(Expected),
    /// Any error. Where a mutated record makes it mean something, it can only be one of these.
    Refused(Vec<Expected>),
    /// An error of this kind with these words in it and in its hints. Where a mutated record may make it certain, it
    /// can only be one of these.
    Fails(&'static str, Vec<String>, Vec<Expected>),
}

/// A host and what is promised of it.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) host: MadeUp,
    pub(crate) promises: Vec<(String, Meaning)>,
}

impl Scene {
    pub(crate) fn of(host: MadeUp) -> Self {
        Self {
            host,
            promises: Vec::new(),
        }
    }

    fn promise(mut self, typed: &str, meaning: Meaning) -> Self {
        self.promises.push((spelled(typed), meaning));
        self
    }

    /// `typed` means one container.
    pub(crate) fn means(self, typed: &str, expected: &Expected) -> Self {
        self.promise(typed, Meaning::Is(vec![expected.clone()], Vec::new(), Vec::new()))
    }

    /// Each of several targets means the same one.
    pub(crate) fn all_mean(self, typed: &[&str], expected: &Expected) -> Self {
        typed
            .iter()
            .fold(self, |scene, typed| scene.means(typed, expected))
    }

    /// `typed` means one container, and a note says that it could mean another.
    pub(crate) fn means_rather_than(self, typed: &str, expected: &Expected, other: &Expected) -> Self {
        let words = other.id().map(str::to_owned).into_iter().collect();
        self.promise(
            typed,
            Meaning::Is(vec![expected.clone()], words, vec![other.clone()]),
        )
    }

    /// `typed` means one container, with these words in a note.
    pub(crate) fn means_with_a_note(self, typed: &str, expected: &Expected, words: &[&str]) -> Self {
        let words = words.iter().map(|word| spelled(word)).collect();
        self.promise(typed, Meaning::Is(vec![expected.clone()], words, Vec::new()))
    }

    /// `typed` means several containers.
    pub(crate) fn means_each(self, typed: &str, expected: &[&Expected]) -> Self {
        let each = expected.iter().map(|&one| one.clone()).collect();
        self.promise(typed, Meaning::Is(each, Vec::new(), Vec::new()))
    }

    /// `typed` is refused or means this container, never another.
    pub(crate) fn means_at_most(self, typed: &str, expected: &Expected) -> Self {
        self.promise(typed, Meaning::AtMost(expected.clone()))
    }

    /// `typed` means none, for a reason with these words.
    pub(crate) fn fails(self, typed: &str, kind: &'static str, words: &[&str]) -> Self {
        let words = words.iter().map(|word| spelled(word)).collect();
        self.promise(typed, Meaning::Fails(kind, words, Vec::new()))
    }

    /// The same, where a damaged record could bring out that it is this one after all.
    pub(crate) fn fails_or(self, typed: &str, kind: &'static str, words: &[&str], really: &Expected) -> Self {
        let words = words.iter().map(|word| spelled(word)).collect();
        self.promise(typed, Meaning::Fails(kind, words, vec![really.clone()]))
    }

    /// `typed` means none, whatever the reason.
    pub(crate) fn refuses(self, typed: &str) -> Self {
        self.promise(typed, Meaning::Refused(Vec::new()))
    }

    /// The same, where a record that is damaged the right way could mean what its owner may name.
    pub(crate) fn refuses_or(self, typed: &str, harmless: &[&Expected]) -> Self {
        let harmless = harmless.iter().map(|&one| one.clone()).collect();
        self.promise(typed, Meaning::Refused(harmless))
    }

    /// `typed` may mean each of several, which are named.
    pub(crate) fn can_mean(self, typed: &str, each: &[&Expected], words: &[&str]) -> Self {
        let words = words.iter().map(|word| spelled(word)).collect();
        let each = each.iter().map(|&one| one.clone()).collect();
        self.promise(typed, Meaning::Fails("Ambiguous", words, each))
    }

    /// Asks for everything and tells every broken promise at once.
    #[track_caller]
    pub(crate) fn holds(&self) {
        let broken = self.broken();
        let text = broken.join("\n");
        assert!(broken.is_empty(), "{}", readable(&text, self.host.root()));
    }

    /// The promises that are broken, and how.
    pub(crate) fn broken(&self) -> Vec<String> {
        assert!(!self.promises.is_empty(), "nothing is promised");
        let host = self.host.open();
        let broken = self.promises.iter().filter_map(|(typed, meaning)| {
            let answer = ask(&host, typed);
            Some(format!("{typed}: {}", meaning.broken_by(&answer)?))
        });
        broken.collect()
    }
}

impl Meaning {
    /// Every container that it can mean, whatever records are damaged.
    pub(crate) fn candidates(&self) -> &[Expected] {
        match self {
            Self::Is(each, ..) | Self::Fails(_, _, each) | Self::Refused(each) => each,
            Self::AtMost(one) => std::slice::from_ref(one),
        }
    }

    /// What it can mean besides where a record is lost.
    pub(crate) fn second_best(&self) -> &[Expected] {
        match self {
            Self::Is(_, _, each) => each,
            _ => &[],
        }
    }

    /// What of an answer is not as promised.
    fn broken_by(&self, answer: &iceaxe::Result<Vec<Found>>) -> Option<String> {
        match (self, answer) {
            (Self::Is(expected, notes, _), Ok(found)) => {
                if expected.len() != found.len() {
                    let found: Vec<_> = found
                        .iter()
                        .map(|one| written(one.container.freeze_point()))
                        .collect();
                    return Some(format!("means {found:?}, and {} are expected", expected.len()));
                }
                let mut left: Vec<&Found> = found.iter().collect();
                for one in expected {
                    let at = left
                        .iter()
                        .position(|found| written(found.container.freeze_point()) == one.freeze_at);
                    let found = left.remove(at.unwrap_or(0));
                    if let Some(difference) = one.differs(found) {
                        return Some(difference);
                    }
                }
                let said: String = found.iter().flat_map(|one| one.notes.clone()).collect();
                let missing: Vec<_> = notes.iter().filter(|word| !said.contains(*word)).collect();
                (!missing.is_empty()).then(|| format!("its notes say {said:?}, without {missing:?}"))
            }
            (Self::AtMost(expected), Ok(found)) => match found.as_slice() {
                [one] => expected.differs(one),
                _ => Some(format!("means {} containers", found.len())),
            },
            (Self::AtMost(_), Err(_)) => None,
            (Self::Is(..), Err(error)) => Some(format!("fails with {}: {}", kind(error), told(error))),
            (Self::Refused(_), Err(_)) => None,
            (Self::Fails(..) | Self::Refused(_), Ok(found)) => {
                let found: Vec<_> = found
                    .iter()
                    .map(|one| written(one.container.freeze_point()))
                    .collect();
                Some(format!("means {found:?}, and should not"))
            }
            (Self::Fails(expected, words, _), Err(error)) => {
                let told = told(error);
                if kind(error) != *expected {
                    return Some(format!("fails with {} and not {expected}: {told}", kind(error)));
                }
                let missing: Vec<_> = words.iter().filter(|word| !told.contains(*word)).collect();
                (!missing.is_empty()).then(|| format!("says {told:?}, without {missing:?}"))
            }
        }
    }
}

/// The variant of an error.
pub(crate) fn kind(error: &Error) -> &'static str {
    match error {
        Error::Usage(_) => "Usage",
        Error::NotFound(_) => "NotFound",
        Error::NotRunning(_) => "NotRunning",
        Error::Ambiguous { .. } => "Ambiguous",
        Error::Unsupported(_) => "Unsupported",
        Error::Refused { .. } => "Refused",
        Error::Gone(_) => "Gone",
        Error::Io { .. } => "Io",
        _ => "a kind of error that these tests do not know",
    }
}

/// An error with what it hints at.
pub(crate) fn told(error: &Error) -> String {
    let mut told = error.to_string();
    if let Error::Ambiguous { candidates, .. } = error {
        for candidate in candidates {
            told += &format!("\n  {candidate}");
        }
    }
    told
}

/// A text in which the IDs are short and the host's own directory is none.
pub(crate) fn readable(text: &str, root: &Path) -> String {
    let text = text.replace(&root.display().to_string(), "");
    ["ID1", "ID2", "ID3", "ID4", "PODID"]
        .iter()
        .fold(text, |text, word| text.replace(&spelled(word), word))
}

/// The hierarchy and the path of a place.
pub(crate) fn parts(place: &str) -> (Hierarchy, &str) {
    match place.split_once(':') {
        Some(("v1", path)) => (Hierarchy::V1, path),
        Some(("v2", path)) => (Hierarchy::V2, path),
        _ => panic!("{place} is no place"),
    }
}
