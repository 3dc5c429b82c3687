//! Errors of the database, as the store's own.

use std::sync::Arc;

use tokio_postgres::error::SqlState;
use webhook_core::store::StoreError;

/// Error of a statement. A whole group gets the same, so it can be cloned.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    /// The database said so.
    Database {
        /// The SQLSTATE that PostgreSQL answered.
        code: SqlState,
        /// Message for people.
        message: String,
        /// The constraint that was violated.
        constraint: Option<String>,
    },
    /// The connection broke: what was asked may have been done.
    Connection(String),
    /// No connection was to be had, so nothing was asked.
    Unreachable(String),
    /// A record cannot be understood.
    Corrupt(String),
    /// The schema is of a newer version.
    Newer {
        /// The version that was found.
        found: u32,
        /// The newest that is understood.
        known: u32,
    },
}

#[derive(Debug)]
struct Text(String);

impl std::fmt::Display for Text {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Text {}

impl Failure {
    pub(crate) fn corrupt(what: &str, error: impl std::fmt::Display) -> Self {
        Self::Corrupt(format!("{what}: {error}"))
    }

    /// Returns whether the statement changed nothing, and may succeed when it is repeated.
    pub(crate) fn is_repeatable(&self) -> bool {
        let again = [SqlState::T_R_DEADLOCK_DETECTED, SqlState::T_R_SERIALIZATION_FAILURE];
        matches!(self, Self::Database { code, .. } if again.contains(code))
    }

    /// Returns whether the connection broke, so the statement may have been executed.
    pub(crate) fn is_unknown(&self) -> bool {
        match self {
            Self::Connection(_) => true,
            Self::Database { code, .. } => {
                let ended =
                    [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::CANNOT_CONNECT_NOW];
                ended.contains(code)
            }
            _ => false,
        }
    }

    pub(crate) fn is_code(&self, wanted: &str) -> bool {
        matches!(self, Self::Database { code, .. } if code.code() == wanted)
    }

    pub(crate) fn violates(&self, name: &str) -> bool {
        matches!(self, Self::Database { constraint: Some(constraint), .. } if constraint == name)
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(database) => Self::Database {
                code: database.code().clone(),
                message: database.message().to_owned(),
                constraint: database.constraint().map(str::to_owned),
            },
            None => Self::Connection(webhook_core::error::chain(&error)),
        }
    }
}

impl From<deadpool_postgres::PoolError> for Failure {
    fn from(error: deadpool_postgres::PoolError) -> Self {
        match error {
            deadpool_postgres::PoolError::Backend(error) => match error.into() {
                Self::Connection(reason) => Self::Unreachable(reason),
                other => other,
            },
            other => Self::Unreachable(webhook_core::error::chain(&other)),
        }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Database { code, message, .. } => {
                let source = Text(format!("{message} ({})", code.code()));
                Self::unavailable_because("the database refused a statement", source)
            }
            Failure::Connection(reason) | Failure::Unreachable(reason) => {
                Self::unavailable_because("the database cannot be reached", Text(reason))
            }
            Failure::Corrupt(reason) => Self::corrupt("a record cannot be read", Text(reason)),
            Failure::Newer { found, known } => Self::NewerFormat { found, known },
        }
    }
}

impl From<Arc<Failure>> for Failure {
    fn from(failure: Arc<Failure>) -> Self {
        (*failure).clone()
    }
}
