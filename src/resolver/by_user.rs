//! Containers of users: what a user's own engines have on record below `/run/user` and in the user's home, and the
//! cgroups that are the user's. All of it is that user's word, and may name only what is theirs.

use super::answer::{no_such, only, uncertain};
use super::by_id::Reading;
use super::check::{self, by_record};
use super::container::{Found, Located};
use super::lookup::Resolver;
use super::matches::{Matches, by_claim, locate_of_users};
use super::names;
use super::passwd::number;
use super::runtime::Runtime;
use super::runtime::names::{NameHolder, Names};
use super::runtime::roots;
use super::state::Budget;
use super::target::{UserTarget, is_full_id, is_hex, is_id};
use super::timeout::{Awaited, with_timeout};
use crate::error::{Error, Result};
use crate::host::Host;

/// The container of one user that `inner` means to the user's engines.
pub(super) fn of_user(resolver: &Resolver<'_>, written: &str, inner: &UserTarget) -> Result<Found> {
    let host = resolver.host;
    let user = number(host, written)?;
    if user == 0 {
        return Err(Error::Usage(
            "root's containers are written without \"user:\"".to_owned(),
        ));
    }
    let word = inner.word();
    let stores = UserStores::start(host, &[user], word);
    let records = roots::of_user(host, user);
    let mut unread = Vec::new();
    let listing = records.names()(roots::LIMIT).unwrap_or_else(|error| {
        unread.push(error.to_string());
        roots::RecordListing::default()
    });
    unread.extend(listing.incomplete);
    let located = |id: &str, matches: &mut Vec<Located>, unread: &mut Vec<String>| match records
        .record(id, roots::LIMIT)
    {
        Ok(all) => {
            for located in all
                .into_iter()
                .map(|record| record.and_then(|record| by_record(host, record)))
            {
                match located {
                    Ok(located) => matches.push(located),
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
    let claims = resolver.index().claims(word).iter();
    for claim in claims
        .filter(|claim| claim.trust.user() == Some(user))
        .take(MOST_CLAIMS)
    {
        let mut matches = Matches::default();
        by_claim(host, claim, &mut matches);
        live.extend(
            matches
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
            let NameHolder::Id { id, runtime, .. } = holder else {
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
        return Err(uncertain(word, &unread, Vec::new()));
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

/// Finds the containers that a word means to the engines of any users.
pub(super) fn called(resolver: &Resolver<'_>, word: &str, reading: Reading) -> Matches {
    let host = resolver.host;
    let index = resolver.index();
    let users = roots::users(host).unwrap_or_default(); // what can't be listed is told of where all IDs are listed
    let stores = UserStores::start(host, &users, word);
    let mut all = match reading {
        Reading::Any => locate_of_users(host, index, word),
        Reading::Name => Matches::default(),
    };
    // A user's stores that can't be read make nothing uncertain but that user's own.
    for (user, names) in stores.answered(&mut Vec::new()) {
        for holder in names.of(word) {
            let NameHolder::Id { id, runtime, .. } = holder else {
                continue;
            };
            let mut matches = locate_of_users(host, index, id);
            matches.live.retain(|located| {
                let is_theirs = check::is_users(user, &located.first).unwrap_or(false); // it is gone
                located.identity.trust.user() == Some(user) && is_theirs
            });
            name(&mut matches.live, word, *runtime);
            all.extend(matches);
        }
    }
    all
}

/// The stores of users' engines, which are read each in a thread of its own: a user can have anything mounted there.
struct UserStores(Vec<(u32, Awaited<Names>)>);

impl UserStores {
    /// Begins to look for a name in those of `users`.
    fn start(host: &Host, users: &[u32], word: &str) -> Self {
        let budget = std::sync::Arc::new(Budget::default());
        let each = users.iter().map(|&user| {
            let wanted = std::collections::BTreeSet::from([word.to_owned()]);
            let budget = std::sync::Arc::clone(&budget);
            (
                user,
                with_timeout(host, move |host| names::of_user(host, user, &wanted, &budget)),
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
                    unread.extend(names.unread_sources.iter().chain(&names.unread_records).cloned());
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
