//! What the worker says to the process that supervises it, and how that is coded on the pipe between them: a kind, a
//! target's number, a length, and as many bytes.

use std::io::{self, Read};
use std::os::fd::BorrowedFd;

use nix::errno::Errno;

/// A message longer than this is not ours.
const LONGEST: u32 = 64 << 20;

/// What a piece of work says.
#[derive(Debug)]
pub(crate) enum Message {
    /// To be printed on standard output.
    Out(Vec<u8>),
    /// To be printed on standard error.
    Err(Vec<u8>),
    /// To be printed for this target, with this exit code, if nothing more is heard.
    LastWords(u32, LastWords),
    /// This target is done with: this is to be printed, it has no last words any more, and nothing is to be put back.
    End(u32, LastWords),
    /// All is done and only to be told: a signal undoes nothing any more.
    Committed,
    /// Asks whether all that was said is printed.
    Printed,
    /// This question is to be asked of who typed the command, if that is at a terminal.
    Ask(Vec<u8>),
    /// What is to be put back for this target if the child dies, in its own coding, and what is to be printed then.
    Undo(u32, Vec<u8>, LastWords),
    /// The next message comes within this many milliseconds, or never.
    Within(u64),
    /// Asks to run the command that all is held for, for this many milliseconds at most; 0 is without a limit.
    Run(u64),
    /// The command may be ended now.
    Clear,
    /// It goes on for as long as somebody reads what it says, and has no other end.
    Endless,
    /// How far the work is, for a terminal.
    Progress(Vec<u8>),
    /// The end.
    Code(u8),
}

/// What is to be printed if nothing more is heard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LastWords {
    /// On standard output.
    pub(crate) out: Vec<u8>,
    /// On standard error.
    pub(crate) err: Vec<u8>,
    /// The target's exit code.
    pub(crate) code: u8,
}

impl LastWords {
    fn encode(&self) -> Vec<u8> {
        [&[self.code], &length(&self.out)[..], &self.out, &self.err].concat()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (&code, rest) = bytes.split_first()?;
        let (out, err) = split(rest)?;
        Some(Self {
            out: out.to_vec(),
            err: err.to_vec(),
            code,
        })
    }
}

/// The length of a part, which goes before it.
fn length(part: &[u8]) -> [u8; 4] {
    u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes()
}

/// A part with its length before it, and the rest.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

/// Says one message.
pub(crate) fn send(fd: BorrowedFd<'_>, message: &Message) -> io::Result<()> {
    let mut bytes = Vec::new();
    let mut put = |kind: u8, index: u32, parts: &[&[u8]]| {
        bytes.push(kind);
        bytes.extend(index.to_le_bytes());
        let len: usize = parts.iter().map(|part| part.len()).sum();
        bytes.extend(u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes());
        parts.iter().for_each(|part| bytes.extend(*part));
    };
    match message {
        Message::Out(text) => put(0, 0, &[text]),
        Message::Err(text) => put(1, 0, &[text]),
        Message::LastWords(index, last_words) => put(2, *index, &[&last_words.encode()]),
        Message::End(index, last_words) => put(3, *index, &[&last_words.encode()]),
        Message::Committed => put(7, 0, &[]),
        Message::Printed => put(8, 0, &[]),
        Message::Endless => put(11, 0, &[]),
        Message::Ask(question) => put(12, 0, &[question]),
        Message::Undo(index, what, last_words) => {
            let last_words = last_words.encode();
            put(4, *index, &[&length(&last_words), &last_words, what]);
        }
        Message::Within(milliseconds) => put(5, 0, &[&milliseconds.to_le_bytes()]),
        Message::Run(milliseconds) => put(9, 0, &[&milliseconds.to_le_bytes()]),
        Message::Clear => put(10, 0, &[]),
        Message::Progress(text) => put(13, 0, &[text]),
        Message::Code(code) => put(6, 0, &[&[*code]]),
    }
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        match nix::unistd::write(fd, rest) {
            Ok(count) => rest = &rest[count..],
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Reads one message; `None` at the end.
pub(crate) fn receive(fd: BorrowedFd<'_>) -> io::Result<Option<Message>> {
    let mut reader = Fd(fd);
    let mut head = [0; 9];
    match reader.read_exact(&mut head) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let (index, len) = (word(1), word(5));
    let odd = || io::Error::new(io::ErrorKind::InvalidData, "not a message");
    if len > LONGEST {
        return Err(odd());
    }
    let mut body = vec![0; len as usize];
    reader.read_exact(&mut body)?;
    let message = match head[0] {
        0 => Message::Out(body),
        1 => Message::Err(body),
        2 => Message::LastWords(index, LastWords::decode(&body).ok_or_else(odd)?),
        3 => Message::End(index, LastWords::decode(&body).ok_or_else(odd)?),
        7 => Message::Committed,
        8 => Message::Printed,
        11 => Message::Endless,
        12 => Message::Ask(body),
        13 => Message::Progress(body),
        4 => {
            let (last_words, what) = split(&body).ok_or_else(odd)?;
            Message::Undo(
                index,
                what.to_vec(),
                LastWords::decode(last_words).ok_or_else(odd)?,
            )
        }
        5 => Message::Within(u64::from_le_bytes(body.try_into().map_err(|_| odd())?)),
        9 => Message::Run(u64::from_le_bytes(body.try_into().map_err(|_| odd())?)),
        10 => Message::Clear,
        6 => Message::Code(*body.first().ok_or_else(odd)?),
        _ => return Err(odd()),
    };
    Ok(Some(message))
}

struct Fd<'f>(BorrowedFd<'f>);

impl Read for Fd<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        nix::unistd::read(self.0, buffer).map_err(io::Error::from)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use nix::fcntl::OFlag;
    use nix::unistd::pipe2;

    use super::*;

    #[test]
    fn every_message_comes_out_as_it_went_in() {
        let (from, to) = pipe2(OFlag::O_CLOEXEC).unwrap();
        let last_words = LastWords {
            out: b"o\n".to_vec(),
            err: b"e".to_vec(),
            code: 7,
        };
        for message in [
            Message::Out(b"x".to_vec()),
            Message::Err(Vec::new()),
            Message::LastWords(3, last_words.clone()),
            Message::End(9, last_words.clone()),
            Message::Committed,
            Message::Printed,
            Message::Endless,
            Message::Ask(b"?".to_vec()),
            Message::Undo(1, b"{}".to_vec(), last_words),
            Message::Within(u64::MAX),
            Message::Run(1),
            Message::Clear,
            Message::Progress(b"1 of 2".to_vec()),
            Message::Code(12),
        ] {
            send(to.as_fd(), &message).unwrap();
            let back = receive(from.as_fd()).unwrap().unwrap();
            assert_eq!(format!("{back:?}"), format!("{message:?}"));
        }
        drop(to);
        assert!(receive(from.as_fd()).unwrap().is_none());
    }

    #[test]
    fn a_stranger_on_the_pipe_is_an_error() {
        let (from, to) = pipe2(OFlag::O_CLOEXEC).unwrap();
        nix::unistd::write(&to, &[2, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]).unwrap();
        assert!(receive(from.as_fd()).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_on_the_pipe_panic(kind in 0_u8..16, body in proptest::collection::vec(proptest::arbitrary::any::<u8>(), 0..60)) {
            let (from, to) = pipe2(OFlag::O_CLOEXEC).unwrap();
            nix::unistd::write(&to, &[&[kind, 0, 0, 0, 0], &length(&body)[..], &body].concat()).unwrap();
            drop(to);
            let _ = receive(from.as_fd()); // only that it returns
        }
    }
}
