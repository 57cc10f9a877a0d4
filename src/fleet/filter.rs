//! Which of many containers are meant. The same key given twice means either, different keys mean both, and so do two
//! bounds of a size; what is negated must not be so, however often. Pure: a status in, yes or no out.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use wildmatch::WildMatch;

use crate::error::Error;
use crate::patience::parse_duration;
use crate::report::{Effective, Status};

/// One condition on a container.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    /// As it was written.
    text: String,
    negated: bool,
    test: Test,
}

/// What is asked of it.
#[derive(Debug, Clone, PartialEq)]
enum Test {
    /// It has the label, with this value where one is given.
    Label(String, Option<String>),
    /// Its name, by a pattern with `*` and `?`.
    Name(WildMatch),
    /// Its ID begins so.
    Id(String),
    /// Its runtime is so called.
    Runtime(String),
    /// It is of this pod, `namespace/pod` or the pod's own name.
    Pod(String),
    /// It is of a pod of this namespace.
    Namespace(String),
    /// Its image, by a pattern.
    Image(WildMatch),
    /// What holds its tasks.
    State(Effective),
    /// What its engine believes.
    Believed(String),
    /// Its memory.
    Memory(Than, Amount),
    /// How long it is frozen.
    FrozenFor(Than, Duration),
}

/// Which side of a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Than {
    Less,
    AtMost,
    More,
    AtLeast,
}

/// An amount of memory.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Amount {
    Bytes(u64),
    /// Of the container's limit.
    Percent(f64),
}

impl Than {
    fn holds<T: PartialOrd>(self, value: T, bound: T) -> bool {
        match self {
            Self::Less => value < bound,
            Self::AtMost => value <= bound,
            Self::More => value > bound,
            Self::AtLeast => value >= bound,
        }
    }
}

impl FromStr for Filter {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = |why: &str| Error::Usage(format!("filter \"{}\": {why}", text.escape_debug()));
        let at = text
            .find(['=', '!', '<', '>'])
            .ok_or_else(|| bad("no condition such as name=web, label=key, memory<80%"))?;
        let (key, rest) = text.split_at(at);
        let (sign, value) = ["!=", "<=", ">=", "=", "<", ">"]
            .into_iter()
            .find_map(|sign| Some((sign, rest.strip_prefix(sign)?)))
            .ok_or_else(|| bad("the signs are =, !=, <, <=, > and >="))?;
        let than = match sign {
            "<" => Some(Than::Less),
            "<=" => Some(Than::AtMost),
            ">" => Some(Than::More),
            ">=" => Some(Than::AtLeast),
            _ => None,
        };
        if value.is_empty() {
            return Err(bad("no value"));
        }
        let word = || value.to_owned();
        let test = match (key, than) {
            ("memory", Some(than)) => Test::Memory(
                than,
                amount(value).ok_or_else(|| bad("no amount such as 80%, 512MiB or 2GB"))?,
            ),
            ("frozen-for", Some(than)) => Test::FrozenFor(
                than,
                parse_duration(value).ok_or_else(|| bad("no duration such as 30s, 10m or 2h"))?,
            ),
            ("memory" | "frozen-for", None) => return Err(bad("it is compared by <, <=, > or >=")),
            (_, Some(_)) => return Err(bad("only memory and frozen-for have a size")),
            ("label", None) => match value.split_once('=') {
                Some((label, value)) => Test::Label(label.to_owned(), Some(value.to_owned())),
                None => Test::Label(word(), None),
            },
            ("name", None) => Test::Name(WildMatch::new(value)),
            ("id", None) => Test::Id(value.to_ascii_lowercase()),
            ("runtime", None) => Test::Runtime(word()),
            ("pod", None) => Test::Pod(word()),
            ("namespace", None) => Test::Namespace(word()),
            ("image" | "ancestor", None) => Test::Image(WildMatch::new(value)),
            ("state" | "status", None) => Test::State(match value {
                "frozen" | "paused" => Effective::Frozen,
                "thawed" | "running" => Effective::Thawed,
                "freezing" => Effective::Freezing,
                _ => return Err(bad("the states are frozen, thawed and freezing")),
            }),
            ("believed", None) => Test::Believed(word()),
            _ => {
                return Err(bad(
                    "the keys are label, name, id, runtime, pod, namespace, image, state, believed, memory and frozen-for",
                ));
            }
        };
        Ok(Self {
            text: text.to_owned(),
            negated: sign == "!=",
            test,
        })
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Filter {
    /// Whether a container meets all of `filters`. What is not known of it meets nothing, and no negation of it.
    #[must_use]
    pub fn all_meet(filters: &[Self], status: &Status) -> bool {
        let negations = filters.iter().filter(|filter| filter.negated);
        let meets_negations = negations
            .into_iter()
            .all(|filter| filter.test.holds(status) == Some(false));
        // Of those with the same key one is enough.
        let positive: Vec<&Self> = filters.iter().filter(|filter| !filter.negated).collect();
        let meets_positive = positive.iter().all(|filter| {
            // Two bounds are the ends of a range.
            if matches!(filter.test, Test::Memory(..) | Test::FrozenFor(..)) {
                return filter.test.holds(status) == Some(true);
            }
            let mut same = positive
                .iter()
                .filter(|other| std::mem::discriminant(&other.test) == std::mem::discriminant(&filter.test));
            same.any(|other| other.test.holds(status) == Some(true))
        });
        meets_negations && meets_positive
    }
}

impl Test {
    /// Whether a container is so; `None` where that can't be told.
    fn holds(&self, status: &Status) -> Option<bool> {
        let pod = || status.pod.as_deref();
        Some(match self {
            Self::Label(label, value) => {
                let found = status.labels.as_ref()?.get(label);
                match value {
                    Some(value) => found == Some(value),
                    None => found.is_some(),
                }
            }
            Self::Name(pattern) => pattern.matches(status.name.as_deref()?),
            Self::Id(prefix) => status.id.as_deref()?.to_ascii_lowercase().starts_with(prefix),
            Self::Runtime(name) => status.runtime?.name() == name,
            Self::Pod(name) => {
                let of = pod().unwrap_or_default();
                of == name || of.split_once('/').is_some_and(|(_, own)| own == name)
            }
            Self::Namespace(name) => {
                let of = pod().and_then(|pod| pod.split_once('/'));
                of.is_some_and(|(namespace, _)| namespace == name)
            }
            Self::Image(pattern) => pattern.matches(status.image.as_deref()?),
            Self::State(state) => status.effective? == *state,
            Self::Believed(word) => status.believed?.word() == word,
            Self::Memory(than, amount) => {
                let memory = status.memory?;
                let current = memory.current?;
                match amount {
                    Amount::Bytes(bound) => than.holds(current, *bound),
                    #[expect(clippy::cast_precision_loss, reason = "a share of it is not told to the byte")]
                    Amount::Percent(bound) => {
                        let share = current as f64 * 100.0 / memory.limit.filter(|&limit| limit > 0)? as f64;
                        than.holds(share, *bound)
                    }
                }
            }
            Self::FrozenFor(than, bound) => than.holds(Duration::from_micros(status.frozen_for_us?), *bound),
        })
    }
}

/// Reads `80%`, `1.5GiB`, `512M`, `1000`.
fn amount(text: &str) -> Option<Amount> {
    if let Some(share) = text.strip_suffix('%') {
        let share: f64 = share.parse().ok()?;
        return (share.is_finite() && share >= 0.0).then_some(Amount::Percent(share));
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    // As docker and systemd have it: K is 1024, KB is 1000.
    let unit: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "ki" | "kib" => 1 << 10,
        "m" | "mi" | "mib" => 1 << 20,
        "g" | "gi" | "gib" => 1 << 30,
        "t" | "ti" | "tib" => 1 << 40,
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return None,
    };
    number.checked_mul(unit).map(Amount::Bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Memory;
    use crate::resolver::{Believed, Runtime};
    use proptest::prelude::*;

    fn web() -> Status {
        let mut status = Status::unknown();
        status.id = Some("5978aaee22d5".repeat(5));
        status.name = Some("web-1".to_owned());
        status.runtime = Some(Runtime::Docker);
        status.image = Some("library/nginx:1.27".to_owned());
        status.labels = Some([("auto_resume".to_owned(), "true".to_owned())].into());
        status.pod = Some("prod/web".to_owned());
        status.effective = Some(Effective::Frozen);
        status.believed = Some(Believed::Paused);
        status.memory = Some(Memory {
            current: Some(60 << 20),
            limit: Some(100 << 20),
        });
        status.frozen_for_us = Some(700_000_000);
        status
    }

    fn meets(filters: &[&str]) -> bool {
        let filters: Vec<Filter> = filters.iter().map(|text| text.parse().unwrap()).collect();
        Filter::all_meet(&filters, &web())
    }

    #[test]
    fn each_key_asks_for_what_it_says() {
        for (text, met) in [
            ("label=auto_resume", true),
            ("label=auto_resume=true", true),
            ("label=auto_resume=false", false),
            ("label=other", false),
            ("name=web-1", true),
            ("name=web-*", true),
            ("name=web", false),
            ("id=5978AA", true),
            ("id=78aa", false),
            ("runtime=docker", true),
            ("runtime=podman", false),
            ("pod=prod/web", true),
            ("pod=web", true),
            ("namespace=prod", true),
            ("namespace=web", false),
            ("image=*nginx*", true),
            ("state=frozen", true),
            ("state=thawed", false),
            ("believed=paused", true),
            ("memory<80%", true),
            ("memory<50%", false),
            ("memory>50MiB", true),
            ("memory>=60M", true),
            ("memory>1GB", false),
            ("frozen-for>10m", true),
            ("frozen-for<10m", false),
            ("state!=thawed", true),
            ("name!=web-*", false),
        ] {
            assert_eq!(meets(&[text]), met, "{text}");
        }
    }

    #[test]
    fn the_same_key_means_either_and_another_key_both() {
        assert!(meets(&["name=db", "name=web-*"]));
        assert!(!meets(&["name=db", "runtime=docker"]));
        assert!(meets(&["name=web-*", "runtime=docker"]));
        assert!(!meets(&["name!=db", "name!=web-1"]));
        assert!(meets(&["label=auto_resume", "label=other"]));
        assert!(meets(&["memory>10%", "memory<80%"]));
        assert!(!meets(&["memory>10%", "memory<50%"]));
        assert!(meets(&[]));
    }

    #[test]
    fn what_is_not_known_meets_neither_a_condition_nor_its_negation() {
        let unknown = Status::unknown();
        for text in [
            "label=x",
            "label!=x",
            "name!=x",
            "state!=frozen",
            "memory<80%",
            "memory>=0",
            "frozen-for>=0",
            "image!=x",
        ] {
            let filter: Filter = text.parse().unwrap();
            assert!(!Filter::all_meet(&[filter], &unknown), "{text}");
        }
        // No limit, no share of it.
        let mut free = web();
        free.memory = Some(Memory {
            current: Some(1),
            limit: None,
        });
        assert!(!Filter::all_meet(&["memory<80%".parse().unwrap()], &free));
    }

    #[test]
    fn what_means_nothing_is_an_error_of_usage() {
        for text in [
            "",
            "name",
            "name=",
            "colour=red",
            "name<x",
            "memory=5",
            "memory<",
            "memory<lots",
            "memory<NaN%",
            "frozen-for>soon",
            "state=cold",
            "name!web",
            "memory<99999999999999TiB",
        ] {
            assert!(text.parse::<Filter>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = text.parse::<Filter>(); // only that it returns
        }
    }
}
