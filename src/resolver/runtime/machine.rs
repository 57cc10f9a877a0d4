//! systemd's registry of machines, `/run/systemd/machines/<name>`: nspawn's containers and others', with their unit,
//! their first process and their root directory.

use std::path::PathBuf;

use super::details::{Details, noted};
use super::kind::Runtime;
use super::pattern::{Home, IdKind, pattern};
use super::row::{DetailsQuery, RuntimeRow};
use crate::error::Result;
use crate::host::Host;
use crate::resolver::state::StateDir;

/// The row of systemd's machines.
pub(super) static ROW: RuntimeRow = RuntimeRow {
    patterns: &[
        pattern("machine-", IdKind::Name, ".scope", Home::Machines).with_level("payload"),
        pattern("systemd-nspawn@", IdKind::Name, ".service", Home::Machines).with_level("payload"),
    ],
    leaves_record: false,
    details: Some(add_to),
    ..RuntimeRow::of(Runtime::Machine)
};

/// The fields that are read of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Machine {
    /// The unit that it is in, which names its cgroup.
    pub(crate) unit: Option<String>,
    /// The machine's first process.
    pub(crate) leader: Option<i32>,
    /// The machine's root directory.
    pub(crate) root: Option<PathBuf>,
}

/// The entry of a name; `None` where there is none.
///
/// # Errors
///
/// The entry is there and can't be read.
pub(crate) fn machine(host: &Host, name: &str) -> Result<Option<Machine>> {
    let Some(dir) = StateDir::open(&host.path("/run/systemd/machines"))? else {
        return Ok(None);
    };
    // Beside each is a link from its unit, which is no name of it.
    if name.starts_with("unit:") {
        return Ok(None);
    }
    let Some(file) = dir.read(name)? else {
        return Ok(None);
    };
    Ok(Some(parse(&String::from_utf8_lossy(&file.text))))
}

fn parse(text: &str) -> Machine {
    let field = |name: &str| {
        let mut fields = text.lines().rev().filter_map(|line| line.split_once('='));
        fields
            .find(|(key, _)| *key == name)
            .map(|(_, value)| unescaped(value))
    };
    // Older versions call it the scope.
    let unit = field("UNIT").or_else(|| field("SCOPE"));
    Machine {
        unit: unit.filter(|unit| !unit.is_empty()),
        leader: field("LEADER").and_then(|leader| leader.parse().ok()), // not running yet
        root: field("ROOT").map(PathBuf::from),
    }
}

/// Undoes what systemd does to a backslash or a quote in such a file. Its escapes of other bytes stay: a unit's name is
/// compared with them in it.
fn unescaped(value: &str) -> String {
    let mut out = String::new();
    let mut rest = value.trim_matches('"');
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let mut after = rest[at + 1..].chars();
        match after.next() {
            Some(c @ ('\\' | '"' | '\'')) => out.push(c),
            Some(c) => out.extend(['\\', c]),
            None => out.push('\\'),
        }
        rest = after.as_str();
    }
    out + rest
}

/// Adds what the entry of a machine says.
fn add_to(known: &DetailsQuery<'_>, details: &mut Details) {
    let (host, name) = (known.host, known.id);
    details.name = Some(name.to_owned());
    if let Some(machine) = noted(details, machine(host, name)) {
        details.rootfs = machine.root;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_unit_leader_and_root() {
        let text = "# This is private data. Do not parse.\nNAME=labr-m1\nSCOPE=machine-labr\\\\x2dm1.scope\nLEADER=772\nROOT=/srv/m1\n";
        let machine = parse(text);
        assert_eq!(machine.unit.as_deref(), Some("machine-labr\\x2dm1.scope"));
        assert_eq!(
            (machine.leader, machine.root),
            (Some(772), Some(PathBuf::from("/srv/m1")))
        );
        assert_eq!(parse("LEADER=x\n\u{0}=\n").leader, None);
    }

    #[test]
    fn escapes_are_undone_whatever_follows() {
        for (value, expected) in [
            ("a\\\\b", "a\\b"),
            ("a\\", "a\\"),
            ("\\é", "\\é"),
            ("\"q\"", "q"),
            ("", ""),
        ] {
            assert_eq!(unescaped(value), expected, "{value}");
        }
    }
}
