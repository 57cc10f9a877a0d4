//! `watch`: freezes and thaws as they happen. On a terminal a table that is drawn anew, elsewhere an object for each event.

use std::ffi::OsString;
use std::fs::File;
use std::time::{Duration, Instant};

use clap::Args;

use super::Run;
use crate::cli::context::{Context, joined, json};
use crate::cli::options::Nested;
use crate::cli::{targets, text};
use crate::fleet::{Event, Follower};
use crate::patience::{Patience, Woke};
use crate::report::Verb;
use crate::resolver::Purpose;
use crate::resolver::target::Target;
use crate::supervisor::Message;

#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// What to follow; everything if none is given; - reads targets from standard input, one a line
    #[arg(value_name = "TARGET")]
    pub(crate) targets: Vec<OsString>,
}

impl Run for Watch {
    fn targets(&self) -> &[OsString] {
        &self.targets
    }

    fn run(&self, context: &Context<'_>, typed: &[OsString]) -> u8 {
        run(context, typed)
    }
}

/// Between two looks at least: who toggles without end costs no more than that.
const GAP: Duration = Duration::from_millis(20);
/// A table is drawn anew so often where nothing happens: it says how long ago things were.
const TICK: Duration = Duration::from_secs(1);
/// The size of a terminal that does not tell it.
const SIZE: (usize, usize) = (24, 80);

/// Runs `watch`: until `--timeout`, where there is one, or a signal, or until nobody reads it any more.
fn run(context: &Context<'_>, typed: &[OsString]) -> u8 {
    let mut codes = Vec::new();
    let mut follower = if typed.is_empty() {
        Follower::all(context.host)
    } else {
        let found = targets::resolve(context, (Verb::Watch, Purpose::Look), typed, Nested::default());
        for (index, report) in found.lost() {
            context.end(index, report);
            codes.push(report.exit());
        }
        if found.found().is_empty() {
            return joined(codes);
        }
        // Those that are not there may come.
        let targets = typed.iter().filter_map(|word| Target::parse(word).ok());
        Follower::of(context.host, targets.collect())
    };
    codes.push(0);
    (context.say)(&Message::Endless);
    let clock = context
        .patience(context.options.timeout.unwrap_or(Duration::MAX))
        .start();
    let mut screen = (context.is_terminal && !context.options.json).then(Screen::default);
    loop {
        let events = follower.look(&mut |limit| context.within(limit));
        match &mut screen {
            Some(screen) => screen.show(context, &follower, !events.is_empty()),
            None => tell(context, &mut follower, &events),
        }
        if clock.is_over() || wait(context.patience(clock.left()), &follower) == Woke::Cancelled {
            return joined(codes);
        }
    }
}

/// Waits until something stirs or is due.
fn wait(patience: Patience<'_>, follower: &Follower<'_>) -> Woke {
    let rest = |limit: Duration| patience.limit().min(limit);
    match patience.start().pause(rest(GAP), &[]) {
        Woke::Cancelled => Woke::Cancelled,
        _ => patience
            .start()
            .pause_for(rest(follower.rests()), follower.notices()),
    }
}

fn tell(context: &Context<'_>, follower: &mut Follower<'_>, events: &[Event]) {
    for note in follower.new_notes() {
        context.err(format!("iceaxe: note: {}\n", text::escaped(note)));
    }
    if !events.is_empty() {
        context.out(events.iter().map(json).collect::<String>());
    }
}

/// A table on a terminal. It stays below what was there before, the cursor is where the next line begins.
#[derive(Default)]
struct Screen {
    /// How many lines of it are there.
    lines: usize,
    drawn: Option<Instant>,
}

impl Screen {
    fn show(&mut self, context: &Context<'_>, follower: &Follower<'_>, is_new: bool) {
        if !is_new && self.drawn.is_some_and(|at| at.elapsed() < TICK) {
            return;
        }
        let (height, width) = size();
        let all: Vec<_> = follower
            .followed()
            .map(|one| (one.status(), one.changed_for_us()))
            .collect();
        let text = text::screen(&all, follower.notes(), height, width);
        // Up to the first line, and away with all that is below.
        let back = match self.lines {
            0 => String::new(),
            lines => format!("\x1b[{lines}A"),
        };
        context.out(format!("{back}\r\x1b[J{text}"));
        self.lines = text.lines().count();
        self.drawn = Some(Instant::now());
    }
}

/// The lines and columns of the terminal. This process has let go of its standard output.
fn size() -> (usize, usize) {
    let size = File::open("/dev/tty").and_then(|tty| Ok(rustix::termios::tcgetwinsize(tty)?));
    match size {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => (size.ws_row.into(), size.ws_col.into()),
        Ok(_) | Err(_) => SIZE, // a pseudo-terminal need not have one
    }
}
