//! Containers in a few calls, for programs and tests. What a [`Frozen`] froze ends as it was before: thawed with proof by
//! [`Frozen::thaw`], put back when the value is dropped, also by a panic that unwinds (`panic = "abort"` runs no drop).

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::engine::{self, FreezeOptions, Holders, KillOptions, Step, ThawOptions};
use crate::error::{Error, Force, Result};
use crate::freezer::Saved;
use crate::host::Host;
use crate::patience::Patience;
use crate::report::{Explanation, Outcome, Report, Requested, Status, Verb};
use crate::resolver::{self, Container, Nesting, target::Target};
use crate::verifier::Proof;

impl Host {
    /// Finds the container that `target` means, written as on the command line: a name, an ID, `pid:123`, a pod.
    ///
    /// # Errors
    ///
    /// As [`resolver::resolve`].
    pub fn container(&self, target: &str) -> Result<Handle> {
        let found = resolver::resolve(self, &Target::parse(target.as_ref())?, Nesting::Refuse)?;
        Ok(self.handle(target.to_owned(), found.container))
    }

    /// Opens the cgroup of a directory below a cgroup mount, such as `/sys/fs/cgroup/my-test`. Its path need not be UTF-8, and is
    /// never taken for a container's name.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] for a path that is not absolute, or not below a cgroup mount; [`Error::NotFound`] where there is no such
    /// cgroup; [`Error::Unsupported`] where the caller may not look.
    pub fn cgroup(&self, dir: impl AsRef<Path>) -> Result<Handle> {
        let dir = dir.as_ref();
        let container = resolver::resolve_directory(self, dir)?;
        Ok(self.handle(dir.display().to_string(), container))
    }

    fn handle(&self, target: String, container: Container) -> Handle {
        Handle {
            host: self.clone(),
            target,
            container: Arc::new(container),
            lifted: Vec::new(),
        }
    }

    /// Freezes several containers as one: where one can't be frozen, or is gone, none of them stays frozen. A safety rule is lifted
    /// for the containers whose handles lift it.
    ///
    /// # Errors
    ///
    /// [`NotAllConfirmed`], with a report on each.
    pub fn freeze_all<'h, 'p>(
        &self,
        handles: impl IntoIterator<Item = &'h Handle>,
        limit: impl Into<Patience<'p>>,
    ) -> std::result::Result<Vec<Frozen>, NotAllConfirmed> {
        let handles: Vec<&Handle> = handles.into_iter().collect();
        let set: Vec<(&str, &Container)> = handles
            .iter()
            .map(|handle| (handle.target.as_str(), &*handle.container))
            .collect();
        if let Some(reports) = refused(&handles, &set) {
            return Err(NotAllConfirmed(reports));
        }
        let options = FreezeOptions {
            force: handles.iter().flat_map(|handle| handle.lifted.clone()).collect(),
            ..FreezeOptions::default()
        };
        let mut standing = vec![None; set.len()];
        let mut reports = engine::freeze(self, &set, &options, limit.into(), &mut |index, _, step| {
            if let Step::Saved(before) = step {
                standing[index] = Some(before.clone());
            }
        });
        if !reports.iter().all(|report| report.outcome.is_success()) {
            // The engine rolls back what can't be frozen. Where one is gone, the others were frozen all the same.
            for (report, saved) in reports.iter_mut().zip(&standing) {
                if report.outcome.is_success() {
                    take_back(self, report, saved.as_ref());
                }
            }
            return Err(NotAllConfirmed(reports));
        }
        let all = handles.into_iter().zip(reports).zip(standing);
        Ok(all
            .map(|((handle, report), standing)| Frozen {
                handle: handle.clone(),
                report,
                standing,
            })
            .collect())
    }
}

/// The reports on a set of which a container is protected by a rule that its own handle does not lift; `None` where there is none.
fn refused(handles: &[&Handle], set: &[(&str, &Container)]) -> Option<Vec<Report>> {
    let check = |handle: &&Handle| {
        let (point, identity) = (handle.container.freeze_point(), &handle.container.identity);
        engine::check_safety(&handle.host, point, identity, &handle.lifted).err()
    };
    let refusals: Vec<Option<Error>> = handles.iter().map(check).collect();
    let is_refusal = |error: &&Error| matches!(error, Error::Refused { .. });
    // A container that is gone, or can't be looked at, is the engine's to tell of.
    let first = refusals.iter().flatten().find(is_refusal)?.to_string();
    let mut reports = engine::skip(set, &first);
    for (report, refusal) in reports.iter_mut().zip(refusals) {
        if let Some(error) = refusal {
            report.end(engine::untouched_end(&error));
            report.error = Some(error.to_string());
            report.hints = error.hints();
        }
    }
    Some(reports)
}

/// Puts back what stood before a freeze that was confirmed, as another of its set was not.
fn take_back(host: &Host, report: &mut Report, saved: Option<&Saved>) {
    let Some(saved) = saved.filter(|saved| !saved.requested) else {
        return; // it was frozen before, and stays so
    };
    let (outcome, end) = match engine::put_back(host, saved) {
        Ok(()) => (Outcome::RolledBack, "rolled back".to_owned()),
        Err(error) => (
            Outcome::Stuck,
            format!("and it could not be rolled back: {error}"),
        ),
    };
    report.end(outcome);
    report.error = Some(format!("another container of the set is gone; {end}"));
}

/// A container or a cgroup on a host, held open: a later one of the same name is never meant. Copies mean the same one.
#[derive(Debug, Clone)]
pub struct Handle {
    host: Host,
    target: String,
    container: Arc<Container>,
    lifted: Vec<Force>,
}

impl Handle {
    /// Its cgroups and who it is.
    #[must_use]
    pub fn container(&self) -> &Container {
        &self.container
    }

    /// Lifts a safety rule for the freezes by this handle.
    #[must_use]
    pub fn lifting(mut self, rule: Force) -> Self {
        self.lifted.push(rule);
        self
    }

    /// Requested, effective and observed.
    ///
    /// # Errors
    ///
    /// Its cgroups are gone or can't be read.
    pub fn status(&self) -> Result<Status> {
        engine::status(&self.host, &self.container, None).map(|(status, _)| status)
    }

    /// Freezes it; returns when that is proven. A container that was frozen before stays so at the end of the value.
    ///
    /// # Errors
    ///
    /// [`NotConfirmed`]: the requests are as before, unless its report says that they could not be put back.
    pub fn freeze<'p>(&self, limit: impl Into<Patience<'p>>) -> std::result::Result<Frozen, NotConfirmed> {
        match self.host.freeze_all([self], limit) {
            Ok(frozen) => frozen
                .into_iter()
                .next()
                .ok_or_else(|| one(Verb::Freeze, Vec::new())),
            Err(NotAllConfirmed(reports)) => Err(one(Verb::Freeze, reports)),
        }
    }

    /// Thaws it, whoever asked for its freeze; returns when each task is proven to have left the freezer.
    ///
    /// # Errors
    ///
    /// [`NotConfirmed`]: its report says which task is not proven to run, or what still holds it.
    pub fn thaw<'p>(&self, limit: impl Into<Patience<'p>>) -> std::result::Result<Report, NotConfirmed> {
        let options = ThawOptions::default();
        confirmed(
            Verb::Thaw,
            engine::thaw(
                &self.host,
                &[self.named()],
                options,
                limit.into(),
                &mut |_, _, _| {},
            ),
        )
    }

    /// Ends it, frozen or not, and proves that its cgroups are empty. What no runtime is known to have made is refused.
    ///
    /// # Errors
    ///
    /// [`NotConfirmed`]: its report says which task is not gone, or why nothing was done.
    pub fn kill<'p>(&self, limit: impl Into<Patience<'p>>) -> std::result::Result<Report, NotConfirmed> {
        let options = KillOptions::default();
        confirmed(
            Verb::Kill,
            engine::kill(
                &self.host,
                &[self.named()],
                &options,
                limit.into(),
                &mut |_, _, _| {},
            ),
        )
    }

    /// Why it is as it is: who holds it, which task is not as asked, what to do.
    ///
    /// # Errors
    ///
    /// Its cgroups are gone or can't be read.
    pub fn explain(&self) -> Result<Explanation> {
        let holders = Holders::read(&self.host);
        engine::explain(&self.host, &self.target, &self.container, None, &holders)
    }

    fn named(&self) -> (&str, &Container) {
        (&self.target, &self.container)
    }
}

fn confirmed(verb: Verb, reports: Vec<Report>) -> std::result::Result<Report, NotConfirmed> {
    match reports.into_iter().next() {
        Some(report) if report.outcome.is_success() => Ok(report),
        report => Err(one(verb, report.into_iter().collect())),
    }
}

/// The report on the one target that was asked for. None would be a bug, and is no success.
fn one(verb: Verb, reports: Vec<Report>) -> NotConfirmed {
    NotConfirmed(Box::new(
        reports
            .into_iter()
            .next()
            .unwrap_or_else(|| Report::blank(verb, "")),
    ))
}

/// A container that is proven to be frozen. The end of the value leaves the container as it was before.
#[derive(Debug)]
#[must_use = "dropping it thaws the container at once"]
pub struct Frozen {
    handle: Handle,
    report: Report,
    /// What stood before; `None` where nothing was changed.
    standing: Option<Saved>,
}

impl Frozen {
    /// The proof.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Each task of the container, by its TID, and what the freeze proves of it.
    pub fn tasks(&self) -> impl Iterator<Item = (i32, Proof)> {
        self.report
            .proofs
            .iter()
            .flatten()
            .map(|(tid, proof)| (*tid, *proof))
    }

    /// Puts back what stood before and proves it: a container that ran before runs again, and one that was frozen before stays
    /// so, which is [`Outcome::Unchanged`].
    ///
    /// # Errors
    ///
    /// As [`Handle::thaw`].
    pub fn thaw<'p>(mut self, limit: impl Into<Patience<'p>>) -> std::result::Result<Report, NotConfirmed> {
        let handle = self.handle.clone();
        let Some(standing) = &self.standing else {
            let mut report = Report::blank(Verb::Thaw, &handle.target);
            report.end(Outcome::Unchanged);
            return Ok(report);
        };
        let (target, container) = handle.named();
        let held = [(target, container, standing)];
        let thawed = confirmed(
            Verb::Thaw,
            engine::release(&handle.host, &held, limit.into(), &mut |_, _, _| {}),
        );
        let is_cleared = |report: &Report| report.after.requested == Some(Requested::Thawed);
        if thawed
            .as_ref()
            .map_or_else(|error| is_cleared(&error.0), |_| true)
        {
            // A request that is there now is somebody else's, and not the drop's to clear.
            self.standing = None;
        }
        thawed
    }

    /// Leaves it frozen.
    pub fn keep(mut self) -> Report {
        self.standing = None;
        self.report.clone()
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let own = &self.handle.container.own;
        if let Some(standing) = &self.standing
            && let Some(cgroup) = own.iter().find(|cgroup| cgroup.id() == standing.id)
        {
            // Nobody to tell is left in a drop. It fails only where the cgroup is gone or the mount read-only by now.
            let _ = standing.put_back(cgroup);
        }
    }
}

/// A freeze, a thaw or a kill that did not end in what was wanted.
#[derive(Debug)]
pub struct NotConfirmed(pub Box<Report>);

impl fmt::Display for NotConfirmed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        tell(f, &self.0)
    }
}

impl std::error::Error for NotConfirmed {}

/// A freeze of several that did not end in what was wanted, with a report on each: none of them stays frozen, unless its report
/// says that it could not be put back.
#[derive(Debug)]
pub struct NotAllConfirmed(pub Vec<Report>);

impl fmt::Display for NotAllConfirmed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.iter().find(|report| !report.outcome.is_success()) {
            Some(report) => tell(f, report),
            None => f.write_str("cannot freeze: not confirmed"),
        }
    }
}

impl std::error::Error for NotAllConfirmed {}

fn tell(f: &mut fmt::Formatter<'_>, report: &Report) -> fmt::Result {
    let why = report.error.as_deref().unwrap_or("not confirmed");
    write!(f, "cannot {} {}: {why}", report.verb, report.target)
}
