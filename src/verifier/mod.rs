//! The witness: reads /proc task by task and says what it saw. It knows tasks, not cgroups and not what was written
//! to them: a witness that asks the accused is no witness. It never reads what can hang on a sick host (`cmdline`,
//! `environ`, `maps`, `exe`, `fd`).

mod class;
mod holdout;
mod outside;
mod place;
mod proof;
mod rivals;
mod sighting;
mod signals;
mod task;

pub use class::{Class, On, Party};
pub use holdout::Holdout;
pub use outside::{Stray, Strays};
pub use place::{Place, place};
pub use proof::{Before, Proof, judge_freeze, judge_thaw};
pub use rivals::Ticks;
pub use sighting::{Counters, Sighting};
pub use signals::{Disposition, Fatal, signal_name};
pub use task::{Sightings, Witness};
