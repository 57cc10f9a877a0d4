//! The witness: reads /proc task by task and says what it saw. It knows tasks, not cgroups and not what was written
//! to them: a witness that asks the accused is no witness. It never reads what can hang on a sick host (`cmdline`,
//! `environ`, `maps`, `exe`, `fd`).

mod outside;
mod place;
mod proof;
mod task;

pub use outside::Stray;
pub use place::{Place, place};
pub use proof::{Held, Proof, judge_freeze, judge_thaw};
pub use task::{Counters, Holdout, Sighting, Sightings, Witness};
