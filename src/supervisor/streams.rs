//! Where a command's output goes, and the line on a terminal that says how far it is.

use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// Where a command's output goes.
pub struct Streams<'w> {
    /// Results.
    pub out: &'w mut dyn Write,
    /// Diagnosis and progress.
    pub err: &'w mut dyn Write,
    /// Whether results go to a terminal.
    pub is_terminal: bool,
    /// Where results go, to notice that nobody reads them any more.
    pub(crate) fd: Option<BorrowedFd<'w>>,
    /// Whether diagnosis goes to a terminal, which can be shown how far the work is.
    pub shows_progress: bool,
    /// Why results could not be written.
    pub(crate) failed: Option<io::Error>,
}

impl<'w> Streams<'w> {
    /// Streams to these writers.
    pub fn new(out: &'w mut dyn Write, err: &'w mut dyn Write, is_terminal: bool) -> Self {
        Self {
            out,
            err,
            is_terminal,
            fd: None,
            shows_progress: false,
            failed: None,
        }
    }

    /// The same, whose results go to `fd`: a verb that has no end of its own ends when that has no reader any more.
    #[must_use]
    pub fn to(self, fd: BorrowedFd<'w>) -> Self {
        Self { fd: Some(fd), ..self }
    }

    /// Writes results. Where that fails the rest is still done and told; the end says it.
    pub(crate) fn out(&mut self, bytes: &[u8]) {
        if let Err(error) = self.out.write_all(bytes).and_then(|()| self.out.flush()) {
            self.failed.get_or_insert(error);
        }
    }

    /// The exit code, given that of the work: results that could not be written are a failure, unless their reader had
    /// enough of them.
    pub(crate) fn verdict(&mut self, code: u8) -> u8 {
        match self.failed.take() {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                self.err(
                    format!("iceaxe: cannot write to standard output: {error}: what was done stays done, iceaxe status shows it\n")
                        .as_bytes(),
                );
                code.max(1)
            }
            _ => code,
        }
    }

    /// Writes diagnosis. Nobody is left to tell where that fails.
    pub(crate) fn err(&mut self, bytes: &[u8]) {
        let _ = self.err.write_all(bytes);
    }
}

/// A line on a terminal that says how far the work is, once it has taken a while.
pub(crate) struct Progress {
    /// What is to be drawn next.
    text: Option<Vec<u8>>,
    /// Not before.
    due: Instant,
    pub(crate) is_drawn: bool,
}

impl Progress {
    /// What is done sooner needs no words.
    const FIRST: Duration = Duration::from_secs(1);
    /// Nobody reads faster.
    const AGAIN: Duration = Duration::from_millis(100);

    pub(crate) fn new(now: Instant) -> Self {
        Self {
            text: None,
            due: now + Self::FIRST,
            is_drawn: false,
        }
    }

    pub(crate) fn set(&mut self, text: Vec<u8>) {
        self.text = Some(text);
    }

    /// When something is to be drawn.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.text.is_some().then_some(self.due)
    }

    pub(crate) fn draw(&mut self, now: Instant, streams: &mut Streams<'_>) {
        if now >= self.due
            && let Some(text) = self.text.take()
        {
            streams.err(&[Self::CLEAR, &text].concat());
            self.is_drawn = true;
            self.due = now + Self::AGAIN;
        }
    }

    /// Makes room for what is printed.
    pub(crate) fn erase(&mut self, streams: &mut Streams<'_>) {
        if std::mem::take(&mut self.is_drawn) {
            streams.err(Self::CLEAR);
        }
    }

    /// To the beginning of the line, and all of it away.
    const CLEAR: &[u8] = b"\r\x1b[K";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_drawn_after_a_second_and_makes_room_for_what_is_printed() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let began = Instant::now();
        let mut progress = Progress::new(began);
        let after = |ms| began + Duration::from_millis(ms);
        let mut streams = Streams::new(&mut out, &mut err, false);
        progress.draw(after(5000), &mut streams); // there is nothing to be drawn
        progress.set(b"1".to_vec());
        progress.draw(after(999), &mut streams);
        progress.set(b"2".to_vec());
        progress.draw(after(1000), &mut streams);
        progress.set(b"3".to_vec());
        progress.draw(after(1099), &mut streams); // too soon after the last one
        assert_eq!(progress.due(), Some(after(1100)));
        progress.draw(after(1100), &mut streams);
        progress.erase(&mut streams);
        progress.erase(&mut streams);
        progress.draw(after(9000), &mut streams);
        assert_eq!(err, b"\r\x1b[K2\r\x1b[K3\r\x1b[K");
    }
}
