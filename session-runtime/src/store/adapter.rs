//! To and from stores of the tower-sessions family.
//!
//! That family's trait has no compare-and-set: a store there is told what a session is to be from now on. So
//! [`TowerSessionsStore`] does what it can from outside. The other way round, [`ForTowerSessions`], nothing is
//! missing.

mod entry;
mod family;
mod offered;
mod owners;
mod stripes;
mod theirs;

pub use offered::ForTowerSessions;
pub use theirs::TowerSessionsStore;
