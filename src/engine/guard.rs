//! One container in a few calls, for programs and tests: what is frozen through a [`Frozen`] comes back, also when
//! the program panics, as long as a panic unwinds (`panic = "abort"` runs no drop).

use std::fmt;

use super::{FreezeOptions, Holders, KillOptions, Step, ThawOptions, explain, freeze, kill, status, thaw};
use crate::error::Result;
use crate::freezer::Standing;
use crate::host::Host;
use crate::patience::Patience;
use crate::report::{Explanation, Report, Status};
use crate::resolver::{self, Container, Nesting, target::Target};

impl Host {
    /// Finds the container that `target` means, written as on the command line.
    ///
    /// # Errors
    ///
    /// As [`resolver::resolve`].
    pub fn resolve(&self, target: &str) -> Result<Handle<'_>> {
        let parsed = Target::parse(target.as_ref())?;
        let found = resolver::resolve(self, &parsed, Nesting::Refuse)?;
        Ok(Handle {
            host: self,
            target: target.to_owned(),
            container: found.container,
        })
    }
}

/// A container on a host.
#[derive(Debug)]
pub struct Handle<'h> {
    host: &'h Host,
    target: String,
    container: Container,
}

impl Handle<'_> {
    /// Its cgroups and who it is.
    #[must_use]
    pub fn container(&self) -> &Container {
        &self.container
    }

    /// Requested, effective and observed.
    ///
    /// # Errors
    ///
    /// Its cgroups are gone or can't be read.
    pub fn status(&self) -> Result<Status> {
        status(self.host, &self.container, None).map(|(status, _)| status)
    }

    /// Freezes it; returns when that is proven. A container that was frozen before stays as it is when the result is
    /// dropped.
    ///
    /// # Errors
    ///
    /// [`NotConfirmed`]: the requests are as before, unless its report says that they could not be put back.
    pub fn freeze(&self, patience: Patience<'_>) -> std::result::Result<Frozen<'_>, NotConfirmed> {
        let mut standing = None;
        let set = [(self.target.as_str(), &self.container)];
        let reports = freeze(
            self.host,
            &set,
            &FreezeOptions::default(),
            patience,
            &mut |_, _, step| {
                if let Step::Standing(before) = step {
                    standing = Some(before.clone());
                }
            },
        );
        confirmed(reports).map(|report| Frozen {
            handle: self,
            report,
            standing,
        })
    }

    /// Thaws it; returns when each task is proven to have left the freezer.
    ///
    /// # Errors
    ///
    /// [`NotConfirmed`]: its report says which task is not proven to run, or what still holds it.
    pub fn thaw(&self, patience: Patience<'_>) -> std::result::Result<Report, NotConfirmed> {
        let set = [(self.target.as_str(), &self.container)];
        confirmed(thaw(
            self.host,
            &set,
            ThawOptions::default(),
            patience,
            &mut |_, _, _| {},
        ))
    }

    /// Ends it, frozen or not, and proves that its cgroups are empty. What no runtime is known to have made is refused.
    ///
    /// # Errors
    ///
    /// [`NotConfirmed`]: its report says which task is not gone, or why nothing was done.
    pub fn kill(&self, patience: Patience<'_>) -> std::result::Result<Report, NotConfirmed> {
        let set = [(self.target.as_str(), &self.container)];
        confirmed(kill(
            self.host,
            &set,
            &KillOptions::default(),
            patience,
            &mut |_, _, _| {},
        ))
    }

    /// Why it is as it is: who holds it, which task is not as asked, what to do.
    ///
    /// # Errors
    ///
    /// Its cgroups are gone or can't be read.
    pub fn explain(&self) -> Result<Explanation> {
        explain(
            self.host,
            &self.target,
            &self.container,
            None,
            &Holders::read(self.host),
        )
    }
}

fn confirmed(reports: Vec<Report>) -> std::result::Result<Report, NotConfirmed> {
    // One target in, one report out; none would be a bug, and is no success.
    let report = reports
        .into_iter()
        .next()
        .unwrap_or_else(|| Report::blank("", ""));
    if report.exit() == 0 {
        Ok(report)
    } else {
        Err(NotConfirmed(Box::new(report)))
    }
}

/// A container that is proven to be frozen. Dropping it puts back what stood before.
#[derive(Debug)]
#[must_use = "dropping it thaws the container at once"]
pub struct Frozen<'h> {
    handle: &'h Handle<'h>,
    report: Report,
    /// What stood before; `None` where nothing was changed.
    standing: Option<Standing>,
}

impl Frozen<'_> {
    /// The proof.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Thaws it, and proves that.
    ///
    /// # Errors
    ///
    /// As [`Handle::thaw`].
    pub fn thaw(self, patience: Patience<'_>) -> std::result::Result<Report, NotConfirmed> {
        self.handle.thaw(patience)
    }

    /// Leaves it frozen.
    pub fn keep(mut self) -> Report {
        self.standing = None;
        self.report.clone()
    }
}

impl Drop for Frozen<'_> {
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

/// A freeze or a thaw that did not end in what was wanted.
#[derive(Debug)]
pub struct NotConfirmed(pub Box<Report>);

impl fmt::Display for NotConfirmed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = self.0.error.as_deref().unwrap_or("not confirmed");
        write!(f, "cannot {} {}: {why}", self.0.verb, self.0.target)
    }
}

impl std::error::Error for NotConfirmed {}
