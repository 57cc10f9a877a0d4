//! A FUSE file system whose server does everything but answer the flush of a file that is closed. Who closes one in an
//! exec waits for it with the lock held that an exec takes, and whoever reads most files of its /proc directory waits too.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;

/// Requests of include/uapi/linux/fuse.h, and the version of the protocol.
const LOOKUP: u32 = 1;
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const RELEASE: u32 = 18;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const FORGET: u32 = 2;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;
const VERSION: [u32; 2] = [7, 31];

/// `struct fuse_in_header` and `struct fuse_out_header`.
const IN_HEADER: usize = 40;
const OUT_HEADER: usize = 16;
/// `struct fuse_attr`, where its mode and its number of links are in it.
const ATTR: usize = 88;
const ATTR_MODE: usize = 60;
const ATTR_LINKS: usize = 64;
/// What comes before it in the answers to LOOKUP and GETATTR.
const BEFORE_ENTRY: usize = 40;
const BEFORE_ATTR: usize = 16;

/// The kernel refuses a shorter buffer.
const BUFFER: usize = 1 << 17;

/// Where the file system is mounted for a moment, for the one who opens its file.
const PLACE: &str = "/tmp";

/// The server's end.
#[derive(Debug)]
pub(crate) struct Server {
    device: Arc<File>,
    /// The number of the flush that was asked for, and is not answered; 0 until then.
    flush: Arc<AtomicU64>,
}

impl Server {
    /// Begins to serve, in a thread of its own.
    pub(crate) fn start() -> io::Result<Self> {
        let mut options = File::options();
        let device = Arc::new(options.read(true).write(true).open("/dev/fuse")?);
        let flush = Arc::new(AtomicU64::new(0));
        let server = Self {
            device: Arc::clone(&device),
            flush: Arc::clone(&flush),
        };
        thread::spawn(move || serve(&device, &flush));
        Ok(server)
    }

    /// Whether somebody waits.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.flush.load(Ordering::SeqCst) != 0
    }

    /// Answers after all.
    pub(crate) fn answer(&self) -> io::Result<()> {
        match self.flush.swap(0, Ordering::SeqCst) {
            0 => Ok(()),
            number => answer(&self.device, number, 0, &[]),
        }
    }

    /// Opens the file system's file so that it is closed by an exec. It is called by the one who is to wait, which gets a
    /// mount namespace of its own.
    pub(crate) fn open_file(&self) -> io::Result<OwnedFd> {
        unshare(CloneFlags::CLONE_NEWNS)?;
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        let options = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0",
            self.device.as_raw_fd()
        );
        mount(
            Some("silent"),
            PLACE,
            Some("fuse"),
            MsFlags::empty(),
            Some(options.as_str()),
        )?;
        let file = Path::new(PLACE).join("file");
        let opened = open(&file, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty());
        umount2(PLACE, MntFlags::MNT_DETACH)?;
        Ok(opened?)
    }
}

/// Serves it at `dir` for as long as this process lives; says `ready` when it is mounted.
pub(crate) fn serve_at(dir: Option<&Path>) -> io::Result<Infallible> {
    let dir = dir.ok_or_else(|| io::Error::other("serve needs a directory"))?;
    let device = File::options().read(true).write(true).open("/dev/fuse")?;
    let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
    let (source, flags) = (Some("served"), MsFlags::empty());
    mount(source, dir, Some("fuse"), flags, Some(options.as_str()))?;
    crate::say("ready")?;
    serve(&device, &AtomicU64::new(0));
    Err(io::Error::other("nobody has it mounted any more"))
}

fn serve(mut device: &File, flush: &AtomicU64) {
    let mut request = vec![0; BUFFER];
    loop {
        let length = match device.read(&mut request) {
            Ok(length) if length >= IN_HEADER => length,
            Ok(_) => continue,
            // It is not mounted yet, or the request was given up before it was read.
            Err(error)
                if [Errno::EPERM, Errno::ENOENT, Errno::EINTR]
                    .map(|e| e as i32)
                    .contains(&error.raw_os_error().unwrap_or(0)) =>
            {
                thread::sleep(super::PAUSE);
                continue;
            }
            Err(_) => return, // nobody has it mounted any more
        };
        let request = &request[..length];
        let word = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().unwrap_or_default());
        let long = |at: usize| u64::from_ne_bytes(request[at..at + 8].try_into().unwrap_or_default());
        let (number, node) = (long(8), long(16));
        let result = match word(4) {
            INIT => answer(device, number, 0, &init()),
            LOOKUP => answer(device, number, 0, &entry()),
            GETATTR => answer(device, number, 0, &[vec![0; BEFORE_ATTR], attr(node)].concat()),
            OPEN => answer(device, number, 0, &[0; 16]),
            RELEASE => answer(device, number, 0, &[]),
            FLUSH => {
                flush.store(number, Ordering::SeqCst);
                Ok(())
            }
            FORGET | BATCH_FORGET | INTERRUPT => Ok(()),
            _ => answer(device, number, Errno::ENOSYS as i32, &[]),
        };
        if result.is_err() {
            return; // as above
        }
    }
}

fn answer(mut device: &File, number: u64, errno: i32, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(OUT_HEADER + body.len()).unwrap_or(0);
    let mut text = length.to_ne_bytes().to_vec();
    text.extend((-errno).to_ne_bytes());
    text.extend(number.to_ne_bytes());
    text.extend(body);
    device.write(&text).map(drop)
}

/// `struct fuse_init_out`: the version, and limits of the kernel's own choice.
fn init() -> Vec<u8> {
    let mut body = vec![0; 64];
    body[..4].copy_from_slice(&VERSION[0].to_ne_bytes());
    body[4..8].copy_from_slice(&VERSION[1].to_ne_bytes());
    body
}

/// `struct fuse_entry_out` of the one file.
fn entry() -> Vec<u8> {
    let mut body = vec![0; BEFORE_ENTRY];
    body[..8].copy_from_slice(&2_u64.to_ne_bytes());
    body.extend(attr(2));
    body
}

fn attr(node: u64) -> Vec<u8> {
    let mode: u32 = if node == 1 {
        libc::S_IFDIR | 0o755
    } else {
        libc::S_IFREG | 0o644
    };
    let mut attr = vec![0; ATTR];
    attr[..8].copy_from_slice(&node.to_ne_bytes());
    attr[ATTR_MODE..ATTR_MODE + 4].copy_from_slice(&mode.to_ne_bytes());
    attr[ATTR_LINKS..ATTR_LINKS + 4].copy_from_slice(&1_u32.to_ne_bytes());
    attr
}
