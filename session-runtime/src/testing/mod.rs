//! For tests: a clock that stands until it is moved, and the suite that every store passes.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! use session_runtime::store::MemoryStore;
//! use session_runtime::testing;
//!
//! testing::conformance(async |clock| MemoryStore::new().with_clock(clock)).await;
//! # }
//! ```

mod clock;
mod conformance;

pub use clock::TestClock;
pub use conformance::{CASES, SCANNER_CASES, SWEEPER_CASES, conformance, conformance_case};
