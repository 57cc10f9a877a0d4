//! A user's own podman: by the user it is theirs to name, and by root it is meant where the user is named, or where
//! nobody else has such a name and nothing can be lost.

use kit::engines::{Ended, Vessel};

use crate::boot::{Boot, Layout};
use crate::user::User;
use crate::{in_layout, podman};

// Elsewhere a user's containers have no cgroups.
in_layout! { v2 V2:
    a_users_container_is_meant_by_its_user_and_its_name
    a_name_that_one_user_gives_is_good_for_a_thaw_and_not_for_a_freeze
    a_name_that_two_users_give_means_neither
    a_user_means_their_own_containers
    roots_container_is_meant_by_a_name_that_a_user_gives_too
}

const USERS: [u32; 2] = [54_321, 54_322];

#[track_caller]
fn is(ended: &Ended, vessel: &Vessel) {
    let report = ended.is(0, "confirmed");
    assert_eq!(report["id"], *vessel.id, "{report}");
}

/// Freezes and thaws it by a target.
#[track_caller]
fn is_meant_by(boot: &Boot, target: &str, vessel: &Vessel) {
    is(&boot.iceaxe(&["freeze", target, "--json"]), vessel);
    vessel.is_frozen();
    is(&boot.iceaxe(&["thaw", target, "--json"]), vessel);
    vessel.is_thawed();
}

fn a_users_container_is_meant_by_its_user_and_its_name(layout: Layout) {
    let boot = Boot::start(layout);
    let user = User::log_in(&boot, USERS[0]);
    let web = user.container(&boot, "web");
    let targets = [
        format!("user:{}/web", user.name),
        format!("user:{}/web", user.number),
        format!("user:{}/{}", user.number, web.id),
        web.id.clone(),
        format!("id:{}", web.id),
    ];
    for target in targets {
        is_meant_by(&boot, &target, &web);
        let status = boot.status(&target);
        let told = (&status["name"], &status["runtime"]);
        assert_eq!(told, (&"web".into(), &"podman".into()), "{status}");
    }
    for nobody in [
        format!("user:{}/nobody", user.name),
        "user:nobody-at-all/web".to_owned(),
        "user:0/web".to_owned(),
    ] {
        let ended = boot.iceaxe(&["freeze", &nobody]);
        assert!(matches!(ended.code(), Some(2 | 3)), "{ended:?}");
    }
    web.is_thawed();
}

fn a_name_that_one_user_gives_is_good_for_a_thaw_and_not_for_a_freeze(layout: Layout) {
    let boot = Boot::start(layout);
    let user = User::log_in(&boot, USERS[0]);
    let web = user.container(&boot, "web");
    for target in ["web", "name:web"] {
        web.cgroups[0].freeze();
        for verb in ["status", "explain", "path", "thaw"] {
            let ended = boot.iceaxe(&[verb, target]);
            assert_eq!(ended.code(), Some(0), "{verb}: {ended:?}");
            let is_noted = ended.err.contains("note: ") && ended.err.contains("user");
            assert!(is_noted, "{verb}: {ended:?}");
        }
        web.is_thawed();
        for words in [
            &["freeze", target][..],
            &["kill", target],
            &["resync", target],
            &["hold", target, "--", "true"],
        ] {
            let ended = boot.iceaxe(words);
            let code = if words[0] == "hold" { 125 } else { 4 };
            assert!(
                [Some(4), Some(code)].contains(&ended.code()),
                "{words:?}: {ended:?}"
            );
            let forms = [
                format!("user:{}/web", user.name),
                format!("user:{}/web", user.number),
            ];
            let is_said = forms.iter().any(|form| ended.err.contains(form));
            assert!(is_said, "{words:?}: {ended:?}");
        }
        web.is_thawed();
    }
}

fn a_name_that_two_users_give_means_neither(layout: Layout) {
    let boot = Boot::start(layout);
    let users = USERS.map(|number| User::log_in(&boot, number));
    let each = users.each_ref().map(|user| user.container(&boot, "web"));
    for verb in ["thaw", "status", "freeze"] {
        let ended = boot.iceaxe(&[verb, "web"]);
        assert_eq!(ended.code(), Some(4), "{ended:?}");
        for user in &users {
            let forms = [
                format!("user:{}/web", user.name),
                format!("user:{}/web", user.number),
            ];
            let is_said = forms.iter().any(|form| ended.err.contains(form));
            assert!(is_said, "{ended:?}");
        }
    }
    for (user, web) in users.iter().zip(&each) {
        is_meant_by(&boot, &format!("user:{}/web", user.name), web);
    }
}

/// It is they who run iceaxe, and nobody else has to be asked.
fn a_user_means_their_own_containers(layout: Layout) {
    let boot = Boot::start(layout);
    let user = User::log_in(&boot, USERS[0]);
    let web = user.container(&boot, "web");
    for target in ["web", &web.id, &web.id[..12]] {
        is(&user.ended(&boot, &["iceaxe", "freeze", target, "--json"]), &web);
        web.is_frozen();
        is(&user.ended(&boot, &["iceaxe", "thaw", target, "--json"]), &web);
        web.is_thawed();
    }
}

fn roots_container_is_meant_by_a_name_that_a_user_gives_too(layout: Layout) {
    let boot = Boot::start(layout);
    let user = User::log_in(&boot, USERS[0]);
    let theirs = user.container(&boot, "web");
    let roots = podman::container(&boot, "crun", "web");
    for target in ["web", "name:web", &roots.id, &roots.id[..12]] {
        is_meant_by(&boot, target, &roots);
    }
    is_meant_by(&boot, &format!("user:{}/web", user.name), &theirs);
    is_meant_by(&boot, &theirs.id, &theirs);
}
