//! The end of a thaw: what is proven, what still holds it, and what can be done.

use std::collections::BTreeMap;

use super::Thawing;
use crate::engine::advice;
use crate::engine::scope::{Asked, Scope, written};
use crate::engine::why::{self, Known};
use crate::error::Error;
use crate::host::Host;
use crate::report::{Counts, Outcome, Requested, States, ThawedCounts};
use crate::verifier::{Proof, Sighting, Sightings, Witness};

impl Thawing<'_> {
    /// Says what is so now.
    pub(super) fn verdict(&mut self, host: &Host) {
        let container = self.run.container;
        let scope = match Scope::read(host, container) {
            Ok(scope) if scope.is_gone() => return self.gone(host),
            Ok(mut scope) => {
                self.tell_before(host, &mut scope);
                scope
            }
            Err(error) => return self.abort(host, &error),
        };
        let Sightings {
            seen: mut tasks,
            mut unseen,
        } = self.stragglers(host);
        self.tell_states(host, &scope, &tasks);
        let holders = scope.holders(container);
        let as_before = !scope.requested() && self.is_as_before(&scope, &holders);
        if as_before {
            // Of the others nothing is asked.
            self.proofs.retain(|_, proof| proof.is_settled());
            tasks.clear();
            unseen.clear();
        }
        self.tell_counts();
        self.tell_unprovable(Witness::new(host));
        let known = Known {
            scope: &scope,
            asked: None,
            before: &self.run.before.seen,
        };
        (self.run.report.holdouts, self.suspects) =
            why::holdouts(host, known, &tasks.into_values().collect::<Vec<_>>());
        let unseen = Witness::new(host).describe_unseen(&unseen);
        self.run.report.holdouts.extend(unseen);
        if scope.requested() {
            self.held("still frozen: somebody asked for a freeze again".to_owned());
        } else if as_before {
            self.run.report.end(Outcome::Confirmed);
            let before = scope.holders_in_words(container);
            let hints = &mut self.run.report.hints;
            hints.push(format!("it was frozen by {before} before, and stays so"));
        } else if !holders.is_empty() {
            let holders_in_words = scope.holders_in_words(container);
            self.held(match scope.is_held_from_outside() {
                true => format!("still frozen by {holders_in_words}"),
                false => format!("still frozen inside it: {holders_in_words}"),
            });
            self.tell_holders(&scope, &holders);
        } else if let Some(blind) = &self.blind {
            let error = format!("thawed, but no task is proven to run again: {blind}");
            self.released(error);
        } else {
            self.judge();
        }
        self.run.stamp();
    }

    /// The states of all that was looked at, as they are now.
    fn tell_states(&mut self, host: &Host, scope: &Scope, tasks: &BTreeMap<i32, Sighting>) {
        let container = self.run.container;
        let report = &mut self.run.report;
        report.after = scope.states(container, tasks, host);
        let statuses = scope.statuses(container, tasks, host);
        for (change, status) in report.cgroups.iter_mut().zip(statuses) {
            change.after = States {
                requested: status.requested,
                effective: status.effective,
            };
            change.frozen_by = status.frozen_by;
        }
    }

    /// What is proven of how many tasks.
    fn tell_counts(&mut self) -> ThawedCounts {
        let mut counts = ThawedCounts::default();
        self.proofs.values().for_each(|&proof| counts.add(proof));
        self.run.report.tasks = Some(Counts::Thaw(counts));
        self.run.report.proofs = Some(self.proofs.clone());
        counts
    }

    /// Of which classes those are of which nothing can be proven.
    fn tell_unprovable(&mut self, witness: Witness<'_>) {
        let proofs = self.proofs.iter();
        let unprovable = proofs.filter(|(_, proof)| **proof == Proof::Unprovable);
        let tasks = unprovable.filter_map(|(tid, _)| self.run.before.seen.get(tid));
        let classes = &mut self.run.report.unprovable_classes;
        for task in tasks {
            *classes.entry(witness.class(task).word().to_owned()).or_default() += 1;
        }
    }

    /// What thaws that which still holds it.
    fn tell_holders(&mut self, scope: &Scope, holders: &[String]) {
        let has_inner = scope.inner().next().is_some();
        let hints = &mut self.run.report.hints;
        match (scope.ancestors().next(), holders.first()) {
            (Some(ancestor), _) => hints.push(format!(
                "iceaxe thaw {}, or --ancestors, thaws it and all else below it",
                written(ancestor)
            )),
            (None, Some(holder)) if !has_inner => {
                hints.push(format!("iceaxe thaw {holder} thaws it, and the others in there"));
            }
            _ => {}
        }
        if has_inner {
            hints.push("--recursive also clears the requests of cgroups inside".to_owned());
        }
    }

    /// The end where nothing holds it: it is the tasks' word that counts.
    fn judge(&mut self) {
        let left = self.proofs.values().filter(|proof| !proof.is_settled()).count();
        if left > 0 {
            let total = self.proofs.len();
            self.released(format!(
                "thawed, but {left} of {total} tasks not proven to run again"
            ));
            let report = &mut self.run.report;
            report.hints.push(advice::see_explain(&report.target));
        } else if let Some(missed) = &self.missed {
            let error = format!("thawed, but not every task is proven to run again: {missed}");
            self.released(error);
        } else if self.wrote {
            self.run.report.end(Outcome::Confirmed);
        } else {
            self.run.report.end(Outcome::Unchanged);
        }
    }

    fn held(&mut self, error: String) {
        self.run.report.end(Outcome::Held);
        self.run.report.error = Some(error);
    }

    fn released(&mut self, error: String) {
        self.run.report.end(Outcome::Released);
        self.run.report.error = Some(error);
    }

    /// Whether what was frozen is given back as it was: all that holds it held it before, and who is not proven to run is
    /// held by that.
    fn is_as_before(&self, scope: &Scope, holders: &[String]) -> bool {
        let Some(standing) = self.only else { return false };
        let are_old = !holders.is_empty() && holders.iter().all(|holder| standing.held_by.contains(holder));
        let are_held = || {
            let mut proofs = self.proofs.iter();
            proofs.all(|(tid, proof)| proof.is_settled() || self.held.contains(tid))
        };
        are_old && (scope.is_held_from_outside() || self.blind.is_none() && are_held())
    }

    /// Its cgroup was removed after the write, which takes that it was empty: its tasks ended, or were moved.
    pub(super) fn gone(&mut self, host: &Host) {
        let witness = Witness::new(host);
        let before = &self.run.before;
        let all: Vec<i32> = before.seen.keys().chain(&before.unseen).copied().collect();
        let looked = witness.look_at_all(all.iter().copied());
        for tid in all {
            let proof = match looked.unseen.contains(&tid) {
                true => Proof::Unknown, // it is there and can't be read
                false => self.judged(tid, looked.seen.get(&tid), witness),
            };
            self.proofs.insert(tid, proof);
        }
        let counts = self.tell_counts();
        let report = &mut self.run.report;
        report.end(Outcome::Ended);
        report
            .hints
            .push("the container is gone: its cgroup was removed".to_owned());
        if counts.exited < counts.total {
            report
                .hints
                .push("some of its tasks live on in another cgroup".to_owned());
        }
        self.run.stamp();
    }

    /// An error on the way: what was written is in the report, and what its own cgroups ask now is read once more. Where
    /// they ask no more it is thawed, whatever could not be looked at, unless another cgroup is seen to hold it.
    pub(super) fn abort(&mut self, host: &Host, error: &Error) {
        let standing = Asked::read(self.run.container).told();
        if self.wrote && standing == Some(false) {
            // Where it can't be read nothing more is told.
            if let Ok(mut scope) = Scope::read(host, self.run.container) {
                self.tell_before(host, &mut scope);
                self.tell_states(host, &scope, &BTreeMap::new());
                let holders = scope.holders(self.run.container);
                if !holders.is_empty() {
                    let words = scope.holders_in_words(self.run.container);
                    self.held(format!(
                        "still frozen by {words}; not all could be looked at: {error}"
                    ));
                    self.tell_holders(&scope, &holders);
                }
            }
            self.tell_counts();
            self.run.report.after.requested = Some(Requested::Thawed);
            if self.run.report.outcome != Outcome::Held {
                self.released(format!(
                    "thawed, but whether its tasks run again can't be told: {error}"
                ));
            }
            self.run.stamp();
            return;
        }
        self.run.fail(error);
        if self.wrote {
            self.run.report.end(Outcome::Error);
        }
        let report = &mut self.run.report;
        report.after.requested = standing.map(Requested::of);
        match standing {
            Some(false) => report
                .hints
                .push("none of its own cgroups asks for a freeze now".to_owned()),
            Some(true) if self.kicks > 0 => {
                report.end(Outcome::Stuck);
                report.hints.push(
                    "it was frozen again to wake a task that was left behind, and still asks for it"
                        .to_owned(),
                );
            }
            Some(true) => report.hints.push("it still asks for a freeze".to_owned()),
            None => report
                .hints
                .push("whether it still asks for a freeze could not be read".to_owned()),
        }
    }
}
