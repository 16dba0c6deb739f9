//! Dispatch in virtual time.

mod draw;
pub mod nodes;
