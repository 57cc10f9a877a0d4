//! Kernels to run the tests on: this host's own, where its image is at hand, and Debian's. Those are fetched
//! from the mirror that this machine's own package sources name. apt works on a private list of suites below the target
//! directory, so that neither this machine's release nor its package lists matter.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::Result;
use crate::command::{find, limited, output, target_dir};

/// A kernel that tests can run on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// Its version, as typed.
    pub(crate) name: &'static str,
    source: Source,
}

/// Where a kernel comes from.
#[derive(Debug, PartialEq, Eq)]
enum Source {
    /// This host runs it.
    Host,
    /// Debian has it.
    Debian(Package),
}

/// One of Debian's packages.
#[derive(Debug, PartialEq, Eq)]
struct Package {
    /// The Debian release that has it.
    suite: &'static str,
    /// The package that depends on its newest build. The builds' own names change with every security update.
    name: &'static str,
}

/// From the oldest that Debian's mirrors still carry to this host's own.
pub(crate) const KERNELS: [Kernel; 4] = [
    Kernel::of_debian("5.10", "bullseye", "linux-image-cloud-amd64"),
    Kernel::of_debian("6.1", "bookworm", "linux-image-cloud-amd64"),
    Kernel::of_debian("6.12", "bookworm", "linux-image-6.12-cloud-amd64"),
    Kernel {
        name: "host",
        source: Source::Host,
    },
];

/// A package list is 10 MB and a kernel 30 MB.
const LIMIT: Duration = Duration::from_secs(300);
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Where a mirror has the releases, and their security updates.
#[derive(Debug, PartialEq, Eq)]
struct Mirror {
    main: String,
    security: String,
}

impl Kernel {
    const fn of_debian(name: &'static str, suite: &'static str, package: &'static str) -> Self {
        let package = Package { suite, name: package };
        Self {
            name,
            source: Source::Debian(package),
        }
    }

    /// The one called `name`.
    pub(crate) fn named(name: &str) -> Result<&'static Self> {
        let known = KERNELS.iter().find(|kernel| kernel.name == name);
        known.ok_or_else(|| format!("no kernel {name:?}: there are 5.10, 6.1, 6.12 and host"))
    }

    /// The kernel's image, fetched unless that was done before.
    pub(crate) fn image(&self) -> Result<PathBuf> {
        let package = match &self.source {
            Source::Host => return image_of_host(),
            Source::Debian(package) => package,
        };
        let image = target_dir().join("vm").join(format!("vmlinuz-{}", self.name));
        if !image.is_file() {
            self.fetch(package, &image)
                .map_err(|error| format!("kernel {} can't be had: {error}", self.name))?;
        }
        Ok(image)
    }

    fn fetch(&self, package: &Package, image: &Path) -> Result<()> {
        if find("apt-get").is_none() {
            return Err("no apt-get".to_owned());
        }
        let apt = Apt::new(self, package)?;
        output(apt.command("apt-get").arg("update"))?;
        let depends = output(apt.command("apt-cache").args(["depends", package.name]))?;
        let build = dependency(&depends).ok_or_else(|| format!("{} depends on no kernel", package.name))?;
        println!("fetching {build}");
        output(apt.command("apt-get").args(["download", build]))?;
        let packages = apt.downloaded()?;
        let [file] = &packages[..] else {
            return Err(format!("{} packages in {}", packages.len(), apt.dir.display()));
        };
        // By way of a second name: a file that is there is whole.
        let part = image.with_extension("part");
        let script = "dpkg-deb --fsys-tarfile \"$1\" | tar -xO --wildcards './boot/vmlinuz*' >\"$2\" && test -s \"$2\"";
        output(
            limited(LIMIT, "sh")
                .args(["-c", script, "sh"])
                .args([file, &part]),
        )?;
        apt.remove()?;
        fs::rename(&part, image).map_err(|error| format!("cannot rename {}: {error}", part.display()))
    }
}

/// The image that this host was booted from, where its distribution keeps it and for root to read.
fn image_of_host() -> Result<PathBuf> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_err(|error| format!("cannot read /proc/sys/kernel/osrelease: {error}"))?;
    let release = release.trim();
    let places = [
        format!("/boot/vmlinuz-{release}"),
        format!("/lib/modules/{release}/vmlinuz"),
    ];
    let found = places.iter().map(PathBuf::from).find(|place| place.is_file());
    found.ok_or_else(|| {
        format!(
            "this host's kernel {release} has no image at {}",
            places.join(" or ")
        )
    })
}

/// A private state of apt.
struct Apt {
    dir: PathBuf,
}

impl Apt {
    fn new(kernel: &Kernel, package: &Package) -> Result<Self> {
        let uris = output(limited(LIMIT, "apt-get").args(["indextargets", "--format", "$(REPO_URI)"]))?;
        let mirror = Mirror::among(&uris).ok_or("this machine's package sources name no Debian mirror")?;
        let apt = Self {
            dir: target_dir().join("vm").join(format!("apt-{}", kernel.name)),
        };
        apt.remove()?;
        let write = || {
            for dir in ["lists/partial", "cache/archives/partial"] {
                fs::create_dir_all(apt.dir.join(dir))?;
            }
            fs::write(apt.dir.join("sources.list"), mirror.sources(package.suite))
        };
        write().map_err(|error| format!("cannot write {}: {error}", apt.dir.display()))?;
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = limited(LIMIT, program);
        let dir = self.dir.display();
        for option in [
            format!("Dir::Etc::SourceList={dir}/sources.list"),
            "Dir::Etc::SourceParts=/dev/null".to_owned(),
            format!("Dir::State::Lists={dir}/lists"),
            format!("Dir::Cache={dir}/cache"),
            // The directory need not be open to apt's own user.
            "APT::Sandbox::User=root".to_owned(),
            "APT::Architecture=amd64".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
            "Acquire::Retries=2".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        command.current_dir(&self.dir);
        command
    }

    fn downloaded(&self) -> Result<Vec<PathBuf>> {
        let entries = fs::read_dir(&self.dir)
            .map_err(|error| format!("cannot list {}: {error}", self.dir.display()))?;
        let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
        Ok(paths
            .filter(|path| path.extension().is_some_and(|kind| kind == "deb"))
            .collect())
    }

    fn remove(&self) -> Result<()> {
        match fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(format!("cannot remove {}: {error}", self.dir.display()))
            }
            _ => Ok(()),
        }
    }
}

impl Mirror {
    /// The mirror among the repositories in use: each URI ends with the archive's name.
    fn among(uris: &str) -> Option<Self> {
        let archive = |name: &str| {
            let found = uris
                .lines()
                .map(|uri| uri.trim().trim_end_matches('/'))
                .find(|uri| uri.ends_with(name));
            found.map(str::to_owned)
        };
        let main = archive("/debian")?;
        let security = archive("/debian-security").unwrap_or_else(|| format!("{main}-security"));
        Some(Self { main, security })
    }

    fn sources(&self, suite: &str) -> String {
        let Self { main, security } = self;
        format!(
            "deb [signed-by={KEYRING}] {main} {suite} main\n\
             deb [signed-by={KEYRING}] {security} {suite}-security main\n"
        )
    }
}

/// The kernel in what `apt-cache depends` prints.
fn dependency(depends: &str) -> Option<&str> {
    let packages = depends
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "));
    packages
        .map(str::trim)
        .find(|package| package.starts_with("linux-image-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_build_is_read_from_its_meta_package() {
        let text = "linux-image-6.12-cloud-amd64\n  Depends: linux-image-6.12.117+deb12-cloud-amd64\n";
        assert_eq!(dependency(text), Some("linux-image-6.12.117+deb12-cloud-amd64"));
        assert_eq!(
            dependency("linux-image-cloud-amd64\n  Suggests: linux-image-x\n"),
            None
        );
        assert_eq!(
            dependency("x\n  Depends: <libc6>\n |Depends: linux-image-1\n  Depends: linux-image-2\n"),
            Some("linux-image-2")
        );
        assert_eq!(dependency(""), None);
    }

    #[test]
    fn the_mirror_is_told_by_its_archives() {
        let uris = "http://a.example/debian-security/\nhttp://b.example/x/debian/\nhttp://c.example/node/\n";
        let mirror = Mirror::among(uris).unwrap();
        assert_eq!(mirror.main, "http://b.example/x/debian");
        assert_eq!(mirror.security, "http://a.example/debian-security");
        assert_eq!(
            Mirror::among("http://b.example/debian").unwrap().security,
            "http://b.example/debian-security"
        );
        assert_eq!(Mirror::among("http://c.example/ubuntu\n"), None);
        assert!(
            mirror
                .sources("bullseye")
                .contains("/debian-security bullseye-security main\n")
        );
    }

    #[test]
    fn kernels_are_found_by_name() {
        let Source::Debian(package) = &Kernel::named("6.1").unwrap().source else {
            panic!("6.1 is Debian's");
        };
        assert_eq!(package.name, "linux-image-cloud-amd64");
        assert_eq!(Kernel::named("host").unwrap().source, Source::Host);
        assert!(Kernel::named("6").is_err());
    }
}
