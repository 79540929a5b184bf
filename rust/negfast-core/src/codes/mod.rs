//! Short codes of rows, from which scores are estimated with a known error.

pub mod basis;
pub mod int8;
