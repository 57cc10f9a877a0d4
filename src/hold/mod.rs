//! A freeze that ends by itself: its guard, the watch over what is held, and the end of a hold.

#[cfg(feature = "cli")]
pub(crate) mod guard;
mod monitor;
mod release;

pub use monitor::{Broken, Monitor, ROUND};
pub use release::{Release, may_be_frozen, release_all};
