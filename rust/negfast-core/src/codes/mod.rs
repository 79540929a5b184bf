//! Codes: rows in few bits, and what can be said about scores by them.
//!
//! [`int8`] keeps whole numbers of the coordinates along a [`basis`], with a bound on what an estimate can be off.
//! [`rotation`] spreads every row evenly over its elements; [`signs`] keeps the signs of what comes out, and estimates
//! scores from them. Codes find candidates and never decide: an estimate errs, by an amount that each row knows.

pub mod basis;
pub mod columns;
pub mod int8;
pub mod rotation;
pub mod signs;
