//! What an operator types, read without any I/O: which readings it has, and whether it is written in a form that
//! means anything. And the way back: how something is written so that it means itself again.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::host::Hierarchy;

/// The longest target: a path of `PATH_MAX` without its NUL.
const LONGEST: usize = 4095;
/// The longest name in a path, `NAME_MAX`.
const LONGEST_COMPONENT: usize = 255;
/// The digits of a container's whole ID.
const FULL_ID: usize = 64;
/// From this many hex digits on a name is taken for a short ID as readily as for a name: docker prints 12.
pub(super) const SHORT_ID: usize = 12;

/// A target, not looked up yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `web`: an ID, a name or a prefix of an ID, in this order.
    Bare(String),
    /// `id:`, or 64 hex digits: an ID or a prefix of one, and no name.
    Id(String),
    /// `name:`.
    Name(String),
    /// `user:NAME/web`: a container of that user's, who is written by name or by number.
    User(String, UserTarget),
    /// `namespace/pod` or `namespace/pod/container`.
    Pod(String),
    /// `pid:`.
    Pid(i32),
    /// `cgroup:/path`, in whichever hierarchy has it.
    Cgroup(PathBuf),
    /// `v1:/path` or `v2:/path`; `v1:%/path` with each `%` and two hex digits for a byte.
    In(Hierarchy, PathBuf),
    /// An absolute path: a directory below a cgroup mount, or a name as docker prints it, with a slash in front.
    Path(PathBuf),
}

/// What a target means to the engines of one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserTarget {
    /// `web`: an ID, a name or a prefix of an ID.
    Bare(String),
    /// `id:`, or 64 hex digits: an ID or a prefix of one.
    Id(String),
    /// `name:`.
    Name(String),
}

impl UserTarget {
    /// What was typed, without the word in front.
    pub(super) fn word(&self) -> &str {
        match self {
            Self::Bare(word) | Self::Id(word) | Self::Name(word) => word,
        }
    }

    pub(super) fn may_be_an_id(&self) -> bool {
        !matches!(self, Self::Name(_))
    }

    pub(super) fn may_be_a_name(&self) -> bool {
        !matches!(self, Self::Id(_))
    }
}

impl Target {
    /// The name that it may be of.
    pub(super) fn name(&self) -> Option<String> {
        match self {
            Self::Bare(name) | Self::Name(name) => Some(name.clone()),
            // As docker prints it.
            Self::Path(path) if path.parent().is_some_and(|parent| parent.parent().is_none()) => {
                Some(path.file_name()?.to_str()?.to_owned())
            }
            _ => None,
        }
    }

    /// Reads what was typed.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] for what can't be the name of anything; [`Error::NotFound`] for a name that no runtime can
    /// give.
    pub fn parse(typed: &OsStr) -> Result<Self> {
        let bytes = typed.as_bytes();
        let usage = |what: &str| {
            Err(Error::Usage(format!(
                "{what}: \"{}\"",
                typed.to_string_lossy().escape_debug()
            )))
        };
        if bytes.is_empty() {
            return usage("an empty target");
        }
        let most = if is_encoded(bytes) { LONGEST * 3 } else { LONGEST };
        if bytes.len() > most {
            return Err(Error::Usage(format!(
                "a target of {} bytes; {LONGEST} is the most",
                bytes.len()
            )));
        }
        if bytes.iter().any(|byte| matches!(byte, 0 | b'\n')) {
            return usage("a target with a NUL or a line break");
        }
        let (word, rest) = match bytes.iter().position(|&byte| byte == b':') {
            Some(at) => (&bytes[..at], &bytes[at + 1..]),
            None => (&b""[..], bytes),
        };
        match word {
            b"id" => {
                if !is_id(rest) {
                    return usage("not a container ID");
                }
                Ok(Self::Id(text(rest)?))
            }
            b"name" => match rest.strip_prefix(b"/").unwrap_or(rest) {
                b"" | b"." | b".." => usage("not a name"),
                name if name.contains(&b'/') => usage("a name has no slash"),
                name if name.len() > LONGEST_COMPONENT => usage("a name over 255 bytes"),
                name => Ok(Self::Name(text(name)?)),
            },
            b"user" => {
                let slash = rest.iter().position(|&byte| byte == b'/');
                let Some((user, target)) = slash.map(|at| (&rest[..at], &rest[at + 1..])) else {
                    return usage("a user's container is written user:NAME/CONTAINER");
                };
                if user.is_empty() || user.len() > LONGEST_COMPONENT {
                    return usage("not the name of a user");
                }
                let inner = match Self::parse(OsStr::from_bytes(target))? {
                    Self::Bare(word) => UserTarget::Bare(word),
                    Self::Id(word) => UserTarget::Id(word),
                    Self::Name(word) => UserTarget::Name(word),
                    _ => return usage("of a user's containers only names and IDs are understood"),
                };
                Ok(Self::User(text(user)?, inner))
            }
            b"pod" => {
                check_components(rest, typed)?;
                let parts = rest.split(|&byte| byte == b'/').count();
                if rest.first() == Some(&b'/') || !(2..=3).contains(&parts) {
                    return usage("a pod is written namespace/pod or namespace/pod/container");
                }
                Ok(Self::Pod(text(rest)?))
            }
            b"pid" => match std::str::from_utf8(rest)
                .ok()
                .filter(|text| is_number(text))
                .map(str::parse)
            {
                Some(Ok(pid)) if pid > 0 => Ok(Self::Pid(pid)),
                _ => usage("not a process number"),
            },
            b"cgroup" | b"v1" | b"v2" => {
                let path = match rest.strip_prefix(b"%") {
                    Some(encoded) => match decoded(encoded) {
                        Some(path) if path.len() <= LONGEST => path,
                        _ => return usage("not a percent-encoded path"),
                    },
                    None => rest.to_vec(),
                };
                if path.first() != Some(&b'/') {
                    return usage("a cgroup's path begins with a slash");
                }
                check_components(&path[1..], typed)?;
                let path = PathBuf::from(OsString::from_vec(path));
                Ok(match word {
                    b"v1" => Self::In(Hierarchy::V1, path),
                    b"v2" => Self::In(Hierarchy::V2, path),
                    _ => Self::Cgroup(path),
                })
            }
            _ if bytes[0] == b'/' => {
                check_components(&bytes[1..], typed)?;
                Ok(Self::Path(PathBuf::from(typed)))
            }
            _ => {
                check_components(bytes, typed)?;
                match bytes.iter().filter(|&&byte| byte == b'/').count() {
                    0 if is_full_id(bytes) => Ok(Self::Id(text(bytes)?)),
                    0 => Ok(Self::Bare(text(bytes)?)),
                    1 | 2 if bytes.last() != Some(&b'/') => Ok(Self::Pod(text(bytes)?)),
                    _ => usage("a relative path means no container"),
                }
            }
        }
    }
}

/// How a container is written so that it means itself again: by its ID or its name where that reads as nothing else, else
/// as [`outright`]. It is harmless as a line of a file, as a word of a shell and on a screen.
#[must_use]
pub fn spelled(id: Option<&str>, name: Option<&str>, at: Option<(Hierarchy, &Path)>) -> Option<String> {
    let reads_as_itself = |word: &&str| match Target::parse(OsStr::new(word)) {
        Ok(Target::Bare(read) | Target::Id(read)) => read == *word && is_harmless(word),
        _ => false,
    };
    let word = id.or(name).filter(reads_as_itself);
    word.map(str::to_owned).or_else(|| outright(id, name, at))
}

/// How a container is written so that no other reading of it is tried: `id:`, `name:`, or the path of its cgroup where its ID
/// or name would not come through.
#[must_use]
pub fn outright(id: Option<&str>, name: Option<&str>, at: Option<(Hierarchy, &Path)>) -> Option<String> {
    if let Some(id) = id.filter(|id| is_id(id.as_bytes())) {
        return Some(format!("id:{id}"));
    }
    if let Some(name) = name.filter(|name| is_harmless(&format!("name:{name}"))) {
        return Some(format!("name:{name}"));
    }
    at.map(|(hierarchy, path)| cgroup(hierarchy, path))
}

/// How a cgroup is written: `v1:/path`, or `v1:%/path` with all that could do something encoded.
#[must_use]
pub fn cgroup(hierarchy: Hierarchy, path: &Path) -> String {
    let version = hierarchy.version();
    let plain = path.to_str().map(|path| format!("v{version}:{path}"));
    if let Some(plain) = plain.filter(|plain| is_harmless(plain)) {
        return plain;
    }
    let mut text = format!("v{version}:%");
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            match is_harmless_within(c) && c != '%' {
                true => text.push(c),
                false => encode(c.encode_utf8(&mut [0; 4]).as_bytes(), &mut text),
            }
        }
        encode(chunk.invalid(), &mut text);
    }
    text
}

fn encode(bytes: &[u8], text: &mut String) {
    for byte in bytes {
        let _ = write!(text, "%{byte:02X}"); // writing to a String can't fail
    }
}

/// Undoes that; `None` for what is not encoded so.
fn decoded(mut text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    while let Some((&byte, rest)) = text.split_first() {
        text = rest;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = text
            .get(..2)
            .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
        let byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?; // they are digits
        if matches!(byte, 0 | b'\n') {
            return None; // no path that is shown has them
        }
        bytes.push(byte);
        text = &text[2..];
    }
    Some(bytes)
}

/// Whether it is a cgroup's path with bytes encoded.
fn is_encoded(bytes: &[u8]) -> bool {
    [&b"v1:%"[..], b"v2:%", b"cgroup:%"]
        .iter()
        .any(|begin| bytes.starts_with(begin))
}

/// Whether a word is taken for nothing but itself: by a shell and xargs, as an option, as a comment among targets, and by a
/// terminal.
fn is_harmless(word: &str) -> bool {
    !word.starts_with(['-', '#', '=', '%']) && word.chars().all(is_harmless_within)
}

fn is_harmless_within(c: char) -> bool {
    c.is_alphanumeric() || "/_.:+-@,=%".contains(c)
}

/// Whether it is 64 hex digits, as the engines write them: lower case.
pub(super) fn is_full_id(bytes: &[u8]) -> bool {
    bytes.len() == FULL_ID && is_hex(bytes)
}

/// Whether it can be the beginning of such an ID.
pub(super) fn is_hex(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes.len() <= FULL_ID
        && bytes.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether it can be a container's ID: runc allows word characters, `+`, `-` and `.`.
pub(super) fn is_id(bytes: &[u8]) -> bool {
    !matches!(bytes, b"" | b"." | b"..")
        && bytes.len() <= LONGEST_COMPONENT
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'+' | b'-' | b'.'))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn text(bytes: &[u8]) -> Result<String> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(Error::NotFound(format!(
            "\"{}\" is not UTF-8, and every name is",
            String::from_utf8_lossy(bytes).escape_debug()
        ))),
    }
}

/// Refuses `..`, `.` and empty components, and those that no directory can be called. One slash at the end, as a
/// shell's completion leaves it, is none.
fn check_components(path: &[u8], typed: &OsStr) -> Result<()> {
    let path = path.strip_suffix(b"/").unwrap_or(path);
    if path.is_empty() {
        return Ok(());
    }
    for component in path.split(|&byte| byte == b'/') {
        let what = match component {
            b"" => "a path with an empty component",
            b"." | b".." => "a path with a \".\" or \"..\"",
            long if long.len() > LONGEST_COMPONENT => "a path component over 255 bytes",
            _ => continue,
        };
        return Err(Error::Usage(format!(
            "{what}: \"{}\"",
            typed.to_string_lossy().escape_debug()
        )));
    }
    Ok(())
}

/// `path` without a slash at its end.
pub(super) fn trimmed(path: &Path) -> &Path {
    let bytes = path.as_os_str().as_bytes();
    match bytes.strip_suffix(b"/") {
        Some(rest) if !rest.is_empty() => Path::new(OsStr::from_bytes(rest)),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(typed: &str, expected: Target) {
        assert_eq!(Target::parse(OsStr::new(typed)).unwrap(), expected, "{typed}");
    }

    #[track_caller]
    fn usage(typed: &[u8]) {
        let result = Target::parse(OsStr::from_bytes(typed));
        assert!(matches!(result, Err(Error::Usage(_))), "{result:?}");
    }

    #[test]
    fn each_form_is_read() {
        let full = "8d9621220cb4d6f5d5706cf3bd23e19c4612719c2b2ca9c2beb608738789e11a";
        check("web", Target::Bare("web".to_owned()));
        check("12", Target::Bare("12".to_owned())); // digits alone are never a PID
        check(full, Target::Id(full.to_owned()));
        check(&full.to_uppercase(), Target::Bare(full.to_uppercase()));
        check("id:web", Target::Id("web".to_owned()));
        check("name:web", Target::Name("web".to_owned()));
        check("name:/web", Target::Name("web".to_owned()));
        check("/web", Target::Path(PathBuf::from("/web")));
        check("prod/web", Target::Pod("prod/web".to_owned()));
        check("pod:prod/web/app", Target::Pod("prod/web/app".to_owned()));
        check("pid:4711", Target::Pid(4711));
        check("cgroup:/docker/x", Target::Cgroup(PathBuf::from("/docker/x")));
        check("v1:/a b:c", Target::In(Hierarchy::V1, PathBuf::from("/a b:c")));
        check("v2:/", Target::In(Hierarchy::V2, PathBuf::from("/")));
        check("a:b", Target::Bare("a:b".to_owned()));
    }

    #[test]
    fn what_can_mean_nothing_is_a_usage_error() {
        for typed in [
            &b""[..],
            b"a\nb",
            b"a\0b",
            b"v1:x",
            b"v1:",
            b"v1:/a/../b",
            b"v1:/a//b",
            b"/a/./b",
            b"..",
            b".",
            b"a/../b",
            b"pid:0",
            b"pid:-1",
            b"pid:+1",
            b"pid:",
            b"pid:99999999999",
            b"id:",
            b"id:a/b",
            b"id:..",
            b"name:",
            b"name:a/b",
            b"pod:a",
            b"pod:/a/b",
            b"a/b/c/d",
            b"a/",
        ] {
            usage(typed);
        }
        usage(&[b"v1:/", &[b'x'; 256][..]].concat());
        usage(&vec![b'x'; 4096]);
    }

    #[test]
    fn a_cgroup_may_have_any_name_but_a_name_is_utf_8() {
        let path = OsStr::from_bytes(b"v2:/m\\x2dn \xff.scope (deleted)");
        assert!(matches!(Target::parse(path), Ok(Target::In(Hierarchy::V2, _))));
        assert!(matches!(
            Target::parse(OsStr::from_bytes(b"w\xff")),
            Err(Error::NotFound(_))
        ));
    }

    #[test]
    fn what_is_written_means_itself_and_does_nothing() {
        let full = "8d9621220cb4d6f5d5706cf3bd23e19c4612719c2b2ca9c2beb608738789e11a";
        let path = Path::new("/lxc.payload.x y");
        for (id, name, written) in [
            (Some(full), Some("web"), full),
            (Some("web"), None, "web"),
            (None, Some("web"), "web"),
            (Some("naïve-木"), Some("naïve-木"), "naïve-木"),
            (Some("--all"), None, "id:--all"),
            (Some("--rescue=kill"), Some("--rescue=kill"), "name:--rescue=kill"),
            (Some("#web"), Some("#web"), "v1:%/lxc.payload.x%20y"),
            (Some("pid:1"), Some("pid:1"), "name:pid:1"),
            (Some("v1:x"), Some("v1:x"), "name:v1:x"),
            (Some(" web"), Some(" web"), "v1:%/lxc.payload.x%20y"),
            (Some("we\u{202e}b"), Some("we\u{202e}b"), "v1:%/lxc.payload.x%20y"),
            (Some("$(reboot)"), Some("$(reboot)"), "v1:%/lxc.payload.x%20y"),
            (None, None, "v1:%/lxc.payload.x%20y"),
        ] {
            let found = spelled(id, name, Some((Hierarchy::V1, path)));
            assert_eq!(found.as_deref(), Some(written), "{id:?} {name:?}");
            Target::parse(OsStr::new(written)).unwrap();
        }
        assert_eq!(outright(Some(full), None, None), Some(format!("id:{full}")));
        assert_eq!(spelled(None, None, None), None);
        for typed in [
            "v1:%",
            "v1:%x",
            "v1:%/%",
            "v1:%/%2",
            "v1:%/%zz",
            "v1:%/%0A",
            "v1:%/%00",
            "v2:%/a/%2E%2E",
        ] {
            usage(typed.as_bytes());
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            id in proptest::option::of("\\PC{1,12}|[-#a-z=:. ]{1,8}"),
            name in proptest::option::of("\\PC{1,12}|[-#a-z=:. ]{1,8}"),
            path in proptest::collection::vec(proptest::collection::vec(1_u8.., 1..20), 0..4),
        ) {
            let part = |part: &Vec<u8>| !part.iter().any(|byte| b"/\n".contains(byte)) && part != b"." && part != b"..";
            let path: Vec<_> = path.iter().filter(|bytes| part(bytes)).map(|part| part.as_slice()).collect();
            let path = PathBuf::from(OsString::from_vec([&b"/"[..], &path.join(&b'/')].concat()));
            let text = |text: &Option<String>| text.clone().filter(|text| !text.contains('/') && text != "." && text != "..");
            let (id, name) = (text(&id), text(&name));
            let written = spelled(id.as_deref(), name.as_deref(), Some((Hierarchy::V2, &path))).unwrap();
            prop_assert!(is_harmless(&written), "{written:?}");
            let read = Target::parse(OsStr::new(&written)).unwrap();
            let means = match &read {
                Target::Bare(word) => id.as_ref().or(name.as_ref()) == Some(word),
                Target::Id(word) => id.as_ref() == Some(word),
                Target::Name(word) => name.as_ref() == Some(word),
                Target::In(Hierarchy::V2, read) => *read == path,
                _ => false,
            };
            prop_assert!(means, "{written:?}: {read:?}");
        }

        #[test]
        fn no_target_panics_or_climbs(typed in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(Target::In(_, path) | Target::Cgroup(path) | Target::Path(path)) = Target::parse(OsStr::from_bytes(&typed)) {
                prop_assert!(path.is_absolute());
                prop_assert!(path.components().all(|part| part != std::path::Component::ParentDir));
            }
        }
    }
}
