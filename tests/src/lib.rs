//! What the tests share.

pub use tempfile::TempDir;
