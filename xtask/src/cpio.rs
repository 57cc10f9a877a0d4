//! Writes a cpio archive of the "newc" kind, which the kernel unpacks as its first file system
//! (Documentation/driver-api/early-userspace/buffer-format.rst).

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;

/// An archive in the making.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// Adds a directory. Its parents must have been added before.
    pub(crate) fn directory(&mut self, path: &str) {
        self.entry(path, DIRECTORY, &[]);
    }

    /// Adds an executable file.
    pub(crate) fn program(&mut self, path: &str, content: &[u8]) {
        self.entry(path, PROGRAM, content);
    }

    /// The whole archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let name = path.len() + 1; // its closing NUL counts
        // ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
        let fields = [
            self.entries as usize,
            mode as usize,
            0,
            0,
            1,
            0,
            content.len(),
            0,
            0,
            0,
            0,
            name,
            0,
        ];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08X}").bytes());
        }
        self.bytes.extend(path.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    /// The header with the name, and the content, each end at a multiple of four.
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_laid_out_as_the_kernel_reads_it() {
        let mut archive = Archive::default();
        archive.program("t/x", b"hello");
        let bytes = archive.finish();
        let head = "070701\
                    00000001000081ED00000000000000000000000100000000\
                    000000050000000000000000000000000000000000000004\
                    00000000";
        assert_eq!(std::str::from_utf8(&bytes[..110]), Ok(head));
        assert_eq!(
            &bytes[110..124],
            b"t/x\0\0\0hello\0\0\0",
            "name padded to 116, content to 124"
        );
        assert_eq!(&bytes[124..130], b"070701");
        assert!(bytes[124..].windows(11).any(|text| text == b"TRAILER!!!\0"));
        assert_eq!(bytes.len() % 4, 0);
    }
}
