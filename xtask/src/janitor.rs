//! Cleans up when this program ends, however it ends: Ctrl-C and SIGKILL run no destructor.

use std::process::{Child, Command, Stdio};

use crate::Result;

/// A shell that waits for the end of its input, which is this program's end or the janitor's drop, and then cleans up.
#[derive(Debug)]
pub(crate) struct Janitor {
    shell: Child,
}

impl Janitor {
    /// Has `script` run in the end.
    pub(crate) fn hire(script: &str) -> Result<Self> {
        let script = format!("trap '' INT TERM HUP\nread -r _\n{script}");
        let shell = Command::new("sh")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn();
        shell
            .map(|shell| Self { shell })
            .map_err(|error| format!("cannot run sh: {error}"))
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        if let Err(error) = self.shell.wait() {
            eprintln!("xtask: cannot wait for the clean-up: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleaning_up_is_done_when_the_janitor_goes_and_not_before() {
        let file = std::env::temp_dir().join(format!("xtask-janitor-{}", std::process::id()));
        std::fs::write(&file, "").unwrap();
        let janitor = Janitor::hire(&format!("rm '{}'", file.display())).unwrap();
        assert!(file.exists());
        drop(janitor);
        assert!(!file.exists());
    }
}
