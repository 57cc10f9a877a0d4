//! Why a container is as it is: who holds it, which task is not as asked, what that means, and what to do. Writes
//! nothing.

use std::collections::BTreeSet;

use super::advice;
use super::holders::Holders;
use super::scope::{Scope, asking, written};
use super::why::{self, Known, Watch};
use super::{look, look_again, status};
use crate::cgroup::{Cgroup, CgroupId};
use crate::error::Result;
use crate::host::{Hierarchy, Host};
use crate::report::{Effective, Explanation, Holder, Holds, Requested, Status, Verb};
use crate::resolver::{Container, Details, target};
use crate::verifier::{Class, Holdout, On, Place, Sighting, Witness};

/// Says why a container is as it is; `details` is what its engine has on record, `holders` what iceaxe has.
///
/// # Errors
///
/// As [`status()`].
pub fn explain(
    host: &Host,
    target: &str,
    container: &Container,
    details: Option<&Details>,
    holders: &Holders,
) -> Result<Explanation> {
    let first = look(host, container)?;
    let (mut status, _) = status(host, container, details)?;
    let now = look_again(host, container)?;
    let scope = Scope::read(host, container)?;
    let ids: Vec<CgroupId> = container.own.iter().map(Cgroup::id).collect();
    holders.add_to(&ids, &mut status);
    scope
        .ancestors()
        .for_each(|ancestor| holders.add_through(ancestor, &mut status));
    let known = Known {
        scope: &scope,
        asked: scope.asked(container),
        before: &first.seen,
    };
    let witness = Witness::new(host);
    let frozen = status.effective == Some(Effective::Frozen);
    let is_odd = |task: &&Sighting| is_odd(witness.place(task), &status, frozen, known.asked);
    let (mut holdouts, suspects) = why::holdouts(host, known, now.seen.values().filter(is_odd));
    holdouts.extend(witness.describe_unseen(&now.unseen));
    why::second_look(host, Watch::Closely, [(&mut holdouts, suspects)]);
    // A task that only runs, with nothing asked, is not in anybody's way.
    let asks = status.effective != Some(Effective::Thawed);
    let is_usual = |class| {
        matches!(
            class,
            Class::Running
                | Class::Sleeping
                | Class::Exiting
                | Class::Arriving
                | Class::Unknown
                | Class::Spinning
        )
    };
    holdouts.retain(|task| asks || !is_usual(task.class));
    let arriving = now
        .seen
        .keys()
        .filter(|tid| !first.seen.contains_key(tid) && !first.unseen.contains(tid))
        .count();
    let dying = why::dying(host, &now.seen, None);
    let held_by = held_by(container, &scope);
    // A process can be in several containers, one inside the other, and ends.
    let meant = match target.strip_prefix("pid:") {
        Some(_) => {
            let own = container.freeze_point();
            target::cgroup(own.hierarchy(), own.path())
        }
        None => target.to_owned(),
    };
    // Who waits for a file system of FUSE waits for a process, which may be frozen itself. Which one serves it the kernel does
    // not say.
    let waits_for_fuse = |task: &Holdout| task.on == Some(On::Fuse);
    let others = match holdouts.iter().any(waits_for_fuse) {
        true => frozen_elsewhere(host, container, &scope, holders),
        false => Vec::new(),
    };
    let ladder = advice::advise(
        &meant,
        &advice::Facts {
            status: &status,
            held_by: &held_by,
            holdouts: &holdouts,
            others: &others,
            root: known
                .asked
                .and_then(|asked| host.mount(asked))
                .map(|mount| mount.dir.as_path()),
        },
    );
    Ok(Explanation {
        verb: Verb::Explain,
        target: target.to_owned(),
        frozen_at_most_us: container
            .own
            .iter()
            .find(|own| own.hierarchy() == Hierarchy::V2)
            .and_then(why::frozen_total_us),
        status,
        held_by,
        holdouts,
        arriving: u32::try_from(arriving).unwrap_or(u32::MAX),
        dying,
        ladder,
    })
}

/// What else asks for a freeze on this host, as a target is written, or as it was typed where iceaxe froze it.
fn frozen_elsewhere(host: &Host, container: &Container, scope: &Scope, holders: &Holders) -> Vec<String> {
    let concerns = scope.ancestors().chain(scope.inner()).map(|asking| asking.id);
    let ours: BTreeSet<CgroupId> = container.own.iter().map(Cgroup::id).chain(concerns).collect();
    let asking = asking(host).into_iter().flatten(); // what can't be looked at is not named
    let others = asking.filter(|cgroup| !ours.contains(&cgroup.id));
    let named = others.map(|cgroup| match holders.target(cgroup.id) {
        Some(target) => target.to_owned(),
        None => written(&cgroup),
    });
    named.collect()
}

/// Whether a task is worth a word: it is not as asked, or does not go on by a thaw alone.
fn is_odd(place: Place, status: &Status, frozen: bool, asked: Option<Hierarchy>) -> bool {
    match place {
        Place::Trap | Place::Refrigerator | Place::InPlace => {
            let is_asked = status.requested == Some(Requested::Frozen) || !status.frozen_by.is_empty();
            !is_asked || (!frozen && asked.is_some_and(|asked| place.frozen_by() != Some(asked)))
        }
        Place::Dead => false,
        Place::Asleep | Place::FreezableSleep => !frozen,
        Place::Running
        | Place::Vfork
        | Place::Stopped
        | Place::Traced
        | Place::Uninterruptible
        | Place::Unseen => true,
    }
}

fn held_by(container: &Container, scope: &Scope) -> Vec<Holder> {
    let own = container.own.iter().zip(&scope.own);
    let own = own
        .filter(|(_, around)| around.as_ref().is_some_and(|around| around.requested))
        .map(|(cgroup, _)| (Holds::Own, target::cgroup(cgroup.hierarchy(), cgroup.path())));
    let ancestors = scope.ancestors().map(|cgroup| (Holds::Ancestor, written(cgroup)));
    let inner: BTreeSet<String> = scope.inner().map(written).collect();
    let known: Vec<String> = scope.ancestors().map(written).collect();
    let shared = scope
        .holders(container)
        .into_iter()
        .filter(|name| !inner.contains(name) && !known.contains(name))
        .map(|name| (Holds::Shared, name));
    let below = inner.iter().map(|name| (Holds::Inner, name.clone()));
    own.chain(ancestors)
        .chain(shared)
        .chain(below)
        .map(|(kind, cgroup)| Holder { kind, cgroup })
        .collect()
}
