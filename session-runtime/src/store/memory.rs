//! Records in this process's memory.

/// Records in this process's memory.
#[derive(Debug)]
pub struct MemoryStore;
