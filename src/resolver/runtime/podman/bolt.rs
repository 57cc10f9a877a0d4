//! Reads bolt databases, in one of which podman 4 keeps its records: B+trees of pages in one file. Their writers lock
//! it; a writer that hangs would be waited for for ever, so no lock is taken here. Pages are read as they are needed,
//! and what was read counts only if no transaction ended meanwhile: until then no page of the last one is written to.
//! Nothing in the file is trusted.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::resolver::state::StateDir;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
/// A page begins with its number (8 bytes), its kind (2), the count of its elements (2), and how many pages more it
/// goes on for (4). Its elements follow.
const HEADER: usize = 16;
/// Of either kind: where in a branch or a leaf keys and values are.
const ELEMENT: usize = 16;
/// What describes the file, behind the header of each of its first two pages; the last 8 bytes are a checksum.
const META: usize = 64;
/// A bucket as a value: the number of its root and a counter; with number 0 its only page follows.
const BUCKET: usize = 16;
/// Kinds of pages.
const BRANCH: u16 = 1;
const LEAF: u16 = 2;
/// Marks a leaf's element that is a bucket.
const IS_BUCKET: u32 = 1;
/// The sizes of pages that there are: a writer takes its machine's, of 4 to 64 KiB.
const PAGE_SIZES: [u32; 5] = [4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10];
/// The largest page that is read with all that it goes on for: podman's, with a container's configuration, is 16 KiB.
const LARGEST: u64 = 4 << 20;
/// No tree is as deep: each level of a whole one at least doubles what it holds.
const DEPTH: usize = 64;
/// So often it is read before it counts as one that never stands still.
const ATTEMPTS: usize = 2;

/// A database.
#[derive(Debug)]
pub(super) struct Database {
    file: File,
    path: PathBuf,
}

/// A database as a transaction left it.
#[derive(Debug)]
pub(super) struct View<'d> {
    database: &'d Database,
    meta: Meta,
}

/// What the file says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Meta {
    page_size: u32,
    /// The page of the bucket that holds the others.
    root: u64,
    /// So many pages are in use or were.
    pages: u64,
    transaction: u64,
}

/// What a page has of a key.
#[derive(Debug, PartialEq, Eq)]
enum Found<'p> {
    /// It can be only below the page of this number.
    Below(u64),
    Bucket(&'p [u8]),
    Value(&'p [u8]),
    Nothing,
}

impl Database {
    /// Opens the one at `name` in or below a directory; `None` where there is none.
    ///
    /// # Errors
    ///
    /// It is there and can't be opened, or is no regular file.
    pub(super) fn open(dir: &StateDir, name: impl AsRef<Path>) -> Result<Option<Self>> {
        let path = dir.path().join(&name);
        Ok(dir.file(name)?.map(|file| Self { file, path }))
    }

    /// Looks at what the last transaction left. `look` may be called again.
    ///
    /// # Errors
    ///
    /// It is no bolt database, or is being written to all the time; and what `look` fails with.
    pub(super) fn view<T>(&self, look: impl Fn(&View<'_>) -> Result<T>) -> Result<T> {
        for _ in 0..ATTEMPTS {
            let view = View {
                database: self,
                meta: self.meta()?,
            };
            let seen = look(&view);
            // What was torn by a writer is an error as well, so this comes first.
            if self.meta()?.transaction == view.meta.transaction {
                return seen;
            }
        }
        Err(self.odd("it changes while it is read"))
    }

    /// The later one of the two that are valid: a writer replaces the earlier one.
    fn meta(&self) -> Result<Meta> {
        let at = |offset: u32| -> Result<Option<Meta>> {
            let bytes = self.read(offset.into(), HEADER + META)?;
            Ok(bytes.as_deref().and_then(Meta::parse))
        };
        let first = at(0)?;
        let mut metas: Vec<Meta> = first.into_iter().collect();
        for size in PAGE_SIZES {
            // The second is where the first one ends, which says itself where that is if it can.
            if first.is_none_or(|first| first.page_size == size) {
                metas.extend(at(size)?.filter(|meta| meta.page_size == size));
            }
        }
        let last = metas.into_iter().max_by_key(|meta| meta.transaction);
        last.ok_or_else(|| self.odd("it is no bolt database"))
    }

    /// So many bytes; `None` where the file ends before.
    fn read(&self, offset: u64, length: usize) -> Result<Option<Vec<u8>>> {
        let mut bytes = vec![0; length];
        match self.file.read_exact_at(&mut bytes, offset) {
            Ok(()) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(Error::io("read", &self.path, error)),
        }
    }

    /// An error about what is in it.
    pub(super) fn odd(&self, what: impl Into<String>) -> Error {
        Error::Io {
            act: "understand".to_owned(),
            path: self.path.clone(),
            cause: std::io::Error::new(std::io::ErrorKind::InvalidData, what.into()),
        }
    }
}

impl Meta {
    /// Reads a page's header and what follows it; `None` where that is not valid.
    fn parse(page: &[u8]) -> Option<Self> {
        let meta = page.get(HEADER..)?;
        let page_size = u32_at(meta, 8)?;
        let is_valid = u32_at(meta, 0)? == MAGIC
            && u32_at(meta, 4)? == VERSION
            && PAGE_SIZES.contains(&page_size)
            && u64_at(meta, META - 8)? == checksum(meta.get(..META - 8)?);
        Some(Self {
            page_size,
            root: u64_at(meta, 16)?,
            pages: u64_at(meta, 40)?,
            transaction: u64_at(meta, 48)?,
        })
        .filter(|_| is_valid)
    }
}

impl View<'_> {
    /// The value of the last key in `path`, in the bucket that the keys before it name, outermost first; `None` where
    /// it or one of those is not there.
    ///
    /// # Errors
    ///
    /// A page on the way can't be read or understood, or a bucket is where a value should be, or the reverse.
    pub(super) fn get(&self, path: &[&str]) -> Result<Option<Vec<u8>>> {
        let Some((last, buckets)) = path.split_last() else {
            return Ok(None);
        };
        let mut page = self.page(self.meta.root)?;
        for key in buckets {
            let Some(bucket) = self.entry(page, key, |found| match found {
                Found::Bucket(bucket) => Some(bucket.to_vec()),
                _ => None,
            })?
            else {
                return Ok(None);
            };
            page = match u64_at(&bucket, 0) {
                Some(0) => bucket.get(BUCKET..).map(<[u8]>::to_vec),
                Some(root) => Some(self.page(root)?),
                None => None,
            }
            .ok_or_else(|| {
                self.database
                    .odd(format!("bucket {} is cut short", key.escape_debug()))
            })?;
        }
        self.entry(page, last, |found| match found {
            Found::Value(value) => Some(value.to_vec()),
            _ => None,
        })
    }

    /// What `of_kind` takes of a key's entry in the tree whose root is `page`; `None` where there is no such key.
    fn entry(
        &self,
        mut page: Vec<u8>,
        key: &str,
        of_kind: impl Fn(Found<'_>) -> Option<Vec<u8>>,
    ) -> Result<Option<Vec<u8>>> {
        let odd = |what: &str| Err(self.database.odd(format!("{} {what}", key.escape_debug())));
        for _ in 0..DEPTH {
            page = match look(&page, key.as_bytes()) {
                None => return odd("leads to a page that is none"),
                Some(Found::Nothing) => return Ok(None),
                Some(Found::Below(number)) => self.page(number)?,
                Some(found) => match of_kind(found) {
                    None => return odd("is not of the kind that it should be"),
                    some => return Ok(some),
                },
            };
        }
        odd("is too deep")
    }

    /// A page, with all that it goes on for.
    fn page(&self, number: u64) -> Result<Vec<u8>> {
        let odd = |what: &str| self.database.odd(format!("page {number} {what}"));
        let size = u64::from(self.meta.page_size);
        let read = |pages: u64| -> Result<Vec<u8>> {
            let ends = number.checked_add(pages).filter(|&end| end <= self.meta.pages);
            let offset = ends.and_then(|_| number.checked_mul(size));
            let offset = offset.ok_or_else(|| odd("is beyond the last one"))?;
            let length = pages.checked_mul(size).filter(|&length| length <= LARGEST);
            let length = length.and_then(|length| usize::try_from(length).ok());
            let length = length.ok_or_else(|| odd("is larger than 4 MiB"))?;
            let bytes = self.database.read(offset, length)?;
            bytes.ok_or_else(|| odd("is beyond the end of the file"))
        };
        let page = read(1)?;
        if u64_at(&page, 0) != Some(number) {
            return Err(odd("says that it is another"));
        }
        match u32_at(&page, 12) {
            Some(more) if more > 0 => read(u64::from(more) + 1),
            _ => Ok(page),
        }
    }
}

/// Looks for a key in a page; `None` where that is no branch or leaf, or does not hold what it says.
fn look<'p>(page: &'p [u8], wanted: &[u8]) -> Option<Found<'p>> {
    let kind = u16_at(page, 8)?;
    let elements = (0..usize::from(u16_at(page, 10)?)).map(|index| HEADER + index * ELEMENT);
    match kind {
        BRANCH => {
            // Each key is the first one below; what is before all of them would be below the first.
            let mut below = None;
            for at in elements {
                let position = size_at(page, at)?;
                let key = page.get(at..)?.get(position..)?.get(..size_at(page, at + 4)?)?;
                if below.is_some() && key > wanted {
                    break;
                }
                below = Some(u64_at(page, at + 8)?);
            }
            below.map(Found::Below)
        }
        LEAF => {
            for at in elements {
                let rest = page.get(at..)?.get(size_at(page, at + 4)?..)?;
                let (key, rest) = rest.split_at_checked(size_at(page, at + 8)?)?;
                if key != wanted {
                    continue;
                }
                let value = rest.get(..size_at(page, at + 12)?)?;
                return Some(if u32_at(page, at)? & IS_BUCKET == 0 {
                    Found::Value(value)
                } else {
                    Found::Bucket(value)
                });
            }
            Some(Found::Nothing)
        }
        _ => None,
    }
}

/// FNV-1a, of 64 bits.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |sum, &byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    })
}

/// Numbers are in the byte order of the machine that wrote them; no other would read them.
fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes_at(bytes, at).map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes_at(bytes, at).map(u32::from_ne_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes_at(bytes, at).map(u64::from_ne_bytes)
}

fn size_at(bytes: &[u8], at: usize) -> Option<usize> {
    u32_at(bytes, at).and_then(|size| usize::try_from(size).ok())
}

/// Writes databases for tests, page by page.
#[cfg(test)]
pub(super) mod made {
    use super::*;

    pub(in crate::resolver) const PAGE: usize = 4096;

    /// What is in a leaf.
    pub(in crate::resolver) enum Entry<'e> {
        Value(&'e str),
        /// A bucket whose root is this page.
        Bucket(u64),
        /// A bucket of one page that is in the leaf itself.
        Inline(Vec<u8>),
    }

    /// A leaf without its number.
    pub(in crate::resolver) fn leaf(entries: &[(&str, Entry<'_>)]) -> Vec<u8> {
        let (mut elements, mut data) = (Vec::new(), Vec::new());
        for (index, (key, entry)) in entries.iter().enumerate() {
            let position = (entries.len() - index) * ELEMENT + data.len();
            let (is_bucket, value) = match entry {
                Entry::Value(text) => (0, text.as_bytes().to_vec()),
                Entry::Bucket(root) => (1, [root.to_ne_bytes(), [0; 8]].concat()),
                Entry::Inline(page) => (1, [&[0; 16][..], page].concat()),
            };
            for number in [is_bucket, position, key.len(), value.len()] {
                elements.extend(u32::try_from(number).unwrap().to_ne_bytes());
            }
            data.extend([key.as_bytes(), &value].concat());
        }
        [header(LEAF, entries.len()), elements, data].concat()
    }

    /// A branch without its number.
    pub(in crate::resolver) fn branch(below: &[(&str, u64)]) -> Vec<u8> {
        let (mut elements, mut data) = (Vec::new(), Vec::new());
        for (index, (key, number)) in below.iter().enumerate() {
            let position = (below.len() - index) * ELEMENT + data.len();
            for number in [position, key.len()] {
                elements.extend(u32::try_from(number).unwrap().to_ne_bytes());
            }
            elements.extend(number.to_ne_bytes());
            data.extend(key.as_bytes());
        }
        [header(BRANCH, below.len()), elements, data].concat()
    }

    fn header(kind: u16, count: usize) -> Vec<u8> {
        let count = u16::try_from(count).unwrap().to_ne_bytes();
        [&[0; 8][..], &kind.to_ne_bytes(), &count, &[0; 4]].concat()
    }

    /// A file of these pages from number 2 on, of which the first is the root; each must fit the room up to the next.
    pub(in crate::resolver) fn file(pages: &[(u64, Vec<u8>)]) -> Vec<u8> {
        let mut file = vec![0; 2 * PAGE];
        for (number, page) in pages {
            let start = usize::try_from(*number).unwrap() * PAGE;
            assert!(start >= file.len(), "page {number} overlaps the one before");
            let length = page.len().div_ceil(PAGE);
            file.resize(start + length * PAGE, 0);
            file[start..start + page.len()].copy_from_slice(page);
            file[start..start + 8].copy_from_slice(&number.to_ne_bytes());
            let more = u32::try_from(length - 1).unwrap();
            file[start + 12..start + 16].copy_from_slice(&more.to_ne_bytes());
        }
        let pages_in_all = u64::try_from(file.len() / PAGE).unwrap();
        for slot in [0, 1] {
            describe(&mut file, slot, pages[0].0, pages_in_all, 6 + slot);
        }
        file
    }

    /// Writes what describes the file into its first or second page.
    pub(in crate::resolver) fn describe(file: &mut [u8], slot: u64, root: u64, pages: u64, transaction: u64) {
        let mut meta: Vec<u8> = [MAGIC, VERSION, u32::try_from(PAGE).unwrap(), 0]
            .iter()
            .flat_map(|number| number.to_ne_bytes())
            .collect();
        meta.extend(
            [root, 0, 2, pages, transaction]
                .iter()
                .flat_map(|number| number.to_ne_bytes()),
        );
        meta.extend(checksum(&meta).to_ne_bytes());
        let start = usize::try_from(slot).unwrap() * PAGE + HEADER;
        file[start..start + META].copy_from_slice(&meta);
    }
}

#[cfg(test)]
mod tests {
    use super::made::{Entry, PAGE, branch, describe, file, leaf};
    use super::*;
    use proptest::prelude::*;
    use std::cell::Cell;

    /// A root with a bucket of three pages, in which one goes on for two more, and a bucket within a leaf.
    fn pages() -> Vec<(u64, Vec<u8>)> {
        let long = "x".repeat(2 * PAGE);
        vec![
            (
                2,
                leaf(&[
                    ("ctr", Entry::Bucket(3)),
                    ("ids", Entry::Inline(leaf(&[("web", Entry::Value("1"))]))),
                ]),
            ),
            (3, branch(&[("b", 4), ("m", 8)])),
            (
                4,
                leaf(&[("b", Entry::Value("first")), ("long", Entry::Value(&long))]),
            ),
            (8, leaf(&[("m", Entry::Bucket(9)), ("z", Entry::Value(""))])),
            (9, leaf(&[("state", Entry::Value("5"))])),
        ]
    }

    fn on_disk(bytes: &[u8]) -> (tempfile::TempDir, Database) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("db"), bytes).unwrap();
        let state = StateDir::open(dir.path()).unwrap().unwrap();
        let database = Database::open(&state, "db").unwrap().unwrap();
        (dir, database)
    }

    fn get(database: &Database, path: &[&str]) -> Result<Option<String>> {
        let value = database.view(|view| view.get(path))?;
        Ok(value.map(|value| String::from_utf8(value).unwrap()))
    }

    #[track_caller]
    fn fails(bytes: &[u8], path: &[&str], expected: &str) {
        let (_dir, database) = on_disk(bytes);
        let text = get(&database, path).unwrap_err().to_string();
        assert!(text.contains(expected) && text.contains("/db"), "{text}");
    }

    #[test]
    fn keys_are_found_through_buckets_branches_and_long_pages() {
        let (_dir, database) = on_disk(&file(&pages()));
        let check = |path: &[&str], expected: Option<&str>| {
            assert_eq!(get(&database, path).unwrap().as_deref(), expected, "{path:?}");
        };
        check(&["ids", "web"], Some("1"));
        check(&["ctr", "b"], Some("first"));
        check(&["ctr", "long"], Some(&"x".repeat(2 * PAGE)));
        check(&["ctr", "m", "state"], Some("5"));
        check(&["ctr", "z"], Some(""));
        for absent in [
            &["ctr", "a"][..],
            &["ctr", "c"],
            &["ctr", "zz"],
            &["pod", "b"],
            &["web"],
            &[],
        ] {
            check(absent, None);
        }
    }

    #[test]
    fn the_later_valid_description_counts() {
        let mut bytes = file(&[
            (2, leaf(&[("a", Entry::Value("old"))])),
            (3, leaf(&[("a", Entry::Value("new"))])),
        ]);
        let read = |bytes: &[u8]| get(&on_disk(bytes).1, &["a"]).unwrap();
        describe(&mut bytes, 0, 3, 4, 9);
        assert_eq!(read(&bytes).as_deref(), Some("new"));
        bytes[HEADER + 20] ^= 1; // torn: its checksum is wrong
        assert_eq!(read(&bytes).as_deref(), Some("old"));
        bytes[PAGE + HEADER] ^= 1;
        fails(&bytes, &["a"], "no bolt database");
    }

    #[test]
    fn what_a_transaction_ended_under_is_read_again_and_no_third_time() {
        let mut bytes = file(&pages());
        let (dir, database) = on_disk(&bytes);
        let looked = Cell::new(0);
        let mut write = |transaction: u64| {
            describe(&mut bytes, transaction % 2, 2, 10, transaction);
            std::fs::write(dir.path().join("db"), &bytes).unwrap();
        };
        let write = std::cell::RefCell::new(&mut write);
        let seen = database.view(|view| {
            looked.set(looked.get() + 1);
            if looked.get() == 1 {
                write.borrow_mut()(20);
                return Err(view.database.odd("torn"));
            }
            view.get(&["ctr", "b"])
        });
        assert_eq!((seen.unwrap().as_deref(), looked.get()), (Some(&b"first"[..]), 2));
        let seen = database.view(|_| {
            looked.set(looked.get() + 1);
            write.borrow_mut()(20 + looked.get());
            Ok(())
        });
        assert!(seen.unwrap_err().to_string().contains("changes while"));
        assert_eq!(looked.get(), 4);
    }

    #[test]
    fn what_leads_nowhere_is_an_error_with_the_reason() {
        let with = |number: usize, change: &dyn Fn(&mut [u8])| {
            let mut bytes = file(&pages());
            change(&mut bytes[number * PAGE..]);
            bytes
        };
        let put = |at: usize, number: u32| {
            move |page: &mut [u8]| page[at..at + 4].copy_from_slice(&number.to_ne_bytes())
        };
        let path = ["ctr", "b"];
        let first = HEADER + 8; // the number of the first page below a branch
        fails(&with(3, &put(first, 3)), &path, "too deep");
        fails(&with(3, &put(first, 10)), &path, "page 10 is beyond the last one");
        fails(
            &with(3, &put(first + 4, u32::MAX)),
            &path,
            "is beyond the last one",
        );
        fails(&with(3, &put(first, 5)), &path, "page 5 says that it is another");
        fails(&with(3, &put(first, 0)), &path, "leads to a page that is none");
        fails(&with(3, &put(8, 0)), &path, "leads to a page that is none"); // of no kind
        fails(&with(4, &put(12, u32::MAX)), &path, "is beyond the last one");
        fails(
            &with(4, &put(HEADER + 4, u32::MAX)),
            &path,
            "leads to a page that is none",
        );
        fails(
            &with(4, &put(HEADER + 8, u32::MAX)),
            &path,
            "leads to a page that is none",
        );
        fails(
            &with(4, &put(HEADER + 12, u32::MAX)),
            &path,
            "leads to a page that is none",
        );
        fails(&file(&pages()), &["ctr", "m"], "not of the kind");
        fails(&file(&pages()), &["ctr", "b", "state"], "not of the kind");
        fails(
            &file(&pages())[..4 * PAGE],
            &path,
            "page 4 is beyond the end of the file",
        );
        fails(b"", &path, "no bolt database");

        let mut long = file(&pages());
        describe(&mut long, 1, 2, 1 << 40, 9);
        put(4 * PAGE + 12, 1 << 20)(&mut long);
        fails(&long, &path, "page 4 is larger than 4 MiB");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn no_database_panics_or_is_read_for_ever(
            changes in proptest::collection::vec((2 * PAGE..10 * PAGE, any::<u8>()), 0..9),
            // Where most of what leads on is.
            near in proptest::collection::vec((2_usize..10, 0..HEADER + 3 * ELEMENT, any::<u8>()), 0..9),
            root in prop_oneof![Just(2), 0..12_u64, any::<u64>()],
            in_use in prop_oneof![Just(10), any::<u64>()],
            cut in prop_oneof![Just(usize::MAX), 0..10 * PAGE],
        ) {
            let mut bytes = file(&pages());
            let near = near.into_iter().map(|(page, at, byte)| (page * PAGE + at, byte));
            for (at, byte) in changes.into_iter().chain(near) {
                bytes[at] = byte;
            }
            describe(&mut bytes, 1, root, in_use, 9);
            bytes.truncate(cut);
            let (_dir, database) = on_disk(&bytes);
            for path in [&["ctr", "b"][..], &["ctr", "long"], &["ctr", "m", "state"], &["ids", "web"]] {
                let _ = database.view(|view| view.get(path)); // only that it returns
            }
        }
    }
}
