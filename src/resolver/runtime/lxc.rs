//! LXC: a container is a name. Its cgroup bears it, `lxc.payload.NAME`, with a number behind it where an empty one of
//! that name was in the way; its configuration can put it elsewhere. What state it is in LXC keeps in memory alone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::details::{Details, noted};
use super::kind::Runtime;
use super::names::{ConfiguredPlace, NameHolder, Names};
use super::pattern::{Home, IdKind, pattern};
use super::row::{DetailsQuery, NameSource, RuntimeRow};
use crate::error::Result;
use crate::host::Host;
use crate::resolver::state::StateDir;

/// The row of LXC.
pub(super) static ROW: RuntimeRow = RuntimeRow {
    patterns: &[pattern("lxc.payload.", IdKind::Name, "", Home::Root)],
    parents: &["lxc"],
    leaves_record: false,
    names: Some(NameSource {
        called: "LXC's configurations",
        read: names,
    }),
    details: Some(add_to),
    ..RuntimeRow::of(Runtime::Lxc)
};

/// The most files that one configuration is made of, includes and all.
const MOST_FILES: usize = 64;

/// The settings of a container that place its cgroup and its root file system.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct LxcConfig {
    /// `lxc.cgroup.dir`: below what.
    dir: Option<PathBuf>,
    /// `lxc.cgroup.dir.container`: where, whatever the name.
    container: Option<PathBuf>,
    /// `lxc.cgroup.dir.container.inner`: below it, in which the tasks are. LXC freezes the one above.
    inner: Option<PathBuf>,
    /// `lxc.rootfs.path`.
    rootfs: Option<PathBuf>,
}

impl LxcConfig {
    /// The root file system, where it is a directory and nothing that LXC mounts.
    pub(crate) fn rootfs(&self) -> Option<PathBuf> {
        let text = self.rootfs.as_ref()?.to_str()?;
        let path = Path::new(text.strip_prefix("dir:").unwrap_or(text));
        path.is_absolute().then(|| path.to_owned())
    }

    /// The place of the cgroup, if it does not follow from the name.
    pub(crate) fn place(&self) -> Option<ConfiguredPlace> {
        // Slash by slash: one at the end is none.
        let path = Path::new("/")
            .join(self.container.as_ref()?)
            .components()
            .collect::<PathBuf>();
        Some(ConfiguredPlace {
            inner: self
                .inner
                .as_ref()
                .map(|inner| path.join(inner.strip_prefix("/").unwrap_or(inner))),
            path,
        })
    }
}

/// The directories with one directory per container: `lxc.lxcpath` of the administrator's settings, and the usual one.
pub(crate) fn roots(host: &Host) -> Result<Vec<StateDir>> {
    let mut roots = vec![host.path("/var/lib/lxc")];
    if let Some(etc) = StateDir::open(&host.path("/etc/lxc"))?
        && let Some(file) = etc.read_config("lxc.conf")?
    {
        let text = String::from_utf8_lossy(&file.text);
        let set = text
            .lines()
            .filter_map(setting)
            .filter(|(key, _)| *key == "lxc.lxcpath");
        roots.extend(set.map(|(_, value)| host.inside(Path::new(value))));
    }
    roots.dedup();
    let mut open = Vec::new();
    for root in roots {
        open.extend(StateDir::open(&root)?);
    }
    Ok(open)
}

/// The directories in which LXD and Incus keep a directory or a link for each container.
const INSTANCES: [&str; 3] = [
    "/var/lib/incus/containers",
    "/var/lib/lxd/containers",
    "/var/snap/lxd/common/lxd/containers",
];

/// The names of LXD's and Incus' containers, as their cgroups bear them: those of a project begin with its name.
///
/// # Errors
///
/// One of the directories is there and can't be listed.
pub(crate) fn instances(host: &Host) -> Result<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    for dir in INSTANCES {
        if let Some(dir) = StateDir::open(&host.path(dir))? {
            let names = dir.names()?.into_iter();
            all.extend(names.filter_map(|name| name.into_string().ok())); // it can't have been asked for
        }
    }
    Ok(all)
}

/// The owner of a cgroup of LXC's, as far as LXC's own files tell.
#[derive(Debug)]
pub(crate) struct Settled {
    /// The name that the cgroup bears.
    pub(crate) name: String,
    /// The cgroups below which a configuration puts it.
    pub(crate) parents: BTreeSet<PathBuf>,
    /// The container that it is of, where that is called without the number at the name's end.
    pub(crate) owner: Option<String>,
}

/// Looks up whose some cgroups are, given the name that each bears and the parents at which nothing else tells that LXC made
/// it. What can't be read settles nothing: a container that is not seen there may be there.
pub(crate) fn settled(host: &Host, unsettled: Vec<(String, BTreeSet<PathBuf>)>) -> Vec<Settled> {
    let (instances, roots) = (instances(host), roots(host));
    let mut is_whole = instances.is_ok() && roots.is_ok();
    let mut known = instances.unwrap_or_default();
    let roots = roots.unwrap_or_default();
    for root in &roots {
        let names = root.names();
        is_whole &= names.is_ok();
        let names = names.unwrap_or_default().into_iter();
        known.extend(names.filter_map(|name| name.into_string().ok())); // no cgroup is called so
    }
    let is_configured = |name: &str, parent: &Path| {
        let mut configs = roots.iter().filter_map(|root| config(host, root, name).ok()?);
        configs.any(|config| config.dir.is_some_and(|dir| Path::new("/").join(dir) == *parent))
    };
    let each = unsettled.into_iter().map(|(name, mut parents)| {
        let without = without_number(&name);
        parents.retain(|parent| {
            let mut called = [Some(name.as_str()), without].into_iter().flatten();
            called.any(|called| is_configured(called, parent))
        });
        let owner = without.filter(|&without| is_whole && known.contains(without) && !known.contains(&name));
        Settled {
            owner: owner.map(str::to_owned),
            parents,
            name,
        }
    });
    each.collect()
}

/// A container's configuration; `None` where there is none of that name.
///
/// # Errors
///
/// The configuration is there and can't be read, or includes too many other files.
pub(crate) fn config(host: &Host, root: &StateDir, name: &str) -> Result<Option<LxcConfig>> {
    let Some(dir) = root.below(name)? else {
        return Ok(None);
    };
    let Some(file) = dir.read_config("config")? else {
        return Ok(None);
    };
    let mut config = LxcConfig::default();
    let mut left = MOST_FILES;
    take(host, &String::from_utf8_lossy(&file.text), &mut config, &mut left)?;
    Ok(Some(config))
}

/// The last word on a key holds, as LXC reads it; an included file stands where it is included.
fn take(host: &Host, text: &str, config: &mut LxcConfig, left: &mut usize) -> Result<()> {
    for (key, value) in text.lines().filter_map(setting) {
        let path = (!value.is_empty()).then(|| PathBuf::from(value));
        match key {
            "lxc.cgroup.dir" => config.dir = path,
            "lxc.cgroup.dir.container" => config.container = path,
            "lxc.cgroup.dir.container.inner" => config.inner = path,
            "lxc.rootfs.path" | "lxc.rootfs" => config.rootfs = path,
            "lxc.include" => include(host, Path::new(value), config, left)?,
            _ => {}
        }
    }
    Ok(())
}

/// Reads a file, or the files `*.conf` of a directory.
fn include(host: &Host, path: &Path, config: &mut LxcConfig, left: &mut usize) -> Result<()> {
    let path = host.inside(path);
    let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Ok(()); // it names nothing
    };
    let (dir, names) = match StateDir::open(&path)? {
        Some(dir) => {
            let mut names: Vec<String> = dir
                .names()?
                .into_iter()
                .filter_map(|name| name.into_string().ok().filter(|name| name.ends_with(".conf")))
                .collect();
            names.sort_unstable();
            (dir, names)
        }
        None => match StateDir::open(parent)? {
            Some(dir) => (dir, vec![name.to_owned()]),
            None => return Ok(()), // LXC would not start it either
        },
    };
    for name in names {
        if *left == 0 {
            return Err(dir.odd(
                "read",
                name.as_ref(),
                "the configuration is made of too many files",
            ));
        }
        *left -= 1;
        if let Some(file) = dir.read_config(&name)? {
            take(host, &String::from_utf8_lossy(&file.text), config, left)?;
        }
    }
    Ok(())
}

fn setting(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.split_once('=')?;
    let key = key.trim();
    (!key.starts_with('#')).then(|| (key, value.trim().trim_matches('"')))
}

/// The name that a cgroup's can stand for besides itself: LXC puts `-1` to `-999` behind the name of a container whose
/// usual cgroup exists already (`cgfsng_payload_create()`, src/lxc/cgroups/cgfsng.c).
pub(crate) fn without_number(name: &str) -> Option<&str> {
    let (name, number) = name.rsplit_once('-')?;
    let fits = (1..=3).contains(&number.len()) && !number.starts_with('0');
    (fits && !name.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(name)
}

/// Looks for names among the configurations.
fn names(host: &Host, wanted: &BTreeSet<String>) -> Names {
    let mut names = Names::default();
    let (instances, roots) = (instances(host), roots(host));
    names.is_lxc_unread = instances.is_err() || roots.is_err();
    names.lxc = names.noted(instances);
    for root in names.noted(roots) {
        let all = root.names();
        names.is_lxc_unread |= all.is_err();
        let all = names.noted(all);
        names
            .lxc
            .extend(all.into_iter().filter_map(|name| name.into_string().ok())); // it can't have been asked for
        for name in wanted {
            let config = names.noted(config(host, &root, name));
            if let Some(place) = config.and_then(|config| config.place()) {
                names.hold(name, NameHolder::Lxc(place));
            }
        }
    }
    names
}

/// Adds what the configuration of a container says.
fn add_to(known: &DetailsQuery<'_>, details: &mut Details) {
    let (host, name) = (known.host, known.id);
    details.name = Some(name.to_owned());
    for root in noted(details, roots(host).map(Some)).unwrap_or_default() {
        if let Some(config) = noted(details, config(host, &root, name)) {
            details.rootfs = config.rootfs();
            details.bundle = Some(root.path().join(name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host_with(files: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("proc")).unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let host = Host::made_up(dir.path()).unwrap();
        (dir, host)
    }

    #[test]
    fn a_configuration_can_put_the_cgroup_elsewhere_also_by_an_include() {
        let (_dir, host) = host_with(&[
            (
                "var/lib/lxc/web/config",
                "lxc.include = /usr/share/x.conf\nlxc.cgroup.dir.container.inner = ns\n# lxc.cgroup.dir.container = no\n",
            ),
            (
                "usr/share/x.conf",
                "lxc.cgroup.dir.container=labr/pay\nlxc.rootfs.path = dir:/r\nlxc.include = /usr/share/x.conf\n",
            ),
            ("var/lib/lxc/plain/config", "lxc.uts.name = plain\n"),
        ]);
        let [root] = &roots(&host).unwrap()[..] else {
            panic!("one root");
        };
        let text = config(&host, root, "web").unwrap_err().to_string();
        assert!(text.contains("too many files"), "{text}");
        std::fs::write(
            host.path("/usr/share/x.conf"),
            "lxc.cgroup.dir.container=labr/pay\n",
        )
        .unwrap();
        let place = config(&host, root, "web").unwrap().unwrap().place().unwrap();
        assert_eq!(place.path, Path::new("/labr/pay"));
        assert_eq!(place.inner.as_deref(), Some(Path::new("/labr/pay/ns")));
        assert_eq!(config(&host, root, "plain").unwrap().unwrap().place(), None);
        assert_eq!(config(&host, root, "none").unwrap(), None);
    }

    #[test]
    fn only_lxcs_own_numbers_are_taken_off_a_name() {
        for (name, expected) in [
            ("web-1", Some("web")),
            ("web-999", Some("web")),
            ("a-b-12", Some("a-b")),
            ("web-1000", None),
            ("web-01", None),
            ("web-", None),
            ("web", None),
            ("-1", None),
            ("web-x", None),
        ] {
            assert_eq!(without_number(name), expected, "{name}");
        }
    }
}
