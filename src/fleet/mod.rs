//! Many containers at once: which of them are meant, in which order and how fast they are worked on, and what happens to
//! them as it happens.

mod filter;
mod pace;
mod tree;
mod watch;

pub use filter::Filter;
pub use pace::{Ceiling, Pace, Turn};
pub use tree::{Node, tree};
pub use watch::{Event, Followed, Follower, Happening};
pub(crate) use watch::{Points, Which, now};
