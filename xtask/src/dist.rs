//! Builds the binary that is handed out: static, stripped, one file.

use std::env::consts::ARCH;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::artifacts::{self, Program};
use crate::command::{cargo, limited, output, target_dir};
use crate::{Result, packages};

/// What the binary may weigh at most.
pub(crate) const MOST_BYTES: u64 = 5 << 20;
const LIMIT: Duration = Duration::from_secs(1800);
/// In every ELF program that is not static, as its interpreter.
const LOADER: &[u8] = b"/ld-linux-";

/// Builds it, checks it, and prints its path as the last line.
pub(crate) fn run(install: packages::Install) -> Result<()> {
    install.needs(&[packages::BUILD]);
    let path = build()?;
    output(limited(Duration::from_secs(10), &path).arg("--version"))?;
    let bytes = fs::read(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let size = bytes.len() as u64;
    println!("static binary: {}", mib(size));
    println!("{}", path.display());
    if bytes.windows(LOADER.len()).any(|part| part == LOADER) {
        return Err(format!("{} is not static", path.display()));
    }
    if size > MOST_BYTES {
        return Err(format!(
            "{} has {}, more than {}",
            path.display(),
            mib(size),
            mib(MOST_BYTES)
        ));
    }
    Ok(())
}

/// Builds it and returns its path: a copy, as the suites build the same program with more features.
pub(crate) fn build() -> Result<PathBuf> {
    let mut command = static_cargo(&["build", "--package", "iceaxe", "--bin", "iceaxe"]);
    let programs = artifacts::build(&mut command)?;
    let built = only(&programs, "iceaxe")?;
    let path = target_dir().join("dist").join("iceaxe");
    let copy = fs::create_dir_all(target_dir().join("dist")).and_then(|()| fs::copy(&built.path, &path));
    copy.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    Ok(path)
}

/// A cargo command (`build`, `test`) for static release programs. The target must be named, or the flags would hit the
/// procedural macros too.
pub(crate) fn static_cargo(words: &[&str]) -> Command {
    let target = format!("{ARCH}-unknown-linux-gnu");
    let mut command = cargo(LIMIT, words);
    command.args([
        "--release",
        "--target",
        &target,
        "--message-format=json-render-diagnostics",
    ]);
    command.env("RUSTFLAGS", "-C target-feature=+crt-static");
    command
}

/// The program called `name` among those built, which is no test runner.
pub(crate) fn only<'p>(programs: &'p [Program], name: &str) -> Result<&'p Program> {
    let found = programs
        .iter()
        .find(|program| program.name == name && !program.is_test);
    found.ok_or_else(|| format!("cargo built no program {name}"))
}

/// `1.23 MiB`.
pub(crate) fn mib(bytes: u64) -> String {
    let hundredths = bytes * 100 / (1 << 20);
    format!("{}.{:02} MiB", hundredths / 100, hundredths % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_cut_to_two_digits() {
        assert_eq!(mib(MOST_BYTES), "5.00 MiB");
        assert_eq!(mib(1_258_291), "1.19 MiB");
    }
}
