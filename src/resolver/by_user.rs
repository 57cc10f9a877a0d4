//! Containers of users: what a user's own engines have on record below `/run/user` and in the user's home, and the
//! cgroups that are the user's. All of it is that user's word, and may name only what is theirs.

use super::answer::{no_such, only, unsure};
use super::beside::{Reading, beside};
use super::by_id::Reading as Meant;
use super::check::{self, by_record};
use super::container::{Found, Located};
use super::lookup::Resolver;
use super::names;
use super::passwd::number;
use super::runtime::Runtime;
use super::runtime::names::{Holder, Names};
use super::runtime::roots;
use super::state::Budget;
use super::target::{Inner, is_full_id, is_hex, is_id};
use super::traces::{Traces, by_claim, locate_of_users};
use crate::error::{Error, Result};
use crate::host::Host;

/// The container of one user that `inner` means to the user's engines.
pub(super) fn of_user(resolver: &Resolver<'_>, written: &str, inner: &Inner) -> Result<Found> {
    let host = resolver.host;
    let user = number(host, written)?;
    if user == 0 {
        return Err(Error::Usage(
            "root's containers are written without \"user:\"".to_owned(),
        ));
    }
    let word = inner.word();
    let stores = Stores::start(host, &[user], word);
    let records = roots::of_user(host, user);
    let mut unread = Vec::new();
    let listing = records.names()(roots::LIMIT).unwrap_or_else(|error| {
        unread.push(error.to_string());
        roots::Listing::default()
    });
    unread.extend(listing.incomplete);
    let located = |id: &str, traces: &mut Vec<Located>, unread: &mut Vec<String>| match records
        .record(id, roots::LIMIT)
    {
        Ok(all) => {
            for located in all
                .into_iter()
                .map(|record| record.and_then(|record| by_record(host, record)))
            {
                match located {
                    Ok(located) => traces.push(located),
                    Err(Error::NotRunning(_)) => {}
                    Err(error) => unread.push(error.to_string()),
                }
            }
        }
        Err(error) => unread.push(error.to_string()),
    };
    let mut live = Vec::new();
    let mut is_known = false;
    let ids: Vec<&String> = listing.ids.iter().map(|(id, _)| id).collect();
    if inner.may_be_an_id() && is_id(word.as_bytes()) && ids.iter().any(|id| *id == word) {
        is_known = true;
        located(word, &mut live, &mut unread);
    }
    let claims = resolver.census().claims(word).iter();
    for claim in claims
        .filter(|claim| claim.trust.user() == Some(user))
        .take(MOST_CLAIMS)
    {
        let mut traces = Traces::default();
        by_claim(host, claim, &mut traces);
        live.extend(
            traces
                .live
                .into_iter()
                .filter(|located| inner.may_be_a_name() || located.identity.name.is_none()),
        );
    }
    if live.is_empty() && inner.may_be_a_name() {
        let names = stores.answered(&mut unread);
        for (_, holder) in names
            .iter()
            .flat_map(|(user, names)| names.of(word).iter().map(move |one| (user, one)))
        {
            let Holder::Id { id, runtime, .. } = holder else {
                continue;
            };
            is_known = true;
            let before = live.len();
            located(id, &mut live, &mut unread);
            name(&mut live[before..], word, *runtime);
        }
    }
    if live.is_empty() && inner.may_be_an_id() && is_hex(word.as_bytes()) {
        for id in ids
            .iter()
            .filter(|id| is_full_id(id.as_bytes()) && id.starts_with(word))
        {
            is_known = true;
            located(id, &mut live, &mut unread);
        }
    }
    live.retain(|located| check::is_users(user, &located.first).unwrap_or(false)); // it is gone
    if !live.is_empty() {
        return only(resolver, word, live);
    }
    if !unread.is_empty() {
        return Err(unsure(word, &unread, Vec::new()));
    }
    Err(match is_known {
        true => Error::NotRunning(format!("user {user}'s \"{}\"", word.escape_debug())),
        false => no_such(word),
    })
}

/// So many cgroups of one name are looked at.
const MOST_CLAIMS: usize = 16;

fn name(live: &mut [Located], name: &str, runtime: Runtime) {
    for located in live {
        located.identity.name = Some(name.to_owned());
        located.identity.runtime.get_or_insert(runtime);
    }
}

/// What a word means to the engines of any users.
pub(super) fn called(resolver: &Resolver<'_>, word: &str, reading: Meant) -> Traces {
    let host = resolver.host;
    let census = resolver.census();
    let users = roots::users(host).unwrap_or_default(); // what can't be listed is told of where all IDs are listed
    let stores = Stores::start(host, &users, word);
    let mut all = match reading {
        Meant::Any => locate_of_users(host, census, word),
        Meant::Name => Traces::default(),
    };
    // A user's stores that can't be read make nothing uncertain but that user's own.
    for (user, names) in stores.answered(&mut Vec::new()) {
        for holder in names.of(word) {
            let Holder::Id { id, runtime, .. } = holder else {
                continue;
            };
            let mut traces = locate_of_users(host, census, id);
            traces.live.retain(|located| {
                let is_theirs = check::is_users(user, &located.first).unwrap_or(false); // it is gone
                located.identity.trust.user() == Some(user) && is_theirs
            });
            name(&mut traces.live, word, *runtime);
            all.extend(traces);
        }
    }
    all
}

/// The stores of users' engines, which are read each in a thread of its own: a user can have anything mounted there.
struct Stores(Vec<(u32, Reading<Names>)>);

impl Stores {
    /// Begins to look for a name in those of `users`.
    fn start(host: &Host, users: &[u32], word: &str) -> Self {
        let budget = std::sync::Arc::new(Budget::default());
        let each = users.iter().map(|&user| {
            let wanted = std::collections::BTreeSet::from([word.to_owned()]);
            let budget = std::sync::Arc::clone(&budget);
            (
                user,
                beside(host, move |host| names::of_user(host, user, &wanted, &budget)),
            )
        });
        Self(each.collect())
    }

    /// Waits for them; adds to `unread` what could not be read.
    fn answered(self, unread: &mut Vec<String>) -> Vec<(u32, Names)> {
        let each = self
            .0
            .into_iter()
            .filter_map(|(user, reading)| match reading.wait() {
                Some(names) => {
                    unread.extend(names.unsure.iter().chain(&names.torn).cloned());
                    Some((user, names))
                }
                None => {
                    unread.push(format!(
                        "the stores of user {user}'s engines could not be read in time"
                    ));
                    None
                }
            });
        each.collect()
    }
}
