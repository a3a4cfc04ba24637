//! Stores: the suite of promises over each, and what an engine may do to it.

mod redis;
