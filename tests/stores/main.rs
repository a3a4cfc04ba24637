//! What every store does, and what each does besides.

mod postgres;
