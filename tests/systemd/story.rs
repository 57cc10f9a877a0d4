//! What is the same with every engine: who paused a container is wedged or dead and iceaxe thaws it, and what iceaxe
//! freezes the engine can thaw.

use std::collections::BTreeSet;
use std::path::PathBuf;

use kit::engines::Vessel;
use kit::tasks_add_up;
use serde_json::Value;

use crate::boot::Boot;

/// What is typed for a container: a word for the form, and the form.
pub(crate) type Form = (&'static str, fn(&Vessel) -> String);

pub(crate) const NAME: Form = ("name", |vessel| vessel.name.clone());
pub(crate) const NAME_OUTRIGHT: Form = ("name-outright", |vessel| format!("name:{}", vessel.name));
pub(crate) const PID: Form = ("pid", |vessel| format!("pid:{}", vessel.pid));
/// The forms for engines that give their containers IDs of 64 digits.
pub(crate) const FORMS: [Form; 5] = [
    NAME,
    ("full-id", |vessel| vessel.id.clone()),
    ("prefix", |vessel| vessel.id[..9].to_owned()),
    ("id-outright", |vessel| format!("id:{}", vessel.id)),
    PID,
];
/// Those for engines whose names are all there is.
pub(crate) const NAMES: [Form; 3] = [NAME, NAME_OUTRIGHT, PID];

/// Has the engine pause it, and checks by the kernel's files that this froze one cgroup, the very one where iceaxe
/// would freeze.
#[track_caller]
pub(crate) fn pause(boot: &Boot, vessel: &Vessel, by_the_engine: impl FnOnce()) {
    let place = pause_somewhere(boot, vessel, by_the_engine);
    assert_eq!(place, path(boot, vessel), "where the engine froze {vessel:?}");
}

/// Has the engine pause it, and checks by the kernel's files that this froze one cgroup, which is returned.
#[track_caller]
pub(crate) fn pause_somewhere(boot: &Boot, vessel: &Vessel, by_the_engine: impl FnOnce()) -> PathBuf {
    let before = boot.asking();
    by_the_engine();
    let after = boot.asking();
    let frozen: Vec<&PathBuf> = after.difference(&before).collect();
    let [place] = frozen[..] else {
        panic!("{frozen:?} frozen for {vessel:?}");
    };
    assert!(vessel.cgroups[0].is_frozen(), "{vessel:?}");
    vessel.stands();
    place.clone()
}

/// Where iceaxe says that it would freeze.
#[track_caller]
fn path(boot: &Boot, vessel: &Vessel) -> PathBuf {
    boot.iceaxe(&["path", &vessel.name]).well().into()
}

/// Thaws each by its form, and checks by the kernel's files and its beats that it and it alone came back.
#[track_caller]
pub(crate) fn thaw_each(boot: &Boot, runtime: &str, forms: &[Form], vessels: &[Vessel]) {
    assert_eq!(forms.len(), vessels.len());
    for ((form, target), vessel) in forms.iter().zip(vessels) {
        let before = boot.asking();
        vessel.stands();
        let report = boot
            .iceaxe(&["thaw", &target(vessel), "--json"])
            .is(0, "confirmed");
        is_of(&report, runtime, vessel);
        assert_eq!(report["before"]["effective"], "frozen", "{form}: {report}");
        assert_eq!(report["after"]["effective"], "thawed", "{form}: {report}");
        // The shell and its sleeper.
        let all = report["tasks"]["total"].as_u64().unwrap();
        tasks_add_up(&report, &[(&["ran", "restored", "exited", "new"], all)]);
        vessel.goes_on();
        let after = boot.asking();
        let cleared: Vec<_> = before.difference(&after).collect();
        assert_eq!(cleared.len(), 1, "{form} cleared {cleared:?}");
        assert!(after.is_subset(&before), "{form}: {after:?}");
    }
    assert!(boot.asking().is_empty(), "{:?}", boot.asking());
}

/// Freezes it by its name, and checks by the kernel's files that this is so, at one place alone.
#[track_caller]
pub(crate) fn freeze(boot: &Boot, runtime: &str, vessel: &Vessel) {
    let report = boot
        .iceaxe(&["freeze", &vessel.name, "--json"])
        .is(0, "confirmed");
    is_of(&report, runtime, vessel);
    assert_eq!(report["after"]["effective"], "frozen", "{report}");
    assert_eq!(boot.asking(), BTreeSet::from([path(boot, vessel)]), "{report}");
    assert!(vessel.cgroups[0].is_frozen(), "{vessel:?}");
    vessel.stands();
}

/// Checks that it runs, and that nobody asks for anything else.
#[track_caller]
pub(crate) fn is_thawed(boot: &Boot, vessel: &Vessel) {
    assert!(boot.asking().is_empty(), "{:?}", boot.asking());
    vessel.goes_on();
}

/// Checks whom a report is about.
#[track_caller]
fn is_of(report: &Value, runtime: &str, vessel: &Vessel) {
    let found = (&report["runtime"], &report["id"], &report["name"]);
    let expected = (
        &Value::from(runtime),
        &Value::from(&*vessel.id),
        &Value::from(&*vessel.name),
    );
    assert_eq!(found, expected, "{report}");
}
