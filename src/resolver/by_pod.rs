//! From the name of a Kubernetes pod to its containers: all that run an application, or one of them.

use std::collections::{BTreeMap, BTreeSet};

use super::answer::{completed, described, uncertain};
use super::container::{Found, Located, found};
use super::lookup::Resolver;
use super::matches::locate;
use super::runtime::Runtime;
use super::runtime::record::Pod;
use super::runtime::{docker, kube};
use super::target::is_full_id;
use super::timeout::with_timeout;
use crate::error::{Error, Result};
use crate::host::Host;

/// The containers of `namespace/pod`, or the one of `namespace/pod/container`.
pub(super) fn by_pod(resolver: &Resolver<'_>, written: &str) -> Result<Vec<Found>> {
    let mut parts = written.split('/');
    let (Some(namespace), Some(name), wanted) = (parts.next(), parts.next(), parts.next()) else {
        return Err(Error::Usage(format!("\"{written}\" names no pod"))); // it was checked when it was read
    };
    let host = resolver.host;
    let asked = (namespace.to_owned(), name.to_owned());
    let on_disk = with_timeout(host, move |host| on_disk(host, &asked.0, &asked.1));
    let index = resolver.index();
    // By their IDs: what the annotations say of those that have a record, else the disk's word.
    let mut theirs: BTreeMap<String, Option<String>> = BTreeMap::new();
    let mut sandboxes = Vec::new();
    let mut unread = index.incomplete.clone();
    for (id, _) in index.ids() {
        let record = match index.records(host, id).into_iter().next() {
            Some(Ok(record)) if record.trust.is_full() => record,
            // A record that can't be read hides no pod's container, unless its cgroup is in a pod's.
            Some(Err(error)) if index.is_in_a_pod(id) => {
                unread.push(error.to_string());
                continue;
            }
            _ => continue,
        };
        match record.about.pod() {
            Some(pod) if pod.namespace == namespace && pod.name == name => {
                if record.about.is_sandbox() {
                    sandboxes.push(id.to_owned());
                } else {
                    theirs.insert(id.to_owned(), pod.container);
                }
            }
            _ => {}
        }
    }
    match on_disk.wait() {
        Some(Ok(pods)) => {
            for (id, pod) in pods {
                let id = match whole(resolver, &id) {
                    Whole::One(id) => id,
                    Whole::Gone => continue, // its log is still there
                    Whole::Several => {
                        unread.push(format!(
                            "the log's name has only {id} of the ID, which several begin with"
                        ));
                        continue;
                    }
                };
                match pod.container {
                    None => sandboxes.push(id),
                    Some(container) => {
                        theirs.entry(id).or_insert(Some(container));
                    }
                }
            }
        }
        Some(Err(error)) => unread.push(error.to_string()),
        None => unread.push("the logs' names in /var/log/containers could not be read in time".to_owned()),
    }
    theirs.retain(|id, container| {
        !sandboxes.contains(id) && wanted.is_none_or(|wanted| container.as_deref() == Some(wanted))
    });
    let mut live: Vec<(Located, Option<String>)> = Vec::new();
    let mut dead = Vec::new();
    for (id, container) in &theirs {
        let matches = locate(host, index, id);
        if matches.live.is_empty() {
            unread.extend(matches.unread());
        }
        dead.extend(matches.dead);
        live.extend(
            matches
                .live
                .into_iter()
                .map(|located| (located, container.clone())),
        );
    }
    if !unread.is_empty() {
        let ids: Vec<&str> = live
            .iter()
            .filter_map(|(located, _)| located.identity.id.as_deref())
            .collect();
        return Err(uncertain(written, &unread, resolver.candidates(&ids)));
    }
    finished(resolver, written, wanted.is_some(), live, dead)
}

fn finished(
    resolver: &Resolver<'_>,
    written: &str,
    one: bool,
    live: Vec<(Located, Option<String>)>,
    dead: Vec<Error>,
) -> Result<Vec<Found>> {
    let mut all: Vec<Found> = Vec::new();
    for (located, name) in live {
        let mut container = completed(resolver.host, located)?;
        if let Some(why) = container.identity.runtime.and_then(Runtime::refusal) {
            return Err(Error::Unsupported(format!("{written}: {why}")));
        }
        container.identity.name = container.identity.name.or(name);
        if all
            .iter()
            .all(|known| known.container.freeze_point().id() != container.freeze_point().id())
        {
            all.push(found(container));
        }
    }
    let mut names = BTreeSet::new();
    let twice = all
        .iter()
        .map(|one| one.container.identity.name.as_deref())
        .any(|name| name.is_some() && !names.insert(name));
    match all.len() {
        0 => Err(dead.into_iter().next().unwrap_or_else(|| {
            Error::NotFound(format!("no container of a pod \"{}\"", written.escape_debug()))
        })),
        n if (one && n > 1) || twice => Err(Error::Ambiguous {
            why: format!("\"{written}\" means {n} containers, of pods of the same name"),
            candidates: all.iter().map(|one| described(&one.container, true).1).collect(),
        }),
        _ => Ok(all),
    }
}

/// The whole ID that a link's stands for.
fn whole(resolver: &Resolver<'_>, id: &str) -> Whole {
    if is_full_id(id.as_bytes()) {
        return Whole::One(id.to_owned());
    }
    // Cut short by the length of the names.
    let mut fits = resolver.index().full_ids(resolver.host, id).into_iter();
    match (fits.next(), fits.next()) {
        (Some(one), None) => Whole::One(one),
        (None, _) => Whole::Gone,
        _ => Whole::Several,
    }
}

/// The whole IDs that the ID of a link can stand for.
enum Whole {
    One(String),
    Gone,
    Several,
}

/// The containers of a pod by their logs' links and by docker's names, each with its ID.
fn on_disk(host: &Host, namespace: &str, name: &str) -> Result<Vec<(String, Pod)>> {
    let links = kube::links(host, namespace, name)?;
    let mut all: Vec<(String, Pod)> = links.into_iter().map(|link| (link.id, link.pod)).collect();
    for root in docker::data_roots(host)? {
        for (id, called) in docker::names_with(&root, &format!("_{name}_{namespace}_"))? {
            all.extend(
                kube::of_docker_name(&called)
                    .filter(|pod| pod.name == name && pod.namespace == namespace)
                    .map(|pod| (id, pod)),
            );
        }
    }
    Ok(all)
}
