//! What can go wrong, with the data a caller needs to mend it.

/// Everything a call into this crate can fail with.
///
/// Each variant carries the name of the argument as its caller knows it, so that one message serves the native
/// API and every binding.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// A size, shape or value that the call cannot work with.
    #[error("{argument} must be {expected}, got {got}; {remedy}")]
    Invalid {
        /// The offending argument.
        argument: String,
        /// What it has to be.
        expected: String,
        /// What it was.
        got: String,
        /// What the caller can do.
        remedy: String,
    },
    /// A row that holds a NaN or an infinity.
    #[error("{argument} must hold finite numbers, got NaN or infinity in row {row}; remove the row or encode it again")]
    NonFinite {
        /// The matrix.
        argument: String,
        /// The first such row.
        row: usize,
    },
    /// A row number outside of its matrix.
    #[error(
        "{argument} must hold row numbers of the {matrix} (0 to {rows}, exclusive), got {index} at position {position}; \
         check which {matrix} the numbers belong to"
    )]
    Index {
        /// The list.
        argument: String,
        /// What it has to name rows of.
        matrix: &'static str,
        /// Where in the flattened list.
        position: usize,
        /// The number found there.
        index: i64,
        /// Rows in the matrix.
        rows: usize,
    },
    /// A file that does not hold what it says.
    #[error("{why}")]
    Corrupt {
        /// What is wrong with it.
        why: String,
    },
    /// The caller asked for a stop while the call was running.
    #[error("cancelled")]
    Cancelled,
}

/// Shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An [`Error::Invalid`] from its four parts.
    pub fn invalid(
        argument: impl Into<String>,
        expected: impl Into<String>,
        got: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::Invalid { argument: argument.into(), expected: expected.into(), got: got.into(), remedy: remedy.into() }
    }
}
