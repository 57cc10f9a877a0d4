//! The entry: which way a target is looked for.

use std::path::Path;

use super::answer::described;
use super::container::{Container, Found, found};
use super::lookup::{Nesting, Resolver};
use super::target::{self, Target};
use super::{by_id, by_path, by_pid, by_pod, by_user, by_word};
use crate::error::{Error, Result};
use crate::host::Host;

impl Resolver<'_> {
    /// Finds the container that `target` means; of a pod all its containers.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::NotRunning`]; [`Error::Ambiguous`] where it means more than one or may do so;
    /// [`Error::Unsupported`] where the hierarchy is missing or the caller may not look.
    pub fn resolve(&self, target: &Target, nesting: Nesting) -> Result<Vec<Found>> {
        let host = self.host;
        host.check_freezer()?;
        // Names are looked for all at once, and this one was not among them.
        if target.name().is_some_and(|name| !self.wanted.contains(&name)) {
            let resolver = Resolver::new(host, [target]).with_purpose(self.purpose);
            return resolver.resolve(target, nesting);
        }
        let one = match target {
            Target::Pod(pod) => return by_pod::by_pod(self, pod),
            Target::Bare(word) => by_word::bare(self, word),
            Target::Id(id) => by_id::by_id(self, id),
            Target::Name(name) => by_word::by_name(self, name),
            Target::User(user, inner) => by_user::of_user(self, user, inner),
            Target::Pid(pid) => by_pid::by_pid(self, *pid, nesting),
            Target::In(hierarchy, path) => {
                by_path::by_cgroup(host, *hierarchy, target::trimmed(path)).map(found)
            }
            Target::Cgroup(path) => by_path::by_path_or_directory(self, target::trimmed(path)).map(found),
            Target::Path(path) => by_path::by_directory(self, target::trimmed(path)),
        }?;
        if !matches!(target, Target::In(..) | Target::Cgroup(_) | Target::Path(_)) {
            one.container.may_be_acted_on()?;
        }
        Ok(vec![one])
    }
}

/// Finds the one container that `target` means.
///
/// # Errors
///
/// As [`Resolver::resolve`]; [`Error::Ambiguous`] for a pod of several containers.
pub fn resolve(host: &Host, target: &Target, nesting: Nesting) -> Result<Found> {
    let mut all = Resolver::new(host, [target]).resolve(target, nesting)?;
    match (all.pop(), all.is_empty()) {
        (Some(one), true) => Ok(one),
        (Some(one), false) => {
            all.push(one);
            Err(Error::Ambiguous {
                why: format!("it means {} containers", all.len()),
                candidates: all.iter().map(|one| described(&one.container, true).1).collect(),
            })
        }
        (None, _) => Err(Error::NotFound("it means none".to_owned())),
    }
}

/// Finds the cgroup that a directory is. Unlike [`resolve`] it takes no path for a name with a slash in front.
///
/// # Errors
///
/// [`Error::Usage`] for a path that is not absolute, or not below a cgroup mount; [`Error::NotFound`]; else as
/// [`Resolver::resolve`].
pub(crate) fn resolve_directory(host: &Host, dir: &Path) -> Result<Container> {
    if !dir.is_absolute() {
        return Err(Error::Usage(format!("{} is not an absolute path", dir.display())));
    }
    host.check_freezer()?;
    by_path::by_directory_alone(host, target::trimmed(dir))
}
