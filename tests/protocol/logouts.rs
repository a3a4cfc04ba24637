//! logouts
