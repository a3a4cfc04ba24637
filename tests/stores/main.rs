//! What each store keeps, and what it does when something is in its way.

mod memory;
mod own_store;
