//! The users whom `/etc/passwd` has.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::state::StateDir;
use crate::error::{Error, Result};
use crate::host::Host;

/// A line of `/etc/passwd`.
struct User {
    name: Vec<u8>,
    number: u32,
    home: PathBuf,
}

/// The users whom `/etc/passwd` has. Others, of a directory service, are known by their numbers alone.
fn passwd(host: &Host) -> Result<Vec<User>> {
    let Some(file) = StateDir::open(&host.path("/etc"))?
        .map(|etc| etc.read_config("passwd"))
        .transpose()?
        .flatten()
    else {
        return Ok(Vec::new());
    };
    let lines = file.text.split(|&byte| byte == b'\n');
    let users = lines.filter_map(|line| {
        let fields: Vec<&[u8]> = line.split(|&byte| byte == b':').collect();
        Some(User {
            name: fields.first()?.to_vec(),
            number: std::str::from_utf8(fields.get(2)?).ok()?.parse().ok()?, // no user's line
            home: PathBuf::from(std::ffi::OsStr::from_bytes(fields.get(5)?)),
        })
    });
    Ok(users.collect())
}

/// The home of a user, as it is reached from here; `None` where `/etc/passwd` has none.
///
/// # Errors
///
/// `/etc/passwd` can't be read.
pub(super) fn home(host: &Host, user: u32) -> Result<Option<PathBuf>> {
    let mut users = passwd(host)?.into_iter();
    let home = users.find(|one| one.number == user && one.home.is_absolute());
    Ok(home.map(|one| host.inside(&one.home)))
}

/// The number of a user, who is written by name or by number.
pub(super) fn number(host: &Host, written: &str) -> Result<u32> {
    if let Ok(number) = written.parse() {
        return Ok(number);
    }
    let mut users = passwd(host)?.into_iter();
    let known = users.find(|one| one.name == written.as_bytes());
    known.map(|one| one.number).ok_or_else(|| {
        let written = written.escape_debug();
        Error::NotFound(format!(
            "no user \"{written}\" in /etc/passwd; a number is understood too"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes_are_read_of_passwd() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("proc")).unwrap();
        std::fs::create_dir_all(dir.path().join("etc")).unwrap();
        std::fs::write(
            dir.path().join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n\nbad:x:y:z\nrel:x:7:7::home:/bin/sh\n",
        )
        .unwrap();
        let host = Host::made_up(dir.path()).unwrap();
        let ann = dir.path().join("home/ann");
        assert_eq!(home(&host, 1000).unwrap(), Some(ann));
        assert_eq!((home(&host, 7).unwrap(), home(&host, 8).unwrap()), (None, None));
        assert_eq!(
            (number(&host, "ann").unwrap(), number(&host, "7").unwrap()),
            (1000, 7)
        );
        assert!(number(&host, "bob").is_err());
    }
}
